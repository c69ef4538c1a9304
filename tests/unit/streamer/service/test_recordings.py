"""Recordings in a folder, and what their sessions are called."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

import numpy as np
import pytest
import tifffile

from streamer.errors import RecordingError
from streamer.service.recordings import Found, find_recordings, is_recording, session_names


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".tif":   # "stack" in the name: several pages
            pages = 3 if "stack" in name else 1
            tifffile.imwrite(path, np.zeros((pages, 8, 8), np.uint8)[slice(None) if pages > 1 else 0],
                             photometric="minisblack")
        else:
            path.write_bytes(b"x")


@pytest.mark.parametrize(("there", "expected"), [
    (["scan10.h5", "scan2.h5", "scan1.hdf5"], ["scan1.hdf5", "scan2.h5", "scan10.h5"]),
    (["a.nxs", "b.xrm", "c.txrm", "d.npy", "notes.txt", "table.csv"], ["a.nxs", "b.xrm", "c.txrm", "d.npy"]),
    (["day2/a.h5", "day10/a.h5", "day1/deep/er/a.h5"], ["day1/deep/er/a.h5", "day2/a.h5", "day10/a.h5"]),
    (["scan1/i1.tif", "scan1/i2.tif", "scan1/flats/f1.tif", "scan2/i1.png"], ["scan1", "scan2"]),
    (["stack2.tif", "stack10.tif"], ["stack2.tif", "stack10.tif"]),
    (["day1/stack1.tif", "day1/stack2.tif"], ["day1/stack1.tif", "day1/stack2.tif"]),
    (["day1/stack1.tif", "day1/single.tif"], ["day1"]),
    (["day1/scan.h5", "day1/overview.png"], ["day1/scan.h5"]),
    (["day1/scan.h5", "day1/stack1.tif"], ["day1/scan.h5", "day1/stack1.tif"]),
    ([".hidden.h5", ".cache/a.h5", "a.h5"], ["a.h5"]),
    (["a.h5", "sessions/one/session.sqlite", "sessions/one/flow.h5"], ["a.h5"]),
    (["A.H5", "b.TXRM"], ["A.H5", "b.TXRM"]),
])
def test_recordings_are_found_in_natural_order(tmp_path: Path, there: list[str], expected: list[str]) -> None:
    touch(tmp_path, *there)
    assert [(found.path, str(found.name)) for found in find_recordings(tmp_path)] == [
        (tmp_path / name, name) for name in expected]


def test_flats_and_darks_that_are_given_are_none(tmp_path: Path) -> None:
    touch(tmp_path, "scan.h5", "flat.h5", "darks/d1.tif")
    found = find_recordings(tmp_path, leave_out=[tmp_path / "flat.h5", tmp_path / "darks"])
    assert [str(each.name) for each in found] == ["scan.h5"]


def test_links_that_lead_back_end(tmp_path: Path) -> None:
    touch(tmp_path, "day1/scan.h5")
    (tmp_path / "day1" / "up").symlink_to(tmp_path)
    assert [str(each.name) for each in find_recordings(tmp_path)] == ["day1/scan.h5"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_named_when_it_fails(tmp_path: Path) -> None:
    touch(tmp_path, "a.h5", "closed/b.h5")
    (tmp_path / "closed").chmod(0)
    try:
        assert [str(each.name) for each in find_recordings(tmp_path)] == ["a.h5", "closed"]
    finally:
        (tmp_path / "closed").chmod(0o755)


@pytest.mark.parametrize(("there", "said"), [
    ([], "it holds nothing"),
    (["notes.txt", "sub/table.csv"], r"it holds notes.txt, sub; give a recording"),
    ([f"note{n}.txt" for n in range(1, 9)], "note4.txt, note5.txt and 3 more"),
    (["out/day1/session.sqlite", "out/day1/flow.h5"], r"name the sessions one by one .*out/day1"),
])
def test_a_folder_without_recordings_is_told_what_is_there(tmp_path: Path, there: list[str], said: str) -> None:
    touch(tmp_path, *there)
    with pytest.raises(RecordingError, match=said):
        find_recordings(tmp_path)


@pytest.mark.parametrize(("there", "alone"), [
    (["i1.tif", "i2.tif"], True), (["i1.png", "scan.h5"], True), (["stack.tif"], True),
    (["stack1.tif", "stack2.tif"], False), (["scan.h5"], False), (["sub/i1.tif"], False),
])
def test_a_folder_with_images_is_one_recording(tmp_path: Path, there: list[str], alone: bool) -> None:
    touch(tmp_path, *there)
    assert is_recording(tmp_path) is alone


@pytest.mark.parametrize(("there", "expected"), [
    (["scan.h5", "day1/scan.h5"], ["scan", "day1/scan"]),
    (["scan.001.h5", "scan.002.h5"], ["scan.001", "scan.002"]),
    (["scan.h5", "scan.npy", "other.h5"], ["scan.h5", "scan.npy", "other"]),
    (["day1.h5", "day1/scan.h5"], ["day1.h5", "day1/scan"]),     # no session within a session
    (["images.v2/i.tif", "images.v2.h5"], ["images.v2/i", "images.v2.h5"]),
])
def test_sessions_are_called_like_their_recordings(there: list[str], expected: list[str]) -> None:
    found = [Found(Path("/nowhere") / name, PurePath(name)) for name in there]
    assert [str(name) for name in session_names(found)] == expected


def test_names_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(RecordingError, match="would both have the session scan"):
        session_names([Found(Path("/a/scan.h5"), PurePath("scan.h5")), Found(Path("/b/scan.h5"), PurePath("scan.h5"))])
