"""Alerts and results to the world outside: one module a channel, no threads, no journal.

A channel is added by adding a module here that has what `Channel` asks for; modules whose name starts with an
underscore are helpers. A messenger tells of single alerts and may fail; the service tries again. A display shows how
things stand now, to whoever looks.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Sequence
from typing import Protocol, cast, runtime_checkable

from streamer.records import Alert, FrameRow, Notice, Recollection, Severity, Status
from streamer.settings import Settings

Matter = FrameRow | Alert | Recollection | Status
"""What is shown."""


def is_over(alert: Alert) -> bool:
    """Tell whether an alert needs nobody any more, whether or not somebody has acknowledged it.

    That is when it is closed, when a sharp frame took the place of its frame, and, without a frame, when the condition
    that it tells of has gone.
    """
    return alert.state in {"closed", "recollected"} or (alert.index is None and not alert.active)


@runtime_checkable
class Messenger(Protocol):
    """Tells of alerts; used by one thread, but for `close`."""

    name: str
    """For the journal and messages: the same after a restart, and without passwords."""
    severity: Severity
    """Alerts below it are not for this messenger."""
    interval_s: float
    """Least time between two calls."""

    def check(self) -> None:
        """Look, without telling anybody, whether alerts could be delivered.

        Raises
        ------
        ChannelError
            Naming what is in the way.
        """
        ...

    def deliver(self, notices: Sequence[Notice], *, session: str) -> None:
        """Tell of alerts, one or many, in one call; return when all are delivered.

        Raises
        ------
        ChannelError
            If they are not: all will be given again.
        """
        ...

    def close(self) -> None:
        """Break off what is under way; from any thread."""
        ...


@runtime_checkable
class Display(Protocol):
    """Shows how things stand; used by one thread."""

    name: str

    def start(self) -> None:
        """Begin to be seen.

        Raises
        ------
        ChannelError
            If that cannot be: an address in use, for example.
        """
        ...

    def show(self, matter: Matter) -> None:
        """Take what is new."""
        ...

    def close(self) -> None:
        """Be seen no more."""
        ...


class Channel(Protocol):
    """What a module of this package offers."""

    NAME: str
    SUMMARY: str
    """What it does, in a few words."""

    def open_(self, settings: Settings) -> list[Messenger | Display]:
        """Make what the settings ask for, without connecting; nothing when they do not.

        Raises
        ------
        SettingsError
            If an extra that it needs is not installed.
        """
        ...


def names() -> list[str]:
    """List the names of all channels, sorted."""
    return sorted(_channels())


def get(name: str) -> Channel:
    """Return the channel of that name; KeyError if there is none."""
    return _channels()[name]


def open_all(settings: Settings) -> tuple[list[Messenger], list[Display]]:
    """Make all messengers and displays that the settings ask for.

    Raises
    ------
    SettingsError
        If an extra that one of them needs is not installed.
    """
    opened = [one for name in names() for one in get(name).open_(settings)]
    return ([one for one in opened if isinstance(one, Messenger)],
            [one for one in opened if isinstance(one, Display)])


@functools.cache
def _channels() -> dict[str, Channel]:
    found: dict[str, Channel] = {}
    for info in pkgutil.iter_modules(__path__):
        if not info.name.startswith("_"):
            channel = cast("Channel", importlib.import_module(f"{__name__}.{info.name}"))
            found[channel.NAME] = channel
    return found
