"""A frame taken again: which view, where the sample is by then, which number, which luck; and its truth on disk."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.plan import Request
from simulator.recorder import Recorder
from simulator.reexposure import Reexposures
from simulator.run import Run, Shot
from simulator.scenarios import catalogue, find
from streamer.formats import open_recording
from streamer.records import Frame


def make(name: str = "sun2025_txm", frames: int = 12, seed: int = 5) -> Run:
    return find(name).build(Request(frames=frames, seed=seed, shape=(64, 80)))


def projections(run: Run) -> list[Shot]:
    return [run.shots[position] for position in run.projections]


@pytest.mark.parametrize("name", list(catalogue()))
def test_the_same_view_under_a_number_of_its_own(name: str) -> None:
    run = make(name)
    again, planned = Reexposures(run), projections(run)
    taken = [again.shot(planned[asked], at_s=planned[8].at_s + 0.1, trial=1) for asked in (3, 2, 3)]
    assert [shot.index for shot in taken] == [12, 13, 14]
    assert [shot.recollects for shot in taken] == [3, 2, 3]
    for shot, asked in zip(taken, (3, 2, 3), strict=True):
        origin = planned[asked]
        assert (shot.view, shot.kind, shot.acquisition) == (origin.view, "projection", origin.acquisition)
        assert (shot.condition, shot.expected) == ("good", 12)
    assert len(run) == len(make(name))   # it plans, and adds nothing


def test_the_sample_is_where_it_is_by_then() -> None:
    run = make()
    again, planned = Reexposures(run), projections(run)
    between = again.shot(planned[3], at_s=(planned[6].at_s + 3 * planned[7].at_s) / 4, trial=1)
    expected = 0.25 * np.array(planned[6].drift_px) + 0.75 * np.array(planned[7].drift_px)
    np.testing.assert_allclose(between.drift_px, expected, atol=1e-9)
    assert between.progress == pytest.approx((planned[6].progress + 3 * planned[7].progress) / 4)
    assert again.shot(planned[3], at_s=planned[9].at_s, trial=1).drift_px == pytest.approx(planned[9].drift_px)


def test_beyond_the_plan_the_sample_goes_on_as_before() -> None:
    run = make(frames=20)
    again, planned = Reexposures(run), projections(run)
    step_s = planned[1].at_s - planned[0].at_s
    assert again.interval_s == step_s
    late = again.shot(planned[3], at_s=planned[-1].at_s + 2 * step_s, trial=1)
    assert late.progress == pytest.approx(planned[-1].progress + 2 * (planned[1].progress - planned[0].progress))
    y = [shot.drift_px[0] for shot in planned[-8:]]
    assert late.drift_px[0] == pytest.approx(np.polyval(np.polyfit(range(8), y, 1), 9))


def test_each_view_has_its_own_way() -> None:
    run = make("two_views", frames=20)
    again, planned = Reexposures(run), projections(run)
    at_s = planned[11].at_s   # a moment at which the right one was seen
    left, right = (again.shot(planned[asked], at_s=at_s, trial=1) for asked in (2, 3))
    assert (left.view, right.view) == ("left", "right")
    assert right.drift_px == pytest.approx(planned[11].drift_px)
    np.testing.assert_allclose(
        left.drift_px, (np.array(planned[10].drift_px) + planned[12].drift_px) / 2, atol=1e-9)


def test_it_fails_again_as_often_as_the_run_does() -> None:
    run = make(frames=50)
    again, planned = Reexposures(run), projections(run)
    assert again.blurred_share == 0.2
    blurs = {shot.blur for shot in planned if shot.blur is not None}
    taken = [again.shot(planned[asked], at_s=planned[-1].at_s, trial=trial)
             for asked in range(50) for trial in range(1, 41)]
    blurred = [shot.blur for shot in taken if shot.blur is not None]
    assert len(blurred) / len(taken) == pytest.approx(0.2, abs=0.03)
    assert set(blurred) == blurs


def test_nothing_fails_where_nothing_was_blurred() -> None:
    run = make("still")
    again, planned = Reexposures(run), projections(run)
    assert again.blurred_share == 0
    assert all(again.shot(planned[3], at_s=planned[5].at_s, trial=trial).blur is None for trial in range(20))


@given(asked=st.integers(0, 11), trial=st.integers(1, 9), at_s=st.floats(1_000, 20_000))
@settings(max_examples=30, deadline=None)
def test_same_run_and_same_trial_have_the_same_luck(asked: int, trial: int, at_s: float) -> None:
    run = make()
    shots = [Reexposures(run).shot(projections(run)[asked], at_s=at_s, trial=trial) for _ in range(2)]
    assert shots[0] == shots[1]
    assert np.isfinite(shots[0].drift_px).all()


def test_a_frame_that_had_no_usable_image_gets_one() -> None:
    run = make("bad_frames", frames=50)
    dump = next(shot for shot in projections(run) if shot.condition == "dump")
    taken = Reexposures(run).shot(dump, at_s=dump.at_s + 0.5, trial=1)
    position = run.add(taken)
    assert run.truth(position).usable
    assert run.frame(position).pixels.mean() > run.frame(run.projections[dump.index]).pixels.mean() + 1000


def test_frame_and_truth_name_what_they_replace() -> None:
    run = make()
    planned = projections(run)
    shot = Reexposures(run).shot(planned[3], at_s=planned[7].at_s + 300, trial=1)
    position = run.add(shot)
    frame, truth = run.frame(position), run.truth(position)
    assert (frame.index, frame.recollects, frame.view, frame.expected) == (12, 3, "main", 12)
    assert frame.exposed_at is not None
    assert frame.exposed_at > (run.frame(run.projections[7]).exposed_at or 0)
    assert truth.recollects == 3
    np.testing.assert_allclose(truth.drift_px, np.array(shot.drift_px) - planned[0].drift_px)
    assert run.truth(run.projections[3]).recollects is None
    assert run.frame(position).pixels.tobytes() == frame.pixels.tobytes()
    earlier, later = (run.truth(run.projections[index]).displacement_px for index in (7, 8))
    lowest, highest = np.minimum(earlier, later), np.maximum(earlier, later)
    assert np.all((truth.displacement_px >= lowest - 0.01) & (truth.displacement_px <= highest + 0.01))


def test_a_recording_holds_what_was_taken_again_in_its_place_in_time(tmp_path: Path) -> None:
    run = make()
    again, planned = Reexposures(run), projections(run)
    order = []
    with Recorder(tmp_path / "run.h5", run) as recorder:
        for position in range(len(run)):
            recorder.write(run.frame(position))
            order.append(run.shots[position])
            if run.shots[position] in (planned[5], planned[8]):
                asked = planned[3] if run.shots[position] == planned[5] else planned[4]
                extra = run.add(again.shot(asked, at_s=run.shots[position].at_s + 1, trial=1))
                recorder.write(run.frame(extra))
                order.append(run.shots[extra])
    with h5py.File(tmp_path / "run.h5") as file:
        assert file["exchange/data"].shape == (14, 64, 80)
        assert file["exchange/theta"].shape == (14,)
        assert file["truth/recollects"][:].tolist() == [-1] * 12 + [3, 4]
        assert file["truth/drift_px"].shape == (14, 2)
        assert file["txm_live/sequence"].shape == (len(order), 2)
    with open_recording(tmp_path / "run.h5") as recording:
        read = list(recording.frames())
    assert [(frame.kind, frame.index, frame.recollects) for frame in read if isinstance(frame, Frame)] == [
        (shot.kind, shot.index, shot.recollects) for shot in order]
