from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import CommandError, ProtocolError
from streamer.records import Command, FrameRow
from streamer.wire import (
    SCHEMA,
    decode_reply,
    decode_request,
    decode_result,
    encode_reply,
    encode_request,
    encode_result,
)

ROW = FrameRow(index=7, acquisition="scan", view="main", kind="projection", verdict="blurred", blur_length_px=3.5)


def test_a_row_comes_back_as_it_was() -> None:
    result = decode_result([bytes(part) for part in encode_result("frame", ROW, session="s", sequence=3)])
    assert (result.topic, result.sequence, result.arrays) == ("frame", 3, {})
    assert result.header["session"] == "s"
    assert msgspec.convert({name: result.header[name] for name in FrameRow.__struct_fields__}, FrameRow) == ROW


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int32", "float32", "float64", ">f4", ">u2"])
@pytest.mark.parametrize("shape", [(0,), (3,), (2, 3, 4)])
def test_arrays_come_back_as_they_were(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    parts = encode_result("flow", {}, session="s", sequence=1, arrays={"a": array, "b": array[::-1]})
    result = decode_result([bytes(part) for part in parts])
    np.testing.assert_array_equal(result.arrays["a"], array)
    np.testing.assert_array_equal(result.arrays["b"], array[::-1])
    assert not result.arrays["a"].flags.writeable
    assert result.arrays["a"].dtype == array.dtype.newbyteorder("<")


@pytest.mark.parametrize(("parts", "words"), [
    ([], "0 part"),
    ([b"frame"], "1 part"),
    ([b"frame", b"not json"], "not JSON"),
    ([b"frame", b"[1]"], "JSON object"),
    ([b"weather", b'{"schema": 1}'], "weather"),
    ([b"frame", b'{"sequence": 1}'], "not a result"),
    ([b"frame", b'{"schema": 99, "sequence": 1}'], "schema 99"),
    ([b"frame", b'{"schema": 1}'], "sequence"),
    ([b"frame", b'{"schema": 1, "sequence": "x"}'], "whole number"),
    ([b"image", b'{"schema": 1, "sequence": 1, "payloads": [{"name": "image", "dtype": "<u2", "shape": [2]}]}'],
     "1 payload"),
    ([b"image", b'{"schema": 1, "sequence": 1, "payloads": [{"name": "image", "dtype": "<u2", "shape": [2]}]}', b"x"],
     "1 bytes"),
    ([b"image", b'{"schema": 1, "sequence": 1, "payloads": [{"name": "image", "dtype": "|O", "shape": [1]}]}', b"x"],
     "dtype"),
    ([b"image", b'{"schema": 1, "sequence": 1, "payloads": [{"name": "i", "dtype": "|u1", "shape": [-1]}]}', b"x"],
     "shape"),
])
def test_what_is_no_result_is_refused_in_words(parts: list[bytes], words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        decode_result(parts)


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_random_parts_raise_nothing_else(parts: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        decode_result(parts)


@given(st.data())
def test_flipped_bytes_raise_nothing_else(data: st.DataObject) -> None:
    parts = [bytearray(bytes(part)) for part in encode_result(
        "image", ROW, session="s", sequence=1, arrays={"image": np.ones((2, 2), np.uint16)})]
    for _ in range(data.draw(st.integers(1, 4))):
        part = parts[data.draw(st.integers(0, len(parts) - 1))]
        part[data.draw(st.integers(0, len(part) - 1))] = data.draw(st.integers(0, 255))
    try:
        result = decode_result(parts)
    except ProtocolError:
        return
    assert result.header["schema"] == SCHEMA


def test_a_request_and_its_answers() -> None:
    command = decode_request(encode_request(Command(id=4, op="set", arguments={"key": "a", "value": 1})))
    assert command == Command(id=4, op="set", arguments={"key": "a", "value": 1})
    assert decode_reply(encode_reply(4, result={"x": 1})) == (4, {"x": 1})
    with pytest.raises(CommandError, match="no such thing"):
        decode_reply(encode_reply(4, error="no such thing"))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"op": 3}', b'{"op": "set", "id": [1]}', b"\xff\xfe"])
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_request(data)


def test_a_reply_without_ok_is_refused() -> None:
    with pytest.raises(ProtocolError, match="ok"):
        decode_reply(b"{}")
