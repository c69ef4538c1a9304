"""``session.sqlite``: the journal of a session, its one source of truth.

SQLite in write-ahead mode: a committed row survives the death of the process at any moment, and readers
(history for a late dashboard, export) never wait for the writer. One object is used by one thread.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec
import numpy as np

from streamer import __version__
from streamer.errors import SessionError
from streamer.packing import (
    pack_analysis,
    pack_flow,
    pack_recollection,
    pack_spectra,
    unpack_flow,
    unpack_spectra,
)
from streamer.records import (
    FRAME_TEXTS,
    Alert,
    AnyArray,
    Command,
    Event,
    FlowResult,
    FrameRow,
    Notice,
    Recollection,
    SpectraResult,
    StageMove,
)

FILE_NAME = "session.sqlite"
SCHEMA = 1
"""Raised when a program of before could no longer read the file."""

_LARGEST_LOG_PAGES = 4000
"""Of the write-ahead log, while somebody calls `Journal.checkpoint` now and then."""
_PAGE_BYTES = 8192   # holds the spectra of three frames; of the usual 4096 bytes, those of one waste half

_FRAME_COLUMNS = FrameRow.__struct_fields__
_ALERT_COLUMNS = Alert.__struct_fields__
_EVENT_COLUMNS = Event.__struct_fields__
_RECOLLECTION_COLUMNS = Recollection.__struct_fields__
_SPECTRA_COLUMNS = SpectraResult.__struct_fields__


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


_TABLES = f"""
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS frames ({_quoted(_FRAME_COLUMNS)}, sequence INTEGER NOT NULL, arrival INTEGER NOT NULL,
    PRIMARY KEY (acquisition, "index"));
CREATE INDEX IF NOT EXISTS frames_by_sequence ON frames (sequence);
CREATE TABLE IF NOT EXISTS alerts ({_quoted(_ALERT_COLUMNS)}, sequence INTEGER NOT NULL, PRIMARY KEY (id));
CREATE TABLE IF NOT EXISTS undelivered (channel TEXT, alert INTEGER, sequence INTEGER NOT NULL, occasion TEXT NOT NULL,
    PRIMARY KEY (channel, alert));
CREATE TABLE IF NOT EXISTS recollections ({_quoted(_RECOLLECTION_COLUMNS)}, sequence INTEGER NOT NULL,
    PRIMARY KEY (id));
CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, {_quoted(_EVENT_COLUMNS)});
CREATE TABLE IF NOT EXISTS flows (acquisition TEXT, "index" INTEGER, view TEXT, reference_index INTEGER,
    drift_y_px REAL, drift_x_px REAL, rows INTEGER, columns INTEGER, grid_y_px BLOB, grid_x_px BLOB,
    displacement_px BLOB, valid BLOB, sigma_px BLOB, flow_median_px REAL, flow_p95_px REAL, elapsed_ms REAL,
    PRIMARY KEY (acquisition, "index"));
CREATE TABLE IF NOT EXISTS analyses (view TEXT PRIMARY KEY, acquisition TEXT, "index" INTEGER, regions BLOB,
    analysis TEXT);
