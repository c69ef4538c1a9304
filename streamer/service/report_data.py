"""What a report is about: the frames of one view of a session, those taken again in their places, and their fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.errors import CommandError
from streamer.export import summary
from streamer.imaging.flow import Field
from streamer.journal import Journal
from streamer.records import Alert, Event, FlowResult, FrameRow, Recollection, SpectraResult
from streamer.replacement import in_force
from streamer.report.figure_drift import Path as Way
from streamer.report.figure_material import Growth
from streamer.report.figure_timeline import Verdicts
from streamer.service.pictures import settings_of
from streamer.settings import Settings
from streamer.tracking.material import regions_of, volume_of

Floats = NDArray[np.float64]

_UNITS = (("h", 3600.0), ("min", 60.0), ("s", 1.0))
_LEAST_SPAN = 3.0
"""A unit is taken when the run lasts so many of them."""


class Subject(NamedTuple):
    """The frames that are looked at."""

    folder: Path
    acquisition: str
    view: str
    rows: list[FrameRow]
    """Projections of the view that stand, in order of their places."""
    places: list[int]
    """Frame whose place each takes: its own, or that of the first one that it was taken again for."""
    every: list[FrameRow]
    """All projections of the view, those replaced included."""
    others: list[str]
    """Acquisitions and views of the session that are not looked at, in words."""
    alerts: list[Alert]
    events: list[Event]
    recollections: list[Recollection]
    facts: dict[str, Any]
    """As in summary.json."""
    settings: Settings
    is_complete: bool
    fields: list[tuple[int, int]]
    """Index and reference of every displacement field whose frame and reference stand and are good."""
    analysed: FlowResult | None
    """The field to look at, with regions and analysis; None: there are no fields."""

    @property
    def pixel_size_nm(self) -> float | None:
        """Of a pixel on the sample."""
        size: float | None = self.facts["pixel_size_nm"]
        return size

    @property
    def name(self) -> str:
        """Of the session."""
        return str(self.facts["session"])

    def row(self, index: int) -> FrameRow | None:
        """Return the row of a frame of the view, standing or not."""
        return next((row for row in self.every if row.index == index), None)

    def field(self, index: int) -> FlowResult:
        """Read a displacement field."""
        with Journal(self.folder) as journal:
            return next(journal.flows(acquisition=self.acquisition, index=index))

    def spectra(self, index: int) -> SpectraResult | None:
        """Read the spectra of a frame; None when they were not kept."""
        with Journal(self.folder) as journal:
            return next(journal.spectra(acquisition=self.acquisition, index=index), None)


def read_subject(folder: Path, *, acquisition: str | None = None, view: str | None = None) -> Subject:
    """Read what a session holds of one view: the one named, else the one with the most frames.

    Raises
    ------
    CommandError
        If there is no such acquisition or view, or no projection at all.
    SessionError
        If there is no session, or one of a newer version.
    """
    with Journal(folder) as journal:
        journal.snapshot()
        rows = [row for _, row in journal.rows()]
        projections = [row for row in rows if row.kind == "projection"]
        chosen, others = _choose(projections, folder, acquisition=acquisition, view=view)
        every = [row for row in projections if (row.acquisition, row.view) == chosen]
        known = {row.index: row for row in every}
        standing = sorted(((_place(row, known), row) for row in in_force(every)), key=lambda found: found[0])
        places, kept = [place for place, _ in standing], [row for _, row in standing]
        facts, settings = summary(journal), settings_of(journal)
        good = {row.index for row in kept if row.verdict in {"sharp", "undecided"}}
        fields = [(flow.index, flow.reference_index) for flow in journal.flows(acquisition=chosen[0])
                  if flow.view == chosen[1] and flow.index in good and flow.reference_index in good
                  and flow.index != flow.reference_index and flow.valid.any()]
        fields.sort(key=lambda field: places[next(n for n, row in enumerate(kept) if row.index == field[0])])
        analysed = _analysed(journal, chosen, fields)
        newest = max((row.received_at or "" for row in rows), default="")
        return Subject(
            folder, *chosen, kept, places, every, others, [alert for _, alert in journal.alerts()],
            list(journal.events()), [request for _, request in journal.recollections()], facts, settings,
            is_complete=(facts["ended_at"] or "") >= newest and facts["ended_at"] is not None, fields=fields,
            analysed=analysed)


def _choose(projections: Sequence[FrameRow], folder: Path, *, acquisition: str | None, view: str | None
            ) -> tuple[tuple[str, str], list[str]]:
    if not projections:
        raise CommandError(f"session {folder} holds no projection yet; there is nothing to report")
    counts = Counter((row.acquisition, row.view) for row in projections)
    wanted = {key: count for key, count in counts.items()
              if acquisition in (None, key[0]) and view in (None, key[1])}
    if not wanted:
        known = ", ".join(f"{key[1]!r} of {key[0]!r}" for key in counts)
        raise CommandError(f"session {folder} has no view {view or 'any'!r} of acquisition {acquisition or 'any'!r}; "
                           f"it has {known}")
    chosen = max(wanted, key=lambda key: wanted[key])
    return chosen, [f"view {key[1]!r} of acquisition {key[0]!r} ({count} frames)" for key, count in counts.items()
                    if key != chosen]


def _place(row: FrameRow, known: dict[int, FrameRow]) -> int:
    seen = {row.index}
    while row.recollects is not None and row.recollects in known and row.recollects not in seen:
        row = known[row.recollects]
        seen.add(row.index)
    return row.index


def _analysed(journal: Journal, chosen: tuple[str, str], fields: Sequence[tuple[int, int]]) -> FlowResult | None:
    """Return the newest field, with its regions; the particles are there when the session has looked at them."""
    if not fields:
        return None
    newest = fields[-1][0]
    kept = next((flow for flow in journal.analysed(view=chosen[1]) if flow.acquisition == chosen[0]), None)
    if kept is not None and kept.index == newest:
        return kept
    field = next(journal.flows(acquisition=chosen[0], index=newest))
    labels, groups, reason = regions_of(field, None if kept is None else kept.regions)
    analysis: dict[str, Any] = {"regions": groups, "regions_reason": reason, "representative_volume": volume_of(field),
                                "particles": []}
    return msgspec.structs.replace(field, regions=labels, analysis=analysis)


def plain(flow: FlowResult) -> Field:
    """Return a field as the figures take it."""
    return Field(flow.grid_y_px, flow.grid_x_px, flow.displacement_px, flow.valid, flow.sigma_px)


def numbers(rows: Sequence[FrameRow], name: str) -> Floats:
    """Return a column, NaN where it is not available."""
    return np.array([np.nan if getattr(row, name) is None else getattr(row, name) for row in rows], np.float64)


def times(subject: Subject) -> tuple[Floats, str]:
    """Return the time of every standing frame since the first, and its unit; numbers of frames when it is not told."""
    told = [row.exposed_at for row in subject.rows]
    if not all(told):
        told = [row.received_at for row in subject.rows] if _is_live(subject) else [None]
    if not all(told):
        return np.array(subject.places, np.float64), ""
    at = np.array([np.datetime64((text or "").removesuffix("Z")) for text in told]).astype("datetime64[us]")
    seconds = (at - at.min()).astype(np.int64) * 1e-6
    unit, length = next(((unit, length) for unit, length in _UNITS
                         if float(seconds.max(initial=0.0)) >= _LEAST_SPAN * length), _UNITS[-1])
    return seconds / length, unit


def _is_live(subject: Subject) -> bool:
    return "://" in str(subject.facts["input"] or "")


def verdicts(subject: Subject) -> Verdicts:
    """Return blur and verdict of every standing frame."""
    rows = subject.rows
    return Verdicts(np.array(subject.places), [row.verdict or "" for row in rows], numbers(rows, "blur_length_px"),
                    numbers(rows, "blur_length_sigma_px"), numbers(rows, "blur_limit_px"), numbers(rows, "blur_score"),
                    np.array([row.recollects is not None for row in rows]))


def way(subject: Subject) -> Way:
    """Return the course of the drift in order of time."""
    time, unit = times(subject)
    order = np.argsort(time, kind="stable")
    rows = [subject.rows[place] for place in order]
    pairs = {name: np.stack([numbers(rows, f"{name}_{axis}_px") for axis in "yx"])
             for name in ("drift", "trend", "jitter")}
    return Way(np.array([row.index for row in rows]), time[order], unit, pairs["drift"],
               numbers(rows, "drift_sigma_px"), pairs["trend"], pairs["jitter"], [row.verdict or "" for row in rows])


def growth(subject: Subject) -> Growth:
    """Return the displacement of every standing frame against time."""
    time, unit = times(subject)
    good = [place for place in np.argsort(time, kind="stable") if subject.rows[place].flow_median_px is not None]
    rows = [subject.rows[place] for place in good]
    return Growth(np.array([row.index for row in rows], int), time[good], unit, numbers(rows, "flow_median_px"),
                  numbers(rows, "flow_p95_px"))
