from __future__ import annotations

import numpy as np
import pytest
from support.scenes import Scene

from streamer.imaging.correction import correct
from streamer.imaging.spectrum import PolarPower, measure_spectrum, polar_power
from streamer.settings import BlurSettings
from streamer.tracking.sharpness import HISTORY, Sharpness, SharpnessResult

SHAPE = (340, 360)


class Source:
    """Powers of frames of one drifting scene."""

    def __init__(self, seed: int, photons: float = 200.0, scene: Scene | None = None) -> None:
        self.scene = scene or Scene(seed, SHAPE)
        self.rng = np.random.default_rng(seed)
        self.photons = photons
        self.y = 0.0

    def take(self, photons: float | None = None, **blur: float) -> PolarPower:
        self.y = min(self.y + 1.0, 60.0)
        drift = (self.y, float(self.rng.normal(0, 5)))
        return polar_power(correct(self.scene.frame(self.rng, photons=photons or self.photons, drift=drift, **blur)))


class Run:
    """A tracker with its rows as they stand after all revisions."""

    def __init__(self, settings: BlurSettings | None = None) -> None:
        self.tracker = Sharpness(settings or BlurSettings())
        self.rows: dict[int, SharpnessResult] = {}
        self.problems: list[str] = []

    def add(self, power: PolarPower | None, **options: object) -> SharpnessResult:
        index = len(self.rows)
        result = self.tracker.update("main", ("a", index), power, **options)
        self.rows[index] = result
        for (acquisition, revised), row in result.revisions:
            assert acquisition == "a"
            assert revised != index
            assert row.revisions == ()
            self.rows[revised] = row
        self.problems += result.problems
        return result

    @property
    def verdicts(self) -> list[str]:
        return [row.verdict for row in self.rows.values()]


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(402, SHAPE)


@pytest.fixture
def source(scene) -> Source:
    return Source(403, scene=scene)


def test_first_frames_are_provisional_and_then_final(source):
    run = Run()
    first = run.add(source.take())
    assert (first.verdict, first.provisional, first.blur_length_px) == ("undecided", True, None)
    second = run.add(source.take())
    assert (second.verdict, second.provisional) == ("sharp", True)
    third = run.add(source.take())
    assert not third.provisional
    assert {key[1] for key, _ in third.revisions} == {0, 1}
    assert run.verdicts == ["sharp"] * 3
    assert not any(row.provisional for row in run.rows.values())
    assert run.rows[0].blur_length_px is not None


@pytest.mark.parametrize(("first_px", "share"), [(0, 0.25), (6, 0.45), (3, 0.45)])
def test_a_stream_is_sorted(scene, first_px, share):
    source, run, truth = Source(int(404 + first_px), scene=scene), Run(), []
    for index in range(40):
        length = first_px if index == 0 else float(source.rng.choice([4, 5, 8])) * (source.rng.random() < share)
        truth.append(length > 0)
        run.add(source.take(length_px=length, angle_deg=float(source.rng.uniform(-90, 90))))
    assert run.verdicts == ["blurred" if blurred else "sharp" for blurred in truth]
    assert not any(row.provisional for row in run.rows.values())


def test_blurred_frames_never_enter_the_baseline(source):
    run = Run()
    for _ in range(4):
        run.add(source.take())
    before = run.tracker.baseline("main")
    result = run.add(source.take(length_px=6, angle_deg=20))
    assert result.verdict == "blurred"
    assert result.blur_length_px == pytest.approx(6, abs=0.6)
    np.testing.assert_array_equal(run.tracker.baseline("main").power, before.power)


def test_a_sharper_frame_judges_the_earlier_ones_again(source):
    run = Run()
    run.add(source.take(length_px=6))
    run.add(source.take(length_px=6))
    result = run.add(source.take())
    assert "sharper" in result.problems[0]
    assert [run.rows[index].verdict for index in (0, 1)] == ["blurred", "blurred"]
    assert run.rows[0].blur_length_px == pytest.approx(6, abs=0.7)
    for _ in range(2):
        run.add(source.take())
    assert run.verdicts == ["blurred", "blurred", "sharp", "sharp", "sharp"]
    assert not any(row.provisional for row in run.rows.values())


def test_a_settled_blurred_baseline_is_replaced_when_two_frames_say_so(source):
    run = Run()
    for _ in range(6):
        run.add(source.take(length_px=4))
    assert "blurred" not in run.verdicts
    run.add(source.take())
    assert run.verdicts[-1] == "sharp"
    assert "blurred" not in run.verdicts
    run.add(source.take())
    run.add(source.take())
    assert run.verdicts == ["blurred"] * 6 + ["sharp"] * 3


def test_a_lasting_change_of_focus_restarts_instead_of_locking_out(source):
    run = Run()
    for _ in range(4):
        run.add(source.take())
    for _ in range(14):
        run.add(source.take(defocus_px=1.5))
    assert run.verdicts[4:13] == ["blurred"] * 9
    assert "blurred" not in run.verdicts[-3:]
    assert any("9 blurred frames in a row" in problem for problem in run.problems)


