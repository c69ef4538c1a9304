"""What a displacement field says: how far the sample moved and which way, in histograms and compass sectors.

Directions are degrees, 0 = along +x, counter-clockwise on the screen (y points down), from 0 to 360.
"""

from __future__ import annotations

import cmath
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamer.errors import FrameError
from streamer.imaging.flow import Field
from streamer.records import BoolArray, FloatArray

SHORTEST = 2.0
"""Displacements of less than this many sigma have no direction."""
BINS = 32
SECTORS = 16


class Histogram(NamedTuple):
    """Counts over bins."""

    edges: FloatArray
    """(n + 1,) in px or degrees."""
    counts: NDArray[np.int64]
    """(n,)."""
    mean: float
    """NaN without values, as the rest; of directions the circular mean."""
    median: float
    """NaN for directions."""
    deviation: float
    """Standard deviation; of directions the circular one, sqrt(-2 ln R)."""


class Compass(NamedTuple):
    """Where it goes, by sectors of the compass."""

    edges_deg: FloatArray
    """(n + 1,); the first sector is centred on 0 and its first edge negative."""
    counts: NDArray[np.int64]
    """(n,) points that move into the sector."""
    magnitude_px: FloatArray
    """(n,) their mean magnitude; NaN without points."""
    resultant_px: float
    """Magnitude of the mean displacement of all points, the short ones included."""
    resultant_deg: float
    """Its direction."""
    concentration: float
    """R, the length of the mean of the unit vectors: 0 in all directions, 1 in one."""
    undirected: int
    """Points too short, against their error, to have a direction."""


class Summary(NamedTuple):
    """Statistics of the valid points of a field, in px."""

    points: int
    mean_px: FloatArray
    """(2,) mean displacement (y, x)."""
    median_magnitude_px: float
    p95_magnitude_px: float
    rms_magnitude_px: float
    rms_sigma_px: float
    """Of the predicted error of a magnitude, both components: what zero motion would show."""


def amplitudes(field: Field, *, bins: int | ArrayLike = BINS, mask: NDArray[np.bool_] | None = None) -> Histogram:
    """Count how far the points moved.

    Parameters
    ----------
    field : flow.Field
        Valid points count.
    bins : int or (n + 1,) array
        Number of bins from 0 to the largest magnitude, or their edges in px.
    mask : (K, L) bool, optional
        Points to use.

    Returns
    -------
    Histogram
        In px. Without valid points all counts are 0 and the statistics NaN.

    Raises
    ------
    FrameError
        If the mask does not fit, or the bins are not increasing.
    """
    magnitude = np.hypot(*_chosen(field, mask))
    edges = edges_of(bins, [magnitude])
    counts = np.histogram(magnitude, edges)[0]
    mean, median, deviation = (float(np.mean(magnitude)), float(np.median(magnitude)), float(np.std(magnitude))
                               ) if magnitude.size else (math.nan,) * 3
    return Histogram(edges, counts, mean, median, deviation)


def directions(field: Field, *, bins: int = 36, mask: NDArray[np.bool_] | None = None,
               shortest: float = SHORTEST) -> Histogram:
    """Count which way the points moved.

    Parameters
    ----------
    field : flow.Field
        Valid points count.
    bins : int
        Number of bins from 0 to 360 degrees.
    mask : (K, L) bool, optional
        Points to use.
    shortest : float
        Points whose magnitude is less than this many times their sigma are left out: they have no direction.

    Returns
    -------
    Histogram
        In degrees, with circular mean and deviation (Mardia & Jupp 2000).

    Raises
    ------
    FrameError
        If the mask does not fit, or `bins` is not positive.
    """
    if bins < 1:
        raise FrameError(f"deformation: {bins} bins; expected at least one")
    angle, _ = _directed(field, mask, shortest)
    edges = np.linspace(0, 360, bins + 1, dtype=np.float32)
    counts = np.histogram(angle, edges)[0]
    mean, length = circular_mean(angle)
    deviation = math.degrees(math.sqrt(-2 * math.log(length))) if length > 0 else math.nan
    return Histogram(edges, counts, mean, math.nan, deviation)


def compass(field: Field, *, sectors: int = SECTORS, mask: NDArray[np.bool_] | None = None,
            shortest: float = SHORTEST) -> Compass:
    """Sum up a field by sectors of the compass.

    Parameters
    ----------
    field : flow.Field
        Valid points count.
    sectors : int
        Of equal width, the first centred on +x.
    mask : (K, L) bool, optional
        Points to use.
    shortest : float
        Points whose magnitude is less than this many times their sigma are in no sector.

    Returns
    -------
    Compass

    Raises
    ------
    FrameError
        If the mask does not fit, or `sectors` is not positive.
    """
    if sectors < 1:
        raise FrameError(f"deformation: {sectors} sectors; expected at least one")
    angle, magnitude = _directed(field, mask, shortest)
    width = 360 / sectors
    sector = np.floor((angle + width / 2) / width).astype(np.int64) % sectors
    counts = np.bincount(sector, minlength=sectors)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(sector, magnitude, sectors) / counts
    every = _chosen(field, mask)
    down, right = every.mean(axis=1) if every.size else (math.nan, math.nan)
    return Compass((width * (np.arange(sectors + 1) - 0.5)).astype(np.float32), counts, mean.astype(np.float32),
                   math.hypot(down, right), float(_angle(np.float64(down), np.float64(right))),
                   circular_mean(angle)[1], every.shape[1] - len(angle))


