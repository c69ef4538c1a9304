"""Noise of the detector, measured where nothing but noise changes: between two pictures of the open beam.

A scintillator spreads every photon over some pixels, so the noise of counting falls with frequency while that of
reading out does not. Noise taken as white is then too weak at low frequencies, and what is left over looks like
structure. The difference of two flats shows the spectrum as it is. Without the factor of the spread, its limit
towards zero frequency tells the counts per photon.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.imaging.spectrum import (
    HIGHEST,
    LOWEST,
    RINGS,
    NoiseShape,
    frequencies,
    measure_spectrum,
    noise_statistics,
)
from streamer.records import FloatArray

_MOVED = 0.07          # cycles/px; what differs between flats at lower frequencies is light that moved
_FITTED = (0.07, 0.18)   # cycles/px; the noise at low frequencies is continued from here
_DOUBT = 3.0           # standard deviations that chance is given before a departure from white is believed

_EDGES = LOWEST + np.arange(RINGS + 1) * (HIGHEST - LOWEST) / RINGS
_RING_FREQUENCIES = np.sqrt(0.5 * (_EDGES[:-1] ** 2 + _EDGES[1:] ** 2))


@dataclass(frozen=True, eq=False, slots=True)
class NoiseSpectrum:
    """Power of the noise of flats relative to that beyond 0.5 cycles/px, averaged over pairs of them."""

    bins: FloatArray
    """(24, 12)."""
    horizontal: FloatArray
    """(n,)."""
    vertical: FloatArray
    """(n,)."""
    floor: float
    """Power beyond 0.5 cycles/px, in units of the squared open beam."""
    counts: FloatArray
    """(24, 12) Fourier modes per bin."""
    cut_counts: tuple[FloatArray, FloatArray]
    """Fourier modes in `horizontal` and `vertical`."""
    overlap: float
    """How much the window correlates neighbouring modes: variances are larger by this factor."""
    floor_modes: int
    """Fourier modes behind `floor`."""
    pairs: int = 1

    def folded(self, other: NoiseSpectrum, most: int) -> NoiseSpectrum:
        """Average with one more pair, looking back on about `most` pairs; a pair of another size starts anew."""
        if other.horizontal.shape != self.horizontal.shape or (other.counts != self.counts).any():
            return other
        pairs = min(self.pairs + 1, most)
        share = np.float32(1 / pairs)
        return replace(
            self, pairs=pairs, floor=self.floor + float(share) * (other.floor - self.floor),
            **{name: getattr(self, name) + share * (getattr(other, name) - getattr(self, name))
               for name in ("bins", "horizontal", "vertical")})


class DetectorNoise(NamedTuple):
    """Noise of a detector: photons spread by the scintillator, and white noise of reading out."""

    flat: NoiseShape
    """In a flat."""
    read_share: float
    """Of the power beyond 0.5 cycles/px of a flat, 0..1; stays when the sample takes photons away."""

    def shape(self, transmission: float) -> NoiseShape:
        """Return the shape in a frame of this mean transmission (1 = open beam)."""
        read, light = self.read_share, max(transmission, 0.0)
        if read <= 0.0 or light <= 0.0:
            return self.flat
        whole = np.float32(light * (1 - read) + read)
        return NoiseShape(*(
            np.maximum(np.float32(light) * (part - np.float32(read)) + np.float32(read), 0) / whole
            for part in self.flat))


def compare_flats(one: FloatArray, other: FloatArray, weight: FloatArray | None) -> NoiseSpectrum:
    """Measure the noise on the difference of two corrected flats.

    Parameters
    ----------
    one, other : (M, N) float32 arrays
        Corrected; a change of the whole light between them does not matter.
    weight : (M, N) float32 array or None
        Of the correction.
    """
    difference = one * np.float32(1 / _mean(one, weight))
    difference -= other * np.float32(1 / _mean(other, weight))
    difference *= np.float32(np.sqrt(0.5))
    difference += np.float32(1)
    seen = measure_spectrum(difference, weight)
    floor = max(seen.power.floor, 1e-30)
    overlap, floor_modes = noise_statistics(difference.shape, weight)
    scale = np.float32(1 / floor)
    return NoiseSpectrum(seen.power.power * scale + 1, seen.horizontal * scale, seen.vertical * scale, floor,
                         seen.power.counts, seen.cut_counts, overlap, floor_modes)


def noise_shape(seen: NoiseSpectrum) -> NoiseShape:
    """Turn what was measured into a template that is never worse than white noise.

    Departures from white are believed as far as they stand out of their own error (positive-part shrinkage, as of
    James and Stein): first those of whole rings, then of single bins from their ring. White noise thus comes out
    as ones, and few flats tell little. Below 0.07 cycles/px the fit of ``exp(a + b f^2)`` to 0.07..0.18 cycles/px
    is continued: between flats the light may have moved, and that is not noise.
    """
    modes = seen.counts.sum(axis=1)
    rings = np.sum(seen.bins * seen.counts, axis=1) / np.maximum(modes, 1)
    profile = _profile(rings, modes, _RING_FREQUENCIES, seen)
    variance = seen.overlap / (seen.pairs * np.maximum(seen.counts, 1))
    apart = seen.bins / np.maximum(rings, 1e-6)[:, None] - 1
    used = (seen.counts > 0) & (_RING_FREQUENCIES > _MOVED)[:, None]
    bins = profile[:, None] * (1 + np.where(used, apart * _belief(apart[used], variance[used]), 0))
    cuts = [_profile(values, counts, frequencies(values.size), seen)
            for values, counts in zip((seen.horizontal, seen.vertical), seen.cut_counts, strict=True)]
    return NoiseShape(bins.astype(np.float32), *(cut.astype(np.float32) for cut in cuts))


def _profile(
    values: NDArray[np.floating], modes: NDArray[np.floating], at: NDArray[np.floating], seen: NoiseSpectrum
) -> NDArray[np.float64]:
    """Shrink a profile over frequency to white noise and continue it to low frequencies."""
    known = (modes > 0) & (at > _MOVED)
    if known.sum() < 2:
        return np.ones(len(values))
    common = seen.overlap / (np.log(2.0) ** 2 * seen.pairs * seen.floor_modes)   # of the floor, a median
    variance = seen.overlap / (seen.pairs * np.maximum(modes, 1))
    level = float(np.average(values[known], weights=modes[known]))
    level_variance = common + seen.overlap / (seen.pairs * float(modes[known].sum()))
    profile = np.ones(len(values))
    profile += (level - 1) * _belief(np.array([level - 1]), np.array([level_variance]))
    slope = values - level
    profile[known] += slope[known] * _belief(slope[known], variance[known])
    fitted = known & (at < _FITTED[1])
    if fitted.sum() > 2:
        line = np.polyfit(at[fitted] ** 2, np.log(np.maximum(profile[fitted], 1e-3)), 1,
                          w=np.sqrt(modes[fitted]) * profile[fitted])
        low = at <= _MOVED
        profile[low] = np.exp(np.polyval(line, at[low] ** 2))
    return profile


def _belief(departure: NDArray[np.floating], variance: NDArray[np.floating]) -> float:
    """Share of departures that is not chance."""
    chance = float(np.mean(variance) * (1 + _DOUBT * np.sqrt(2 / departure.size)))
    return max(0.0, 1 - chance / max(float(np.mean(np.square(departure))), 1e-30))


def _mean(image: FloatArray, weight: FloatArray | None) -> float:
    if weight is None:
        return float(cv2.mean(image)[0])
    total: float = np.vdot(image, weight).item()
    return total / max(cv2.sumElems(weight)[0], 1e-30)
