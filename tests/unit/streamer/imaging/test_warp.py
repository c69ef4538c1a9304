"""Frames moved back onto their reference: where they land, how sharp they stay, what is not known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from support.flow_scenes import Array, pair
from support.motion_scenes import moved, specimen

from streamer.imaging.flow import grid
from streamer.imaging.warp import Pose, local_displacement, moved_back
from streamer.records import FlowResult

SHAPE = (200, 224)


def crop(canvas):
    top, left = ((size - side) // 2 for size, side in zip(canvas.shape, SHAPE, strict=True))
    return canvas[top:top + SHAPE[0], left:left + SHAPE[1]]


@pytest.fixture(scope="module")
def canvas():
    return specimen(91, size=512, grains=120)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_no_drift_changes_nothing(canvas, dtype):
    image = (200 * crop(canvas)).astype(dtype)
    found = moved_back(image, drift_px=(0.0, 0.0))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, image)


def test_whole_pixels_are_moved_exactly_and_the_rest_is_unknown(canvas):
    image = crop(canvas)
    found = moved_back(np.roll(image, (3, -2), (0, 1)), drift_px=(3.0, -2.0))
    np.testing.assert_allclose(found[:-3, 2:], image[:-3, 2:], atol=1e-5)
    assert np.isnan(found[-3:]).all()
    assert np.isnan(found[:, :2]).all()
    assert np.isfinite(found[:-3, 2:]).all()


@pytest.mark.parametrize("drift", [(0.5, 0.5), (-7.25, 3.6), (0.0, 11.1), (20.31, -0.02)])
def test_a_drift_between_pixels_is_undone(canvas, drift):
    truth, found = crop(canvas), moved_back(crop(moved(canvas, *drift)), drift_px=drift)
    known = np.isfinite(found)
    assert known.mean() == pytest.approx((1 - abs(drift[0]) / SHAPE[0]) * (1 - abs(drift[1]) / SHAPE[1]), abs=0.012)
    inner = ndimage.binary_erosion(known, iterations=8, border_value=0)
    assert np.std((found - truth)[inner]) < 0.005 * np.std(truth[inner])


@pytest.mark.parametrize("turn_deg", [0.4, -1.0])
def test_a_rotation_about_the_centre_is_undone(canvas, turn_deg):
    drift, half = (4.3, -6.7), 0.5 * np.deg2rad(turn_deg)   # the canvas turns half a pixel off the frame's centre
    frame = crop(moved(canvas, *drift, rotation_deg=turn_deg))
    drift = drift[0] - half, drift[1] + half
    truth, found = crop(canvas), moved_back(frame, drift_px=drift, rotation_deg=turn_deg)
    inner = ndimage.binary_erosion(np.isfinite(found), iterations=8, border_value=0)
    assert np.std((found - truth)[inner]) < 0.01 * np.std(truth[inner])
    wrong = moved_back(frame, drift_px=drift, rotation_deg=-turn_deg)
    assert np.nanstd((wrong - truth)[inner]) > 0.05 * np.std(truth[inner])


def test_unknown_pixels_spoil_their_neighbours_alone(canvas):
    image = crop(canvas).copy()
    image[100, 120] = np.nan
    found, clean = (moved_back(each, drift_px=(0.5, 0.25)) for each in (image, crop(canvas)))
    lost = np.isnan(found) & np.isfinite(clean)
    assert 1 <= lost.sum() <= 40
    assert lost[98:102, 118:122].any()
    far = np.isfinite(found)
    far[90:110, 110:130] = False
    np.testing.assert_allclose(found[far], clean[far], atol=1e-4)


def test_a_frame_that_has_left_shows_nothing(canvas):
    assert np.isnan(moved_back(crop(canvas), drift_px=(300.0, 0.0))).all()


@pytest.mark.parametrize(("shape", "drift", "turn"), [
    ((4, 5, 6), (0.0, 1.0), None), ((8, 8), (float("nan"), 0.0), None), ((8, 8), (0.0, 0.0), float("inf"))])
def test_bad_input_is_named(shape, drift, turn):
    with pytest.raises(ValueError, match="expected"):
        moved_back(np.ones(shape), drift_px=drift, rotation_deg=turn)


def field_of(displacement_px: Array, *, step_px: int = 8, drift_px: tuple[float, float] = (0.0, 0.0),
             valid: np.ndarray | None = None) -> FlowResult:
    """Sample a displacement (2, M, N) as the flow gives it."""
    grid_y, grid_x = (grid(length, step_px) for length in displacement_px.shape[1:])
    at = np.meshgrid(grid_y, grid_x, indexing="ij")
    u = np.stack([ndimage.map_coordinates(plane, at, order=1) for plane in displacement_px]).astype(np.float32)
    valid = np.ones(u.shape[1:], bool) if valid is None else valid
    return FlowResult(index=1, acquisition="a", view="main", reference_index=0, drift_y_px=drift_px[0],
                      drift_x_px=drift_px[1], grid_y_px=grid_y, grid_x_px=grid_x,
                      displacement_px=np.where(valid, u, np.float32(0)), valid=valid,
                      sigma_px=np.full(valid.shape, 0.05, np.float32))


def likeness(image: np.ndarray, reference: np.ndarray) -> float:
    inner = np.s_[16:-16, 16:-16]
    return float(np.corrcoef(image[inner].ravel(), reference[inner].ravel())[0, 1])


@pytest.mark.parametrize("dose", [np.inf, 2000.0])
def test_a_deformation_is_undone(dose):
    drift = 3.3, -2.6
    made = pair((180, 220), seed=7, dose=dose, amplitude_px=2.0, scale_px=25.0, drift_px=drift)
    truth = made.truth_px - np.reshape(drift, (2, 1, 1))
    local = local_displacement(field_of(truth, drift_px=drift), shape=(180, 220), frame=Pose(drift),
                               reference=Pose((0.0, 0.0)))
    assert local is not None
    np.testing.assert_allclose(local, truth, atol=0.05)
    rigid, right, wrong = (moved_back(made.frame, drift_px=drift, local_px=each) for each in (None, local, -local))
    assert likeness(right, made.reference) > (0.9995 if np.isinf(dose) else 0.985)
    assert likeness(wrong, made.reference) < likeness(rigid, made.reference) < likeness(right, made.reference) - 0.01


def test_a_field_of_zero_is_the_drift_alone(canvas):
    image, pose = crop(canvas), Pose((2.4, -7.7), 0.3)
    rigid = moved_back(image, drift_px=pose.drift_px, rotation_deg=pose.rotation_deg)
    zero = np.zeros((2, *SHAPE), np.float32)
    np.testing.assert_array_equal(
        moved_back(image, drift_px=pose.drift_px, rotation_deg=pose.rotation_deg, local_px=zero), rigid)
    turned = Pose((0.0, 0.0))
    local = local_displacement(field_of(zero, drift_px=(2.4, -7.7)), shape=SHAPE, frame=Pose((2.4, -7.7)),
                               reference=turned)
    assert np.abs(local).max() < 1e-6


@pytest.mark.parametrize("drift", [(0.5, 0.5), (-7.25, 3.6)])
def test_it_is_as_sharp_as_the_drift_alone(canvas, drift):
    image = crop(moved(canvas, *drift))
    half = np.broadcast_to(np.reshape(drift, (2, 1, 1)), (2, *SHAPE)).astype(np.float32) / 2
    both = moved_back(image, drift_px=(drift[0] / 2, drift[1] / 2), local_px=half)   # one resampling, not two
    rigid = moved_back(image, drift_px=drift)
    np.testing.assert_array_equal(np.isfinite(both), np.isfinite(rigid))
    np.testing.assert_allclose(both, rigid, atol=2e-5)


def test_points_that_were_not_measured_are_continued_from_their_neighbours():
    y, x = np.indices((160, 192)) / 40.0
    smooth = np.stack([1.0 + np.sin(y), np.cos(x)])
    rng = np.random.default_rng(3)
    valid = rng.random((20, 24)) > 0.2
    valid[:, :6] = False
    local = local_displacement(field_of(smooth, valid=valid), shape=(160, 192), frame=Pose((0.0, 0.0)),
                               reference=Pose((0.0, 0.0)))
    assert local is not None
    assert np.median(np.abs(local - smooth)[:, :, 56:]) < 0.01
    assert np.abs(local - smooth)[:, 16:-16, 64:-16].max() < 0.2
    assert np.abs(np.diff(local, axis=2)).max() < 0.1   # no step where the measured points end
    assert np.abs(local[:, :, 0] - local[:, :, 56]).max() < 0.5
    assert local_displacement(field_of(smooth, valid=np.zeros_like(valid)), shape=(160, 192), frame=Pose((0.0, 0.0)),
                              reference=Pose((0.0, 0.0))) is None


@pytest.mark.parametrize("turn_deg", [None, 0.8])
def test_a_field_against_another_frame_than_the_origin(turn_deg):
    """The field is given where its reference has the material, the page is where the origin has it."""
    shape, reference, frame = (120, 160), Pose((6.0, -9.0), turn_deg), Pose((2.5, 4.25), turn_deg)
    y, x = np.indices(shape) / 25.0
    u = np.stack([np.sin(x + y), np.cos(y)])
    local = local_displacement(field_of(u, step_px=4, drift_px=(-3.5, 13.25)), shape=shape, frame=frame,
                               reference=reference)
    turn = np.deg2rad(turn_deg or 0.0)
    for place in ((60.0, 80.0), (40.0, 100.0)):
        arm = np.subtract(place, (59.5, 79.5))
        there = (59.5 + arm[0] * np.cos(turn) + arm[1] * np.sin(turn) + 6.0,
                 79.5 - arm[0] * np.sin(turn) + arm[1] * np.cos(turn) - 9.0)
        want = [ndimage.map_coordinates(plane, np.reshape(there, (2, 1)), order=3)[0] for plane in u]
        np.testing.assert_allclose(local[:, int(place[0]), int(place[1])], want, atol=0.01)


def test_unknown_pixels_move_with_the_material(canvas):
    image = crop(canvas).copy()
    image[100, 120] = np.nan
    local = np.zeros((2, *SHAPE), np.float32)
    local[0] = 10.5
    found = moved_back(image, drift_px=(0.0, 0.0), local_px=local)
    lost = np.argwhere(np.isnan(found[:180]))
    np.testing.assert_allclose(lost.mean(axis=0), (89.5, 120), atol=0.6)
    assert len(lost) <= 40


def test_a_displacement_of_another_shape_is_named():
    with pytest.raises(ValueError, match="expected"):
        moved_back(np.ones((8, 8)), drift_px=(0.0, 0.0), local_px=np.zeros((2, 8, 9), np.float32))
