"""Two fields one after the other are the field of both."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.imaging.flow_cells import CELL_PX, cell_centres
from streamer.imaging.flow_composition import compose
from streamer.imaging.flow_refinement import Solution

SHAPE = (120, 160)


def solution(make, *, variance=0.01) -> Solution:
    y, x = cell_centres(SHAPE)
    u_y, u_x = make(*np.meshgrid(y, x, indexing="ij"))
    field = np.stack([u_x, u_y], axis=-1).astype(np.float32)
    return Solution(field, np.full(field.shape[:2], variance, np.float32), np.ones(field.shape[:2], bool))


def test_a_linear_field_after_a_shift():
    first = solution(lambda y, x: (0 * y + 2.0, 0 * x - 3.0))
    second = solution(lambda y, x: (0.01 * y, 0.02 * x))
    both = compose(first, second, drift_px=(5.0, 7.0))
    y, x = np.meshgrid(*cell_centres(SHAPE), indexing="ij")
    at = both.valid
    assert at.mean() > 0.8
    np.testing.assert_allclose(both.displacement_px[..., 1][at], (2 + 0.01 * (y + 7))[at], atol=1e-3)
    np.testing.assert_allclose(both.displacement_px[..., 0][at], (-3 + 0.02 * (x + 4))[at], atol=1e-3)
    assert both.variance_px2[at] == pytest.approx(0.02)


def test_what_left_the_key_frame_or_was_not_valid_is_not_valid():
    first, second = (solution(lambda y, x: (0 * y, 0 * x)) for _ in range(2))
    second.valid[:, :10] = False
    both = compose(first, second, drift_px=(0.0, 40.0))
    reach = (SHAPE[1] - 40) // CELL_PX
    assert not both.valid[:, reach:].any()
    assert both.valid[:, :reach - 1].all()
    assert not compose(first, second, drift_px=(0.0, -8.0)).valid[:, :11].any()
