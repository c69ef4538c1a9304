"""The lasting conditions of the service itself that a person is told of."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from streamer.records import Severity, Status
from streamer.settings import AlertsSettings
from streamer.tracking.alert_rules import ROOM

_PATIENCE_S = 2.0
"""A queue that is full for a shorter time is a burst, which it is there for."""
_RELIEVED = 0.5
"""The overload is over when the queue is emptier than this share of where it began."""


class Condition(NamedTuple):
    """A condition that may hold."""

    rule: str
    text: str | None
    """None: it does not hold."""
    severity: Severity = "MAJOR"


class Watch:
    """Judge heartbeats.

    Parameters
    ----------
    is_active : callable
        Whether the condition of a rule holds, for hysteresis.
    waits : bool
        Whether a full queue lets the sender wait; otherwise frames are dropped.
    """

    def __init__(self, is_active: Callable[[str], bool], *, waits: bool) -> None:
        self._is_active = is_active
        self._waits = waits
        self._full_since: float | None = None

    def look(self, status: Status, limits: AlertsSettings) -> list[Condition]:
        """Return all conditions that a heartbeat tells of."""
        age_s = status.last_frame_age_s
        stalled = status.state == "receiving" and age_s is not None and age_s > limits.stalled_s
        return [
            Condition("stalled", f"no frame for {age_s:.0f} s in an open acquisition" if stalled else None),
            self._disk(status, limits), self._queue(status, limits)]

    def _disk(self, status: Status, limits: AlertsSettings) -> Condition:
        free_gb, limit = status.disk_free_gb, limits.disk_free_gb
        low = free_gb is not None and free_gb < (ROOM * limit if self._is_active("disk_low") else limit)
        return Condition("disk_low", f"{free_gb:.2f} GB left on the disk of {status.session_dir}" if low else None)

    def _queue(self, status: Status, limits: AlertsSettings) -> Condition:
        share = status.queue / status.queue_limit if status.queue_limit else 0.0
        active = self._is_active("overload")
        if share < (_RELIEVED if active else 1.0) * limits.overload_share:
            self._full_since = None
            return Condition("overload", None)
        now = time.monotonic()
        self._full_since = now if self._full_since is None else self._full_since
        if not active and now - self._full_since < _PATIENCE_S:
            return Condition("overload", None)
        what, severity = ("the sender has to wait", "MINOR") if self._waits else ("frames are being dropped", "MAJOR")
        text = (f"{status.queue} of {status.queue_limit} frames that may wait for analysis do, {what}; switch "
                "flow.enabled off, give more engine.workers, or slow the sender down")
        return Condition("overload", text, severity)   # type: ignore[arg-type]
