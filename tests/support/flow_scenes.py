"""Particle scenes with a known displacement, made with exact B-splines and seeded photons."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]


class Pair(NamedTuple):
    """Reference and frame, and where the material went."""

    reference: NDArray[np.float32]
    frame: NDArray[np.float32]
    truth_px: Array
    """(2, M, N) total displacement, drift included, at the pixels of the reference."""
    particles: NDArray[np.bool_]
    """(M, N) where the reference shows material."""


def particles(shape: tuple[int, int], seed: int, *, radius_px: tuple[float, float] = (8.0, 22.0),
              coverage: float = 0.9) -> Array:
    """Draw the absorbance of overlapping grainy spheres, band-limited to about 1 px."""
    rng = np.random.default_rng(seed)
    rows, columns = shape
    grain = ndimage.gaussian_filter(rng.standard_normal(shape), 1.3)
    grain += 2.0 * ndimage.gaussian_filter(rng.standard_normal(shape), 3.5)
    grain /= grain.std()
    absorbance = np.zeros(shape)
    mean_area = np.pi * np.mean(np.square(radius_px))
    for _ in range(int(coverage * rows * columns / mean_area)):
        radius = rng.uniform(*radius_px)
        cy, cx = rng.uniform(0, rows), rng.uniform(0, columns)
        y0, y1 = max(int(cy - radius - 1), 0), min(int(cy + radius + 2), rows)
        x0, x1 = max(int(cx - radius - 1), 0), min(int(cx + radius + 2), columns)
        y, x = np.ogrid[y0:y1, x0:x1]
        chord = np.sqrt(np.clip(1.0 - ((y - cy) ** 2 + (x - cx) ** 2) / radius**2, 0.0, None))
        absorbance[y0:y1, x0:x1] += chord * (0.35 + 0.1 * grain[y0:y1, x0:x1])
    return ndimage.gaussian_filter(absorbance, 1.0)


def smooth_field(shape: tuple[int, int], seed: int, *, amplitude_px: float, scale_px: float) -> Array:
    """Draw a smooth random displacement (2, M, N) of the given rms magnitude and correlation length."""
    rng = np.random.default_rng(seed)
    field = np.stack([ndimage.gaussian_filter(rng.standard_normal(shape), scale_px) for _ in range(2)])
    field -= field.mean(axis=(1, 2), keepdims=True)
    return amplitude_px * field / np.sqrt(np.mean(np.sum(field**2, axis=0)))


def warp(absorbance: Array, total_px: Array) -> Array:
    """Move material: what is at x in the reference is at x + total(x) in the result.

    The inverse map is solved by fixed-point iteration, the images are quintic B-splines.
    """
    y, x = np.indices(absorbance.shape, dtype=float)
    inverse = -total_px
    for _ in range(15):
        inverse = -np.stack([ndimage.map_coordinates(component, (y + inverse[0], x + inverse[1]), order=1,
                                                     mode="nearest") for component in total_px])
    return ndimage.map_coordinates(absorbance, (y + inverse[0], x + inverse[1]), order=5, mode="reflect")


def photons(absorbance: Array, dose: float, seed: int) -> NDArray[np.float32]:
    """Expose at `dose` photons per open pixel; an infinite dose gives the transmission without noise."""
    transmission = np.exp(-absorbance)
    if not np.isfinite(dose):
        return transmission.astype(np.float32)
    rng = np.random.default_rng(seed)
    return (rng.poisson(dose * transmission) / dose).astype(np.float32)


def pair(shape: tuple[int, int] = (180, 300), *, seed: int, dose: float = 500.0, amplitude_px: float = 0.0,
         scale_px: float = 30.0, drift_px: tuple[float, float] = (0.0, 0.0), margin_px: int = 32,
         coverage: float = 0.9, noise: int = 0) -> Pair:
    """Make a pair that sees `margin_px` more than its frame, so that material comes in from outside.

    `noise` numbers the exposures of the same scene.
    """
    large = (shape[0] + 2 * margin_px, shape[1] + 2 * margin_px)
    absorbance = particles(large, seed, coverage=coverage)
    total = np.zeros((2, *large)) + np.reshape(drift_px, (2, 1, 1))
    if amplitude_px:
        total += smooth_field(large, seed + 1, amplitude_px=amplitude_px, scale_px=scale_px)
    moved = warp(absorbance, total) if total.any() else absorbance
    inner = (slice(margin_px, margin_px + shape[0]), slice(margin_px, margin_px + shape[1]))
    return Pair(photons(absorbance[inner], dose, seed + 2), photons(moved[inner], dose, seed + 3 + 1000 * noise),
                total[:, *inner], absorbance[inner] > 0.1)
