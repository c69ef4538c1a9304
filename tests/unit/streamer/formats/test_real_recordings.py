"""Recordings of other people's instruments, where they are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamer.formats import open_recording
from streamer.records import Frame

DATA = Path(__file__).resolve().parents[4].parent / "shared" / "data"


@pytest.mark.parametrize(("place", "name", "shape", "dtype", "counts"), [
    ("mudic_tensile/mudic_ut_every5_crop.tif", "mudic_ut_every5_crop", (800, 600), "uint8", (0, 0, 18)),
    ("trackpy_brightfield", "trackpy_brightfield", (500, 500), "uint8", (0, 0, 50)),
    ("nsrrc_bl01b_txm", "nsrrc_bl01b_txm", (512, 512), "uint16", (0, 0, 20)),
    ("tooth_dxchange/tooth.h5", "tooth", (2, 640), "float32", (10, 10, 181)),
    ("sharpness_ladders/chart", "chart", (495, 712), "uint8", (0, 0, 6)),
    ("sharpness_ladders/smear", "smear", (307, 352), "uint8", (0, 0, 19)),
    ("motion_blur_photo", "motion_blur_photo", (1536, 2048), "uint8", (0, 0, 3)),
    ("dic_challenge", "dic_challenge", (1040, 400), "uint8", (0, 0, 11)),
    ("openpiv_examples/active-nematics0000.tif", "active-nematics0000", (988, 1004), "uint8", (0, 0, 1)),
])
def test_counts_shapes_and_types(place, name, shape, dtype, counts):
    path = DATA / place
    if not path.exists():
        pytest.skip(f"no example data at {path}")
    with open_recording(path) as recording:
        assert (recording.name, recording.shape, recording.dtype) == (name, shape, np.dtype(dtype))
        assert (recording.count, recording.total) == (counts[2], sum(counts))
        frames = list(recording.frames())
    assert all(isinstance(frame, Frame) for frame in frames)
    assert tuple(sum(frame.kind == kind for frame in frames) for kind in ("dark", "flat", "projection")) == counts
    assert {frame.pixels.dtype for frame in frames} == {np.dtype(dtype)}
    assert all(frame.pixels.std() > 0 for frame in frames)


def test_natural_order_of_a_real_folder():
    path = DATA / "nsrrc_bl01b_txm"
    if not path.exists():
        pytest.skip(f"no example data at {path}")
    with open_recording(path, flat=path) as recording:
        frames = list(recording.frames())
    assert [frame.kind for frame in frames] == ["flat"] * 20 + ["projection"] * 20
    assert all(np.array_equal(flat.pixels, frame.pixels) for flat, frame in zip(frames, frames[20:], strict=False))


def test_angles_of_a_real_tomogram():
    path = DATA / "tooth_dxchange" / "tooth.h5"
    if not path.exists():
        pytest.skip(f"no example data at {path}")
    with open_recording(path) as recording:
        angles = [frame.angle_deg for frame in recording.frames() if frame.kind == "projection"]
    assert len(angles) == 181
    assert np.all(np.diff(angles) > 0)
