from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import FrameError
from streamer.imaging.spectrum import (
    HIGHEST,
    LOWEST,
    RINGS,
    SECTORS,
    NoiseShape,
    bin_frequencies,
    fast_size,
    frequencies,
    measure_spectrum,
    polar_bins,
    polar_power,
)

SHAPE = (327, 339)


def wave(fy: float, fx: float, shape: tuple[int, int] = SHAPE, depth: float = 0.3) -> np.ndarray:
    y, x = np.mgrid[:shape[0], :shape[1]]
    return (1 + depth * np.cos(2 * np.pi * (fy * y + fx * x))).astype(np.float32)


@pytest.mark.parametrize("shape", [(654, 678), (512, 512), (200, 331)])
@pytest.mark.parametrize("photons", [20, 1000])
def test_white_noise_has_no_power_above_its_floor(shape, photons):
    image = np.random.default_rng(shape[1] + photons).poisson(photons, shape).astype(np.float32)
    power = polar_power(image)
    assert power.floor == pytest.approx(1 / photons, rel=0.05)
    pull = power.power * np.sqrt(power.counts / 1.33) / power.floor
    assert abs(pull.mean()) < 0.35
    assert 0.85 < pull.std() < 1.2
    assert power.power.shape == power.counts.shape == (RINGS, SECTORS)
    assert power.power.dtype == power.counts.dtype == np.float32


@pytest.mark.parametrize(("fy", "fx"), [(0.05, 0.02), (-0.10, 0.10), (0.2, 0.03), (-0.02, 0.15)])
def test_a_wave_falls_into_its_bin(fy, fx):
    power = polar_power(wave(fy, fx)).power
    ring, sector = np.unravel_index(np.argmax(power), power.shape)
    assert ring == int((np.hypot(fy, fx) - LOWEST) / (HIGHEST - LOWEST) * RINGS)
    near = bin_frequencies(1)[ring, sector, 0]
    angle = np.arctan2(fy, fx)
    assert np.degrees(abs(np.arctan2(near[1], near[2]) - angle)) % 180 == pytest.approx(0, abs=8) or near[2] < near[0]
    assert np.sign(near[1]) == np.sign(fy * fx)


def test_frame_size_and_brightness_do_not_matter():
    rng = np.random.default_rng(2)
    large = rng.poisson(100, (648, 675)).astype(np.float32)
    assert polar_power(large[:324, :324].copy()).floor == pytest.approx(polar_power(large).floor, rel=0.05)
    image = wave(0.04, 0.07) + rng.normal(0, 0.1, SHAPE).astype(np.float32)
    np.testing.assert_allclose(polar_power(image * 64).power, polar_power(image).power, rtol=1e-4, atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(rows=st.integers(-400, 400), columns=st.integers(-400, 400))
def test_power_does_not_see_where_a_periodic_scene_stands(rows, columns):
    scene = sum(wave(k / 324, m / 324, (324, 324), 0.1) for k, m in ((7, 11), (-20, 16), (31, 9)))
    moved = polar_power(np.roll(scene, (rows, columns), (0, 1))).power
    np.testing.assert_allclose(moved.sum(), polar_power(scene).power.sum(), rtol=0.05)


def test_uneven_light_keeps_noise_white_and_leaves_no_edge():
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]]
    weight = np.clip((y + x - 100) / 200, 0, 1).astype(np.float32)
    counts = np.random.default_rng(6).poisson(300 * weight)
    image = np.divide(counts, 300 * weight, out=np.ones(SHAPE), where=weight > 0).astype(np.float32)
    power = polar_power(image, weight)
    assert power.floor == pytest.approx(1 / 300, rel=0.05)
    pull = power.power * np.sqrt(power.counts / 1.33) / power.floor
    assert abs(pull.mean()) < 0.35
    with pytest.raises(FrameError, match="weight"):
        polar_power(image, weight[1:])


def test_even_light_changes_nothing():
    image = wave(0.05, 0.08) + np.random.default_rng(7).normal(0, 0.1, SHAPE).astype(np.float32)
    even = polar_power(image, np.ones(SHAPE, np.float32))
    np.testing.assert_allclose(even.power, polar_power(image).power, rtol=1e-3, atol=1e-8)


