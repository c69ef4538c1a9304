"""Recordings to frames: one module a format, lazily, one picture in memory at a time.

A format is added by adding a module here that has what `Format` asks for; modules whose name starts with an
underscore are helpers.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

from streamer.errors import RecordingError
from streamer.formats._recording import Contents, Pictures, Recording, as_frame
from streamer.records import Kind

__all__ = ["Contents", "Format", "Pictures", "Recording", "as_frame", "names", "open_recording", "summaries"]


class Format(Protocol):
    """What a module of this package offers."""

    NAME: str
    SUMMARY: str
    """What it reads, in a few words, for help pages and error messages."""

    def matches(self, path: Path) -> bool:
        """Tell from the first bytes (not from the name) whether this format reads an existing path."""
        ...

    def open_(self, path: Path, *, dataset: str | None = None) -> Contents:
        """Open it without reading pictures.

        Raises
        ------
        RecordingError
            If it cannot be opened, or `dataset` is given and the format has none.
        """
        ...


def names() -> list[str]:
    """List the names of all formats, sorted."""
    return sorted(_formats())


def summaries() -> str:
    """Say in one line what can be read."""
    return "; ".join(entry.SUMMARY for entry in _formats().values())


def open_recording(
    path: str | Path, *, flat: str | Path | None = None, dark: str | Path | None = None,
    dataset: str | None = None, pixel_size_nm: float | None = None,
) -> Recording:
    """Open a recording of any known format.

    Parameters
    ----------
    path : path
        A multi-page TIFF, a folder of images (in natural order), a single image, or an HDF5 file.
    flat, dark : path, optional
        Flats and darks in any of these formats; all pictures are taken, and replace stored ones. Of an HDF5 file
        with ``exchange/data_white`` or ``exchange/data_dark``, those.
    dataset : str, optional
        Which dataset of an HDF5 file holds the projections.
    pixel_size_nm : float, optional
        Overrides what is stored.

    Raises
    ------
    RecordingError
        Naming the path, what was found and what to do.
    """
    format_name, contents = _open(Path(path), dataset)
    closers: list[Callable[[], None]] = []
    references: dict[Kind, Pictures] = {}
    given: tuple[tuple[Kind, str | Path | None], ...] = (("flat", flat), ("dark", dark))
    try:
        if "projection" not in contents.stacks:
            raise RecordingError(f"{path}: found {' and '.join(contents.stacks)} pictures but no projections; "
                                 "name the dataset that holds them")
        for kind, source in given:
            if source is not None:
                _, extra = _open(Path(source), None)
                closers.append(extra.close)
                found = extra.stacks.get(kind) or extra.stacks.get("projection")
                if found is None:
                    raise RecordingError(f"{source}: given as {kind}, holds only {' and '.join(extra.stacks)} pictures")
                references[kind] = found
        return Recording(Path(path), format_name, contents, references=references, pixel_size_nm=pixel_size_nm,
                         also_close=closers)
    except BaseException:
        for close in (contents.close, *closers):
            close()
        raise


def _open(path: Path, dataset: str | None) -> tuple[str, Contents]:
    try:
        if not path.exists():
            raise RecordingError(f"{path}: no such file or folder; check the path")
        if path.is_file() and path.stat().st_size == 0:
            raise RecordingError(f"{path}: the file is empty (0 bytes)")
        for entry in _formats().values():
            if entry.matches(path):
                return entry.NAME, entry.open_(path, dataset=dataset)
    except PermissionError as error:
        raise RecordingError(f"{path}: permission denied; ask for read access") from error
    except OSError as error:
        if isinstance(error, RecordingError):
            raise
        raise RecordingError(f"{path}: cannot be read: {error.strerror or error}") from error
    raise RecordingError(f"{path}: its content ({_start(path)}) is of no known format; can read: {summaries()}")


def _start(path: Path) -> str:
    with path.open("rb") as file:
        return f"starts {file.read(8)!r}"


@functools.cache
def _formats() -> dict[str, Format]:
    found: dict[str, Format] = {}
    for info in pkgutil.iter_modules(__path__):
        if not info.name.startswith("_"):
            entry = cast("Format", importlib.import_module(f"{__name__}.{info.name}"))
            found[entry.NAME] = entry
    return found
