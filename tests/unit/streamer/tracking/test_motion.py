"""What status and summary say of the motion of a view."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.settings import load
from streamer.tracking.motion import BINS, LISTED, Motion, histogram
from streamer.tracking.trend import Trend

SHAPE = (600, 640)


def fed(motion: Motion, frames: int, *, seed: int = 1, view: str = "main") -> Motion:
    rng, trend = np.random.default_rng(seed), Trend()
    for index in range(frames):
        drift = np.array([0.5 * index, 0.0]) + rng.normal(0, 1, 2) * (1.0, 3.0)
        level = trend.update(*drift)
        if level is not None:
            motion.update(view, trend, (drift[0] - level[0], drift[1] - level[1]), shape=SHAPE, pixel_size_nm=20.0)
    return motion


def test_nothing_is_said_before_there_is_a_trend():
    assert fed(Motion(load()), 3).views() == []


def test_jitter_trend_forecast_and_correction_of_a_view():
    motion, = fed(Motion(load()), 400).views()
    assert (motion.view, motion.frames) == ("main", 397)
    assert motion.speed_y_px == pytest.approx(0.5, abs=0.1)
    assert motion.jitter_y.sigma_px == pytest.approx(1.0, rel=0.15)
    assert motion.jitter_x.sigma_px == pytest.approx(3.0, rel=0.15)
    assert sum(motion.jitter_x.counts) == 397
    assert motion.leaving.frames == pytest.approx((300.0 - 199.5) / 0.5, rel=0.15)
    assert motion.stage.y_um == pytest.approx(-199.5 * 0.02, abs=0.04)


def test_what_is_not_known_is_not_said():
    rng, trend, motion = np.random.default_rng(6), Trend(), Motion(load())
    for _ in range(200):
        y, x = rng.normal(0, 1, 2)
        level = trend.update(y, x)
        if level is not None:
            motion.update("main", trend, (y - level[0], x - level[1]), shape=SHAPE, pixel_size_nm=None)
    found, = motion.views()
    assert found.stage is None
    assert found.leaving.frames is None
    assert found.leaving.seconds is None
    assert found.leaving.visible_share == pytest.approx(1.0, abs=0.01)
    assert found.speed_y_px == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("speed", [(0.5, -0.25), (-0.5, 0.25)])
def test_the_correction_goes_against_the_drift_on_both_axes(speed):
    rng, trend, motion = np.random.default_rng(7), Trend(), Motion(load())
    for index in range(120):
        y, x = np.array(speed) * index + rng.normal(0, 1, 2)
        level = trend.update(y, x, at_s=1e9 + 2.0 * index)
        if level is not None:
            motion.update("main", trend, (y - level[0], x - level[1]), shape=SHAPE, pixel_size_nm=20.0)
    found, = motion.views()
    assert (found.speed_y_px, found.speed_x_px) == pytest.approx(speed, abs=0.05)
    assert (found.stage.y_um, found.stage.x_um) == pytest.approx(-119 * 0.02 * np.array(speed), abs=0.03)
    assert found.leaving.seconds == pytest.approx(2.0 * found.leaving.frames)


def test_a_histogram_counts_every_frame_once_and_is_centred():
    jitter = np.random.default_rng(5).normal(0, 2.0, 4000)
    jitter[0] = 1e4
    found = histogram(jitter, sigma_px=2.0)
    assert len(found.counts) == BINS
    assert sum(found.counts) == 4000
    assert found.counts[-1] == 1
    assert found.first_px == -0.5 * BINS * found.bin_px
    middles = found.first_px + found.bin_px * (np.arange(BINS) + 0.5)
    assert np.sqrt(np.average(middles[:-1] ** 2, weights=found.counts[:-1])) == pytest.approx(2.0, rel=0.06)


def test_settings_act_from_the_next_frame_on():
    motion = fed(Motion(load()), 60)
    motion.configure(load(assignments=["stage.yy=-1.0"]))
    before, = motion.views()
    after = next(one for one in fed(motion, 60, seed=1).views() if one.view == "main")
    assert after.stage.y_um == pytest.approx(-before.stage.y_um)


def test_a_restored_motion_counts_on():
    motion = fed(Motion(load()), 40)
    again = Motion(load())
    again.restore(motion.snapshot())
    assert again.views() == []
    found, = fed(again, 40, seed=2).views()
    assert found.frames == 2 * 37


def test_of_many_views_those_seen_last_are_described():
    motion = Motion(load())
    for number in range(LISTED + 5):
        fed(motion, 5, view=f"view {number}")
    fed(motion, 5, view="view 2")
    names = [view.view for view in motion.views()]
    assert len(names) == LISTED
    assert names[-1] == "view 2"
    assert "view 0" not in names
