"""Recordings in a folder, and what the session of each is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from streamer.errors import RecordingError
from streamer.formats import tiff
from streamer.formats.images import SUFFIXES, natural_key
from streamer.journal import FILE_NAME

FILES = frozenset({".h5", ".hdf5", ".nxs", ".xrm", ".txrm", ".npy"})
"""Suffixes of files that are a recording each."""
_TIFFS = frozenset({".tif", ".tiff"})


class Found(NamedTuple):
    """A recording, or a session whose recording is meant."""

    path: Path
    name: PurePath
    """Relative to what was searched, with the suffix."""


def is_session(path: Path) -> bool:
    """Tell whether this is the folder of a session."""
    return (path / FILE_NAME).is_file()


def is_recording(path: Path, *, leave_out: Collection[Path] = ()) -> bool:
    """Tell whether this is to be opened as it is: a file, or a folder with images of one page.

    Parameters
    ----------
    path : Path
    leave_out : collection of Path
        Files that do not count, such as the flats.

    Raises
    ------
    RecordingError
        If the folder cannot be read.
    """
    if not path.is_dir():
        return True   # or nothing at all, which who opens it says
    avoided = {other.resolve() for other in leave_out}
    images = [child for child in _children(path)
              if child.suffix.lower() in SUFFIXES and child.is_file() and child.resolve() not in avoided]
    return bool(images) and (len(images) == 1 or not all(map(_is_stack, images)))


def find_recordings(folder: Path, *, leave_out: Collection[Path] = ()) -> list[Found]:
    """Find the recordings in a folder and all below it, in natural order.

    A recording is a file of `FILES`, a folder with images, and each TIFF of a folder that holds nothing but TIFFs with
    several pages. A folder of images is not searched further; images beside files that are recordings are passed over,
    and so are sessions and what is hidden.

    Parameters
    ----------
    folder : Path
    leave_out : collection of Path
        Files and folders that are none, such as the flats.

    Raises
    ------
    RecordingError
        If there are none; the text says what is there. If the folder cannot be read.
    """
    avoided = {path.resolve() for path in leave_out}
    found = [Found(path, path.relative_to(folder)) for path in _search(folder, avoided)]
    if not found:
        raise RecordingError(_nothing_in(folder))
    return found


def session_names(recordings: Sequence[Found]) -> list[PurePath]:
    """Return where the session of each recording goes: its name without suffix, with it where that is not unique.

    No name lies within another one.

    Raises
    ------
    RecordingError
        If two recordings have the same name even so.
    """
    stems = [found.name if found.path.is_dir() else found.name.with_suffix("") for found in recordings]
    counts = Counter(stems)
    outer = {parent for stem in stems for parent in stem.parents}
    names = [found.name if counts[stem] > 1 or stem in outer else stem
             for found, stem in zip(recordings, stems, strict=True)]
    taken: dict[PurePath, Path] = {}
    for found, name in zip(recordings, names, strict=True):
        if name in taken:
            raise RecordingError(f"{taken[name]} and {found.path} would both have the session {name}; analyse one of "
                                 "them by itself, into a folder of its own")
        taken[name] = found.path
    return names


def _search(folder: Path, avoided: set[Path]) -> Iterator[Path]:
    """Yield recordings; a folder that cannot be read is one, so that it is named when it fails."""
    children = [child for child in _children(folder) if child.resolve() not in avoided]
    files = [child for child in children if child.is_file()]
    images = [file for file in files if file.suffix.lower() in SUFFIXES]
    stacks = bool(images) and all(map(_is_stack, images))
    alone = not any(file.suffix.lower() in FILES for file in files)
    if images and alone and not stacks:
        yield folder
        return
    for child in children:
        suffix = child.suffix.lower()
        if child.is_dir():
            if not is_session(child):
                yield from _search_below(child, avoided | {folder.resolve()})   # links may lead back
        elif suffix in FILES or (stacks and suffix in _TIFFS):
            yield child


def _search_below(folder: Path, avoided: set[Path]) -> Iterator[Path]:
    try:
        _children(folder)
    except RecordingError:
        yield folder
        return
    yield from _search(folder, avoided)


def _children(folder: Path) -> list[Path]:
    """List what is not hidden, in natural order."""
    try:
        return sorted((child for child in folder.iterdir() if not child.name.startswith(".")),
                      key=lambda child: natural_key(child.name))
    except OSError as error:
        raise RecordingError(f"{folder}: cannot be read: {error.strerror or error}; ask for read access") from error


def _is_stack(path: Path) -> bool:
    """Tell whether a file is a TIFF with several pages."""
    if path.suffix.lower() not in _TIFFS:
        return False
    try:
        with path.open("rb") as file:
            return tiff.read_page_table(file, path.stat().st_size).found > 1
    except OSError:
        return False


def _nothing_in(folder: Path) -> str:
    children = _children(folder)
    there = ", ".join(child.name for child in children[:5]) or "nothing"
    more = f" and {len(children) - 5} more" if len(children) > 5 else ""
    session = next((file.parent for file in folder.rglob(FILE_NAME)), None)
    advice = ("give a recording, or a folder that holds some" if session is None else
              f"name the sessions one by one ({session} ...) to analyse their recordings again")
    return (f"{folder}: folder without images, and without recordings ({', '.join(sorted(FILES))}) in it or below; it "
            f"holds {there}{more}; {advice}")
