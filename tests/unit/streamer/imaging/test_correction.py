from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import FrameError
from streamer.imaging.correction import IDENTITY, Correction, correct, level

SHAPE = (96, 120)


def noisy(seed: int = 0, mean: float = 200.0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(mean, SHAPE).astype(np.uint16)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "f2", "f4", "f8", ">u2"])
def test_every_real_dtype_keeps_its_values(dtype):
    pixels = noisy(1, 60).astype(dtype)
    before = pixels.copy()
    image = correct(pixels)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, before.astype(np.float32))
    np.testing.assert_array_equal(pixels, before)


def test_read_only_pixels_are_fine():
    pixels = noisy()
    pixels.flags.writeable = False
    assert correct(pixels).flags.writeable


def test_dark_and_flat_give_the_transmission():
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]]
    sample = 0.5 + 0.4 * np.sin(x / 9) * np.sin(y / 7)
    light = 800 * (1 + 0.3 * np.cos(y / 40)) * rng.uniform(0.9, 1.1, SHAPE)
    dark = rng.uniform(90, 110, SHAPE)
    image = correct(sample * light + dark, Correction(dark.astype(np.float32), (1 / light).astype(np.float32)))
    np.testing.assert_allclose(image, sample, atol=1e-4)


def test_zingers_are_repaired_and_noise_is_not():
    pixels = noisy(4)
    clean = pixels.copy()
    rng = np.random.default_rng(5)
    places = rng.integers(3, 93, (40, 2))
    for row, column in places:
        pixels[row, column] = rng.integers(900, 60000)
    image = correct(pixels)
    hit = np.zeros(SHAPE, bool)
    hit[tuple(places.T)] = True
    assert np.abs(image[hit] - 200).max() < 70
    assert np.count_nonzero(image[~hit] != clean[~hit]) <= 2


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_sharp_structure_stays(noise):
    scene = np.full(SHAPE, 100.0)
    scene[20:60, 20:60] = 300          # corners and edges
    scene[70, 10:100] = 400            # a line of one pixel
    scene[5:90, 100] = 20
    for k in range(30):                # a diagonal of one pixel
        scene[65 + k, 20 + 2 * k:22 + 2 * k] = 350
    scene += np.random.default_rng(6).normal(0, noise, SHAPE)
    changed = correct(scene.astype(np.float32)) != scene.astype(np.float32)
    assert np.count_nonzero(changed) <= 4   # ends of the lines and crossings at most


def test_bad_pixels_take_the_value_of_their_neighbours():
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]]
    truth = 100 + x + 2.0 * y
    bad = np.zeros(SHAPE, bool)
    bad[10, 10] = bad[30:32, 40:42] = bad[:, 77] = bad[0, 0] = True
    pixels = np.where(bad, 60000, truth)
    image = correct(pixels, Correction(bad=bad))
    assert np.abs(image - truth)[1:-1, 1:-1].max() < 3.0
    assert abs(image[0, 0] - truth[0, 0]) < 6


def test_dead_rows_and_hot_columns_are_repaired():
    pixels = noisy(14)
    clean = pixels.astype(np.float32)
    pixels[40], pixels[0], pixels[:, 60:62] = 0, 60000, 4000
    image = correct(pixels)
    assert np.abs(image[40].mean() - 200) < 5
    assert np.abs(image[1:, 60:62].mean() - 200) < 5
    lines = np.zeros(SHAPE, bool)
    lines[40] = lines[0] = lines[:, 60:62] = True
    assert np.count_nonzero(image[~lines] != clean[~lines]) <= 2


@pytest.mark.parametrize("top", [4095, 65535])
def test_saturated_patches_are_filled(top):
    pixels = noisy(15)
    pixels[20:40, 50:70] = top
    image = correct(pixels)
    assert np.abs(image[20:40, 50:70] - 200).max() < 60


def test_unlit_pixels_become_neutral():
    weight = np.ones(SHAPE, np.float32)
    weight[:30, :40] = 0
    gain = np.where(weight > 0, 1 / 200, 0).astype(np.float32)
    image = correct(noisy(8), Correction(gain=gain, weight=weight))
    assert image[5, 5] == pytest.approx(1.0, abs=0.01)
    assert image[:30, :40].std() == 0


