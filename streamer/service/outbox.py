"""The thread that owns the sockets to the outside: results out, commands in, heartbeat."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import zmq

from streamer.errors import CommandError, LinkError, ProtocolError, SessionError
from streamer.journal import Journal
from streamer.records import AnyArray, Command, Status
from streamer.service import answers, spectra
from streamer.wire import Buffer, Topic, decode_request, encode_columns, encode_reply, encode_result

log = logging.getLogger(__name__)

HEARTBEAT_S = 0.5
_UNRESPONSIVE_S = 10.0
_LARGEST_REQUEST = 1 << 20
_MOST_AT_ONCE = 10_000
"""Rows as columns, unless a limit is given."""
_WAITING = 500
"""Messages kept for a listener that does not listen; it sees the gap and asks for the history."""

Reply = Callable[[bytes], None]
Handler = Callable[[Command, Reply], None]


class Outbox:
    """Publish results and take commands, in a thread of its own.

    Parameters
    ----------
    results, control : str
        Endpoints to bind.
    folder : Path
        The session, for requests of its history.
    handler : callable
        Called in this thread with every other command; it answers later, from any one thread, through the
        given function.

    Raises
    ------
    LinkError
        If an endpoint cannot be bound.
    """

    def __init__(self, results: str, control: str, *, folder: Path, handler: Handler) -> None:
        self._folder = folder
        self._handler = handler
        self._context = zmq.Context()
        try:
            self._publisher = self._bind(zmq.PUB, results, "results.endpoint")
            self._router = self._bind(zmq.ROUTER, control, "control.endpoint")
        except LinkError:
            self._context.destroy(0)
            raise
        self.results_endpoint = self._publisher.getsockopt_string(zmq.LAST_ENDPOINT)
        self.control_endpoint = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._inside = self._context.socket(zmq.PULL)
        self._inside.bind("inproc://outbox")
        self._entrance = self._context.socket(zmq.PUSH)
        self._entrance.connect("inproc://outbox")
        self._entrance_lock = threading.Lock()
        self._published: dict[str, int] = {}
        self._status: tuple[Status, float] | None = None
        self.beats = 0
        """Sequence number of the newest heartbeat."""
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="reader")   # the heartbeat waits for no answer
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def publish(self, topic: Topic, sequence: int, fields: Any, arrays: Mapping[str, AnyArray]) -> None:
        """Send a result to whoever listens."""
        self._published[topic] = sequence
        parts = encode_result(topic, fields, session=self._folder.name, sequence=sequence, arrays=arrays)
        self._send([b"publish", *parts])

    def update_status(self, status: Status) -> None:
        """Give the heartbeat its content."""
        self._status = status, time.monotonic()

    def close(self) -> None:
        """Send what is on its way, a last heartbeat, and close."""
        self._readers.shutdown()
        self._send([b"close"])
        self._thread.join()
        self._entrance.close(0)
        self._context.term()

    def _bind(self, kind: int, endpoint: str, setting: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 1000)
        socket.setsockopt(zmq.SNDHWM, _WAITING)
        if kind == zmq.ROUTER:
            socket.setsockopt(zmq.MAXMSGSIZE, _LARGEST_REQUEST)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            socket.close(0)
            raise LinkError(f"cannot listen on {endpoint} ({setting}): {error.strerror}; "
                            f"stop the other program or choose another address with --set {setting}=...") from error
        return socket

    def _send(self, parts: Sequence[Buffer]) -> None:
        with self._entrance_lock:
            self._entrance.send_multipart(parts, copy=False)

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._inside, zmq.POLLIN)
        poller.register(self._router, zmq.POLLIN)
        next_beat = time.monotonic()
        alive = True
        while alive:
            wait_s = max(0.0, next_beat - time.monotonic())
            ready = dict(poller.poll(int(1000 * wait_s) + 1))
            if self._router in ready:
                self._take_request()
            if self._inside in ready:
                alive = self._forward()
            if time.monotonic() >= next_beat:
                self._beat()
                next_beat = time.monotonic() + HEARTBEAT_S
        self._beat()
        for socket in (self._inside, self._publisher, self._router):
            socket.close()

    def _forward(self) -> bool:
        """Pass on what came from inside; False when it was the wish to close."""
        kind, *parts = self._inside.recv_multipart(copy=False)
        if kind.bytes == b"publish":
            self._publisher.send_multipart(parts, copy=False)
        elif kind.bytes == b"reply":
            self._router.send_multipart(parts)
        return kind.bytes != b"close"

    def _beat(self) -> None:
        if self._status is None:
            return
        status, made_at = self._status
        silent_s = time.monotonic() - made_at
        age_s = None if status.last_frame_age_s is None else status.last_frame_age_s + silent_s
        status = msgspec.structs.replace(status, at=time.time(), last_frame_age_s=age_s, published={**self._published})
        if silent_s > _UNRESPONSIVE_S:
            text = f"the analysis has not answered for {silent_s:.0f} s"
            status = msgspec.structs.replace(status, problems=[*status.problems, text])
        self.beats += 1
        self._publisher.send_multipart(
            encode_result("status", status, session=self._folder.name, sequence=self.beats))

    def _take_request(self) -> None:
        *envelope, data = self._router.recv_multipart()

        def reply(answer: bytes) -> None:
            self._send([b"reply", *envelope, answer])

        try:
            command = decode_request(data)
        except ProtocolError as error:
            self._router.send_multipart([*envelope, encode_reply(None, error=str(error))])
            return
        if command.op in _FROM_JOURNAL:
            try:
                self._readers.submit(self._read, command, reply)
            except RuntimeError:   # closing
                self._router.send_multipart([*envelope, encode_reply(command.id, error="the streamer is stopping")])
        else:
            self._handler(command, reply)

    def _read(self, command: Command, reply: Reply) -> None:
        """Answer from what the session has on disk, with a reader of our own, in a thread of its own."""
        try:
            with Journal(self._folder) as journal:
                answer = encode_reply(command.id, result=_FROM_JOURNAL[command.op](journal, command.arguments))
        except (SessionError, CommandError) as error:
            answer = encode_reply(command.id, error=str(error))
        except Exception as error:  # a question must not go without an answer
            log.exception("request %s could not be answered", command.op)
            answer = encode_reply(command.id, error=f"internal error: {error}; please report it with the log")
        reply(answer)


def _history(journal: Journal, arguments: Mapping[str, Any]) -> dict[str, Any]:
    since, limit = arguments.get("since", 0), arguments.get("limit")
    if not isinstance(since, int) or since < 0:
        raise CommandError(f"history since {since!r}: expected a sequence number from 0")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise CommandError(f"history limit {limit!r}: expected a number of rows from 1")
    if arguments.get("columns") is True:
        return history_in_columns(journal, since=since, limit=limit or _MOST_AT_ONCE,
                                  alerts=arguments.get("alerts") is not False)
    return history(journal, since=since, limit=limit)


def history(journal: Journal, *, since: int = 0, limit: int | None = None) -> dict[str, Any]:
    """Collect everything after a sequence number, as of one moment.

    With a `limit`, at most so many rows, and ``more`` when there are others: ask again since the last one.
    """
    journal.snapshot()
    rows = list(journal.rows(since=since, limit=limit))
    rest = _beside_frames(journal, max((sequence for sequence, _ in rows), default=since))
    journal.release()
    return {"frames": [row for _, row in rows], **rest, "more": limit is not None and len(rows) == limit}


def history_in_columns(journal: Journal, *, since: int = 0, limit: int = _MOST_AT_ONCE, alerts: bool = True
                       ) -> dict[str, Any]:
    """Collect the same as `history`, the rows as columns: a dashboard opens a long run in a fifth of the time.

    Without `alerts`, neither alerts nor requests: of many pages, one with them is enough.
    """
    journal.snapshot()
    sequences, columns = journal.columns(since=since, limit=limit)
    last = sequences[-1] if sequences else since
    rest = _beside_frames(journal, last) if alerts else {
        "alerts": [], "recollections": [], "sequence": {"frame": last}}
    journal.release()
    return {"frames": [], "columns": encode_columns(columns), **rest, "more": len(sequences) == limit}


def _beside_frames(journal: Journal, last: int) -> dict[str, Any]:
    alerts = list(journal.alerts())
    recollections = list(journal.recollections())
    revision, _ = journal.settings()
    return {
        "alerts": [alert for _, alert in alerts],
        "recollections": [request for _, request in recollections],
        "sequence": {"frame": last, "alert": max((sequence for sequence, _ in alerts), default=0),
                     "recollect": max((sequence for sequence, _ in recollections), default=0)},
        "settings_revision": revision,
    }


_FROM_JOURNAL: Mapping[str, Callable[[Journal, Mapping[str, Any]], Any]] = {
    "history": _history, "spectra": spectra.answer, "picture": answers.picture, "thumbnails": answers.thumbnails,
    "flow": answers.flow}
"""What is answered beside the analysis."""
