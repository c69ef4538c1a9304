"""What all figures share: journal sizes, type, colours, units, panel letters, pictures with scale bars."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import NDArray
from PIL import Image

from streamer.imaging.flow import Field

Array = NDArray[Any]
Columns = Mapping[str, Sequence[Any] | Array]
"""Columns of a table of numbers, the unit in each name."""

MM = 1 / 25.4
ONE_COLUMN_MM, TWO_COLUMNS_MM = 88.0, 180.0
PRINT_DPI, PAGE_DPI = 300, 200

BLUE, ORANGE, GREEN, PURPLE, SKY, RED, GREY = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#B2182B", "#777777")
"""Colours that the colour-blind can tell: Okabe & Ito; the red of ColorBrewer."""
VERDICT_COLOURS = {"sharp": BLUE, "blurred": ORANGE, "undecided": "#E69F00", "bad": "#000000"}
VERDICT_MARKS = {"sharp": "o", "blurred": "^", "undecided": "s", "bad": "X"}
REGION_COLOURS = (BLUE, "#E69F00", GREEN, PURPLE, SKY, ORANGE, "#F0E442", "#444444", "#882255", "#44AA99", "#999933",
                  "#AA4499")
AMOUNT, SIGNED, CYCLIC = "viridis", "RdBu_r", "twilight"

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans", "font.size": 7, "axes.titlesize": 7, "axes.labelsize": 7, "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5, "legend.fontsize": 6.5, "figure.titlesize": 8, "axes.linewidth": 0.6,
    "axes.titlelocation": "left", "axes.titlepad": 4, "axes.labelpad": 2, "xtick.major.width": 0.6,
    "ytick.major.width": 0.6, "xtick.minor.width": 0.4, "ytick.minor.width": 0.4, "xtick.major.size": 2.5,
    "ytick.major.size": 2.5, "xtick.minor.size": 1.5, "ytick.minor.size": 1.5, "lines.linewidth": 1.0,
    "lines.markersize": 3, "legend.frameon": False, "legend.handlelength": 1.4, "image.interpolation": "nearest",
    "savefig.facecolor": "white", "figure.facecolor": "white", "pdf.fonttype": 42, "svg.fonttype": "path",
    "svg.hashsalt": "txm-live", "axes.formatter.useoffset": False, "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
}


@contextmanager
def journal_style() -> Iterator[None]:
    """Draw and save with the type and lines of a journal."""
    with mpl.rc_context(_STYLE):
        yield


@dataclass(frozen=True)
class Drawn:
    """A figure, what it shows, and the numbers behind it."""

    name: str
    """Of its files and of its place in the page, such as ``fig2_drift``."""
    title: str
    caption: str
    figure: Figure
    numbers: Mapping[str, Columns] = field(default_factory=dict)
    """Tables by name."""
    vector: bool = False
    """Whether the page holds lines (SVG) instead of pixels (PNG)."""

    def picture(self, kind: str, *, dpi: int = PAGE_DPI) -> bytes:
        """Return the figure as a file of the given kind: ``png``, ``pdf`` or ``svg``; the same bytes every time."""
        stream = io.BytesIO()
        with journal_style():
            engine = self.figure.get_layout_engine()
            if engine is not None:   # panels are placed once: it costs as much as drawing them
                engine.execute(self.figure)
                self.figure.set_layout_engine("none")
            if kind == "png":   # what savefig does, drawn once instead of twice
                self.figure.set_dpi(dpi)
                canvas = FigureCanvasAgg(self.figure)
                canvas.draw()
                Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(stream, "png", dpi=(dpi, dpi))
            else:
                dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}[kind]
                self.figure.savefig(stream, format=kind, dpi=dpi, metadata=dates)
        return stream.getvalue()

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of its files: PDF, PNG (300 dpi), and a CSV for every table of numbers."""
        for kind in ("pdf", "png"):
            yield f"{self.name}.{kind}", self.picture(kind, dpi=PRINT_DPI)
        for name, columns in self.numbers.items():
            yield f"{self.name}_{name}.csv", as_csv(columns).encode()


