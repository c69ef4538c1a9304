from __future__ import annotations

import json
import zlib

import imagecodecs
import msgspec
import numpy as np
import pytest

from streamer.errors import ProtocolError
from streamer.protocols import array_1_0
from streamer.protocols._codecs import pack_bslz4
from streamer.records import EndOfAcquisition, Frame

PIXELS = np.arange(6, dtype="<u2").tobytes()
REQUIRED = {"htype": "array-1.0", "type": "uint16", "shape": [2, 3], "frame": 12}


def header(**fields):
    return msgspec.json.encode(REQUIRED | fields)


def decode(*parts, **options):
    return array_1_0.decode(list(parts), **options)


def refused(*parts):
    with pytest.raises(ProtocolError) as caught:
        decode(*parts)
    return caught.value


def test_only_what_is_set_is_written():
    frame = Frame(pixels=np.zeros((2, 3), np.uint16), index=12)
    assert json.loads(bytes(array_1_0.encode(frame)[0])) == REQUIRED
    frame = msgspec.structs.replace(frame, kind="flat", expected=4, view="left")
    assert json.loads(bytes(array_1_0.encode(frame)[0])) == REQUIRED | {"kind": "flat", "of": 4, "view": "left"}


def test_a_frame_without_number_cannot_be_written():
    with pytest.raises(ProtocolError, match="-1"):
        array_1_0.encode(Frame(pixels=np.zeros((2, 3), np.uint16), index=-1))


@pytest.mark.parametrize("name", ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
                                  "float16", "float32", "float64"])
@pytest.mark.parametrize("key", ["endianness", "endianess"])
@pytest.mark.parametrize("order", ["little", "big"])
def test_types_and_byte_orders(name, key, order):
    pixels = np.arange(6).reshape(2, 3).astype(name)
    wire = pixels.astype(pixels.dtype.newbyteorder("<" if order == "little" else ">")).tobytes()
    frame = decode(header(type=name, **{key: order}), wire)
    assert np.array_equal(frame.pixels, pixels)
    assert frame.pixels.dtype == np.dtype(name)
    assert frame.pixels.dtype.isnative
    assert not frame.pixels.flags.writeable


@pytest.mark.parametrize("shape", [[2, 3], [1, 2, 3], [1, 1, 1, 2, 3], [2.0, 3.0]])
def test_leading_ones_of_the_shape_are_dropped(shape):
    assert decode(header(shape=shape), PIXELS).pixels.shape == (2, 3)


def test_one_row_and_one_column_stay():
    assert decode(header(shape=[1, 6]), PIXELS).pixels.shape == (1, 6)
    assert decode(header(shape=[1, 6, 1]), PIXELS).pixels.shape == (6, 1)


@pytest.mark.parametrize("shape", [[6], [], [2, 3, 1], [0, 6], [-2, -3], "2,3", None, [2, "3"], [True, 6], [2, 3.5],
                                   [1] * 9 + [2, 3], {"y": 2}])
def test_bad_shapes(shape):
    error = refused(header(shape=shape), PIXELS)
    assert "shape is" in str(error)
    assert error.index == 12


@pytest.mark.parametrize("frame", [True, -1, 1.5, "7", [1], 2**63, 1e30, {}])
def test_bad_frame_numbers(frame):
    error = refused(header(frame=frame), PIXELS)
    assert "frame is" in str(error)
    assert error.index is None


@pytest.mark.parametrize(("frame", "index"), [(0, 0), (12.0, 12), (2**63 - 1, 2**63 - 1)])
def test_good_frame_numbers(frame, index):
    found = decode(header(frame=frame), PIXELS).index
    assert found == index
    assert type(found) is int


@pytest.mark.parametrize("missing", ["type", "shape", "frame"])
def test_missing_fields_are_named(missing):
    fields = {key: value for key, value in REQUIRED.items() if key != missing}
    assert missing in str(refused(msgspec.json.encode(fields), PIXELS))


