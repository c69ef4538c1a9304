"""Alerts appended to a file, a line of JSON each."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence

from streamer.errors import ChannelError
from streamer.notify import Display, Messenger
from streamer.notify._text import json_lines
from streamer.records import Notice, Severity
from streamer.settings import Settings

NAME = "jsonl"
SUMMARY = "lines of JSON in a file"

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK   # a pipe without a reader is an error, not a wait


class LinesFile:
    """A file that grows by a line an alert; opened anew for every call, so that it may be moved away.

    Parameters
    ----------
    path : str
    severity, interval_s
        See `Messenger`.
    """

    def __init__(self, path: str, *, severity: Severity, interval_s: float) -> None:
        self.name = NAME
        self.severity = severity
        self.interval_s = interval_s
        self._path = path

    def check(self) -> None:
        """Open the file."""
        self._append(b"")

    def deliver(self, notices: Sequence[Notice], *, session: str) -> None:
        """Append a line for each."""
        self._append(json_lines(notices, session=session))

    def close(self) -> None:
        """Nothing is open between calls."""

    def _append(self, data: bytes) -> None:
        try:
            file = os.open(self._path, _FLAGS, 0o644)
            try:
                _write(file, data)
            finally:
                os.close(file)
        except (OSError, ValueError) as error:   # ValueError: a path that holds a NUL
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ChannelError(f"file {self._path} (notify.jsonl_path): {reason}; make room or choose another "
                               "file") from error


def _write(file: int, data: bytes) -> None:
    """Write all of it, or leave the file as it was."""
    about = os.fstat(file)
    done = 0
    try:
        while done < len(data):
            done += os.write(file, data[done:])
    except OSError:
        if stat.S_ISREG(about.st_mode):
            with contextlib.suppress(OSError):
                os.ftruncate(file, about.st_size)
        raise


def open_(settings: Settings) -> list[Messenger | Display]:
    """Make the one that is asked for."""
    notify = settings.notify
    if not notify.jsonl_path:
        return []
    return [LinesFile(notify.jsonl_path, severity=notify.jsonl_severity, interval_s=notify.interval_s)]
