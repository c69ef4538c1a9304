"""Figure 4 of the paper: how the sample deformed, from the raw picture to the representative volume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import BoundaryNorm, ListedColormap

from streamer.imaging import comparison, deformation
from streamer.imaging.flow import Field
from streamer.report.drawing import (
    AMOUNT,
    BLUE,
    CYCLIC,
    GREY,
    ORANGE,
    REGION_COLOURS,
    SIGNED,
    TWO_COLUMNS_MM,
    Array,
    Drawn,
    Scale,
    arrows,
    bare,
    colour_bar,
    extent_of,
    grid_extent,
    hatched,
    lettered,
    new_figure,
    panels,
    scale_bar,
    show_picture,
)
from streamer.report.figure_pairs import field_columns


class Pictures(NamedTuple):
    """What the cameras saw."""

    raw: Array
    """(M, N) uncorrected, of the frame."""
    difference: Array | None
    """(M, N) frame less reference at the same material, relative to the brightness; NaN where unknown."""
    particles: Array | None
    """(M, N) bool, of the reference; None where none were found."""
    binning: int = 1


class Other(NamedTuple):
    """The session to compare with."""

    name: str
    own_name: str
    amplitudes_px: Array
    """(n,) of its points, in px of this session."""
    is_same_length: bool = True
    """False: the size of a pixel is known of one session alone, and px are compared with px."""


class Deformed(NamedTuple):
    """The field of one frame and what it says."""

    frame: int
    reference: int
    field: Field
    regions: Array
    """(K, L) numbers of regions, -1 outside."""
    volume: Mapping[str, Any] | None
    """Fields of `representative_volume.Study`."""


def draw(found: Deformed, scale: Scale, *, pictures: Pictures | None = None, no_picture: str = "",
         other: Other | None = None) -> Drawn:
    """Draw maps, compass, histograms and the curves of the representative volume."""
    field = found.field
    rows, columns = field.valid.shape
    panel_mm = 45 * rows / columns + 8
    layout = [("abc", panel_mm), ("def", panel_mm), ("gh", 52.0), ("ij", 47.0)]
    figure = new_figure(TWO_COLUMNS_MM, sum(height for _, height in layout))
    axes = panels(figure, layout, polar="g", widths={"gh": [1, 2]})
    amount = np.where(field.valid, np.hypot(*field.displacement_px), np.nan)
    highest = float(np.nanpercentile(amount, 98)) if field.valid.any() else 1.0
    _draw_pictures(figure, axes, found, pictures, no_picture, scale)
    shown = axes["c"].imshow(amount, cmap=AMOUNT, vmin=0, vmax=max(highest, 1e-3), extent=_extent(field))
    colour_bar(figure, shown, axes["c"], scale.label("|u|"), extend="max")
    _draw_angles(figure, axes["d"], field)
    _draw_regions(figure, axes["f"], found)
    for letter in "cdf":
        hatched(axes[letter])
        bare(axes[letter])
        scale_bar(axes[letter], scale)
    compass = deformation.compass(field)
    _draw_compass(axes["g"], compass)
    numbers = _draw_amplitudes(axes["h"], field, scale, other)
    _draw_volume(axes, found.volume, scale)
    lettered([axes[letter] for letter in "abcdefghij"], [
        f"frame {found.frame}, raw" if pictures is not None else "raw", f"change since frame {found.reference}",
        "magnitude", "direction", "flow in the particles", "regions that move as one", "compass", "amplitudes",
        "amplitude of random boxes", "direction of random boxes"])
    numbers |= {"field": field_columns(field) | {"region": found.regions.ravel()}, "compass": {
        "from_deg": compass.edges_deg[:-1], "to_deg": compass.edges_deg[1:], "points": compass.counts,
        "mean_magnitude_px": compass.magnitude_px}}
    if found.volume is not None:
        numbers["representative_volume"] = {name: found.volume[name] for name in (
            "size_px", "amplitude_deviation_px", "direction_deviation_deg")}
    return Drawn("fig4_deformation", "Deformation", _caption(found, other), figure, numbers)


def _extent(field: Field) -> tuple[float, float, float, float]:
    return grid_extent(field.grid_y_px, field.grid_x_px)


def _draw_pictures(figure: Any, axes: dict[str, Any], found: Deformed, pictures: Pictures | None, no_picture: str,
                   scale: Scale) -> None:
    left, right, bottom, top = _extent(found.field)
    if pictures is None:
        bare(axes["a"])
        axes["a"].text(0.5, 0.5, no_picture, ha="center", va="center", wrap=True, transform=axes["a"].transAxes)
    else:
        show_picture(axes["a"], pictures.raw, scale, binning=pictures.binning)
    if pictures is not None and pictures.difference is not None:
        limit = float(np.nanpercentile(np.abs(pictures.difference), 99)) or 1.0
        shown = axes["b"].imshow(pictures.difference, cmap=SIGNED, vmin=-limit, vmax=limit,
                                 extent=extent_of(pictures.difference.shape, pictures.binning))
        colour_bar(figure, shown, axes["b"], "relative brightness", extend="both")
    inside = found.field.valid
    if pictures is not None and pictures.particles is not None:
        mask = pictures.particles
        axes["e"].imshow(np.where(mask, 0.75, 1.0), cmap="gray", vmin=0, vmax=1,
                         extent=extent_of(mask.shape, pictures.binning))
        at = [np.clip(np.rint(axis / pictures.binning).astype(int), 0, side - 1)
              for axis, side in zip((found.field.grid_y_px, found.field.grid_x_px), mask.shape, strict=True)]
        inside = inside & mask[np.ix_(*at)]
    else:
        axes["e"].text(0.5, 0.03, "no particles known: whole field", ha="center", va="bottom", fontsize=6,
                       transform=axes["e"].transAxes)
    for letter, field in (("b", found.field), ("e", found.field._replace(valid=inside))):
        arrows(axes[letter], field, colour="black" if letter == "b" else BLUE, most=22)
        axes[letter].set_xlim(left, right)
        axes[letter].set_ylim(bottom, top)
        axes[letter].set_aspect("equal")
        bare(axes[letter])
    scale_bar(axes["b"], scale)


def angles(field: Field) -> Array:
    """Direction of every point in degrees, 0 right, 90 up; NaN where it moved less than twice its error."""
    down, right = field.displacement_px
    clear = field.valid & (np.hypot(down, right) > deformation.SHORTEST * np.nan_to_num(field.sigma_px, nan=np.inf))
    return np.where(clear, np.degrees(np.arctan2(-down, right)) % 360, np.nan)


def _draw_angles(figure: Any, axis: Any, field: Field) -> None:
    shown = axis.imshow(angles(field), cmap=CYCLIC, vmin=0, vmax=360, extent=_extent(field))
    bar = colour_bar(figure, shown, axis, "direction (deg)")
    bar.set_ticks([0, 90, 180, 270, 360])


def _draw_regions(figure: Any, axis: Any, found: Deformed) -> None:
    numbers = [int(number) for number in np.unique(found.regions) if number > 0]
    if not numbers:
        axis.text(0.5, 0.5, "no regions", ha="center", va="center", transform=axis.transAxes)
        return
    places = np.searchsorted(numbers, found.regions).astype(float)
    places[found.regions <= 0] = np.nan
    colours = ListedColormap([REGION_COLOURS[(number - 1) % len(REGION_COLOURS)] for number in numbers])
    shown = axis.imshow(places, cmap=colours, norm=BoundaryNorm(np.arange(len(numbers) + 1) - 0.5, len(numbers)),
                        extent=_extent(found.field))
    bar = colour_bar(figure, shown, axis, "region", ticks=range(len(numbers)))
    bar.ax.set_yticklabels([str(number) for number in numbers])
    bar.ax.minorticks_off()


def _draw_compass(axis: Any, compass: deformation.Compass) -> None:
    width = np.radians(float(compass.edges_deg[1] - compass.edges_deg[0]))
    middle = np.radians(0.5 * (compass.edges_deg[:-1] + compass.edges_deg[1:]))
    magnitude = np.nan_to_num(compass.magnitude_px)
    shares = 100 * compass.counts / max(int(compass.counts.sum()), 1)
    colours = _magnitudes(magnitude)
    axis.bar(middle, shares, width * 0.95, color=colours, edgecolor="white", lw=0.3)
    axis.set_xticks(np.radians([0, 90, 180, 270]), ["0°", "90°", "180°", "270°"])
    top = float(shares.max(initial=1.0))
    axis.set_yticks([top / 2, top], [f"{top / 2:.0f} %", f"{top:.0f} %"], fontsize=5.5)
    diagonals = 45.0 + 90.0 * np.arange(4)   # between the names of the directions
    beside = [shares[np.abs((np.degrees(middle) - angle + 180) % 360 - 180) < 30].sum() for angle in diagonals]
    axis.set_rlabel_position(float(diagonals[int(np.argmin(beside))]))   # where the fewest bars are
    axis.tick_params(pad=-1)
    axis.grid(lw=0.3)
    axis.set_xlabel(f"colour: mean |u|, 0 to {float(magnitude.max(initial=0)):.2g} px", fontsize=6, labelpad=1)


def _magnitudes(magnitude: Array) -> Array:
    colours: Array = colormaps[AMOUNT](magnitude / max(float(magnitude.max(initial=0.0)), 1e-9))
    return colours


def _draw_amplitudes(axis: Any, field: Field, scale: Scale, other: Other | None) -> dict[str, Any]:
    own = np.hypot(*field.displacement_px)[field.valid]
    numbers: dict[str, Any] = {}
    if own.size and other is not None and other.amplitudes_px.size:
        both = comparison.compare(own, other.amplitudes_px)
        for share, colour, hatch, text in (
                (both.first, BLUE, "", f"{other.own_name}: median {both.first_median_px:.2f} px"),
                (both.second, ORANGE, "////", f"{other.name}: median {both.second_median_px:.2f} px")):
            axis.hist(both.edges_px[:-1], both.edges_px, weights=100 * share, histtype="stepfilled", edgecolor=colour,
                      facecolor="none" if hatch else colour, alpha=1.0 if hatch else 0.5, hatch=hatch, lw=0.8,
                      label=text)
        numbers["amplitudes"] = {"from_px": both.edges_px[:-1], "to_px": both.edges_px[1:], "share_own": both.first,
                                 "share_other": both.second}
        axis.plot([], [], " ", label=f"largest distance of the distributions: {both.distance:.2f}")
    elif own.size:
        found = deformation.amplitudes(field)
        axis.hist(found.edges[:-1], found.edges, weights=100 * found.counts / found.counts.sum(),
                  histtype="stepfilled", facecolor=BLUE, edgecolor=BLUE, alpha=0.5,
                  label=f"median {found.median:.2f} px, mean {found.mean:.2f} px")
        numbers["amplitudes"] = {"from_px": found.edges[:-1], "to_px": found.edges[1:], "points": found.counts}
    axis.set_xlabel("|u| (px)")
    axis.set_ylabel("points (%)")
    axis.set_ylim(0, (1.2 if other is None else 1.5) * axis.get_ylim()[1])   # room for the names
    if own.size:
        axis.legend(loc="upper right")
    scale.also(axis, "x", float(own.max(initial=0.0)))
    return numbers


def _draw_volume(axes: dict[str, Any], volume: Mapping[str, Any] | None, scale: Scale) -> None:
    for letter, name, settled, label, colour in (
            ("i", "amplitude_deviation_px", "amplitude_settled_px", "deviation (px)", BLUE),
            ("j", "direction_deviation_deg", "direction_settled_px", "deviation (deg)", ORANGE)):
        axis = axes[letter]
        axis.set_xlabel("side of the boxes (px)")
        axis.set_ylabel(label)
        if volume is None:
            axis.text(0.5, 0.5, "field too small", ha="center", va="center", transform=axis.transAxes)
            continue
        sizes, values = (np.array([np.nan if one is None else one for one in volume[key]], float)
                         for key in ("size_px", name))
        axis.plot(sizes, values, "o-", color=colour, ms=2.5)
        axis.set_ylim(bottom=0)
        half = float(sizes.max()) / 2
        axis.axvspan(half, float(sizes.max()), color="#EEEEEE", lw=0, zorder=0)
        place = volume[settled]
        told = "does not settle" if place is None else f"settled from {place:.0f} px on"
        if place is not None:
            axis.axvline(place, color=GREY, ls="--", lw=0.7)
        axis.text(0.98, 0.95, told, ha="right", va="top", fontsize=6.5, transform=axis.transAxes,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85})
        scale.also(axis, "x", float(sizes.max()))


def _caption(found: Deformed, other: Other | None) -> str:
    compared = "" if other is None else f", compared with those of the last field of {other.name}" + (
        " in px of this session" if other.is_same_length else
        " px for px, as the size of a pixel is not known of both")
    return (f"Displacement of frame {found.frame} since frame {found.reference}, the drift taken out. Directions are "
            "counter-clockwise from +x on the screen and told only where a point moved more than twice its error. "
            "Regions are groups of points that share one displacement, rotation and dilation. The compass counts "
            f"points by direction. Amplitudes are of all valid points{compared}. Boxes of more than half the view "
            "(grey) overlap each other: their deviation falls whatever the sample; settled means below a tenth of the "
            "mean amplitude, or of a radian.")