@pytest.mark.parametrize("name", ["object", "O", "|O", "complex64", "str", "uint12", "", None, 7, ["uint8"], "V8",
                                  "<u2"])
def test_bad_types(name):
    assert "type is" in str(refused(header(type=name), PIXELS))


@pytest.mark.parametrize("extra", [b"", b"\0" * 5])
def test_lengths_must_fit_exactly_and_both_numbers_are_told(extra):
    error = refused(header(acquisition="scan"), PIXELS[:11] if not extra else PIXELS + extra)
    assert f"{11 if not extra else 17} bytes" in str(error)
    assert "needs 12" in str(error)
    assert (error.index, error.acquisition) == (12, "scan")


@pytest.mark.parametrize(("field", "value", "name"), [
    ("acquisition", "a" * 255, "acquisition"), ("view", "left", "view"), ("kind", "dark", "kind"),
    ("exposed_at", 1.7e9, "exposed_at"), ("exposure_s", 0, "exposure_s"), ("pixel_size_nm", 40, "pixel_size_nm"),
    ("angle_deg", -3.5, "angle_deg"), ("energy_ev", 8333.0, "energy_ev"), ("recollects", 3, "recollects"),
    ("of", 100.0, "expected"),
])
def test_optional_fields(field, value, name):
    assert getattr(decode(header(**{field: value}), PIXELS), name) == value
    unset = decode(header(), PIXELS)
    assert getattr(decode(header(**{field: None}), PIXELS), name) == getattr(unset, name)


@pytest.mark.parametrize(("field", "value"), [
    ("acquisition", 7), ("acquisition", "a" * 256), ("view", ["left"]), ("kind", "sample"), ("kind", 0), ("kind", []),
    ("exposed_at", "now"), ("exposed_at", True), ("exposure_s", -1), ("pixel_size_nm", "40 nm"), ("angle_deg", {}),
    ("energy_ev", -8333.0), ("recollects", -2), ("recollects", 2.5), ("of", "all"), ("of", -1), ("timeStamp", "now"),
    ("endianness", "middle"), ("exposed_at", 10**400),
])
def test_bad_optional_fields_are_named_with_their_value(field, value):
    data = json.dumps(REQUIRED | {field: value}).encode()
    error = refused(data, PIXELS)
    if value != 10**400:   # no number that JSON readers must understand
        assert f"{field} is " in str(error)
        assert error.index == 12


def test_a_sender_may_say_that_a_frame_replaces_none():
    assert decode(header(recollects=-1), PIXELS).recollects is None


def test_unknown_kinds_list_the_known_ones():
    assert "projection, flat, dark" in str(refused(header(kind="sample"), PIXELS))


def test_a_frame_cannot_replace_itself():
    assert "number of its own" in str(refused(header(recollects=12), PIXELS))


def test_zero_means_not_known():
    frame = decode(header(of=0, pixel_size_nm=0, timeStamp=0), PIXELS)
    assert (frame.expected, frame.pixel_size_nm, frame.exposed_at) == (None, None, None)


@pytest.mark.parametrize("encoding", ["", "none", None])
def test_uncompressed(encoding):
    assert decode(header(encoding=encoding), PIXELS).index == 12


BIG = np.random.default_rng(9).poisson(100, (40, 30)).astype("<u2")


@pytest.mark.parametrize(("encoding", "data"), [
    ("bslz4", pack_bslz4(BIG, framed=False)), ("lz4", imagecodecs.lz4_encode(BIG.tobytes())),
    ("zlib", zlib.compress(BIG.tobytes())), ("blosc", imagecodecs.blosc_encode(BIG.tobytes()))])
def test_compressed_as_area_detector_does(encoding, data):
    whole = header(encoding=encoding, shape=[40, 30])
    assert np.array_equal(decode(whole, data).pixels, BIG)
    if encoding != "lz4":   # the plug-in may send the length unpacked, with junk behind
        assert np.array_equal(decode(whole, data + bytes(BIG.nbytes - len(data))).pixels, BIG)


