from __future__ import annotations

import numpy as np
import pytest

from monitor.motion import LEAST_SEEN, MOST_AHEAD, forecast


def test_a_straight_way_goes_on_and_only_the_jitter_is_uncertain() -> None:
    ahead = forecast(0.5 * np.arange(60.0), level_px=29.5, speed_px=0.5, jitter_px=0.3)
    assert ahead is not None
    assert ahead.ahead[0] == 0.0
    assert ahead.ahead[-1] == pytest.approx(12.0)
    np.testing.assert_allclose(ahead.trend_px, 29.5 + 0.5 * ahead.ahead)
    np.testing.assert_allclose(ahead.sigma_px, 0.3, atol=1e-9)


@pytest.mark.parametrize("trend", [np.zeros(LEAST_SEEN - 1), np.full(50, np.nan), np.zeros(0)])
def test_nothing_is_said_of_what_was_hardly_seen(trend: np.ndarray) -> None:
    assert forecast(trend, level_px=0.0, speed_px=0.0, jitter_px=1.0) is None


def test_nothing_is_said_without_a_speed() -> None:
    assert forecast(np.zeros(50), level_px=0.0, speed_px=float("nan"), jitter_px=1.0) is None


def test_the_horizon_has_an_end() -> None:
    ahead = forecast(np.arange(100_000.0), level_px=0.0, speed_px=1.0, jitter_px=0.1)
    assert ahead is not None
    assert ahead.ahead[-1] == MOST_AHEAD


def test_the_band_holds_what_comes_as_often_as_one_sigma_says() -> None:
    inside, ends = [], []
    for seed in range(80):
        random = np.random.default_rng(seed)
        speed = np.cumsum(random.normal(0, 0.02, 400)) + 0.3   # a way that turns
        way = np.cumsum(speed)
        ahead = forecast(way[:300], level_px=way[299], speed_px=speed[299], jitter_px=0.2)
        assert ahead is not None
        assert np.all(np.diff(ahead.sigma_px) >= 0)
        came = way[299 + ahead.ahead.astype(int)] + random.normal(0, 0.2, ahead.ahead.size)
        inside.append(np.abs(came - ahead.trend_px) < ahead.sigma_px)
        ends.append(ahead.sigma_px[-1])
    assert 0.55 < np.mean(inside) < 0.8
    assert np.median(ends) > 2.0
