"""The bounded queue between the receiver and the analysis."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Literal, NamedTuple

import msgspec

from streamer.records import EndOfAcquisition, Frame, Refusal


class Dropped(NamedTuple):
    """A frame that was given up because of overload: its pixels are gone, its number is not."""

    frame: Frame
    reason: str


Item = Frame | Refusal | Dropped | EndOfAcquisition
Policy = Literal["block", "drop_oldest"]


class Inbox:
    """What waits for the analysis: frames up to a limit, and urgent matters, which go first.

    Parameters
    ----------
    limit : int
        Frames that may wait.
    policy : str
        What happens to a frame that finds the queue full: ``block`` lets the receiver wait (and, behind it, a
        sender that pushes), ``drop_oldest`` gives up the pixels of the oldest waiting frame. Its number stays
        in the queue, so that it is counted and named in its turn.
    """

    def __init__(self, limit: int, policy: Policy) -> None:
        self.limit = limit
        self.policy = policy
        self._items: deque[Item] = deque()
        self._given_up: deque[Item] = deque()   # older than all of _items
        self._urgent: deque[Any] = deque()
        self._frames = 0
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        """Return the number of frames that wait."""
        return self._frames

    def put(self, item: Item) -> None:
        """Add what came from the source, from the receiver's thread."""
        with self._changed:
            if isinstance(item, Frame):
                if self.policy == "block":
                    self._changed.wait_for(lambda: self._frames < self.limit or self._closed)
                elif self._frames >= self.limit:
                    self._drop_oldest()
                self._frames += 1
            self._items.append(item)
            self._changed.notify_all()

    def put_urgent(self, matter: Any) -> None:
        """Add what does not wait behind frames, from any thread."""
        with self._changed:
            self._urgent.append(matter)
            self._changed.notify_all()

    def get(self, timeout_s: float) -> Any | None:
        """Take the next matter or frame; None when nothing came in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._urgent or self._given_up or self._items, timeout_s)
            if self._urgent:
                return self._urgent.popleft()
            if self._given_up:
                return self._given_up.popleft()
            if not self._items:
                return None
            item = self._items.popleft()
            if isinstance(item, Frame):
                self._frames -= 1
                self._changed.notify_all()
            return item

    def close(self) -> None:
        """Let a waiting receiver go; what is queued can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _drop_oldest(self) -> None:
        """Give up the oldest frame; what stood before it keeps its place in the order."""
        while self._items:
            item = self._items.popleft()
            if isinstance(item, Frame):
                self._frames -= 1
                hollow = msgspec.structs.replace(item, pixels=item.pixels[:1, :1].copy())
                self._given_up.append(Dropped(hollow, (
                    f"dropped: {self.limit} frames were waiting already; raise frames.queue, switch flow.enabled "
                    "off, or slow the sender down")))
                return
            self._given_up.append(item)
