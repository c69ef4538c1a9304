"""What the flow computes with: cells of 4 px, Gaussian windows over them, two-by-two systems at every cell.

Everything is solved on cells of 4 px from samples taken every 2 px: the images were smoothed by about 1 px, which
correlates the noise over more than a sample, so little is lost and a step costs a quarter.
Vectors are ``(x, y)`` in here, last axis, as cv2 wants them. Symmetric tensors are ``(xx, xy, yy)``.
"""

from __future__ import annotations

import cv2
import numpy as np

from streamer.records import FloatArray

SAMPLE_PX = 2
CELL_PX = 4

TINY = np.float32(1e-12)
LEAST_DETERMINANT = np.float32(1e-14)
"""Of a structure tensor: a gradient of 3e-4 per px either way; less is no texture, and float32 must not overflow."""


def cell_centres(shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Rows and columns, in px, of the centres of the cells."""
    first = (CELL_PX - SAMPLE_PX) / 2
    rows, columns = (np.arange(length // CELL_PX, dtype=np.float32) * CELL_PX + np.float32(first) for length in shape)
    return rows, columns


def cell_of(position_px: FloatArray) -> FloatArray:
    """Fractional number of the cell at a pixel position."""
    return (position_px - np.float32((CELL_PX - SAMPLE_PX) / 2)) / np.float32(CELL_PX)


def samples(plane: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Every second pixel of as many as fill whole cells."""
    rows, columns = (length // CELL_PX * (CELL_PX // SAMPLE_PX) for length in shape)
    return np.ascontiguousarray(plane[::SAMPLE_PX, ::SAMPLE_PX][:rows, :columns])


def cells(plane: FloatArray) -> FloatArray:
    """Mean of the samples of every cell."""
    factor = CELL_PX // SAMPLE_PX
    size = plane.shape[1] // factor, plane.shape[0] // factor
    mean: FloatArray = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    return mean


def window(plane: FloatArray, sigma_px: float) -> FloatArray:
    """Gaussian mean over cells; nothing lies outside, so that ratios stay unbiased at the rim."""
    sigma = sigma_px / CELL_PX
    size = 2 * int(np.ceil(2.7 * sigma)) + 1
    mean: FloatArray = cv2.GaussianBlur(plane, (size, size), sigma, borderType=cv2.BORDER_CONSTANT)
    return mean


def weakest(tensor: FloatArray) -> FloatArray:
    """Smaller eigenvalue."""
    half_trace = (tensor[..., 0] + tensor[..., 2]) / 2
    half_difference = (tensor[..., 0] - tensor[..., 2]) / 2
    smaller = half_trace - np.sqrt(half_difference**2 + tensor[..., 1] ** 2)
    return smaller.astype(np.float32, copy=False)


def determinant(tensor: FloatArray) -> FloatArray:
    """Never exactly zero."""
    return tensor[..., 0] * tensor[..., 2] - tensor[..., 1] ** 2 + LEAST_DETERMINANT


def solve(tensor: FloatArray, right: FloatArray) -> FloatArray:
    """``inverse(tensor) @ right``."""
    xx, xy, yy = cv2.split(tensor)
    x, y = cv2.split(right)
    scale = 1 / determinant(tensor)
    solution: FloatArray = cv2.merge([(yy * x - xy * y) * scale, (xx * y - xy * x) * scale])
    return solution


def apply(tensor: FloatArray, field: FloatArray) -> FloatArray:
    """``tensor @ field``."""
    xx, xy, yy = cv2.split(tensor)
    x, y = cv2.split(field)
    product: FloatArray = cv2.merge([xx * x + xy * y, xy * x + yy * y])
    return product


def dot(first: FloatArray, second: FloatArray) -> FloatArray:
    """Scalar product; numpy's own sum over an axis of two is several times slower."""
    product: FloatArray = first[..., 0] * second[..., 0] + first[..., 1] * second[..., 1]
    return product


def trace_of_ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """Trace of ``above @ inverse(below)``."""
    trace: FloatArray = (below[..., 2] * above[..., 0] - 2 * below[..., 1] * above[..., 1]
                         + below[..., 0] * above[..., 2]) / determinant(below)
    return trace
