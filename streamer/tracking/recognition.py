"""Flats and darks that nobody named: pictures of the open beam, and of no beam, among the projections.

A picture of the open beam shows the light and the detector alone. Beside a frame of the sample it is brighter, and
darker nowhere; their ratio shows the sample, but nothing of what the picture itself shows; and a second one shows
the same; and afterwards the sample is as bright as before. A sample elsewhere, out of focus, under more light or
behind half a shutter fails one of these. A dark shows no trace of the light.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import cv2
import msgspec
import numpy as np

from streamer.imaging.correction import Correction, Level
from streamer.records import AnyArray, FloatArray, Frame, Kind
from streamer.settings import CalibrationSettings
from streamer.tracking.calibration import UNLIT, Calibration

_SIDE = 128             # short side of the small pictures that are compared, at least
_FINE, _COARSE = 1.0, 8.0   # px of a small picture; structure between these scales is compared
_SCENES = 4             # frames of the sample that are remembered...
_FEWEST_SCENES = 2      # ...and as many are needed
_BRIGHTER = 1.03        # than the sample is the open beam, at least
_DARKER = 0.05          # logarithm; nowhere darker than this (ring current, fringes)
_LOWEST = 2.0           # percentile that stands for "nowhere"
_OWN_TRACE = 0.25       # correlation of the ratio with the picture; by chance it is 0.08, a sample has 0.3 to 0.7
_SAMPLE = 4.0           # the ratio shows so much more than two pictures of the open beam beside each other
_STEADY = 0.03          # logarithm; the light of the two differs by less, nearly everywhere
_TRACE_OF_LIGHT = 0.002   # share of the usual light from which a picture is no dark
_SAME_LEVEL = 0.002     # of the usual light, between two darks
_CLEARLY = 3.0          # the open beam is brighter than before by so much more than what comes back
_FEWEST_OPEN = 2        # pictures of the open beam that agree...
_MOST_WAITING = 8       # ...of so many that are kept
_STALE = 512            # frames after which a picture no longer waits for its second

FLAT = "empty beam: taken as flat"
DARK = "no light: taken as dark"

Key = tuple[str, int]


class _Small(NamedTuple):
    """A small picture of a frame."""

    key: Key
    counts: FloatArray
    """Mean counts; the dark is taken off when it is known."""
    structure: FloatArray
    """Of the logarithm, between the scales that are compared."""
    frame: Frame
    number: int


class Finding(NamedTuple):
    """What was recognised with a projection."""

    problem: str = ""
    """For its row; empty when it is a projection like others."""
    earlier: tuple[Key, ...] = ()
    """Frames that were taken for projections before..."""
    problem_of_earlier: str = ""
    """...and what they are."""


class Recognition:
    """Look for flats and darks among projections, as long as the stream names none.

    Parameters
    ----------
    settings : CalibrationSettings
    """

    _open: list[_Small]
    _unlit: _Small | None

    def __init__(self, settings: CalibrationSettings) -> None:
        self._settings = settings
        self._begin_again(())

    def configure(self, settings: CalibrationSettings) -> None:
        """Take new settings; they act from the next frame on."""
        self._settings = settings
        self._found.configure(settings)

    def correction(self, named: Correction, shape: tuple[int, ...]) -> Correction:
        """Return the correction by what was named, or, without flats among it, by what was recognised.

        The same object as long as nothing changes.
        """
        if named.gain is not None or shape != self._shape:
            return named
        found = self._found.correction(shape)
        return found if found.gain is not None or (found.dark is not None and named.dark is None) else named

    def look(self, frame: Frame, level: Level, named: Correction, *, usable: bool) -> Finding:
        """Tell whether a measured projection is a flat or a dark, and learn from it.

        Parameters
        ----------
        frame : Frame
        level : Level
            Of its raw counts.
        named : Correction
            By flats and darks that the stream named before this frame.
        usable : bool
            Whether its exposure is.

        Returns
        -------
        Finding
        """
        if not self._settings.recognise or named.gain is not None:
            return Finding()
        if frame.pixels.shape != self._shape:
            self._begin_again(frame.pixels.shape)
        if named.dark is not None and self._found.take_dark(named.dark, named.darks):
            self._without_dark(named.dark)
        self._seen += 1
        dark = named.dark if named.dark is not None else self._found.dark
        small = self._small(frame, dark)
        if level.saturated_fraction == 0 and len(self._scenes) >= _FEWEST_SCENES:
            if self._is_flat(small):
                return self._another_flat(small)
            if named.dark is None and not usable and self._is_dark(small):
                return self._another_dark(small)
        if not usable:
            return Finding()
        finding = self._sample_again(small)
        self._scenes.append(small)
        return finding

    def snapshot(self) -> dict[str, Any]:
        """Return what was found and the frames that others are compared with, as builtins and arrays."""
        return {"found": self._found.snapshot(), "shape": list(self._shape), "before": self._before,
                "seen": self._seen, "scenes": [_small_state(one) for one in self._scenes],
                "open": [_small_state(one) for one in self._open],
                "unlit": None if self._unlit is None else _small_state(self._unlit)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `snapshot`."""
        self._begin_again(tuple(state["shape"]))
        self._found.restore(state["found"])
        self._before, self._seen = float(state["before"]), int(state["seen"])
        self._scenes.extend(_small_from(one) for one in state["scenes"])
        self._open = [_small_from(one) for one in state["open"]]
        self._unlit = None if state["unlit"] is None else _small_from(state["unlit"])

    def _begin_again(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._found = Calibration(self._settings)
        self._scenes: deque[_Small] = deque(maxlen=_SCENES)
        self._open = []                        # pictures of the open beam that wait; later the newest flat
        self._before = 0.0                     # brightness of the sample before them
        self._unlit = None
        self._seen = 0

    def _small(self, frame: Frame, dark: FloatArray | None) -> _Small:
        shape = frame.pixels.shape
        binning = max(1, min(shape) // _SIDE)
        size = shape[1] // binning, shape[0] // binning
        crop = frame.pixels[:size[1] * binning, :size[0] * binning].astype(np.float32)
        if dark is not None:
            crop -= dark[:crop.shape[0], :crop.shape[1]]
        counts: FloatArray = cv2.resize(cv2.medianBlur(crop, 3), size, interpolation=cv2.INTER_AREA)
        logarithm = np.log(np.maximum(counts, UNLIT * max(float(np.percentile(counts, 99)), 1e-6)))
        structure = cv2.GaussianBlur(logarithm, (0, 0), _FINE) - cv2.GaussianBlur(logarithm, (0, 0), _COARSE)
        return _Small((frame.acquisition, frame.index), counts, structure, frame, self._seen)

    def _without_dark(self, dark: FloatArray | None) -> None:
        """Take a dark that has become known off what is remembered."""
        for number, scene in enumerate(self._scenes):
            self._scenes[number] = self._small(scene.frame, dark)._replace(number=scene.number)
        self._open = [self._small(one.frame, dark)._replace(number=one.number) for one in self._open]
        self._before = float(np.mean([scene.counts.mean() for scene in self._scenes])) if self._scenes else 0.0
        if self._unlit is not None:
            self._unlit = self._small(self._unlit.frame, dark)

    def _is_flat(self, small: _Small) -> bool:
        """Compare a picture with frames of the sample."""
        for scene in self._scenes:
            if small.counts.mean() < _BRIGHTER * scene.counts.mean():
                return False
            lit = scene.counts > UNLIT * np.percentile(scene.counts, 99)
            ratio = np.log(np.maximum(_smooth(small.counts), 1e-6) / np.maximum(_smooth(scene.counts), 1e-6))
            if np.percentile(ratio[lit], _LOWEST) < -_DARKER:
                return False
            if abs(_correlation((small.structure - scene.structure)[lit], small.structure[lit])) > _OWN_TRACE:
                return False
        return True

    def _is_dark(self, small: _Small) -> bool:
        """Look for the light in a picture."""
        light = np.mean([scene.counts for scene in self._scenes], axis=0)
        centred = light - light.mean()
        trace = float(np.vdot(small.counts, centred)) / max(float(np.vdot(centred, centred)), 1e-30)
        return abs(trace) < _TRACE_OF_LIGHT and bool(small.counts.mean() < self._settings.dark_fraction * light.mean())

    def _another_flat(self, small: _Small) -> Finding:
        """Let a picture of the open beam wait for the sample to come back; once there are flats, take it."""
        agrees = bool(self._open) and self._same_light(small, self._open[-1])
        if self._found.flats:
            taken = agrees and self._take("flat", [small])
            self._open = [small] if taken else self._open
            return Finding(FLAT if taken else "")
        if not agrees or small.number - self._open[-1].number > _STALE:
            self._open = []
        if not self._open:
            self._before = float(np.mean([scene.counts.mean() for scene in self._scenes]))
        self._open = [*self._open, small][-_MOST_WAITING:]
        return Finding()

    def _sample_again(self, small: _Small) -> Finding:
        """Take what waits when two pictures agree and the light was the same before and after them."""
        if self._found.flats or not self._open:
            return Finding()
        brighter = float(self._open[0].counts.mean()) / self._before - 1
        if brighter < _CLEARLY * abs(float(small.counts.mean()) / self._before - 1):
            self._open = []
        if len(self._open) < _FEWEST_OPEN or not self._take("flat", self._open):
            return Finding()
        earlier = tuple(found.key for found in self._open)
        self._open = self._open[-1:]
        return Finding("", earlier, FLAT)

    def _another_dark(self, small: _Small) -> Finding:
        """Take a dark when the one before has the same level."""
        other, known = self._unlit, self._found.dark is not None
        self._unlit = small
        if other is None or not self._same_level(small, other):
            return Finding()
        earlier = [] if known else [other]
        if not self._take("dark", [*earlier, small]):
            return Finding()
        if not known:
            self._without_dark(self._found.dark)
        return Finding(DARK, tuple(found.key for found in earlier), DARK)

    def _take(self, kind: Kind, pictures: list[_Small]) -> bool:
        """Add pictures to the calibration; return whether it wants them all."""
        refusals = [self._found.add(Frame(pixels=one.frame.pixels, index=one.frame.index, kind=kind))
                    for one in pictures]
        return not any(refusals)

    def _same_light(self, one: _Small, other: _Small) -> bool:
        change = np.log(np.maximum(_smooth(one.counts), 1e-6) / np.maximum(_smooth(other.counts), 1e-6))
        lit = one.counts > UNLIT * np.percentile(one.counts, 99)
        change = np.abs(change[lit] - np.median(change[lit]))
        apart = float(np.std((one.structure - other.structure)[lit]))
        sample = min(float(np.std((one.structure - scene.structure)[lit])) for scene in self._scenes)
        return bool(np.percentile(change, 95) < _STEADY) and sample > _SAMPLE * apart

    def _same_level(self, one: _Small, other: _Small) -> bool:
        light = float(np.mean([scene.counts.mean() for scene in self._scenes]))
        return abs(float(one.counts.mean() - other.counts.mean())) < _SAME_LEVEL * light


def _small_state(small: _Small) -> dict[str, Any]:
    return {"counts": small.counts, "structure": small.structure, "frame": msgspec.structs.asdict(small.frame),
            "number": small.number}


def _small_from(state: Mapping[str, Any]) -> _Small:
    frame = Frame(**state["frame"])
    return _Small((frame.acquisition, frame.index), state["counts"], state["structure"], frame, int(state["number"]))


def _smooth(counts: FloatArray) -> FloatArray:
    smooth: FloatArray = cv2.GaussianBlur(counts, (0, 0), 2 * _FINE)
    return smooth


def _correlation(one: AnyArray, other: AnyArray) -> float:
    return float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 and other.std() > 0 else 0.0
