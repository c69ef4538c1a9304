"""Figure 3 of the paper: displacement fields of two pairs of frames, and where they disagree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.ndimage

from streamer.imaging import comparison, deformation
from streamer.imaging.flow import Field
from streamer.report.drawing import (
    AMOUNT,
    BLUE,
    ORANGE,
    TWO_COLUMNS_MM,
    Array,
    Drawn,
    Scale,
    arrows,
    bare,
    colour_bar,
    grid_extent,
    hatched,
    lettered,
    levels,
    new_figure,
    panels,
    scale_bar,
)

WINDOW_SHARE = 0.28
"""Of each side of the field, for the enlarged regions."""
_LEAST_VALID = 0.5


class Pair(NamedTuple):
    """The displacement from one frame to another."""

    first: int
    second: int
    drift_px: tuple[float, float]
    """Of the second relative to the first."""
    field: Field
    """On the grid of the first frame."""
    origin_px: tuple[float, float]
    """Drift of the first frame: what is subtracted from the grid for places on the sample."""
    remarks: str = ""

    @property
    def name(self) -> str:
        """Such as ``3 → 13``."""
        return f"{self.first} → {self.second}"


class Box(NamedTuple):
    """A part of the field that is enlarged, in px of the first frame of the first pair."""

    top_px: float
    left_px: float
    bottom_px: float
    right_px: float


def draw(pairs: Sequence[Pair], scale: Scale, *, picture: Array | None = None, boxes: Sequence[Box] = ()) -> Drawn:
    """Draw one or two fields, both on each other, two regions enlarged, and histograms.

    Parameters
    ----------
    pairs : sequence of Pair
        One or two.
    scale : Scale
    picture : (M, N), optional
        First frame of the first pair, below the arrows.
    boxes : sequence of Box
        Regions to enlarge; by default two where the fields disagree most.
    """
    rows, columns = pairs[0].field.valid.shape
    panel_mm, both = 45 * rows / columns + 8, len(pairs) > 1
    layout = [("abc", panel_mm), ("def", panel_mm), ("gh", 48.0)] if both else [
        ("ag", max(70 * rows / columns + 8, 48.0)), ("h", 48.0)]
    figure = new_figure(TWO_COLUMNS_MM, sum(height for _, height in layout))
    axes = panels(figure, layout)
    highest = max(_p98(pair.field) for pair in pairs)
    for letter, pair in zip("ab", pairs, strict=False):
        shown = _draw_field(axes[letter], pair.field, highest, scale)
        colour_bar(figure, shown, axes[letter], scale.label("|u|"), extend="max")
    titles = [f"frames {pair.name}" for pair in pairs]
    letters = list("ab")[:len(pairs)]
    if both:
        boxes = _draw_both(figure, axes, pairs, scale, picture, boxes)
        letters += list("cdef")
        titles += ["both", "region 1", "region 2", "difference"]
    _draw_histograms(axes, pairs, scale)
    lettered([axes[letter] for letter in [*letters, "g", "h"]], [*titles, "amplitudes", "directions"])
    return Drawn("fig3_pairs", "Displacement between pairs of frames", _caption(pairs, both=both), figure,
                 _numbers(pairs, boxes))


def on_first(pairs: Sequence[Pair]) -> comparison.Overlay:
    """Bring the second field to the places of the first, by the drift between their first frames."""
    first, second = pairs[:2]
    way = [there - here for there, here in zip(second.origin_px, first.origin_px, strict=True)]
    moved = second.field._replace(grid_y_px=second.field.grid_y_px - np.float32(way[0]),
                                  grid_x_px=second.field.grid_x_px - np.float32(way[1]))
    return comparison.overlay(first.field, moved)


def disagreeing(both: comparison.Overlay, *, count: int = 2, share: float = WINDOW_SHARE) -> list[Box]:
    """Choose the regions where two fields differ most, that do not overlap and are valid for the better half.

    Returns
    -------
    list of Box
        The largest mean squared difference first; fewer than `count` where there is too little to compare.
    """
    shape = both.valid.shape
    size = [max(2, round(share * length)) for length in shape]
    squared = np.where(both.valid, np.sum(np.square(both.difference_px.astype(np.float64)), axis=0), 0.0)
    inside = scipy.ndimage.uniform_filter(both.valid.astype(np.float64), size, mode="constant")
    mean = scipy.ndimage.uniform_filter(squared, size, mode="constant") / np.maximum(inside, 1e-9)
    mean[inside < _LEAST_VALID] = -1.0
    half = [side // 2 for side in size]
    mean[:half[0]] = mean[shape[0] - half[0]:] = -1.0
    mean[:, :half[1]] = mean[:, shape[1] - half[1]:] = -1.0
    boxes: list[Box] = []
    while len(boxes) < count and float(mean.max(initial=-1.0)) >= 0.0:
        row, column = (int(place) for place in np.unravel_index(int(mean.argmax()), shape))
        top, left = row - half[0], column - half[1]
        bottom, right = min(top + size[0], shape[0]) - 1, min(left + size[1], shape[1]) - 1
        boxes.append(Box(float(both.grid_y_px[top]), float(both.grid_x_px[left]), float(both.grid_y_px[bottom]),
                         float(both.grid_x_px[right])))
        mean[max(row - size[0], 0):row + size[0], max(column - size[1], 0):column + size[1]] = -1.0
    return boxes


def _draw_field(axis: Any, field: Field, highest: float, scale: Scale) -> Any:
    amount = np.where(field.valid, np.hypot(*field.displacement_px), np.nan)
    shown = axis.imshow(amount, cmap=AMOUNT, vmin=0, vmax=highest, extent=grid_extent(field.grid_y_px, field.grid_x_px))
    hatched(axis)
    arrows(axis, field, colour="white", length=highest)
    bare(axis)
    scale_bar(axis, scale)
    return shown


def _draw_both(figure: Any, axes: dict[str, Any], pairs: Sequence[Pair], scale: Scale, picture: Array | None,
               boxes: Sequence[Box]) -> Sequence[Box]:
    both = on_first(pairs)
    fields = [Field(both.grid_y_px, both.grid_x_px, way, both.valid, both.sigma_px)
              for way in (both.first_px, both.second_px)]
    boxes = boxes or disagreeing(both)
    highest = max(_p98(field) for field in fields)
    for letter in "cde":
        if picture is not None:
            low, high = levels(picture)
            axes[letter].imshow(picture, cmap="gray", vmin=low - 0.2 * (high - low), vmax=high, alpha=0.55)
        box = None if letter == "c" else dict(zip("de", boxes, strict=False)).get(letter)
        if letter != "c" and box is None:
            axes[letter].text(0.5, 0.5, "too little in common", ha="center", va="center",
                              transform=axes[letter].transAxes)
            bare(axes[letter])
            continue
        for field, colour in zip(fields, (BLUE, ORANGE), strict=True):
            arrows(axes[letter], _cut(field, box), colour=colour, most=20 if box is None else 12, length=highest,
                   key=colour == BLUE)
        _frame(axes[letter], fields[0], box)
        axes[letter].set_aspect("equal")
        bare(axes[letter])
        scale_bar(axes[letter], scale)
    for number, box in enumerate(boxes[:2], start=1):
        xs = [box.left_px, box.right_px, box.right_px, box.left_px, box.left_px]
        axes["c"].plot(xs, [box.top_px, box.top_px, box.bottom_px, box.bottom_px, box.top_px], "k-", lw=0.9, zorder=6)
        axes["c"].text(box.left_px, box.top_px, f"{number}", va="top", weight="bold", zorder=7,
                       bbox={"facecolor": "white", "edgecolor": "black", "pad": 1.2, "lw": 0.9})
    difference = np.where(both.valid, np.hypot(*both.difference_px), np.nan)
    shown = axes["f"].imshow(difference, cmap=AMOUNT, vmin=0, extent=grid_extent(both.grid_y_px, both.grid_x_px))
    hatched(axes["f"])
    bare(axes["f"])
    colour_bar(figure, shown, axes["f"], "|u$_2$ - u$_1$| (px)")
    return boxes


def _frame(axis: Any, field: Field, box: Box | None) -> None:
    left, right, bottom, top = grid_extent(field.grid_y_px, field.grid_x_px)
    if box is not None:
        top, left, bottom, right = box
    axis.set_xlim(left, right)
    axis.set_ylim(bottom, top)


def _cut(field: Field, box: Box | None) -> Field:
    if box is None:
        return field
    rows = (field.grid_y_px >= box.top_px) & (field.grid_y_px <= box.bottom_px)
    columns = (field.grid_x_px >= box.left_px) & (field.grid_x_px <= box.right_px)
    at = np.ix_(rows, columns)
    return Field(field.grid_y_px[rows], field.grid_x_px[columns], np.stack([plane[at] for plane in
                 field.displacement_px]), field.valid[at], field.sigma_px[at])


def _draw_histograms(axes: dict[str, Any], pairs: Sequence[Pair], scale: Scale) -> None:
    edges = _edges(pairs)
    for pair, colour, hatch in zip(pairs, (BLUE, ORANGE), ("", "////"), strict=False):
        style = {"histtype": "stepfilled", "facecolor": "none" if hatch else colour, "edgecolor": colour,
                 "alpha": 1.0 if hatch else 0.5, "hatch": hatch, "lw": 0.8}
        found = deformation.amplitudes(pair.field, bins=edges)
        share = 100 / max(int(found.counts.sum()), 1)
        axes["g"].hist(edges[:-1], edges, weights=share * found.counts, label=f"{pair.name}: median "
                       f"{found.median:.2f} px", **style)
        ways = deformation.directions(pair.field)
        share = 100 / max(int(ways.counts.sum()), 1)
        axes["h"].hist(ways.edges[:-1], ways.edges, weights=share * ways.counts,
                       label=f"{pair.name}: {int(ways.counts.sum())} points", **style)
    axes["g"].set_xlabel("|u| (px)")
    scale.also(axes["g"], "x", float(edges[-1]))
    axes["h"].set_xlabel("direction (deg; 0 right, 90 up)")
    axes["h"].set_xticks([0, 90, 180, 270, 360])
    for letter in "gh":
        axes[letter].set_ylabel("points (%)")
        axes[letter].set_ylim(0, 1.45 * axes[letter].get_ylim()[1])
        axes[letter].legend(loc="upper right")


def _edges(pairs: Sequence[Pair]) -> Array:
    return np.linspace(0, max(1.15 * max(_p98(pair.field) for pair in pairs), 1e-3), 33, dtype=np.float32)


def _p98(field: Field) -> float:
    magnitude = np.hypot(*field.displacement_px)[field.valid]
    found = float(np.percentile(magnitude, 98)) if magnitude.size else math.nan
    return found if found > 1e-3 else 1e-3


def _caption(pairs: Sequence[Pair], *, both: bool) -> str:
    told = "; ".join(f"{pair.name}: drift ({pair.drift_px[0]:+.2f}, {pair.drift_px[1]:+.2f}) px, "
                     f"{100 * pair.field.valid.mean():.0f} % of the points valid"
                     + (f", {pair.remarks}" if pair.remarks else "") for pair in pairs)
    more = (" Both fields are drawn at the places of the first frame of the first pair (first blue, second orange), "
            "and enlarged where they differ most." if both else "")
    return (f"Displacement beyond the drift between frames ({told}). Hatched: not valid. The arrow below a panel is "
            f"the length of its number.{more} Directions of points that moved less than twice their error are not "
            "counted.")


def _numbers(pairs: Sequence[Pair], boxes: Sequence[Box]) -> dict[str, dict[str, Any]]:
    edges, found = _edges(pairs), {}
    amplitude: dict[str, Any] = {"from_px": edges[:-1], "to_px": edges[1:]}
    direction: dict[str, Any] = {}
    for pair in pairs:
        name = f"{pair.first}_to_{pair.second}"
        found[f"field_{name}"] = field_columns(pair.field)
        amplitude[f"points_{name}"] = deformation.amplitudes(pair.field, bins=edges).counts
        ways = deformation.directions(pair.field)
        direction |= {"from_deg": ways.edges[:-1], "to_deg": ways.edges[1:], f"points_{name}": ways.counts}
    found |= {"amplitudes": amplitude, "directions": direction}
    if boxes:
        found["regions"] = {name: [getattr(box, name) for box in boxes] for name in Box._fields}
    return found


def field_columns(field: Field) -> dict[str, Any]:
    """Put the points of a field in columns."""
    y, x = np.meshgrid(field.grid_y_px, field.grid_x_px, indexing="ij")
    return {"y_px": y.ravel(), "x_px": x.ravel(), "displacement_y_px": field.displacement_px[0].ravel(),
            "displacement_x_px": field.displacement_px[1].ravel(), "sigma_px": field.sigma_px.ravel(),
            "valid": field.valid.ravel()}
