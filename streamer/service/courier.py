"""The thread that calls one messenger: within its rate, again when it fails, never in the way of the analysis."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable

from streamer.errors import ChannelError
from streamer.notify import Messenger
from streamer.records import Notice
from streamer.settings import NotifySettings

log = logging.getLogger(__name__)

WAITING = 1000
"""Notices kept in memory; others stay in the journal until there is room."""
_AT_ONCE = 500
"""Notices of one call."""
_LONGEST_RETRY = 64
"""Pauses double up to so many times the first one."""
_FAILURES = 2
"""Calls that fail in a row before it is a problem; a single failure is common and is made good by the next call."""
_STUCK_FACTOR = 3.0
"""A call that takes so many times its time-out is a problem by itself."""
_LAST_CALL_S = 2.0


class Courier:
    """Deliver the notices of one messenger in a thread of its own.

    Parameters
    ----------
    messenger : Messenger
    settings : NotifySettings
        Times.
    session : str
        Name of the session, told with every alert.
    """

    def __init__(self, messenger: Messenger, settings: NotifySettings, *, session: str) -> None:
        self._messenger = messenger
        self._settings = settings
        self._session = session
        self._changed = threading.Condition()
        self._waiting: dict[int, Notice] = {}
        """By alert, oldest first, those of the call under way included."""
        self._told: list[Notice] = []
        self._overflow = False
        self._closing = False
        self._failures = 0
        self._reason = ""
        self._next_call = 0.0
        self._called_at: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"courier {self.name}", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """Name of the channel."""
        return self._messenger.name

    @property
    def problem(self) -> str:
        """What keeps alerts from being delivered; empty when nothing does."""
        now = time.monotonic()
        with self._changed:
            waiting = f"alerts that wait: {len(self._waiting)}{' and more' if self._overflow else ''}"
            busy_s = 0.0 if self._called_at is None else now - self._called_at
            if busy_s > _STUCK_FACTOR * self._settings.timeout_s:
                return f"channel {self.name} has not come back for {busy_s:.0f} s; {waiting}"
            if self._failures >= _FAILURES:
                return f"channel {self.name}: {self._reason}; {waiting}"
        return ""

    @property
    def wants_more(self) -> bool:
        """Whether notices were left in the journal and there is room for them now."""
        with self._changed:
            return self._overflow and not self._waiting and not self._told

    def put(self, notices: Iterable[Notice]) -> None:
        """Take notices that are in the journal; they go out as soon as the rate allows."""
        with self._changed:
            for notice in notices:
                if notice.alert.id in self._waiting or (len(self._waiting) < WAITING and not self._overflow):
                    self._waiting[notice.alert.id] = notice
                else:
                    self._overflow = True   # in the journal; what came earlier goes first
            self._changed.notify()

    def refill(self, notices: list[Notice]) -> None:
        """Take the oldest notices of the journal, up to `WAITING`; with fewer, none is left there."""
        with self._changed:
            self._overflow = len(notices) >= WAITING
            self._waiting |= {notice.alert.id: notice for notice in notices}
            self._changed.notify()

    def take_told(self) -> list[Notice]:
        """Return what was delivered since the last time."""
        with self._changed:
            told, self._told = self._told, []
        return told

    def stop(self) -> None:
        """Ask it to make a last call with what waits, unless the messenger fails, and to end."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def join(self) -> None:
        """Wait for its end, little more than the time-out of the messenger."""
        self._thread.join(self._settings.timeout_s)
        self._messenger.close()
        self._thread.join(_LAST_CALL_S)
        if self._thread.is_alive():
            log.warning("channel %s does not come back; it is left behind", self.name)
        if self._waiting or self._overflow:
            log.warning("channel %s: %d alerts%s were not delivered; the journal keeps them", self.name,
                        len(self._waiting), " and more" if self._overflow else "")

    def _run(self) -> None:
        self._call([])
        while (batch := self._next_batch()) is not None:
            self._call(batch)

    def _next_batch(self) -> list[Notice] | None:
        """Wait until a call is due; None at the end. A messenger that fails is looked at even when nothing waits."""
        with self._changed:
            while not self._closing:
                pause_s = self._next_call - time.monotonic()
                if not self._waiting and not self._failures:
                    self._changed.wait()
                elif pause_s > 0.0:
                    self._changed.wait(pause_s)
                else:
                    return list(self._waiting.values())[:_AT_ONCE]
            return list(self._waiting.values()) if self._waiting and not self._failures else None

    def _call(self, batch: list[Notice]) -> None:
        self._called_at = time.monotonic()
        try:
            if batch:
                self._messenger.deliver(batch, session=self._session)
            else:
                self._messenger.check()
        except ChannelError as error:
            self._failed(str(error))
        except Exception as error:   # a channel must not die of its messenger
            log.exception("channel %s", self.name)
            self._failed(f"internal error: {error}; please report it with the log")
        else:
            self._succeeded(batch)

    def _failed(self, reason: str) -> None:
        if not self._failures:
            log.warning("channel %s: %s", self.name, reason)
        with self._changed:
            self._called_at = None
            self._reason = reason
            pause_s = self._settings.retry_s * min(2.0 ** self._failures, _LONGEST_RETRY)
            self._next_call = time.monotonic() + max(pause_s, self._messenger.interval_s)
            self._failures += 1

    def _succeeded(self, batch: list[Notice]) -> None:
        if self._failures:
            log.warning("channel %s works again", self.name)
        with self._changed:
            self._called_at = None
            self._failures = 0
            if batch:
                self._next_call = time.monotonic() + self._messenger.interval_s
            for notice in batch:
                if self._waiting[notice.alert.id].sequence == notice.sequence:   # not replaced meanwhile
                    del self._waiting[notice.alert.id]
            self._told += batch
