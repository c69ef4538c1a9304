from __future__ import annotations

import msgspec
import numpy as np
import pytest
from support.acquisitions import acquisition

from streamer.errors import CommandError, FrameError
from streamer.pipeline import Measurement, Outcome, Pipeline, measure
from streamer.records import Frame
from streamer.settings import load


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return acquisition(5, seed=31)


def run(pipeline: Pipeline, frame: Frame) -> Outcome:
    job = pipeline.begin(frame)
    return pipeline.finish(job, measure(job))


def test_measuring_is_pure_and_may_be_done_again(frames: list[Frame]) -> None:
    pipeline = Pipeline(load())
    for frame in frames[:4]:
        run(pipeline, frame)
    job = pipeline.begin(frames[4])
    one, other = measure(job), measure(job)
    assert isinstance(one, Measurement)
    assert isinstance(other, Measurement)
    np.testing.assert_array_equal(one.image, other.image)
    assert one.registration == other.registration
    assert not np.shares_memory(one.image, frames[4].pixels)


def test_a_frame_measured_against_a_reference_that_changed_is_registered_again(frames: list[Frame]) -> None:
    ahead, in_turn = Pipeline(load()), Pipeline(load())
    flats, (first, second, *_) = frames[:2], frames[2:]
    for pipeline in (ahead, in_turn):
        for flat in flats:
            run(pipeline, flat)
    jobs = [ahead.begin(first), ahead.begin(second)]   # there is no reference yet when the second one is measured
    measured = [measure(job) for job in jobs]
    rows = [ahead.finish(job, measurement).row for job, measurement in zip(jobs, measured, strict=True)]
    assert rows == [run(in_turn, first).row, run(in_turn, second).row]
    assert rows[1].drift_y_px == pytest.approx(0.7, abs=0.1)


def test_a_failure_of_one_frame_is_a_row_and_leaves_no_trace(
    frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    disturbed, calm = Pipeline(load()), Pipeline(load())
    for number, frame in enumerate(frames):
        assert run(disturbed, frame).row == run(calm, frame).row
        with monkeypatch.context() as patch:
            patch.setattr("streamer.imaging.spectrum.measure_spectrum", lambda *_: 1 / 0)
            broken = run(disturbed, msgspec.structs.replace(frame, index=100 + number, kind="projection"))
        assert broken.refused
        assert "internal error" in broken.row.problems
        assert broken.row.drift_y_px is None


def test_a_flat_that_cannot_be_used_is_a_row(frames: list[Frame]) -> None:
    pipeline = Pipeline(load())
    odd = msgspec.structs.replace(frames[0], pixels=np.zeros((80, 80), complex))
    assert "real numbers" in run(pipeline, odd).row.problems
    assert run(pipeline, frames[2]).row.drift_y_px == 0.0


@pytest.mark.parametrize("shape", [(2, 640), (640, 2), (63, 64)])
def test_what_is_too_small_is_refused(shape: tuple[int, int]) -> None:
    outcome = run(Pipeline(load()), Frame(pixels=np.ones(shape, np.uint16), index=0))
    assert outcome.refused
    assert f"{shape[0]} x {shape[1]}" in outcome.row.problems


def test_numbers_in_a_row_are_plain(frames: list[Frame]) -> None:
    pipeline = Pipeline(load())
    row = [run(pipeline, frame).row for frame in frames][-1]
    for name in row.__struct_fields__:
        assert type(getattr(row, name)) in {int, float, str, bool, type(None)}, name


def test_an_error_of_the_measurement_is_the_reason(frames: list[Frame]) -> None:
    pipeline = Pipeline(load())
    job = pipeline.begin(frames[2])
    outcome = pipeline.finish(job, FrameError("the reason"))
    assert (outcome.refused, outcome.row.problems) == (True, "the reason")


def test_the_reference_of_an_unknown_view_is_refused(frames: list[Frame]) -> None:
    pipeline = Pipeline(load())
    run(pipeline, frames[2])
    with pytest.raises(CommandError, match=r"'left'.*'main'"):
        pipeline.set_reference("left")


def test_two_fields_of_view_that_nobody_names_end_in_rows_of_two_views() -> None:
    one, other = acquisition(5, seed=32), acquisition(5, seed=33)
    flats, frames = one[:2], [frame for pair in zip(one[2:], other[2:], strict=True) for frame in pair]
    pipeline, rows = Pipeline(load()), {}
    for flat in flats:
        run(pipeline, flat)
    for number, frame in enumerate(frames):
        outcome = run(pipeline, msgspec.structs.replace(frame, index=number, view=""))
        rows[number] = outcome.row
        for (_, index), columns in outcome.revisions:
            rows[index] = msgspec.structs.replace(rows[index], **columns)
    assert [row.view for row in rows.values()] == ["main", "main 2"] * (len(frames) // 2)
    assert all(row.drift_y_px is not None for row in rows.values())
    assert (rows[1].drift_y_px, rows[1].reference_index) == (0.0, 1)
