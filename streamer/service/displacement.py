"""Displacement fields measured after the session: between any two of its frames, and where its own are missing."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from streamer.clock import utc_text
from streamer.errors import CommandError
from streamer.formats import Recording
from streamer.imaging.flow import Field, magnitude_statistics
from streamer.imaging.flow_composition import agreed
from streamer.imaging.warp import Pose
from streamer.journal import Journal
from streamer.records import Command, FlowResult, FrameRow
from streamer.replacement import replaced_by
from streamer.service.pictures import Picture, check_size, find_row, read_picture, settings_of
from streamer.settings import Settings
from streamer.tracking.deformation import SMALLEST_OVERLAP, Deformation

LEAST_TURN_DEG = 0.02
"""A smaller rotation cannot be told from none."""
_REBASED_PX = 1.0
"""Drifts that differ by more are counted from different frames; by less, they were measured better since."""
_CHECK_STEP_PX = 4
"""Spacing of the way back: that of the cells the field is solved at."""


class PairReport(NamedTuple):
    """The displacement between two frames."""

    field: FlowResult
    remarks: tuple[str, ...]
    """What to know before trusting it."""

    @property
    def text(self) -> str:
        """One line."""
        field = self.field
        amount = ("unknown" if field.flow_median_px is None or field.flow_p95_px is None else
                  f"median {field.flow_median_px:.2f} px, 95 % {field.flow_p95_px:.2f} px")
        told = (f"frame {field.reference_index} -> {field.index}: drift ({field.drift_y_px:+.2f}, "
                f"{field.drift_x_px:+.2f}) px; displacement {amount}; "
                f"{100 * field.valid.mean():.0f} % of {field.valid.size} points valid")
        return "; ".join((told, *self.remarks))


def pose_of(row: FrameRow) -> Pose:
    """Say where a frame is relative to the origin of its view."""
    turn_deg = row.rotation_deg if abs(row.rotation_deg or 0.0) >= LEAST_TURN_DEG else None
    return Pose((row.drift_y_px or 0.0, row.drift_x_px or 0.0), turn_deg)


def measure_pair(recording: Recording, folder: Path, first: int, second: int, *, acquisition: str | None = None,
                 step_px: int | None = None, check: bool = False) -> PairReport:
    """Measure where the material of one frame of a session is in another, beyond the drift between them.

    Material at ``(y, x)`` of the first frame is found at ``(y + D_y + u_y, x + D_x + u_x)`` of the second, ``D`` the
    difference of the drifts that the session holds, ``u`` the displacement.

    Parameters
    ----------
    recording : Recording
        Open. Its flats and darks correct the frames after them, as when the session was made.
    folder : Path
        The session.
    first, second : int
        Numbers of the frames, in either order of time. Blurred ones are taken, with a remark.
    acquisition : str, optional
        Of the frames in the session; needed when it is not named like the recording.
    step_px : int, optional
        Spacing of the grid; by default the one in the settings of the session.
    check : bool
        Measure from the second frame to the first, too, and keep the points where the two agree.

    Returns
    -------
    PairReport

    Raises
    ------
    CommandError
        If a frame is not there, bad or not registered, if they are of different views, or share too little.
    SessionError, RecordingError, FrameError
        If the session or a frame cannot be read.
    """
    with Journal(folder) as journal:
        rows, settings = [row for _, row in journal.rows()], settings_of(journal)
        commands = list(journal.commands())
        reference, moved = (find_row(rows, recording, index, acquisition) for index in (first, second))
        check_size(journal, recording, reference.acquisition)
    if reference.view != moved.view:
        raise CommandError(f"frame {first} is of view {reference.view!r}, frame {second} of {moved.view!r}; "
                           "frames of different views share no material")
    for row in (reference, moved):
        if row.verdict in {None, "bad"}:
            raise CommandError(f"frame {row.index} is {row.verdict or 'not measured'}"
                               f"{_because(row)}; choose another")
        if row.drift_y_px is None or row.drift_x_px is None:
            raise CommandError(f"the drift of frame {row.index} is not known{_because(row)}; choose another")
    _check_origin(commands, reference, moved)
    _check_overlap(recording, reference, moved)
    flow = settings.flow if step_px is None else msgspec.structs.replace(settings.flow, step_px=step_px)
    settings = msgspec.structs.replace(settings, flow=flow)
    start, end = ((row, read_picture(recording, row, settings)) for row in (reference, moved))
    field, problems = _between(start, end, settings)
    if check:
        fine = msgspec.structs.replace(flow, step_px=_CHECK_STEP_PX)
        back, _ = _between(end, start, msgspec.structs.replace(settings, flow=fine))
        field, remark = _checked(field, back)
        problems = *problems, remark
    return PairReport(field, (*_remarks(reference, moved), *_better(rows, reference, moved), *problems))


class StackFields:
    """The displacement field of every frame of a stack: the one of the session, else measured as the session would.

    Parameters
    ----------
    journal : Journal
        Of the session, open.
    recording : Recording
        Open, for the reference of fields that are measured.
    rows : mapping of int to FrameRow
        Good and kept frames by index, all of one acquisition and one view.
    settings : Settings
        Of the session.
    """

    def __init__(self, journal: Journal, recording: Recording, rows: Mapping[int, FrameRow], settings: Settings
                 ) -> None:
        self._journal, self._recording, self._rows, self._settings = journal, recording, rows, settings
        usable = {index for index, row in rows.items() if row.verdict in {"sharp", "undecided"}}
        self._first = min(usable, default=None)
        acquisition = next((row.acquisition for row in rows.values()), "")
        # a field against a frame that was found blurred or bad since tells nothing of the others
        self._stored = {field.index: field.reference_index for field in journal.flows(acquisition=acquisition)
                        if field.reference_index in usable}
        self._deformation: Deformation | None = None
        self._reference: int | None = None

    def of(self, row: FrameRow, picture: Picture) -> FlowResult | None:
        """Return the field of a frame; None for a blurred one, which has none."""
        if row.verdict not in {"sharp", "undecided"}:
            return None
        if row.index in self._stored:
            return next(self._journal.flows(acquisition=row.acquisition, index=row.index))
        reference = self._reference_for(row.index)
        if reference is None:
            return None
        if self._deformation is None or self._reference != reference:   # one reference in memory at a time
            self._deformation, self._reference = Deformation(self._settings.flow), reference
            kept = self._rows[reference]
            _set_reference(self._deformation, kept, read_picture(self._recording, kept, self._settings),
                           self._settings)
        return _measured(self._deformation, row, picture, self._settings)[0]

    def reference_pose(self, row: FrameRow, field: FlowResult) -> Pose:
        """Say where the reference of a field is relative to the origin that the drift of its frame counts from."""
        implied = (row.drift_y_px or 0.0) - field.drift_y_px, (row.drift_x_px or 0.0) - field.drift_x_px
        pose = pose_of(self._rows[field.reference_index])
        if np.hypot(implied[0] - pose.drift_px[0], implied[1] - pose.drift_px[1]) > _REBASED_PX:
            return Pose(implied)   # the drift of the frame counts from another frame than that of the reference
        return pose

    def _reference_for(self, index: int) -> int | None:
        """Take the reference of the field before, else of the next, else the first good frame."""
        known = sorted(self._stored)
        if not known:
            return self._first
        return self._stored[known[max(bisect.bisect(known, index) - 1, 0)]]


def _between(first: tuple[FrameRow, Picture], second: tuple[FrameRow, Picture], settings: Settings
             ) -> tuple[FlowResult, tuple[str, ...]]:
    deformation = Deformation(settings.flow)
    _set_reference(deformation, *first, settings)
    field, problems = _measured(deformation, *second, settings)
    if field is None:
        raise CommandError("; ".join(problems))
    return field, problems


def _checked(field: FlowResult, back: FlowResult) -> tuple[FlowResult, str]:
    """Keep what the way back agrees with, and say how many points that cost."""
    ways = [Field(way.grid_y_px, way.grid_x_px, way.displacement_px, way.valid, way.sigma_px) for way in (field, back)]
    kept = agreed(*ways, drift_px=(field.drift_y_px, field.drift_x_px))
    median, p95 = magnitude_statistics(kept) or (None, None)
    remark = f"the check took away {int(field.valid.sum() - kept.valid.sum())} of {int(field.valid.sum())} valid points"
    return msgspec.structs.replace(
        field, displacement_px=kept.displacement_px, valid=kept.valid, sigma_px=kept.sigma_px,
        flow_median_px=median, flow_p95_px=p95, elapsed_ms=field.elapsed_ms + back.elapsed_ms), remark


def _set_reference(deformation: Deformation, row: FrameRow, picture: Picture, settings: Settings) -> None:
    deformation.set_reference(row.view, (row.acquisition, row.index), picture.corrected(settings),
                              drift_px=pose_of(row).drift_px, weight=picture.correction.weight)


def _measured(deformation: Deformation, row: FrameRow, picture: Picture, settings: Settings
              ) -> tuple[FlowResult | None, tuple[str, ...]]:
    """Measure as the pipeline does, blurred frames too."""
    outcome = deformation.update(row.view, (row.acquisition, row.index), picture.corrected(settings),
                                 drift_px=pose_of(row).drift_px, verdict="undecided",
                                 weight=picture.correction.weight)
    return outcome.result, outcome.problems


def _check_origin(commands: Iterable[tuple[float, Command, str]], *rows: FrameRow) -> None:
    """Refuse two frames whose drifts count from different ones, because the reference was changed between them."""
    before, after = sorted(row.received_at or "" for row in rows)
    for at, command, outcome in commands:
        meant = command.op == "reference" and command.arguments.get("view", rows[0].view) == rows[0].view
        if meant and outcome == "done" and before < (utc_text(at) or "") < after:
            names = " and ".join(str(row.index) for row in rows)
            raise CommandError(f"a new reference was set between frames {names}: their drifts count from different "
                               "frames; choose both before it, or both after it")


def _check_overlap(recording: Recording, reference: FrameRow, moved: FrameRow) -> None:
    before, after = pose_of(reference).drift_px, pose_of(moved).drift_px
    sides = (max(0.0, 1.0 - abs(there - here) / length)
             for here, there, length in zip(before, after, recording.shape, strict=True))
    share = float(np.prod(list(sides)))
    if share < SMALLEST_OVERLAP:
        raise CommandError(f"only {100 * share:.0f} % of frame {reference.index} is still in view in frame "
                           f"{moved.index}, at least {100 * SMALLEST_OVERLAP:.0f} % is needed; choose frames that "
                           "share more")


def _remarks(reference: FrameRow, moved: FrameRow) -> list[str]:
    remarks = [f"frame {row.index} is blurred ({row.blur_length_px or 0.0:.1f} px): errors may exceed sigma"
               for row in dict.fromkeys((reference, moved)) if row.verdict == "blurred"]
    turn_deg = (moved.rotation_deg or 0.0) - (reference.rotation_deg or 0.0)
    if abs(turn_deg) >= LEAST_TURN_DEG:
        remarks.append(f"a rotation of {turn_deg:+.2f} deg is part of the displacement")
    return remarks


def _better(rows: Iterable[FrameRow], *chosen: FrameRow) -> list[str]:
    """Name what was taken again for the frames that were chosen."""
    better = replaced_by(rows)
    named = [(row.index, better.get((row.acquisition, row.index))) for row in chosen]
    return [f"frame {number} stands in the place of frame {index}" for index, number in named if number is not None]


def _because(row: FrameRow) -> str:
    return f" ({row.problems})" if row.problems else ""
