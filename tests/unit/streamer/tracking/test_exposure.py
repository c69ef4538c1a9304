from __future__ import annotations

import numpy as np
import pytest
from support.scenes import Scene

from streamer.imaging.correction import correct, level
from streamer.imaging.spectrum import polar_power
from streamer.settings import CalibrationSettings
from streamer.tracking.exposure import Exposure


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(301, (260, 280))


def judge(exposure: Exposure, pixels: np.ndarray, view: str = "main") -> str:
    return exposure.judge(view, level(pixels), polar_power(correct(pixels)))


def settled(scene: Scene, rng: np.random.Generator, photons: float = 200) -> Exposure:
    exposure = Exposure(CalibrationSettings())
    for _ in range(5):
        assert judge(exposure, scene.frame(rng, photons=photons)) == ""
    return exposure


@pytest.mark.parametrize("photons", [30, 200, 2000])
def test_usable_frames_are_usable(scene, photons):
    rng = np.random.default_rng(1)
    exposure = settled(scene, rng, photons)
    for blur in ({"length_px": 8}, {"length_px": 20, "angle_deg": 60}, {"defocus_px": 4}, {"drift": (60, -50)}):
        assert judge(exposure, scene.frame(rng, photons=photons, **blur)) == ""
    assert judge(exposure, scene.frame(rng, photons=photons * 0.4)) == ""


def test_strong_defocus_is_no_empty_beam(scene):
    rng = np.random.default_rng(2)
    exposure = settled(scene, rng, 1000)
    for sigma_px in (8, 12, 16):
        assert judge(exposure, scene.frame(rng, photons=1000, defocus_px=sigma_px)) == ""


def bad_frames(rng: np.random.Generator, scene: Scene) -> dict[str, np.ndarray]:
    bright = scene.frame(rng, photons=200)
    return {
        "beam dump": scene.frame(rng, photons=10),
        "no light": np.zeros(scene.shape, np.uint16) - rng.integers(0, 2, scene.shape).astype(np.int16),
        "no structure": rng.poisson(200, scene.shape).astype(np.uint16),
        "saturated": np.where(rng.random(scene.shape) < 0.4, 4095, bright).astype(np.uint16),
        "constant": np.full(scene.shape, 180, np.uint16),
        "empty beam": rng.poisson(200 * (1 + 0.01 * np.cos(np.mgrid[:260, :280][1] / 9))
                                  * (1 + 0.005 * np.cos(np.mgrid[:260, :280][0] / 7))).astype(np.uint16),
    }


@pytest.mark.parametrize("reason", ["beam dump", "no light", "no structure", "saturated", "constant", "empty beam"])
def test_what_shows_nothing_is_named(scene, reason):
    rng = np.random.default_rng(2)
    exposure = settled(scene, rng)
    before = exposure.snapshot()
    found = judge(exposure, bad_frames(rng, scene)[reason])
    assert found.startswith(reason) or (reason == "empty beam" and found.startswith("no structure"))
    assert "\n" not in found
    assert judge(exposure, scene.frame(rng)) == ""
    assert exposure.snapshot()["main"]["means"][:5] == before["main"]["means"]


@pytest.mark.parametrize("reason", ["no light", "no structure", "saturated", "constant"])
def test_the_first_frame_may_be_bad(scene, reason):
    rng = np.random.default_rng(3)
    exposure = Exposure(CalibrationSettings())
    assert judge(exposure, bad_frames(rng, scene)[reason]).startswith(reason)
    assert judge(exposure, scene.frame(rng)) == ""


def test_views_have_their_own_brightness(scene):
    rng = np.random.default_rng(4)
    exposure = settled(scene, rng)
    assert judge(exposure, scene.frame(rng, photons=20), "faint") == ""
    assert judge(exposure, scene.frame(rng, photons=20), "main") != ""


def test_a_lasting_change_of_the_exposure_is_accepted_in_the_end(scene):
    rng = np.random.default_rng(5)
    exposure = settled(scene, rng)
    verdicts = [judge(exposure, scene.frame(rng, photons=25)) for _ in range(20)]
    assert verdicts[0].startswith("beam dump")
    assert not any(verdicts[12:])


def test_a_long_beam_dump_stays_one(scene):
    rng = np.random.default_rng(6)
    exposure = settled(scene, rng)
    assert all(judge(exposure, rng.poisson(2, scene.shape)).startswith("beam dump") for _ in range(30))


def test_without_a_spectrum_the_counts_are_judged():
    exposure = Exposure(CalibrationSettings())
    pixels = np.random.default_rng(7).poisson(100, (20, 20))
    assert exposure.judge("main", level(pixels), None) == ""
    assert exposure.judge("main", level(pixels // 20), None).startswith("beam dump")


def test_thresholds_change_while_running(scene):
    rng = np.random.default_rng(8)
    exposure = settled(scene, rng)
    exposure.configure(CalibrationSettings(dark_fraction=0.6))
    assert judge(exposure, scene.frame(rng, photons=100)).startswith("beam dump")


def test_restored_it_goes_on_the_same(scene):
    rng = np.random.default_rng(9)
    exposure, other = settled(scene, rng), Exposure(CalibrationSettings())
    other.restore(exposure.snapshot())
    dump = scene.frame(rng, photons=10)
    assert judge(other, dump) == judge(exposure, dump) != ""
