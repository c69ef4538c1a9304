"""Every scenario builds, keeps its promises and says the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simulator.motion import Drift, schedule_blur
from simulator.plan import Request
from simulator.run import Run
from simulator.scenarios import catalogue, find
from streamer.errors import SettingsError

SMALL = (96, 128)
NAMES = sorted(catalogue())


def build(name: str, *, frames: int | None = 4, seed: int = 3001, photons: float | None = None) -> Run:
    return find(name).build(Request(frames=frames, seed=seed, photons=photons, shape=SMALL))


def test_the_scenarios_of_the_paper_are_there() -> None:
    assert {"sun2025_txm", "sun2025_optical", "two_views", "still", "bad_frames", "first_frame_blurred"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_scenario_gives_frames_and_truth(name: str) -> None:
    run = build(name)
    frames = list(run.frames())
    assert len(frames) == len(run)
    for kind, suffix in (("projection", ""), ("flat", "/flat"), ("dark", "/dark")):
        group = [frame for frame in frames if frame.kind == kind]
        assert group, kind
        assert [frame.index for frame in group] == list(range(len(group)))
        assert {frame.acquisition for frame in group} == {name + suffix}
        assert {frame.expected for frame in group} == {len(group)}
    times = [frame.exposed_at for frame in frames]
    assert times == sorted(times)
    for frame in frames:
        assert frame.pixels.shape == SMALL
        assert frame.pixels.dtype == np.uint16
        assert not frame.pixels.flags.writeable
        assert frame.pixel_size_nm is not None
        assert frame.exposure_s is not None
    grid_y, grid_x = run.grid_px
    for position in run.projections:
        truth = run.truth(position)
        assert truth.displacement_px.shape == (2, grid_y.size, grid_x.size)
        assert truth.view == run.shots[position].view
    first = run.truth(run.projections[0])
    assert first.drift_px == (0, 0)
    assert np.abs(first.displacement_px).max() == 0


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_bytes_other_seed_other_bytes(name: str) -> None:
    one, two, other = build(name, seed=11), build(name, seed=11), build(name, seed=12)
    last = one.projections[-1]
    assert one.frame(last).pixels.tobytes() == two.frame(last).pixels.tobytes()
    assert one.frame(last).pixels.tobytes() != other.frame(last).pixels.tobytes()


def test_frames_do_not_depend_on_the_order_in_which_they_are_made() -> None:
    run = build("sun2025_txm")
    in_order = [frame.pixels.tobytes() for frame in run.frames()]
    assert [build("sun2025_txm").frame(position).pixels.tobytes() for position in (12, 5)] == [
        in_order[12], in_order[5]]


def test_sun2025_txm_is_the_experiment_of_the_paper() -> None:
    run = find("sun2025_txm").build(Request(seed=3002, shape=(654, 678)))
    truths = [run.truth(position) for position in run.projections]
    assert (len(truths), run.pixel_size_nm, run.exposure_s, run.photons) == (56, 33.24, 0.048, 500)
    assert truths[-1].drift_px[0] == pytest.approx(-187, abs=12)
    assert truths[-1].drift_px[1] == pytest.approx(89, abs=25)
    drift = np.array([truth.drift_px for truth in truths])
    step = np.diff(drift, 2, axis=0).std(axis=0) / math.sqrt(6)
    assert 1.2 < step[0] < 2.9
    assert 3.0 < step[1] < 7.0
    blurred = [number for number, truth in enumerate(truths) if truth.blurred]
    assert len(blurred) == 11
    assert min(blurred) >= 4
    assert sum(math.isnan(truths[number].blur_angle_deg) for number in blurred) == 1
    for number in blurred:
        truth = truths[number]
        if not math.isnan(truth.blur_angle_deg):
            assert 3 <= truth.blur_length_px <= 9
            assert abs(truth.blur_angle_deg) <= 8
    largest = np.hypot(*truths[-1].displacement_px).max()
    assert 2.0 < largest <= 3.1
    kinds = [shot.kind for shot in run.shots]
    assert kinds[:5] == ["dark"] * 5
    assert kinds[5:] == ["flat", "projection"] * 56


def test_sun2025_optical_has_five_plates() -> None:
    run = find("sun2025_optical").build(Request(seed=3003))
    assert (len(run.projections), run.shape, run.pixel_size_nm) == (1200, (180, 300), 560)
    regions = run.regions()
    assert regions is not None
    assert set(np.unique(regions)) == set(range(5))
    assert sum(run.truth(position).blurred for position in run.projections) == 6
    assert np.hypot(*run.truth(run.projections[-1]).displacement_px).max() > 2.5


def test_still_is_still() -> None:
    run = build("still", frames=6)
    for position in run.projections:
        truth = run.truth(position)
        assert truth.drift_px == (0, 0)
        assert not truth.blurred
        assert truth.usable
    clean = [run.transmission(run.shots[position]) for position in run.projections]
    assert all(np.array_equal(clean[0], picture) for picture in clean)


def test_two_views_have_their_own_drift_and_content() -> None:
    run = build("two_views", frames=20)
    truths = [run.truth(position) for position in run.projections]
    assert [truth.view for truth in truths[:4]] == ["left", "right", "left", "right"]
    left, right = (np.array([t.drift_px for t in truths if t.view == view]) for view in ("left", "right"))
    assert np.abs(left[0]).max() == np.abs(right[0]).max() == 0
    assert not np.allclose(left[1:], right[1:])
    pictures = [run.transmission(run.shots[position]) for position in run.projections[:2]]
    assert abs(np.corrcoef(pictures[0].ravel(), pictures[1].ravel())[0, 1]) < 0.7


def test_bad_frames_are_declared() -> None:
    run = build("bad_frames", frames=60)
    truths = [run.truth(position) for position in run.projections]
    by_condition = {truth.condition for truth in truths}
    assert by_condition == {"good", "dump", "empty", "saturated"}
    for position, truth in zip(run.projections, truths, strict=True):
        assert truth.usable == (truth.condition == "good")
        if truth.usable:
            continue
        assert not truth.blurred
        pixels = run.frame(position).pixels
        if truth.condition == "dump":
            assert np.median(pixels) < 1100
        elif truth.condition == "saturated":
            assert (pixels == 65_535).mean() > 0.2
        else:
            flat = run.frame(5).pixels
            assert abs(np.median(pixels / flat) - 1) < 0.05
    full = find("bad_frames").build(Request(seed=3004))
    drift = np.array([full.truth(position).drift_px for position in full.projections])
    assert np.hypot(*np.diff(drift, axis=0).T).max() == pytest.approx(100, abs=8)


def test_first_frame_blurred_says_so() -> None:
    truth = (run := build("first_frame_blurred")).truth(run.projections[0])
    assert truth.blurred
    assert truth.blur_length_px == pytest.approx(6)


def test_dose_is_the_one_asked_for() -> None:
    assert build("still", photons=77.0).photons == 77


def test_more_frames_than_usual_take_the_same_way() -> None:
    usual, longer = (build("sun2025_txm", frames=count, seed=5) for count in (56, 112))
    ends = [run.truth(run.projections[-1]).drift_px for run in (usual, longer)]
    assert ends[0][0] == pytest.approx(ends[1][0], abs=12)


def test_unknown_scenario_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match="'sun2025_txm'"):
        find("sun2025_tmx")


@pytest.mark.parametrize("count", [1, 3, 4, 5, 12, 200])
def test_blur_schedule_spares_the_first_frames(count: int) -> None:
    blurs = schedule_blur(count, share=0.2, rng=np.random.default_rng(count))
    assert all(4 <= frame < count for frame in blurs)
    assert len(blurs) == min(round(0.2 * count), max(count - 4, 0))


def test_path_begins_at_zero_and_ends_where_it_should() -> None:
    path = Drift(end_px=(-30.0, 12.0)).path(50, rng=np.random.default_rng(4))
    assert np.all(path[0] == 0)
    np.testing.assert_allclose(path[-1], (-30, 12), atol=1e-9)
