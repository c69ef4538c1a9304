from __future__ import annotations

import numpy as np
import pytest
from support.scenes import Scene

from streamer.imaging.correction import correct
from streamer.imaging.spectrum import PolarPower, polar_power
from streamer.settings import BlurSettings
from streamer.tracking.focus import Focus
from streamer.tracking.sharpness import Sharpness

SHAPE = (340, 360)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(611, SHAPE)


def generation(scene: Scene, rng: np.random.Generator, defocus_px: float) -> list[PolarPower]:
    return [take(scene, rng, defocus_px) for _ in range(8)]


def take(scene: Scene, rng: np.random.Generator, defocus_px: float) -> PolarPower:
    drift = (float(rng.normal(0, 8)), float(rng.normal(0, 8)))
    return polar_power(correct(scene.frame(rng, drift=drift, defocus_px=defocus_px)))


def test_steady_focus_is_no_loss(scene):
    rng, focus = np.random.default_rng(612), Focus()
    for _ in range(12):
        focus.follow(generation(scene, rng, 0.0))
    assert focus.loss_px is None


def test_steps_add_up(scene):
    rng, focus = np.random.default_rng(613), Focus()
    other = Focus()
    for variance in (0.0, 0.3, 0.6, 0.9):
        focus.follow(generation(scene, rng, variance**0.5))
        other = Focus.restored(focus.snapshot())
    assert focus.loss_px == pytest.approx((12 * 0.9) ** 0.5, rel=0.12)
    assert other.loss_px == focus.loss_px


def test_creeping_defocus_is_told_though_no_frame_is_flagged(scene):
    rng, tracker = np.random.default_rng(614), Sharpness(BlurSettings())
    told, verdicts = None, []
    for index in range(120):
        result = tracker.update("main", ("a", index), take(scene, rng, (0.012 * index) ** 0.5))
        verdicts.append(result.verdict)
        if result.focus_loss_px is not None:
            told = index
            break
    assert told is not None
    assert 30 < told < 110
    assert verdicts.count("blurred") < 0.05 * len(verdicts)
