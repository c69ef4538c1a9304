"""``txm-streamer analyse`` of many recordings, and of sessions once more."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from support.acquisitions import acquisition, received
from support.waiting import wait_until

import streamer.cli
from streamer import console
from streamer.errors import SessionError
from streamer.export import summary
from streamer.journal import Batch, Journal
from streamer.records import EndOfAcquisition
from streamer.service import campaign
from streamer.service.offline import analyse
from streamer.settings import from_session, load, to_toml, update

SHAPE = (96, 112)
FAST = ("--set", "flow.enabled=false", "--set", "engine.kind=inline", "--set", "pictures.offline=none")


simulated = functools.cache(acquisition)


def write_recording(path: Path, frames: int = 4, *, seed: int = 1, blurred: tuple[int, ...] = ()) -> Path:
    made = simulated(frames, seed=seed, shape=SHAPE, blurred=blurred)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, kind in (("data", "projection"), ("data_white", "flat")):
            file[f"exchange/{name}"] = np.stack([frame.pixels for frame in made if frame.kind == kind])
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording and its session, made with settings of its own; to be read alone."""
    folder = tmp_path_factory.mktemp("made")
    path = write_recording(folder / "scan.h5", 12, seed=3, blurred=(7,))
    assert run(path, "--out", folder / "session", "--set", "blur.tolerance_px=4.0") == 0
    return folder


@pytest.fixture
def beamtime(tmp_path: Path) -> Path:
    for seed, name in enumerate(("day1/scan2.h5", "day1/scan10.h5", "day2/scan2.h5")):
        write_recording(tmp_path / "beamtime" / name, seed=seed)
    return tmp_path / "beamtime"


def run(*arguments: str | Path) -> int:
    return console.run(streamer.cli.app, "txm-streamer", ["analyse", *map(str, arguments), *FAST])


def lines(text: str) -> dict[str, list[str]]:
    return {words[0]: words[1:] for words in (line.split() for line in text.splitlines()) if words}


def facts(folder: Path) -> dict[str, object]:
    with Journal(folder) as journal:
        return journal.meta()


def break_off(folder: Path) -> None:
    """Leave a session as it is when its process was killed."""
    with h5py.File(folder / "flow.h5", "r+") as file:
        file.attrs["mark"] = 1
    with sqlite3.connect(folder / "session.sqlite") as db:
        db.execute("DELETE FROM meta WHERE key = 'complete'")
    db.close()


# a whole beamtime

def test_every_recording_gets_a_session_and_what_is_done_is_skipped(beamtime: Path, tmp_path: Path, capsys) -> None:
    assert run(beamtime, "--out", tmp_path / "out") == 0
    table = capsys.readouterr().out
    assert [line.split()[0] for line in table.splitlines()] == ["name", "day1/scan2", "day1/scan10", "day2/scan2"]
    assert all(words[0] == "6" for name, words in lines(table).items() if name != "name")
    for name in ("day1/scan2", "day1/scan10", "day2/scan2"):
        assert (tmp_path / "out" / name / "summary.json").is_file()
        assert facts(tmp_path / "out" / name)["complete"] is True
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("summary.json")}
    assert run(beamtime, "--out", tmp_path / "out") == 0
    assert capsys.readouterr().out.count("skipped: done") == 3
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("summary.json")}


