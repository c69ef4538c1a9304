"""What survives the death of the streamer beside the journal: the state of the estimators, and what came since.

The state holds pictures; writing it with every frame would cost more than measuring it. It is written every so many
frames, in a thread of its own, and what the estimators are given in between is logged: frames, new settings, new
references. A streamer that goes on reads the state and gives the estimators the same once more. As what they
do depends on nothing else, they are where they were. The journal says how far their results were recorded.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from streamer import __version__
from streamer.errors import SessionError
from streamer.records import Frame
from streamer.service.frame_log import Entry, FrameLog, read_log
from streamer.service.state_files import StateFiles

EVERY = 64
"""Entries after which the state is written again; as many frames are measured again after a restart..."""
MOST_BYTES = 256_000_000
"""...or fewer, when they are large."""
_SHARE = 0.02
"""Of the time, at most, goes into taking the state."""
_RETRY_S = 5.0
_NICE = 10
_FORMAT = 1

log = logging.getLogger(__name__)


class Kept(NamedTuple):
    """What a streamer left behind."""

    settings: str
    """TOML, those in force when the state was taken."""
    pipeline: Mapping[str, Any]
    """As `Pipeline.snapshot` gave it."""
    position: int
    """Number of the newest entry that is in it."""
    entries: list[Entry]
    """What came after it, in order, without a hole."""


class Memory:
    """Log what the estimators are given, and write their state from time to time.

    Parameters
    ----------
    folder : Path
        The session.
    every : int
        Entries between two states.
    """

    def __init__(self, folder: Path, *, every: int = EVERY) -> None:
        self.logged = 0
        """Number of the newest entry."""
        self.done = 0
        """Number of the newest entry that the estimators are through with."""
        self.problem = ""
        """Why a restart would not go on from here; empty when all is well."""
        self.taken_ms = 0.0
        """How long the newest state took from the analysis; what is written in the background is not in it."""
        self._folder = folder / "state"
        self._every = every
        self._files = StateFiles(self._folder)
        self._log: FrameLog | None = None
        self._begun = 0   # number of the newest entry before those of the log
        self._not_before = 0.0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="memory", initializer=_be_nice)
        self._writing: Future[None] | None = None

    def read(self) -> Kept:
        """Read what a streamer left behind.

        Raises
        ------
        SessionError
            If there is nothing, or it cannot be read.
        """
        position = max(self._files.positions(), default=None)
        if position is None:
            raise SessionError(f"{self._folder} holds no state of the analysis, so that the session cannot be "
                               "continued; choose another folder")
        tree = self._files.read(position)
        if not isinstance(tree, dict) or (tree.get("format"), tree.get("version")) != (_FORMAT, __version__):
            found = tree.get("version", "another version") if isinstance(tree, dict) else "another program"
            raise SessionError(f"the state in {self._folder} was written by txm-live {found}, this is {__version__}; "
                               "choose another folder")
        return Kept(tree["settings"], tree["pipeline"], position, list(self._entries(position)))

    def start(self, settings: str, state: Callable[[], Mapping[str, Any]], *, done: int = 0,
              entries: list[Entry] | None = None) -> None:
        """Begin to log, with the state of now on disk.

        Parameters
        ----------
        settings, state
            As for `keep`.
        done : int
            Number of the newest entry whose results are in the journal.
        entries : list of Entry, optional
            Those after it, which are to be worked through.

        Raises
        ------
        SessionError
            If the folder cannot be written.
        """
        self.done = self.logged = self._begun = done
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._log = FrameLog(self._path(done), entries)
            for path in self._folder.glob("*.log"):   # of another time, such as before a power cut
                if int(path.stem) > done:
                    path.unlink()
        except OSError as error:
            raise SessionError(f"{self._folder} cannot be written: {error.strerror or error}; choose another "
                               "folder") from error
        self.logged += len(entries or ())
        self._write(settings, state).result()   # before the first frame: nothing goes on from a log alone

    def frame(self, frame: Frame, sent: Frame) -> None:
        """Log a frame as it was admitted, and as it came, before the estimators get it."""
        self._append(Entry(self.logged + 1, frame=frame, sent=sent))

    def settings(self, toml: str) -> None:
        """Log new settings, which the estimators have."""
        self._append(Entry(self.logged + 1, settings=toml))
        self.done = self.logged

    def reference(self, view: str) -> None:
        """Log that the newest frame of a view is the reference from now on."""
        self._append(Entry(self.logged + 1, view=view))
        self.done = self.logged

    def finished(self) -> None:
        """Count a frame that the estimators are through with."""
        self.done += 1

    @property
    def due(self) -> bool:
        """Whether the state is to be written; frames on their way must be finished before."""
        if self._writing is not None and not self._writing.done():
            return False
        much = self._log is None or self._log.bytes >= MOST_BYTES or self.logged - self._begun >= self._every
        return much and time.monotonic() >= self._not_before

    def keep(self, settings: str, state: Callable[[], Mapping[str, Any]]) -> None:
        """Take the state and have it written.

        Parameters
        ----------
        settings : str
            TOML of the settings in force.
        state : callable
            `Pipeline.snapshot`.
        """
        try:
            new = FrameLog(self._path(self.done))
        except OSError as error:   # the log of before goes on
            self._fail(error)
            return
        if self._log is not None:
            self._log.close()
        self._log, self._begun = new, self.done
        self._write(settings, state)

    def close(self) -> None:
        """Wait until everything is written."""
        self._writer.shutdown()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _write(self, settings: str, state: Callable[[], Mapping[str, Any]]) -> Future[None]:
        started = time.perf_counter()
        tree = {"format": _FORMAT, "version": __version__, "settings": settings, "pipeline": state()}
        taken_s = time.perf_counter() - started
        self.taken_ms = 1e3 * taken_s
        self._not_before = time.monotonic() + taken_s / _SHARE
        self._writing = self._writer.submit(self._write_files, self.done, tree)
        return self._writing

    def _write_files(self, position: int, tree: Any) -> None:
        try:
            self._files.write(position, tree)
        except OSError as error:
            self._fail(error)
            return
        except Exception as error:   # the analysis must go on
            log.exception("the state of the analysis could not be written")
            self._fail(error)
            return
        for path in self._folder.glob("*.log"):
            if int(path.stem) < position:
                with contextlib.suppress(OSError):
                    path.unlink()
        if self.problem and self._log is not None:
            log.warning("the state of the analysis is written again")
            self.problem = ""

    def _append(self, entry: Entry) -> None:
        self.logged = entry.number
        if self._log is None:   # a hole: only a new state helps
            return
        try:
            if self._log.bytes > 4 * MOST_BYTES:   # states cannot be written; the disk is not for this alone
                raise OSError(f"the log is larger than {4 * MOST_BYTES // 1_000_000} MB")
            self._log.append(entry)
        except OSError as error:
            self._log.close()
            self._log = None
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or error
        if not self.problem:
            log.error("the state of the analysis cannot be written to %s: %s", self._folder, reason)
        self.problem = (f"state {self._folder} cannot be written: {reason}; free some disk space, a restart would not "
                        "go on from here")
        self._not_before = time.monotonic() + _RETRY_S

    def _entries(self, position: int) -> Iterator[Entry]:
        """Yield what was logged after a state, as far as nothing is missing."""
        begins = sorted(int(path.stem) for path in self._folder.glob("*.log") if int(path.stem) >= position)
        number = position
        for begin, end in zip(begins, [*begins[1:], None], strict=True):
            if begin > number:
                return
            for entry in read_log(self._path(begin)):
                if end is not None and entry.number > end:   # a later log knows better
                    break
                if entry.number != number + 1:
                    return
                number += 1
                yield entry

    def _path(self, begin: int) -> Path:
        return self._folder / f"{begin}.log"


def _be_nice() -> None:
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
