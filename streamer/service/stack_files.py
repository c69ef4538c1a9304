"""Stacks of registered frames on disk: TIFF or HDF5, written page by page."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import tifffile

from streamer.errors import CommandError, SessionError, TxmError
from streamer.records import FloatArray

TIFF_SUFFIXES = (".tif", ".tiff")
HDF5_SUFFIXES = (".h5", ".hdf5")
CLASSIC_BYTES = 3_900_000_000
"""Larger TIFF files have 64-bit offsets (BigTIFF)."""
PAGE_EXTRA_BYTES = 4096
"""For the description of a page."""

Fields = Mapping[str, Any]


class StackWriter(Protocol):
    """A stack being written."""

    def write(self, page: FloatArray, fields: Fields) -> None:
        """Add a page, (M, N), and what it is; the fields are the same for all pages."""

    def close(self) -> None:
        """Finish the file."""


def check_name(path: Path) -> None:
    """Raise a CommandError when the name of a stack does not say how to write it."""
    if path.suffix.lower() not in (*TIFF_SUFFIXES, *HDF5_SUFFIXES):
        known = ", ".join((*TIFF_SUFFIXES, *HDF5_SUFFIXES))
        raise CommandError(f"{path}: a registered stack is written as {known}; give a file with one of these endings")


@contextlib.contextmanager
def open_stack(path: Path, *, shape: tuple[int, int], pages: int, about: Fields) -> Iterator[StackWriter]:
    """Write a stack beside its place and move it there when it is whole.

    Parameters
    ----------
    path : Path
        Ends in .tif, .tiff, .h5 or .hdf5.
    shape : (M, N)
        Of the pages.
    pages : int
        How many to expect at the most.
    about : mapping
        Facts about the stack.

    Raises
    ------
    SessionError
        If it cannot be written; a file of before is untouched then.
    """
    check_name(path)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer: StackWriter = _Tiff(part, shape, pages, about) if path.suffix.lower() in TIFF_SUFFIXES else _Hdf5(
            part, shape, about)
        try:
            yield writer
        finally:
            writer.close()
        part.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(error, OSError | RuntimeError) and not isinstance(error, TxmError):   # h5py raises either
            reason = getattr(error, "strerror", None) or error
            raise SessionError(f"cannot write {path}: {reason}; the file of before is untouched") from error
        raise


class _Tiff:
    """float32 pages; the description of each says as JSON what it is, that of the first also what the stack is."""

    def __init__(self, path: Path, shape: tuple[int, int], pages: int, about: Fields) -> None:
        size = pages * (4 * shape[0] * shape[1] + PAGE_EXTRA_BYTES)
        self._about: Fields = about
        self._file = tifffile.TiffWriter(path, bigtiff=size > CLASSIC_BYTES)

    def write(self, page: FloatArray, fields: Fields) -> None:
        self._file.write(page, photometric="minisblack", metadata=None, contiguous=False,
                         description=json.dumps({**fields, **self._about}))
        self._about = {}

    def close(self) -> None:
        self._file.close()


class _Hdf5:
    """``exchange/data`` (n, M, N) float32, and a line per page in ``frames``."""

    def __init__(self, path: Path, shape: tuple[int, int], about: Fields) -> None:
        self._file = h5py.File(path, "w")
        self._pages = self._file.create_dataset(
            "exchange/data", (0, *shape), "<f4", maxshape=(None, *shape), chunks=(1, *shape), compression="gzip",
            compression_opts=1, shuffle=True)
        self._lines: list[Fields] = []
        for name, value in about.items():
            if value is not None:
                self._file.attrs[name] = value

    def write(self, page: FloatArray, fields: Fields) -> None:
        count = len(self._lines)
        self._pages.resize(count + 1, axis=0)
        self._pages[count] = page
        self._lines.append(fields)

    def close(self) -> None:
        try:
            group = self._file.create_group("frames")
            for name in self._lines[0] if self._lines else ():
                values = [line[name] for line in self._lines]
                if any(isinstance(value, str) for value in values):
                    group[name] = np.array([value or "" for value in values], h5py.string_dtype())
                elif all(isinstance(value, int) for value in values):
                    group[name] = np.array(values, np.int64)
                else:
                    group[name] = np.array([np.nan if value is None else value for value in values], np.float64)
        finally:
            self._file.close()
