"""Flats and darks as they come in, and the correction that follows from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import cv2
import numpy as np

from streamer.imaging.correction import IDENTITY, Correction, correct, level
from streamer.imaging.noise import DetectorNoise, NoiseSpectrum, compare_flats, noise_shape
from streamer.once import once
from streamer.records import AnyArray, BoolArray, FloatArray, Frame
from streamer.settings import CalibrationSettings

UNLIT = 0.05
"""Pixels with less light than this share of the brightest are not corrected: their noise would drown the rest."""

_HOT_SIGMA = 10.0        # a dark current this far from its neighbours' makes a hot pixel
_DEAD_SHARE = 0.5        # a response that differs from its neighbours' by more than this share is not to be trusted
_CLOSED_SHARE = 0.5      # darks brighter than this share of the flats were taken with the shutter open
_SURVEY_FLATS = 16       # after the first ones, the light is surveyed anew with every so many flats
_BRIGHTEST = 99.0        # percentile
_ZINGER = 6.0            # standard deviations
_FIRST_FLATS = 16        # pairs among these, and one pair in every so many, show the noise...
_PAIR_EVERY = 32
_MOST_PAIRS = 32         # ...that is averaged over about as many pairs
_BESIDE = 1              # projections that do not wait for the comparison of a pair


class Calibration:
    """Running means of flats and darks, and the correction made of them.

    A mean looks back on about as many frames as the settings say, with the memory of one frame. Only the
    shape of the mean flat is used; its level is that of the newest flat, so that a decaying ring current
    does not show in the transmission.

    Once there are projections, two flats are compared beside those that follow: what they tell of the noise is in
    force from the next flat or dark on, or from the second projection. Before, and for the first two, it is at once.

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
        self._light: Light | None = None    # of the mean flat, likewise
        self._flats_seen = 0
        self._noise = _Noise()
        self._pair: _Pair | None = None
        self._projections = self._pair_came = 0   # so far; of them before the pair
        self._correction: Correction | None = None

    @property
    def version(self) -> int:
        """Counts up whenever the correction changes."""
        return self._version

    @property
    def flats(self) -> int:
        """Flats in the running mean."""
        return self._flats

    @property
    def dark(self) -> FloatArray | None:
        """Mean dark, (M, N) counts."""
        return self._dark

    def take_dark(self, dark: FloatArray, darks: int) -> bool:
        """Use a mean dark that was made elsewhere; return whether there was none before."""
        first = self._dark is None
        if dark is not self._dark:
            self._settle()
            self._dark, self._darks = dark, darks
            self._hot = self._light = self._correction = None
            self._version += 1
        return first

    def configure(self, settings: CalibrationSettings) -> None:
        """Take new settings; they act from the next flat or dark on."""
        self._settings = settings

    def add(self, frame: Frame) -> str:
        """Take in a flat or a dark; of projections it is enough to know that they come.

        Returns
        -------
        str
            Empty, or in one line why the frame was refused or what was given up for it.
        """
        if frame.kind == "projection":
            self._projections += 1
            if self._projections > self._pair_came + _BESIDE:
                self._settle()
            return ""
        self._settle()
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
            self._noise = _Noise()
        if frame.kind == "flat":
            self._flats, self._flat = _fold(self._flats, self._flat, frame.pixels, self._settings.flats)
            self._open_beam = seen.mean
            self._flats_seen += 1
            if self._flats_seen % _SURVEY_FLATS == 0 or self._flats_seen.bit_count() == 1:
                self._light = None   # the first flats teach much, later ones little
            self._correction = None
            self._compare(frame.pixels)
        else:
            self._darks, self._dark = _fold(self._darks, self._dark, frame.pixels, self._settings.darks)
            self._hot = self._light = self._correction = None
            self._noise.dark(frame.pixels)
        self._version += 1
        return problem

    def _compare(self, pixels: AnyArray) -> None:
        """Measure the noise on every second of the first flats, later on few."""
        before, noise = self._noise.flat, self._noise
        self._noise.flat = None
        if self._flats_seen % 2:
            if self._flats_seen < _FIRST_FLATS or self._flats_seen % _PAIR_EVERY == _PAIR_EVERY - 1:
                noise.flat = pixels
        elif before is not None:
            self._begin_pair(before, pixels)
            if not (noise.known and self._projections):
                self._settle()

    def _begin_pair(self, one: AnyArray, other: AnyArray) -> None:
        correction = self.correction(other.shape)
        if self._light is not None and correction.open_beam is not None:
            self._pair = _Pair(one, other, correction, self._settings.zinger_sigma,
                               self._light.brightest * correction.open_beam)
            self._pair_came = self._projections

    @property
    def errand(self) -> Callable[[], None] | None:
        """What will be needed soon, and may be done before by any thread; None when there is nothing to do."""
        return None if self._pair is None else self._pair.compare

    def _settle(self) -> None:
        """Put in force what the newest two flats tell of the noise."""
        pair, self._pair = self._pair, None
        if pair is None or self._light is None:
            return
        self._noise.add(pair.seen, brightest=pair.brightest)
        shape, counts_per_photon = self._noise.result(self._light)   # the rest of the correction stays
        self._correction = replace(pair.correction, noise=shape, counts_per_photon=counts_per_photon)

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
                "light": None if self._light is None else list(self._light), "noise": self._noise.snapshot(),
                "pair": None if self._pair is None else [self._pair.one, self._pair.other],
                "projections": [self._projections, self._pair_came]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `snapshot`."""
        self._flat, self._dark = state["flat"], state["dark"]
        self._flats, self._darks = int(state["flats"]), int(state["darks"])
        self._open_beam, self._version = float(state["open_beam"]), int(state["version"])
        self._flats_seen = int(state["flats_seen"])
        self._light = None if state["light"] is None else Light(*state["light"])
        self._noise = _Noise.restored(state["noise"])
        self._hot = self._correction = self._pair = None
        if state["pair"] is not None:
            self._begin_pair(*state["pair"])
        self._projections, self._pair_came = (int(count) for count in state["projections"])

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
            self._light = survey(counts, self._hot)
        light = self._light
        dark_mean = 0.0 if self._dark is None else float(self._dark.mean())
        now = (self._open_beam - dark_mean) / max(float(counts.mean()), 1e-30)
        gain = np.zeros_like(counts)
        np.divide(np.float32(1.0 / now), counts, out=gain, where=light.usable & (counts > 0))
        noise, counts_per_photon = self._noise.result(light)
        return Correction(dark=self._dark, gain=gain, weight=light.weight, bad=light.bad, flats=self._flats,
                          darks=self._darks, noise=noise, counts_per_photon=counts_per_photon,
                          open_beam=self._open_beam - dark_mean)


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two flats that are compared once, by whoever has time first."""

    one: AnyArray
    other: AnyArray
    correction: Correction
    zinger_sigma: float
    brightest: float
    """Light where the weight is 1, counts."""

    @once
    def seen(self) -> NoiseSpectrum:
        """Tell the noise that makes them differ."""
        one, other = (correct(flat, self.correction, zinger_sigma=self.zinger_sigma) for flat in (self.one, self.other))
        return compare_flats(one, other, self.correction.weight)

    def compare(self) -> None:
        """Compare them before somebody has to wait for it; from any thread."""
        _ = self.seen


