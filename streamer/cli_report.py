"""The command ``txm-streamer report``: what is typed becomes wishes, and what cannot be shown is said."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import typer
from rich.progress import Progress

from streamer.errors import CommandError, RecordingError
from streamer.formats import Recording
from streamer.report.figure_pairs import Box
from streamer.service.reporting import STEPS, Wishes, write_report


def report(session: Path, out: Path, wishes: Wishes, *, open_pictures: Callable[[], Recording], is_named: bool,
           bar: Progress) -> None:
    """Write the report of a session and say what came out.

    Parameters
    ----------
    session, out : Path
    wishes : Wishes
    open_pictures : callable
        Opens the recording.
    is_named : bool
        Whether the user has named it: then it has to be there; otherwise the report does without.
    bar : Progress
    """
    source, why_none = None, ""
    try:
        source = open_pictures()
    except (CommandError, RecordingError) as error:
        if is_named:
            raise
        why_none = str(error)
    with contextlib.nullcontext() if source is None else source, bar:
        line = bar.add_task("report", total=STEPS)
        written = write_report(session, out, recording=source, why_none=why_none, wishes=wishes,
                               on_progress=lambda: bar.advance(line))
    for text in written.missing:
        typer.echo(f"not shown: {text}", err=True)
    if wishes.figures is not None:
        typer.echo(f"{wishes.figures}: {len(written.figures)} files")
    typer.echo(f"{out}: {written.size_bytes / 1e6:.1f} MB")


def pairs(texts: list[str] | None) -> tuple[tuple[int, int], ...]:
    """Read the pairs of frames that are to be shown."""
    found = [_whole_numbers("--pair", text, 2) for text in texts or ()]
    _at_most_two("--pair", len(found))
    for text, (first, second) in zip(texts or (), found, strict=True):
        if first == second:
            raise typer.BadParameter(f"{text!r} names one frame twice", param_hint="--pair")
    return tuple((first, second) for first, second in found)


def regions(texts: list[str] | None) -> tuple[Box, ...]:
    """Read the regions that are to be enlarged."""
    found = [Box(*_whole_numbers("--region", text, 4)) for text in texts or ()]
    _at_most_two("--region", len(found))
    for text, box in zip(texts or (), found, strict=True):
        if box.top_px >= box.bottom_px or box.left_px >= box.right_px:
            raise typer.BadParameter(f"{text!r} is empty; expected TOP,LEFT,BOTTOM,RIGHT with TOP < BOTTOM and "
                                     "LEFT < RIGHT", param_hint="--region")
    return tuple(found)


def _whole_numbers(option: str, text: str, count: int) -> list[int]:
    parts = text.replace(",", " ").split()
    if len(parts) != count or not all(part.isascii() and part.isdecimal() for part in parts):
        raise typer.BadParameter(f"{text!r} is not {count} whole numbers with commas between them", param_hint=option)
    return [int(part) for part in parts]


def _at_most_two(option: str, count: int) -> None:
    if count > 2:
        raise typer.BadParameter(f"given {count} times; the page shows two", param_hint=option)
