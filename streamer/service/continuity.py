"""Going on with a session after its streamer has ended, in whatever way: what is kept for that, and how it is taken up.

With every commit the journal takes what is small: the accounting, the alerts that are open, how far the sequence
numbers and the estimators were. The estimators themselves, which hold pictures, are kept by `Memory`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer.clock import utc_text
from streamer.errors import SessionError
from streamer.journal import Journal
from streamer.pipeline import Key, Pipeline
from streamer.records import Event
from streamer.service.frame_log import Entry
from streamer.service.memory import Memory
from streamer.service.session_state import Left, SessionState
from streamer.settings import Settings, from_toml, to_toml, update
from streamer.sources.ranges import Ranges
from streamer.sources.sequence import Ledger

if TYPE_CHECKING:
    from streamer.service.live import Service

log = logging.getLogger(__name__)


def settings_left(folder: Path, given: Settings, changes: Mapping[str, Any]) -> Settings:
    """Return the settings with which a session that is there goes on; those given when there is none.

    Parameters
    ----------
    folder : Path
    given : Settings
        By the command line and its file. Of these, only what a session does not keep is used: secret addresses.
    changes : mapping of str to value
        What the command line itself sets.
    """
    try:
        with Journal(folder) as journal:
            toml = journal.settings()[1] if journal.state() else ""
    except SessionError:   # none, or none to go on with: the service says so
        return given
    return update(from_toml(toml, secrets=given), changes) if toml else given


class Continuity:
    """Keep what the next streamer needs, and take up what the last one has left.

    Parameters
    ----------
    service : Service
        Whose session it is; used from `begin` on.
    folder : Path
        The session.
    """

    def __init__(self, service: Service, folder: Path) -> None:
        self.memory = Memory(folder)
        self.resumed = ""
        """In words, whether this streamer goes on with a session; empty if it does not."""
        self._service = service
        self._beat: tuple[float, int] = (0.0, 0)

    def begin(self) -> None:
        """Begin the session, or go on with the one that is there; the caller commits.

        Raises
        ------
        SessionError
            If what was left cannot be read, or nothing can be written.
        """
        service = self._service
        left, toml = service.journal.state(), to_toml(service.settings, masked=True)
        if left:
            self._go_on(Left(left), toml)
        else:
            service.recorder.settings(0, toml, who="start")
            self.memory.start(toml, service.conveyor.pipeline.snapshot)
        service.recorder.remember(SessionState(
            service.conveyor.ledger.changes,
            {"counters": self._counters, "service": service.snapshot, "beat": lambda: self._beat},
            {"alarms": service.conveyor.alarms.snapshot,
             "recollections": service.conveyor.recollections.snapshot}).parts)

    def tick(self) -> None:
        """Note that the streamer lives, and mark a hole in the journal once it is written again; the caller commits."""
        self._beat = time.time(), self._service.outbox.beats
        given_up = self._service.recorder.take_given_up()
        if given_up:
            self._mark_hole(given_up)

    def keep(self) -> None:
        """Keep the state of the estimators when it is due, in between two commits."""
        service = self._service
        if not self.memory.due or service.recorder.problem:   # what is in the state must be in the journal
            return
        service.conveyor.drain()
        service.recorder.commit()
        if not service.recorder.problem:
            self.memory.keep(to_toml(service.settings, masked=True), service.conveyor.pipeline.snapshot)

    def close(self) -> None:
        """Keep the state for the last time; nothing may be on its way."""
        service = self._service
        if not service.recorder.problem and self.memory.logged == self.memory.done:
            self.memory.keep(to_toml(service.settings, masked=True), service.conveyor.pipeline.snapshot)
        self.memory.close()

    def _mark_hole(self, given_up: list[Key]) -> None:
        service, now = self._service, time.time()
        frames: dict[str, Ranges] = {}
        for acquisition, index in given_up:
            frames.setdefault(acquisition, Ranges()).add(index, index)
        holes = []
        for acquisition, numbers in frames.items():
            text = (f"{len(numbers)} rows of {acquisition!r} could not be written and are lost: frames "
                    + ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in numbers))
            service.conveyor.report([Event(kind="lost", text=text, acquisition=acquisition, at=now)])
            holes.append({"at": utc_text(now), "acquisition": acquisition, "count": len(numbers),
                          "indices": numbers.to_list()})
        service.recorder.facts(lost_rows=[*service.journal.meta().get("lost_rows", []), *holes])

    def _counters(self) -> dict[str, Any]:
        service = self._service
        return {"logged": self.memory.logged, "done": self.memory.done, "sequences": service.recorder.sequences,
                "waiting": [[frame.acquisition, frame.index, frame.view, frame.kind]
                            for frame in service.conveyor.waiting]}

    def _go_on(self, left: Left, toml: str) -> None:
        service, kept = self._service, self.memory.read()
        try:
            counters, own, done = left["counters"], left["service"], int(left["counters"]["done"])
            pipeline = Pipeline.restored(from_toml(kept.settings), kept.pipeline)
            revision, toml_before = service.journal.settings()
            service.conveyor.go_on(pipeline, Ledger.joined(left.ledger()), left["alarms"], left["recollections"])
            service.conveyor.settings_revision = revision
            service.recorder.go_on(counters["sequences"])
            service.restore(own)
            ended_at, service.outbox.beats = float(left["beat"][0]), int(left["beat"][1]) + 2   # one may be unknown
        except (KeyError, TypeError, ValueError) as error:
            raise SessionError(f"the state of session {service.folder} cannot be taken up: {type(error).__name__} "
                               f"{error}; choose another folder") from error
        again = [entry for entry in kept.entries if entry.number > done and entry.frame is not None]
        reached = max([kept.position, *(entry.number for entry in kept.entries)])
        service.conveyor.replay(entry for entry in kept.entries if entry.number <= done)
        service.conveyor.pipeline = Pipeline.restored(service.settings, service.conveyor.pipeline.snapshot())
        if toml != toml_before:
            service.conveyor.settings_revision = revision + 1
            service.recorder.settings(revision + 1, toml, who="restart")
        self.memory.start(toml, service.conveyor.pipeline.snapshot, done=done, entries=again)
        self._tell(ended_at, stale=max(0, done - reached))
        self._take_again(again, counters)

    def _take_again(self, again: list[Entry], counters: dict[str, Any]) -> None:
        """Measure what had come, but was not recorded; give up what cannot be found any more."""
        service, found = self._service, set()
        for entry in again:
            if entry.frame is not None and entry.sent is not None:
                found.add((entry.frame.acquisition, entry.frame.index))
                service.note(entry.sent)
                service.conveyor.take_again(entry, admitted=entry.number <= counters["logged"])
        for acquisition, index, view, kind in counters["waiting"]:
            if (acquisition, index) not in found:
                service.conveyor.give_up(acquisition, index, view=view, kind=kind)

    def _tell(self, ended_at: float, *, stale: int) -> None:
        service, now = self._service, time.time()
        newest = service.recorder.newest
        where = "" if newest is None else f", it goes on after frame {newest[1]} of {newest[0]!r}"
        text = f"the streamer was started again {max(0.0, now - ended_at):.1f} s after it had ended{where}"
        if stale:
            text += (f"; the state of the analysis could not be kept to the end (disk full?), it is {stale} frames "
                     "older than the results")
        self.resumed = f" goes on: {text}"
        service.conveyor.report([Event(kind="resumed", text=text, acquisition="" if newest is None else newest[0],
                                       index=None if newest is None else newest[1], at=now)])
        restarts = [*service.journal.meta().get("restarts", []),
                    {"at": utc_text(now), "ended_at": utc_text(ended_at), "after": None if newest is None else
                     {"acquisition": newest[0], "index": newest[1]}, "stale_frames": stale}]
        service.recorder.facts(restarts=restarts, ended_at=None)
