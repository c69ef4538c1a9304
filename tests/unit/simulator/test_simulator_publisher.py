"""Conversations over real sockets on free ports, and the pace of sending."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import zmq

from simulator.faults import FaultInjector, FaultShares
from simulator.publisher import Item, Pace, Prefetch, Sender, publish, with_ends
from streamer.errors import LinkError, ProtocolError
from streamer.protocols import get
from streamer.records import EndOfAcquisition, Frame

FREE = "tcp://127.0.0.1:*"
DIALECT = get("array-1.0")


def frames(count: int, acquisition: str = "test") -> list[Frame]:
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    return [Frame(pixels=pixels + number, index=number, acquisition=acquisition, exposed_at=100.0 + number)
            for number in range(count)]


@contextmanager
def receiver(kind: int, endpoint: str) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        if kind == zmq.SUB:
            socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.connect(endpoint)
        yield socket


def take(socket: zmq.Socket[bytes]) -> list[Frame | EndOfAcquisition]:
    """Receive until nothing comes or the acquisition ends."""
    received: list[Frame | EndOfAcquisition] = []
    while socket.poll(3000):
        received.append(DIALECT.decode(socket.recv_multipart()))
        if isinstance(received[-1], EndOfAcquisition):
            break
    return received


@pytest.mark.parametrize(("pattern", "kind"), [("pub", zmq.SUB), ("push", zmq.PULL)])
@pytest.mark.parametrize("endpoint", [FREE, "tcp://127.0.0.1:0"])
def test_everything_arrives_in_order_and_the_end_comes_last(pattern: str, kind: int, endpoint: str) -> None:
    sender = Sender(endpoint, pattern="pub" if pattern == "pub" else "push")
    assert sender.endpoint.startswith("tcp://127.0.0.1:")
    assert int(sender.endpoint.rsplit(":", 1)[1]) > 0
    with receiver(kind, sender.endpoint) as socket:
        with sender:
            assert sender.wait_for_receiver(10)
            sent = publish(with_ends(frames(20)), sender, DIALECT, pace=Pace())
        received = take(socket)
    assert (sent.frames, sent.messages) == (20, 21)
    assert [entry.index for entry in received if isinstance(entry, Frame)] == list(range(20))
    assert received[-1] == EndOfAcquisition(acquisition="test")
    first = received[0]
    assert isinstance(first, Frame)
    np.testing.assert_array_equal(first.pixels, frames(1)[0].pixels)


def test_sender_can_connect_to_a_receiver_that_binds() -> None:
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.bind(FREE)
        with Sender(socket.getsockopt_string(zmq.LAST_ENDPOINT), connect=True) as sender:
            # A socket that binds tells its subscriptions when its owner looks at it.
            assert any(sender.wait_for_receiver(0.05) or socket.poll(50) for _ in range(100))
            publish(with_ends(frames(3)), sender, DIALECT, pace=Pace())
        assert len(take(socket)) == 4


@pytest.mark.parametrize("pattern", ["pub", "push"])
def test_nobody_comes(pattern: str) -> None:
    with Sender(FREE, pattern="pub" if pattern == "pub" else "push") as sender:
        began = time.monotonic()
        assert not sender.wait_for_receiver(0.1)
        assert time.monotonic() - began < 5


def test_push_waits_and_loses_nothing() -> None:
    sender = Sender(FREE, pattern="push", high_water_mark=2)
    done = threading.Event()

    def work() -> None:
        with sender:
            publish(with_ends(frames(100)), sender, DIALECT, pace=Pace())
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert not done.wait(0.2), "nobody pulls yet"
    with receiver(zmq.PULL, sender.endpoint) as socket:
        assert len(take(socket)) == 101
    thread.join(10)
    assert done.is_set()


def test_port_in_use_is_named() -> None:
    with Sender(FREE) as first, pytest.raises(LinkError, match="port is in use"):
        Sender(first.endpoint)


@pytest.mark.parametrize("endpoint", ["", "nonsense", "tcp://127.0.0.1:99999", "tcp://no such host:1", "a\0b"])
def test_bad_endpoints_are_refused(endpoint: str) -> None:
    with pytest.raises(LinkError, match="expected an address"):
        Sender(endpoint)


def test_faults_go_over_the_wire() -> None:
    injector = FaultInjector(FaultShares(gap=0.2, duplicate=0.2, malformed=0.2), seed=8)
    sender = Sender(FREE)
    good: list[int] = []
    broken = 0
    with receiver(zmq.SUB, sender.endpoint) as socket:
        with sender:
            assert sender.wait_for_receiver(10)
            sent = publish(with_ends(frames(60)), sender, DIALECT, pace=Pace(), faults=injector)
        for _ in range(sent.messages):
            try:
                entry = DIALECT.decode(socket.recv_multipart())
            except ProtocolError:
                broken += 1
                continue
            if isinstance(entry, Frame):
                good.append(entry.index)
    made = {name: [fault.index for fault in injector.made if fault.name == name] for name in FaultShares._fields}
    assert broken == len(made["malformed"]) > 0
    expected = [number for number in range(60) if number not in made["gap"] + made["malformed"]]
    assert good == sorted(expected + made["duplicate"])


def test_live_frames_carry_the_time_of_sending() -> None:
    sender, before = Sender(FREE), time.time()
    with receiver(zmq.SUB, sender.endpoint) as socket:
        with sender:
            assert sender.wait_for_receiver(10)
            publish(frames(1), sender, DIALECT, pace=Pace(), restamp=True)
        frame = DIALECT.decode(socket.recv_multipart())
    assert isinstance(frame, Frame)
    assert frame.exposed_at is not None
    assert before <= frame.exposed_at <= time.time()


def test_ends_come_once_each_the_projections_last() -> None:
    mixed = [*frames(1, "a/dark"), *frames(1, "a"), *frames(1, "a/flat"), *frames(2, "a")]
    ends = [item.acquisition for item in with_ends(mixed) if isinstance(item, EndOfAcquisition)]
    assert ends == ["a/dark", "a/flat", "a"]


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 50.0
        monkeypatch.setattr("simulator.publisher.time.monotonic", lambda: self.now)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_rate_does_not_drift_when_sending_takes_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, pace = Clock(monkeypatch), Pace(rate_hz=10)
    for frame in frames(51):
        pace.wait(frame, sleep=clock.sleep)
        clock.now += 0.07  # work between frames
    assert clock.now - 50 == pytest.approx(5.07)


def test_long_stop_is_not_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, pace = Clock(monkeypatch), Pace(rate_hz=10)
    due = []
    for frame in frames(6):
        pace.wait(frame, sleep=clock.sleep)
        due.append(clock.now - 50)
        clock.now += 30 if frame.index == 2 else 0
    assert due == pytest.approx([0, 0.1, 0.2, 30.2, 30.3, 30.4])


def test_speed_follows_the_recorded_times(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, pace = Clock(monkeypatch), Pace(speed=4)
    for frame in frames(5):
        pace.wait(frame, sleep=clock.sleep)
    assert clock.now - 50 == pytest.approx(1.0)


def test_prefetch_stops_with_its_user_and_hands_errors_on() -> None:
    endless: Iterator[Item] = itertools.cycle(frames(1))
    with Prefetch(endless, depth=2) as ready:
        next(iter(ready))
    assert not any(thread.name == "prefetch" for thread in threading.enumerate())

    def broken() -> Iterator[Item]:
        yield frames(1)[0]
        raise LinkError("gone")

    with pytest.raises(LinkError, match="gone"), Prefetch(broken(), depth=2) as ready:
        list(ready)
