"""A session is copied while its streamer is at it, as a kill would leave it, and another one goes on with the copy."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.acquisitions import acquisition
from support.live import Live, Sender, free_ports, live
from support.waiting import wait_until

from streamer.errors import SessionError
from streamer.journal import Batch, Journal
from streamer.records import Frame
from streamer.service.continuity import settings_left
from streamer.service.live import Service
from streamer.settings import load, update
from streamer.sources.zeromq import ZeroMQSource

SHAPE = (128, 136)


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return acquisition(14, seed=43, shape=SHAPE, blurred=(6,))


def _settled(running: Live, rows: int) -> dict[str, Any]:
    wait_until(lambda: len(running.client.history()["frames"]) == rows, what=f"{rows} rows")
    return running.client.history()


@pytest.fixture(scope="module")
def left(frames: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """What a streamer leaves that dies after a blurred frame, with an alert, a request and new settings."""
    folder = tmp_path_factory.mktemp("left")
    with live(folder / "session", "flow.enabled=false") as running:
        running.sender.send(frames[:11])
        _settled(running, 11)
        running.client.request("set", key="alerts.jump_px", value=88.0)
        running.client.request("note", text="changed the sample holder", who="me")
        history = _settled(running, 11)
        shutil.copytree(folder / "session", folder / "killed")
    return folder / "killed", history


def _again(left: Path, folder: Path, *assignments: str) -> Any:
    shutil.copytree(left, folder)
    return live(folder, settings=settings_left(folder, free_ports(), _flat(*assignments)))


def _flat(*assignments: str) -> dict[str, Any]:
    return {key: json.loads(value) for key, _, value in (one.partition("=") for one in assignments)}


def test_alerts_requests_settings_and_rows_are_there_as_they_were(
    left: tuple[Path, dict[str, Any]], frames: list[Frame], tmp_path: Path
) -> None:
    folder, before = left
    with _again(folder, tmp_path / "s") as running:
        after = running.client.history()
        assert after["frames"] == before["frames"]
        assert after["alerts"] == before["alerts"]
        assert after["recollections"] == before["recollections"]
        assert [request["index"] for request in after["recollections"]] == [6]
        assert after["settings_revision"] == 1
        assert running.service.settings.alerts.jump_px == 88.0
        assert "goes on" in running.service.resumed
        alert = after["alerts"][0]
        running.client.request("acknowledge", alert=alert["id"], who="me", note="seen")
        running.sender.send([msgspec.structs.replace(frames[11], index=40, recollects=6, expected=None), *frames[12:]])
        running.sender.send(frames[11:12])
        wait_until(lambda: len(running.client.history()["frames"]) == 17, what="the rest")
        wait_until(lambda: running.client.history()["recollections"][0]["tries"] == 1, what="the request")
        newest = running.client.history()["alerts"]
        assert newest[0]["who"] == "me"
        assert len({one["id"] for one in newest}) == len(newest)
    summary = json.loads((tmp_path / "s" / "summary.json").read_text())
    assert summary["restarts"][0]["after"] == {"acquisition": "scan", "index": 8}
    assert summary["restarts"][0]["stale_frames"] == 0
    assert summary["ended_at"] is not None
    accounting = summary["accounting"]
    assert accounting["received"] == accounting["measured"] == 17


def test_numbers_of_messages_go_on(left: tuple[Path, dict[str, Any]], frames: list[Frame], tmp_path: Path) -> None:
    folder, before = left
    with _again(folder, tmp_path / "s") as running:
        running.sender.send(frames[11:12])
        (header,) = running.collect("frame", 1)
        assert header["sequence"] == before["sequence"]["frame"] + 1
        assert header["settings_revision"] == 1
        assert running.collect("status", 1)[0]["accounting"]["received"] >= 11


def test_the_command_line_wins_and_that_is_a_new_revision(left: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    with _again(left[0], tmp_path / "s", "blur.tolerance_px=2.25", "blur.baseline=6") as running:
        assert running.client.history()["settings_revision"] == 2
        assert running.service.settings.alerts.jump_px == 88.0
    with Journal(tmp_path / "s") as journal:
        assert "tolerance_px = 2.25" in journal.settings()[1]


def test_a_frame_that_was_taken_in_but_not_recorded_is_measured_now(
    left: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """As a kill leaves it between the log and the commit: the last rows are taken out of the journal again."""
    folder = tmp_path / "s"
    shutil.copytree(left[0], folder)
    with Journal(folder, create=True, resume=True) as journal:
        counters = msgspec.msgpack.decode(journal.state()["counters"])
        assert counters["logged"] == counters["done"]
        done = counters["done"] - 3   # two frames, and settings after them
        journal._db.execute("DELETE FROM frames WHERE acquisition = 'scan' AND \"index\" > 6")
        journal._db.commit()
        journal.write(Batch(state={"counters": msgspec.msgpack.encode(counters | {"done": done})}))
    with live(folder, settings=settings_left(folder, free_ports(), {})) as running:
        wait_until(lambda: len(running.client.history()["frames"]) == 11, what="the frames in the log")
        found = {(row["acquisition"], row["index"]): row for row in running.client.history()["frames"]}
    before = {(row["acquisition"], row["index"]): row for row in left[1]["frames"]}
    for key, row in found.items():
        assert (row["drift_y_px"], row["verdict"], row["blur_score"]) == (
            before[key]["drift_y_px"], before[key]["verdict"], before[key]["blur_score"])


def test_a_frame_that_is_nowhere_is_dropped_by_name(left: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder = tmp_path / "s"
    shutil.copytree(left[0], folder)
    with Journal(folder, create=True, resume=True) as journal:
        counters = msgspec.msgpack.decode(journal.state()["counters"])
        counters["waiting"] = [["scan", 9, "main", "projection"]]
        journal.write(Batch(state={"counters": msgspec.msgpack.encode(counters)}))
    with live(folder, settings=settings_left(folder, free_ports(), {})) as running:
        rows = running.client.history()["frames"]
        assert "was not kept" in next(row["problems"] for row in rows if row["index"] == 9)


@pytest.mark.parametrize(("damage", "words"), [
    (lambda folder: shutil.rmtree(folder / "state"), "holds no state"),
    (lambda folder: next((folder / "state").glob("*.state")).write_bytes(b"x" * 100), "cannot be read"),
    (lambda folder: _without(folder, "alarms"), "lacks 'alarms'"),
    (lambda folder: _without(folder, None), "made by 'analyse'"),
], ids=["gone", "damaged", "a part", "none"])
def test_what_cannot_be_gone_on_with_is_refused_and_stays(
    left: tuple[Path, dict[str, Any]], tmp_path: Path, damage: Any, words: str
) -> None:
    folder = tmp_path / "s"
    shutil.copytree(left[0], folder)
    damage(folder)
    settings = update(load(), {"frames.endpoint": "tcp://127.0.0.1:*", "frames.bind": True,
                               "results.endpoint": "tcp://127.0.0.1:*", "control.endpoint": "tcp://127.0.0.1:*"})
    source = ZeroMQSource(settings.frames)
    with pytest.raises(SessionError, match=words):
        Service(settings, folder, source)
    source.close()
    with Journal(folder) as journal:
        assert len(list(journal.rows())) == 11


def _without(folder: Path, name: str | None) -> None:
    with Journal(folder, create=True, resume=True) as journal:
        journal._db.execute("DELETE FROM state WHERE name = ? OR ? IS NULL", (name, name))
        journal._db.commit()


def test_a_session_that_was_killed_before_its_first_frame_begins(tmp_path: Path) -> None:
    Journal(tmp_path / "s", create=True).close()
    with live(tmp_path / "s") as running:
        assert running.service.resumed == ""


def test_a_clock_that_steps_back_changes_no_order(
    frames: list[Frame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, step_s = time.time, [0.0]
    with live(tmp_path / "s", "flow.enabled=false") as running:
        monkeypatch.setattr(time, "time", lambda: real() - step_s[0])
        running.sender.send(frames[:6])
        _settled(running, 6)
        step_s[0] = 7200.0
        running.sender.send(frames[6:])
        running.sender.end("scan")
        _settled(running, len(frames))
        shutil.copytree(tmp_path / "s", tmp_path / "killed")
        step_s[0] = 14_400.0
        folder = tmp_path / "killed"
        with live(folder, settings=settings_left(folder, free_ports(), {})) as again:
            assert again.client.history()["frames"] == running.client.history()["frames"]
            assert "started again 0.0 s after" in again.service.resumed
    with Journal(tmp_path / "s") as journal:
        rows = [row for _, row in journal.rows()]
        accounting = journal.meta()["accounting"]
    assert [(row.acquisition, row.index) for row in rows] == [(frame.acquisition, frame.index) for frame in frames]
    assert accounting["received"] == accounting["measured"] == len(frames)
    assert accounting["out_of_order"]["count"] == accounting["missing"]["count"] == 0


def test_a_hole_in_the_journal_is_marked(frames: list[Frame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.service.recorder._BACKLOG", 2)
    monkeypatch.setattr("streamer.service.recorder._HISTORY", 3)
    full: list[str] = []
    write = Journal.write

    def maybe(journal: Journal, batch: Batch) -> None:
        if full:
            raise SessionError(full[0])
        write(journal, batch)

    monkeypatch.setattr(Journal, "write", maybe)
    with live(tmp_path / "s", "flow.enabled=false") as running:
        running.sender.send(frames[:3])
        _settled(running, 3)
        full.append("the disk is full")
        running.sender.send(frames[3:13])
        running.collect("frame", 13)
        wait_until(lambda: any("disk is full" in text for text in running.collect("status", 1)[0]["problems"]))
        full.clear()
        running.sender.send(frames[13:])
        wait_until(lambda: "lost" in {alert["rule"] for alert in running.client.history()["alerts"]}, what="the alert")
    with Journal(tmp_path / "s") as journal:
        (event,) = [event for event in journal.events() if event.kind == "lost"]
        there = {row.index for _, row in journal.rows() if row.acquisition == "scan"}
    (hole,) = json.loads((tmp_path / "s" / "summary.json").read_text())["lost_rows"]
    gone = {number for first, last in ((piece, piece) if isinstance(piece, int) else piece for piece in hole["indices"])
            for number in range(first, last + 1)}
    assert "could not be written and are lost: frames" in event.text
    assert hole["count"] == len(gone) > 0
    assert gone.isdisjoint(there)
    assert gone | there >= set(range(12))


def test_two_senders_are_told_apart_after_a_restart_too(tmp_path: Path, frames: list[Frame]) -> None:
    """The unnamed acquisition goes on under the name that it had."""
    unnamed = [msgspec.structs.replace(frame, acquisition="", expected=None) for frame in frames[2:]]
    with live(tmp_path / "a", "flow.enabled=false") as running:
        running.sender.send(unnamed[:5])
        _settled(running, 5)
        shutil.copytree(tmp_path / "a", tmp_path / "b")
    with live(tmp_path / "b", settings=settings_left(tmp_path / "b", free_ports(), {})) as running:
        sender: Sender = running.sender
        sender.send(unnamed[4:8])   # one of them again
        rows = _settled(running, 8)["frames"]
        assert {row["acquisition"] for row in rows} == {"acquisition-1"}
        wait_until(lambda: running.collect("status", 1)[0]["accounting"]["duplicate"]["count"] == 1)
