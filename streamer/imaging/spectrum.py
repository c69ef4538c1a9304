"""Power spectrum of a frame in polar bins, free of photon noise: what the blur estimate works on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from streamer.errors import FrameError
from streamer.imaging.arrays import Same, medians
from streamer.records import FloatArray

RINGS = 24
SECTORS = 12
LOWEST = 0.012
HIGHEST = 0.30
"""Limits of the rings in cycles per pixel; beyond, photon noise hides the structure of usual exposures."""
SMALLEST_PX = 32
"""Frames with a shorter side have too few modes."""

_TAPER = 0.25            # share of the side that the Tukey window tapers, both ends together
_NOISE_FREQUENCY = 0.5   # cycles per pixel; the corners of the spectrum beyond hold noise only
_NOISE_MODES = 16384     # enough for a noise floor good to 1 %
_AXIS_MODES = 2          # lines of the spectrum at either axis where full dead rows and hot columns pile up
_KEPT_PX = 1 << 20       # of larger frames fewer modes are kept: they have enough of them
_CUT_BINS = 64           # of a directional spectrum
_CUT_ANGLE_DEG = 10.0    # that a directional spectrum looks to either side...
_CUT_LINES = 8           # ...or so many lines of the spectrum, where these are wider
_CELLS = 64              # of the picture of the spectrum, from -0.5 to 0.5 cycles/px
_CELL_MODES = 16         # looked at in each cell

ComplexArray = NDArray[np.complex64]


@dataclass(frozen=True, eq=False, slots=True)
class PolarPower:
    """Noise-free power of one frame in polar bins.

    Power is per Fourier mode and in units of the squared mean brightness, scaled so that white noise of
    relative variance ``v`` per pixel has the power ``v`` whatever the frame size.
    """

    power: FloatArray
    """(24, 12): ring from low to high frequency, sector; the noise floor is subtracted, so it may be negative."""
    counts: FloatArray
    """(24, 12) independent Fourier modes per bin."""
    floor: float
    """Power of the white noise; 1 / photons per pixel in the ideal case."""
    shape: tuple[int, int]
    """Size that was transformed."""


class NoiseShape(NamedTuple):
    """Power of the detector's noise relative to that beyond 0.5 cycles/px; all ones when it is white."""

    bins: FloatArray
    """(24, 12)."""
    horizontal: FloatArray
    """(n,)."""
    vertical: FloatArray
    """(n,)."""


@dataclass(frozen=True, eq=False, slots=True)
class Spectrum:
    """All that is kept of the Fourier transform of one frame."""

    power: PolarPower
    modes: ComplexArray
    """(2 r + 1, c) Fourier modes up to 0.30 cycles/px, in large frames less far, in the order of `scipy.fft.rfft2`;
    their squared modulus has the unit of the power."""
    horizontal: FloatArray
    """(n,) power along x, noise included, at the frequencies of `frequencies`."""
    vertical: FloatArray
    """(n,) power along y."""
    cut_counts: tuple[FloatArray, FloatArray]
    """Independent modes in each value of `horizontal` and `vertical`."""
    picture: FloatArray
    """(K, K / 2) power from fy = -0.5 to 0.5 (down) and fx = 0 to 0.5 cycles/px, noise included; the other half
    mirrors it."""


class PolarBins(NamedTuple):
    """Which Fourier modes belong to which bin, for one frame size."""

    window_y: FloatArray
    window_x: FloatArray
    scale: float
    """Sum of the squared window."""
    reach: tuple[int, int]
    """Modes up to `HIGHEST` along fy (to either side) and fx."""
    modes: Groups
    """Of these by ring and sector."""
    kept_reach: tuple[int, int]
    """The same for the modes that are kept in `Spectrum.modes`."""
    kept: Groups
    counts: FloatArray
    """(24, 12)."""
    noise_modes: NDArray[np.intp]
    """Flat indices into the half plane, as are those of the groups below."""
    horizontal: Groups
    vertical: Groups
    cells: Groups
    side: int
    """Cells along fy."""


class Groups(NamedTuple):
    """Modes sorted into groups."""

    modes: NDArray[np.intp]
    """Flat indices, sorted by group."""
    starts: NDArray[np.intp]
    """Where the groups that have modes begin in `modes`."""
    filled: NDArray[np.intp]
    """Numbers of the groups that have modes."""
    counts: FloatArray
    """(groups,)."""

    def sums(self, values: FloatArray) -> FloatArray:
        """Add up the values of each group, (groups,); 0 where it has none."""
        total = np.zeros(self.counts.size, np.float32)
        if self.filled.size:
            total[self.filled] = np.add.reduceat(values, self.starts)
        return total

    def means(self, transform: ComplexArray) -> FloatArray:
        """Average the squared modulus of the modes of each group, (groups,)."""
        total = self.sums(_squared(transform.ravel()[self.modes]))
        return np.divide(total, self.counts, out=total, where=self.counts > 0)


