"""``array-1.0``, the convention of PSI and of areaDetector's ADZMQ plug-in; the native dialect of this project.

Part 0 is JSON, part 1 the raw pixels. Fields as in https://github.com/paulscherrerinstitute/htypes (array-1.0) and
in ADZMQ's NDPluginZMQ, plus optional ones of ours; ``array-1.0-end`` closes an acquisition.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from streamer.errors import ProtocolError
from streamer.protocols import LARGEST_BYTES, Buffer
from streamer.protocols._codecs import unpack
from streamer.protocols._header import (
    ALL_FIELDS,
    DTYPES,
    check_recollects,
    check_size,
    read_header,
    read_identity,
    read_index,
    read_optional,
    read_pixels,
    read_shape,
    write_optional,
    write_pixels,
)
from streamer.records import AnyArray, EndOfAcquisition, Frame

NAME = "array-1.0"
SUMMARY = "JSON header and raw pixels, as sent by areaDetector's ADZMQ plug-in and by PSI's tools"
HAS_END = True
CARRIES = ALL_FIELDS

END = "array-1.0-end"
EPICS_EPOCH_S = 631_152_000
"""1990-01-01 in Unix seconds; areaDetector counts from there."""

_SIGNATURE = re.compile(rb'"htype"\s*:\s*"array-1\.0(?:-end)?"')
_SIGNATURE_WITHIN_BYTES = 1 << 16


def recognises(parts: Sequence[Buffer]) -> bool:
    """Tell whether the header names this dialect."""
    return bool(parts) and _SIGNATURE.search(bytes(parts[0][:_SIGNATURE_WITHIN_BYTES])) is not None


def decode(
    parts: Sequence[Buffer], *, received_at: float = 0.0, largest_bytes: int = LARGEST_BYTES
) -> Frame | EndOfAcquisition:
    """Read one message; see `streamer.protocols.Dialect.decode`."""
    header = read_header(parts)
    htype = header.get("htype")
    if htype not in (NAME, END):
        raise ProtocolError(f"htype is {str(htype)[:40]!r}, expected {NAME!r} or {END!r}")
    try:
        if htype == END:
            return EndOfAcquisition(acquisition=read_optional(header).get("acquisition", ""))
        return _decode_frame(header, parts, received_at, largest_bytes)
    except ProtocolError as error:
        raise ProtocolError(str(error), **read_identity(header)) from error


def encode(frame: Frame) -> list[Buffer]:
    """Write one frame; see `streamer.protocols.Dialect.encode`."""
    if frame.index < 0:
        raise ProtocolError(f"frame number is {frame.index}; {NAME} needs one from 0")
    dtype, pixels = write_pixels(frame.pixels)
    header = {"htype": NAME, "type": dtype, "shape": list(frame.pixels.shape), "frame": frame.index}
    return [msgspec.json.encode(header | write_optional(frame)), pixels]


def encode_end(acquisition: str) -> list[Buffer]:
    """Write the message that closes an acquisition."""
    return [msgspec.json.encode({"htype": END, "acquisition": acquisition})]


def _decode_frame(
    header: Mapping[str, Any], parts: Sequence[Buffer], received_at: float, largest_bytes: int
) -> Frame:
    index = read_index(header)
    fields = read_optional(header)
    check_recollects(fields, index)
    if "exposed_at" not in fields:
        fields |= _epics_time(header)
    pixels = _pixels(header, parts, largest_bytes)
    return Frame(pixels=pixels, index=index, received_at=received_at, **fields)


def _pixels(header: Mapping[str, Any], parts: Sequence[Buffer], largest_bytes: int) -> AnyArray:
    """Read the pixels, unpacked where the header names a codec; areaDetector may send junk behind packed ones."""
    encoding, dtype = header.get("encoding"), _dtype(header)
    if encoding in (None, "", "none"):
        return read_pixels(header.get("shape"), dtype, parts, largest_bytes=largest_bytes)
    rows, columns = read_shape(header.get("shape"))
    check_size(rows * columns * dtype.itemsize, largest_bytes)
    if len(parts) < 2:
        raise ProtocolError("message has only a header, expected the pixels as a second part")
    codec, framed = ("lz4", True) if encoding == "lz4hdf5" else (str(encoding), False)
    pixels = unpack(parts[1], codec, shape=(rows, columns), dtype=dtype, framed=framed)
    pixels.flags.writeable = False
    return pixels


def _dtype(header: Mapping[str, Any]) -> np.dtype[Any]:
    name = header.get("type")
    dtype = DTYPES.get(name) if isinstance(name, str) else None
    if dtype is None:
        raise ProtocolError(f"type is {str(name)[:40]!r}, expected one of {', '.join(DTYPES)}")
    # PSI's own examples spell it both ways.
    order = header.get("endianness", header.get("endianess"))
    if order not in (None, "little", "big"):
        raise ProtocolError(f"endianness is {str(order)[:40]!r}, expected 'little' or 'big'")
    return dtype.newbyteorder(">") if order == "big" else dtype


def _epics_time(header: Mapping[str, Any]) -> dict[str, float]:
    """Read areaDetector's ``timeStamp``; 0 means that the driver never set it."""
    stamp = header.get("timeStamp")
    if stamp is None:
        return {}
    if type(stamp) not in (int, float) or abs(stamp) > 1e12:
        raise ProtocolError(f"timeStamp is {str(stamp)[:40]!r}, expected seconds since 1990")
    return {"exposed_at": stamp + float(EPICS_EPOCH_S)} if stamp > 0 else {}
