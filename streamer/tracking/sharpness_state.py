"""What the sharpness tracker remembers of a view, and how that is written down."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from streamer.imaging.cross import CrossEstimate
from streamer.imaging.spectrum import PolarPower
from streamer.records import Verdict
from streamer.tracking.average import RegisteredAverage
from streamer.tracking.focus import Focus

Key = tuple[str, int]
"""(acquisition, index) of a frame."""


class SharpnessResult(NamedTuple):
    """Verdict on one frame; the names are those of its row."""

    verdict: Verdict
    provisional: bool = False
    blur_length_px: float | None = None
    blur_length_sigma_px: float | None = None
    blur_angle_deg: float | None = None
    blur_score: float | None = None
    blur_limit_px: float | None = None
    psf_group: int | None = None
    blur_shape: str = ""
    blur_gauge_px2: float | None = None
    focus_loss_px: float | None = None
    """Blur that has crept in since the baseline was opened, as a length; None: none to speak of."""
    problems: tuple[str, ...] = ()
    revisions: tuple[tuple[Key, SharpnessResult], ...] = ()
    """Earlier frames whose verdict changed or became final; their own `revisions` are empty."""


@dataclass(slots=True)
class Row:
    """A frame that may be judged again."""

    key: Key
    power: PolarPower
    result: SharpnessResult
    drift_px: tuple[float, float] | None = None
    cross: CrossEstimate | None = None
    """What the correlation with the average of registered frames said."""


@dataclass(slots=True)
class ViewState:
    """What is remembered of one view."""

    members: list[Row] = field(default_factory=list)
    """Accepted frames that form the baseline, oldest first."""
    accepted: int = 0
    """Frames accepted since the baseline was opened."""
    rows: OrderedDict[Key, Row] = field(default_factory=OrderedDict)
    """Frames judged since the baseline was opened."""
    rejected: list[Row] = field(default_factory=list)
    """Consecutive blurred frames."""
    candidate: Row | None = None
    """A frame that was sharper than the settled baseline."""
    candidate_age: int = 0
    gains: deque[float] = field(default_factory=lambda: deque(maxlen=31))
    odd: list[Row] = field(default_factory=list)
    """Consecutive frames of other contrast or content."""
    average: RegisteredAverage = field(default_factory=RegisteredAverage)
    focus: Focus = field(default_factory=Focus)


def clear(state: ViewState) -> None:
    """Open a new baseline; rows judged against the old one stay as they are."""
    state.members = []
    state.accepted = 0
    state.rows = OrderedDict()
    state.rejected = []
    state.odd = []
    state.candidate = None
    state.gains.clear()
    state.average = RegisteredAverage()
    state.focus = Focus()


def pack(state: ViewState) -> dict[str, Any]:
    """Write a view down as builtins and arrays; rows that several lists share are written once."""
    def keys(rows: list[Row]) -> list[list[Any]]:
        return [list(row.key) for row in rows]

    kept = {row.key: row for row in (*state.rows.values(), *state.members, *state.rejected, *state.odd,
                                     *([state.candidate] if state.candidate else []))}
    return {
        "kept": [_pack_row(row) for row in kept.values()], "rows": keys(list(state.rows.values())),
        "members": keys(state.members), "rejected": keys(state.rejected), "odd": keys(state.odd),
        "candidate": keys([state.candidate] if state.candidate else []), "candidate_age": state.candidate_age,
        "accepted": state.accepted, "gains": list(state.gains),
        "average": state.average.snapshot(), "focus": state.focus.snapshot()}


def unpack(packed: dict[str, Any]) -> ViewState:
    """Read back what `pack` wrote."""
    kept = {row.key: row for row in map(_unpack_row, packed["kept"])}

    def rows(name: str) -> list[Row]:
        return [kept[str(acquisition), int(index)] for acquisition, index in packed[name]]

    state = ViewState(members=rows("members"), accepted=int(packed["accepted"]),
                  rows=OrderedDict((row.key, row) for row in rows("rows")), rejected=rows("rejected"),
                  candidate=next(iter(rows("candidate")), None), candidate_age=int(packed["candidate_age"]),
                  odd=rows("odd"))
    state.average = RegisteredAverage.restored(packed["average"])
    state.focus = Focus.restored(packed["focus"])
    state.gains.extend(packed["gains"])
    return state


def _pack_row(row: Row) -> dict[str, Any]:
    power = row.power
    return {"key": list(row.key), "power": power.power, "counts": power.counts, "floor": power.floor,
            "shape": list(power.shape), "result": list(row.result[:-2]),
            "drift_px": None if row.drift_px is None else list(row.drift_px),
            "cross": None if row.cross is None else list(row.cross)}


def _unpack_row(packed: dict[str, Any]) -> Row:
    acquisition, index = packed["key"]
    rows, columns = packed["shape"]
    drift = packed["drift_px"]
    power = PolarPower(packed["power"], packed["counts"], float(packed["floor"]), (int(rows), int(columns)))
    return Row((str(acquisition), int(index)), power, SharpnessResult(*packed["result"]),
                None if drift is None else (float(drift[0]), float(drift[1])),
               None if packed["cross"] is None else CrossEstimate(*packed["cross"]))