def test_few_lost_pixels_are_repaired():
    pixels = noisy(9).astype(np.float32)
    pixels[3, 4], pixels[50, 60], pixels[70, 70] = np.nan, np.inf, -np.inf
    image = correct(pixels)
    assert np.isfinite(image).all()
    assert image[50, 60] == pytest.approx(200, abs=30)


def test_many_lost_pixels_are_an_error_that_names_their_share():
    pixels = np.ones(SHAPE)
    pixels[:12] = np.nan
    with pytest.raises(FrameError, match=r"12\.5 %"):
        correct(pixels)


def test_values_beyond_float32_count_as_lost():
    with pytest.raises(FrameError, match="infinite"):
        correct(np.full(SHAPE, 1e300))


@pytest.mark.parametrize("pixels", [np.zeros((0, 4)), np.zeros((3, 4, 5)), np.zeros(7), np.zeros((4, 4), complex),
                                    np.full((4, 4), "x"), np.zeros((4, 4), object)])
def test_what_is_no_frame_is_refused(pixels):
    with pytest.raises(FrameError):
        correct(pixels)
    with pytest.raises(FrameError):
        level(pixels)


def test_calibration_of_another_size_is_refused():
    with pytest.raises(FrameError, match=r"\(96, 120\).*\(4, 4\)"):
        correct(noisy(), Correction(dark=np.zeros((4, 4), np.float32)))


@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (4, 4), (5, 5)])
def test_tiny_frames_pass(shape):
    np.testing.assert_array_equal(correct(np.full(shape, 7, np.uint8)), 7)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), power=st.integers(-6, 6))
def test_repair_does_not_depend_on_the_unit(seed, power):
    pixels = noisy(seed).astype(np.float32)
    pixels[40, 40] = 9000
    np.testing.assert_array_equal(correct(pixels * 2.0**power), correct(pixels) * np.float32(2.0**power))


def saturated(share: float, top: int) -> np.ndarray:
    pixels = noisy(11).astype(np.uint16)
    pixels.ravel()[:int(share * pixels.size)] = top
    return pixels


@pytest.mark.parametrize(("pixels", "expected"), [
    (noisy(12), 0.0),
    (saturated(0.25, 65535), 0.25),
    (saturated(0.10, 4095), 0.10),
    (saturated(0.10, 4095).astype(np.float32), 0.10),
    (np.full(SHAPE, 65535, np.uint16), 1.0),
    (np.full(SHAPE, 300, np.uint16), 0.0),
    (np.random.default_rng(1).poisson(0.7, SHAPE), 0.0),
    (np.random.default_rng(1).normal(1, 0.1, SHAPE), 0.0),
])
def test_saturation_is_the_top_of_the_range_or_a_plateau(pixels, expected):
    assert level(pixels).saturated_fraction == pytest.approx(expected, abs=1e-3)


def test_level_counts_from_the_dark():
    dark = np.full(SHAPE, 90, np.float32)
    found = level(noisy(13), Correction(dark=dark))
    assert found.mean == pytest.approx(110, abs=1)
    assert found.minimum < 200 < found.maximum
    pixels = noisy(13).astype(float)
    pixels[:48] = np.nan
    assert level(pixels, IDENTITY).finite_fraction == pytest.approx(0.5)
    assert level(np.full(SHAPE, np.nan)).finite_fraction == 0


def test_blocks_are_means_of_their_parts_and_keep_nan_to_themselves():
    rng = np.random.default_rng(5)
    pixels = rng.poisson(500, (240, 160)).astype(np.float32)
    parts = pixels[::3].reshape(8, 10, 8, 20).mean(axis=(1, 3))

    np.testing.assert_allclose(level(pixels).blocks, parts, rtol=1e-5)
    pixels[0, 0] = np.nan
    blocks = level(pixels).blocks

    assert np.isnan(blocks[0, 0])
    np.testing.assert_allclose(blocks.ravel()[1:], parts.ravel()[1:], rtol=1e-5)
    pixels[:60] = np.inf
    blocks = level(pixels).blocks
    assert not np.isfinite(blocks[:2]).any()
    np.testing.assert_allclose(blocks[2:], parts[2:], rtol=1e-5)
