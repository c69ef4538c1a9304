"""Compressed pixels of detectors and areaDetector, unpacked with bounds: nothing is made for a size that cannot be.

Bitshuffle and LZ4 as HDF5 filters frame them: 8 bytes of the size unpacked, 4 of a block, both big-endian, then for
every block 4 bytes of its packed size and the data. K. Masui et al., Astron. Comput. 12, 181 (2015),
:doi:`10.1016/j.ascom.2015.07.002`.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import PIL.Image

from streamer.errors import ProtocolError
from streamer.protocols import Buffer
from streamer.records import AnyArray

FRAME = struct.Struct(">QI")
AREA_DETECTOR_BLOCK = 8192
"""Bytes of a bitshuffle block of areaDetector, which sends no framing."""

_LARGEST_RATIO = 260
"""LZ4 cannot pack tighter, nor zlib by much (1032); what promises more lies."""
_LARGEST_ZLIB_RATIO = 1100
_LARGEST_BLOCK = 1 << 26


def unpack(data: Buffer, codec: str, *, shape: tuple[int, int], dtype: np.dtype[Any], framed: bool = True) -> AnyArray:
    """Unpack pixels.

    Parameters
    ----------
    data : buffer
        Packed.
    codec : str
        One of `names`.
    shape : (rows, columns)
        Checked before by the caller against the largest size allowed.
    dtype : dtype
        Of the pixels, with their byte order.
    framed : bool
        Of lz4 and bslz4: whether the framing of the HDF5 filters is there.

    Returns
    -------
    (rows, columns) array
        In this machine's byte order.

    Raises
    ------
    ProtocolError
        If the codec is not known, or the data do not unpack to that shape.
    """
    unpacker = _UNPACKERS.get(codec)
    if unpacker is None:
        raise ProtocolError(f"unsupported compression {codec[:40]!r}; known: {', '.join(names())}; switch it off in "
                            "the sender or choose a known one")
    try:
        pixels = unpacker(memoryview(data).cast("B"), shape, dtype, framed)
    except ProtocolError:
        raise
    except Exception as error:
        raise ProtocolError(f"{codec} data of {len(data)} bytes cannot be unpacked: "
                            f"{' '.join(str(error).split()) or type(error).__name__}") from error
    return pixels.astype(dtype.newbyteorder("="), copy=False)


def names() -> list[str]:
    """List the codecs."""
    return sorted(_UNPACKERS)


def pack_bslz4(pixels: AnyArray, *, framed: bool = True, block: int = AREA_DETECTOR_BLOCK) -> bytes:
    """Pack pixels with bitshuffle and LZ4."""
    data, itemsize = np.ascontiguousarray(pixels).tobytes(), pixels.dtype.itemsize
    rest = len(data) % (8 * itemsize)
    main = data[:len(data) - rest]
    shuffled = imagecodecs.bitshuffle_encode(main, itemsize=itemsize, blocksize=block // itemsize) if main else b""
    pieces: list[bytes | bytearray] = [FRAME.pack(len(data), block)] if framed else []
    for start in range(0, len(shuffled), block):
        packed = imagecodecs.lz4_encode(shuffled[start:start + block])
        pieces += [struct.pack(">I", len(packed)), packed]
    return b"".join([*pieces, data[len(data) - rest:]])


def _bslz4(data: memoryview, shape: tuple[int, int], dtype: np.dtype[Any], framed: bool) -> AnyArray:
    size = _promised(data, shape, dtype)
    data, block = _frame(data, size, framed=framed)
    rest = size % (8 * dtype.itemsize)
    if block % (8 * dtype.itemsize):
        raise ProtocolError(f"bslz4 blocks of {block} bytes do not hold whole groups of 8 pixels of {dtype.name}")
    shuffled = bytearray(size - rest)
    data = _lz4_blocks(data, shuffled, block, may_be_stored=False)
    if len(data) < rest or (framed and len(data) > rest):   # areaDetector may send junk behind
        raise ProtocolError(f"bslz4 data end with {len(data)} bytes, expected {rest}")
    data = data[:rest]
    plain = imagecodecs.bitshuffle_decode(shuffled, itemsize=dtype.itemsize, blocksize=block // dtype.itemsize)
    whole = plain if not rest else bytes(plain) + bytes(data)
    return np.frombuffer(whole, dtype).reshape(shape)


def _lz4(data: memoryview, shape: tuple[int, int], dtype: np.dtype[Any], framed: bool) -> AnyArray:
    size = _promised(data, shape, dtype)
    plain = bytearray(size)
    if framed:
        data, block = _frame(data, size, framed=True)
        data = _lz4_blocks(data, plain, block, may_be_stored=True)
        if len(data):
            raise ProtocolError(f"lz4 data end with {len(data)} bytes too many")
    else:
        _lz4_block(data, memoryview(plain))
    return np.frombuffer(plain, dtype).reshape(shape)


def _lz4_blocks(data: memoryview, plain: bytearray, block: int, *, may_be_stored: bool) -> memoryview:
    """Unpack block after block and return what is left; the LZ4 filter stores blocks that would not shrink."""
    room = memoryview(plain)
    for start in range(0, len(plain), block):
        piece = room[start:start + block]
        if len(data) < 4:
            raise ProtocolError(f"packed data end {len(plain) - start} bytes before all is unpacked")
        packed = int.from_bytes(data[:4], "big")
        if packed > len(data) - 4:
            raise ProtocolError(f"a block promises {packed} bytes, {len(data) - 4} are left")
        if may_be_stored and packed == len(piece):
            piece[:] = data[4:4 + packed]
        else:
            _lz4_block(data[4:4 + packed], piece)
        data = data[4 + packed:]
    return data


def _lz4_block(data: memoryview, piece: memoryview) -> None:
    done = imagecodecs.lz4_decode(data, out=piece)   # type: ignore[arg-type]  # any buffer will do
    if len(done) != len(piece):
        raise ProtocolError(f"an lz4 block unpacks to {len(done)} bytes, expected {len(piece)}")


def _frame(data: memoryview, size: int, *, framed: bool) -> tuple[memoryview, int]:
    """Read the framing; return what follows it, and the size of a block."""
    if not framed:
        return data, AREA_DETECTOR_BLOCK
    if len(data) < FRAME.size:
        raise ProtocolError(f"packed data have {len(data)} bytes, fewer than their framing")
    whole, block = FRAME.unpack(data[:FRAME.size])
    if whole != size:
        raise ProtocolError(f"packed data say that they hold {whole} bytes, shape and type need {size}")
    block = block or AREA_DETECTOR_BLOCK
    if block > _LARGEST_BLOCK:
        raise ProtocolError(f"packed data have blocks of {block} bytes, more than the {_LARGEST_BLOCK} allowed")
    return data[FRAME.size:], block


def _zlib(data: memoryview, shape: tuple[int, int], dtype: np.dtype[Any], _framed: bool) -> AnyArray:
    size = _promised(data, shape, dtype, ratio=_LARGEST_ZLIB_RATIO)
    unpacker = zlib.decompressobj()
    plain = unpacker.decompress(data, size + 1)
    if len(plain) != size:
        raise ProtocolError(f"zlib data unpack to {'more' if len(plain) > size else len(plain)} bytes, expected {size}")
    return np.frombuffer(plain, dtype).reshape(shape)


def _blosc(data: memoryview, shape: tuple[int, int], dtype: np.dtype[Any], _framed: bool) -> AnyArray:
    size = _promised(data, shape, dtype, ratio=1 << 20)
    found = int.from_bytes(data[4:8], "little") if len(data) >= 16 else -1
    if found != size:
        raise ProtocolError(f"blosc data say that they hold {found} bytes, shape and type need {size}")
    packed = int.from_bytes(data[12:16], "little")
    return np.frombuffer(imagecodecs.blosc_decode(bytes(data[:packed])), dtype).reshape(shape)


def _jpeg(data: memoryview, shape: tuple[int, int], dtype: np.dtype[Any], _framed: bool) -> AnyArray:
    with PIL.Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        if (image.height, image.width) != shape or image.mode != "L" or dtype != np.uint8:
            raise ProtocolError(f"jpeg is {image.height} x {image.width} of mode {image.mode}, expected {shape[0]} x "
                                f"{shape[1]} grey and 8 bit")
        return np.asarray(image)


def _promised(data: memoryview, shape: tuple[int, int], dtype: np.dtype[Any], *, ratio: int = _LARGEST_RATIO) -> int:
    """Return the size unpacked, unless so few bytes cannot hold it."""
    size = shape[0] * shape[1] * dtype.itemsize
    if size > ratio * len(data) + 64:
        raise ProtocolError(f"{len(data)} packed bytes cannot hold the {size} that shape and type promise")
    return size


_UNPACKERS: dict[str, Callable[[memoryview, tuple[int, int], np.dtype[Any], bool], AnyArray]] = {
    "bslz4": _bslz4, "lz4": _lz4, "zlib": _zlib, "blosc": _blosc, "jpeg": _jpeg}
