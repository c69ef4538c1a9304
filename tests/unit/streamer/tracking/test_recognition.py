from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from support.scenes import Scene

from simulator.detector import Detector
from streamer.imaging.correction import IDENTITY, correct, level
from streamer.pipeline import Pipeline, measure
from streamer.records import Frame, FrameRow
from streamer.settings import CalibrationSettings, load
from streamer.tracking.recognition import DARK, FLAT, Finding, Recognition

SHAPE = (256, 270)
Make = Callable[[int], np.ndarray]


class Camera:
    """A specimen in structured light, on a detector with a pattern of its own."""

    def __init__(self, seed: int, photons: float) -> None:
        self.scene = Scene(seed, SHAPE, margin=40)
        self.detector = Detector(SHAPE, photons=photons, rng=np.random.default_rng(seed), lighting="condenser")
        self.seed = seed

    def sample(self, number: int, *, brightness: float = 1.0, shade: np.ndarray | float = 1.0, **how) -> np.ndarray:
        how.setdefault("drift", (1.3 * number, -0.8 * number))
        return self.detector.expose((self.scene.clean(**how) * shade).astype(np.float32), brightness=brightness,
                                    seed=(self.seed, 1, number))

    def light(self, number: int, share: float = 1.0, shade: np.ndarray | float = 1.0) -> np.ndarray:
        return self.detector.expose(np.float32(shade), brightness=share, seed=(self.seed, 2, number))


@pytest.fixture(scope="module", params=[(41, 100.0), (42, 1000.0)], ids=["100 photons", "1000 photons"])
def camera(request: pytest.FixtureRequest) -> Camera:
    return Camera(*request.param)


def look(recognition: Recognition, pixels: np.ndarray, index: int, *, usable: bool = True) -> Finding:
    return recognition.look(Frame(pixels=pixels, index=index, acquisition="scan"), level(pixels), IDENTITY,
                            usable=usable)


def shown(camera: Camera, odd: Make, *, times: int = 4, usable: bool = True, after: float = 1.0) -> list[str]:
    """Show frames of the sample, then so many odd ones, then the sample again; return what is said of the odd ones."""
    recognition = Recognition(CalibrationSettings())
    said = [""] * (10 + times)
    for number in range(10 + times):
        is_odd = 5 <= number < 5 + times
        pixels = odd(number) if is_odd else camera.sample(number, brightness=after if number > 8 else 1.0)
        found = look(recognition, pixels, number, usable=usable or not is_odd)
        said[number] = found.problem
        for _, index in found.earlier:
            said[index] = found.problem_of_earlier
    assert not any(said[:5] + said[5 + times:])
    return said[5:5 + times]


def test_empty_beams_are_flats(camera: Camera) -> None:
    assert shown(camera, camera.light) == [FLAT] * 4
    assert shown(camera, camera.light, usable=False) == [FLAT] * 4
    assert shown(camera, camera.light, times=1) == [""]


def test_no_light_is_a_dark(camera: Camera) -> None:
    assert shown(camera, lambda number: camera.light(number, 0.0), usable=False) == [DARK] * 4


def half(soft_px: float) -> np.ndarray:
    x = np.arange(SHAPE[1]) - SHAPE[1] / 2
    return (np.broadcast_to((1 / (1 + np.exp(-x / soft_px)))[None, :], SHAPE) if soft_px
            else np.broadcast_to((x > 0).astype(float)[None, :], SHAPE)).astype(np.float32)


ODD: dict[str, Callable[[Camera, int], np.ndarray]] = {
    "sample at rest": lambda camera, number: camera.sample(4, drift=(5.2, -3.2)),
    "sample that goes on": lambda camera, number: camera.sample(number),
    "sample under more light": lambda camera, number: camera.sample(number, brightness=1.6),
    "sample at rest under more light": lambda camera, number: camera.sample(number, brightness=1.6, drift=(5.2, -3.2)),
    "sample far away under more light": lambda camera, number: camera.sample(number, brightness=1.6, drift=(35, -35)),
    "defocused": lambda camera, number: camera.sample(number, defocus_px=5.0),
    "far out of focus": lambda camera, number: camera.sample(number, defocus_px=15.0),
    "far out of focus under more light": lambda camera, number: camera.sample(number, defocus_px=9.0, brightness=1.5),
    "at rest, far out of focus under more light": lambda camera, number: camera.sample(
        number, defocus_px=9.0, brightness=1.5, drift=(5.2, -3.2)),
    "at rest, lost out of focus under more light": lambda camera, number: camera.sample(
        number, defocus_px=18.0, brightness=1.6, drift=(5.2, -3.2)),
    "shaking under more light": lambda camera, number: camera.sample(
        number, length_px=40.0, brightness=1.5, drift=(5.2, -3.2)),
    "moved during the exposure": lambda camera, number: camera.sample(number, length_px=25.0),
    "moved under more light": lambda camera, number: camera.sample(number, length_px=25.0, brightness=1.4),
    "half a shutter": lambda camera, number: camera.light(number, shade=half(0.0)),
    "half a soft shutter": lambda camera, number: camera.light(number, shade=half(12.0)),
    "half a shutter over the sample": lambda camera, number: camera.sample(number, shade=half(3.0)),
    "dump": lambda camera, number: camera.light(number, 0.02),
    "weak beam": lambda camera, number: camera.light(number, 0.1),
    "dump with sample": lambda camera, number: camera.sample(number, brightness=0.02),
    "saturated": lambda camera, number: camera.light(number, 12.0),
}


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize("usable", [True, False])
def test_nothing_else_is_taken(camera: Camera, what: str, usable: bool) -> None:
    after = 1.5 if "more light" in what else 1.0   # a ring that was filled stays so
    assert shown(camera, lambda number: ODD[what](camera, number), usable=usable, after=after) == [""] * 4


