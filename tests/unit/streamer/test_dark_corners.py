"""Light that falls to next to nothing over parts of the frame, and nobody took a flat."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from support.scenes import Scene

from streamer.pipeline import Pipeline, measure
from streamer.records import Frame, FrameRow
from streamer.settings import load

SHAPE = (340, 360)


def vignette(edge: float) -> np.ndarray:
    """A spot of light; `edge` is how many times its radius falls into the frame."""
    y, x = (np.linspace(-1, 1, side)[grid] for side, grid in zip(
        SHAPE, ((slice(None), None), (None, slice(None))), strict=True))
    return 1 / (1 + np.exp((np.hypot(y, x) - edge) / 0.06))


@pytest.mark.parametrize(("edge", "with_flats"), [(1.0, False), (0.8, False), (0.8, True)])
def test_dark_corners_are_neither_amplified_nor_blurred(edge, with_flats):
    rng, scene, light = np.random.default_rng(811), Scene(812, SHAPE), vignette(edge)
    pipeline, rows = Pipeline(load(assignments=["flow.enabled=false"])), {}
    for number in range(4 if with_flats else 0):
        take(pipeline, rows, rng.poisson(400 * light), number, kind="flat")
    for number in range(16):
        blur = {"length_px": 6.0, "angle_deg": 20.0} if number in {9, 13} else {}
        clean = scene.clean(drift=(2.5 * number, float(rng.normal(0, 4))), **blur)
        take(pipeline, rows, rng.poisson(400 * light * clean), number)
    assert {row.verdict for row in rows.values() if row.index not in {9, 13}} <= {"sharp", "undecided"}
    assert [rows[number].verdict for number in (9, 13)] == ["blurred", "blurred"]
    assert all(abs(rows[number].blur_length_px - 6) < 0.8 for number in (9, 13))
    assert rows[15].drift_y_px == pytest.approx(37.5, abs=0.3)


def take(
    pipeline: Pipeline, rows: dict[int, FrameRow], pixels: np.ndarray, index: int, kind: str = "projection"
) -> None:
    job = pipeline.begin(Frame(pixels=pixels.astype(np.uint16), index=index, acquisition="a", kind=kind))
    outcome = pipeline.finish(job, measure(job))
    if kind != "projection":
        return
    rows[index] = outcome.row
    for (_, earlier), columns in outcome.revisions:
        rows[earlier] = msgspec.structs.replace(rows[earlier], **columns)
