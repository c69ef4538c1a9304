from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from streamer.errors import RecordingError
from streamer.formats import open_recording
from streamer.records import Frame

STACK = np.random.default_rng(7).integers(0, 60000, (10, 33, 47)).astype(np.uint16)


def frames_of(path, **options):
    with open_recording(path, **options) as recording:
        return list(recording.frames())


def check(path, stack=STACK):
    frames = frames_of(path)
    assert len(frames) == len(stack)
    for frame, picture in zip(frames, stack, strict=True):
        assert np.array_equal(frame.pixels, picture)
        assert frame.pixels.dtype == picture.dtype.newbyteorder("=")


@pytest.mark.parametrize("options", [
    {}, {"bigtiff": True}, {"byteorder": ">"}, {"compression": "zlib"}, {"compression": "lzw"}, {"compression": "zstd"},
    {"compression": "zlib", "predictor": True}, {"tile": (16, 16)}, {"rowsperstrip": 5}, {"photometric": "miniswhite"},
    {"metadata": None}, {"imagej": True}, {"ome": True},
], ids=str)
def test_ways_to_write_a_stack(tmp_path, options):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, STACK, **options)
    check(path)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int32", "float16", "float32", "float64"])
def test_types(tmp_path, dtype):
    path = tmp_path / "stack.tif"
    stack = STACK.astype(dtype)
    tifffile.imwrite(path, stack)
    check(path, stack)


def test_hyperstacks_come_plane_by_plane(tmp_path):
    path = tmp_path / "hyper.tif"
    tifffile.imwrite(path, STACK.reshape(5, 2, 33, 47), imagej=True, metadata={"axes": "TZYX"})
    check(path)


def test_single_page(tmp_path):
    tifffile.imwrite(tmp_path / "one.tif", STACK[0])
    check(tmp_path / "one.tif", STACK[:1])


def test_name_without_the_double_suffix_of_ome(tmp_path):
    tifffile.imwrite(tmp_path / "run 3.ome.tif", STACK)
    assert {frame.acquisition for frame in frames_of(tmp_path / "run 3.ome.tif")} == {"run 3"}


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_colour_becomes_grey(tmp_path, planar, dtype):
    colours = np.random.default_rng(3).integers(0, 255, (4, 20, 30, 3)).astype(dtype)
    written = np.moveaxis(colours, -1, 1) if planar == "separate" else colours
    tifffile.imwrite(tmp_path / "rgb.tif", written, photometric="rgb", planarconfig=planar)
    frames = frames_of(tmp_path / "rgb.tif")
    assert len(frames) == 4
    expected = colours[2] @ [0.299, 0.587, 0.114]
    assert frames[2].pixels.dtype == dtype
    assert np.abs(frames[2].pixels - expected).max() <= (0.5 if dtype != "float32" else 1e-4)


@pytest.mark.parametrize(("options", "size_nm"), [
    ({"imagej": True, "resolution": (25.0, 25.0), "metadata": {"unit": "um"}}, 40.0),
    ({"imagej": True, "resolution": (0.05, 0.05), "metadata": {"unit": "nm"}}, 20.0),
    ({"imagej": True, "resolution": (25.0, 25.0), "metadata": {"unit": "pixel"}}, None),
    ({"imagej": True, "resolution": (25.0, 25.0)}, None),
    ({"ome": True, "metadata": {"PhysicalSizeX": 0.03}}, 30.0),
    ({"ome": True, "metadata": {"PhysicalSizeX": 35.0, "PhysicalSizeXUnit": "nm"}}, 35.0),
    ({"ome": True, "metadata": {"PhysicalSizeX": 1.0, "PhysicalSizeXUnit": "pixel"}}, None),
    ({"resolution": (250_000.0, 250_000.0), "resolutionunit": "CENTIMETER"}, 40.0),
    ({"resolution": (118.0, 118.0), "resolutionunit": "CENTIMETER"}, None),   # 300 dpi: for a printer
    ({"resolution": (72.0, 72.0), "resolutionunit": "INCH"}, None),
    ({}, None),
], ids=str)
def test_pixel_size_only_where_it_is_plainly_given(tmp_path, options, size_nm):
    path = tmp_path / "sized.tif"
    tifffile.imwrite(path, STACK, **options)
    with open_recording(path) as recording:
        assert recording.pixel_size_nm == (None if size_nm is None else pytest.approx(size_nm, rel=1e-4))
        assert next(recording.frames()).pixel_size_nm == recording.pixel_size_nm
    with open_recording(path, pixel_size_nm=12.5) as recording:
        assert recording.pixel_size_nm == 12.5


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.97, 0.999])
@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"imagej": True}, {"ome": True}, {"compression": "zlib"},
                                     {"byteorder": ">"}, "page by page"], ids=str)
