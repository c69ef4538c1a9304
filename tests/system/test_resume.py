"""A session that is gone on with after its streamer was killed: real processes, real sockets, real kills."""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.acquisitions import acquisition
from support.live import Sender
from support.waiting import wait_until

from streamer.client import Client
from streamer.journal import Journal
from streamer.pipeline import Pipeline, measure
from streamer.records import Frame, FrameRow
from streamer.service.frame_log import read_log
from streamer.settings import load

SHAPE = (160, 168)
OWN = ("verdict", "provisional", "blur_length_px", "blur_score", "drift_y_px", "drift_x_px", "drift_sigma_px",
       "trend_y_px", "trend_x_px", "jitter_y_px", "registration_quality", "reference_index")
"""Columns that do not tell of time, flow or settings."""


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return acquisition(24, seed=41, shape=SHAPE, blurred=(5, 13, 14))


@pytest.fixture(scope="module")
def whole(frames: list[Frame]) -> dict[tuple[str, int], FrameRow]:
    """The rows that one streamer gives that is never interrupted."""
    pipeline, rows = Pipeline(load()), {}
    for frame in frames:
        job = pipeline.begin(frame)
        outcome = pipeline.finish(job, measure(job))
        rows[frame.acquisition, frame.index] = outcome.row
        for key, columns in outcome.revisions:
            rows[key] = msgspec.structs.replace(rows[key], **columns)
    return rows


def kept(folder: Path) -> dict[tuple[str, int], FrameRow]:
    with Journal(folder) as journal:
        return {(row.acquisition, row.index): row for _, row in journal.rows()}


def assert_as_whole(rows: dict[tuple[str, int], FrameRow], whole: dict[tuple[str, int], FrameRow]) -> None:
    assert rows.keys() == whole.keys()
    for key, row in rows.items():
        assert [getattr(row, name) for name in OWN] == [getattr(whole[key], name) for name in OWN], key


