"""What every dialect must do; a new module in streamer/protocols is picked up by itself."""

from __future__ import annotations

import tracemalloc

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamer import protocols
from streamer.errors import ProtocolError
from streamer.records import EndOfAcquisition, Frame

NAMES = protocols.names()
PACKING = {"dectris-1", "dectris-2"}
"""They send their pixels compressed."""
PIXELS = {"array-1.0": 1, "bsread": 2, "send-array": 1, "karabo": 3, "dectris-1": 2}
"""The part with the pixels."""
JSON_HEADERS = {"array-1.0", "send-array"}
"""A JSON header, then the pixels."""

DTYPES = ["uint8", "uint16", "uint32", "int16", "int32", "float32", "float64"]
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBERS = st.floats(-1e9, 1e9, allow_nan=False)
POSITIVE = st.floats(1e-6, 1e9)
COUNTS = st.integers(0, 2**63 - 1)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    shape = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    index = draw(COUNTS)
    return Frame(
        pixels=draw(hnp.arrays(draw(st.sampled_from(DTYPES)), shape, elements={"allow_nan": False}
                               if draw(st.booleans()) else None)),
        index=index,
        acquisition=draw(TEXTS),
        view=draw(TEXTS),
        kind=draw(st.sampled_from(["projection", "flat", "dark"])),
        exposed_at=draw(st.none() | NUMBERS),
        exposure_s=draw(st.none() | POSITIVE),
        pixel_size_nm=draw(st.none() | POSITIVE),
        angle_deg=draw(st.none() | NUMBERS),
        energy_ev=draw(st.none() | POSITIVE),
        recollects=draw(st.none() | COUNTS.filter(lambda number: number != index)),
        expected=draw(st.none() | st.integers(1, 2**63 - 1)),
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6)


def damage(parts: list[bytes], rng: np.random.Generator) -> list[bytes]:
    """Flip bits, cut, swap, double, drop or insert parts of a message that was right."""
    parts = list(parts)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(len(parts))) if parts else 0
        action = rng.choice(["flip", "flip", "cut", "swap", "double", "drop", "insert"])
        if action == "insert" or not parts:
            parts.insert(place, rng.bytes(int(rng.integers(40))))
        elif action == "flip" and parts[place]:
            damaged = bytearray(parts[place])
            damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
            parts[place] = bytes(damaged)
        elif action == "cut":
            parts[place] = parts[place][: rng.integers(len(parts[place]) + 1)]
        elif action == "swap":
            parts.reverse()
        elif action == "double":
            parts.append(parts[place])
        elif action == "drop":
            del parts[place]
    return parts


def decode_or_refuse(parts: list[bytes]) -> None:
    for name in NAMES:
        dialect = protocols.get(name)
        try:
            dialect.recognises(parts)
            item = dialect.decode(parts)
        except ProtocolError as error:
            refusal = error
        else:
            items = [item] if isinstance(item, Frame | EndOfAcquisition) else list(item)
            assert all(isinstance(one, EndOfAcquisition) or one.pixels.ndim == 2 for one in items)
            continue
        assert str(refusal)
        assert "\n" not in str(refusal)
        assert refusal.index is None or 0 <= refusal.index < 2**63


def _with_field(header: bytes, value: object, place: int) -> bytes:
    tree = msgspec.json.decode(header, type=dict)
    keys = [*tree, "endianness", "encoding", "timeStamp", "of", "recollects"]
    return msgspec.json.encode(tree | {keys[place % len(keys)]: value})


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is(name):
    dialect = protocols.get(name)
    assert name == dialect.NAME
    assert len(dialect.SUMMARY) > 10
    assert "\n" not in dialect.SUMMARY
    assert isinstance(dialect.HAS_END, bool)


@pytest.mark.parametrize("name", NAMES)
@given(frame=frames())
@settings(max_examples=60, deadline=None)
def test_gives_back_what_it_was_given(name, frame):
    dialect = protocols.get(name)
    parts = dialect.encode(frame)
    assert dialect.recognises(parts)
    assert name == protocols.recognise(parts).NAME
    back = dialect.decode(parts, received_at=12.5)
    assert isinstance(back, Frame)
    assert back.pixels.tobytes() == frame.pixels.tobytes()
    assert back.pixels.dtype == frame.pixels.dtype
    assert back.pixels.shape == frame.pixels.shape
    assert not back.pixels.flags.writeable
    assert set(Frame.__struct_fields__) >= dialect.CARRIES
    for field in dialect.CARRIES:
        assert getattr(back, field) == getattr(frame, field), field
    assert back.received_at == 12.5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_reads_every_kind_of_buffer_without_a_copy(name, wrap):
    dialect = protocols.get(name)
    frame = Frame(pixels=np.arange(12, dtype=np.uint16).reshape(3, 4), index=7)
    parts = [wrap(bytes(part)) for part in dialect.encode(frame)]
    back = dialect.decode(parts)
    assert np.array_equal(back.pixels, frame.pixels)
    assert name in PACKING or np.shares_memory(back.pixels, np.frombuffer(parts[PIXELS[name]], np.uint8))