def test_cut_files_give_what_is_left_and_name_the_rest(tmp_path, options, share):
    path = tmp_path / "whole.tif"
    if options == "page by page":
        with tifffile.TiffWriter(path) as writer:
            for picture in STACK:
                writer.write(picture, contiguous=False, metadata=None)
    else:
        tifffile.imwrite(path, STACK, **options)
    data = path.read_bytes()
    kept = int(len(data) * share)
    cut = tmp_path / "cut.tif"
    cut.write_bytes(data[:kept])
    items = frames_of(cut)
    assert [item.index for item in items] == list(range(len(items)))
    whole = [item for item in items if isinstance(item, Frame)]
    assert all(np.array_equal(frame.pixels, STACK[frame.index]) for frame in whole)
    assert len(whole) >= int(share * 10) - 1            # all but what was really cut off
    lost = [item for item in items if not isinstance(item, Frame)]
    assert all(item.bucket == "malformed" and "cut.tif" in item.reason for item in lost)
    if options != "page by page":
        assert len(items) == 10                         # the file still tells how many there were
    if share <= 0.5:
        assert "cut" in lost[-1].reason
        assert "list of pages ends after" in lost[-1].reason


def test_a_damaged_page_leaves_the_others(tmp_path):
    path = tmp_path / "damaged.tif"
    tifffile.imwrite(path, STACK, compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset = file.pages[4].dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[offset:offset + 40] = bytes(40)
    path.write_bytes(data)
    items = frames_of(path)
    assert [isinstance(item, Frame) for item in items] == [index != 4 for index in range(10)]
    assert items[4].index == 4
    assert items[4].reason.startswith("projection 4 of damaged.tif cannot be read")


def test_a_page_of_another_shape_is_still_delivered(tmp_path):
    with tifffile.TiffWriter(tmp_path / "mixed.tif") as writer:
        writer.write(STACK[0])
        writer.write(STACK[1, :20, :20])
    assert [frame.pixels.shape for frame in frames_of(tmp_path / "mixed.tif")] == [(33, 47), (20, 20)]


@pytest.mark.parametrize(("content", "text"), [
    (b"II*\0", "lists no whole page"), (b"II*\0\x08\0\0\0", "lists no whole page"),
    (b"II*\0\xff\xff\xff\x7f" + bytes(100), "lists no whole page"), (b"MM\0*\0\0\0\x08" + bytes(60), "no whole"),
    (b"II+\0\x08\0\0\0", "lists no whole page"),
])
def test_files_that_only_start_like_a_tiff(tmp_path, content, text):
    (tmp_path / "bad.tif").write_bytes(content)
    with pytest.raises(RecordingError, match=text) as caught:
        open_recording(tmp_path / "bad.tif")
    assert "bad.tif" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_list_of_pages_that_bites_its_tail_ends(tmp_path):
    path = tmp_path / "loop.tif"
    tifffile.imwrite(path, STACK[:2], metadata=None)
    data = bytearray(path.read_bytes())
    first = int.from_bytes(data[4:8], "little")
    with tifffile.TiffFile(path) as file:
        last = file.pages[1].offset
    tags = int.from_bytes(data[last:last + 2], "little")
    data[last + 2 + 12 * tags:last + 6 + 12 * tags] = first.to_bytes(4, "little")
    path.write_bytes(data)
    assert len(frames_of(path)) == 2


def test_random_damage_never_escapes(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, STACK[:5], compression="zlib")
    sound = path.read_bytes()
    rng = np.random.default_rng(23)
    for _ in range(60):
        data = bytearray(sound[: rng.integers(8, len(sound))] if rng.random() < 0.3 else sound)
        for place in rng.integers(0, len(data), 6):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            items = frames_of(path)
        except RecordingError as error:
            items = []
            text = str(error)
        else:
            text = "; ".join(item.reason for item in items if not isinstance(item, Frame))
        assert items or str(path) in text


def test_a_dataset_makes_no_sense(tmp_path):
    tifffile.imwrite(tmp_path / "one.tif", STACK[0])
    with pytest.raises(RecordingError, match="no datasets"):
        open_recording(tmp_path / "one.tif", dataset="exchange/data")


@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.filterwarnings("ignore:.*stored as RGB:DeprecationWarning")
def test_a_short_stack_that_was_taken_for_colours_is_still_a_stack(tmp_path: Path, count: int) -> None:
    stack = np.random.default_rng(8).integers(0, 999, (count, 40, 50)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "short.tif", stack)
    with open_recording(tmp_path / "short.tif") as recording:
        np.testing.assert_array_equal([frame.pixels for frame in recording.frames()], stack)
