"""Every particle's own motion: recovered, with errors that are the errors, and never made up."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from support import flow_scenes

from streamer.errors import FrameError
from streamer.imaging import flow, particles, segmentation

SEEDS = (7511, 7522)


@lru_cache(maxsize=16)
def scene(seed: int, dose: float = 500.0, amplitude_px: float = 0.0, drift_px: tuple[float, float] = (0.0, 0.0)):
    pair = flow_scenes.pair(seed=seed, dose=dose, amplitude_px=amplitude_px, drift_px=drift_px, coverage=0.5)
    return pair, segmentation.segment(pair.reference).labels


def exact_field(shape, motion, *, sigma_px=0.1, valid=True) -> flow.Field:
    """Make a field on a grid of 8 px; `motion` maps (y, x) to (u_y, u_x)."""
    grid_y, grid_x = (flow.grid(length, 8) for length in shape)
    y, x = np.meshgrid(grid_y, grid_x, indexing="ij")
    return flow.Field(grid_y, grid_x, np.asarray(motion(y, x), np.float32), np.full(y.shape, valid),
                      np.full(y.shape, sigma_px if valid else np.nan, np.float32))


def measure(pair, labels, *, drift_px=(0.0, 0.0), field=None):
    first, second = flow.prepare(pair.reference), flow.prepare(pair.frame)
    if field is None:
        field = flow.displacement(first, second, drift_px=drift_px)
    return particles.track(particles.make_model(first, labels), second, field, drift_px=drift_px)


def true_motion(pair, labels, drift_px=(0.0, 0.0)):
    """Mean displacement of every particle, (2, n)."""
    numbers = range(1, labels.max() + 1)
    return np.stack([ndimage.mean(plane, labels, numbers) - drift
                     for plane, drift in zip(pair.truth_px, drift_px, strict=True)])


def still(y, x):
    return np.zeros((2, *np.broadcast_shapes(y.shape, x.shape)))


@pytest.mark.parametrize("drift_px", [(0.0, 0.0), (3.4, -5.7)])
@pytest.mark.parametrize("seed", SEEDS)
def test_motion_is_that_of_the_truth(seed, drift_px):
    pair, labels = scene(seed, 500.0, 1.0, drift_px)
    found = measure(pair, labels, drift_px=drift_px)
    error = np.hypot(*(found.displacement_px - true_motion(pair, labels, drift_px)))[found.valid]
    assert found.valid.mean() > 0.7
    assert np.median(error) < 0.13


@pytest.mark.parametrize("amplitude_px", [0.0, 1.0])
def test_the_predicted_error_is_the_error(amplitude_px):
    ratio = []
    for seed in SEEDS:
        pair, labels = scene(seed, 500.0, amplitude_px)
        found = measure(pair, labels)
        ratio.append((np.abs(found.displacement_px - true_motion(pair, labels)) / found.sigma_px)[:, found.valid])
    assert 0.6 <= np.median(np.concatenate(ratio, axis=1)) / 0.6745 <= 1.4


def test_a_frame_against_itself_does_not_move():
    pair, labels = scene(SEEDS[0])
    same = pair._replace(frame=pair.reference)
    found = measure(same, labels)
    assert found.valid.mean() > 0.7
    for values in (found.displacement_px, found.rotation_deg, found.dilation):
        assert np.abs(values).max() < 2e-3


@pytest.mark.parametrize(("turn_deg", "growth"), [(1.5, 0.0), (-1.0, 0.02), (0.0, -0.02)])
def test_rotation_and_dilation_have_their_sign_and_size(turn_deg, growth):
    shape, centre = (160, 160), 79.5
    turn = np.radians(turn_deg)
    y, x = np.indices(shape, dtype=float) - centre
    # from +x towards +y: what lies at +x goes to +y
    total = np.stack([turn * x + growth / 2 * y, -turn * y + growth / 2 * x])
    absorbance = flow_scenes.particles(shape, 7533, coverage=0.5)
    moved = flow_scenes.warp(absorbance, total)
    pair = flow_scenes.Pair(flow_scenes.photons(absorbance, 1e5, 1), flow_scenes.photons(moved, 1e5, 2), total,
                            absorbance > 0.1)
    labels = segmentation.segment(pair.reference).labels
    found = measure(pair, labels)
    large = found.valid & (found.area_px2 > 200)
    assert large.sum() > 8
    assert np.median(found.rotation_deg[large]) == pytest.approx(turn_deg, abs=0.12)
    assert np.median(found.dilation[large]) == pytest.approx(growth, abs=0.003)


def test_one_that_goes_its_own_way_is_found_though_the_field_knows_nothing():
    """A dark ball moves by 0.8 px among others that stay; the field given says that nothing moves."""
    shape = (160, 200)
    y, x = np.indices(shape, dtype=float)
    grain = ndimage.gaussian_filter(np.random.default_rng(7544).standard_normal(shape), 1.5)
    grain /= grain.std()

    def ball(cy, cx):
        return np.sqrt(np.clip(1 - ((y - cy) ** 2 + (x - cx) ** 2) / 14**2, 0, None)) * (0.5 + 0.1 * grain)

    places = [(cy, cx) for cy in (30, 80, 130) for cx in (30, 80, 130, 170)]
    parts = [ndimage.gaussian_filter(ball(*place), 1.0) for place in places]
    first, mover = sum(parts), 5
    second = first - parts[mover] + ndimage.shift(parts[mover], (0.5, -0.6), order=5)
    pair = flow_scenes.Pair(flow_scenes.photons(first, 2000, 3), flow_scenes.photons(second, 2000, 4),
                            np.zeros((2, *shape)), first > 0.1)
    labels = segmentation.segment(pair.reference).labels
    found = measure(pair, labels, field=exact_field(shape, still))
    number = labels[places[mover]] - 1
    assert found.displacement_px[:, number] == pytest.approx((0.5, -0.6), abs=0.12)
    others = np.arange(len(found.number)) != number
    assert np.abs(found.displacement_px[:, others]).max() < 0.1
    assert found.valid.all()


def test_shapes_and_types():
    pair, labels = scene(SEEDS[0])
    found = measure(pair, labels)
    n = labels.max()
    for name, values in found._asdict().items():
        assert values.shape == ((2, n) if name in {"centre_px", "displacement_px", "sigma_px"} else (n,))
        assert values.dtype == {"number": np.int32, "valid": bool}.get(name, np.float32)
    table = particles.table(found)
    assert len(table) == n
    assert np.array_equal(table["displacement_x_px"], found.displacement_px[1])
    assert np.array_equal(table["centre_y_px"], found.centre_px[0])
    assert found.centre_px == pytest.approx(np.array(ndimage.center_of_mass(labels > 0, labels, found.number)).T,
                                            abs=1e-3)
    assert found.area_px2 == pytest.approx(np.bincount(labels.ravel())[1:])
    invalid = ~found.valid
    assert not found.displacement_px[:, invalid].any()
    assert np.isnan(found.sigma_px[:, invalid]).all()


def test_without_particles_the_table_is_empty():
    pair, labels = scene(SEEDS[0])
    found = measure(pair, np.zeros_like(labels))
    assert len(particles.table(found)) == 0


@pytest.mark.parametrize("kind", ["field without a valid point", "open beam", "another sample", "out of view"])
def test_nothing_is_made_up(kind):
    pair, labels = scene(SEEDS[0])
    rng = np.random.default_rng(7555)
    shape = pair.reference.shape
    field, drift = exact_field(shape, still, valid=kind != "field without a valid point"), (0.0, 0.0)
    if kind == "open beam":
        pair = pair._replace(frame=(rng.poisson(500, shape) / 500).astype(np.float32))
    elif kind == "another sample":
        pair, field = pair._replace(frame=scene(SEEDS[1])[0].reference), None
    elif kind == "out of view":
        drift = (900.0, 0.0)
    found = measure(pair, labels, field=field, drift_px=drift)
    assert found.valid.mean() <= 0.06
    assert np.isfinite(found.displacement_px).all()


def test_texture_free_particles_are_not_valid():
    pair, labels = scene(SEEDS[0])
    flat = pair._replace(reference=np.ones_like(pair.reference), frame=np.ones_like(pair.frame))
    assert not measure(flat, labels, field=exact_field(pair.reference.shape, still)).valid.any()


def test_particles_that_leave_the_view_are_not_valid():
    pair, labels = scene(SEEDS[0], 500.0, 0.0, (40.0, 0.0))
    found = measure(pair, labels, drift_px=(40.0, 0.0))
    assert not found.valid[found.centre_px[0] > pair.reference.shape[0] - 38].any()
    assert found.valid[found.centre_px[0] < pair.reference.shape[0] - 70].mean() > 0.6


def test_pixels_that_the_frame_cannot_use_do_not_count():
    pair, labels = scene(SEEDS[0])
    spoilt = pair._replace(frame=pair.frame.copy())
    spoilt.frame[60:120, 100:200] = np.nan
    found = measure(spoilt, labels)
    inside = np.array([np.mean((labels == number)[60:120, 100:200].sum() / (labels == number).sum())
                       for number in found.number])
    assert not found.valid[inside > 0.5].any()
    assert np.isfinite(found.displacement_px).all()


@pytest.mark.parametrize("call", [
    lambda first, model, field: particles.make_model(first, np.ones((50, 50), np.int32)),
    lambda first, model, field: particles.track(model, flow.prepare(np.ones((64, 64))), field, drift_px=(0, 0)),
    lambda first, model, field: particles.track(model, first, field, drift_px=(np.nan, 0)),
    lambda first, model, field: particles.track(model, first, field, drift_px=(0, 0), prior_px=0),
    lambda first, model, field: particles.track(model, first, field, drift_px=(0, 0), prior_gradient=-1),
])
def test_bad_input_is_refused(call):
    pair, labels = scene(SEEDS[0])
    first = flow.prepare(pair.reference)
    with pytest.raises(FrameError, match="particles: "):
        call(first, particles.make_model(first, labels), exact_field(pair.reference.shape, still))


@settings(max_examples=6, deadline=None)
@given(gain=st.floats(0.3, 3.0))
def test_brightness_does_not_move_a_particle(gain):
    pair, labels = scene(SEEDS[0])
    field = exact_field(pair.reference.shape, still)
    plain = measure(pair, labels, field=field)
    brighter = measure(pair._replace(frame=pair.frame * np.float32(gain)), labels, field=field)
    assert np.abs(plain.displacement_px - brighter.displacement_px).max() < 2e-3
