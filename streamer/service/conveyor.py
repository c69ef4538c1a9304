"""Frames through the pipeline in order, measured ahead in the engine; the same for live and offline."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Literal

import msgspec

from streamer.clock import utc_text
from streamer.engine import Engine
from streamer.errors import FrameError
from streamer.measuring import rehearse
from streamer.pipeline import DEFAULT_VIEW, SMALLEST_PX, Job, Measurement, Outcome, Pipeline, measure
from streamer.records import Alert, Event, Frame, FrameRow, Kind, Refusal
from streamer.service.frame_log import Entry
from streamer.service.inbox import Dropped, Item
from streamer.service.memory import Memory
from streamer.service.recorder import Recorder
from streamer.service.timing import Timing
from streamer.settings import Settings, from_toml, to_toml
from streamer.sources.sequence import Ledger
from streamer.tracking.alarms import Alarms
from streamer.tracking.deformation import FlowTask
from streamer.tracking.recollections import Change, Recollections

log = logging.getLogger(__name__)

_ACCOUNT_EVERY_S = 0.2
_SHAPES = 8
"""Shapes of frames that are rehearsed; what is done once for a shape is not remembered of more."""
_Measured = Future[Measurement | FrameError | None]


class Conveyor:
    """Take items from a source, in order, and turn each into a record.

    Parameters
    ----------
    settings : Settings
        The settings in force; see `configure`.
    recorder : Recorder
        Receives rows, alerts and events; the caller commits.
    engine : Engine
        Where frames are measured.
    ahead : int
        Frames that may be measured ahead of their turn.
    on_flow : callable
        Receives the frames whose displacement field is wanted.
    on_image : callable, optional
        Receives every measured frame with its outcome, for the screen.
    memory : Memory, optional
        Logs what the estimators are given, so that another streamer can go on.
    """

    def __init__(
        self, settings: Settings, recorder: Recorder, engine: Engine, *, ahead: int,
        on_flow: Callable[[FlowTask], None], on_image: Callable[[Frame, Outcome], None] | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.pipeline = Pipeline(settings)
        self.alarms = Alarms(settings.alerts)
        self.recollections = Recollections(settings.recollect)
        self.ledger = Ledger()
        self.timing = Timing()
        self.settings_revision = 0
        self.views: list[str] = []
        self._recorder = recorder
        self._engine = engine
        self._ahead = ahead
        self._on_flow = on_flow
        self._on_image = on_image
        self._memory = memory
        self._accounted = 0.0
        self._rehearsed: set[tuple[int, ...]] = set()   # shapes
        self._pending: deque[tuple[Job, _Measured | None]] = deque()

    def __len__(self) -> int:
        """Return the number of frames on their way."""
        return len(self._pending)

    @property
    def waiting(self) -> list[Frame]:
        """The frames on their way, oldest first."""
        return [job.frame for job, _ in self._pending]

    @property
    def full(self) -> bool:
        """Whether the oldest frame must be finished before another may be offered."""
        return len(self._pending) > self._ahead

    def configure(self, settings: Settings, revision: int) -> None:
        """Put new settings in force, from the next frame on."""
        self.drain()
        self.pipeline.configure(settings)
        if self._memory is not None:
            self._memory.settings(to_toml(settings, masked=True))
        self.alarms.settings = settings.alerts
        self.recollections.settings = settings.recollect
        self.settings_revision = revision

    def set_reference(self, view: str) -> int:
        """Make the newest usable frame of a view the reference of drift and flow; return its index.

        Raises
        ------
        CommandError
            If the view is not known.
        """
        self.drain()
        index = self.pipeline.set_reference(view)
        if self._memory is not None:
            self._memory.reference(view)
        return index

    def offer(self, item: Item) -> None:
        """Take the next item of the source."""
        if isinstance(item, Frame):
            frame = self._admit(item)
            if frame is not None:
                if self._memory is not None:
                    self._memory.frame(frame, item)
                self._begin(frame)
            return
        self.drain()   # rows stay in the order of arrival
        if isinstance(item, Refusal):
            self._refuse(self.ledger.admit_refusal(item))
        elif isinstance(item, Dropped):
            frame = self._admit(item.frame)
            if frame is not None:
                self._refuse(refusal_of(frame, item.reason, bucket="dropped"))
        else:
            self.report(self.ledger.close(item, at=time.time()))
            self.request(self.recollections.end(self.ledger.is_over, at=time.time()))
        self._account()

    def step(self) -> None:
        """Finish the oldest frame on its way, waiting for it if need be."""
        job, measured = self._pending.popleft()
        started = time.perf_counter()
        outcome = self._finish(job, measured)
        self._record(job.frame, outcome)
        for errand in outcome.errands:
            self._engine.errand(errand)
        if self._memory is not None:
            self._memory.finished()
        self.timing.add(outcome.elapsed_ms | {"finish": 1e3 * (time.perf_counter() - started)})

    def drain(self) -> None:
        """Finish all frames on their way."""
        while self._pending:
            self.step()

    def go_on(self, pipeline: Pipeline, ledger: Ledger, alarms: Mapping[str, Any], recollections: Mapping[str, Any]
              ) -> None:
        """Go on where another conveyor was."""
        self.pipeline, self.ledger = pipeline, ledger
        self.alarms.restore(alarms)
        self.recollections.restore(recollections)

    def replay(self, entries: Iterable[Entry]) -> None:
        """Give the estimators once more what they were given; what came of it is in the journal already."""
        pending: deque[tuple[Job, _Measured | None]] = deque()
        for entry in entries:
            while pending and (entry.frame is None or len(pending) > self._ahead):
                self._finish(*pending.popleft())
            if entry.settings:
                self.pipeline.configure(from_toml(entry.settings))
            elif entry.frame is None:
                self.pipeline.set_reference(entry.view)
            else:
                pending.append(self._start(entry.frame))
        while pending:
            self._finish(*pending.popleft())

    def take_again(self, entry: Entry, *, admitted: bool) -> None:
        """Take a frame that was logged, but not recorded; `admitted` if the ledger has it already."""
        frame = entry.frame if admitted or entry.sent is None else self._admit(entry.sent)
        if frame is not None:
            self._begin(frame)

    def give_up(self, acquisition: str, index: int, *, view: str, kind: Kind) -> None:
        """Drop a frame that was admitted and is nowhere to be found."""
        self._refuse(Refusal(reason="dropped: it was being measured when the streamer ended, and was not kept",
                             bucket="dropped", index=index, acquisition=acquisition, view=view, kind=kind,
                             received_at=time.time()))

    def _begin(self, frame: Frame) -> None:
        self._pending.append(self._start(frame))

    def _start(self, frame: Frame) -> tuple[Job, _Measured | None]:
        if frame.kind != "projection":
            self._rehearse(frame.pixels.shape)
        job = self.pipeline.begin(frame)
        if job.errand is not None:
            self._engine.errand(job.errand)
        return job, self._engine.submit(measure, job) if job.context else None

    def _rehearse(self, shape: tuple[int, ...]) -> None:
        if shape not in self._rehearsed and len(self._rehearsed) < _SHAPES and min(shape) >= SMALLEST_PX:
            self._rehearsed.add(shape)
            self._engine.submit(rehearse, shape)

    def _finish(self, job: Job, measured: _Measured | None) -> Outcome:
        try:
            return self.pipeline.finish(job, None if measured is None else measured.result())
        except Exception as error:  # one broken frame must not end a beamtime
            log.exception("frame %d of %r could not be followed", job.frame.index, job.frame.acquisition)
            return self.pipeline.finish(job, FrameError(f"internal error: {error}; please report it with the log"))

    def report(self, events: list[Event]) -> None:
        """Record what happened to the stream, and the alerts it raises."""
        for event in events:
            self._recorder.event(event)
            self.alert(self.alarms.event(event))

    def alert(self, alerts: list[Alert]) -> None:
        """Record alerts."""
        for alert in alerts:
            if alert.state == "new" and alert.count == 1 and alert.active:
                log.warning("%s: %s", alert.severity, alert.text)
            self._recorder.alert(alert)

    def request(self, changes: list[Change]) -> None:
        """Record requests to take frames again, and what that means for the alerts of these frames."""
        for request, came in changes:
            self._recorder.recollection(request)
            self.alert(self.alarms.recollection(request, came, at=time.time()))

    def revised(self, before: FrameRow, after: FrameRow, *, at: float, who: str = "") -> None:
        """Follow a row that was revised, by a person if `who` is given: its alert and the request for it."""
        changes = self.recollections.revision(before, after, at=at, who=who,
                                              ended=self.ledger.is_over(after.acquisition))
        if not any(change.came == after.index for change in changes):   # told in the alert of the frame it came for
            self.alert(self.alarms.revision(before, after, at=at, who=who))
        self.request(changes)

    def _record(self, frame: Frame, outcome: Outcome) -> None:
        row = msgspec.structs.replace(outcome.row, settings_revision=self.settings_revision)
        fits = True
        if row.recollects is not None:
            fits, remark = self.recollections.claim(row, self._recorder.find(row.recollects, row.acquisition))
            row = msgspec.structs.replace(row, problems="; ".join(filter(None, (row.problems, remark))))
        if row.view not in self.views:
            self.views.append(row.view)
        latency_ms = self._recorder.row(row, received_at=frame.received_at)
        self.timing.add_latency(latency_ms)
        if outcome.spectra is not None:
            self._recorder.spectra(outcome.spectra)
        for key, columns in outcome.revisions:
            changed = self._recorder.revise(key, columns)
            if changed is not None:
                self.revised(*changed, at=frame.received_at)
        changes = self.recollections.frame(row, frame, at=frame.received_at, fits=fits, leaving=outcome.leaving,
                                           stage=outcome.stage, ended=self.ledger.is_over(row.acquisition))
        if outcome.refused:
            self._count_refusal(refusal_of(frame, row.problems))
        else:
            self.ledger.count(row)
            self.alert(self.alarms.frame(row, at=frame.received_at, lost=outcome.lost, jump_px=outcome.jump_px,
                                         focus_loss_px=outcome.focus_loss_px, speed_px=outcome.speed_px,
                                         retried=any(change.came == row.index for change in changes)))
            self.alert(self.alarms.leaving(outcome.leaving, outcome.stage, view=row.view, index=row.index,
                                           at=frame.received_at))
        self.request(changes)
        self._account()
        if outcome.flow is not None:
            self._on_flow(outcome.flow)
        if self._on_image is not None:
            self._on_image(frame, outcome)

    def _admit(self, frame: Frame) -> Frame | None:
        """Give a frame its final number; None for one that came before."""
        admission = self.ledger.admit(frame)
        self.report(admission.events)
        if any(event.kind == "restart" for event in admission.events):   # what comes is no longer of the one before
            self.request(self.recollections.end(self.ledger.is_over, at=time.time()))
        if admission.frame is None:
            self.drain()   # the row of the first one must be there
            for event in admission.events:
                if event.kind == "duplicate" and event.index is not None:
                    self._recorder.add_problems((event.acquisition, event.index), ("came again, the copy was refused",))
        return admission.frame

    def _refuse(self, refusal: Refusal) -> None:
        """Count a frame that is not measured, and give it its row when its number is known."""
        self._count_refusal(refusal)
        if refusal.index is None or self._recorder.has_row((refusal.acquisition, refusal.index)):
            return
        row = FrameRow(
            index=refusal.index, acquisition=refusal.acquisition, view=refusal.view or DEFAULT_VIEW,
            kind=refusal.kind, exposed_at=utc_text(refusal.exposed_at), received_at=utc_text(refusal.received_at),
            problems=refusal.reason, settings_revision=self.settings_revision)
        self._recorder.row(row, received_at=refusal.received_at)

    def _count_refusal(self, refusal: Refusal) -> None:
        self.ledger.count(refusal)
        self.report([Event(kind=refusal.bucket, text=refusal.reason, acquisition=refusal.acquisition,
                           index=refusal.index, at=time.time())])

    def _account(self) -> None:
        """Bring the accounting up to date, but not for every frame of a fast stream: long lists cost."""
        now = time.monotonic()
        if now - self._accounted >= _ACCOUNT_EVERY_S:
            self._accounted = now
            self.account()

    def account(self, *, last: bool = False) -> None:
        """Bring the accounting up to date, and do what time brings to the alerts; `last` at the end."""
        self.alert(self.alarms.tick(at=time.time(), flush=last))
        self._recorder.facts(calibration=self.pipeline.calibration, motion=self.pipeline.motion,
                             accounting=self.ledger.accounting(),
                             accounting_by_acquisition=self.ledger.accounting_by_acquisition())


def refusal_of(frame: Frame, reason: str, *, bucket: Literal["refused", "dropped"] = "refused") -> Refusal:
    """Say why a frame that was admitted is not measured."""
    return Refusal(reason=reason, bucket=bucket, index=frame.index, acquisition=frame.acquisition, view=frame.view,
                   kind=frame.kind, exposed_at=frame.exposed_at, received_at=frame.received_at)
