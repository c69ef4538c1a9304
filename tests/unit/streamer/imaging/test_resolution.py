from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scenes import Scene

from streamer.imaging.resolution import Resolution, resolution
from streamer.imaging.spectrum import NoiseShape, Spectrum, frequencies, measure_spectrum, polar_bins

BLURS: dict[str, dict[str, float]] = {"sharp": {}, "along x": {"length_px": 5.0}, "defocus": {"defocus_px": 1.5}}


@cache
def scene(seed: int) -> Scene:
    return Scene(seed)


def exposed(clean: np.ndarray, rng: np.random.Generator, photons: float) -> np.ndarray:
    counts = rng.poisson(photons * clean) + rng.normal(0, 1.0, clean.shape)
    return np.clip(np.rint(counts), 0, 65535).astype(np.float32)


def without_noise(clean: np.ndarray, photons: float) -> Spectrum:
    """Spectrum as it would be in the mean over all noise: that of the clean frame and the true floor."""
    spectrum = measure_spectrum(clean.astype(np.float32))
    rows, columns = spectrum.power.shape
    bins = polar_bins(rows, columns)
    top, left = (clean.shape[0] - rows) // 2, (clean.shape[1] - columns) // 2
    crop = clean[top:top + rows, left:left + columns]
    variance = photons * float(bins.window_y**2 @ crop @ bins.window_x**2) / bins.scale + 1 + 1 / 12
    floor = variance / (photons * crop.mean()) ** 2
    return replace(spectrum, horizontal=spectrum.horizontal + np.float32(floor),
                   vertical=spectrum.vertical + np.float32(floor), power=replace(spectrum.power, floor=floor))


def crossing_px(power: np.ndarray, floor: float) -> float:
    """Half-period where a smoothed noise-free spectrum meets the floor, without any fit."""
    level = np.log(np.maximum(power / floor - 1, 1e-9))
    smooth = np.convolve(np.pad(level, 2, mode="edge"), np.array([1, 2, 3, 2, 1]) / 9, "valid")
    first = int(np.flatnonzero(smooth < 0)[0])
    log_f = np.log(frequencies(power.size))
    share = smooth[first - 1] / (smooth[first - 1] - smooth[first])
    return float(0.5 / np.exp(log_f[first - 1] + share * (log_f[first] - log_f[first - 1])))


@pytest.mark.parametrize("blur", BLURS)
@pytest.mark.parametrize("photons", [50, 1000])
def test_the_truth_is_recovered_and_errors_are_as_predicted(photons: float, blur: str) -> None:
    pulls = []
    for seed in (41, 42):
        clean = scene(seed).clean(**BLURS[blur])
        ideal = without_noise(clean, photons)
        truth = resolution(ideal)
        assert truth.x_px == pytest.approx(crossing_px(ideal.horizontal, ideal.power.floor), rel=0.05)
        assert truth.y_px == pytest.approx(crossing_px(ideal.vertical, ideal.power.floor), rel=0.05)
        rng = np.random.default_rng([seed, int(photons)])
        for _ in range(14):
            found = resolution(measure_spectrum(exposed(clean, rng, photons)))
            pulls += [(found.x_px - truth.x_px) / found.x_sigma_px, (found.y_px - truth.y_px) / found.y_sigma_px]
            assert found.x_sigma_px < 0.05 * found.x_px
    assert np.std(pulls) == pytest.approx(1.0, abs=0.27)   # of 56 draws
    assert abs(np.mean(pulls)) < 0.45


def test_blur_worsens_its_direction_and_photons_help() -> None:
    def of(photons: float, **blur: float) -> Resolution:
        return resolution(measure_spectrum(scene(43).frame(np.random.default_rng(5), photons=photons, **blur)
                                           .astype(np.float32)))

    few, usual, many = (of(photons) for photons in (40, 200, 1000))
    assert few.x_px > 1.2 * usual.x_px > 1.2**2 * many.x_px
    moved = of(200, length_px=4.0, angle_deg=0.0)
    assert moved.x_px > usual.x_px + 5 * moved.x_sigma_px
    assert moved.y_px == pytest.approx(usual.y_px, abs=4 * usual.y_sigma_px)
    up = of(200, length_px=4.0, angle_deg=90.0)
    assert up.y_px > usual.y_px + 5 * up.y_sigma_px
    assert up.x_px == pytest.approx(usual.x_px, abs=4 * usual.x_sigma_px)
    lengths = [of(200, length_px=length).x_px for length in (0.0, 3.0, 6.0, 12.0)]
    assert (np.diff(lengths) > 0).all()


@settings(max_examples=8, deadline=None)
@given(factor=st.floats(1e-4, 1e4))
def test_the_unit_of_brightness_does_not_matter(factor: float) -> None:
    frame = small_frame()
    np.testing.assert_allclose(resolution(measure_spectrum(frame * np.float32(factor))),
                               resolution(measure_spectrum(frame)), rtol=1e-3)


@cache
def small_frame() -> np.ndarray:
    return Scene(44, (240, 260), 32).frame(np.random.default_rng(1), photons=300).astype(np.float32)


@pytest.mark.parametrize("shape", [(64, 64), (96, 300), (240, 260), (654, 678)])
def test_nothing_is_claimed_of_frames_without_structure(shape: tuple[int, int]) -> None:
    for seed in range(4):
        noise = np.random.default_rng([seed, *shape]).poisson(100, shape).astype(np.float32)
        assert resolution(measure_spectrum(noise)) == Resolution(None, None, None, None)
    assert resolution(measure_spectrum(np.ones(shape, np.float32))) == Resolution()


def test_structure_up_to_the_pixel_is_a_limit_without_error() -> None:
    spectrum = measure_spectrum(np.random.default_rng(2).poisson(100, (300, 320)).astype(np.float32))
    loud = replace(spectrum, horizontal=spectrum.horizontal * np.float32(5))
    assert resolution(loud) == Resolution(1.0, None, None, None)


def test_one_periodic_disturbance_does_not_set_the_resolution() -> None:
    spectrum = measure_spectrum(scene(43).frame(np.random.default_rng(8), photons=200).astype(np.float32))
    struck = spectrum.horizontal.copy()
    struck[50] *= 100
    plain, found = resolution(spectrum), resolution(replace(spectrum, horizontal=struck))
    assert found.x_px == pytest.approx(plain.x_px, rel=0.25)


def test_a_measured_shape_of_the_noise_is_taken_off() -> None:
    spectrum = measure_spectrum(scene(43).frame(np.random.default_rng(9), photons=200).astype(np.float32))
    fall = np.linspace(3.0, 1.0, 64, dtype=np.float32)
    noisy = replace(spectrum, horizontal=spectrum.horizontal + (fall - 1) * np.float32(spectrum.power.floor))
    shape = NoiseShape(np.ones_like(spectrum.power.power), fall, np.ones_like(fall))
    plain, known = resolution(spectrum), resolution(noisy, shape)
    assert resolution(noisy).x_px < plain.x_px < known.x_px   # the same structure over louder noise ends earlier
    assert known.y_px == pytest.approx(plain.y_px, rel=1e-5)
