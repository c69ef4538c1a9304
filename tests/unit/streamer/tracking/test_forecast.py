"""When the region leaves: against simulated runs, by the clock, and for regions of all kinds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simulator.motion import Drift
from streamer.settings import ForecastSettings, StageSettings
from streamer.tracking.forecast import Region, leaving, margins, region_of, stage_move, visible_share
from streamer.tracking.trend import Trend

SHAPE = (654, 678)
WHOLE = Region(0.0, 0.0, 654.0, 678.0, 0.5)


def learnt(path, *, times=None) -> Trend:
    trend = Trend()
    for index, point in enumerate(path):
        trend.update(*point, at_s=None if times is None else times[index])
    return trend


def simulated(seed):
    """Frames remaining and the forecasts of it, at three points of a run with a bow, jitter, wild and lost frames."""
    rng = np.random.default_rng(seed)
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(1.0, 5.0)
    frames = np.arange(900)[:, None]
    velocity = speed * np.array([np.sin(angle), np.cos(angle)])
    systematic = frames * velocity + 24.0 * velocity * rng.normal() * np.sin(np.pi * frames / 600.0)
    actual = systematic + rng.normal(0, 1, (900, 2)) * (rng.uniform(0.5, 4.0), rng.uniform(1.0, 8.0))
    end = int(np.argmax((margins(actual.T, WHOLE, SHAPE) < 0.0).any(axis=0)))
    seen = actual.copy()
    wild = rng.random(900) < 0.03
    seen[wild] += rng.normal(0, 40, (wild.sum(), 2))
    trend, found = Trend(), []
    for index in range(end):
        if index in (end // 2, int(0.7 * end), int(0.85 * end)):
            trend.update(*seen[index])
            found.append((end - index, leaving(trend.state, WHOLE, SHAPE, frames_seen=trend.count)))
        elif rng.random() < 0.15:
            trend.skip()
        else:
            trend.update(*seen[index])
    return found


def test_forecasts_are_within_ten_percent_and_the_interval_holds():
    found = [pair for seed in range(2000, 2040) for pair in simulated(seed)]
    errors = [abs((forecast.frames or math.inf) - left) / left for left, forecast in found]
    inside = [(forecast.frames_low or math.inf) <= left + 0.5 and left - 0.5 <= (forecast.frames_high or math.inf)
              for left, forecast in found]
    assert np.median(errors) <= 0.06
    assert np.quantile(errors, 0.75) <= 0.10
    assert np.mean(inside) >= 0.90


def asked(seed, *, frames, jitter, wander):
    """Frames remaining and the forecasts of them, at four points of a simulated way across the edge."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi)
    drift = Drift(end_px=(500 * np.sin(angle), 500 * np.cos(angle)), jitter_px=jitter, wander=wander)
    path = drift.path(frames, rng=rng)
    out = (margins(path.T, WHOLE, SHAPE) < 0.0).any(axis=0)
    end, trend, found = int(np.argmax(out)), Trend(), []
    for index in range(end):
        trend.update(*path[index])
        if index in {round(share * end) for share in (0.4, 0.6, 0.8, 0.9)}:
            found.append((end - index, leaving(trend.state, WHOLE, SHAPE, frames_seen=trend.count)))
    return found


@pytest.mark.parametrize(("frames", "jitter", "wander", "median", "mean"), [
    (80, (1.0, 1.0), 0.0, 0.02, 0.05), (500, (5.0, 5.0), 0.0, 0.05, 0.08),
    (80, (2.0, 5.0), 0.04, 0.18, 0.25), (500, (5.0, 5.0), 0.04, 0.16, 0.22)])
def test_straight_and_wandering_stages_are_forecast_and_the_interval_holds(frames, jitter, wander, median, mean):
    found = [pair for seed in range(2400, 2425) for pair in asked(seed, frames=frames, jitter=jitter, wander=wander)]
    errors = np.array([abs((said.frames or math.inf) - left) / left for left, said in found])
    inside = [(said.frames_low or math.inf) <= left <= (said.frames_high or math.inf) for left, said in found]
    assert len(found) >= 60
    assert np.median(errors) <= median
    assert np.minimum(errors, 1.0).mean() <= mean
    assert np.mean(inside) >= 0.86


