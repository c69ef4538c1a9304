from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from support.notices import notice
from support.waiting import wait_until

from streamer.errors import ChannelError
from streamer.notify.jsonl import LinesFile


def lines_file(path: Path | str) -> LinesFile:
    return LinesFile(str(path), severity="MINOR", interval_s=0.0)


def test_every_alert_is_a_line_and_lines_are_added(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    messenger = lines_file(path)
    messenger.check()
    assert path.read_bytes() == b""
    messenger.deliver([notice(1), notice(2, text='two "lines"\nof ä')], session="day1")
    messenger.deliver([notice(1, occasion="closed", state="closed")], session="day1")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(line["id"], line["occasion"], line["state"]) for line in lines] == [
        (1, "new", "new"), (2, "new", "new"), (1, "closed", "closed")]
    assert lines[1]["text"] == 'two "lines"\nof ä'
    assert lines[0]["session"] == "day1"


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    messenger = lines_file(path)
    messenger.deliver([notice(1)], session="s")
    path.rename(tmp_path / "alerts.old")
    messenger.deliver([notice(2)], session="s")
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [2]


@pytest.mark.parametrize("path", ["", "folder", "nowhere/alerts.jsonl", "with\0nul", "pipe"])
def test_a_path_that_cannot_be_written_is_named(tmp_path: Path, path: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")   # nobody reads it: an error, not a wait
    messenger = lines_file(f"{tmp_path}/{path}" if path else "")
    for attempt in (messenger.check, lambda: messenger.deliver([notice()], session="s")):
        with pytest.raises(ChannelError, match=r"notify\.jsonl_path"):
            attempt()


def test_a_full_disk_is_named() -> None:
    with pytest.raises(ChannelError, match="No space left"):
        lines_file("/dev/full").deliver([notice()], session="s")


def test_what_was_written_in_part_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "alerts.jsonl"
    messenger = lines_file(path)
    messenger.deliver([notice(1)], session="s")
    whole, write = path.read_bytes(), os.write

    def full_after_ten(file: int, data: bytes) -> int:
        if len(data) < 150:
            raise OSError(28, "No space left on device")
        return write(file, data[:-100])

    monkeypatch.setattr(os, "write", full_after_ten)
    with pytest.raises(ChannelError, match="No space left"):
        messenger.deliver([notice(2)], session="s")
    monkeypatch.undo()
    assert path.read_bytes() == whole
    messenger.deliver([notice(2)], session="s")
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [1, 2]


def test_a_pipe_with_a_reader_is_written(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()

    def written() -> bool:
        try:
            lines_file(pipe).deliver([notice(7)], session="s")
        except ChannelError:
            return False
        return True

    wait_until(written)
    reader.join()
    assert json.loads(got[0])["id"] == 7
