"""areaDetector's pictures on pvAccess, without a network."""

from __future__ import annotations

import zlib

import imagecodecs
import numpy as np
import pytest
from p4p.nt import NTNDArray

from streamer.errors import ProtocolError, SettingsError
from streamer.protocols._codecs import pack_bslz4
from streamer.sources.ntndarray import Rule, decode, is_empty, read_rules, taken_at

PICTURE = np.random.default_rng(1).poisson(100, (7, 11)).astype(np.uint16)
SCALARS = {"u1": 5, "u2": 6, "u4": 7, "f4": 9, "i2": 2}


def value_of(pixels, *, index=12, stamp=(1_700_000_000, 500_000_000), **attributes):
    value = NTNDArray().wrap(pixels)
    value.uniqueId = index
    value.dataTimeStamp.secondsPastEpoch, value.dataTimeStamp.nanoseconds = stamp
    kept = [{"name": one.name, "value": one.value} for one in value.attribute]
    value.attribute = [*kept, *({"name": name, "value": found} for name, found in attributes.items())]
    return value


def packed(data, codec, scalar, shape, *, index=3):
    value = NTNDArray().wrap(np.frombuffer(data, np.uint8).reshape(1, -1))
    value.uniqueId = index
    value.codec.name, value.codec.parameters = codec, scalar
    value.dimension = [{"size": size} for size in reversed(shape)]
    return value


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8"])
def test_pictures_of_every_type(dtype):
    frame = decode(value_of(PICTURE.astype(dtype)), received_at=7.0)
    assert np.array_equal(frame.pixels, PICTURE.astype(dtype))
    assert frame.pixels.dtype == np.dtype(dtype)
    assert not frame.pixels.flags.writeable
    assert (frame.index, frame.exposed_at, frame.received_at) == (12, 1_700_000_000.5, 7.0)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f4", "i2"])
@pytest.mark.parametrize("codec", ["bslz4", "lz4", "zlib", "blosc", "lz4hdf5", "bslz4 framed"])
def test_codecs(dtype, codec):
    pixels = PICTURE.astype(dtype)
    raw = pixels.tobytes()
    data = {"bslz4": lambda: pack_bslz4(pixels, framed=False), "bslz4 framed": lambda: pack_bslz4(pixels),
            "lz4": lambda: imagecodecs.lz4_encode(raw), "zlib": lambda: zlib.compress(raw),
            "blosc": lambda: imagecodecs.blosc_encode(raw), "lz4hdf5": lambda: imagecodecs.lz4h5_encode(raw)}[codec]()
    frame = decode(packed(data, codec.split()[0], SCALARS[dtype], (7, 11)))
    assert np.array_equal(frame.pixels, pixels)


@pytest.mark.parametrize(("mode", "axis"), [(2, -1), (3, 1), (4, 0)])
def test_colours_become_grey(mode, axis):
    colours = np.stack([PICTURE] * 3, axis=axis)
    value = value_of(colours)
    value.attribute = [{"name": "ColorMode", "value": mode}]
    assert np.array_equal(decode(value).pixels, PICTURE)


def test_attributes_become_fields_by_rules():
    rules = read_rules(["angle_deg=Theta", "energy_ev=Energy*1000", "view=Place", "kind=FrameType", "acquisition=Scan",
                        "exposure_s=Nowhere", "pixel_size_nm=Odd"])
    frame = decode(value_of(PICTURE, Theta=12.5, Energy=8.562, Place="left", FrameType=1, Scan="s7", Odd="x"),
                   rules=rules)
    assert (frame.angle_deg, frame.energy_ev, frame.view, frame.kind, frame.acquisition) == (
        12.5, 8562.0, "left", "flat", "s7")
    assert (frame.exposure_s, frame.pixel_size_nm) == (None, None)


@pytest.mark.parametrize(("found", "kind"), [("Dark", "dark"), ("flat field", "flat"), (0, "projection"), (2, "dark"),
                                             (9, "projection"), ("sky", "projection")])
def test_kinds_by_name_or_number(found, kind):
    assert decode(value_of(PICTURE, Type=found), rules=[Rule("kind", "Type", 1.0)]).kind == kind


@pytest.mark.parametrize("text", ["angle=Theta", "angle_deg", "angle_deg=", "=Theta", "angle_deg=Theta*fast"])
def test_rules_that_are_none(text):
    with pytest.raises(SettingsError, match=r"frames\.attributes"):
        read_rules([text])


def test_empty_values():
    value = value_of(PICTURE)
    assert not is_empty(value)
    empty = NTNDArray().wrap(PICTURE)
    empty.dimension = []
    assert is_empty(empty)
    with pytest.raises(ProtocolError, match="picture is empty"):
        decode(empty)
    assert taken_at(NTNDArray().wrap(PICTURE)) is None


@pytest.mark.parametrize(("value", "said"), [
    (value_of(PICTURE, index=-4), "uniqueId is -4"),
    (packed(b"junk", "bszstd", 6, (7, 11)), "unsupported compression 'bszstd'"),
    (packed(b"junk", "bslz4", 77, (7, 11)), "codec 'bslz4' has the parameters '77'"),
    (packed(b"junk", "bslz4", 6, (2**15, 2**15)), "more than the 512000000 allowed"),
    (packed(b"junk" * 9, "bslz4", 6, (7, 11)), "a block promises 1786080875 bytes, 32 are left"),
])
def test_what_is_wrong_is_named(value, said):
    with pytest.raises(ProtocolError, match=said):
        decode(value)


def test_dimensions_that_do_not_fit():
    value = value_of(PICTURE)
    value.dimension = [{"size": 5}, {"size": 5}]
    with pytest.raises(ProtocolError, match=r"picture has 77 values, its dimensions \[5, 5\] need another") as caught:
        decode(value)
    assert caught.value.index == 12


def test_a_stack_is_no_picture():
    value = NTNDArray().wrap(np.zeros((1, 48), np.uint8))
    value.dimension = [{"size": 6}, {"size": 4}, {"size": 2}]
    with pytest.raises(ProtocolError, match=r"picture has shape \(2, 4, 6\)"):
        decode(value)
