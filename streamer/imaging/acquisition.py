"""Finding the shift of a frame without any prior knowledge: correlation on a binned frame, then proof.

The peaks of a soft-whitened circular correlation are only proposals. Each one, with its wrapped
alternatives, is judged by the normalised correlation of the area that really overlaps, so that neither a
pattern fixed to the detector (a peak at zero) nor the wrap of the transform can win by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from streamer.imaging.arrays import Same
from streamer.records import FloatArray

WORKING_SIDE_PX = 165
"""Short side of the binned frame: fine enough for half a pixel, small enough for 2 ms."""
PEAKS = 6
CHANCE_SIGMAS = 4.0
"""Expected maximum of pure chance over a search area, in standard deviations of the correlation."""
RIVAL_SHARE = 0.6
SOFTNESS = 0.3
BAND_LIMIT = 0.22
"""Width of the Gaussian band in cycles per binned pixel."""
AXIS_SHARE = 0.3
"""What is left of the two frequency axes, where detectors have their row and column pattern."""


@dataclass(frozen=True, eq=False)
class Coarse:
    """A binned frame, ready to be correlated."""

    image: FloatArray
    """(m, n) without the slow part, weighted, mean 0."""
    spectrum: NDArray[np.complex64]
    """(p, q) soft-whitened half spectrum of the tapered image, p and q fast lengths >= m, n."""
    power: FloatArray
    """(p, q) squared modulus before whitening."""
    padded: tuple[int, int]
    binning: int


class Candidate(NamedTuple):
    """One answer to where the content went, in pixels of what was binned."""

    dy: float
    dx: float
    correlation: float
    """Normalised correlation of the overlap, -1 to 1."""
    overlap: float
    """Share of the frame."""
    score: float
    """Lower bound of Fisher's z of the correlation, given how many independent samples overlap."""
    evidence: float
    """How much better the overlap is explained than by chance (log likelihood per sample of a full frame)."""
    spread: float
    """Standard deviation of Fisher's z."""


def binning_for(shape: tuple[int, int]) -> int:
    """Return how many pixels go into one pixel of the binned frame."""
    return max(1, round(min(shape) / WORKING_SIDE_PX))


def coarsen(contrast: FloatArray, trust: FloatArray | None) -> Coarse:
    """Bin a frame and take its spectrum.

    Parameters
    ----------
    contrast : (M, N) float32
        Frame about 0.
    trust : (m, n) float32 or None
        Trust in each pixel of the binned frame, 0 to 1.
    """
    binning = binning_for((contrast.shape[0], contrast.shape[1]))
    return with_spectrum(_without_slow_part(binned(contrast), trust), binning=binning)


def with_spectrum(image: FloatArray, *, binning: int) -> Coarse:
    """Take the spectrum of a frame that is binned and flat already."""
    taper_y, taper_x = _taper(image.shape[0]), _taper(image.shape[1])
    padded = (fft.next_fast_len(image.shape[0], real=True), fft.next_fast_len(image.shape[1], real=True))
    spectrum = fft.rfft2(image * taper_y[:, None] * taper_x[None, :], s=padded)
    modulus = np.abs(spectrum)
    level = float(modulus.mean())
    whitened = spectrum / (modulus + SOFTNESS * level) if level > 0.0 else spectrum
    return Coarse(image, whitened, np.square(modulus), padded, binning)


def candidates(reference: Coarse, moving: Coarse, *, min_overlap: float) -> list[Candidate]:
    """Return the possible shifts of `moving` relative to `reference`, the most credible one first.

    The list is empty when one of the frames has no structure at all.
    """
    product = np.conj(reference.spectrum) * moving.spectrum * _band(reference.padded)
    surface = fft.irfft2(product, s=reference.padded)
    if not float(surface.max()) > 0.0:
        return []
    samples = _independent_samples(reference, moving)
    found: dict[tuple[int, int], Candidate] = {}
    for row, column, part_y, part_x in _peaks(surface):
        for dy in (row, row - reference.padded[0]):
            for dx in (column, column - reference.padded[1]):
                candidate = judge(reference, moving, dy, dx, samples=samples, min_overlap=min_overlap)
                if candidate is not None:
                    found[dy, dx] = candidate._replace(dy=(dy + part_y) * reference.binning,
                                                       dx=(dx + part_x) * reference.binning)
    return sorted(found.values(), key=lambda candidate: (-candidate.evidence, -candidate.score))


def judge(reference: Coarse, moving: Coarse, dy: int, dx: int, *, samples: float | None = None,
          min_overlap: float) -> Candidate | None:
    """Correlate the overlap at a shift of whole binned pixels; None when too little overlaps."""
    rows, columns = reference.image.shape
    height, width = rows - abs(dy), columns - abs(dx)
    if height <= 0 or width <= 0 or height * width < min_overlap * rows * columns:
        return None
    fixed = np.ascontiguousarray(reference.image[max(-dy, 0):max(-dy, 0) + height,
                                                 max(-dx, 0):max(-dx, 0) + width]).ravel()
    moved = np.ascontiguousarray(moving.image[max(dy, 0):max(dy, 0) + height,
                                              max(dx, 0):max(dx, 0) + width]).ravel()
    share = height * width / (rows * columns)
    if samples is None:
        samples = _independent_samples(reference, moving)
    correlation = normalised_correlation(fixed, moved)
    spread = 1.0 / math.sqrt(max(samples * share - 3.0, 1.0))
    score = math.atanh(_bounded(correlation)) - CHANCE_SIGMAS * spread
    return Candidate(float(dy * reference.binning), float(dx * reference.binning), correlation, share,
                     score, share * math.log(math.cosh(max(score, 0.0))), spread)


