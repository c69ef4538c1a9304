"""What the dashboard knows: rows, alerts, status, the newest picture and field. No Qt, no sockets.

A row that comes again (a revision) replaces itself; history and live messages are merged by their sequence number.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import msgspec

from monitor.rows import Charts, Key, RowTable
from streamer.errors import ProtocolError
from streamer.records import (
    STRAIN_PLANES,
    Alert,
    AnyArray,
    FlowResult,
    FrameRow,
    Kind,
    Recollection,
    SpectraResult,
    Status,
)
from streamer.wire import SPECTRA_PAYLOADS, TOPICS, Result, decode_columns

SEVERITIES = ("NO_ALARM", "MINOR", "MAJOR", "INVALID")
"""By rank; INVALID means that nothing is known, which outranks any known state."""

WAITING = frozenset({"new", "requested"})
"""States of an alert that nobody has acknowledged; a request for its frames is no acknowledgement."""

Sequel = Literal["ok", "gap", "restart"]
Extra = Literal["strain", "regions", "analysis"]
EXTRAS: tuple[Extra, ...] = ("strain", "regions", "analysis")
"""What a field may come with."""
MOST_ANALYSED = 48
"""Fields of about 200 kB that are kept for these, of the views seen last."""
_Record = TypeVar("_Record", bound=msgspec.Struct)


class Picture(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The newest corrected frame, packed for display."""

    index: int
    acquisition: str
    view: str
    kind: Kind
    offset: float
    scale: float
    """value = offset + scale * pixel."""
    binning: int = 1
    """One pixel of the picture covers `binning` x `binning` pixels of the frame."""
    pixel_size_nm: float | None = None
    """Of the frame, not of the binned picture."""
    image: AnyArray | None = None
    """(M, N) uint16, read-only."""
    deblurred: AnyArray | None = None
    """(M, N) uint16, the same frame with its blur taken out as far as possible; of blurred frames only."""
    deblur: dict[str, Any] | None = None
    """What is said of it: ``text`` and more."""
    spectra: SpectraResult | None = None


