"""How the sample deforms: smooth displacement fields known at any point, and their exact inversion."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import scipy.interpolate
from numpy.typing import NDArray

from simulator.fields import Shape
from streamer.records import FloatArray

Field = NDArray[np.float64]


class Deformation(Protocol):
    """A displacement field that grows with time; 0 in the reference frame."""

    @property
    def smooth_px(self) -> float:
        """Shortest distance over which the field may be interpolated by cubics, in pixels."""

    def displacement(self, y: Field, x: Field, progress: float) -> Field:
        """Return (u_y, u_x), shape (2, ...): where material at (y, x) of the reference frame went.

        The rigid drift is not part of it; the mean over the reference frame is 0.
        """

    def regions(self, y: Field, x: Field) -> NDArray[np.int32] | None:
        """Return the number of the coherent region at each point, or None where there are no regions."""


class SmoothDeformation:
    """Swelling, shear and flow of an electrode: a sum of long cosine waves that grow at different times.

    Parameters
    ----------
    shape : (int, int)
        Size of the reference frame in pixels.
    amplitude_px : float
        Largest displacement in the reference frame at the end.
    rng : numpy.random.Generator
        Where the waves come from.
    waves : int
        Number of waves; the shortest is 0.7 of the shorter side long.
    """

    def __init__(self, shape: Shape, *, amplitude_px: float, rng: np.random.Generator, waves: int = 8) -> None:
        self._extent = float(min(shape))
        self._rows, self._columns = (np.linspace(0, size - 1, 33) for size in shape)
        cycles, heading = rng.uniform(0.35, 1.4, waves), rng.uniform(0, 2 * np.pi, waves)
        self._wave = 2 * np.pi / self._extent * cycles * np.stack((np.sin(heading), np.cos(heading)))
        self._phase = rng.uniform(0, 2 * np.pi, waves)
        self._strength = rng.normal(0, 1, (2, waves)) / cycles
        self._onset = rng.uniform(0.7, 1.6, waves)
        self._scale = 1.0
        y, x = np.meshgrid(self._rows, self._columns, indexing="ij")
        self._scale = amplitude_px / float(np.hypot(*self.displacement(y, x, 1.0)).max())

    @property
    def smooth_px(self) -> float:
        """A twentieth of the shortest wave."""
        return max(2.0, self._extent / 28.0)

    def displacement(self, y: Field, x: Field, progress: float) -> Field:
        """See `Deformation.displacement`."""
        grid_y, grid_x = np.meshgrid(self._rows, self._columns, indexing="ij")
        mean = self._waves(grid_y, grid_x, progress).mean(axis=(1, 2))
        return np.asarray(self._waves(y, x, progress) - mean.reshape((2,) + (1,) * y.ndim))

    def regions(self, y: Field, x: Field) -> None:
        """There are none: the field is continuous."""

    def _waves(self, y: Field, x: Field, progress: float) -> Field:
        field = np.zeros((2, *y.shape))
        growth = self._scale * max(progress, 0.0) ** self._onset
        for wave_y, wave_x, phase, strength in zip(*self._wave, self._phase, (self._strength * growth).T, strict=True):
            field += strength.reshape((2,) + (1,) * y.ndim) * np.cos(wave_y * y + wave_x * x + phase)
        return field


class PlateDeformation:
    """Coherent plates that drift and turn against each other, with narrow sheared seams ("plate tectonics").

    Parameters
    ----------
    shape : (int, int)
        Size of the reference frame in pixels.
    amplitude_px : float
        Largest displacement in the reference frame at the end, about.
    rng : numpy.random.Generator
        Where plates and motions come from.
    plates : int
        Number of plates.
    seam_px : float
        Width of the seams over which one motion turns into the other; must exceed the difference of the motions,
        or the sample would fold.
    """

    def __init__(
        self, shape: Shape, *, amplitude_px: float, rng: np.random.Generator, plates: int = 5, seam_px: float = 24.0
    ) -> None:
        self._rows, self._columns = (np.arange(0, size, 6.0) for size in shape)
        self._seam_px = seam_px
        self._centres = _spread_points(shape, plates, rng)
        heading = rng.uniform(0, 2 * np.pi) + 2 * np.pi * rng.permutation(plates) / plates
        pace = rng.uniform(0.55, 1.0, plates)
        self._motion = np.stack((-np.sin(heading), np.cos(heading))) * pace
        self._turn = rng.normal(0, 0.25, plates) / max(shape)
        self._onset = rng.uniform(0.8, 1.4, plates)
        self._scale = 1.0
        y, x = np.meshgrid(self._rows, self._columns, indexing="ij")
        self._scale = amplitude_px / float(np.hypot(*self.displacement(y, x, 1.0)).max())

    @property
    def smooth_px(self) -> float:
        """An eighth of a seam."""
        return self._seam_px / 8

    def displacement(self, y: Field, x: Field, progress: float) -> Field:
        """See `Deformation.displacement`."""
        grid_y, grid_x = np.meshgrid(self._rows, self._columns, indexing="ij")
        mean = self._plates(grid_y, grid_x, progress).mean(axis=(1, 2))
        return np.asarray(self._plates(y, x, progress) - mean.reshape((2,) + (1,) * y.ndim))

    def regions(self, y: Field, x: Field) -> NDArray[np.int32]:
        """Return the number of the plate, from 0."""
        return np.asarray(np.argmax(self._belonging(y, x), axis=0), np.int32)

    def _belonging(self, y: Field, x: Field) -> Field:
        """Share of each plate at each point, (plates, ...): a soft Voronoi partition with seams of equal width."""
        # Rounded at the centres, where a plain distance has a tip that no spline follows.
        tip = 0.5 * self._seam_px
        distance = np.stack([np.sqrt((y - cy) ** 2 + (x - cx) ** 2 + tip**2) for cy, cx in self._centres])
        weight = np.exp(-2.0 / self._seam_px * (distance - distance.min(axis=0)))
        share: Field = weight / weight.sum(axis=0)
        return share

    def _plates(self, y: Field, x: Field, progress: float) -> Field:
        field = np.zeros((2, *y.shape))
        growth = self._scale * max(progress, 0.0) ** self._onset
        for plate, share in enumerate(self._belonging(y, x)):
            cy, cx = self._centres[plate]
            turn = self._turn[plate]
            field[0] += growth[plate] * share * (self._motion[0, plate] + turn * (x - cx))
            field[1] += growth[plate] * share * (self._motion[1, plate] - turn * (y - cy))
        return field


def source_points(
    deformation: Deformation, rows: FloatArray, columns: FloatArray, *, drift_px: tuple[float, float], progress: float
) -> tuple[FloatArray, FloatArray]:
    """Find which material of the reference frame is seen at each pixel of a frame.

    Solves ``p = q + drift + u(q)`` for q by fixed-point iteration on a coarse grid (the field contracts), then
    interpolates the smooth solution with cubic splines.

    Parameters
    ----------
    deformation : Deformation
        The field u.
    rows, columns : ndarray, (M,) and (N,)
        Pixels p of the frame.
    drift_px : (float, float)
        Rigid drift of the frame.
    progress : float
        How far the deformation has grown, 0 to 1.

    Returns
    -------
    y, x : ndarray, (M, N) float32
        Points q in pixels of the reference frame.
    """
    knots = [_knots(axis, deformation.smooth_px) for axis in (rows, columns)]
    y, x = np.meshgrid(knots[0] - drift_px[0], knots[1] - drift_px[1], indexing="ij")
    moved = np.zeros((2, *y.shape))
    for _ in range(60):
        previous = moved
        moved = deformation.displacement(y - moved[0], x - moved[1], progress)
        if np.abs(moved - previous).max() < 1e-4:
            break
    along_y = _cubic(knots[0], rows)
    along_x = _cubic(knots[1], columns)
    dense = along_y @ moved.astype(np.float32) @ along_x.T
    source_y: FloatArray = (rows - np.float32(drift_px[0]))[:, None] - dense[0]
    source_x: FloatArray = (columns - np.float32(drift_px[1]))[None, :] - dense[1]
    return source_y, source_x


def _knots(axis: FloatArray, step_px: float) -> Field:
    count = max(4, math.ceil((float(axis[-1]) - float(axis[0])) / step_px) + 1)
    return np.linspace(float(axis[0]), float(axis[-1]), count)


def _cubic(knots: Field, axis: FloatArray) -> FloatArray:
    """Matrix that interpolates values at the knots to the axis by a cubic spline, (len(axis), len(knots))."""
    spline = scipy.interpolate.CubicSpline(knots, np.eye(knots.size))
    matrix: FloatArray = spline(axis.astype(np.float64)).astype(np.float32)
    return matrix


def _spread_points(shape: Shape, count: int, rng: np.random.Generator) -> Field:
    """Draw points that keep away from each other and from the edges (best of many draws)."""
    best, widest = np.zeros((count, 2)), -1.0
    for _ in range(200):
        points = rng.uniform(0.12, 0.88, (count, 2)) * shape
        gaps = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)) + np.eye(count) * 1e9
        if gaps.min() > widest:
            best, widest = points, float(gaps.min())
    return best
