"""Histograms, compass, summaries, comparisons and the representative volume of fields that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from support import flow_scenes

from streamer.errors import FrameError
from streamer.imaging import comparison, deformation, flow, regions
from streamer.imaging.representative_volume import representative_volume
from streamer.imaging.strain import strain
from streamer.records import FlowResult

DOWN_RIGHT = {"+x": ((0, 1), 0.0), "up": ((-1, 0), 90.0), "-x": ((0, -1), 180.0), "down": ((1, 0), 270.0),
              "up right": ((-1, 1), 45.0)}


def field_of(displacement, *, sigma_px=0.05, step=8.0, first=(4.0, 4.0), valid=None) -> flow.Field:
    shape = np.shape(displacement)[1:]
    axes = (np.float32(start) + np.float32(step) * np.arange(length, dtype=np.float32)
            for start, length in zip(first, shape, strict=True))
    return flow.Field(*axes, np.asarray(displacement, np.float32), np.ones(shape, bool) if valid is None else valid,
                      np.full(shape, sigma_px, np.float32))


def random_field(seed: int, shape=(30, 40), **options) -> flow.Field:
    rng = np.random.default_rng(seed)
    return field_of([ndimage.gaussian_filter(rng.standard_normal(shape), 2.0) * 8 for _ in range(2)], **options)


def even(way, shape=(12, 15), **options) -> flow.Field:
    return field_of(np.broadcast_to(np.reshape(way, (2, 1, 1)), (2, *shape)), **options)


NOTHING = even((0, 0), valid=np.zeros((12, 15), bool))


@pytest.mark.parametrize(("way", "angle_deg"), DOWN_RIGHT.values(), ids=DOWN_RIGHT)
def test_directions_are_those_of_the_screen(way, angle_deg):
    found = deformation.directions(even(way))
    assert found.mean == pytest.approx(angle_deg, abs=1e-4) or found.mean == pytest.approx(angle_deg + 360, abs=1e-4)
    assert found.deviation == pytest.approx(0, abs=0.05)
    wind = deformation.compass(even(way), sectors=8)
    assert wind.counts[round(angle_deg / 45)] == 12 * 15
    assert wind.magnitude_px[round(angle_deg / 45)] == pytest.approx(np.hypot(*way))
    assert wind.resultant_px == pytest.approx(np.hypot(*way))
    assert wind.resultant_deg == pytest.approx(angle_deg, abs=1e-4)
    assert wind.concentration == pytest.approx(1)


@settings(max_examples=30, deadline=None)
@given(turns=st.integers(0, 7), seed=st.integers(0, 50))
def test_turning_the_field_turns_the_compass(turns, seed):
    field = random_field(seed)
    before = deformation.compass(field, sectors=8)
    angle = np.radians(45 * turns)
    down, right = field.displacement_px
    turned = field._replace(displacement_px=np.stack([
        down * np.cos(angle) - right * np.sin(angle), right * np.cos(angle) + down * np.sin(angle)]))
    after = deformation.compass(turned, sectors=8)
    assert np.abs(np.roll(before.counts, turns) - after.counts).sum() <= 4   # rounding at the edges of sectors
    assert after.resultant_px == pytest.approx(before.resultant_px, rel=1e-3)
    assert after.undirected == before.undirected


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 50), factor=st.floats(0.1, 50), order=st.integers(0, 100))
def test_histograms_know_neither_order_nor_unit(seed, factor, order):
    field = random_field(seed)
    plain = deformation.amplitudes(field, bins=16)
    assert plain.counts.sum() == field.valid.sum()
    scaled = deformation.amplitudes(field._replace(displacement_px=field.displacement_px * np.float32(factor)), bins=16)
    assert scaled.mean == pytest.approx(plain.mean * factor, rel=1e-4)
    assert np.abs(scaled.counts - plain.counts).sum() <= 4
    mixed = field.displacement_px.reshape(2, -1)[:, np.random.default_rng(order).permutation(field.valid.size)]
    again = deformation.amplitudes(field._replace(displacement_px=mixed.reshape(2, *field.valid.shape)), bins=16)
    assert np.array_equal(again.counts, plain.counts)


def test_points_shorter_than_their_error_have_no_direction():
    way = np.zeros((2, 10, 10))
    way[1, :, 5:] = 1.0
    way[0, :, :5] = 0.1
    field = field_of(way, sigma_px=0.1)
    wind = deformation.compass(field)
    assert wind.undirected == 50
    assert wind.counts.sum() == wind.counts[0] == 50
    assert deformation.directions(field, shortest=0.5).counts.sum() == 100
    assert deformation.compass(even((0, 0))).undirected == 180


def test_a_mask_chooses_the_points():
    field = random_field(3)
    mask = np.zeros(field.valid.shape, bool)
    mask[5:9, 7:20] = True
    inside = field._replace(valid=mask)
    for function in (deformation.amplitudes, deformation.directions, deformation.compass, deformation.summary):
        one, other = function(field, mask=mask), function(inside)
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))
    assert deformation.summary(field, mask=mask).points == 4 * 13


def test_summary_of_a_known_field():
    found = deformation.summary(even((0.3, -0.4), sigma_px=0.1))
    assert found.mean_px == pytest.approx([0.3, -0.4])
    assert (found.median_magnitude_px, found.p95_magnitude_px, found.rms_magnitude_px) == pytest.approx((0.5,) * 3)
    assert found.rms_sigma_px == pytest.approx(0.1 * np.sqrt(2))


def test_without_valid_points_nothing_is_said():
    assert deformation.amplitudes(NOTHING).counts.sum() == deformation.directions(NOTHING).counts.sum() == 0
    assert np.isnan(deformation.amplitudes(NOTHING).mean)
    assert np.isnan(deformation.directions(NOTHING).mean)
    wind = deformation.compass(NOTHING)
    assert np.isnan(wind.resultant_px)
    assert np.isnan(wind.magnitude_px).all()
    assert wind.concentration == 0
    assert deformation.summary(NOTHING).points == 0
    study = representative_volume(NOTHING)
    assert np.isnan(study.amplitude_deviation_px).all()
    assert np.isnan(study.amplitude_settled_px)


def test_a_plane_is_read_at_the_grid():
    plane = np.arange(100 * 130).reshape(100, 130)
    read = deformation.at_grid(plane, even((0, 0)))
    assert read.shape == (12, 15)
    assert read[2, 3] == plane[20, 28]


@pytest.mark.parametrize("drift_px", [(0.0, 0.0), (4.0, -7.0), (2.4, 1.7)])
def test_the_differential_map_of_what_only_drifts_is_noise(drift_px):
    pair = flow_scenes.pair(seed=7811, dose=1e5, drift_px=drift_px)
    found = comparison.differential_map(pair.reference, pair.frame * np.float32(1.7), drift_px=drift_px)
    assert found.dtype == np.float32
    seen = np.isfinite(found)
    assert seen.mean() > 0.9
    assert np.std(found[seen]) < 0.012
    wrong = comparison.differential_map(pair.reference, pair.frame, drift_px=(drift_px[0] + 1, drift_px[1]))
    assert np.nanstd(wrong) > 3 * np.std(found[seen])


def test_material_that_came_shows_dark_where_it_is():
    reference = np.ones((60, 80), np.float32)
    frame = reference.copy()
    frame[20:30, 40:50] = 0.5
    found = comparison.differential_map(reference, frame, drift_px=(0.0, 0.0))
    assert found[25, 45] == pytest.approx(-0.5)
    assert np.abs(found[:15]).max() < 1e-6


def test_overlay_puts_both_on_one_grid():
    def wave(y, x):
        return np.stack([0.02 * y - 0.01 * x, 0.005 * x])

    first = field_of(wave(*np.meshgrid(4 + 8.0 * np.arange(20), 4 + 8.0 * np.arange(25), indexing="ij")))
    second = field_of(wave(*np.meshgrid(2 + 5.0 * np.arange(30), 2 + 5.0 * np.arange(40), indexing="ij")) + 1,
                      step=5.0, first=(2.0, 2.0), sigma_px=0.12)
    found = comparison.overlay(first, second)
    assert found.difference_px[:, found.valid] == pytest.approx(1.0, abs=1e-3)
    assert found.sigma_px[found.valid] == pytest.approx(np.hypot(0.05, 0.12), abs=1e-4)
    assert found.valid[:18].all()
    assert not found.valid[19].any()   # beyond the second field
    assert not found.difference_px[:, ~found.valid].any()
    same = comparison.overlay(first, first)
    assert same.valid.all()
    assert np.abs(same.difference_px).max() < 1e-5


def test_overlay_leaves_out_what_either_does_not_know():
    first, second = random_field(1), random_field(2)
    hole = second.valid.copy()
    hole[10:15, 10:20] = False
    spoilt = np.where(hole, second.displacement_px, np.float32(1e6))
    found = comparison.overlay(first, second._replace(valid=hole, displacement_px=spoilt))
    assert np.array_equal(found.valid, hole)
    assert np.abs(found.second_px).max() < 100


def test_two_sessions_are_told_apart_and_one_is_not():
    rng = np.random.default_rng(7822)
    first, second = rng.rayleigh(0.5, 800), rng.rayleigh(0.8, 500)
    found = comparison.compare(first, second)
    assert found.p_value < 1e-6
    assert found.first.sum() == pytest.approx(1)
    assert found.second.sum() == pytest.approx(1)
    assert found.first_interval_px[0] < found.first_median_px < found.first_interval_px[1]
    assert found.first_interval_px[1] < found.second_interval_px[0]
    same = comparison.compare(first[:400], first[400:])
    assert same.p_value > 0.01
    assert same.first_interval_px[1] > same.second_interval_px[0]
    assert comparison.compare(first, second) [3:] == found[3:]   # the same seed, the same interval


def test_the_interval_of_a_median_holds_it_as_often_as_it_says():
    truth = 0.5 * np.sqrt(2 * np.log(2))
    inside = 0
    for seed in range(60):
        sample = np.random.default_rng(seed).rayleigh(0.5, 200)
        low, high = comparison.compare(sample, sample, resamples=300).first_interval_px
        inside += low <= truth <= high
    assert 50 <= inside <= 60


def test_boxes_settle_at_the_size_of_what_varies():
    fine, coarse = (representative_volume(field_of(
        [1 + ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((80, 80)), scale) * 2.5 * scale
         for seed in (1, 2)])) for scale in (1.0, 6.0))
    assert fine.amplitude_settled_px < coarse.amplitude_settled_px
    assert fine.direction_settled_px < coarse.direction_settled_px
    assert fine.amplitude_deviation_px[0] > 3 * fine.amplitude_deviation_px[9]
    assert len(fine.size_px) == len(fine.direction_deviation_deg) == 19


def test_boxes_of_an_even_field_do_not_deviate():
    study = representative_volume(even((0.6, 0.8), shape=(40, 50)))
    assert np.abs(study.amplitude_deviation_px).max() < 1e-6
    assert np.abs(study.direction_deviation_deg).max() < 0.1
    assert study.amplitude_settled_px == study.direction_settled_px == study.size_px[0]
    assert study.mean_amplitude_px == pytest.approx(1.0)


def test_boxes_mostly_outside_the_mask_do_not_count():
    field = random_field(5, shape=(40, 40))
    mask = np.zeros((40, 40), bool)
    mask[:10, :10] = True
    study = representative_volume(field, mask=mask)
    assert np.isfinite(study.amplitude_deviation_px[0])
    assert np.isnan(study.amplitude_deviation_px[-1])
    assert np.isnan(study.amplitude_settled_px)


def test_a_result_may_take_the_place_of_a_field():
    field = random_field(8)
    result = FlowResult(index=1, acquisition="a", view="main", reference_index=0, drift_y_px=0.0, drift_x_px=0.0,
                        **field._asdict())
    for function in (deformation.summary, deformation.compass, representative_volume, strain):
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(function(field), function(result), strict=True))
    assert np.array_equal(regions.from_field(field).label, regions.from_field(result).label)


FIELD = random_field(9)


@pytest.mark.parametrize("call", [
    lambda: deformation.amplitudes(FIELD, mask=np.ones((3, 3), bool)),
    lambda: deformation.amplitudes(FIELD, bins=0),
    lambda: deformation.amplitudes(FIELD, bins=[1.0, 0.5]),
    lambda: deformation.directions(FIELD, bins=0),
    lambda: deformation.compass(FIELD, sectors=0),
    lambda: deformation.at_grid(np.ones((20, 20)), FIELD),
    lambda: comparison.differential_map(np.ones((40, 40)), np.ones((40, 41)), drift_px=(0, 0)),
    lambda: comparison.differential_map(np.ones((40, 40)), np.ones((40, 40)), drift_px=(np.inf, 0)),
    lambda: comparison.differential_map(np.zeros((40, 40)), np.ones((40, 40)), drift_px=(0, 0)),
    lambda: comparison.differential_map(np.ones((40, 40)), np.ones((40, 40)), drift_px=(100, 0)),
    lambda: comparison.compare(np.array([]), np.ones(3)),
    lambda: comparison.compare(np.array([np.nan]), np.ones(3)),
    lambda: representative_volume(even((0, 0), shape=(2, 9))),
    lambda: representative_volume(FIELD, mask=np.ones((2, 2), bool)),
    lambda: representative_volume(FIELD, sizes_px=np.array([10.0, 5.0], np.float32)),
])
def test_bad_input_is_refused(call):
    with pytest.raises(FrameError):
        call()
