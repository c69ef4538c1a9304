"""bsread (SwissFEL): a main header, a data header, then value and time of each channel.

The picture is the largest two-dimensional channel of numbers; its name is the acquisition, the pulse id the number of
the frame. A data header that is left out because it has not changed cannot be known here: senders must repeat it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from streamer.errors import ProtocolError
from streamer.protocols import LARGEST_BYTES, Buffer, Decoded
from streamer.protocols._codecs import unpack
from streamer.protocols._header import (
    DTYPES,
    LARGEST_HEADER_BYTES,
    LARGEST_INDEX,
    LONGEST_NAME,
    check_size,
    read_header,
    read_pixels,
    write_pixels,
)
from streamer.records import AnyArray, Frame

NAME = "bsread"
SUMMARY = "bsread (SwissFEL): the largest image channel of every pulse"
HAS_END = False
CARRIES = frozenset({"index", "acquisition"})

_HTYPE = "bsr_m-1.1"
_SIGNATURE = b'"bsr_m-1.'


def recognises(parts: Sequence[Buffer]) -> bool:
    """Tell whether the first part is a main header."""
    return bool(parts) and _SIGNATURE in bytes(parts[0][:4096])


def decode(parts: Sequence[Buffer], *, received_at: float = 0.0, largest_bytes: int = LARGEST_BYTES) -> Decoded:
    """Read one message; see `streamer.protocols.Dialect.decode`."""
    header = read_header(parts)
    if not str(header.get("htype", "")).startswith("bsr_m-1."):
        raise ProtocolError(f"htype is {str(header.get('htype'))[:40]!r}, expected {_HTYPE!r}")
    index = header.get("pulse_id")
    if type(index) is not int or not 0 <= index <= LARGEST_INDEX:
        raise ProtocolError(f"pulse_id is {str(index)[:40]!r}, expected a whole number from 0")
    try:
        name, pixels = _picture(_channels(header, parts), parts, largest_bytes)
    except ProtocolError as error:
        raise ProtocolError(str(error), index=index, acquisition=error.acquisition) from error
    return Frame(pixels=pixels, index=index, acquisition=name, exposed_at=_time(header), received_at=received_at)


def encode(frame: Frame) -> list[Buffer]:
    """Write one frame; see `streamer.protocols.Dialect.encode`."""
    if frame.index < 0:
        raise ProtocolError(f"frame number is {frame.index}; {NAME} needs one from 0")
    dtype, pixels = write_pixels(frame.pixels)
    seconds = max(frame.exposed_at or 0.0, 0.0)
    stamp = int(seconds), int(seconds % 1 * 1e9)
    header = {"htype": _HTYPE, "pulse_id": frame.index, "hash": "", "dh_compression": "none",
              "global_timestamp": {"sec": stamp[0], "ns": stamp[1]}}
    channel = {"name": frame.acquisition, "type": dtype, "shape": list(reversed(frame.pixels.shape)),
               "encoding": "little", "compression": "none"}
    return [msgspec.json.encode(header), msgspec.json.encode({"htype": "bsr_d-1.1", "channels": [channel]}), pixels,
            np.array(stamp, "<u8").tobytes()]


def encode_end(acquisition: str) -> list[Buffer]:
    """Raise, since the dialect has no such message."""
    raise ProtocolError(f"{NAME} cannot say that an acquisition is complete ({acquisition[:40]!r})")


def _channels(header: Mapping[str, Any], parts: Sequence[Buffer]) -> list[Mapping[str, Any]]:
    """Read the description of the channels, which may be packed."""
    if len(parts) < 2 or not memoryview(parts[1]).nbytes:
        raise ProtocolError("message has no data header; let the sender repeat it with every message")
    packing = header.get("dh_compression", "none")
    data: Buffer = parts[1]
    if packing == "bitshuffle_lz4":
        size = int.from_bytes(bytes(parts[1][:8]), "big")
        check_size(size, LARGEST_HEADER_BYTES)
        data = unpack(parts[1], "bslz4", shape=(1, size), dtype=np.dtype("u1")).tobytes()
    elif packing not in ("none", None):
        raise ProtocolError(f"unsupported compression {str(packing)[:40]!r} of the data header")
    channels = read_header([data]).get("channels")
    if not isinstance(channels, list) or not all(isinstance(channel, Mapping) for channel in channels):
        raise ProtocolError(f"channels is {type(channels).__name__}, expected a list of descriptions")
    return channels


def _picture(
    channels: Sequence[Mapping[str, Any]], parts: Sequence[Buffer], largest_bytes: int,
) -> tuple[str, AnyArray]:
    found = [(rows * columns, place, rows, columns) for place, channel in enumerate(channels)
             for rows, columns in [_sides(channel)] if rows]
    if not found:
        named = ", ".join(str(channel.get("name"))[:40] for channel in channels[:4]) or "none"
        raise ProtocolError(f"no channel is a picture; channels: {named}")
    _, place, rows, columns = max(found)
    channel = channels[place]
    name = str(channel.get("name", ""))[:LONGEST_NAME]
    try:
        if len(parts) <= 2 + 2 * place:
            raise ProtocolError(f"the value of channel {name!r} is missing")
        return name, _pixels(channel, parts[2 + 2 * place], (rows, columns), largest_bytes)
    except ProtocolError as error:
        raise ProtocolError(str(error), acquisition=name) from error


def _pixels(channel: Mapping[str, Any], data: Buffer, shape: tuple[int, int], largest_bytes: int) -> AnyArray:
    dtype = DTYPES[channel.get("type", "float64")].newbyteorder(">" if channel.get("encoding") == "big" else "<")
    packing = channel.get("compression", "none")
    if packing in ("none", None):
        return read_pixels(list(shape), dtype, [b"", data], largest_bytes=largest_bytes)
    check_size(shape[0] * shape[1] * dtype.itemsize, largest_bytes)
    codec = {"bitshuffle_lz4": "bslz4"}.get(str(packing), str(packing))
    if codec != "bslz4":
        raise ProtocolError(f"unsupported compression {codec[:40]!r} of a channel")
    pixels = unpack(data, codec, shape=shape, dtype=dtype)
    pixels.flags.writeable = False
    return pixels


def _sides(channel: Mapping[str, Any]) -> tuple[int, int]:
    """Return rows and columns of a channel that is a picture, (0, 0) of another; the dialect counts x first."""
    shape, dtype = channel.get("shape"), channel.get("type", "float64")
    if not isinstance(shape, list) or len(shape) != 2 or not isinstance(dtype, str) or dtype not in DTYPES:
        return 0, 0
    columns, rows = shape
    if not all(type(side) is int and 0 < side < 1 << 31 for side in shape):
        return 0, 0
    return rows, columns


def _time(header: Mapping[str, Any]) -> float | None:
    stamp = header.get("global_timestamp")
    if not isinstance(stamp, Mapping):
        return None
    seconds, ns = stamp.get("sec", stamp.get("epoch")), stamp.get("ns", 0)
    if type(seconds) is not int or type(ns) is not int or not 0 < seconds < 1 << 40 or not 0 <= ns < 10**9:
        return None
    return seconds + 1e-9 * ns
