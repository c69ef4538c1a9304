"""The Karabo bridge, against its own serialiser."""

from __future__ import annotations

import numpy as np
import pytest
from karabo_bridge.serializer import serialize

from streamer import protocols
from streamer.errors import ProtocolError
from streamer.protocols import karabo
from streamer.records import Frame

PICTURE = np.random.default_rng(1).poisson(100, (7, 11)).astype(np.uint16)
META = {"source": "cam", "timestamp": 1.7e9, "timestamp.sec": "1700000000", "timestamp.frac": "0" * 18,
        "timestamp.tid": 12}


def train(data, *, source="cam", **meta):
    return [bytes(part) for part in serialize({source: data}, {source: META | meta})]


def test_a_camera():
    parts = train({"data.image.pixels": PICTURE, "exposure": 0.1, "header": "x"})
    assert protocols.recognise(parts).NAME == "karabo"
    frame = karabo.decode(parts, received_at=3.0)
    assert np.array_equal(frame.pixels, PICTURE)
    assert (frame.index, frame.acquisition, frame.exposed_at, frame.received_at) == (12, "cam", 1.7e9, 3.0)


@pytest.mark.parametrize("pictures", [np.stack([PICTURE, PICTURE + 1, PICTURE + 2]),
                                      np.stack([PICTURE, PICTURE + 1, PICTURE + 2], axis=-1)])
def test_a_train_of_several_pictures(pictures):
    frames = karabo.decode(train({"image.data": pictures, "image.cellId": np.arange(3)}))
    assert [frame.index for frame in frames] == [36, 37, 38]
    assert all(np.array_equal(frame.pixels, PICTURE + place) for place, frame in enumerate(frames))
    assert not any(frame.pixels.flags.writeable for frame in frames)


def test_the_largest_picture_of_all_sources_is_taken():
    small = {"data.image.pixels": PICTURE[:2, :2]}
    parts = [*train(small, source="a"), *train({"image.data": PICTURE[None], "gain": np.zeros(4)}, source="b")]
    frame = karabo.decode(parts)
    assert (frame.acquisition, frame.pixels.shape) == ("b", (7, 11))


def test_a_train_without_a_number_is_numbered_by_arrival():
    parts = [bytes(part) for part in serialize({"cam": {"a": PICTURE}}, {"cam": {}})]
    assert karabo.decode(parts).index == -1


@pytest.mark.parametrize(("parts", "said"), [
    (train({"exposure": 0.1}), "holds no picture; arrays: none"),
    (train({"profile": np.zeros(9)}), r"holds no picture; arrays: cam \[9\]"),
    (train({"names": np.array(["a", "b"])}), "holds no picture"),
    ([*train({"a": PICTURE})[:-1], b"12"], "pixels have 2 bytes, shape"),
    (train({"a": PICTURE}, **{"timestamp.tid": "x"}), "timestamp.tid is 'x'"),
    ([b"\xc1", b""], "not msgpack"), ([b"\x01", b""], "header is a int"), ([b"1"], "1 parts"),
])
def test_what_is_wrong_is_named(parts, said):
    with pytest.raises(ProtocolError, match=said):
        karabo.decode(parts)


def test_pickled_and_object_arrays_are_never_read():
    header = karabo._msgpack().packb({"source": "a", "content": "array", "path": "x", "dtype": "O", "shape": [1, 2]})
    with pytest.raises(ProtocolError, match="no picture"):
        karabo.decode([header, b"1234567890123456"])


def test_without_the_package(monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(ProtocolError, match=r"install txm-live\[karabo\]"):
        karabo.decode([b"", b""])


def test_what_we_send_the_client_of_the_bridge_reads():
    from karabo_bridge.serializer import deserialize
    data, meta = deserialize([bytes(part) for part in karabo.encode(
        Frame(pixels=PICTURE, index=4, acquisition="cam", exposed_at=5.0))])
    assert np.array_equal(data["cam"]["data.image.pixels"], PICTURE)
    assert (meta["cam"]["timestamp.tid"], meta["cam"]["timestamp"]) == (4, 5.0)
