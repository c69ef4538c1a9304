"""NumPy files."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.errors import RecordingError
from streamer.formats import open_recording

STACK = np.random.default_rng(8).integers(0, 60_000, (4, 5, 7)).astype(np.uint16)


def write(path, array, **options):
    np.save(path, array, **options)
    return path


def frames_of(path):
    with open_recording(path) as recording:
        return list(recording.frames())


@pytest.mark.parametrize("array", [STACK, STACK.astype(">u2"), np.asfortranarray(STACK), STACK.astype("f4"),
                                   STACK > 30_000])
def test_stacks_of_any_real_type_and_order(tmp_path, array):
    frames = frames_of(write(tmp_path / "a.npy", array))
    assert all(np.array_equal(frame.pixels, picture) for frame, picture in zip(frames, array, strict=True))
    assert all(frame.pixels.dtype.isnative and frame.pixels.flags.c_contiguous for frame in frames)


def test_a_single_picture(tmp_path):
    frame, = frames_of(write(tmp_path / "a.npy", STACK[0]))
    assert np.array_equal(frame.pixels, STACK[0])


@pytest.mark.parametrize(("array", "said"), [
    (np.zeros(4), r"shape \(4,\)"), (np.zeros((2, 2, 2, 2)), r"shape \(2, 2, 2, 2\)"), (np.zeros((0, 4, 4)), "shape"),
    (np.zeros((3, 3), complex), "complex128"), (np.array([["a"]]), "<U1")])
def test_what_holds_no_pictures(tmp_path, array, said):
    with pytest.raises(RecordingError, match=said):
        open_recording(write(tmp_path / "a.npy", array))


def test_pickles_are_never_read(tmp_path):
    with pytest.raises(RecordingError, match="cannot be read"):
        open_recording(write(tmp_path / "a.npy", np.array([{"a": 1}]), allow_pickle=True))


@pytest.mark.parametrize("size", [6, 20, 127, 140])
def test_cut_files(tmp_path, size):
    path = write(tmp_path / "a.npy", STACK)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(RecordingError, match=r"a\.npy: NumPy file cannot be read"):
        open_recording(path)


def test_a_dataset_makes_no_sense(tmp_path):
    with pytest.raises(RecordingError, match="have no datasets"):
        open_recording(write(tmp_path / "a.npy", STACK), dataset="x")
