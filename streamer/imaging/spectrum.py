"""Power spectrum of a frame in polar bins, free of photon noise: what the blur estimate works on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from streamer.errors import FrameError
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
_NOISE_MODES = 32768     # enough for a noise floor good to 1 %
_AXIS_MODES = 2          # lines of the spectrum at either axis where full dead rows and hot columns pile up
_CUT_MODES = 8           # lines averaged into a directional spectrum


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
    horizontal: FloatArray
    """(n,) power along x (fx from 0 to 0.5 cycles/px), floor included: what the eye is shown."""
    vertical: FloatArray
    """(m,) power along y."""


class PolarBins(NamedTuple):
    """Which Fourier modes belong to which bin, for one frame size."""

    window_y: FloatArray
    window_x: FloatArray
    scale: float
    """Sum of the squared window."""
    modes: NDArray[np.intp]
    """Flat indices into the half plane, sorted by bin."""
    starts: NDArray[np.intp]
    """Where the bins that have modes begin in `modes`."""
    filled: NDArray[np.intp]
    """Numbers of the bins that have modes."""
    counts: FloatArray
    """(24, 12)."""
    noise_modes: NDArray[np.intp]


def polar_power(image: FloatArray, weight: FloatArray | None = None) -> PolarPower:
    """Measure the power of an image in 24 rings and 12 sectors, without the white noise.

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

    Returns
    -------
    PolarPower

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
    bins = polar_bins(rows, columns)
    top, left = (image.shape[0] - rows) // 2, (image.shape[1] - columns) // 2
    window = slice(top, top + rows), slice(left, left + columns)
    work, mean, scale = _contrast(image[window], bins) if weight is None else (
        _weighted_contrast(image[window], weight[window], bins))
    work *= (bins.window_y / np.float32(_brightness(image[window], mean)))[:, None]
    work *= bins.window_x
    transform = scipy.fft.rfft2(work, overwrite_x=True)
    plane = np.square(transform.real)
    plane += np.square(transform.imag)
    unit = np.float32(1.0 / scale)
    flat = plane.ravel()
    floor = float(np.median(flat[bins.noise_modes]) * unit) / float(np.log(2.0))
    power = np.zeros((RINGS, SECTORS), np.float32)
    if bins.filled.size:
        power.ravel()[bins.filled] = np.add.reduceat(flat[bins.modes], bins.starts) * unit
    np.divide(power, bins.counts, out=power, where=bins.counts > 0)
    power[bins.counts > 0] -= np.float32(floor)
    horizontal, vertical = directional_spectra(plane)
    return PolarPower(power, bins.counts, floor, (rows, columns), horizontal * unit, vertical * unit)


def _contrast(crop: FloatArray, bins: PolarBins) -> tuple[FloatArray, float, float]:
    """Difference to the mean, the mean, and the scale of the power."""
    mean = float(crop.mean(dtype=np.float64))
    return np.subtract(crop, mean, dtype=np.float32), mean, bins.scale


def _weighted_contrast(crop: FloatArray, weight: FloatArray, bins: PolarBins) -> tuple[FloatArray, float, float]:
    """Return the same for unevenly lit frames; noise of variance ``v / weight`` has the power ``v``."""
    work = np.multiply(crop, weight)
    total = float(weight.sum(dtype=np.float64))
    mean = float(work.sum(dtype=np.float64)) / max(total, 1e-30)
    work -= np.multiply(weight, np.float32(mean))
    square_y, square_x = np.square(bins.window_y), np.square(bins.window_x)
    return work, mean, max(float(square_y @ weight @ square_x), 1e-30)


