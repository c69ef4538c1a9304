"""The thread that keeps one display up to date, never in the way of the analysis."""

from __future__ import annotations

import logging
import threading
from collections import deque

from streamer.errors import ChannelError
from streamer.notify import Display, Matter

log = logging.getLogger(__name__)

_WAITING = 20_000
"""Results kept for a display that does not keep up; beyond, the oldest are not shown."""


class Presenter:
    """Show results on one display in a thread of its own.

    Parameters
    ----------
    display : Display
    """

    def __init__(self, display: Display) -> None:
        self.problem = ""
        """Why nothing, or not everything, is shown."""
        self._display = display
        self._changed = threading.Condition()
        self._waiting: deque[Matter] = deque(maxlen=_WAITING)
        self._closing = False
        try:
            display.start()
        except ChannelError as error:
            log.error("%s", error)
            self.problem = str(error)
            self._thread = None
            return
        self._thread = threading.Thread(target=self._run, name=f"presenter {display.name}", daemon=True)
        self._thread.start()

    def put(self, matter: Matter) -> None:
        """Take what is new."""
        if self._thread is None:
            return
        with self._changed:
            if len(self._waiting) == _WAITING and not self.problem:
                self.problem = f"display {self._display.name} does not keep up, some results are not shown"
                log.warning("%s", self.problem)
            self._waiting.append(matter)
            self._changed.notify()

    def close(self) -> None:
        """Show what waits, and end."""
        if self._thread is None:
            return
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._display.close()

    def _run(self) -> None:
        while (matter := self._next()) is not None:
            try:
                self._display.show(matter)
            except Exception as error:   # a display must not end with one result
                log.exception("display %s", self._display.name)
                self.problem = f"display {self._display.name}: internal error: {error}; please report it with the log"

    def _next(self) -> Matter | None:
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            return self._waiting.popleft() if self._waiting else None
