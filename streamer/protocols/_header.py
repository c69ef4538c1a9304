"""Checked reading of JSON headers and raw pixels, shared by the dialects; sizes are checked before anything is made."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import msgspec
import numpy as np

from streamer.errors import ProtocolError
from streamer.protocols import Buffer
from streamer.records import KINDS, AnyArray, Frame, Kind

LARGEST_HEADER_BYTES = 1 << 20
LARGEST_INDEX = 2**63 - 1
"""Largest frame number: what the journal can store."""
LARGEST_NUMBER = 1e300
LONGEST_NAME = 255
MOST_DIMENSIONS = 8

DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
                 "float16", "float32", "float64")
}
"""Pixel types that can come over the wire, little-endian."""

# A string is matched first, so that the word 'nan' inside one is left alone.
# It needs no closing quote: a header full of quotes must not make the search start over at each of them.
_NOT_JSON = re.compile(rb'"(?:[^"\\]|\\.)*"?|[-+]?\b(?:nan|inf(?:inity)?)\b', re.IGNORECASE | re.DOTALL)
_ATTRIBUTES = re.compile(rb',\s*"ndattr"\s*:')

T = TypeVar("T")


def read_header(parts: Sequence[Buffer]) -> dict[str, Any]:
    """Read part 0 as a JSON object.

    Tolerated, because areaDetector sends it: bare ``nan`` and ``inf`` (read as null), trailing NUL bytes, and
    broken JSON from ``"ndattr"`` on, whose strings are not escaped.
    """
    if not parts:
        raise ProtocolError("message has no parts, expected a header and the pixels")
    size = memoryview(parts[0]).nbytes
    if size > LARGEST_HEADER_BYTES:
        raise ProtocolError(f"header has {size} bytes, more than the {LARGEST_HEADER_BYTES} that a header may have")
    text = bytes(parts[0]).rstrip(b"\0")
    try:
        tree = _tolerant_json(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"header is not JSON ({error}): {text[:60]!r}") from error
    if not isinstance(tree, dict):
        raise ProtocolError(f"header is a JSON {type(tree).__name__}, expected an object: {text[:60]!r}")
    return tree


def _tolerant_json(text: bytes) -> Any:
    attempts: tuple[Callable[[bytes], bytes], ...] = (bytes, _without_nan, _without_attributes,
                                                      lambda raw: _without_nan(_without_attributes(raw)))
    failure: Exception | None = None
    for attempt in attempts:
        try:
            return msgspec.json.decode(attempt(text))
        except (msgspec.MsgspecError, ValueError) as error:
            failure = failure or error
    raise cast("Exception", failure)


def _without_nan(text: bytes) -> bytes:
    return _NOT_JSON.sub(lambda match: match[0] if match[0].startswith(b'"') else b"null", text)


def _without_attributes(text: bytes) -> bytes:
    found = _ATTRIBUTES.search(text)
    return text[:found.start()] + b"}" if found else text


def read_identity(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``index`` and ``acquisition`` as far as the header gives them, for the text of a refusal."""
    identity: dict[str, Any] = {"index": None, "acquisition": ""}
    for name, key in (("index", "frame"), ("acquisition", "acquisition")):
        try:
            value = _whole(key, header[key]) if name == "index" else _name(key, header[key])
        except (KeyError, ProtocolError):
            continue
        identity[name] = value
    return identity


def read_index(header: Mapping[str, Any]) -> int:
    """Read the required frame number."""
    if header.get("frame") is None:
        raise ProtocolError("header has no 'frame', expected the frame number")
    return _whole("frame", header["frame"])


def read_optional(header: Mapping[str, Any]) -> dict[str, Any]:
    """Read the optional fields of ours into arguments for `Frame`; null counts as not given."""
    fields: dict[str, Any] = {}
    for key, (field, read) in _OPTIONAL.items():
        value = header.get(key)
        if value is not None and (key, value) != _REPLACES_NOTHING:
            fields[field] = read(key, value)
    if fields.get("expected") == 0:
        del fields["expected"]   # senders that do not know the number send 0
    if fields.get("pixel_size_nm") == 0:
        del fields["pixel_size_nm"]
    return fields


def check_recollects(fields: Mapping[str, Any], index: int) -> None:
    """Refuse a frame that says it replaces itself."""
    if fields.get("recollects") == index:
        raise ProtocolError(f"recollects is {index}, the frame's own number; "
                            "a repeated frame needs a number of its own")