def directional_spectra(plane: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Average the power along x and along y over the lines next to the axis.

    Parameters
    ----------
    plane : (M, N // 2 + 1) float32 array
        Squared modulus of `scipy.fft.rfft2`.

    Returns
    -------
    horizontal : (N // 2 + 1,) float32 array
        Power against fx, from 0 to 0.5 cycles/px.
    vertical : (M // 2 + 1,) float32 array
        Power against fy.
    """
    lines = min(_CUT_MODES, plane.shape[0] // 4, plane.shape[1] // 2)
    horizontal = (plane[:lines + 1].sum(0) + plane[-lines:].sum(0)) / (2 * lines + 1)
    half = plane.shape[0] // 2 + 1
    down = plane[:, :lines + 1].mean(1)
    up = np.roll(down[::-1], 1)   # the same lines at negative fy
    return horizontal, 0.5 * (down + up)[:half]


def frequencies(count: int) -> FloatArray:
    """Frequencies in cycles/px of a directional spectrum of `count` values."""
    return np.linspace(0.0, 0.5, count, dtype=np.float32)


@lru_cache(maxsize=256)
def fast_size(size: int) -> int:
    """Largest product of 2, 3 and 5 that is not larger than `size` (654 hides the prime 109)."""
    while size > 1 and scipy.fft.next_fast_len(size, real=True) != size:
        size -= 1
    return size


@lru_cache(maxsize=8)
def polar_bins(rows: int, columns: int) -> PolarBins:
    """Lay out the bins for frames of `rows` x `columns` px."""
    fy = np.asarray(np.fft.fftfreq(rows), np.float64)[:, None]
    fx = np.asarray(np.fft.rfftfreq(columns), np.float64)[None, :]
    radius = np.hypot(fy, fx)
    ring = np.floor((radius - LOWEST) / (HIGHEST - LOWEST) * RINGS).astype(np.intp)
    sector = np.floor((np.arctan2(fy, fx) / np.pi + 0.5) * SECTORS).astype(np.intp) % SECTORS
    off_axis = (np.abs(fy) > (_AXIS_MODES + 0.5) / rows) & (fx > (_AXIS_MODES + 0.5) / columns)
    inside = off_axis & (ring >= 0) & (ring < RINGS)
    label = (ring * SECTORS + sector)[inside]
    order = np.argsort(label, kind="stable")
    modes = np.flatnonzero(inside)[order]
    label = label[order]
    counts = np.bincount(label, minlength=RINGS * SECTORS)
    filled = np.flatnonzero(counts)
    starts = np.searchsorted(label, filled)
    noise = np.flatnonzero(off_axis & (radius > _NOISE_FREQUENCY))
    noise = noise[:: max(1, noise.size // _NOISE_MODES)]
    window_y, window_x = _tukey(rows), _tukey(columns)
    return PolarBins(
        window_y=window_y, window_x=window_x,
        scale=float(np.square(window_y, dtype=np.float64).sum() * np.square(window_x, dtype=np.float64).sum()),
        modes=modes, starts=starts, filled=filled,
        counts=counts.reshape(RINGS, SECTORS).astype(np.float32), noise_modes=noise)


def bin_frequencies(nodes: int) -> NDArray[np.float64]:
    """Places in every bin that stand for its modes.

    The power of structure falls about like ``f^-3``, so a bin speaks for its inner edge: with the density of
    modes, which grows like ``f``, the mean of ``f^2`` over a ring from `a` to `b` is ``a b``.

    Parameters
    ----------
    nodes : int
        Places side by side along the ring.

    Returns
    -------
    (24, 12, nodes, 3) float64 array
        fy^2, fy fx and fx^2 in (cycles/px)^2.
    """
    edges = LOWEST + np.arange(RINGS + 1) * (HIGHEST - LOWEST) / RINGS
    square = (edges[:-1] * edges[1:])[:, None, None]
    turn = (np.arange(SECTORS * nodes) + 0.5) / (SECTORS * nodes) * np.pi - np.pi / 2
    sine, cosine = np.sin(turn).reshape(SECTORS, nodes), np.cos(turn).reshape(SECTORS, nodes)
    return np.stack([square * sine**2, square * sine * cosine, square * cosine**2], axis=-1)


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
