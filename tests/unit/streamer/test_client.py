from __future__ import annotations

import pytest
import zmq

from streamer.client import Client, reachable
from streamer.errors import LinkError, ProtocolError
from streamer.wire import encode_result


def test_an_address_that_is_none_is_named() -> None:
    with pytest.raises(LinkError, match="'nowhere'"):
        Client("nowhere")


def test_nobody_there_is_told_in_time() -> None:
    with Client("tcp://127.0.0.1:9", "tcp://127.0.0.1:9") as client:
        assert client.receive(0.05) is None
        assert not client.connected
        with pytest.raises(LinkError, match=r"no answer to 'history'.*0\.1 s"):
            client.request("history", timeout_s=0.1)


def test_no_reader_that_is_behind_is_taken_for_dead() -> None:
    """Heartbeats of libzmq end such a connection, and then the process: see `Client._prepare`."""
    with Client("tcp://127.0.0.1:9", "tcp://127.0.0.1:9") as client:
        client.ask("history")
        assert client._request is not None
        for socket in (client._socket, client._request):
            assert socket.getsockopt(zmq.HEARTBEAT_IVL) == 0
            assert socket.getsockopt(zmq.TCP_KEEPALIVE) == 1


def test_without_status_there_is_no_control() -> None:
    with Client("tcp://127.0.0.1:9") as client, pytest.raises(LinkError, match="no status"):
        client.history()


@pytest.mark.parametrize(("announced", "known", "expected"), [
    ("tcp://127.0.0.1:5", "tcp://127.0.0.1:4", "tcp://127.0.0.1:5"),
    ("tcp://0.0.0.0:5", "tcp://beamline:4", "tcp://beamline:5"),
    ("ipc:///tmp/x", "tcp://beamline:4", "ipc:///tmp/x"),
])
def test_the_control_endpoint_is_taken_as_it_can_be_reached(announced: str, known: str, expected: str) -> None:
    assert reachable(announced, known) == expected


def test_the_messages_of_another_program_are_refused_and_the_next_one_is_read() -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.bind("tcp://127.0.0.1:*")
        with Client(publisher.getsockopt_string(zmq.LAST_ENDPOINT)) as client:
            for _ in range(5):   # a subscription for each topic
                assert publisher.poll(5000)
                publisher.recv()
            publisher.send_multipart([b"frame", b"other program"])
            publisher.send_multipart(encode_result("status", {"control_endpoint": "tcp://127.0.0.1:1"}, session="s",
                                                   sequence=1))
            with pytest.raises(ProtocolError):
                client.receive(5.0)
            result = client.receive(5.0)
            assert result is not None
            assert result.topic == "status"
            assert client.connected
            assert client.control == "tcp://127.0.0.1:1"
