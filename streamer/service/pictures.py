"""The pictures that a session was made of, read again and corrected as they were then; a session keeps none."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from streamer.errors import CommandError, FrameError
from streamer.formats import Recording
from streamer.imaging import correction as correcting
from streamer.journal import Journal
from streamer.records import FloatArray, Frame, FrameRow, Refusal
from streamer.settings import Settings
from streamer.tracking.calibration import Calibration

_SAME_TIME_S = 0.002


class Origin(NamedTuple):
    """Which files a session was made of."""

    path: Path
    flat: Path | None = None
    dark: Path | None = None
    dataset: str | None = None


class Picture(NamedTuple):
    """A projection, read again."""

    frame: Frame
    correction: correcting.Correction
    """By the flats and darks before it."""

    def corrected(self, settings: Settings) -> FloatArray:
        """Return the corrected image, (M, N).

        Raises
        ------
        CommandError
            If it cannot be corrected, though the session did it.
        """
        try:
            return correcting.correct(self.frame.pixels, self.correction,
                                      zinger_sigma=settings.calibration.zinger_sigma)
        except FrameError as error:
            raise CommandError(f"frame {self.frame.index} cannot be corrected ({error}), but the session has measured "
                               "it; give the recording that the session was made of") from error


    def shown(self, settings: Settings) -> FloatArray:
        """Return the corrected image with NaN where no light falls; raises like `corrected`.

        The correction fills those, and the filling would stay with the detector while the sample moves.
        """
        image = self.corrected(settings)
        if self.correction.weight is not None:
            image[self.correction.weight <= 0.0] = np.nan
        return image


def origin_of(folder: Path, *, recording: Path | None = None, flat: Path | None = None, dark: Path | None = None,
              dataset: str | None = None) -> Origin:
    """Return which files a session was made of.

    Parameters
    ----------
    folder : Path
        The session.
    recording, flat, dark : Path, optional
        Go before those that the session names, which then may be gone.
    dataset : str, optional
        Likewise.

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
    given = {"path": recording, "flat": flat, "dark": dark}
    told = {name: Path(known[name]) for name, path in given.items() if path is None and known.get(name)}
    if recording is None and ("path" not in told or "://" in str(known["path"])):
        raise CommandError(f"session {folder} was taken live and keeps no pictures; name the file that they were "
                           "written to with --recording")
    for name, path in told.items():
        if not path.exists():
            option = "recording" if name == "path" else name
            raise CommandError(f"session {folder} was made of {path}, which is not there any more; name it with "
                               f"--{option}")
    return Origin(recording or told["path"], flat or told.get("flat"), dark or told.get("dark"),
                  dataset or known.get("dataset"))


def settings_of(journal: Journal) -> Settings:
    """Return the settings of a session; what this version does not know any more has its default."""
    tree = tomllib.loads(journal.settings()[1])
    try:
        return msgspec.convert(tree, Settings)
    except msgspec.ValidationError:
        return Settings()


def find_row(rows: Sequence[FrameRow], recording: Recording, index: int, acquisition: str | None) -> FrameRow:
    """Return the row of a projection.

    Parameters
    ----------
    rows : sequence of FrameRow
        Of the session.
    recording : Recording
        Whose name says which acquisition is meant when none is named.
    index : int
        Number of the frame.
    acquisition : str, optional
        Its acquisition in the session.

    Raises
    ------
    CommandError
        If the session does not hold it, or not in the acquisition that the recording is called.
    """
    found = [row for row in rows if row.index == index and row.kind == "projection"
             and acquisition in (None, row.acquisition)]
    named = [row for row in found if row.acquisition == recording.name]
    if acquisition is None and named:
        found = named
    if not found:
        where = "" if acquisition is None else f" in acquisition {acquisition!r}"
        raise CommandError(f"the session holds no projection {index}{where}; frames.csv lists what it holds")
    names = ", ".join(repr(row.acquisition) for row in found)
    if acquisition is None and not named:
        raise CommandError(f"the recording is called {recording.name!r}, the session has frame {index} in {names}: "
                           "name it with --acquisition if it is the same")
    return found[0]


def check_size(journal: Journal, recording: Recording, acquisition: str) -> None:
    """Refuse a recording whose frames cannot hold the displacement fields of the session.

    Raises
    ------
    CommandError
        If they are too small; a session without fields tells no size.
    """
    rows, columns = recording.shape
    first = next(journal.flows(acquisition=acquisition), None)
    if first is not None and (first.grid_y_px.max(initial=0.0) >= rows or first.grid_x_px.max(initial=0.0) >= columns):
        raise CommandError(f"frames of {recording.path} have {rows} x {columns} px, those of session {journal.folder} "
                           "are larger; give the recording that the session was made of")


def read_picture(recording: Recording, row: FrameRow, settings: Settings) -> Picture:
    """Read one projection, and what the flats and darks before it make of its correction.

    Raises
    ------
    CommandError
        If the recording has no such projection, cannot read it, or took it at another time than the row says.
    """
    if row.index >= recording.count:
        raise CommandError(f"{recording.path} has {recording.count} projections, counted from 0; "
                           f"there is no frame {row.index}")
    for items in (recording.frames(row.index, row.index + 1), recording.frames()):   # seldom are they in another order
        calibration = Calibration(settings.calibration)
        for item in items:
            if item.kind != "projection":
                teach(calibration, item)
            elif item.index == row.index:
                return picture_of(recording, row, item, calibration)
    raise CommandError(f"{recording.path} has no projection {row.index}")


def picture_of(recording: Recording, row: FrameRow, item: Frame | Refusal, calibration: Calibration) -> Picture:
    """Return a projection with its correction; raises like `read_picture`."""
    if isinstance(item, Refusal):
        raise CommandError(item.reason)
    _check_time(recording, row, item)
    return Picture(item, calibration.correction(item.pixels.shape))


def teach(calibration: Calibration, item: Frame | Refusal) -> None:
    """Take a flat or dark in; one that was refused when the session was made is refused again."""
    if isinstance(item, Refusal):
        return
    try:
        calibration.add(item)
    except FrameError:
        return


def _check_time(recording: Recording, row: FrameRow, frame: Frame) -> None:
    """Refuse a frame that was taken at another time than the row says."""
    if row.exposed_at is None or frame.exposed_at is None:
        return
    said = np.datetime64(row.exposed_at.removesuffix("Z")).astype("datetime64[us]").astype(np.int64) * 1e-6
    if abs(float(said) - frame.exposed_at) > _SAME_TIME_S:
        raise CommandError(f"frame {row.index} of {recording.path} was taken at another time than the session says "
                           f"({row.exposed_at}); give the recording that the session was made of")
