"""The commands about files: what a recording is, and writing it as another format."""

from __future__ import annotations

import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest
import tifffile
from support.ole import floats, write_ole, xradia_streams

from simulator.conversion import convert
from simulator.inspection import describe
from streamer.errors import RecordingError
from streamer.formats import open_recording
from streamer.records import Frame

STACK = np.random.default_rng(5).integers(0, 60_000, (4, 9, 13)).astype(np.uint16)
DATES = b"".join(f"11/09/15 18:19:2{number}".encode().ljust(40, b"\0") for number in range(4))


@pytest.fixture
def scan(tmp_path):
    return write_ole(tmp_path / "scan.txrm", xradia_streams(
        STACK, Angles=floats(0, 0, 45, 45), Energy=floats(*[8562] * 4), ExpTimes=floats(*[2] * 4),
        PixelSize=floats(0.03), Date=DATES, **{"ReferenceData/Image": np.full((9, 13), 900, "<u2").tobytes(),
                       "ReferenceData/DataType": struct.pack("<i", 5)}))


def lines_of(path, **options):
    with open_recording(path, **options) as recording:
        return list(describe(recording))


def frames_of(path, **options):
    with open_recording(path, **options) as recording:
        return list(recording.frames())


def told(frame):
    return {name: getattr(frame, name) for name in (
        "index", "view", "kind", "exposed_at", "angle_deg", "energy_ev", "pixel_size_nm", "expected")}


def test_what_is_known_of_a_recording_is_told(scan):
    assert lines_of(scan) == [
        f"{scan}: xrm", "frames: 5 of 9 x 13 px, uint16", "kinds: 4 projections, 1 flat, 0 darks", "acquisition: scan",
        "pixel size: 30 nm", "angles: 0 to 45 deg, 2 different", "energies: 8562 eV", "exposures: 2 s",
        "taken: 2015-11-09 18:19:20 to 2015-11-09 18:19:23 UTC", "views: 2: '0.00 deg' (2), '45.00 deg' (2)",
        "order: 1 flat, 4 projections"]


def test_unreadable_pictures_are_named(tmp_path):
    path = write_ole(tmp_path / "hole.txrm", xradia_streams(STACK, **{"ImageData1/Image2": None}))
    assert "unreadable: projection 1 of hole.txrm cannot be read" in lines_of(path)[-1]


def test_data_exchange_keeps_everything(scan, tmp_path):
    seen = []
    with open_recording(scan) as recording:
        done = convert(recording, tmp_path / "out.h5", on_frame=lambda: seen.append(1))
    assert (done.files, done.frames, done.unreadable, len(seen)) == ((tmp_path / "out.h5",), 5, (), 5)
    before, after = frames_of(scan), frames_of(tmp_path / "out.h5")
    assert [told(frame) for frame in after] == [told(frame) for frame in before]
    assert [frame.exposure_s for frame in after[1:]] == [2.0] * 4
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(before, after, strict=True))
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["exchange/data"].shape == (4, 9, 13)
        assert file["exchange/theta"][()].tolist() == [0, 0, 45, 45]


def test_tiff_keeps_the_pictures_and_their_scale(scan, tmp_path):
    with open_recording(scan) as recording:
        done = convert(recording, tmp_path / "out.tif")
    assert done.files == (tmp_path / "out.tif", tmp_path / "out_flat.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "out.tif"), STACK)
    with open_recording(tmp_path / "out.tif", flat=tmp_path / "out_flat.tif") as recording:
        assert recording.pixel_size_nm == pytest.approx(30, rel=1e-4)
        assert (recording.count, recording.total) == (4, 5)


def test_a_hole_stays_a_hole(tmp_path):
    path = write_ole(tmp_path / "hole.txrm", xradia_streams(STACK, **{"ImageData1/Image2": None}))
    with open_recording(path) as recording:
        done = convert(recording, tmp_path / "out.h5")
    assert done.frames == 3
    assert "projection 1 of hole.txrm" in done.unreadable[0]
    assert [frame.index for frame in frames_of(tmp_path / "out.h5")] == [0, 2, 3]


@pytest.mark.parametrize("name", ["out.png", "out", "missing/out.h5"])
def test_places_that_cannot_be(scan, tmp_path, name):
    with open_recording(scan) as recording, pytest.raises(RecordingError, match=r"expected one of|does not exist"):
        convert(recording, tmp_path / name)


def test_pictures_of_several_shapes_make_no_stack(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number, size in enumerate((9, 9, 11)):
        tifffile.imwrite(folder / f"{number}.tif", np.zeros((size, 13), np.uint16))
    for ending in ("h5", "tif"):
        with (open_recording(folder) as recording,
              pytest.raises(RecordingError, match="projection 2 is 11 x 13 uint16, the first is 9 x 13 uint16")):
            convert(recording, tmp_path / f"out.{ending}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]   # nothing half-written is left


def test_every_frame_of_a_float_recording(tmp_path):
    np.save(tmp_path / "a.npy", STACK.astype(np.float32) / 7)
    with open_recording(tmp_path / "a.npy") as recording:
        convert(recording, tmp_path / "a.h5")
    assert all(isinstance(frame, Frame) and np.array_equal(frame.pixels, picture.astype(np.float32) / np.float32(7))
               for frame, picture in zip(frames_of(tmp_path / "a.h5"), STACK, strict=True))


def command(*arguments):
    return subprocess.run([sys.executable, "-P", "-m", "simulator.cli", *map(str, arguments)], capture_output=True,
                          text=True, timeout=60, check=False)


def test_the_commands(scan, tmp_path):
    shown = command("inspect", scan)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[0] == f"{scan}: xrm"
    made = command("convert", scan, tmp_path / "out.h5")
    assert (made.returncode, made.stdout) == (0, f"5 frames written: {tmp_path / 'out.h5'}\n")
    missing = command("inspect", tmp_path / "nothing")
    assert missing.returncode == 1
    assert "no such file or folder" in missing.stderr
    assert command("convert", scan, scan).returncode == 2


@pytest.mark.parametrize("name", ["xradia_tomopy/test_chip00.xrm", "xradia_tomopy/txrm_test_chip_tomo.txrm",
                                  "tooth_dxchange/tooth.h5", "mudic_tensile/mudic_ut_every5_crop.tif"])
def test_real_recordings_survive_the_way_there_and_back(real_data, name, tmp_path):
    with open_recording(real_data / name) as recording:
        convert(recording, tmp_path / "out.h5")
    before, after = frames_of(real_data / name), frames_of(tmp_path / "out.h5")
    assert [told(frame) for frame in after] == [told(frame) for frame in before]
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(before, after, strict=True))
