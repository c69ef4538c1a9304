"""Previews of blurred frames for the screen, made beside the analysis and never in its way."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from streamer.errors import TxmError
from streamer.imaging.deblur import covariance_of
from streamer.imaging.recovery import Recovery, restore
from streamer.imaging.spectrum import NoiseShape
from streamer.pipeline import Outcome
from streamer.records import AnyArray, FloatArray, FrameRow
from streamer.service.screen import binned

_NICE = 10

log = logging.getLogger(__name__)


class Preview(NamedTuple):
    """An ``image`` message whose frame was restored, or could not be."""

    fields: dict[str, Any]
    arrays: Mapping[str, AnyArray]


class _Task(NamedTuple):
    """All that restoring a frame may depend on."""

    row: FrameRow
    image: FloatArray
    weight: FloatArray | None
    noise: NoiseShape | None


class Previewer:
    """Restore one frame at a time in a thread of its own; who comes while it works gets no preview.

    Parameters
    ----------
    on_done : callable
        Called in that thread with every message that was offered and taken.
    """

    def __init__(self, on_done: Callable[[Preview], None]) -> None:
        self._on_done = on_done
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="preview", initializer=_step_back)
        self._running: Future[None] | None = None

    def offer(self, outcome: Outcome, fields: dict[str, Any], image: AnyArray) -> bool:
        """Take a message about a frame to add its preview, if the frame is blurred and nothing else is under way.

        Returns
        -------
        bool
            False: not taken, send it as it is.
        """
        row = outcome.row
        if row.verdict != "blurred" or outcome.image is None or not row.blur_length_px:
            return False
        if self._running is not None and not self._running.done():
            return False
        task = _Task(row, outcome.image, outcome.weight, outcome.noise)
        self._running = self._executor.submit(self._work, task, fields, image)
        return True

    def close(self) -> None:
        """Finish what is under way."""
        self._executor.shutdown()

    def _work(self, task: _Task, fields: dict[str, Any], image: AnyArray) -> None:
        self._on_done(preview(task.row, task.image, fields, image, weight=task.weight, noise=task.noise))


def preview(
    row: FrameRow, frame: FloatArray, fields: dict[str, Any], image: AnyArray, *, weight: FloatArray | None = None,
    noise: NoiseShape | None = None,
) -> Preview:
    """Add the restored frame to an ``image`` message; never raises.

    Parameters
    ----------
    row : FrameRow
        With the blur of the frame.
    frame : (M, N) float32 array
        Corrected.
    fields, image
        The message; ``binning``, ``offset`` and ``scale`` hold for the restored picture, too.
    weight, noise
        Light and noise of the frame, as it was measured with.
    """
    try:
        restored, recovery = restore(
            frame, covariance_of(row.blur_length_px or 0.0, row.blur_angle_deg or 0.0, row.blur_shape),
            row.blur_shape, light=weight, noise=noise, pixel_size_nm=fields.get("pixel_size_nm"))
    except TxmError as error:
        return Preview(fields | {"deblur": {"text": f"no preview: {error}"}}, {"image": image})
    except Exception as error:  # a preview must not end a beamtime
        log.exception("frame %d of %r could not be restored", row.index, row.acquisition)
        return Preview(fields | {"deblur": {"text": f"no preview: internal error: {error}"}}, {"image": image})
    fields = fields | {"deblur": statement(recovery)}
    if not recovery.worthwhile:
        return Preview(fields, {"image": image})
    small = binned(restored, fields["binning"])
    coded = (small - np.float32(fields["offset"])) * np.float32(1 / fields["scale"])
    return Preview(fields, {"image": image, "deblurred": np.clip(coded, 0, 65535).astype(np.uint16)})


def statement(recovery: Recovery) -> dict[str, Any]:
    """Return what is published of a recovery."""
    return {"method": recovery.method, "text": recovery.text, "half_period_px": recovery.half_period_px,
            "half_period_nm": recovery.half_period_nm, "angle_deg": recovery.angle_deg,
            "noise_gain": recovery.noise_gain}


def _step_back() -> None:
    """Let the analysis go first."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
