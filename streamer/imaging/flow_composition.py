"""Two displacement fields, one after the other."""

from __future__ import annotations

import cv2
import numpy as np

from streamer.imaging.flow_cells import CELL_PX, cell_centres
from streamer.imaging.flow_refinement import Solution
from streamer.records import FloatArray


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
