"""Zeiss Xradia files: made here, real ones, and broken ones."""

from __future__ import annotations

import contextlib
import struct
from datetime import UTC

import numpy as np
import pytest
import txrm2tiff
from support.ole import floats, write_ole, xradia_streams

from streamer.errors import RecordingError
from streamer.formats import open_recording
from streamer.formats._views import name_views
from streamer.records import Frame, Refusal

STACK = np.random.default_rng(3).integers(0, 60_000, (5, 11, 17)).astype(np.uint16)


def frames_of(path):
    with open_recording(path) as recording:
        return list(recording.frames())


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
def test_not_square_pictures_of_every_type(tmp_path, dtype):
    stack = (STACK % 251).astype(dtype)
    found = frames_of(write_ole(tmp_path / "a.txrm", xradia_streams(stack)))
    assert [frame.pixels.dtype for frame in found] == [np.dtype(dtype)] * 5
    assert all(np.array_equal(frame.pixels, picture) for frame, picture in zip(found, stack, strict=True))


def test_metadata_go_into_the_frames(tmp_path):
    energies = np.zeros(41, "<f4")   # version 3 keeps ten numbers for each picture
    energies[::10] = [8333, 8333, 8400, 8400, 8333.1]
    dates = b"".join(text.ljust(40, b"\0") for text in (
        b"11/09/15 18:19:21", b"11/09/2015 18:19:22.250", b"11/09/15 18:19:23", b"11/09/15 18:19:24",
        b"11/09/15 18:19:25"))
    flat = np.full((11, 17), 900, "<u2")
    path = write_ole(tmp_path / "scan.txrm", xradia_streams(
        STACK, Angles=floats(0, 0.01, 0, 45, 45), Energy=energies.tobytes(), ExpTimes=floats(1, 2, 3, 4, 5),
        PixelSize=floats(0.0325), Date=dates, **{
            "ReferenceData/Image": flat.tobytes(), "ReferenceData/DataType": struct.pack("<i", 5)}))
    with open_recording(path) as recording:
        assert (recording.name, recording.format, recording.count, recording.total) == ("scan", "xrm", 5, 6)
        assert recording.pixel_size_nm == pytest.approx(32.5)
        first, *frames = recording.frames()
    assert (first.kind, first.exposed_at, first.angle_deg) == ("flat", None, None)
    assert np.array_equal(first.pixels, flat)
    assert [frame.view for frame in frames] == [
        "0.00 deg, 8333.0 eV", "0.00 deg, 8333.0 eV", "0.00 deg, 8400.0 eV", "45.00 deg, 8400.0 eV",
        "45.00 deg, 8333.0 eV"]
    assert [frame.exposure_s for frame in frames] == [1, 2, 3, 4, 5]
    assert frames[2].energy_ev == 8400
    assert frames[1].exposed_at - frames[0].exposed_at == pytest.approx(1.25)
    assert frames[0].exposed_at == 1447093161.0   # 2015-11-09 18:19:21 UTC


def test_a_running_scan_has_what_was_taken(tmp_path):
    streams = xradia_streams(STACK, NoOfImages=struct.pack("<i", 9))
    assert len(frames_of(write_ole(tmp_path / "running.txrm", streams))) == 5
    streams = xradia_streams(STACK, ImagesTaken=struct.pack("<i", 0))
    with pytest.raises(RecordingError, match="no picture was taken yet, of 5"):
        open_recording(write_ole(tmp_path / "new.txrm", streams))


def test_more_than_a_hundred_pictures(tmp_path):
    stack = np.arange(205, dtype=np.uint16)[:, None, None] + np.zeros((1, 3, 4), np.uint16)
    found = frames_of(write_ole(tmp_path / "long.txrm", xradia_streams(stack)))
    assert [int(frame.pixels[0, 0]) for frame in found] == list(range(205))


def test_a_missing_or_short_picture_is_refused_by_name(tmp_path):
    streams = xradia_streams(STACK, **{"ImageData1/Image3": None, "ImageData1/Image4": b"1234"})
    found = frames_of(write_ole(tmp_path / "hole.txrm", streams))
    assert [type(item) for item in found] == [Frame, Frame, Refusal, Refusal, Frame]
    assert "ImageData1/Image3 is missing or cut" in found[2].reason
    assert "ImageData1/Image4 has 4 bytes, expected 374" in found[3].reason


