"""Where frames come from: ZeroMQ, EPICS, folders, growing files, recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamer.records import EndOfAcquisition, Frame, Refusal
    from streamer.settings import FramesSettings


class Source(Protocol):
    """What every source offers; it is used from one thread."""

    waits: bool
    """Whether what is not read yet waits, so that a full queue is no reason to give frames up."""

    @property
    def endpoint(self) -> str:
        """Where this source listens."""

    @property
    def protocol(self) -> str:
        """Dialect or format of the newest frame; empty before the first."""

    def receive(self, timeout_s: float) -> Frame | Refusal | EndOfAcquisition | None:
        """Return the next item, or None when none came in time."""

    def close(self) -> None:
        """Release the source."""


def open_source(settings: FramesSettings, *, known: Callable[[Frame | Refusal], bool] = lambda _: False) -> Source:
    """Open the source that an endpoint names: ``tcp://``, ``folder://``, ``file://``, ``pva://``.

    Parameters
    ----------
    settings : FramesSettings
        Endpoint and what belongs to it.
    known : callable
        Tells which frames are in the session already; sources that find old frames again pass over them.

    Raises
    ------
    LinkError, SettingsError
        If the endpoint or what it names cannot be used.
    """
    if settings.endpoint.startswith("folder://"):
        from streamer.sources.folder import FolderSource  # noqa: PLC0415

        return FolderSource(settings.endpoint, known=known)
    if settings.endpoint.startswith("file://"):
        from streamer.sources.growing import GrowingSource  # noqa: PLC0415

        return GrowingSource(settings.endpoint, known=known)
    if settings.endpoint.startswith("pva://"):
        from streamer.sources.epics import EpicsSource  # noqa: PLC0415

        return EpicsSource(settings)
    from streamer.sources.zeromq import ZeroMQSource  # noqa: PLC0415

    return ZeroMQSource(settings)