def polar_power(image: FloatArray, weight: FloatArray | None = None) -> PolarPower:
    """Measure the power of an image in 24 rings and 12 sectors; see `measure_spectrum`."""
    return measure_spectrum(image, weight).power


def measure_spectrum(
    image: FloatArray, weight: FloatArray | None = None, noise: NoiseShape | None = None
) -> Spectrum:
    """Transform an image and measure its power: in 24 rings and 12 sectors without the noise, and for display.

    The frame is cropped about its centre to sides that are products of 2, 3 and 5, freed of its mean and
    tapered by a Tukey(0.25) window. The noise floor is the median power of the corners beyond 0.5 cycles/px,
    divided by ln 2. Modes next to either axis are left out: rows and columns of the detector live there.

    Parameters
    ----------
    image : (M, N) float32 array
        Corrected intensity (not its logarithm: blur is linear in intensity), finite.
    weight : (M, N) float32 array, optional
        Expected photons, 1 = brightest (`Correction.weight`). Contrast is multiplied by it, which gives back
        the white noise of the raw counts and lets dark corners fade out instead of ending at an edge.
    noise : NoiseShape, optional
        How the power of the noise falls or rises with frequency; white without it.

    Returns
    -------
    Spectrum

    Raises
    ------
    FrameError
        If a side is shorter than 32 px, or `weight` has another shape.
    """
    if image.ndim != 2 or min(image.shape) < SMALLEST_PX:
        raise FrameError(f"frame of {image.shape} px is too small for a power spectrum; "
                         f"expected at least {SMALLEST_PX} px on either side")
    if weight is not None and weight.shape != image.shape:
        raise FrameError(f"frame has shape {image.shape}, its weight {weight.shape}; expected the same")
    rows, columns = fast_size(image.shape[0]), fast_size(image.shape[1])
    bins, window = polar_bins(rows, columns), _middle(image.shape)
    work, mean, scale = _contrast(image[window], bins) if weight is None else (
        _weighted_contrast(image[window], weight[window], _light(Same(weight))))
    work *= (bins.window_y / np.float32(_brightness(image[window], mean) * np.sqrt(scale)))[:, None]
    work *= bins.window_x
    transform: ComplexArray = scipy.fft.rfft2(work, overwrite_x=True)
    floor = float(medians(_squared(transform.ravel()[bins.noise_modes]))) / float(np.log(2.0))
    modes = _low(transform, bins.reach)
    power = bins.modes.means(modes).reshape(RINGS, SECTORS)
    inside = bins.counts > 0
    power[inside] -= np.float32(floor) * (1.0 if noise is None else noise.bins[inside])
    return Spectrum(
        PolarPower(power, bins.counts, floor, (rows, columns)),
        modes if bins.kept_reach == bins.reach else _low(transform, bins.kept_reach),
        bins.horizontal.means(transform), bins.vertical.means(transform),
        (bins.horizontal.counts, bins.vertical.counts),
        bins.cells.means(transform).reshape(bins.side, -1))


def _squared(modes: ComplexArray) -> FloatArray:
    """Squared modulus, without the square root that `abs` takes."""
    power: FloatArray = np.square(modes.real)
    power += np.square(modes.imag)
    return power


def _low(plane: NDArray[Any], reach: tuple[int, int]) -> NDArray[Any]:
    """Cut the low frequencies out of the half plane."""
    up, across = reach
    return np.concatenate([plane[:up + 1, :across], plane[-up:, :across]])


