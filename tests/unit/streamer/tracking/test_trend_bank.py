"""The filters: sharp on straight ways, quick after turns, and sound over long runs."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.tracking.trend import Trend
from streamer.tracking.trend_bank import RESTLESSNESS, SIZE, Bank


def slopes(path) -> tuple[np.ndarray, np.ndarray]:
    """Slope and its standard deviation per axis at the end of a path (n, 2), as the forecast takes them."""
    trend = Trend()
    for point in path:
        trend.update(*point)
    state = trend.state
    mean = (state.share * state.slope).sum(axis=1)
    spread = (state.share * (state.covariance[2] + (state.slope - mean[:, None])**2)).sum(axis=1)
    return mean, np.sqrt(spread)


def straight(frames, seed, *, jitter=5.0):
    way = np.arange(frames)[:, None] * np.array([0.2, -0.1])
    return way + np.random.default_rng(seed).normal(0, jitter, (frames, 2))


def test_the_slope_of_a_straight_way_is_known_to_the_order_of_a_line_through_all_its_frames():
    frames, seeds = 800, range(4000, 4010)
    line = 5.0 * np.sqrt(12.0 / frames**3)   # standard deviation of the slope of a line
    found = [slopes(straight(frames, seed)) for seed in seeds]
    errors = np.array([mean - (0.2, -0.1) for mean, _ in found]) / line
    assert np.median(np.abs(errors)) < 2.0   # of the line itself: 0.67
    assert np.median([spread for _, spread in found]) < 9.0 * line   # 40 for the filter of 1e-6
    assert np.mean(np.abs(errors) * line < 1.65 * np.array([spread for _, spread in found])) >= 0.85


def test_after_a_turn_the_calm_filters_begin_again_and_take_over():
    frames = 400
    way = np.concatenate([np.arange(frames) * 1.0, frames - 0.5 * np.arange(frames)])
    path = np.stack([way, np.zeros(2 * frames)], axis=1) + np.random.default_rng(4020).normal(0, 1, (2 * frames, 2))
    trend = Trend()
    for point in path:
        trend.update(*point)
    state = trend.state
    calm = RESTLESSNESS <= 1e-6
    assert state.share[0, calm].sum() > 0.5
    assert float(state.share[0] @ state.slope[0]) == pytest.approx(-0.5, abs=0.01)


def test_the_covariance_stays_sound_over_a_long_run():
    rng, bank, noise = np.random.default_rng(4030), Bank(np.zeros(2)), np.ones(2)
    for index in range(5000):
        value = np.array([0.3 * index, 0.0]) + rng.normal(0, 1, 2)
        bank.learn(bank.predict(value, 1.0, noise), noise, only=np.ones(2, bool))
    level, shared, slope = bank.covariance
    assert (level > 0.0).all()
    assert (level * slope > shared**2).all()
    assert bank.share.sum(axis=1) == pytest.approx(np.ones(2))
    assert bank.mean_level[0] == pytest.approx(0.3 * 4999, abs=0.5)


def test_nothing_is_learnt_along_an_axis_that_may_not_be_believed():
    bank, noise = Bank(np.zeros(2)), np.ones(2)
    for value in (0.0, 1.0, 2.0, 3.0):
        bank.learn(bank.predict(np.array([value, value]), 1.0, noise), noise, only=np.ones(2, bool))
    expected = bank.level + bank.slope
    bank.learn(bank.predict(np.array([40.0, 4.2]), 1.0, noise), noise, only=np.array([False, True]))
    np.testing.assert_allclose(bank.level[0], expected[0])
    assert not np.allclose(bank.level[1], expected[1])


def test_what_the_inflow_keeps_alive_is_no_evidence():
    bank = Bank(np.zeros(2))
    bank.slope[:] = 0.5
    bank.share[:] = 0.001
    bank.share[:, 0] = 1.0 - 0.001 * (SIZE - 1)
    evidence = bank.evidence(np.ones(2), 300.0)
    np.testing.assert_allclose(evidence[:, 0], 1.0)
    np.testing.assert_allclose(evidence.sum(axis=1), 1.0)
