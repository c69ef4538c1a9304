"""Slow loss of focus: blur that creeps in too slowly for any single frame to be flagged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.imaging.blur import baseline_of, estimate_blur
from streamer.imaging.spectrum import PolarPower

LIMIT_PX2 = 1.0
"""Trace of the covariance that the point-spread function has grown by, from which it is told."""

_SIGMA = 4.0            # and it must be this many standard deviations
_STEP_VARIANCE = 0.03   # px^2, what a change of the scene adds to the error of each step


class Focus:
    """Add up how much each generation of accepted frames is blurred against the one before.

    Accepted frames replace each other in the baseline, so that a creeping defocus moves the baseline along. The
    steps between full baselines that share no frame add up to what it has moved; their errors add up, too.
    """

    def __init__(self) -> None:
        self._before: PolarPower | None = None
        self._change = np.zeros(3)
        self._errors = np.zeros((3, 3))

    def follow(self, generation: Sequence[PolarPower]) -> None:
        """Take the next full baseline, which shares no frame with the one before."""
        mean = _mean(generation)
        if self._before is not None:
            step = estimate_blur(mean, baseline_of([self._before]))
            self._change = self._change + step.covariance.ravel()[[0, 1, 3]]
            self._errors = self._errors + step.covariance_errors + _STEP_VARIANCE**2 * np.diag([1.0, 0.5, 1.0])
        self._before = mean

    @property
    def loss_px(self) -> float | None:
        """Length of the blur that has crept in, or None while there is none to speak of."""
        trace = float(self._change[0] + self._change[2])
        direction = np.array([1.0, 0.0, 1.0])
        sigma = float(np.sqrt(direction @ self._errors @ direction))
        if trace < LIMIT_PX2 or trace < _SIGMA * sigma:
            return None
        largest = np.linalg.eigvalsh([[self._change[0], self._change[1]], [self._change[1], self._change[2]]])[1]
        return float(np.sqrt(12 * largest))

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to go on later, as builtins and arrays."""
        before = self._before
        return {"before": None if before is None else [before.power, before.counts, before.floor, list(before.shape)],
                "change": self._change, "errors": self._errors}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Focus:
        """Go on from a `snapshot`."""
        focus = cls()
        if state["before"] is not None:
            power, counts, floor, shape = state["before"]
            focus._before = PolarPower(power, counts, float(floor), (int(shape[0]), int(shape[1])))
        focus._change, focus._errors = _array(state["change"]), _array(state["errors"])
        return focus


def _mean(generation: Sequence[PolarPower]) -> PolarPower:
    """Average a generation; its noise is that of one frame over the root of their number."""
    mean = baseline_of(generation)
    return replace(generation[-1], power=mean.power, floor=mean.floor / float(np.sqrt(len(generation))))


def _array(values: Any) -> NDArray[np.float64]:
    return np.asarray(values, np.float64)
