"""From outcomes to records: journal first, then whoever listens."""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from streamer.errors import SessionError
from streamer.journal import Batch, Journal
from streamer.pipeline import Key
from streamer.records import (
    STRAIN_PLANES,
    STRAIN_UNITS,
    Alert,
    AnyArray,
    Command,
    Event,
    FlowResult,
    FrameRow,
    Notice,
    Recollection,
    SpectraResult,
    Verdict,
)
from streamer.wire import Topic

log = logging.getLogger(__name__)

Publish = Callable[[Topic, int, Any, Mapping[str, AnyArray]], None]
"""Called with topic, sequence number, fields and arrays of every result."""

Due = Callable[[Alert, int], list[Notice]]
"""Called with every alert and its sequence number; tells through which channels it is to be told."""

Remember = Callable[[bool], dict[str, bytes]]
"""Returns the parts of the state that have changed; called with whether alerts are among what is committed."""

_HISTORY = 4096
"""Rows kept for revision; older ones are final."""
_BACKLOG = 10_000
"""Batches kept while the journal cannot be written; of older ones rows, fields and spectra are given up."""
_CATCH_UP_S = 0.1
"""Spent on batches that wait, at each commit; what has just come has to wait no longer."""

_NOTHING = Batch()
_KEPT = ("alerts", "recollections", "undelivered", "delivered", "events", "commands", "settings")
"""Lists of a batch that are never given up."""

