"""The live service: frames from a source, analysed as they come, until it is told to stop."""

from __future__ import annotations

import logging
import math
import shutil
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamer import __version__
from streamer.engine import open_engine, worker_count
from streamer.errors import TxmError
from streamer.export import export_session
from streamer.journal import Journal
from streamer.pipeline import Key, Outcome
from streamer.records import AnyArray, EndOfAcquisition, Frame, Refusal, Status
from streamer.service.checkpoints import Checkpoints
from streamer.service.commands import Commands, Request
from streamer.service.continuity import Continuity
from streamer.service.conveyor import Conveyor
from streamer.service.flow_process import FlowProcess
from streamer.service.herald import Herald
from streamer.service.inbox import Dropped, Inbox, Item
from streamer.service.keeper import Keeper
from streamer.service.lane import FlowDone, FlowLane
from streamer.service.outbox import Outbox
from streamer.service.preview import Preview, Previewer
from streamer.service.recorder import Recorder
from streamer.service.screen import picture, uncorrected
from streamer.service.spectra import with_picture
from streamer.service.timing import Rate
from streamer.service.watch import Condition, Watch
from streamer.settings import Settings
from streamer.sources import Source
from streamer.tracking.deformation import FlowTask
from streamer.wire import Topic

log = logging.getLogger(__name__)

_TICK_S = 0.25
_RECEIVE_S = 0.2
_LAST_CALL_S = 1.0
_BEHIND = 1
"""Frames on their way, beside the one whose row is written, beyond which most of what can be left out is: fields and
full pictures, counted."""
_BEHIND_FIELD_S = 0.5
"""Time between two fields then."""
_LISTED = 50
"""Open requests to take frames again that every heartbeat repeats."""


