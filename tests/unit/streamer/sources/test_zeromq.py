from __future__ import annotations

import socket
import time

import msgspec
import numpy as np
import pytest
import zmq

from streamer import protocols
from streamer.errors import LinkError, SettingsError
from streamer.records import EndOfAcquisition, Frame, Refusal
from streamer.settings import FramesSettings
from streamer.sources.zeromq import ZeroMQSource

LOOPBACK = "tcp://127.0.0.1:*"
ARRAY = protocols.get("array-1.0")
DEADLINE_S = 10.0


def frame(index, shape=(6, 8), **fields):
    rng = np.random.default_rng(index)
    return Frame(pixels=rng.integers(0, 4000, shape).astype(np.uint16), index=index, acquisition="scan", **fields)


class Sender:
    """A socket that binds or connects, and closes with the test."""

    def __init__(self, kind, endpoint=None):
        self._context = zmq.Context()
        self._socket = self._context.socket(kind)
        self._socket.linger = 0
        self._socket.sndtimeo = int(DEADLINE_S * 1000)
        if endpoint is None:
            self._socket.bind(LOOPBACK)
        else:
            self._socket.connect(endpoint)

    @property
    def endpoint(self):
        return self._socket.get_string(zmq.LAST_ENDPOINT)

    def send(self, parts):
        self._socket.send_multipart(parts)

    def close(self):
        self._socket.close(0)
        self._context.term()


@pytest.fixture
def open_sender():
    senders = []

    def open_(kind, endpoint=None):
        senders.append(Sender(kind, endpoint))
        return senders[-1]

    yield open_
    for sender in senders:
        sender.close()


@pytest.fixture
def pair(open_sender):
    """A pusher that binds and a source that pulls from it."""
    sender = open_sender(zmq.PUSH)
    with ZeroMQSource(FramesSettings(endpoint=sender.endpoint, pattern="pull", largest_mb=1.0)) as source:
        yield sender, source


def receive(source):
    return source.receive(DEADLINE_S)


@pytest.mark.parametrize("pattern", ["sub", "pull"])
@pytest.mark.parametrize("bind", [True, False], ids=["source binds", "source connects"])
def test_patterns_and_directions(open_sender, pattern, bind):
    kind = zmq.PUB if pattern == "sub" else zmq.PUSH
    if bind:
        source = ZeroMQSource(FramesSettings(endpoint=LOOPBACK, pattern=pattern, bind=True))
        assert not source.endpoint.endswith((":*", ":0"))
        sender = open_sender(kind, source.endpoint)
    else:
        sender = open_sender(kind)
        source = ZeroMQSource(FramesSettings(endpoint=sender.endpoint, pattern=pattern))
        assert source.endpoint == sender.endpoint
    with source:
        before = time.time()
        item, index = None, 0
        while item is None and time.time() < before + DEADLINE_S:   # a subscriber joins a little later
            sender.send(ARRAY.encode(frame(index)))
            index += 1
            item = source.receive(0.02)
        assert isinstance(item, Frame)
        assert np.array_equal(item.pixels, frame(item.index).pixels)
        assert not item.pixels.flags.writeable
        assert before <= item.received_at <= time.time()
        assert source.protocol == "array-1.0"


def test_nothing_in_time(pair):
    _, source = pair
    assert source.protocol == ""
    assert source.receive(0.0) is None
    assert source.receive(0.01) is None
    assert source.receive(-1.0) is None


def test_the_dialect_is_recognised_from_every_message(pair):
    sender, source = pair
    send_array = protocols.get("send-array")
    for parts, name in ((ARRAY.encode(frame(1)), "array-1.0"), (send_array.encode(frame(2)), "send-array"),
                        (ARRAY.encode(frame(3)), "array-1.0")):
        sender.send(parts)
        assert isinstance(receive(source), Frame)
        assert source.protocol == name
    sender.send(ARRAY.encode_end("scan"))
    assert receive(source) == EndOfAcquisition(acquisition="scan")


def test_a_named_dialect_takes_nothing_else(open_sender):
    sender = open_sender(zmq.PUSH)
    with ZeroMQSource(FramesSettings(endpoint=sender.endpoint, pattern="pull", protocol="send-array")) as source:
        sender.send(ARRAY.encode(frame(1)))
        item = receive(source)
        assert isinstance(item, Refusal)
        assert "dtype" in item.reason
        assert source.protocol == ""


@pytest.mark.parametrize("spoil", [
    lambda parts: [parts[0]],
    lambda parts: [parts[0], bytes(parts[1])[:-1]],
    lambda parts: [parts[0], parts[1], b"more"],
], ids=["no pixels", "cut", "more"])
def test_malformed_messages_are_refusals_with_their_number(pair, spoil):
    sender, source = pair
    sender.send(spoil(ARRAY.encode(frame(7))))
    item = receive(source)
    assert isinstance(item, Refusal)
    assert (item.bucket, item.index, item.acquisition) == ("malformed", 7, "scan")
    assert item.received_at > 0
    sender.send(ARRAY.encode(frame(8)))
    assert receive(source).index == 8