def _reach(rows: int, columns: int, frequency: float) -> tuple[int, int]:
    return min(int(frequency * rows), (rows - 1) // 2), int(frequency * columns) + 1


def _contrast(crop: FloatArray, bins: PolarBins) -> tuple[FloatArray, float, float]:
    """Difference to the mean, the mean, and the scale of the power."""
    mean = cv2.mean(crop)[0]
    return np.subtract(crop, mean, dtype=np.float32), mean, bins.scale


class _Light(NamedTuple):
    """What is the same for all frames of one weight."""

    total: float
    scale: float
    """Sum of the squared window times the weight."""


@lru_cache(maxsize=4)   # the weight stays the same array until the next flat
def _light(weight: Same) -> _Light:
    shape = weight.array.shape
    rows, columns = fast_size(shape[0]), fast_size(shape[1])
    bins, lit = polar_bins(rows, columns), weight.array[_middle(shape)]
    square_y, square_x = np.square(bins.window_y), np.square(bins.window_x)
    return _Light(max(float(lit.sum(dtype=np.float64)), 1e-30), max(float(square_y @ lit @ square_x), 1e-30))


def _weighted_contrast(crop: FloatArray, weight: FloatArray, light: _Light) -> tuple[FloatArray, float, float]:
    """Return the same for unevenly lit frames; noise of variance ``v / weight`` has the power ``v``."""
    work = np.multiply(crop, weight)
    mean = cv2.sumElems(work)[0] / light.total
    work -= np.multiply(weight, np.float32(mean))
    return work, mean, light.scale


def noise_statistics(shape: tuple[int, ...], weight: FloatArray | None = None) -> tuple[float, int]:
    """How well the noise of a frame of this shape is known.

    Returns
    -------
    overlap : float
        Factor by which window and weight correlate neighbouring modes: a mean over n modes of white noise has the
        relative variance ``overlap / n``.
    floor_modes : int
        Modes behind the noise floor.
    """
    rows, columns = fast_size(shape[0]), fast_size(shape[1])
    bins = polar_bins(rows, columns)
    square_y, square_x = np.square(bins.window_y), np.square(bins.window_x)
    if weight is None:
        whole, squared = bins.scale, float(np.square(square_y).sum() * np.square(square_x).sum())
    else:
        crop = weight[_middle(shape)]
        whole = float(square_y @ crop @ square_x)
        squared = float(np.square(square_y) @ np.square(crop) @ np.square(square_x))
    return rows * columns * squared / max(whole, 1e-30) ** 2, bins.noise_modes.size


def frequencies(count: int) -> FloatArray:
    """Frequencies in cycles/px of a directional spectrum of `count` values: the middles of its bins."""
    return ((np.arange(count) + 0.5) * (0.5 / count)).astype(np.float32)


@lru_cache(maxsize=256)
def fast_size(size: int) -> int:
    """Largest product of 2, 3 and 5 that is not larger than `size` (654 hides the prime 109)."""
    while size > 1 and scipy.fft.next_fast_len(size, real=True) != size:
        size -= 1
    return size


def _middle(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the part of a frame that is transformed."""
    rows, columns = fast_size(shape[0]), fast_size(shape[1])
    top, left = (shape[0] - rows) // 2, (shape[1] - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


@lru_cache(maxsize=8)
def polar_bins(rows: int, columns: int) -> PolarBins:
    """Lay out the bins for frames of `rows` x `columns` px."""
    fy = np.asarray(np.fft.fftfreq(rows), np.float64)[:, None]
    fx = np.asarray(np.fft.rfftfreq(columns), np.float64)[None, :]
    off_axis = (np.abs(fy) > (_AXIS_MODES + 0.5) / rows) & (fx > (_AXIS_MODES + 0.5) / columns)
    noise = np.flatnonzero(off_axis & (np.hypot(fy, fx) > _NOISE_FREQUENCY))
    plane = np.broadcast_arrays(fy, fx, off_axis)
    reach = _reach(rows, columns, HIGHEST)
    polar = _polar_groups(*(_low(part, reach) for part in plane))
    kept_reach = _reach(rows, columns, HIGHEST * min(1.0, (_KEPT_PX / (rows * columns)) ** 0.5))
    kept = polar if kept_reach == reach else _polar_groups(*(_low(part, kept_reach) for part in plane))
    cuts = min(_CUT_BINS, min(rows, columns) // 8)
    side = _CELLS if min(rows, columns) >= 2 * _CELLS else _CELLS // 2
    cell = np.minimum((fy + 0.5) * side, side - 1).astype(np.intp) * (side // 2) + np.minimum(
        fx * side, side // 2 - 1).astype(np.intp)
    window_y, window_x = _tukey(rows), _tukey(columns)
    return PolarBins(
        window_y=window_y, window_x=window_x,
        scale=float(np.square(window_y, dtype=np.float64).sum() * np.square(window_x, dtype=np.float64).sum()),
        reach=reach, modes=polar, counts=polar.counts.reshape(RINGS, SECTORS),
        kept_reach=kept_reach, kept=kept,
        noise_modes=noise[:: max(1, noise.size // _NOISE_MODES)],
        horizontal=_cut_groups(fx, np.abs(fy), rows, off_axis, cuts),
        vertical=_cut_groups(np.abs(fy), fx, columns, off_axis, cuts),
        cells=_thinned(_groups(cell, np.ones_like(off_axis), side * (side // 2)), _CELL_MODES), side=side)


def _polar_groups(fy: NDArray[np.float64], fx: NDArray[np.float64], off_axis: NDArray[np.bool_]) -> Groups:
    ring = np.floor((np.hypot(fy, fx) - LOWEST) / (HIGHEST - LOWEST) * RINGS).astype(np.intp)
    sector = np.floor((np.arctan2(fy, fx) / np.pi + 0.5) * SECTORS).astype(np.intp) % SECTORS
    return _groups(ring * SECTORS + sector, off_axis & (ring >= 0) & (ring < RINGS), RINGS * SECTORS)


def _cut_groups(
    along: NDArray[np.float64], across: NDArray[np.float64], lines: int, off_axis: NDArray[np.bool_], count: int
) -> Groups:
    """Modes about an axis by their frequency along it."""
    width = np.maximum(np.tan(np.radians(_CUT_ANGLE_DEG)) * along, (_CUT_LINES + 0.5) / lines)
    label = np.minimum(np.floor(along * 2 * count), count - 1).astype(np.intp)
    return _groups(np.broadcast_to(label, off_axis.shape), off_axis & (across < width), count)


def _groups(label: NDArray[np.intp], inside: NDArray[np.bool_], count: int) -> Groups:
    chosen = label[inside]
    order = np.argsort(chosen, kind="stable")
    counts = np.bincount(chosen, minlength=count)
    filled = np.flatnonzero(counts)
    return Groups(np.flatnonzero(inside)[order], np.searchsorted(chosen[order], filled), filled,
                  counts.astype(np.float32))


def _thinned(groups: Groups, most: int) -> Groups:
    """Keep at most so many modes of every group, evenly spread."""
    counts = groups.counts[groups.filled].astype(np.intp)
    rank = np.arange(groups.modes.size) - np.repeat(groups.starts, counts)
    kept = rank % np.repeat(-(-counts // most), counts) == 0
    label = np.repeat(groups.filled, counts)[kept]
    thin = np.bincount(label, minlength=groups.counts.size)
    return Groups(groups.modes[kept], np.searchsorted(label, groups.filled), groups.filled, thin.astype(np.float32))


def bin_frequencies(nodes: int, depth: int = 1) -> NDArray[np.float64]:
    """Places in every bin that stand for its modes.

    The power of structure falls about like ``f^-3``, so a bin speaks for its inner edge: with the density of
    modes, which grows like ``f``, the mean of ``f^2`` over a ring from `a` to `b` is ``a b``.

    Parameters
    ----------
    nodes : int
        Places side by side along the ring.
    depth : int
        Places from its inner to its outer edge, each for the same share of the power.

    Returns
    -------
    (24, 12, nodes * depth, 3) float64 array
        fy^2, fy fx and fx^2 in (cycles/px)^2.
    """
    edges = LOWEST + np.arange(RINGS + 1) * (HIGHEST - LOWEST) / RINGS
    inner, outer = 1 / edges[:-1, None], 1 / edges[1:, None]
    square = edges[:-1, None] * edges[1:, None] if depth == 1 else (
        inner - (np.arange(depth) + 0.5) / depth * (inner - outer)) ** -2
    square = square[:, None, :, None]
    turn = (np.arange(SECTORS * nodes) + 0.5) / (SECTORS * nodes) * np.pi - np.pi / 2
    sine, cosine = (each.reshape(1, SECTORS, 1, nodes) for each in (np.sin(turn), np.cos(turn)))
    places = np.stack([square * sine**2, square * sine * cosine, square * cosine**2], axis=-1)
    return places.reshape(RINGS, SECTORS, nodes * depth, 3)


def _brightness(crop: FloatArray, mean: float) -> float:
    """Return the mean, or the root mean square of frames without one: the unit of relative contrast."""
    spread = float(np.sqrt(np.mean(np.square(crop[::4, ::4], dtype=np.float64))))
    return mean if abs(mean) > 1e-3 * spread else spread or 1.0


def _tukey(size: int) -> FloatArray:
    taper = max(int(_TAPER * (size - 1) / 2), 1)
    window = np.ones(size, np.float32)
    edge = 0.5 * (1.0 - np.cos(np.pi * np.arange(taper) / taper))
    window[:taper] = edge
    window[-taper:] = edge[::-1]
    return window
