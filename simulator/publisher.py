"""Frames onto a ZeroMQ socket, at a steady rate."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Literal, NamedTuple, Protocol, Self

import msgspec
import zmq

from simulator.faults import FaultInjector, Message
from streamer.errors import LinkError
from streamer.protocols import Dialect
from streamer.records import EndOfAcquisition, Frame

log = logging.getLogger(__name__)

DEFAULT_ENDPOINT = "tcp://127.0.0.1:5555"
LINGER_S = 5.0
"""How long the last frames may take to leave."""
_HIGH_WATER_MARK = 200
_LARGEST_PORT = 65_535
_LATEST_S = 1.0
"""A sender that fell behind by more than this does not catch up with a burst."""

Pattern = Literal["pub", "push"]
Item = Frame | EndOfAcquisition


class Sender:
    """A socket that frames are sent through; use it as a context manager and from one thread.

    Parameters
    ----------
    endpoint : str
        Address; port ``0`` or ``*`` takes a free one.
    connect : bool
        Connect to a receiver that binds, instead of binding.
    pattern : {"pub", "push"}
        ``pub`` never waits and loses what a slow receiver cannot take; ``push`` never loses and waits.

    Attributes
    ----------
    endpoint : str
        The real address.

    Raises
    ------
    LinkError
        If the address cannot be used; the port may be taken.
    """

    def __init__(
        self, endpoint: str = DEFAULT_ENDPOINT, *, connect: bool = False, pattern: Pattern = "pub",
        high_water_mark: int = _HIGH_WATER_MARK,
    ) -> None:
        self._context = zmq.Context()
        # XPUB is a PUB that hears its subscribers come.
        self._socket = self._context.socket(zmq.XPUB if pattern == "pub" else zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, high_water_mark)
        self._pattern = pattern
        try:
            _check_port(endpoint)
            if connect:
                self._socket.connect(endpoint)
                self.endpoint = endpoint
            else:
                self._socket.bind(endpoint)
                self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        except (zmq.ZMQError, ValueError) as error:
            self.close(linger_s=0)
            raise LinkError(_reason(endpoint, error, connect=connect)) from error
        log.info("sending frames on %s (%s)", self.endpoint, pattern)

    def wait_for_receiver(self, timeout_s: float) -> bool:
        """Wait until somebody subscribes (pub) or can be pushed to; tell whether it happened."""
        if self._pattern == "push":
            return bool(self._socket.poll(round(timeout_s * 1000), zmq.POLLOUT))
        end = time.monotonic() + timeout_s
        while self._socket.poll(max(0, round((end - time.monotonic()) * 1000)), zmq.POLLIN):
            if self._socket.recv().startswith(b"\x01"):
                return True
        return False

    def send(self, message: Message) -> None:
        """Send one message; waits for a receiver if the pattern is push."""
        self._socket.send_multipart(message, copy=True)

    def close(self, *, linger_s: float = LINGER_S) -> None:
        """Close, giving the last messages some time to leave."""
        self._socket.close(round(linger_s * 1000))
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(linger_s=LINGER_S if kind is None else 0.5)


class Sent(NamedTuple):
    """What left."""

    frames: int
    """Frames that were due, those lost on purpose included."""
    messages: int
    seconds: float


class Course(Protocol):
    """Somebody who makes the frames as things go, and must be told how they go."""

    def sent(self, frame: Frame) -> None:
        """Hear that a frame has left, or was lost on purpose."""

    def stop(self) -> None:
        """Make no more frames; comes whenever sending ends."""


class Pace:
    """When each frame is due: a fixed rate, or its own time.

    Parameters
    ----------
    rate_hz : float, optional
        Frames per second; 0 or None for as fast as possible.
    speed : float, optional
        Follow ``exposed_at``, this many times faster. Frames without it follow `rate_hz`.
    """

    def __init__(self, *, rate_hz: float | None = None, speed: float | None = None) -> None:
        self._interval_s = 1 / rate_hz if rate_hz else 0.0
        self._speed = speed
        self._due: float | None = None
        self._exposed_at: float | None = None

    def wait(self, frame: Frame, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Sleep until a frame is due. Deadlines follow from each other, so that delays do not add up."""
        now = time.monotonic()
        due = now if self._due is None else self._due + self._gap_s(frame)
        if due < now - _LATEST_S:
            due = now
        self._due, self._exposed_at = due, frame.exposed_at
        if due > now:
            sleep(due - now)

    def _gap_s(self, frame: Frame) -> float:
        if self._speed and frame.exposed_at is not None and self._exposed_at is not None:
            return max(0.0, frame.exposed_at - self._exposed_at) / self._speed
        return self._interval_s


