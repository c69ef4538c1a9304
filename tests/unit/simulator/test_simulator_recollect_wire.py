"""Frames taken again over real sockets on free ports, against a stand-in for the streamer."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import msgspec
import pytest
import typer
import zmq
from support.fake_streamer import FakeStreamer

from simulator import cli, recollect
from streamer.protocols import get
from streamer.records import EndOfAcquisition, Frame, Recollection

TINY = ["--size", "64x80", "--frames", "6", "--rate", "50"]


def wish(number: int, index: int, **fields: Any) -> Recollection:
    return Recollection(**({
        "id": number, "requested_at": "2026-03-01T09:00:00.000000+00:00", "acquisition": "still", "index": index,
        "view": "main", "reason": f"frame {index} is blurred"} | fields))


class Streamer:
    """Asks for some frames when they come, and is content with what is taken again; use it as a context manager."""

    def __init__(self, *wanted: int) -> None:
        self.fake = FakeStreamer()
        self.received: list[Frame | EndOfAcquisition] = []
        self._wanted = wanted
        self._open: dict[int, Recollection] = {}
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PULL)
        self._socket.bind("tcp://127.0.0.1:*")
        self.frames = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Streamer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close(0)
        self._context.term()
        self.fake.close()

    @property
    def projections(self) -> list[tuple[int, int | None]]:
        return [(item.index, item.recollects) for item in self.received
                if isinstance(item, Frame) and item.kind == "projection"]

    def _work(self) -> None:
        while not self._stop.is_set():
            self.fake.status(queue=0, recollections=list(self._open.values()))
            if self._socket.poll(50):
                item = get("array-1.0").decode(self._socket.recv_multipart())
                self.received.append(item)
                if isinstance(item, Frame) and item.kind == "projection":
                    self._judge(item)

    def _judge(self, frame: Frame) -> None:
        if frame.recollects is not None:
            served = self._open.pop(frame.recollects)
            self.fake.send("recollect", msgspec.structs.replace(served, state="served", served_by=frame.index))
        elif frame.index in self._wanted:
            self._open[frame.index] = wish(frame.index + 1, frame.index)
            self.fake.send("recollect", self._open[frame.index])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(recollect, "SETTLED_S", 0.1)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["txm-simulator", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def test_what_is_asked_for_comes_before_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    with Streamer(1, 5) as streamer:
        assert run(monkeypatch, "run", "still", *TINY, "--connect", streamer.frames, "--pattern", "push",
                   "--recollect", streamer.fake.results, "--save", str(path)) == 0
    assert [pair for pair in streamer.projections if pair[1] is None] == [(index, None) for index in range(6)]
    assert [pair for pair in streamer.projections if pair[1] is not None] == [(6, 1), (7, 5)]
    assert streamer.projections[-1] == (7, 5)   # asked for with the last frame
    assert streamer.received[-1] == EndOfAcquisition(acquisition="still")
    assert "taken again: 2 frames: 1 as 6, 5 as 7" in capsys.readouterr().err
    with h5py.File(path) as file:
        assert file["truth/recollects"][:].tolist() == [-1] * 6 + [1, 5]
        sent = {item.index: item for item in streamer.received if isinstance(item, Frame) and item.kind == "projection"}
        assert file["exchange/data"][7].tobytes() == sent[7].pixels.tobytes()


def test_nonsense_among_the_results_is_named_and_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Streamer(2) as streamer:
        status = streamer.fake.status

        def noisy(**fields: Any) -> None:
            streamer.fake.send_raw(b"recollect", b"{not json")
            streamer.fake.send("recollect", {"id": "one"})
            status(**fields)

        monkeypatch.setattr(streamer.fake, "status", noisy)
        assert run(monkeypatch, "run", "still", *TINY, "--connect", streamer.frames, "--pattern", "push",
                   "--recollect", streamer.fake.results) == 0
    assert (6, 2) in streamer.projections
    assert any("not JSON" in text for text in caplog.messages)
    assert any("'recollect' message is not understood" in text for text in caplog.messages)


@pytest.mark.parametrize(("arguments", "status", "reason"), [
    (["run", "still", "--recollect", "--save", "x.h5"], 2, "nobody can ask for a frame again"),
    (["run", "still", *TINY, "--recollect", "tcp://", "--bind", "tcp://127.0.0.1:0"], 1, "cannot connect to 'tcp://'"),
    (["run", "--recollect"], 2, "Missing argument"),
    (["run", "still", "--recollect", "--late", "nan"], 2, "--late"),
    (["replay", "x.h5", "--recollect"], 2, "a recording cannot be exposed again"),
])
def test_bad_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int,
    reason: str
) -> None:
    assert run(monkeypatch, *arguments) == status
    assert reason in capsys.readouterr().err


def test_the_endpoint_may_be_left_away() -> None:
    command: Any = typer.main.get_command(cli.app)
    default = "tcp://127.0.0.1:5556"
    for given, endpoint in (
        (["still"], None), (["--recollect", "still"], default), (["still", "--recollect"], default),
        (["still", "--recollect", "--late", "3"], default), (["still", "--recollect", "ipc:///tmp/x"], "ipc:///tmp/x"),
        (["still", "--recollect=tcp://a:1"], "tcp://a:1"),
    ):
        found = command.commands["run"].make_context("run", given).params
        assert (found["scenario"], found["recollect"]) == ("still", endpoint)
