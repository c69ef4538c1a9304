"""The running average of registered sharp frames, with which new frames are correlated."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np

from streamer.imaging.cross import CrossEstimate, CrossPower, cross_power, estimate_cross, register_modes
from streamer.imaging.spectrum import ComplexArray, PolarPower
from streamer.records import FloatArray

FRAMES = 10
"""Frames that the average looks back on."""

_FEWEST = 3           # frames in the average, and correlations of sharp frames, before it says anything
_BASELINE = 8         # correlations of sharp frames that a new one is compared with
_LOST_GAIN = 0.5      # correlation below this share of the usual: frame and average show different places...
_LOST_CHI2 = 4.0      # ...or something that is no blur
_PATIENCE = 3         # so many sharp frames in a row that do not fit: the average is begun anew


class Comparison(NamedTuple):
    """A frame against the average."""

    registered: ComplexArray
    """Its modes in the order of the bins, shifted back by its drift."""
    floor: float
    cross: CrossPower | None
    """None while the average is too young, or of other frames."""
    estimate: CrossEstimate | None
    """None while it cannot be judged."""


class RegisteredAverage:
    """Average of the registered frames of one view, and how frames correlate with it.

    `compare` looks at a frame without changing anything; `accept` takes it in. The place of a frame is its drift,
    so frames of a moving sample lie on each other; what is fixed on the detector is averaged away.
    """

    def __init__(self) -> None:
        self._modes: ComplexArray | None = None
        self._floor = 0.0
        self._frames = 0
        self._usual: deque[CrossPower] = deque(maxlen=_BASELINE)
        self._strangers = 0

    def compare(
        self, power: PolarPower, modes: ComplexArray, drift_px: tuple[float, float], usual_power: FloatArray
    ) -> Comparison:
        """Correlate a frame with the average.

        Parameters
        ----------
        power : PolarPower
        modes : (2 r + 1, c) complex64 array
            `Spectrum.modes` of the frame.
        drift_px : (dy, dx)
            Where its content is, in the coordinates of the view.
        usual_power : (24, 12) float32 array
            Power of sharp frames.
        """
        frame = Comparison(register_modes(modes, power.shape, drift_px), power.floor, None, None)
        if self._modes is None or self._modes.shape != frame.registered.shape or self._frames < _FEWEST:
            return frame
        cross = cross_power(frame.registered, self._modes, power.shape, floor=power.floor,
                            average_floor=self._floor, power=usual_power)
        if len(self._usual) < _FEWEST:
            return frame._replace(cross=cross)
        estimate = estimate_cross(cross, list(self._usual), power.shape)
        fits = estimate.gain > _LOST_GAIN and estimate.chi2 < _LOST_CHI2
        return frame._replace(cross=cross, estimate=estimate if fits else None)

    def accept(self, frame: Comparison) -> None:
        """Take a sharp frame into the average, as `compare` found it."""
        if frame.cross is not None and frame.estimate is None and len(self._usual) >= _FEWEST:
            self._strangers += 1
            if self._strangers >= _PATIENCE:
                self._modes, self._frames, self._strangers = None, 0, 0
                self._usual.clear()
            return
        self._strangers = 0
        if frame.cross is not None:
            self._usual.append(frame.cross)
        if self._modes is None or self._modes.shape != frame.registered.shape:
            self._modes, self._frames, self._floor = frame.registered, 1, frame.floor
            return
        self._frames = min(self._frames + 1, FRAMES)
        share = np.float32(1 / self._frames)
        modes = frame.registered - self._modes   # a new array: the old one may be in a snapshot
        modes *= share
        modes += self._modes
        self._modes = modes
        self._floor = float((1 - share) ** 2 * self._floor + share**2 * frame.floor)

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to go on later, as builtins and arrays."""
        return {"modes": self._modes, "floor": self._floor, "frames": self._frames, "strangers": self._strangers,
                "usual": [tuple(cross) for cross in self._usual]}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> RegisteredAverage:
        """Go on from a `snapshot`."""
        average = cls()
        average._modes, average._floor = state["modes"], float(state["floor"])
        average._frames, average._strangers = int(state["frames"]), int(state["strangers"])
        average._usual.extend(CrossPower(*cross) for cross in state["usual"])
        return average
