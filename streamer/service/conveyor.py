"""Frames through the pipeline in order, measured ahead in the engine; the same for live and offline."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Literal

import msgspec

from streamer.clock import utc_text
from streamer.errors import FrameError
from streamer.pipeline import DEFAULT_VIEW, Job, Measurement, Outcome, Pipeline, measure
from streamer.records import Alert, Event, Frame, FrameRow, Refusal
from streamer.service.inbox import Dropped, Item
from streamer.service.recorder import Recorder
from streamer.service.timing import Timing
from streamer.settings import Settings
from streamer.sources.sequence import Ledger
from streamer.tracking.alarms import Alarms
from streamer.tracking.deformation import FlowTask

log = logging.getLogger(__name__)

_ACCOUNT_EVERY_S = 0.2
_Measured = Future[Measurement | FrameError | None]


class Conveyor:
    """Take items from a source, in order, and turn each into a record.

    Parameters
    ----------
    settings : Settings
        The settings in force; see `configure`.
    recorder : Recorder
        Receives rows, alerts and events; the caller commits.
    executor : Executor
        Where frames are measured.
    ahead : int
        Frames that may be measured ahead of their turn.
    on_flow : callable
        Receives the frames whose displacement field is wanted.
    on_image : callable, optional
        Receives every measured frame with its outcome, for the screen.
    """

    def __init__(
        self, settings: Settings, recorder: Recorder, executor: Executor, *, ahead: int,
        on_flow: Callable[[FlowTask], None], on_image: Callable[[Frame, Outcome], None] | None = None,
    ) -> None:
        self.pipeline = Pipeline(settings)
        self.alarms = Alarms(settings.alerts)
        self.ledger = Ledger()
        self.timing = Timing()
        self.settings_revision = 0
        self.views: list[str] = []
        self._recorder = recorder
        self._executor = executor
        self._ahead = ahead
        self._on_flow = on_flow
        self._on_image = on_image
        self._accounted = 0.0
        self._pending: deque[tuple[Job, _Measured | None]] = deque()

    def __len__(self) -> int:
        """Return the number of frames on their way."""
        return len(self._pending)

    @property
    def full(self) -> bool:
        """Whether the oldest frame must be finished before another may be offered."""
        return len(self._pending) > self._ahead

    def configure(self, settings: Settings, revision: int) -> None:
        """Put new settings in force, from the next frame on."""
        self.drain()
        self.pipeline.configure(settings)
        self.alarms.settings = settings.alerts
        self.settings_revision = revision

    def offer(self, item: Item) -> None:
        """Take the next item of the source."""
        if isinstance(item, Frame):
            frame = self._admit(item)
            if frame is not None:
                job = self.pipeline.begin(frame)
                self._pending.append((job, self._executor.submit(measure, job) if job.context else None))
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
        self._account()

    def step(self) -> None:
        """Finish the oldest frame on its way, waiting for it if need be."""
        job, measured = self._pending.popleft()
        started = time.perf_counter()
        try:
            measurement = None if measured is None else measured.result()
            outcome = self.pipeline.finish(job, measurement)
        except Exception as error:  # one broken frame must not end a beamtime
            log.exception("frame %d of %r could not be followed", job.frame.index, job.frame.acquisition)
            outcome = self.pipeline.finish(job, FrameError(f"internal error: {error}; please report it with the log"))
        self._record(job.frame, outcome)
        self.timing.add(outcome.elapsed_ms | {"finish": 1e3 * (time.perf_counter() - started)})

    def drain(self) -> None:
        """Finish all frames on their way."""
        while self._pending:
            self.step()

    def report(self, events: list[Event]) -> None:
        """Record what happened to the stream, and the alerts it raises."""
        for event in events:
            self._recorder.event(event)
            self.alert(self.alarms.event(event))

    def alert(self, alerts: list[Alert]) -> None:
        """Record alerts."""
        for alert in alerts:
            if alert.state == "new":
                log.warning("%s: %s", alert.severity, alert.text)
            self._recorder.alert(alert)

    def _record(self, frame: Frame, outcome: Outcome) -> None:
        row = msgspec.structs.replace(outcome.row, settings_revision=self.settings_revision)
        if row.view not in self.views:
            self.views.append(row.view)
        latency_ms = self._recorder.row(row, received_at=frame.received_at)
        self.timing.add_latency(latency_ms)
        if outcome.spectra is not None:
            self._recorder.spectra(outcome.spectra)
        for key, columns in outcome.revisions:
            changed = self._recorder.revise(key, columns)
            if changed is not None:
                self.alert(self.alarms.revision(*changed, at=frame.received_at))
        if outcome.refused:
            self._count_refusal(refusal_of(frame, row.problems))
        else:
            self.ledger.count(row)
            self.alert(self.alarms.frame(row, at=frame.received_at, lost=outcome.lost, jump_px=outcome.jump_px,
                                         focus_loss_px=outcome.focus_loss_px))
            self.alert(self.alarms.leaving(outcome.leaving, outcome.stage, view=row.view, index=row.index,
                                           at=frame.received_at))
        self._account()
        if outcome.flow is not None:
            self._on_flow(outcome.flow)
        if self._on_image is not None:
            self._on_image(frame, outcome)

    def _admit(self, frame: Frame) -> Frame | None:
        """Give a frame its final number; None for one that came before."""
        admission = self.ledger.admit(frame)
        self.report(admission.events)
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

    def account(self) -> None:
        """Bring the accounting up to date."""
        self._recorder.facts(calibration=self.pipeline.calibration, motion=self.pipeline.motion,
                             accounting=self.ledger.accounting(),
                             accounting_by_acquisition=self.ledger.accounting_by_acquisition())


def refusal_of(frame: Frame, reason: str, *, bucket: Literal["refused", "dropped"] = "refused") -> Refusal:
    """Say why a frame that was admitted is not measured."""
    return Refusal(reason=reason, bucket=bucket, index=frame.index, acquisition=frame.acquisition, view=frame.view,
                   kind=frame.kind, exposed_at=frame.exposed_at, received_at=frame.received_at)
