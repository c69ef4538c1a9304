from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor import pixels

ODD = {
    "one pixel": np.ones((1, 1), np.float32), "all NaN": np.full((10, 10), np.nan, np.float32),
    "constant": np.full((10, 10), 3.0, np.float32), "infinite": np.array([[np.inf, 1.0], [-np.inf, 2.0]], np.float32),
    "some NaN": np.where(np.eye(10) > 0, np.nan, 1.0).astype(np.float32), "bytes": np.arange(100, dtype=np.uint8)[None],
}


@pytest.mark.parametrize("name", ODD)
def test_levels_of_odd_images_are_finite_and_in_order(name: str) -> None:
    low, high = pixels.robust(ODD[name])
    assert np.isfinite([low, high]).all()
    assert low <= high
    below, above = pixels.symmetric(ODD[name])
    assert below == -above
    assert np.isfinite(above)
    low, high = pixels.settled(None, (low, high), least=0.1)
    assert high - low >= 0.0999


def test_levels_leave_out_outliers() -> None:
    image = np.random.default_rng(1).uniform(10, 20, (300, 300)).astype(np.float32)
    image[0, 0], image[5, 5] = 1e6, -1e6
    low, high = pixels.robust(image)
    assert 10 <= low < 11
    assert 19 < high <= 20
    assert pixels.symmetric(image)[1] < 21


def test_levels_stay_while_they_nearly_fit() -> None:
    assert pixels.settled((0.0, 10.0), (0.5, 10.5), least=1) == (0.0, 10.0)
    assert pixels.settled((0.0, 10.0), (0.5, 14.0), least=1) == (0.5, 14.0)
    assert pixels.settled(None, (0.5, 14.0), least=1) == (0.5, 14.0)


@given(st.integers(-12, 12), st.integers(-12, 12))
def test_whole_shifts_are_those_of_roll(dy: int, dx: int) -> None:
    image = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    out = pixels.moved(image, dy, dx, (20, 30))
    known = np.isfinite(out)
    assert known.sum() == (20 - abs(dy)) * (30 - abs(dx))
    np.testing.assert_array_equal(out[known], np.roll(image, (dy, dx), (0, 1))[known])


@given(st.floats(-9, 9), st.floats(-9, 9))
def test_a_slope_is_shifted_exactly(dy: float, dx: float) -> None:
    y, x = np.mgrid[:25, :31].astype(np.float32)
    out = pixels.moved(3 * y - 2 * x, dy, dx, (25, 31))
    known = np.isfinite(out)
    assert known.sum() >= 13 * 19
    np.testing.assert_allclose(out[known], (3 * (y - dy) - 2 * (x - dx))[known], atol=2e-3)


@pytest.mark.parametrize("shift", [(100.0, 0.0), (0.0, -40.5), (np.nan, 0.0), (0.0, np.inf), (20.0, 30.0)])
def test_what_is_shifted_out_is_not_known(shift: tuple[float, float]) -> None:
    assert np.isnan(pixels.moved(np.ones((20, 30), np.float32), *shift, (20, 30))).all()


def test_a_shifted_image_may_get_another_shape() -> None:
    out = pixels.moved(np.ones((4, 6), np.float32), 1, 2, (8, 5))
    assert out.shape == (8, 5)
    assert np.isfinite(out[1:5, 2:]).all()
    assert np.isfinite(out).sum() == 12


def test_alike_is_grey_and_differences_are_red_and_blue() -> None:
    reference = np.array([[0.0, 1.0, 0.5, 1.0, np.nan]], np.float32)
    frame = np.array([[1.0, 0.0, 0.5, 1.0, 1.0]], np.float32)
    both = pixels.red_blue(reference, frame, (0.0, 1.0))
    assert both.dtype == np.uint8
    assert both[0, 0].tolist() == [255, 0, 0]       # dark in the reference only
    assert both[0, 1].tolist() == [0, 0, 255]       # dark in the frame only
    assert both[0, 2].tolist() == [127, 127, 127]
    assert both[0, 3].tolist() == [255, 255, 255]
    assert both[0, 4].tolist() == [255, 255, 255]   # nothing to compare with: the frame alone
    assert pixels.red_blue(reference, reference, (0.0, 0.0)).shape == (1, 5, 3)


@pytest.mark.parametrize(("shape", "factor", "expected"), [
    ((9, 10), 2, (4, 5)), ((3, 3), 5, (0, 0)), ((4, 4), 1, (4, 4)),
])
def test_squares_are_averaged(shape: tuple[int, int], factor: int, expected: tuple[int, int]) -> None:
    image = np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape)
    small = pixels.rebinned(image, factor)
    assert small.shape == expected
    if small.size:
        assert small[0, 0] == image[:factor, :factor].mean()


@pytest.mark.parametrize(("shape", "step"), [((10, 10), 1), ((2048, 2048), 1), ((2049, 10), 2), ((8000, 8000), 4)])
def test_huge_images_are_thinned(shape: tuple[int, int], step: int) -> None:
    shown, found = pixels.thinned(np.zeros(shape, np.uint8))
    assert found == step
    assert max(shown.shape) <= 2048


def test_a_magnitude_is_unknown_where_the_field_is() -> None:
    field = np.array([[[3.0, 1.0]], [[4.0, 1.0]]], np.float32)
    assert pixels.magnitude(field, np.array([[True, False]])).tolist()[0][0] == 5.0
    assert np.isnan(pixels.magnitude(field, np.array([[True, False]]))[0, 1])


def test_neighbouring_regions_differ_in_colour_and_outside_is_empty() -> None:
    random = np.random.default_rng(3)
    seeds = random.uniform(0, 40, (30, 2))
    y, x = np.mgrid[:40, :40]
    labels = np.argmin(np.hypot(y[..., None] - seeds[:, 0], x[..., None] - seeds[:, 1]), axis=-1).astype(np.int16)
    labels[:5] = -1
    colours = pixels.region_colours(labels, alpha=100)
    assert (colours[:5] == 0).all()
    assert (colours[5:, :, 3] == 100).all()
    border = (labels[5:, 1:] != labels[5:, :-1])
    assert (colours[5:, 1:][border] != colours[5:, :-1][border]).any(axis=-1).all()
    same = labels == labels[20, 20]
    assert len(np.unique(colours[same], axis=0)) == 1


def test_outlines_surround_a_region() -> None:
    labels = np.full((5, 6), -1, np.int16)
    labels[1:3, 2:5] = 7
    lines = pixels.outlines(labels)
    assert len(lines) == 2 * (2 + 3)
    assert lines[:, ::2].min() == 2
    assert lines[:, ::2].max() == 5
    assert lines[:, 1::2].min() == 1
    assert lines[:, 1::2].max() == 3
    assert not len(pixels.outlines(np.full((4, 4), -1, np.int16)))
    assert len(pixels.outlines(np.zeros((1, 1), np.int16))) == 4
