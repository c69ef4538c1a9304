"""The command line: what it prints, how it ends, and that it never shows a traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import pytest
import zmq

from simulator import cli
from streamer.protocols import get
from streamer.records import EndOfAcquisition, Frame

TINY = ["--size", "64x80", "--frames", "3"]


class Done(NamedTuple):
    status: object
    out: str
    err: str


class Command:
    """The command line, run within this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["txm-simulator", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = self._capsys.readouterr()
        return Done(ended.value.code, captured.out, captured.err)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    handler = signal.getsignal(signal.SIGTERM)
    yield Command(monkeypatch, capsys)
    signal.signal(signal.SIGTERM, handler)


@contextmanager
def receiving(kind: int = zmq.SUB) -> Iterator[tuple[str, list[Frame | EndOfAcquisition]]]:
    """Bind a receiver that the simulator connects to; gives its endpoint and what arrives until the end."""
    received: list[Frame | EndOfAcquisition] = []
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        if kind == zmq.SUB:
            socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.bind("tcp://127.0.0.1:*")

        def work() -> None:
            while socket.poll(20_000):
                item = get("array-1.0").decode(socket.recv_multipart())
                received.append(item)
                if isinstance(item, EndOfAcquisition) and "/" not in item.acquisition:
                    return

        thread = threading.Thread(target=work)
        thread.start()
        yield socket.getsockopt_string(zmq.LAST_ENDPOINT), received
        thread.join()


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a process that sends on a free port; gives it and the endpoint it printed."""
    with subprocess.Popen([sys.executable, "-m", "simulator.cli", *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("sending frames on tcp://127.0.0.1:"), line
            yield process, line.split()[3]
        finally:
            process.kill()


def test_list_has_a_line_for_each_scenario(run: Command) -> None:
    done = run("list")
    assert done.status == 0
    lines = done.out.splitlines()
    assert len(lines) >= 6
    assert any(line.startswith("sun2025_txm ") for line in lines)


def test_help_is_worth_reading(run: Command) -> None:
    for command, words in (("run", ("--photons", "--save", "Examples")), ("replay", ("--speed", "--loop", "Examples"))):
        done = run(command, "--help")
        assert done.status == 0
        assert all(word in done.out for word in words)


def test_help_loads_nothing_heavy() -> None:
    heavy = ("numpy", "scipy", "zmq", "h5py", "rich")
    script = f"import sys, simulator.cli; print([name for name in {heavy} if name in sys.modules])"
    light = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert light.stdout.strip() == "[]"


def test_process_sends_on_the_port_it_prints() -> None:
    arguments = ["run", "two_views", *TINY, "--bind", "tcp://127.0.0.1:0", "--rate", "0"]
    with started(*arguments) as (process, endpoint), zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.connect(endpoint)
        _, errors = process.communicate(timeout=30)
        received = [get("array-1.0").decode(socket.recv_multipart()) for _ in range(16)]
    assert process.returncode == 0
    assert "sent 13 frames" in errors
    assert [item.kind for item in received[:13] if isinstance(item, Frame)] == (
        ["dark"] * 5 + ["flat"] * 5 + ["projection"] * 3)


@pytest.mark.parametrize(("pattern", "kind"), [("pub", zmq.SUB), ("push", zmq.PULL)])
def test_run_sends_the_scenario(run: Command, pattern: str, kind: int) -> None:
    with receiving(kind) as (endpoint, received):
        done = run("run", "two_views", *TINY, "--connect", endpoint, "--pattern", pattern, "--rate", "0")
    assert done.status == 0
    frames = [item for item in received if isinstance(item, Frame)]
    assert [frame.index for frame in frames if frame.kind == "projection"] == [0, 1, 2]
    assert [frame.view for frame in frames if frame.kind == "projection"] == ["left", "right", "left"]
    assert len(frames) == 13


def test_run_saves_and_replay_sends_it(run: Command, tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    done = run("run", "still", *TINY, "--save", str(path), "--seed", "4", "--photons", "90")
    assert (done.status, done.out) == (0, "")
    assert "saved 18 frames" in done.err
    with h5py.File(path) as file:
        assert file["exchange/data"].shape == (3, 64, 80)
        assert (file["txm_live"].attrs["seed"], file["txm_live"].attrs["photons"]) == (4, 90)
    with receiving() as (endpoint, received):
        assert run("replay", str(path), "--connect", endpoint, "--speed", "1000").status == 0
    assert len([item for item in received if isinstance(item, Frame)]) == 18


def test_run_saves_and_sends_the_same(run: Command, tmp_path: Path) -> None:
    with receiving() as (endpoint, received):
        done = run("run", "still", *TINY, "--save", str(tmp_path / "run.h5"), "--connect", endpoint, "--rate", "0")
    assert done.status == 0
    last = [item for item in received if isinstance(item, Frame)][-1]
    with h5py.File(tmp_path / "run.h5") as file:
        assert file["exchange/data"][2].tobytes() == last.pixels.tobytes()


def test_speed_without_times_says_so(run: Command, real_data: Path) -> None:
    with receiving() as (endpoint, received):
        done = run("replay", str(real_data / "nsrrc_bl01b_txm"), "--stop", "2", "--speed", "2", "--connect", endpoint)
    assert done.status == 0
    assert "no times of exposure" in done.err
    assert len(received) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_cleanly(number: int) -> None:
    size = "--size", "64x80", "--frames", "200"   # nobody is so slow that it ends by itself
    with started("run", "still", *size, "--bind", "tcp://127.0.0.1:0", "--pattern", "push", "--wait", "0") as (
            process, endpoint), zmq.Context() as context, context.socket(zmq.PULL) as receiver:
        receiver.set_hwm(1)
        receiver.connect(endpoint)
        receiver.recv_multipart()   # it is sending
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "stopped" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("sending", [False, True])
def test_interrupted_recording_leaves_nothing(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sending: bool
) -> None:
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("simulator.recorder.Recorder.write", interrupt)
    outlet = ["--bind", "tcp://127.0.0.1:0", "--wait", "0"] if sending else []
    done = run("run", "still", *TINY, "--save", str(tmp_path / "run.h5"), *outlet)
    assert done.status == 1
    assert "nothing was saved" in done.err
    assert list(tmp_path.iterdir()) == []


def test_interruption_before_the_first_frame_is_told(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("simulator.scenarios.find", interrupt)
    assert run("run", "still") == (1, "", "txm-simulator: interrupted\n")


def test_faults_are_made_and_named(run: Command) -> None:
    with receiving() as (endpoint, received):
        done = run("run", "still", "--size", "64x80", "--frames", "40", "--connect", endpoint, "--rate", "0",
                   "--faults", "gap=0.3")
    assert done.status == 0
    line = next(line for line in done.err.splitlines() if line.startswith("faults: "))
    lost = int(line.split()[1])
    assert line.startswith(f"faults: {lost} gap: frames ")
    assert len([item for item in received if isinstance(item, Frame)]) == 55 - lost


@pytest.mark.parametrize(("arguments", "reason"), [
    (["run", "sun2025_tmx"], "did you mean 'sun2025_txm'"),
    (["run", "still", "--protocol", "array-2"], "array-1.0"),
    (["run", "still", "--pattern", "router"], "'pub' or 'push'"),
    (["run", "still", "--faults", "hole=1"], "no fault 'hole'"),
    (["run", "still", "--size", "big"], "ROWSxCOLUMNS"),
    (["run", "still", "--size", "8x8"], "32 to 4096"),
    (["run", "still", "--size", "90000x90000"], "32 to 4096"),
    (["run", "still", "--photons", "nan"], "--photons"),
    (["run", "still", "--photons", "inf"], "--photons"),
    (["run", "still", "--wait", "nan"], "--wait"),
    (["run", "still", "--rate", "-1"], "--rate"),
    (["run", "still", "--seed", "-1"], "--seed"),
    (["run", "still", "--seed", str(2**64)], "--seed"),
    (["run", "still", "--bind", "a", "--connect", "b"], "not both"),
    (["run", "still", "--frames", "0"], "--frames"),
    (["run", "still", "--nonsense"], "--nonsense"),
    (["run"], "Missing argument"),
    (["nonsense"], "nonsense"),
    (["replay", "x.h5", "--rate", "1", "--speed", "1"], "not both"),
])
def test_bad_usage_is_2(run: Command, arguments: list[str], reason: str) -> None:
    done = run(*arguments)
    assert done.status == 2
    assert reason in done.err


def test_other_failures_are_1_and_one_line(run: Command, tmp_path: Path) -> None:
    for arguments, reason in (
        (["replay", str(tmp_path / "missing.h5")], "no such file"),
        (["run", "still", *TINY, "--save", str(tmp_path / "no" / "run.h5")], "does not exist"),
        (["run", "still", *TINY, "--bind", "nonsense"], "expected an address"),
        (["run", "still", *TINY, "--bind", ""], "expected an address"),
    ):
        done = run(*arguments)
        assert done.status == 1
        assert reason in done.err
        assert len(done.err.splitlines()) == 1


def test_port_in_use_is_1_and_one_line(run: Command) -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        done = run("run", "still", *TINY, "--bind", f"tcp://127.0.0.1:{port}")
    assert done.status == 1
    assert "in use" in done.err
    assert len(done.err.splitlines()) == 1
