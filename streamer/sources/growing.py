"""One file that grows while its scan runs, such as ``.txrm`` or HDF5: every new picture once."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import msgspec

from streamer.errors import LinkError, RecordingError
from streamer.formats import Recording, open_recording
from streamer.records import EndOfAcquisition, Refusal
from streamer.sources.looking import Item, Known, LookingSource

SCHEME = "file://"
POLL_S = 0.5
PATIENCE_S = 10.0
"""A picture that cannot be read for so long is given up, by name."""

log = logging.getLogger(__name__)


class GrowingSource(LookingSource):
    """The pictures of a file, those that are in it and those that are added.

    Parameters
    ----------
    endpoint : str
        ``file://`` and the path; the file need not be there yet, its folder must.
    known : callable
        Frames for which it is true are passed over.
    poll_s, patience_s : float
        See the constants of this module.

    Raises
    ------
    LinkError
        If the folder is not there.

    Notes
    -----
    The file is opened anew for every look, and never kept open: its writer is not disturbed, and formats that keep
    their table of contents at the end are read right. The acquisition ends when all planned pictures are there, where
    the file tells how many.
    """

    def __init__(self, endpoint: str, *, known: Known = lambda _: False, poll_s: float = POLL_S,
                 patience_s: float = PATIENCE_S) -> None:
        super().__init__(endpoint, known=known, poll_s=poll_s)
        self.path = Path(endpoint.removeprefix(SCHEME)).expanduser()
        if not self.path.parent.is_dir():
            raise LinkError(f"frames.endpoint is {endpoint!r}: there is no folder {self.path.parent}; check the path")
        self._patience_s = patience_s
        self._next = 0
        """Projection to be read next."""
        self._references: set[tuple[str, int]] = set()
        """Flats and darks that were delivered."""
        self._ended = False
        self._state: tuple[int, int] | None = None
        self._stuck_since: float | None = None
        self._said = ""

    def _look(self) -> Iterator[Item]:
        """Open the file and yield what is new in it."""
        try:
            stat = self.path.stat()
        except OSError:
            return
        state = stat.st_size, stat.st_mtime_ns
        if state == self._state or self._ended:
            return
        try:
            recording = open_recording(self.path)
        except RecordingError as error:   # not begun yet, or caught in the middle of a change
            if str(error) != self._said:
                log.info("%s; waiting", error)
            self._said = str(error)
            return
        with recording:
            self.protocol = f"file ({recording.format})"
            complete = yield from self._new(recording)
            planned = recording.planned
            name = recording.name
        if complete:
            self._state = state
            if planned is not None and self._next >= planned:
                self._ended = True
                yield EndOfAcquisition(acquisition=name)

    def _new(self, recording: Recording) -> Generator[Item, None, bool]:
        """Yield what has not been delivered; return whether all of it could be read, or was given up."""
        if self._next >= recording.count:
            return True
        for item in recording.frames(self._next):
            if item.kind != "projection":
                name = item.kind, -1 if item.index is None else item.index
                if name not in self._references:
                    self._references.add(name)
                    yield item
                continue
            if isinstance(item, Refusal) and not self._give_up():
                return False
            self._stuck_since = None
            self._next += 1
            named = item if isinstance(item, Refusal) else msgspec.structs.replace(item, expected=recording.planned)
            if not self._known(named):
                yield named
        return True

    def _give_up(self) -> bool:
        """Tell whether the picture that cannot be read has been waited for long enough."""
        now = time.monotonic()
        self._stuck_since = self._stuck_since or now
        return now - self._stuck_since > self._patience_s