_FLOW_ARRAYS = ("displacement_px", "valid", "sigma_px", "grid_y_px", "grid_x_px", "strain", "regions")


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
        self._overridden: dict[Key, str] = {}
        """What people said of the verdicts that they changed."""
        self._sequences: dict[Topic, int] = {}
        self._batch = Batch()
        self._outgoing: list[tuple[Topic, int, Any, dict[str, AnyArray]]] = []
        self._backlog: deque[Batch] = deque()
        self._given_up: dict[Key, None] = {}
        self._remember: Remember | None = None

    @property
    def sequences(self) -> dict[Topic, int]:
        """The newest sequence number of each topic."""
        return dict(self._sequences)

    def remember(self, parts: Remember) -> None:
        """Ask for what has changed of the state with every commit; it is written with the results it belongs to."""
        self._remember = parts

    def go_on(self, sequences: Mapping[Topic, int]) -> None:
        """Go on with the session that is in the journal."""
        self._sequences = dict(sequences)
        self._rows = OrderedDict(((row.acquisition, row.index), row) for row in self.journal.newest_rows(_HISTORY))
        self._overridden = {(command.arguments["acquisition"], command.arguments["index"]): command.arguments["remark"]
                            for _, command, outcome in self.journal.commands()
                            if command.op == "override" and outcome == "done"}

    def take_given_up(self) -> list[Key]:
        """Return the frames whose rows are lost since the last call, once the journal is written again."""
        if self._backlog or not self._given_up:
            return []
        given_up, self._given_up = self._given_up, {}
        stored = {key: self.journal.row(key[1], acquisition=key[0]) for key in given_up}
        for key, row in self._rows.items():   # what is still in memory is not lost, nor is what it was revised to
            if key in stored and stored[key] != row:
                self._stage_again(row)
        return [key for key, row in stored.items() if row is None and key not in self._rows]

    @property
    def newest(self) -> Key | None:
        """The frame that got its row last; None before the first one."""
        return next(reversed(self._rows), None)

    def has_row(self, key: Key) -> bool:
        """Whether a frame has a row already."""
        return key in self._rows

    def row(self, row: FrameRow, *, received_at: float) -> float:
        """Add the row of a frame received at `received_at` (Unix s); return its latency in ms."""
        latency_ms = round(max(0.0, 1e3 * (time.time() - received_at)), 3)   # clocks step back
        earlier = self._rows.get((row.acquisition, row.index))   # refused before, now come again in good order
        revision = 0 if earlier is None else earlier.revision + 1
        self._stage(msgspec.structs.replace(row, latency_ms=latency_ms, revision=revision))
        return latency_ms

    def revise(self, key: Key, columns: Mapping[str, Any], *, counts: bool = True) -> tuple[FrameRow, FrameRow] | None:
        """Change columns of an earlier row and return it before and after.

        None when nothing changes, and for a row that is too old to be changed.
        """
        row = self._rows.get(key)
        if row is None:
            return None
        remark = self._overridden.get(key, "")
        if row.verdict == "bad" or remark:   # trackers know nothing of frames without an image, nor of what people say
            columns = {name: value for name, value in columns.items() if name not in {"verdict", "provisional"}}
        if remark and "problems" in columns:
            columns = {**columns, "problems": _joined(columns["problems"], remark)}
        if all(getattr(row, name) == value for name, value in columns.items()):
            return None
        revised = msgspec.structs.replace(row, revision=row.revision + counts, **columns)
        self._stage(revised)
        return row, revised

    def add_problems(self, key: Key, problems: tuple[str, ...]) -> None:
        """Add to the problems of an earlier row."""
        row = self._rows.get(key)
        if row is not None:
            self.revise(key, {"problems": _joined(row.problems, *problems)}, counts=False)

    def find(self, index: int, acquisition: str | None = None) -> FrameRow | None:
        """Return the row of a frame, without an acquisition the newest one of that number; None without any."""
        if acquisition is not None:
            found = self._rows.get((acquisition, index))
        else:
            found = next((row for row in reversed(self._rows.values()) if row.index == index), None)
        return found or self.journal.row(index, acquisition=acquisition)

    def override(self, row: FrameRow, verdict: Verdict, remark: str) -> FrameRow:
        """Change the verdict of a row for good, on a person's word, and return the row as it is now."""
        key = row.acquisition, row.index
        said = self._overridden.get(key, "")
        problems = "; ".join(part for part in row.problems.split("; ") if part and part != said)
        self._overridden[key] = remark
        revised = msgspec.structs.replace(row, verdict=verdict, provisional=False, revision=row.revision + 1,
                                          problems=_joined(problems, remark))
        self._stage(revised)
        return revised

    def flow(self, flow: FlowResult, *, skipped: int = 0) -> None:
        """Add a displacement field and its summary in the row of its frame."""
        self._batch.flows.append(flow)
        self.revise((flow.acquisition, flow.index), counts=False,
                    columns={"flow_median_px": flow.flow_median_px, "flow_p95_px": flow.flow_p95_px})
        fields = {name: getattr(flow, name) for name in flow.__struct_fields__ if name not in _FLOW_ARRAYS}
        if flow.strain is not None:
            fields["strain_planes"] = [{"name": name, "unit": unit}
                                       for name, unit in zip(STRAIN_PLANES, STRAIN_UNITS, strict=True)]
        arrays = {name: getattr(flow, name) for name in _FLOW_ARRAYS}
        self.announce("flow", fields | {"skipped": skipped},
                      {name: array for name, array in arrays.items() if array is not None})

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

    def recollection(self, request: Recollection) -> None:
        """Add a request to take a frame again, or the new state of one."""
        sequence = self._next("recollect")
        self._batch.recollections.append((sequence, request))
        self._outgoing.append(("recollect", sequence, request, {}))

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
        if self._remember is not None:
            self._batch.state.update(self._remember(bool(self._batch.alerts or self._batch.recollections)))
        if self._batch != _NOTHING:
            self._backlog.append(self._batch)
            self._batch = Batch()
        self._write_backlog(until=time.monotonic() + _CATCH_UP_S)
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
        self._write_backlog()
        if self._backlog:
            rows = sum(len(batch.rows) for batch in self._backlog)
            raise SessionError(f"journal {self.journal.path} could not be written to the end, {rows} rows are lost: "
                               f"{self.problem}")

    def _stage(self, row: FrameRow) -> None:
        key = row.acquisition, row.index
        self._rows[key] = row
        if len(self._rows) > _HISTORY:
            self._rows.popitem(last=False)
        self._stage_again(row)

    def _stage_again(self, row: FrameRow) -> None:
        sequence = self._next("frame")
        self._batch.rows.append((sequence, row))
        self._outgoing.append(("frame", sequence, row, {}))

    def _next(self, topic: Topic) -> int:
        self._sequences[topic] = self._sequences.get(topic, 0) + 1
        return self._sequences[topic]

    def _give_up_oldest(self) -> None:
        """Give up what is large in the oldest batch; alerts, commands, facts and the state wait on with the next."""
        old, new = self._backlog.popleft(), self._backlog[0]
        self._given_up |= {(row.acquisition, row.index): None for _, row in old.rows}
        self._backlog[0] = msgspec.structs.replace(
            new, **{name: getattr(old, name) + getattr(new, name) for name in _KEPT},
            facts=old.facts | new.facts, state=old.state | new.state)

    def _write_backlog(self, *, until: float = math.inf) -> None:
        while self._backlog and time.monotonic() < until:
            try:
                self.journal.write(self._backlog[0])
            except SessionError as error:
                if not self.problem:
                    log.error("%s", error)
                if len(self._backlog) > _BACKLOG:
                    self._give_up_oldest()
                lost = f", {len(self._given_up)} rows are given up" if self._given_up else ""
                self.problem = f"{error}; {len(self._backlog)} steps wait{lost}"
                return
            self._backlog.popleft()
        if self.problem and not self._backlog:
            log.warning("journal %s is written again; %s rows are lost", self.journal.path, len(self._given_up) or "no")
            self.problem = ""


def _joined(problems: str, *more: str) -> str:
    """Add to the problems of a row what they do not say yet."""
    return "; ".join(filter(None, (problems, *(text for text in more if text not in problems))))
