"""The pictures of a report: from the recording, else from those that the streamer has kept, else none and why."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from streamer.errors import CommandError, FrameError, RecordingError, SessionError
from streamer.formats import Recording
from streamer.journal import Journal
from streamer.records import AnyArray, FloatArray, FrameRow
from streamer.service.gallery import FILE_NAME, Gallery
from streamer.service.pictures import check_size, read_picture
from streamer.service.report_data import Subject
from streamer.service.screen import binned

LARGEST_SIDE = 1024
"""Of a picture in a figure; larger frames are binned."""


class Look(NamedTuple):
    """Pictures of one frame."""

    corrected: FloatArray
    """(M, N), binned; NaN where no light falls."""
    raw: FloatArray
    weight: FloatArray | None
    """Expected photons of the whole frame, not binned; None: even, or not known."""
    full: FloatArray | None
    """The corrected frame, not binned; None when only a compressed picture is left."""
    binning: int


class Album:
    """Pictures by frame, each read once.

    Parameters
    ----------
    subject : Subject
    recording : Recording, optional
        Open.
    why_none : str
        Why there is no recording.
    """

    def __init__(self, subject: Subject, recording: Recording | None, why_none: str = "") -> None:
        self._subject, self.recording = subject, recording
        self._looks: dict[int, Look | None] = {}
        self.reason = why_none
        """Why there is no picture, of the newest frame that had none."""
        if recording is not None:
            with Journal(subject.folder) as journal:
                check_size(journal, recording, subject.acquisition)

    def look(self, row: FrameRow) -> Look | None:
        """Return the pictures of a frame; None when there are none, and `reason` says why."""
        if row.index not in self._looks:
            self._looks[row.index] = self._read(row)
        return self._looks[row.index]

    def _read(self, row: FrameRow) -> Look | None:
        if self.recording is not None:
            try:
                return _from_recording(self.recording, row, self._subject)
            except (CommandError, FrameError, RecordingError) as error:
                self.reason = str(error)
        try:
            return self._from_gallery(row)
        except SessionError as error:
            self.reason = str(error)
            return None

    def _from_gallery(self, row: FrameRow) -> Look | None:
        if not (self._subject.folder / FILE_NAME).is_file():
            return None
        with Gallery(self._subject.folder) as gallery:
            kept = [gallery.picture(row.acquisition, row.index, kind) for kind in ("corrected", "raw")]
        if kept[0] is None:
            self.reason = self.reason or f"the streamer has not kept a picture of frame {row.index}"
            return None
        pictures = []
        for one in (kept[0], kept[1] or kept[0]):
            pixels = cv2.imdecode(np.frombuffer(one.data, np.uint8), cv2.IMREAD_GRAYSCALE)
            if pixels is None:
                self.reason = f"the picture of frame {row.index} that the streamer has kept is broken"
                return None
            pictures.append(np.asarray(one.offset + one.scale * pixels.astype(np.float32), np.float32))
        return Look(pictures[0], pictures[1], None, None, kept[0].binning)


def _from_recording(recording: Recording, row: FrameRow, subject: Subject) -> Look:
    picture = read_picture(recording, row, subject.settings)
    full = picture.corrected(subject.settings)
    binning = -(-max(full.shape) // LARGEST_SIDE)
    shown = full.copy()
    if picture.correction.weight is not None:
        shown[picture.correction.weight <= 0.0] = np.nan
    return Look(_binned(shown, binning), _binned(picture.frame.pixels, binning), picture.correction.weight, full,
                binning)


def _binned(image: AnyArray, binning: int) -> FloatArray:
    return np.asarray(binned(np.asarray(image, np.float32), binning), np.float32)