def test_residual_lines_leave_no_trace():
    image = np.random.default_rng(4).poisson(200, SHAPE).astype(np.float32)
    clean = polar_power(image)
    image[100] *= 1.05
    image[:, 200] *= 0.95
    struck = polar_power(image)
    scatter = np.sqrt(1.33 / np.maximum(clean.counts, 4)) / 200
    assert (np.abs(struck.power - clean.power)[1:] < 3 * scatter[1:]).all()


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_constant_frames_have_no_power(value):
    power = polar_power(np.full(SHAPE, value, np.float32))
    assert power.floor == 0
    assert not power.power.any()


@pytest.mark.parametrize("shape", [(31, 200), (200, 16), (1, 1)])
def test_small_frames_are_refused(shape):
    with pytest.raises(FrameError, match="too small"):
        polar_power(np.ones(shape, np.float32))


@pytest.mark.parametrize("shape", [(32, 32), (33, 700), (64, 48)])
def test_small_but_sufficient_frames_pass(shape):
    power = polar_power(np.random.default_rng(5).poisson(90, shape).astype(np.float32))
    assert np.isfinite(power.power).all()
    assert np.isfinite(power.floor)


def test_sides_are_cropped_to_fast_sizes():
    assert [fast_size(size) for size in (654, 678, 1024, 7, 1)] == [648, 675, 1024, 6, 1]
    assert polar_power(np.ones((654, 678), np.float32)).shape == (648, 675)


@pytest.mark.parametrize(("fy", "fx"), [(0.0, 0.125), (0.0625, 0.0)])
def test_directional_spectra_and_picture_tell_the_direction(fy, fx):
    spectrum = measure_spectrum(wave(fy + 0.011, fx + 0.011))
    along, across = (spectrum.horizontal, spectrum.vertical) if fx else (spectrum.vertical, spectrum.horizontal)
    assert frequencies(along.size)[np.argmax(along)] == pytest.approx(max(fy, fx) + 0.011, abs=0.008)
    assert along.max() > 30 * across[20:].max()
    down, right = np.unravel_index(np.argmax(spectrum.picture), spectrum.picture.shape)
    assert (down + 0.5) / 64 - 0.5 == pytest.approx(fy + 0.011, abs=0.01)
    assert (right + 0.5) / 64 == pytest.approx(fx + 0.011, abs=0.01)


def test_noise_is_flat_in_directional_spectra_and_picture():
    spectrum = measure_spectrum(np.random.default_rng(8).poisson(100, (654, 678)).astype(np.float32))
    for values, counts in zip((spectrum.horizontal, spectrum.vertical), spectrum.cut_counts, strict=True):
        assert values.size == 64
        pull = (values / 0.01 - 1) * np.sqrt(counts / 1.33)
        assert 0.7 < pull.std() < 1.4
    assert np.median(spectrum.picture) == pytest.approx(0.01, rel=0.1)


def test_modes_have_the_unit_of_the_power():
    spectrum = measure_spectrum(np.random.default_rng(9).poisson(50, SHAPE).astype(np.float32))
    assert spectrum.modes.dtype == np.complex64
    assert np.mean(np.abs(spectrum.modes[3:-3, 3:]) ** 2) == pytest.approx(0.02, rel=0.05)


def test_a_measured_shape_of_the_noise_is_taken_off():
    image = np.random.default_rng(10).poisson(100, SHAPE).astype(np.float32)
    white = measure_spectrum(image)
    ones = [np.ones_like(values) for values in (white.power.power, white.horizontal, white.vertical)]
    same = measure_spectrum(image, noise=NoiseShape(*ones))
    np.testing.assert_array_equal(same.power.power, white.power.power)
    louder = measure_spectrum(image, noise=NoiseShape(ones[0] * np.float32(1.5), *ones[1:]))
    inside = white.power.counts > 0
    lowered = white.power.power[inside] - 0.5 * white.power.floor
    np.testing.assert_allclose(louder.power.power[inside], lowered, atol=1e-6)


@pytest.mark.parametrize("shape", [(648, 675), (64, 64), (32, 48)])
def test_bins_hold_every_mode_once(shape):
    bins = polar_bins(*shape)
    for groups in (bins.modes, bins.horizontal, bins.vertical, bins.cells):
        assert groups.counts.sum() == groups.modes.size == np.unique(groups.modes).size
        assert groups.starts.size == groups.filled.size


def test_bins_lie_between_the_limits():
    radius = np.sqrt(bin_frequencies(4)[..., 0] + bin_frequencies(4)[..., 2])
    assert (np.diff(radius[:, 0, 0]) > 0).all()
    assert LOWEST < radius.min() < radius.max() < HIGHEST
