"""Every view keeps its reference; a field depends on frame, reference and drift alone."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from support import flow_scenes

from streamer.settings import FlowSettings
from streamer.tracking.deformation import Deformation, FlowTask, Outcome, solve

SHAPE = (96, 128)


@lru_cache(maxsize=8)
def scene(seed: int = 8101, drift_px: tuple[float, float] = (0.0, 0.0), amplitude_px: float = 0.8) -> flow_scenes.Pair:
    return flow_scenes.pair(SHAPE, seed=seed, dose=2000.0, amplitude_px=amplitude_px, drift_px=drift_px)


@lru_cache(maxsize=16)
def stage(index: int, *, dose: float = 500.0) -> flow_scenes.Pair:
    """A scene that deforms steadily, exposed anew for every frame."""
    return flow_scenes.pair((160, 192), seed=8305, dose=dose, amplitude_px=0.03 * index, noise=index)


@pytest.fixture
def deformation() -> Deformation:
    return Deformation(FlowSettings())


def update(deformation: Deformation, index: int, image, *, view="left", drift_px=(0.0, 0.0), verdict="sharp",
           weight=None) -> Outcome:
    return deformation.update(view, ("run", index), image, drift_px=drift_px, verdict=verdict, weight=weight)


def same(first: Outcome, second: Outcome) -> bool:
    return all(np.array_equal(getattr(first.result, name), getattr(second.result, name), equal_nan=True)
               for name in ("displacement_px", "valid", "sigma_px", "grid_y_px", "grid_x_px"))


def test_the_first_usable_frame_becomes_the_reference(deformation):
    pair = scene()
    for index, verdict in enumerate(("bad", "blurred")):
        result, problems = update(deformation, index, pair.frame, verdict=verdict)
        assert result is None
        assert verdict in problems[0]
    assert deformation.reference_key("left") is None
    result, problems = update(deformation, 2, pair.reference, verdict="undecided")
    assert deformation.reference_key("left") == ("run", 2)
    assert not problems
    assert np.abs(result.displacement_px).max() < 1e-3
    assert result.flow_median_px == pytest.approx(0, abs=1e-3)


def test_a_known_displacement_is_reported_with_its_reference(deformation):
    drift_px = (5.3, -3.8)
    pair = scene(drift_px=drift_px)
    update(deformation, 7, pair.reference, drift_px=(100.0, 50.0))
    result, problems = update(deformation, 9, pair.frame, drift_px=(105.3, 46.2))
    assert not problems
    assert (result.index, result.acquisition, result.view, result.reference_index) == (9, "run", "left", 7)
    assert (result.drift_y_px, result.drift_x_px) == pytest.approx(drift_px)
    rows, columns = (np.rint(axis).astype(int) for axis in (result.grid_y_px, result.grid_x_px))
    truth = pair.truth_px[:, rows[:, None], columns[None]] - np.reshape(drift_px, (2, 1, 1))
    assert result.valid.mean() > 0.5
    assert np.hypot(*(result.displacement_px - truth))[result.valid].mean() < 0.15
    magnitude = np.hypot(*result.displacement_px)[result.valid]
    assert result.flow_median_px == pytest.approx(np.median(magnitude), rel=1e-4)
    assert result.flow_p95_px == pytest.approx(np.percentile(magnitude, 95), rel=1e-4)
    assert result.elapsed_ms > 0


def path_errors(*, left_out=(), blurred=(), method="tracked") -> list[float]:
    """Follow the scene that deforms; mean error of the fields of the last three frames."""
    deformation, found = Deformation(FlowSettings(method=method)), []
    for index in range(16):
        if index in left_out:
            continue
        pair = stage(index)
        result = update(deformation, index, pair.frame if index else pair.reference,
                        verdict="blurred" if index in blurred else "sharp").result
        if result is not None and index > 12:
            rows, columns = (np.rint(axis).astype(int) for axis in (result.grid_y_px, result.grid_x_px))
            truth = pair.truth_px[:, rows[:, None], columns[None]]
            found.append(float(np.hypot(*(result.displacement_px - truth))[result.valid].mean()))
    return found


def test_a_path_is_better_than_single_fields():
    assert np.mean(path_errors()) < 0.95 * np.mean(path_errors(method="single"))


def test_skipping_frames_costs_accuracy_only():
    every, some = path_errors(), path_errors(left_out={2, 3, 5, 6, 8, 9, 11, 12, 14})
    assert len(some) == 2
    assert max(some) < 1.4 * max(every)


def test_the_path_goes_on_behind_blurred_frames():
    assert max(path_errors(blurred={8, 9, 10, 11})) < 1.25 * max(path_errors())


def test_the_same_frames_give_the_same_path():
    assert path_errors(left_out={4}) == path_errors(left_out={4})


def test_views_do_not_mix(deformation):
    first, second = scene(), scene(seed=8202)
    update(deformation, 0, first.reference, view="left")
    update(deformation, 1, second.reference, view="right")
    assert deformation.reference_key("left") == ("run", 0)
    assert deformation.reference_key("right") == ("run", 1)
    for view, pair, index in (("left", first, 0), ("right", second, 1)):
        result = update(deformation, 5, pair.frame, view=view).result
        assert result.reference_index == index
        assert result.valid.mean() > 0.5


def test_the_user_sets_the_reference(deformation):
    pair = scene()
    update(deformation, 0, pair.reference)
    deformation.set_reference("left", ("run", 3), pair.frame, drift_px=(2.0, 1.0))
    result = update(deformation, 4, pair.frame, drift_px=(2.0, 1.0)).result
    assert result.reference_index == 3
    assert (result.drift_y_px, result.drift_x_px) == (0.0, 0.0)
    assert result.flow_p95_px < 1e-3
    deformation.forget("left")
    assert deformation.reference_key("left") is None


def test_the_reference_is_a_copy(deformation):
    pair = scene()
    buffer = pair.reference.copy()
    update(deformation, 0, buffer)
    buffer[:] = 1.0
    assert update(deformation, 1, pair.reference).result.flow_p95_px < 0.05


def test_another_shape_starts_the_view_anew(deformation):
    pair = scene()
    update(deformation, 0, pair.reference)
    result, problems = update(deformation, 1, pair.frame[:80])
    assert deformation.reference_key("left") == ("run", 1)
    assert "96 x 128 to 80 x 128" in problems[0]
    assert result.reference_index == 1


def nothing(result) -> bool:
    return not result.valid.any() and not result.displacement_px.any() and bool(np.isnan(result.sigma_px).all())


@pytest.mark.parametrize("kind", ["constant", "open beam", "empty"])
def test_frames_without_texture_are_told(deformation, kind):
    rng = np.random.default_rng(8404)
    image = {"constant": np.ones(SHAPE), "open beam": rng.poisson(500, SHAPE) / 500, "empty": np.zeros(SHAPE)}[kind]
    update(deformation, 0, image)
    for index in (1, 2, 3):
        result, problems = update(deformation, index, image)
        assert nothing(result)
        assert "no structure in common with reference frame 0" in problems[-1]


def test_a_frame_that_shares_nothing_is_told_and_the_path_goes_on(deformation):
    for index in range(6):
        update(deformation, index, stage(index).frame if index else stage(0).reference)
    other = flow_scenes.pair((160, 192), seed=8505, dose=500.0).frame
    result, problems = update(deformation, 6, other)
    assert result.valid.mean() < 0.1
    assert np.hypot(*result.displacement_px)[result.valid].size == 0 or problems
    result, _ = update(deformation, 7, stage(7).frame)
    assert result.valid.mean() > 0.5


def test_a_sudden_crack_is_found_in_the_frame_it_opens(deformation):
    reference = flow_scenes.pair((160, 192), seed=8606, dose=2000.0)
    torn = np.roll(flow_scenes.pair((160, 192), seed=8606, dose=2000.0, noise=9).frame, 3, axis=1)
    torn[:80] = flow_scenes.pair((160, 192), seed=8606, dose=2000.0, noise=8).frame[:80]
    update(deformation, 0, reference.reference)
    for index in range(1, 8):
        update(deformation, index, flow_scenes.pair((160, 192), seed=8606, dose=2000.0, noise=index).frame)
    for index in (8, 9):
        result = update(deformation, index, torn).result
        away = np.abs(result.grid_y_px - 80) > 20
        upper, lower = result.grid_y_px < 80, result.grid_y_px > 80
        found, valid = result.displacement_px[1], result.valid
        moved = [np.median(found[rows][valid[rows]]) for rows in (upper & away, lower & away)]
        assert moved == pytest.approx([0, 3], abs=0.3)


def test_a_reference_replaced_in_the_middle_starts_the_path_anew(deformation):
    for index in range(5):
        update(deformation, index, stage(index).frame if index else stage(0).reference)
    deformation.set_reference("left", ("run", 4), stage(4).frame, drift_px=(0.0, 0.0))
    result = update(deformation, 5, stage(5).frame).result
    assert result.reference_index == 4
    fresh = Deformation(FlowSettings())
    fresh.set_reference("left", ("run", 4), stage(4).frame, drift_px=(0.0, 0.0))
    assert same(Outcome(result), update(fresh, 5, stage(5).frame))


def test_where_the_reference_is_no_longer_recognised_a_key_frame_leads_on(deformation):
    """The sample changes its face while it moves: after 20 frames the first one matches hardly anywhere."""
    first, second = (flow_scenes.particles((224, 256), seed) for seed in (8707, 8808))
    by_key = 0
    for index in range(18):
        share, y = index / 40, 0.03 * index
        field = np.stack([np.full(first.shape, y), np.zeros(first.shape)])
        face = flow_scenes.warp((1 - share) * first + share * second, field)
        image = flow_scenes.photons(face[32:-32, 32:-32], 5000.0, 9000 + index)
        result, problems = update(deformation, index, image)
        by_key += any("measured by way of frame" in text for text in problems)
        assert result.valid.mean() > 0.2
        assert np.median(result.displacement_px[0][result.valid]) == pytest.approx(y, abs=0.25)
    assert by_key >= 4


@pytest.mark.parametrize("method", ["single", "dis"])
def test_other_methods_can_be_chosen(method):
    deformation, pair = Deformation(FlowSettings(method=method)), scene()
    update(deformation, 0, pair.reference)
    result = update(deformation, 1, pair.frame).result
    rows, columns = (np.rint(axis).astype(int) for axis in (result.grid_y_px, result.grid_x_px))
    assert result.valid.mean() > 0.5
    assert np.hypot(*(result.displacement_px - pair.truth_px[:, rows[:, None], columns[None]]))[
        result.valid].mean() < 0.25


def test_more_views_than_are_remembered_do_not_fail(deformation):
    pair = scene()
    for round_ in range(2):
        for view in range(12):
            outcome = update(deformation, round_, pair.frame if round_ else pair.reference, view=str(view))
            assert outcome.result.valid.mean() > 0.5


@pytest.mark.parametrize("drift_px", [None, (np.nan, 0.0), (0.0, np.inf)])
def test_without_a_drift_there_is_no_field(deformation, drift_px):
    update(deformation, 0, scene().reference)
    result, problems = update(deformation, 1, scene().frame, drift_px=drift_px)
    assert result is None
    assert "drift" in problems[0]


def test_too_little_overlap_is_said(deformation):
    update(deformation, 3, scene().reference)
    result, problems = update(deformation, 4, scene().frame, drift_px=(75.0, 10.0))
    assert not result.valid.any()
    assert np.isnan(result.sigma_px).all()
    assert result.flow_median_px is None
    assert "20 % of reference frame 3" in problems[0]


def test_pixels_without_weight_are_not_used(deformation):
    pair = scene()
    weight = np.ones(SHAPE)
    weight[:, 64:] = 0
    update(deformation, 0, pair.reference, weight=weight)
    result = update(deformation, 1, pair.frame).result
    assert result.valid[:, result.grid_x_px < 60].mean() > 0.5
    assert not result.valid[:, result.grid_x_px > 68].any()


def test_a_restored_state_gives_the_same_fields(deformation):
    pair = scene()
    weight = np.ones(SHAPE)
    weight[:10] = 0
    update(deformation, 0, pair.reference, drift_px=(1.5, 2.5), weight=weight)
    restored = Deformation(FlowSettings())
    restored.restore(deformation.snapshot())
    assert restored.reference_key("left") == ("run", 0)
    outcomes = [update(one, 1, pair.frame, drift_px=(1.5, 2.5)) for one in (deformation, restored)]
    assert same(*outcomes)
    assert outcomes[1].result.reference_index == 0


def test_settings_in_force_are_the_newest(deformation):
    pair = scene()
    update(deformation, 0, pair.reference)
    deformation.settings = FlowSettings(step_px=16, smoothing_px=1.5)
    changed = update(deformation, 1, pair.frame)
    fresh = Deformation(FlowSettings(step_px=16, smoothing_px=1.5))
    update(fresh, 0, pair.reference)
    assert same(changed, update(fresh, 1, pair.frame))
    assert np.diff(changed.result.grid_x_px)[0] == 16


def test_a_task_can_be_solved_later_and_elsewhere(deformation):
    pair = scene()
    update(deformation, 0, pair.reference)
    task = deformation.admit("left", ("run", 1), pair.frame, drift_px=(0.0, 0.0), verdict="sharp")
    assert isinstance(task, FlowTask)
    deformation.set_reference("left", ("run", 2), pair.frame, drift_px=(0.0, 0.0))
    later = solve(task)
    assert later.result.reference_index == 0
    assert same(later, solve(task))


def test_dim_parts_of_the_light_match_as_well_as_bright_ones():
    """Their noise is that of few photons, not of something that is no longer there."""
    rng, absorbance = np.random.default_rng(8403), flow_scenes.particles((160, 192), 8404)
    light = np.linspace(0.15, 1.0, 192, dtype=np.float32)[None, :] * np.ones((160, 1), np.float32)
    deformation = Deformation(FlowSettings())
    for index in range(6):
        counts = rng.poisson(2000.0 * light * np.exp(-absorbance))
        result, problems = update(deformation, index, (counts / (2000.0 * light)).astype(np.float32), weight=light)
        assert not problems
    half = result.sigma_px.shape[1] // 2
    dim, bright = (np.nanmedian(part) for part in (result.sigma_px[:, :half], result.sigma_px[:, half:]))
    assert bright < dim < 4.0 * bright
    assert result.valid[:, :half].mean() > 0.9 * result.valid[:, half:].mean()
