"""Results and control of a running streamer, for dashboards and notebooks. No Qt, no estimator."""

from __future__ import annotations

import base64
import importlib
import itertools
import math
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import zmq
from zmq.utils.monitor import recv_monitor_message

from streamer.errors import LinkError, ProtocolError
from streamer.records import Command, FlowResult, PictureResult
from streamer.wire import TOPICS, Result, decode_flow, decode_picture, decode_reply, decode_result, encode_request

DEFAULT_RESULTS = "tcp://127.0.0.1:5556"
_ANY_HOST = frozenset({"0.0.0.0", "*", "::"})  # noqa: S104  (recognised, never bound)


class Client:
    """Subscribe to the results of a streamer and send it commands.

    Parameters
    ----------
    results : str
        Endpoint on which the streamer publishes.
    control : str, optional
        Endpoint of its control socket; without it, learnt from the first status message.
    topics : iterable of str
        What to subscribe to.

    Raises
    ------
    LinkError
        If an endpoint is not an address.

    Notes
    -----
    Use it from one thread. The socket reconnects by itself; whether the streamer is alive must be judged
    from the age of its ``status`` messages, `connected` only tells whether there is a connection.
    """

    def __init__(
        self, results: str = DEFAULT_RESULTS, control: str | None = None, *,
        topics: tuple[str, ...] = TOPICS, high_water_mark: int = 10_000,
    ) -> None:
        self.results = results
        self.control = control
        self._control_given = control is not None
        self.connected = False
        self._ids = itertools.count(1)
        self._context = zmq.Context()
        self._request: zmq.Socket[bytes] | None = None
        self._socket = self._context.socket(zmq.SUB)
        self._events = self._socket.get_monitor_socket(
            zmq.EVENT_CONNECTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        try:
            self._prepare(self._socket, high_water_mark)
            for topic in topics:
                self._socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
            self._socket.connect(results)
        except zmq.ZMQError as error:
            self.close()
            raise LinkError(f"cannot connect to {results!r}: {error}; expected an address such as {DEFAULT_RESULTS}"
                            ) from error
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._events, zmq.POLLIN)

    @staticmethod
    def _prepare(socket: zmq.Socket[bytes], high_water_mark: int) -> None:
        """Set what must be set before connecting.

        A host that is gone is found out by the kernel. Heartbeats of ZeroMQ would take a reader that is behind for
        dead, since nothing is read while its queue is full, and libzmq (4.3.5) aborts the process when such a
        reader reads on (zeromq/libzmq#3937).
        """
        for option, value in (
            (zmq.LINGER, 0), (zmq.RCVHWM, high_water_mark), (zmq.SNDHWM, high_water_mark),
            (zmq.RECONNECT_IVL, 100), (zmq.RECONNECT_IVL_MAX, 2000),
            (zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 4), (zmq.TCP_KEEPALIVE_INTVL, 2),
            (zmq.TCP_KEEPALIVE_CNT, 3),
        ):
            socket.setsockopt(option, value)

    def receive(self, timeout_s: float | None = None) -> Result | None:
        """Return the next result, or None when none came in time.

        Raises
        ------
        ProtocolError
            If the message is not a result of a streamer; the next call goes on with the next message.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            wait = None if end is None else _ms_until(end)
            ready = dict(self._poller.poll(wait))
            if self._events in ready:
                event = recv_monitor_message(self._events)["event"]
                self.connected = event != zmq.EVENT_DISCONNECTED
            if self._socket in ready:
                result = decode_result([frame.buffer for frame in self._socket.recv_multipart(copy=False)])
                self._learn_control(result)
                return result
            if not ready and end is not None and time.monotonic() >= end:
                return None

    def __iter__(self) -> Iterator[Result]:
        """Yield results for ever."""
        while True:
            result = self.receive(None)
            if result is not None:
                yield result

    def request(self, op: str, *, timeout_s: float = 10.0, **arguments: Any) -> Any:
        """Send a command and return its result.

        Raises
        ------
        LinkError
            If no control endpoint is known or no answer came in time.
        CommandError
            If the streamer refused the command; the text is its own.
        """
        return self.answer(self.ask(op, **arguments), timeout_s=timeout_s)

    def ask(self, op: str, **arguments: Any) -> Command:
        """Send a command; `answer` waits for its result, so that something else can be done meanwhile.

        Raises
        ------
        LinkError
            If no control endpoint is known.
        """
        if self.control is None:
            raise LinkError(f"no status from {self.results} yet, so its control endpoint is not known; "
                            "give it, or receive first")
        socket = self._request or self._open_request(self.control)
        command = Command(id=next(self._ids), op=op, arguments=arguments)
        socket.send(encode_request(command))
        return command

    def answer(self, command: Command, *, timeout_s: float = 10.0) -> Any:
        """Return the result of the command that was sent last; raises like `request`."""
        end = time.monotonic() + timeout_s
        while self._request is not None and self._request.poll(_ms_until(end)):
            reply_id, result = decode_reply(self._request.recv())
            if reply_id == command.id:
                return result
        self._drop_request()
        raise LinkError(f"no answer to {command.op!r} from {self.control} within {timeout_s:g} s; is the streamer "
                        "running?")

    def history(self, since: int = 0) -> dict[str, Any]:
        """Ask for everything since a sequence number: ``frames``, ``alerts``, ``sequence``."""
        history = self.request("history", since=since)
        if not isinstance(history, dict):
            raise ProtocolError(f"history is {type(history).__name__}, expected an object")
        return history

    def spectra(self, index: int, acquisition: str | None = None) -> dict[str, Any]:
        """Ask for the power spectra of a frame and of its reference, as lists; see `records.SpectraResult`."""
        found = self.request("spectra", index=index, acquisition=acquisition)
        if not isinstance(found, dict):
            raise ProtocolError(f"spectra are {type(found).__name__}, expected an object")
        return found

    def picture(self, index: int, acquisition: str | None = None, kind: str = "corrected") -> PictureResult:
        """Ask for the picture of a frame; without an acquisition, of the newest frame of that number.

        Parameters
        ----------
        kind : str
            ``corrected`` or ``raw``.

        Raises
        ------
        CommandError
            If there is no such frame or its picture is not kept; the text says why.
        """
        return decode_picture(self.request("picture", index=index, acquisition=acquisition, kind=kind))

    def thumbnails(self, since: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Ask for the thumbnails made since a number, page by page to the newest.

        Returns
        -------
        thumbnails : list of dict
            ``index``, ``acquisition``, ``view``, ``data`` (JPEG, bytes), in the order in which they were made.
        next : int
            Where to go on.
        """
        every, more = [], True
        while more:
            page = self.request("thumbnails", since=since)
            try:
                every += [{**small, "data": base64.b64decode(small["data"])} for small in page["thumbnails"]]
                since, more = page["next"], page["more"]
            except (TypeError, KeyError, ValueError) as error:
                raise ProtocolError(f"thumbnails cannot be read: {error}") from error
        return every, since

    def flow(self, index: int, acquisition: str | None = None) -> FlowResult:
        """Ask for the displacement field of a frame; without an acquisition, of the newest frame of that number.

        Raises
        ------
        CommandError
            If there is no such frame or it has no field.
        """
        return decode_flow(self.request("flow", index=index, acquisition=acquisition))

    def close(self) -> None:
        """Close all sockets."""
        self._drop_request()
        self._socket.disable_monitor()
        self._events.close(0)
        self._socket.close(0)
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _learn_control(self, result: Result) -> None:
        if result.topic != "status" or self._control_given:
            return
        announced = result.header.get("control_endpoint")
        if not isinstance(announced, str) or not announced:
            return
        endpoint = reachable(announced, self.results)
        if endpoint != self.control:   # first status, or a restarted streamer on another port
            self._drop_request()
            self.control = endpoint

    def _open_request(self, endpoint: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        self._prepare(socket, 1000)
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            socket.close(0)
            raise LinkError(f"cannot connect to control endpoint {endpoint!r}: {error}") from error
        self._request = socket
        return socket

    def _drop_request(self) -> None:
        if self._request is not None:
            self._request.close(0)
            self._request = None


def _ms_until(end: float) -> int:
    """Milliseconds from now to a monotonic time, rounded up so that a wait never spins."""
    return max(0, math.ceil((end - time.monotonic()) * 1000))


def reachable(announced: str, known: str) -> str:
    """Replace the host of an endpoint bound to every interface by the host that is known to answer.

    >>> reachable("tcp://0.0.0.0:5557", "tcp://beamline:5556")
    'tcp://beamline:5557'
    """
    there, here = urlsplit(announced), urlsplit(known)
    if there.scheme == "tcp" and there.hostname in _ANY_HOST and here.hostname:
        return f"tcp://{here.hostname}:{there.port}"
    return announced


def __getattr__(name: str) -> Any:
    """Give `Session`, which reads journals and pictures, to those who ask for it: a dashboard need not load that."""
    if name == "Session":
        return importlib.import_module("streamer.session").Session
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