def test_what_fails_is_named_at_the_end_and_the_others_have_their_turn(beamtime: Path, tmp_path: Path, capsys) -> None:
    (beamtime / "day1" / "a_broken.h5").write_text("no HDF5")
    assert run(beamtime, "--out", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert lines(said.out)["day1/a_broken"][0] == "failed"
    assert len(list((tmp_path / "out").rglob("summary.json"))) == 3
    assert "day1/a_broken failed: " in said.err
    assert "is of no known format" in said.err
    assert "Traceback" not in said.err


def test_what_was_broken_off_is_begun_anew_and_what_users_put_there_stays(beamtime: Path, tmp_path: Path, capsys
                                                                          ) -> None:
    run(beamtime, "--out", tmp_path / "out")
    folder = tmp_path / "out" / "day1" / "scan10"
    break_off(folder)
    (folder / "mine.txt").write_text("kept")
    capsys.readouterr()
    assert run(beamtime, "--out", tmp_path / "out") == 0
    assert capsys.readouterr().out.count("skipped: done") == 2
    assert facts(folder)["complete"] is True
    with h5py.File(folder / "flow.h5") as file:
        assert "mark" not in file.attrs
    assert (folder / "mine.txt").read_text() == "kept"


def test_a_session_at_work_is_not_begun_anew(beamtime: Path, tmp_path: Path, capsys) -> None:
    run(beamtime, "--out", tmp_path / "out")
    folder = tmp_path / "out" / "day1" / "scan2"
    break_off(folder)
    with (folder / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run(beamtime, "--out", tmp_path / "out") == 1
    assert "is being written by another process" in capsys.readouterr().err
    assert (folder / "frames.csv").is_file()


def test_files_that_are_missing_after_a_full_disk_are_written(beamtime: Path, tmp_path: Path, capsys) -> None:
    run(beamtime, "--out", tmp_path / "out")
    (tmp_path / "out" / "day1" / "scan2" / "summary.json").unlink()
    assert run(beamtime, "--out", tmp_path / "out") == 0
    assert capsys.readouterr().out.count("skipped: done") == 3
    assert (tmp_path / "out" / "day1" / "scan2" / "summary.json").is_file()


def meddle(folder: Path, **changes: object) -> None:
    """Write into a session that has ended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "_is_begun", lambda *_: True)
        with Journal(folder, create=True, resume=True) as journal:
            journal.write(Batch(**changes))


@pytest.mark.parametrize(("change", "options", "said"), [
    (lambda folder, _: meddle(folder, state={"counters": b"{}"}), (),
     "holds a session that was taken live; choose another --out"),
    (lambda folder, _: meddle(folder, facts={"recording": {"path": "/other.h5"}}), (), "was made of /other.h5"),
    (lambda _, recording: os.utime(recording, (1, 1)), (), "has changed since"),
    (lambda *_: None, ("--set", "blur.tolerance_px=1.5"), "was analysed with other settings"),
])
def test_what_is_there_is_never_written_over(tmp_path: Path, capsys, change, options, said: str) -> None:
    recording, other = write_recording(tmp_path / "scan.h5", 2), write_recording(tmp_path / "other.h5", 2, seed=2)
    assert run(recording, other, "--out", tmp_path / "out") == 0
    change(tmp_path / "out" / "scan", recording)
    before = (tmp_path / "out" / "scan" / "frames.csv").stat().st_mtime_ns
    assert run(recording, other, "--out", tmp_path / "out", *options) == 1
    assert said in capsys.readouterr().err
    assert (tmp_path / "out" / "scan" / "frames.csv").stat().st_mtime_ns == before


def test_inputs_of_one_name_go_where_they_came_from(beamtime: Path, tmp_path: Path) -> None:
    assert run(beamtime / "day1" / "scan2.h5", beamtime / "day2", "--out", tmp_path / "one") == 0
    assert sorted(str(path.parent.relative_to(tmp_path / "one")) for path in (tmp_path / "one").rglob("summary.json")
                  ) == ["day2/scan2", "scan2"]
    assert run(*sorted(beamtime.glob("*/scan2.h5")), "--out", tmp_path / "two") == 0
    assert sorted(str(path.parent.relative_to(tmp_path / "two")) for path in (tmp_path / "two").rglob("summary.json")
                  ) == ["day1/scan2", "day2/scan2"]


def test_images_in_folders_and_flats_for_all(tmp_path: Path) -> None:
    frames = acquisition(4, seed=4, shape=SHAPE)
    for name in ("scan1", "scan2"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for frame in frames[2:]:
            tifffile.imwrite(tmp_path / "data" / name / f"i{frame.index}.tif", frame.pixels)
    tifffile.imwrite(tmp_path / "data" / "flats.tif", np.stack([frame.pixels for frame in frames[:2]]),
                     photometric="minisblack")
    assert run(tmp_path / "data", "--out", tmp_path / "out", "--flat", tmp_path / "data" / "flats.tif") == 0
    with Journal(tmp_path / "out" / "scan2") as journal:
        assert summary(journal)["counts"]["kinds"] == {"flat": 2, "projection": 4}


@pytest.mark.parametrize(("arguments", "status", "said"), [
    (["{data}", "--out", "{data}/out"], 2, "lies in"),
    (["{made}/session", "--out", "{made}/session/again"], 2, "lies in"),
    (["{data}/scan.h5", "{data}/scan.h5", "--out", "{tmp}/o"], 1, "is named twice; name it once"),
    (["{data}/scan.h5", "{data}", "--out", "{tmp}/o"], 1, "is named twice; name it once"),
    (["{data}/empty", "--out", "{tmp}/o"], 1, "it holds notes.txt"),
    (["{data}/empty", "{data}/scan.h5", "--out", "{tmp}/o"], 1, "it holds notes.txt"),
    (["{data}/scan.h5", "--out", "{tmp}/o", "--recording", "x.h5"], 2, "name one session"),
    (["{made}/session", "{data}/scan.h5", "--out", "{tmp}/o", "--recording", "x.h5"], 2, "name one session"),
    (["{data}", "--out", "{tmp}/o", "--set", "blur.tolerance=1"], 2, "did you mean 'blur.tolerance_px'"),
    (["{made}/session", "--out", "{tmp}/o", "--settings", "{data}/empty/notes.txt"], 2, "is not valid TOML"),
    (["{data}", "--out", "{data}/scan.h5/out"], 2, "lies in"),
    (["{data}/scan.h5", "{made}/scan.h5", "--out", "{data}/scan.h5"], 1, "cannot be written"),
])
def test_bad_usage_is_one_line_and_leaves_nothing(made: Path, tmp_path: Path, capsys, arguments: list[str], status: int,
                                                  said: str) -> None:
    data = tmp_path / "data"
    (data / "empty").mkdir(parents=True)
    (data / "empty" / "notes.txt").write_text("= no TOML")
    write_recording(data / "scan.h5", 2)
    assert run(*(argument.format(data=data, made=made, tmp=tmp_path) for argument in arguments)) == status
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "o").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_told(beamtime: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    assert run(beamtime, "--out", tmp_path / "out") == 1
    assert "cannot be written: Permission denied" in capsys.readouterr().err


@pytest.fixture
def slow_process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    write_recording(tmp_path / "data" / "scan1.h5", 3)
    path = tmp_path / "data" / "scan2.h5"
    frames = np.stack([frame.pixels for frame in acquisition(20, seed=6, shape=SHAPE)[2:]])
    with h5py.File(path, "w") as file:
        file["exchange/data"] = np.concatenate([frames] * 200)   # more than can be analysed before Ctrl-C
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "streamer.cli", "analyse", str(tmp_path / "data"), "--out", str(tmp_path / "out"),
         *FAST], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(slow_process: subprocess.Popen[str], tmp_path: Path) -> None:
    folder = tmp_path / "out" / "scan2"

    def under_way() -> bool:
        try:
            with Journal(folder) as journal:
                return bool(journal.newest_rows(1))
        except SessionError:   # not yet
            return False

    wait_until(under_way, timeout_s=60.0)
    slow_process.send_signal(signal.SIGINT)
    out, error = slow_process.communicate(timeout=60.0)
    assert slow_process.returncode == 1
    assert "interrupted with 1 of 2 recordings to go; the same command goes on" in error
    assert "Traceback" not in error
    assert lines(out).keys() == {"name", "scan1"}
    assert "complete" not in facts(folder)
    assert (folder / "frames.csv").is_file()   # what was measured is kept


# a session once more

def test_a_session_is_made_again_with_its_settings_and_says_what_changed(made: Path, tmp_path: Path, capsys) -> None:
    assert run(made / "session", "--out", tmp_path / "new", "--set", "blur.tolerance_px=1.0") == 0
    said = capsys.readouterr().out
    assert f"compared with {made / 'session'}:" in said
    assert "12 frames compared" in said
    assert "sharp -> undecided (" in said
    assert facts(tmp_path / "new")["reanalysis_of"] == str(made / "session")
    assert facts(tmp_path / "new")["recording"] == {"path": str(made / "scan.h5")}


def test_without_changes_nothing_changes(made: Path, tmp_path: Path, capsys) -> None:
    assert run(made / "session", "--out", tmp_path / "new") == 0
    assert "verdicts: the same\ndrift: the same for 12 frames\nalerts: the same" in capsys.readouterr().out
    with Journal(tmp_path / "new") as journal:
        settings, left_out = from_session(journal.settings()[1])
    assert (settings.blur.tolerance_px, left_out) == (4.0, [])


def test_many_sessions_are_made_again_under_their_names(made: Path, tmp_path: Path, capsys) -> None:
    for name in ("one", "two"):
        shutil.copytree(made / "session", tmp_path / "before" / name)
    with Journal(tmp_path / "before" / "three", create=True) as journal:
        journal.write(Batch(facts={"input": "tcp://127.0.0.1:5555"}, settings=[(0, to_toml(), "start")]))
    assert run(*sorted((tmp_path / "before").iterdir()), "--out", tmp_path / "after") == 1
    said = capsys.readouterr()
    assert {path.parent.name for path in (tmp_path / "after").rglob("summary.json")} == {"one", "two"}
    assert "three failed: session" in said.err
    assert "was taken live" in said.err


def test_a_recording_that_was_moved_is_named(made: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(made / "session", tmp_path / "session")
    moved = shutil.copy(made / "scan.h5", tmp_path / "moved.h5")
    meddle(tmp_path / "session", facts={"recording": {"path": "/other.h5"}})
    assert run(tmp_path / "session", "--out", tmp_path / "new") == 1
    assert "was made of /other.h5, which is not there any more; name it with --recording" in capsys.readouterr().err
    assert run(tmp_path / "session", "--out", tmp_path / "new", "--recording", moved) == 0
    assert facts(tmp_path / "new")["recording"] == {"path": str(moved)}


def test_flats_that_are_gone_are_missed(made: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(made / "session", tmp_path / "session")
    meddle(tmp_path / "session", facts={"recording": {"path": str(made / "scan.h5"), "flat": "/gone.tif"}})
    assert run(tmp_path / "session", "--out", tmp_path / "new") == 1
    assert "was made of /gone.tif, which is not there any more; name it with --flat" in capsys.readouterr().err


def test_a_live_session_is_made_again_from_what_was_written(made: Path, tmp_path: Path, capsys) -> None:
    live = tmp_path / "live"
    with Journal(live, create=True) as journal, Journal(made / "session") as other:
        toml = to_toml(load(assignments=["blur.tolerance_px=4.0", "notify.webhook_url=https://secret@host/x"]),
                       masked=True)
        rows = [(number, row) for number, row in other.rows()]
        journal.write(Batch(rows=rows, facts={"input": "tcp://127.0.0.1:5555"}, settings=[(0, toml, "start")],
                            state={"counters": b"{}"}))
    assert run(live, "--out", tmp_path / "new") == 1
    assert "was taken live and keeps no pictures" in capsys.readouterr().err
    assert run(live, "--out", tmp_path / "new", "--recording", made / "scan.h5") == 0
    assert "verdicts: the same" in capsys.readouterr().out


# what a session remembers

def test_only_what_was_read_to_its_end_is_complete(tmp_path: Path) -> None:
    def broken() -> Iterator[object]:
        yield from received(acquisition(3, seed=2, shape=SHAPE))
        raise OSError("the disk is gone")

    settings = load(assignments=FAST[1::2])
    with pytest.raises(OSError, match="the disk is gone"):
        analyse(broken(), settings, tmp_path / "broken")
    assert "complete" not in facts(tmp_path / "broken")
    assert facts(tmp_path / "broken")["ended_at"] > 0
    analyse([*received(acquisition(3, seed=2, shape=SHAPE)), EndOfAcquisition(acquisition="scan")], settings,
            tmp_path / "whole")
    assert facts(tmp_path / "whole")["complete"] is True


def test_settings_of_another_version_are_taken_as_far_as_they_are_known() -> None:
    text = to_toml(update(load(), {"blur.tolerance_px": 7.0})).replace("[blur]", "[blur]\nof_tomorrow = 1")
    settings, left_out = from_session(text)
    assert (settings.blur.tolerance_px, left_out) == (7.0, ["blur.of_tomorrow"])


def test_secrets_of_a_session_are_left_out() -> None:
    given = update(load(), {"notify.webhook_url": "https://host/key"})
    assert from_session(to_toml(given, masked=True)) == (load(), [])


def test_the_table_is_aligned() -> None:
    text = campaign.table([campaign.Result("a", "done", 12, {"sharp": 10, "blurred": 2}, 3.21),
                           campaign.Result("day1/long", "failed", reason="gone"),
                           campaign.Result("b", "skipped", 3)])
    assert text.splitlines() == [
        "name       frames  verdicts             seconds",
        "a              12  10 sharp, 2 blurred  3.2",
        "day1/long          failed               0.0",
        "b               3  none                 skipped: done"]
