"""Folders of images in natural order (``img2`` before ``img10``), and single PNG, JPEG and BMP files.

Hidden files and files of other kinds are passed over. A TIFF with several pages in a folder gives all its pages, one
after another. 16-bit PNG stays 16-bit.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
import PIL.Image
import tifffile

from streamer.errors import RecordingError
from streamer.formats import tiff
from streamer.formats._recording import Contents
from streamer.records import AnyArray

NAME = "images"
SUMMARY = "folders of TIFF, PNG, JPEG or BMP images, or one such image"

SUFFIXES = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp"})
_NUMBER = re.compile(r"(\d+)")


class _Entry(NamedTuple):
    """One picture of the folder."""

    path: Path
    page: int


class _Images:
    """Pictures in files of their own; each file is opened when it is its turn."""

    def __init__(self, files: list[Path]) -> None:
        self._entries = [_Entry(path, page) for path in files for page in range(_count_pages(path))]

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, position: int) -> AnyArray:
        path, page = self._entries[position]
        try:
            return _read_image(path, page)
        except Exception as error:   # whatever the decoder says, the file must be named
            raise RecordingError(f"{path.name}: {error}") from error


def matches(path: Path) -> bool:
    """Tell whether this is a folder or an image file (single TIFF files have a format of their own)."""
    if path.is_dir():
        return True
    with path.open("rb") as file:
        return _decoder(file.read(8)) is not None


def open_(path: Path, *, dataset: str | None = None) -> Contents:
    """Open a folder or an image; see `streamer.formats.Format.open_`."""
    if dataset is not None:
        raise RecordingError(f"{path}: images have no datasets, {dataset!r} was asked; leave the dataset away")
    files = list_images(path) if path.is_dir() else [path]
    return Contents(name=path.resolve().name if path.is_dir() else path.stem, stacks={"projection": _Images(files)},
                    close=_nothing_to_close, pixel_size_nm=_pixel_size(files[0]))


def list_images(folder: Path) -> list[Path]:
    """List the images of a folder in natural order.

    Raises
    ------
    RecordingError
        If there are none; the text says what is there instead.
    """
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    images = [path for path in visible if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not images:
        there = ", ".join(sorted(path.name for path in visible)[:5]) or "nothing"
        more = f" and {len(visible) - 5} more" if len(visible) > 5 else ""
        kinds = ", ".join(sorted(SUFFIXES))
        raise RecordingError(f"{folder}: folder without images ({kinds}); it holds {there}{more}; "
                             "give a folder with images, or one of its files")
    return sorted(images, key=lambda path: natural_key(path.name))


def natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key that compares runs of digits as numbers.

    >>> sorted(["img10.png", "img2.png"], key=natural_key)
    ['img2.png', 'img10.png']
    """
    pieces = _NUMBER.split(name.casefold())   # texts and numbers by turns, a text first
    return [(int(piece), "") if place % 2 else (-1, piece) for place, piece in enumerate(pieces)], name


def _nothing_to_close() -> None:
    """Every file is closed after its picture."""


def _count_pages(path: Path) -> int:
    """Count the pages of a TIFF; 1 for all others, unreadable ones included, so that each is accounted for."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return 1
    try:
        with path.open("rb") as file:
            return max(1, tiff.read_page_table(file, path.stat().st_size).found)
    except OSError:
        return 1


def _read_image(path: Path, page: int) -> AnyArray:
    with path.open("rb") as file:
        start = file.read(8)
        if not start:
            raise RecordingError("the file is empty (0 bytes)")
        decode = _decoder(start)
        if decode is not None:
            return decode(start + file.read())
    if start[:4] not in tiff.SIGNATURES:
        raise RecordingError(f"its content starts {start!r}, which is no TIFF, PNG, JPEG or BMP")
    pictures = tiff.TiffPictures(path)
    try:
        return pictures.read(page)
    finally:
        pictures.close()


def _decoder(start: bytes) -> Callable[[bytes], AnyArray] | None:
    """Choose the decoder by the first bytes."""
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return _decode_png
    if start.startswith((b"\xff\xd8\xff", b"BM")):
        return _decode_with_pillow
    return None


def _decode_png(data: bytes) -> AnyArray:
    picture: AnyArray = imagecodecs.png_decode(data)   # Pillow would cut 16-bit colour down to 8 bit
    return picture


def _decode_with_pillow(data: bytes) -> AnyArray:
    with PIL.Image.open(io.BytesIO(data)) as image:   # reports cut files, which imagecodecs fills with grey
        return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))


def _pixel_size(path: Path) -> float | None:
    try:
        with path.open("rb") as file:
            if file.read(4) not in tiff.SIGNATURES:
                return None
        with tifffile.TiffFile(path) as opened:
            return tiff.read_pixel_size(opened)
    except (OSError, ValueError, LookupError, RuntimeError):
        return None   # an unreadable file is reported when it is its turn
