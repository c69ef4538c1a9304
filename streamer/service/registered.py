"""The frames of a recording where their reference has them, by the drift and displacement that a session measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from streamer.errors import CommandError
from streamer.formats import Recording
from streamer.imaging.warp import local_displacement, moved_back
from streamer.journal import Journal
from streamer.records import FloatArray, FrameRow, Refusal
from streamer.replacement import in_force
from streamer.service.displacement import LEAST_TURN_DEG, StackFields, pose_of
from streamer.service.pictures import Picture, check_size, picture_of, settings_of, teach
from streamer.service.stack_files import check_name, open_stack
from streamer.settings import Settings
from streamer.tracking.calibration import Calibration

PAGE_FIELDS = ("index", "acquisition", "view", "verdict", "drift_y_px", "drift_x_px", "drift_sigma_px", "rotation_deg",
               "exposed_at")
"""Columns of the row that are kept with a page."""
FIELD_FIELDS = ("nonrigid", "flow_reference_index", "flow_valid_share")
"""What is kept besides with a page whose displacement was to be undone."""
MEANING = ("page(y, x) = frame(y + drift_y_px, x + drift_x_px), turned back about its centre besides where "
           f"rotation_deg is {LEAST_TURN_DEG:g} or more; NaN where the frame shows nothing")

MEANING_NONRIGID = ("page(y, x) = frame(y + drift_y_px + u_y, x + drift_x_px + u_x), u = displacement against frame "
                    "flow_reference_index at the same material, where nonrigid is true; else as the drift alone; NaN "
                    "where the frame shows nothing")


class StackReport(NamedTuple):
    """What became of the frames of a view."""

    path: Path
    pages: int
    left_out: Mapping[str, int]
    """Frames by reason."""
    rigid: int | None = None
    """Pages with the drift alone undone, of a stack that was to be non-rigid."""

    @property
    def text(self) -> str:
        """One line."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items())
        rigid = f", {self.rigid} of them by the drift alone" if self.rigid else ""
        return f"{self.path}: {self.pages} pages{rigid}" + (f"; left out: {reasons}" if reasons else "")


class _Choice(NamedTuple):
    """The frames of a session that make a stack."""

    acquisition: str
    view: str
    rows: Mapping[int, FrameRow]
    left_out: Counter[str]


def write_registered(recording: Recording, folder: Path, out: Path, *, view: str | None = None,
                     acquisition: str | None = None, keep_blurred: bool = False, nonrigid: bool = False
                     ) -> StackReport:
    """Correct the frames of a view, undo their drift, and write them as a stack.

    Parameters
    ----------
    recording : Recording
        Open. Its flats and darks correct the frames after them, as when the session was made.
    folder : Path
        The session.
    out : Path
        .tif or .tiff: float32 pages, each with a description in JSON; .h5 or .hdf5: ``exchange/data`` and, a line
        per page, ``frames``.
    view : str, optional
        Needed when the session has several.
    acquisition : str, optional
        Of the frames in the session, when it is not named like the recording.
    keep_blurred : bool
        Write blurred frames, too; the verdict stands with each page.
    nonrigid : bool
        Undo the displacement against the reference as well, in the same resampling. Frames that have no field are
        moved by their drift alone, and their pages say so.

    Raises
    ------
    CommandError
        If the session has no such view or acquisition, or is that of another recording.
    SessionError, RecordingError
        If the session or the recording cannot be read, or the stack not be written.
    """
    check_name(out)
    with Journal(folder) as journal:
        rows = [row for _, row in journal.rows() if row.kind == "projection"]
        settings, meta = settings_of(journal), journal.meta()
        choice = _choose(rows, recording, view=view, acquisition=acquisition, keep_blurred=keep_blurred)
        check_size(journal, recording, choice.acquisition)
        about = {"meaning": MEANING_NONRIGID if nonrigid else MEANING, "session": meta.get("session", folder.name),
                 "recording": str(recording.path), "pixel_size_nm": meta.get("pixel_size_nm"),
                 "version": meta.get("version")}
        fields = StackFields(journal, recording, choice.rows, settings) if nonrigid else None
        return _write(out, recording, choice, settings, fields, about)


