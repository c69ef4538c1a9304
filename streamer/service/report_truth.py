"""Results beside the truth, where the recording carries it: simulated runs that were saved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from streamer.imaging.regions import adjusted_rand_index
from streamer.journal import Journal
from streamer.records import FlowResult, FrameRow
from streamer.report.page import Table
from streamer.service.report_data import Subject

Floats = NDArray[np.float64]

MOST_FIELDS = 60
_HEADER = ("quantity", "truth", "measured", "rms error", "stated error, rms", "within 2 sigma", "of")


class Truth(NamedTuple):
    """What is known of the projections of a recording, by their number."""

    drift_px: Floats
    """(n, 2)."""
    blurred: NDArray[np.bool_]
    usable: NDArray[np.bool_]
    blur_length_px: Floats
    blur_angle_deg: Floats
    displacement_px: Floats
    """(n, 2, K, L)."""
    grid_y_px: Floats
    grid_x_px: Floats
    regions: NDArray[np.int32] | None
    """(K, L)."""

    def displacement(self, index: int, y: Floats, x: Floats) -> Floats:
        """Displacement (2, ...) of the material that is at (y, x) when nothing is displaced."""
        at = [(place - grid[0]) / (grid[1] - grid[0]) for place, grid in ((y, self.grid_y_px), (x, self.grid_x_px))]
        return np.stack([scipy.ndimage.map_coordinates(plane.astype(np.float64), at, order=1, mode="nearest")
                         for plane in self.displacement_px[index]])

    def between(self, reference: int, index: int, y: Floats, x: Floats) -> Floats:
        """Where what is at (y, x) of the reference is in a frame, less (y, x); drift and displacement together."""
        here = self.drift_px[reference]
        rest = np.stack([y - here[0], x - here[1]])
        moved = np.zeros_like(rest)
        for _ in range(4):   # the material at rest that the reference shows here
            moved = self.displacement(reference, *(rest - moved))
        material = rest - moved
        way = (self.drift_px[index] - here)[:, None] if y.ndim == 1 else (self.drift_px[index] - here)[:, None, None]
        return np.asarray(way + self.displacement(index, *material) - moved)


def read_truth(path: Path) -> Truth | None:
    """Read the truth beside the frames of a recording; None when it has none."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return None
    with h5py.File(path, "r") as file:
        group = file.get("truth")
        if not isinstance(group, h5py.Group) or any(
                name not in group for name in Truth._fields if name != "regions"):
            return None
        found: dict[str, Any] = {name: group[name][()] if name in group else None for name in Truth._fields}
        return Truth(**found)


def beside(subject: Subject, truth: Truth) -> Table:
    """Put results and truth side by side."""
    rows = [row for row in subject.every if row.index < len(truth.drift_px)]
    lines = [*_blur(rows, truth), *_drift(rows, truth), *_flow(subject, truth), *_regions(subject, truth)]
    return Table("Results beside the truth of the simulated run", _HEADER, lines,
                 "Error: measured less true. Stated: what the session says its 1-sigma error is. Within 2 sigma: share "
                 "of the values whose error is less than twice the stated one; 95 % for Gaussian errors.")


def _blur(rows: Sequence[FrameRow], truth: Truth) -> Iterator[list[str]]:
    judged = [row for row in rows if truth.usable[row.index]]
    true = {row.index for row in judged if truth.blurred[row.index]}
    told = {row.index for row in judged if row.verdict == "blurred"}
    yield ["blurred frames", str(len(true)), (f"{len(told)}: {len(true & told)} right, {len(told - true)} false, "
           f"{len(true - told)} missed"), "", "", "", f"{len(judged)} frames"]
    both = [row for row in judged if row.index in true & told and row.blur_length_px and row.blur_length_sigma_px]
    if both:
        error = np.array([(row.blur_length_px or 0.0) - truth.blur_length_px[row.index] for row in both])
        stated = np.array([row.blur_length_sigma_px or 0.0 for row in both])
        lengths = truth.blur_length_px[[row.index for row in both]]
        yield _line("blur length (px)", f"{lengths.min():.1f} to {lengths.max():.1f}",
                    f"{min(row.blur_length_px or 0.0 for row in both):.1f} to "
                    f"{max(row.blur_length_px or 0.0 for row in both):.1f}", error, stated, f"{len(both)} frames")
        turned = [row for row in both if row.blur_angle_deg is not None
                  and math.isfinite(truth.blur_angle_deg[row.index])]
        if turned:
            off = np.array([((row.blur_angle_deg or 0.0) - truth.blur_angle_deg[row.index] + 90) % 180 - 90
                            for row in turned])
            yield ["blur direction (deg)", "", "", f"{_rms(off):.2f}", "", "", f"{len(turned)} frames"]
    bad = [row for row in rows if not truth.usable[row.index]]
    if bad:
        found = sum(row.verdict == "bad" for row in bad)
        yield ["frames without a usable picture", str(len(bad)), f"{found} called bad", "", "", "",
               f"{len(rows)} frames"]


