"""DECTRIS SIMPLON stream, version 1: JSON and binary parts, as sent by EIGER and PILATUS4 detectors.

The stream gives every message to one puller alone: a monitor beside a file writer steals its frames. Use the
detector's monitor or a tee instead. Numbers of series become acquisitions, ``series-7``; what the dialect cannot
carry (views, kinds, angles) is lost.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from streamer.errors import ProtocolError
from streamer.protocols import LARGEST_BYTES, Buffer, Decoded
from streamer.protocols._codecs import pack_bslz4, unpack
from streamer.protocols._header import (
    DTYPES,
    LARGEST_INDEX,
    check_size,
    read_header,
    read_pixels,
    read_shape,
    write_pixels,
)
from streamer.records import AnyArray, EndOfAcquisition, Frame

NAME = "dectris-1"
SUMMARY = "DECTRIS SIMPLON stream version 1 (EIGER); takes frames away from other pullers"
HAS_END = True
CARRIES = frozenset({"index"})

_SIGNATURE = re.compile(
    rb'"htype"\s*:\s*"d(?:header|image|image_d|config|series_end|flatfield|pixelmask|countrate_table)-1\.0"')
_CONFIG = re.compile(rb'"(?:bit_depth_image|trigger_mode|x_pixels_in_detector)"\s*:')
"""Some senders send the detector's configuration as a message of its own."""
_SIGNATURE_WITHIN_BYTES = 1 << 16
_ENCODING = re.compile(r"(?:bs(\d+))?-?(lz4)?([<>]?)")
_SERIES = re.compile(r"series-(\d{1,18})")


def recognises(parts: Sequence[Buffer]) -> bool:
    """Tell whether the first part names a message of the stream, or is the detector's configuration."""
    if not parts:
        return False
    start = bytes(parts[0][:_SIGNATURE_WITHIN_BYTES])
    return _SIGNATURE.search(start) is not None or (start[:1] == b"{" and _CONFIG.search(start) is not None)


def decode(parts: Sequence[Buffer], *, received_at: float = 0.0, largest_bytes: int = LARGEST_BYTES) -> Decoded:
    """Read one message; see `streamer.protocols.Dialect.decode`. Headers of a series carry no frames."""
    header = read_header(parts)
    htype = header.get("htype")
    if htype == "dseries_end-1.0":
        return EndOfAcquisition(acquisition=_acquisition(header))
    if htype != "dimage-1.0":
        if recognises(parts):
            return ()
        raise ProtocolError(f"htype is {str(htype)[:40]!r}, expected that of a DECTRIS stream")
    index, acquisition = _whole("frame", header.get("frame")), _acquisition(header)
    try:
        return _frame(parts, index, acquisition, received_at, largest_bytes)
    except ProtocolError as error:
        raise ProtocolError(str(error), index=index, acquisition=acquisition) from error


def encode(frame: Frame) -> list[Buffer]:
    """Write one frame; see `streamer.protocols.Dialect.encode`."""
    if frame.index < 0:
        raise ProtocolError(f"frame number is {frame.index}; {NAME} needs one from 0")
    dtype, _ = write_pixels(frame.pixels)
    pixels = np.ascontiguousarray(frame.pixels, DTYPES[dtype])
    packed = pack_bslz4(pixels)
    about = {"htype": "dimage_d-1.0", "shape": list(reversed(pixels.shape)), "type": dtype,
             "encoding": f"bs{8 * pixels.dtype.itemsize}-lz4<", "size": len(packed)}
    real_ns = round(1e9 * (frame.exposure_s or 0.0))
    return [msgspec.json.encode({"htype": "dimage-1.0", "series": _series(frame.acquisition), "frame": frame.index}),
            msgspec.json.encode(about), packed,
            msgspec.json.encode({"htype": "dconfig-1.0", "start_time": 0, "stop_time": real_ns, "real_time": real_ns})]


def encode_end(acquisition: str) -> list[Buffer]:
    """Write the message that closes a series."""
    return [msgspec.json.encode({"htype": "dseries_end-1.0", "series": _series(acquisition)})]


def _frame(parts: Sequence[Buffer], index: int, acquisition: str, received_at: float, largest_bytes: int) -> Frame:
    if len(parts) < 3:
        raise ProtocolError(f"image message has {len(parts)} parts, expected header, description, pixels and times")
    about = read_header(parts[1:])
    rows, columns = reversed(read_shape(about.get("shape")))   # the stream counts x first
    dtype = _dtype(about)
    check_size(rows * columns * dtype.itemsize, largest_bytes)
    pixels = _pixels(about, parts[2], (rows, columns), dtype, largest_bytes)
    pixels.flags.writeable = False
    return Frame(pixels=pixels, index=index, acquisition=acquisition, received_at=received_at,
                 exposure_s=_exposure_s(parts))


def _pixels(
    about: Mapping[str, Any], data: Buffer, shape: tuple[int, int], dtype: np.dtype[Any], largest_bytes: int,
) -> AnyArray:
    encoding = about.get("encoding", "<")
    match = _ENCODING.fullmatch(encoding) if isinstance(encoding, str) else None
    if match is None:
        raise ProtocolError(f"unsupported encoding {str(encoding)[:40]!r}, expected such as 'bs16-lz4<', 'lz4<' or '<'")
    bits, lz4, order = match.groups()
    dtype = dtype.newbyteorder(">" if order == ">" else "<")
    if bits is not None and int(bits) != 8 * dtype.itemsize:
        raise ProtocolError(f"encoding {encoding!r} shuffles {bits} bits, pixels are {dtype.name}")
    if lz4 is None and bits is not None:
        raise ProtocolError(f"unsupported encoding {encoding!r}: bitshuffle without lz4")
    if lz4 is None:
        return read_pixels(list(shape), dtype, [b"", data], largest_bytes=largest_bytes)
    return unpack(data, "bslz4" if bits else "lz4", shape=shape, dtype=dtype, framed=bits is not None)


def _dtype(about: Mapping[str, Any]) -> np.dtype[Any]:
    name = about.get("type")
    dtype = DTYPES.get(name) if isinstance(name, str) else None
    if dtype is None:
        raise ProtocolError(f"type is {str(name)[:40]!r}, expected one of {', '.join(DTYPES)}")
    return dtype


def _exposure_s(parts: Sequence[Buffer]) -> float | None:
    """Read the real time of the exposure from the part with the times; None where it is missing."""
    if len(parts) < 4:
        return None
    real_ns: Any = read_header(parts[3:]).get("real_time")
    return real_ns / 1e9 if type(real_ns) in (int, float) and 0 < real_ns < 1e18 else None


def _acquisition(header: Mapping[str, Any]) -> str:
    return f"series-{_whole('series', header.get('series'))}"


def _series(acquisition: str) -> int:
    """Make a number of the name of an acquisition, always the same one."""
    match = _SERIES.fullmatch(acquisition)
    return int(match[1]) if match else zlib.crc32(acquisition.encode())


def _whole(key: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST_INDEX:
        raise ProtocolError(f"{key} is {str(value)[:40]!r}, expected a whole number from 0")
    return value
