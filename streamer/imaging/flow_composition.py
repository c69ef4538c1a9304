"""Two displacement fields, one after the other: on to a third frame, or there and back again."""

from __future__ import annotations

import cv2
import numpy as np

from streamer.errors import FrameError
from streamer.imaging.flow import Field
from streamer.imaging.flow_cells import CELL_PX, cell_centres
from streamer.imaging.flow_refinement import Solution
from streamer.records import FloatArray

LEAST_DISAGREEMENT_PX = 0.3
"""Less between the way there and the way back is not held against a point."""
MOST_SIGMAS = 1.5
"""Of the predicted errors of both ways together; both come from the same noise, so that most of it cancels."""
LEAST_KNOWN = np.float32(0.05)
"""Share of valid points among the four around a place on the way back; all would cost a rim along every edge."""


def compose(first: Solution, second: Solution, *, drift_px: tuple[float, float]) -> Solution:
    """Follow material from a reference through a key frame to a third frame.

    Parameters
    ----------
    first : Solution
        From the reference to the key frame, beyond the drift.
    second : Solution
        From the key frame on, at the cells of the key frame.
    drift_px : (float, float)
        Drift (y, x) of the key frame relative to the reference.

    Returns
    -------
    Solution
        ``u(x) = first(x) + second(x + drift + first(x))`` at the cells of the reference, valid where both are.
    """
    rows, columns = first.valid.shape
    centre_y, centre_x = cell_centres((rows * CELL_PX, columns * CELL_PX))
    x = first.displacement_px[..., 0] + centre_x + np.float32(drift_px[1])
    y = first.displacement_px[..., 1] + centre_y[:, None] + np.float32(drift_px[0])
    cell_x, cell_y = (((at - centre[0]) / np.float32(CELL_PX)).astype(np.float32)
                      for at, centre in ((x, centre_x), (y, centre_y)))

    def read(plane: FloatArray) -> FloatArray:
        found: FloatArray = cv2.remap(plane, cell_x, cell_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return found

    inside = (cell_x >= 0) & (cell_x <= columns - 1) & (cell_y >= 0) & (cell_y <= rows - 1)
    valid = first.valid & inside & (read(second.valid.astype(np.float32)) > 0.5)
    variance = first.variance_px2 + read(second.variance_px2)
    return Solution(first.displacement_px + read(second.displacement_px), variance, valid)


def agreed(forward: Field, backward: Field, *, drift_px: tuple[float, float]) -> Field:
    """Keep what a second measurement, with reference and frame exchanged, leads back to where it began.

    The forward-backward error of Kalal, Mikolajczyk & Matas (ICPR 2010, doi:10.1109/ICPR.2010.675), held against the
    predicted errors of both ways. Material that is hidden or replaced may resemble something in the frame; seldom
    does that resemble it best in turn.

    Parameters
    ----------
    forward : Field
        From the reference to the frame.
    backward : Field
        From the frame to the reference, with the negated drift. Its grid may be another; a finer one, 4 px, loses
        nothing between its points.
    drift_px : (float, float)
        Drift (y, x) of the frame relative to the reference, as `forward` was measured with.

    Returns
    -------
    Field
        `forward`, with no more points valid than there.

    Raises
    ------
    FrameError
        If the two fields are of frames of different shapes.
    """
    # grids are centred: first and last point add up to the last pixel, whatever their spacing
    last = [float(axis[0] + axis[-1]) for axis in (forward.grid_y_px, forward.grid_x_px)]
    if last != [float(axis[0] + axis[-1]) for axis in (backward.grid_y_px, backward.grid_x_px)]:
        raise FrameError(f"flow: fields {forward.valid.shape} there and {backward.valid.shape} back are not of frames "
                         "of the same shape")
    u = forward.displacement_px
    y = forward.grid_y_px[:, None] + np.float32(drift_px[0]) + u[0]
    x = forward.grid_x_px + np.float32(drift_px[1]) + u[1]
    row, column = (np.interp(at, axis, np.arange(len(axis))).astype(np.float32)
                   for at, axis in ((y, backward.grid_y_px), (x, backward.grid_x_px)))

    def read(plane: FloatArray) -> FloatArray:
        found: FloatArray = cv2.remap(plane, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return found

    known = read(backward.valid.astype(np.float32))
    weight = np.maximum(known, LEAST_KNOWN)   # invalid points are read as zero and must not pull at the others
    back = np.stack([read(plane) for plane in backward.displacement_px]) / weight
    variance = read(np.where(backward.valid, backward.sigma_px, np.float32(0)) ** 2) / weight
    allowed = np.maximum(np.float32(MOST_SIGMAS) * np.sqrt(forward.sigma_px**2 + variance),
                         np.float32(LEAST_DISAGREEMENT_PX))
    valid = forward.valid & (known > LEAST_KNOWN) & (np.hypot(*(u + back)) <= allowed)
    return forward._replace(displacement_px=np.where(valid, u, np.float32(0)), valid=valid,
                            sigma_px=np.where(valid, forward.sigma_px, np.float32(np.nan)))
