"""DECTRIS streams of both versions, as detectors and other programs send them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import cbor2
import numpy as np
import pytest

from streamer import protocols
from streamer.errors import ProtocolError
from streamer.protocols import dectris_1, dectris_2
from streamer.protocols._codecs import pack_bslz4
from streamer.records import EndOfAcquisition, Frame

PICTURE = np.random.default_rng(1).poisson(100, (7, 11)).astype("<u2")


def text(**fields):
    return json.dumps(fields).encode()


def image(data, *, encoding="bs16-lz4<", shape=(11, 7), dtype="uint16", times=True, **more):
    return [text(htype="dimage-1.0", series=7, frame=3, hash="x"),
            text(htype="dimage_d-1.0", shape=list(shape), type=dtype, encoding=encoding, size=len(data)), data,
            *([text(htype="dconfig-1.0", start_time=5, stop_time=9, real_time=48_000_000)] if times else []),
            *more.get("appendix", [])]


@pytest.mark.parametrize(("encoding", "data"), [
    ("bs16-lz4<", pack_bslz4(PICTURE)), ("<", PICTURE.tobytes()), (">", PICTURE.astype(">u2").tobytes())])
def test_version_1_images(encoding, data):
    frame = dectris_1.decode(image(data, encoding=encoding), received_at=4.0)
    assert np.array_equal(frame.pixels, PICTURE)   # the stream counts x first
    assert (frame.index, frame.acquisition, frame.exposure_s, frame.received_at) == (3, "series-7", 0.048, 4.0)
    assert frame.pixels.dtype.isnative


def test_version_1_takes_plain_lz4_and_an_appendix():
    import imagecodecs
    packed = imagecodecs.lz4_encode(PICTURE.tobytes())
    frame = dectris_1.decode(image(packed, encoding="lz4<", appendix=[b"whatever"]))
    assert np.array_equal(frame.pixels, PICTURE)
    assert dectris_1.decode(image(packed, encoding="lz4<", times=False)).exposure_s is None


@pytest.mark.parametrize("parts", [
    [text(htype="dheader-1.0", series=7, header_detail="none")],
    [text(htype="dheader-1.0", series=7, header_detail="basic"), text(nimages=4, trigger_mode="exts")],
    [text(nimages=4, trigger_mode="exts", bit_depth_image=16)],   # some senders split the header
])
def test_version_1_headers_carry_no_frames(parts):
    assert protocols.recognise(parts).NAME == "dectris-1"
    assert dectris_1.decode(parts) == ()


@pytest.mark.parametrize(("parts", "said"), [
    (image(pack_bslz4(PICTURE), encoding="bs8-lz4<"), "shuffles 8 bits, pixels are uint16"),
    (image(pack_bslz4(PICTURE), encoding="bs16<"), "bitshuffle without lz4"),
    (image(b"1", encoding="gzip"), "unsupported encoding 'gzip'"),
    (image(b"1", encoding=7), "unsupported encoding '7'"),
    (image(b"12", encoding="<"), "pixels have 2 bytes, shape"),
    (image(b"1", dtype="complex64"), "type is 'complex64', expected one of"),
    (image(b"1", shape=(4,)), "shape is"),
    (image(b"1")[:2], "image message has 2 parts"),
])
def test_version_1_names_what_is_wrong(parts, said):
    with pytest.raises(ProtocolError, match=said) as caught:
        dectris_1.decode(parts)
    assert (caught.value.index, caught.value.acquisition) == (3, "series-7")


def test_version_1_needs_numbers():
    with pytest.raises(ProtocolError, match="frame is 'three'"):
        dectris_1.decode([text(htype="dimage-1.0", series=7, frame="three")])
    with pytest.raises(ProtocolError, match="series is 'None'"):
        dectris_1.decode([text(htype="dseries_end-1.0")])


def test_series_keep_their_numbers_and_names_become_one():
    frame = Frame(pixels=PICTURE, index=2, acquisition="series-41")
    assert dectris_1.decode(dectris_1.encode(frame)).acquisition == "series-41"
    named = Frame(pixels=PICTURE, index=2, acquisition="night shift")
    back = dectris_1.decode(dectris_1.encode(named))
    assert back.acquisition.startswith("series-")
    assert dectris_1.decode(dectris_1.encode_end("night shift")) == EndOfAcquisition(acquisition=back.acquisition)


def message(kind="image", **fields):
    return [cbor2.dumps({"type": kind, "series_id": 9, **fields})]


def array(values, shape=(7, 11), *, tag=69, order=40):
    return cbor2.CBORTag(order, [list(shape), cbor2.CBORTag(tag, values)])


def test_version_2_images():
    began = datetime(2026, 3, 1, 12, tzinfo=UTC)
    parts = message(image_id=5, series_unique_id="abc", series_date=began, start_time=[3, 2], stop_time=[2, 1],
                    real_time=[48, 1000], user_data={"a": [1]}, data={"threshold_1": array(PICTURE.tobytes())})
    assert protocols.recognise(parts).NAME == "dectris-2"
    frame = dectris_2.decode(parts)
    assert np.array_equal(frame.pixels, PICTURE)
    assert (frame.index, frame.acquisition, frame.exposure_s) == (5, "abc", 0.048)
    assert frame.exposed_at == began.timestamp() + 1.5


@pytest.mark.parametrize(("tag", "dtype"), [(64, "u1"), (69, "<u2"), (65, ">u2"), (70, "<u4"), (77, "<i2"), (85, "<f4"),
                                            (86, "<f8")])
def test_version_2_types(tag, dtype):
    pixels = PICTURE.astype(dtype)
    frame = dectris_2.decode(message(image_id=0, data={"a": array(pixels.tobytes(), tag=tag)}))
    assert np.array_equal(frame.pixels, pixels)
    assert frame.pixels.dtype.isnative


def test_version_2_columns_first_and_compressed():
    turned = np.ascontiguousarray(PICTURE.T)
    assert np.array_equal(dectris_2.decode(message(image_id=0, data={"a": array(turned.tobytes(), order=1040)})).pixels,
                          PICTURE)
    packed = cbor2.CBORTag(56500, ["bslz4", 2, pack_bslz4(PICTURE)])
    assert np.array_equal(dectris_2.decode(message(image_id=0, data={"a": array(packed)})).pixels, PICTURE)


def test_version_2_takes_the_first_channel_by_name():
    data = {"threshold_2": array(bytes(154)), "threshold_1": array(PICTURE.tobytes())}
    assert np.array_equal(dectris_2.decode(message(image_id=0, data=data)).pixels, PICTURE)


def test_version_2_start_and_end():
    assert dectris_2.decode(message("start", channels=["threshold_1"])) == ()
    assert dectris_2.decode(message("end")) == EndOfAcquisition(acquisition="series-9")


@pytest.mark.parametrize(("fields", "said"), [
    ({"data": {}}, "expected a map of channels"),
    ({"data": {"a": b"1"}}, "no multi-dimensional array"),
    ({"data": {"a": array(b"12")}}, "pixels have 2 bytes"),
    ({"data": {"a": array(b"12", (4,))}}, "shape is"),
    ({"data": {"a": array(b"12", tag=99)}}, "pixels have the tag 99"),
    ({"data": {"a": array(cbor2.CBORTag(56500, ["bszstd", 2, b"12"]))}}, "unsupported compression 'bszstd'"),
    ({"data": {"a": array(cbor2.CBORTag(56500, ["bslz4", 4, b"12"]))}}, "do not fit pixels of uint16"),
    ({"data": {"a": array(cbor2.CBORTag(56500, 7))}}, "neither bytes nor compressed"),
    ({"data": {"a": array(b"1", (2**20, 2**20))}}, "more than the 512000000 allowed"),
])
def test_version_2_names_what_is_wrong(fields, said):
    with pytest.raises(ProtocolError, match=said) as caught:
        dectris_2.decode(message(image_id=5, **fields))
    assert (caught.value.index, caught.value.acquisition) == (5, "series-9")


@pytest.mark.parametrize(("parts", "said"), [
    ([b"\xff"], "not CBOR"), ([cbor2.dumps([1])], "a CBOR list"), ([b"a", b"b"], "2 parts"),
    (message("pause"), "type is 'pause'"), (message(image_id=-1), "image_id is '-1'")])
def test_version_2_messages_that_are_none(parts, said):
    with pytest.raises(ProtocolError, match=said):
        dectris_2.decode(parts)


def test_version_2_without_the_package(monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "cbor2", None)
    with pytest.raises(ProtocolError, match=r"install txm-live\[dectris\]"):
        dectris_2.decode([b"\xa1\x64typeestart"])
