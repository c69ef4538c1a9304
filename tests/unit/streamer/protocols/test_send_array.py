from __future__ import annotations

import msgspec
import numpy as np
import pytest

from streamer.errors import ProtocolError
from streamer.protocols import send_array
from streamer.records import Frame

PIXELS = np.arange(6, dtype="<u2")


def message(data=None, **fields):
    header = {"dtype": "uint16", "shape": [2, 3]} | fields
    return [msgspec.json.encode(header), PIXELS.tobytes() if data is None else data]


@pytest.mark.parametrize("code", ["uint16", "<u2", "=u2", "u2", "|u2"])
def test_little_endian_names(code):
    frame = send_array.decode(message(dtype=code))
    assert np.array_equal(frame.pixels.ravel(), PIXELS)


@pytest.mark.parametrize(("code", "name"), [(">u2", "uint16"), (">f4", "float32"), (">i8", "int64")])
def test_big_endian_codes(code, name):
    frame = send_array.decode(message(PIXELS.astype(code).tobytes(), dtype=code))
    assert np.array_equal(frame.pixels.ravel(), PIXELS)
    assert frame.pixels.dtype == np.dtype(name)
    assert frame.pixels.dtype.isnative


@pytest.mark.parametrize("code", ["|O", "object", "O", "<c8", "|V2", "|S2", "<U1", "<M8[s]", "|b1", "bool", "i4,i4",
                                  None, 7, "<u3"])
def test_other_types_are_refused(code):
    with pytest.raises(ProtocolError, match="dtype is"):
        send_array.decode(message(dtype=code))


def test_without_number_the_source_numbers_by_arrival():
    assert send_array.decode(message()).index == -1
    assert send_array.decode(message(frame=None)).index == -1
    assert send_array.decode(message(frame=0)).index == 0
    with pytest.raises(ProtocolError, match="frame is -1"):
        send_array.decode(message(frame=-1))


def test_unnumbered_frames_are_written_without_a_number():
    parts = send_array.encode(Frame(pixels=PIXELS.reshape(2, 3), index=-1))
    assert msgspec.json.decode(parts[0]) == {"dtype": "uint16", "shape": [2, 3]}
    assert send_array.decode(parts).index == -1


def test_our_fields_and_keys_of_others():
    frame = send_array.decode(message(acquisition="scan", view="left", of=5, camera="PCO", gain=[1, 2]))
    assert (frame.acquisition, frame.view, frame.expected) == ("scan", "left", 5)


def test_what_the_pyzmq_documentation_sends():
    array = np.linspace(0, 1, 12).reshape(3, 4)
    parts = [msgspec.json.encode({"dtype": str(array.dtype), "shape": array.shape}), memoryview(array).cast("B")]
    assert send_array.recognises(parts)
    assert np.array_equal(send_array.decode(parts).pixels, array)


def test_wrong_length_names_the_frame():
    with pytest.raises(ProtocolError, match=r"11 bytes.*needs 12") as caught:
        send_array.decode(message(PIXELS.tobytes()[:-1], frame=4, acquisition="scan"))
    assert (caught.value.index, caught.value.acquisition) == (4, "scan")


@pytest.mark.parametrize("parts", [
    [], [b'{"dtype":"uint16"}'], [b'{"htype":"array-1.0","dtype":"uint16"}', b""], [b'["dtype":1]', b""], [b"", b""],
])
def test_what_it_does_not_recognise(parts):
    assert not send_array.recognises(parts)
