"""Recordings through the very same pipeline as the live service, as fast as the machine allows."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from streamer.engine import open_engine, worker_count
from streamer.export import export_session
from streamer.journal import Journal
from streamer.pipeline import Outcome
from streamer.records import EndOfAcquisition, FlowResult, Frame, Refusal
from streamer.service.conveyor import Conveyor
from streamer.service.keeper import Keeper
from streamer.service.lane import FlowDone, compute, examine
from streamer.service.recorder import Recorder
from streamer.settings import Settings, to_toml
from streamer.tracking.deformation import VIEWS, FlowTask, Follower
from streamer.tracking.material import Analyst

_COMMIT_EVERY_S = 0.25


def analyse(
    items: Iterable[Frame | Refusal | EndOfAcquisition], settings: Settings, folder: Path, *,
    name: str = "", pixel_size_nm: float | None = None, recording: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None, on_progress: Callable[[], None] | None = None,
) -> list[Path]:
    """Analyse frames that are already there and leave a session.

    It has the fact ``complete`` only when the last frame was reached; what was measured is kept in any case.

    Parameters
    ----------
    items : iterable
        Frames in order of acquisition, read one at a time.
    settings : Settings
        All settings.
    folder : Path
        The session to be made.
    name : str
        What is analysed, for the summary.
    pixel_size_nm : float, optional
        Size of a pixel on the sample, if the recording tells; a setting goes before it.
    recording : mapping, optional
        Which files are read, for those who want the pictures again: ``path``, ``flat``, ``dark``, ``dataset``.
    facts : mapping, optional
        What else the session shall remember of itself, JSON-encodable, by name.
    on_progress : callable, optional
        Called once for every item.

    Returns
    -------
    list of Path
        The files of the session.

    Raises
    ------
    SessionError, SettingsError, RecordingError
        If the session cannot be written, the engine not be started, or the recording not be read.
    """
    with Journal(folder, create=True) as journal:
        run = _Run(items, settings, journal, on_progress=on_progress)
        try:
            run.run(name=name, pixel_size_nm=settings.pixel_size_nm or pixel_size_nm, recording=recording,
                    facts=facts or {})
        finally:   # what was measured before a recording broke off is kept
            run.finish()
            files = export_session(folder)
    return files


class _Run:
    def __init__(
        self, items: Iterable[Frame | Refusal | EndOfAcquisition], settings: Settings, journal: Journal, *,
        on_progress: Callable[[], None] | None,
    ) -> None:
        self._items = items
        self._journal = journal
        self._settings = settings
        self._on_progress = on_progress
        self._engine = open_engine(settings.engine)
        self._ahead = worker_count(settings.engine)
        self._recorder = Recorder(journal)
        self._flows: deque[tuple[FlowTask, Future[FlowDone]]] = deque()
        self._newest: OrderedDict[str, tuple[FlowTask, FlowResult]] = OrderedDict()
        """Newest field of each view, with its images."""
        self._follower = Follower()
        self._in_order = ThreadPoolExecutor(1, thread_name_prefix="flow")   # every field builds on those before
        self._keeper = Keeper(journal.folder, kept_mb=settings.pictures.kept_mb, patient=True,
                              thumbnails_only=settings.pictures.offline == "thumbnails")
        self._pixel_size_nm: float | None = None
        self._conveyor = Conveyor(_unattended(settings), self._recorder, self._engine, ahead=self._ahead,
                                  on_flow=self._flow,
                                  on_image=None if settings.pictures.offline == "none" else self._keep)
        self._committed = time.monotonic()
        self._complete = False

    def run(self, *, name: str, pixel_size_nm: float | None, recording: Mapping[str, str] | None,
            facts: Mapping[str, Any]) -> None:
        self._pixel_size_nm = pixel_size_nm
        self._recorder.settings(0, to_toml(self._settings, masked=True), who="start")
        self._recorder.facts(session=self._journal.folder.name, input=name, pixel_size_nm=pixel_size_nm,
                             recording=None if recording is None else dict(recording), **facts)
        self._recorder.commit()
        for item in self._items:
            while self._conveyor.full:
                self._conveyor.step()
            self._conveyor.offer(item)
            self._collect_flows(self._ahead)
            self._commit()
            if self._on_progress is not None:
                self._on_progress()
        self._complete = True

    def finish(self) -> None:
        """Bring what was offered to its end."""
        self._conveyor.drain()
        self._collect_flows(0)
        self._conveyor.account(last=True)
        self._keeper.close()
        self._in_order.shutdown()
        self._engine.shutdown()
        self._recorder.facts(ended_at=time.time(), timing=self._conveyor.timing.summary())
        self._analyse_newest()
        if self._complete:
            self._recorder.facts(complete=True)
        self._recorder.close()

    def _analyse_newest(self) -> None:
        """Look at regions and particles once for each view; live, it is done now and then."""
        if self._settings.flow.analysis_s <= 0:
            return
        for task, field in self._newest.values():
            found = examine(task, field, Analyst().analyse)
            self._recorder.flow(found.result or field)
            if found.problems:
                self._recorder.add_problems(found.key, found.problems)

    def _keep(self, frame: Frame, outcome: Outcome) -> None:
        self._keeper.offer(frame, outcome, pixel_size_nm=self._pixel_size_nm or frame.pixel_size_nm)

    def _flow(self, task: FlowTask) -> None:
        self._flows.append((task, self._in_order.submit(compute, task, self._follower)))

    def _collect_flows(self, waiting: int) -> None:
        """Record finished fields in order, until no more than `waiting` are under way."""
        while len(self._flows) > waiting or (self._flows and self._flows[0][1].done()):
            task, future = self._flows.popleft()
            done = future.result()
            if done.result is not None:
                self._newest[task.view] = task, done.result
                self._newest.move_to_end(task.view)
                if len(self._newest) > VIEWS:
                    self._newest.popitem(last=False)
                self._recorder.flow(done.result)
                self._conveyor.timing.add({"flow": done.result.elapsed_ms}, frames=0)
            if done.problems:
                self._recorder.add_problems(done.key, done.problems)

    def _commit(self) -> None:
        if time.monotonic() - self._committed >= _COMMIT_EVERY_S:
            self._recorder.commit()
            self._committed = time.monotonic()


def _unattended(settings: Settings) -> Settings:
    """Leave out what makes sense while the sample is in the beam, and with somebody to tell."""
    return msgspec.structs.replace(
        settings, alerts=msgspec.structs.replace(settings.alerts, escalate_s=0.0),
        recollect=msgspec.structs.replace(settings.recollect, automatic=False))
