"""How long things take, over the last frames."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping

import numpy as np

_REMEMBERED = 4096
_RATE_WINDOW_S = 5.0


class Timing:
    """Stage times and latencies over the last frames; bounded memory."""

    def __init__(self) -> None:
        self._stages: dict[str, deque[float]] = {}
        self._started = time.monotonic()
        self._busy_until = self._started
        self._frames = 0

    def add(self, elapsed_ms: Mapping[str, float], *, frames: int = 1) -> None:
        """Add the stage times of a frame; `frames` is 0 for a stage that comes after its frame was counted."""
        for stage, value in elapsed_ms.items():
            self._stages.setdefault(stage, deque(maxlen=_REMEMBERED)).append(value)
        self._frames += frames
        self._busy_until = time.monotonic()

    def add_latency(self, latency_ms: float) -> None:
        """Add the time from received to published of one frame."""
        self._stages.setdefault("latency", deque(maxlen=_REMEMBERED)).append(latency_ms)

    def quantiles(self, stage: str) -> tuple[float, float] | None:
        """Return median and 95 % of a stage in ms; None before the first frame."""
        values = self._stages.get(stage)
        if not values:
            return None
        median, high = np.percentile(list(values), (50, 95))
        return round(float(median), 3), round(float(high), 3)

    def summary(self) -> dict[str, object]:
        """Return median and 95 % of every stage, and the frames per second from start to newest frame."""
        stages = {}
        for stage in self._stages:
            median, high = self.quantiles(stage) or (0.0, 0.0)
            stages[stage] = {"median_ms": median, "p95_ms": high}
        elapsed_s = self._busy_until - self._started
        return {"stages": stages, "frames": self._frames, "elapsed_s": round(elapsed_s, 3),
                "frames_per_s": round(self._frames / elapsed_s, 2) if elapsed_s > 0 else None}


class Rate:
    """Events per second over the last five seconds; may be used from several threads."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=100_000)
        self._lock = threading.Lock()

    def tick(self) -> None:
        """Count one event, now."""
        with self._lock:
            self._times.append(time.monotonic())

    def hz(self) -> float:
        """Return the present rate."""
        horizon = time.monotonic() - _RATE_WINDOW_S
        with self._lock:
            while self._times and self._times[0] < horizon:
                self._times.popleft()
            return len(self._times) / _RATE_WINDOW_S
