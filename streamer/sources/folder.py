"""Pictures as they land in a folder, each taken once, when it is whole.

The folder is looked through at intervals, which works on network file systems, too; where the system tells of
changes, it is looked through at once. A file is whole when it no longer changes and can be read.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from streamer.errors import LinkError, RecordingError
from streamer.formats import Recording, open_recording
from streamer.formats.images import SUFFIXES, natural_key
from streamer.records import EndOfAcquisition, Frame, Kind, Refusal
from streamer.sources.looking import Item, Known, LookingSource

SCHEME = "folder://"
POLL_S = 0.5
SETTLE_S = 0.4
"""A file that has not changed for so long is tried."""
PATIENCE_S = 10.0
"""A file that cannot be read for so long after its last change is given up, by name; one that keeps changing for so
long no longer holds up those after it."""

_SUFFIXES = SUFFIXES | {".h5", ".hdf5", ".hdf", ".nxs", ".xrm", ".txrm", ".npy"}
_NUMBERED = re.compile(r"(.*?)[-_. ]*(\d+)")
_KINDS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("flat", re.compile(r"(?<![a-z])(flats?|refs?|reference|white|bkg|ff)(?![a-z])", re.IGNORECASE)),
    ("dark", re.compile(r"(?<![a-z])(darks?|df)(?![a-z])", re.IGNORECASE)))

log = logging.getLogger(__name__)


class _State(NamedTuple):
    """What tells one state of a file from another."""

    size: int
    modified_ns: int


class _Waiting(NamedTuple):
    """A file that is not taken yet."""

    state: _State
    since: float
    """When it was seen first in this state."""
    first: float
    """When it was seen at all."""


class FolderSource(LookingSource):
    """The pictures of a folder, those that are there and those that come.

    Parameters
    ----------
    endpoint : str
        ``folder://`` and the path.
    known : callable
        Frames for which it is true are passed over.
    poll_s, settle_s, patience_s : float
        See the constants of this module.

    Raises
    ------
    LinkError
        If there is no such folder.

    Notes
    -----
    Files are taken in natural order. One picture a file: its number is the last one in the name, what comes before is
    the acquisition (``scan_0012.tif`` is frame 12 of ``scan``); names with ``flat``, ``ref`` or ``dark`` as a word are
    such. A file of several pictures is an acquisition of its own. Without a time in the file, that of its last change
    is the time of exposure.
    """

    def __init__(self, endpoint: str, *, known: Known = lambda _: False, poll_s: float = POLL_S,
                 settle_s: float = SETTLE_S, patience_s: float = PATIENCE_S) -> None:
        super().__init__(endpoint, known=known, poll_s=poll_s)
        self.folder = Path(endpoint.removeprefix(SCHEME)).expanduser()
        if not self.folder.is_dir():
            raise LinkError(f"frames.endpoint is {endpoint!r}: there is no folder {self.folder}; make it first, or "
                            "check the path")
        self._settle_s, self._patience_s = settle_s, patience_s
        self._taken: dict[str, _State] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._changed = threading.Event()
        self._observer = _observe(self.folder, self._changed)

    def _wait(self, seconds: float) -> None:
        if self._changed.wait(seconds):
            self._changed.clear()
            self._next_look = min(self._next_look, time.monotonic() + self._settle_s / 4)

    def close(self) -> None:
        """Stop looking."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None

    def _look(self) -> Iterator[Item]:
        """Look through the folder and yield what has become whole, in natural order."""
        try:
            there = {path.name: _State(stat.st_size, stat.st_mtime_ns) for path, stat in _files(self.folder)}
        except OSError as error:
            log.warning("folder %s cannot be read: %s; trying again", self.folder, error.strerror or error)
            return
        for name in sorted(set(self._waiting) - set(there), key=natural_key):
            del self._waiting[name]
            yield self._refusal(name, "was removed before it was whole")
        now = time.monotonic()
        for name, state in there.items():   # all at once: files that wait for their turn settle meanwhile
            if name not in self._taken:
                self._note(name, state, now)
        for name in sorted(there, key=natural_key):
            state = there[name]
            if name in self._taken:
                if state != self._taken[name]:
                    self._taken[name] = state
                    yield self._refusal(name, "was written again after it was read, and is not read again; "
                                        "give a frame that is taken again a name of its own", bucket="refused")
                continue
            outcome = self._try(name, state, self._waiting[name])
            if outcome is None:   # it holds up those after it: frames come in order
                return
            yield from outcome

    def _note(self, name: str, state: _State, now: float) -> None:
        """Note since when a file has been as it is."""
        known = self._waiting.get(name)
        if known is None or known.state != state:
            self._waiting[name] = _Waiting(state, now, now if known is None else known.first)

    def _try(self, name: str, state: _State, known: _Waiting) -> Iterator[Item] | None:
        """Return the frames of a file, nothing of one that those after it need not wait for; None: wait for it."""
        now = time.monotonic()
        if now - known.since < self._settle_s:
            return iter(()) if now - known.first > self._patience_s else None
        path = self.folder / name
        try:
            recording = open_recording(path)
        except RecordingError as error:
            if now - known.since < self._patience_s:
                return None
            self._take(name, state)
            return iter([self._refusal(name, str(error).removeprefix(f"{path}: "))])
        self._take(name, state)
        self.protocol = f"folder ({recording.format})"
        return self._frames(recording, name, state)

    def _take(self, name: str, state: _State) -> None:
        self._taken[name] = state
        self._waiting.pop(name, None)

    def _frames(self, recording: Recording, name: str, state: _State) -> Iterator[Item]:
        with recording:
            single = recording.count == 1
            for item in recording.frames():
                named = self._name(item, name, state) if single else item
                if not self._known(named):
                    yield named
        if not single:
            yield EndOfAcquisition(acquisition=recording.name)

    def _name(self, item: Frame | Refusal, name: str, state: _State) -> Frame | Refusal:
        """Name the picture of a file after the file."""
        acquisition, index = _numbered(name, self.folder)
        kind = _kind(name) if item.kind == "projection" else item.kind
        named = msgspec.structs.replace(
            item, kind=kind, index=index, exposed_at=item.exposed_at or state.modified_ns / 1e9,
            acquisition=acquisition if kind == "projection" else f"{acquisition}/{kind}")
        return msgspec.structs.replace(named, expected=None) if isinstance(named, Frame) else named

    def _refusal(self, name: str, reason: str, *, bucket: Any = "malformed") -> Refusal:
        return Refusal(reason=f"{name}: {reason}", bucket=bucket)


