"""The systematic part of a drift, followed frame by frame.

A bank of filters (`trend_bank`) follows level and slope; the motion itself tells which of them to believe, so that
a straight way is known as sharply as a line through all its frames, and after a turn the quick ones lead and the calm
ones follow. The jitter of the stage is the measurement noise; it is taken from the innovations themselves. What lies
far off three times in a row is a step of the stage.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.tracking.trend_bank import RESTLESSNESS, Bank, Doubles, Prediction

FRAMES_NEEDED = 4
WINDOW = 256
"""Frames that the jitter is estimated from."""
REPEAT_UNTIL = 16
"""The jitter is so uncertain at first that the filters are run again over all frames."""
SMALLEST_JITTER_PX = 0.01
STEP_SIGMAS = 6.0
STEP_FRAMES = 3
"""So many frames in a row, all far off on the same side, are a step of the stage and not outliers."""
MEDIAN_SQUARE = 0.45494
"""Of a normal variable, in units of its variance."""
TRIM = 3.0
TRIM_VARIANCE = 0.97334
"""Variance of a normal variable within three standard deviations."""
UNSETTLED = 16.0
"""Innovations that are expected to be wider than this many jitter variances say little about the jitter."""
LONGEST_STEP = 100.0
BANK_STATE = ("share", "level", "slope", "covariance")
RECENT = 32
"""Frames that the time between frames is taken from."""


class TrendState(NamedTuple):
    """What is known of a trend at the newest frame; a unit of time is about a frame, see `frames_per_unit`."""

    share: Doubles
    """(2, n) probability of each of the n filters, per axis (y, x)."""
    level: Doubles
    """(2, n) px."""
    slope: Doubles
    """(2, n) px per unit of time."""
    covariance: Doubles
    """(3, 2, n): level, level with slope, slope."""
    wander: Doubles
    """(2, n) variance of the change of slope per unit of time."""
    noise: Doubles
    """(2,) variance of the jitter, px^2."""
    frames_per_unit: float
    interval_s: float | None
    """Median time between recent frames; None when they do not tell when they were taken."""


class _Point(NamedTuple):
    """A measured frame."""

    y_px: float
    x_px: float
    at_s: float
    """Unix seconds; NaN: not known."""
    frames: float
    """Frames of the view since the one before, itself included."""


class Trend:
    """Trend of one drift, both axes."""

    def __init__(self) -> None:
        self._recent: deque[_Point] = deque(maxlen=RECENT)
        self._scaled = np.empty((0, 2))   # innovations, scaled to the jitter; NaN when unsettled
        self._count = 0
        self._skipped = 0
        self._unit_s = np.nan
        self._noise = np.full(2, SMALLEST_JITTER_PX**2)
        self._far: list[list[tuple[float, float]]] = [[], []]   # value and step of those far off in a row, per axis
        self._bank = Bank(np.zeros(2))
        self._state: TrendState | None = None   # once it was asked for, until something changes

    @property
    def count(self) -> int:
        """Measured frames."""
        return self._count

    @property
    def jitter_px(self) -> tuple[float, float] | None:
        """Standard deviation of the jitter per axis; None before there are enough frames."""
        if self._count < FRAMES_NEEDED:
            return None
        noise = np.sqrt(self._noise)
        return float(noise[0]), float(noise[1])

    @property
    def state(self) -> TrendState | None:
        """What is known at the newest frame; None before there are enough frames."""
        if self._count < FRAMES_NEEDED:
            return None
        self._state = self._state or self._describe()
        return self._state

    def time_of_retake(self, at_s: float | None) -> float | None:
        """Return when a frame was taken that was taken again, which is after the newest one.

        Its sender may not say, or may have kept the time of the frame that it replaces: then it is taken to lie half
        way to the next frame.

        Parameters
        ----------
        at_s : float or None
            As the sender says.
        """
        newest_s = self._recent[-1].at_s if self._recent else np.nan
        if at_s is not None and not at_s <= newest_s:
            return at_s
        guess_s = newest_s + 0.5 * self._interval_s()
        return float(guess_s) if np.isfinite(guess_s) else None

    def skip(self) -> None:
        """Take note of a frame that could not be measured."""
        self._skipped += 1

    def update(self, drift_y_px: float, drift_x_px: float, *, at_s: float | None = None,
               ) -> tuple[float, float] | None:
        """Take the drift of the next measured frame and return the trend there.

        Parameters
        ----------
        drift_y_px, drift_x_px : float
        at_s : float, optional
            When it was taken, in seconds from any origin. Without it, frames are taken to be equally far apart.

        Returns
        -------
        (trend_y_px, trend_x_px) or None
            None before there are four frames.
        """
        point = _Point(drift_y_px, drift_x_px, np.nan if at_s is None else at_s, 1.0 + self._skipped)
        before = self._recent[-1] if self._recent else None
        self._state = None
        self._recent.append(point)
        self._count, self._skipped = self._count + 1, 0
        if self._count < FRAMES_NEEDED:
            return None
        if self._count <= REPEAT_UNTIL:
            self._start_again()
        else:
            self._step(np.array(point[:2]), self._time_step(before, point))
            self._noise = self._jitter()
        y_px, x_px = self._bank.mean_level
        return float(y_px), float(x_px)

    def move(self, dy_px: float, dx_px: float) -> None:
        """Follow a change of the origin or a revision of the path: everything so far moved by so much."""
        offset = np.array([dy_px, dx_px], np.float64)
        self._state = None
        self._bank.level += offset[:, None]
        self._recent = deque((point._replace(y_px=point.y_px + dy_px, x_px=point.x_px + dx_px)
                              for point in self._recent), maxlen=RECENT)
        self._far = [[(value + offset[axis], time) for value, time in far] for axis, far in enumerate(self._far)]

    def snapshot(self) -> dict[str, Any]:
        """Return the state as numbers and arrays."""
        return {"count": self._count, "skipped": self._skipped, "unit_s": self._unit_s,
                "recent": np.array(self._recent).reshape(-1, 4), "scaled": self._scaled.copy(),
                "noise": self._noise.copy(), **{name: getattr(self._bank, name).copy() for name in BANK_STATE},
                "far": [[list(pair) for pair in far] for far in self._far]}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Trend:
        """Return the trend that `snapshot` described."""
        trend = cls()
        trend._count, trend._skipped = int(state["count"]), int(state["skipped"])
        trend._unit_s = float(state["unit_s"])
        trend._recent.extend(_Point(*map(float, point)) for point in state["recent"])
        trend._scaled = np.array(state["scaled"], np.float64).reshape(-1, 2)
        trend._far = [[(float(value), float(time)) for value, time in far] for far in state["far"]]
        trend._noise = np.array(state["noise"], np.float64)
        for name in BANK_STATE:
            setattr(trend._bank, name, np.array(state[name], np.float64))
        return trend

    def _describe(self) -> TrendState:
        interval_s = self._interval_s()
        timed = math.isfinite(interval_s)
        bank = self._bank
        return TrendState(bank.evidence(self._noise, self._count), bank.level.copy(), bank.slope.copy(),
                          bank.covariance.copy(), RESTLESSNESS * self._noise[:, None], self._noise.copy(),
                          self._unit_s / interval_s if timed and math.isfinite(self._unit_s) else 1.0,
                          interval_s if timed else None)

    def _start_again(self) -> None:
        """Filter all frames anew with a jitter from their second differences, then with that of the innovations."""
        points = list(self._recent)
        self._unit_s = self._interval_s()
        steps = [1.0, *(self._time_step(*pair) for pair in itertools.pairwise(points))]
        self._noise = _second_differences(points, steps)
        for _ in range(2):
            self._bank = Bank(np.array(points[0][:2]))
            self._scaled = np.empty((0, 2))
            self._far = [[], []]
            for point, step in zip(points, steps, strict=True):
                self._step(np.array(point[:2]), step)
            self._noise = self._jitter()

    def _interval_s(self) -> float:
        """Median time from frame to frame, s; NaN when not known."""
        points = list(self._recent)
        found = [(later.at_s - point.at_s) / later.frames for point, later in itertools.pairwise(points)]
        usable = [interval for interval in found if interval > 0.0]   # not NaN, not back in time
        return float(median(usable)) if usable else np.nan

    def _time_step(self, before: _Point | None, point: _Point) -> float:
        """Return the time between two measured frames in units."""
        passed = np.nan if before is None else (point.at_s - before.at_s) / self._unit_s
        return min(float(passed) if passed > 0.0 else point.frames, LONGEST_STEP)

    def _jitter(self) -> Doubles:
        """Variance of the jitter, (2,): of the scaled innovations without the wild ones."""
        scaled = self._scaled[~np.isnan(self._scaled[:, 0])]
        if len(scaled) < FRAMES_NEEDED:
            return self._noise
        squares = scaled.T**2
        variance = np.median(squares, axis=1) / MEDIAN_SQUARE
        for _ in range(2):
            near = squares <= TRIM**2 * variance[:, None]
            variance = (squares * near).sum(axis=1) / np.maximum(near.sum(axis=1), 1) / TRIM_VARIANCE
        return np.asarray(np.maximum(variance, SMALLEST_JITTER_PX**2))

    def _step(self, value: Doubles, step: float) -> None:
        found = self._bank.predict(value, step, self._noise)
        self._observe(found)
        far = self._notice_step(value, found, step)
        self._bank.learn(found, self._noise, only=~far)   # nothing is learnt from what is far off
        for axis in range(2):
            if len(self._far[axis]) >= STEP_FRAMES:
                values, steps = zip(*self._far[axis], strict=True)
                self._bank.begin_anew(axis, values, steps, float(self._noise[axis]))
                self._far[axis] = []

    def _observe(self, found: Prediction) -> None:
        """Keep the innovation of the mixture, scaled to the jitter."""
        settled = bool((found.variance < UNSETTLED * self._noise).all())
        newest = found.mean * np.sqrt(self._noise / found.variance) if settled else np.full(2, np.nan)
        self._scaled = np.concatenate([self._scaled[1 - WINDOW:], newest[None]])

    def _notice_step(self, value: Doubles, innovation: Prediction, step: float) -> NDArray[np.bool_]:
        """Tell which axes are far off, (2,), and remember those in a row on the same side."""
        mean = innovation.mean
        widest = np.maximum(innovation.variance, innovation.expected.max(axis=1))   # the quickest may see a turn in it
        found = np.asarray(np.abs(mean) > STEP_SIGMAS * np.sqrt(widest))
        for axis in range(2):
            if not found[axis]:
                self._far[axis] = []
                continue
            level = value[axis] - mean[axis]
            same = all((earlier - level) * mean[axis] > 0.0 for earlier, _ in self._far[axis])
            row = [*(self._far[axis] if same else []), (float(value[axis]), step)][-STEP_FRAMES:]
            if len(row) == STEP_FRAMES:   # wild frames do not agree with each other
                spread = np.ptp([earlier for earlier, _ in row])
                allowed = max(0.5 * abs(mean[axis]), 2.0 * STEP_SIGMAS * np.sqrt(self._noise[axis]))
                row = row if spread <= allowed else row[1:]
            self._far[axis] = row
        return found


def _second_differences(points: list[_Point], steps: list[float]) -> Doubles:
    """Variance of the jitter, (2,), from the deviation of each frame from the line between its neighbours."""
    path, time = np.array([point[:2] for point in points]), np.cumsum(steps)
    before, after = (np.diff(time)[:-1, None], np.diff(time)[1:, None])
    share = before / (before + after)
    off = path[1:-1] - (1.0 - share) * path[:-2] - share * path[2:]
    spread = np.median(np.abs(off / np.sqrt(1.0 + share**2 + (1.0 - share)**2)), axis=0) / 0.6745
    return np.asarray(np.maximum(spread, SMALLEST_JITTER_PX)**2)
