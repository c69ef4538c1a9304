"""A live service in a thread, with real sockets on free ports, and a sender for it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq

from streamer.client import Client
from streamer.protocols import get
from streamer.records import Frame
from streamer.service.live import Service
from streamer.settings import Settings, load, update
from streamer.sources.zeromq import ZeroMQSource

FREE_PORTS = {"frames.endpoint": "tcp://127.0.0.1:*", "frames.bind": True, "frames.pattern": "pull",
              "results.endpoint": "tcp://127.0.0.1:*", "control.endpoint": "tcp://127.0.0.1:*"}


def free_ports(*assignments: str) -> Settings:
    """Return settings that bind everything to free ports."""
    return update(load(assignments=assignments), FREE_PORTS)


class Sender:
    """Pushes frames to a service."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.PUSH)
        self.socket.setsockopt(zmq.LINGER, 5000)
        self.socket.setsockopt(zmq.SNDHWM, 10)
        self.socket.connect(endpoint)
        self._dialect = get("array-1.0")

    def send(self, frames: list[Frame]) -> None:
        for frame in frames:
            self.socket.send_multipart(self._dialect.encode(frame))

    def end(self, acquisition: str) -> None:
        self.socket.send_multipart(self._dialect.encode_end(acquisition))

    def close(self) -> None:
        self.socket.close()
        self._context.term()


class Live:
    """A running service, its sender and its listener."""

    def __init__(self, service: Service, sender: Sender, client: Client) -> None:
        self.service = service
        self.sender = sender
        self.client = client
        self._waiting: dict[str, deque[dict[str, Any]]] = defaultdict(deque)

    def collect(self, topic: str, count: int, *, timeout_s: float = 30.0) -> list[dict[str, Any]]:
        """Return the next `count` headers of a topic; those of others wait for their turn."""
        waiting, end = self._waiting[topic], time.monotonic() + timeout_s
        while len(waiting) < count:
            result = self.client.receive(1.0)
            if result is not None:
                self._waiting[result.topic].append(result.header)
            assert time.monotonic() < end, f"{len(waiting)} of {count} {topic!r} messages came"
        return [waiting.popleft() for _ in range(count)]


@contextlib.contextmanager
def live(folder: Path, *assignments: str, settings: Settings | None = None) -> Iterator[Live]:
    """Run a service until the block ends; everything sent is finished then."""
    chosen = settings or free_ports(*assignments)
    source = ZeroMQSource(chosen.frames)
    service = Service(chosen, folder, source)
    thread = threading.Thread(target=service.run, name="service")
    thread.start()
    sender = Sender(source.endpoint)
    client = Client(service.outbox.results_endpoint, service.outbox.control_endpoint)
    try:
        assert client.receive(10.0) is not None   # the first heartbeat: we are subscribed
        yield Live(service, sender, client)
    finally:
        sender.close()
        service.stop()
        thread.join(60.0)
        client.close()
        assert not thread.is_alive()
