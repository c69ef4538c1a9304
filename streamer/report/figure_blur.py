"""Figure 1 of the paper: a blurred and a sharp frame, and what their power spectra say."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from streamer.records import SpectraResult
from streamer.report.drawing import (
    BLUE,
    GREY,
    ORANGE,
    TWO_COLUMNS_MM,
    Array,
    Drawn,
    Scale,
    bare,
    colour_bar,
    lettered,
    new_figure,
    panels,
    show_picture,
)

_INSET = (0.5, 0.5, 0.49, 0.48)
_INSET_FREQUENCIES = 0.03, 0.16


class Side(NamedTuple):
    """One of the two frames."""

    name: str
    """Such as ``frame 12``."""
    told: str
    """Its blur in words."""
    spectra: SpectraResult
    picture: Array | None = None
    """(M, N) corrected; None: there is none."""
    binning: int = 1


def draw(blurred: Side, sharp: Side, scale: Scale, *, no_picture: str = "") -> Drawn:
    """Draw the frames, their 2-D spectra, and the spectra along x and y with the band that tells most enlarged."""
    shape = next((side.picture.shape for side in (sharp, blurred) if side.picture is not None), (1, 1))
    heights = 52 * shape[0] / shape[1] + 11, 60
    figure = new_figure(TWO_COLUMNS_MM, sum(heights))
    parts: Any = figure.subfigures(1, 2, width_ratios=[1.85, 1])
    left, right = parts
    axes = panels(left, [("ab", heights[0]), ("cd", heights[1])]) | panels(right, [("e", 1.0), ("f", 1.0)])
    for letter, side in (("a", sharp), ("b", blurred)):
        if side.picture is None:
            bare(axes[letter])
            axes[letter].text(0.5, 0.5, no_picture or "no picture", ha="center", va="center", wrap=True,
                              transform=axes[letter].transAxes)
        else:
            show_picture(axes[letter], side.picture, scale, binning=side.binning)
    planes = [plane(side.spectra) for side in (sharp, blurred)]
    low, high = min(float(np.percentile(one, 2)) for one in planes), max(float(np.percentile(one, 99.8))
                                                                         for one in planes)
    for letter, one in zip("cd", planes, strict=True):
        shown = axes[letter].imshow(one, cmap="cividis", vmin=low, vmax=high, extent=(-0.5, 0.5, 0.5, -0.5))
        axes[letter].set_xlabel("$f_x$ (cycles/px)")
        axes[letter].set_xticks([-0.5, 0, 0.5])
        axes[letter].set_yticks([-0.5, 0, 0.5])
    axes["c"].set_ylabel("$f_y$ (cycles/px)")
    colour_bar(figure, shown, axes["d"], "log$_{10}$ power")
    _draw_cuts(axes["e"], blurred, sharp, "horizontal", scale)
    _draw_cuts(axes["f"], blurred, sharp, "vertical", scale)
    lettered([axes[letter] for letter in "abcdef"], [
        f"{sharp.name}, sharp", f"{blurred.name}, blurred", "spectrum of (a)", "spectrum of (b)",
        "power along x", "power along y"])
    return Drawn("fig1_blur", "A blurred and a sharp frame",
                 f"{blurred.name.capitalize()} ({blurred.told}) and {sharp.name} ({sharp.told}): corrected frames, "
                 "power per Fourier mode relative to the squared mean brightness, and its course along x and y; the "
                 "insets enlarge the band where blur shows first, dashed lines are the noise. A blur along x takes "
                 "power from the spectrum along x and leaves that along y.",
                 figure, {"spectra": columns(blurred, sharp)})


def plane(spectra: SpectraResult) -> Array:
    """Unfold a half spectrum to the whole one, log10 of the power; the power of a real picture is symmetric."""
    half = spectra.picture_low + (spectra.picture_high - spectra.picture_low) * spectra.picture.astype(np.float64) / 255
    return np.hstack([half[::-1, ::-1], half])


def frequency_of(power: Array) -> Array:
    """Cycles/px of the values of a spectrum along x or y."""
    return np.asarray(0.5 * (np.arange(len(power)) + 0.5) / len(power))


def columns(blurred: Side, sharp: Side) -> dict[str, Array]:
    """Put the curves side by side."""
    return {"frequency_cycles_per_px": frequency_of(sharp.spectra.horizontal)} | {
        f"{which}_{name}_relative_power": getattr(side.spectra, name)
        for which, side in (("sharp", sharp), ("blurred", blurred)) for name in ("horizontal", "vertical")}


def _draw_cuts(axis: Any, blurred: Side, sharp: Side, direction: str, scale: Scale) -> None:
    inset = axis.inset_axes(_INSET)
    values = []
    for side, colour, mark in ((sharp, BLUE, "-"), (blurred, ORANGE, "-")):
        power = getattr(side.spectra, direction)
        frequency = frequency_of(power)
        noise = getattr(side.spectra, f"noise_{direction}")
        noise = np.full(len(power), side.spectra.floor) if noise is None else noise
        for one in (axis, inset):
            one.semilogy(frequency, np.maximum(power, 1e-12), mark, color=colour, label=side.name)
        axis.semilogy(frequency, np.maximum(noise, 1e-12), "--", color=colour, lw=0.6)
        band = (frequency >= _INSET_FREQUENCIES[0]) & (frequency <= _INSET_FREQUENCIES[1])
        values.append(power[band])
    inside = np.concatenate(values)
    inset.set_xlim(*_INSET_FREQUENCIES)
    inset.set_ylim(0.7 * float(inside.min()), 1.4 * float(inside.max()))
    inset.tick_params(labelsize=5.5, which="both")
    inset.set_xticks([0.05, 0.1, 0.15])
    axis.indicate_inset_zoom(inset, edgecolor=GREY, lw=0.5)
    axis.set_xlim(0, 0.5)
    axis.set_xlabel("frequency (cycles/px)")
    axis.set_ylabel("relative power")
    floor = min(blurred.spectra.floor, sharp.spectra.floor)
    axis.set_ylim(bottom=0.08 * max(floor, 1e-12))   # room for the names
    axis.legend(loc="lower center", ncols=2)
    if scale.pixel_size_nm:
        per_um = 1000 / scale.pixel_size_nm
        second = axis.secondary_xaxis("top", functions=(lambda f: f * per_um, lambda f: f / per_um))
        second.set_xlabel("cycles/µm")
