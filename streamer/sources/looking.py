"""What sources share that look at files again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import msgspec

from streamer.records import EndOfAcquisition, Frame, Refusal

Item = Frame | Refusal | EndOfAcquisition
Known = Callable[[Frame | Refusal], bool]
"""Tells whether a frame is in the session already, such as after a restart."""


class LookingSource:
    """Give what a look brought one by one, then look again.

    Parameters
    ----------
    endpoint : str
        As the user named it.
    known : callable
        Frames for which it is true are passed over.
    poll_s : float
        From one look to the next.
    """

    waits = True
    """What is not read yet stays where it is."""

    def __init__(self, endpoint: str, *, known: Known, poll_s: float) -> None:
        self.endpoint = endpoint
        self.protocol = ""
        self._known = known
        self._poll_s = poll_s
        self._items: Iterator[Item] = iter(())
        self._next_look = 0.0

    def receive(self, timeout_s: float) -> Item | None:
        """Return what comes next, or None when nothing came in time."""
        end = time.monotonic() + timeout_s
        while True:
            item = next(self._items, None)
            if item is not None:
                return item if isinstance(item, EndOfAcquisition) else msgspec.structs.replace(
                    item, received_at=time.time())
            now = time.monotonic()
            if now >= self._next_look:
                self._next_look = now + self._poll_s
                self._items = self._look()
                continue
            if now >= end:
                return None
            self._wait(min(end, self._next_look) - now)

    def close(self) -> None:
        """Release what is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _look(self) -> Iterator[Item]:
        """Yield what is new."""
        raise NotImplementedError

    def _wait(self, seconds: float) -> None:
        """Wait for so long, or less if something has changed."""
        time.sleep(seconds)
