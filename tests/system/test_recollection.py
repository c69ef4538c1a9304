"""The loop from a blurred frame to a good one, and what people do on the way, with real sockets and real pictures."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support.acquisitions import SHAPE, acquisition
from support.live import Live, live
from support.scenes import Scene

from streamer.errors import CommandError
from streamer.journal import Journal
from streamer.records import Frame
from streamer.replacement import in_force

FRAMES = 11
PHOTONS = 1000.0
BLURRED = 6
UNTIL = 9
"""Frames that come before the one that is taken again."""


@functools.cache
def sample() -> Scene:
    """What `acquisition` shows."""
    return Scene(31, SHAPE, margin=40)


def again(frame: Frame, index: int, *, at: int, recollects: int | None = BLURRED, **about: Any) -> Frame:
    """Return a frame as it is taken again, sharp, where the sample is by the time of frame `at`."""
    drift = 0.7 * at, -0.4 * at
    pixels = sample().frame(np.random.default_rng(index), photons=PHOTONS, drift=drift)
    return msgspec.structs.replace(frame, **({"pixels": pixels, "index": index, "recollects": recollects,
                                              "exposed_at": 1e9 + 100.0 + at + 0.5} | about))


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    about = {"angle_deg": 12.5, "energy_ev": 8333.0, "exposure_s": 0.5}
    return [msgspec.structs.replace(frame, **(about if frame.kind == "projection" else {}))
            for frame in acquisition(FRAMES, seed=31, blurred=(BLURRED,), photons=PHOTONS)]


@pytest.fixture(scope="module")
def projections(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame.kind == "projection"]


def until(running: Live, topic: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the first message of a topic for which a condition holds."""
    while True:
        header, = running.collect(topic, 1)
        if condition(header):
            return header


def test_the_loop_closes(frames: list[Frame], projections: list[Frame], tmp_path: Path) -> None:
    flats = len(frames) - len(projections)
    with live(tmp_path, "flow.enabled=false") as running:
        running.sender.send(frames[:flats + UNTIL])
        request = until(running, "recollect", lambda header: header["state"] == "open")
        assert (request["acquisition"], request["index"], request["view"]) == ("scan", BLURRED, "main")
        assert (request["angle_deg"], request["energy_ev"], request["exposure_s"]) == (12.5, 8333.0, 0.5)
        assert request["drift_y_px"] == pytest.approx(0.7 * BLURRED, abs=0.5)
        assert request["stage"]["x_um"] == pytest.approx(0.4 * BLURRED * 0.03324, abs=0.02)
        assert request["deadline_frames"] == FRAMES - 1 - BLURRED
        alert = until(running, "alert", lambda header: header["state"] == "requested")
        assert (alert["rule"], alert["index"]) == ("blurred_frame", BLURRED)
        listed = until(running, "status", lambda header: bool(header["recollections"]))["recollections"]
        assert [found["id"] for found in listed] == [request["id"]]

        running.sender.send([again(projections[0], FRAMES, at=UNTIL, expected=FRAMES), *projections[UNTIL:]])
        served = until(running, "recollect", lambda header: header["state"] != "open")
        assert (served["state"], served["served_by"], served["verdict"]) == ("served", FRAMES, "sharp")
        alert = until(running, "alert", lambda header: header["state"] == "recollected")
        assert (alert["recollected_as"], alert["recollected_verdict"], alert["who"]) == (FRAMES, "sharp", "")
        until(running, "frame", lambda header: header["index"] == FRAMES - 1)
        running.sender.end("scan")
        running.client.request("acknowledge", alert=alert["id"], who="ANNA", note="well done")
        assert until(running, "alert", lambda header: header["who"] == "ANNA")["state"] in {"recollected", "closed"}
        history = running.client.history()
        assert [(found["id"], found["state"]) for found in history["recollections"]] == [(request["id"], "served")]
        assert history["sequence"]["recollect"] == 2
    _check_session(tmp_path)


