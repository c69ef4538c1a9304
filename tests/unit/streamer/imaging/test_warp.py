"""Frames moved back onto their reference: where they land, how sharp they stay, what is not known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from support.motion_scenes import moved, specimen

from streamer.imaging.warp import moved_back

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
