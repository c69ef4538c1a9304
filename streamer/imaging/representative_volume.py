"""How much of a sample must be seen for its mean motion to stand for the whole: the representative volume."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.errors import FrameError
from streamer.imaging.flow import Field
from streamer.records import FloatArray

BOXES = 200
SIZES = 19
SETTLED = 0.1
LEAST_COVERED = 0.5
"""Share of a box that must be valid."""


class Study(NamedTuple):
    """Deviation of random boxes from each other, against their size."""

    size_px: FloatArray
    """(n,) side of the boxes."""
    amplitude_deviation_px: FloatArray
    """(n,) standard deviation of the mean magnitude of a box; NaN where fewer than two boxes hold enough points."""
    direction_deviation_deg: FloatArray
    """(n,) circular standard deviation of the direction of the mean displacement of a box."""
    amplitude_settled_px: float
    """Smallest size from which on the deviation stays below the asked share of the mean magnitude; NaN if it never
    does."""
    direction_settled_px: float
    """Smallest size from which on the deviation of the direction stays below the asked share of a radian."""
    mean_amplitude_px: float
    """Of all valid points."""


def representative_volume(field: Field, *, mask: NDArray[np.bool_] | None = None, boxes: int = BOXES,
                          sizes_px: FloatArray | None = None, settled: float = SETTLED, seed: int = 0) -> Study:
    """Compare random boxes of growing size.

    Parameters
    ----------
    field : flow.Field
        On an evenly spaced grid.
    mask : (K, L) bool, optional
        Points to use.
    boxes : int
        Random boxes of every size; the same seed gives the same ones.
    sizes_px : (n,) array, optional
        Sides of the boxes, increasing; by default 19 from three points of the grid to the shorter side of the view.
    settled : float
        Deviation that counts as settled: as a share of the mean magnitude, and of a radian.
    seed : int
        Of the places.

    Returns
    -------
    Study
        Without valid points all NaN.

    Raises
    ------
    FrameError
        If the field has less than 3 x 3 points, the mask does not fit, or sizes are not positive and increasing.

    Notes
    -----
    Boxes of more than half the view overlap, and the largest are all the same box: deviations fall to zero there
    whatever the sample. Sizes that settle only beyond half the view mean that the view is too small to tell.
    """
    shape = field.valid.shape
    if min(shape) < 3:
        raise FrameError(f"representative volume: a field of {shape[0]} x {shape[1]} points; expected at least 3 x 3")
    if mask is not None and mask.shape != shape:
        raise FrameError(f"representative volume: mask of shape {mask.shape} for a grid of shape {shape}")
    used = field.valid if mask is None else field.valid & mask
    steps = [float(axis[1] - axis[0]) for axis in (field.grid_y_px, field.grid_x_px)]
    longest = min(step * length for step, length in zip(steps, shape, strict=True))
    sizes = np.linspace(3 * max(steps), longest, SIZES, dtype=np.float32) if sizes_px is None else np.asarray(
        sizes_px, np.float32)
    if sizes.ndim != 1 or not sizes.size or not (sizes[0] > 0 and np.all(np.diff(sizes) > 0)):
        raise FrameError(f"representative volume: sizes {sizes}; expected positive ones that increase")
    tables = _integrals(field, used)
    rng = np.random.default_rng(seed)
    amplitude, direction = np.full(len(sizes), np.nan), np.full(len(sizes), np.nan)
    for place, size in enumerate(sizes):
        box = [max(1, min(round(float(size) / step), length)) for step, length in zip(steps, shape, strict=True)]
        corners = [rng.integers(0, length - side + 1, boxes) for side, length in zip(box, shape, strict=True)]
        count, magnitude, down, right = _sums(tables, corners, box)
        kept = count >= LEAST_COVERED * box[0] * box[1]
        if kept.sum() >= 2:
            amplitude[place] = np.std(magnitude[kept] / count[kept])
            direction[place] = _spread_deg(np.arctan2(-down[kept], right[kept]))
    mean = float(np.hypot(*field.displacement_px)[used].mean()) if used.any() else math.nan
    return Study(sizes, amplitude.astype(np.float32), direction.astype(np.float32),
                 _settled(sizes, amplitude, settled * mean), _settled(sizes, direction, math.degrees(settled)), mean)


def _integrals(field: Field, used: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Add up everything above and to the left: points, magnitude, displacement y and x, (4, K + 1, L + 1)."""
    y, x = np.where(used, field.displacement_px, 0).astype(np.float64)
    tables = np.zeros((4, used.shape[0] + 1, used.shape[1] + 1))
    tables[:, 1:, 1:] = np.stack([used, np.hypot(y, x), y, x]).cumsum(axis=1).cumsum(axis=2)
    return tables


def _sums(tables: NDArray[np.float64], corners: list[NDArray[np.int64]], box: list[int]) -> NDArray[np.float64]:
    top, left = corners
    bottom, right = top + box[0], left + box[1]
    return np.asarray(tables[:, bottom, right] - tables[:, top, right] - tables[:, bottom, left]
                      + tables[:, top, left])


def _spread_deg(angle: NDArray[np.float64]) -> float:
    """Circular standard deviation (Mardia & Jupp 2000)."""
    length = min(float(abs(np.mean(np.exp(1j * angle)))), 1.0)
    return math.degrees(math.sqrt(-2 * math.log(length))) if length > 0 else math.inf


def _settled(sizes: FloatArray, deviation: NDArray[np.float64], limit: float) -> float:
    """Smallest size from which on every larger one keeps below the limit."""
    above = np.flatnonzero(~(deviation <= limit))   # NaN counts as not settled
    first = int(above[-1]) + 1 if above.size else 0
    return float(sizes[first]) if first < len(sizes) else math.nan
