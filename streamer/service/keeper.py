"""Pictures of every measured frame, made in a thread of its own and never in the way of the analysis."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.errors import SessionError
from streamer.pipeline import Outcome
from streamer.records import AnyArray, FloatArray, Frame
from streamer.service.gallery import Gallery, KeptPicture, Thumbnail
from streamer.service.screen import LARGEST_IMAGE_SIDE, binned, eight_bit

_NICE = 10
_THUMBNAIL_ROWS = 96   # at most
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 90]
_SMALL_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 80]
_WAITING = 4
"""Frames that may wait for their full pictures; beyond, the oldest of them has a thumbnail alone."""
_SMALL_WAITING = 256
"""Thumbnails that may wait; beyond, the oldest of them is given up."""
_WRITE_EVERY_S = 0.5
_BATCH = 16
_MB = 1_000_000

log = logging.getLogger(__name__)


class _Task(NamedTuple):
    """A frame whose pictures are wanted; images are read-only."""

    key: tuple[str, int]
    view: str
    pixel_size_nm: float | None
    corrected: bool
    image: FloatArray
    raw: AnyArray | None
    """None: the thumbnail alone."""


class Keeper:
    """Make the pictures of a session and keep them within their bounds.

    Parameters
    ----------
    folder : Path
        The session.
    kept_mb : float
        For all pictures together; 0 keeps none.
    patient : bool
        Wait for room in the queue, as for a recording; otherwise pictures are skipped and counted.
    thumbnails_only : bool
        Keep no full pictures.
    """

    def __init__(self, folder: Path, *, kept_mb: float, patient: bool = False, thumbnails_only: bool = False) -> None:
        self.kept_mb = kept_mb
        """May be changed at any time."""
        self.skipped = 0
        """Frames without a full picture, because pictures could not be made as fast as frames came."""
        self.problem = ""
        """Why pictures cannot be kept; empty when all is well."""
        self._folder = folder
        self._patient = patient
        self._thumbnails_only = thumbnails_only
        self._full: deque[_Task] = deque()
        self._small: deque[_Task] = deque()
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="pictures", daemon=True)
        self._thread.start()

    def offer(self, frame: Frame, outcome: Outcome, *, pixel_size_nm: float | None, hurry: bool = False) -> None:
        """Take a measured frame; returns at once unless the keeper is patient, and keeps little in a hurry."""
        if outcome.image is None or self.kept_mb <= 0:
            return
        raw = None if self._thumbnails_only else frame.pixels
        task = _Task((outcome.row.acquisition, outcome.row.index), outcome.row.view, pixel_size_nm, outcome.corrected,
                     outcome.image, raw)
        with self._changed:
            if self._patient:
                self._changed.wait_for(lambda: len(self._full) < _WAITING)
            self._full.append(task)
            if hurry or len(self._full) > _WAITING:
                late = self._full.pop() if hurry else self._full.popleft()
                self.skipped += 1
                self._small.append(late._replace(image=_reduced(late.image), raw=None))
                if len(self._small) > _SMALL_WAITING:
                    self._small.popleft()
            self._changed.notify_all()

    def close(self) -> None:
        """Finish what waits, then end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(OSError):   # pictures may be skipped, frames may not
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        gallery: Gallery | None = None
        pictures: list[KeptPicture] = []
        thumbnails: list[Thumbnail] = []
        written = time.monotonic()
        while True:
            task = self._next(_WRITE_EVERY_S if thumbnails else None)
            if task is not None:
                try:
                    made, small = render(task)
                except Exception:   # one broken picture must not end a beamtime
                    log.exception("picture of frame %d of %r could not be made", task.key[1], task.key[0])
                else:
                    pictures += made
                    thumbnails.append(small)
            late = time.monotonic() - written >= _WRITE_EVERY_S or len(thumbnails) >= _BATCH
            if thumbnails and (task is None or late):
                gallery = self._write(gallery, pictures, thumbnails)
                pictures, thumbnails, written = [], [], time.monotonic()
            elif task is None and self._closed:
                break
        if gallery is not None:
            gallery.close()

    def _next(self, timeout_s: float | None) -> _Task | None:
        """Return what is to be done next; None after a while without anything, and at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._full or self._small or self._closed, timeout_s)
            queue = self._full or self._small
            task = queue.popleft() if queue else None
            self._changed.notify_all()
        return task

    def _write(self, gallery: Gallery | None, pictures: list[KeptPicture], thumbnails: list[Thumbnail]
               ) -> Gallery | None:
        try:
            gallery = gallery or Gallery(self._folder, create=True)
            gallery.write(pictures, thumbnails)
            gallery.make_room(int(self.kept_mb * _MB))
        except (SessionError, OSError) as error:
            if not self.problem:
                log.error("%s", error)
            self.problem = f"{error}; results are not concerned"
            self.skipped += len(thumbnails)
        else:
            self.problem = ""
        return gallery


def render(task: _Task) -> tuple[list[KeptPicture], Thumbnail]:
    """Make the pictures of a frame."""
    acquisition, index = task.key
    pictures = []
    if task.raw is not None:
        shown: list[tuple[str, AnyArray]] = [("corrected", task.image)]
        if task.corrected:
            plain = task.raw if task.raw.dtype in (np.uint8, np.uint16) else np.asarray(task.raw, np.float32)
            shown.append(("raw", plain))
        binning = -(-max(task.image.shape) // LARGEST_IMAGE_SIDE)
        for kind, image in shown:
            levels, offset, scale = eight_bit(binned(image, binning))
            pictures.append(KeptPicture(acquisition, index, kind, task.view, binning, offset, scale,
                                        task.pixel_size_nm, _jpeg(levels, _QUALITY)))
    small = _jpeg(eight_bit(_reduced(task.image))[0], _SMALL_QUALITY)
    return pictures, Thumbnail(acquisition, index, task.view, task.raw is not None, task.corrected, small)


def _reduced(image: FloatArray) -> FloatArray:
    """Average down to the height of a thumbnail or less; by whole pixels, which takes a seventh of the time."""
    small: FloatArray = binned(image, -(-image.shape[0] // _THUMBNAIL_ROWS))
    return small


def _jpeg(pixels: NDArray[np.uint8], quality: list[int]) -> bytes:
    _, data = cv2.imencode(".jpg", pixels, quality)
    return data.tobytes()
