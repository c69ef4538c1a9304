"""From a coarse shift to a fraction of a pixel, and to the rotation."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.imaging import tiles
from streamer.imaging.prepared import Prepared, half, half_usable, working_binning
from streamer.imaging.rigid_fit import Fit, fit_motion
from streamer.records import BoolArray, FloatArray

LARGEST_ROUNDS = 5
CLOSE_PX, CLOSE_RAD = 0.05, 1e-4
"""The refinement ends when a step is smaller than this; its error is then far smaller."""
RIGID_SHARE, LEAST_SCATTER_PX = 0.5, 0.03
"""A rotation must explain this much of the scatter of the tiles, which must be worth it; else it is deformation."""
TURN_SIGMA_RAD = 3.5e-4
"""A rotation with a larger error (0.02 degrees) is not reported."""
EDGE_PX = 8
"""Margin of the frame that a turned tile must not reach into."""
PATTERN_PULL, PATTERN_RANGE_PX, LARGEST_PULL_PX = 5.0, 12.0, 0.5
"""Without flats, errors are so much larger than the scatter of the tiles, within this distance of zero."""
ERROR_FLOOR_PX = 0.003


class Motion(NamedTuple):
    """Result of the refinement, in pixels of the frame."""

    dy: float
    dx: float
    sigma_px: float
    rotation_deg: float | None
    inliers: float


def refine(levels: tuple[tiles.Level, ...], frame: Prepared, start: tuple[float, float]) -> Motion | None:
    """Measure shift and rotation to a fraction of a pixel, from a start in pixels of the contrast."""
    working = working_binning(frame.shape)
    shift = np.asarray(start, np.float64)
    half_level, full_level = levels
    found = tiles.match_tiles(half_level, half(frame.contrast), (shift[0] / 2, shift[1] / 2),
                              half_usable(frame.usable))
    fit = None if found is None else fit_motion(found)
    if fit is not None:
        shift = fit.shift * 2.0
    settled = _settle(full_level, frame, shift)
    if settled is None:
        return None
    fit, turn_rad = _with_rotation(full_level, frame, *settled)
    sigma = math.hypot(math.sqrt(max(float(np.trace(fit.covariance)) / 2.0, 0.0)), ERROR_FLOOR_PX)
    if not frame.weighted:   # what does not move pulls all tiles the same way, which their scatter does not show
        away = float(fit.shift @ fit.shift)
        sigma = math.hypot(sigma, min(PATTERN_PULL * sigma, LARGEST_PULL_PX) * math.exp(-away / PATTERN_RANGE_PX**2))
    dy, dx = (float(value) * working for value in fit.shift)
    return Motion(dy, dx, sigma * working, None if turn_rad is None else math.degrees(turn_rad), fit.inliers)


def _settle(level: tiles.Level, frame: Prepared, shift: NDArray[np.float64]) -> tuple[tiles.Tiles, Fit] | None:
    """Repeat the match until it stands still."""
    settled = None
    for _ in range(LARGEST_ROUNDS):
        found = tiles.match_tiles(level, frame.contrast, (float(shift[0]), float(shift[1])), frame.usable)
        fit = None if found is None else fit_motion(found)
        if found is None or fit is None:
            return None
        settled, step, shift = (found, fit), float(np.abs(fit.shift - shift).max()), fit.shift
        if step < CLOSE_PX:
            break
    return settled


def _with_rotation(level: tiles.Level, frame: Prepared, found: tiles.Tiles, fit: Fit) -> tuple[Fit, float | None]:
    """Return the fit with the rotation taken out, if there is one, and the rotation, if it can be told."""
    turned = fit_motion(found, turning=True)
    if turned is None:
        return fit, None
    rigid = turned.scatter_px < RIGID_SHARE * fit.scatter_px and fit.scatter_px > LEAST_SCATTER_PX
    if not (rigid and abs(turned.turn_rad) > 5.0 * turned.turn_sigma_rad):
        return fit, turned.turn_rad if turned.turn_sigma_rad < TURN_SIGMA_RAD else None
    shift, turn_rad, last = fit.shift, turned.turn_rad, turned
    for _ in range(LARGEST_ROUNDS):
        warped, usable = _turned_back(frame, shift, turn_rad)
        again = tiles.match_tiles(level, warped, (0.0, 0.0), usable)
        rest = None if again is None else fit_motion(again, turning=True)
        if rest is None:
            return fit, None
        cosine, sine = math.cos(turn_rad), math.sin(turn_rad)
        shift = shift + np.array([[cosine, sine], [-sine, cosine]]) @ rest.shift
        turn_rad += rest.turn_rad
        last = rest
        if float(np.abs(rest.shift).max()) < CLOSE_PX and abs(rest.turn_rad) < CLOSE_RAD:
            break
    return last._replace(shift=shift), turn_rad


def _turned_back(frame: Prepared, shift: NDArray[np.float64], turn_rad: float,
                 ) -> tuple[FloatArray, BoolArray]:
    """Return the frame moved and turned back onto its reference, and which pixels of that are real."""
    rows, columns = frame.contrast.shape
    centre_y, centre_x = (rows - 1) / 2, (columns - 1) / 2
    cosine, sine = math.cos(turn_rad), math.sin(turn_rad)
    matrix = np.array([[cosine, -sine, centre_x + shift[1] - cosine * centre_x + sine * centre_y],
                       [sine, cosine, centre_y + shift[0] - sine * centre_x - cosine * centre_y]])
    real = np.zeros((rows, columns), np.uint8)
    inner = (slice(EDGE_PX, rows - EDGE_PX), slice(EDGE_PX, columns - EDGE_PX))
    real[inner] = 1 if frame.usable is None else frame.usable[inner]
    size = (columns, rows)
    warped = cv2.warpAffine(frame.contrast, matrix, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    usable = cv2.warpAffine(real, matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return np.asarray(warped), np.asarray(usable, np.bool_)
