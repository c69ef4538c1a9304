"""The HDF5 file: its layout, its truth, and that it is whole or not there."""

from __future__ import annotations

import resource
import shutil
import signal
from collections import namedtuple
from pathlib import Path

import h5py
import msgspec
import numpy as np
import pytest

from simulator.plan import Request
from simulator.recorder import Recorder, recorded
from simulator.run import Run
from simulator.scenarios import find
from streamer.errors import RecordingError
from streamer.formats import open_recording
from streamer.records import Frame


def make(name: str = "sun2025_txm", frames: int = 6) -> Run:
    return find(name).build(Request(frames=frames, seed=81, shape=(64, 80)))


def save(run: Run, path: Path) -> None:
    with Recorder(path, run) as recorder:
        for _ in recorded(run.frames(), recorder):
            pass


def test_frames_that_were_sent_have_the_times_they_were_sent_with(tmp_path: Path) -> None:
    run = make(frames=3)
    with Recorder(tmp_path / "run.h5", run) as recorder:
        for number, frame in enumerate(recorded(run.frames(), recorder)):
            recorder.left(msgspec.structs.replace(frame, exposed_at=2e9 + number))
    with open_recording(tmp_path / "run.h5") as recording:
        assert [frame.exposed_at for frame in recording.frames()] == [2e9 + number for number in range(len(run))]


def test_layout_and_truth(tmp_path: Path) -> None:
    run = make()
    save(run, tmp_path / "run.h5")
    truths = [run.truth(position) for position in run.projections]
    with h5py.File(tmp_path / "run.h5") as file:
        data = file["exchange/data"]
        assert (data.shape, data.dtype, data.chunks, data.compression) == ((6, 64, 80), np.uint16, (1, 64, 80), None)
        assert file["exchange/data_white"].shape == (6, 64, 80)
        assert file["exchange/data_dark"].shape == (5, 64, 80)
        assert file["exchange/theta"].shape == (6,)
        np.testing.assert_array_equal(data[3], run.frame(run.projections[3]).pixels)
        ours = file["txm_live"]
        assert ours.attrs["acquisition"] == ours.attrs["scenario"] == "sun2025_txm"
        assert (ours.attrs["seed"], ours.attrs["photons"]) == (81, 500)
        assert (ours.attrs["pixel_size_nm"], ours.attrs["exposure_s"]) == (33.24, 0.048)
        sequence = ours["sequence"]
        assert sequence.dtype == np.int32
        assert sequence[:8].tolist() == [[2, 0], [2, 1], [2, 2], [2, 3], [2, 4], [1, 0], [0, 0], [1, 1]]
        assert np.all(np.diff(ours["exposed_at_s"]) > 0)
        assert ours["view"].asstr()[6] == "main"
        truth = file["truth"]
        np.testing.assert_array_equal(truth["drift_px"], [one.drift_px for one in truths])
        np.testing.assert_array_equal(truth["blurred"], [one.blurred for one in truths])
        np.testing.assert_array_equal(truth["blur_length_px"], [one.blur_length_px for one in truths])
        assert truth["blurred"].dtype == truth["usable"].dtype == bool
        assert truth["blur_covariance_px2"].shape == (6, 2, 2)
        assert truth["blur_angle_deg"].shape == (6,)
        assert truth["displacement_px"].dtype == np.float32
        assert truth["displacement_px"].shape == (6, 2, truth["grid_y_px"].size, truth["grid_x_px"].size)
        assert np.all(np.diff(truth["grid_y_px"]) == 16)
        assert truth["view"].asstr()[0] == "main"
        assert set(truth["condition"].asstr()[:]) == {"good"}
        assert "regions" not in truth


def test_plates_are_in_the_truth(tmp_path: Path) -> None:
    save(make("sun2025_optical"), tmp_path / "run.h5")
    with h5py.File(tmp_path / "run.h5") as file:
        assert file["truth/regions"].shape == file["truth/displacement_px"].shape[2:]


@pytest.mark.parametrize("name", ["sun2025_txm", "two_views"])
def test_what_is_read_back_is_what_was_simulated(tmp_path: Path, name: str) -> None:
    run = make(name)
    save(run, tmp_path / "run.h5")
    with open_recording(tmp_path / "run.h5") as recording:
        read = list(recording.frames())
    for frame, origin in zip(read, run.frames(), strict=True):
        assert isinstance(frame, Frame)
        for field in ("index", "acquisition", "view", "kind", "exposed_at", "exposure_s", "pixel_size_nm"):
            assert getattr(frame, field) == getattr(origin, field), field
        np.testing.assert_array_equal(frame.pixels, origin.pixels)


def test_unfinished_run_leaves_nothing(tmp_path: Path) -> None:
    run = make()
    with Recorder(tmp_path / "run.h5", run) as recorder:
        recorder.write(run.frame(0))
    assert list(tmp_path.iterdir()) == []


def test_failure_leaves_the_older_file(tmp_path: Path) -> None:
    path, run = tmp_path / "run.h5", make()
    path.write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt), Recorder(path, run):
        raise KeyboardInterrupt
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.h5"]
    assert path.read_bytes() == b"older"


def test_full_disk_is_said_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10, 0, 1000))
    with pytest.raises(RecordingError, match=r"disk full.*--frames"):
        Recorder(tmp_path / "run.h5", make())
    assert list(tmp_path.iterdir()) == []


def test_disk_that_fills_up_meanwhile_leaves_nothing(tmp_path: Path) -> None:
    # A limit on the size of files stands for a disk that is full.
    run, soft_hard = make(), resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, soft_hard[1]))
    try:
        with pytest.raises(RecordingError, match=r"run\.h5: cannot be written: .*nothing was saved"):
            save(run, tmp_path / "run.h5")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft_hard)
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    run = make(frames=1)
    with pytest.raises(RecordingError, match="does not exist"):
        Recorder(tmp_path / "no" / "run.h5", run)
    with pytest.raises(RecordingError, match="is a folder"):
        Recorder(tmp_path, run)
