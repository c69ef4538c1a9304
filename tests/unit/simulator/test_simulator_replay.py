"""A recording sent again: order, ranges, rounds."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import tifffile

from simulator.plan import Request
from simulator.recorder import Recorder, recorded
from simulator.replay import replayed
from simulator.scenarios import find
from streamer.errors import RecordingError
from streamer.formats import open_recording
from streamer.records import EndOfAcquisition, Frame


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay") / "run.h5"
    run = find("two_views").build(Request(frames=6, seed=91, shape=(64, 80)))
    with Recorder(path, run) as recorder:
        for _ in recorded(run.frames(), recorder):
            pass
    return path


def test_replay_gives_everything_and_the_ends(saved: Path) -> None:
    with open_recording(saved) as recording:
        items = list(replayed(recording))
    frames = [item for item in items if isinstance(item, Frame)]
    assert [frame.index for frame in frames if frame.kind == "projection"] == list(range(6))
    assert {frame.view for frame in frames if frame.kind == "projection"} == {"left", "right"}
    assert {frame.expected for frame in frames if frame.kind == "projection"} == {6}
    ends = [item.acquisition for item in items if isinstance(item, EndOfAcquisition)]
    assert ends == ["two_views/dark", "two_views/flat", "two_views"]
    assert items[-3:] == [EndOfAcquisition(acquisition=name) for name in ends]


def test_part_of_a_recording_keeps_its_numbers_and_expects_nothing(saved: Path) -> None:
    with open_recording(saved) as recording:
        items = list(replayed(recording, start=2, stop=4))
    frames = [item for item in items if isinstance(item, Frame) and item.kind == "projection"]
    assert [frame.index for frame in frames] == [2, 3]
    assert {frame.expected for frame in frames} == {None}


def test_rounds_have_names_and_times_of_their_own(saved: Path) -> None:
    with open_recording(saved) as recording:
        one_round = len(list(replayed(recording)))
        items = list(itertools.islice(replayed(recording, loop=True), 3 * one_round))
    frames = [item for item in items if isinstance(item, Frame)]
    names = list(dict.fromkeys(frame.acquisition for frame in frames))
    assert names == [f"two_views{round_}{kind}" for round_ in ("", "#2", "#3") for kind in ("/dark", "/flat", "")]
    numbers = [(frame.acquisition, frame.index) for frame in frames]
    assert len(set(numbers)) == len(numbers)
    times = [frame.exposed_at for frame in frames]
    assert all(time is not None for time in times)
    assert times == sorted(times)
    assert len(set(times)) == len(times)


def test_range_without_frames_is_refused(saved: Path) -> None:
    with open_recording(saved) as recording, pytest.raises(RecordingError):
        list(replayed(recording, start=6))


def test_damaged_picture_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "tiles"
    folder.mkdir()
    for number in range(3):
        tifffile.imwrite(folder / f"tile_{number}.tif", np.full((40, 50), number, np.uint16))
    (folder / "tile_1.tif").write_bytes((folder / "tile_1.tif").read_bytes()[:300])
    with open_recording(folder) as recording:
        frames = [item for item in replayed(recording) if isinstance(item, Frame)]
    assert [frame.index for frame in frames] == [0, 2]
    assert "not sent" in caplog.text


def test_real_tiles_can_be_replayed(real_data: Path) -> None:
    with open_recording(real_data / "nsrrc_bl01b_txm") as recording:
        frames = [item for item in replayed(recording, stop=2) if isinstance(item, Frame)]
    assert [frame.pixels.shape for frame in frames] == [(512, 512)] * 2
