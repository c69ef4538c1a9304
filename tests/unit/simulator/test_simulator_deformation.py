"""Displacement fields: their sign, their inversion, what is known about them."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.deformation import Deformation, PlateDeformation, SmoothDeformation, source_points
from simulator.optics import Canvas, pixel_positions

SHAPE = (120, 160)


def make(name: str, seed: int) -> Deformation:
    rng = np.random.default_rng(seed)
    if name == "smooth":
        return SmoothDeformation(SHAPE, amplitude_px=3.0, rng=rng)
    return PlateDeformation(SHAPE, amplitude_px=3.0, rng=rng)


def grid() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.indices(SHAPE).astype(np.float64)
    return y, x


@pytest.mark.parametrize("seed", [71, 72, 73])
@pytest.mark.parametrize("name", ["smooth", "plates"])
def test_source_points_undo_drift_and_displacement(name: str, seed: int) -> None:
    deformation, drift = make(name, seed), (-21.3, 14.8)
    rows, columns = pixel_positions(SHAPE, margin=False)
    y, x = source_points(deformation, rows, columns, drift_px=drift, progress=1.0)
    u = deformation.displacement(y.astype(float), x.astype(float), 1.0)
    np.testing.assert_allclose(y + drift[0] + u[0], np.broadcast_to(rows[:, None], SHAPE), atol=2e-3)
    np.testing.assert_allclose(x + drift[1] + u[1], np.broadcast_to(columns, SHAPE), atol=2e-3)


@pytest.mark.parametrize("name", ["smooth", "plates"])
def test_displacement_starts_at_zero_grows_to_its_amplitude_and_has_no_mean(name: str) -> None:
    deformation = make(name, 74)
    assert np.abs(deformation.displacement(*grid(), 0.0)).max() == 0
    full = deformation.displacement(*grid(), 1.0)
    assert np.hypot(*full).max() == pytest.approx(3.0, rel=0.05)
    assert np.abs(full.mean(axis=(1, 2))).max() < 0.05
    half = deformation.displacement(*grid(), 0.5)
    assert 0.2 < np.hypot(*half).max() < 2.6
    assert max(np.abs(part).max() for part in np.gradient(full, axis=(1, 2))) < 0.8, "the sample folds"


def test_material_is_found_where_the_field_says() -> None:
    # A bright grain at q of the reference frame must appear at q + D + u(q).
    deformation, drift, grain = make("smooth", 75), (4.4, -6.2), (63.0, 81.0)
    y, x = np.indices(SHAPE, dtype=np.float32)
    spot = np.exp(-((y - grain[0]) ** 2 + (x - grain[1]) ** 2) / (2 * 2.0**2))
    canvas = Canvas(np.fft.rfft2(spot), SHAPE)
    rows, columns = pixel_positions(SHAPE, margin=False)
    image = canvas.sample(*source_points(deformation, rows, columns, drift_px=drift, progress=1.0)).astype(float)
    found = (image * y).sum() / image.sum(), (image * x).sum() / image.sum()
    u = deformation.displacement(np.array(grain[0]), np.array(grain[1]), 1.0)
    assert np.hypot(*u) > 0.3
    np.testing.assert_allclose(found, (grain[0] + drift[0] + u[0], grain[1] + drift[1] + u[1]), atol=0.03)


def test_plates_are_coherent_and_all_there() -> None:
    deformation = make("plates", 76)
    regions = deformation.regions(*grid())
    assert regions is not None
    assert sorted(np.unique(regions)) == [0, 1, 2, 3, 4]
    u = deformation.displacement(*grid(), 1.0)
    between = np.var([u[:, regions == plate].mean(axis=1) for plate in range(5)], axis=0).sum()
    within = np.mean([u[:, regions == plate].var(axis=1).sum() for plate in range(5)])
    assert between > within


def test_smooth_field_has_no_regions() -> None:
    assert make("smooth", 77).regions(*grid()) is None