def publish(
    items: Iterable[Item], sender: Sender, dialect: Dialect, *, pace: Pace, faults: FaultInjector | None = None,
    restamp: bool = False, ahead: int = 4, course: Course | None = None, left: Callable[[Frame], None] | None = None,
) -> Sent:
    """Send frames, and the ends of acquisitions, until there are no more.

    Parameters
    ----------
    items : iterable of Frame or EndOfAcquisition
        Made in a thread of their own, a few ahead, so that the rate is kept.
    sender : Sender
        Where they go.
    dialect : Dialect
        How they are written.
    pace : Pace
        When they go.
    faults : FaultInjector, optional
        What goes wrong on the way.
    restamp : bool
        Give each frame the time at which it is sent as the time of its exposure.
    ahead : int
        Frames made ahead.
    course : Course, optional
        Who makes the items, if it wants to know.
    left : callable, optional
        Told every frame as it left, or was lost on purpose.
    """
    frames = messages = 0
    began = time.monotonic()
    with Prefetch(items, depth=ahead) as ready, _told(course):
        for item in ready:
            if isinstance(item, EndOfAcquisition):
                outgoing: list[Message] = faults.rest() if faults else []
                if dialect.HAS_END:
                    outgoing.append(dialect.encode_end(item.acquisition))
            else:
                pace.wait(item)
                frames += 1
                frame = _stamped(item) if restamp else item
                if left is not None:
                    left(frame)
                message: Message = dialect.encode(frame)
                outgoing = [message] if faults is None else faults.passed(
                    message, acquisition=frame.acquisition, index=frame.index)
            for message in outgoing:
                sender.send(message)
            messages += len(outgoing)
            if course is not None and isinstance(item, Frame):
                course.sent(item)
    return Sent(frames, messages, time.monotonic() - began)


@contextlib.contextmanager
def _told(course: Course | None) -> Iterator[None]:
    """Tell whoever makes the frames when no more are wanted, before the thread that makes them is waited for."""
    try:
        yield
    finally:
        if course is not None:
            course.stop()


def with_ends(frames: Iterable[Frame]) -> Iterator[Item]:
    """Add the end of every acquisition after the last frame; that of the last frame's comes last."""
    seen: dict[str, None] = {}
    for frame in frames:
        seen.pop(frame.acquisition, None)
        seen[frame.acquisition] = None
        yield frame
    for acquisition in seen:
        yield EndOfAcquisition(acquisition=acquisition)


class Prefetch:
    """Make items ahead in a thread; use it as a context manager, so that the thread ends whatever happens."""

    def __init__(self, items: Iterable[Item], *, depth: int) -> None:
        self._items = items
        self._queue: queue.Queue[Item | BaseException | None] = queue.Queue(maxsize=depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __iter__(self) -> Iterator[Item]:
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001  (raised again in the thread that takes the items)
            self._put(error)

    def _put(self, item: Item | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False


def _stamped(frame: Frame) -> Frame:
    """Pretend that the exposure has just ended."""
    return msgspec.structs.replace(frame, exposed_at=time.time() - (frame.exposure_s or 0.0))


def _check_port(endpoint: str) -> None:
    """Refuse ports that do not exist; ZeroMQ would silently take another one."""
    port = endpoint.rpartition(":")[2]
    if endpoint.startswith("tcp://") and port.isdecimal() and int(port) > _LARGEST_PORT:
        raise ValueError(f"port {port} is above {_LARGEST_PORT}")


def _reason(endpoint: str, error: Exception, *, connect: bool) -> str:
    verb = "connect to" if connect else "bind"
    number = getattr(error, "errno", None)
    if number == zmq.EADDRINUSE:
        return (f"cannot bind {endpoint!r}: the port is in use; end the other program or choose another port "
                "(0 = a free one)")
    text = error.strerror if isinstance(error, zmq.ZMQError) else str(error)
    return f"cannot {verb} {endpoint!r}: {text}; expected an address such as {DEFAULT_ENDPOINT}"
