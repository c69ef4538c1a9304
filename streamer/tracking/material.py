"""What displacement fields say of the material: strain, regions that move as one, particles, representative volume.

Much of it costs more than the field itself, so `Analyst` looks at some fields only.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.errors import FrameError
from streamer.imaging import flow, particles, regions, segmentation
from streamer.imaging.particle_fit import Model
from streamer.imaging.representative_volume import representative_volume
from streamer.imaging.strain import strain
from streamer.records import FloatArray, FlowResult
from streamer.tracking.deformation import VIEWS, FlowTask, Reference

STRAIN_EVERY_S = 0.5
SHARE = 0.05
"""Of the time at the most, for the analysis of all views."""
REGION_POINTS = 1800
"""Points that are grouped, as a limit; of a finer grid, every second, third, ... point."""
MOST_PARTICLES = 500
"""Particles that are told of, the largest ones."""

Labels = NDArray[np.int16]


class _Known(NamedTuple):
    """What is remembered of a view."""

    reference: Reference
    model: Model
    reason: str
    """Why there are no particles."""
    labels: Labels | None = None
    """Newest regions; None before there are any."""
    due: float = 0.0
    """When it is to be analysed again."""


class Analyst:
    """Look at the fields of every view from time to time.

    One thread at a time may use it.

    Parameters
    ----------
    clock : callable
        Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._views: OrderedDict[str, _Known] = OrderedDict()
        self._strain_due: dict[str, float] = {}

    def look(self, task: FlowTask, field: FlowResult) -> FlowResult:
        """Add to a field what it is time for; `FlowSettings.analysis_s` says how often, 0 for never.

        Returns
        -------
        FlowResult
            With `strain`, with `regions` and `analysis`, or as it was.
        """
        against_itself = field.index == field.reference_index   # tells nothing, and would put off what does
        if task.settings.analysis_s <= 0 or against_itself or not field.valid.any():
            return field
        now = self._clock()
        if now >= self._strain_due.get(task.view, -math.inf):
            field = msgspec.structs.replace(field, strain=strain_planes(field))
            self._strain_due[task.view] = now + STRAIN_EVERY_S
        known = self._views.get(task.view)
        if known is not None and known.reference is task.reference and now < known.due:
            return field
        return self._analyse(task, field, now)

    def analyse(self, task: FlowTask, field: FlowResult) -> FlowResult:
        """Add everything at once, whether it is time for it or not."""
        return self._analyse(task, msgspec.structs.replace(field, strain=strain_planes(field)), self._clock())

    def _analyse(self, task: FlowTask, field: FlowResult, now: float) -> FlowResult:
        known = self._views.get(task.view)
        if known is None or known.reference is not task.reference:
            known = _begin(task)
        labels, groups, reason = regions_of(field, known.labels)
        analysis: dict[str, Any] = {"regions": groups, "regions_reason": reason}
        analysis |= _moved(task, field, known)
        analysis["representative_volume"] = volume_of(field)
        took_s = self._clock() - now
        analysis["elapsed_ms"] = round(1e3 * took_s, 1)
        views = len(self._views) + (task.view not in self._views)
        self._views[task.view] = known._replace(
            labels=labels, due=now + max(task.settings.analysis_s, views * took_s / SHARE))
        self._views.move_to_end(task.view)
        while len(self._views) > VIEWS:
            view, _ = self._views.popitem(last=False)
            self._strain_due.pop(view, None)
        return msgspec.structs.replace(field, regions=labels, analysis=analysis)


def strain_planes(field: FlowResult) -> FloatArray | None:
    """Return the strain of a field, (8, K, L) as `records.STRAIN_PLANES`; None for a grid of less than 3 x 3 points."""
    try:
        found = strain(_field(field))
    except FrameError:
        return None
    return np.stack([found.divergence, found.shear, found.rotation_deg, *found.principal, found.direction_deg,
                     found.divergence_sigma, found.shear_sigma])


