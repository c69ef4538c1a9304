"""Results and commands as bytes: JSON headers, raw little-endian arrays, no pickle, no sockets.

A result is ``[topic, header, payload, ...]``; the header names each payload with dtype and shape.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from streamer.errors import CommandError, ProtocolError
from streamer.records import FRAME_TEXTS, AnyArray, Command, FlowResult, FrameRow, PictureResult

SCHEMA = 1
"""Raised when a field changes its meaning or goes; new fields do not raise it."""

Topic = Literal["frame", "flow", "image", "alert", "recollect", "status"]
TOPICS: tuple[Topic, ...] = ("frame", "flow", "image", "alert", "recollect", "status")

SPECTRA_PAYLOADS = {
    "spectrum_x": "horizontal", "spectrum_y": "vertical", "reference_x": "reference_horizontal",
    "reference_y": "reference_vertical", "noise_x": "noise_horizontal", "noise_y": "noise_vertical",
    "spectrum": "picture"}
"""Payloads of an ``image`` message and the fields of `records.SpectraResult` that they are."""

Buffer = bytes | bytearray | memoryview

LARGEST_HEADER_BYTES = 1 << 20
LARGEST_REPLY_BYTES = 1 << 30
"""The history of a million frames, asked for at once."""
_DTYPES = frozenset({"|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<f4", "<f8"})


class Payload(msgspec.Struct, frozen=True):
    """How one binary part is to be read."""

    name: str
    dtype: str
    shape: list[int]


class Result(msgspec.Struct, frozen=True, eq=False):
    """One decoded result message."""

    topic: str
    header: dict[str, Any]
    """``schema``, ``session``, ``sequence`` and the fields of the record."""
    arrays: dict[str, AnyArray]
    """Read-only arrays by name."""

    @property
    def sequence(self) -> int:
        """Position within the topic, gap-free, from 1."""
        return int(self.header["sequence"])


def encode_result(
    topic: Topic, fields: Any, *, session: str, sequence: int, arrays: Mapping[str, AnyArray] | None = None
) -> list[Buffer]:
    """Pack a record (struct or mapping) and its arrays into message parts."""
    parts = {name: _little(array) for name, array in (arrays or {}).items()}
    header = {"schema": SCHEMA, "session": session, "sequence": sequence, **msgspec.to_builtins(fields)}
    header["payloads"] = [Payload(name, array.dtype.str, list(array.shape)) for name, array in parts.items()]
    return [topic.encode(), msgspec.json.encode(header),
            *(array.data.cast("B") if array.size else b"" for array in parts.values())]


def decode_result(parts: Sequence[Buffer]) -> Result:
    """Unpack a result message.

    Raises
    ------
    ProtocolError
        If it is not a result message, or of another schema.
    """
    if len(parts) < 2:
        raise ProtocolError(f"result message has {len(parts)} part(s), expected a topic and a header; "
                            "is this the results endpoint of a txm-streamer?")
    topic = bytes(parts[0]).decode("utf-8", "replace")
    header = _json_object(parts[1], "result header")
    if "schema" not in header or (topic not in TOPICS and "sequence" not in header):   # other topics: a newer streamer
        raise ProtocolError(f"message with topic {topic[:40]!r} is not a result of a txm-streamer; check the endpoint")
    if header["schema"] != SCHEMA:
        raise ProtocolError(f"results have schema {header['schema']!r}, this program reads {SCHEMA}; "
                            "use the same version of txm-live on both sides")
    try:
        payloads = msgspec.convert(header.pop("payloads", []), list[Payload])
        if not isinstance(header["sequence"], int):
            raise ProtocolError(f"sequence is {header['sequence']!r}, expected a whole number")
    except (msgspec.ValidationError, KeyError) as error:
        raise ProtocolError(f"header of a {topic!r} message is incomplete: {error}") from error
    if len(payloads) != len(parts) - 2:
        raise ProtocolError(f"{topic!r} message names {len(payloads)} payload(s) and carries {len(parts) - 2}")
    arrays = {payload.name: _read(payload, part) for payload, part in zip(payloads, parts[2:], strict=True)}
    return Result(topic, header, arrays)


def encode_request(command: Command) -> bytes:
    """Pack a command; its arguments stand beside ``id`` and ``op``."""
    return msgspec.json.encode({**command.arguments, "id": command.id, "op": command.op})


def decode_request(data: Buffer) -> Command:
    """Unpack a command.

    Raises
    ------
    ProtocolError
        If it is not a JSON object with a text ``op``.
    """
    tree = _json_object(data, "request")
    op, request_id = tree.pop("op", None), tree.pop("id", None)
    if not isinstance(op, str):
        raise ProtocolError(f"request has op {op!r}, expected a text such as \"history\"")
    if request_id is not None and not isinstance(request_id, int | str):
        raise ProtocolError(f"request has id {request_id!r}, expected a number or a text")
    return Command(id=request_id, op=op, arguments=tree)


def encode_reply(request_id: int | str | None, *, result: Any = None, error: str | None = None) -> bytes:
    """Pack the answer to a command: its result, or the reason why there is none."""
    if error is not None:
        return msgspec.json.encode({"id": request_id, "ok": False, "error": error})
    return msgspec.json.encode({"id": request_id, "ok": True, "result": result})


def decode_reply(data: Buffer) -> tuple[int | str | None, Any]:
    """Unpack an answer into its id and result.

    Raises
    ------
    CommandError
        With the streamer's own words, if the command failed.
    ProtocolError
        If it is no answer.
    """
    tree = _json_object(data, "reply")
    if tree.get("ok") is True:
        return tree.get("id"), tree.get("result")
    if tree.get("ok") is False:
        raise CommandError(str(tree.get("error", "the streamer gave no reason")))
    raise ProtocolError("reply has no 'ok'; is this the control endpoint of a txm-streamer?")


def encode_array(array: AnyArray) -> dict[str, Any]:
    """Write an array as it stands in an answer: ``dtype``, ``shape`` and ``data`` (base64)."""
    little = _little(array)
    return {"dtype": little.dtype.str, "shape": list(array.shape), "data": base64.b64encode(little.tobytes()).decode()}


def decode_array(name: str, tree: Any) -> AnyArray:
    """Read what `encode_array` wrote.

    Raises
    ------
    ProtocolError
        If it is no array.
    """
    try:
        payload = msgspec.convert({**tree, "name": name}, Payload)
        return _read(payload, base64.b64decode(tree["data"], validate=True))
    except (TypeError, KeyError, ValueError) as error:
        raise ProtocolError(f"{name} cannot be read as an array: {error}") from error


def encode_columns(columns: Mapping[str, AnyArray | Sequence[Any]]) -> dict[str, Any]:
    """Write the columns of rows of frames as they stand in an answer: numbers as arrays with NaN for none."""
    return {name: column if name in FRAME_TEXTS else encode_array(np.asarray(column, "<f8"))
            for name, column in columns.items()}


def decode_columns(tree: Any) -> dict[str, AnyArray | list[str | None]]:
    """Read what `encode_columns` wrote, with the columns that rows of frames have.

    Raises
    ------
    ProtocolError
        If it is not that, or the columns are not equally long.
    """
    if not isinstance(tree, Mapping):
        raise ProtocolError(f"columns of frames are {type(tree).__name__}, expected an object")
    columns: dict[str, AnyArray | list[str | None]] = {}
    try:
        for name in FrameRow.__struct_fields__:
            if name in tree and name in FRAME_TEXTS:
                columns[name] = msgspec.convert(tree[name], list[str | None])
            elif name in tree:
                columns[name] = decode_array(name, tree[name]).astype(np.float64).ravel()
    except msgspec.ValidationError as error:
        raise ProtocolError(f"columns of frames cannot be read: {error}") from error
    lengths = {name: len(column) for name, column in columns.items()}
    if len({*lengths.values()}) != 1 or not {"acquisition", "index"} <= {*lengths}:
        raise ProtocolError(f"columns of frames have the lengths {lengths}; expected equal ones, with index and "
                            "acquisition")
    return columns


def decode_flow(tree: Any) -> FlowResult:
    """Read the answer to ``flow``.

    Raises
    ------
    ProtocolError
        If it is none.
    """
    if not isinstance(tree, dict):
        raise ProtocolError(f"flow is {type(tree).__name__}, expected an object")
    fields: dict[str, Any] = {
        name: decode_array(name, value) if isinstance(value, dict) and "dtype" in value else value
        for name, value in tree.items() if name in FlowResult.__struct_fields__}
    try:
        return FlowResult(**fields)
    except TypeError as error:
        raise ProtocolError(f"flow is incomplete: {error}") from error


def decode_picture(tree: Any) -> PictureResult:
    """Read the answer to ``picture``.

    Raises
    ------
    ProtocolError
        If it is none, or the picture is broken.
    """
    import imagecodecs  # noqa: PLC0415  (slow to load; most listeners ask for no pictures)

    try:
        pixels = imagecodecs.jpeg8_decode(base64.b64decode(tree["data"], validate=True))
        fields: dict[str, Any] = {name: tree[name] for name in PictureResult.__struct_fields__ if name != "pixels"}
    except (TypeError, KeyError, ValueError, RuntimeError) as error:
        raise ProtocolError(f"picture cannot be read: {error}") from error
    return PictureResult(**fields, pixels=pixels)


def _json_object(data: Buffer, what: str) -> dict[str, Any]:
    if len(data) > (LARGEST_REPLY_BYTES if what == "reply" else LARGEST_HEADER_BYTES):
        raise ProtocolError(f"{what} has {len(data)} bytes, more than a header can have")
    try:
        tree = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"{what} is not JSON: {error}") from error
    if not isinstance(tree, dict):
        raise ProtocolError(f"{what} is {type(tree).__name__}, expected a JSON object")
    return tree


def _little(array: AnyArray) -> AnyArray:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


def _read(payload: Payload, part: Buffer) -> AnyArray:
    if payload.dtype not in _DTYPES or any(size < 0 for size in payload.shape):
        raise ProtocolError(f"payload {payload.name!r} has dtype {payload.dtype!r} and shape {payload.shape}; "
                            "not readable")
    dtype = np.dtype(payload.dtype)
    expected = math.prod(payload.shape) * dtype.itemsize
    if len(part) != expected:
        raise ProtocolError(f"payload {payload.name!r} has {len(part)} bytes, its header promises {expected}")
    try:
        array = np.frombuffer(part, dtype).reshape(payload.shape)
    except ValueError as error:   # nothing in it, but a size beyond all arrays
        raise ProtocolError(f"payload {payload.name!r} has shape {payload.shape}: {error}") from error
    array.flags.writeable = False
    return array
