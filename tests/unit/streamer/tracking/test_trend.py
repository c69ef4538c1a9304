"""The trend follows the systematic part of a drift and leaves the jitter."""

import numpy as np
import pytest

from streamer.tracking.trend import Trend


def follow(path):
    """Trend at every frame of a path (n, 2); NaN where there is none."""
    trend = Trend()
    return np.array([trend.update(*point) or (np.nan, np.nan) for point in path]), trend


def slow(frames, seed, *, jitter, span=(-187.0, 89.0)):
    """A curved systematic path (n, 2) and the same with jitter."""
    time = np.linspace(0, 1, frames)[:, None]
    systematic = np.array(span) * (time + 0.15 * np.sin(3 * time))
    return systematic, systematic + np.random.default_rng(seed).normal(0, 1, (frames, 2)) * jitter


def test_there_is_no_trend_before_four_frames():
    found, trend = follow(np.zeros((3, 2)))
    assert np.isnan(found).all()
    assert trend.jitter_px is None
    assert trend.update(0.0, 0.0) == pytest.approx((0.0, 0.0), abs=1e-6)


def test_a_steady_drift_without_jitter_is_all_trend():
    path = np.arange(40)[:, None] * np.array([1.5, -0.4])
    found, _ = follow(path)
    np.testing.assert_allclose(found[5:], path[5:], atol=0.02)


@pytest.mark.parametrize(("frames", "jitter", "bar"), [
    (56, (2.0, 2.0), 1.9), (56, (5.0, 5.0), 4.2), (600, (2.0, 5.0), 2.2)])
def test_the_trend_is_closer_to_the_systematic_path_than_the_drift(frames, jitter, bar):
    squares = []
    for seed in range(300, 310):
        systematic, path = slow(frames, seed, jitter=jitter)
        found, _ = follow(path)
        squares.append(np.square(found[10:] - systematic[10:]).mean())
    assert np.sqrt(np.mean(squares)) < bar


def test_single_wild_frames_do_not_pull_the_trend():
    systematic, path = slow(200, 311, jitter=(1.0, 1.0))
    path[60::25] += 40.0
    found, _ = follow(path)
    assert np.sqrt(np.square(found[20:] - systematic[20:]).mean()) < 1.5


def test_a_lasting_step_is_followed_within_a_few_frames():
    systematic, path = slow(120, 312, jitter=(1.0, 1.0))
    path[70:, 0] += 108.0
    found, _ = follow(path)
    assert np.abs(found[76:, 0] - systematic[76:, 0] - 108.0).max() < 8.0


def test_the_jitter_is_measured():
    _, path = slow(400, 313, jitter=(2.0, 5.0))
    _, trend = follow(path)
    assert trend.jitter_px == pytest.approx((2.0, 5.0), rel=0.4)


def wandering(frames, seed, *, jitter, wild=0.04):
    """A steady systematic path (n, 2) and the same with jitter and single wild frames."""
    rng = np.random.default_rng(seed)
    systematic = np.arange(frames)[:, None] * rng.uniform(-2, 2, 2)
    path = systematic + rng.normal(0, 1, (frames, 2)) * jitter
    path[rng.random(frames) < wild] += rng.normal(0, 40, 2)
    return systematic, path


@pytest.mark.parametrize("jitter", [(0.5, 2.0), (2.0, 5.0), (5.0, 12.0)])
def test_the_jitter_is_known_to_ten_percent_in_spite_of_wild_frames(jitter):
    errors = [np.array(follow(wandering(300, seed, jitter=jitter)[1])[1].jitter_px) / jitter - 1.0
              for seed in range(700, 708)]
    assert np.quantile(np.abs(errors), 0.8) < 0.10
    assert abs(np.mean(errors)) < 0.05


def test_the_trend_turns_with_the_sample_within_a_dozen_frames():
    for seed in range(720, 726):
        rng = np.random.default_rng(seed)
        systematic = np.concatenate([np.arange(150) * 1.0, 150.0 - 1.5 * np.arange(60)])
        path = np.stack([systematic, np.zeros(210)], axis=1) + rng.normal(0, 1.0, (210, 2))
        found, _ = follow(path)
        assert np.abs(found[165:, 0] - systematic[165:]).max() < 3.0
        assert np.abs(found[60:150, 0] - systematic[60:150]).max() < 1.6


@pytest.mark.parametrize("jitter", [0.02, 0.5])
def test_a_sample_that_is_sent_back_is_followed_at_once(jitter):
    systematic = np.concatenate([2.5 * np.arange(30), 72.5 - 5.0 * np.arange(1, 31)])
    path = np.stack([systematic, np.zeros(60)], axis=1) + np.random.default_rng(725).normal(0, jitter, (60, 2))
    found, trend = follow(path)
    assert np.abs(found[34:, 0] - systematic[34:]).max() < 4.0 * jitter
    state = trend.state
    assert float(state.share[0] @ state.slope[0]) == pytest.approx(-5.0, abs=0.3 * jitter)


