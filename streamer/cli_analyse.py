"""The command ``txm-streamer analyse``: one recording, one session again, or many, with a bar and a way to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.progress import Progress, TaskID

from streamer.service.campaign import (
    Result,
    Wanted,
    Work,
    carry_out,
    changes_of,
    result_of,
    table,
    total_of,
    work_of,
    works_of,
)
from streamer.service.recordings import is_recording, is_session


def is_single(inputs: Sequence[Path], wanted: Wanted) -> bool:
    """Tell whether one session is asked for, and not one of each of many."""
    return len(inputs) == 1 and (is_session(inputs[0]) or is_recording(inputs[0], leave_out=wanted.references))


def check(inputs: Sequence[Path], out: Path, wanted: Wanted) -> None:
    """Refuse what cannot be meant; raises BadParameter."""
    if wanted.recording is not None and not (len(inputs) == 1 and is_session(inputs[0])):
        raise typer.BadParameter("tells where the frames of a session are; name one session, and nothing else",
                                 param_hint="--recording")
    for path in inputs:
        searched = path.is_dir() and (is_session(path) or not is_single([path], wanted))
        if searched and out.resolve().is_relative_to(path.resolve()):
            raise typer.BadParameter(f"{out} lies in {path}, which is to be analysed; give a folder outside of it",
                                     param_hint="--out")


def analyse_one(path: Path, out: Path, wanted: Wanted, *, bar: Progress, report: Callable[[Path], None]) -> None:
    """Analyse a recording, or that of a session again, report it, and say what has changed; raises what goes wrong."""
    work = work_of(path, out, wanted)
    _remark(work)
    with _stoppable() as stopped, bar:
        line = bar.add_task(work.name)
        carry_out(work, on_frame=lambda: bar.advance(line), stopped=stopped,
                  on_open=lambda recording: bar.update(line, description=recording.name, total=recording.total))
    report(out)
    found = changes_of(work)
    if found is not None:
        typer.echo(f"compared with {work.before}:\n{found.text}")


def analyse_many(inputs: Sequence[Path], out: Path, wanted: Wanted, *, bar: Progress) -> bool:
    """Analyse all recordings that are not done, print a table of all, and tell whether none has failed.

    Raises
    ------
    CommandError, RecordingError, SettingsError
        If what is asked for cannot be begun.
    """
    works = works_of(inputs, out, wanted)
    results: list[Result] = []
    interrupted = False
    with _stoppable() as stopped, bar:
        line = bar.add_task("looking for what is done")
        try:
            _analyse_all(works, results, bar, line, stopped)
        except KeyboardInterrupt:
            interrupted = True
    typer.echo(table(results))
    failed = [result for result in results if result.state == "failed"]
    for result in failed:
        typer.echo(f"{result.name} failed: {' '.join(result.reason.split())}", err=True)
    if interrupted:
        typer.echo(f"interrupted with {len(works) - len(results)} of {len(works)} recordings to go; the same command "
                   "goes on", err=True)
    return not failed and not interrupted


def _analyse_all(works: Sequence[Work | Result], results: list[Result], bar: Progress, line: TaskID,
                 stopped: Callable[[], bool]) -> None:
    """Append what becomes of every recording, in order; KeyboardInterrupt when stopped."""
    known: list[int | Result] = []
    for work in works:
        known.append(work if isinstance(work, Result) else total_of(work))
        if stopped():
            raise KeyboardInterrupt
    bar.update(line, total=sum(total for total in known if isinstance(total, int)))
    reached = 0
    for work, total in zip(works, known, strict=True):
        if isinstance(work, Result) or isinstance(total, Result):
            results.append(work if isinstance(work, Result) else total)   # type: ignore[arg-type]
            continue
        if stopped():
            raise KeyboardInterrupt
        bar.update(line, description=work.name)
        _remark(work)
        results.append(result_of(work, on_frame=lambda: bar.advance(line), stopped=stopped))
        reached += total
        bar.update(line, completed=reached)   # whether it was read to its end or not


def _remark(work: Work) -> None:
    for remark in work.remarks:
        typer.echo(f"WARNING: {remark}", err=True)


@contextmanager
def _stoppable() -> Iterator[Callable[[], bool]]:
    """Make Ctrl-C end the analysis after the frame at hand; a second one ends it at once."""
    asked = threading.Event()

    def stop(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        asked.set()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
