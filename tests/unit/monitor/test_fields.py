from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_streamer import make_flow

from monitor.fields import SECTORS, histogram, moved, rose
from streamer.imaging import deformation
from streamer.records import FlowResult


def uniform(dy: float, dx: float) -> FlowResult:
    flow = make_flow(0)
    field = np.empty_like(flow.displacement_px)
    field[0], field[1] = dy, dx
    return msgspec.structs.replace(flow, displacement_px=field)


@pytest.mark.parametrize(("dy", "dx", "degrees"), [
    (0, 1, 0), (-1, 0, 90), (0, -1, 180), (1, 0, 270), (-1, 1.2, 39.8056)])
def test_directions_are_counter_clockwise_on_the_screen(dy: float, dx: float, degrees: float) -> None:
    flow = uniform(dy, dx)
    found = moved(flow)
    np.testing.assert_allclose(found.direction_deg, degrees, atol=1e-4)
    np.testing.assert_allclose(found.amplitude_px, np.hypot(dy, dx), rtol=1e-6)
    counts = rose(found, flow)
    assert counts.counts.sum(axis=0).argmax() == round(degrees / 360 * SECTORS) % SECTORS
    assert counts.counts.sum() == flow.valid.sum()
    assert counts.mean_px == pytest.approx((dy, dx))
    assert counts.agreement == pytest.approx(1.0)


def test_what_is_shorter_than_the_noise_has_no_direction() -> None:
    flow = uniform(0.0, 0.15)   # sigma is 0.1 in one half, unknown in the other
    found = moved(flow)
    known = np.isfinite(flow.sigma_px[flow.valid])
    np.testing.assert_array_equal(found.above, ~known)
    counts = rose(found, flow)
    assert counts.undirected == known.sum()
    assert counts.counts.sum() + counts.undirected == flow.valid.sum()


def test_directions_and_amplitudes_are_those_of_the_analysis() -> None:
    flow = msgspec.structs.replace(make_flow(0), sigma_px=np.full(make_flow(0).valid.shape, 0.1, np.float32))
    found, theirs = moved(flow), deformation.directions(flow, bins=SECTORS)
    assert found.above.sum() == theirs.counts.sum()
    assert np.median(found.amplitude_px) == pytest.approx(deformation.amplitudes(flow).median, rel=1e-5)


def test_a_field_without_valid_points_is_empty() -> None:
    flow = msgspec.structs.replace(make_flow(0), valid=np.zeros_like(make_flow(0).valid))
    found = moved(flow)
    assert found.amplitude_px.size == 0
    assert rose(found, flow).counts.sum() == 0
    assert histogram(found.amplitude_px)[1].size == 0


@given(st.lists(st.floats(-1e6, 1e6, width=32) | st.just(float("nan")), max_size=60))
def test_every_finite_value_is_counted_once(values: list[float]) -> None:
    edges, counts = histogram(np.array(values, np.float32))
    assert counts.sum() == np.isfinite(values).sum()
    assert np.all(np.diff(edges) > 0)
    assert edges.size == (counts.size + 1 if counts.size else 0)
