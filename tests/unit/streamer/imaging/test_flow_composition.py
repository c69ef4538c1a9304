"""Two fields one after the other are the field of both; there and back they cancel."""

from __future__ import annotations

import numpy as np
import pytest
from support import flow_scenes

from streamer.errors import FrameError
from streamer.imaging import flow
from streamer.imaging.flow_cells import CELL_PX, cell_centres
from streamer.imaging.flow_composition import agreed, compose
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


def both_ways(reference, frame, *, drift_px=(0.0, 0.0)) -> tuple[flow.Field, flow.Field]:
    first, second = flow.prepare(reference), flow.prepare(frame)
    back_px = (-drift_px[0], -drift_px[1])
    return (flow.displacement(first, second, drift_px=drift_px),
            flow.displacement(second, first, drift_px=back_px, step_px=4))


def constant(y_px: float, x_px: float, *, step_px: int = 8, sigma_px: float = 0.05) -> flow.Field:
    y, x = (flow.grid(length, step_px) for length in SHAPE)
    size = len(y), len(x)
    u = np.stack([np.full(size, y_px, np.float32), np.full(size, x_px, np.float32)])
    return flow.Field(y, x, u, np.ones(size, bool), np.full(size, sigma_px, np.float32))


def within(field: flow.Field, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    return (((field.grid_y_px >= rows[0]) & (field.grid_y_px < rows[1]))[:, None]
            & ((field.grid_x_px >= columns[0]) & (field.grid_x_px < columns[1])))


@pytest.mark.parametrize(("dose", "amplitude_px", "drift_px"), [
    (np.inf, 1.0, (0.0, 0.0)), (500.0, 1.0, (0.0, 0.0)), (100.0, 1.0, (0.0, 0.0)), (500.0, 1.0, (12.0, -9.5))])
def test_what_was_found_rightly_agrees_both_ways(dose, amplitude_px, drift_px):
    kept = []
    for seed in (7601, 7602):
        pair = flow_scenes.pair(seed=seed, dose=dose, amplitude_px=amplitude_px, drift_px=drift_px)
        forward, backward = both_ways(pair.reference, pair.frame, drift_px=drift_px)
        checked = agreed(forward, backward, drift_px=drift_px)
        assert not (checked.valid & ~forward.valid).any()
        kept.append(checked.valid.sum() / forward.valid.sum())
    assert np.mean(kept) >= 0.97


def test_nothing_moves_everything_agrees():
    image = flow_scenes.pair(seed=7603).reference
    forward, backward = both_ways(image, image)
    checked = agreed(forward, backward, drift_px=(0.0, 0.0))
    np.testing.assert_array_equal(checked.valid, forward.valid)
    assert not checked.displacement_px.any()
    still = constant(0.0, 0.0)
    checked = agreed(still, constant(0.0, 0.0, step_px=4), drift_px=(0.0, 0.0))
    assert checked.valid.all()
    assert not checked.displacement_px.any()
    assert [part.dtype for part in checked] == [part.dtype for part in still]


def test_foreign_material_has_no_way_back():
    """The way there is believed everywhere, as if its own judgement had let everything slip through."""
    pair = flow_scenes.pair(seed=7604, amplitude_px=1.0)
    frame = pair.frame.copy()
    frame[60:120, 110:190] = flow_scenes.pair(seed=7605).frame[60:120, 110:190]
    first, second = flow.prepare(pair.reference), flow.prepare(frame)
    found = flow.match(first, second, drift_px=(0.0, 0.0))
    blind = flow.sample(found._replace(valid=np.ones_like(found.valid)), frame.shape, step_px=8)
    checked = agreed(blind, both_ways(pair.reference, frame)[1], drift_px=(0.0, 0.0))
    inside = within(blind, (64, 116), (114, 186))
    assert checked.valid[inside].mean() < 0.05
    assert checked.valid[~inside].mean() > 0.7


def test_wrong_points_go_sooner_than_right_ones():
    """Around a block that jumped, where windows see two motions."""
    gone = {"wrong": [], "right": []}
    for seed in (7606, 7607, 7608):
        pair = flow_scenes.pair(seed=seed)
        frame = pair.frame.copy()
        frame[60:140, 110:190] = np.roll(pair.frame, (9, 7), (0, 1))[60:140, 110:190]
        forward, backward = both_ways(pair.reference, frame)
        lost = forward.valid & ~agreed(forward, backward, drift_px=(0.0, 0.0)).valid
        u = forward.displacement_px
        stays = np.where(within(forward, (60, 140), (110, 190)), np.inf, np.hypot(*u))
        jumps = np.where(within(forward, (51, 131), (103, 183)), np.hypot(u[0] - 9, u[1] - 7), np.inf)
        wrong = np.minimum(stays, jumps) > 0.5
        gone["wrong"].append(lost[forward.valid & wrong])
        gone["right"].append(lost[forward.valid & ~wrong])
    wrong, right = (np.concatenate(gone[kind]) for kind in ("wrong", "right"))
    assert wrong.size > 100
    assert wrong.mean() > 5 * right.mean()


def test_ways_that_do_not_cancel_are_given_up():
    there, back = constant(2.0, -3.0), constant(-2.0, 3.0, step_px=4)
    back.displacement_px[:, :, 20:] += np.float32(0.5)   # 0.7 px off, 0.3 px are allowed
    back.valid[:10] = False
    back.displacement_px[:, :10], back.sigma_px[:10] = 0, np.nan
    checked = agreed(there, back, drift_px=(5.0, 7.0))
    y, x = there.grid_y_px[:, None] + 7, there.grid_x_px + 4
    lost = (y < back.grid_y_px[9]) | (x > back.grid_x_px[20])
    good = (y > back.grid_y_px[10]) & (x < back.grid_x_px[19])
    assert not checked.valid[lost].any()
    assert checked.valid[good].all()
    assert not checked.displacement_px[:, ~checked.valid].any()
    np.testing.assert_array_equal(np.isnan(checked.sigma_px), ~checked.valid)
    np.testing.assert_array_equal(checked.displacement_px[:, checked.valid], there.displacement_px[:, checked.valid])


def test_the_errors_say_how_far_the_ways_may_differ():
    there = constant(0.0, 0.0, sigma_px=0.3)
    assert agreed(there, constant(0.0, 0.6, sigma_px=0.3), drift_px=(0.0, 0.0)).valid.all()
    assert not agreed(there, constant(0.0, 0.7, sigma_px=0.3), drift_px=(0.0, 0.0)).valid.any()


def test_fields_of_frames_of_different_shapes_are_refused():
    there, back = constant(0.0, 0.0), constant(0.0, 0.0)
    with pytest.raises(FrameError, match="not of frames of the same shape"):
        agreed(there, back._replace(grid_x_px=back.grid_x_px + 1), drift_px=(0.0, 0.0))