def _write(out: Path, recording: Recording, choice: _Choice, settings: Settings, fields: StackFields | None,
           about: Mapping[str, Any]) -> StackReport:
    pictures, written, rigid = _pictures(recording, choice, settings), 0, 0
    first = next(pictures, None)
    if first is None:
        raise CommandError(f"no frame of view {choice.view!r} can be read from {recording.path}")
    rows, columns = first[0].frame.pixels.shape
    with open_stack(out, shape=(rows, columns), pages=len(choice.rows), about=about) as stack:
        for picture, row in _with_first(first, pictures):
            if picture.frame.pixels.shape != (rows, columns):
                raise CommandError(f"frame {row.index} of {recording.path} has shape {picture.frame.pixels.shape}, "
                                   f"those before {(rows, columns)}; give the recording that the session was made of")
            local_px, facts = (None, {}) if fields is None else _local(fields, row, picture)
            drift_px, turn_deg = pose_of(row)
            page = moved_back(picture.shown(settings), drift_px=drift_px, rotation_deg=turn_deg, local_px=local_px)
            stack.write(page, {name: getattr(row, name) for name in PAGE_FIELDS} | facts)
            written += 1
            rigid += local_px is None
    return StackReport(out, written, dict(choice.left_out), None if fields is None else rigid)


def _local(fields: StackFields, row: FrameRow, picture: Picture) -> tuple[FloatArray | None, dict[str, Any]]:
    """Give what a frame is displaced by beyond its drift, None where that is not known, and what to note of it."""
    field = fields.of(row, picture)
    if field is None:
        return None, dict.fromkeys(FIELD_FIELDS) | {"nonrigid": False}
    rows, columns = picture.frame.pixels.shape
    local_px = local_displacement(field, shape=(rows, columns), frame=pose_of(row),
                                  reference=fields.reference_pose(row, field))
    facts = local_px is not None, field.reference_index, float(field.valid.mean())
    return local_px, dict(zip(FIELD_FIELDS, facts, strict=True))


def _choose(rows: list[FrameRow], recording: Recording, *, view: str | None, acquisition: str | None,
            keep_blurred: bool) -> _Choice:
    acquisitions = list(dict.fromkeys(row.acquisition for row in rows))
    chosen = recording.name if acquisition is None else acquisition
    if chosen not in acquisitions:
        known = ", ".join(map(repr, acquisitions)) or "none"
        raise CommandError(f"the session has no frames of acquisition {chosen!r}, it has those of {known}: name it "
                           "with --acquisition if the recording is the same")
    rows = [row for row in rows if row.acquisition == chosen]
    views = list(dict.fromkeys(row.view for row in rows))
    if view is None and len(views) > 1:
        raise CommandError(f"the session has the views {', '.join(map(repr, views))}; choose one with --view")
    view = views[0] if view is None else view
    if view not in views:
        raise CommandError(f"the session has no view {view!r}; it has {', '.join(map(repr, views))}")
    kept: dict[int, FrameRow] = {}
    left_out: Counter[str] = Counter()
    standing = {row.index for row in in_force(rows)}
    for row in rows:
        if row.view != view:
            continue
        reason = _reason(row, keep_blurred=keep_blurred) if row.index in standing else "replaced"
        if reason:
            left_out[reason] += 1
        else:
            kept[row.index] = row
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise CommandError(f"view {view!r} has no frame to register: {reasons}")
    if max(kept) >= recording.count:
        raise CommandError(f"{recording.path} has {recording.count} projections, counted from 0, the session has frame "
                           f"{max(kept)}; give the recording that the session was made of")
    return _Choice(chosen, view, kept, left_out)


def _reason(row: FrameRow, *, keep_blurred: bool) -> str:
    """Say in a word why a frame is left out; empty when it is not."""
    if row.verdict is None:
        return "not measured"
    if row.verdict == "bad":
        return "bad"
    if row.verdict == "blurred" and not keep_blurred:
        return "blurred"
    return "not registered" if row.drift_y_px is None or row.drift_x_px is None else ""


def _pictures(recording: Recording, choice: _Choice, settings: Settings) -> Iterator[tuple[Picture, FrameRow]]:
    """Yield the chosen frames, one in memory at a time."""
    calibration = Calibration(settings.calibration)
    for item in recording.frames():
        if item.kind != "projection":
            teach(calibration, item)
            continue
        row = None if item.index is None else choice.rows.get(item.index)
        if row is None:
            continue
        if isinstance(item, Refusal):
            choice.left_out["unreadable"] += 1
            continue
        yield picture_of(recording, row, item, calibration), row


def _with_first(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest
