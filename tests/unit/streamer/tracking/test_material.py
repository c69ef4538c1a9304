"""Strain, regions and particles beside the field: right where the truth is known, and not too often."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from support import flow_scenes

from streamer.records import STRAIN_PLANES, STRAIN_UNITS, FlowResult
from streamer.settings import FlowSettings
from streamer.tracking import material
from streamer.tracking.deformation import Deformation, FlowTask, Outcome, solve
from streamer.tracking.material import Analyst, regions_of, strain_planes, volume_of

STEP = 8.0


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _plates(shift: float = 1.0, *, shape: tuple[int, int] = (60, 80), drop: bool = False) -> FlowResult:
    """Two plates, the left one of two thirds, that go up and down."""
    y, x = (STEP * np.arange(length, dtype=np.float32) + 4 for length in shape)
    right = np.arange(shape[1]) >= 2 * shape[1] // 3
    displacement = np.zeros((2, *shape), np.float32)
    displacement[0] = np.where(right, shift, -shift)
    displacement += np.random.default_rng(5).normal(0, 0.05, displacement.shape).astype(np.float32)
    valid = np.ones(shape, bool)
    valid[:, :3] = not drop
    return FlowResult(index=1, acquisition="a", view="main", reference_index=0, drift_y_px=0.0, drift_x_px=0.0,
                      grid_y_px=y, grid_x_px=x, displacement_px=displacement, valid=valid,
                      sigma_px=np.full(shape, 0.05, np.float32))


def _task(settings: FlowSettings = FlowSettings(), *, seed: int = 4) -> tuple[FlowTask, FlowResult]:  # noqa: B008
    pair = flow_scenes.pair((160, 200), seed=seed, amplitude_px=1.0, coverage=0.4)
    deformation = Deformation(settings)
    deformation.set_reference("main", ("a", 0), pair.reference, drift_px=(0.0, 0.0))
    task = deformation.admit("main", ("a", 1), pair.frame, drift_px=(0.0, 0.0), verdict="sharp")
    assert not isinstance(task, Outcome)
    field = solve(task).result
    assert field is not None
    return task, field


def test_two_plates_are_two_regions() -> None:
    labels, regions, reason = regions_of(_plates(drop=True))
    assert (labels.dtype, labels.shape, reason) == (np.int16, (60, 80), "")
    assert (labels[:, :3] == -1).all()   # nothing was measured there
    assert [region["number"] for region in regions] == [1, 2]
    assert np.mean(labels[:, 3:50] == 1) > 0.98
    assert np.mean(labels[:, 56:] == 2) > 0.98
    assert regions[0]["points"] == (labels == 1).sum()
    assert regions[0]["displacement_y_px"] == pytest.approx(-1.0, abs=0.1)
    assert regions[1]["displacement_y_px"] == pytest.approx(1.0, abs=0.1)


def test_regions_keep_their_numbers() -> None:
    before = np.where(np.arange(80) >= 53, 1, 7)[None] * np.ones((60, 1), np.int16)
    labels, regions, _ = regions_of(_plates(), before.astype(np.int16))
    assert {region["number"] for region in regions} == {1, 7}
    assert np.mean(labels[:, :50] == 7) > 0.98
    other_grid = regions_of(_plates(), before[:30].astype(np.int16))[0]
    assert np.mean(other_grid[:, :50] == 1) > 0.98


def test_the_planes_of_the_strain_are_those_named() -> None:
    field = _plates()
    slope = np.broadcast_to(0.01 * field.grid_x_px, field.valid.shape)
    planes = strain_planes(msgspec.structs.replace(field, displacement_px=np.stack([0 * slope, slope])))
    assert planes is not None
    assert planes.shape == (len(STRAIN_PLANES), 60, 80) == (len(STRAIN_UNITS), 60, 80)
    assert planes.dtype == np.float32
    expected = {"divergence": 0.01, "shear": 0.0, "rotation_deg": 0.0, "principal_largest": 0.01,
                "principal_smallest": 0.0, "direction_deg": 0.0}
    for name, value in expected.items():
        assert np.nanmedian(planes[STRAIN_PLANES.index(name)]) == pytest.approx(value, abs=1e-4)


def test_a_grid_too_small_for_slopes_has_no_strain() -> None:
    small = _plates(shape=(2, 6))
    assert strain_planes(small) is None
    assert volume_of(small) is None


def test_everything_at_once_is_plain_json() -> None:
    task, field = _task()
    found = Analyst().analyse(task, field)
    assert found.strain is not None
    assert found.regions is not None
    assert found.regions.shape == field.valid.shape
    analysis = msgspec.json.decode(msgspec.json.encode(found.analysis))
    assert set(analysis) == {"regions", "regions_reason", "particles", "particles_reason", "representative_volume",
                             "elapsed_ms"}
    moved = [particle for particle in analysis["particles"] if particle["valid"]]
    assert len(moved) >= 3
    assert all(particle["sigma_y_px"] < 0.5 and 0 <= particle["centre_y_px"] < 160 for particle in moved)
    assert len(analysis["representative_volume"]["size_px"]) == 19


def test_it_is_not_done_more_often_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, cut = Clock(), []
    real = material.segmentation.segment
    monkeypatch.setattr(material.segmentation, "segment", lambda *a, **k: cut.append(1) or real(*a, **k))
    analyst, (task, field) = Analyst(clock), _task(FlowSettings(analysis_s=5.0))
    seen = []
    for _ in range(24):
        found = analyst.look(task, field)
        seen.append((found.strain is not None, found.analysis is not None))
        clock.now += 0.25
    assert [place for place, (strain, _) in enumerate(seen) if strain] == list(range(0, 24, 2))
    assert [place for place, (_, analysed) in enumerate(seen) if analysed] == [0, 20]
    assert len(cut) == 1   # particles are found once for a reference


def test_a_slow_analysis_takes_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    real = material.regions_of

    def slow(*arguments: object) -> object:
        clock.now += 1.0
        return real(*arguments)   # type: ignore[arg-type]

    monkeypatch.setattr(material, "regions_of", slow)
    analyst, (task, field) = Analyst(clock), _task(FlowSettings(analysis_s=2.0))
    done = 0
    for _ in range(100):
        done += analyst.look(task, field).analysis is not None
        clock.now += 0.5
    assert done <= 3


def test_a_new_reference_is_looked_at_at_once() -> None:
    clock = Clock()
    analyst = Analyst(clock)
    for seed in (4, 5):
        task, field = _task(seed=seed)
        assert analyst.look(task, field).analysis is not None


@pytest.mark.parametrize("change", ["off", "nothing valid"])
def test_what_is_not_wanted_or_not_there_is_left(change: str) -> None:
    task, field = _task(FlowSettings(analysis_s=0.0 if change == "off" else 1.0))
    if change == "nothing valid":
        field = msgspec.structs.replace(field, valid=np.zeros_like(field.valid))
    assert Analyst().look(task, field) is field


def test_an_image_without_particles_says_why() -> None:
    task, field = _task()
    flat = np.ones_like(task.reference.image)
    task = task._replace(reference=task.reference._replace(image=flat))
    analysis = Analyst().analyse(task, field).analysis
    assert analysis is not None
    assert analysis["particles"] == []
    assert "constant" in analysis["particles_reason"]


def test_very_many_particles_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(material, "MOST_PARTICLES", 2)
    task, field = _task()
    analysis = Analyst().analyse(task, field).analysis
    assert analysis is not None
    assert len(analysis["particles"]) == 2
    assert "smaller ones are not listed" in analysis["particles_reason"]
