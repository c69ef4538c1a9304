"""When to take the picture of the dashboard, and taking it."""

from __future__ import annotations

import enum
import time
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.feed import Link, LinkState
from monitor.store import Store
from streamer.errors import TxmError

if TYPE_CHECKING:
    from monitor.window import Window

PATIENCE_S = 60.0
SETTLE_S = 1.5
"""Nothing new for so long after the end: everything has been processed."""


class Answer(enum.Enum):
    """What the patience of a snapshot says."""

    WAIT = "wait"
    DONE = "done"
    GAVE_UP = "gave up"


class Patience:
    """Decide when the picture is due.

    Parameters
    ----------
    frames : int, optional
        Frames to wait for; by default until the acquisition has ended and all of it is here.
    limit_s : float
        Longest wait; counts anew with every frame if `renews`.
    """

    def __init__(self, *, frames: int | None = None, limit_s: float = PATIENCE_S, renews: bool = True) -> None:
        self.frames, self.limit_s, self.renews = frames, limit_s, renews
        self.reason = ""
        self._version = -1
        self._changed_at = self._since = time.monotonic()

    def judge(self, store: Store, link: Link) -> Answer:
        """Look at what is there; `reason` says in words why the wait is over."""
        now, count = time.monotonic(), len(store)
        if store.version != self._version:
            self._version, self._changed_at = store.version, now
            if self.renews:
                self._since = now
        if self.frames is not None and count >= self.frames:
            self.reason = f"{count} frames were received"
            return Answer.DONE
        status = store.status
        ended = (link.state is LinkState.ENDED and link.has_history and count > 0
                 and status is not None and status.queue == 0)
        if ended and now - self._changed_at > SETTLE_S:
            missing = f", fewer than {self.frames}" if self.frames is not None else ""
            self.reason = f"the acquisition ended with {count} frames{missing}"
            return Answer.DONE
        if now - self._since <= self.limit_s:
            return Answer.WAIT
        if count == 0:
            self.reason = f"no frame within {self.limit_s:g} s: {link.text or 'the streamer waits for frames'}"
            return Answer.GAVE_UP
        wanted = f" of {self.frames}" if self.frames is not None else ""
        self.reason = f"the time limit of {self.limit_s:g} s passed with {count}{wanted} frames"
        return Answer.DONE


def save(window: Window, path: Path) -> None:
    """Draw everything and write the picture.

    Raises
    ------
    TxmError
        If the file cannot be written.
    """
    window.refresh_now()
    if not window.grab().save(str(path), "PNG"):
        raise TxmError(f"cannot write the picture {path}; is its folder there and writable?")
