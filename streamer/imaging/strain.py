"""Strain: how the material stretches, shears and turns, from the slope of a displacement field, with its errors.

Slopes are those of a plane fitted by least squares in a square window of grid points (Pan et al. 2009,
doi:10.1117/1.3056041). Strains are small, and not invariant under large rotations.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.errors import FrameError
from streamer.imaging.flow import Field
from streamer.records import BoolArray, FloatArray

Precise = NDArray[np.float64]

CORRELATION_PX = 20.0
"""Distance over which errors of the dense field are alike: they correlate as exp(-d^2 / (2 * this^2)). Measured."""
LEAST_SHARE = 0.6
"""Of a window that must be valid."""
NO_DIRECTION_DEG = 180 / math.sqrt(12)
"""Standard deviation of a direction that is not known at all."""


class Strain(NamedTuple):
    """Derivatives of a displacement field on its grid; NaN where not valid. All are dimensionless but the angles."""

    divergence: FloatArray
    """(K, L) relative growth of the area: du_y/dy + du_x/dx."""
    divergence_sigma: FloatArray
    shear: FloatArray
    """(K, L) du_y/dx + du_x/dy: how much the right angle between +x and +y (down) closes, in rad."""
    shear_sigma: FloatArray
    rotation_deg: FloatArray
    """(K, L) from +x towards +y."""
    rotation_sigma_deg: FloatArray
    principal: FloatArray
    """(2, K, L) largest and smallest stretch in any direction."""
    principal_sigma: FloatArray
    """(2, K, L)."""
    direction_deg: FloatArray
    """(K, L) of the largest stretch, 0 = along +x, counter-clockwise on the screen, in (-90, 90]."""
    direction_sigma_deg: FloatArray
    """(K, L) at most 52 degrees, which is no direction at all."""
    valid: BoolArray
    """(K, L)."""


def strain(field: Field, *, window_px: float = 40.0, correlation_px: float = CORRELATION_PX) -> Strain:
    """Measure the strain at every point of a displacement field.

    Parameters
    ----------
    field : flow.Field
        On an evenly spaced grid.
    window_px : float
        Side of the window; at least three points of the grid are used.
    correlation_px : float
        Distance over which errors of the field are alike, as exp(-d^2 / (2 correlation^2)); 0 for errors that are
        independent from point to point. Neighbours that err together spoil a slope less than ones that do not.

    Returns
    -------
    Strain
        Not valid where the window holds too few valid points.

    Raises
    ------
    FrameError
        If the field has less than 3 x 3 points, or its arrays do not fit together.

    Notes
    -----
    Principal strains are biased apart where the shear is of the size of its error; their errors, and that of the
    direction, are first-order.
    """
    _check(field)
    steps = [float(axis[1] - axis[0]) for axis in (field.grid_y_px, field.grid_x_px)]
    if not (min(steps) > 0 and window_px > 0 and correlation_px >= 0):
        raise FrameError(f"strain: grid steps {steps} px, window {window_px} px, correlation {correlation_px} px; "
                         "expected positive ones")
    reach = [max(1, round((window_px / step - 1) / 2)) for step in steps]
    y, x = (axis.ravel().astype(np.float64) for axis in np.meshgrid(
        *(step * np.arange(-n, n + 1) for step, n in zip(steps, reach, strict=True)), indexing="ij"))
    where = _full_enough(field.valid, reach)
    inside = _windows(field.valid, reach, where)
    slope_y, slope_x, told = _slopes(inside, y, x)
    where = tuple(axis[told] for axis in where)
    displacement, sigma = (np.where(field.valid, np.nan_to_num(values), np.float32(0))   # where not valid: nothing
                           for values in (field.displacement_px, field.sigma_px))
    u_y, u_x, spoilt = (_windows(plane, reach, where) for plane in (*displacement, sigma))
    (yy, yx), (xy, xx) = ([np.einsum("nm,nm->n", slope, u) for slope in (slope_y, slope_x)] for u in (u_y, u_x))
    # errors need no more than single precision
    by_y, by_x = ((slope * spoilt).astype(np.float32) for slope in (slope_y, slope_x))
    alike = _alike(y, x, correlation_px).astype(np.float32)
    also_y, also_x = by_y @ alike, by_x @ alike
    var_y, var_x, cov = (np.einsum("nm,nm->n", one, other).astype(np.float64)
                         for one, other in ((also_y, by_y), (also_x, by_x), (also_y, by_x)))
    valid = np.zeros(field.valid.shape, bool)
    valid[where] = True
    return _put_together(np.stack([yy, yx, xy, xx]), np.stack([var_y, var_x, cov]), valid)


def _put_together(slopes: Precise, errors: Precise, valid: BoolArray) -> Strain:
    """Combine the slopes du_y/dy, du_y/dx, du_x/dy, du_x/dx at the valid points, (4, n), and put them on the grid.

    Errors of u_y and u_x are alike and independent; `errors` (3, n) are the variances of the slopes of either along y
    and x, and the covariance of the two.
    """
    yy, yx, xy, xx = slopes
    var_y, var_x, cov = errors
    shear, half = yx + xy, (xx - yy) / 2
    both = np.sqrt(np.maximum(var_y + var_x, 0))
    radius = np.hypot(half, shear / 2)
    # half and shear/2 have the same variance, (var_y + var_x) / 4, and their covariance is
    # cov(xx - yy, yx + xy) / 4 = (cov - cov) / 4 = 0: the circle is round
    radius_var = (var_y + var_x) / 4
    mean = (xx + yy) / 2
    # mean and radius share xx and yy: cov(mean, half) = (var_x - var_y) / 4, cov(mean, shear / 2) = cov / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine, sine = np.where(radius > 0, half / radius, 0), np.where(radius > 0, shear / 2 / radius, 0)
        doubled = np.degrees(np.sqrt(radius_var) / radius) / 2
    shared = cosine * (var_x - var_y) / 4 + sine * cov / 2
    principal = np.stack([mean + radius, mean - radius])
    principal_var = np.stack([(var_y + var_x) / 4 + radius_var + 2 * shared,
                              (var_y + var_x) / 4 + radius_var - 2 * shared])
    direction = -np.degrees(np.arctan2(shear / 2, half)) / 2   # y points down
    direction = np.where(direction <= -90, direction + 180, direction)
    places = np.flatnonzero(valid)

    def told(values: Precise) -> FloatArray:
        planes = np.full((*values.shape[:-1], valid.size), np.nan, np.float32)
        planes[..., places] = values
        return planes.reshape(*values.shape[:-1], *valid.shape)

    return Strain(told(xx + yy), told(both), told(shear), told(both), told(np.degrees(yx - xy) / 2),
                  told(np.degrees(both) / 2), told(principal), told(np.sqrt(np.maximum(principal_var, 0))),
                  told(direction), told(np.minimum(np.nan_to_num(doubled, nan=NO_DIRECTION_DEG), NO_DIRECTION_DEG)),
                  valid)


def _full_enough(valid: BoolArray, reach: list[int]) -> tuple[NDArray[np.intp], ...]:
    """Find the points whose window holds enough valid points."""
    rows, columns = (2 * n + 1 for n in reach)
    count = cv2.boxFilter(valid.astype(np.float32), -1, (columns, rows), normalize=False,
                          borderType=cv2.BORDER_CONSTANT)
    return np.nonzero(np.rint(count) >= LEAST_SHARE * rows * columns)


def _slopes(inside: BoolArray, y: Precise, x: Precise) -> tuple[Precise, Precise, BoolArray]:
    """Weights with which the m points of n windows make up their two slopes, and which of the windows have any.

    Parameters
    ----------
    inside : (n, m) bool
        Points that are valid.
    y, x : (m,) arrays
        Places of the points in the window.

    Returns
    -------
    slope_y, slope_x : (k, m) arrays
    told : (n,) bool
        The k windows whose points do not all lie on one line.
    """
    scale_y, scale_x = (max(float(np.abs(axis).max()), 1) for axis in (y, x))
    y, x = y / scale_y, x / scale_x
    # the moments of a window, and the lower two rows of the inverse of their 3 x 3 matrix
    chosen = inside.astype(np.float64)
    n, sy, sx, syy, sxy, sxx = (chosen @ np.stack([np.ones_like(y), y, x, y * y, y * x, x * x], axis=1)).T
    y0, x0 = sxy * sx - sy * sxx, sy * sxy - syy * sx
    yy, xx, yx = n * sxx - sx * sx, n * syy - sy * sy, sy * sx - n * sxy
    determinant = n * (syy * sxx - sxy * sxy) + sy * y0 + sx * x0
    told: BoolArray = determinant > 1e-6 * inside.shape[-1] ** 3
    basis = np.stack([np.ones_like(y), y, x])
    rows = np.stack([[y0, yy, yx], [x0, yx, xx]])[..., told] / (determinant[told] * [[[scale_y]], [[scale_x]]])
    slope_y, slope_x = ((row.T @ basis) * chosen[told] for row in rows)
    return slope_y, slope_x, told


def _alike(y: Precise, x: Precise, correlation_px: float) -> Precise:
    """Correlation between the errors of the points of a window, (n, n)."""
    if correlation_px == 0:
        return np.eye(len(y))
    squared = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    return np.asarray(np.exp(-squared / (2 * correlation_px**2)))


def _windows(plane: NDArray[Any], reach: list[int], where: tuple[NDArray[np.intp], ...]) -> NDArray[Any]:
    """Give the values around chosen points, (n, m); nothing lies outside."""
    rows, columns = (2 * n + 1 for n in reach)
    padded = np.pad(plane, [(n, n) for n in reach])
    view = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns))
    return np.asarray(view[where].reshape(len(where[0]), rows * columns))


def _check(field: Field) -> None:
    shape = len(field.grid_y_px), len(field.grid_x_px)
    if min(shape) < 3:
        raise FrameError(f"strain: a field of {shape[0]} x {shape[1]} points; expected at least 3 x 3")
    if field.displacement_px.shape != (2, *shape) or field.valid.shape != shape or field.sigma_px.shape != shape:
        raise FrameError(f"strain: displacement {field.displacement_px.shape}, valid {field.valid.shape}, sigma "
                         f"{field.sigma_px.shape} on a grid of {shape}")
