"""Frames from a ZeroMQ sender, PUB/SUB or PUSH/PULL, in any dialect of `streamer.protocols`."""

from __future__ import annotations

import contextlib
import errno
import math
import time
from collections import deque
from types import TracebackType
from typing import Self

import zmq

from streamer import protocols
from streamer.errors import LinkError, ProtocolError
from streamer.protocols import Buffer, Decoded, Dialect
from streamer.records import EndOfAcquisition, Frame, Refusal
from streamer.settings import FramesSettings

AUTO = "auto"
LARGEST_PORT = 65535

_TRANSPORT_LIMIT = 4
"""A part this many times larger than allowed makes the transport drop its sender. Smaller ones are read and refused by
name, because after a drop the frames until the reconnection are lost, too."""
_SPARE_BYTES = 1 << 20
_KINDS = {"sub": zmq.SUB, "pull": zmq.PULL, "req": zmq.REQ}
_REQUEST = b"next"
"""What the Karabo bridge is asked with."""
_PATIENCE_S = 5.0
"""A request that was not answered for so long is given up: its answer is lost with the server that had it."""
_OPTIONS = (
    (zmq.LINGER, 0),
    (zmq.RECONNECT_IVL, 100), (zmq.RECONNECT_IVL_MAX, 5000),
    # A sender that vanished without a word (cable, power) is noticed within a minute. Not by ZeroMQ's own heartbeats:
    # senders older than libzmq 4.2 do not answer those, and would be dropped and lose frames while they are idle.
    (zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 30), (zmq.TCP_KEEPALIVE_INTVL, 10), (zmq.TCP_KEEPALIVE_CNT, 3),
)
_ADVICE = {
    errno.EADDRINUSE: "another program listens there; stop it or choose another port",
    errno.EACCES: "not permitted; choose a port above 1023",
    errno.EADDRNOTAVAIL: "this machine has no such address; bind to one of its own, such as tcp://127.0.0.1:5555",
    errno.ENODEV: "this machine has no such address; bind to one of its own, such as tcp://127.0.0.1:5555",
    errno.EPROTONOSUPPORT: "unknown transport; expected an address such as tcp://127.0.0.1:5555",
    errno.EINVAL: "expected an address such as tcp://127.0.0.1:5555",
}


class ZeroMQSource:
    """A socket that receives frames.

    Parameters
    ----------
    settings : FramesSettings
        Address, pattern, dialect and limits.
    context : zmq.Context, optional
        To share; otherwise the source has one of its own.

    Raises
    ------
    LinkError
        If the address is wrong or in use.
    SettingsError
        If there is no dialect of that name.

    Notes
    -----
    Use it from one thread. The socket reconnects by itself. A subscriber that reads too slowly loses the newest
    messages beyond the high-water mark, unseen by either side but for the gap in their numbers; a puller makes the
    sender wait. Messages are never conflated: of multipart messages that keeps the last part alone.
    """

    def __init__(self, settings: FramesSettings, *, context: zmq.Context[zmq.Socket[bytes]] | None = None) -> None:
        _check_port(settings.endpoint)
        self.waits = settings.pattern != "sub"
        self._dialect: Dialect | None = None
        self._fixed = settings.protocol != AUTO
        if self._fixed:
            self._dialect = protocols.get(settings.protocol)
        self._seen = False
        self._train: deque[Frame] = deque()
        """Frames of a message that are still to be given."""
        self._largest_bytes = int(settings.largest_mb * 1e6)
        self._context = zmq.Context() if context is None else context
        self._owns_context = context is None
        self._settings = settings
        self._asked_at: float | None = None
        """When the frame that has not come yet was asked for (pattern req)."""
        self._socket = self._context.socket(_KINDS[settings.pattern])
        try:
            self._endpoint = self._link(settings)
        except zmq.ZMQError as error:
            self.close()
            verb = "bind" if settings.bind else "connect"
            advice = _ADVICE.get(error.errno or 0, "check the setting frames.endpoint")
            raise LinkError(f"cannot {verb} the frames socket to {settings.endpoint!r}: {error}; {advice}") from error

    @property
    def endpoint(self) -> str:
        """The address in use, with the port that was chosen where the setting left it open."""
        return self._endpoint

    @property
    def protocol(self) -> str:
        """Name of the dialect of the newest message that was understood; empty before the first."""
        return self._dialect.NAME if self._dialect is not None and self._seen else ""

    def receive(self, timeout_s: float) -> Frame | EndOfAcquisition | Refusal | None:
        """Return what comes next, or None when nothing came in time.

        A message that cannot be read is a refusal that says why; nothing a peer sends raises.
        """
        if self._train:
            return self._train.popleft()
        if self._settings.pattern == "req":
            self._ask()
        if not self._socket.poll(math.ceil(max(0.0, timeout_s) * 1000)):
            return None
        self._asked_at = None
        try:
            parts: list[Buffer] = [part.buffer for part in self._socket.recv_multipart(zmq.NOBLOCK, copy=False)]
        except zmq.Again:   # another thread of the library took it back, such as a peer that died in between
            return None
        received_at = time.time()
        try:
            decoded = self._decode(parts, received_at)
            if isinstance(decoded, Frame | EndOfAcquisition):
                return decoded
            self._train.extend(decoded)
            return self._train.popleft() if self._train else None
        except ProtocolError as error:
            return Refusal(reason=str(error), bucket="malformed", index=error.index, acquisition=error.acquisition,
                           received_at=received_at)

    def close(self) -> None:
        """Close the socket; what was not read is lost."""
        self._socket.close(0)
        if self._owns_context:
            self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _link(self, settings: FramesSettings) -> str:
        """Set what must be set beforehand, then connect or bind."""
        for option, value in _OPTIONS:
            self._socket.setsockopt(option, value)
        self._socket.setsockopt(zmq.RCVHWM, settings.high_water_mark)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _TRANSPORT_LIMIT * self._largest_bytes + _SPARE_BYTES)
        if settings.pattern == "sub":
            self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        if settings.bind:
            self._socket.bind(settings.endpoint)
            return self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._socket.connect(settings.endpoint)
        return settings.endpoint

    def _ask(self) -> None:
        """Ask for the next frame; who does not answer is asked anew through another socket, as a request must be."""
        now = time.monotonic()
        if self._asked_at is not None and now - self._asked_at < _PATIENCE_S:
            return
        if self._asked_at is not None:
            self._socket.close(0)
            self._socket, self._asked_at = self._context.socket(zmq.REQ), None
            self._link(self._settings)
        with contextlib.suppress(zmq.Again):   # nobody is there yet
            self._socket.send(_REQUEST, zmq.NOBLOCK)
            self._asked_at = now

    def _decode(self, parts: list[Buffer], received_at: float) -> Decoded:
        dialect = self._dialect
        if dialect is None or not (self._fixed or dialect.recognises(parts)):
            dialect = protocols.recognise(parts)
        item = dialect.decode(parts, received_at=received_at, largest_bytes=self._largest_bytes)
        self._dialect, self._seen = dialect, True
        return item


def _check_port(endpoint: str) -> None:
    """Refuse a port that does not exist; the library would take the remainder by 65536 without a word."""
    port = endpoint.rpartition(":")[2]
    if endpoint.startswith("tcp://") and port.isdecimal() and int(port) > LARGEST_PORT:
        raise LinkError(f"frames.endpoint is {endpoint!r}: there is no port {port}; expected an address such as "
                        "tcp://127.0.0.1:5555")
