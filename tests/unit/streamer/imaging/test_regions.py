"""Regions that move as one: the right ones, the right number, the same colours from frame to frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from simulator.deformation import PlateDeformation
from streamer.errors import FrameError
from streamer.imaging import flow, particles, regions

SHAPE = (320, 360)


def plates(seed: int, *, count: int = 5, amplitude_px: float = 4.0, noise_px: float = 0.1, step: float = 8.0):
    """Make a noisy field of plates, and their numbers from 1 at its points."""
    deformation = PlateDeformation(SHAPE, amplitude_px=amplitude_px, rng=np.random.default_rng(seed), plates=count,
                                   seam_px=12.0)
    grid_y, grid_x = (np.arange(step / 2, length, step, dtype=np.float32) for length in SHAPE)
    y, x = np.meshgrid(grid_y.astype(float), grid_x.astype(float), indexing="ij")
    noise = noise_px * np.random.default_rng(seed + 1).standard_normal((2, *y.shape))
    field = flow.Field(grid_y, grid_x, (deformation.displacement(y, x, 1.0) + noise).astype(np.float32),
                       np.ones(y.shape, bool), np.full(y.shape, noise_px, np.float32))
    return field, deformation.regions(y, x) + 1


def as_particles(field: flow.Field, *, every: int = 3) -> particles.Motion:
    """Take every third point of a field for a particle."""
    y, x = (axis[::every, ::every].ravel() for axis in np.meshgrid(field.grid_y_px, field.grid_x_px, indexing="ij"))
    n, zero = len(y), np.zeros(len(y), np.float32)
    return particles.Motion(
        np.arange(1, n + 1, dtype=np.int32), np.stack([y, x]), zero + 100,
        field.displacement_px[:, ::every, ::every].reshape(2, -1),
        np.broadcast_to(field.sigma_px[::every, ::every].ravel(), (2, n)), zero, zero, zero, zero,
        field.valid[::every, ::every].ravel())


@pytest.mark.parametrize("count", [2, 3, 5, 7])
@pytest.mark.parametrize("seed", [7701, 7712])
def test_plates_of_a_field_are_found_and_counted(seed, count):
    field, truth = plates(seed, count=count)
    asked, chosen = regions.from_field(field, count=count), regions.from_field(field)
    assert chosen.count == count
    for found in (asked, chosen):
        assert found.label.shape == truth.shape
        assert set(np.unique(found.label)) == set(range(1, found.count + 1))
        assert regions.adjusted_rand_index(found.label, truth) >= 0.95


@pytest.mark.parametrize("seed", [7723, 7734])
def test_plates_of_particles_are_found(seed):
    field, truth = plates(seed)
    found = regions.from_particles(as_particles(field), count=5)
    assert regions.adjusted_rand_index(found.label, truth[::3, ::3].ravel()) >= 0.9


def test_motion_of_a_region_is_that_of_its_points():
    field, _ = plates(7701)
    found = regions.from_field(field)
    for number in range(1, found.count + 1):
        mean = field.displacement_px[:, found.label == number].mean(axis=1)
        assert found.displacement_px[:, number - 1] == pytest.approx(mean, abs=0.25)
    sizes = np.bincount(found.label.ravel())[1:]
    assert list(sizes) == sorted(sizes, reverse=True)


def test_a_turning_region_is_one_and_its_turn_is_told():
    field, _ = plates(7745, amplitude_px=0.001)
    y, x = np.meshgrid(field.grid_y_px, field.grid_x_px, indexing="ij")
    turn = np.radians(0.3)
    turning = field._replace(displacement_px=field.displacement_px + np.stack([turn * x, -turn * y]))
    found = regions.from_field(turning, count=1)
    assert found.rotation_deg == pytest.approx([0.3], abs=0.01)
    assert found.label.min() == found.label.max() == 1


@pytest.mark.parametrize("noise_px", [0.02, 0.1, 0.3])
def test_noise_alone_is_one_region(noise_px):
    field, _ = plates(7756, amplitude_px=1e-6, noise_px=noise_px)
    assert regions.from_field(field).count == 1


def test_invalid_points_belong_nowhere():
    field, truth = plates(7767)
    valid = field.valid.copy()
    valid[:, 20] = False
    spoilt = np.where(valid, field.displacement_px, np.float32(np.nan))
    found = regions.from_field(field._replace(valid=valid, displacement_px=spoilt), count=5)
    assert np.array_equal(found.label == 0, ~valid)
    assert regions.adjusted_rand_index(found.label, truth) > 0.9
    inside = np.zeros_like(valid)
    inside[:20] = True
    assert np.array_equal(regions.from_field(field, count=3, mask=inside).label > 0, inside)


def test_no_valid_point_no_region_and_a_reason():
    field, _ = plates(7701)
    found = regions.from_field(field._replace(valid=np.zeros_like(field.valid)))
    assert (found.count, found.label.any()) == (0, False)
    assert "no valid point" in found.reason


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_few_points_are_enough(number):
    place = np.array([[0.0, 0.0, 50.0], [0.0, 60.0, 90.0]], np.float32)[:, :number]
    found = regions.group(place, np.zeros_like(place), np.full(number, 0.1, np.float32))
    assert found.count == 1
    assert np.array_equal(found.label, np.ones(number))


def test_points_on_a_line_and_islands_are_grouped():
    x = np.concatenate([np.arange(0, 80, 8), np.arange(200, 280, 8)]).astype(np.float32)
    place = np.stack([np.zeros_like(x), x])
    way = np.stack([np.zeros_like(x), np.where(x > 150, 2.0, -2.0)]).astype(np.float32)
    found = regions.group(place, way, np.full(len(x), 0.05, np.float32))
    assert found.count == 2
    assert regions.adjusted_rand_index(found.label, 1 + (x > 150)) == 1


def test_colours_stay_from_frame_to_frame():
    before = np.array([[1, 1, 2, 2], [3, 3, 2, 2]], np.int32)
    now = np.array([[2, 2, 3, 3], [1, 1, 3, 4]], np.int32)
    assert np.array_equal(regions.matched(now, before), [[1, 1, 2, 2], [3, 3, 2, 4]])
    assert np.array_equal(regions.matched(before, before), before)
    assert np.array_equal(regions.matched(now, np.zeros_like(now)), now)


@settings(max_examples=60, deadline=None)
@given(before=hnp.arrays(np.int32, 30, elements=st.integers(0, 5)),
       now=hnp.arrays(np.int32, 30, elements=st.integers(0, 5)))
def test_renumbering_changes_no_region(before, now):
    same = regions.matched(now, before)
    assert np.array_equal(same == 0, now == 0)
    pairs = set(zip(now.tolist(), same.tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


@settings(max_examples=60, deadline=None)
@given(first=hnp.arrays(np.int32, 40, elements=st.integers(1, 4)),
       second=hnp.arrays(np.int32, 40, elements=st.integers(1, 4)), seed=st.integers(0, 1000))
def test_the_rand_index_is_symmetric_and_knows_no_names(first, second, seed):
    value = regions.adjusted_rand_index(first, second)
    assert value == pytest.approx(regions.adjusted_rand_index(second, first), abs=1e-12)
    name = np.random.default_rng(seed).permutation(4) + 10
    assert value == pytest.approx(regions.adjusted_rand_index(name[first - 1], second), abs=1e-12)
    assert -0.6 < value <= 1
    assert regions.adjusted_rand_index(first, first) == 1


def test_the_rand_index_of_a_known_example():
    first = np.array([1, 1, 1, 2, 2, 2])
    assert regions.adjusted_rand_index(first, np.array([1, 1, 2, 2, 3, 3])) == pytest.approx(0.2424242424)
    # zero is no region
    assert regions.adjusted_rand_index(np.append(first, 0), np.array([1, 1, 2, 2, 3, 3, 3])) == pytest.approx(
        0.2424242424)
    assert abs(np.mean([regions.adjusted_rand_index(*np.random.default_rng(seed).integers(1, 5, (2, 200)))
                        for seed in range(50)])) < 0.01


@pytest.mark.parametrize("call", [
    lambda field: regions.from_field(field, count=0),
    lambda field: regions.from_field(field, count=10**6),
    lambda field: regions.from_field(field, mask=np.ones((3, 3), bool)),
    lambda field: regions.group(np.zeros((2, 4)), np.zeros((2, 5)), np.zeros(4)),
    lambda field: regions.group(np.zeros((2, 4)), np.zeros((2, 4)), np.zeros(5)),
    lambda field: regions.matched(np.ones(4, np.int32), np.ones(5, np.int32)),
    lambda field: regions.adjusted_rand_index(np.ones(4), np.ones(5)),
])
def test_bad_input_is_refused(call):
    with pytest.raises(FrameError, match="regions: "):
        call(plates(7701)[0])