@pytest.mark.parametrize("parts", [[b""], [b"GET / HTTP/1.1\r\n\r\n"], [b"", b"", b""], [b"\xff" * 5000, b"x"]])
def test_strangers_are_refusals_without_a_number(pair, parts):
    sender, source = pair
    sender.send(parts)
    item = receive(source)
    assert isinstance(item, Refusal)
    assert (item.bucket, item.index) == ("malformed", None)
    sender.send(ARRAY.encode(frame(8)))
    assert receive(source).index == 8


def test_bytes_that_are_not_zeromq_do_no_harm(open_sender):
    with ZeroMQSource(FramesSettings(endpoint=LOOPBACK, pattern="pull", bind=True)) as source:
        host, port = source.endpoint.removeprefix("tcp://").split(":")
        with socket.create_connection((host, int(port))) as scanner:
            scanner.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            sender = open_sender(zmq.PUSH, source.endpoint)
            sender.send(ARRAY.encode(frame(1)))
            assert receive(source).index == 1


def test_frames_that_are_too_large_are_refused_by_name(pair):
    sender, source = pair
    sender.send(ARRAY.encode(frame(1, shape=(1000, 1000))))   # 2 MB, 1 MB is allowed
    item = receive(source)
    assert isinstance(item, Refusal)
    assert item.index == 1
    assert "frames.largest_mb" in item.reason
    sender.send(ARRAY.encode(frame(2)))
    assert receive(source).index == 2


def test_a_sender_that_starts_later_and_comes_back(open_sender):
    first = open_sender(zmq.PUSH)
    endpoint = first.endpoint
    first.close()
    with ZeroMQSource(FramesSettings(endpoint=endpoint, pattern="pull")) as source:
        assert source.receive(0.0) is None
        for index in (1, 2):
            context = zmq.Context()
            sender = context.socket(zmq.PUSH)
            sender.bind(endpoint)
            sender.send_multipart(ARRAY.encode(frame(index)))
            assert receive(source).index == index
            sender.close(0)
            context.term()


def test_many_frames_arrive_in_order_and_unchanged(pair):
    sender, source = pair
    header, pixels = ARRAY.encode(frame(0, shape=(64, 64)))
    tree = msgspec.json.decode(header)
    for index in range(300):
        sender.send([msgspec.json.encode(tree | {"frame": index}), pixels])
        if index % 50 == 49:
            assert [receive(source).index for _ in range(50)] == list(range(index - 49, index + 1))


def test_pixels_stay_valid_after_the_source_is_closed(open_sender):
    sender = open_sender(zmq.PUSH)
    with ZeroMQSource(FramesSettings(endpoint=sender.endpoint, pattern="pull")) as source:
        sender.send(ARRAY.encode(frame(3, shape=(200, 200))))
        item = receive(source)
    assert np.array_equal(item.pixels, frame(3, shape=(200, 200)).pixels)


def test_an_address_in_use_is_explained():
    with ZeroMQSource(FramesSettings(endpoint=LOOPBACK, bind=True)) as source:
        with pytest.raises(LinkError, match=r"cannot bind.*another program listens there") as caught:
            ZeroMQSource(FramesSettings(endpoint=source.endpoint, bind=True))
        assert source.endpoint in str(caught.value)


@pytest.mark.parametrize("bind", [True, False])
@pytest.mark.parametrize("endpoint", ["nonsense", "tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:99999",
                                      "http://a:1", ""])
def test_wrong_addresses_are_explained(endpoint, bind):
    with pytest.raises(LinkError) as caught:
        ZeroMQSource(FramesSettings(endpoint=endpoint, bind=bind))
    assert "expected an address such as tcp://" in str(caught.value)
    assert repr(endpoint) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_address_of_another_machine_cannot_be_bound():
    with pytest.raises(LinkError, match="this machine has no such address"):
        ZeroMQSource(FramesSettings(endpoint="tcp://192.0.2.7:5555", bind=True))


def test_an_unknown_dialect_opens_no_socket():
    with pytest.raises(SettingsError, match=r"did you mean 'array-1\.0'"):
        ZeroMQSource(FramesSettings(protocol="array"))


def test_a_shared_context_is_left_open():
    with zmq.Context() as context:
        ZeroMQSource(FramesSettings(endpoint=LOOPBACK, bind=True), context=context).close()
        assert not context.closed


def test_senders_of_several_dialects_on_one_socket():
    """Each message is read in its own dialect; junk between them is refused and harms none."""
    with (zmq.Context() as context,
          ZeroMQSource(FramesSettings(endpoint=LOOPBACK, pattern="pull", bind=True)) as source):
        senders = [context.socket(zmq.PUSH) for _ in range(2)]
        for sender in senders:
            sender.connect(source.endpoint)
        found = []
        for index, name in enumerate(("array-1.0", "karabo", "dectris-1", "send-array", "dectris-2", "bsread")):
            frame = Frame(pixels=np.full((4, 5), index, np.uint16), index=index, acquisition="scan")
            senders[index % 2].send_multipart(protocols.get(name).encode(frame))
            found.append((source.receive(5.0), source.protocol))
            senders[index % 2].send_multipart([b"junk", b"more"])
            assert isinstance(source.receive(5.0), Refusal)
        for sender in senders:
            sender.close(0)
    assert [int(frame.pixels[0, 0]) for frame, _ in found] == list(range(6))
    assert [name for _, name in found] == ["array-1.0", "karabo", "dectris-1", "send-array", "dectris-2", "bsread"]
