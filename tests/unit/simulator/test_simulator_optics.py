"""Kernels, canvas and windows against independent arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.fields import frequencies
from simulator.optics import (
    Blur,
    Canvas,
    blurred_window,
    microscope_transfer,
    pixel_positions,
)
from simulator.plan import cathode_canvas
from simulator.truth import blur_length_angle

WINDOW = (96, 128)


@pytest.fixture(scope="module")
def canvas() -> Canvas:
    return cathode_canvas(WINDOW, np.array([[0.0, 0.0], [20.0, -30.0]]), rng=np.random.default_rng(501))


def shift_by_dft(image: np.ndarray, dy: float, dx: float) -> np.ndarray:
    """Full complex DFT in double precision: nothing shared with the code under test."""
    fy, fx = np.fft.fftfreq(image.shape[0])[:, None], np.fft.fftfreq(image.shape[1])[None, :]
    return np.fft.ifft2(np.fft.fft2(image) * np.exp(-2j * np.pi * (fy * dy + fx * dx))).real


def moments(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centroid and covariance (y, x) of a kernel whose centre is the middle pixel."""
    y, x = (np.arange(size) - size // 2 for size in image.shape)
    total = image.sum()
    mean = np.array([(image.sum(1) * y).sum(), (image.sum(0) * x).sum()]) / total
    yy, xx = (image.sum(1) * y * y).sum(), (image.sum(0) * x * x).sum()
    xy = y @ image @ x
    return mean, np.array([[yy, xy], [xy, xx]]) / total - np.outer(mean, mean)


@pytest.mark.parametrize("drift", [(0.37, -0.81), (-12.25, 7.5), (19.9, -29.1)])
def test_window_moves_by_the_exact_fraction_of_a_pixel(canvas: Canvas, drift: tuple[float, float]) -> None:
    whole = canvas.window(canvas.shape, (0.0, 0.0)).astype(np.float64)
    expected = shift_by_dft(whole, *drift)[: WINDOW[0], : WINDOW[1]]
    found = canvas.window(WINDOW, drift)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=3e-6)


def test_positive_drift_moves_the_sample_down_and_right(canvas: Canvas) -> None:
    still, moved = canvas.window(WINDOW, (0, 0)), canvas.window(WINDOW, (3, -2))
    np.testing.assert_allclose(moved[3:, :-2], still[:-3, 2:], atol=2e-6)


@given(dy=st.floats(-8, 8), dx=st.floats(-8, 8))
@settings(max_examples=20, deadline=None)
def test_there_and_back_is_no_change(dy: float, dx: float) -> None:
    rng = np.random.default_rng(7)
    image = rng.standard_normal((40, 54)).astype(np.float32)
    there = Canvas(np.fft.rfft2(image), (40, 54))
    moved = Canvas(np.fft.rfft2(there.window((40, 54), (dy, dx))), (40, 54))
    np.testing.assert_allclose(moved.window((40, 54), (-dy, -dx)), there.window((40, 54), (0, 0)), atol=1e-4)


def test_spline_agrees_with_the_exact_shift(canvas: Canvas) -> None:
    drift = (2.3, -5.7)
    rows, columns = pixel_positions(WINDOW, margin=False)
    y, x = np.meshgrid(rows - np.float32(drift[0]), columns - np.float32(drift[1]), indexing="ij")
    sampled, exact = canvas.sample(y, x), canvas.window(WINDOW, drift)
    gradient = np.stack([part.ravel() for part in np.gradient(exact)], axis=1)
    bias_px = np.linalg.lstsq(gradient, (sampled - exact).ravel(), rcond=None)[0]
    assert np.abs(bias_px).max() < 1e-4
    assert (sampled - exact).std() < 2e-4 * exact.std()


BLURS = [
    Blur("motion", 3.0, 0.0), Blur("motion", 9.0, 7.0), Blur("motion", 6.0, -90.0), Blur("motion", 5.0, 135.0),
    Blur("vibration", 4.0, 30.0), Blur("defocus", 1.6),
]


@pytest.mark.parametrize("blur", BLURS, ids=str)
def test_kernel_has_the_second_moments_it_declares(blur: Blur) -> None:
    # A smooth blob that is blurred gets the covariance of the kernel on top of its own: no truncation, no ringing.
    size, own = (96, 96), 2.5
    fy, fx = frequencies(size)
    centre = np.exp(-2j * np.pi * (fy * 48 + fx * 48))
    blob = np.exp(-2 * (np.pi * own) ** 2 * (fy**2 + fx**2)) * centre
    image = Canvas(blob.astype(np.complex64), size).window(size, (0, 0), blur).astype(np.float64)
    mean, covariance = moments(image)
    np.testing.assert_allclose(mean, 0, atol=2e-3)
    np.testing.assert_allclose(covariance - np.eye(2) * own**2, blur.covariance_px2, atol=0.02)


@pytest.mark.parametrize("blur", BLURS, ids=str)
def test_both_ways_of_blurring_agree(canvas: Canvas, blur: Blur) -> None:
    rows, columns = pixel_positions(WINDOW, margin=True)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    np.testing.assert_allclose(
        blurred_window(canvas.sample(y, x), blur), canvas.window(WINDOW, (0, 0), blur), atol=1e-3)


@pytest.mark.parametrize("length", [1.0, 4.5, 12.0])
@pytest.mark.parametrize("angle", [0.0, 8.0, -8.0, 45.0, 90.0, -60.0])
def test_length_and_angle_are_those_of_the_motion(length: float, angle: float) -> None:
    found = blur_length_angle(Blur("motion", length, angle).covariance_px2)
    assert found == pytest.approx((length, angle), abs=1e-6)


def test_angle_is_counter_clockwise_on_the_screen_and_in_its_range() -> None:
    up_and_right = np.array([[1.0, -1.0], [-1.0, 1.0]])  # y points down: up is negative
    assert blur_length_angle(up_and_right)[1] == pytest.approx(45)
    assert blur_length_angle(np.diag([4.0, 0.0]))[1] == pytest.approx(90)
    assert blur_length_angle(Blur("motion", 3, -90).covariance_px2)[1] == pytest.approx(90)


def test_round_blur_and_no_blur_have_no_direction() -> None:
    length, angle = blur_length_angle(Blur("defocus", 2.0).covariance_px2)
    assert length == pytest.approx(2 * math.sqrt(12))
    assert math.isnan(angle)
    assert blur_length_angle(np.zeros((2, 2)))[0] == 0


def test_microscope_passes_slow_waves_and_stops_fast_ones() -> None:
    f = np.linspace(0, 1.2, 50, dtype=np.float32)
    transfer = microscope_transfer(np.zeros_like(f), f, cutoff=0.9)
    assert transfer[0] == pytest.approx(1)
    assert np.all(np.diff(transfer[f < 0.9]) < 0)
    np.testing.assert_allclose(transfer[f > 0.9], 0, atol=1e-6)
