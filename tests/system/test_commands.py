"""The console commands as a user starts them: real processes, real files, real kills."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from support.acquisitions import acquisition
from support.live import Sender
from support.waiting import wait_until

from streamer.client import Client
from streamer.journal import Journal

FREE = ["--set", "results.endpoint=tcp://127.0.0.1:*", "--set", "control.endpoint=tcp://127.0.0.1:*",
        "--set", "frames.bind=true", "--set", "frames.pattern=pull", "--connect", "tcp://127.0.0.1:*"]

LOADED = "import sys, streamer.cli; print([m for m in ('numpy', 'cv2', 'zmq', 'scipy') if m in sys.modules])"


def streamer(*arguments: str | Path, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", "-m", "streamer.cli", *map(str, arguments)], check=False,
                          capture_output=True, text=True, timeout=timeout_s)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "stack.tif"
    frames = [frame.pixels for frame in acquisition(4, seed=5) if frame.kind == "projection"]
    tifffile.imwrite(path, np.stack(frames), photometric="minisblack")
    return path


class Process:
    """A running streamer; its endpoints are read from what it says."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "streamer.cli", "run", "--session", str(folder), *FREE],
            stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        words = self.process.stderr.readline().replace(",", " ").replace(";", " ").split()
        self.frames, self.results, self.control = (word for word in words if word.startswith("tcp://"))

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    running = Process(tmp_path / "session")
    yield running
    running.end()


def test_analyse_leaves_a_session_and_says_what_came_out(stack: Path, tmp_path: Path) -> None:
    done = streamer("analyse", stack, "--out", tmp_path / "s", "--pixel-size-nm", "33.24", "--set", "engine.workers=1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 frames received, 4 measured" in done.stdout
    with (tmp_path / "s" / "frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["index"] for row in rows] == ["0", "1", "2", "3"]
    assert float(rows[3]["drift_y_px"]) == pytest.approx(2.1, abs=0.3)


def test_a_cluster_gives_the_same_numbers_and_is_quiet(stack: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    tables = []
    for kind in ("inline", "dask"):
        done = streamer("analyse", stack, "--out", tmp_path / kind, "--set", f"engine.kind={kind}",
                        "--set", "engine.workers=2")
        assert (done.returncode, done.stderr) == (0, "")
        with (tmp_path / kind / "frames.csv").open() as file:
            tables.append([{name: value for name, value in row.items() if name not in {"received_at", "latency_ms"}}
                           for row in csv.DictReader(file)])
    assert tables[0] == tables[1]


def test_a_session_is_not_analysed_over(stack: Path, tmp_path: Path) -> None:
    assert streamer("analyse", stack, "--out", tmp_path / "s").returncode == 0
    again = streamer("analyse", stack, "--out", tmp_path / "s")
    assert again.returncode == 1
    assert "already holds a session" in again.stderr


def test_export_writes_the_tables_again(stack: Path, tmp_path: Path) -> None:
    streamer("analyse", stack, "--out", tmp_path / "s")
    table = (tmp_path / "s" / "frames.csv").read_text()
    done = streamer("export", tmp_path / "s", "--out", tmp_path / "elsewhere")
    assert done.returncode == 0
    assert (tmp_path / "elsewhere" / "frames.csv").read_text() == table


def test_settings_are_a_valid_page() -> None:
    done = streamer("settings", "--set", "blur.tolerance_px=2.5")
    assert done.returncode == 0
    assert tomllib.loads(done.stdout)["blur"]["tolerance_px"] == 2.5


@pytest.mark.parametrize(("arguments", "status", "words"), [
    (["analyse", "nowhere.tif", "--out", "out"], 1, "nowhere.tif"),
    (["analyse", "{tmp}/text.txt", "--out", "out"], 1, "text.txt"),
    (["analyse", "{tmp}/empty.tif", "--out", "out"], 1, "empty.tif"),
    (["analyse", "{tmp}/cut.h5", "--out", "out"], 1, "cut.h5"),
    (["analyse", "{tmp}", "--out", "out"], 1, "{tmp}"),
    (["analyse"], 2, "INPUT"),
    (["analyse", "{tmp}/text.txt"], 2, "--out"),
    (["run", "--set", "blur.tolerence_px=3"], 2, "blur.tolerance_px"),
    (["run", "--settings", "{tmp}/nowhere.toml"], 2, "nowhere.toml"),
    (["run", "--connect", "no address"], 1, "no address"),
    (["export", "{tmp}"], 1, "no session"),
    (["fly"], 2, "fly"),
    ([], 2, "ommand"),
])
def test_bad_usage_is_one_line_with_a_reason(
    tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    (tmp_path / "text.txt").write_text("not an image")
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 20)
    filled = [argument.format(tmp=tmp_path) for argument in arguments]
    if "out" in filled:
        filled[filled.index("out")] = str(tmp_path / "out")
    done = streamer(*filled)
    assert done.returncode == status, done.stderr
    assert words.format(tmp=tmp_path) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_service_with_everything_written(
    process: Process, tmp_path: Path, signal_number: signal.Signals
) -> None:
    sender = Sender(process.frames)
    with Client(process.results, process.control) as client:
        assert client.receive(10.0) is not None
        sender.send(acquisition(3, seed=6))
        wait_until(lambda: len(client.history()["frames"]) == 5, what="all rows")
    sender.close()
    process.process.send_signal(signal_number)
    output, _ = process.process.communicate(timeout=30)
    assert process.process.returncode == 0
    assert "5 frames received, 5 measured" in output
    with (tmp_path / "session" / "frames.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 5


def test_what_was_published_survives_a_kill(process: Process, tmp_path: Path) -> None:
    sender = Sender(process.frames)
    published: set[tuple[str, int]] = set()
    with Client(process.results, process.control) as client:
        assert client.receive(10.0) is not None
        sender.send(acquisition(12, seed=7))
        while len(published) < 6:
            result = client.receive(10.0)
            assert result is not None
            if result.topic == "frame":
                published.add((result.header["acquisition"], result.header["index"]))
        process.process.kill()
        process.process.wait()
    sender.close()
    with Journal(tmp_path / "session") as journal:
        kept = {(row.acquisition, row.index) for _, row in journal.rows()}
    assert published <= kept
    assert streamer("export", tmp_path / "session").returncode == 0
    assert len((tmp_path / "session" / "frames.csv").read_text().splitlines()) == len(kept) + 1


def test_help_is_quick_to_load_and_worth_reading() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", LOADED], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
    for command in ("run", "analyse", "export", "settings"):
        page = streamer(command, "--help")
        assert page.returncode == 0
        assert len(page.stdout.splitlines()) > 5
