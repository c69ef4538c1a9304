"""Fields of view that come back in one stream without a name of their own."""

import numpy as np
import pytest
from support import motion_scenes

from streamer.settings import DriftSettings
from streamer.tracking.drift import Drift, measure, trusted
from streamer.tracking.drift_track import Spare
from streamer.tracking.places import LONGEST_WAIT, MOST_PLACES, WAITING_STREAMS, Places

SHAPE = (196, 208)


class Stage:
    """Frames of several specimens before one detector, and what becomes of them."""

    def __init__(self, count, *, seed):
        self.rng = np.random.default_rng(seed)
        self.scenes = [motion_scenes.Scene(motion_scenes.specimen(seed + number, size=360, grains=40), shape=SHAPE,
                                           photons=1500.0, seed=seed) for number in range(count)]
        self.flat = self.scenes[0].mean_flat(self.rng)
        self.drift = Drift(DriftSettings())
        self.places = Places(self.drift)
        self.number = 0

    def see(self, scene, at=(0.0, 0.0), *, blurred=False):
        """Return the view of a frame of one specimen, its drift and what it founded."""
        image = self.scenes[scene].corrected(at, self.rng, flat=self.flat)
        held = Spare(("a", self.number), image, None, (0.0, 0.0), None)
        self.number += 1
        found = measure(image, self.places.target("main"), settings=self.drift.settings)
        place = self.places.assign("main", held, found)
        self.places.judged("main", held.frame, blurred=blurred)
        verdict = "blurred" if blurred else "sharp"
        return place, self.drift.update(place.view, held.frame, image, place.registration, verdict=verdict)


@pytest.fixture
def stage():
    return Stage(3, seed=611)


def test_two_fields_of_view_in_turn_are_two_views_each_with_its_drift(stage):
    for turn in range(6):
        for scene, way in ((0, (1.5, -0.7)), (1, (-2.25, 3.5))):
            at = turn * way[0], turn * way[1]
            place, result = stage.see(scene, at)
            if (turn, scene) == (0, 1):   # nobody knows this place yet
                assert place.founder is None
                assert result.drift_y_px is None
                continue
            assert place.view == ("main", "main 2")[scene]
            assert (result.drift_y_px, result.drift_x_px) == pytest.approx(at, abs=0.25)
            assert (place.founder is not None) == ((turn, scene) == (1, 1))
            if place.founder is not None:
                key, origin = place.founder
                assert key == ("a", 1)
                assert (origin.drift_y_px, origin.drift_x_px, origin.reference_index) == (0.0, 0.0, 1)
                assert "founds one" in origin.problems[0]
    assert stage.places.views("main") == ("main", "main 2")


def test_a_place_seen_once_founds_nothing(stage):
    for _ in range(3):
        stage.see(0)
    place, result = stage.see(1)
    assert (place.view, result.drift_y_px) == ("main", None)
    assert result.problems
    place, result = stage.see(0, (3.0, 1.0))
    assert (place.view, result.drift_y_px) == ("main", pytest.approx(3.0, abs=0.25))
    assert stage.places.views("main") == ("main",)


def test_the_sample_that_was_lost_is_joined_again_where_it_was(stage):
    stage.see(0)
    for _ in range(3):
        stage.see(1)
    place, result = stage.see(0, (7.0, -4.0))
    assert place.view == "main"
    assert (result.drift_y_px, result.drift_x_px) == pytest.approx((7.0, -4.0), abs=0.25)


def test_a_third_place_is_told_from_both(stage):
    seen = [stage.see(scene)[0].view for scene in (0, 1, 1, 2, 2, 0, 1, 2)]
    assert seen == ["main", "main", "main 2", "main", "main 3", "main", "main 2", "main 3"]


def test_a_blurred_origin_is_relieved_by_the_next_sharp_frame(stage):
    stage.see(0)
    stage.see(1, blurred=True)
    stage.see(1)
    later, result = stage.see(1)
    assert later.view == "main 2"
    assert result.reference_index != 1


def test_what_waited_too_long_is_forgotten(stage):
    stage.see(0)
    stage.see(1)
    for _ in range(LONGEST_WAIT + 1):
        held = Spare(("b", 0), np.ones(SHAPE, np.float32), None, (0.0, 0.0), None)
        blank = measure(held.image, stage.places.target("main"), settings=stage.drift.settings)
        assert not trusted(blank, stage.drift.settings)
        stage.places.assign("main", held, blank)
    place, _ = stage.see(1)
    assert place.founder is None


def test_of_streams_long_gone_nothing_waits(stage):
    stage.see(0)
    stage.see(1)
    held = Spare(("b", 0), np.ones(SHAPE, np.float32), None, (0.0, 0.0), None)
    for number in range(WAITING_STREAMS):
        name = f"angle {number}"
        found = measure(held.image, stage.places.target(name), settings=stage.drift.settings)
        stage.places.assign(name, held, found)
    place, _ = stage.see(1)
    assert place.founder is None


def test_there_are_not_more_places_than_can_be_tried():
    stage = Stage(MOST_PLACES + 1, seed=631)
    for scene in range(MOST_PLACES + 1):
        stage.see(scene)
        stage.see(scene)
    assert len(stage.places.views("main")) == MOST_PLACES


def test_restored_it_goes_on_as_if_nothing_had_happened(stage):
    for scene in (0, 1, 1, 2):
        stage.see(scene)
    again = Stage(3, seed=611)
    again.drift.restore(stage.drift.snapshot())
    again.places.restore(stage.places.snapshot())
    again.number, again.rng.bit_generator.state = stage.number, stage.rng.bit_generator.state
    for scene, at in ((2, (1.0, 2.0)), (1, (0.5, 0.5)), (0, (-3.0, 1.0))):
        one, other = stage.see(scene, at), again.see(scene, at)
        assert one[0].view == other[0].view
        assert one[1].drift_y_px == other[1].drift_y_px
