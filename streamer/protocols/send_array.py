"""The ``send_array`` form of the pyzmq documentation: JSON with ``dtype`` and ``shape``, then the raw buffer.

https://pyzmq.readthedocs.io/en/latest/howto/serialization.html; ``frame`` and our optional fields may be added to
the JSON. Without ``frame`` the messages carry no number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from streamer.errors import ProtocolError
from streamer.protocols import LARGEST_BYTES, Buffer
from streamer.protocols._header import (
    ALL_FIELDS,
    DTYPES,
    check_recollects,
    read_header,
    read_identity,
    read_index,
    read_optional,
    read_pixels,
    write_optional,
    write_pixels,
)
from streamer.records import EndOfAcquisition, Frame

NAME = "send-array"
SUMMARY = "pyzmq's documented send_array: JSON with dtype and shape, then the array"
HAS_END = False
CARRIES = ALL_FIELDS

UNNUMBERED = -1

_SIGNATURE_WITHIN_BYTES = 1 << 16
_DTYPE_KEY = re.compile(rb'"dtype"\s*:')
_HTYPE_KEY = re.compile(rb'"htype"\s*:')


def recognises(parts: Sequence[Buffer]) -> bool:
    """Tell whether the header has a ``dtype`` and names no other dialect."""
    if len(parts) < 2:
        return False
    start = bytes(parts[0][:_SIGNATURE_WITHIN_BYTES])
    return start.lstrip().startswith(b"{") and bool(_DTYPE_KEY.search(start)) and not _HTYPE_KEY.search(start)


def decode(
    parts: Sequence[Buffer], *, received_at: float = 0.0, largest_bytes: int = LARGEST_BYTES
) -> Frame | EndOfAcquisition:
    """Read one message; see `streamer.protocols.Dialect.decode`."""
    header = read_header(parts)
    try:
        index = read_index(header) if header.get("frame") is not None else UNNUMBERED
        fields = read_optional(header)
        check_recollects(fields, index)
        pixels = read_pixels(header.get("shape"), _dtype(header.get("dtype")), parts, largest_bytes=largest_bytes)
    except ProtocolError as error:
        raise ProtocolError(str(error), **read_identity(header)) from error
    return Frame(pixels=pixels, index=index, received_at=received_at, **fields)


def encode(frame: Frame) -> list[Buffer]:
    """Write one frame; see `streamer.protocols.Dialect.encode`."""
    dtype, pixels = write_pixels(frame.pixels)
    header: dict[str, Any] = {"dtype": dtype, "shape": list(frame.pixels.shape)}
    if frame.index != UNNUMBERED:
        header["frame"] = frame.index
    return [msgspec.json.encode(header | write_optional(frame)), pixels]


def encode_end(acquisition: str) -> list[Buffer]:
    """Refuse: the dialect has no such message."""
    raise ProtocolError(f"{NAME} has no message that closes an acquisition (here {acquisition!r}); "
                        "use array-1.0 if the end must be announced")


def _dtype(name: Any) -> np.dtype[Any]:
    """Read a numpy type name (``uint16``) or code (``<u2``, ``>u2``); nothing but real numbers is accepted."""
    dtype = _CODES.get(name) if isinstance(name, str) else None
    if dtype is None:
        raise ProtocolError(f"dtype is {str(name)[:40]!r}, expected one of {', '.join(DTYPES)} "
                            "or a code such as '<u2'")
    return dtype


_CODES: dict[str, np.dtype[Any]] = DTYPES | {
    order + dtype.str.lstrip("<|"): dtype.newbyteorder(">" if order == ">" else "<")
    for dtype in DTYPES.values() for order in ("<", ">", "|", "=", "")
}