def _drift(rows: Sequence[FrameRow], truth: Truth) -> Iterator[list[str]]:
    known = [row for row in rows if row.drift_y_px is not None and truth.usable[row.index]]
    if not known:
        return
    index = [row.index for row in known]
    stated = np.array([np.nan if row.drift_sigma_px is None else row.drift_sigma_px for row in known])
    for axis, name in enumerate("yx"):
        measured = np.array([getattr(row, f"drift_{name}_px") for row in known])
        true = truth.drift_px[index, axis]
        yield _line(f"{name} drift (px), last frame and error of all", f"{true[-1]:+.2f}",
                    f"{measured[-1]:+.2f} ± {stated[-1]:.2f}", measured - true, stated, f"{len(known)} frames")


def _flow(subject: Subject, truth: Truth) -> Iterator[list[str]]:
    chosen = _spread([field for field in subject.fields if max(field) < len(truth.drift_px)], MOST_FIELDS)
    errors, stated, last = [], [], None
    with Journal(subject.folder) as journal:
        for index, _ in chosen:
            field = next(journal.flows(acquisition=subject.acquisition, index=index))
            error, true, measured = _field_error(field, truth)
            errors.append(error)
            stated.append(np.repeat(field.sigma_px[field.valid][None], 2, axis=0).astype(np.float64))
            last = true, measured
    if last is None:
        return
    count = f"{sum(error.shape[1] for error in errors)} points of {len(errors)} fields"
    yield _line("displacement per axis (px), median |u| of the last field and error of all",
                f"{np.median(np.hypot(*last[0])):.3f}", f"{np.median(np.hypot(*last[1])):.3f}",
                np.concatenate(errors, axis=1).ravel(), np.concatenate(stated, axis=1).ravel(), count)


def _field_error(field: FlowResult, truth: Truth) -> tuple[Floats, Floats, Floats]:
    """Error of drift and displacement together, true displacement, measured displacement; (2, n) each."""
    y, x = (axis[field.valid].astype(np.float64)
            for axis in np.meshgrid(field.grid_y_px, field.grid_x_px, indexing="ij"))
    drift = np.array([[field.drift_y_px], [field.drift_x_px]])
    whole = truth.between(field.reference_index, field.index, y, x)
    measured = field.displacement_px[:, field.valid].astype(np.float64)
    return measured + drift - whole, whole - drift, measured


def _regions(subject: Subject, truth: Truth) -> Iterator[list[str]]:
    field = subject.analysed
    if truth.regions is None or field is None or field.regions is None or field.analysis is None:
        return
    at = [np.clip(np.rint((axis - grid[0]) / (grid[1] - grid[0])).astype(int), 0, len(grid) - 1)
          for axis, grid in ((field.grid_y_px, truth.grid_y_px), (field.grid_x_px, truth.grid_x_px))]
    true = truth.regions[np.ix_(*at)] + (1 if truth.regions.min() == 0 else 0)
    found = np.maximum(field.regions, 0).astype(np.int32)
    agreement = adjusted_rand_index(true.astype(np.int32), found)
    yield ["regions that move as one", str(len(np.unique(truth.regions))),
           f"{len(field.analysis['regions'])}, agreement (adjusted Rand index) {agreement:.2f}", "", "", "",
           f"{int((found > 0).sum())} points"]


def _line(name: str, true: str, measured: str, error: Floats, stated: Floats, count: str) -> list[str]:
    known = np.isfinite(error) & np.isfinite(stated)
    share = float(np.mean(np.abs(error[known]) <= 2 * stated[known])) if known.any() else math.nan
    return [name, true, measured, f"{_rms(error):.3f}", f"{_rms(stated):.3f}", f"{100 * share:.0f} %", count]


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.nanmean(np.square(values)))) if np.isfinite(values).any() else math.nan


def _spread(values: Sequence[Any], most: int) -> list[Any]:
    if len(values) <= most:
        return list(values)
    return [values[place] for place in np.unique(np.linspace(0, len(values) - 1, most).round().astype(int))]
