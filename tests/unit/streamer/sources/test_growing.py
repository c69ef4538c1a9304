"""Files that grow while a scan runs."""

from __future__ import annotations

import struct
import time

import h5py
import numpy as np
import pytest
from support.ole import write_ole, xradia_streams

from streamer.errors import LinkError
from streamer.records import EndOfAcquisition, Frame, Refusal
from streamer.settings import FramesSettings
from streamer.sources import open_source
from streamer.sources.growing import GrowingSource

STACK = np.random.default_rng(4).integers(0, 60_000, (5, 12, 15)).astype(np.uint16)


def source_of(path, **options):
    return GrowingSource(f"file://{path}", **({"poll_s": 0.02, "patience_s": 0.3} | options))


def drain(source, *, quiet_s=0.25):
    """All items until nothing comes for a while."""
    items = []
    while (item := source.receive(quiet_s)) is not None:
        items.append(item)
    return items


def write_scan(path, taken, *, planned=5, **others):
    part = path.with_suffix(".part")
    write_ole(part, xradia_streams(STACK[:taken], NoOfImages=struct.pack("<i", planned), **others))
    part.replace(path)


def test_an_xradia_scan_that_runs(tmp_path):
    path = tmp_path / "scan.txrm"
    flat = {"ReferenceData/Image": STACK[0].tobytes()}
    with source_of(path) as source:
        assert source.receive(0.1) is None   # not there yet
        write_scan(path, 2, **flat)
        first = drain(source)
        write_scan(path, 3, **flat)
        second = drain(source)
        write_scan(path, 5, **flat)
        last = drain(source)
        assert source.protocol == "file (xrm)"
    assert [(item.kind, item.index) for item in first] == [("flat", 0), ("projection", 0), ("projection", 1)]
    assert [(item.kind, item.index) for item in second] == [("projection", 2)]
    assert [item.index for item in last[:-1]] == [3, 4]
    assert last[-1] == EndOfAcquisition(acquisition="scan")
    assert {item.expected for item in (*first[1:], *second, *last[:-1])} == {5}
    assert np.array_equal(last[1].pixels, STACK[4])


def test_a_file_that_is_caught_half_written(tmp_path):
    path = tmp_path / "scan.txrm"
    write_scan(tmp_path / "whole.txrm", 2)
    data = (tmp_path / "whole.txrm").read_bytes()
    with source_of(path) as source:
        path.write_bytes(data[:700])
        assert [item for item in drain(source) if isinstance(item, Frame)] == []
        path.write_bytes(data)
        assert [item.index for item in drain(source)] == [0, 1]


def test_a_picture_that_never_comes_is_named_and_passed_over(tmp_path):
    path = tmp_path / "scan.txrm"
    write_scan(path, 3, **{"ImageData1/Image2": None})
    with source_of(path) as source:
        items = []
        end = time.monotonic() + 10
        while len(items) < 3 and time.monotonic() < end:
            items += drain(source)
    assert [type(item) for item in items] == [Frame, Refusal, Frame]
    assert "projection 1 of scan.txrm" in items[1].reason


def test_hdf5_that_others_may_read_meanwhile(tmp_path):
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w", libver="latest") as file:
        stack = file.create_dataset("exchange/data", (0, 12, 15), np.uint16, chunks=(1, 12, 15),
                                    maxshape=(None, 12, 15))
        file.create_dataset("exchange/data_white", data=STACK[:2])
        file.swmr_mode = True
        with source_of(path) as source:
            seen = []
            for number in range(5):
                stack.resize(number + 1, axis=0)
                stack[number] = STACK[number]
                stack.flush()
                seen += drain(source, quiet_s=0.1)
    assert [(item.kind, item.index) for item in seen] == [
        ("flat", 0), ("flat", 1), *(("projection", number) for number in range(5))]
    assert all(np.array_equal(item.pixels, STACK[item.index]) for item in seen)


def test_hdf5_made_for_all_of_the_scan_shows_what_was_taken(tmp_path):
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        stack = file.create_dataset("exchange/data", (5, 12, 15), np.uint16, chunks=(1, 12, 15))
        stack[:2] = STACK[:2]
    with source_of(path) as source:
        assert [item.index for item in drain(source)] == [0, 1]
        with h5py.File(path, "a") as file:
            file["exchange/data"][2:4] = STACK[2:4]
        assert [item.index for item in drain(source)] == [2, 3]


def test_after_a_restart_nothing_comes_twice(tmp_path):
    path = tmp_path / "scan.txrm"
    write_scan(path, 4)
    with source_of(path, known=lambda item: item.index < 3) as source:
        assert [item.index for item in drain(source)] == [3]


def test_a_folder_that_is_not_there():
    with pytest.raises(LinkError, match="there is no folder /nowhere"):
        open_source(FramesSettings(endpoint="file:///nowhere/scan.h5"))


def test_the_endpoint_names_the_source(tmp_path):
    assert isinstance(open_source(FramesSettings(endpoint=f"file://{tmp_path}/scan.h5")), GrowingSource)
