"""The page: one HTML file that needs nothing else, and how it gets to its place."""

from __future__ import annotations

import base64
import contextlib
import importlib.resources
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2

from streamer.errors import SessionError
from streamer.report.drawing import MM, Drawn

LARGEST_BYTES = 15_000_000
_RESOLUTIONS_DPI = (200, 150, 100, 72)
_LARGEST_VECTOR_BYTES = 1_500_000


class Table(NamedTuple):
    """A table of texts."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


class Section(NamedTuple):
    """A part of the page."""

    anchor: str
    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Drawn] = ()


class Page(NamedTuple):
    """All of it."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    made: str
    """When and by what."""


def render(page: Page) -> str:
    """Write the page as HTML, with pictures as fine as its limit of 15 MB allows."""
    text = ""
    for dpi in _RESOLUTIONS_DPI:
        text = _render(page, dpi)
        if len(text.encode()) <= LARGEST_BYTES:
            break
    return text


def _render(page: Page, dpi: int) -> str:
    source = importlib.resources.files("streamer.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    surroundings = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                      lstrip_blocks=True)
    return surroundings.from_string(source).render(
        page=page, picture=lambda drawn: _inline(drawn, dpi),
        width=lambda drawn: round(float(drawn.figure.get_size_inches()[0]) / MM))


def _inline(drawn: Drawn, dpi: int) -> str:
    """Return a figure as the address of itself."""
    if drawn.vector:
        lines = drawn.picture("svg")
        if len(lines) <= _LARGEST_VECTOR_BYTES:
            return "data:image/svg+xml;base64," + base64.b64encode(lines).decode("ascii")
    return "data:image/png;base64," + base64.b64encode(drawn.picture("png", dpi=dpi)).decode("ascii")


def write_file(path: Path, data: bytes) -> None:
    """Write a file through a neighbour that takes its place when it is whole.

    Raises
    ------
    SessionError
        If it cannot be written, the disk being full included; a file of before is untouched then.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise SessionError(f"cannot write {path}: {error.strerror or error}; a file of before is untouched") from error


def check_place(path: Path) -> None:
    """Refuse a place where no page can be, before the work is done.

    Raises
    ------
    SessionError
        Naming the folder that is missing or not writable.
    """
    if path.is_dir():
        raise SessionError(f"{path} is a folder; give the name of a file, such as {path / 'report.html'}")
    if not path.parent.is_dir():
        raise SessionError(f"cannot write {path}: the folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise SessionError(f"cannot write {path}: no permission to write in {path.parent}; choose another folder")


def save_figures(figures: Sequence[Drawn], folder: Path) -> list[Path]:
    """Write every figure as PDF and PNG (300 dpi), and the numbers behind it as CSV.

    Raises
    ------
    SessionError
        If the folder or a file cannot be written; files of before that were not reached are untouched.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SessionError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    written = []
    for drawn in figures:
        for name, data in drawn.files():
            write_file(folder / name, data)
            written.append(folder / name)
    return written
