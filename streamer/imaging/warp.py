"""Frames resampled onto the pixels of their reference."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import scipy.interpolate
import scipy.ndimage
from numpy.typing import NDArray

from streamer.records import FloatArray, FlowResult

ORDER = 5
"""Quintic B-splines that pass through the pixels: Unser, Aldroubi & Eden 1993, doi:10.1109/78.193220. Half-way between
pixels they keep 99.7 % of the amplitude at a period of 4 px, cubic ones 97 %."""
TAPS = np.arange(-3, 4)
REACH_PX = 2
"""How far an unknown pixel spoils its surroundings."""
LEAST_MIX = 1e-3
SPREAD = ((1.0, 1.0), (4.0, 1e-3), (16.0, 1e-6), (64.0, 1e-9))
"""Gaussians, (sigma in steps of the grid, weight), by which a displacement is continued to where it is not known: the
next neighbours count, farther ones only where there are no nearer ones."""


class Pose(NamedTuple):
    """Where a frame is relative to its origin."""

    drift_px: tuple[float, float]
    rotation_deg: float | None = None
    """About the centre of the frame, from +x towards +y."""


def moved_back(image: NDArray[Any], *, drift_px: tuple[float, float], rotation_deg: float | None = None,
               local_px: FloatArray | None = None) -> FloatArray:
    """Undo the drift of a frame, and what it is displaced by besides, with sub-pixel accuracy and in one resampling.

    Parameters
    ----------
    image : (M, N)
        Real; NaN marks unknown pixels.
    drift_px : (dy, dx)
        Of the frame relative to its reference: ``result(y, x) = image(y + dy, x + dx)``.
    rotation_deg : float, optional
        Of the frame relative to its reference about its centre, from +x towards +y.
    local_px : (2, M, N), optional
        What the material at a pixel of the reference is displaced by beyond that, (y, x) in the frame; see
        `local_displacement`. ``result(y, x) = image(y + dy + local_y(y, x), x + dx + local_x(y, x))``.

    Returns
    -------
    (M, N) float32 array
        NaN where the frame shows nothing. A drift of exactly 0 gives the frame itself.

    Raises
    ------
    ValueError
        If the image has not two axes, the drift or rotation is not finite, or the displacement has another shape.
    """
    image = np.asarray(image, np.float32)
    if image.ndim != 2:
        raise ValueError(f"image has shape {image.shape}, expected (rows, columns)")
    if not all(map(math.isfinite, (*drift_px, rotation_deg or 0.0))):
        raise ValueError(f"drift {drift_px} px, rotation {rotation_deg} deg: expected finite numbers")
    if local_px is not None and local_px.shape != (2, *image.shape):
        raise ValueError(f"displacement has shape {local_px.shape}, expected (2, {image.shape[0]}, {image.shape[1]})")
    if local_px is not None and not local_px.any():
        local_px = None
    if not rotation_deg and not any(drift_px) and local_px is None:
        return image.copy()
    unknown = ~np.isfinite(image)
    spoilt = bool(unknown.any())
    if spoilt:
        image = np.where(unknown, image[~unknown].mean() if not unknown.all() else 0.0, image).astype(np.float32)
    matrix, offset = _affine(image.shape, Pose(drift_px, rotation_deg))
    places = None if local_px is None else _places(image.shape, matrix, offset) + local_px
    result = _sampled(image, matrix, offset, places, order=ORDER)
    result[~_inside(image.shape, _places(image.shape, matrix, offset) if places is None else places)] = np.nan
    if spoilt:
        near = scipy.ndimage.binary_dilation(unknown, iterations=REACH_PX)
        result[_sampled(near.astype(np.float32), matrix, offset, places, order=1) > LEAST_MIX] = np.nan
    return result


def local_displacement(field: FlowResult, *, shape: tuple[int, int], frame: Pose, reference: Pose) -> FloatArray | None:
    """Spread a measured field over the pixels of the origin, as what it says beyond the pose of the frame.

    Points that were not measured are filled from their neighbours by normalised convolution (Knutsson & Westin 1993,
    doi:10.1109/CVPR.1993.341081), measured ones stay; cubic splines lie between them. What the field does not say
    beyond the pose is exactly 0, so a field that is zero gives what the pose alone gives.

    Parameters
    ----------
    field : FlowResult
        Of the frame against the reference of the field, with the drift between them.
    shape : (int, int)
        Of the frames.
    frame : Pose
        Of the frame relative to the origin.
    reference : Pose
        Of the reference of the field relative to the origin; drift 0 when it is the origin itself.

    Returns
    -------
    (2, M, N) float32 array or None
        For `moved_back` with the pose of the frame; None where no point of the field is valid.
    """
    if not field.valid.any():
        return None
    there, offset = _affine(shape, reference)   # from the origin to the reference of the field
    points = np.stack(np.meshgrid(field.grid_y_px, field.grid_x_px, indexing="ij")).astype(np.float64)
    back = np.tensordot(there.T, points - offset[:, None, None], axes=1)
    matrix, by_pose = _affine(shape, frame)
    expected = np.tensordot(matrix, back, axes=1) + by_pose[:, None, None]
    drift_px = np.array([field.drift_y_px, field.drift_x_px])[:, None, None]
    beyond = _filled(points + drift_px + field.displacement_px - expected, field.valid)
    at = _places(shape, there, offset)
    for axis, grid in enumerate((field.grid_y_px, field.grid_x_px)):
        at[axis] = 1.0 + (at[axis] - grid[0]) / (grid[1] - grid[0] if len(grid) > 1 else 1.0)
    wider = np.pad(beyond, ((0, 0), (1, 1), (1, 1)), "reflect", reflect_type="odd")   # goes straight on outside
    return np.stack([scipy.ndimage.map_coordinates(plane, at, np.float32, order=3, mode="nearest") for plane in wider])


def _filled(values: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Continue (2, K, L) to the points that are not valid."""
    share = np.zeros(valid.shape)
    total = np.zeros(values.shape)
    for sigma, weight in SPREAD:
        share += weight * scipy.ndimage.gaussian_filter(valid.astype(np.float64), sigma, mode="constant")
        for axis in range(2):
            total[axis] += weight * scipy.ndimage.gaussian_filter(np.where(valid, values[axis], 0.0), sigma,
                                                                  mode="constant")
    known = share > 0.0
    return np.where(valid, values, np.divide(total, share, out=np.zeros_like(total), where=known))


