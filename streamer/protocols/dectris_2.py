"""DECTRIS SIMPLON stream, version 2: one CBOR map a message; needs the ``dectris`` extra.

As version 1, it gives every message to one puller alone. Of several energy channels the first by name is taken.
Typed arrays: RFC 8746; the tag of compression (56500) is DECTRIS's own.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from streamer.errors import ProtocolError
from streamer.protocols import LARGEST_BYTES, Buffer, Decoded
from streamer.protocols._codecs import pack_bslz4, unpack
from streamer.protocols._header import (
    DTYPES,
    LARGEST_INDEX,
    LONGEST_NAME,
    check_size,
    read_pixels,
    read_shape,
    write_pixels,
)
from streamer.records import AnyArray, EndOfAcquisition, Frame

NAME = "dectris-2"
SUMMARY = "DECTRIS SIMPLON stream version 2 (CBOR); takes frames away from other pullers"
HAS_END = True
CARRIES = frozenset({"index", "acquisition"})

_START = re.compile(rb"[\xa0-\xbb].{0,9}?\x64type[\x63-\x65](?:start|image|end)", re.DOTALL)
_ROWS_FIRST, _COLUMNS_FIRST, _COMPRESSED = 40, 1040, 56500
_TYPED = {64: "u1", 68: "u1", 69: "<u2", 70: "<u4", 71: "<u8", 65: ">u2", 66: ">u4", 67: ">u8", 72: "i1", 73: ">i2",
          74: ">i4", 75: ">i8", 77: "<i2", 78: "<i4", 79: "<i8", 80: ">f2", 81: ">f4", 82: ">f8", 84: "<f2", 85: "<f4",
          86: "<f8"}
_MISSING = "DECTRIS stream version 2 needs the package cbor2; install txm-live[dectris]"


class _Tagged(NamedTuple):
    """A tagged value as it came."""

    tag: int
    value: Any


def recognises(parts: Sequence[Buffer]) -> bool:
    """Tell whether the only part starts as a map whose first key is the type of a message."""
    return len(parts) == 1 and _START.match(bytes(parts[0][:32])) is not None


def decode(parts: Sequence[Buffer], *, received_at: float = 0.0, largest_bytes: int = LARGEST_BYTES) -> Decoded:
    """Read one message; see `streamer.protocols.Dialect.decode`. The start of a series carries no frame."""
    message = _load(parts)
    kind = message.get("type")
    acquisition = _acquisition(message)
    if kind == "start":
        return ()
    if kind == "end":
        return EndOfAcquisition(acquisition=acquisition)
    if kind != "image":
        raise ProtocolError(f"type is {str(kind)[:40]!r}, expected 'start', 'image' or 'end'")
    index = message.get("image_id")
    if type(index) is not int or not 0 <= index <= LARGEST_INDEX:
        raise ProtocolError(f"image_id is {str(index)[:40]!r}, expected a whole number from 0", acquisition=acquisition)
    try:
        pixels = _picture(message.get("data"), largest_bytes)
        return Frame(pixels=pixels, index=index, acquisition=acquisition, received_at=received_at,
                     exposed_at=_exposed_at(message), exposure_s=_seconds(message.get("real_time")))
    except ProtocolError as error:
        raise ProtocolError(str(error), index=index, acquisition=acquisition) from error


def encode(frame: Frame) -> list[Buffer]:
    """Write one frame; see `streamer.protocols.Dialect.encode`."""
    if frame.index < 0:
        raise ProtocolError(f"frame number is {frame.index}; {NAME} needs one from 0")
    cbor = _cbor2()
    dtype, _ = write_pixels(frame.pixels)
    pixels = np.ascontiguousarray(frame.pixels, DTYPES[dtype])
    tag = next(tag for tag, name in _TYPED.items() if np.dtype(name) == pixels.dtype and tag != 68)
    packed = cbor.CBORTag(_COMPRESSED, ["bslz4", pixels.dtype.itemsize, pack_bslz4(pixels)])
    picture = cbor.CBORTag(_ROWS_FIRST, [list(pixels.shape), cbor.CBORTag(tag, packed)])
    return [cbor.dumps(_head("image", frame.acquisition) | {"image_id": frame.index, "data": {"threshold_1": picture}})]


def encode_end(acquisition: str) -> list[Buffer]:
    """Write the message that closes a series."""
    return [_cbor2().dumps(_head("end", acquisition))]


def _head(kind: str, acquisition: str) -> dict[str, Any]:
    return {"type": kind, "series_id": zlib.crc32(acquisition.encode()), "series_unique_id": acquisition}


def _load(parts: Sequence[Buffer]) -> Mapping[str, Any]:
    if len(parts) != 1:
        raise ProtocolError(f"message has {len(parts)} parts, expected one with a CBOR map")
    cbor = _cbor2()
    try:
        message = cbor.loads(bytes(parts[0]), tag_hook=_keep_tag)
    except Exception as error:  # decoders raise anything on damaged data
        raise ProtocolError(f"message is not CBOR: {' '.join(str(error).split())[:200] or type(error).__name__}"
                            ) from error
    if not isinstance(message, Mapping):
        raise ProtocolError(f"message is a CBOR {type(message).__name__}, expected a map")
    return message


def _keep_tag(*arguments: Any) -> _Tagged:
    """Keep a tag with its value; versions of the package before 6 give the decoder first."""
    tag = next(argument for argument in arguments if hasattr(argument, "tag") and hasattr(argument, "value"))
    return _Tagged(tag.tag, tag.value)


def _cbor2() -> Any:
    try:
        import cbor2  # noqa: PLC0415
    except ImportError as error:
        raise ProtocolError(_MISSING) from error
    return cbor2


def _picture(channels: Any, largest_bytes: int) -> AnyArray:
    if not isinstance(channels, Mapping) or not channels:
        raise ProtocolError(f"data is {type(channels).__name__}, expected a map of channels to pictures")
    array = channels[min(channels, key=str)]
    if not isinstance(array, _Tagged) or array.tag not in (_ROWS_FIRST, _COLUMNS_FIRST):
        raise ProtocolError("the picture of a channel is no multi-dimensional array (tag 40 or 1040)")
    if not isinstance(array.value, Sequence) or len(array.value) != 2:
        raise ProtocolError("a multi-dimensional array has other than two parts, expected its shape and its values")
    sizes, typed = array.value
    rows, columns = read_shape(list(sizes) if isinstance(sizes, Sequence) and not isinstance(sizes, str) else sizes)
    stored = (rows, columns) if array.tag == _ROWS_FIRST else (columns, rows)
    if not isinstance(typed, _Tagged) or typed.tag not in _TYPED:
        raise ProtocolError(f"pixels have the tag {getattr(typed, 'tag', None)}, expected one of typed arrays, 64-86")
    dtype = np.dtype(_TYPED[typed.tag])
    check_size(rows * columns * dtype.itemsize, largest_bytes)
    pixels = _values(typed.value, stored, dtype, largest_bytes)
    pixels = pixels if array.tag == _ROWS_FIRST else np.ascontiguousarray(pixels.T)
    pixels.flags.writeable = False
    return pixels


def _values(value: Any, shape: tuple[int, int], dtype: np.dtype[Any], largest_bytes: int) -> AnyArray:
    if isinstance(value, bytes):
        return read_pixels(list(shape), dtype, [b"", value], largest_bytes=largest_bytes)
    if not isinstance(value, _Tagged) or value.tag != _COMPRESSED or not isinstance(value.value, Sequence) \
            or len(value.value) != 3:
        raise ProtocolError("values of a typed array are neither bytes nor compressed (tag 56500)")
    algorithm, itemsize, data = value.value
    if not isinstance(algorithm, str) or not isinstance(data, bytes) or itemsize != dtype.itemsize:
        raise ProtocolError(f"compressed values of {str(itemsize)[:20]} bytes each by {str(algorithm)[:40]!r} do not "
                            f"fit pixels of {dtype.name}")
    return unpack(data, algorithm, shape=shape, dtype=dtype)


def _acquisition(message: Mapping[str, Any]) -> str:
    name, number = message.get("series_unique_id"), message.get("series_id")
    if isinstance(name, str) and len(name) <= LONGEST_NAME:
        return name
    return f"series-{number}" if type(number) is int and 0 <= number <= LARGEST_INDEX else ""


def _exposed_at(message: Mapping[str, Any]) -> float | None:
    """Add the start of the exposure to that of the series."""
    since = _seconds(message.get("start_time"), zero=True)
    date = message.get("series_date")
    date = date.value if isinstance(date, _Tagged) else date
    if isinstance(date, str):
        try:
            date = datetime.fromisoformat(date)
        except ValueError:
            return None
    if not isinstance(date, datetime) or date.tzinfo is None or since is None:
        return None
    return date.timestamp() + since


def _seconds(ratio: Any, *, zero: bool = False) -> float | None:
    """Read a time given as numerator and denominator."""
    if not isinstance(ratio, Sequence) or len(ratio) != 2 or not all(type(part) is int for part in ratio):
        return None
    above, below = ratio
    if below <= 0 or not 0 <= above < 1e18 or (above == 0 and not zero):
        return None
    return float(above / below)