def as_csv(columns: Columns) -> str:
    """Write columns as CSV; an empty cell is "not available"."""
    lines = [",".join(columns)]
    lines += [",".join(map(_cell, row)) for row in zip(*columns.values(), strict=True)]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float | np.floating) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, np.floating):
        # digits as many as tell the value apart, whatever anybody has set numpy to print
        return str(value.item()) if value.dtype == np.float64 else np.format_float_positional(value, trim="-")
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n') else text


class Scale(NamedTuple):
    """How lengths are told: in px, and on the sample where the size of a pixel is known."""

    pixel_size_nm: float | None = None

    def unit(self, typical_px: float) -> tuple[str, float] | None:
        """Return the unit that suits a length, and how much of it a pixel is; None without the size of a pixel."""
        if not self.pixel_size_nm:
            return None
        return ("nm", self.pixel_size_nm) if typical_px * self.pixel_size_nm < 1000 else (
            "µm", self.pixel_size_nm / 1000)

    def also(self, axis: Any, which: str, typical_px: float) -> None:
        """Add a second axis on the sample, at the right (``y``) or at the top (``x``)."""
        found = self.unit(typical_px)
        if found is None:
            return
        unit, per_px = found
        functions = (lambda px: px * per_px, lambda length: length / per_px)
        second = (axis.secondary_yaxis("right", functions=functions) if which == "y"
                  else axis.secondary_xaxis("top", functions=functions))
        (second.set_ylabel if which == "y" else second.set_xlabel)(unit)

    def label(self, what: str) -> str:
        """Name a quantity in px, and say what a px is."""
        return f"{what} (px)" if not self.pixel_size_nm else f"{what} (px = {self.pixel_size_nm:.4g} nm)"

    def text(self, length_px: float) -> str:
        """Write a length in both units."""
        found = self.unit(abs(length_px))
        return f"{length_px:.2f} px" + ("" if found is None else f" ({length_px * found[1]:.3g} {found[0]})")


