"""One recording after the other into sessions: a whole beamtime, gone on with after an end, or one session again.

What is done is left alone, what was broken off is begun anew, and what fails does not keep the others from their turn.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from streamer.changes import Changes, changes
from streamer.errors import CommandError, SessionError, TxmError
from streamer.export import export_session
from streamer.formats import Recording, open_recording
from streamer.formats.images import list_images
from streamer.journal import Journal
from streamer.service.offline import analyse
from streamer.service.pictures import Origin, origin_of
from streamer.service.recordings import Found, find_recordings, is_recording, is_session, session_names
from streamer.settings import Settings, from_session, to_toml, update
from streamer.sources.recording import items_of

_MADE = ("session.sqlite", "session.sqlite-wal", "session.sqlite-shm", "pictures.sqlite", "pictures.sqlite-wal",
         "pictures.sqlite-shm", "frames.csv", "alerts.csv", "recollections.csv", "flow.h5", "summary.json")
"""What `analyse` makes; nothing else is ever removed."""
_LAST_MADE = "summary.json"

State = Literal["done", "skipped", "failed"]
_Item = TypeVar("_Item")


class Wanted(NamedTuple):
    """What is asked for, alike for all recordings."""

    settings: Mapping[str, Any]
    """By dotted key; the others are those of the session of before, else the defaults."""
    recording: Path | None = None
    """Where the frames of a session are, in place of what it names."""
    flat: Path | None = None
    dark: Path | None = None
    dataset: str | None = None

    @property
    def references(self) -> list[Path]:
        """Flats and darks, which are no recordings."""
        return [path for path in (self.flat, self.dark) if path is not None]


class Work(NamedTuple):
    """A recording and the session that it is to become."""

    name: str
    origin: Origin
    settings: Settings
    folder: Path
    """Of the session to be made."""
    before: Path | None = None
    """The session that is made again."""
    remarks: tuple[str, ...] = ()

    @property
    def recording(self) -> dict[str, str]:
        """The files, named so that they are found from anywhere."""
        files = {name: str(path.absolute()) for name, path in self._paths()}
        return files | ({"dataset": self.origin.dataset} if self.origin.dataset else {})

    def stamps(self) -> dict[str, list[float]]:
        """Return bytes and time of change (Unix s) of each file; of a folder, of its images together."""
        return {name: _stamp(path) for name, path in self._paths()}

    def open(self) -> Recording:
        """Open the recording; raises RecordingError."""
        return open_recording(self.origin.path, flat=self.origin.flat, dark=self.origin.dark,
                              dataset=self.origin.dataset)

    def _paths(self) -> Iterator[tuple[str, Path]]:
        for name in ("path", "flat", "dark"):
            path = getattr(self.origin, name)
            if path is not None:
                yield name, path


class Result(NamedTuple):
    """What became of a recording."""

    name: str
    state: State
    frames: int = 0
    """Flats and darks included."""
    verdicts: Mapping[str, int] = {}
    seconds: float = 0.0
    reason: str = ""
    """Why it failed."""


def work_of(path: Path, folder: Path, wanted: Wanted, *, name: str = "") -> Work:
    """Return what is to be done with a recording, or with the one that a session was made of.

    Raises
    ------
    CommandError, SessionError
        If a session cannot be read, or does not tell its recording.
    SettingsError
        If a setting is not allowed.
    """
    if not is_session(path):
        origin = Origin(path, wanted.flat, wanted.dark, wanted.dataset)
        return Work(name or path.name, origin, update(Settings(), wanted.settings), folder)
    with Journal(path) as journal:
        settings, left_out = from_session(journal.settings()[1])
    origin = origin_of(path, recording=wanted.recording, flat=wanted.flat, dark=wanted.dark, dataset=wanted.dataset)
    remarks = () if not left_out else (
        f"{path}: settings that this version does not know or allow have their defaults: {', '.join(left_out)}",)
    return Work(name or path.name, origin, update(settings, wanted.settings), folder, path, remarks)


def works_of(inputs: Sequence[Path], out: Path, wanted: Wanted) -> list[Work | Result]:
    """Return what is to be done with many inputs: recordings, sessions, and folders that hold recordings.

    A session whose recording cannot be told has failed already.

    Parameters
    ----------
    inputs : sequence of Path
    out : Path
        The sessions go here, each under the name of its recording.
    wanted : Wanted

    Raises
    ------
    CommandError, RecordingError, SettingsError
        If a folder holds no recordings, one thing is named twice, or a setting is not allowed.
    """
    found: list[Found] = []
    for path in inputs:
        if is_session(path) or is_recording(path, leave_out=wanted.references):
            found.append(Found(path, Path(path.resolve().name)))
        else:
            inside = find_recordings(path, leave_out=wanted.references)
            top = Path(path.resolve().name) if len(inputs) > 1 else Path()
            found += [Found(child, top / name) for child, name in inside]
    counts = Counter(path.resolve() for path, _ in found)
    twice = next((path for path, count in counts.items() if count > 1), None)
    if twice is not None:
        raise CommandError(f"{twice} is named twice; name it once")
    if len({name for _, name in found}) < len(found):   # such as day1/scan.h5 and day2/scan.h5
        base = Path(os.path.commonpath([path.resolve().parent for path, _ in found]))
        found = [Found(path, path.resolve().relative_to(base)) for path, _ in found]
    update(Settings(), wanted.settings)   # what is wrong for all is said at once
    return [_work_or_failure(path, out / name, wanted, name=str(name))
            for (path, _), name in zip(found, session_names(found), strict=True)]


def _work_or_failure(path: Path, folder: Path, wanted: Wanted, *, name: str) -> Work | Result:
    try:
        return work_of(path, folder, wanted, name=name)
    except (TxmError, OSError) as error:
        return Result(name, "failed", reason=str(error))


def total_of(work: Work) -> int | Result:
    """Return how many frames there are to analyse, or what became of the recording already."""
    try:
        if _left_of(work) == "done":
            return Result(work.name, "skipped", *_outcome(work.folder))
        with work.open() as recording:
            return recording.total
    except (TxmError, OSError) as error:
        return Result(work.name, "failed", reason=str(error))


def carry_out(work: Work, *, on_frame: Callable[[], None], stopped: Callable[[], bool],
              on_open: Callable[[Recording], None] | None = None) -> None:
    """Analyse a recording.

    Parameters
    ----------
    work : Work
    on_frame : callable
        Called for every frame, and once for the end.
    stopped : callable
        Asked before every frame.
    on_open : callable, optional
        Called once before the first frame.

    Raises
    ------
    RecordingError, SessionError, SettingsError
        If it cannot be read, the session not be written, or the engine not be started.
    KeyboardInterrupt
        If it was stopped; what was measured is kept.
    """
    facts: dict[str, Any] = {"recording_stamps": work.stamps()}
    if work.before is not None:
        facts["reanalysis_of"] = str(work.before.absolute())
    with work.open() as recording:
        if on_open is not None:
            on_open(recording)
        analyse(_until(items_of(recording), stopped), work.settings, work.folder, name=str(work.origin.path),
                pixel_size_nm=recording.pixel_size_nm, recording=work.recording, facts=facts, on_progress=on_frame)


def result_of(work: Work, *, on_frame: Callable[[], None], stopped: Callable[[], bool]) -> Result:
    """Analyse a recording of many, and say what became of it; KeyboardInterrupt as from `carry_out`.

    What an end in between has left of it is removed first.
    """
    started = time.monotonic()
    try:
        left = _left_of(work)   # once more: another process may be at work in the same folder
        if left == "interrupted":
            _remove(work.folder)
        if left != "done":
            carry_out(work, on_frame=on_frame, stopped=stopped)
        frames, verdicts = _outcome(work.folder)
    except (TxmError, OSError) as error:
        return Result(work.name, "failed", seconds=time.monotonic() - started, reason=str(error))
    return Result(work.name, "skipped" if left == "done" else "done", frames, verdicts, time.monotonic() - started)


def changes_of(work: Work) -> Changes | None:
    """Return what a session that was made again says differently; None for a recording."""
    if work.before is None:
        return None
    with Journal(work.before) as before, Journal(work.folder) as after:
        return changes(*((row for _, row in journal.rows()) for journal in (before, after)),
                       before_alerts=[alert for _, alert in before.alerts()],
                       after_alerts=[alert for _, alert in after.alerts()])


def table(results: Sequence[Result]) -> str:
    """Return name, frames, verdicts and seconds of every recording, a line each."""
    lines = [("name", "frames", "verdicts", "seconds")]
    for result in results:
        verdicts = ", ".join(f"{count} {name}" for name, count in result.verdicts.items())
        lines.append((result.name, "" if result.state == "failed" else str(result.frames),
                      "failed" if result.state == "failed" else verdicts or "none",
                      "skipped: done" if result.state == "skipped" else f"{result.seconds:.1f}"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(f"{name:<{widths[0]}}  {frames:>{widths[1]}}  {verdicts:<{widths[2]}}  {seconds}"
                     for name, frames, verdicts, seconds in lines)


def _left_of(work: Work) -> Literal["nothing", "interrupted", "done"]:
    """Tell what the last time has left; refuse what must not be written over."""
    if not is_session(work.folder) or not work.origin.path.exists():   # who opens it says that it is gone
        return "nothing"
    with Journal(work.folder) as journal:
        meta, toml, live = journal.meta(), journal.settings()[1], bool(journal.state())
        empty = not journal.newest_rows(1)
    if live or not (empty or meta.get("recording") == work.recording):
        other = (meta.get("recording") or {}).get("path", "something else")
        what = "was taken live" if live else f"was made of {other}, or with other flats or darks"
        raise SessionError(f"{work.folder} holds a session that {what}; choose another --out")
    if not meta.get("complete"):
        return "interrupted"
    if tomllib.loads(toml) != tomllib.loads(to_toml(work.settings, masked=True)):
        raise SessionError(f"{work.folder} was analysed with other settings; choose another --out, so that nothing "
                           "measured is overwritten")
    if meta.get("recording_stamps") != msgspec.to_builtins(work.stamps()):
        raise SessionError(f"{work.origin.path} has changed since {work.folder} was made of it; choose another --out")
    if not (work.folder / _LAST_MADE).is_file():   # measured to the end, but the disk was full
        export_session(work.folder)
    return "done"


def _remove(folder: Path) -> None:
    """Remove what an analysis has left that was broken off, unless one is at work there."""
    try:
        with (folder / ".lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise SessionError(f"session {folder} is being written by another process; wait for it, or choose "
                                   "another --out") from error
            for name in _MADE:
                (folder / name).unlink(missing_ok=True)
    except PermissionError as error:
        raise SessionError(f"session {folder} was broken off and cannot be removed: {error.strerror}; choose another "
                           "--out") from error


def _outcome(folder: Path) -> tuple[int, dict[str, int]]:
    """Return the frames of a session and how many have each verdict."""
    with Journal(folder) as journal:
        verdicts: Counter[str] = Counter()
        frames = 0
        for _, row in journal.rows():
            frames += 1
            verdicts.update([row.verdict] if row.verdict else [])
    return frames, dict(verdicts.most_common())


def _stamp(path: Path) -> list[float]:
    files = list_images(path) if path.is_dir() else [path]
    found = []
    for file in files:
        with contextlib.suppress(OSError):   # who reads it says so
            found.append(file.stat())
    return [sum(stat.st_size for stat in found), max((stat.st_mtime for stat in found), default=0.0)]


def _until(items: Iterable[_Item], stopped: Callable[[], bool]) -> Iterator[_Item]:
    for item in items:
        if stopped():
            raise KeyboardInterrupt
        yield item