class Light(NamedTuple):
    """What the mean flat tells beside the gain; it changes little from flat to flat."""

    weight: FloatArray
    """(M, N) smooth share of the brightest light, 0 where there is next to none."""
    usable: BoolArray
    """(M, N) lit and not broken."""
    bad: BoolArray | None
    brightest: float
    """Counts where the weight is 1, relative to the mean."""
    read_gain: float
    """Power that white noise of one count has where the light is even and of one count, too."""


class _Noise:
    """What pairs of flats and pairs of darks tell about noise."""

    def __init__(self) -> None:
        self.flat: AnyArray | None = None
        """Waits for the next one."""
        self._dark: AnyArray | None = None
        self._seen: NoiseSpectrum | None = None
        self._floor_counts = 0.0       # power of the noise times the counts of the brightest light
        self._brightest = 0.0          # counts
        self._read_variance = 0.0      # counts^2
        self._dark_pairs = 0
        self._made: tuple[DetectorNoise, float] | None = None

    @property
    def known(self) -> bool:
        """Whether two flats were compared."""
        return self._seen is not None

    def dark(self, pixels: AnyArray) -> None:
        """Take in a dark: two of them tell the noise of reading out."""
        before, self._dark = self._dark, None if self._dark is not None else pixels
        if before is None or self._dark_pairs >= _MOST_PAIRS:
            return
        difference = np.subtract(pixels, before, dtype=np.float32).ravel()
        difference -= float(np.median(difference[::7]))
        spread = float(difference.std())
        good = difference[np.abs(difference) < _ZINGER * max(float(np.std(np.clip(
            difference, -spread, spread))), 0.5)]   # stray X-rays hit darks, too
        self._dark_pairs += 1
        self._read_variance += (0.5 * float(good.var()) - self._read_variance) / self._dark_pairs
        self._made = None

    def add(self, pair: NoiseSpectrum, *, brightest: float) -> None:
        """Take in the comparison of two flats; `brightest` is the light where the weight is 1, in counts."""
        self._seen = pair if self._seen is None else self._seen.folded(pair, _MOST_PAIRS)
        share = 1 / self._seen.pairs
        self._floor_counts += share * (pair.floor * brightest - self._floor_counts)
        self._brightest += share * (brightest - self._brightest)
        self._made = None

    def result(self, light: Light) -> tuple[DetectorNoise | None, float | None]:
        """Return the noise and the counts per photon, as far as they are known."""
        if self._seen is None:
            return None, None
        if self._made is None:
            shape = noise_shape(self._seen)
            read = self._read_variance * light.read_gain / self._brightest   # in units of _floor_counts
            low = float(shape.bins[0].mean())   # what a scintillator smears is whole again at low frequencies
            self._made = (DetectorNoise(shape, min(read / max(self._floor_counts, 1e-30), 1.0)),
                          max(low * self._floor_counts - read, 1e-30))
        return self._made

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to go on later, as builtins and arrays."""
        state = {name: value for name, value in vars(self).items() if name != "_made"}
        return state | {"_seen": None if self._seen is None else
                        {field.name: getattr(self._seen, field.name) for field in fields(self._seen)}}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> _Noise:
        """Go on from a `snapshot`."""
        noise = cls()
        seen = state["_seen"]
        vars(noise).update(state | {"_seen": None if seen is None else NoiseSpectrum(**seen)})
        return noise


def survey(counts: FloatArray, hot: BoolArray | None) -> Light:
    """Find where there is light, and the pixels that do not follow their neighbours."""
    smooth = cv2.medianBlur(counts, 5)
    with np.errstate(divide="ignore", invalid="ignore"):
        broken = ~(np.abs(counts / smooth - 1) < _DEAD_SHARE)
    brightest = max(float(np.percentile(smooth[::4, ::4], _BRIGHTEST)), 1e-30)
    weight = np.minimum(smooth * np.float32(1 / brightest), np.float32(1))
    weight[weight < UNLIT] = 0.0
    lit = weight > 0
    broken &= lit
    mean = max(float(counts.mean()), 1e-30)
    return Light(weight, lit & ~broken, _or_none(broken if hot is None else broken | (hot & lit)),
                  brightest / mean, float(lit.mean()) / max(float(weight.mean()), 1e-30))


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