def _affine(shape: tuple[int, ...], pose: Pose) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the matrix and the offset that lead from a place in the origin to that in the frame."""
    turn = math.radians(pose.rotation_deg or 0.0)
    matrix = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    centre = 0.5 * (np.array(shape) - 1.0)
    return matrix, centre - matrix @ centre + pose.drift_px


def _sampled(image: FloatArray, matrix: NDArray[np.float64], offset: NDArray[np.float64],
             places: NDArray[np.float64] | None, *, order: int) -> FloatArray:
    if places is not None:
        return np.asarray(scipy.ndimage.map_coordinates(image, places, order=order, mode="mirror"))
    if matrix[0, 1]:
        return np.asarray(scipy.ndimage.affine_transform(image, matrix, offset, order=order, mode="mirror"))
    if order != ORDER:
        return np.asarray(scipy.ndimage.shift(image, -offset, order=order, mode="mirror"))
    between: FloatArray = scipy.ndimage.spline_filter(image, order, output=np.float32, mode="mirror")
    spline = scipy.interpolate.BSpline.basis_element(TAPS.astype(np.float64), extrapolate=False)
    whole = np.floor(offset).astype(np.int64)
    for axis in range(2):   # separable: a fraction of a pixel along each axis, then whole ones
        weights = np.nan_to_num(spline(TAPS - (offset[axis] - whole[axis])))
        between = scipy.ndimage.correlate1d(between, weights, axis=axis, mode="mirror")
    result = np.zeros_like(between)
    source, target = (tuple(slice(max(sign * int(by), 0), max(size + min(sign * int(by), 0), 0))
                            for by, size in zip(whole, image.shape, strict=True)) for sign in (1, -1))
    result[target] = between[source]
    return result


def _places(shape: tuple[int, ...], matrix: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give where every pixel of the result is in the frame, (2, M, N)."""
    rows, columns = (np.arange(size, dtype=np.float64) for size in shape)
    return np.stack([(line[0] * rows)[:, None] + line[1] * columns + start
                     for line, start in zip(matrix, offset, strict=True)])


def _inside(shape: tuple[int, ...], places: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which places lie between pixels of the frame."""
    inside = np.ones(places.shape[1:], np.bool_)
    for place, size in zip(places, shape, strict=True):
        inside &= (place >= 0.0) & (place <= size - 1.0)
    return inside