def _check_session(folder: Path) -> None:
    with Journal(folder) as journal:
        rows = [row for _, row in journal.rows() if row.kind == "projection"]
        assert [row.index for _, row in journal.rows() if row.recollects is not None] == [FRAMES]
    standing = in_force(rows)
    assert [row.index for row in standing] == [*range(BLURRED), FRAMES, *range(BLURRED + 1, FRAMES)]
    assert not [row.index for row in standing if row.verdict == "blurred"]
    new = standing[BLURRED]
    assert new.problems == ""
    assert new.drift_y_px == pytest.approx(0.7 * UNTIL, abs=0.3)   # where the sample was when it was taken
    after = [row for row in rows if row.index in {FRAMES - 2, FRAMES - 1}]
    assert [row.drift_y_px for row in after] == pytest.approx([0.7 * row.index for row in after], abs=0.3)
    counts = json.loads((folder / "summary.json").read_text())["counts"]
    assert counts["verdicts"].pop("blurred") == 1
    assert counts["in_force"] == {"rows": FRAMES + 2, "left_out": 1, "verdicts": counts["verdicts"]}
    assert counts["recollections"] == {"served": 1}
    with (folder / "recollections.csv").open(newline="") as file:
        line, = csv.DictReader(file)
    assert (line["index"], line["state"], line["served_by"]) == (str(BLURRED), "served", str(FRAMES))
    assert float(line["stage_x_um"]) == pytest.approx(0.4 * BLURRED * 0.03324, abs=0.02)


def test_a_frame_that_comes_twice_or_once_more_changes_no_request(
    frames: list[Frame], projections: list[Frame], tmp_path: Path
) -> None:
    first, other = (again(projections[0], index, at=UNTIL + index - FRAMES) for index in (FRAMES, FRAMES + 1))
    small = msgspec.structs.replace(first, index=FRAMES + 2, pixels=np.zeros((100, 100), np.uint16))
    with live(tmp_path, "flow.enabled=false") as running:
        running.sender.send([*frames[:-2], first, first, other, small])
        until(running, "frame", lambda header: header["index"] == FRAMES + 2)
        requests = running.client.history()["recollections"]
    with Journal(tmp_path) as journal:
        problems = {row.index: row.problems for _, row in journal.rows() if row.recollects is not None}
        assert [row.index for row in in_force(row for _, row in journal.rows())].count(FRAMES + 1) == 1
        (_, told), = ((number, alert) for number, alert in journal.alerts() if alert.rule == "blurred_frame")
    assert [(request["index"], request["state"], request["tries"], request["served_by"]) for request in requests] == [
        (BLURRED, "served", 1, FRAMES)]
    assert problems[FRAMES] == "came again, the copy was refused"
    assert problems[FRAMES + 1] == f"replaces frame {BLURRED} once more: frame {FRAMES} came for it and was sharp"
    assert problems[FRAMES + 2].endswith(f"does not replace frame {BLURRED}: it could not be measured")
    assert (told.state, told.recollected_as) == ("recollected", FRAMES)


