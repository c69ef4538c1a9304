"""Pictures as they land: whole ones once, bad ones by name."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.ole import write_ole, xradia_streams

from streamer.errors import LinkError
from streamer.records import EndOfAcquisition, Frame, Refusal
from streamer.settings import FramesSettings
from streamer.sources import open_source
from streamer.sources.folder import FolderSource

STACK = np.random.default_rng(2).integers(0, 60_000, (6, 12, 15)).astype(np.uint16)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def source_of(folder, **options):
    return FolderSource(f"folder://{folder}", **({"poll_s": 0.02, "settle_s": 0.05, "patience_s": 0.4} | options))


def collect(source, count, *, limit_s=10.0):
    """Items until there are so many, or the limit has passed."""
    items, end = [], time.monotonic() + limit_s
    while len(items) < count and time.monotonic() < end:
        item = source.receive(0.05)
        if item is not None:
            items.append(item)
    return items


def test_what_is_there_comes_in_natural_order(folder):
    for number in (10, 9, 1, 2):
        tifffile.imwrite(folder / f"scan_{number}.tif", STACK[number % 6])
    with source_of(folder) as source:
        frames = collect(source, 4)
        assert source.receive(0.2) is None
        assert source.protocol == "folder (tiff)"
    assert [(frame.acquisition, frame.index) for frame in frames] == [("scan", number) for number in (1, 2, 9, 10)]
    assert all(np.array_equal(frame.pixels, STACK[frame.index % 6]) for frame in frames)
    assert all(frame.received_at > 1.6e9 and abs(frame.exposed_at - time.time()) < 60 for frame in frames)


def test_files_that_wait_for_their_turn_settle_meanwhile(folder):
    for number in range(40):
        tifffile.imwrite(folder / f"scan_{number}.tif", STACK[number % 6])
    with source_of(folder, settle_s=0.5) as source:   # one after the other they would take twenty seconds
        assert len(collect(source, 40)) == 40


def test_flats_and_darks_are_told_by_their_names(folder):
    for name in ("scan_1.tif", "scan_flat_2.tif", "dark-3.tif", "reflection_4.tif"):
        tifffile.imwrite(folder / name, STACK[0])
    with source_of(folder) as source:
        found = {(frame.kind, frame.acquisition, frame.index) for frame in collect(source, 4)}
    assert found == {("projection", "scan", 1), ("flat", "scan_flat/flat", 2), ("dark", "dark/dark", 3),
                     ("projection", "reflection", 4)}


def test_a_half_written_file_waits_until_it_is_whole(folder):
    tifffile.imwrite(folder.parent / "whole.tif", STACK[0])
    data = (folder.parent / "whole.tif").read_bytes()
    with source_of(folder, patience_s=5.0) as source:
        (folder / "scan_1.tif").write_bytes(data[:100])
        tifffile.imwrite(folder / "scan_2.tif", STACK[1])
        assert source.receive(0.4) is None   # 2 is whole, but 1 comes before it
        (folder / "scan_1.tif").write_bytes(data)
        frames = collect(source, 2)
    assert [frame.index for frame in frames] == [1, 2]
    assert np.array_equal(frames[0].pixels, STACK[0])


def test_a_file_that_never_becomes_whole_is_named_and_passed_over(folder):
    tifffile.imwrite(folder / "scan_1.tif", STACK[0])
    (folder / "scan_2.tif").write_bytes(b"II*\0 this is no picture")
    (folder / "scan_3.tif").write_bytes(b"")
    tifffile.imwrite(folder / "scan_4.tif", STACK[1])
    with source_of(folder) as source:
        items = collect(source, 4)
    assert [type(item) for item in items] == [Frame, Refusal, Refusal, Frame]
    assert items[1].reason.startswith("scan_2.tif: ")
    assert items[2].reason == "scan_3.tif: the file is empty (0 bytes)"
    assert {item.bucket for item in items[1:3]} == {"malformed"}


def test_a_file_that_vanishes_is_named(folder):
    (folder / "scan_1.tif").write_bytes(b"II*\0")
    with source_of(folder, patience_s=30.0) as source:
        assert source.receive(0.2) is None
        (folder / "scan_1.tif").unlink()
        item, = collect(source, 1)
    assert item.reason == "scan_1.tif: was removed before it was whole"


def test_a_file_written_again_is_named_and_not_taken_twice(folder):
    tifffile.imwrite(folder / "scan_1.tif", STACK[0])
    with source_of(folder) as source:
        assert isinstance(collect(source, 1)[0], Frame)
        tifffile.imwrite(folder / "scan_1.tif", np.vstack([STACK[1], STACK[1]]))
        item, = collect(source, 1)
        assert source.receive(0.3) is None
    assert item.bucket == "refused"
    assert "was written again after it was read" in item.reason


def test_other_files_are_passed_over(folder):
    for name in ("notes.txt", ".scan_1.tif", "scan_1.tif.part", "scan_2.tmp"):
        (folder / name).write_bytes(b"something")
    (folder / "scan_9.tif").mkdir()
    with source_of(folder) as source:
        assert source.receive(0.3) is None


def test_renaming_a_file_in_is_the_quick_way(folder):
    with source_of(folder) as source:
        assert source.receive(0.1) is None
        tifffile.imwrite(folder / "scan_7.tmp", STACK[2])
        (folder / "scan_7.tmp").rename(folder / "scan_7.tif")
        frame, = collect(source, 1)
    assert (frame.index, np.array_equal(frame.pixels, STACK[2])) == (7, True)


def test_a_file_of_several_pictures_is_an_acquisition(folder):
    tifffile.imwrite(folder / "stack_1.tif", STACK)
    write_ole(folder / "tomo_2.txrm", xradia_streams(STACK[:3]))
    with source_of(folder) as source:
        items = collect(source, 11)
    assert [(item.acquisition, getattr(item, "index", "end")) for item in items] == [
        *(("stack_1", number) for number in range(6)), ("stack_1", "end"),
        *(("tomo_2", number) for number in range(3)), ("tomo_2", "end")]


def test_pictures_without_a_number_are_numbered_by_arrival(folder):
    Image.fromarray(STACK[0]).save(folder / "first.png")
    with source_of(folder) as source:
        frame, = collect(source, 1)
    assert (frame.acquisition, frame.index) == ("run", -1)


def test_after_a_restart_nothing_comes_twice(folder):
    for number in range(4):
        tifffile.imwrite(folder / f"scan_{number}.tif", STACK[number])
    with source_of(folder) as source:
        before = {(frame.acquisition, frame.index) for frame in collect(source, 2)}
    with source_of(folder, known=lambda item: (item.acquisition, item.index) in before) as source:
        after = collect(source, 2)
        assert source.receive(0.2) is None
    assert [frame.index for frame in after] == [2, 3]


def test_a_folder_filled_by_another_process(folder):
    """Written slowly, renamed, cut: every whole file once, each bad one named."""
    program = f"""
