"""What the next streamer needs to go on with a session, written into the journal with the results it belongs to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from streamer.errors import SessionError

_SHARE = 0.05
"""Of the time, at most, goes into writing down what grows with what is open: alerts and requests."""

Tree = Mapping[str, Any]


class SessionState:
    """Collect the parts of the state that have changed since they were last collected.

    Parameters
    ----------
    ledger : callable
        Returns the parts of the ledger that changed since the last call.
    small : mapping of str to callable
        Return small parts, looked at with every commit.
    growing : mapping of str to callable
        Return parts that grow with what is open; those may lag behind as long as nothing of it is told.
    """

    def __init__(self, ledger: Callable[[], Tree], small: Mapping[str, Callable[[], Any]],
                 growing: Mapping[str, Callable[[], Any]]) -> None:
        self._ledger = ledger
        self._small = small
        self._growing = growing
        self._known: dict[str, bytes] = {}
        self._not_before = 0.0

    def parts(self, told: bool) -> dict[str, bytes]:
        """Return what changed, encoded, by name; `told` if alerts or requests are written with it."""
        changed = {f"ledger {name}": msgspec.msgpack.encode(part) for name, part in self._ledger().items()}
        changed |= self._changes(self._small)
        started = time.monotonic()
        if told or started >= self._not_before:
            changed |= self._changes(self._growing)
            self._not_before = started + (time.monotonic() - started) / _SHARE
        return changed

    def _changes(self, parts: Mapping[str, Callable[[], Any]]) -> dict[str, bytes]:
        changed = {}
        for name, take in parts.items():
            data = msgspec.msgpack.encode(take())
            if self._known.get(name) != data:
                changed[name] = self._known[name] = data
        return changed


class Left:
    """What a streamer left behind in the journal.

    Parameters
    ----------
    parts : mapping of str to bytes
        As they are in the journal.
    """

    def __init__(self, parts: Mapping[str, bytes]) -> None:
        try:
            self._parts = {name: msgspec.msgpack.decode(data) for name, data in parts.items()}
        except msgspec.DecodeError as error:
            raise SessionError(f"the state in the journal cannot be read: {error}; choose another folder") from error

    def __getitem__(self, name: str) -> Any:
        """Return a part; SessionError without it."""
        try:
            return self._parts[name]
        except KeyError as error:
            raise SessionError(f"the state in the journal lacks {name!r}; choose another folder") from error

    def ledger(self) -> dict[str, Any]:
        """Return the parts of the ledger."""
        return {name.removeprefix("ledger "): part for name, part in self._parts.items() if name.startswith("ledger ")}