class Service:
    """A session being taken.

    Parameters
    ----------
    settings : Settings
        All settings.
    folder : Path
        The session to be made, or to go on with.
    source : Source
        Where frames come from; closed at the end.

    Raises
    ------
    SessionError, LinkError, SettingsError
        If the session, an endpoint or the engine cannot be opened.
    """

    def __init__(self, settings: Settings, folder: Path, source: Source) -> None:
        self.settings = settings
        self.folder = folder
        self._source = source
        self._stop = threading.Event()
        self._open: set[str] = set()
        """Acquisitions of projections that their sender has not closed."""
        self._ended = False
        self._started = time.monotonic()
        self._engine = open_engine(settings.engine)
        policy = settings.frames.overload
        if policy == "auto":
            policy = "block" if source.waits else "drop_oldest"
        self.inbox = Inbox(settings.frames.queue, policy)
        self.commands = Commands(self)
        try:
            self.outbox = Outbox(
                settings.results.endpoint, settings.control.endpoint, folder=folder,
                handler=lambda command, reply: self.inbox.put_urgent(Request(command, reply)))
            try:
                self.herald = Herald(settings, session=folder.name)
                self.journal = Journal(folder, create=True, resume=True)   # last: a start that fails leaves no session
            except TxmError:
                self.outbox.close()
                raise
        except TxmError:
            self._engine.shutdown()
            raise
        self._checkpoints = Checkpoints(self.journal)
        self.recorder = Recorder(self.journal, publish=self._publish, due=self.herald.due)
        self._lane = FlowLane(self.inbox.put_urgent, process=FlowProcess() if settings.flow.process else None)
        self._previewer = Previewer(self.inbox.put_urgent)
        self._keeper = Keeper(folder, kept_mb=settings.pictures.kept_mb)
        self._continuity = Continuity(self, folder)
        self.conveyor = Conveyor(settings, self.recorder, self._engine, ahead=worker_count(settings.engine),
                                 on_flow=self._follow, on_image=lambda *seen: self._unshown.append(seen),
                                 memory=self._continuity.memory)
        self._watcher = Watch(self.conveyor.alarms.is_active, waits=policy == "block")
        self._received = Rate()
        self._measured = Rate()
        self._last_frame: float | None = None
        self._arrived = 0.0   # the same on a clock that never steps
        self._last_image = self._last_field = -math.inf
        self._unshown: deque[tuple[Frame, Outcome]] = deque()
        self._shown: Key | None = None
        self._beside_image: dict[str, AnyArray] = {}
        self._next_tick = 0.0
        self._pixel_size_nm = settings.pixel_size_nm or None
        self._acquisition = ""
        try:
            self.herald.recall(self.journal)
            self._continuity.begin()
        except TxmError:
            self._abandon()
            raise
        self.recorder.facts(session=folder.name, input=source.endpoint, pixel_size_nm=self._pixel_size_nm)
        self.recorder.commit()
        self.herald.start(self.journal)

    @property
    def resumed(self) -> str:
        """In words, whether a session is gone on with; empty if it is not."""
        return self._continuity.resumed

    def snapshot(self) -> dict[str, Any]:
        """Return what is known of the stream, as builtins."""
        return {"open": sorted(self._open), "ended": self._ended, "acquisition": self._acquisition,
                "last_frame": self._last_frame, "pixel_size_nm": self._pixel_size_nm,
                "views": list(self.conveyor.views), "flow": [self._lane.done, self._lane.skipped]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `snapshot`."""
        self.conveyor.views = [str(view) for view in state["views"]]
        self._open, self._ended = set(state["open"]), bool(state["ended"])
        self._acquisition, self._last_frame = str(state["acquisition"]), state["last_frame"]
        self._arrived = time.monotonic() - max(0.0, time.time() - (self._last_frame or 0.0))
        self._pixel_size_nm = self._pixel_size_nm or state["pixel_size_nm"]
        self._lane.done, self._lane.skipped = (int(count) for count in state["flow"])

    def stop(self) -> None:
        """Ask the service to finish what it has and end; from any thread or signal handler."""
        self._stop.set()

    def run(self, *, until_end: bool = False) -> None:
        """Work until `stop` is called, or, with `until_end`, until the sender closes its acquisitions."""
        receiver = threading.Thread(target=self._receive, name="receiver", daemon=True)
        receiver.start()
        try:
            while not self._stop.is_set() and not (until_end and self._ended and not len(self.conveyor)):
                self._turn(_TICK_S)
                self._tick()
        finally:
            self._stop.set()
            self.inbox.close()
            receiver.join()
            self._finish()

    def _turn(self, timeout_s: float) -> bool:
        """Do one thing: finish a frame if none may be taken, else take what comes; False when idle."""
        if self.conveyor.full:
            self._step()
            return True
        matter = self.inbox.get(0.0 if len(self.conveyor) else timeout_s)
        if matter is None:
            if not len(self.conveyor):
                return False
            self._step()
        elif isinstance(matter, Request):
            self.conveyor.drain()
            self.commands.answer(matter)
        elif isinstance(matter, FlowDone):
            self._record_flow(matter)
        elif isinstance(matter, Preview):
            self._announce_preview(matter)
        else:
            self.note(matter)
            self.conveyor.offer(matter)
        self._show_new()
        self.recorder.commit()
        self._continuity.keep()
        return True

    def _publish(self, topic: Topic, sequence: int, fields: Any, arrays: Mapping[str, AnyArray]) -> None:
        self.outbox.publish(topic, sequence, fields, arrays)
        self.herald.publish(fields)

    def _step(self) -> None:
        self.conveyor.step()
        self._measured.tick()
        self.recorder.commit()
        self._show_new()

    def note(self, item: Item) -> None:
        """Take note of which acquisitions are open, and of when a frame came."""
        if isinstance(item, EndOfAcquisition):
            closed = {item.acquisition} if item.acquisition else set(self._open)   # without a name: what is open
            if closed & self._open:
                self._open -= closed
                self._ended = not self._open
            return
        arrived = item.frame if isinstance(item, Dropped) else item
        self._last_frame, self._arrived = arrived.received_at or time.time(), time.monotonic()
        if isinstance(arrived, Refusal):   # a message that could not be read opens nothing
            return
        if arrived.kind == "projection":   # flats and darks may be acquisitions of their own; they come and go
            self._acquisition = arrived.acquisition
            self._open.add(arrived.acquisition)
            self._ended = False
        if isinstance(item, Frame) and item.pixel_size_nm and self._pixel_size_nm is None:
            self._pixel_size_nm = item.pixel_size_nm
            self.recorder.facts(pixel_size_nm=item.pixel_size_nm)

    def _record_flow(self, done: FlowDone) -> None:
        key, result, problems = done
        if result is not None:
            self.recorder.flow(result, skipped=self._lane.skipped)
            self.conveyor.timing.add({"flow": result.elapsed_ms}, frames=0)
        if problems:
            self.recorder.add_problems(key, problems)

    @property
    def _is_behind(self) -> bool:
        return len(self.inbox) + len(self.conveyor) > _BEHIND

    def _follow(self, task: FlowTask) -> None:
        """Have the field of a frame computed; of few frames while others wait to be scored."""
        now = time.monotonic()
        if self._is_behind and now - self._last_field < _BEHIND_FIELD_S:
            self._lane.skip()
            return
        self._last_field = now
        self._lane.put(task)

    def _show_new(self) -> None:
        """Make the pictures of what was measured; rows and alerts need not wait for them."""
        while self._unshown:
            self._show(*self._unshown.popleft())

    def _show(self, frame: Frame, outcome: Outcome) -> None:
        """Keep the picture of every frame, and send the newest one, not more often than asked for."""
        self._keeper.kept_mb = self.settings.pictures.kept_mb
        self._keeper.offer(frame, outcome, pixel_size_nm=self._pixel_size_nm, hurry=self._is_behind)
        now = time.monotonic()
        if outcome.image is None or now - self._last_image < 1.0 / self.settings.results.image_rate_hz:
            return
        self._last_image = now
        coding, image = picture(outcome.image)
        about_spectra, self._beside_image = with_picture(outcome.spectra)
        fields = coding | about_spectra | {"index": outcome.row.index, "acquisition": outcome.row.acquisition,
                           "view": outcome.row.view, "kind": frame.kind, "pixel_size_nm": self._pixel_size_nm}
        self._shown = outcome.row.acquisition, outcome.row.index
        if outcome.corrected:
            about_raw, raw = uncorrected(frame.pixels)
            fields, self._beside_image = fields | about_raw, {"raw": raw} | self._beside_image
        if len(self.inbox) or not self._previewer.offer(outcome, fields, image):   # waiting frames need the time
            self.recorder.announce("image", fields, {"image": image, **self._beside_image})

    def _announce_preview(self, done: Preview) -> None:
        """Send the picture of a blurred frame with its preview, unless a newer picture went out meanwhile."""
        if self._shown == (done.fields["acquisition"], done.fields["index"]):
            self.recorder.announce("image", done.fields, {**done.arrays, **self._beside_image})

    def _receive(self) -> None:
        """Read the source; when told to stop, still take what has already reached this machine."""
        last_call = math.inf
        while time.monotonic() < last_call:
            if self._stop.is_set():
                last_call = min(last_call, time.monotonic() + _LAST_CALL_S)
            try:
                item = self._source.receive(_RECEIVE_S if last_call == math.inf else 0.0)
            except TxmError as error:
                log.error("%s", error)
                continue
            if item is not None:
                self._received.tick()
                self.inbox.put(item)
            elif last_call < math.inf:
                return

    def _tick(self) -> None:
        now = time.monotonic()
        if now < self._next_tick:
            return
        self._next_tick = now + _TICK_S
        status = self.status()
        self._watch(status)
        self.conveyor.account()
        self.herald.tick(status, self.recorder)
        self._continuity.tick()
        self.recorder.commit()
        self._continuity.keep()   # also when no frames come: a hole on a full disk is closed once there is room
        self.outbox.update_status(status)

    def _watch(self, status: Status) -> None:
        """Follow the lasting conditions that raise alerts."""
        conditions = [
            *self._watcher.look(status, self.settings.alerts),
            Condition("journal", self.recorder.problem or self._continuity.memory.problem or None),
            Condition("channel", "; ".join(self.herald.problems) or None)]
        for rule, text, severity in conditions:
            self.conveyor.alert(self.conveyor.alarms.condition(rule, text, at=time.time(), severity=severity))

    def status(self) -> Status:
        """Say where the streamer stands."""
        latency = self.conveyor.timing.quantiles("latency") or (None, None)
        state = "waiting" if self._last_frame is None else "idle" if self._ended else "receiving"
        return Status(
            at=time.time(), state="stopping" if self._stop.is_set() else state,   # type: ignore[arg-type]
            version=__version__, uptime_s=time.monotonic() - self._started, session_dir=str(self.folder.absolute()),
            frames_endpoint=self._source.endpoint, results_endpoint=self.outbox.results_endpoint,
            control_endpoint=self.outbox.control_endpoint, protocol=self._source.protocol,
            acquisition=self._acquisition, views=list(self.conveyor.views),
            accounting=self.conveyor.ledger.accounting(), queue=len(self.inbox), queue_limit=self.inbox.limit,
            received_hz=self._received.hz(), measured_hz=self._measured.hz(),
            latency_median_ms=latency[0], latency_p95_ms=latency[1],
            flow_done=self._lane.done, flow_skipped=self._lane.skipped,
            flow_restarts=self._lane.restarts, pictures_skipped=self._keeper.skipped,
            last_frame_age_s=None if self._last_frame is None else time.monotonic() - self._arrived,
            pixel_size_nm=self._pixel_size_nm, calibration=self.conveyor.pipeline.calibration,
            motion=self.conveyor.pipeline.motion,
            settings_revision=self.conveyor.settings_revision,
            blur_tolerance_px=self.settings.blur.tolerance_px,
            blur_score_threshold=self.settings.blur.score_threshold,
            blur_shortest_px=self.settings.blur.shortest_px, recollections=self.conveyor.recollections.open()[:_LISTED],
            disk_free_gb=_disk_free_gb(self.folder),
            problems=[problem for problem in (
                self.recorder.problem, self._continuity.memory.problem, self._keeper.problem, self._lane.problem,
                *self.herald.problems)
                      if problem])

    def _abandon(self) -> None:
        """End what was started for a session that cannot be gone on with."""
        self._lane.close()
        self._previewer.close()
        self._keeper.close()
        self._continuity.memory.close()
        self.outbox.close()
        self._engine.shutdown()
        self._checkpoints.close()
        self.journal.close()

    def _finish(self) -> None:
        """Bring everything that was received to its end, in memory, in the journal and as files."""
        self._source.close()
        while self._turn(0.0):
            pass
        self._lane.close()
        self._previewer.close()
        self._keeper.close()
        while self._turn(0.0):
            pass
        self.conveyor.account(last=True)
        try:
            self.herald.close(self.recorder)
            self.recorder.facts(ended_at=time.time(), timing=self.conveyor.timing.summary())
            self.recorder.close()
        finally:
            self._continuity.close()
            self.outbox.update_status(self.status())
            self.outbox.close()
            self._engine.shutdown()
            self._checkpoints.close()
            self.journal.close()
        export_session(self.folder)


def _disk_free_gb(folder: Path) -> float | None:
    try:
        return shutil.disk_usage(folder).free / 1e9
    except OSError:
        return None
