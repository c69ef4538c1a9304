"""TIFF: multi-page, BigTIFF, compressed, ImageJ and OME stacks; every page is a frame, in the order of the file.

Values are taken as stored: look-up tables and inverted grey scales belong to the display. A single page of separate
planes is a stack of three or four frames that tifffile took for colours: cameras store colours pixel by pixel.
"""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
import numpy as np
import tifffile

from streamer.errors import RecordingError
from streamer.formats._recording import Contents
from streamer.records import AnyArray

NAME = "tiff"
SUMMARY = "TIFF files with one or many pages"

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MOST_PAGES = 1_000_000
"""A damaged file that promises more is not believed."""
LARGEST_PIXEL_NM = 20_000.0
"""A resolution in pixels per cm that is coarser than this is meant for a printer."""

_NM_PER_UNIT = {
    "nm": 1.0, "nanometer": 1.0, "nanometre": 1.0, "um": 1e3, "µm": 1e3, "μm": 1e3, "\\u00b5m": 1e3, "micron": 1e3,
    "microns": 1e3, "micrometer": 1e3, "micrometre": 1e3, "mm": 1e6, "cm": 1e7,
}
_OME_SIZE = re.compile(r'PhysicalSizeX="([^"]+)"')
_OME_UNIT = re.compile(r'PhysicalSizeXUnit="([^"]+)"')


class _Shaped(msgspec.Struct):
    """What tifffile writes into the description."""

    shape: list[int]


class PageTable(NamedTuple):
    """Pages that a TIFF file lists."""

    found: int
    """Pages whose entry is whole."""
    next_offset: int
    """Where the entry after the last whole one should be; 0 when the table is complete."""


class TiffPictures:
    """Pages of an open TIFF file.

    A file that was cut short still lists its first pages, and often the pixels of more: writers that know the number
    of pages beforehand put all pixels in one block, and the list of pages behind it.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._table = read_page_table(file, path.stat().st_size)
        if self._table.found == 0:
            raise RecordingError(f"{path}: TIFF file lists no whole page; it is cut or damaged, copy it again")
        self.file = tifffile.TiffFile(path)
        first = self.file.pages[0]
        self._planes = first.shape[0] if first.axes == "SYX" and self._table == PageTable(1, 0) else 0
        self._promised = self._planes or self._count_promised()
        self._block_offset = self._find_block()

    def __len__(self) -> int:
        return self._promised

    def read(self, position: int) -> AnyArray:
        """Read one page as (M, N) or (M, N, samples)."""
        if self._planes:
            plane: AnyArray = self.file.pages[0].asarray()[position]
            return plane
        if position < self._table.found:
            page = self.file.pages[position]
            picture: AnyArray = page.asarray()
            if page.axes == "SYX":   # colours stored one after another
                picture = np.moveaxis(picture, 0, -1)
            return picture
        if self._block_offset is None:
            raise RecordingError(f"the file is cut: its list of pages ends after {self._table.found} page(s)")
        return self._read_from_block(position, self._block_offset)

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def _count_promised(self) -> int:
        """Count the pages there should be, as far as a cut file still tells."""
        found, next_offset = self._table
        described = _described_pages(self.file)
        promised = max(found, described if described <= MOST_PAGES else 0)
        if next_offset:
            promised = max(promised, found + 1)   # one more was there at least
            first = self.file.pages[0]
            if found == 1 and first.compression == 1 and first.is_contiguous:   # the next entry follows the block
                in_block = (next_offset - int(first.dataoffsets[0])) // first.nbytes
                promised = max(promised, in_block if in_block <= MOST_PAGES else 0)
        return promised

    def _find_block(self) -> int | None:
        """Where the pixels of all promised pages lie in one block, or None."""
        first = self.file.pages[0]
        if self._promised == self._table.found or first.compression != 1 or not first.is_contiguous:
            return None
        start = int(first.dataoffsets[0])
        if self._table.found > 1:
            is_block = self.file.pages[1].dataoffsets[0] == start + first.nbytes
        else:   # ImageJ lists only the first page of files beyond 4 GB
            is_block = self._table.next_offset == 0 or self._table.next_offset >= start + self._promised * first.nbytes
        return start if is_block else None

    def _read_from_block(self, position: int, block_offset: int) -> AnyArray:
        page = self.file.pages[0]
        offset = block_offset + position * page.nbytes
        size = self.file.filehandle.size
        if offset + page.nbytes > size:
            raise RecordingError(f"the file is cut: the page needs bytes {offset} to {offset + page.nbytes}, "
                                 f"the file has {size}; its list of pages ends after {self._table.found} page(s)")
        self.file.filehandle.seek(offset)
        dtype = np.dtype(page.dtype).newbyteorder(self.file.byteorder)
        return np.frombuffer(self.file.filehandle.read(page.nbytes), dtype).reshape(page.shape)


def matches(path: Path) -> bool:
    """Tell whether the file starts like a TIFF."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in SIGNATURES


