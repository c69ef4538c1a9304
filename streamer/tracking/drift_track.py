"""What is remembered of the drift of one view, and what is said about one frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, NamedTuple

from numpy.typing import NDArray

from streamer.imaging.prepared import Prepared
from streamer.imaging.registration import Reference, Registration, register_prepared
from streamer.once import once
from streamer.records import FloatArray
from streamer.tracking.keyframes import FrameKey, KeyGraph
from streamer.tracking.trend import Trend

ROWS = 4096
"""Frames of one view whose drift may still be revised."""


@dataclass(frozen=True, eq=False)
class Target:
    """What a frame of a view is measured against."""

    version: int = 0
    """Changes whenever the references change."""
    active: Reference | None = None
    others: tuple[Reference, ...] = ()
    """Nearest first."""
    beside: tuple[Reference, ...] = ()
    """Active keys of other places that the frame may show as well."""


@dataclass(frozen=True, kw_only=True)
class DriftResult:
    """Drift of one frame; None where nothing was measured."""

    drift_y_px: float | None = None
    drift_x_px: float | None = None
    drift_sigma_px: float | None = None
    rotation_deg: float | None = None
    trend_y_px: float | None = None
    trend_x_px: float | None = None
    jitter_y_px: float | None = None
    jitter_x_px: float | None = None
    registration_quality: float | None = None
    reference_index: int | None = None
    """Index of the frame that was measured against."""
    problems: tuple[str, ...] = ()
    revisions: tuple[tuple[FrameKey, DriftResult], ...] = ()
    """Earlier frames whose drift changed because keys were measured again."""
    jump_px: float | None = None
    """Distance from the previous measured frame of the view."""
    lost: bool = False
    """Several frames in a row could not be registered."""


class Row(NamedTuple):
    """A frame whose drift may still be revised."""

    frame: FrameKey
    key: int
    pose: tuple[float, float]
    """Pose of the key when the drift was last published."""
    result: DriftResult


class Spare(NamedTuple):
    """A frame that may become a key."""

    frame: FrameKey
    image: NDArray[Any]
    weight: FloatArray | None
    drift: tuple[float, float]
    registration: Registration | None
    flats: int = 0
    """Exposures in the flat that it was divided by; 0 = none or not known."""


@dataclass(frozen=True, eq=False)
class Connection:
    """A measurement of an older key against the active one, made once, by whoever has time first."""

    active: Reference
    older: Prepared
    min_overlap: float

    @once
    def found(self) -> Registration:
        """Where the older key is."""
        return register_prepared((self.active,), self.older, min_overlap=self.min_overlap)

    def measure(self) -> None:
        """Measure before somebody has to wait for it; from any thread."""
        _ = self.found


@dataclass
class Track:
    """What is remembered of one view."""

    graph: KeyGraph
    trend: Trend = field(default_factory=Trend)
    rows: deque[Row] = field(default_factory=lambda: deque(maxlen=ROWS))
    target: Target = Target()
    origin_frame: FrameKey = ("", 0)
    last: tuple[float, float] | None = None
    failures: int = 0
    since_key: int = 0
    best_quality: float = 0.0
    """Since the active key was set, likewise the inliers."""
    best_inliers: float = 0.0
    spare: Spare | None = None
    """Newest registered frame that is fit to be a key and is none yet."""
    newest: Spare | None = None
    waiting: list[int] = field(default_factory=list)
    """Older keys that the active key has still to be measured against, one with every frame."""
    connection: Connection | None = None
    """The next of these measurements, once it may be made."""

    def snapshot(self) -> dict[str, Any]:
        """Return the state as builtins and arrays."""
        return {"graph": self.graph.snapshot(), "trend": self.trend.snapshot(),
                "origin_frame": list(self.origin_frame),
                "active": -1 if self.target.active is None else self.target.active.id,
                "others": [other.id for other in self.target.others], "version": self.target.version,
                "last": None if self.last is None else list(self.last), "failures": self.failures,
                "since_key": self.since_key, "waiting": list(self.waiting),
                "best": [self.best_quality, self.best_inliers],
                "rows": [[list(row.frame), row.key, list(row.pose), _result_state(row.result)] for row in self.rows],
                "spare": None if self.spare is None else spare_state(self.spare),
                "newest": None if self.newest is None else spare_state(self.newest)}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Track:
        """Return the track that `snapshot` described, its references small."""
        track = cls(KeyGraph.restore(state["graph"]), Trend.restore(state["trend"]))
        keys = track.graph.keys   # the others in the order that they have had since the active key was set
        track.target = Target(int(state["version"]), keys[int(state["active"])].reference,
                              tuple(keys[int(id_)].reference for id_ in state["others"]))
        track.origin_frame = _key_of(state["origin_frame"])
        track.last = None if state["last"] is None else (float(state["last"][0]), float(state["last"][1]))
        track.failures, track.since_key = int(state["failures"]), int(state["since_key"])
        track.best_quality, track.best_inliers = (float(value) for value in state["best"])
        track.waiting = [int(id_) for id_ in state["waiting"]]
        for frame, key, pose, result in state["rows"]:
            track.rows.append(Row(_key_of(frame), int(key), (float(pose[0]), float(pose[1])), _result_from(result)))
        track.spare, track.newest = (None if state[name] is None else spare_from(state[name])
                                     for name in ("spare", "newest"))
        return track


def _key_of(state: Sequence[Any]) -> FrameKey:
    return str(state[0]), int(state[1])


def spare_state(spare: Spare) -> dict[str, Any]:
    """Return a frame as builtins and arrays."""
    return {"frame": list(spare.frame), "image": spare.image, "weight": spare.weight, "drift": list(spare.drift),
            "registration": None if spare.registration is None else asdict(spare.registration), "flats": spare.flats}


def spare_from(state: Mapping[str, Any]) -> Spare:
    """Return the frame that `spare_state` described."""
    found = None if state["registration"] is None else Registration(**state["registration"])
    drift = float(state["drift"][0]), float(state["drift"][1])
    return Spare(_key_of(state["frame"]), state["image"], state["weight"], drift, found, int(state["flats"]))


def _result_state(result: DriftResult) -> dict[str, Any]:
    """Return a result as builtins; what it revised was published with it."""
    state = {item.name: getattr(result, item.name) for item in fields(result)}
    return state | {"problems": list(result.problems), "revisions": []}


def _result_from(state: Mapping[str, Any]) -> DriftResult:
    return DriftResult(**{**state, "problems": tuple(state["problems"]), "revisions": ()})


def moved(result: DriftResult, offset: tuple[float, float]) -> DriftResult:
    """Return a result whose drift and trend are moved; the jitter stays."""
    return replace(result, drift_y_px=added(result.drift_y_px, offset[0]),
                   drift_x_px=added(result.drift_x_px, offset[1]),
                   trend_y_px=added(result.trend_y_px, offset[0]), trend_x_px=added(result.trend_x_px, offset[1]))


def added(a: float | None, b: float | None) -> float | None:
    """Return the sum, None when one of them is."""
    return None if a is None or b is None else a + b
