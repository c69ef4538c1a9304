"""Compressed pixels: exact against another implementation, bounded against damage."""

from __future__ import annotations

import io
import tracemalloc
import zlib

import h5py
import hdf5plugin
import imagecodecs
import numpy as np
import pytest
from PIL import Image

from streamer.errors import ProtocolError
from streamer.protocols._codecs import names, pack_bslz4, unpack

DTYPES = ["u1", "u2", "u4", "i2", "f4", "f8"]
SHAPES = [(1, 1), (7, 5), (64, 64), (333, 17)]


def picture(shape, dtype):
    return np.random.default_rng(6).poisson(100, shape).astype(dtype)


def packed_by_hdf5(path, pixels, options):
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("a", data=pixels, chunks=pixels.shape, **options)
        return stored.id.read_direct_chunk((0, 0))[1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_the_hdf5_filters_pack_is_unpacked_exactly(tmp_path, shape, dtype):
    pixels = picture(shape, dtype)
    for codec, options in (("bslz4", hdf5plugin.Bitshuffle(cname="lz4")), ("lz4", hdf5plugin.LZ4())):
        data = packed_by_hdf5(tmp_path / f"{codec}.h5", pixels, options)
        assert np.array_equal(unpack(data, codec, shape=shape, dtype=pixels.dtype), pixels)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_codec_gives_back_what_was_packed(shape, dtype):
    pixels = picture(shape, dtype)
    data = pixels.tobytes()
    for codec, framed, packed in (
        ("bslz4", True, pack_bslz4(pixels)), ("bslz4", False, pack_bslz4(pixels, framed=False)),
        ("lz4", False, imagecodecs.lz4_encode(data)), ("zlib", True, zlib.compress(data)),
        ("blosc", True, imagecodecs.blosc_encode(data)),
    ):
        back = unpack(packed, codec, shape=shape, dtype=pixels.dtype, framed=framed)
        assert back.dtype == pixels.dtype
        assert np.array_equal(back, pixels), codec


def test_pixels_of_the_other_byte_order_come_in_ours():
    pixels = picture((40, 30), ">u2")
    back = unpack(pack_bslz4(pixels), "bslz4", shape=(40, 30), dtype=pixels.dtype)
    assert back.dtype.isnative
    assert np.array_equal(back, pixels)


def test_jpeg():
    smooth = (np.hypot(*np.mgrid[:40, :30]) * 4).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(smooth).save(file, "JPEG", quality=95)
    back = unpack(file.getvalue(), "jpeg", shape=(40, 30), dtype=np.dtype("u1"))
    assert np.abs(back.astype(int) - smooth).max() < 8
    with pytest.raises(ProtocolError, match="jpeg is 40 x 30 of mode L, expected 30 x 40"):
        unpack(file.getvalue(), "jpeg", shape=(30, 40), dtype=np.dtype("u1"))


@pytest.mark.parametrize("codec", ["bszstd", "trpx", "", "x" * 300])
def test_unknown_codecs_are_named(codec):
    with pytest.raises(ProtocolError, match=f"unsupported compression '{codec[:40]}'; known: {', '.join(names())}"):
        unpack(b"1234", codec, shape=(2, 2), dtype=np.dtype("u1"))


@pytest.mark.parametrize("codec", ["bslz4", "lz4", "zlib", "blosc", "jpeg"])
@pytest.mark.parametrize("framed", [True, False])
def test_damage_raises_nothing_but_protocol_errors(codec, framed):
    pixels = picture((61, 43), "u2")
    packed = {"bslz4": pack_bslz4(pixels, framed=framed), "lz4": imagecodecs.lz4_encode(pixels.tobytes()),
              "zlib": zlib.compress(pixels.tobytes()), "blosc": imagecodecs.blosc_encode(pixels.tobytes()),
              "jpeg": b"\xff\xd8\xff\xe0" + bytes(300)}[codec]
    rng = np.random.default_rng(12)
    for _ in range(1500):
        damaged = bytearray(packed)
        for place in rng.integers(0, len(packed), 3):
            damaged[place] = int(rng.integers(256))
        damaged = damaged[:int(rng.integers(1, len(damaged) + 1))] if rng.random() < 0.4 else damaged
        try:
            back = unpack(bytes(damaged), codec, shape=(61, 43), dtype=np.dtype("u2"), framed=framed)
        except ProtocolError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert back.shape == (61, 43)


@pytest.mark.parametrize("codec", ["bslz4", "lz4", "zlib"])
@pytest.mark.parametrize("framed", [True, False])
def test_nothing_is_made_for_sizes_that_cannot_be(codec, framed):
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="cannot hold"):
            unpack(pack_bslz4(picture((8, 8), "u2")), codec, shape=(20_000, 20_000), dtype=np.dtype("u2"),
                   framed=framed)
        bomb = zlib.compress(bytes(50_000_000))
        with pytest.raises(ProtocolError, match="unpack to more bytes, expected 8"):
            unpack(bomb, "zlib", shape=(2, 2), dtype=np.dtype("u2"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60_000_000   # the bomb itself was made here


def test_framing_that_contradicts_the_header():
    pixels = picture((16, 16), "u2")
    with pytest.raises(ProtocolError, match="say that they hold 512 bytes, shape and type need 480"):
        unpack(pack_bslz4(pixels), "bslz4", shape=(15, 16), dtype=pixels.dtype)
