"""Figure 2 of the paper: rigid registration, and the drift against time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from streamer.report.drawing import (
    AMOUNT,
    BLUE,
    GREY,
    ORANGE,
    TWO_COLUMNS_MM,
    Array,
    Drawn,
    Scale,
    bare,
    extent_of,
    levels,
    new_figure,
    panels,
    scale_bar,
    show_picture,
)

_FEW = 300
"""Frames that are drawn as large dots, with lines between them."""


@dataclass(frozen=True, eq=False)
class Path:
    """Where every frame was, (n,) each in order of time; NaN: not known."""

    index: Array
    time: Array
    time_unit: str
    """``h``, ``min``, ``s``, or empty: `time` is the number of the frame."""
    drift_px: Array
    """(2, n) (y, x)."""
    sigma_px: Array
    trend_px: Array
    """(2, n)."""
    jitter_px: Array
    """(2, n)."""
    verdict: Sequence[str]


class TwoFrames(NamedTuple):
    """A frame before and after its drift was undone, beside the reference."""

    reference_name: str
    moved_name: str
    reference: Array
    """(M, N)."""
    moved: Array
    registered: Array
    """NaN where the frame shows nothing."""
    drift_px: tuple[float, float]
    binning: int = 1


def draw(path: Path, frames: TwoFrames | None, scale: Scale) -> Drawn:
    """Draw the overlay of two frames and the course of the drift."""
    rows = [("ef", 45.0), ("gh", 58.0), ("ij", 42.0)]
    if frames is not None:
        rows.insert(0, ("abcd", 44 * frames.reference.shape[0] / frames.reference.shape[1] + 9))
    figure = new_figure(TWO_COLUMNS_MM, sum(height for _, height in rows))
    axes = panels(figure, rows)
    titles = {}
    if frames is not None:
        titles = _draw_frames(axes, frames, scale)
    for letter, place, name in (("e", 0, "y"), ("f", 1, "x")):
        _draw_course(axes[letter], path, place, scale)
        titles[letter] = f"drift along {name}" + (" (down)" if place == 0 else " (right)")
    _draw_jitter(axes["g"], path, scale)
    _draw_way(figure, axes["h"], path, scale)
    _draw_histogram(axes["i"], path.drift_px, "drift (px)", scale)
    _draw_histogram(axes["j"], path.jitter_px, "jitter (px)", scale)
    titles |= {"g": "jitter", "h": "path", "i": "histogram of the drift", "j": "histogram of the jitter"}
    for place, letter in enumerate(sorted(titles)):
        axes[letter].set_title(f"$\\bf{{({chr(97 + place)})}}$ {titles[letter]}")
    return Drawn("fig2_drift", "Registration and drift", _caption(frames), figure, {"path": columns(path)})


def overlay(first: Array, second: Array) -> Array:
    """Paint one picture red and another blue, (M, N, 3) 0 to 1: grey where they agree, white where either is empty."""
    planes = []
    for image in (first, second):
        low, high = levels(image)
        planes.append(np.clip((image - low) / (high - low), 0, 1))
    red, blue = planes
    painted = np.stack([red, np.minimum(red, blue), blue], axis=-1)
    return np.where(np.isfinite(red + blue)[..., None], painted, 1.0)


def columns(path: Path) -> dict[str, Sequence[Any] | Array]:
    """Put the course of the drift in columns."""
    unit = path.time_unit or "frames"
    return {"index": path.index, f"time_{unit}": path.time, "verdict": path.verdict, "drift_y_px": path.drift_px[0],
            "drift_x_px": path.drift_px[1], "drift_sigma_px": path.sigma_px, "trend_y_px": path.trend_px[0],
            "trend_x_px": path.trend_px[1], "jitter_y_px": path.jitter_px[0], "jitter_x_px": path.jitter_px[1]}


def _caption(frames: TwoFrames | None) -> str:
    pictures = "" if frames is None else (
        f"{frames.reference_name.capitalize()} and {frames.moved_name}, and both in red and blue before and after "
        f"the drift of ({frames.drift_px[0]:+.2f}, {frames.drift_px[1]:+.2f}) px (y, x) is undone: grey where they "
        "agree. ")
    return pictures + ("Drift relative to the first usable frame, y down and x right; the line is the trend, the band "
                       "1 sigma of the drift, and the jitter what is left. Triangles are blurred frames. The path is "
                       "coloured by time.")


def _draw_frames(axes: dict[str, Any], frames: TwoFrames, scale: Scale) -> dict[str, str]:
    for letter, image in (("a", frames.reference), ("b", frames.moved)):
        show_picture(axes[letter], image, scale, binning=frames.binning)
    for letter, image in (("c", frames.moved), ("d", frames.registered)):
        axes[letter].imshow(overlay(frames.reference, image), extent=extent_of(image.shape, frames.binning))
        bare(axes[letter])
        scale_bar(axes[letter], scale)
    return {"a": f"{frames.reference_name} (red)", "b": f"{frames.moved_name} (blue)", "c": "before registration",
            "d": "after registration"}


def _time_label(path: Path) -> str:
    return f"time ({path.time_unit})" if path.time_unit else "frame"


def _draw_course(axis: Any, path: Path, place: int, scale: Scale) -> None:
    drift = path.drift_px[place]
    known = np.isfinite(drift)
    axis.fill_between(path.time, drift - path.sigma_px, drift + path.sigma_px, where=known, color="#CFE3F1", lw=0)
    blurred = known & (np.array(path.verdict, dtype=object) == "blurred")
    size = 2.2 if len(drift) <= _FEW else 1.0
    axis.plot(path.time[known & ~blurred], drift[known & ~blurred], "o", ms=size, color=BLUE, label="drift")
    if blurred.any():
        axis.plot(path.time[blurred], drift[blurred], "^", ms=2.8, color=ORANGE, label="blurred frame", zorder=4)
    axis.plot(path.time, path.trend_px[place], "-", color="black", lw=0.9, label="trend")
    axis.set_xlabel(_time_label(path))
    axis.set_ylabel(f"{'yx'[place]} drift (px)")
    axis.legend(loc="best")
    scale.also(axis, "y", _largest(drift))


def _draw_jitter(axis: Any, path: Path, scale: Scale) -> None:
    few = len(path.index) <= _FEW
    size = 2.0 if few else 1.0
    for place, colour, mark in ((0, BLUE, "o-"), (1, ORANGE, "s-")):
        values = path.jitter_px[place]
        told = f"{'yx'[place]}, rms {_rms(values):.2f} px" if np.isfinite(values).any() else "yx"[place]
        axis.plot(path.time, values, mark, color=colour, ms=size, lw=0.4 if few else 0.0, label=told)
    axis.axhline(0, color=GREY, lw=0.5)
    axis.set_xlabel(_time_label(path))
    axis.set_ylabel("jitter (px)")
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.22 * (high - low))   # room for the names
    axis.legend(loc="upper right", ncols=2, markerscale=1.0 if few else 3.0)
    scale.also(axis, "y", _largest(path.jitter_px))


def _draw_way(figure: Any, axis: Any, path: Path, scale: Scale) -> None:
    known = np.isfinite(path.drift_px).all(axis=0)
    axis.plot(path.drift_px[1, known], path.drift_px[0, known], "-", color="#BBBBBB", lw=0.4, zorder=1)
    shown = axis.scatter(path.drift_px[1, known], path.drift_px[0, known], c=path.time[known], cmap=AMOUNT, s=6,
                         zorder=2, linewidths=0)
    axis.set_aspect("equal", adjustable="datalim")
    axis.invert_yaxis()
    axis.set_xlabel("x drift (px)")
    axis.set_ylabel("y drift (px)")
    if known.any():
        bar = figure.colorbar(shown, cax=axis.inset_axes([1.03, 0, 0.03, 1]))
        bar.set_label(_time_label(path))


def _draw_histogram(axis: Any, values: Array, label: str, scale: Scale) -> None:
    known = values[np.isfinite(values)]
    if known.size:
        edges = np.histogram_bin_edges(known, min(40, max(8, int(np.sqrt(known.size) * 1.5))))
        for place, colour, hatch in ((0, BLUE, ""), (1, ORANGE, "////")):
            one = values[place][np.isfinite(values[place])]
            axis.hist(one, edges, histtype="stepfilled", facecolor=colour if not hatch else "none", edgecolor=colour,
                      alpha=0.45 if not hatch else 1.0, hatch=hatch, lw=0.8,
                      label=f"{'yx'[place]}: mean {one.mean():+.2f}, s.d. {one.std():.2f} px")
        low, high = axis.get_ylim()
        axis.set_ylim(low, 1.6 * high)   # room for the names
        axis.legend(loc="upper right")
    axis.set_xlabel(label)
    axis.set_ylabel("frames")
    scale.also(axis, "x", _largest(values))


def _largest(values: Array) -> float:
    known = np.abs(values[np.isfinite(values)])
    return float(known.max(initial=0.0))


def _rms(values: Array) -> float:
    return float(np.sqrt(np.nanmean(np.square(values))))
