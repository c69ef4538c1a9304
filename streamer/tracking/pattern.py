"""The pattern of the detector, learnt from a moving sample while there are no flats."""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from streamer.imaging.correction import Correction
from streamer.imaging.pattern import Pattern, PatternSums
from streamer.records import FloatArray
from streamer.tracking.calibration import survey

_STEP_PX = 1.0       # frames closer to the one before add nothing
_SIGMA_PX = 1.0      # of the drift, at most
_BLOCK = 8           # frames that are solved together...
_SPAN_PX = 20.0      # ...and lie no further apart
_GOOD = 3            # blocks from which the pattern is known well
_EVERY = 12          # later on, blocks after which it is brought up to date
_BLOCKS = 8          # looked back on
_SEPARABLE = 0.6     # of the modes must be told
_WORTH = 0.12        # of the contrast of a frame; without a pattern up to 0.1 of the sample is left in it
_PATIENCE = 24       # sharp frames after which a sample at rest is said to hide the pattern
_VIEWS = 4           # least recently seen views are forgotten

Word = Literal["none", "estimated", "not separable"]

_PLAIN = ("has_dark", "first", "last", "seen", "blocks", "used_frames")
_SUMS = tuple(field.name for field in dataclasses.fields(PatternSums))


@dataclass(slots=True)
class _View:
    has_dark: bool
    sums: PatternSums | None = None
    """Of the block that is being collected."""
    first: tuple[float, float] = (0.0, 0.0)
    """Drift of its first frame."""
    last: tuple[float, float] | None = None
    seen: int = 0
    blocks: int = 0
    mean: Pattern | None = None
    """Over the blocks."""
    used: Pattern | None = None
    """What frames are corrected by."""
    used_frames: int = 0
    made: tuple[Correction, Correction] | None = None
    """Correction without, and with the pattern."""


class PatternEstimate:
    """Estimate the pattern of each view; the newest estimate corrects the frames after it."""

    def __init__(self) -> None:
        self._views: OrderedDict[str, _View] = OrderedDict()

    def word(self, view: str) -> Word:
        """Say where a view stands."""
        state = self._views.get(view)
        if state is None or state.used is not None:
            return "none" if state is None else "estimated"
        return "none" if state.blocks or state.seen < _PATIENCE else "not separable"

    def correction(self, view: str, base: Correction) -> Correction:
        """Add the pattern to a correction without flats; the same object as long as nothing changes."""
        state = self._views.get(view)
        if base.gain is not None or state is None or state.used is None or state.has_dark != (
                base.dark is not None):
            return base
        if state.made is None or state.made[0] is not base:
            light = survey(state.used.light, base.bad)
            gain = np.where(light.usable, np.exp(-state.used.logarithm), np.float32(0))
            state.made = base, dataclasses.replace(base, gain=gain, weight=light.weight, bad=light.bad,
                                                   estimated_from=state.used_frames)
        return state.made[1]

    def learn(self, view: str, image: FloatArray, correction: Correction, *, drift_px: tuple[float, float],
              sigma_px: float) -> None:
        """Learn from a sharp frame without flats.

        Parameters
        ----------
        view : str
        image : (M, N) float32 array
            Corrected by `correction`.
        correction : Correction
        drift_px : (dy, dx)
        sigma_px : float
            Its error.
        """
        has_dark = correction.dark is not None
        state = self._views.get(view)
        if state is None or state.has_dark != has_dark or (
                state.sums is not None and state.sums.shape != image.shape):
            state = self._views[view] = _View(has_dark)
        self._views.move_to_end(view)
        while len(self._views) > _VIEWS:
            self._views.popitem(last=False)
        state.seen += 1
        if sigma_px > _SIGMA_PX or (state.last is not None and math.dist(state.last, drift_px) < _STEP_PX):
            return
        state.last = drift_px
        if state.sums is None or math.dist(state.first, drift_px) > _SPAN_PX:
            state.sums, state.first = None, drift_px
        raw = image
        if correction.gain is not None:
            raw = np.divide(image, correction.gain, out=np.zeros_like(image), where=correction.gain > 0)
        frame = PatternSums.of(raw, drift_px)
        state.sums = frame if state.sums is None else state.sums.added(frame)
        if state.sums.total >= _BLOCK:
            self._block(state, state.sums.solve())

    def snapshot(self) -> dict[str, Any]:
        """Return the state as builtins and arrays."""
        return {view: {name: getattr(state, name) for name in _PLAIN} | {
                    "sums": None if state.sums is None else {name: getattr(state.sums, name) for name in _SUMS},
                    "mean": state.mean, "used": state.used}
                for view, state in self._views.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `snapshot` returned."""
        self._views = OrderedDict()
        for view, kept in state.items():
            known = self._views[str(view)] = _View(**{name: kept[name] for name in _PLAIN})
            known.first = (float(kept["first"][0]), float(kept["first"][1]))
            known.last = None if kept["last"] is None else (float(kept["last"][0]), float(kept["last"][1]))
            if kept["sums"] is not None:
                rows, columns = kept["sums"]["shape"]
                known.sums = PatternSums(**{**kept["sums"], "shape": (int(rows), int(columns))})
            known.mean, known.used = (None if kept[name] is None else Pattern(*kept[name]) for name in ("mean", "used"))

    def _block(self, state: _View, found: Pattern) -> None:
        """Average with the blocks before: what they left behind of the sample differs."""
        state.sums = None
        if found.separable < _SEPARABLE:
            return
        state.blocks += 1
        state.mean = found if state.mean is None else state.mean.averaged(found, 1 / min(state.blocks, _BLOCKS))
        if state.mean.prominence < _WORTH:
            return
        if state.used is None or state.blocks == _GOOD or state.blocks % _EVERY == 0:
            good = state.blocks >= _GOOD
            state.used, state.made = state.mean, None
            state.used_frames = _BLOCK * (_GOOD if good else state.blocks)
