"""Particles are found where there are some, cut where they touch, and not made up where there are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from streamer.errors import FrameError
from streamer.imaging import segmentation

SHAPE = (120, 160)


def discs(centres, radius_px=12.0, *, dose=500.0, bright=False, seed=7501):
    """Balls that absorb, or discs that shine, on an even ground."""
    y, x = np.indices(SHAPE, dtype=float)
    height = np.zeros(SHAPE)
    for cy, cx in centres:
        height = np.maximum(height, np.clip(1 - ((y - cy) ** 2 + (x - cx) ** 2) / radius_px**2, 0, None) ** 0.5)
    image = ndimage.gaussian_filter(0.3 + 0.5 * height if bright else np.exp(-0.6 * height), 1.0)
    return np.random.default_rng(seed).poisson(dose * image) / dose


APART = [(30, 30), (40, 80), (80, 60), (95, 120)]


@pytest.mark.parametrize("bright", [False, True])
@pytest.mark.parametrize("dose", [100.0, 500.0, 1e5])
def test_particles_apart_are_found_where_they_are(dose, bright):
    found = segmentation.segment(discs(APART, dose=dose, bright=bright), bright=bright)
    assert (found.count, found.reason) == (4, "")
    assert found.labels.dtype == np.int32
    centres = ndimage.center_of_mass(found.labels > 0, found.labels, range(1, 5))
    assert np.allclose(sorted(centres), APART, atol=1.0)
    area = np.bincount(found.labels.ravel())[1:]
    assert np.all((area > 0.6 * np.pi * 12**2) & (area < 1.2 * np.pi * 12**2))


@pytest.mark.parametrize("gap_px", [18.0, 21.0, 24.0])
def test_touching_particles_are_cut(gap_px):
    found = segmentation.segment(discs([(60, 60), (60, 60 + gap_px)]))
    assert found.count == 2
    centres = ndimage.center_of_mass(found.labels > 0, found.labels, (1, 2))
    assert np.allclose(sorted(centres, key=lambda centre: centre[1]), [(60, 60), (60, 60 + gap_px)], atol=2.5)


def test_numbers_go_from_the_top_left_and_no_particle_is_cut_in_two():
    found = segmentation.segment(discs(APART))
    first = [np.flatnonzero(found.labels.ravel() == number)[0] for number in range(1, 5)]
    assert first == sorted(first)
    assert all(ndimage.label(found.labels == number)[1] == 1 for number in range(1, 5))


RNG = np.random.default_rng(7502)


@pytest.mark.parametrize(("image", "text"), [
    (np.ones(SHAPE), "constant"),
    (np.zeros(SHAPE), "no light"),
    (np.full(SHAPE, np.nan), "no light"),
    (RNG.poisson(500, SHAPE), "times the noise"),
    (RNG.poisson(3, SHAPE), "times the noise"),
    (np.linspace(1, 2, SHAPE[1]) * np.ones(SHAPE), "uneven light"),
    (RNG.poisson(np.linspace(300, 600, SHAPE[1]) * np.ones(SHAPE)), "uneven light"),
], ids=["constant", "dark", "nothing finite", "open beam", "few photons", "slope", "noisy slope"])
def test_without_particles_a_reason_is_given(image, text):
    found = segmentation.segment(image)
    assert found.count == 0
    assert not found.labels.any()
    assert text in found.reason


def test_only_small_particles_give_a_reason():
    found = segmentation.segment(discs(APART), least_area_px2=5000)
    assert found.count == 0
    assert "5000" in found.reason


@pytest.mark.parametrize("call", [
    lambda: segmentation.segment(np.ones((4, 4))),
    lambda: segmentation.segment(np.ones((64, 64, 3))),
    lambda: segmentation.segment(np.ones((64, 64)), weight=np.ones((64, 65))),
    lambda: segmentation.segment(np.ones((64, 64)), least_area_px2=0),
    lambda: segmentation.cells(np.ones((64, 64), np.int32), size_px=0),
])
def test_bad_input_is_refused(call):
    with pytest.raises(FrameError, match="particles: "):
        call()


def test_unusable_pixels_are_in_no_particle():
    image = discs(APART)
    image[30:50, 70:90] = np.nan
    weight = np.ones(SHAPE)
    weight[85:105, 110:130] = 0
    found = segmentation.segment(image, weight=weight)
    assert not found.labels[30:50, 70:90].any()
    assert not found.labels[85:105, 110:130].any()
    assert found.labels[30, 30]
    assert found.labels[80, 60]


@settings(max_examples=12, deadline=None)
@given(factor=st.floats(1e-3, 1e5), dtype=st.sampled_from(["float32", "float64"]))
def test_a_common_factor_changes_nothing(factor, dtype):
    image = discs(APART)
    same = segmentation.segment((image * factor).astype(dtype))
    assert np.mean(same.labels == segmentation.segment(image).labels) > 0.999


def test_cells_stay_within_their_particle_and_about_their_size():
    labels = np.zeros((200, 200), np.int32)
    labels[10:110, 10:110], labels[120:140, 20:40], labels[120:190, 100:104] = 1, 2, 3
    cells = segmentation.cells(labels, size_px=25)
    assert np.array_equal(cells > 0, labels > 0)
    parents = {number: np.unique(labels[cells == number]) for number in range(1, cells.max() + 1)}
    assert all(len(parent) == 1 for parent in parents.values())
    count = np.bincount([int(parent[0]) for parent in parents.values()])
    assert 12 <= count[1] <= 25
    assert count[2] == count[3] == 1
    area = np.bincount(cells.ravel())[1:]
    assert area.max() <= 2 * 25**2