@pytest.fixture(scope="module")
def running(frames: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service that has seen ten projections, one of them blurred."""
    with live(tmp_path_factory.mktemp("session"), "flow.enabled=false") as service:
        service.sender.send(frames[:-1])
        until(service, "frame", lambda header: header["index"] == FRAMES - 2 and header["kind"] == "projection")
        service.client.history()   # which starts the thread that answers
        yield service


@pytest.mark.parametrize(("op", "arguments", "reason"), [
    ("acknowledge", {"alert": 99}, "there is no alert 99"),
    ("acknowledge", {}, "alert is None, expected the id of an alert"),
    ("acknowledge", {"alert": True}, "alert is True, expected the id"),
    ("acknowledge", {"alert": "none"}, "alert is 'none', expected the id"),
    ("acknowledge", {"alert": -1}, "alert is -1"),
    ("acknowledge", {"alert": 1e300}, "alert is 1e"),
    ("acknowledge", {"alert": 1 << 63}, "alert is 9223372036854775808"),
    ("acknowledge", {"alert": 1, "who": 5}, "who is 5, expected a text"),
    ("acknowledge", {"alert": 1, "note": {"a": 1}}, "note is {'a': 1}, expected a text"),
    ("acknowledge", {"alert": 1, "note": "x" * 200_000}, "note has 200000 characters"),
    ("acknowledge", {"alert": [1]}, "alert is \\[1\\]"),
    ("shelve", {"alert": 99, "minutes": 5}, "there is no alert 99"),
    ("shelve", {"alert": 1, "minutes": -5}, "minutes is -5, expected a number from 0"),
    ("shelve", {"alert": 1, "minutes": "5"}, "minutes is '5'"),
    ("shelve", {"alert": 1, "minutes": True}, "minutes is True"),
    ("shelve", {"alert": 1, "minutes": 1e300}, "minutes is 1e"),
    ("shelve", {"alert": 1}, "minutes is None"),
    ("override", {"index": 99, "verdict": "sharp"}, "there is no frame 99 in the session"),
    ("override", {"index": 1, "acquisition": "other", "verdict": "sharp"}, "no frame 1 in acquisition 'other'"),
    ("override", {"index": 1, "acquisition": 7, "verdict": "sharp"}, "acquisition is 7, expected a text"),
    ("override", {"index": 1, "verdict": "good"}, "verdict is 'good', expected one of sharp, blurred, undecided, bad"),
    ("override", {"index": 1, "verdict": ["sharp"]}, "verdict is \\['sharp'\\]"),
    ("override", {"index": 1}, "verdict is None"),
    ("override", {"index": 0, "acquisition": "scan/flat", "verdict": "sharp"}, "frame 0 is a flat"),
    ("override", {"index": 1.5, "verdict": "sharp"}, "index is 1.5, expected the number of a frame"),
    ("override", {"index": 1, "verdict": "sharp", "why": 3}, "why is 3"),
    ("recollect", {"index": 0, "acquisition": "scan/flat"}, "frame 0 is a flat; this is for projections"),
    ("recollect", {"index": 99}, "there is no frame 99"),
    ("recollect", {"index": None}, "index is None"),
    ("recollect", {"index": 1, "priority": 4}, "priority is 4, expected 1, 2 or 3"),
    ("recollect", {"index": 1, "priority": "high"}, "priority is 'high'"),
    ("recollect", {"index": 1, "reason": []}, "reason is \\[\\], expected a text"),
    ("withdraw", {"recollection": 99}, "there is no request 99"),
    ("withdraw", {"recollection": "1"}, "recollection is '1', expected the id of a request"),
    ("note", {"text": ""}, "text is '', expected what is to be written down"),
    ("note", {"text": 5}, "text is 5, expected a text"),
    ("note", {"text": "hm", "index": 99}, "there is no frame 99"),
    ("note", {"text": "hm", "who": ["me"]}, "who is \\['me'\\]"),
    ("set", {"key": "blur.tolerance_px", "value": 2.0, "who": 1}, "who is 1, expected a text"),
    ("no_such", {}, "unknown op 'no_such'; .*override, recollect, withdraw"),
])
def test_what_cannot_be_done_is_told_why(running: Live, op: str, arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(CommandError, match=reason):
        running.client.request(op, **arguments)


def test_a_note_names_a_frame(running: Live) -> None:
    assert running.client.request("note", text=" a crack ", who="ANNA", index=3) == {
        "noted": "a crack", "index": 3, "acquisition": "scan"}


def test_an_alert_is_shelved_and_taken_off_the_shelf(running: Live) -> None:
    alert = running.client.history()["alerts"][0]
    answer = running.client.request("shelve", alert=alert["id"], minutes=30, who="ANNA", note="known")
    assert answer["shelved_until"] > alert["raised_at"]
    shelved = until(running, "alert", lambda header: header["shelved_until"] is not None)
    assert (shelved["note"], shelved["who"]) == ("shelved for 30 min by ANNA: known", "")   # nobody acknowledged it
    assert running.client.request("shelve", alert=alert["id"], minutes=0)["shelved_until"] is None


def test_a_person_asks_for_a_frame_and_withdraws(running: Live) -> None:
    answer = running.client.request("recollect", index=4, who="ANNA", reason="a crack", priority=3)
    request = until(running, "recollect", lambda header: header["id"] == answer["recollection"])
    assert (request["index"], request["who"], request["reason"], request["priority"]) == (4, "ANNA", "a crack", 3)
    assert running.client.request("withdraw", recollection=request["id"], who="BEN", why="seen") == {
        "recollection": request["id"], "state": "withdrawn"}
    with pytest.raises(CommandError, match=f"request {request['id']} is no longer open"):
        running.client.request("withdraw", recollection=request["id"])


def test_a_person_overrules_a_verdict_and_it_stays_so(running: Live) -> None:
    answer = running.client.request("override", index=BLURRED, verdict="sharp", who="ANNA", why="looks fine; see crack")
    remark = "verdict overridden by ANNA: was blurred, now sharp: looks fine, see crack"
    assert answer == {"index": BLURRED, "acquisition": "scan", "verdict": "sharp", "remark": remark}
    row = until(running, "frame", lambda header: header["index"] == BLURRED and header["verdict"] == "sharp")
    assert (row["problems"], row["provisional"]) == (remark, False)
    assert until(running, "recollect", lambda header: header["state"] == "withdrawn" and header["index"] == BLURRED)
    history = running.client.history()
    assert next(alert for alert in history["alerts"] if alert["index"] == BLURRED)["state"] == "closed"
    running.client.request("override", index=3, acquisition="scan", verdict="blurred", who="BEN")
    request = until(running, "recollect", lambda header: header["state"] == "open" and header["index"] == 3)
    assert request["who"] == ""
    alert = until(running, "alert", lambda header: header["index"] == 3)
    assert alert["rule"] == "blurred_frame"
    running.client.request("override", index=3, verdict="sharp", who="BEN", why="the wrong one")
    row = until(running, "frame", lambda header: header["index"] == 3 and "wrong" in header["problems"])
    assert row["problems"] == "verdict overridden by BEN: was blurred, now sharp: the wrong one"   # the last word alone
    assert row["revision"] >= 2


def test_frames_that_replace_what_they_cannot_are_told_so(running: Live, projections: list[Frame]) -> None:
    small = np.zeros((100, 100), np.uint16)
    running.sender.send([
        again(projections[0], 20, at=13, recollects=70), again(projections[0], 21, at=13, recollects=2),
        again(projections[0], 22, at=13, recollects=2, pixels=small),
        again(projections[0], 23, at=13, recollects=2, view="left")])
    problems = {index: until(running, "frame", lambda header, index=index: header["index"] == index)["problems"]
                for index in (20, 21, 22, 23)}
    assert problems[20] == "is to replace frame 70, which acquisition 'scan' does not have"
    assert problems[21] == "replaces frame 2, which nobody has asked for"
    assert "view 'main' began with 320 x 328" in problems[22]
    assert problems[22].endswith("does not replace frame 2: it could not be measured")
    assert "does not replace frame 2: it shows view 'left', that one 'main'" in problems[23]


def test_all_alerts_are_acknowledged_at_once(running: Live) -> None:
    waiting = [alert["id"] for alert in running.client.history()["alerts"]
               if not alert["who"] and alert["state"] != "closed"]
    assert waiting
    assert running.client.request("acknowledge", alert="all", note="night")["acknowledged"] == waiting
    alerts = [alert for alert in running.client.history()["alerts"] if alert["id"] in waiting]
    assert {(alert["who"], alert["note"]) for alert in alerts} == {("somebody", "night")}
    assert running.client.request("acknowledge", alert="all") == {"acknowledged": []}
