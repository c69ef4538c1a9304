from __future__ import annotations

import cv2
import numpy as np
import pytest
from support.scenes import Scene

from simulator.detector import Detector
from streamer.imaging.pattern import Pattern, PatternSums

SHAPE = (250, 262)   # 262 hides a prime: the border stays as it is
PHOTONS = 400.0


def told(seed: int, *, frames: int = 8, step: tuple[float, float] = (1.1, -0.8), response: np.ndarray | None = None,
         error_px: float = 0.0) -> Pattern:
    rng = np.random.default_rng(seed)
    scene = Scene(seed, SHAPE, margin=40)
    response = np.ones(SHAPE) if response is None else response
    sums = None
    for number in range(frames):
        drift = step[0] * number, step[1] * number
        image = (rng.poisson(PHOTONS * scene.clean(drift=drift) * response)).astype(np.float32)
        known = drift[0] + rng.normal(0, error_px), drift[1] + rng.normal(0, error_px)
        frame = PatternSums.of(image, known)
        sums = frame if sums is None else sums.added(frame)
    return sums.solve()


def fine(image: np.ndarray) -> np.ndarray:
    """Structure of 2 to 40 px, away from the border."""
    return (image - cv2.GaussianBlur(image, (0, 0), 8))[24:-24, 24:-24]


@pytest.mark.parametrize("error_px", [0.0, 0.2])
def test_the_pattern_is_told_from_the_sample(error_px: float) -> None:
    light = Detector(SHAPE, photons=500.0, rng=np.random.default_rng(91), lighting="condenser")
    response = light.illumination * light.screen
    found = told(92, response=response, error_px=error_px)
    assert found.logarithm.dtype == found.light.dtype == np.float32
    assert found.logarithm.shape == found.light.shape == SHAPE
    assert found.separable > 0.8
    assert found.prominence > 0.12
    true = np.log(np.maximum(response, 0.05))
    middle = np.s_[60:-60, 60:-60]   # without the taper
    assert fine(true - found.logarithm)[middle].var() < 0.7 * fine(true)[middle].var()


@pytest.mark.parametrize("seed", [95, 96, 97])
def test_little_of_the_sample_is_taken_for_a_pattern(seed: int) -> None:
    found = told(seed)
    assert found.prominence < 0.1
    assert fine(found.logarithm).std() < 0.01


def test_a_sample_at_rest_tells_nothing() -> None:
    found = told(98, step=(0.0, 0.0))
    assert found.separable < 0.01
    assert np.abs(found.logarithm).max() < 1e-3
