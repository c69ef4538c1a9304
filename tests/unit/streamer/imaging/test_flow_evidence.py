"""Evidence does not depend on where a frame was read, and says how much of a field stands above the noise."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from support import flow_scenes

from streamer.imaging import flow, flow_evidence
from streamer.imaging.flow_cells import cell_centres, solve, window

STILL = np.zeros(2, np.float32)


def observed(pair: flow_scenes.Pair, predicted, **options) -> flow_evidence.Evidence:
    reference, frame = flow.prepare(pair.reference), flow.prepare(pair.frame)
    return flow_evidence.observe(reference.model, frame.absorbance, None, predicted, drift_px=(0.0, 0.0),
                                 rigid_px=STILL, noise=max(frame.noise, 1e-3), **options)


def at_cells(pair: flow_scenes.Pair) -> np.ndarray:
    """True displacement (k, l, 2) as (x, y)."""
    map_x, map_y = np.meshgrid(*cell_centres(pair.frame.shape)[::-1])
    return np.stack([cv2.remap(part.astype(np.float32), map_x, map_y, cv2.INTER_LINEAR)
                     for part in pair.truth_px[::-1]], axis=-1)


def windowed(evidence: flow_evidence.Evidence) -> np.ndarray:
    return solve(window(evidence.reading.tensor, 12.0), window(evidence.vector, 12.0)) + evidence.rigid_px


def test_where_a_frame_is_read_does_not_matter():
    pair = flow_scenes.pair(seed=8909, dose=np.inf, amplitude_px=0.8)
    truth = at_cells(pair)
    inner = slice(8, -8), slice(8, -8)
    fields = [windowed(observed(pair, prediction.astype(np.float32)))[inner]
              for prediction in (truth, 0.7 * truth, truth + 0.2)]
    for other in fields[1:]:
        assert np.median(np.hypot(*np.moveaxis(other - fields[0], -1, 0))) < 0.04


def test_the_rigid_part_is_found_and_left_out():
    pair = flow_scenes.pair(seed=8910, dose=2000.0, drift_px=(0.35, -0.6))
    shape = (pair.frame.shape[0] // 4, pair.frame.shape[1] // 4, 2)
    evidence = observed(pair, np.zeros(shape, np.float32))
    assert evidence.rigid_px == pytest.approx([-0.6, 0.35], abs=0.01)
    assert np.median(np.abs(windowed(evidence) - evidence.rigid_px)[8:-8, 8:-8]) < 0.06


def test_less_noise_opens_finer_windows():
    pair = flow_scenes.pair(seed=8911, dose=300.0, amplitude_px=0.4, scale_px=12.0)
    evidence = observed(pair, np.zeros_like(at_cells(pair), dtype=np.float32))
    around = np.zeros_like(evidence.vector)
    found = [flow_evidence.estimate(evidence.reading, evidence.vector, noise=share * evidence.noise,
                                    energy=evidence.energy, around=around) for share in (1.0, 0.1)]
    assert np.std(found[1].field) > 1.3 * np.std(found[0].field)


def test_material_is_put_back():
    pair = flow_scenes.pair(seed=8912, dose=np.inf, amplitude_px=1.5)
    reference, frame = (flow.prepare(image).absorbance for image in (pair.reference, pair.frame))
    back = flow_evidence.compensate(frame, at_cells(pair), drift_px=(0.0, 0.0))
    seen = np.isfinite(back)
    assert seen.mean() > 0.9
    assert np.std((back - reference)[seen]) < 0.2 * np.std((frame - reference)[seen])
