"""Does a frame hold a usable image at all: beam dumps, saturation, empty beam."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from streamer.imaging.correction import Level
from streamer.imaging.spectrum import PolarPower
from streamer.records import FloatArray
from streamer.settings import CalibrationSettings

SIGNIFICANT = 6.0
"""Structure weaker than this many standard deviations of the photon noise is none."""
FAINT = 0.03
"""A frame with a smaller share of the usual power of structure shows an empty beam."""

_MEMORY = 31        # usable frames that say what is usual
_PATIENCE = 12      # consecutive frames that differ alike, but show structure, are the new usual
_VIEWS = 1024       # least recently seen views are forgotten
_COARSE_RINGS = 4   # 0.012 to 0.06 cycles/px: what a blur leaves untouched
_TEST_RINGS = 10    # where the structure of weak exposures shows
_WINDOW_LOSS = 1.33
_SHADE = 0.1        # of the frame; a smaller dark part is the specimen
_SIDE_SHARE = 0.85  # of a side of the frame that a shutter covers
_LIT = 0.2          # of the mean; parts that usually have less light say nothing
_NOISY = 0.02       # relative variance per pixel, as of 50 photons...
_NOISIER = 8.0      # ...and so much more than photons made before: not of photons


@dataclass(slots=True)
class _Usual:
    """What usable frames of a view look like."""

    means: deque[float] = field(default_factory=lambda: deque(maxlen=_MEMORY))
    structures: deque[FloatArray] = field(default_factory=lambda: deque(maxlen=_MEMORY))
    noises: deque[float] = field(default_factory=lambda: deque(maxlen=_MEMORY))
    """Noise floor times the mean, which is constant for photons."""
    blocks: deque[FloatArray] = field(default_factory=lambda: deque(maxlen=_MEMORY))
    refused: int = 0

    def memories(self) -> dict[str, deque[Any]]:
        """Return all that was learnt, by name."""
        return {name: getattr(self, name) for name in ("means", "structures", "noises", "blocks")}


class Exposure:
    """Judge projections by their counts and by their structure.

    Parameters
    ----------
    settings : CalibrationSettings
    """

    def __init__(self, settings: CalibrationSettings) -> None:
        self._settings = settings
        self._views: OrderedDict[str, _Usual] = OrderedDict()

    def configure(self, settings: CalibrationSettings) -> None:
        """Take new thresholds; they act from the next frame on."""
        self._settings = settings

    def recalibrated(self, view: str) -> None:
        """Learn anew what is usual: the frames of a view are corrected differently from now on."""
        self._views.pop(view, None)

    def judge(self, view: str, level: Level, power: PolarPower | None) -> str:
        """Say why a projection has no usable image.

        What is usual is learnt from usable frames only. After a lasting change, such as a shorter exposure,
        that still shows structure, the new state becomes the usual one.

        Parameters
        ----------
        view : str
        level : Level
            Of the raw counts.
        power : PolarPower or None
            Of the corrected frame; without it only the counts are judged.

        Returns
        -------
        str
            Empty when the frame is usable, else the reason in one line.
        """
        usual = self._views.setdefault(view, _Usual())
        self._views.move_to_end(view)
        while len(self._views) > _VIEWS:
            self._views.popitem(last=False)
        reason = self._absolute(usual, level, power)
        if reason:
            return reason
        reason = self._relative(usual, level, power)
        if reason:
            usual.refused += 1
            if usual.refused < _PATIENCE:
                return reason
            for memory in usual.memories().values():
                memory.clear()
        usual.refused = 0
        usual.means.append(level.mean)
        if level.blocks is not None:
            usual.blocks.append(level.blocks)
        if power is not None:
            usual.structures.append(_structure(power))
            usual.noises.append(power.floor * level.mean)
        return ""

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to go on later, as builtins and arrays."""
        return {view: {name: list(memory) for name, memory in usual.memories().items()} | {"refused": usual.refused}
                for view, usual in self._views.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `snapshot`."""
        self._views = OrderedDict(
            (view, _Usual(refused=int(kept["refused"]), **{
                name: deque(kept[name], _MEMORY) for name in _Usual().memories()}))
            for view, kept in state.items())

    def _absolute(self, usual: _Usual, level: Level, power: PolarPower | None) -> str:
        if level.saturated_fraction > self._settings.saturated_fraction:
            return (f"saturated: {100 * level.saturated_fraction:.1f} % of the pixels are at {level.maximum:g} "
                    f"(limit {100 * self._settings.saturated_fraction:g} %)")
        if level.minimum == level.maximum:
            return f"constant frame: every pixel is {level.minimum:g}"
        if level.mean <= 0:
            return f"no light: mean {level.mean:.4g} counts above the dark"
        if power is not None and not _significance(power) > SIGNIFICANT:
            return self._dumped(usual, level) or "no structure: nothing but noise (empty beam or no light)"
        return ""

    def _dumped(self, usual: _Usual, level: Level) -> str:
        expected = median(usual.means) if usual.means else 0.0
        if level.mean >= self._settings.dark_fraction * expected:
            return ""
        return (f"beam dump: mean {level.mean:.4g} counts, usual {expected:.4g} "
                f"(limit {100 * self._settings.dark_fraction:g} %)")

    def _relative(self, usual: _Usual, level: Level, power: PolarPower | None) -> str:
        dumped = self._dumped(usual, level)
        if dumped:
            return dumped
        shaded = self._shaded(usual, level)
        if shaded > 0:
            return f"shutter half open: {100 * shaded:.0f} % of the frame is dark, from a side on"
        if usual.noises and power is not None and power.floor > _NOISY:
            excess = power.floor * level.mean / max(median(usual.noises), 1e-30)
            if excess > _NOISIER:
                return f"no structure: {excess:.0f} times the usual noise for this light"
        if usual.structures and power is not None:
            share = _structure(power) / np.maximum(_middle(usual.structures), 1e-30)
            if share.max() < FAINT:   # strong defocus leaves the coarsest structure
                return f"empty beam: structure has {100 * float(share[1]):.1f} % of its usual power"
        return ""

    def _shaded(self, usual: _Usual, level: Level) -> float:
        """Share of the frame that lies in the dark, 0 unless that covers a side of it."""
        if level.blocks is None or not usual.blocks:
            return 0.0
        expected = _middle(usual.blocks)
        told = expected > _LIT * float(expected.mean())
        dark = level.blocks < self._settings.dark_fraction * expected
        share = float(dark[told].mean()) if told.any() else 0.0
        if share <= _SHADE:
            return 0.0
        sides = np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]
        covered = any(told[side].any() and float(dark[side][told[side]].mean()) > _SIDE_SHARE for side in sides)
        return share if covered else 0.0


def _middle(memory: Sequence[FloatArray]) -> FloatArray:
    """Median of a few small arrays; `numpy.median` takes three times as long for these."""
    ordered, last = np.sort(np.array(memory), axis=0), len(memory) - 1
    middle: FloatArray = ordered[last // 2:len(memory) // 2 + 1].mean(axis=0)
    return middle


def _structure(power: PolarPower) -> FloatArray:
    """Power of the coarsest and of all coarse structure, relative to the squared mean brightness."""
    rings = (power.power[:_COARSE_RINGS] * power.counts[:_COARSE_RINGS]).sum(axis=1)
    found: FloatArray = np.array([rings[0], rings.sum()], np.float32).clip(0)
    return found / np.float32(power.shape[0] * power.shape[1])


def _significance(power: PolarPower) -> float:
    """Power of the structure over the standard deviation that photon noise alone would give it."""
    counts = power.counts[:_TEST_RINGS]
    if power.floor <= 0:
        return np.inf if power.power.max() > 0 else 0.0
    total = float(np.sum(power.power[:_TEST_RINGS] * counts))
    return total / (power.floor * float(np.sqrt(_WINDOW_LOSS * counts.sum())))
