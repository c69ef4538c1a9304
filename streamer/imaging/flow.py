"""Displacement fields: where the material of a reference frame went, beyond the rigid drift."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.errors import FrameError
from streamer.records import BoolArray, FloatArray

SMALLEST_PX = 32


class Prepared(NamedTuple):
    """A frame made ready for the flow; the reference keeps its own for the whole acquisition."""

    absorbance: FloatArray
    """(M, N) minus the logarithm of the smoothed image."""
    usable: BoolArray | None
    """(M, N) pixels that carry weight; None when all do."""
    smoothing_px: float


class Field(NamedTuple):
    """Displacement of the reference's material on a grid of the reference frame."""

    grid_y_px: FloatArray
    grid_x_px: FloatArray
    displacement_px: FloatArray
    valid: BoolArray
    sigma_px: FloatArray


def prepare(image: NDArray[Any], *, smoothing_px: float = 1.5, weight: NDArray[Any] | None = None) -> Prepared:
    """Smooth a transmission image and take minus its logarithm.

    Parameters
    ----------
    image : (M, N) array
        Transmission, or intensity in any unit: a common factor has no effect.
    smoothing_px : float
        Sigma of the Gaussian.
    weight : (M, N) array, optional
        Pixels of weight zero are not used.

    Raises
    ------
    FrameError
        If the image is not a plane of at least 32 px, or the weight has another shape.
    """
    if image.ndim != 2 or min(image.shape) < SMALLEST_PX:
        raise FrameError(f"flow: image of shape {image.shape}; expected (rows, columns), each at least {SMALLEST_PX}")
    if weight is not None and weight.shape != image.shape:
        raise FrameError(f"flow: weight of shape {weight.shape} for an image of shape {image.shape}")
    plane = np.asarray(image, np.float32)
    smooth = cv2.GaussianBlur(plane, (0, 0), smoothing_px) if smoothing_px > 0 else plane
    absorbance = -np.log(np.maximum(smooth, np.float32(1e-6)))
    return Prepared(absorbance, None if weight is None else weight > 0, smoothing_px)


def displacement(reference: Prepared, frame: Prepared, *, drift_px: tuple[float, float], step_px: int = 8) -> Field:
    """Estimate where the material of the reference is in the frame, less the drift."""
    shape = reference.absorbance.shape
    grid_y, grid_x = grid(shape[0], step_px), grid(shape[1], step_px)
    whole = round(drift_px[0]), round(drift_px[1])
    y0, y1 = max(0, -whole[0]), min(shape[0], shape[0] - whole[0])
    x0, x1 = max(0, -whole[1]), min(shape[1], shape[1] - whole[1])
    field = empty(reference, step_px=step_px)
    if min(y1 - y0, x1 - x0) < SMALLEST_PX:
        return field
    first = reference.absorbance[y0:y1, x0:x1]
    second = frame.absorbance[y0 + whole[0]:y1 + whole[0], x0 + whole[1]:x1 + whole[1]]
    offset = float(np.median(second[::4, ::4] - first[::4, ::4]))
    low, high = np.percentile(first[::4, ::4], [0.5, 99.5])
    gain = 255.0 / max(float(high - low), 1e-3)
    bytes_1 = cv2.convertScaleAbs(np.maximum(first - low, 0), alpha=gain)
    bytes_2 = cv2.convertScaleAbs(np.maximum(second - np.float32(low + offset), 0), alpha=gain)
    dense = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(bytes_1, bytes_2, None)
    iy, ix = np.rint(grid_y).astype(int), np.rint(grid_x).astype(int)
    inside = ((iy >= y0) & (iy < y1))[:, None] & ((ix >= x0) & (ix < x1))[None]
    sampled = dense[np.clip(iy - y0, 0, y1 - y0 - 1)][:, np.clip(ix - x0, 0, x1 - x0 - 1)]
    u = field.displacement_px
    for axis in range(2):
        u[axis] = sampled[..., 1 - axis] + np.float32(whole[axis] - drift_px[axis])
    return Field(grid_y, grid_x, np.where(inside, u, 0).astype(np.float32), inside, field.sigma_px)


def empty(reference: Prepared, *, step_px: int = 8) -> Field:
    """Give the field of a frame that tells nothing: no point valid."""
    grid_y, grid_x = (grid(length, step_px) for length in reference.absorbance.shape)
    shape = len(grid_y), len(grid_x)
    return Field(grid_y, grid_x, np.zeros((2, *shape), np.float32), np.zeros(shape, bool),
                 np.full(shape, np.nan, np.float32))


def grid(length: int, step_px: int) -> FloatArray:
    """Place points every `step_px`, centred on an axis of `length` pixels."""
    count = max((length - 1) // step_px + 1, 1)
    start = (length - 1 - (count - 1) * step_px) / 2
    return (start + step_px * np.arange(count)).astype(np.float32)


def magnitude_statistics(field: Field) -> tuple[float, float] | None:
    """Give median and 95th percentile of the magnitude over valid points, in px; None when there are none."""
    if not field.valid.any():
        return None
    magnitude = np.hypot(*field.displacement_px)[field.valid]
    median, p95 = np.percentile(magnitude, [50, 95])
    return float(median), float(p95)
