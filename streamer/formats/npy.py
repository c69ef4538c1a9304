"""NumPy files: one picture (M, N) or a stack (count, M, N), mapped and read one picture at a time; never pickles."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamer.errors import RecordingError
from streamer.formats._recording import Contents
from streamer.records import AnyArray

NAME = "npy"
SUMMARY = "NumPy .npy files"

_SIGNATURE = b"\x93NUMPY"


class _Stack:
    """Pictures of a mapped array; `close` lets go of the file."""

    def __init__(self, pictures: AnyArray) -> None:
        self._pictures: AnyArray | None = pictures
        self._count = len(pictures)

    def __len__(self) -> int:
        return self._count

    def read(self, position: int) -> AnyArray:
        if self._pictures is None:
            raise RecordingError("the file was closed")
        return np.array(self._pictures[position])   # a copy: the file may change or go

    def close(self) -> None:
        self._pictures = None


def matches(path: Path) -> bool:
    """Tell whether the file has the signature of NumPy."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SIGNATURE)) == _SIGNATURE


def open_(path: Path, *, dataset: str | None = None) -> Contents:
    """Open a NumPy file; see `streamer.formats.Format.open_`."""
    if dataset is not None:
        raise RecordingError(f"{path}: NumPy files have no datasets; leave {dataset!r} out")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError) as error:
        raise RecordingError(f"{path}: NumPy file cannot be read ({' '.join(str(error).split())}); it may be cut, or "
                             "hold objects instead of numbers") from error
    if array.ndim not in (2, 3) or array.size == 0 or array.dtype.kind not in "buif":
        raise RecordingError(f"{path}: holds an array of shape {array.shape} and type {array.dtype}, expected "
                             "(rows, columns) or (count, rows, columns) of real numbers")
    stack = _Stack(array if array.ndim == 3 else array[None])
    return Contents(name=path.stem, stacks={"projection": stack}, close=stack.close)
