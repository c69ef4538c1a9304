"""Flats and darks as they come in, and the correction that follows from them."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np

from streamer.imaging.correction import IDENTITY, Correction, level
from streamer.records import AnyArray, BoolArray, FloatArray, Frame
from streamer.settings import CalibrationSettings

UNLIT = 0.05
"""Pixels with less light than this share of the brightest are not corrected: their noise would drown the rest."""

_HOT_SIGMA = 10.0        # a dark current this far from its neighbours' makes a hot pixel
_DEAD_SHARE = 0.5        # a response that differs from its neighbours' by more than this share is not to be trusted
_CLOSED_SHARE = 0.5      # darks brighter than this share of the flats were taken with the shutter open
_SURVEY_FLATS = 16       # after the first ones, the light is surveyed anew with every so many flats
_BRIGHTEST = 99.0        # percentile


class Calibration:
    """Running means of flats and darks, and the correction made of them.

    A mean looks back on about as many frames as the settings say, with the memory of one frame. Only the
    shape of the mean flat is used; its level is that of the newest flat, so that a decaying ring current
    does not show in the transmission.

    Parameters
    ----------
    settings : CalibrationSettings
    """

    def __init__(self, settings: CalibrationSettings) -> None:
        self._settings = settings
        self._flat: FloatArray | None = None
        self._dark: FloatArray | None = None
        self._flats = 0
        self._darks = 0
        self._open_beam = 0.0   # mean of the newest flat, counts, dark included
        self._version = 0
        self._hot: BoolArray | None = None   # of the mean dark; None when it has to be found anew
        self._light: _Light | None = None    # of the mean flat, likewise
        self._flats_seen = 0
        self._correction: Correction | None = None

    @property
    def version(self) -> int:
        """Counts up whenever the correction changes."""
        return self._version

    def configure(self, settings: CalibrationSettings) -> None:
        """Take new settings; they act from the next flat or dark on."""
        self._settings = settings

    def add(self, frame: Frame) -> str:
        """Take in a flat or a dark; projections are ignored.

        Returns
        -------
        str
            Empty, or in one line why the frame was refused or what was given up for it.
        """
        if frame.kind == "projection":
            return ""
        seen = level(frame.pixels)
        problem = self._refusal(frame, seen.mean, seen.saturated_fraction, seen.finite_fraction)
        if problem:
            return problem
        known = self._flat if self._flat is not None else self._dark
        if known is not None and known.shape != frame.pixels.shape:
            problem = (f"{frame.kind} has shape {frame.pixels.shape}, the calibration had {known.shape}: "
                       "earlier flats and darks are given up")
            self._flat = self._dark = self._hot = self._light = None
            self._flats = self._darks = 0
        if frame.kind == "flat":
            self._flats, self._flat = _fold(self._flats, self._flat, frame.pixels, self._settings.flats)
            self._open_beam = seen.mean
            self._flats_seen += 1
            if self._flats_seen % _SURVEY_FLATS == 0 or self._flats_seen.bit_count() == 1:
                self._light = None   # the first flats teach much, later ones little
        else:
            self._darks, self._dark = _fold(self._darks, self._dark, frame.pixels, self._settings.darks)
            self._hot = self._light = None
        self._version += 1
        self._correction = None
        return problem

    def correction(self, shape: tuple[int, ...]) -> Correction:
        """Return the correction for frames of `shape`: that of `IDENTITY` when there is none for it."""
        known = self._flat if self._flat is not None else self._dark
        if known is None or known.shape != shape:
            return IDENTITY
        if self._correction is None:
            self._correction = self._make()
        return self._correction

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to go on later, as builtins and arrays."""
        return {"flat": self._flat, "dark": self._dark, "flats": self._flats, "darks": self._darks,
                "flats_seen": self._flats_seen, "open_beam": self._open_beam, "version": self._version,
                "light": None if self._light is None else list(self._light)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `snapshot`."""
        self._flat, self._dark = state["flat"], state["dark"]
        self._flats, self._darks = int(state["flats"]), int(state["darks"])
        self._open_beam, self._version = float(state["open_beam"]), int(state["version"])
        self._flats_seen = int(state["flats_seen"])
        self._light = None if state["light"] is None else _Light(*state["light"])
        self._hot = self._correction = None

    def _refusal(self, frame: Frame, mean: float, saturated: float, finite: float) -> str:
        if finite < 0.99:
            return f"{frame.kind} {frame.index} has {100 * (1 - finite):.1f} % NaN or infinite pixels; not used"
        dark = float(self._dark.mean()) if self._dark is not None else 0.0
        if frame.kind == "flat":
            if saturated > self._settings.saturated_fraction:
                return f"flat {frame.index} is saturated in {100 * saturated:.1f} % of its pixels; not used"
            if mean <= dark:
                return f"flat {frame.index} has {mean:.4g} counts, no more than the dark ({dark:.4g}); not used"
        elif self._flat is not None and self._flat.shape == frame.pixels.shape \
                and mean > _CLOSED_SHARE * self._open_beam:
            return (f"dark {frame.index} has {mean:.4g} counts, the flats {self._open_beam:.4g}: "
                    "was the shutter open? not used")
        return ""

    def _make(self) -> Correction:
        if self._hot is None and self._dark is not None:   # darks come rarely, a flat may come with every frame
            self._hot = _hot(self._dark)
        if self._flat is None:
            return Correction(dark=self._dark, bad=_or_none(self._hot), darks=self._darks)
        counts = self._flat if self._dark is None else self._flat - self._dark
        if self._light is None:
            self._light = _survey(counts, self._hot)
        light = self._light
        dark_mean = 0.0 if self._dark is None else float(self._dark.mean())
        now = (self._open_beam - dark_mean) / max(float(counts.mean()), 1e-30)
        gain = np.zeros_like(counts)
        np.divide(np.float32(1.0 / now), counts, out=gain, where=light.usable & (counts > 0))
        return Correction(dark=self._dark, gain=gain, weight=light.weight, bad=light.bad,
                          flats=self._flats, darks=self._darks)


class _Light(NamedTuple):
    """What the mean flat tells beside the gain; it changes little from flat to flat."""

    weight: FloatArray
    """(M, N) smooth share of the brightest light, 0 where there is next to none."""
    usable: BoolArray
    """(M, N) lit and not broken."""
    bad: BoolArray | None


def _survey(counts: FloatArray, hot: BoolArray | None) -> _Light:
    """Find where there is light, and the pixels that do not follow their neighbours."""
    smooth = cv2.medianBlur(counts, 5)
    with np.errstate(divide="ignore", invalid="ignore"):
        broken = ~(np.abs(counts / smooth - 1) < _DEAD_SHARE)
    brightest = max(float(np.percentile(smooth[::4, ::4], _BRIGHTEST)), 1e-30)
    weight = np.minimum(smooth * np.float32(1 / brightest), np.float32(1))
    weight[weight < UNLIT] = 0.0
    lit = weight > 0
    broken &= lit
    return _Light(weight, lit & ~broken, _or_none(broken if hot is None else broken | (hot & lit)))


def _fold(count: int, mean: FloatArray | None, pixels: AnyArray, most: int) -> tuple[int, FloatArray]:
    """Fold a frame into a running mean of at most so many; returns the new count and mean."""
    count = min(count + 1, most)
    values = pixels.astype(np.float32)
    if pixels.dtype.kind == "f":
        np.nan_to_num(values, copy=False, posinf=0.0, neginf=0.0)
    return count, values if mean is None else cv2.addWeighted(mean, 1 - 1 / count, values, 1 / count, 0.0)


def _hot(dark: FloatArray) -> BoolArray:
    distance = dark - cv2.medianBlur(dark, 5)
    noise = 1.4826 * float(np.median(np.abs(distance)))
    hot: BoolArray = distance > max(_HOT_SIGMA * noise, 1.0)
    return hot


def _or_none(bad: AnyArray | None) -> BoolArray | None:
    return bad if bad is not None and bad.any() else None
