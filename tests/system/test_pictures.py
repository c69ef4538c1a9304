"""Pictures, thumbnails and fields of a running streamer, over real sockets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support.acquisitions import acquisition, received
from support.live import Live, live
from support.waiting import wait_until

from streamer.errors import CommandError
from streamer.journal import Journal
from streamer.records import Frame
from streamer.service import answers
from streamer.service.offline import analyse
from streamer.settings import load, update
from streamer.tracking.material import Analyst
from streamer.wire import Result, decode_flow


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return acquisition(5, seed=31, blurred=(3,))


def _thumbnails(running: Live, count: int) -> list[dict[str, Any]]:
    wait_until(lambda: len(running.client.thumbnails()[0]) >= count, what=f"{count} thumbnails")
    return running.client.thumbnails()[0]


def test_every_frame_can_be_looked_at_again(frames: list[Frame], tmp_path: Path) -> None:
    projections = [frame for frame in frames if frame.kind == "projection"]
    with live(tmp_path, "flow.enabled=false") as running:
        for frame in frames:   # one by one, so that no picture is skipped
            running.sender.send([frame])
            running.collect("frame", 1)
        small = _thumbnails(running, len(projections))
        assert [one["index"] for one in small] == [frame.index for frame in projections]
        assert all(one["data"].startswith(b"\xff\xd8") for one in small)
        shown = running.client.picture(projections[1].index)
        raw = running.client.picture(projections[1].index, projections[1].acquisition, "raw")
    assert shown.view == "main"
    assert shown.pixels.shape == raw.pixels.shape == projections[1].pixels.shape
    pixels = projections[1].pixels.astype(float)
    inside = (pixels > raw.offset) & (pixels < raw.offset + 255 * raw.scale)
    error = raw.offset + raw.scale * raw.pixels - pixels
    assert np.sqrt(np.mean(error[inside] ** 2)) < 4 * raw.scale
    assert abs(float(np.median(shown.offset + shown.scale * shown.pixels)) - 1.0) < 0.5   # transmission, not counts


def test_bad_questions_get_clear_answers(frames: list[Frame], tmp_path: Path) -> None:
    with live(tmp_path, "flow.enabled=false") as running:
        ask = running.client.request
        with pytest.raises(CommandError, match=r"holds no frame 1$"):
            ask("picture", index=1)
        running.sender.send(frames)
        running.collect("frame", len(frames))
        _thumbnails(running, 5)
        for op, arguments, words in (
            ("picture", {}, "index is None"), ("picture", {"index": "1"}, "index is '1'"),
            ("picture", {"index": True}, "index is True"), ("picture", {"index": 2**70}, f"index is {2**70}"),
            ("picture", {"index": 99}, "no frame 99"), ("picture", {"index": 1, "kind": "x-ray"}, "kind is 'x-ray'"),
            ("picture", {"index": 1, "acquisition": 3}, "acquisition is 3"),
            ("picture", {"index": 1, "acquisition": "other"}, "no frame 1 of 'other'"),
            ("picture", {"index": 0, "acquisition": "scan/flat"}, "is a flat"),
            ("thumbnails", {"since": -1}, "since -1"), ("thumbnails", {"since": None}, "since None"),
            ("thumbnails", {"limit": 0}, "limit 0"), ("thumbnails", {"limit": 10**6}, "from 1 to 1000"),
            ("flow", {"index": 1.5}, "index is 1.5"), ("flow", {"index": 99}, "no frame 99"),
            ("flow", {"index": 1}, "frame 1 of 'scan' has no displacement field"),
            ("flow", {"index": 0, "acquisition": "scan/flat"}, "only projections"),
            ("flow", {}, "no field has been analysed"), ("flow", {"view": 3}, "view is 3"),
            ("flow", {"view": "v"}, "of view 'v'"),
        ):
            with pytest.raises(CommandError, match=re.escape(words)):
                ask(op, **arguments)
        page = ask("thumbnails", since=0, limit=2)
        assert (len(page["thumbnails"]), page["more"]) == (2, True)
        assert ask("thumbnails", since=page["next"], limit=3)["more"] is False


def test_a_session_that_keeps_no_pictures_says_so(frames: list[Frame], tmp_path: Path) -> None:
    with live(tmp_path, "flow.enabled=false", "pictures.kept_mb=0") as running:
        running.sender.send(frames)
        running.collect("frame", len(frames))
        with pytest.raises(CommandError, match=r"pictures\.kept_mb is 0"):
            running.client.picture(1)
        assert running.client.thumbnails() == ([], 0)
    assert not (tmp_path / "pictures.sqlite").exists()


def test_fields_come_with_what_they_say_of_the_material(frames: list[Frame], tmp_path: Path) -> None:
    with live(tmp_path, "flow.analysis_s=3600") as running:
        seen: dict[int, Result] = {}
        images: list[Result] = []
        running.sender.send(frames[:4])   # flats and two projections
        while 1 not in seen:
            result = running.client.receive(20.0)
            assert result is not None
            if result.topic == "flow":
                seen[result.header["index"]] = result
            images += [result] if result.topic == "image" else []
        running.sender.send(frames[4:])
        running.collect("flow", 1)
        analysed = next(result for result in seen.values() if result.header["analysis"] is not None)
        grid = analysed.arrays["valid"].shape
        assert analysed.arrays["strain"].shape == (len(analysed.header["strain_planes"]), *grid)
        assert analysed.arrays["regions"].shape == grid
        asked = running.client.flow(analysed.header["index"])
        assert msgspec.json.encode(asked.analysis) == msgspec.json.encode(analysed.header["analysis"])
        for name in ("displacement_px", "valid", "sigma_px", "strain", "regions"):
            np.testing.assert_array_equal(getattr(asked, name), analysed.arrays[name])
        newest = decode_flow(running.client.request("flow"))
        assert (newest.index, newest.view) == (asked.index, "main")
        wait_until(lambda: _has_field(running, 4), what="the field of frame 4")
        later = running.client.flow(4, "scan")   # not analysed when it came: what the field tells is worked out now
        assert later.strain is not None
        assert later.regions is not None
        assert later.analysis is not None
        assert later.analysis["regions"]
        assert "particles" not in later.analysis
    assert images[0].arrays["raw"].dtype == np.uint16
    assert images[0].arrays["raw"].shape == images[0].arrays["image"].shape
    assert images[0].header["raw_scale"] == 1.0
    with Journal(tmp_path) as journal:
        kept, = journal.analysed()
        assert kept.index == asked.index
        assert list(journal.analysed(view="other")) == []


def _has_field(running: Live, index: int) -> bool:
    try:
        return running.client.flow(index).index == index
    except CommandError:
        return False


def test_a_recording_keeps_what_the_setting_says(frames: list[Frame], tmp_path: Path) -> None:
    kept = {}
    for choice in ("none", "thumbnails", "all"):
        settings = update(load(), {"pictures.offline": choice, "flow.enabled": False})
        analyse(received(frames), settings, tmp_path / choice)
        with Journal(tmp_path / choice) as journal:
            page = answers.thumbnails(journal, {})
            try:
                kept[choice] = len(page["thumbnails"]), answers.picture(journal, {"index": 2, "kind": "raw"})["kind"]
            except CommandError as error:
                kept[choice] = len(page["thumbnails"]), str(error)
    assert kept["none"][0] == 0
    assert "was made of a recording" in kept["none"][1]
    assert kept["thumbnails"][0] == 5
    assert "recording has it" in kept["thumbnails"][1]
    assert kept["all"] == (5, "raw")


def test_a_recording_has_its_newest_field_analysed(frames: list[Frame], tmp_path: Path) -> None:
    analyse(received(frames), load(), tmp_path)
    with Journal(tmp_path) as journal:
        field, = journal.analysed()
        assert field.index == 4
        assert field.analysis is not None
        assert {"regions", "particles", "representative_volume"} <= set(field.analysis)
        assert journal.row(4, acquisition="scan").problems == ""   # type: ignore[union-attr]


def test_an_analysis_that_fails_costs_no_field(
    frames: list[Frame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("made to fail")

    monkeypatch.setattr(Analyst, "analyse", fail)
    analyse(received(frames), load(), tmp_path)
    assert "could not be analysed" in caplog.text
    with Journal(tmp_path) as journal:
        assert len(list(journal.flows())) == 4
        row = journal.row(4)
        assert row is not None
        assert "made to fail" in row.problems