def normalised_correlation(a: FloatArray, b: FloatArray) -> float:
    """Return Pearson's correlation of two flat arrays, 0 when one of them is constant."""
    count = a.size
    mean_a, mean_b = float(a.sum()) / count, float(b.sum()) / count
    variance_a = float(np.dot(a, a)) / count - mean_a**2
    variance_b = float(np.dot(b, b)) / count - mean_b**2
    if variance_a <= 0.0 or variance_b <= 0.0:
        return 0.0
    return (float(np.dot(a, b)) / count - mean_a * mean_b) / math.sqrt(variance_a * variance_b)


def rival(reference: Coarse, moving: Coarse, ranked: list[Candidate], *, min_overlap: float) -> Candidate | None:
    """Return another answer that explains the overlap as well as the first one, if there is one.

    It must explain a similar share of the frame: a single particle that fits another one does not count.
    Two answers on the slope of one broad correlation hill are the same answer, so the correlation must
    dip half-way between them.
    """
    best, binning = ranked[0], reference.binning
    for other in ranked[1:]:
        tolerance = 3.0 * math.hypot(best.spread, other.spread)
        if math.atanh(_bounded(best.correlation)) - math.atanh(_bounded(other.correlation)) > tolerance:
            continue
        if other.overlap < RIVAL_SHARE * best.overlap:
            continue
        if math.hypot(best.dy - other.dy, best.dx - other.dx) < 3.0 * binning:
            continue
        middle = judge(reference, moving, round((best.dy + other.dy) / 2 / binning),
                       round((best.dx + other.dx) / 2 / binning), min_overlap=min_overlap)
        if middle is None or middle.correlation < 0.8 * min(best.correlation, other.correlation):
            return other
    return None


def _bounded(correlation: float) -> float:
    return min(max(correlation, -0.9999), 0.9999)


def binned(image: FloatArray) -> FloatArray:
    """Return the image at the resolution of `Coarse`."""
    binning = binning_for((image.shape[0], image.shape[1]))
    rows, columns = image.shape[0] // binning, image.shape[1] // binning
    if binning == 1:
        return image
    crop = image[:rows * binning, :columns * binning]
    return np.asarray(cv2.resize(crop, (columns, rows), interpolation=cv2.INTER_AREA))


def _without_slow_part(small: FloatArray, trust: FloatArray | None) -> FloatArray:
    """Subtract what varies slower than a tenth of the frame (illumination) and apply the weights."""
    if trust is None:
        return np.asarray(small - _slow_part(small))
    slow = _slow_part(small * trust) / _slow_trust(Same(trust))
    return np.asarray((small - slow) * trust)


@lru_cache(maxsize=4)   # the trust stays the same array until the next flat
def _slow_trust(trust: Same) -> FloatArray:
    return np.maximum(_slow_part(trust.array), 1e-3)


def _slow_part(small: FloatArray) -> FloatArray:
    rows, columns = small.shape
    grid = (max(columns // 16, 2), max(rows // 16, 2))
    means = cv2.resize(small, grid, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(means, (columns, rows), interpolation=cv2.INTER_CUBIC))


@lru_cache(maxsize=16)
def _taper(size: int) -> FloatArray:
    """Tukey window that falls off over 30 % at either end."""
    edge = max(int(0.3 * size), 1)
    window = np.ones(size, np.float32)
    flank = (0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / edge)).astype(np.float32)
    window[:edge], window[-edge:] = flank, flank[::-1]
    return window


@lru_cache(maxsize=8)
def _band(padded: tuple[int, int]) -> FloatArray:
    """Frequencies that may speak: not the mean, little of the axes, little beyond the band limit."""
    frequency_y, frequency_x = fft.fftfreq(padded[0])[:, None], fft.rfftfreq(padded[1])[None, :]
    squared = frequency_y**2 + frequency_x**2
    slow = 1.0 / min(padded)
    band = np.exp(-squared / (2 * BAND_LIMIT**2)) * (1.0 - np.exp(-squared / (2 * (3 * slow) ** 2)))
    band[0, :] *= AXIS_SHARE
    band[:, 0] *= AXIS_SHARE
    band[0, 0] = 0.0
    return np.asarray(band, np.float32)


def _independent_samples(reference: Coarse, moving: Coarse) -> float:
    """Return how many independent samples a full overlap has (Bartlett's formula on the two spectra)."""
    both = float(np.vdot(reference.power, moving.power))
    if both <= 0.0:
        return 1.0
    filled = reference.image.size / (reference.padded[0] * reference.padded[1])
    return 2.0 * filled * float(reference.power.sum()) * float(moving.power.sum()) / both


def _peaks(surface: FloatArray) -> list[tuple[int, int, float, float]]:
    """Return the highest local maxima (row, column) with their sub-pixel parts, wrapping at the edges."""
    wrapped = cv2.copyMakeBorder(surface, 2, 2, 2, 2, cv2.BORDER_WRAP)
    highest = cv2.dilate(wrapped, np.ones((5, 5), np.uint8))[2:-2, 2:-2]
    places = np.flatnonzero(surface >= highest)
    if places.size > PEAKS:
        places = places[np.argpartition(surface.ravel()[places], -PEAKS)[-PEAKS:]]
    peaks = []
    for place in places:
        row, column = divmod(int(place), surface.shape[1])
        line_y = wrapped[row + 1:row + 4, column + 2]
        line_x = wrapped[row + 2, column + 1:column + 4]
        peaks.append((row, column, _vertex(line_y), _vertex(line_x)))
    return peaks


def _vertex(line: FloatArray) -> float:
    """Return the place of the top of the parabola through three samples, relative to the middle one."""
    before, middle, after = (float(value) for value in line)
    curvature = before - 2.0 * middle + after
    return 0.0 if curvature >= 0.0 else min(max(0.5 * (before - after) / curvature, -0.5), 0.5)