def test_two_pictures_of_different_light_are_not_taken(camera: Camera) -> None:
    other = Detector(SHAPE, photons=camera.detector.photons, rng=np.random.default_rng(7), lighting="condenser")
    found = shown(camera, lambda number: camera.light(number) if number % 2 else other.expose(1.0, seed=(number,)))
    assert found == [""] * 4


def test_what_was_found_corrects(camera: Camera) -> None:
    recognition = Recognition(CalibrationSettings())
    for number in range(5):
        look(recognition, camera.sample(number), number)
    assert recognition.correction(IDENTITY, SHAPE) is IDENTITY
    for number in range(2):
        look(recognition, camera.light(number, 0.0), 10 + number, usable=False)
    for number in range(5, 8):
        look(recognition, camera.sample(number), 10 + number)
    for number in range(4):
        look(recognition, camera.light(10 + number), 20 + number)
    look(recognition, camera.sample(8), 30)
    correction = recognition.correction(IDENTITY, SHAPE)
    assert (correction.flats, correction.darks) == (4, 2)
    image = correct(camera.light(30), correction)
    assert image[correction.weight > 0].mean() == pytest.approx(1.0, abs=0.01)
    assert correction is recognition.correction(IDENTITY, SHAPE)
    assert recognition.correction(IDENTITY, (5, 5)) is IDENTITY
    restored = Recognition(CalibrationSettings())
    restored.restore(recognition.snapshot())
    np.testing.assert_array_equal(restored.correction(IDENTITY, SHAPE).gain, correction.gain)


def test_switched_off_nothing_is_taken(camera: Camera) -> None:
    recognition = Recognition(CalibrationSettings(recognise=False))
    for number in range(9):
        picture = camera.light(number) if number in {5, 6} else camera.sample(number)
        assert look(recognition, picture, number) == Finding()


def rows_of(frames: list[Frame], *, ahead: int) -> list[FrameRow]:
    """Rows of a run that measures so many frames before their turn."""
    pipeline = Pipeline(load(None, ["flow.enabled=false"]))
    waiting: deque = deque()
    rows = {}
    for frame in [*frames, *[None] * ahead]:
        if frame is not None:
            job = pipeline.begin(frame)
            waiting.append((job, measure(job)))
        if len(waiting) > ahead or frame is None:
            outcome = pipeline.finish(*waiting.popleft())
            rows[outcome.row.index] = outcome.row
            for (_, index), columns in outcome.revisions:
                kept = {"verdict"} if rows[index].verdict == "bad" else set()   # as the recorder does
                changes = {name: value for name, value in columns.items() if name not in kept}
                rows[index] = msgspec.structs.replace(rows[index], **changes)
    return list(rows.values())


def test_a_stream_with_unnamed_flats() -> None:
    camera = Camera(43, 400.0)
    shots = [camera.light(number) if number in {6, 12, 18} else camera.sample(
        number, length_px=6.0 if number == 16 else 0.0) for number in range(24)]
    frames = [Frame(pixels=pixels, index=index, acquisition="scan") for index, pixels in enumerate(shots)]
    rows = rows_of(frames, ahead=0)
    assert rows_of(frames, ahead=4) == rows
    for index in (6, 12, 18):
        assert rows[index].verdict == "bad"
        assert rows[index].problems.startswith(FLAT)
    assert "corrected by flats" in rows[14].problems
    assert [row.index for row in rows if row.verdict == "blurred"] == [16]
    after = [row for row in rows[15:] if row.index not in {16, 18}]
    assert {row.verdict for row in after} == {"sharp"}
    error_y = [row.drift_y_px - 1.3 * row.index for row in after]
    error_x = [row.drift_x_px + 0.8 * row.index for row in after]
    assert max(np.ptp(error_y), np.ptp(error_x)) < 0.15   # the pattern no longer holds them


def test_named_flats_go_before_recognised_ones() -> None:
    camera = Camera(44, 400.0)
    frames = [Frame(pixels=camera.sample(number), index=number) for number in range(4)]
    frames += [Frame(pixels=camera.light(number), index=number) for number in range(4, 6)]
    frames += [Frame(pixels=camera.sample(number), index=number) for number in range(6, 8)]
    named = [Frame(pixels=camera.light(20 + number), index=number, acquisition="flat", kind="flat")
             for number in range(3)]
    pipeline = Pipeline(load(None, ["flow.enabled=false"]))
    for frame in [*frames, *named]:
        pipeline.finish(job := pipeline.begin(frame), measure(job))
    assert pipeline.begin(frames[0]).context.correction.flats == 3
