"""Zeiss Xradia ``.xrm`` (one picture) and ``.txrm`` (a stack): the files of SSRL 6-2c and of laboratory microscopes.

They are OLE2 compound files: streams of plain little-endian numbers. A scan that is still running, or was stopped,
holds fewer pictures than it promises; ``ImagesTaken`` counts them. Energies come ten numbers apart in files of
version 3. Times are those of the clock of the instrument and are taken as UTC, since the file names no time zone.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import olefile
from numpy.typing import NDArray

from streamer.errors import RecordingError
from streamer.formats._recording import Contents, Pictures
from streamer.formats._views import name_views
from streamer.records import AnyArray, Kind

NAME = "xrm"
SUMMARY = "Zeiss Xradia .xrm and .txrm"

_DTYPES = {3: "u1", 5: "<u2", 6: "<i4", 10: "<f4"}
_PER_FOLDER = 100
"""Pictures in each ``ImageData`` storage."""
_LARGEST_SIDE = 100_000
_MOST_PICTURES = 1_000_000
_DATE = re.compile(rb"\d\d/\d\d/(?:\d{4}|\d\d) \d\d:\d\d:\d\d(?:\.\d{1,6})?")


class _Stack:
    """Pictures of an open file, all of one shape and type."""

    def __init__(self, file: _File, streams: list[str], dtype: np.dtype[Any]) -> None:
        self._file, self._streams, self._dtype = file, streams, dtype

    def __len__(self) -> int:
        return len(self._streams)

    def read(self, position: int) -> AnyArray:
        data = self._file.stream(self._streams[position])
        if data is None:
            raise RecordingError(f"the stream {self._streams[position]} is missing or cut; the file may be incomplete")
        rows, columns = self._file.shape
        if len(data) != rows * columns * self._dtype.itemsize:
            raise RecordingError(f"{self._streams[position]} has {len(data)} bytes, expected "
                                 f"{rows * columns * self._dtype.itemsize} for {rows} x {columns} {self._dtype.name}")
        return np.frombuffer(data, self._dtype).reshape(rows, columns)


class _File:
    """The streams of a file by their names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._ole = olefile.OleFileIO(path, raise_defects=olefile.DEFECT_FATAL)
        except (OSError, ValueError, IndexError, TypeError) as error:
            raise RecordingError(f"{path}: OLE file cannot be opened ({' '.join(str(error).split())}); it may be cut, "
                                 "or still being written") from error
        if not self._ole.exists("ImageInfo/ImageWidth"):
            streams = ", ".join("/".join(name) for name in self._ole.listdir()[:6]) or "none"
            self.close()
            raise RecordingError(f"{path}: an OLE file without ImageInfo, so not one of Xradia; it holds {streams}")
        self.shape = self._side("ImageHeight"), self._side("ImageWidth")

    def close(self) -> None:
        self._ole.close()

    def stream(self, name: str) -> bytes | None:
        """Read a stream; None when it is missing or the file ends before it."""
        try:
            return bytes(self._ole.openstream(name).read()) if self._ole.exists(name) else None
        except (OSError, ValueError, IndexError):
            return None

    def has(self, name: str) -> bool:
        return bool(self._ole.exists(name))

    def whole(self, name: str) -> int | None:
        """Read the first whole number of a stream."""
        data = self.stream(name)
        return None if data is None or len(data) < 4 else int(np.frombuffer(data, "<i4", 1)[0])

    def numbers(self, name: str, count: int) -> NDArray[np.float64] | None:
        """Read one number for each of `count` pictures; None where there are fewer, or none that is finite."""
        data = self.stream(name)
        if data is None or not count:
            return None
        values = np.frombuffer(data[:len(data) // 4 * 4], "<f4").astype(np.float64)
        step = (values.size - 1) // (count - 1) if count > 1 and (values.size - 1) % (count - 1) == 0 else 1
        values = values[::max(step, 1)][:count]
        return values if values.size == count and np.isfinite(values).all() else None

    def dtype(self, name: str) -> np.dtype[Any]:
        code = self.whole(name)
        if code not in _DTYPES:
            raise RecordingError(f"{self.path}: {name} is {code}, expected one of {sorted(_DTYPES)} "
                                 "(3 uint8, 5 uint16, 6 int32, 10 float32)")
        return np.dtype(_DTYPES[code])

    def _side(self, name: str) -> int:
        side = self.whole(f"ImageInfo/{name}")
        if side is None or not 0 < side <= _LARGEST_SIDE:
            raise RecordingError(f"{self.path}: ImageInfo/{name} is {side}, expected 1 to {_LARGEST_SIDE} pixels")
        return side


def matches(path: Path) -> bool:
    """Tell whether the file has the signature of a compound file."""
    return path.is_file() and bool(olefile.isOleFile(str(path)))


def open_(path: Path, *, dataset: str | None = None) -> Contents:
    """Open an Xradia file; see `streamer.formats.Format.open_`."""
    if dataset is not None:
        raise RecordingError(f"{path}: Xradia files have no datasets; leave {dataset!r} out")
    file = _File(path)
    try:
        return _contents(file)
    except BaseException:
        file.close()
        raise


def _contents(file: _File) -> Contents:
    count = _count(file)
    names = [f"ImageData{number // _PER_FOLDER + 1}/Image{number + 1}" for number in range(count)]
    stacks: dict[Kind, Pictures] = {}
    if file.has("ReferenceData/Image"):
        stacks["flat"] = _Stack(file, ["ReferenceData/Image"], _reference_dtype(file))
    if count:
        stacks["projection"] = _Stack(file, names, file.dtype("ImageInfo/DataType"))
    angles, energies = file.numbers("ImageInfo/Angles", count), file.numbers("ImageInfo/Energy", count)
    energies = energies if energies is not None and (energies > 0).all() else None
    flats: list[tuple[Kind, int]] = [("flat", 0)] if "flat" in stacks else []
    times = _times(file, count)
    pixel_um = file.numbers("ImageInfo/PixelSize", 1)
    return Contents(
        name=file.path.stem, stacks=stacks, close=file.close, planned=file.whole("ImageInfo/NoOfImages"),
        pixel_size_nm=1e3 * float(pixel_um[0]) if pixel_um is not None and pixel_um[0] > 0 else None,
        angles_deg=angles, energies_ev=energies, exposures_s=file.numbers("ImageInfo/ExpTimes", count),
        sequence=[*flats, *(("projection", number) for number in range(count))],
        exposed_at=None if times is None else np.concatenate([np.full(len(flats), np.nan), times]),
        views=[*("" for _ in flats), *name_views(count, angles_deg=angles, energies_ev=energies)])


def _count(file: _File) -> int:
    """Count the pictures taken so far."""
    taken, planned = file.whole("ImageInfo/ImagesTaken"), file.whole("ImageInfo/NoOfImages")
    count = planned if taken is None else taken
    if count is None or not 0 <= count <= _MOST_PICTURES:
        raise RecordingError(f"{file.path}: ImageInfo/ImagesTaken is {taken} and NoOfImages {planned}, expected a "
                             "number of pictures")
    if count == 0:
        raise RecordingError(f"{file.path}: no picture was taken yet, of {planned}; try again when the scan runs")
    return count


def _reference_dtype(file: _File) -> np.dtype[Any]:
    """Type of the reference picture; older files do not tell it, but its size does."""
    if file.has("ReferenceData/DataType"):
        return file.dtype("ReferenceData/DataType")
    data = file.stream("ReferenceData/Image") or b""
    return np.dtype({1: "u1", 2: "<u2"}.get(len(data) // (file.shape[0] * file.shape[1]), "<f4"))


def _times(file: _File, count: int) -> NDArray[np.float64] | None:
    """Read when each picture was taken, in Unix seconds."""
    data = file.stream("ImageInfo/Date")
    found = [] if data is None else _DATE.findall(data)
    if len(found) < count:
        return None
    try:
        return np.array([_unix_s(text.decode()) for text in found[:count]])
    except ValueError:
        return None


def _unix_s(text: str) -> float:
    date, _, clock = text.partition(" ")
    pattern = "%m/%d/%Y" if len(date) == 10 else "%m/%d/%y"
    return datetime.strptime(f"{date} {clock}", f"{pattern} %H:%M:%S{'.%f' if '.' in clock else ''}").replace(
        tzinfo=UTC).timestamp()
