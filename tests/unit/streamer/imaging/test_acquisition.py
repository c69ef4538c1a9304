"""The coarse shift: found from nothing, judged by what really overlaps."""

import math

import numpy as np
import pytest
from scipy import ndimage
from support import motion_scenes

from streamer.imaging import acquisition


def texture(seed, size=512, sigma=3.0):
    noise = np.random.default_rng(seed).standard_normal((size, size))
    image = ndimage.gaussian_filter(noise, sigma, mode="wrap")
    return (0.2 * image / image.std()).astype(np.float32)


def window(canvas, dy, dx, shape=(160, 176)):
    """Content moves by (dy, dx)."""
    top, left = 150 - dy, 150 - dx
    return canvas[top:top + shape[0], left:left + shape[1]]


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-41, 17), (0, 77), (-80, -70)])
def test_the_best_candidate_is_the_true_shift(shift):
    canvas = texture(11)
    fixed, moved = (acquisition.coarsen(window(canvas, *d), None) for d in ((0, 0), shift))
    best = acquisition.candidates(fixed, moved, min_overlap=0.12)[0]
    assert math.hypot(best.dy - shift[0], best.dx - shift[1]) < 1.0
    assert best.correlation > 0.9
    assert best.overlap == pytest.approx((160 - abs(shift[0])) * (176 - abs(shift[1])) / (160 * 176), abs=0.02)


@pytest.mark.parametrize(("strength", "place"), [(0.4, 0), (0.8, 1)])
def test_a_pattern_that_stays_does_not_hide_the_sample_that_moves(strength, place):
    canvas, pattern = texture(12), window(texture(13, sigma=1.0), 0, 0)
    fixed = acquisition.coarsen(window(canvas, 0, 0) + strength * pattern, None)
    moved = acquisition.coarsen(window(canvas, -25, 14) + strength * pattern, None)
    found = acquisition.candidates(fixed, moved, min_overlap=0.12)[place]
    assert math.hypot(found.dy + 25, found.dx - 14) < 1.0
    assert found.score > 0.1


def test_a_larger_share_of_the_frame_counts_more_than_a_perfect_corner():
    """One of many equal particles fits any other; the arrangement of all fits only once."""
    rng = np.random.default_rng(14)
    image = np.zeros((160, 176), np.float32)
    for y, x in rng.uniform(15, 145, (6, 2)):
        image += np.exp(-((np.arange(160)[:, None] - y) ** 2 + (np.arange(176)[None, :] - x) ** 2) / 18)
    moved = np.roll(image, (4, 6), (0, 1)) + 0.05 * rng.standard_normal(image.shape).astype(np.float32)
    best = acquisition.candidates(acquisition.coarsen(image, None), acquisition.coarsen(moved, None),
                                  min_overlap=0.12)[0]
    assert math.hypot(best.dy - 4, best.dx - 6) < 1.0


def test_shifts_with_too_little_overlap_are_not_offered():
    canvas = texture(15)
    fixed, moved = acquisition.coarsen(window(canvas, 0, 0), None), acquisition.coarsen(window(canvas, 100, 0), None)
    found = acquisition.candidates(fixed, moved, min_overlap=0.5)
    assert all(candidate.overlap >= 0.5 for candidate in found)
    assert acquisition.judge(fixed, moved, 100, 0, min_overlap=0.5) is None


def test_frames_without_structure_have_no_candidates():
    blank = acquisition.coarsen(np.zeros((160, 176), np.float32), None)
    other = acquisition.coarsen(window(texture(16), 0, 0), None)
    assert acquisition.candidates(blank, other, min_overlap=0.12) == []
    assert acquisition.candidates(other, blank, min_overlap=0.12) == []


def test_unrelated_frames_score_below_zero():
    scores = []
    for seed in range(20, 26):
        fixed, moved = (acquisition.coarsen(window(texture(10 * seed + part), 0, 0), None) for part in (0, 1))
        scores += [candidate.score for candidate in acquisition.candidates(fixed, moved, min_overlap=0.12)]
    assert max(scores) < 0.15


def test_a_lattice_has_a_rival_and_a_specimen_has_none():
    y, x = np.mgrid[:160, :176]
    lattice = (0.2 * np.cos(2 * np.pi * y / 20) * np.cos(2 * np.pi * x / 20)).astype(np.float32)
    fixed, moved = (acquisition.coarsen(np.roll(lattice, d, 0), None) for d in (0, 3))
    ranked = acquisition.candidates(fixed, moved, min_overlap=0.12)
    assert acquisition.rival(fixed, moved, ranked, min_overlap=0.12) is not None
    canvas = motion_scenes.specimen(17, size=512, grains=70)
    fixed, moved = (acquisition.coarsen(window(canvas, d, 0) - 1, None) for d in (0, 30))
    ranked = acquisition.candidates(fixed, moved, min_overlap=0.12)
    assert acquisition.rival(fixed, moved, ranked, min_overlap=0.12) is None


@pytest.mark.parametrize(("shape", "binning"), [((64, 64), 1), ((160, 900), 1), ((654, 678), 4), ((2048, 2048), 12)])
def test_the_binned_frame_has_about_the_same_size_for_every_detector(shape, binning):
    assert acquisition.binning_for(shape) == binning
    frame = acquisition.coarsen(np.zeros(shape, np.float32), None)
    assert frame.image.shape == (shape[0] // binning, shape[1] // binning)
    assert frame.image.dtype == np.float32
    assert frame.spectrum.dtype == np.complex64
