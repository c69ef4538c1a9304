"""Wire bytes to frames and back: one module a dialect, no sockets, no state.

A dialect is added by adding a module here that has what `Dialect` asks for; modules whose name starts with an
underscore are helpers.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Sequence
from typing import Protocol, cast

from streamer.errors import ProtocolError, SettingsError
from streamer.records import EndOfAcquisition, Frame

Buffer = bytes | bytearray | memoryview

Decoded = Frame | EndOfAcquisition | Sequence[Frame]
"""What a message holds: usually one frame; none when it is about the series only, several when it is a train."""

LARGEST_BYTES = 512_000_000
"""Payloads larger than this are refused unread, unless the caller allows more."""


class Dialect(Protocol):
    """What a module of this package offers."""

    NAME: str
    """As in the setting ``frames.protocol``."""
    SUMMARY: str
    """One line for help pages."""
    HAS_END: bool
    """Whether the dialect can say that an acquisition is complete."""
    CARRIES: frozenset[str]
    """Fields of a frame that arrive as they were sent, beside the pixels; the others are lost or changed."""

    def recognises(self, parts: Sequence[Buffer]) -> bool:
        """Tell, without decoding, whether a message looks like this dialect."""
        ...

    def decode(
        self, parts: Sequence[Buffer], *, received_at: float = 0.0, largest_bytes: int = LARGEST_BYTES
    ) -> Decoded:
        """Read one message; the pixels are a read-only view of the message where the byte order allows it.

        A dialect (or message) without frame numbers gives ``index = -1``: number it by arrival.

        Raises
        ------
        ProtocolError
            With the frame number and acquisition when the header still gives them.
        """
        ...

    def encode(self, frame: Frame) -> list[Buffer]:
        """Write one frame; only fields that are set are written.

        Raises
        ------
        ProtocolError
            If the dialect cannot carry the frame.
        """
        ...

    def encode_end(self, acquisition: str) -> list[Buffer]:
        """Write the message that closes an acquisition.

        Raises
        ------
        ProtocolError
            If the dialect has none (``HAS_END`` is False).
        """
        ...


def names() -> list[str]:
    """List the names of all dialects, sorted."""
    return sorted(_dialects())


def get(name: str) -> Dialect:
    """Return the dialect of that name.

    Raises
    ------
    SettingsError
        If there is none; the text gives the nearest name and lists all.
    """
    dialect = _dialects().get(name)
    if dialect is None:
        close = difflib.get_close_matches(name, names(), n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise SettingsError(f"unknown protocol {name!r}{hint} (known: auto, {', '.join(names())})")
    return dialect


def recognise(parts: Sequence[Buffer]) -> Dialect:
    """Find the dialect of a message.

    Raises
    ------
    ProtocolError
        If no dialect knows it.
    """
    for dialect in _dialects().values():
        if dialect.recognises(parts):
            return dialect
    sizes = ", ".join(str(memoryview(part).nbytes) for part in list(parts)[:4])
    start = bytes(parts[0][:32]) if parts else b""
    raise ProtocolError(f"message of {len(parts)} part(s) of {sizes or 'no'} bytes starting {start!r} fits no known "
                        f"protocol ({', '.join(names())}); check what the sender sends")


@functools.cache
def _dialects() -> dict[str, Dialect]:
    found: dict[str, Dialect] = {}
    for info in pkgutil.iter_modules(__path__):
        if not info.name.startswith("_"):
            dialect = cast("Dialect", importlib.import_module(f"{__name__}.{info.name}"))
            found[dialect.NAME] = dialect
    return found