class Store:
    """Everything received, safe to fill from one thread and to read from another.

    Rows and alerts are all kept (about 1 kB a row); of pictures and fields only the newest.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.version = 0
        """Counts up with every change of a row; charts made of the same version are the same."""
        self.alert_version = 0
        """Counts up with every change of an alert."""
        self._start("")

    def _start(self, session: str) -> None:
        self.session = session
        self._table = RowTable()
        self._alerts: dict[int, tuple[int, Alert]] = {}
        self._sorted: tuple[list[Alert], list[Alert]] | None = None
        """All alerts and those that wait, newest first; None when they have changed."""
        self._recollections: dict[int, tuple[int, Recollection]] = {}
        self.status: Status | None = None
        self.picture: Picture | None = None
        self.pictures, self.picture_at = 0, 0.0
        """How many have come, and when the newest one did, by `time.monotonic`."""
        self.flow: FlowResult | None = None
        self._analysed: OrderedDict[tuple[str, Extra], FlowResult] = OrderedDict()
        """Newest field of each view that came with an extra: the streamer works them out from time to time only."""
        self.newest: Key | None = None
        """The projection received last."""
        self._newest_at = ""
        self._heard: dict[str, int] = {}
        self._known: dict[str, int] = {}
        self.lost: dict[str, int] = {}
        """Messages per topic that never came, before history filled them in."""
        self.version += 1
        self.alert_version += 1

    def reset(self, session: str) -> None:
        """Forget everything: another session begins."""
        with self._lock:
            self._start(session)

    def restart(self) -> None:
        """Keep the rows, but let any sequence number replace them: the streamer counts from one again."""
        with self._lock:
            self._heard, self._known = {}, {}
            self._table.forget_sequences()
            self._alerts = {number: (0, alert) for number, (_, alert) in self._alerts.items()}
            self._recollections = {number: (0, request) for number, (_, request) in self._recollections.items()}

    def accept(self, result: Result) -> Sequel:
        """Take one message of this session in.

        Returns
        -------
        {"ok", "gap", "restart"}
            "gap" if messages of its topic are missing before it, "restart" if its number was already used:
            the caller asks for the history. In both cases the message itself is taken in. A topic of a newer
            streamer is "ok" and ignored.

        Raises
        ------
        ProtocolError
            If a field is missing or of another type.
        """
        if result.topic not in TOPICS:
            return "ok"
        with self._lock:
            sequel = self._follow(result)
            if sequel == "restart":
                self.restart()
                self._heard[result.topic] = result.sequence
            getattr(self, f"_take_{result.topic}")(result)
            return sequel

    def merge(self, history: Any) -> int:
        """Merge the answer to a ``history`` request; return how many rows it brought.

        Raises
        ------
        ProtocolError
            If it is not a history.
        """
        try:
            rows = msgspec.convert(history["frames"], list[FrameRow])
            alerts = msgspec.convert(history["alerts"], list[Alert])
            requests = msgspec.convert(history.get("recollections", []), list[Recollection])
            sequence = msgspec.convert(history["sequence"], dict[str, int])
        except (KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
            raise ProtocolError(f"history of the streamer cannot be read: {error}") from error
        changed = self._put_columns(history.get("columns"), sequence.get("frame", 0))
        remaining = iter(rows)
        while chunk := list(itertools.islice(remaining, 1000)):   # a reader need not wait for all of them
            with self._lock:
                changed += sum(self._put(row, sequence.get("frame", 0)) for row in chunk)
        with self._lock:
            self._put_alerts(alerts, sequence.get("alert", 0))
            self._put_recollections(requests, sequence.get("recollect", 0))
            self._known |= sequence   # a page without alerts says nothing of theirs
        return changed

    def heard(self, topic: str) -> int:
        """Sequence number up to which messages of a topic are known."""
        with self._lock:
            return max(self._heard.get(topic, 0), self._known.get(topic, 0))

    def _follow(self, result: Result) -> Sequel:
        """Compare a sequence number with those before; messages that waited while history came are no restart."""
        topic, sequence = result.topic, result.sequence
        last, known = self._heard.get(topic), self._known.get(topic)
        self._heard[topic] = sequence
        if (last is not None and sequence <= last) or self._is_younger(result):
            return "restart"
        end = max((number for number in (last, known) if number is not None), default=sequence)
        if sequence <= end + 1:
            return "ok"
        self.lost[topic] = self.lost.get(topic, 0) + sequence - end - 1
        return "gap"

    def _is_younger(self, result: Result) -> bool:
        """Tell a streamer that started after the one heard before."""
        uptime_s = result.header.get("uptime_s")
        return (result.topic == "status" and self.status is not None and isinstance(uptime_s, int | float)
                and uptime_s < self.status.uptime_s)

    def _take_frame(self, result: Result) -> None:
        self._put(_convert(result, FrameRow), result.sequence)

    def _take_alert(self, result: Result) -> None:
        self._put_alerts([_convert(result, Alert)], result.sequence)

    def _take_recollect(self, result: Result) -> None:
        self._put_recollections([_convert(result, Recollection)], result.sequence)

    def _take_status(self, result: Result) -> None:
        self.status = _convert(result, Status)

    def _take_image(self, result: Result) -> None:
        self.picture = picture_of(result)
        self.pictures, self.picture_at = self.pictures + 1, time.monotonic()

    def _take_flow(self, result: Result) -> None:
        self.flow = flow = flow_of(result)
        for extra in EXTRAS:
            if getattr(flow, extra) is not None:
                self._analysed[flow.view, extra] = flow
                self._analysed.move_to_end((flow.view, extra))
        while len(self._analysed) > MOST_ANALYSED:
            self._analysed.popitem(last=False)

    def _put(self, row: FrameRow, sequence: int) -> bool:
        if not self._table.put(row, sequence):
            return False
        received_at = row.received_at or ""
        if row.kind == "projection" and received_at >= self._newest_at:
            self.newest, self._newest_at = Key(row.acquisition, row.index), received_at
        self.version += 1
        return True

    def _put_columns(self, tree: Any, sequence: int) -> int:
        """Take in rows that came as columns; a streamer that sends them one by one sends no columns."""
        if tree is None:
            return 0
        columns = decode_columns(tree)
        with self._lock:
            places = self._table.put_all(columns, sequence)
            if places.size:
                self.version += 1
                at, place = self._table.newest(places)
                if place is not None and at >= self._newest_at:
                    row = self._table.row(place)
                    self.newest, self._newest_at = Key(row.acquisition, row.index), at
            return int(places.size)

    def _put_alerts(self, alerts: Iterable[Alert], sequence: int) -> None:
        for alert in alerts:
            if sequence >= self._alerts.get(alert.id, (0, alert))[0]:
                self._alerts[alert.id] = (sequence, alert)
                self._sorted = None
                self.alert_version += 1

    def _put_recollections(self, requests: Iterable[Recollection], sequence: int) -> None:
        for request in requests:
            if sequence >= self._recollections.get(request.id, (0, request))[0]:
                self._recollections[request.id] = (sequence, request)

    def __len__(self) -> int:
        """Rows known."""
        return self._table.length

    @property
    def views(self) -> list[str]:
        """Names of the views of projections, in order of appearance."""
        with self._lock:
            return list(self._table.drawn_views)

    def row(self, which: Key | int | None) -> FrameRow | None:
        """Return the newest revision of a row, by key or by its position; None if there is none."""
        with self._lock:
            table = self._table
            if isinstance(which, Key):
                which = table.find(which)
            return None if which is None or which >= table.length else table.row(int(which))

    def analysed(self, extra: Extra, view: str | None) -> FlowResult | None:
        """Return the newest field of a view, or of any for None, that came with its strain, regions or analysis."""
        with self._lock:
            return next((flow for (of, what), flow in reversed(self._analysed.items())
                         if what == extra and view in (None, of)), None)

    def place(self, key: Key) -> int | None:
        """Return the position of a row."""
        with self._lock:
            return self._table.find(key)

    def replacement(self, key: Key) -> int | None:
        """Index of the frame that was taken instead of this one."""
        with self._lock:
            return self._table.replacement(key)

    def alerts(self) -> list[Alert]:
        """All alerts, newest first."""
        return self._alerts_by_age()[0].copy()

    def recollections(self) -> list[Recollection]:
        """All requests to take a frame again, newest first; a heartbeat that tells more of one is believed."""
        with self._lock:
            known = {number: request for number, (_, request) in self._recollections.items()}
            for request in self.status.recollections if self.status is not None else ():
                if request.id not in known:
                    known[request.id] = request
            return [known[number] for number in sorted(known, reverse=True)]

    def worst_alert(self, now: datetime | None = None) -> Alert | None:
        """Return the most severe alert that nobody has acknowledged or shelved, the newest of equal ones."""
        waiting = [alert for alert in self.waiting_alerts() if not is_shelved(alert, now)]
        return max(waiting, key=lambda alert: (SEVERITIES.index(alert.severity), alert.id), default=None)

    def waiting_alerts(self) -> list[Alert]:
        """All alerts that nobody has acknowledged, shelved ones among them, newest first."""
        return self._alerts_by_age()[1].copy()

    def _alerts_by_age(self) -> tuple[list[Alert], list[Alert]]:
        """Sort only what has changed: a session of 100,000 alerts is asked for them four times a second."""
        with self._lock:
            if self._sorted is None:
                every = sorted((alert for _, alert in self._alerts.values()), key=lambda alert: -alert.id)
                self._sorted = every, [alert for alert in every if is_waiting(alert)]
            return self._sorted

    def charts(self) -> Charts:
        """Copy the columns that are drawn."""
        with self._lock:
            return self._table.charts(self.version)


def is_waiting(alert: Alert) -> bool:
    """Tell whether nobody has acknowledged an alert."""
    return alert.state in WAITING and not alert.who and alert.severity != "NO_ALARM"


def is_shelved(alert: Alert, now: datetime | None = None) -> bool:
    """Tell whether an alert is kept quiet for now."""
    if not alert.shelved_until:
        return False
    try:
        until = datetime.fromisoformat(alert.shelved_until)
    except ValueError:
        return False
    return (until if until.tzinfo is not None else until.replace(tzinfo=UTC)) > (now or datetime.now(UTC))


def picture_of(result: Result) -> Picture:
    """Make a record of an ``image`` message.

    Raises
    ------
    ProtocolError
        If a field is missing or of another type, or its arrays do not fit together.
    """
    header = {name: value for name, value in result.header.items() if name != "spectra"}
    picture = _convert(Result(result.topic, header, result.arrays), Picture)
    if picture.image is None or picture.image.ndim != 2 or 0 in picture.image.shape or picture.binning < 1:
        raise ProtocolError(f"picture of frame {picture.index} is not a 2-D image with a binning of 1 or more")
    if picture.deblurred is not None and picture.deblurred.shape != picture.image.shape:
        raise ProtocolError(f"preview of frame {picture.index} has shape {picture.deblurred.shape}, its picture "
                            f"{picture.image.shape}; expected the same")
    return msgspec.structs.replace(picture, spectra=_spectra(result))


def flow_of(result: Result) -> FlowResult:
    """Make a record of a ``flow`` message; raises like `picture_of`."""
    flow = _convert(result, FlowResult)
    grid = (flow.grid_y_px.size, flow.grid_x_px.size)
    if flow.displacement_px.shape != (2, *grid) or flow.valid.shape != grid or flow.sigma_px.shape != grid:
        raise ProtocolError(f"field of frame {flow.index} has shapes that do not belong together: displacement "
                            f"{flow.displacement_px.shape}, valid {flow.valid.shape}, grid {grid}")
    strain = () if flow.strain is None else flow.strain.shape
    regions = () if flow.regions is None else flow.regions.shape
    if strain not in ((), (len(STRAIN_PLANES), *grid)) or regions not in ((), grid):
        raise ProtocolError(f"field of frame {flow.index} has a grid of {grid}, but strain {strain} and regions "
                            f"{regions}")
    return flow


def _spectra(result: Result) -> SpectraResult | None:
    """Make a record of the payloads of a picture that are spectra; None of a streamer that sends none."""
    numbers = result.header.get("spectra")
    if not isinstance(numbers, dict):
        return None
    arrays = {field: result.arrays[name] for name, field in SPECTRA_PAYLOADS.items() if name in result.arrays}
    header = numbers | {name: result.header.get(name) for name in ("index", "acquisition", "view")}
    return spectra_of(Result(result.topic, header | {"sequence": result.sequence}, arrays))


def spectra_of(result: Result) -> SpectraResult:
    """Make a record of spectra, whose arrays have the names of its fields; raises like `picture_of`."""
    spectra = _convert(result, SpectraResult)
    curves = [array for name, array in result.arrays.items() if name != "picture"]
    if any(curve.shape != (spectra.horizontal.size,) for curve in curves) or spectra.picture.ndim != 2:
        raise ProtocolError(f"spectra of frame {spectra.index} have the shapes {[curve.shape for curve in curves]} and "
                            f"{spectra.picture.shape}; expected equal curves and a picture")
    return spectra


def _convert(result: Result, kind: type[_Record]) -> _Record:
    """Make a record of a header and its arrays."""
    names = frozenset(kind.__struct_fields__)
    arrays = {name: array for name, array in result.arrays.items() if name in names}
    scalars = {name: value for name, value in result.header.items() if name in names}
    try:
        if not arrays and kind not in {FlowResult, Picture, SpectraResult}:
            return msgspec.convert(scalars, kind)
        return _convert_with_arrays(scalars, arrays, kind)
    except (msgspec.ValidationError, TypeError) as error:
        raise ProtocolError(f"{result.topic!r} message {result.sequence} cannot be read: {error}") from error


def _convert_with_arrays(scalars: dict[str, Any], arrays: dict[str, AnyArray], kind: type[_Record]) -> _Record:
    """Check the scalars against the types of the record; arrays have been checked by the wire."""
    plain = {item.name: item.type for item in msgspec.structs.fields(kind) if item.name in scalars}
    checked = {name: msgspec.convert(value, plain[name]) for name, value in scalars.items()}
    return kind(**checked, **arrays)