def test_missing_frames_pass_time():
    path = np.arange(120)[:, None] * np.array([2.0, -1.0]) + np.random.default_rng(730).normal(0, 0.5, (120, 2))
    trend = Trend()
    for index, point in enumerate(path):
        if index % 7 in {2, 3, 5} and index > 4:
            trend.skip()
            continue
        level = trend.update(*point)
        if index > 20:
            assert level == pytest.approx(2.0 * index * np.array([1.0, -0.5]), abs=1.5)
    assert trend.jitter_px == pytest.approx((0.5, 0.5), rel=0.25)


def test_irregular_times_are_followed_by_the_clock():
    rng = np.random.default_rng(740)
    times = 1e9 + np.cumsum(rng.uniform(20.0, 200.0, 200))
    systematic = (times - times[0])[:, None] * np.array([0.02, -0.01])
    path = systematic + rng.normal(0, 0.5, (200, 2))
    trend = Trend()
    found = [trend.update(*point, at_s=at) or (np.nan, np.nan) for point, at in zip(path, times, strict=True)]
    assert np.sqrt(np.square(np.array(found)[20:] - systematic[20:]).mean()) < 0.25
    assert trend.state.interval_s == pytest.approx(110.0, rel=0.4)


@pytest.mark.parametrize("times", [[5.0] * 30, [50.0 - index for index in range(30)], [None, 3.0] * 15])
def test_times_that_stand_still_go_back_or_are_missing_do_no_harm(times):
    trend = Trend()
    for index, at in enumerate(times):
        level = trend.update(0.5 * index, 0.0, at_s=at)
    assert level == pytest.approx((14.5, 0.0), abs=0.1)


def test_the_axes_do_not_know_each_other():
    _, path = slow(80, 314, jitter=(2.0, 5.0))
    other = path.copy()
    other[:, 1] *= -3.0
    np.testing.assert_allclose(follow(path)[0][:, 0], follow(other)[0][:, 0])


def test_moving_the_origin_moves_the_trend():
    _, path = slow(60, 315, jitter=(1.0, 1.0))
    expected, _ = follow(path)
    trend = Trend()
    for point in path[:40]:
        trend.update(*point)
    trend.move(10.0, -4.0)
    for point, value in zip(path[40:], expected[40:], strict=True):
        assert trend.update(point[0] + 10.0, point[1] - 4.0) == pytest.approx((value[0] + 10.0, value[1] - 4.0))


@pytest.mark.parametrize("stop", [2, 9, 40])
def test_a_restored_trend_goes_on_as_before(stop):
    _, path = slow(60, 316, jitter=(2.0, 2.0))
    expected, _ = follow(path)
    trend = Trend()
    for point in path[:stop]:
        trend.update(*point)
    trend = Trend.restore(trend.snapshot())
    again = [trend.update(*point) or (np.nan, np.nan) for point in path[stop:]]
    np.testing.assert_allclose(again, expected[stop:])


@pytest.mark.parametrize("says", ["the truth", "the time of the frame that it replaces", "nothing"])
def test_a_frame_taken_again_leaves_the_trend_alone_whatever_its_sender_says_of_its_time(says: str) -> None:
    rng, trends = np.random.default_rng(3), (Trend(), Trend())
    for index in range(60):
        drift_px = np.array([0.7, -0.4]) * index + rng.normal(0.0, 0.3, 2)
        found = [trend.update(*drift_px, at_s=1e9 + 10.0 * index) for trend in trends]
        if index in {35, 40, 45}:
            at_s = {"the truth": 1e9 + 10.0 * index + 4.0, "nothing": None}.get(says, 1e9 + 10.0 * (index - 20))
            again_px = np.array([0.7, -0.4]) * (index + 0.4) + rng.normal(0.0, 0.3, 2)
            trends[1].update(*again_px, at_s=trends[1].time_of_retake(at_s))
    assert found[1] == pytest.approx(found[0], abs=0.2)
    slopes = [(trend.state.share * trend.state.slope).sum(axis=1) / trend.state.frames_per_unit for trend in trends]
    assert slopes[1] == pytest.approx(slopes[0], abs=0.03)


def test_the_time_of_a_frame_taken_again_is_not_known_where_no_frame_tells_its_own() -> None:
    trend = Trend()
    assert trend.time_of_retake(None) is None
    assert trend.time_of_retake(5.0) == 5.0
    for index in range(6):
        trend.update(float(index), 0.0)
    assert trend.time_of_retake(None) is None
