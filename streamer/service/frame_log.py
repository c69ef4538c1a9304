"""What the estimators were given since their state was kept, so that it can be given to them again.

A file of entries, each a number, a header and, for a frame, its pixels. It is written before the row of the frame is,
without waiting for the disk: what was written survives the death of the process, not a power cut.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from streamer.records import AnyArray, Frame
from streamer.sources.sequence import checksum

_MAGIC = b"txmlog1\n"
_SIZES = struct.Struct("<8sQQ")   # magic, bytes of the header, bytes of the pixels


class Entry(NamedTuple):
    """One thing that the estimators were given."""

    number: int
    """Counted through the session."""
    frame: Frame | None = None
    """As it was admitted."""
    sent: Frame | None = None
    """As it came: with the number and the acquisition of its sender."""
    settings: str = ""
    """New settings as TOML."""
    view: str = ""
    """A view whose newest frame became the reference."""


class FrameLog:
    """One file of entries, open for writing.

    Parameters
    ----------
    path : Path
    entries : iterable of Entry
        What it begins with; it appears under its name when these are in it.

    Raises
    ------
    OSError
        If it cannot be written.
    """

    def __init__(self, path: Path, entries: list[Entry] | None = None) -> None:
        self.bytes = 0
        part = path.with_name(path.name + ".new")
        self._file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            for entry in entries or ():
                self.append(entry)
            part.replace(path)
        except OSError:
            self.close()
            raise

    def append(self, entry: Entry) -> None:
        """Write an entry; when that fails, the file is as before.

        Raises
        ------
        OSError
            If the disk is full or gone.
        """
        header: dict[str, Any] = {"number": entry.number, "settings": entry.settings, "view": entry.view}
        pixels: AnyArray = np.empty(0, np.uint8)
        if entry.frame is not None and entry.sent is not None:
            pixels = np.ascontiguousarray(entry.frame.pixels)
            header |= {"dtype": pixels.dtype.str, "shape": list(pixels.shape), "check": checksum(pixels),
                       "frame": _fields(entry.frame), "sent": _fields(entry.sent)}
        head = msgspec.msgpack.encode(header)
        parts = [memoryview(_SIZES.pack(_MAGIC, len(head), pixels.nbytes)), memoryview(head)]
        if pixels.nbytes:
            parts.append(pixels.data.cast("B"))
        size = sum(part.nbytes for part in parts)
        try:
            self._write(parts)
        except OSError:
            os.ftruncate(self._file, self.bytes)
            os.lseek(self._file, self.bytes, os.SEEK_SET)
            raise
        self.bytes += size

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _write(self, parts: list[memoryview]) -> None:
        while parts:
            written = os.writev(self._file, parts)
            while parts and written >= parts[0].nbytes:
                written -= parts.pop(0).nbytes
            if parts:   # a disk that is nearly full takes a part, and the rest fails
                parts[0] = parts[0][written:]


def read_log(path: Path) -> Iterator[Entry]:
    """Yield the entries of a file as far as they are whole."""
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place + _SIZES.size <= size:
            magic, header_bytes, pixel_bytes = _SIZES.unpack(file.read(_SIZES.size))
            place += _SIZES.size + header_bytes + pixel_bytes
            if magic != _MAGIC or place > size:
                return
            header = msgspec.msgpack.decode(file.read(header_bytes))
            entry = Entry(header["number"], settings=header["settings"], view=header["view"])
            if "frame" in header:
                pixels = np.frombuffer(file.read(pixel_bytes), header["dtype"]).reshape(header["shape"])
                if checksum(pixels) != header["check"]:   # a power cut
                    return
                entry = entry._replace(frame=Frame(pixels=pixels, **header["frame"]),
                                       sent=Frame(pixels=pixels, **header["sent"]))
            yield entry


def _fields(frame: Frame) -> dict[str, Any]:
    return {name: getattr(frame, name) for name in frame.__struct_fields__ if name != "pixels"}
