"""From a coarse shift to a fraction of a pixel, and to rotation and magnification."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.imaging import tiles
from streamer.imaging.arrays import medians
from streamer.imaging.prepared import Prepared, half, half_usable, working_binning
from streamer.imaging.rigid_fit import Fit, common_shift, fit_motion
from streamer.records import BoolArray, FloatArray

LARGEST_ROUNDS = 5
CLEAR_SIGMAS = 5.0
CLOSE_PX, CLOSE_RAD = 0.05, 1e-4
"""The refinement ends when a step is smaller than this; its error is then far smaller."""
RIGID_SHARE = 0.5
"""Rotation and magnification must explain this much of what the tiles move together; else it is deformation."""
TURN_SIGMA_RAD = 3.5e-4
"""A rotation with a larger error (0.02 degrees) is not worth telling, nor such a magnification."""
EDGE_PX = 8
"""Margin of the frame that a turned tile must not reach into."""
PATTERN_RANGE_PX, RAW_RANGE_PX = 7.0, 14.0
"""Distance at which the fixed pattern of two frames has no more in common that would pull them together: what is left
of it after flats, and without them, when the light has a structure of its own."""
UNCERTAIN_NOISE, LARGEST_PULL = 0.15, 0.6
"""How well the noise is known; the pull per distance where nothing beyond the noise is left over."""
ERROR_FLOOR_PX = 0.003


Doubles = NDArray[np.float64]


class Motion(NamedTuple):
    """Result of the refinement, in pixels of the frame."""

    dy: float
    dx: float
    sigma_px: float
    rotation_deg: float | None
    stretch: float | None
    """Relative change of all distances."""
    turned: bool
    """Rotation or stretch are beyond doubt and taken out of the shift."""
    turn_sigma_rad: float
    """Standard error of rotation and stretch, 0 unless `turned`."""
    inliers: float
    deformation_px: float
    """Root mean square of the smooth deformation of what is seen, about the shift."""
    pull_px: float
    """Part of sigma that is the same in every frame near this one: the pull of a fixed pattern."""
    seen_pull_px: float
    """As much of that as is seen in the residual, not only possible."""


def refine(levels: tuple[tiles.Level, ...], frame: Prepared, start: tuple[float, float]) -> Motion | None:
    """Measure shift and rotation to a fraction of a pixel, from a start in pixels of the contrast."""
    working = working_binning(frame.shape)
    half_level, full_level = levels
    shift = np.asarray(start, np.float64)
    found = tiles.match_tiles(half_level, half(frame.contrast), (shift[0] / 2, shift[1] / 2),
                              half_usable(frame.usable), flats=frame.flats)
    rough = None if found is None else common_shift(found)
    if rough is not None:
        shift = rough * 2.0
    settled = _settle(full_level, frame, shift)
    if settled is None:
        return None
    fit, turned = _with_rotation(full_level, frame, *settled)
    sigma = math.hypot(math.sqrt(max(float(np.trace(fit.covariance)) / 2.0, 0.0)), ERROR_FLOOR_PX)
    # what does not move pulls all tiles the same way, which their scatter does not show
    pull, seen = _pull(settled[0], math.hypot(*fit.shift), flats=frame.weighted)
    sigma = math.hypot(sigma, pull)
    dy, dx = (float(value) * working for value in fit.shift)
    # what was taken out of the shift must be told, however uncertain: the shift means nothing without it
    rotation = math.degrees(fit.turn_rad) if turned or fit.turn_sigma_rad < TURN_SIGMA_RAD else None
    stretch = fit.stretch if turned or fit.stretch_sigma < TURN_SIGMA_RAD else None
    turn_sigma_rad = max(fit.turn_sigma_rad, fit.stretch_sigma) if turned else 0.0
    return Motion(dy, dx, sigma * working, rotation, stretch, turned, turn_sigma_rad, fit.inliers,
                  fit.deformation_px * working, pull * working, seen * working)


def _pull(found: tiles.Tiles, away_px: float, *, flats: bool) -> tuple[float, float]:
    """Return how far a pattern that does not move may have pulled the shift towards zero, in px, and what one sees.

    Where squared slopes of pattern and sample are as p to s, a sample that moved by d is found at d s / (s + p), and
    the residual is that of a shift squared of d^2 p s / (s + p)^2: the pull is the residual over the shift found.
    With flats only what is clearly left over counts: the screen has changed since they were taken.
    """
    noise, excess = float(medians(found.noise_px2)), float(medians(found.excess_px2))
    away_px = max(away_px, 1e-3)
    seen = max(excess - UNCERTAIN_NOISE * noise, 0.0)
    left = seen if flats else max(excess, UNCERTAIN_NOISE * noise)
    clear = 2.0 * math.sqrt(max(excess - 2.0 * UNCERTAIN_NOISE * noise, 0.0))
    reach_px = PATTERN_RANGE_PX if flats else RAW_RANGE_PX
    most, near = max(LARGEST_PULL * away_px, clear), math.exp(-((away_px / reach_px) ** 2))
    return min(left / away_px, most) * near, min(seen / away_px, most) * near


def _settle(level: tiles.Level, frame: Prepared, shift: Doubles) -> tuple[tiles.Tiles, Fit] | None:
    """Repeat the match until it stands still."""
    settled = None
    for _ in range(LARGEST_ROUNDS):
        found = tiles.match_tiles(level, frame.contrast, (float(shift[0]), float(shift[1])), frame.usable,
                                  flats=frame.flats)
        fit = None if found is None else fit_motion(found, start=None if settled is None else shift)
        if found is None or fit is None:
            return None
        settled, step, shift = (found, fit), float(np.abs(fit.shift - shift).max()), fit.shift
        if step < CLOSE_PX:
            break
    return settled


def _with_rotation(level: tiles.Level, frame: Prepared, found: tiles.Tiles, fit: Fit) -> tuple[Fit, bool]:
    """Return the fit with rotation and magnification as far as they can be told, and whether they are taken out."""
    turned = fit_motion(found, turning=True, start=fit.shift)
    if turned is None:
        return fit, False
    clear = (abs(turned.turn_rad) > CLEAR_SIGMAS * turned.turn_sigma_rad
             or abs(turned.stretch) > CLEAR_SIGMAS * turned.stretch_sigma)
    rigid = turned.deformation_px < RIGID_SHARE * fit.deformation_px
    told = fit._replace(turn_rad=turned.turn_rad, turn_sigma_rad=turned.turn_sigma_rad, stretch=turned.stretch,
                        stretch_sigma=turned.stretch_sigma)
    if not (rigid and clear):
        return told, False
    shift, turn_rad, stretch, last = fit.shift, turned.turn_rad, turned.stretch, turned
    for _ in range(LARGEST_ROUNDS):
        warped, usable = _turned_back(frame, shift, turn_rad, stretch)
        again = tiles.match_tiles(level, warped, (0.0, 0.0), usable, flats=frame.flats,
                                  moved=(float(shift[0]), float(shift[1])))
        rest = None if again is None else fit_motion(again, turning=True)
        if rest is None:
            return told, False
        cosine, sine = (1.0 + stretch) * math.cos(turn_rad), (1.0 + stretch) * math.sin(turn_rad)
        shift = shift + np.array([[cosine, sine], [-sine, cosine]]) @ rest.shift
        turn_rad += rest.turn_rad
        stretch += (1.0 + stretch) * rest.stretch
        last = rest
        if float(np.abs(rest.shift).max()) < CLOSE_PX and math.hypot(rest.turn_rad, rest.stretch) < CLOSE_RAD:
            break
    return last._replace(shift=shift, turn_rad=turn_rad, stretch=stretch), True


def _turned_back(frame: Prepared, shift: Doubles, turn_rad: float, stretch: float,
                 ) -> tuple[FloatArray, BoolArray]:
    """Return the frame moved and turned back onto its reference, and which pixels of that are real."""
    rows, columns = frame.contrast.shape
    centre_y, centre_x = (rows - 1) / 2, (columns - 1) / 2
    cosine, sine = (1.0 + stretch) * math.cos(turn_rad), (1.0 + stretch) * math.sin(turn_rad)
    matrix = np.array([[cosine, -sine, centre_x + shift[1] - cosine * centre_x + sine * centre_y],
                       [sine, cosine, centre_y + shift[0] - sine * centre_x - cosine * centre_y]])
    real = np.zeros((rows, columns), np.uint8)
    inner = (slice(EDGE_PX, rows - EDGE_PX), slice(EDGE_PX, columns - EDGE_PX))
    real[inner] = 1 if frame.usable is None else frame.usable[inner]
    size = (columns, rows)
    warped = cv2.warpAffine(frame.contrast, matrix, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    usable = cv2.warpAffine(real, matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return np.asarray(warped), np.asarray(usable, np.bool_)