@pytest.mark.parametrize("name", NAMES)
def test_pictures_that_are_not_contiguous_or_big_endian_are_sent_as_they_look(name):
    dialect = protocols.get(name)
    whole = np.arange(48, dtype=">u2").reshape(6, 8)
    for pixels in (whole, whole[::2, ::3], whole.T, np.asfortranarray(whole)):
        back = dialect.decode(dialect.encode(Frame(pixels=pixels, index=0)))
        assert np.array_equal(back.pixels, pixels)
        assert back.pixels.dtype == np.uint16


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pixels", [
    np.zeros((2, 2), complex), np.zeros((2, 2), bool), np.zeros((2, 2), object), np.zeros(4), np.zeros((0, 3)),
    np.zeros((2, 2, 2)),
], ids=lambda pixels: f"{pixels.dtype}-{pixels.shape}")
def test_pictures_that_cannot_travel_are_refused(name, pixels):
    with pytest.raises(ProtocolError, match="cannot be sent"):
        protocols.get(name).encode(Frame(pixels=pixels, index=0))


@pytest.mark.parametrize("name", NAMES)
def test_end_of_acquisition(name):
    dialect = protocols.get(name)
    if not dialect.HAS_END:
        with pytest.raises(ProtocolError, match=name):
            dialect.encode_end("scan")
        return
    for acquisition in ("", "scan 7 µ"):
        parts = dialect.encode_end(acquisition)
        assert name == protocols.recognise(parts).NAME
        frame = dialect.decode(dialect.encode(Frame(pixels=np.zeros((2, 2)), index=0, acquisition=acquisition)))
        assert dialect.decode(parts) == EndOfAcquisition(acquisition=frame.acquisition)
        assert "acquisition" not in dialect.CARRIES or frame.acquisition == acquisition


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_conversation_without_sockets(name):
    """Three frames, one damaged, and the end; each message stands alone."""
    dialect = protocols.get(name)
    rng = np.random.default_rng(5)
    sent = [Frame(pixels=rng.integers(0, 4000, (5, 6)).astype(np.uint16), index=index, acquisition="scan", expected=3)
            for index in range(3)]
    wire = [dialect.encode(frame) for frame in sent] + ([dialect.encode_end("scan")] if dialect.HAS_END else [])
    wire[1] = [bytes(part)[:-1] if place == PIXELS.get(name) else bytes(part) for place, part in enumerate(wire[1])]
    if name not in PIXELS:   # a cut map tells nothing, a damaged picture in it does
        wire[1] = [wire[1][0].replace(b"bslz4", b"bszst")]
    got = []
    for parts in wire:
        try:
            got.append(protocols.recognise(parts).decode(parts))
        except ProtocolError as error:
            got.append((error.index, error.acquisition))
    assert [item.index for item in (got[0], got[2])] == [0, 2]
    assert got[1] == (1, got[0].acquisition)
    assert got[3:] == ([EndOfAcquisition(acquisition=got[0].acquisition)] if dialect.HAS_END else [])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [11, 12])
def test_damaged_messages_raise_nothing_but_protocol_errors(name, seed):
    rng = np.random.default_rng(seed)
    frame = Frame(pixels=rng.integers(0, 4000, (5, 6)).astype(np.uint16), index=17, acquisition="scan", view="left",
                  exposed_at=1.7e9, pixel_size_nm=40.0, expected=100, recollects=3)
    sound = [bytes(part) for part in protocols.get(name).encode(frame)]
    for _ in range(3000):
        decode_or_refuse(damage(sound, rng))


@pytest.mark.parametrize("name", sorted(JSON_HEADERS))
@given(value=JSON, place=st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_any_json_in_any_field_raises_nothing_but_protocol_errors(name, value, place):
    header, pixels = protocols.get(name).encode(Frame(pixels=np.zeros((5, 6), np.uint16), index=17, acquisition="scan"))
    decode_or_refuse([_with_field(bytes(header), value, place), bytes(pixels)])


@given(parts=st.lists(st.binary(max_size=200), max_size=4))
@settings(max_examples=200, deadline=None)
def test_random_bytes_raise_nothing_but_protocol_errors(parts):
    for decode in (protocols.get(name).decode for name in NAMES):
        with pytest.raises(ProtocolError):
            decode(parts)
    with pytest.raises(ProtocolError):   # even if it looks like one from afar
        protocols.recognise(parts).decode(parts)


@pytest.mark.parametrize("name", sorted(JSON_HEADERS))
def test_nothing_is_allocated_for_promised_sizes(name):
    dialect = protocols.get(name)
    header = msgspec.json.decode(bytes(dialect.encode(Frame(pixels=np.zeros((2, 2), np.uint16), index=3))[0]))
    tracemalloc.start()
    try:
        for shape in ([1 << 20, 1 << 20], [2**62, 4], [1, 1, 30_000, 30_000], [10**30, 10**30]):
            with pytest.raises(ProtocolError):
                dialect.decode([msgspec.json.encode(header | {"shape": shape}), b"1234"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200_000


@pytest.mark.parametrize("name", NAMES)
def test_large_frames_are_refused_with_the_setting_to_change(name):
    parts = protocols.get(name).encode(Frame(pixels=np.zeros((20, 20), np.uint16), index=3))
    with pytest.raises(ProtocolError, match=r"800 bytes.*799.*frames\.largest_mb") as caught:
        protocols.get(name).decode(parts, largest_bytes=799)
    assert caught.value.index == 3
    assert isinstance(protocols.get(name).decode(parts, largest_bytes=800), Frame)
