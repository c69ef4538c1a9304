"""Frames from an EPICS process variable over pvAccess; needs the ``epics`` extra."""

from __future__ import annotations

import contextlib
import logging
import queue
import time
from types import TracebackType
from typing import Any, Self

from streamer.errors import ProtocolError, SettingsError
from streamer.records import EndOfAcquisition, Frame, Refusal
from streamer.settings import FramesSettings
from streamer.sources import ntndarray

SCHEME = "pva://"
FRESH_S = 5.0
"""A value that is there when the link begins is a frame of this acquisition when it is no older than this."""

log = logging.getLogger(__name__)


class EpicsSource:
    """A monitor on a process variable with pictures (``NTNDArray``).

    Parameters
    ----------
    settings : FramesSettings
        Endpoint ``pva://NAME``, `pva_queue`, `attributes`, `largest_mb`.

    Raises
    ------
    SettingsError
        If the extra is not installed, the endpoint names no variable, or a rule for attributes makes no sense.

    Notes
    -----
    The server queues `pva_queue` pictures for this monitor and drops the older ones when they are not taken in time;
    that shows as a gap in their numbers, and is counted. The first value after the link begins is the last one that
    was posted before: one that is empty, or older than `FRESH_S`, is no frame of this acquisition. A link that was
    lost is made again by itself.
    """

    waits = False

    def __init__(self, settings: FramesSettings) -> None:
        self.endpoint = settings.endpoint
        self.protocol = ""
        self.name = settings.endpoint.removeprefix(SCHEME).strip("/")
        if not self.name:
            raise SettingsError(f"frames.endpoint is {settings.endpoint!r}, expected pva:// and the name of a process "
                                "variable, such as pva://13SIM1:Pva1:Image")
        self._rules = ntndarray.read_rules(settings.attributes)
        self._largest_bytes = int(settings.largest_mb * 1e6)
        self._values: queue.Queue[tuple[Any, float]] = queue.Queue(settings.high_water_mark)
        self._first, self._closed = True, False
        try:
            from p4p.client.thread import Context, Disconnected  # noqa: PLC0415
            from p4p.util import ThreadedWorkQueue  # noqa: PLC0415
        except ImportError as error:
            raise SettingsError("pva:// needs the package p4p; install txm-live[epics]") from error
        self._disconnected = Disconnected
        self._context = Context("pva", nt=False)
        self._worker = ThreadedWorkQueue(name="pva", workers=1, daemon=True).start()   # the library's own never ends
        self._monitor = self._context.monitor(
            self.name, self._take, request=f"record[queueSize={settings.pva_queue}]field()", notify_disconnect=True,
            queue=self._worker)

    def receive(self, timeout_s: float) -> Frame | Refusal | EndOfAcquisition | None:
        """Return what comes next, or None when nothing came in time; nothing a server sends raises."""
        try:
            value, received_at = self._values.get(block=timeout_s > 0, timeout=max(timeout_s, 0.0))
        except queue.Empty:
            return None
        try:
            frame = ntndarray.decode(value, rules=self._rules, received_at=received_at,
                                     largest_bytes=self._largest_bytes)
        except ProtocolError as error:
            return Refusal(reason=str(error), bucket="malformed", index=error.index, received_at=received_at)
        except (AttributeError, KeyError, TypeError) as error:
            reason = f"{self.name} is no NTNDArray: {' '.join(str(error).split())}"
            return Refusal(reason=reason, bucket="malformed", received_at=received_at)
        self.protocol = "NTNDArray"
        return frame

    def close(self) -> None:
        """End the monitor; what was not read is lost."""
        self._monitor.close()
        self._closed = True   # lets go of a callback that waits for room
        self._worker.stop()
        self._context.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, value: Any) -> None:
        """Take a value in the thread of the library."""
        if isinstance(value, self._disconnected):
            log.info("%s is not connected; waiting for it", self.name)
            return
        if isinstance(value, Exception):
            log.warning("%s: %s", self.name, value)
            return
        first, self._first = self._first, False
        received_at = time.time()
        if first and self._is_old(value, received_at):
            return
        while not self._closed:   # no room: the server queues, and drops with a count what it cannot
            with contextlib.suppress(queue.Full):
                self._values.put((value, received_at), timeout=0.2)
                return

    def _is_old(self, value: Any, now: float) -> bool:
        try:
            taken_at = ntndarray.taken_at(value)
            empty = ntndarray.is_empty(value)
        except (AttributeError, KeyError, TypeError):
            return False   # it is refused by name when it is its turn
        return empty or (taken_at is not None and now - taken_at > FRESH_S)
