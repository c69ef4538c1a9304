"""A recording of any format, written as Data Exchange HDF5 or as TIFF.

Data Exchange: De Carlo et al., J. Synchrotron Rad. 21, 1224 (2014), doi:10.1107/S160057751401604X.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import msgspec
import numpy as np
import tifffile

from simulator.recorder import STACKS
from streamer.errors import RecordingError
from streamer.formats import Recording
from streamer.records import KINDS, Frame, Kind, Refusal

HDF5_ENDINGS = (".h5", ".hdf5", ".hdf", ".nxs")
TIFF_ENDINGS = (".tif", ".tiff")
_CM_IN_NM = 1e7


class Converted(NamedTuple):
    """What was written."""

    files: tuple[Path, ...]
    frames: int
    unreadable: tuple[str, ...]
    """Why each picture that is missing could not be read."""


def convert(recording: Recording, out: Path, *, on_frame: Callable[[], None] = lambda: None) -> Converted:
    """Write a recording as another format, chosen by the ending of the file; it appears when it is whole.

    Parameters
    ----------
    recording : Recording
        Open; read once, one picture at a time.
    out : Path
        ``.h5`` for Data Exchange HDF5 with everything that is known of the frames, ``.tif`` for a stack of
        projections; flats and darks then go beside it, into ``NAME_flat.tif`` and ``NAME_dark.tif``.
    on_frame : callable
        Called once for every frame.

    Raises
    ------
    RecordingError
        If the ending is not known, the pictures of a kind differ in shape or type, or the file cannot be written.
    """
    ending = out.suffix.lower()
    if ending not in (*HDF5_ENDINGS, *TIFF_ENDINGS):
        raise RecordingError(f"{out}: the ending tells the format; expected one of "
                             f"{', '.join((*HDF5_ENDINGS, *TIFF_ENDINGS))}")
    if not out.parent.is_dir():
        raise RecordingError(f"{out}: the folder {out.parent} does not exist; make it first")
    write = _write_hdf5 if ending in HDF5_ENDINGS else _write_tiff
    unreadable: list[str] = []

    def frames() -> Iterator[Frame]:
        first: dict[Kind, Frame] = {}
        for item in recording.frames():
            on_frame()
            if isinstance(item, Refusal):
                unreadable.append(item.reason)
                continue
            expected = first.setdefault(item.kind, item).pixels
            if (item.pixels.shape, item.pixels.dtype) != (expected.shape, expected.dtype):
                raise RecordingError(
                    f"{recording.path}: {item.kind} {item.index} is {_describe(item)}, the first is "
                    f"{_describe(first[item.kind])}; a file of one stack cannot hold both")
            yield item

    try:
        files, count = write(recording, out, frames())
    except RecordingError:
        raise
    except (OSError, RuntimeError) as error:
        raise RecordingError(f"{out}: cannot be written: {getattr(error, 'strerror', None) or error}; nothing was left "
                             "behind") from error
    return Converted(files, count, tuple(unreadable))


def _write_hdf5(recording: Recording, out: Path, frames: Iterator[Frame]) -> tuple[tuple[Path, ...], int]:
    taken: list[Frame] = []
    with _beside(out) as part, h5py.File(part, "w", rdcc_nbytes=0) as file:
        exchange = file.create_group("exchange")
        for frame in frames:
            name = STACKS[frame.kind]
            if name not in exchange:
                exchange.create_dataset(name, (0, *frame.pixels.shape), frame.pixels.dtype,
                                        chunks=(1, *frame.pixels.shape), maxshape=(None, *frame.pixels.shape))
            if frame.index >= len(exchange[name]):
                exchange[name].resize(frame.index + 1, axis=0)
            exchange[name][frame.index] = frame.pixels
            taken.append(msgspec.structs.replace(frame, pixels=frame.pixels[:0].copy()))
        _write_facts(file, recording, taken)
    return (out,), len(taken)


def _write_facts(file: Any, recording: Recording, taken: list[Frame]) -> None:
    """Write what is known of the frames, where readers of Data Exchange look for it, and the order beside it."""
    shots: list[Frame | None] = [None] * len(file["exchange"].get("data", ()))
    for frame in taken:
        if frame.kind == "projection":
            shots[frame.index] = frame
    for name, field, unit in (("exchange/theta", "angle_deg", "deg"),
                              ("measurement/instrument/monochromator/energy", "energy_ev", "eV"),
                              ("measurement/instrument/detector/exposure_time", "exposure_s", "s")):
        values = [getattr(shot, field) for shot in shots if shot is not None]
        if values and None not in values:
            file[name] = [values[0] if shot is None else getattr(shot, field) for shot in shots]
            file[name].attrs["units"] = unit
    ours = file.create_group("txm_live")
    ours.attrs["acquisition"] = recording.name
    if recording.pixel_size_nm is not None:
        ours.attrs["pixel_size_nm"] = recording.pixel_size_nm
    ours["sequence"] = np.array([(KINDS.index(frame.kind), frame.index) for frame in taken], np.int32).reshape(-1, 2)
    ours.create_dataset("view", data=[frame.view for frame in taken], dtype=h5py.string_dtype())
    if any(frame.exposed_at is not None for frame in taken):
        ours["exposed_at_s"] = [np.nan if frame.exposed_at is None else frame.exposed_at for frame in taken]


def _write_tiff(recording: Recording, out: Path, frames: Iterator[Frame]) -> tuple[tuple[Path, ...], int]:
    resolution = {} if recording.pixel_size_nm is None else {
        "resolution": (_CM_IN_NM / recording.pixel_size_nm,) * 2, "resolutionunit": "CENTIMETER"}
    names: dict[Kind, Path] = {"projection": out, **{
        kind: out.with_name(f"{out.stem}_{kind}{out.suffix}") for kind in KINDS if kind != "projection"}}
    count = 0
    with contextlib.ExitStack() as stack:
        writers: dict[Kind, tifffile.TiffWriter] = {}
        for frame in frames:
            if frame.kind not in writers:
                part = stack.enter_context(_beside(names[frame.kind]))
                writers[frame.kind] = stack.enter_context(tifffile.TiffWriter(part, bigtiff=True))
            writers[frame.kind].write(frame.pixels, contiguous=True, metadata=None, photometric="minisblack",
                                      **resolution)
            count += 1
    return tuple(names[kind] for kind in KINDS if kind in writers), count


@contextlib.contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """Give a place to write to; it takes the place of `out` when all went well, and is removed when not."""
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def _describe(frame: Frame) -> str:
    return f"{' x '.join(map(str, frame.pixels.shape))} {frame.pixels.dtype.name}"