def open_(path: Path, *, dataset: str | None = None) -> Contents:
    """Open a TIFF file; see `streamer.formats.Format.open_`."""
    if dataset is not None:
        raise RecordingError(f"{path}: a TIFF file has no datasets, {dataset!r} was asked; leave the dataset away")
    try:
        pictures = TiffPictures(path)
    except (tifffile.TiffFileError, struct.error, ValueError) as error:
        raise RecordingError(f"{path}: TIFF file cannot be read ({error}); copy it again") from error
    name = path.name[: -len(".ome.tif")] if path.name.lower().endswith(".ome.tif") else path.stem
    return Contents(name=name, stacks={"projection": pictures}, close=pictures.close,
                    pixel_size_nm=read_pixel_size(pictures.file))


def read_page_table(file: BinaryIO, size: int) -> PageTable:
    """Follow the list of pages without trusting it: every entry must lie within the file and come only once."""
    start = file.read(16)
    order = "<" if start[:2] == b"II" else ">"
    big = start[2:4] in (b"+\0", b"\0+")
    count_format, entry_bytes, offset_format = ("Q", 20, "Q") if big else ("H", 12, "I")
    count_bytes, offset_bytes = struct.calcsize("<" + count_format), struct.calcsize("<" + offset_format)
    try:
        (offset,) = struct.unpack_from(order + offset_format, start, 8 if big else 4)
    except struct.error:
        return PageTable(0, 0)
    seen: set[int] = set()
    while offset and offset not in seen and offset + count_bytes <= size:
        file.seek(offset)
        (tags,) = struct.unpack(order + count_format, file.read(count_bytes))
        end = offset + count_bytes + tags * entry_bytes
        if not 1 <= tags <= 4096 or end + offset_bytes > size:
            break
        seen.add(offset)
        file.seek(end)
        (offset,) = struct.unpack(order + offset_format, file.read(offset_bytes))
    return PageTable(len(seen), 0 if offset in seen else offset)


def read_pixel_size(file: tifffile.TiffFile) -> float | None:
    """Read the pixel size in nm where the file plainly gives one with its unit: OME, ImageJ, or pixels per cm."""
    page = file.pages[0]
    if file.is_ome and file.ome_metadata:
        size = _OME_SIZE.search(file.ome_metadata)
        unit = _OME_UNIT.search(file.ome_metadata)
        return _to_nm(_number(size[1]), unit[1] if unit else "um") if size else None
    resolution = page.tags.get("XResolution")
    value = None if resolution is None else resolution.value
    if not isinstance(value, tuple) or len(value) != 2 or 0 in value:
        return None
    per_unit = value[0] / value[1]
    if file.is_imagej and file.imagej_metadata:
        return _to_nm(1.0 / per_unit, str(file.imagej_metadata.get("unit", "")))
    unit_tag = page.tags.get("ResolutionUnit")
    if unit_tag is not None and int(unit_tag.value) == 3:
        size_nm = _to_nm(1.0 / per_unit, "cm")
        return size_nm if size_nm is not None and size_nm <= LARGEST_PIXEL_NM else None
    return None


def _to_nm(size: float, unit: str) -> float | None:
    factor = _NM_PER_UNIT.get(unit.strip().lower())
    return size * factor if factor is not None and 0 < size < math.inf else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _described_pages(file: tifffile.TiffFile) -> int:
    """How many pages the description of the first page promises; 0 when it does not say."""
    if file.is_imagej:
        images = (file.imagej_metadata or {}).get("images")
        return images if isinstance(images, int) else 0
    page = file.pages[0]
    for text in (page.description, page.description1):   # tifffile's own, beside one by the user
        if text.startswith('{"shape"'):
            try:
                shape = msgspec.json.decode(text, type=_Shaped).shape
            except msgspec.MsgspecError:
                return 0
            pages, rest = divmod(math.prod(shape), page.size)
            return pages if rest == 0 else 0
    return 0
