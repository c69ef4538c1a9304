"""A stand-in for the results side of the streamer: made-up rows, pictures and fields; real sockets on free ports."""

from __future__ import annotations

import base64
import functools
import math
import threading
from collections.abc import Callable, Container
from datetime import UTC, datetime, timedelta
from typing import Any

import imagecodecs
import msgspec
import numpy as np
import zmq

from streamer.records import (
    STRAIN_PLANES,
    Accounting,
    Alert,
    Command,
    FlowResult,
    FrameRow,
    Recollection,
    SpectraResult,
    Status,
    Tally,
)
from streamer.service.spectra import with_picture
from streamer.wire import decode_request, encode_columns, encode_reply, encode_result

SHAPE = (240, 320)
PIXEL_SIZE_NM = 21.0


def moment(index: int) -> str:
    """ISO 8601, four frames a second."""
    return (datetime(2026, 3, 1, 9, tzinfo=UTC) + timedelta(seconds=0.25 * index)).isoformat(timespec="microseconds")


def make_row(index: int, *, seed: int = 0, acquisition: str = "scan-1", view: str = "A", **fields: Any) -> FrameRow:
    """A believable row: slow drift with jitter, every 13th frame blurred, every 29th undecided, every 41st bad."""
    random = np.random.default_rng([seed, index])
    blurred, undecided, bad = index % 13 == 8, index % 29 == 17, index % 41 == 30
    trend = 14 * (1 - math.exp(-index / 60)) + 0.05 * index, -0.12 * index + 3 * math.sin(index / 25)
    jitter = random.normal(0, 0.6, 2).tolist()
    length = abs(float(random.normal(0.8, 0.3))) + (random.uniform(4, 11) if blurred else 0)
    numbers: dict[str, Any] = {
        "verdict": "bad" if bad else "blurred" if blurred else "undecided" if undecided else "sharp",
        "blur_length_px": length, "blur_length_sigma_px": random.uniform(0.1, 0.4), "blur_angle_deg": 37.0,
        "blur_score": 9.0 if blurred else 0.7, "blur_limit_px": 4.2 if undecided else random.uniform(1.2, 1.6),
        "drift_y_px": trend[0] + jitter[0], "drift_x_px": trend[1] + jitter[1], "drift_sigma_px": 0.08,
        "trend_y_px": trend[0], "trend_x_px": trend[1], "jitter_y_px": jitter[0], "jitter_x_px": jitter[1],
        "registration_quality": 0.93, "reference_index": 0, "flow_median_px": 0.3, "flow_p95_px": 1.1,
        "latency_ms": 31.0, "provisional": index < 3,
    }
    if bad:
        numbers = {"verdict": "bad", "problems": "beam dump: brightness 3 % of the usual"}
    return FrameRow(**{
        "index": index, "acquisition": acquisition, "view": view, "kind": "projection",
        "received_at": moment(index), "exposed_at": moment(index), **numbers, **fields})


