"""Flats that come in the middle: frames are corrected differently from then on, and nothing else may change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from support.scenes import Scene

from simulator.detector import Detector
from streamer.pipeline import Pipeline, measure
from streamer.records import Frame, FrameRow, Kind
from streamer.settings import load

SHAPE = (264, 280)
BLURRED = {5, 16}


def stream(seed: int, kinds: Sequence[tuple[Kind, int]]) -> list[Frame]:
    """Frames of these kinds, so many of each in turn; the sample drifts, and two frames are blurred."""
    scene = Scene(seed, SHAPE, margin=40)
    detector = Detector(SHAPE, photons=500.0, rng=np.random.default_rng(seed), lighting="condenser")
    frames: list[Frame] = []
    count = 0
    for kind, number in kinds:
        for _ in range(number):
            transmission: np.ndarray | float = float(kind == "flat")
            if kind == "projection":
                transmission = scene.clean(drift=(0.9 * count, -0.6 * count), angle_deg=30.0,
                                           length_px=6.0 if count in BLURRED else 0.0).astype(np.float32)
            frames.append(Frame(pixels=detector.expose(transmission, seed=(seed, len(frames))), kind=kind,
                                index=count if kind == "projection" else len(frames),
                                acquisition="scan" if kind == "projection" else f"scan/{kind}"))
            count += kind == "projection"
    return frames


def projections(frames: list[Frame]) -> list[FrameRow]:
    pipeline = Pipeline(load(None, ["flow.enabled=false"]))
    rows = [pipeline.finish(job := pipeline.begin(frame), measure(job)).row for frame in frames]
    return [row for row in rows if row.kind == "projection"]


@pytest.mark.parametrize("seed", [71, 72, 73])
def test_the_first_flats_in_the_middle_are_no_blur_and_no_drift(seed: int) -> None:
    rows = projections(stream(seed, [("projection", 10), ("dark", 3), ("flat", 4), ("projection", 12)]))
    assert {row.index for row in rows if row.verdict == "blurred"} == BLURRED
    assert "corrected by flats and darks" in rows[10].problems
    assert not any(row.problems for row in rows if row.index != 10)
    for row in rows[10:]:
        assert row.drift_y_px == pytest.approx(0.9 * row.index, abs=0.6)   # raw frames before: their pattern pulls
        assert row.drift_x_px == pytest.approx(-0.6 * row.index, abs=0.6)
    errors = np.array([(row.drift_y_px - 0.9 * row.index, row.drift_x_px + 0.6 * row.index) for row in rows[10:]])
    assert np.ptp(errors, axis=0).max() < 0.12


def test_darks_alone_change_brightness_only() -> None:
    rows = projections(stream(74, [("projection", 10), ("dark", 3), ("projection", 12)]))
    assert {row.index for row in rows if row.verdict == "blurred"} <= BLURRED
    assert rows[10].problems.startswith("corrected by darks")
    assert max(abs(row.drift_y_px - 0.9 * row.index) for row in rows) < 1.0


def test_more_flats_change_nothing() -> None:
    rows = projections(stream(75, [("dark", 3), ("flat", 4), ("projection", 10), ("flat", 6), ("projection", 12)]))
    assert {row.index for row in rows if row.verdict == "blurred"} == BLURRED
    assert not any(row.problems for row in rows)


@pytest.mark.parametrize("seed", [81, 82])
def test_without_flats_the_pattern_is_told_from_the_moving_sample(seed: int) -> None:
    blurred = {16, 20}
    scene = Scene(seed, SHAPE, margin=40)
    detector = Detector(SHAPE, photons=500.0, rng=np.random.default_rng(seed), lighting="condenser")
    frames = [Frame(pixels=detector.expose(scene.clean(
        drift=(0.9 * index, -0.6 * index), angle_deg=30.0, length_px=6.0 if index in blurred else 0.0,
    ).astype(np.float32), seed=(seed, index)), index=index, acquisition="scan") for index in range(24)]
    pipeline = Pipeline(load(None, ["flow.enabled=false"]))
    rows = [pipeline.finish(job := pipeline.begin(frame), measure(job)).row for frame in frames]
    assert 16 in {row.index for row in rows if row.verdict == "blurred"} <= blurred
    assert all(rows[index].verdict != "sharp" for index in blurred)
    assert all(rows[index].blur_length_px == pytest.approx(6.0, abs=1.2) for index in blurred)   # raw: about 3
    assert sum("corrected by the pattern in 8 frames" in row.problems for row in rows) == 1
    assert pipeline.calibration.pattern == "estimated"
    ahead = Pipeline(load(None, ["flow.enabled=false"]))
    jobs = [(job, measure(job)) for job in map(ahead.begin, frames)]   # all measured before the first one is finished
    assert [ahead.finish(*job).row for job in jobs] == rows


@pytest.mark.parametrize("step_px", [0.0, 0.02])
def test_a_sample_at_rest_hides_the_pattern(step_px: float) -> None:
    scene = Scene(83, (128, 128), margin=20)
    rng = np.random.default_rng(84)
    pipeline = Pipeline(load(None, ["flow.enabled=false"]))
    for index in range(30):
        pixels = scene.frame(rng, photons=2000.0, drift=(step_px * index, 0.0))
        row = pipeline.finish(job := pipeline.begin(Frame(pixels=pixels, index=index)), measure(job)).row
        assert not row.problems
    assert pipeline.calibration.pattern == "not separable"
