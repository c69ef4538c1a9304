"""``pictures.sqlite``: pictures of the frames for the screen, beside the journal and bounded in size.

For looking at alone: eight bits, compressed, binned. Nothing measured is lost with it, so a broken file is begun anew.
One object is used by one thread.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from streamer.errors import SessionError
from streamer.journal import FILE_NAME as JOURNAL

FILE_NAME = "pictures.sqlite"
PICTURES_SHARE = 0.9
"""Of all bytes; thumbnails have the rest."""
_FREED = 0.95
"""What is full is emptied to this share, so that room is not made for every single frame."""

_TABLES = """
CREATE TABLE IF NOT EXISTS pictures (acquisition TEXT, "index" INTEGER, kind TEXT, view TEXT, binning INTEGER,
    "offset" REAL, scale REAL, pixel_size_nm REAL, bytes INTEGER, data BLOB,
    PRIMARY KEY (acquisition, "index", kind));
CREATE TABLE IF NOT EXISTS thumbnails (number INTEGER PRIMARY KEY AUTOINCREMENT, acquisition TEXT, "index" INTEGER,
    view TEXT, complete INTEGER, corrected INTEGER, bytes INTEGER, data BLOB, UNIQUE (acquisition, "index"));
"""
_ATTENTION = """
    SELECT acquisition, "index" FROM session.frames
    WHERE verdict IN ('blurred', 'bad') OR recollects IS NOT NULL
    UNION SELECT acquisition, recollects FROM session.frames WHERE recollects IS NOT NULL
    UNION SELECT acquisition, "index" FROM session.frames
    WHERE (view, "index") IN (SELECT DISTINCT view, reference_index FROM session.frames)