def _files(folder: Path) -> Iterator[tuple[Path, Any]]:
    for path in folder.iterdir():
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith("."):
            with contextlib.suppress(FileNotFoundError):   # it was renamed or removed just now
                if path.is_file():
                    yield path, path.stat()


def _numbered(name: str, folder: Path) -> tuple[str, int]:
    """Split the name of a file into acquisition and number; -1 without a number.

    >>> _numbered("scan_b_0012.tif", Path("run"))
    ('scan_b', 12)
    """
    match = _NUMBERED.fullmatch(Path(name).stem)
    if match is None:
        return folder.resolve().name, -1
    return match[1] or folder.resolve().name, int(match[2])


def _kind(name: str) -> Kind:
    """Tell flats and darks by a word in the name of the file.

    >>> _kind("flat_3.tif"), _kind("reflection_3.tif")
    ('flat', 'projection')
    """
    return next((kind for kind, pattern in _KINDS if pattern.search(Path(name).stem.replace("_", " "))), "projection")


def _observe(folder: Path, changed: threading.Event) -> Any | None:
    """Let the system tell of changes where it can; None where it cannot, and looking at intervals must do."""
    try:
        from watchdog.events import FileSystemEventHandler  # noqa: PLC0415
        from watchdog.observers import Observer  # noqa: PLC0415
    except ImportError:
        return None

    class Handler(FileSystemEventHandler):  # type: ignore[misc]  # it carries no types
        def on_any_event(self, event: Any) -> None:
            changed.set()

    observer = Observer()
    try:
        observer.schedule(Handler(), str(folder))
        observer.start()
    except OSError as error:
        log.info("changes of %s are not told (%s); it is looked through at intervals", folder, error)
        return None
    return observer
