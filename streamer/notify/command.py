"""A program that is run for alerts, without a shell."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from typing import Any

from streamer.errors import ChannelError
from streamer.notify import Display, Messenger
from streamer.notify._text import fields, json_lines, summary, worst
from streamer.records import Alert, Notice, Severity
from streamer.settings import Settings

NAME = "command"
SUMMARY = "a program run without a shell"

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_KNOWN = frozenset({"session", "occasion", "sequence", "alerts", "summary", *Alert.__struct_fields__})
_LONGEST = 4000
"""Characters of a field as an argument or in the environment; standard input has all of it."""
_OF_COMPLAINT = 300


class Command:
    """A program with its arguments.

    Standard input has a line of JSON for every alert of the call. Arguments and environment (``TXM_ALERT_TEXT`` and so
    on) tell of the worst of them; ``{alerts}`` is how many there are, ``{summary}`` says it in a line.

    Parameters
    ----------
    arguments : sequence of str
        Program first. ``{field}`` is replaced by that field of the alert.
    timeout_s : float
        After it the program is killed, with all that it started and that stayed in its process group.
    severity, interval_s
        See `Messenger`.
    """

    def __init__(self, arguments: Sequence[str], *, timeout_s: float, severity: Severity, interval_s: float) -> None:
        self.name = NAME
        self.severity = severity
        self.interval_s = interval_s
        self._arguments = list(arguments)
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._closed = False

    def check(self) -> None:
        """Look for the program, and for placeholders that mean nothing."""
        unknown = {name for text in self._arguments for name in _PLACEHOLDER.findall(text)} - _KNOWN
        if unknown:
            raise self._failure(f"has the unknown placeholder {{{sorted(unknown)[0]}}}; known: "
                                f"{', '.join(sorted(_KNOWN))}")
        if shutil.which(self._arguments[0]) is None:
            raise self._failure("is not found or not executable; give the whole path")

    def deliver(self, notices: Sequence[Notice], *, session: str) -> None:
        """Run it once for all of them."""
        self.check()
        about = _texts(notices, session=session)
        arguments = [_PLACEHOLDER.sub(lambda found: about[found[1]], text) for text in self._arguments]
        environment = os.environ | {f"TXM_ALERT_{name.upper()}": value for name, value in about.items()}
        with tempfile.TemporaryFile() as complaint:   # a pipe would have to be read until the last child closes it
            process = self._start(arguments, environment, complaint)
            try:
                process.communicate(json_lines(notices, session=session), timeout=self._timeout_s)
            except subprocess.TimeoutExpired:
                raise self._failure(f"did not end within {self._timeout_s:g} s (notify.timeout_s) and was killed"
                                    ) from None
            finally:
                _end(process)
                with self._lock:
                    self._running = None
            if process.returncode:
                complaint.seek(0, os.SEEK_END)
                complaint.seek(max(0, complaint.tell() - _OF_COMPLAINT))
                said = " ".join(complaint.read().decode("utf-8", "replace").split())
                raise self._failure(_outcome(process.returncode) + (f": {said}" if said else ""))

    def close(self) -> None:
        """Kill the program if it runs."""
        with self._lock:
            self._closed = True
            if self._running is not None:
                _kill(self._running)

    def _start(self, arguments: list[str], environment: dict[str, str], complaint: Any) -> subprocess.Popen[bytes]:
        try:
            with self._lock:
                if self._closed:
                    raise self._failure("is not run any more: the streamer ends")
                self._running = subprocess.Popen(
                    arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=complaint, env=environment,
                    start_new_session=True)
                return self._running
        except OSError as error:
            if isinstance(error, ChannelError):
                raise
            raise self._failure(f"cannot be run: {error.strerror}") from error

    def _failure(self, what: str) -> ChannelError:
        return ChannelError(f"program {self._arguments[0]!r} (notify.command) {what}")


def _texts(notices: Sequence[Notice], *, session: str) -> dict[str, str]:
    """Give the fields of the worst notice as texts that arguments and environment can hold."""
    first = worst(notices)
    about = fields(first, session=session) | {"alerts": len(notices), "summary": summary(notices)}
    return {name: "" if value is None else str(value).replace("\0", " ").encode("utf-8", "replace").decode()[:_LONGEST]
            for name, value in about.items()}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that it is over, and that nothing of it is left open."""
    if process.poll() is None:
        _kill(process)
        process.wait()
    if process.stdin is not None:
        with contextlib.suppress(OSError):   # what it did not want to read
            process.stdin.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _outcome(status: int) -> str:
    return f"failed with exit status {status}" if status > 0 else f"was ended by signal {-status}"


def open_(settings: Settings) -> list[Messenger | Display]:
    """Make the one that is asked for."""
    notify = settings.notify
    if not notify.command:
        return []
    return [Command(notify.command, timeout_s=notify.timeout_s, severity=notify.command_severity,
                    interval_s=notify.interval_s)]
