"""Counting statistics, what is fixed on the detector, and that a seed says everything."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.detector import OFFSET_ADU, OPEN_BEAM_ADU, READ_NOISE_ADU, Detector, Lighting, beam_current

SHAPE = (120, 140)


def make(photons: float = 500.0, seed: int = 31, lighting: Lighting = "condenser") -> Detector:
    return Detector(SHAPE, photons=photons, rng=np.random.default_rng(seed), lighting=lighting)


@pytest.mark.parametrize("photons", [50.0, 500.0, 5000.0])
def test_noise_is_that_of_counted_photons(photons: float) -> None:
    detector = make(photons)
    frames = np.stack([detector.expose(1.0, seed=(5, n)) for n in range(60)]).astype(np.float64)
    gain = detector.gain_adu.astype(np.float64)
    expected = detector.illumination * detector.screen * photons
    calm = np.ptp(frames, axis=0) < 14 * np.sqrt(expected * gain**2 + READ_NOISE_ADU**2)   # no zinger
    calm &= detector.expose(0.0, seed=(5, 60)) < OFFSET_ADU + 500                          # no hot pixel
    assert calm.mean() > 0.99
    variance = frames.var(axis=0, ddof=1)[calm]
    predicted = (gain**2 * expected + READ_NOISE_ADU**2 + 1 / 12)[calm]
    assert (variance / predicted).mean() == pytest.approx(1, abs=0.02)
    counts = ((frames.mean(0) - OFFSET_ADU) / gain)[calm]
    assert counts.mean() == pytest.approx(expected[calm].mean(), rel=0.005)


def test_open_beam_has_the_photons_asked_for() -> None:
    detector = make(800.0)
    assert detector.illumination.mean() == pytest.approx(1, abs=1e-5)
    frame = detector.expose(1.0, seed=(1, 1)).astype(float) - OFFSET_ADU
    assert np.median(frame / OPEN_BEAM_ADU / detector.illumination) == pytest.approx(1, abs=0.03)


def test_condenser_is_a_bright_patch_that_falls_below_five_per_cent_in_a_corner() -> None:
    light = make().illumination
    assert light[:3, -3:].max() < 0.05
    assert light.max() > 1.5
    assert np.quantile(light, 0.1) > 0.3


def test_dark_frame_shows_offset_and_hot_pixels_only() -> None:
    frame = make().expose(0.0, seed=(2, 2)).astype(float)
    assert np.median(frame) == pytest.approx(OFFSET_ADU, abs=5)
    assert (frame > OFFSET_ADU + 1000).sum() >= 1


def test_pattern_stays_and_zingers_move() -> None:
    detector = make()
    first, second = (detector.expose(0.0, seed=(3, n)).astype(float) for n in (1, 2))
    hot = first > OFFSET_ADU + 1500
    assert np.corrcoef(first[hot], second[hot])[0, 1] > 0.5 or hot.sum() < 3
    bright = np.stack([detector.expose(1.0, seed=(4, n)) for n in range(40)]).astype(float).mean(0)
    other = np.stack([detector.expose(1.0, seed=(5, n)) for n in range(40)]).astype(float).mean(0)
    smooth = detector.illumination * OPEN_BEAM_ADU
    assert np.corrcoef((bright / smooth).ravel(), (other / smooth).ravel())[0, 1] > 0.5


def test_same_seed_gives_identical_bytes() -> None:
    picture = np.random.default_rng(1).uniform(0.2, 1, SHAPE).astype(np.float32)
    first, again = (make(seed=9).expose(picture, seed=(1, 2)) for _ in range(2))
    assert first.dtype == np.uint16
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != make(seed=9).expose(picture, seed=(1, 3)).tobytes()


def test_too_much_light_saturates() -> None:
    frame = make().expose(1.0, brightness=12.0, seed=(1, 1))
    assert (frame == 65_535).mean() > 0.5


def test_ring_current_decays_and_is_topped_up() -> None:
    assert beam_current(0) == 1
    assert 0.9 < beam_current(599) < beam_current(1) < 1
    assert beam_current(600) == 1
