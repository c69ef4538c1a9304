"""EPICS ``NTNDArray`` to frames: areaDetector's pictures on pvAccess. No network, no state.

Normative type: EPICS V4 Normative Types, NTNDArray. Codecs as areaDetector's NDPluginCodec names them; its LZ4 and
bitshuffle data have no framing, those that a detector packed itself have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from streamer.errors import ProtocolError, SettingsError
from streamer.formats import as_frame
from streamer.protocols._codecs import FRAME, unpack
from streamer.protocols._header import check_size
from streamer.records import KINDS, AnyArray, Frame, Kind

_SCALARS = {1: "i1", 2: "i2", 3: "i4", 4: "i8", 5: "u1", 6: "u2", 7: "u4", 8: "u8", 9: "f4", 10: "f8"}
"""pvData's numbers of types, which the parameters of a codec give."""
_FRAMED = {"lz4hdf5": "lz4"}
_COLOUR_AXIS = {2: -1, 3: -2, 4: -3}
"""Where areaDetector's colour modes RGB1, RGB2 and RGB3 have their three colours, in numpy's order."""
_NUMBERS = frozenset({"angle_deg", "energy_ev", "exposure_s", "pixel_size_nm"})
_TEXTS = frozenset({"view", "acquisition"})
_FIELDS = _NUMBERS | _TEXTS | {"kind"}
_RULE = re.compile(r"(\w+)=([^*]+?)(?:\*([0-9.eE+-]+))?")


class Rule(NamedTuple):
    """Which attribute of a picture becomes which field of a frame."""

    field: str
    attribute: str
    factor: float


def read_rules(texts: Sequence[str]) -> tuple[Rule, ...]:
    """Read rules such as ``"angle_deg=SampleTheta"`` and ``"energy_ev=Energy*1000"``.

    Raises
    ------
    SettingsError
        Naming the rule and the fields that there are.
    """
    rules = []
    for text in texts:
        match = _RULE.fullmatch(text.strip())
        if match is None or match[1] not in _FIELDS:
            raise SettingsError(f"frames.attributes: {text!r} is no rule, expected FIELD=ATTRIBUTE or "
                                f"FIELD=ATTRIBUTE*FACTOR with a field of {', '.join(sorted(_FIELDS))}")
        try:
            rules.append(Rule(match[1], match[2], float(match[3] or 1.0)))
        except ValueError as error:
            raise SettingsError(f"frames.attributes: {text!r} has the factor {match[3]!r}, expected a number"
                                ) from error
    return tuple(rules)


def is_empty(value: Any) -> bool:
    """Tell a variable that never held a picture."""
    return not len(value.dimension) or _pixels(value) is None


def unique_id(value: Any) -> int:
    """Return the number that the driver gave."""
    return int(value.uniqueId)


def taken_at(value: Any) -> float | None:
    """Return when the picture was taken, in Unix seconds; None when the driver does not tell."""
    stamp = value.dataTimeStamp
    seconds = stamp.secondsPastEpoch + 1e-9 * stamp.nanoseconds
    return float(seconds) if seconds > 0 else None


def decode(
    value: Any, *, rules: Sequence[Rule] = (), received_at: float = 0.0, largest_bytes: int = 512_000_000,
) -> Frame:
    """Make a frame of a value.

    Parameters
    ----------
    value : p4p.Value
        Of the type ``epics:nt/NTNDArray:1.0``, or anything with its fields.
    rules : sequence of Rule
        Which attributes to take.
    received_at : float
        Unix s.
    largest_bytes : int
        Pictures that would be larger are refused.

    Raises
    ------
    ProtocolError
        With the number of the frame.
    """
    index = unique_id(value)
    try:
        if index < 0:
            raise ProtocolError(f"uniqueId is {index}, expected a number from 0")
        attributes = {str(entry.name): entry.value for entry in value.attribute}
        pixels = _picture(value, attributes, largest_bytes)
        return Frame(pixels=pixels, index=index, exposed_at=taken_at(value), received_at=received_at,
                     **_fields(attributes, rules))
    except ProtocolError as error:
        raise ProtocolError(str(error), index=index if index >= 0 else None) from error


def _pixels(value: Any) -> AnyArray | None:
    data = value.value
    return None if data is None or np.size(data) == 0 else np.asarray(data)


def _picture(value: Any, attributes: Mapping[str, Any], largest_bytes: int) -> AnyArray:
    shape = tuple(int(one.size) for one in reversed(list(value.dimension)))
    data = _pixels(value)
    if data is None or not shape or min(shape) < 1:
        raise ProtocolError(f"picture is empty: its dimensions are {list(reversed(shape))}")
    codec = str(value.codec.name or "")
    if codec:
        data = _unpacked(data, codec, shape, value.codec.parameters, largest_bytes)
    check_size(data.nbytes, largest_bytes)
    if data.size != int(np.prod(shape, dtype=object)):
        raise ProtocolError(f"picture has {data.size} values, its dimensions {list(reversed(shape))} need another "
                            "number")
    picture = data.reshape(shape)
    axis = _COLOUR_AXIS.get(_whole(attributes.get("ColorMode")))
    if axis is not None and picture.ndim == 3 and picture.shape[axis] == 3:
        picture = np.moveaxis(picture, axis, -1)
    try:
        return as_frame(picture)
    except (ValueError, OSError) as error:
        raise ProtocolError(str(error)) from error


def _unpacked(
    data: AnyArray, codec: str, shape: tuple[int, ...], parameters: Any, largest_bytes: int,
) -> AnyArray:
    name = _SCALARS.get(_whole(parameters))
    if name is None:
        raise ProtocolError(f"codec {codec!r} has the parameters {str(parameters)[:40]!r}, expected the number of a "
                            "type of pixels, 1 to 10")
    dtype = np.dtype(name)
    rows, columns = int(np.prod(shape[:-1], dtype=object)), shape[-1]
    check_size(rows * columns * dtype.itemsize, largest_bytes)
    packed = data.tobytes()
    framed = codec in _FRAMED or packed[:8] == FRAME.pack(rows * columns * dtype.itemsize, 0)[:8]
    return unpack(packed, _FRAMED.get(codec, codec), shape=(rows, columns), dtype=dtype, framed=framed)


def _fields(attributes: Mapping[str, Any], rules: Sequence[Rule]) -> dict[str, Any]:
    """Take the attributes that the rules name; those that are missing or make no sense are left out."""
    fields: dict[str, Any] = {}
    for rule in rules:
        found = attributes.get(rule.attribute)
        if found is None:
            continue
        if rule.field in _TEXTS:
            fields[rule.field] = str(found)[:255]
        elif rule.field == "kind":
            kind = _kind(found)
            if kind is not None:
                fields["kind"] = kind
        elif isinstance(found, int | float | np.number) and np.isfinite(found):
            fields[rule.field] = float(found) * rule.factor
    return fields


def _kind(found: Any) -> Kind | None:
    """Read a kind from its name, or from its number: 0 projection, 1 flat, 2 dark."""
    if isinstance(found, str):
        name = found.strip().lower()
        return next((kind for kind in KINDS if name.startswith(kind)), None)
    number = _whole(found)
    return KINDS[number] if 0 <= number < len(KINDS) else None


def _whole(value: Any) -> int:
    """Return a whole number, -1 for what is none."""
    return int(value) if isinstance(value, int | np.integer) else -1
