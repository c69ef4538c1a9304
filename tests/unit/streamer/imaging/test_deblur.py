"""Restored frames against the frames that they were: simulated, with seeds that nothing was tuned on."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scenes import Scene

from streamer.errors import FrameError
from streamer.imaging.blur import baseline_of
from streamer.imaging.correction import correct
from streamer.imaging.deblur import covariance_of, point_spread, richardson_lucy, signal_model, wiener
from streamer.imaging.recovery import METHODS, expected_gain, restore
from streamer.imaging.spectrum import NoiseShape, polar_power

BLURS = [("motion", 3.0), ("motion", 5.0), ("motion", 8.0), ("motion", 12.0),
         ("defocus", 1.0), ("defocus", 2.0), ("defocus", 3.0)]
ANGLE = -35.0


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(911, (400, 420))


def blurred(scene: Scene, shape: str, size: float, photons: float, seed: int = 0) -> np.ndarray:
    blur = {"length_px": size, "angle_deg": ANGLE} if shape == "motion" else {"defocus_px": size}
    return correct(scene.frame(np.random.default_rng([seed, 77]), photons=photons, **blur)) / np.float32(photons)


def covariance(shape: str, size: float) -> np.ndarray:
    return covariance_of(size if shape == "motion" else np.sqrt(12) * size, ANGLE, shape)


def rms(image: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(image - truth))))


@pytest.mark.parametrize("photons", [50.0, 200.0, 1000.0])
@pytest.mark.parametrize(("shape", "size"), BLURS)
def test_restored_frames_are_nearer_to_the_truth(scene: Scene, shape: str, size: float, photons: float) -> None:
    image, truth = blurred(scene, shape, size, photons), scene.clean()
    nothing = point_spread(np.zeros((2, 2)))
    smoothed = rms(wiener(image, nothing, signal_model(polar_power(image), nothing)), truth)
    for method in METHODS:
        restored, recovery = restore(image, covariance(shape, size), shape, method=method)
        assert rms(restored, truth) <= rms(image, truth)
        if not recovery.worthwhile:
            assert restored is image
            assert recovery.text.startswith("nothing to gain")
            continue
        assert rms(restored, truth) < smoothed   # the gain is not that of smoothing alone
        assert 1 - rms(restored, truth) / smoothed == pytest.approx(recovery.expected_gain, abs=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_a_blur_that_is_a_little_wrong_does_no_harm(scene: Scene, method: str) -> None:
    image, truth = blurred(scene, "motion", 8.0, 200.0), scene.clean()
    right = rms(restore(image, covariance_of(8.0, ANGLE, "motion"), "motion", method=method)[0], truth)
    for length, angle in ((7.3, ANGLE + 4), (8.7, ANGLE - 4)):
        found = restore(image, covariance_of(length, angle, "motion"), "motion", method=method)[0]
        assert rms(found, truth) < 1.1 * right


def test_the_power_comes_back_along_the_blur(scene: Scene) -> None:
    sharp = [polar_power(blurred(scene, "motion", 0.0, 1000.0, seed)) for seed in range(4)]
    image = blurred(scene, "motion", 8.0, 1000.0)
    _, recovery = restore(image, covariance("motion", 8.0), "motion", baseline=baseline_of(sharp), pixel_size_nm=20.0)
    assert recovery.reach is not None
    assert recovery.angle_deg == pytest.approx(ANGLE)
    usable = (recovery.frequency > 0.3 * recovery.reach) & (recovery.frequency < 0.65 * recovery.reach)
    before, after = (np.median(part[usable] / recovery.expected[usable]) for part in (recovery.before, recovery.after))
    assert before < 0.65
    assert 0.75 < after < 1.15
    beyond = recovery.frequency > 1.2 * recovery.reach
    assert np.median(recovery.after[beyond] / recovery.expected[beyond]) < 0.2
    assert 0.6 / 8 < recovery.reach < 1 / 8
    assert recovery.half_period_px == pytest.approx(0.5 / recovery.reach)
    assert f"half-period {recovery.half_period_px:.1f} px, {20 * recovery.half_period_px:.0f} nm" in recovery.text


def test_zeros_of_the_blur_are_named_as_lost() -> None:
    bright = Scene(912, (400, 420))
    _, recovery = restore(blurred(bright, "motion", 12.0, 60_000.0), covariance("motion", 12.0), "motion")
    assert recovery.reach is not None
    assert recovery.reach > 1 / 12
    low, high = recovery.lost[0]
    assert low < 1 / 12 < high
    assert f"without {low:.3f}-{high:.3f}" in recovery.text


def test_little_blur_and_little_light_are_left_alone(scene: Scene) -> None:
    for size, photons in ((1.0, 200.0), (3.0, 20.0), (0.0, 1000.0)):
        image = blurred(scene, "motion", size, photons)
        restored, recovery = restore(image, covariance("motion", size), "motion")
        assert restored is image
        assert not recovery.worthwhile
        np.testing.assert_array_equal(recovery.before, recovery.after)


@pytest.mark.parametrize("restorer", [wiener, richardson_lucy])
@pytest.mark.parametrize("shape", [(400, 420), (131, 197), (64, 300)])
def test_mean_type_shape_and_border(scene: Scene, restorer, shape: tuple[int, int]) -> None:
    image = np.ascontiguousarray(blurred(scene, "motion", 8.0, 500.0)[:shape[0], :shape[1]])
    kept = image.copy()
    spread = point_spread(covariance("motion", 8.0), "motion")
    restored = restorer(image, spread, signal_model(polar_power(image), spread))
    np.testing.assert_array_equal(image, kept)
    assert restored.dtype == np.float32
    assert restored.shape == shape
    assert restored.mean() == pytest.approx(image.mean(), rel=1e-4)
    truth = scene.clean()[:shape[0], :shape[1]]
    inner, edge = np.zeros(shape, bool), np.ones(shape, bool)
    inner[16:-16, 16:-16] = True
    edge[6:-6, 6:-6] = False
    assert rms(restored[edge], truth[edge]) < 1.8 * rms(restored[inner], truth[inner])   # no ringing from the border


def test_richardson_lucy_stays_positive_on_dark_frames(scene: Scene) -> None:
    image = blurred(scene, "motion", 12.0, 30.0) - np.float32(0.3)   # noise reaches below zero
    spread = point_spread(covariance("motion", 12.0), "motion")
    assert richardson_lucy(image, spread, signal_model(polar_power(image), spread)).min() >= 0


def test_dark_parts_and_coloured_noise_are_taken_into_account(scene: Scene) -> None:
    spread = point_spread(covariance("motion", 8.0), "motion")
    power = polar_power(blurred(scene, "motion", 8.0, 200.0))
    even = signal_model(power, spread)
    light = np.full(scene.shape, 0.25, np.float32)
    assert signal_model(power, spread, light=light).noise == pytest.approx(4 * even.noise)
    falling = np.linspace(3.0, 1.0, 24, dtype=np.float32)[:, None] * np.ones((1, 12), np.float32)
    cut = np.ones(4, np.float32)
    noisy = signal_model(power, spread, noise=NoiseShape(falling, cut, cut))
    frequency = np.array([0.02, 0.28, 0.6])
    assert noisy.noise_at(frequency) / noisy.noise == pytest.approx([2.9, 1.1, 1.0], abs=0.1)
    assert expected_gain(spread, noisy) < expected_gain(spread, even)


@given(st.floats(0, 30), st.floats(0, 30), st.floats(-90, 90), st.sampled_from(["motion", "defocus", "mixed", ""]))
def test_point_spreads_keep_light_and_variance(first: float, second: float, angle: float, shape: str) -> None:
    turn = np.radians(angle)
    along = np.array([-np.sin(turn), np.cos(turn)])
    least, largest = sorted((first, second))
    asked = least * np.eye(2) + (largest - least) * np.outer(along, along)
    spread = point_spread(asked, shape)
    axis = np.linspace(-0.5, 0.5, 21)
    transfer = spread.transfer(axis[:, None], axis[None, :])
    assert transfer[10, 10] == 1.0
    assert np.abs(transfer).max() <= 1.0 + 1e-12
    np.testing.assert_allclose(transfer, transfer[::-1, ::-1], atol=1e-12)
    variance = np.outer(spread.motion, spread.motion) / 12 + spread.gaussian
    assert np.trace(variance) == pytest.approx(np.trace(asked), abs=1e-9)
    if shape in ("motion", "mixed"):
        np.testing.assert_allclose(variance, asked, atol=1e-6)


def test_the_transfer_is_that_of_the_blur_it_names() -> None:
    motion = point_spread(covariance_of(6.0, 0.0, "motion"), "motion")   # along x
    axis = np.array([0.0, 0.05, 0.1, 0.2])
    np.testing.assert_allclose(motion.transfer(np.zeros(4), axis), np.sinc(6 * axis), atol=1e-12)
    np.testing.assert_allclose(motion.transfer(axis, np.zeros(4)), 1.0, atol=1e-12)
    up = point_spread(covariance_of(6.0, 45.0, "motion"), "motion")   # counter-clockwise on the screen: up is -y
    along, across = (float(up.transfer(np.array(fy), np.array(0.05))) for fy in (-0.05, 0.05))
    assert along < 0.9 < across
    round_ = point_spread(covariance_of(np.sqrt(12) * 2, 0.0, "defocus"), "defocus")
    np.testing.assert_allclose(round_.transfer(axis, np.zeros(4)), np.exp(-2 * (np.pi * 2 * axis) ** 2))
    assert any(point_spread([[1, 0], [0, 9]]).motion)       # clearly along x
    assert not any(point_spread([[5, 0], [0, 9]]).motion)


@pytest.mark.parametrize(("call", "reason"), [
    (lambda image: restore(image, np.eye(2), "swirl"), "expected motion, defocus or mixed"),
    (lambda image: restore(image, np.full((2, 2), np.nan)), "finite numbers"),
    (lambda image: restore(image, np.eye(3)), "two by two"),
    (lambda image: restore(image, np.eye(2), method="magic"), "wiener or richardson_lucy"),
    (lambda image: restore(image[:20], np.eye(2)), "too small"),
    (lambda image: restore(-image - 1, covariance("motion", 12.0), "motion", method="richardson_lucy"), "light"),
])
def test_what_cannot_be_restored_is_refused(scene: Scene, call, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        call(blurred(scene, "motion", 3.0, 200.0))


def test_noise_alone_and_a_constant_frame_are_given_back(scene: Scene) -> None:
    noise = np.random.default_rng(3).poisson(100, (200, 220)).astype(np.float32)
    for image in (noise, np.full((200, 220), 7.0, np.float32)):
        restored, recovery = restore(image, covariance("motion", 8.0), "motion")
        assert np.isfinite(restored).all()
        assert rms(restored, image) < 1.05 * float(image.std()) + 1e-3
        assert recovery.text


def test_cost() -> None:
    image = np.random.default_rng(0).poisson(100, (654, 678)).astype(np.float32)
    spread = point_spread(covariance("motion", 8.0), "motion")
    model = signal_model(polar_power(image), spread)
    elapsed = []
    for _ in range(5):
        started = time.perf_counter()
        wiener(image, spread, model)
        elapsed.append(1e3 * (time.perf_counter() - started))
    assert min(elapsed) < 60   # 13 ms on an idle core
