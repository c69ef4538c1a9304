"""The drift of a view: from its first usable frame, over many key frames, through bad ones and jumps."""

import math

import cv2
import numpy as np
import pytest
import tifffile
from support import motion_scenes

from streamer.errors import CommandError, FrameError
from streamer.settings import DriftSettings
from streamer.tracking import drift as drifting
from streamer.tracking.drift import Drift, measure

SHAPE = (327, 339)


class Movie:
    """Frames of one specimen at known places."""

    def __init__(self, seed, *, size=700, photons=400.0, pattern=1.0):
        self.rng = np.random.default_rng(seed)
        canvas = motion_scenes.specimen(seed, size=size, grains=size * size // 4000)
        self.scene = motion_scenes.Scene(canvas, shape=SHAPE, photons=photons, pattern_strength=pattern, seed=seed)
        self.flat = self.scene.mean_flat(self.rng)

    def frame(self, place, **changes):
        return self.scene.corrected((float(place[0]), float(place[1])), self.rng, flat=self.flat, **changes)


def feed(track, index, image, *, view="", verdict="sharp", weight=None):
    found = measure(image, track.target(view), settings=track.settings, weight=weight)
    return track.update(view, ("a", index), image, found, verdict=verdict, weight=weight)


def off(result, place):
    return math.hypot(result.drift_y_px - place[0], result.drift_x_px - place[1])


@pytest.fixture
def track():
    return Drift(DriftSettings())


@pytest.fixture(scope="module")
def specimen():
    return Movie(201)


@pytest.fixture
def movie(specimen):
    specimen.rng = np.random.default_rng(202)   # every test has its own photons, whichever tests run before it
    return specimen


def test_the_first_frame_is_the_origin(track, movie):
    assert track.reference("") is None
    result = feed(track, 7, movie.frame((0, 0)))
    assert (result.drift_y_px, result.drift_x_px, result.drift_sigma_px) == (0.0, 0.0, 0.0)
    assert result.reference_index == 7
    assert result.trend_y_px is None
    assert result.jitter_x_px is None
    assert track.reference("")[0] == 7


def test_a_long_way_is_followed_without_adding_up_errors(track):
    movie = Movie(202, size=900)
    path = np.cumsum(np.random.default_rng(9).normal((-4.5, 3.0), (1.0, 2.0), (50, 2)), axis=0)
    path -= path[0]
    results = [feed(track, index, movie.frame(place)) for index, place in enumerate(path)]
    wrong = np.array([off(result, place) for result, place in zip(results, path, strict=True)])
    assert len({result.reference_index for result in results}) > 4
    assert np.median(wrong) < 0.06
    assert wrong.max() < 0.2
    share = [abs(value) < result.drift_sigma_px for result, place in zip(results[1:], path[1:], strict=True)
             for value in (result.drift_y_px - place[0], result.drift_x_px - place[1])]
    assert 0.4 < np.mean(share) < 0.95   # few keys, so few independent errors
    assert results[-1].trend_y_px + results[-1].jitter_y_px == pytest.approx(results[-1].drift_y_px)


def test_to_and_fro_needs_no_more_keys_than_the_way_is_long(track, movie):
    way = [(10.0 * step, 4.0 * step) for step in range(16)]
    rounds = [way, way[::-1], way, way[::-1]]
    used = []
    for number, places in enumerate(rounds):
        results = [feed(track, 100 * number + index, movie.frame(place)) for index, place in enumerate(places)]
        assert max(off(result, place) for result, place in zip(results, places, strict=True)) < 0.3
        used.append({result.reference_index for result in results})
    assert used[2] | used[3] <= used[0] | used[1]


def test_a_bad_frame_has_no_drift_and_changes_nothing(track, movie):
    feed(track, 0, movie.frame((0, 0)))
    before = track.target("")
    result = feed(track, 1, np.zeros(SHAPE, np.float32), verdict="bad")
    assert result.drift_y_px is None
    assert result.problems
    assert track.target("") is before
    assert off(feed(track, 2, movie.frame((3, 4))), (3, 4)) < 0.1


def test_a_bad_first_frame_is_not_the_origin(track, movie):
    feed(track, 0, np.zeros(SHAPE, np.float32), verdict="bad")
    assert track.reference("") is None
    feed(track, 1, movie.frame((5, 5)))
    assert off(feed(track, 2, movie.frame((8, 9))), (3, 4)) < 0.1


def test_an_empty_first_frame_is_not_the_origin(track, movie):
    empty = np.random.default_rng(5).poisson(100.0, SHAPE).astype(np.float32)
    result = feed(track, 0, empty)
    assert result.drift_y_px is None
    assert result.problems
    assert track.reference("") is None
    assert feed(track, 1, movie.frame((0, 0))).drift_y_px == 0.0


def test_a_blurred_origin_is_replaced_as_key_but_stays_the_origin(track, movie):
    feed(track, 0, movie.frame((0, 0), blur_px=8.0), verdict="blurred")
    first = feed(track, 1, movie.frame((2, 3)))
    assert first.reference_index == 0
    second = feed(track, 2, movie.frame((4, -3)))
    assert second.reference_index == 1
    assert off(second, (4, -3)) < 0.15
    assert track.reference("")[0] == 0


def test_a_blurred_frame_is_measured_and_never_becomes_a_key(track, movie):
    feed(track, 0, movie.frame((0, 0)))
    version = track.target("").version
    result = feed(track, 1, movie.frame((60, 0), blur_px=6.0), verdict="blurred")
    assert off(result, (60, 0)) < 0.15
    assert track.target("").version == version
    assert feed(track, 2, movie.frame((61, 1))).reference_index == 0
    assert track.target("").version != version


@pytest.mark.parametrize("seed", range(205, 209))
def test_a_sample_that_turns_is_followed_over_several_keys(track, movie, seed):
    movie.rng = np.random.default_rng(seed)
    for index in range(16):
        place, angle = (-9.0 * index, 7.0 * index), 0.06 * index
        result = feed(track, index, movie.frame(place, rotation_deg=angle))
        assert off(result, place) < 0.15
        if result.rotation_deg is not None:   # small frames and a chain of keys: to a twentieth of a degree
            assert result.rotation_deg == pytest.approx(angle, abs=0.06)
    assert result.reference_index > 3


def test_a_jump_is_followed(track, movie):
    for index in range(5):
        feed(track, index, movie.frame((index, 0)))
    result = feed(track, 5, movie.frame((108, -20)))
    assert off(result, (108, -20)) < 0.1
    assert result.jump_px == pytest.approx(math.hypot(104, 20), abs=0.2)
    assert off(feed(track, 6, movie.frame((109, -21))), (109, -21)) < 0.1


def test_lost_is_said_and_the_way_back_is_found_by_an_older_key(track, movie):
    place = np.zeros(2)
    for index in range(8):
        place = np.array([0.0, 14.0 * index])
        feed(track, index, movie.frame(place))
    elsewhere = Movie(203)
    results = [feed(track, 10 + index, elsewhere.frame((0, 0))) for index in range(3)]
    assert [result.lost for result in results] == [False, False, True]
    assert all(result.drift_y_px is None and result.drift_sigma_px is None for result in results)
    assert all(result.problems for result in results)
    assert all(result.registration_quality < 0.3 for result in results)
    back = feed(track, 20, movie.frame((0, 2)))
    assert off(back, (0, 2)) < 0.15
    assert not back.lost


def test_a_sample_that_changes_gets_a_new_key(track, movie):
    other = Movie(204)
    one, two = movie.frame((0, 0)), other.frame((0, 0))
    references = set()
    for index in range(12):
        share = index / 11
        image = (one * (1 - share) + two * share).astype(np.float32)
        result = feed(track, index, np.roll(image, (index, 2 * index), (0, 1)), weight=movie.flat)
        references.add(result.reference_index)
        assert result.drift_y_px == pytest.approx(index, abs=0.3)
    assert len(references) > 1


def test_views_do_not_know_each_other(track, movie):
    other = Movie(205)
    for index in range(4):
        left = feed(track, 2 * index, movie.frame((index, 0)), view="left")
        right = feed(track, 2 * index + 1, other.frame((0, -index)), view="right")
    assert off(left, (3, 0)) < 0.1
    assert off(right, (0, -3)) < 0.1
    assert track.target("nowhere").active is None


def test_a_measurement_against_a_reference_that_is_gone_is_made_again(track, movie):
    late = measure(movie.frame((0, 0)), track.target(""), settings=track.settings)
    assert late.reference_id is None
    feed(track, 0, movie.frame((0, 0)))
    result = track.update("", ("a", 1), image := movie.frame((6, 2)), late, verdict="sharp")
    assert image.shape == SHAPE
    assert off(result, (6, 2)) < 0.1


def test_measure_is_pure(movie):
    track = Drift(DriftSettings())
    feed(track, 0, movie.frame((0, 0)))
    target, image = track.target(""), movie.frame((9, 9))
    assert measure(image, target, settings=track.settings) == measure(image, target, settings=track.settings)
    assert track.target("") is target


class TestRebase:
    def test_the_newest_frame_becomes_the_origin(self, track, movie):
        for index in range(6):
            feed(track, index, movie.frame((5 * index, 0)))
        track.rebase("")
        assert track.reference("")[0] == 5
        assert off(feed(track, 6, movie.frame((30, 3))), (5, 3)) < 0.1

    def test_the_newest_sharp_frame_is_kept_while_blurred_ones_follow(self, track, movie):
        for index in range(3):
            feed(track, index, movie.frame((5 * index, 0)))
        feed(track, 3, movie.frame((15, 0), blur_px=6.0), verdict="blurred")
        track.rebase("", ("a", 2))
        assert off(feed(track, 4, movie.frame((16, 3))), (6, 3)) < 0.1

    def test_a_frame_that_was_lost_starts_anew(self, track, movie):
        feed(track, 0, movie.frame((0, 0)))
        other = Movie(206)
        feed(track, 1, other.frame((0, 0)))
        track.rebase("", ("a", 1))
        assert off(feed(track, 2, other.frame((2, -3))), (2, -3)) < 0.1

    def test_what_cannot_be_the_origin_is_refused(self, track, movie):
        with pytest.raises(CommandError, match="no frames"):
            track.rebase("nowhere")
        for index in range(3):
            feed(track, index, movie.frame((index, 0)))
        with pytest.raises(CommandError, match="not kept"):
            track.rebase("", ("a", 1))


def test_a_restored_track_goes_on_as_before(movie):
    """Wherever it was cut: over new keys, measurements that wait, and rows that are revised later."""
    rng = np.random.default_rng(1)
    images = [movie.frame(place + rng.uniform(-3, 3, 2)) for place in np.linspace((0, 0), (-110, 80), 16)]

    def followed(cuts):
        track, rows = Drift(DriftSettings()), {}
        for index, image in enumerate(images):
            if index in cuts:
                state = track.snapshot()
                track = Drift(DriftSettings())
                track.restore(state)
            verdict = "blurred" if index == 7 else "sharp"
            rows["a", index] = feed(track, index, image, verdict=verdict)
            rows.update(rows["a", index].revisions)
        return rows
    expected, again = followed(()), followed((1, 6, 8, 13))
    assert len({result.reference_index for result in expected.values()}) > 2
    for key, result in again.items():
        assert off(result, (expected[key].drift_y_px, expected[key].drift_x_px)) < 1e-6
        assert result.drift_sigma_px == pytest.approx(expected[key].drift_sigma_px)
        assert result.reference_index == expected[key].reference_index


def test_a_restored_track_has_its_rows_and_a_frame_to_begin_with(track, movie):
    for index in range(5):
        feed(track, index, movie.frame((4 * index, 0)))
    again = Drift(DriftSettings())
    again.restore(track.snapshot())
    assert again.snapshot()["views"][""]["rows"] == track.snapshot()["views"][""]["rows"]
    again.rebase("")
    assert again.reference("")[0] == 4


def test_what_was_done_on_the_side_changes_nothing(movie):
    plain, helped, done = Drift(DriftSettings()), Drift(DriftSettings()), set()
    for index in range(16):
        image = movie.frame((-9.0 * index, 6.0 * index))
        assert feed(plain, index, image) == feed(helped, index, image)
        for errand in helped.errands(""):
            errand()
            done.add(errand.__name__)
    assert done == {"prepare", "measure"}   # the caches of new keys, and measurements between keys
    assert helped.errands("nowhere") == ()
    assert helped.snapshot()["views"][""]["graph"]["edges"] == plain.snapshot()["views"][""]["graph"]["edges"]


def test_frames_may_come_in_any_order(track, movie):
    for index in (5, 4, 9, 0, 2):
        place = (3.0 * index, -2.0 * index)
        assert off(feed(track, index, movie.frame(place)), (3.0 * (index - 5), -2.0 * (index - 5))) < 0.1


def test_a_frame_of_another_shape_is_refused_and_the_track_goes_on(track, movie):
    feed(track, 0, movie.frame((0, 0)))
    with pytest.raises(FrameError, match="one shape"):
        feed(track, 1, movie.frame((2, 3))[:300])
    assert off(feed(track, 2, movie.frame((4, -6))), (4, -6)) < 0.1


def test_a_lattice_is_said_to_repeat_and_the_track_survives(track):
    y, x = np.indices(SHAPE)
    rng = np.random.default_rng(2)
    lattice = (1.0 + 0.3 * np.cos(2 * np.pi * y / 27) * np.cos(2 * np.pi * x / 27)).astype(np.float32)
    frames = [rng.poisson(400 * np.roll(lattice, (shift, 0), (0, 1))).astype(np.float32) for shift in (0, 6, 12)]
    feed(track, 0, frames[0])
    for index in (1, 2):
        result = feed(track, index, frames[index])
        assert result.drift_y_px is None
        assert result.registration_quality < 0.3
        assert "repeating structure" in result.problems[0]


def test_a_magnification_is_said(track, movie):
    feed(track, 0, movie.frame((0, 0)))
    image = movie.frame((5, 3))
    rows, columns = image.shape
    matrix = np.array([[1.005, 0, -0.0025 * (columns - 1)], [0, 1.005, -0.0025 * (rows - 1)]])
    result = feed(track, 1, cv2.warpAffine(image, matrix, (columns, rows), flags=cv2.INTER_LANCZOS4))
    said = next(problem for problem in result.problems if "% larger" in problem)
    assert float(said.split()[0]) == pytest.approx(0.5, abs=0.03)
    assert off(result, (5 * 1.005, 3 * 1.005)) < 0.15


def test_a_sample_that_deforms_has_a_larger_error(track, movie):
    """Every part of it moves by another distance of up to 1 px; the mean over the view is what is meant."""
    feed(track, 0, movie.frame((0, 0)))
    still = feed(track, 1, movie.frame((12, -7)))
    y, x = np.indices(SHAPE, dtype=np.float32)
    bent = cv2.remap(movie.frame((12, -7)), x, y - np.sin(x / 60).astype(np.float32), cv2.INTER_CUBIC)
    result = feed(track, 2, bent)
    assert result.drift_sigma_px > 5 * still.drift_sigma_px
    assert off(result, (12, -7)) < 4 * result.drift_sigma_px


def test_a_snapshot_holds_builtins_and_arrays(track, movie):
    feed(track, 0, movie.frame((0, 0)))

    def check(value):
        if isinstance(value, dict):
            for key, item in value.items():
                assert isinstance(key, str)
                check(item)
        elif isinstance(value, list):
            for item in value:
                check(item)
        else:
            assert value is None or type(value) in {int, float, str, bool, np.ndarray}
    check(track.snapshot())


def test_the_memory_of_a_view_is_bounded(monkeypatch, movie):
    monkeypatch.setattr(drifting, "KEY_BYTES", 4 * 4 * SHAPE[0] * SHAPE[1])
    track = Drift(DriftSettings(key_step=0.02))
    for index in range(12):
        place = (0, 10 * index)
        assert off(feed(track, index, movie.frame(place)), place) < 0.2
    target = track.target("")
    assert 1 + len(target.others) <= 4
    assert sum(reference.warm for reference in (target.active, *target.others)) == 1


def test_only_recent_views_keep_their_tile_caches(monkeypatch, track, movie):
    monkeypatch.setattr(drifting, "WARM_VIEWS", 2)
    for view in "abc":
        feed(track, 0, movie.frame((0, 0)), view=view)
    assert [track.target(view).active.warm for view in "abc"] == [False, True, True]
    version = track.target("a").version
    assert off(feed(track, 1, movie.frame((4, -2)), view="a"), (4, -2)) < 0.1
    assert [track.target(view).active.warm for view in "abc"] == [True, False, True]
    assert track.target("a").version == version


def test_the_tensile_specimen_moves_up_by_about_111_px(real_data, track):
    frames = tifffile.imread(real_data / "mudic_tensile" / "mudic_ut_every5_crop.tif")
    results = [feed(track, index, frame.astype(np.float32)) for index, frame in enumerate(frames)]
    assert results[-1].drift_y_px == pytest.approx(-109, abs=6)   # strain: no single number is right
    assert results[-1].drift_x_px == pytest.approx(0.5, abs=2)