CREATE TABLE IF NOT EXISTS spectra ({_quoted(_SPECTRA_COLUMNS)}, PRIMARY KEY ("index", acquisition));
CREATE TABLE IF NOT EXISTS settings (revision INTEGER PRIMARY KEY, at REAL, who TEXT, toml TEXT);
CREATE TABLE IF NOT EXISTS commands (number INTEGER PRIMARY KEY, at REAL, op TEXT, arguments TEXT, outcome TEXT);
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value BLOB NOT NULL);
"""  # (identifiers come from our own records)


class Batch(msgspec.Struct, kw_only=True):
    """What is written together, in one transaction."""

    rows: list[tuple[int, FrameRow]] = []
    """With the sequence number under which each row is published."""
    alerts: list[tuple[int, Alert]] = []
    recollections: list[tuple[int, Recollection]] = []
    undelivered: list[Notice] = []
    """Alerts that are to be told, in the same transaction as the alerts themselves."""
    delivered: list[Notice] = []
    events: list[Event] = []
    flows: list[FlowResult] = []
    spectra: list[SpectraResult] = []
    commands: list[tuple[Command, str]] = []
    """With what came of each."""
    settings: list[tuple[int, str, str]] = []
    """Revision, TOML text, who changed them."""
    facts: dict[str, Any] = {}
    """Facts of the session, JSON-encodable, by name."""
    state: dict[str, bytes] = {}
    """Parts of what a streamer needs that goes on with the session, by name; a part replaces the one of before."""


class Journal:
    """The journal of one session.

    Parameters
    ----------
    folder : Path
        The session.
    create : bool
        Begin a new session here and keep others from writing to it; otherwise open it for reading.
    resume : bool
        With `create`: go on with the session that is here, if there is one.

    Raises
    ------
    SessionError
        If there is no session to read, one to be overwritten, one written by a newer version, or another
        streamer at work on it; with `resume`, if the session here cannot be continued.
    """

    def __init__(self, folder: Path, *, create: bool = False, resume: bool = False) -> None:
        self.folder = folder
        self._resume = resume
        self._lock: BinaryIO | None = None
        self._db = self._create() if create else self._open()

    @property
    def path(self) -> Path:
        """The file of the journal."""
        return self.folder / FILE_NAME

    def write(self, batch: Batch) -> None:
        """Commit a batch, all of it or nothing.

        Raises
        ------
        SessionError
            If the disk is full or gone; the journal stays as it was and can be written again.
        """
        try:
            with self._db:
                self._write(batch)
        except sqlite3.Error as error:
            raise SessionError(f"journal {self.path}: {error}; free some disk space or mount it again, "
                               "results are kept in memory meanwhile") from error

    def _write(self, batch: Batch) -> None:
        db = self._db
        arrival = f"COALESCE((SELECT arrival FROM frames WHERE acquisition = ? AND \"index\" = ?), ?)"  # noqa: F541
        db.executemany(
            f"INSERT OR REPLACE INTO frames VALUES ({_marks(_FRAME_COLUMNS)}, ?, {arrival})",  # noqa: S608
            ((*msgspec.structs.astuple(row), sequence, row.acquisition, row.index, sequence)
             for sequence, row in batch.rows))
        db.executemany(f"INSERT OR REPLACE INTO alerts VALUES ({_marks(_ALERT_COLUMNS)}, ?)",  # noqa: S608
                       ((*msgspec.structs.astuple(alert), sequence) for sequence, alert in batch.alerts))
        db.executemany("INSERT OR REPLACE INTO undelivered VALUES (?, ?, ?, ?)",
                       ((notice.channel, notice.alert.id, notice.sequence, notice.occasion)
                        for notice in batch.undelivered))
        db.executemany("DELETE FROM undelivered WHERE channel = ? AND alert = ? AND sequence <= ?",
                       ((notice.channel, notice.alert.id, notice.sequence) for notice in batch.delivered))
        db.executemany(f"INSERT OR REPLACE INTO recollections VALUES ({_marks(_RECOLLECTION_COLUMNS)}, ?)",  # noqa: S608
                       ((*pack_recollection(request), sequence) for sequence, request in batch.recollections))
        db.executemany(f"INSERT INTO events VALUES (NULL, {_marks(_EVENT_COLUMNS)})",  # noqa: S608
                       (msgspec.structs.astuple(event) for event in batch.events))
        db.executemany(f"INSERT OR REPLACE INTO flows VALUES ({', '.join('?' * 16)})",  # noqa: S608
                       map(pack_flow, batch.flows))
        db.executemany("INSERT OR REPLACE INTO analyses VALUES (?, ?, ?, ?, ?)",   # the newest of each view
                       map(pack_analysis, (flow for flow in batch.flows if flow.regions is not None)))
        db.executemany(f"INSERT OR REPLACE INTO spectra VALUES ({_marks(_SPECTRA_COLUMNS)})",  # noqa: S608
                       map(pack_spectra, batch.spectra))
        db.executemany("INSERT INTO commands VALUES (NULL, ?, ?, ?, ?)",
                       ((time.time(), command.op, msgspec.json.encode(command.arguments).decode(), outcome)
                        for command, outcome in batch.commands))
        db.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?, ?, ?)",
                       ((revision, time.time(), who, toml) for revision, toml, who in batch.settings))
        db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)",
                       ((key, msgspec.json.encode(value).decode()) for key, value in batch.facts.items()))
        db.executemany("INSERT INTO state VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                       batch.state.items())

    def meta(self) -> dict[str, Any]:
        """Return all facts of the session."""
        return {key: msgspec.json.decode(value) for key, value in self._read("SELECT key, value FROM meta")}

    def settings(self) -> tuple[int, str]:
        """Return the newest settings: their revision and their TOML text."""
        newest = self._read("SELECT revision, toml FROM settings ORDER BY revision DESC LIMIT 1")
        return next(newest, (0, ""))

    def state(self) -> dict[str, bytes]:
        """Return the parts of the state, in the order in which they first came."""
        return dict(self._read("SELECT name, value FROM state ORDER BY rowid"))

    def newest_rows(self, count: int) -> list[FrameRow]:
        """Return the rows that arrived last, in order of arrival."""
        return [row for _, row in self._frames("1 ORDER BY arrival DESC LIMIT ?", (count,))][::-1]

    def rows(self, *, since: int = 0, limit: int | None = None) -> Iterator[tuple[int, FrameRow]]:
        """Yield the rows published after a sequence number, with their sequence numbers.

        In order of arrival; with a `limit`, the first ones in order of their sequence numbers.
        """
        order = "arrival" if limit is None else "sequence"
        return self._frames(f"sequence > ? ORDER BY {order} LIMIT ?", (since, -1 if limit is None else limit))

    def row(self, index: int, *, acquisition: str | None = None) -> FrameRow | None:
        """Return the row of a frame, without an acquisition the newest one of that number; None without any."""
        where, values = _where(index=index, acquisition=acquisition)
        found = next(self._frames(f"{where} ORDER BY arrival DESC LIMIT 1", values), None)
        return None if found is None else found[1]

    def columns(self, *, since: int, limit: int) -> tuple[list[int], dict[str, AnyArray | Sequence[str | None]]]:
        """Return `rows` of a `snapshot` as columns, for readers of a long run: sequence numbers, and values by name.

        Numbers are arrays of float64 with NaN for none, as they are on the wire; an infinite one is none there, too.
        """
        stored = [name for _, name, *_ in self._read("PRAGMA table_info(frames)") if name in _FRAME_COLUMNS]
        texts, numbers = ([name for name in stored if (name in FRAME_TEXTS) == wanted] for wanted in (True, False))
        page = "FROM frames WHERE sequence > ? ORDER BY sequence LIMIT ?"
        flat = [*itertools.chain.from_iterable(self._read(f"SELECT sequence, {_quoted(texts)} {page}", (since, limit)))]
        sequences, *words = (flat[column::len(texts) + 1] for column in range(len(texts) + 1))
        # straight into one array: rows that wait as tuples would be counted again and again by the garbage collector
        values = ", ".join(f'ifnull("{name}", 9e999)' for name in numbers)
        every = itertools.chain.from_iterable(self._read(f"SELECT {values} {page}", (since, limit)))
        table = np.fromiter(every, np.float64).reshape(len(sequences), len(numbers))
        table[np.isinf(table)] = np.nan
        return sequences, dict(zip(texts, words, strict=True)) | dict(zip(numbers, table.T, strict=True))

    def _frames(self, condition: str, values: Sequence[object]) -> Iterator[tuple[int, FrameRow]]:
        stored = {name for _, name, *_ in self._read("PRAGMA table_info(frames)")}
        names = [name for name in _FRAME_COLUMNS if name in stored]   # a session of before may know fewer
        query = f"SELECT sequence, {_quoted(names)} FROM frames WHERE {condition}"  # noqa: S608
        for sequence, *row in self._read(query, values):
            fields = dict(zip(names, row, strict=True))
            yield sequence, FrameRow(**(fields | {"provisional": bool(fields["provisional"])}))

    def alerts(self) -> Iterator[tuple[int, Alert]]:
        """Yield all alerts with their sequence numbers."""
        for sequence, fields in self._newest("alerts", _ALERT_COLUMNS):
            yield sequence, _alert(fields)

    def recollections(self) -> Iterator[tuple[int, Recollection]]:
        """Yield all requests to take frames again with their sequence numbers; a session of before has none."""
        for sequence, fields in self._newest("recollections", _RECOLLECTION_COLUMNS):
            stage = fields["stage"]
            yield sequence, Recollection(**(fields | {"stage": stage and msgspec.json.decode(stage, type=StageMove)}))

    def _newest(self, table: str, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the lines of a table in the order of their ids, with what it has of the columns."""
        stored = {name for _, name, *_ in self._read(f"PRAGMA table_info({table})")}
        names = [name for name in columns if name in stored]   # a session of before may know fewer
        if not names:
            return
        query = f"SELECT sequence, {_quoted(names)} FROM {table} ORDER BY id"  # noqa: S608
        for sequence, *values in self._read(query):
            yield sequence, dict(zip(names, values, strict=True))

    def undelivered(self, channel: str, *, limit: int) -> Iterator[Notice]:
        """Yield the oldest alerts that a channel has still to deliver, each as it is now."""
        columns = ", ".join(f'alerts."{name}"' for name in _ALERT_COLUMNS)
        query = (f"SELECT occasion, undelivered.sequence, {columns} FROM undelivered "  # noqa: S608
                 "JOIN alerts ON alerts.id = alert WHERE channel = ? ORDER BY undelivered.sequence LIMIT ?")
        for occasion, sequence, *values in self._read(query, (channel, limit)):
            alert = _alert(dict(zip(_ALERT_COLUMNS, values, strict=True)))
            yield Notice(channel=channel, occasion=occasion, sequence=sequence, alert=alert)

    def events(self) -> Iterator[Event]:
        """Yield what happened to the stream, in order."""
        query = f"SELECT {_quoted(_EVENT_COLUMNS)} FROM events ORDER BY number"  # noqa: S608
        for values in self._read(query):
            yield Event(**dict(zip(_EVENT_COLUMNS, values, strict=True)))

    def commands(self) -> Iterator[tuple[float, Command, str]]:
        """Yield what was asked, in order: when (Unix seconds), the command, and what came of it."""
        for at, op, arguments, outcome in self._read("SELECT at, op, arguments, outcome FROM commands "
                                                     "ORDER BY number"):
            yield at, Command(op=op, arguments=msgspec.json.decode(arguments)), outcome

    def flows(self, *, acquisition: str | None = None, index: int | None = None) -> Iterator[FlowResult]:
        """Yield the displacement fields one by one, all or those of an acquisition or number, in order of both."""
        where, values = _where(acquisition=acquisition, index=index)
        query = f'SELECT * FROM flows WHERE {where} ORDER BY acquisition, "index"'  # noqa: S608
        for found in self._read(query, values):
            yield unpack_flow(found)

    def analysed(self, *, view: str | None = None) -> Iterator[FlowResult]:
        """Yield the newest field of every view, or of one, whose regions and particles were looked at, with them.

        None from a session of before, which kept no analyses.
        """
        if not list(self._read("SELECT 1 FROM sqlite_master WHERE name = 'analyses'")):
            return
        where, values = _where(view=view)
        query = f'SELECT acquisition, "index", regions, analysis FROM analyses WHERE {where}'  # noqa: S608
        for acquisition, index, regions, analysis in self._read(query, values):
            for field in self.flows(acquisition=acquisition, index=index):
                labels = np.frombuffer(regions, "<i2").reshape(field.valid.shape)
                yield msgspec.structs.replace(field, regions=labels, analysis=msgspec.json.decode(analysis))

    def spectra(self, *, acquisition: str | None = None, index: int | None = None) -> Iterator[SpectraResult]:
        """Yield the spectra of all frames, or of those of an acquisition or with a number, in order of arrival.

        None from a session of before, which kept no spectra.
        """
        if not list(self._read("SELECT 1 FROM sqlite_master WHERE name = 'spectra'")):
            return
        where, values = _where(index=index, acquisition=acquisition)
        query = f"SELECT {_quoted(_SPECTRA_COLUMNS)} FROM spectra WHERE {where} ORDER BY rowid"  # noqa: S608
        for found in self._read(query, values):
            yield unpack_spectra(found)

    def _read(self, query: str, values: Sequence[object] = ()) -> Iterator[Any]:
        """Yield the lines of an answer one by one."""
        try:
            yield from self._db.execute(query, values)
        except sqlite3.Error as error:
            raise SessionError(f"journal {self.path} cannot be read: {error}; check the disk, or use a copy of the "
                               "session") from error

    def snapshot(self) -> Self:
        """Fix what this reader sees, so that several queries belong to one moment; ends with `release`."""
        self._db.execute("BEGIN")
        return self

    def release(self) -> None:
        """End a `snapshot`."""
        self._db.rollback()

    def checkpoint(self) -> None:
        """Bring what was committed from the write-ahead log into the journal itself, from any thread.

        That flushes the disk, which takes tens of milliseconds. A commit does it itself when the log has grown large.
        """
        path = f"{self.path.absolute().as_uri()}?mode=rw"   # not to be created when it is gone
        with suppress(sqlite3.Error), closing(sqlite3.connect(path, uri=True)) as db:   # the next commit will tell
            db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def leave_checkpoints(self) -> None:
        """Let commits leave the log to who calls `checkpoint`, as long as it does not grow large."""
        self._db.execute(f"PRAGMA wal_autocheckpoint = {_LARGEST_LOG_PAGES}")

    def close(self) -> None:
        """Close the file and let others write to the session."""
        self._db.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _create(self) -> sqlite3.Connection:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / ".lock").open("wb")
        except OSError as error:
            raise SessionError(f"session {self.folder} cannot be written: {error.strerror or error}; "
                               "choose another folder") from error
        try:
            return self._begin(self._lock)
        except SessionError:
            self._lock.close()
            raise

    def _begin(self, lock: BinaryIO) -> sqlite3.Connection:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SessionError(f"session {self.folder} is being written by another streamer; "
                               "give this one another --session") from error
        if self.path.exists() and self.path.stat().st_size and not self._resume:
            raise SessionError(f"{self.folder} already holds a session; choose another folder, "
                               "so that nothing measured is overwritten ('txm-streamer run' goes on with its own)")
        try:
            db = sqlite3.connect(self.path, isolation_level="IMMEDIATE", check_same_thread=False)
            with _closed_on_error(db):
                db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
                db.executescript(_TABLES)
        except sqlite3.Error as error:
            raise SessionError(f"journal {self.path} cannot be created: {error}") from error
        with _closed_on_error(db):
            begun = self._is_begun(db)
        self._db = db
        if not begun:
            self.write(Batch(facts={"schema": SCHEMA, "version": __version__, "started_at": time.time()}))
        return db

    def _is_begun(self, db: sqlite3.Connection) -> bool:
        """Tell whether there is a session to go on with; one that was killed before its first row is none."""
        if db.execute("SELECT 1 FROM state").fetchone() is None:
            if db.execute("SELECT 1 FROM frames").fetchone() is None:
                return False
            raise SessionError(f"{self.folder} holds a session that cannot be continued: it was made by 'analyse', or "
                               "by a version that keeps no state; choose another folder")
        for table, columns in (("frames", _FRAME_COLUMNS), ("alerts", _ALERT_COLUMNS), ("events", _EVENT_COLUMNS),
                               ("recollections", _RECOLLECTION_COLUMNS)):
            stored = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
            if [name for name in stored if name not in {"sequence", "arrival", "number"}] != list(columns):
                raise SessionError(f"{self.folder} holds a session of another version, with other columns of {table}; "
                                   "choose another folder")
        return True

    def _open(self) -> sqlite3.Connection:
        if not self.path.is_file():
            raise SessionError(f"{self.folder} holds no session ({FILE_NAME} is missing); check the path")
        # Read-only, but with access to the write-ahead files, which a reader of a live session needs.
        mode = "ro" if not os.access(self.folder, os.W_OK) else "rw"
        try:
            db = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode={mode}", uri=True, check_same_thread=False)
            with _closed_on_error(db):
                db.execute("PRAGMA query_only = 1")
                schema = db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        except sqlite3.Error as error:
            raise SessionError(f"journal {self.path} cannot be read: {error}") from error
        if schema is None or int(schema[0]) > SCHEMA:
            db.close()
            raise SessionError(f"journal {self.path} has schema {schema and schema[0]}, this version reads up to "
                               f"{SCHEMA}; use a newer txm-live")
        return db


@contextmanager
def _closed_on_error(db: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, SessionError):
        db.close()
        raise


def _marks(columns: Sequence[str]) -> str:
    return ", ".join("?" * len(columns))


def _alert(fields: Mapping[str, Any]) -> Alert:
    return Alert(**(dict(fields) | {name: bool(fields[name]) for name in ("active", "escalated") if name in fields}))


def _where(**wanted: object) -> tuple[str, tuple[object, ...]]:
    """Make a condition of what is not None, and its values."""
    given = {name: value for name, value in wanted.items() if value is not None}
    return " AND ".join(f'"{name}" = ?' for name in given) or "1", (*given.values(),)