def test_whole_frames_are_counted():
    trend = learnt(np.arange(40)[:, None] * np.array([7.0, 0.0]))
    said = leaving(trend.state, WHOLE, SHAPE, frames_seen=40)   # half of it is out beyond 327 px
    assert (said.frames_low, said.frames, said.frames_high) == (8.0, 8.0, 8.0)


def test_a_sample_that_rests_does_not_leave():
    path = np.random.default_rng(2100).normal(0, 0.5, (200, 2))
    trend = learnt(path)
    forecast = leaving(trend.state, WHOLE, SHAPE, frames_seen=200)
    assert forecast.frames is None
    assert forecast.seconds is None
    assert forecast.visible_share == pytest.approx(1.0, abs=0.01)


def test_what_has_left_leaves_now():
    trend = learnt(np.arange(200)[:, None] * np.array([3.0, 0.0]))
    forecast = leaving(trend.state, WHOLE, SHAPE, frames_seen=200)
    assert forecast.frames <= 2.0
    assert forecast.visible_share == pytest.approx(1.0 - 597.0 / 654.0, abs=0.01)


def test_seconds_follow_the_clock():
    path = np.arange(80)[:, None] * np.array([2.0, 0.0])
    trend = learnt(path, times=1e9 + 900.0 * np.arange(80))
    forecast = leaving(trend.state, WHOLE, SHAPE, frames_seen=80)
    assert forecast.frames == pytest.approx((327.0 - 158.0) / 2.0, rel=0.03)
    assert forecast.seconds == pytest.approx(900.0 * forecast.frames)


def test_equal_trends_have_equal_forecasts():
    path = np.arange(60)[:, None] + np.random.default_rng(2200).normal(0, 2, (60, 2))
    one, other = (leaving(learnt(path).state, WHOLE, SHAPE, frames_seen=60) for _ in range(2))
    assert one == other


def test_the_edge_is_where_too_little_is_visible():
    rng = np.random.default_rng(2300)
    for _ in range(300):
        region = Region(*rng.uniform(0, 300, 2), *rng.uniform(20, 300, 2), rng.uniform(0.05, 0.95))
        drift = rng.uniform(-500, 500, 2)
        inside = bool((margins(drift, region, SHAPE) >= 0.0).all())
        assert inside == (visible_share((drift[0], drift[1]), region, SHAPE) >= region.keep)


@pytest.mark.parametrize(("settings", "expected"), [
    (ForecastSettings(), WHOLE),
    (ForecastSettings(top_px=10, left_px=20, height_px=30, width_px=40, keep=1.0), Region(10, 20, 30, 40, 1.0)),
    (ForecastSettings(top_px=600, left_px=20, height_px=100, width_px=40), Region(600, 20, 54, 40, 0.5)),
    (ForecastSettings(top_px=700, height_px=100, width_px=40), WHOLE)])
def test_the_region_is_that_of_the_settings(settings, expected):
    assert region_of(settings, SHAPE) == expected


def test_a_small_region_near_the_edge_leaves_first():
    trend = learnt(np.arange(40)[:, None] * np.array([0.0, 1.0]))
    near = Region(300.0, 578.0, 50.0, 50.0, 1.0)
    forecast = leaving(trend.state, near, SHAPE, frames_seen=40)
    assert forecast.frames == pytest.approx(50.0 - 39.0, abs=1.0)


def test_the_stage_brings_the_sample_back_and_only_with_a_pixel_size():
    move = stage_move((100.0, -40.0), StageSettings(), 25.0)
    assert (move.y_um, move.x_um) == pytest.approx((-2.5, 1.0))
    turned = stage_move((100.0, -40.0), StageSettings(yy=0.0, yx=-1.0, xy=1.0, xx=0.0), 25.0)
    assert (turned.y_um, turned.x_um) == pytest.approx((-1.0, -2.5))
    assert stage_move((1.0, 1.0), StageSettings(), None) is None