"""
"""Frames that somebody will want to look at: their pictures go last."""


class KeptPicture(msgspec.Struct, frozen=True):
    """A compressed picture: value = offset + scale * pixel."""

    acquisition: str
    index: int
    kind: str
    """``corrected`` or ``raw``."""
    view: str
    binning: int
    offset: float
    scale: float
    pixel_size_nm: float | None
    """Of the frame, not of the binned picture."""
    data: bytes
    """JPEG."""


class Thumbnail(msgspec.Struct, frozen=True):
    """A small picture; every measured frame has one, as long as there is room."""

    acquisition: str
    index: int
    view: str
    complete: bool
    """Whether its full pictures were kept, too."""
    corrected: bool
    """Whether the frame differed from its raw picture."""
    data: bytes
    """JPEG."""


class Gallery:
    """The pictures of one session.

    Parameters
    ----------
    folder : Path
        The session.
    create : bool
        Open for writing, making the file if need be; otherwise for reading.

    Raises
    ------
    SessionError
        If the file cannot be opened.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self.path = folder / FILE_NAME
        try:
            self._db = self._create() if create else self._open(folder)
        except (sqlite3.Error, OSError) as error:
            raise SessionError(f"pictures {self.path} cannot be {'written' if create else 'read'}: {error}") from error

    def _create(self) -> sqlite3.Connection:
        try:
            return self._begin()
        except sqlite3.Error as error:
            if error.sqlite_errorcode not in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
                raise
            # only pictures are lost with it
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            return self._begin()

    def _begin(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = OFF")   # a power cut may cost pictures, nothing else
            db.executescript(_TABLES)
            journal = self.path.with_name(JOURNAL)
            if journal.exists():   # which frames matter is written there
                db.execute("ATTACH DATABASE ? AS session", (str(journal),))
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _open(self, folder: Path) -> sqlite3.Connection:
        mode = "rw" if os.access(folder, os.W_OK) else "ro"   # a reader of a live session needs the write-ahead files
        db = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode={mode}", uri=True, check_same_thread=False)
        db.execute("PRAGMA query_only = 1")
        return db

    def write(self, pictures: Iterable[KeptPicture], thumbnails: Iterable[Thumbnail]) -> None:
        """Add pictures, all of them or none; those of a frame that is there already are replaced.

        Raises
        ------
        SessionError
            If the disk is full or gone.
        """
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                                     map(_with_size, pictures))
                self._db.executemany("INSERT OR REPLACE INTO thumbnails VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)",
                                     map(_with_size, thumbnails))
        except sqlite3.Error as error:
            raise SessionError(f"pictures {self.path} cannot be written: {error}") from error

    def sizes(self) -> tuple[int, int]:
        """Return the bytes in pictures and in thumbnails."""
        found = self._one("SELECT (SELECT COALESCE(SUM(bytes), 0) FROM pictures), "
                          "(SELECT COALESCE(SUM(bytes), 0) FROM thumbnails)")
        return (0, 0) if found is None else (found[0], found[1])

    def make_room(self, limit_bytes: int) -> int:
        """Remove the oldest pictures of frames that nobody will miss, then those of flagged ones and of references.

        Parameters
        ----------
        limit_bytes : int
            For pictures and thumbnails together.

        Returns
        -------
        int
            Pictures removed, thumbnails not counted.

        Raises
        ------
        SessionError
            If the file cannot be read or written.
        """
        held = self.sizes()
        limits = PICTURES_SHARE * limit_bytes, (1 - PICTURES_SHARE) * limit_bytes
        removed = 0
        try:
            for place, table in enumerate(("pictures", "thumbnails")):
                surplus = held[place] - _FREED * limits[place]
                if held[place] <= limits[place]:
                    continue
                doomed = []
                for row, size in self._by_worth(table):
                    if surplus <= 0:
                        break
                    doomed.append((row,))
                    surplus -= size
                with self._db:
                    self._db.executemany(f"DELETE FROM {table} WHERE rowid = ?", doomed)  # noqa: S608
                removed += len(doomed) if table == "pictures" else 0
        except sqlite3.Error as error:
            raise SessionError(f"pictures {self.path} cannot be written: {error}") from error
        return removed

    def _by_worth(self, table: str) -> list[tuple[int, int]]:
        """Return rowid and bytes of everything in a table, what goes first in front."""
        attached = any(name == "session" for _, name, *_ in self._db.execute("PRAGMA database_list"))
        wanted = set(self._db.execute(_ATTENTION)) if attached else set()   # SQLite would search it line by line
        found = self._db.execute(f'SELECT rowid, bytes, acquisition, "index" FROM {table} ORDER BY rowid')  # noqa: S608
        return [(row, size) for row, size, *_ in sorted(found, key=lambda one: one[2:] in wanted)]

    def picture(self, acquisition: str, index: int, kind: str) -> KeptPicture | None:
        """Return a picture; None when it is not kept."""
        found = self._one('SELECT acquisition, "index", kind, view, binning, "offset", scale, pixel_size_nm, data '
                          'FROM pictures WHERE acquisition = ? AND "index" = ? AND kind = ?', acquisition, index, kind)
        return None if found is None else KeptPicture(*found)

    def thumbnail(self, acquisition: str, index: int) -> Thumbnail | None:
        """Return a thumbnail; None when it is not kept."""
        found = self._one('SELECT acquisition, "index", view, complete, corrected, data FROM thumbnails '
                          'WHERE acquisition = ? AND "index" = ?', acquisition, index)
        return None if found is None else _thumbnail(*found)

    def thumbnails(self, *, since: int, limit: int) -> list[tuple[int, Thumbnail]]:
        """Return thumbnails with their numbers, those after a number, in the order in which they were made."""
        try:
            found = self._db.execute('SELECT number, acquisition, "index", view, complete, corrected, data '
                                     "FROM thumbnails WHERE number > ? ORDER BY number LIMIT ?", (since, limit))
            return [(number, _thumbnail(*values)) for number, *values in found]
        except sqlite3.Error as error:
            if _is_new(error):
                return []
            raise SessionError(f"pictures {self.path} cannot be read: {error}") from error

    def _one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        try:
            found: tuple[Any, ...] | None = self._db.execute(query, values).fetchone()
        except sqlite3.Error as error:
            if _is_new(error):
                return None
            raise SessionError(f"pictures {self.path} cannot be read: {error}") from error
        return found

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_new(error: sqlite3.Error) -> bool:
    """Tell a file that is being made at this moment: it holds nothing yet."""
    return "no such table" in str(error)


def _with_size(kept: KeptPicture | Thumbnail) -> tuple[Any, ...]:
    *fields, data = msgspec.structs.astuple(kept)
    return *fields, len(data), data


def _thumbnail(acquisition: str, index: int, view: str, complete: int, corrected: int, data: bytes) -> Thumbnail:
    return Thumbnail(acquisition, index, view, bool(complete), bool(corrected), data)
