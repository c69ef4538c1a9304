"""A simulated run as an HDF5 file: frames as Data Exchange (De Carlo et al. 2014), and the truth beside them.

Data Exchange: J. Synchrotron Rad. 21, 1224, doi:10.1107/S160057751401604X.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from simulator.plan import in_time
from simulator.run import START_S, Run
from streamer.errors import RecordingError
from streamer.records import KINDS, Frame, Kind

STACKS: dict[Kind, str] = {"projection": "data", "flat": "data_white", "dark": "data_dark"}
_NONE = -1
"""Stands for no frame where there must be a number."""
_SPARE_BYTES = 1_000_000


class Recorder:
    """Write the frames of a run, one at a time, into a file that appears under its name when it is whole.

    Parameters
    ----------
    path : Path
        The HDF5 file; one of that name is replaced.
    run : Run
        What is recorded. Its truth is written to ``/truth``.

    Raises
    ------
    RecordingError
        If the file cannot be written, the disk being full included; nothing is left behind then.
    """

    def __init__(self, path: Path, run: Run) -> None:
        self.path = path
        self._run = run
        self._partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._written = 0
        self._left_at: dict[tuple[Kind, int], float] = {}
        self._check_place()
        try:
            self._file = h5py.File(self._partial, "w", rdcc_nbytes=0)
        except OSError as error:
            raise self._failure(error) from error
        try:
            self._prepare()
        except BaseException as error:
            self._discard()
            if isinstance(error, OSError | RuntimeError):
                raise self._failure(error) from error
            raise

    def write(self, frame: Frame) -> None:
        """Write the next frame of the run; one that was taken again makes room for itself."""
        try:
            stack = self._file["exchange"][STACKS[frame.kind]]
            if frame.index >= len(stack):
                stack.resize(frame.index + 1, axis=0)
            stack[frame.index] = frame.pixels
        except (OSError, RuntimeError) as error:
            raise self._failure(error) from error
        self._written += 1

    def left(self, frame: Frame) -> None:
        """Take note of the time of exposure that a frame was sent with: who received it knows that one."""
        if frame.exposed_at is not None:
            self._left_at[frame.kind, frame.index] = frame.exposed_at

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None or self._written != len(self._run):
            self._discard()
            return
        try:
            self._write_order()
            self._write_truth()
            self._file.close()
            self._partial.replace(self.path)
        except (OSError, RuntimeError) as failure:
            self._discard()
            raise self._failure(failure) from failure

    def _check_place(self) -> None:
        if self.path.is_dir():
            raise RecordingError(f"{self.path}: is a folder; give the name of a file")
        if not self.path.parent.is_dir():
            raise RecordingError(f"{self.path}: the folder {self.path.parent} does not exist; make it first")
        free = shutil.disk_usage(self.path.parent).free
        needed = len(self._run) * int(np.prod(self._run.shape)) * 2 + _SPARE_BYTES
        if needed > free:
            raise RecordingError(f"{self.path}: disk full: the recording needs {needed / 1e6:.0f} MB, "
                                 f"{free / 1e6:.0f} MB are free; make room or ask for fewer --frames")

    def _prepare(self) -> None:
        run, counts = self._run, Counter(shot.kind for shot in self._run.shots)
        exchange = self._file.create_group("exchange")
        for kind in KINDS:
            if counts[kind]:
                exchange.create_dataset(
                    STACKS[kind], (counts[kind], *run.shape), np.uint16, chunks=(1, *run.shape),
                    maxshape=(None, *run.shape))
        self._file.create_group("txm_live").attrs.update(run.description())

    def _write_order(self) -> None:
        """Write when each frame was taken, those included that were taken again meanwhile."""
        exchange, ours = self._file["exchange"], self._file["txm_live"]
        exchange.create_dataset("theta", data=np.zeros(len(self._run.projections), np.float32))
        exchange["theta"].attrs["units"] = "deg"
        shots = in_time(self._run.shots)
        ours.create_dataset("sequence", data=np.array(
            [(KINDS.index(shot.kind), shot.index) for shot in shots], np.int32))
        ours.create_dataset("exposed_at_s", data=np.array(
            [self._left_at.get((shot.kind, shot.index), START_S + shot.at_s) for shot in shots]))
        ours.create_dataset("view", data=[shot.view for shot in shots], dtype=h5py.string_dtype())
        ours.create_dataset("recollects", data=np.array([_number(shot.recollects) for shot in shots], np.int32))

    def _write_truth(self) -> None:
        run = self._run
        truths = [run.truth(position) for position in run.projections]
        group = self._file.create_group("truth")
        columns: dict[str, Any] = {
            "drift_px": np.array([truth.drift_px for truth in truths]),
            "blur_covariance_px2": np.array([truth.blur_covariance_px2 for truth in truths]),
            "blur_length_px": np.array([truth.blur_length_px for truth in truths]),
            "blur_angle_deg": np.array([truth.blur_angle_deg for truth in truths]),
            "blurred": np.array([truth.blurred for truth in truths]),
            "usable": np.array([truth.usable for truth in truths]),
            "recollects": np.array([_number(truth.recollects) for truth in truths], np.int32),
            "displacement_px": np.array([truth.displacement_px for truth in truths]),
            "grid_y_px": run.grid_px[0],
            "grid_x_px": run.grid_px[1],
        }
        for name, values in columns.items():
            group.create_dataset(name, data=values)
        for name in ("view", "condition"):
            group.create_dataset(name, data=[getattr(truth, name) for truth in truths], dtype=h5py.string_dtype())
        regions = run.regions()
        if regions is not None:
            group.create_dataset("regions", data=regions)

    def _discard(self) -> None:
        # A file that could not be written often cannot be closed either; the first failure is the one to tell.
        with contextlib.suppress(OSError, RuntimeError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._partial.unlink()

    def _failure(self, error: BaseException) -> RecordingError:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else " ".join(str(error).split())
        return RecordingError(f"{self.path}: cannot be written: {reason}; nothing was saved")


def _number(index: int | None) -> int:
    """Return the number of a frame, -1 for none."""
    return _NONE if index is None else index


def recorded(frames: Iterable[Frame], recorder: Recorder) -> Iterator[Frame]:
    """Write every frame on its way to somewhere else."""
    for frame in frames:
        recorder.write(frame)
        yield frame
