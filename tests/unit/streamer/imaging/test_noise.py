from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from streamer.imaging.noise import DetectorNoise, NoiseSpectrum, compare_flats, noise_shape
from streamer.imaging.spectrum import NoiseShape, measure_spectrum

SHAPE = (256, 300)
PHOTONS = 400.0
READ = 3.0


def flat(rng: np.random.Generator, *, spread_px: float = 0.0, transmission: float = 1.0) -> np.ndarray:
    """A flat of even light behind a scintillator that spreads each photon."""
    light = rng.poisson(PHOTONS * transmission, SHAPE).astype(np.float64)
    if spread_px:
        light = gaussian_filter(light, spread_px)
    return ((light + rng.normal(0, READ, SHAPE)) / PHOTONS).astype(np.float32)


def measured(pairs: int, *, spread_px: float, seed: int, weight: np.ndarray | None = None) -> NoiseSpectrum:
    rng = np.random.default_rng(seed)
    samples = [compare_flats(flat(rng, spread_px=spread_px), flat(rng, spread_px=spread_px), weight)
               for _ in range(pairs)]
    seen = samples[0]
    for sample in samples[1:]:
        seen = seen.folded(sample, 32)
    return seen


def excess(shape: NoiseShape | None, *, spread_px: float, transmission: float = 1.0, seed: int = 99) -> np.ndarray:
    """Power left over in frames without structure, in units of their noise power; one row per frame."""
    rng = np.random.default_rng(seed)
    powers = [measure_spectrum(flat(rng, spread_px=spread_px, transmission=transmission), None, shape).power
              for _ in range(12)]
    return np.array([(power.power / power.floor)[power.counts > 0] for power in powers])


@pytest.mark.parametrize("pairs", [1, 4, 8])
def test_white_noise_comes_out_as_ones(pairs: int) -> None:
    for seed in range(70, 78):
        shape = noise_shape(measured(pairs, spread_px=0.0, seed=seed))
        for part in shape:
            assert part.dtype == np.float32
            assert np.abs(part - 1).max() < 0.06


@pytest.mark.parametrize("pairs", [1, 4, 8])
def test_white_noise_is_measured_no_worse_than_taken_as_white(pairs: int) -> None:
    with_shape, without = (excess(shape, spread_px=0.0) for shape in (
        noise_shape(measured(pairs, spread_px=0.0, seed=81)), None))
    assert with_shape.std() < 1.05 * without.std()
    assert abs(with_shape.mean()) < abs(without.mean()) + 0.02


@pytest.mark.parametrize("transmission", [1.0, 0.4])
def test_smeared_photons_leave_nothing_over(transmission: float) -> None:
    seen = measured(4, spread_px=0.7, seed=83)
    detector = DetectorNoise(noise_shape(seen), (READ / PHOTONS) ** 2 / seen.floor)
    shape = detector.shape(transmission)
    biased = excess(None, spread_px=0.7, transmission=transmission).mean(axis=0)
    left = excess(shape, spread_px=0.7, transmission=transmission).mean(axis=0)
    expected = shape.bins[seen.counts > 0]
    assert np.median(biased / expected) > 0.7        # nearly all of the noise is taken for structure
    assert abs(np.mean(left / expected)) < 0.02
    assert np.std(left / expected) < 0.12            # 12 frames of some 50 modes a bin


def test_light_that_moves_between_flats_is_no_noise() -> None:
    rng = np.random.default_rng(84)
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]]
    moved = (0.03 * np.sin(x / 25 + y / 40)).astype(np.float32)
    assert np.abs(noise_shape(compare_flats(flat(rng), flat(rng) + moved, None)).bins - 1).max() < 0.06


def test_brighter_light_is_no_noise() -> None:
    image = flat(np.random.default_rng(85))
    other = flat(np.random.default_rng(86))
    assert compare_flats(image, 3 * other, None).floor == pytest.approx(compare_flats(image, other, None).floor)


def test_dim_light_is_told_from_noise_of_reading_out() -> None:
    shape = NoiseShape(*(np.full(size, 4.0, np.float32) for size in ((24, 12), 64, 64)))
    detector = DetectorNoise(shape, 1.0)   # all of the floor is of reading out
    assert detector.shape(1.0).bins[0, 0] == pytest.approx(4.0)
    assert detector.shape(0.5).bins[0, 0] == pytest.approx(2.5)
    assert detector.shape(0.0) is shape
    assert DetectorNoise(shape, 0.0).shape(0.1) is shape


def test_dark_corners_count_by_their_photons() -> None:
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]]
    weight = np.clip((x + y - 60) / 250, 0, 1).astype(np.float32)
    weight[weight < 0.05] = 0
    rng = np.random.default_rng(87)

    def corrected() -> np.ndarray:
        counts = rng.poisson(PHOTONS * np.maximum(weight, 1e-3))
        return np.where(weight > 0, counts / (PHOTONS * np.maximum(weight, 0.05)), 1).astype(np.float32)

    seen = compare_flats(corrected(), corrected(), weight)
    assert seen.floor == pytest.approx(1 / PHOTONS, rel=0.05)
    assert seen.overlap > 1.33
    assert np.abs(noise_shape(seen).bins - 1).max() < 0.06


def test_pairs_of_another_size_start_anew() -> None:
    seen = measured(2, spread_px=0.0, seed=88)
    small = compare_flats(*np.random.default_rng(89).normal(1, 0.1, (2, 128, 128)).astype(np.float32), None)
    assert seen.folded(small, 32).pairs == 1
    assert seen.folded(measured(1, spread_px=0.0, seed=90), 2).pairs == 2