def test_another_place_opens_a_new_baseline(scene, source):
    other, run = Source(405), Run()
    for _ in range(5):
        run.add(source.take())
    for _ in range(8):
        run.add(other.take())
    assert "blurred" not in run.verdicts
    assert run.verdicts[-3:] == ["sharp"] * 3
    assert any("changed" in problem for problem in run.problems)


def test_too_few_photons_are_undecided(scene):
    run, source = Run(), Source(406, photons=8, scene=scene)
    for _ in range(10):
        run.add(source.take())
    assert set(run.verdicts[3:]) == {"undecided"}
    assert run.add(source.take(length_px=12)).verdict == "blurred"


def test_bad_frames_change_nothing(source):
    run = Run()
    for _ in range(4):
        run.add(source.take())
    before = run.tracker.baseline("main")
    noise = polar_power(np.random.default_rng(1).poisson(100, SHAPE).astype(np.float32))
    assert run.add(noise, usable=False) == SharpnessResult("bad")
    assert run.tracker.baseline("main").frames == before.frames
    assert run.add(None).verdict == "undecided"
    assert run.add(source.take()).verdict == "sharp"


def test_views_do_not_know_each_other(scene, source):
    tracker, other = Sharpness(BlurSettings()), Source(407)
    for index in range(6):
        one = tracker.update("left", ("a", 2 * index), source.take())
        two = tracker.update("right", ("a", 2 * index + 1), other.take())
    assert one.verdict == two.verdict == "sharp"
    assert tracker.baseline("nowhere") is None


def test_another_frame_size_starts_again(source):
    run = Run()
    for _ in range(4):
        run.add(source.take())
    small = polar_power(correct(source.scene.frame(source.rng)[:200, :200]))
    result = run.add(small)
    assert result.provisional
    assert "frame size" in result.problems[0]


def test_frames_of_far_places_leave_the_baseline(source):
    run = Run()
    for k in range(6):
        run.add(source.take(), drift_px=(30.0 * k, 0.0))
    assert run.tracker.baseline("main").frames < 6
    assert "moved" in run.add(source.take(), drift_px=(900.0, 0.0)).problems[0]


def test_thresholds_change_while_running(source):
    run = Run()
    for _ in range(5):
        run.add(source.take())
    run.tracker.configure(BlurSettings(shortest_px=20.0))
    assert run.add(source.take(length_px=6)).verdict == "sharp"
    run.tracker.configure(BlurSettings(tolerance_px=0.5))
    assert run.add(source.take()).verdict == "undecided"


def test_history_is_bounded(source):
    tracker, power = Sharpness(BlurSettings()), source.take()
    for index in range(HISTORY + 50):
        tracker.update("main", ("a", index), power)
    assert len(tracker.snapshot()["views"]["main"]["rows"]) == HISTORY


def test_restored_it_goes_on_the_same(source):
    run, other = Run(), Sharpness(BlurSettings())
    for length in (5, 0, 0, 4, 0, 0, 6):
        run.add(source.take(length_px=length))
    other.restore(run.tracker.snapshot())
    for index in range(20, 26):
        power = source.take(length_px=3 * (index % 2))
        assert other.update("main", ("a", index), power) == run.tracker.update("main", ("a", index), power)


def test_zingers_hot_columns_and_a_bright_patch_are_no_blur(scene):
    run = Run()
    rng = np.random.default_rng(9)
    for index in range(12):
        pixels = scene.frame(rng, photons=200, drift=(float(index), float(rng.normal(0, 4))))
        pixels[:, 77] = 4000
        pixels[203] = 0
        if index % 3 == 2:
            pixels.ravel()[rng.integers(0, pixels.size, 60)] = 50000
        if index == 10:
            pixels[100:110, 300:310] = 65535
        run.add(polar_power(correct(pixels)))
    assert "blurred" not in run.verdicts
    assert run.verdicts.count("sharp") >= 11


def test_another_correction_opens_a_new_baseline(source):
    run = Run()
    for _ in range(4):
        run.add(source.take())
    run.tracker.recalibrated("main")
    run.tracker.recalibrated("never seen")
    assert run.tracker.baseline("main") is None
    assert run.add(source.take()).provisional


def test_only_recent_views_keep_their_average(source):
    tracker = Sharpness(BlurSettings())
    spectrum = measure_spectrum(correct(source.scene.frame(source.rng)))
    for view in range(70):
        for index in range(2):
            key = ("a", 2 * view + index)
            tracker.update(str(view), key, spectrum.power, modes=spectrum.modes, drift_px=(0.0, 0.0))
    averages = [state["average"]["modes"] for state in tracker.snapshot()["views"].values()]
    assert len(averages) == 70
    assert sum(modes is not None for modes in averages) == 64
