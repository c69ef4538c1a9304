"""From outcomes to records: journal first, then whoever listens."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from streamer.errors import SessionError
from streamer.journal import Batch, Journal
from streamer.pipeline import Key
from streamer.records import Alert, AnyArray, Command, Event, FlowResult, FrameRow, Notice, SpectraResult
from streamer.wire import Topic

log = logging.getLogger(__name__)

Publish = Callable[[Topic, int, Any, Mapping[str, AnyArray]], None]
"""Called with topic, sequence number, fields and arrays of every result."""

Due = Callable[[Alert, int], list[Notice]]
"""Called with every alert and its sequence number; tells through which channels it is to be told."""

_HISTORY = 4096
"""Rows kept for revision; older ones are final."""
_BACKLOG = 10_000
"""Batches kept while the journal cannot be written."""

_NOTHING = Batch()

_FLOW_ARRAYS = ("displacement_px", "valid", "sigma_px", "grid_y_px", "grid_x_px")


class Recorder:
    """Collect what a step brought, commit it to the journal, then publish it.

    Parameters
    ----------
    journal : Journal
        Open for writing.
    publish : callable
        Called for every result after it was committed.
    due : callable
        Called for every alert; what it returns is committed with the alert.
    """

    def __init__(self, journal: Journal, *, publish: Publish | None = None, due: Due | None = None) -> None:
        self.journal = journal
        self.problem = ""
        """Why the journal cannot be written; empty when all is well."""
        self._publish = publish
        self._due = due
        self._rows: OrderedDict[Key, FrameRow] = OrderedDict()
        self._sequences: dict[Topic, int] = {}
        self._batch = Batch()
        self._outgoing: list[tuple[Topic, int, Any, dict[str, AnyArray]]] = []
        self._backlog: deque[Batch] = deque(maxlen=_BACKLOG)

    @property
    def sequences(self) -> dict[Topic, int]:
        """The newest sequence number of each topic."""
        return dict(self._sequences)

    def has_row(self, key: Key) -> bool:
        """Whether a frame has a row already."""
        return key in self._rows

    def row(self, row: FrameRow, *, received_at: float) -> float:
        """Add the row of a frame received at `received_at` (Unix s); return its latency in ms."""
        latency_ms = round(1e3 * (time.time() - received_at), 3)
        earlier = self._rows.get((row.acquisition, row.index))   # refused before, now come again in good order
        revision = 0 if earlier is None else earlier.revision + 1
        self._stage(msgspec.structs.replace(row, latency_ms=latency_ms, revision=revision))
        return latency_ms

    def revise(self, key: Key, columns: Mapping[str, Any], *, counts: bool = True) -> tuple[FrameRow, FrameRow] | None:
        """Change columns of an earlier row and return it before and after.

        None when nothing changes, and for a row that is too old to be changed.
        """
        row = self._rows.get(key)
        if row is None or all(getattr(row, name) == value for name, value in columns.items()):
            return None
        if row.verdict == "bad":   # trackers know nothing of frames without an image
            columns = {name: value for name, value in columns.items() if name != "verdict"}
        revised = msgspec.structs.replace(row, revision=row.revision + counts, **columns)
        self._stage(revised)
        return row, revised

    def add_problems(self, key: Key, problems: tuple[str, ...]) -> None:
        """Add to the problems of an earlier row."""
        row = self._rows.get(key)
        if row is not None:
            new = [problem for problem in problems if problem not in row.problems]
            self.revise(key, {"problems": "; ".join(filter(None, (row.problems, *new)))}, counts=False)

    def flow(self, flow: FlowResult, *, skipped: int = 0) -> None:
        """Add a displacement field and its summary in the row of its frame."""
        self._batch.flows.append(flow)
        self.revise((flow.acquisition, flow.index), counts=False,
                    columns={"flow_median_px": flow.flow_median_px, "flow_p95_px": flow.flow_p95_px})
        fields = {name: getattr(flow, name) for name in flow.__struct_fields__ if name not in _FLOW_ARRAYS}
        self.announce("flow", fields | {"skipped": skipped}, {name: getattr(flow, name) for name in _FLOW_ARRAYS})

    def spectra(self, spectra: SpectraResult) -> None:
        """Add the spectra of a frame; they are asked for, not published."""
        self._batch.spectra.append(spectra)

    def alert(self, alert: Alert) -> None:
        """Add an alert, or the new state of one."""
        sequence = self._next("alert")
        self._batch.alerts.append((sequence, alert))
        if self._due is not None:
            self._batch.undelivered += self._due(alert, sequence)
        self._outgoing.append(("alert", sequence, alert, {}))

    def delivered(self, notices: list[Notice]) -> None:
        """Note that alerts were told."""
        self._batch.delivered += notices

    def event(self, event: Event) -> None:
        """Add something that happened to the stream."""
        self._batch.events.append(event)

    def command(self, command: Command, outcome: str) -> None:
        """Add what a user asked for and what came of it."""
        self._batch.commands.append((command, outcome))

    def settings(self, revision: int, toml: str, *, who: str) -> None:
        """Add the settings that are in force from now on."""
        self._batch.settings.append((revision, toml, who))

    def facts(self, **facts: Any) -> None:
        """Add facts of the session by name."""
        self._batch.facts.update(facts)

    def announce(self, topic: Topic, fields: Any, arrays: Mapping[str, AnyArray]) -> None:
        """Publish with the next commit what has no place in the journal."""
        if self._publish is not None:
            self._outgoing.append((topic, self._next(topic), fields, dict(arrays)))

    def commit(self) -> None:
        """Write what was collected to the journal, then publish it.

        A journal that cannot be written is tried again with the next commit; results are published all the
        same and `problem` says what is wrong.
        """
        if self._batch != _NOTHING:
            self._backlog.append(self._batch)
            self._batch = Batch()
        self._write_backlog()
        if self._publish is not None:
            for topic, sequence, fields, arrays in self._outgoing:
                self._publish(topic, sequence, fields, arrays)
        self._outgoing.clear()

    def close(self) -> None:
        """Commit for the last time.

        Raises
        ------
        SessionError
            If the journal still cannot be written: what waits is lost, and how much is said.
        """
        self.commit()
        if self._backlog:
            rows = sum(len(batch.rows) for batch in self._backlog)
            raise SessionError(f"journal {self.journal.path} could not be written to the end, {rows} rows are lost: "
                               f"{self.problem}")

    def _stage(self, row: FrameRow) -> None:
        key = row.acquisition, row.index
        self._rows[key] = row
        if len(self._rows) > _HISTORY:
            self._rows.popitem(last=False)
        sequence = self._next("frame")
        self._batch.rows.append((sequence, row))
        self._outgoing.append(("frame", sequence, row, {}))

    def _next(self, topic: Topic) -> int:
        self._sequences[topic] = self._sequences.get(topic, 0) + 1
        return self._sequences[topic]

    def _write_backlog(self) -> None:
        while self._backlog:
            try:
                self.journal.write(self._backlog[0])
            except SessionError as error:
                if not self.problem:
                    log.error("%s", error)
                lost = " (oldest results are being lost)" if len(self._backlog) == _BACKLOG else ""
                self.problem = f"{error}; {len(self._backlog)} steps wait{lost}"
                return
            self._backlog.popleft()
        if self.problem:
            log.warning("journal %s is written again; nothing was lost", self.journal.path)
            self.problem = ""
