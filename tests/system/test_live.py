"""The live service with real sockets on free ports."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq
from support.acquisitions import acquisition, received
from support.live import FREE_PORTS, Live, Sender, free_ports, live
from support.waiting import wait_until

from streamer.client import Client
from streamer.errors import CommandError, LinkError, SessionError
from streamer.journal import Journal
from streamer.records import EndOfAcquisition, Frame, FrameRow
from streamer.service import live as live_service
from streamer.service.live import Service
from streamer.service.offline import analyse
from streamer.settings import load, update
from streamer.sources.zeromq import ZeroMQSource


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return acquisition(8, seed=21, blurred=(5,))


def _rows(folder: Path) -> list[FrameRow]:
    with Journal(folder) as journal:
        return [msgspec.structs.replace(row, received_at=None, latency_ms=None) for _, row in journal.rows()]


def _counts(running: Live) -> tuple[int, int]:
    status = running.service.status()
    return status.pictures_skipped, status.flow_done


def _accounting(folder: Path) -> dict[str, Any]:
    accounting: dict[str, Any] = json.loads((folder / "summary.json").read_text())["accounting"]
    return accounting


def test_live_and_offline_give_the_same_numbers_bit_by_bit(frames: list[Frame], tmp_path: Path) -> None:
    with live(tmp_path / "live") as running:
        for frame in frames:   # one by one, so that the flow lane skips none
            running.sender.send([frame])
            running.collect("flow" if frame.kind == "projection" and frame.index != 5 else "frame", 1)
        running.sender.end("scan")
    analyse([*received(frames), EndOfAcquisition(acquisition="scan")], load(), tmp_path / "offline")
    assert _rows(tmp_path / "live") == _rows(tmp_path / "offline")
    assert _accounting(tmp_path / "live") == _accounting(tmp_path / "offline")
    with Journal(tmp_path / "live") as one, Journal(tmp_path / "offline") as other:
        for flow, expected in zip(one.flows(), other.flows(), strict=True):
            np.testing.assert_array_equal(flow.displacement_px, expected.displacement_px)


def test_every_message_tells_of_something_that_is_in_the_journal_already(frames: list[Frame], tmp_path: Path) -> None:
    with live(tmp_path, "flow.enabled=false") as running:
        running.sender.send(frames)
        for header in running.collect("frame", len(frames)):
            with Journal(tmp_path) as journal:
                kept = {(row.acquisition, row.index): sequence for sequence, row in journal.rows()}
            assert kept[header["acquisition"], header["index"]] >= header["sequence"]


def test_behind_the_frames_most_of_what_can_be_left_out_is_and_it_is_counted(
    frames: list[Frame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_service, "_BEHIND", -1)   # as if others always waited
    monkeypatch.setattr(live_service, "_BEHIND_FIELD_S", 1e6)
    with live(tmp_path) as running:
        running.sender.send(frames)
        running.collect("frame", len(frames))
        running.collect("flow", 1)
        wait_until(lambda: _counts(running) == (8, 1), what="one field, and no full picture of eight frames")
        assert running.service.status().flow_skipped >= 3
    assert len(_rows(tmp_path)) == len(frames)


def test_a_late_listener_gets_everything_once(frames: list[Frame], tmp_path: Path) -> None:
    with live(tmp_path) as running:
        running.sender.send(frames[:6])
        running.collect("frame", 6)
        with Client(running.client.results) as late:
            assert late.receive(5.0) is not None
            wait_until(lambda: late.receive(1.0) is not None and late.control is not None)
            history = late.history()
            running.sender.send(frames[6:])
            seen = {(row["acquisition"], row["index"]): row for row in history["frames"]}
            newest = history["sequence"]["frame"]
            while len(seen) < len(frames):
                result = late.receive(10.0)
                assert result is not None
                if result.topic == "frame" and result.sequence > newest:
                    assert result.sequence == newest + 1   # gap-free
                    newest = result.sequence
                    seen[result.header["acquisition"], result.header["index"]] = result.header
    assert {(row.acquisition, row.index) for row in _rows(tmp_path)} == set(seen)
    names = set(FrameRow.__struct_fields__)
    assert all(names <= set(row) for row in seen.values())


def test_a_plain_socket_can_ask_for_the_history(tmp_path: Path) -> None:
    with live(tmp_path) as running, zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(running.service.outbox.control_endpoint)
        socket.send(b'{"id": 1, "op": "history", "since": 0}')
        assert socket.poll(5000)
        answer = json.loads(socket.recv())
        assert answer["id"] == 1
        assert answer["ok"] is True
        assert answer["result"]["frames"] == []
        socket.send(b"nonsense")
        assert socket.poll(5000)
        assert json.loads(socket.recv())["ok"] is False


def test_a_long_history_comes_in_pages(frames: list[Frame], tmp_path: Path) -> None:
    with live(tmp_path, "flow.enabled=false") as running:
        running.sender.send(frames)
        running.collect("frame", len(frames))
        wait_until(lambda: len(running.client.history()["frames"]) == len(frames))
        since, indices, more = 0, [], True
        while more:
            page = running.client.request("history", since=since, limit=3)
            assert len(page["frames"]) <= 3
            since, more = page["sequence"]["frame"], page["more"]
            indices += [(row["acquisition"], row["index"]) for row in page["frames"]]
        assert sorted(indices) == sorted((frame.acquisition, frame.index) for frame in frames)
        page = running.client.request("history", since=3, limit=3, columns=True, alerts=False)
        assert page["alerts"] == page["recollections"] == page["frames"] == []
        assert [*page["sequence"]] == ["frame"]
        with pytest.raises(CommandError, match="limit 0"):
            running.client.request("history", limit=0)


def test_the_heartbeat_comes_at_least_once_a_second_and_tells_all(tmp_path: Path) -> None:
    with live(tmp_path) as running:
        beats = running.collect("status", 3, timeout_s=5.0)
    assert beats[2]["at"] - beats[0]["at"] < 2.0
    assert beats[1]["sequence"] == beats[0]["sequence"] + 1
    assert beats[0]["state"] == "waiting"
    assert beats[0]["accounting"]["received"] == 0
    assert beats[0]["control_endpoint"].startswith("tcp://127.0.0.1:")


def test_pushed_as_fast_as_it_goes_nothing_is_lost(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).poisson(300.0, (300, 64, 64)).astype(np.uint16)
    frames = [Frame(pixels=image, index=index, acquisition="fast", expected=300)
              for index, image in enumerate(pixels)]
    with live(tmp_path, "flow.enabled=false", "frames.queue=8") as running:
        running.sender.send(frames)
        running.sender.end("fast")
        running.collect("frame", 300)
    accounting = _accounting(tmp_path)
    assert accounting["received"] == 300
    assert accounting["dropped"]["count"] == accounting["missing"]["count"] == 0
    assert len(_rows(tmp_path)) == 300


def test_dropped_frames_are_counted_named_and_have_rows(tmp_path: Path) -> None:
    pixels = np.random.default_rng(4).poisson(300.0, (60, 320, 320)).astype(np.uint16)
    frames = [Frame(pixels=image, index=index, acquisition="fast") for index, image in enumerate(pixels)]
    with live(tmp_path, "flow.enabled=false", "frames.queue=2", "frames.overload=drop_oldest") as running:
        running.sender.send(frames)
        running.collect("frame", 60)
    accounting = _accounting(tmp_path)
    assert accounting["received"] == 60
    assert accounting["missing"]["count"] == 0
    assert accounting["dropped"]["count"] > 0
    assert accounting["measured"] + accounting["refused"]["count"] + accounting["dropped"]["count"] == 60
    dropped = [row.index for row in _rows(tmp_path) if row.problems.startswith("dropped")]
    assert len(dropped) == accounting["dropped"]["count"]
    assert [row.index for row in _rows(tmp_path)] == list(range(60))


def test_trouble_of_the_stream_is_counted_and_named(frames: list[Frame], tmp_path: Path) -> None:
    scan = [msgspec.structs.replace(frame, expected=None) for frame in frames if frame.kind == "projection"]
    with live(tmp_path, "flow.enabled=false") as running:
        running.sender.send([scan[0], scan[1], scan[1], scan[4], scan[3]])
        running.sender.socket.send_multipart([b"not json", b"x"])
        running.sender.socket.send_multipart(
            [b'{"htype": "array-1.0", "type": "uint16", "shape": [320, 328], "frame": 5, "acquisition": "scan"}', b"x"])
        running.sender.send([scan[6]])
        running.collect("frame", 6)
        rules = {header["rule"] for header in running.collect("alert", 5)}
    accounting = _accounting(tmp_path)
    assert accounting["received"] == 8
    assert accounting["measured"] == 5
    assert accounting["missing"] == {"count": 1, "indices": [2]}
    assert accounting["duplicate"] == {"count": 1, "indices": [1]}
    assert accounting["out_of_order"] == {"count": 1, "indices": [3]}
    assert accounting["malformed"] == {"count": 2, "indices": [5]}
    assert {"gap", "duplicate", "out_of_order", "malformed"} <= rules
    assert next(row for row in _rows(tmp_path) if row.index == 1).problems == "came again, the copy was refused"
    lied = next(row for row in _rows(tmp_path) if row.index == 5)
    assert "209920" in lied.problems   # what the header promised


def test_once_ends_with_the_last_acquisition_whatever_came_between(frames: list[Frame], tmp_path: Path) -> None:
    settings = free_ports("flow.enabled=false")
    source = ZeroMQSource(settings.frames)
    service = Service(settings, tmp_path, source)
    sender = Sender(source.endpoint)
    sender.end("scan/flat")   # closes nothing that is open
    sender.send(frames[:4])
    sender.socket.send_multipart([b"not json", b"x"])
    sender.send(frames[4:6])
    sender.end("scan")
    service.run(until_end=True)
    sender.close()
    assert _accounting(tmp_path)["measured"] == 6


def test_settings_change_between_frames_and_every_row_says_which_were_in_force(
    frames: list[Frame], tmp_path: Path
) -> None:
    with live(tmp_path, "flow.enabled=false") as running:
        running.sender.send(frames[:4])
        running.collect("frame", 4)
        assert running.client.request("set", key="blur.tolerance_px", value=2, who="me") == {"settings_revision": 1}
        running.sender.send(frames[4:])
        wait_until(lambda: any(header["index"] == 5 for header in running.collect("frame", 1)))
        with pytest.raises(CommandError, match="cannot be changed while running"):
            running.client.request("set", key="frames.endpoint", value="tcp://127.0.0.1:1")
        with pytest.raises(CommandError, match=r"0\.1 to 100"):
            running.client.request("set", key="blur.tolerance_px", value=-1)
        with pytest.raises(CommandError, match="unknown op 'fly'"):
            running.client.request("fly")
    with Journal(tmp_path) as journal:
        revision, toml = journal.settings()
        assert revision == 1
        assert "tolerance_px = 2.0" in toml
    assert [row.settings_revision for row in _rows(tmp_path)] == [0] * 4 + [1] * 6


def test_the_reference_can_be_set_anew(frames: list[Frame], tmp_path: Path) -> None:
    with live(tmp_path) as running:
        with pytest.raises(CommandError, match="none yet"):
            running.client.request("reference")
        running.sender.send(frames[:6])
        running.collect("frame", 6)
        assert running.client.request("reference", view="main") == {"view": "main", "reference_index": 3}
        running.sender.send(frames[6:7])
        row = next(header for header in iter(lambda: running.collect("frame", 1)[0], None) if header["index"] == 4)
        assert row["drift_y_px"] == pytest.approx(0.7, abs=0.1)


def test_an_alert_is_acknowledged_and_a_note_taken(frames: list[Frame], tmp_path: Path) -> None:
    with live(tmp_path, "flow.enabled=false") as running:
        running.sender.send(frames)
        (alert,) = running.collect("alert", 1)
        running.client.request("acknowledge", alert=alert["id"], who="me", note="seen")
        again = next(header for header in iter(lambda: running.collect("alert", 1)[0], None) if header["who"])
        assert (again["id"], again["state"], again["who"], again["note"]) == (alert["id"], "requested", "me", "seen")
        with pytest.raises(CommandError, match="no alert 99"):
            running.client.request("acknowledge", alert=99)
        assert running.client.request("note", text="changed the sample") == {"noted": "changed the sample"}


def test_a_snapshot_writes_the_tables_of_a_running_session(frames: list[Frame], tmp_path: Path) -> None:
    with live(tmp_path, "flow.enabled=false") as running:
        running.sender.send(frames[:3])
        running.collect("frame", 3)
        files = running.client.request("snapshot")["files"]
        assert {Path(file).name for file in files} == {
            "frames.csv", "alerts.csv", "recollections.csv", "flow.h5", "summary.json"}
        assert len((tmp_path / "frames.csv").read_text().splitlines()) == 4


def test_a_full_disk_stops_neither_analysis_nor_results_and_nothing_is_lost(
    frames: list[Frame], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    with live(tmp_path, "flow.enabled=false") as running:
        running.sender.send(frames[:2])
        running.collect("frame", 2)
        database = running.service.recorder.journal._db
        database.execute(f"PRAGMA max_page_count = {database.execute('PRAGMA page_count').fetchone()[0]}")
        note = "x" * 20_000   # larger than what is free inside the file
        running.client.request("note", text=note)
        running.sender.send(frames[2:6])
        running.collect("frame", 4)
        wait_until(lambda: "full" in " ".join(running.collect("status", 1)[0]["problems"]), what="the problem")
        database.execute("PRAGMA max_page_count = 1000000")
        running.sender.send(frames[6:])
        running.collect("frame", 2)
        wait_until(lambda: running.collect("status", 1)[0]["problems"] == [], what="recovery")
    assert len(_rows(tmp_path)) == len(frames)


def test_a_port_in_use_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with live(tmp_path / "one") as running:
        taken = running.service.outbox.results_endpoint
        settings = update(free_ports(), {"results.endpoint": taken})
        source = ZeroMQSource(settings.frames)
        with pytest.raises(LinkError, match=r"results\.endpoint"):
            Service(settings, tmp_path / "two", source)
        source.close()
        assert not (tmp_path / "two").exists()   # the next try may take the same folder


def test_a_session_in_use_is_refused(tmp_path: Path) -> None:
    with live(tmp_path):
        settings = free_ports()
        source = ZeroMQSource(settings.frames)
        with pytest.raises(SessionError, match="another streamer"):
            Service(settings, tmp_path, source)
        source.close()


def test_a_published_stream_is_subscribed_to(frames: list[Frame], tmp_path: Path) -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.bind("tcp://127.0.0.1:*")
        settings = update(load(), {**FREE_PORTS, "frames.pattern": "sub", "frames.bind": False,
                                   "frames.endpoint": publisher.getsockopt_string(zmq.LAST_ENDPOINT)})
        with live(tmp_path, settings=settings) as running:
            assert publisher.poll(10_000)
            publisher.recv()
            for frame in frames[:3]:
                publisher.send_multipart(_encoded(running, frame))
            assert [header["kind"] for header in running.collect("frame", 3)] == ["flat", "flat", "projection"]


def _encoded(running: Live, frame: Frame) -> list[Any]:
    parts: list[Any] = running.sender._dialect.encode(frame)
    return parts


def test_a_sender_can_be_named_that_is_not_there_yet(tmp_path: Path) -> None:
    with live(tmp_path) as running:
        sender = Sender(running.service._source.endpoint)
        sender.close()
        assert running.collect("status", 1)[0]["state"] == "waiting"