@pytest.mark.parametrize(("streams", "said"), [
    ({"WordDocument": b"text"}, "without ImageInfo, so not one of Xradia; it holds WordDocument"),
    (xradia_streams(STACK, ImageWidth=struct.pack("<i", -4)), "ImageInfo/ImageWidth is -4"),
    (xradia_streams(STACK, ImageHeight=None), "ImageInfo/ImageHeight is None"),
    (xradia_streams(STACK, DataType=struct.pack("<i", 99)), "ImageInfo/DataType is 99, expected one of"),
    (xradia_streams(STACK, ImagesTaken=struct.pack("<i", 2**30)), "ImagesTaken is 1073741824"),
    (xradia_streams(STACK, ImagesTaken=None, NoOfImages=None), "ImagesTaken is None and NoOfImages None"),
])
def test_what_is_wrong_is_named(tmp_path, streams, said):
    with pytest.raises(RecordingError, match=said):
        open_recording(write_ole(tmp_path / "odd.txrm", streams))


def test_odd_metadata_are_left_out(tmp_path):
    path = write_ole(tmp_path / "odd.txrm", xradia_streams(
        STACK, Angles=floats(0, np.nan, 0, 0, 0), Energy=floats(0, 0, 0, 0, 0), PixelSize=floats(-1), Date=b"never",
        ExpTimes=floats(1)))
    frames = frames_of(path)
    assert {(frame.view, frame.angle_deg, frame.energy_ev, frame.pixel_size_nm, frame.exposed_at, frame.exposure_s)
            for frame in frames} == {("", None, None, None, None, None)}


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.8, 0.97])
def test_a_cut_file_never_breaks(tmp_path, share):
    whole = write_ole(tmp_path / "whole.txrm", xradia_streams(np.tile(STACK, (8, 8, 4)))).read_bytes()
    cut = tmp_path / "cut.txrm"
    cut.write_bytes(whole[:int(share * len(whole))])
    try:
        found = frames_of(cut)
    except RecordingError as error:
        assert "cut.txrm" in str(error)  # noqa: PT017
    else:
        assert all(isinstance(item, Refusal) for item in found[-1:])


def test_random_damage_never_breaks(tmp_path):
    whole = bytearray(write_ole(tmp_path / "whole.txrm", xradia_streams(STACK)).read_bytes())
    rng = np.random.default_rng(17)
    for number in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 6):
            damaged[place] = int(rng.integers(256))
        path = tmp_path / f"{number}.txrm"
        path.write_bytes(damaged)
        with contextlib.suppress(RecordingError):
            frames_of(path)
        path.unlink()


def test_views_of_one_angle_and_energy_need_no_name():
    assert name_views(3, angles_deg=[1.0, 1.02, 1.01], energies_ev=[8000.0] * 3) == ["", "", ""]
    assert name_views(0) == []
    assert name_views(2, angles_deg=[1.0]) == ["", ""]


@pytest.mark.parametrize("name", ["test_chip00.xrm", "txrm_test_chip_tomo.txrm"])
def test_real_files_are_read_as_by_another_reader(real_data, name):
    path = real_data / "xradia_tomopy" / name
    with txrm2tiff.open_txrm(path) as other:
        expected, angles = other.get_images(), other.image_info["Angles"]
        reference = other.get_reference() if other.has_reference else None
        exposures, taken = other.exposures, other.datetimes
    frames = frames_of(path)
    flats, found = ([frame for frame in frames if frame.kind == kind] for kind in ("flat", "projection"))
    assert len(flats) == (reference is not None)
    assert all(np.array_equal(frame.pixels, reference) for frame in flats)
    assert len(found) == len(expected)
    assert all(np.array_equal(frame.pixels, picture) for frame, picture in zip(found, expected, strict=True))
    assert [frame.angle_deg for frame in found] == pytest.approx(angles)
    assert [frame.exposure_s for frame in found] == pytest.approx(exposures)
    assert found[0].exposed_at == taken[0].replace(tzinfo=UTC).timestamp()
