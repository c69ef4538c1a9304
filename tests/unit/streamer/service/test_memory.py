from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support.waiting import wait_until

from streamer.errors import SessionError
from streamer.records import Frame
from streamer.service import frame_log
from streamer.service.frame_log import Entry, FrameLog, read_log
from streamer.service.memory import Kept, Memory
from streamer.service.state_files import StateFiles


def _frame(index: int) -> Frame:
    pixels = np.random.default_rng(index).integers(0, 1000, (64, 70)).astype(np.uint16)
    return Frame(pixels=pixels, index=index, acquisition="scan", view="main")


def _take(memory: Memory, indices: range) -> None:
    for index in indices:
        memory.frame(_frame(index), _frame(index))
        memory.finished()


def _same(one: Frame | None, other: Frame) -> bool:
    return one is not None and np.array_equal(one.pixels, other.pixels) and all(
        getattr(one, name) == getattr(other, name) for name in one.__struct_fields__ if name != "pixels")


def test_entries_come_back(tmp_path: Path) -> None:
    raw = msgspec.structs.replace(_frame(5), index=-1, acquisition="", exposed_at=1.5, recollects=3, expected=10)
    log = FrameLog(tmp_path / "0.log", [Entry(1, frame=_frame(4), sent=_frame(4))])
    log.append(Entry(2, frame=_frame(5), sent=raw))
    log.append(Entry(3, settings="a = 1"))
    log.append(Entry(4, view="left"))
    assert log.bytes == (tmp_path / "0.log").stat().st_size
    log.close()
    one, two, three, four = read_log(tmp_path / "0.log")
    assert (one.number, two.number) == (1, 2)
    assert _same(one.frame, _frame(4))
    assert _same(two.frame, _frame(5))
    assert _same(two.sent, raw)
    assert (three, four) == (Entry(3, settings="a = 1"), Entry(4, view="left"))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64, ">u2"])
def test_pixels_of_all_kinds_come_back(tmp_path: Path, dtype: Any) -> None:
    frame = msgspec.structs.replace(_frame(1), pixels=_frame(1).pixels[::2, ::-1].astype(dtype))
    log = FrameLog(tmp_path / "0.log")
    log.append(Entry(1, frame=frame, sent=frame))
    log.close()
    (entry,) = read_log(tmp_path / "0.log")
    assert entry.frame is not None
    assert entry.frame.pixels.dtype == frame.pixels.dtype
    np.testing.assert_array_equal(entry.frame.pixels, frame.pixels)


@pytest.mark.parametrize("left", [0.999, 0.6, 0.501, 0.5])
def test_a_log_that_was_cut_is_read_as_far_as_it_goes(tmp_path: Path, left: float) -> None:
    log = FrameLog(tmp_path / "0.log")
    for number in (1, 2):
        log.append(Entry(number, frame=_frame(number), sent=_frame(number)))
    log.close()
    data = (tmp_path / "0.log").read_bytes()
    (tmp_path / "0.log").write_bytes(data[:int(left * len(data))])
    assert [entry.number for entry in read_log(tmp_path / "0.log")] == [1]


def test_pixels_that_never_reached_the_disk_end_the_log(tmp_path: Path) -> None:
    log = FrameLog(tmp_path / "0.log")
    log.append(Entry(1, frame=_frame(1), sent=_frame(1)))
    log.close()
    data = bytearray((tmp_path / "0.log").read_bytes())
    data[-8000:] = bytes(8000)
    (tmp_path / "0.log").write_bytes(data)
    assert not list(read_log(tmp_path / "0.log"))


def test_what_was_kept_and_what_came_since_is_read(tmp_path: Path) -> None:
    memory = Memory(tmp_path, every=4)
    memory.start("s0", lambda: {"n": 0})
    _take(memory, range(3))
    assert not memory.due
    _take(memory, range(3, 5))
    wait_until(lambda: memory.due)
    memory.keep("s1", lambda: {"n": np.full(20_000, 5)})
    _take(memory, range(5, 7))
    memory.settings("s2")
    memory.reference("main")
    wait_until(lambda: not (tmp_path / "state" / "0.log").exists())
    kept = Memory(tmp_path).read()   # while the other is still at it
    assert (kept.settings, kept.position, kept.pipeline["n"][0]) == ("s1", 5, 5)
    assert [entry.number for entry in kept.entries] == [6, 7, 8, 9]
    assert _same(kept.entries[1].frame, _frame(6))
    assert (kept.entries[2].settings, kept.entries[3].view) == ("s2", "main")
    assert memory.done == memory.logged == 9
    memory.close()


def test_killed_right_after_the_start_there_is_something_to_go_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, write = Memory(tmp_path), StateFiles.write
    monkeypatch.setattr(StateFiles, "write", lambda *given: time.sleep(0.2) or write(*given))   # a slow disk
    memory.start("s0", lambda: {"n": 7})
    kept = Memory(tmp_path).read()
    assert (kept.settings, kept.position, kept.pipeline["n"]) == ("s0", 0, 7)
    memory.close()


