"""A pipeline that is written down and read back goes on as if nothing had happened, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support.acquisitions import acquisition
from support.scenes import Scene

from simulator.detector import Detector
from streamer.pipeline import Outcome, Pipeline, measure
from streamer.records import Frame
from streamer.service.state_files import StateFiles
from streamer.settings import Settings, load

SHAPE = (200, 208)


def _flats() -> list[Frame]:
    """Flats and darks before and in between, blurred frames, a dump, an empty beam and a jump."""
    rng, frames = np.random.default_rng(5), acquisition(36, seed=11, shape=SHAPE, blurred=(0, 6, 13, 14, 27), flats=3)
    jumped = acquisition(36, seed=11, shape=SHAPE)
    spoilt = []
    for frame in frames:
        pixels = frame.pixels
        if frame.kind == "projection" and frame.index == 9:
            pixels = rng.poisson(0.5, SHAPE).astype(np.uint16)
        if frame.kind == "projection" and frame.index == 17:
            pixels = rng.poisson(400.0, SHAPE).astype(np.uint16)
        if frame.kind == "projection" and frame.index in {20, 21}:
            pixels = np.roll(jumped[frame.index + 2].pixels, (25, -18), (0, 1))
        spoilt.append(msgspec.structs.replace(frame, pixels=pixels))
        if frame.kind == "projection" and frame.index in {11, 23}:
            spoilt.append(Frame(pixels=rng.poisson(380.0, SHAPE).astype(np.uint16), index=10 + frame.index,
                                acquisition="scan/flat", kind="flat"))
            spoilt.append(Frame(pixels=rng.poisson(3.0, SHAPE).astype(np.uint16), index=frame.index,
                                acquisition="scan/dark", kind="dark"))
    return spoilt


def _unnamed() -> list[Frame]:
    """No flats: the pattern is told from the moving sample, until pictures of the open beam are recognised."""
    shape, seed = (264, 280), 81
    scene = Scene(seed, shape, margin=40)
    detector = Detector(shape, photons=500.0, rng=np.random.default_rng(seed), lighting="condenser")
    pictures: list[Any] = [
        scene.clean(drift=(0.9 * number, -0.6 * number), angle_deg=30.0, length_px=6.0 * (number == 16)
                    ).astype(np.float32) for number in range(24)]
    pictures[21:21] = [1.0, 1.0]
    return [Frame(pixels=detector.expose(picture, seed=(seed, number)), index=number)
            for number, picture in enumerate(pictures)]


def _places() -> list[Frame]:
    """Two fields of view that nobody names, and a frame that belongs to neither."""
    one, other, third = (acquisition(9, seed=seed, shape=SHAPE, flats=2) for seed in (32, 33, 34))
    pairs = [frame for pair in zip(one[2:], other[2:], strict=True) for frame in pair]
    pairs.insert(7, third[5])
    return one[:2] + [msgspec.structs.replace(frame, index=number, view="") for number, frame in enumerate(pairs)]


def _step(pipeline: Pipeline, frame: Frame) -> Outcome:
    job = pipeline.begin(frame)
    return pipeline.finish(job, measure(job))


def _told(outcome: Outcome) -> tuple[Any, ...]:
    return (outcome.row, outcome.revisions, outcome.refused, outcome.lost, outcome.jump_px, outcome.focus_loss_px,
            outcome.leaving, None if outcome.image is None else outcome.image.tobytes(),
            None if outcome.flow is None else (outcome.flow.reference.key, outcome.flow.drift_px))


@pytest.mark.parametrize("sequence", [_flats, _unnamed, _places])
def test_interrupted_gives_what_uninterrupted_gives(sequence: Callable[[], list[Frame]], tmp_path: Path) -> None:
    whole, parted, files = Pipeline(load()), Pipeline(load()), StateFiles(tmp_path)
    met = set()
    for number, frame in enumerate(sequence()):
        assert _told(_step(whole, frame)) == _told(_step(parted, frame)), f"frame {number}"
        if number % 5 == 4:
            files.write(number, parted.snapshot())
            parted = Pipeline.restored(load(), StateFiles(tmp_path).read(number))
        assert whole.calibration == parted.calibration
        met.add(whole.calibration.pattern)
    assert met == ({"none", "estimated", "flats"} if sequence is _unnamed else {"none", "flats"})
    if sequence is _flats:
        assert whole.set_reference("main") == parted.set_reference("main")
        assert _told(_step(whole, frame)) == _told(_step(parted, frame))


def test_what_was_given_out_is_never_changed(tmp_path: Path) -> None:
    """The state is written while frames go on: an array that is in it must stay as it is."""
    pipeline, kept = Pipeline(load()), []
    for number, frame in enumerate(_flats()[:30]):
        _step(pipeline, frame)
        if number in {8, 16}:
            kept.append((pipeline.snapshot(), StateFiles(tmp_path / str(number))))
            kept[-1][1].write(0, kept[-1][0])
    for tree, files in kept:
        later = StateFiles(tmp_path / "later")
        later.write(0, tree)
        names = [sorted(path.name for path in folder.glob("*.array")) for folder in (files.folder, later.folder)]
        assert names[0] == names[1]
        assert (files.folder / "0.state").read_bytes() == (later.folder / "0.state").read_bytes()


def test_other_settings_may_be_in_force_afterwards() -> None:
    frames = _flats()[:20]
    before, after = load(), load(assignments=["blur.tolerance_px=2.0", "blur.baseline=6", "drift.key_step=0.08"])
    pipeline = Pipeline(before)
    for frame in frames[:15]:
        _step(pipeline, frame)
    pipeline = Pipeline.restored(after, pipeline.snapshot())
    rows = [_step(pipeline, frame).row for frame in frames[15:]]
    assert all(row.drift_y_px is not None for row in rows if row.kind == "projection" and row.verdict != "bad")


def test_a_pipeline_without_frames_is_restored() -> None:
    pipeline = Pipeline.restored(Settings(), Pipeline(Settings()).snapshot())
    assert _step(pipeline, _flats()[3]).row.drift_y_px == 0.0
