"""How much to smooth before shifts are measured."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from streamer.records import FloatArray

SIGMAS_PX = (1.2, 1.5, 1.9, 2.4, 3.0)
"""Least: what the sampling of the Gaussian and of fine fixed patterns asks for. Largest: what a tile can hold."""
RINGS = 96


class _Plane(NamedTuple):
    """What is the same for all frames of one shape."""

    window: FloatArray
    """(M, N) Hann."""
    ring: NDArray[np.intp]
    """(M (N // 2 + 1),) of each mode."""
    modes: NDArray[np.intp]
    """(RINGS,) how many there are."""
    scale: float
    """Sum of the squared window."""


def best_smoothing(contrast: FloatArray, noise: float) -> float:
    """Return the sigma of the Gaussian, in px, with which two frames like this one tell their shift best.

    With a power S of the structure and N of the noise per mode, both frames filtered by G, the variance of the shift
    is that of sum(G^2 f^2 (2 S N + N^2)) over the square of sum(G f^2 S).

    Parameters
    ----------
    contrast : (M, N) float32
        Reference about 0.
    noise : float
        Variance of its white noise per pixel.
    """
    rows, columns = (fft.next_fast_len(int(0.95 * size), real=True) for size in contrast.shape)
    crop = contrast[:rows, :columns]
    window, ring, count, scale = _plane(*crop.shape)
    tapered = crop - crop.mean()
    tapered *= window
    power = np.abs(fft.rfft2(tapered))
    power *= power
    total = np.bincount(ring, weights=power.ravel(), minlength=RINGS + 1)[:RINGS]
    level = noise * scale
    structure = np.maximum(total / np.maximum(count, 1) - level, 0.0)
    squared = np.square((np.arange(RINGS) + 0.5) / (2 * RINGS))
    modes = count * squared
    filters = np.exp(-4.0 * np.pi**2 * np.square(SIGMAS_PX)[:, None] * squared)   # on the frame and on the reference
    told = (filters * (modes * structure)).sum(axis=1)
    spread = (np.square(filters) * (modes * (2.0 * structure * level + level**2))).sum(axis=1)
    return SIGMAS_PX[int(np.argmin(spread / np.maximum(np.square(told), 1e-30)))]


@lru_cache(maxsize=4)
def _plane(rows: int, columns: int) -> _Plane:
    window = np.hanning(rows).astype(np.float32)[:, None] * np.hanning(columns).astype(np.float32)
    radius = np.hypot(fft.fftfreq(rows)[:, None], fft.rfftfreq(columns)[None, :])
    ring = np.minimum((radius * (2 * RINGS)).astype(np.intp), RINGS).ravel()
    return _Plane(window, ring, np.bincount(ring, minlength=RINGS + 1)[:RINGS], float(np.square(window).sum()))