@functools.cache
def make_picture(index: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Dark round particles on a bright ground, uint16."""
    random = np.random.default_rng(5)
    y, x = np.mgrid[:shape[0], :shape[1]].astype(np.float32)
    image = np.full(shape, 42_000, np.float32)
    for _ in range(40):
        centre, radius = random.uniform(0, 1, 2) * shape, random.uniform(6, 22)
        distance = np.hypot(y - centre[0] - 0.05 * index, x - centre[1] + 0.12 * index)
        image *= 1 - 0.35 * np.clip(radius - distance + 1, 0, 1)
    noise = np.random.default_rng(index).normal(0, 600, shape)
    return np.clip(image + noise, 0, 65_535).astype(np.uint16)


def make_flow(
    index: int, *, shape: tuple[int, int] = SHAPE, acquisition: str = "scan-1", view: str = "A",
) -> FlowResult:
    """A swelling field: everything moves away from the middle by up to 1.5 px."""
    grid_y = np.arange(4, shape[0], 8, dtype=np.float32)
    grid_x = np.arange(4, shape[1], 8, dtype=np.float32)
    y, x = np.meshgrid(grid_y - shape[0] / 2, grid_x - shape[1] / 2, indexing="ij")
    field = np.stack([y, x]).astype(np.float32) * np.float32(1.5 / (shape[0] / 2))
    valid = np.hypot(y, x) < 0.45 * shape[0]
    sigma = np.where(x > 0, np.float32(0.1), np.float32(np.nan))
    return FlowResult(
        index=index, acquisition=acquisition, view=view, reference_index=0, drift_y_px=0.0, drift_x_px=0.0,
        grid_y_px=grid_y, grid_x_px=grid_x, displacement_px=field, valid=valid, sigma_px=sigma.astype(np.float32),
        flow_median_px=0.7, flow_p95_px=1.3, elapsed_ms=11.0)


def make_analysed_flow(index: int, **fields: Any) -> FlowResult:
    """The swelling field with its strain, two regions, three particles (the last not measured) and a volume."""
    flow = make_flow(index)
    grid = flow.valid.shape
    strain = np.zeros((len(STRAIN_PLANES), *grid), np.float32)
    for name, value in (("divergence", 0.025), ("shear", -0.01), ("principal_largest", 0.0125),
                        ("divergence_sigma", 0.002), ("shear_sigma", 0.002)):
        strain[STRAIN_PLANES.index(name)] = value
    strain[:, ~flow.valid] = np.nan
    left = np.broadcast_to(flow.grid_x_px < SHAPE[1] / 2, grid)
    regions = np.where(flow.valid, np.where(left, 1, 3), -1).astype(np.int16)
    groups = [{"number": number, "points": int((regions == number).sum()), "displacement_y_px": 0.0,
               "displacement_x_px": shift, "rotation_deg": 0.1} for number, shift in ((1, -0.8), (3, 0.6))]
    particles = [{"number": number, "centre_y_px": 20.0 * number, "centre_x_px": 30.0 * number, "area_px2": area,
                  "displacement_y_px": y, "displacement_x_px": x, "sigma_y_px": 0.03, "sigma_x_px": 0.12,
                  "rotation_deg": 1.25, "rotation_sigma_deg": 0.2, "dilation": 0.0, "dilation_sigma": 0.01,
                  "valid": number != 7} for number, area, y, x in
                 ((2, 300.0, 0.3, -0.4), (5, 120.0, -1.2, 0.5), (7, 900.0, 0.0, 0.0))]
    volume = {"size_px": [24.0, 60.0, 120.0, 200.0], "amplitude_deviation_px": [0.35, 0.14, 0.05, None],
              "direction_deviation_deg": [40.0, 12.0, 4.0, 2.0], "amplitude_settled_px": 90.0,
              "direction_settled_px": 110.0, "mean_amplitude_px": 0.7}
    analysis = {"regions": groups, "particles": particles, "representative_volume": volume}
    return msgspec.structs.replace(flow, **({"strain": strain, "regions": regions, "analysis": analysis} | fields))


def make_spectra(index: int, *, acquisition: str = "scan-1", view: str = "A", **fields: Any) -> SpectraResult:
    """Power that falls with frequency, less along x than along y, over a floor of 0.005."""
    where = (np.arange(64) + 0.5) / 128
    curves = {name: (1e-6 * where**-4 * np.exp(-where * fall) + 0.005).astype(np.float32) for name, fall in
              (("horizontal", 15), ("vertical", 25), ("reference_horizontal", 10), ("reference_vertical", 10))}
    radius = np.hypot(*np.meshgrid(np.linspace(-1, 1, 64), np.linspace(0, 1, 32), indexing="ij"))
    return SpectraResult(**({
        "index": index, "acquisition": acquisition, "view": view, "floor": 0.005, "picture_low": -3.0,
        "picture_high": 2.0, "picture": (255 * np.clip(1 - radius, 0, 1)).astype(np.uint8), "resolution_x_px": 3.5,
        "resolution_x_sigma_px": 0.05, "resolution_y_px": 4.5, "resolution_y_sigma_px": 0.06} | curves | fields))


def jpeg(image: np.ndarray) -> str:
    """Eight of sixteen bits, as JPEG in base64."""
    return base64.b64encode(imagecodecs.jpeg8_encode((image >> 8).astype(np.uint8), level=95)).decode()


def packed_picture(index: int, acquisition: str = "scan-1", kind: str = "corrected") -> dict[str, Any]:
    """The answer to ``picture``; raw ones lie upside down, to be told apart."""
    image = make_picture(index)
    return {"index": index, "acquisition": acquisition, "view": "A", "kind": kind, "encoding": "jpeg", "binning": 1,
            "offset": 0.0, "scale": 256 / 65_535, "pixel_size_nm": PIXEL_SIZE_NM,
            "data": jpeg(image[::-1] if kind == "raw" else image)}


def packed_flow(flow: FlowResult) -> dict[str, Any]:
    """The answer to ``flow``."""
    fields = msgspec.structs.asdict(flow)
    return {name: {"dtype": value.dtype.str, "shape": list(value.shape), "data": base64.b64encode(value).decode()}
            if isinstance(value, np.ndarray) else value for name, value in fields.items()}


class FakeStreamer:
    """Publishes on one free port and answers ``history`` on another; publish from one thread only."""

    def __init__(self, *, session: str = "session-1", results: str = "tcp://127.0.0.1:*") -> None:
        self.session = session
        self.rows: dict[tuple[str, int], tuple[int, FrameRow]] = {}
        """Newest revisions with their sequence numbers."""
        self.alerts: dict[int, Alert] = {}
        self.recollections: dict[int, Recollection] = {}
        self.knows_columns = True
        """False: as a streamer of before, which sends rows one by one."""
        self.sequence: dict[str, int] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        """Every command and its arguments."""
        self.answers: dict[str, Callable[..., Any]] = {}
        """What to answer instead, by command."""
        self._known: dict[str, Callable[[dict[str, Any]], Any]] = {
            "acknowledge": self._acknowledge, "shelve": self._shelve, "override": self._override,
            "recollect": lambda told: {"recollection": 7, "index": told["index"], "acquisition": told["acquisition"]},
            "withdraw": lambda told: {"recollection": told["recollection"], "state": "withdrawn"},
            "note": lambda told: {"noted": told["text"]} | ({"index": told["index"]} if "index" in told else {}),
            "reference": lambda told: {"view": told["view"], "reference_index": 11},
            "set": lambda _: {"settings_revision": 1},
            "snapshot": lambda _: {"files": ["sessions/s/frames.csv", "sessions/s/alerts.csv"]},
        }
        """Commands of people: answered and remembered in `asked`, without effect on what is published."""
        self.kept: Container[int] = range(10**9)
        """Frames whose picture can be had."""
        self.histories: list[int] = []
        """The `since` of every history request."""
        self.uptime_s = 0.0
        self._lock = threading.Lock()
        self._context = zmq.Context()
        self._publisher = self._context.socket(zmq.XPUB)
        self._publisher.linger = 0
        self._publisher.sndhwm = 0
        self._publisher.bind(results)
        self.results = self._publisher.last_endpoint.decode()
        self._control = self._context.socket(zmq.ROUTER)
        self._control.linger = 0
        self._control.bind("tcp://127.0.0.1:*")
        self.control = self._control.last_endpoint.decode()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def wait_for_subscriber(self, timeout_s: float = 5.0) -> None:
        if not self._publisher.poll(timeout_s * 1000):
            raise TimeoutError("nobody subscribed")
        self._publisher.recv()

    def send(self, topic: Any, fields: Any, arrays: dict[str, Any] | None = None, *, lose: bool = False) -> None:
        """Publish; with `lose` only count it, as if the message was lost on the way."""
        with self._lock:
            self.sequence[topic] = self.sequence.get(topic, 0) + 1
            parts = encode_result(topic, fields, session=self.session, sequence=self.sequence[topic], arrays=arrays)
        if not lose:
            self._publisher.send_multipart(parts)

    def send_raw(self, *parts: bytes) -> None:
        self._publisher.send_multipart(parts)

    def frame(self, row: FrameRow, *, lose: bool = False) -> None:
        with self._lock:
            self.rows.pop((row.acquisition, row.index), None)   # so that they stay sorted by sequence
            self.rows[row.acquisition, row.index] = self.sequence.get("frame", 0) + 1, row
        self.send("frame", row, lose=lose)

    def alert(self, alert: Alert, *, lose: bool = False) -> None:
        with self._lock:
            self.alerts[alert.id] = alert
        self.send("alert", alert, lose=lose)

    def recollect(self, request: Recollection) -> None:
        with self._lock:
            self.recollections[request.id] = request
        self.send("recollect", request)

    def image(self, index: int, *, acquisition: str = "scan-1", view: str = "A", binning: int = 1,
              deblurred: np.ndarray | None = None, deblur: dict[str, Any] | None = None,
              spectra: SpectraResult | None = None) -> None:
        header = {"index": index, "acquisition": acquisition, "view": view, "kind": "projection", "offset": 0.0,
                  "scale": 1 / 65_535, "binning": binning, "pixel_size_nm": PIXEL_SIZE_NM}
        if deblur is not None:
            header["deblur"] = deblur
        arrays = {"image": make_picture(index)} | ({} if deblurred is None else {"deblurred": deblurred})
        about, more = with_picture(spectra)
        self.send("image", header | about, arrays | more)

    def flow(self, flow: FlowResult) -> None:
        fields = msgspec.structs.asdict(flow)
        arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
        self.send("flow", {name: value for name, value in fields.items() if name not in arrays}, arrays)

    def status(self, **fields: Any) -> None:
        received = len(self.rows)
        self.uptime_s += 1.0
        self.send("status", Status(**{
            "at": 1_700_000_000.0, "state": "receiving", "version": "0.1.0", "uptime_s": self.uptime_s,
            "session_dir": f"sessions/{self.session}", "frames_endpoint": "tcp://127.0.0.1:5555",
            "results_endpoint": self.results, "control_endpoint": self.control, "acquisition": "scan-1",
            "accounting": Accounting(received=received, measured=received, missing=Tally(count=3, indices=[5, [9, 10]]),
                                     dropped=Tally(count=1, indices=[12])),
            "queue": 2, "queue_limit": 64, "received_hz": 4.0, "measured_hz": 3.9, "latency_median_ms": 28.0,
            "latency_p95_ms": 44.0, "last_frame_age_s": 0.2, "pixel_size_nm": PIXEL_SIZE_NM, "blur_tolerance_px": 3.0,
            "blur_score_threshold": 3.5, "published": dict(self.sequence), **fields}))

    def close(self) -> None:
        """End as a killed process does: without a word."""
        self._stop.set()
        self._thread.join(5)
        self._publisher.close(0)
        self._control.close(0)
        self._context.term()

    def _answer(self) -> None:
        while not self._stop.is_set():
            if not self._control.poll(50):
                continue
            peer, request = self._control.recv_multipart()
            command = decode_request(request)
            self.asked.append((command.op, command.arguments))
            with self._lock:
                try:
                    reply = encode_reply(command.id, result=msgspec.to_builtins(self._result(command)))
                except LookupError as error:
                    reply = encode_reply(command.id, error=str(error.args[0]))
            self._control.send_multipart([peer, reply])

    def _result(self, command: Command) -> Any:
        arguments = command.arguments
        if command.op == "history":
            return self._history(**arguments)
        if command.op in self.answers:
            return self.answers[command.op](**arguments)
        if command.op == "picture":
            if arguments["index"] not in self.kept:
                raise LookupError(f"the picture of frame {arguments['index']} is not kept")
            return packed_picture(**arguments)
        if command.op == "flow":
            return packed_flow(make_flow(arguments["index"]))
        if command.op == "thumbnails":
            return self._thumbnails(**arguments)
        if command.op in self._known:
            return self._known[command.op](arguments)
        raise LookupError(f"unknown op {command.op!r}")

    def _acknowledge(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments["alert"] == "all":
            return {"acknowledged": [alert.id for alert in self.alerts.values() if not alert.who]}
        return {"alert": self._alert("acknowledge", arguments).id, "state": "acknowledged", "shelved_until": None}

    def _shelve(self, arguments: dict[str, Any]) -> dict[str, Any]:
        until = datetime.now(UTC) + timedelta(minutes=arguments["minutes"])
        return {"alert": self._alert("shelve", arguments).id, "state": "new", "shelved_until": until.isoformat()}

    def _alert(self, op: str, arguments: dict[str, Any]) -> Alert:
        if arguments["alert"] not in self.alerts:
            raise LookupError(f"{op}: there is no alert {arguments['alert']}")
        return self.alerts[arguments["alert"]]

    @staticmethod
    def _override(arguments: dict[str, Any]) -> dict[str, Any]:
        remark = f"verdict overridden by {arguments['who']}, now {arguments['verdict']}: {arguments['why']}"
        return {name: arguments[name] for name in ("index", "acquisition", "verdict")} | {"remark": remark}

    def _thumbnails(self, since: int = 0, limit: int = 50) -> dict[str, Any]:
        """Number 1 belongs to the first frame."""
        every = [row for _, row in self.rows.values()]
        some = every[since:since + limit]
        return {"thumbnails": [{"index": row.index, "acquisition": row.acquisition, "view": row.view,
                                "data": jpeg(make_picture(row.index, (48, 64)))} for row in some],
                "next": since + len(some), "more": since + len(some) < len(every)}

    def _history(self, since: int = 0, limit: int | None = None, columns: bool = False, alerts: bool = True
                 ) -> dict[str, Any]:
        self.histories.append(since)
        rows = [(sequence, row) for sequence, row in self.rows.values() if sequence > since]
        page = rows[:limit]
        more = len(page) < len(rows)
        sequence = dict(self.sequence)
        if more:
            sequence["frame"] = page[-1][0]
        history = {"frames": [row for _, row in page], "alerts": list(self.alerts.values()),
                   "recollections": list(self.recollections.values()), "sequence": sequence, "settings_revision": 0,
                   "more": more}
        if columns and self.knows_columns:
            history |= {"frames": [], "columns": encode_columns({name: [getattr(row, name) for _, row in page]
                                                                 for name in FrameRow.__struct_fields__})}
            if not alerts:
                history |= {"alerts": [], "recollections": [], "sequence": {"frame": sequence["frame"]}}
        return history
