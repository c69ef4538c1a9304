"""Arrays, fields and pictures as they stand in answers, there and back; broken ones are named."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import imagecodecs
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from streamer.errors import ProtocolError
from streamer.journal import Batch, Journal
from streamer.records import FlowResult, FrameRow
from streamer.wire import decode_array, decode_flow, decode_picture, encode_array


def _flow(index: int, **fields: Any) -> FlowResult:
    rng = np.random.default_rng(index)
    return FlowResult(**({
        "index": index, "acquisition": "a", "view": "main", "reference_index": 0, "drift_y_px": 1.5, "drift_x_px": -2.0,
        "grid_y_px": np.arange(3, dtype=np.float32), "grid_x_px": np.arange(4, dtype=np.float32),
        "displacement_px": rng.normal(size=(2, 3, 4)).astype(np.float32), "valid": rng.random((3, 4)) > 0.5,
        "sigma_px": np.full((3, 4), np.nan, np.float32)} | fields))


@given(arrays.arrays(st.sampled_from(["<f4", "<i2", "|b1", "|u1", "<u2"]), arrays.array_shapes(min_side=0)))
def test_an_array_comes_back_as_it_was(array: np.ndarray[Any, Any]) -> None:
    sent = msgspec.json.decode(msgspec.json.encode(encode_array(array)))
    back = decode_array("it", sent)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("tree", [
    None, [], "x", {}, {"dtype": "<f4", "shape": [2]}, {"dtype": "<f4", "shape": [2], "data": "!"},
    {"dtype": "<f4", "shape": [2], "data": "AAAA"}, {"dtype": "|O8", "shape": [1], "data": "AAAAAAAAAAA="},
    {"dtype": "<f4", "shape": [-1], "data": ""}, {"dtype": "<f4", "shape": "2", "data": ""},
    {"dtype": 4, "shape": [0], "data": ""}, {"dtype": "<f4", "shape": [0], "data": 3},
])
def test_what_is_no_array_is_named(tree: Any) -> None:
    with pytest.raises(ProtocolError, match="it"):
        decode_array("it", tree)


@pytest.mark.parametrize("tree", [None, [], {}, {"index": 1}])
def test_what_is_no_field_is_named(tree: Any) -> None:
    with pytest.raises(ProtocolError, match="flow"):
        decode_flow(tree)


def _picture(**fields: Any) -> dict[str, Any]:
    data = base64.b64encode(imagecodecs.jpeg8_encode(np.full((8, 8), 77, np.uint8))).decode()
    return {"index": 1, "acquisition": "a", "view": "main", "kind": "raw", "binning": 1, "offset": 0.0, "scale": 2.0,
            "pixel_size_nm": None, "encoding": "jpeg", "data": data} | fields


def test_a_picture_is_decoded() -> None:
    shown = decode_picture(_picture())
    assert (shown.kind, shown.scale, shown.pixels.shape) == ("raw", 2.0, (8, 8))
    assert np.abs(shown.pixels.astype(int) - 77).max() <= 1


@pytest.mark.parametrize("tree", [
    None, [], {}, {name: value for name, value in _picture().items() if name != "scale"}, _picture(data=""),
    _picture(data=base64.b64encode(b"no picture").decode()), _picture(data="?"), _picture(data=5)])
def test_what_is_no_picture_is_named(tree: Any) -> None:
    with pytest.raises(ProtocolError, match="picture cannot be read"):
        decode_picture(tree)


def test_the_newest_analysis_of_every_view_is_in_the_journal(tmp_path: Path) -> None:
    labels = np.arange(12, dtype=np.int16).reshape(3, 4) - 1
    analysis = {"regions": [{"number": 1, "rotation_deg": 0.25}], "particles": []}
    with Journal(tmp_path, create=True) as journal:
        journal.write(Batch(flows=[_flow(1, regions=labels, analysis=analysis), _flow(2)]))
        journal.write(Batch(flows=[_flow(3, regions=labels[::-1], analysis=analysis), _flow(4, view="other")]))
        newest, = journal.analysed()
        assert (newest.index, newest.analysis) == (3, analysis)
        np.testing.assert_array_equal(newest.regions, labels[::-1])
        np.testing.assert_array_equal(newest.displacement_px, _flow(3).displacement_px)
        assert list(journal.analysed(view="other")) == []
        assert [flow.index for flow in journal.flows()] == [1, 2, 3, 4]


def test_the_row_of_a_frame_is_found(tmp_path: Path) -> None:
    rows = [FrameRow(index=index, acquisition=name, view="main", kind="projection")
            for name, index in (("a", 1), ("b", 1), ("a", 2))]
    with Journal(tmp_path, create=True) as journal:
        journal.write(Batch(rows=list(enumerate(rows, 1))))
        assert journal.row(1) == rows[1]   # the newest of that number
        assert journal.row(1, acquisition="a") == rows[0]
        assert journal.row(3) is journal.row(2, acquisition="b") is None
