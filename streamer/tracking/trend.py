"""The systematic part of a drift, followed frame by frame.

A local linear trend (level and slope, both wandering) is filtered by a bank of Kalman filters that differ in
how fast the slope may change; the recent likelihood of each decides how much it counts. The jitter of the
stage is the measurement noise of the filters, taken from the median of the second differences, and heavy
tails (Student's t) keep single wild frames from pulling the trend.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

FRAMES_NEEDED = 4
WINDOW = 64
"""Frames that the noise is estimated from."""
REPEAT_UNTIL = 16
"""The noise is so uncertain at first that the filters are run again over all frames."""
MEMORY = 0.98
"""Likelihood kept from frame to frame: about 50 frames count."""
TAIL = 4.0
"""Degrees of freedom of Student's t."""
SMALLEST_JITTER_PX = 0.01
STEP_SIGMAS = 6.0
STEP_FRAMES = 3
"""So many frames in a row, all far off on the same side, are a step of the stage and not outliers."""
BANK = 10.0 ** np.arange(-6.0, 0.5, 1.0)
"""Variance of the change of slope per frame, in units of the jitter variance."""

Doubles = NDArray[np.float64]


class Trend:
    """Trend of one drift, both axes."""

    def __init__(self) -> None:
        self._recent: deque[Doubles] = deque(maxlen=WINDOW)
        self._count = 0
        self._restart(np.zeros(2))

    @property
    def jitter_px(self) -> tuple[float, float] | None:
        """Standard deviation of the jitter per axis; None before there are enough frames."""
        if self._count < FRAMES_NEEDED:
            return None
        noise = np.sqrt(self._noise())
        return float(noise[0]), float(noise[1])

    def update(self, drift_y_px: float, drift_x_px: float) -> tuple[float, float] | None:
        """Take the drift of the next measured frame and return the trend there.

        Returns
        -------
        (trend_y_px, trend_x_px) or None
            None before there are four frames.
        """
        value = np.array([drift_y_px, drift_x_px], np.float64)
        self._recent.append(value)
        self._count += 1
        if self._count < FRAMES_NEEDED:
            return None
        if self._count <= REPEAT_UNTIL:
            self._restart(self._recent[0])
            for earlier in self._recent:
                self._step(earlier)
        else:
            self._step(value)
        share = np.exp(self._likelihood - self._likelihood.max(axis=1, keepdims=True))
        level = (share * self._level).sum(axis=1) / share.sum(axis=1)
        return float(level[0]), float(level[1])

    def move(self, dy_px: float, dx_px: float) -> None:
        """Follow a change of the origin or a revision of the path: everything so far moved by so much."""
        offset = np.array([dy_px, dx_px], np.float64)
        self._level += offset[:, None]
        self._recent = deque((value + offset for value in self._recent), maxlen=WINDOW)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as numbers and arrays."""
        return {"count": self._count, "recent": np.array(self._recent).reshape(-1, 2), "level": self._level.copy(),
                "slope": self._slope.copy(), "covariance": self._covariance.copy(),
                "likelihood": self._likelihood.copy(), "side": self._side.copy()}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Trend:
        """Return the trend that `snapshot` described."""
        trend = cls()
        trend._count = int(state["count"])
        trend._recent.extend(np.asarray(state["recent"], np.float64))
        for name in ("level", "slope", "covariance", "likelihood", "side"):
            setattr(trend, f"_{name}", np.array(state[name]))
        return trend

    def _restart(self, start: Doubles) -> None:
        shape = (2, BANK.size)
        self._level = np.repeat(start[:, None], BANK.size, axis=1)
        self._slope = np.zeros(shape)
        self._covariance = np.zeros((3, *shape))   # level, level with slope, slope
        self._covariance[0] = 1e6
        self._covariance[2] = 1e4
        self._likelihood = np.zeros(shape)
        self._side = np.zeros(2, np.int64)   # frames in a row that were far off, signed

    def _noise(self) -> Doubles:
        """Variance of the jitter, (2,): second differences of white noise have six times its variance."""
        second = np.diff(np.array(self._recent), n=2, axis=0)
        spread = np.median(np.abs(second), axis=0) / 0.6745
        return np.asarray(np.maximum(spread**2 / 6.0, SMALLEST_JITTER_PX**2))

    def _step(self, value: Doubles) -> None:
        noise = self._noise()[:, None]
        level_level, level_slope, slope_slope = self._covariance
        wander = BANK * noise
        level = self._level + self._slope
        level_level = level_level + 2.0 * level_slope + slope_slope + wander / 3.0
        level_slope = level_slope + slope_slope + wander / 2.0
        slope_slope = slope_slope + wander
        innovation = value[:, None] - level
        expected = level_level + noise
        ratio = innovation**2 / expected
        self._likelihood = MEMORY * self._likelihood - 0.5 * (
            np.log(expected) + (TAIL + 1.0) * np.log1p(ratio / TAIL))
        self._notice_step(innovation, expected)
        doubt = (TAIL + ratio) / (TAIL + 1.0)
        gain_level = level_level / (level_level + noise * doubt)
        gain_slope = level_slope / (level_level + noise * doubt)
        stepped = np.abs(self._side)[:, None] >= STEP_FRAMES
        self._level = np.where(stepped, value[:, None], level + gain_level * innovation)
        self._slope = np.where(stepped, self._slope, self._slope + gain_slope * innovation)
        self._covariance = np.stack([np.where(stepped, noise, (1.0 - gain_level) * level_level),
                                     np.where(stepped, 0.0, (1.0 - gain_level) * level_slope),
                                     slope_slope - gain_slope * level_slope])
        self._side[stepped[:, 0]] = 0

    def _notice_step(self, innovation: Doubles, expected: Doubles) -> None:
        """Count frames in a row that every filter finds far off on the same side."""
        far = (np.abs(innovation) > STEP_SIGMAS * np.sqrt(expected)).all(axis=1)
        sign = np.sign(innovation[:, 0]).astype(np.int64)
        same = self._side * sign > 0
        self._side = np.where(far, np.where(same, self._side + sign, sign), 0)