import pathlib, time
import numpy as np, tifffile
folder = pathlib.Path({str(folder)!r})
for number in range(12):
    path = folder / f"scan_{{number:03d}}.tif"
    tifffile.imwrite(folder / "next.tmp", np.full((20, 30), number, np.uint16))
    data = (folder / "next.tmp").read_bytes()
    if number % 4 == 1:      # in pieces
        with path.open("wb") as file:
            for at in range(0, len(data), 300):
                file.write(data[at:at + 300]); file.flush(); time.sleep(0.02)
    elif number % 4 == 3:    # cut for good
        path.write_bytes(data[:200])
    else:
        (folder / "next.tmp").rename(path)
    time.sleep(0.02)
"""
    with source_of(folder, settle_s=0.1, patience_s=0.6) as source:
        writer = subprocess.Popen([sys.executable, "-c", program])
        items = collect(source, 12, limit_s=30.0)
        assert writer.wait(30) == 0
        assert source.receive(0.8) is None
    frames = [item for item in items if isinstance(item, Frame)]
    assert [frame.index for frame in frames] == [number for number in range(12) if number % 4 != 3]
    assert all((frame.pixels == frame.index).all() for frame in frames)
    assert [item.reason.partition(":")[0] for item in items if isinstance(item, Refusal)] == [
        f"scan_{number:03d}.tif" for number in (3, 7, 11)]


def test_a_folder_that_is_not_there():
    with pytest.raises(LinkError, match="there is no folder /nowhere/at/all"):
        open_source(FramesSettings(endpoint="folder:///nowhere/at/all"))


def test_the_endpoint_names_the_source(folder):
    with open_source(FramesSettings(endpoint=f"folder://{folder}")) as source:
        assert isinstance(source, FolderSource)
        assert source.waits
        assert not isinstance(source.receive(0.0), EndOfAcquisition)
