"""Strain: how the material stretches, shears and turns, from the slope of a displacement field, with its errors.

Slopes are those of a plane fitted by least squares in a square window of grid points (Pan et al. 2009,
doi:10.1117/1.3056041). Strains are small, and not invariant under large rotations.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

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
    inside = _windows(field.valid.astype(np.float64), reach)
    slope_y, slope_x, valid = _slopes(inside, y, x)
    sigma = _windows(np.where(field.valid, np.nan_to_num(field.sigma_px.astype(np.float64)), 0), reach)
    alike = _alike(y, x, correlation_px)
    u_y, u_x = (_windows(np.where(field.valid, plane, 0).astype(np.float64), reach) for plane in field.displacement_px)
    weights = (slope_y, slope_x)
    (yy, yx), (xy, xx) = ([np.sum(slope * u, axis=-1) for slope in weights] for u in (u_y, u_x))
    spoilt = [slope * sigma for slope in weights]
    var_y, var_x, cov = (np.sum((spoilt[a] @ alike) * spoilt[b], axis=-1) for a, b in ((0, 0), (1, 1), (0, 1)))
    return _put_together(np.stack([yy, yx, xy, xx]), np.stack([var_y, var_x, cov]), valid)


def _put_together(slopes: Precise, errors: Precise, valid: BoolArray) -> Strain:
    """Combine the slopes du_y/dy, du_y/dx, du_x/dy, du_x/dx; errors of u_y and u_x are alike and independent."""
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

    def told(values: Precise) -> FloatArray:
        return np.where(valid, values, np.nan).astype(np.float32)

    return Strain(told(xx + yy), told(both), told(shear), told(both), told(np.degrees(yx - xy) / 2),
                  told(np.degrees(both) / 2), told(principal), told(np.sqrt(np.maximum(principal_var, 0))),
                  told(direction), told(np.minimum(np.nan_to_num(doubled, nan=NO_DIRECTION_DEG), NO_DIRECTION_DEG)),
                  valid)


def _slopes(inside: Precise, y: Precise, x: Precise) -> tuple[Precise, Precise, BoolArray]:
    """Weights with which the points of a window make up its two slopes, (K, L, n) each."""
    basis = np.stack([np.ones_like(y), y, x])
    moments = np.einsum("kln,in,jn->klij", inside, basis, basis, optimize=True)
    # a window without two directions has no slope: its determinant is that of a plane on a line
    scale = np.array([1.0, max(float(np.abs(y).max()), 1), max(float(np.abs(x).max()), 1)])
    moments = moments / np.multiply.outer(scale, scale)
    share = inside.mean(axis=-1)
    valid: BoolArray = (share >= LEAST_SHARE) & (np.linalg.det(moments) > 1e-6 * inside.shape[-1] ** 3)
    moments[~valid] = np.eye(3)
    rows = np.linalg.inv(moments)[:, :, 1:, :] / (scale[1:, None] * scale)
    weights = np.einsum("klai,in->klan", rows, basis, optimize=True) * inside[:, :, None, :]
    return weights[:, :, 0], weights[:, :, 1], valid


def _alike(y: Precise, x: Precise, correlation_px: float) -> Precise:
    """Correlation between the errors of the points of a window, (n, n)."""
    if correlation_px == 0:
        return np.eye(len(y))
    squared = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    return np.asarray(np.exp(-squared / (2 * correlation_px**2)))


def _windows(plane: NDArray[Any], reach: list[int]) -> Precise:
    """Give every point the values around it, (K, L, n); nothing lies outside."""
    padded = np.pad(plane, [(n, n) for n in reach])
    view = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach[0] + 1, 2 * reach[1] + 1))
    return np.asarray(view.reshape(*plane.shape, -1))


def _check(field: Field) -> None:
    shape = len(field.grid_y_px), len(field.grid_x_px)
    if min(shape) < 3:
        raise FrameError(f"strain: a field of {shape[0]} x {shape[1]} points; expected at least 3 x 3")
    if field.displacement_px.shape != (2, *shape) or field.valid.shape != shape or field.sigma_px.shape != shape:
        raise FrameError(f"strain: displacement {field.displacement_px.shape}, valid {field.valid.shape}, sigma "
                         f"{field.sigma_px.shape} on a grid of {shape}")
