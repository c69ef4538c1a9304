"""Karabo bridge 2.2 (European XFEL): pairs of a msgpack header and its content; needs the ``karabo`` extra.

A message is a train: for each source its values, then its arrays. The picture is the largest array of numbers with
two dimensions; one with three holds the pictures of a train, pulses first or last, and gives as many frames. The
number of a frame is the train's, times the pictures of a train, plus its place in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from streamer.errors import ProtocolError
from streamer.protocols import LARGEST_BYTES, Buffer, Decoded
from streamer.protocols._header import DTYPES, LARGEST_INDEX, LONGEST_NAME, check_size, write_pixels
from streamer.records import AnyArray, Frame

NAME = "karabo"
SUMMARY = "Karabo bridge 2.2 (European XFEL); REQ/REP, PUB/SUB or PUSH/PULL"
HAS_END = False
CARRIES = frozenset({"index", "acquisition", "exposed_at"})

_CONTENT, _SOURCE = b"\xa7content", b"\xa6source"
_LARGEST_HEADER_BYTES = 1 << 20
_MOST_DIMENSIONS = 4
_FEWEST_PX = 2
_MISSING = "the Karabo bridge needs the package msgpack; install txm-live[karabo]"
_LONGEST_PULSES = 4096


class _Array(NamedTuple):
    """An array as its header describes it."""

    source: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    data: Buffer


def recognises(parts: Sequence[Buffer]) -> bool:
    """Tell whether the first of an even number of parts is a header of the bridge."""
    if len(parts) < 2 or len(parts) % 2:
        return False
    start = bytes(parts[0][:4096])
    return _CONTENT in start and _SOURCE in start


def decode(parts: Sequence[Buffer], *, received_at: float = 0.0, largest_bytes: int = LARGEST_BYTES) -> Decoded:
    """Read one message; see `streamer.protocols.Dialect.decode`."""
    if len(parts) % 2 or not parts:
        raise ProtocolError(f"message has {len(parts)} parts, expected pairs of a header and its content")
    arrays: list[_Array] = []
    metadata: dict[str, Mapping[str, Any]] = {}
    for header_part, content in zip(parts[::2], parts[1::2], strict=True):
        header = _load(header_part)
        source, kind = header.get("source"), header.get("content")
        if not isinstance(source, str) or kind not in ("msgpack", "array"):
            raise ProtocolError(f"header names the source {str(source)[:40]!r} and the content {str(kind)[:40]!r}, "
                                "expected a text, and 'msgpack' or 'array'")
        if kind == "array":
            arrays.append(_described(source, header, content))
        elif isinstance(header.get("metadata"), Mapping):
            metadata[source] = header["metadata"]
    pictures = [array for array in arrays if _is_picture(array)]
    if not pictures:
        found = ", ".join(f"{array.source} {list(array.shape)}" for array in arrays[:4]) or "none"
        raise ProtocolError(f"message holds no picture; arrays: {found}")
    return _frames(max(pictures, key=lambda array: math.prod(array.shape)), metadata, received_at, largest_bytes)


def encode(frame: Frame) -> list[Buffer]:
    """Write one frame as a train; see `streamer.protocols.Dialect.encode`."""
    if frame.index < 0:
        raise ProtocolError(f"frame number is {frame.index}; {NAME} needs one from 0")
    name, data = write_pixels(frame.pixels)
    pack = _msgpack().packb
    about: dict[str, Any] = {"source": frame.acquisition, "timestamp.tid": frame.index}
    if frame.exposed_at is not None:
        about["timestamp"] = frame.exposed_at
    return [pack({"source": frame.acquisition, "content": "msgpack", "metadata": about}), pack({}),
            pack({"source": frame.acquisition, "content": "array", "path": "data.image.pixels", "dtype": name,
                  "shape": list(frame.pixels.shape)}), data]


def encode_end(acquisition: str) -> list[Buffer]:
    """Raise, since the bridge has no such message."""
    raise ProtocolError(f"{NAME} cannot say that an acquisition is complete ({acquisition[:40]!r})")


def _frames(
    array: _Array, metadata: Mapping[str, Mapping[str, Any]], received_at: float, largest_bytes: int,
) -> Decoded:
    about = metadata.get(array.source, {})
    train = about.get("timestamp.tid", -1)
    if type(train) is not int or not -1 <= train <= LARGEST_INDEX:
        raise ProtocolError(f"timestamp.tid is {str(train)[:40]!r}, expected the number of a train")
    stamp: Any = about.get("timestamp")
    exposed_at = float(stamp) if type(stamp) in (int, float) and abs(stamp) < 1e12 else None
    size, found = math.prod(array.shape) * array.dtype.itemsize, memoryview(array.data).nbytes
    try:
        check_size(max(size, found), largest_bytes)
        if size != found:
            raise ProtocolError(f"pixels have {found} bytes, shape {list(array.shape)} of {array.dtype.name} needs "
                                f"{size}")
    except ProtocolError as error:
        raise ProtocolError(str(error), index=train if train >= 0 else None, acquisition=array.source) from error
    pictures = _stack(np.frombuffer(array.data, array.dtype).reshape(array.shape))
    frames = []
    for place, picture in enumerate(pictures):
        pixels = np.ascontiguousarray(picture)
        pixels = pixels if pixels.dtype.isnative else pixels.astype(pixels.dtype.newbyteorder("="))
        pixels.flags.writeable = False
        index = min(train * len(pictures) + place, LARGEST_INDEX) if train >= 0 else -1
        frames.append(Frame(pixels=pixels, index=index, acquisition=array.source, exposed_at=exposed_at,
                            received_at=received_at))
    return frames[0] if len(frames) == 1 else frames


def _stack(array: AnyArray) -> AnyArray:
    """Bring the pulses of a train to the front: they are along the shorter of the first and the last axis."""
    if array.ndim == 2:
        return array[None]
    return array if array.shape[0] <= array.shape[-1] else np.moveaxis(array, -1, 0)


def _described(source: str, header: Mapping[str, Any], data: Buffer) -> _Array:
    name, shape = header.get("dtype"), header.get("shape")
    dtype = DTYPES.get(name) if isinstance(name, str) else None
    if not isinstance(shape, Sequence) or isinstance(shape, str) or len(shape) > _MOST_DIMENSIONS or not all(
            type(size) is int and 0 <= size < 1 << 40 for size in shape):
        raise ProtocolError(f"shape of an array is {str(shape)[:40]!r}, expected at most {_MOST_DIMENSIONS} sizes")
    return _Array(source[:LONGEST_NAME], dtype or np.dtype("V1"), _squeezed(tuple(shape)), data)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _is_picture(array: _Array) -> bool:
    """Tell a picture, or the pictures of a train, from other arrays."""
    if array.dtype.kind not in "uif" or len(array.shape) not in (2, 3) or 0 in array.shape:
        return False
    return len(array.shape) == 2 or (min(array.shape) <= _LONGEST_PULSES and sorted(array.shape)[1] >= _FEWEST_PX)


def _load(part: Buffer) -> Mapping[str, Any]:
    size = memoryview(part).nbytes
    if size > _LARGEST_HEADER_BYTES:
        raise ProtocolError(f"header has {size} bytes, more than the {_LARGEST_HEADER_BYTES} that a header may have")
    try:
        header = _msgpack().unpackb(part, raw=False, strict_map_key=False)
    except Exception as error:  # decoders raise anything on damaged data
        raise ProtocolError(f"header is not msgpack: {' '.join(str(error).split())[:200] or type(error).__name__}"
                            ) from error
    if not isinstance(header, Mapping):
        raise ProtocolError(f"header is a {type(header).__name__}, expected a map")
    return header


def _msgpack() -> Any:
    try:
        import msgpack  # noqa: PLC0415
    except ImportError as error:
        raise ProtocolError(_MISSING) from error
    return msgpack
