"""The frames of a recording in the coordinates of their reference frame, by the drift that a session has measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from streamer.errors import CommandError, FrameError
from streamer.formats import Recording
from streamer.imaging import correction as correcting
from streamer.imaging.warp import moved_back
from streamer.journal import Journal
from streamer.records import FloatArray, Frame, FrameRow, Refusal
from streamer.service.restoration import check_time, settings_of
from streamer.service.stack_files import check_name, open_stack
from streamer.settings import Settings
from streamer.tracking.calibration import Calibration

PAGE_FIELDS = ("index", "acquisition", "view", "verdict", "drift_y_px", "drift_x_px", "drift_sigma_px", "rotation_deg",
               "exposed_at")
"""Columns of the row that are kept with a page."""
LEAST_TURN_DEG = 0.02
"""A smaller rotation cannot be told from none."""
MEANING = ("page(y, x) = frame(y + drift_y_px, x + drift_x_px), turned back about its centre besides where "
           f"rotation_deg is {LEAST_TURN_DEG:g} or more; NaN where the frame shows nothing")


class Origin(NamedTuple):
    """Which files a session was made of."""

    path: Path
    flat: Path | None = None
    dark: Path | None = None
    dataset: str | None = None


class StackReport(NamedTuple):
    """What became of the frames of a view."""

    path: Path
    pages: int
    left_out: Mapping[str, int]
    """Frames by reason."""

    @property
    def text(self) -> str:
        """One line."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items())
        return f"{self.path}: {self.pages} pages" + (f"; left out: {reasons}" if reasons else "")


class _Choice(NamedTuple):
    """The frames of a session that make a stack."""

    acquisition: str
    view: str
    rows: Mapping[int, FrameRow]
    left_out: Counter[str]


def origin_of(folder: Path) -> Origin:
    """Return which files a session was made of.

    Raises
    ------
    CommandError
        If it was taken live, or they are not where they were.
    SessionError
        If there is no session.
    """
    with Journal(folder) as journal:
        meta = journal.meta()
    known = meta.get("recording") or {"path": meta.get("input") or ""}
    paths = {name: Path(known[name]) for name in ("path", "flat", "dark") if known.get(name)}
    if "path" not in paths or "://" in str(known["path"]):
        raise CommandError(f"session {folder} was taken live and keeps no pictures; name the file that they were "
                           "written to with --recording")
    for path in paths.values():
        if not path.exists():
            raise CommandError(f"session {folder} was made of {path}, which is not there any more; name it with "
                               "--recording")
    return Origin(paths["path"], paths.get("flat"), paths.get("dark"), known.get("dataset"))


def write_registered(recording: Recording, folder: Path, out: Path, *, view: str | None = None,
                     acquisition: str | None = None, keep_blurred: bool = False) -> StackReport:
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
    about = {"meaning": MEANING, "session": meta.get("session", folder.name), "recording": str(recording.path),
             "pixel_size_nm": meta.get("pixel_size_nm"), "version": meta.get("version")}
    pages, written = _pages(recording, choice, settings), 0
    first = next(pages, None)
    if first is None:
        raise CommandError(f"no frame of view {choice.view!r} can be read from {recording.path}")
    shape = first[0].shape[0], first[0].shape[1]
    with open_stack(out, shape=shape, pages=len(choice.rows), about=about) as stack:
        for image, row in _with_first(first, pages):
            if image.shape != shape:
                raise CommandError(f"frame {row.index} of {recording.path} has shape {image.shape}, those before "
                                   f"{shape}; give the recording that the session was made of")
            drift_px = row.drift_y_px or 0.0, row.drift_x_px or 0.0
            turn_deg = row.rotation_deg if abs(row.rotation_deg or 0.0) >= LEAST_TURN_DEG else None
            stack.write(moved_back(image, drift_px=drift_px, rotation_deg=turn_deg),
                        {name: getattr(row, name) for name in PAGE_FIELDS})
            written += 1
    return StackReport(out, written, dict(choice.left_out))


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
    for row in rows:
        if row.view != view:
            continue
        reason = _reason(row, keep_blurred=keep_blurred)
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


def _pages(recording: Recording, choice: _Choice, settings: Settings) -> Iterator[tuple[FloatArray, FrameRow]]:
    """Yield the corrected frames, one in memory at a time."""
    calibration = Calibration(settings.calibration)
    for item in recording.frames():
        if item.kind != "projection":
            if isinstance(item, Frame):
                _teach(calibration, item)
            continue
        row = None if item.index is None else choice.rows.get(item.index)
        if row is None:
            continue
        if isinstance(item, Refusal):
            choice.left_out["unreadable"] += 1
            continue
        check_time(recording, row, item)
        yield _corrected(item, calibration, settings), row


def _teach(calibration: Calibration, frame: Frame) -> None:
    try:
        calibration.add(frame)
    except FrameError:   # it was refused when the session was made, too
        return


def _corrected(frame: Frame, calibration: Calibration, settings: Settings) -> FloatArray:
    correction = calibration.correction(frame.pixels.shape)
    try:
        return correcting.correct(frame.pixels, correction, zinger_sigma=settings.calibration.zinger_sigma)
    except FrameError as error:
        raise CommandError(f"frame {frame.index} cannot be corrected ({error}), but the session has measured it; give "
                           "the recording that the session was made of") from error


def _with_first(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest
