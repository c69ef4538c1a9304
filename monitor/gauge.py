"""How well the screen keeps up: pictures painted and skipped, and how long each took from its message. No Qt."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np

WINDOW_S = 5.0
_LAST = 200


class Gauge:
    """Told of every picture that is handed to the screen, and of every one that was painted.

    Parameters
    ----------
    now : callable
        A clock that never goes back, in s.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.skipped = 0
        """Pictures that came and were never painted, because newer ones came first; a pause skips none."""
        self._number = 0
        self._received_at: float | None = None
        self._times: deque[float] = deque(maxlen=2000)
        self._delays: deque[float] = deque(maxlen=_LAST)
        self._summary: tuple[float, float] | None = None

    def take(self, number: int, received_at: float) -> None:
        """Note the picture that is to be painted next.

        Parameters
        ----------
        number : int
            How many pictures have come, with this one.
        received_at : float
            When its message came, by the same clock.
        """
        if number == self._number:
            return
        if 0 < self._number < number:
            self.skipped += number - self._number - 1 + (self._received_at is not None)
        self._number, self._received_at = number, received_at

    def pause(self, number: int) -> None:
        """Note how many have come while nothing is painted on purpose."""
        self._number, self._received_at = number, None

    def painted(self) -> None:
        """Note that the screen shows it."""
        now = self._now()
        self._times.append(now)
        if self._received_at is not None:
            self._delays.append(now - self._received_at)
            self._received_at = self._summary = None

    @property
    def hz(self) -> float:
        """Pictures painted per second, over the last seconds."""
        now = self._now()
        return sum(now - at < WINDOW_S for at in self._times) / WINDOW_S

    @property
    def delay_ms(self) -> tuple[float, float] | None:
        """Message received to picture painted: median and 95 % of the last ones; None before the first."""
        if not self._delays:
            return None
        if self._summary is None:   # asked for with each redraw, whether a picture was painted or not
            median, p95 = np.percentile(list(self._delays), [50, 95]) * 1000
            self._summary = float(median), float(p95)
        return self._summary