def new_figure(width_mm: float, height_mm: float) -> Figure:
    """Make an empty figure of a printed size; nothing is kept of it elsewhere."""
    figure = Figure(figsize=(width_mm * MM, height_mm * MM), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(figure: Any, rows: Sequence[tuple[str, float]], *, polar: str = "",
           widths: Mapping[str, Sequence[float]] | None = None) -> dict[str, Any]:
    """Make rows of panels, each spaced for itself.

    Parameters
    ----------
    figure : Figure or a part of one
    rows : sequence of (str, float)
        Letters of the panels of a row, and its height relative to the others.
    polar : str
        Letters of those that are round.
    widths : mapping, optional
        Relative widths of the panels of a row, by its letters.
    """
    parts = np.atleast_1d(figure.subfigures(len(rows), 1, height_ratios=[height for _, height in rows]))
    found: dict[str, Any] = {}
    for part, (letters, _) in zip(parts, rows, strict=True):
        options = {letter: {"projection": "polar"} for letter in letters if letter in polar}
        found |= part.subplot_mosaic([list(letters)], per_subplot_kw=options,
                                     width_ratios=None if widths is None else widths.get(letters))
    return found


def hatched(axis: Any) -> None:
    """Hatch what a map does not cover."""
    axis.patch.set(facecolor="white", hatch="/////", edgecolor="#C8C8C8", lw=0)


def lettered(axes: Sequence[Any], titles: Sequence[str]) -> None:
    """Give panels their letters and what they show."""
    for place, (axis, title) in enumerate(zip(axes, titles, strict=True)):
        axis.set_title(f"$\\bf{{({chr(97 + place)})}}$ {title}")


def levels(image: Array, *, low: float = 0.5, high: float = 99.5) -> tuple[float, float]:
    """Return the brightness that becomes black and white."""
    finite = image[np.isfinite(image)]
    if not finite.size:
        return 0.0, 1.0
    bottom, top = (float(value) for value in np.percentile(finite, [low, high]))
    return (bottom, top) if top > bottom else (bottom - 0.5, bottom + 0.5)


def show_picture(axis: Any, image: Array, scale: Scale, *, binning: int = 1, limits: tuple[float, float] | None = None,
                 bar: bool = True) -> Any:
    """Show a picture in grey with the pixels of the frame as coordinates, and a scale bar."""
    low, high = levels(image) if limits is None else limits
    shown = axis.imshow(image, cmap="gray", vmin=low, vmax=high, extent=extent_of(image.shape, binning))
    bare(axis)
    if bar:
        scale_bar(axis, scale)
    return shown


def extent_of(shape: Sequence[int], binning: int = 1) -> tuple[float, float, float, float]:
    """Where a picture lies in the coordinates of the frame: left, right, bottom, top."""
    return -0.5, shape[1] * binning - 0.5, shape[0] * binning - 0.5, -0.5


def grid_extent(grid_y: Array, grid_x: Array) -> tuple[float, float, float, float]:
    """Where the cells of a grid lie in the coordinates of the frame."""
    steps = [float(axis[1] - axis[0]) if len(axis) > 1 else 1.0 for axis in (grid_y, grid_x)]
    return (float(grid_x[0]) - steps[1] / 2, float(grid_x[-1]) + steps[1] / 2,
            float(grid_y[-1]) + steps[0] / 2, float(grid_y[0]) - steps[0] / 2)


def bare(axis: Any) -> None:
    """Take the ticks away where a scale bar tells the size."""
    axis.set_xticks([])
    axis.set_yticks([])


def scale_bar(axis: Any, scale: Scale) -> None:
    """Draw a bar of a round length into the lower left corner, black on white."""
    left, right = sorted(axis.get_xlim())
    width = right - left
    per_px, unit = (1.0, "px") if not scale.pixel_size_nm else (scale.pixel_size_nm / 1000, "µm")
    length = round_length(width * per_px / 4)
    label = f"{length * 1000:g} nm" if unit == "µm" and length < 1 else f"{length:g} {unit}"
    bottom, top = sorted(axis.get_ylim())
    bar = AnchoredSizeBar(axis.transData, length / per_px, label, "lower left", pad=0.25, borderpad=0.4, sep=1.5,
                          size_vertical=0.02 * (top - bottom), label_top=True, fontproperties=FontProperties(size=6))
    bar.patch.set(alpha=0.8, lw=0)
    bar.set_zorder(6)
    axis.add_artist(bar)


def round_length(length: float) -> float:
    """Return the largest of 1, 2, 5, 10, ... that is not longer."""
    power = 10.0 ** math.floor(math.log10(length))
    return max(step * power for step in (1.0, 2.0, 5.0) if step * power <= length * 1.0001)


def colour_bar(figure: Figure, shown: Any, axis: Any, label: str, **options: Any) -> Any:
    """Put a colour bar beside a panel."""
    bar = figure.colorbar(shown, ax=axis, fraction=0.05, pad=0.02, **options)
    bar.set_label(label)
    bar.outline.set_linewidth(0.5)
    return bar


def arrows(axis: Any, field: Field, *, colour: str, most: int = 24, length: float | None = None, key: bool = True
           ) -> None:
    """Draw a displacement field as arrows, thinned.

    Parameters
    ----------
    axis : matplotlib axis
        In pixels of the reference.
    field : imaging.flow.Field
    colour : str
    most : int
        Arrows along the longer side.
    length : float, optional
        Displacement in px that is drawn as long as two arrows are apart; by default the 95th percentile.
    key : bool
        Draw an arrow of a round length with its number below the panel.
    """
    step = max(1, math.ceil(max(field.valid.shape) / most))
    y, x = np.meshgrid(field.grid_y_px[::step], field.grid_x_px[::step], indexing="ij")
    valid = field.valid[::step, ::step]
    down, right = (plane[::step, ::step][valid] for plane in field.displacement_px)
    magnitude = np.hypot(down, right)
    if length is None:
        length = float(np.percentile(magnitude, 95)) if magnitude.size else 1.0
    length = max(length, 1e-3)
    spacing = step * float(field.grid_x_px[1] - field.grid_x_px[0]) if len(field.grid_x_px) > 1 else 8.0
    drawn = axis.quiver(x[valid], y[valid], right, down, angles="xy", scale_units="xy", scale=length / (1.6 * spacing),
                        color=colour, width=0.005, headwidth=3.5, headlength=4, headaxislength=3.5, zorder=4)
    if key:
        shown = round_length(length)
        axis.quiverkey(drawn, 0.9, -0.045, shown, f"{shown:g} px", labelpos="W", labelsep=0.03, coordinates="axes",
                       color=colour if colour != "white" else "black", fontproperties={"size": 6})
