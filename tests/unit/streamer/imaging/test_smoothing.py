"""Smoothing before shifts are measured follows structure and noise."""

import numpy as np
import pytest
from scipy import ndimage

from streamer.imaging.smoothing import SIGMAS_PX, best_smoothing


def picture(seed, *, grain_px, noise, shape=(300, 310)):
    rng = np.random.default_rng(seed)
    structure = ndimage.gaussian_filter(rng.standard_normal(shape), grain_px)
    image = 0.1 * structure / structure.std() + np.sqrt(noise) * rng.standard_normal(shape)
    return image.astype(np.float32)


def test_fine_structure_is_kept():
    assert best_smoothing(picture(1, grain_px=1.0, noise=0.002), 0.002) == SIGMAS_PX[0]


def test_coarse_structure_under_noise_is_smoothed():
    chosen = [best_smoothing(picture(2, grain_px=grain_px, noise=0.02), 0.02) for grain_px in (1.0, 3.0, 8.0)]
    assert chosen == sorted(chosen)
    assert chosen[-1] > SIGMAS_PX[1]


def test_more_noise_never_asks_for_less():
    chosen = [best_smoothing(picture(3, grain_px=4.0, noise=noise), noise) for noise in (1e-5, 1e-3, 1e-2, 1e-1)]
    assert chosen == sorted(chosen)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_frame_has_an_answer(value):
    assert best_smoothing(np.full((64, 70), value, np.float32), 0.0) in SIGMAS_PX
