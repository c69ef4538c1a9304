"""Beyond the paper: strain, errors, and how the deformation grew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from streamer.imaging.flow import Field
from streamer.records import STRAIN_PLANES
from streamer.report.drawing import (
    AMOUNT,
    BLUE,
    ORANGE,
    SIGNED,
    TWO_COLUMNS_MM,
    Array,
    Drawn,
    Scale,
    bare,
    colour_bar,
    grid_extent,
    hatched,
    lettered,
    new_figure,
    panels,
    scale_bar,
)

_SHOWN = (("divergence", "growth of area (%)", 100.0), ("shear", "shear (mrad)", 1e3),
          ("rotation_deg", "rotation (deg)", 1.0), ("principal_largest", "largest stretch (%)", 100.0),
          ("principal_smallest", "smallest stretch (%)", 100.0), ("divergence_sigma", "error of the growth (%)", 100.0))


@dataclass(frozen=True, eq=False)
class Growth:
    """Displacement against time, (n,) each in order of time."""

    index: Array
    time: Array
    time_unit: str
    median_px: Array
    p95_px: Array


def draw_strain(field: Field, planes: Array, frame: int, scale: Scale) -> Drawn:
    """Draw maps of the strain; `planes` is (8, K, L) as `records.STRAIN_PLANES`."""
    height = 2 * (47 * field.valid.shape[0] / field.valid.shape[1] + 4) + 12
    figure = new_figure(TWO_COLUMNS_MM, height)
    axes = figure.subplots(2, 3).ravel()
    for axis, (name, label, factor) in zip(axes, _SHOWN, strict=True):
        plane = factor * planes[STRAIN_PLANES.index(name)]
        known = np.abs(plane[np.isfinite(plane)])
        limit = max(float(np.percentile(known, 98)) if known.size else 1.0, 1e-6)
        is_error = name.endswith("sigma")
        shown = axis.imshow(plane, cmap=AMOUNT if is_error else SIGNED, vmin=0 if is_error else -limit, vmax=limit,
                            extent=grid_extent(field.grid_y_px, field.grid_x_px))
        hatched(axis)
        bare(axis)
        scale_bar(axis, scale)
        colour_bar(figure, shown, axis, label, extend="max" if is_error else "both")
    lettered(axes, [label.rsplit(" (", 1)[0] for _, label, _ in _SHOWN])
    y, x = np.meshgrid(field.grid_y_px, field.grid_x_px, indexing="ij")
    numbers = {"y_px": y.ravel(), "x_px": x.ravel()} | {
        name: plane.ravel() for name, plane in zip(STRAIN_PLANES, planes, strict=True)}
    return Drawn("fig5_strain", "Strain",
                 f"Strain of frame {frame} from the slope of its displacement in windows of 40 px: relative growth of "
                 "the area, shear, rotation from +x towards +y, stretch along the two principal directions, and the "
                 "1-sigma error of the growth. Colours end at the 98th percentile; hatched: not valid.",
                 figure, {"planes": numbers})


def draw_errors(field: Field, frame: int, growth: Growth, scale: Scale) -> Drawn:
    """Draw the error of every point, how many errors it moved, and the displacement against time."""
    panel = 52 * field.valid.shape[0] / field.valid.shape[1] + 4
    figure = new_figure(TWO_COLUMNS_MM, panel + 48)
    axes = panels(figure, [("ab", panel), ("c", 48)])
    sigma = np.where(field.valid, field.sigma_px, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        clear = np.where(field.valid, np.hypot(*field.displacement_px) / field.sigma_px, np.nan)
    for letter, plane, label in (("a", sigma, scale.label("error per axis")), ("b", clear, "|u| / error")):
        known = plane[np.isfinite(plane)]
        top = float(np.percentile(known, 98)) if known.size else 1.0
        shown = axes[letter].imshow(plane, cmap="cividis" if letter == "a" else AMOUNT, vmin=0, vmax=max(top, 1e-6),
                                    extent=grid_extent(field.grid_y_px, field.grid_x_px))
        hatched(axes[letter])
        bare(axes[letter])
        scale_bar(axes[letter], scale)
        colour_bar(figure, shown, axes[letter], label, extend="max")
    _draw_growth(axes["c"], growth, scale)
    lettered([axes[letter] for letter in "abc"], ["1-sigma error", "displacement in errors",
                                                   "displacement against time"])
    unit = growth.time_unit or "frames"
    return Drawn("fig6_errors", "Uncertainty and growth of the displacement",
                 f"Predicted 1-sigma error per axis of the displacement of frame {frame}, the displacement in units of "
                 "it (a point below 2 has no certain direction), and median and 95th percentile of the displacement of "
                 "every frame since its reference.",
                 figure, {"growth": {"index": growth.index, f"time_{unit}": growth.time,
                                     "flow_median_px": growth.median_px, "flow_p95_px": growth.p95_px}})


def _draw_growth(axis: Any, growth: Growth, scale: Scale) -> None:
    size = 2.2 if len(growth.index) <= 300 else 1.0
    axis.plot(growth.time, growth.p95_px, "s", color=ORANGE, ms=size, label="95th percentile")
    axis.plot(growth.time, growth.median_px, "o", color=BLUE, ms=size, label="median")
    axis.set_xlabel(f"time ({growth.time_unit})" if growth.time_unit else "frame")
    axis.set_ylabel("|u| (px)")
    axis.set_ylim(bottom=0)
    axis.legend(loc="upper left")
    known = growth.p95_px[np.isfinite(growth.p95_px)]
    scale.also(axis, "y", float(known.max(initial=0.0)))