@pytest.mark.parametrize("encoding", ["lz4", "bslz4", "blosc", "jpeg", "zlib", "lz4hdf5"])
def test_compressed_junk_is_refused_by_name(encoding):
    error = refused(header(encoding=encoding), b"junk")
    assert encoding.removesuffix("hdf5") in str(error) or "packed" in str(error)
    assert error.index == 12


@pytest.mark.parametrize("encoding", ["bszstd", 7, "snappy"])
def test_compression_is_named_as_not_supported(encoding):
    error = refused(header(encoding=encoding), b"junk")
    assert f"unsupported compression '{encoding}'" in str(error)
    assert error.index == 12


def test_further_parts_must_be_empty():
    assert decode(header(), PIXELS, b"", b"").index == 12
    assert "part 3 is not empty" in str(refused(header(), PIXELS, b"", b"x"))
    assert "only a header" in str(refused(header()))
    assert "no parts" in str(refused())


def test_headers_have_a_limit():
    assert "more than the" in str(refused(b'{"a":"' + b"x" * (1 << 20) + b'"}', PIXELS))


@pytest.mark.parametrize("text", [b"", b"[]", b"7", b"null", b'{"htype"', b"\xff\xfe", b"[" * 100_000,
                                  b"\\\"" * 400_000, b'"nan' * 200_000])
def test_headers_that_are_no_objects(text):
    assert "header is" in str(refused(text, PIXELS))


def test_other_htypes_are_refused():
    assert "chunk-1.0" in str(refused(header(htype="chunk-1.0"), PIXELS))
    assert not array_1_0.recognises([header(htype="chunk-1.0"), PIXELS])
    assert not array_1_0.recognises([b'{"note": "array-1.0"}', PIXELS])


AREA_DETECTOR = (b'{"htype":"array-1.0","type":"uint16","shape":[2,3],"frame":12,"timeStamp":1100000000.5,'
                 b'"encoding":"","ndattr":{%s}}')


@pytest.mark.parametrize("attributes", [
    b"", b'"gain":1.5,"mode":"fast"', b'"gain":nan,"offset":-nan,"top":inf,"low":-inf', b'"path":"C:\\data\\scan"',
    b'"note":"he said "go"",', b'"raw":\x01\x02', b'"text":"\xff\xfe"', b'"big":1e999', b'"a":nan,"b":"x"y"',
], ids=["none", "sound", "nan", "backslash", "quotes", "raw", "not utf-8", "out of range", "both"])
def test_headers_of_area_detector_however_broken_its_attributes(attributes):
    frame = decode(AREA_DETECTOR % attributes, PIXELS)
    assert frame.index == 12
    assert frame.exposed_at == 1100000000.5 + 631152000   # counted from 1990
    assert array_1_0.recognises([AREA_DETECTOR % attributes, PIXELS])


def test_the_word_nan_inside_a_text_is_left_alone():
    data = b'{"htype":"array-1.0","type":"uint16","shape":[2,3],"frame":12,"view":"nan, inf","angle_deg":NaN}'
    frame = decode(data, PIXELS)
    assert frame.view == "nan, inf"
    assert frame.angle_deg is None


def test_our_time_goes_before_that_of_the_driver():
    assert decode(header(exposed_at=5.0, timeStamp=1.1e9), PIXELS).exposed_at == 5.0


def test_a_header_with_trailing_nul_bytes():
    assert decode(header() + b"\0\0", PIXELS).index == 12


def test_end_of_acquisition():
    assert decode(b'{"htype":"array-1.0-end","acquisition":"scan"}') == EndOfAcquisition(acquisition="scan")
    assert decode(b'{"htype":"array-1.0-end"}', b"") == EndOfAcquisition()
    assert "acquisition is 7" in str(refused(b'{"htype":"array-1.0-end","acquisition":7}'))