def read_pixels(
    shape: Any, dtype: np.dtype[Any], parts: Sequence[Buffer], *, largest_bytes: int
) -> AnyArray:
    """Look at part 1 as (rows, columns) pixels of `dtype`, read-only and without a copy if little-endian."""
    if len(parts) < 2:
        raise ProtocolError("message has only a header, expected the pixels as a second part")
    for number, part in enumerate(parts[2:], start=2):
        if memoryview(part).nbytes:
            raise ProtocolError(f"message has {len(parts)} parts and part {number} is not empty; "
                                "one picture a message is expected")
    rows, columns = read_shape(shape)
    found, expected = memoryview(parts[1]).nbytes, rows * columns * dtype.itemsize
    check_size(max(expected, found), largest_bytes)
    if found != expected:
        raise ProtocolError(f"pixels have {found} bytes, shape [{rows}, {columns}] of {dtype.name} needs {expected}")
    pixels: AnyArray = np.frombuffer(parts[1], dtype).reshape(rows, columns)
    if not dtype.isnative:
        pixels = pixels.astype(dtype.newbyteorder("="))
    pixels.flags.writeable = False
    return pixels


def check_size(size: int, largest_bytes: int) -> None:
    """Refuse a picture that is larger than allowed, before anything is made for it."""
    if size > largest_bytes:
        raise ProtocolError(f"picture has {size} bytes, more than the {largest_bytes} allowed; "
                            "raise the setting frames.largest_mb if that is right")


def read_shape(shape: Any) -> tuple[int, int]:
    """Check a shape and drop leading ones until two dimensions are left."""
    if not isinstance(shape, list) or not 2 <= len(shape) <= MOST_DIMENSIONS:
        raise ProtocolError(f"shape is {_short(shape)}, expected [rows, columns]")
    sizes = [_whole("shape", size) for size in shape]
    while len(sizes) > 2 and sizes[0] == 1:
        del sizes[0]
    if len(sizes) != 2 or min(sizes) < 1:
        raise ProtocolError(f"shape is {_short(shape)}, expected [rows, columns], both at least 1")
    return sizes[0], sizes[1]


def write_optional(frame: Frame) -> dict[str, Any]:
    """Write the optional fields that are set."""
    header: dict[str, Any] = {}
    for key, (field, _) in _OPTIONAL.items():
        value = getattr(frame, field)
        if value is not None and value != "" and (key, value) != ("kind", "projection"):
            header[key] = value
    return header


def write_pixels(pixels: AnyArray) -> tuple[str, Buffer]:
    """Give the name of the pixel type and the pixels as little-endian C-order bytes, copied only if they are not."""
    dtype = DTYPES.get(pixels.dtype.name)
    if dtype is None or pixels.ndim != 2 or pixels.size == 0:
        raise ProtocolError(f"picture of shape {pixels.shape} and type {pixels.dtype} cannot be sent; "
                            f"expected (rows, columns) of {', '.join(DTYPES)}")
    flat = np.ascontiguousarray(pixels, dtype).reshape(-1)
    return pixels.dtype.name, flat.view(np.uint8).data


def _whole(key: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= LARGEST_INDEX:
        raise ProtocolError(f"{key} is {_short(value)}, expected a whole number from 0")
    return value


def _number(key: str, value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) <= LARGEST_NUMBER:
        raise ProtocolError(f"{key} is {_short(value)}, expected a number")
    return float(value)


def _positive(key: str, value: Any) -> float:
    number = _number(key, value)
    if number < 0:
        raise ProtocolError(f"{key} is {_short(value)}, expected a number that is not negative")
    return number


def _name(key: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        raise ProtocolError(f"{key} is {_short(value)}, expected a text of at most {LONGEST_NAME} characters")
    return value


def _kind(key: str, value: Any) -> Kind:
    if value not in KINDS:
        raise ProtocolError(f"{key} is {_short(value)}, expected one of {', '.join(KINDS)}")
    return cast("Kind", value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_OPTIONAL: dict[str, tuple[str, Callable[[str, Any], Any]]] = {
    "acquisition": ("acquisition", _name),
    "view": ("view", _name),
    "kind": ("kind", _kind),
    "exposed_at": ("exposed_at", _number),
    "exposure_s": ("exposure_s", _positive),
    "pixel_size_nm": ("pixel_size_nm", _positive),
    "angle_deg": ("angle_deg", _number),
    "energy_ev": ("energy_ev", _positive),
    "recollects": ("recollects", _whole),
    "of": ("expected", _whole),
}
"""Name on the wire: field of `Frame` and how to read it."""

_REPLACES_NOTHING = ("recollects", -1)
"""As a sender says it that has a number for every frame, such as a process variable."""

ALL_FIELDS = frozenset({"index", *(field for field, _ in _OPTIONAL.values())})
"""What a JSON header of ours carries."""
