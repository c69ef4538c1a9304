"""A blurred frame of a recording, restored at full size with the blur that a session has measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from streamer.errors import CommandError, SessionError
from streamer.formats import Recording
from streamer.imaging import correction as correcting
from streamer.imaging.deblur import covariance_of
from streamer.imaging.recovery import Method, Recovery, restore
from streamer.journal import Journal
from streamer.records import FloatArray, FrameRow
from streamer.service.pictures import check_size, find_row, read_picture, settings_of


def restore_frame(
    recording: Recording, folder: Path, index: int, *, acquisition: str | None = None, method: Method = "wiener",
    group: bool = False,
) -> tuple[FloatArray, Recovery]:
    """Correct a frame of a recording as it was when the session was made, and take its blur out.

    Parameters
    ----------
    recording : Recording
        Open; flats and darks that were taken before the frame correct it.
    folder : Path
        A session that holds the frame as blurred.
    index : int
        Of the frame.
    acquisition : str, optional
        Its acquisition in the session; needed when several have the index, or when it is not named like the recording.
    method : {"wiener", "richardson_lucy"}
    group : bool
        Use the mean point-spread function of the frame's group.

    Returns
    -------
    restored : (M, N) float32 array
    recovery : Recovery

    Raises
    ------
    CommandError
        If the session does not hold the frame, holds it as not blurred, or is that of another recording.
    SessionError, RecordingError, FrameError
        If the session or the frame cannot be read.
    """
    with Journal(folder) as journal:
        rows = [row for _, row in journal.rows()]
        settings = settings_of(journal)
        pixel_size_nm = journal.meta().get("pixel_size_nm")
        row = find_row(rows, recording, index, acquisition)
        check_size(journal, recording, row.acquisition)
    if row.verdict != "blurred" or not row.blur_length_px:
        raise CommandError(f"frame {index} of {row.acquisition!r} is {row.verdict or 'not judged'}; "
                           "only frames that were found blurred can be restored")
    picture = read_picture(recording, row, settings)
    frame, correction = picture
    image = picture.corrected(settings)
    noise = correction.noise_shape(correcting.level(frame.pixels, correction).mean)
    return restore(image, _covariance(rows, row, group=group), row.blur_shape, method=method, light=correction.weight,
                   noise=noise, pixel_size_nm=pixel_size_nm or recording.pixel_size_nm)


def write_tiff(path: Path, image: FloatArray, recovery: Recovery) -> None:
    """Write a restored frame as float32 TIFF, its statement in the description."""
    try:
        tifffile.imwrite(path, image, description=recovery.text, metadata=None)
    except OSError as error:
        raise SessionError(f"{path} cannot be written: {error.strerror or error}") from error


def _covariance(rows: Sequence[FrameRow], row: FrameRow, *, group: bool) -> NDArray[np.float64]:
    """(2, 2) px^2 of a frame, or mean over those of its group."""
    chosen = [row]
    if group:
        if row.psf_group is None:
            raise CommandError(f"frame {row.index} of {row.acquisition!r} belongs to no group of blurred frames; "
                               "leave --group out")
        chosen = [other for other in rows if other.psf_group == row.psf_group and other.view == row.view
                  and other.blur_length_px]
    covariances = [covariance_of(one.blur_length_px or 0.0, one.blur_angle_deg or 0.0, one.blur_shape)
                   for one in chosen]
    mean: NDArray[np.float64] = np.mean(covariances, axis=0)
    return mean
