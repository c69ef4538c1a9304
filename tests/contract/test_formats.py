"""What every format must do; a new module in streamer/formats is picked up and must bring a sample here."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image
from support.ole import write_ole, xradia_streams

from streamer import formats
from streamer.errors import RecordingError
from streamer.records import EndOfAcquisition, Frame
from streamer.sources.recording import items_of

NAMES = formats.names()
STACK = np.random.default_rng(41).integers(0, 60000, (12, 9, 14)).astype(np.uint16)


def write_hdf5(folder: Path) -> Path:
    with h5py.File(folder / "sample.h5", "w") as file:
        file["exchange/data"] = STACK
    return folder / "sample.h5"


def write_tiff(folder: Path) -> Path:
    tifffile.imwrite(folder / "sample.tif", STACK)
    return folder / "sample.tif"


def write_images(folder: Path) -> Path:
    images = folder / "sample"
    images.mkdir()
    for position, picture in enumerate(STACK):
        Image.fromarray(picture).save(images / f"frame{position}.png")
    return images


def write_xrm(folder: Path) -> Path:
    return write_ole(folder / "sample.txrm", xradia_streams(STACK))


def write_npy(folder: Path) -> Path:
    np.save(folder / "sample.npy", STACK)
    return folder / "sample.npy"


SAMPLES = {"hdf5": write_hdf5, "tiff": write_tiff, "images": write_images, "xrm": write_xrm, "npy": write_npy}


@pytest.fixture(params=NAMES)
def sample(request, tmp_path):
    assert request.param in SAMPLES, f"give test_formats.py a sample writer for the format {request.param!r}"
    return request.param, SAMPLES[request.param](tmp_path)


def test_describes_itself(sample):
    name, path = sample
    with formats.open_recording(path) as recording:
        assert recording.format == name
        assert recording.name == "sample"
        assert recording.path == path
        assert (recording.shape, recording.dtype) == ((9, 14), np.uint16)
        assert (recording.count, recording.total) == (12, 12)
        assert recording.pixel_size_nm is None


def test_gives_every_frame_once_and_unchanged(sample):
    _, path = sample
    with formats.open_recording(str(path)) as recording:
        frames = list(recording.frames())
    assert len(frames) == 12
    for position, frame in enumerate(frames):
        assert isinstance(frame, Frame)
        assert np.array_equal(frame.pixels, STACK[position])
        assert (frame.index, frame.acquisition, frame.kind, frame.view) == (position, "sample", "projection", "")
        assert (frame.expected, frame.received_at) == (12, 0.0)
        assert not frame.pixels.flags.writeable
        assert frame.pixels.flags.c_contiguous
        assert frame.pixels.dtype.isnative


@pytest.mark.parametrize(("start", "stop", "expected"), [
    (0, None, range(12)), (3, None, range(3, 12)), (0, 4, range(4)), (5, 7, range(5, 7)), (11, 99, [11])])
def test_ranges_keep_the_numbers(sample, start, stop, expected):
    with formats.open_recording(sample[1]) as recording:
        assert [frame.index for frame in recording.frames(start, stop)] == list(expected)


@pytest.mark.parametrize(("start", "stop"), [(12, None), (-1, None), (5, 5), (7, 3)])
def test_empty_ranges_are_errors(sample, start, stop):
    with formats.open_recording(sample[1]) as recording, pytest.raises(RecordingError, match="the recording has 12"):
        recording.frames(start, stop)


def test_flats_and_darks_from_files_of_their_own_come_first(sample, tmp_path):
    _, path = sample
    tifffile.imwrite(tmp_path / "flats.tif", STACK[:5])
    with formats.open_recording(path, flat=tmp_path / "flats.tif", dark=path, pixel_size_nm=40.0) as recording:
        assert (recording.count, recording.total) == (12, 29)
        frames = list(recording.frames(10))
        assert [(frame.kind, frame.acquisition, frame.index, frame.expected) for frame in frames] == [
            *(("dark", "sample/dark", index, None) for index in range(12)),
            *(("flat", "sample/flat", index, None) for index in range(5)),
            *(("projection", "sample", index, 12) for index in (10, 11))]
        assert {frame.pixel_size_nm for frame in frames} == {40.0}


def test_a_file_that_vanished_or_is_none_is_explained(sample, tmp_path):
    missing = tmp_path / "nothing here"
    with pytest.raises(RecordingError, match="no such file or folder"):
        formats.open_recording(missing)
    for option in ("flat", "dark"):
        with pytest.raises(RecordingError, match="nothing here: no such file or folder"):
            formats.open_recording(sample[1], **{option: missing})


def test_closing_lets_go_of_the_files(sample):
    name, path = sample
    formats.open_recording(path).close()
    recording = formats.open_recording(path)
    recording.close()
    if name != "images":   # whose files are open only while they are read
        assert not any(isinstance(item, Frame) for item in recording.frames())


def test_as_a_source_it_is_stamped_and_ended(sample):
    with formats.open_recording(sample[1]) as recording:
        whole = list(items_of(recording))
        part = list(items_of(recording, start=2, stop=4))
    assert len(whole) == 13
    assert whole[-1] == EndOfAcquisition(acquisition="sample")
    assert all(frame.received_at > 1.6e9 and frame.expected == 12 for frame in whole[:-1])
    assert [frame.index for frame in part[:-1]] == [2, 3]
    assert {frame.expected for frame in part[:-1]} == {None}   # the rest was not asked for