class Lives:
    """A streamer that is killed and started again, on the same ports; a listener hears all of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            self.frames, self.results, self.control = (
                f"tcp://127.0.0.1:{one.getsockname()[1]}" for one in sockets)
        self.process: subprocess.Popen[str] | None = None
        self.heard: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        self.client = Client(self.results, self.control)
        self.sender: Sender | None = None

    def start(self, *arguments: str) -> str:
        """Start a streamer and return the line that it says; its other lines are not read."""
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "streamer.cli", "run", "--session", str(self.folder), "--connect", self.frames,
             "--set", "frames.bind=true", "--set", "frames.pattern=pull", "--set", f"results.endpoint={self.results}",
             "--set", f"control.endpoint={self.control}", *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        return line

    def end(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(60)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def logged(self) -> int:
        """Count what the estimators were given since the streamer began; frames that only wait are not in it."""
        return sum(1 for _ in read_log(self.folder / "state" / "0.log"))

    def listen(self, topic: str, count: int) -> None:
        """Hear until so many messages of a topic came, in all lives together."""
        def enough() -> bool:
            result = self.client.receive(1.0)
            if result is not None:
                self.heard.setdefault(result.topic, []).append((result.sequence, result.header))
            return len(self.heard.get(topic, [])) >= count

        wait_until(enough, timeout_s=60.0, what=f"{count} messages about {topic}")


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    made = Lives(tmp_path / "session")
    yield made
    made.client.close()
    if made.sender is not None:
        made.sender.close()
    if made.process is not None and made.process.poll() is None:
        made.end(signal.SIGKILL)


def test_killed_twice_it_goes_on_as_if_never_interrupted(
    lives: Lives, frames: list[Frame], whole: dict[tuple[str, int], FrameRow]
) -> None:
    assert "goes on" not in lives.start("--set", "alerts.stalled_s=50")
    sender = lives.sender = Sender(lives.frames)
    lives.listen("status", 1)
    sender.send(frames[:10])
    lives.listen("frame", 4)
    lives.client.request("set", key="alerts.jump_px", value=77.0)
    wait_until(lambda: lives.logged() == 11, what="a log of ten frames and the settings", timeout_s=60.0)
    lives.end(signal.SIGKILL)   # while it measures
    assert "goes on: the streamer was started again" in lives.start("--set", "alerts.stalled_s=51")
    wait_until(lambda: lives.client.history()["settings_revision"] == 2, what="the new settings", timeout_s=60.0)
    sender.send([frames[4], *frames[10:17]])   # one that is there already
    wait_until(lambda: len(lives.client.history()["frames"]) >= 17, what="17 rows", timeout_s=60.0)
    lives.end(signal.SIGKILL)
    lives.start("--set", "alerts.stalled_s=51")
    sender.send(frames[17:])
    sender.end("scan")
    lives.listen("status", len(lives.heard["status"]) + 3)
    wait_until(lambda: len(lives.client.history()["frames"]) == len(frames), what="all rows", timeout_s=60.0)
    lives.end(signal.SIGTERM)
    assert lives.process is not None
    assert lives.process.returncode == 0
    rows = kept(lives.folder)
    assert_as_whole(rows, whole)
    with Journal(lives.folder) as journal:
        sequences = {(row.acquisition, row.index): number for number, row in journal.rows()}
        events = [event.kind for event in journal.events()]
        revision, toml = journal.settings()
    for sequence, header in lives.heard["frame"]:   # nothing that was published is lost
        assert sequences[header["acquisition"], header["index"]] >= sequence
    heard = [sequence for sequence, _ in lives.heard["frame"]]
    assert heard == sorted(set(heard))
    assert events.count("resumed") == 2
    assert events.count("duplicate") == 1
    assert revision == 2
    assert "jump_px = 77.0" in toml
    assert "stalled_s = 51.0" in toml
    summary = json.loads((lives.folder / "summary.json").read_text())
    assert len(summary["restarts"]) == 2
    accounting = summary["accounting"]
    assert (accounting["received"], accounting["measured"]) == (len(frames) + 1, len(frames))
    assert accounting["duplicate"]["count"] == 1
    assert accounting["missing"]["count"] == 0


def test_what_people_were_told_and_asked_for_survives_a_kill_at_once(lives: Lives, frames: list[Frame]) -> None:
    def story() -> dict[str, Any]:
        history = lives.client.history()
        return {name: history[name] for name in ("alerts", "recollections")}

    ask = lives.client.request
    lives.start("--set", "flow.enabled=false", "--set", "alerts.escalate_s=0", "--set", "blur.tolerance_px=10")
    sender = lives.sender = Sender(lives.frames)
    lives.listen("status", 1)
    sender.send(frames[:17])
    sender.socket.send_multipart([b"not json", b"x"])
    wait_until(lambda: "malformed" in {alert["rule"] for alert in story()["alerts"]}, what="all alerts", timeout_s=60.0)
    alerts = {alert["rule"]: alert["id"] for alert in story()["alerts"]}
    ask("acknowledge", alert=alerts["blurred_frame"], who="ANNA", note="a lorry")
    ask("shelve", alert=alerts["malformed"], minutes=30, who="BEN")
    ask("withdraw", recollection=1, who="ANNA")
    ask("override", index=3, acquisition="scan", verdict="blurred", who="BEN")
    ask("recollect", index=2, acquisition="scan", who="ANNA", reason="a crack", priority=3)
    lives.end(signal.SIGKILL)   # with the answer in hand
    with Journal(lives.folder) as journal:
        asked = [request for _, request in journal.recollections()]
        known = [alert for _, alert in journal.alerts()]
    assert [(request.index, request.state) for request in asked] == [
        (5, "withdrawn"), (13, "open"), (14, "open"), (3, "open"), (2, "open")]
    lives.start()
    wait_until(lambda: bool(lives.client.history()["alerts"]), what="an answer", timeout_s=60.0)
    after = story()
    assert after["recollections"] == msgspec.to_builtins(asked)
    assert after["alerts"][:len(known)] == msgspec.to_builtins(known)
    again = msgspec.structs.replace(frames[-1], index=24, recollects=2)
    sender.send([*frames[17:], again])   # a sharp one
    wait_until(lambda: story()["recollections"][-1]["served_by"] == 24, what="a served request", timeout_s=60.0)
    ask("shelve", alert=alerts["malformed"], minutes=0, who="BEN")
    lives.end(signal.SIGTERM)


def test_a_second_streamer_is_refused_while_the_first_is_at_it(lives: Lives, tmp_path: Path) -> None:
    lives.start()
    other = Lives(tmp_path / "session")
    line = other.start()
    assert "is being written by another streamer" in line
    assert other.process is not None
    assert other.process.wait(30) == 1
    other.end(signal.SIGTERM)
    other.client.close()
    lives.listen("status", 2)


def test_a_full_disk_is_told_and_nothing_is_lost(lives: Lives, frames: list[Frame]) -> None:
    lives.start("--set", "flow.enabled=false", "--set", "pictures.kept_mb=0")
    sender = lives.sender = Sender(lives.frames)
    lives.listen("status", 1)
    sender.send(frames[:4])
    lives.listen("frame", 4)
    assert lives.process is not None
    full = sum(path.stat().st_size for path in lives.folder.glob("session.sqlite*"))   # no file may grow beyond
    resource.prlimit(lives.process.pid, resource.RLIMIT_FSIZE, (min(full // 4, 30_000), resource.RLIM_INFINITY))
    sender.send(frames[4:20])
    lives.listen("frame", 20)   # published all the same
    wait_until(lambda: _problems(lives), what="a problem in the status", timeout_s=60.0)
    wait_until(lambda: "journal" in _rules(lives), what="the alert", timeout_s=60.0)
    resource.prlimit(lives.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    sender.send(frames[20:])
    wait_until(lambda: len(lives.client.history()["frames"]) == len(frames), what="all rows", timeout_s=60.0)
    wait_until(lambda: not _problems(lives), what="an end of the problem", timeout_s=60.0)
    lives.end(signal.SIGTERM)
    assert lives.process.returncode == 0
    assert len(kept(lives.folder)) == len(frames)


def _rules(lives: Lives) -> set[str]:
    lives.listen("status", len(lives.heard["status"]) + 1)
    return {header["rule"] for _, header in lives.heard.get("alert", [])}


def _problems(lives: Lives) -> list[str]:
    lives.listen("status", len(lives.heard["status"]) + 1)
    problems: list[str] = lives.heard["status"][-1][1]["problems"]
    return problems
