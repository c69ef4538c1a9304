"""Effective resolution of a frame: the half-period at which its structure sinks into its noise.

An absolute figure beside the relative blur: it needs no other frame, so days and samples can be compared. It is
worse for a blurred, a faint or a coarse specimen, and better with more photons.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.imaging.spectrum import NoiseShape, Spectrum, frequencies, polar_bins
from streamer.records import FloatArray

NYQUIST_PX = 1.0
"""Shortest half-period that pixels can show."""

_WINDOW_LOSS = 1.33       # modes under a Tukey(0.25) window in 2-D, per independent one
_REACH = 0.45             # of the local fit to either side of the crossing, in units of ln(frequency)...
_REACH_BINS = 3.5         # ...or so many values, where these are more
_CLIP = 4.0               # power over the floor beyond which the search for the crossing looks no closer
_FLOOR_ERROR = 1.66       # relative error of a noise floor that is the median of one mode, under that window
_SCATTER = 0.25           # relative scatter of the structure's own power from value to value
_OUTLIER = 4.0            # standard deviations; values further off (a periodic disturbance) count less
_ROUNDS = 12
_SETTLED = 1e-3           # of ln(frequency); a fifth of the least error
_FIRST_SLOPE = 3.0        # of the logarithms, as of edges
_FEWEST = 3               # values that a straight line needs
_LARGEST_ERROR = 0.25     # of ln(frequency); what is less certain is no estimate
_SIGNIFICANT = 4.0        # standard deviations by which the structure must rise above the floor

Array = NDArray[np.float64]


class Resolution(NamedTuple):
    """Half-period along x and y, and its 1-sigma error, in px; None where it cannot be told.

    A half-period of 1 px without an error is a limit: the structure stays above the noise up to 0.5 cycles/px, so
    the pixels, not the noise, end the resolution.
    """

    x_px: float | None = None
    x_sigma_px: float | None = None
    y_px: float | None = None
    y_sigma_px: float | None = None


def resolution(spectrum: Spectrum, noise: NoiseShape | None = None) -> Resolution:
    """Find where the power of the structure along x and y falls to that of the noise.

    The noise is taken off the directional spectra. The last crossing of a falling curve through what remains
    (isotonic regression) says where to look; about it the logarithm of the power is a straight line in the
    logarithm of the frequency, fitted by the likelihood of powers (Whittle's), which needs no logarithm of noisy
    values and has no bias where the structure is fainter than the noise.

    Parameters
    ----------
    spectrum : Spectrum
        Of one frame; the unit of brightness has no influence.
    noise : NoiseShape, optional
        How the noise falls with frequency; white without it.

    Returns
    -------
    Resolution
        None along an axis whose structure never rises significantly above the noise. The error is that of the
        photon noise and of the noise floor; it does not hold what another part of the specimen would give.
    """
    shapes = (None, None) if noise is None else (noise.horizontal, noise.vertical)
    floor = spectrum.power.floor
    floor_error = _FLOOR_ERROR / math.sqrt(polar_bins(*spectrum.power.shape).noise_modes.size)
    x, y = (_half_period(power, counts, floor if shape is None else floor * shape, floor_error)
            for power, counts, shape in zip((spectrum.horizontal, spectrum.vertical), spectrum.cut_counts, shapes,
                                            strict=True))
    return Resolution(*x, *y)


def _half_period(
    power: FloatArray, counts: FloatArray, noise: FloatArray | float, floor_error: float
) -> tuple[float | None, float | None]:
    """Half-period of the crossing and its error."""
    level = np.broadcast_to(np.asarray(noise, np.float64), power.shape)
    inside = (counts > 0) & (level > 0)
    if not inside.any():
        return None, None
    where = np.log(frequencies(power.size)[inside].astype(np.float64))
    ratio = power[inside] / level[inside]
    weights = counts[inside].astype(np.float64) / _WINDOW_LOSS
    above = _crossing(ratio - 1.0, weights)
    if above == 0:
        return None, None
    if above == where.size:
        return NYQUIST_PX, None
    place, error = _fit(where, ratio, weights, 0.5 * (where[above - 1] + where[above]), floor_error)
    if not error < _LARGEST_ERROR:
        return None, None
    if place >= math.log(0.5):
        return NYQUIST_PX, None
    half_period = 0.5 * math.exp(-place)
    return half_period, half_period * error


def _crossing(signal: Array, weights: Array) -> int:
    """Count the values of a falling curve through the signal that lie above the floor, 1; 0 if not significantly."""
    blocks: list[tuple[float, float, int]] = []   # mean, weight, length: pooled until they fall
    for value, weight in zip(np.clip(signal, -1.0, _CLIP).tolist(), weights.tolist(), strict=True):
        mean, total, length = value, weight, 1
        while blocks and blocks[-1][0] <= mean:
            before, share, count = blocks.pop()
            mean, total, length = (before * share + mean * total) / (share + total), share + total, length + count
        blocks.append((mean, total, length))
    above = [block for block in blocks if block[0] > 1.0]
    excess = sum(mean * total for mean, total, _ in above)
    significant = excess > _SIGNIFICANT * math.sqrt(sum(total for _, total, _ in above))
    return sum(length for *_, length in above) if significant else 0


def _fit(where: Array, ratio: Array, weights: Array, start: float, floor_error: float) -> tuple[float, float]:
    """Fit ``ratio = 1 + exp(-slope * (where - place))`` about the crossing; return the place and its error."""
    place, slope = start, _FIRST_SLOPE
    for _ in range(_ROUNDS):
        middle = int(np.searchsorted(where, place))
        spacing = 1.0 / max(middle, 1)                                # of evenly spaced frequencies
        reach = max(_REACH, _REACH_BINS * spacing)
        near = slice(*np.searchsorted(where, (place - reach, place + reach)))
        offset, modes = where[near] - place, weights[near]
        if offset.size < _FEWEST:
            return place, math.inf
        signal = np.exp(np.clip(-slope * offset, -30.0, 30.0))
        noise = 1.0 + 2.0 * signal                                    # variance of a power, times its modes
        spread = noise / modes + np.square(_SCATTER * signal)
        miss = ratio[near] - 1.0 - signal
        gain = np.square(1.0 - np.square(offset / reach)) / spread
        gain /= np.maximum(np.abs(miss) / (_OUTLIER * np.sqrt(spread)), 1.0)
        by_place, by_slope = slope * signal, -offset * signal
        score_place, score_slope = gain * by_place, gain * by_slope
        a, b, c = score_place @ by_place, score_place @ by_slope, score_slope @ by_slope
        determinant = a * c - b * b
        if not determinant > 1e-12 * a * c:
            return place, math.inf
        influence = (c * score_place - b * score_slope) / determinant   # of each value on the place
        moved = min(max(float(influence @ miss), -0.2), 0.2)
        place += moved
        turned = float((a * score_slope - b * score_place) @ miss / determinant)
        slope = min(max(slope + turned, 0.5 * slope), 2.0 * slope)
        if abs(moved) < _SETTLED:
            break
    variance = float(np.square(influence) @ (noise / modes))
    return place, math.sqrt(variance + (floor_error * float(influence @ (1.0 + signal))) ** 2)
