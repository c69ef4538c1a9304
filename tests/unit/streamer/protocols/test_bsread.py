"""bsread messages of several channels, packed and plain."""

from __future__ import annotations

import json

import numpy as np
import pytest

from streamer import protocols
from streamer.errors import ProtocolError
from streamer.protocols import bsread
from streamer.protocols._codecs import pack_bslz4

PICTURE = np.random.default_rng(1).poisson(100, (7, 11)).astype("<u2")
HEADER = {"htype": "bsr_m-1.1", "pulse_id": 12, "hash": "x",
          "global_timestamp": {"sec": 1_700_000_000, "ns": 500_000_000}}
CAMERA = {"name": "cam:FPICTURE", "type": "uint16", "shape": [11, 7], "encoding": "little"}
STAMP = bytes(16)


def message(channels, *values, packed=False, **fields):
    described = json.dumps({"htype": "bsr_d-1.1", "channels": channels}).encode()
    if packed:
        described = pack_bslz4(np.frombuffer(described, np.uint8))
        fields["dh_compression"] = "bitshuffle_lz4"
    parts = [json.dumps(HEADER | fields).encode(), described]
    for value in values:
        parts += [value, STAMP]
    return parts


@pytest.mark.parametrize("packed", [True, False])
def test_the_largest_picture_of_several_channels(packed):
    channels = [{"name": "charge", "type": "float64", "shape": [1]},
                {"name": "small", "type": "uint8", "shape": [2, 2]}, CAMERA, {"name": "text", "type": "string"}]
    parts = message(channels, bytes(8), bytes(4), PICTURE.tobytes(), b"abc", packed=packed)
    assert protocols.recognise(parts).NAME == "bsread"
    frame = bsread.decode(parts, received_at=2.0)
    assert np.array_equal(frame.pixels, PICTURE)
    assert (frame.index, frame.acquisition, frame.exposed_at, frame.received_at) == (
        12, "cam:FPICTURE", 1_700_000_000.5, 2.0)


def test_big_endian_and_compressed_channels():
    big = PICTURE.astype(">u2")
    assert np.array_equal(bsread.decode(message([CAMERA | {"encoding": "big"}], big.tobytes())).pixels, PICTURE)
    packed = message([CAMERA | {"compression": "bitshuffle_lz4"}], pack_bslz4(PICTURE))
    assert np.array_equal(bsread.decode(packed).pixels, PICTURE)


@pytest.mark.parametrize(("parts", "said"), [
    (message([CAMERA]), "the value of channel 'cam:FPICTURE' is missing"),
    (message([CAMERA], b"12"), "pixels have 2 bytes"),
    (message([CAMERA | {"compression": "lz4"}], b"12"), "unsupported compression 'lz4' of a channel"),
    (message([CAMERA | {"shape": [11]}], b"12"), "no channel is a picture; channels: cam:FPICTURE"),
    (message([], b""), "no channel is a picture; channels: none"),
    (message([CAMERA], PICTURE.tobytes(), dh_compression="zip"), "unsupported compression 'zip' of the data header"),
    (message(7, b""), "channels is int"),
    ([json.dumps(HEADER).encode(), b""], "no data header; let the sender repeat it"),
])
def test_what_is_wrong_is_named(parts, said):
    with pytest.raises(ProtocolError, match=said) as caught:
        bsread.decode(parts)
    assert caught.value.index == 12


@pytest.mark.parametrize(("fields", "said"), [({"htype": "bsr_x"}, "htype is 'bsr_x'"), ({"pulse_id": -1}, "pulse_id")])
def test_headers_that_are_none(fields, said):
    with pytest.raises(ProtocolError, match=said):
        bsread.decode(message([CAMERA], PICTURE.tobytes(), **fields))


@pytest.mark.parametrize("stamp", [None, 7, {}, {"sec": "x"}, {"sec": 1, "ns": 10**9}, {"sec": -5, "ns": 0}])
def test_times_that_make_no_sense_are_left_out(stamp):
    assert bsread.decode(message([CAMERA], PICTURE.tobytes(), global_timestamp=stamp)).exposed_at is None