def test_killed_while_the_state_is_written_the_one_before_and_all_since_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(tmp_path, every=2)
    memory.start("", lambda: {"n": 0})
    _take(memory, range(3))
    wait_until(lambda: memory.due)
    memory._writer.shutdown()   # what is handed to it now is never written
    with monkeypatch.context() as patch:
        patch.setattr(memory._writer, "submit", lambda *_: None)
        memory.keep("", lambda: {"n": 3})
        _take(memory, range(3, 5))
    kept = Memory(tmp_path).read()
    assert (kept.position, kept.pipeline["n"]) == (0, 0)
    assert [entry.number for entry in kept.entries] == [1, 2, 3, 4, 5]
    memory.close()


def test_what_was_not_recorded_is_logged_anew_under_its_number(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.start("", lambda: {"n": 0})
    _take(memory, range(5))
    memory.close()
    kept = Memory(tmp_path).read()
    again = Memory(tmp_path)
    again.start("", lambda: {"n": 3}, done=3, entries=kept.entries[3:])
    assert (again.done, again.logged) == (3, 5)
    again.frame(_frame(9), _frame(9))
    again.close()
    kept = Memory(tmp_path).read()
    assert kept.position == 3
    assert [(entry.number, entry.frame and entry.frame.index) for entry in kept.entries] == [(4, 3), (5, 4), (6, 9)]


def test_a_later_log_knows_better(tmp_path: Path) -> None:
    """Killed again before the new state was written: what the first streamer had not recorded is there once."""
    memory = Memory(tmp_path)
    memory.start("", lambda: {"n": 0})
    _take(memory, range(5))
    memory.close()
    entries = list(read_log(tmp_path / "state" / "0.log"))
    FrameLog(tmp_path / "state" / "3.log", [entries[3], Entry(5, frame=_frame(50), sent=_frame(50))]).close()
    kept = Memory(tmp_path).read()
    assert [(entry.number, entry.frame and entry.frame.index) for entry in kept.entries] == [
        (1, 0), (2, 1), (3, 2), (4, 3), (5, 50)]


def test_what_is_left_of_another_session_does_not_get_in(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    FrameLog(tmp_path / "state" / "2.log", [Entry(3, frame=_frame(90), sent=_frame(90))]).close()
    memory = Memory(tmp_path)
    memory._files.write(7, {"another": "session"})
    memory.start("", lambda: {"n": 0})
    _take(memory, range(4))
    memory.close()
    kept = Memory(tmp_path).read()
    assert [entry.frame and entry.frame.index for entry in kept.entries] == [0, 1, 2, 3]


def test_a_full_disk_is_told_and_a_new_state_closes_the_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(tmp_path, every=1000)
    memory.start("", lambda: {"n": 0})
    _take(memory, range(2))
    with monkeypatch.context() as patch:
        patch.setattr(frame_log.os, "writev", _full)
        _take(memory, range(2, 4))
        assert "No space left" in memory.problem
        assert (memory.done, memory.logged) == (4, 4)
    _take(memory, range(4, 5))
    kept = Memory(tmp_path).read()
    assert [entry.number for entry in kept.entries] == [1, 2]   # and nothing that would not follow
    memory._not_before = 0.0
    assert memory.due
    memory.keep("", lambda: {"n": 5})
    _take(memory, range(5, 6))
    memory.close()
    assert memory.problem == ""
    kept = Memory(tmp_path).read()
    assert (kept.position, [entry.number for entry in kept.entries]) == (5, [6])


def _full(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_a_state_that_cannot_be_written_leaves_the_log_going(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(tmp_path, every=2)
    memory.start("", lambda: {"n": 0})
    _take(memory, range(3))
    wait_until(lambda: memory.due)
    with monkeypatch.context() as patch:
        patch.setattr(memory._files, "write", _full)
        memory.keep("", lambda: {"n": 3})
        wait_until(lambda: memory.problem)
    _take(memory, range(3, 5))
    kept = Memory(tmp_path).read()
    assert (kept.position, len(kept.entries)) == (0, 5)
    memory.close()


def test_nothing_and_nonsense_are_named(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="no state of the analysis"):
        Memory(tmp_path).read()
    memory = Memory(tmp_path)
    memory.start("", lambda: {"n": 0})
    memory.close()
    memory._files.write(3, {"format": 1, "version": "0.0.1", "settings": "", "pipeline": {}})
    with pytest.raises(SessionError, match=r"txm-live 0\.0\.1"):
        Memory(tmp_path).read()
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "state").write_text("a file")
    with pytest.raises(SessionError, match="cannot be written"):
        Memory(tmp_path).start("", lambda: {"n": 0})


def test_the_disk_is_not_filled_while_frames_go_on(tmp_path: Path) -> None:
    memory = Memory(tmp_path, every=8)
    memory.start("", lambda: {"n": 0})
    largest = 0
    for index in range(100):
        _take(memory, range(index, index + 1))
        memory._not_before = 0.0
        if memory.due:
            memory.keep("", lambda: {"n": np.full(20_000, index)})   # noqa: B023
        largest = max(largest, sum(map(_bytes, (tmp_path / "state").iterdir())))
        if memory._writing is not None:
            memory._writing.result()
    memory.close()
    assert largest < 25 * 9000 + 3 * 160_000
    assert isinstance(Memory(tmp_path).read(), Kept)


def _bytes(path: Path) -> int:
    """Return the size of a file that another thread may be moving away."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