def regions_of(field: FlowResult, previous: Labels | None = None) -> tuple[Labels, list[dict[str, Any]], str]:
    """Group the points of a field that move as one.

    Parameters
    ----------
    field : FlowResult
    previous : (K, L) int16, optional
        Regions of before, whose numbers are kept.

    Returns
    -------
    labels : (K, L) int16
        Number of the region, -1 outside of all.
    regions : list of dict
        ``number, points, displacement_y_px, displacement_x_px, rotation_deg``, the largest first.
    reason : str
        Why there are none; empty text when there are.
    """
    step = max(1, math.ceil(math.sqrt(field.valid.size / REGION_POINTS)))
    whole = _field(field)
    coarse = flow.Field(whole.grid_y_px[::step], whole.grid_x_px[::step], whole.displacement_px[:, ::step, ::step],
                        whole.valid[::step, ::step], whole.sigma_px[::step, ::step])
    found = regions.from_field(coarse)
    own = found.label
    if previous is not None and previous.shape == field.valid.shape:
        own = regions.matched(own, np.maximum(previous[::step, ::step], 0).astype(np.int32))
    groups = []
    for one in range(1, found.count + 1):
        inside = found.label == one
        groups.append({"number": int(own[inside][0]), "points": 0,
                       "displacement_y_px": _short(found.displacement_px[0, one - 1]),
                       "displacement_x_px": _short(found.displacement_px[1, one - 1]),
                       "rotation_deg": _short(found.rotation_deg[one - 1])})
    rows, columns = (np.minimum(np.rint(np.arange(length) / step).astype(np.intp), side - 1)
                     for length, side in zip(field.valid.shape, own.shape, strict=True))
    spread = own[np.ix_(rows, columns)]
    labels = np.where(field.valid & (spread > 0), spread, -1).astype(np.int16)
    for group in groups:
        group["points"] = int((labels == group["number"]).sum())
    return labels, sorted(groups, key=lambda group: -group["points"]), found.reason


def volume_of(field: FlowResult) -> dict[str, Any] | None:
    """Return the representative-volume curves of a field as plain values; None for too small a grid."""
    try:
        study = representative_volume(_field(field))
    except FrameError:
        return None
    return {name: [_short(one) for one in value] if isinstance(value, np.ndarray) else _short(value)
            for name, value in study._asdict().items()}


def _begin(task: FlowTask) -> _Known:
    """Find the particles of a reference."""
    reference = task.reference
    try:
        found = segmentation.segment(reference.image, bright=task.settings.bright_particles, weight=reference.weight)
        labels, reason = found.labels, found.reason
    except FrameError as error:
        labels, reason = np.zeros(reference.image.shape, np.int32), str(error)
    return _Known(reference, particles.make_model(reference.prepared, labels), reason)


def _moved(task: FlowTask, field: FlowResult, known: _Known) -> dict[str, Any]:
    """Measure how the particles moved."""
    if not known.model.number.size:
        return {"particles": [], "particles_reason": known.reason}
    prepared = flow.prepare(task.image, smoothing_px=task.settings.smoothing_px, weight=task.weight)
    try:
        motion = particles.track(known.model, prepared, _field(field), drift_px=task.drift_px)
    except FrameError as error:
        return {"particles": [], "particles_reason": str(error)}
    table = particles.table(motion)
    largest = np.sort(np.argsort(-table["area_px2"], kind="stable")[:MOST_PARTICLES])
    names = table.dtype.names or ()
    told = [{name: _short(value) for name, value in zip(names, row.item(), strict=True)} for row in table[largest]]
    left_out = len(table) - len(told)
    return {"particles": told, "particles_reason": f"{left_out} smaller ones are not listed" if left_out else ""}


def _field(field: FlowResult) -> flow.Field:
    return flow.Field(field.grid_y_px, field.grid_x_px, field.displacement_px, field.valid, field.sigma_px)


def _short(value: Any) -> Any:
    """Give a number in six digits, None instead of NaN."""
    if isinstance(value, bool | int):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