def summary(field: Field, *, mask: NDArray[np.bool_] | None = None) -> Summary:
    """Give mean, median, 95th percentile and root mean square over valid points, inside a mask when one is given.

    Parameters
    ----------
    field : flow.Field
    mask : (K, L) bool, optional
        Points to use; `at_grid` reads a mask of pixels at the points of a grid.

    Raises
    ------
    FrameError
        If the mask does not fit.
    """
    used = _used(field, mask)
    if not used.any():
        return Summary(0, np.full(2, np.nan, np.float32), *(math.nan,) * 4)
    way = field.displacement_px[:, used].astype(np.float64)
    magnitude = np.hypot(*way)
    median, p95 = np.percentile(magnitude, [50, 95])
    return Summary(int(used.sum()), way.mean(axis=1).astype(np.float32), float(median), float(p95),
                   float(np.sqrt(np.mean(magnitude**2))),
                   float(np.sqrt(2 * np.mean(field.sigma_px[used].astype(np.float64) ** 2))))


def at_grid(plane: NDArray[Any], field: Field) -> NDArray[Any]:
    """Read a plane of pixels at the nearest pixel of every point of a grid, (M, N) to (K, L).

    Raises
    ------
    FrameError
        If the grid lies outside of the plane.
    """
    rows, columns = (np.rint(axis).astype(np.intp) for axis in (field.grid_y_px, field.grid_x_px))
    if plane.ndim != 2 or rows[-1] >= plane.shape[0] or columns[-1] >= plane.shape[1]:
        raise FrameError(f"deformation: a plane of shape {plane.shape} for a grid up to ({rows[-1]}, {columns[-1]})")
    return plane[np.ix_(rows, columns)]


def circular_mean(angle_deg: NDArray[Any]) -> tuple[float, float]:
    """Give the mean direction, 0 to 360 degrees, and the length of the mean unit vector, 0 to 1.

    NaN and 0 without directions.
    """
    if not angle_deg.size:
        return math.nan, 0.0
    mean = complex(np.mean(np.exp(1j * np.radians(np.asarray(angle_deg, np.float64)))))
    return math.degrees(cmath.phase(mean)) % 360, min(abs(mean), 1.0)


def _angle(down: Any, right: Any) -> Any:
    """Direction on the screen, in [0, 360)."""
    return np.degrees(np.arctan2(-down, right)) % 360   # y points down


def _used(field: Field, mask: NDArray[np.bool_] | None) -> BoolArray:
    if mask is None:
        return field.valid
    if mask.shape != field.valid.shape:
        raise FrameError(f"deformation: mask of shape {mask.shape} for a grid of shape {field.valid.shape}")
    return np.asarray(field.valid & mask)


def _chosen(field: Field, mask: NDArray[np.bool_] | None) -> FloatArray:
    return np.asarray(field.displacement_px[:, _used(field, mask)])


def _directed(field: Field, mask: NDArray[np.bool_] | None, shortest: float) -> tuple[FloatArray, FloatArray]:
    """Direction and magnitude of the points that are long enough to have one."""
    used = _used(field, mask)
    down, right = field.displacement_px[:, used]
    magnitude = np.hypot(down, right)
    least = np.maximum(shortest * np.nan_to_num(field.sigma_px[used]), 1e-9)
    kept = magnitude >= least
    return np.asarray(_angle(down[kept], right[kept])), magnitude[kept]


def edges_of(bins: int | ArrayLike, samples: list[NDArray[Any]]) -> FloatArray:
    """Make the edges of bins: so many from 0 to the largest value of all samples, or the ones given."""
    if isinstance(bins, int):
        if bins < 1:
            raise FrameError(f"deformation: {bins} bins; expected at least one")
        largest = float(np.concatenate([values.ravel() for values in samples]).max(initial=0))
        # the largest value itself must not fall off the last edge when that is rounded to float32
        return np.linspace(0, np.nextafter(np.float32(largest), np.float32(np.inf)) if largest > 0 else 1.0, bins + 1,
                           dtype=np.float32)
    edges = np.asarray(bins, np.float32)
    if edges.ndim != 1 or edges.size < 2 or not np.all(np.diff(edges) > 0):
        raise FrameError(f"deformation: edges {edges}; expected at least two that increase")
    return edges
