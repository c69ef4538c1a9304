"""Flagged frames before and after their blur was taken out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamer.imaging.recovery import Recovery
from streamer.report.drawing import (
    BLUE,
    GREY,
    ORANGE,
    TWO_COLUMNS_MM,
    Array,
    Drawn,
    Scale,
    levels,
    new_figure,
    show_picture,
)


@dataclass(frozen=True, eq=False)
class Restored:
    """One frame."""

    index: int
    told: str
    """Its blur in words."""
    before: Array
    """(M, N) corrected."""
    after: Array
    recovery: Recovery


def draw(frames: Sequence[Restored], scale: Scale) -> Drawn:
    """Draw every frame before and after, and the power along its blur."""
    height = sum(46 * frame.before.shape[0] / frame.before.shape[1] + 10 for frame in frames)
    figure = new_figure(TWO_COLUMNS_MM, height)
    axes = figure.subplots(len(frames), 3, squeeze=False, width_ratios=[1, 1, 1.2])
    numbers = {}
    for number, (frame, line) in enumerate(zip(frames, axes, strict=True)):
        limits = levels(frame.before)
        show_picture(line[0], frame.before, scale, limits=limits)
        show_picture(line[1], frame.after, scale, limits=limits)
        _draw_power(line[2], frame.recovery)
        for place, (axis, title) in enumerate(zip(line, (f"frame {frame.index}, {frame.told}", "restored",
                                                         "power along the blur"), strict=True)):
            axis.set_title(f"$\\bf{{({chr(97 + 3 * number + place)})}}$ {title}")
        found = frame.recovery
        numbers[f"frame_{frame.index}"] = {"frequency_cycles_per_px": found.frequency, "before": found.before,
                                           "after": found.after, "expected": found.expected}
    texts = " ".join(f"Frame {frame.index}: {frame.recovery.text}." for frame in frames).replace("..", ".")
    return Drawn("fig7_restored", "Previews of blurred frames",
                 f"Blurred frames, restored with the Wiener filter of their measured blur; previews, not data. {texts}",
                 figure, numbers)


def _draw_power(axis: Any, found: Recovery) -> None:
    for values, colour, mark, label in ((found.before, ORANGE, "o-", "blurred"), (found.after, BLUE, "s-", "restored"),
                                        (found.expected, GREY, "--", "expected sharp")):
        shown = np.where(values > 0, values, np.nan)
        axis.loglog(found.frequency, shown, mark, color=colour, ms=2, label=label)
    axis.set_ylim(bottom=0.03 * float(found.expected.min()))   # what is below is noise
    axis.set_xticks([0.02, 0.05, 0.1, 0.2], ["0.02", "0.05", "0.1", "0.2"])
    axis.set_xticks([], minor=True)
    axis.set_xlabel("frequency (cycles/px)")
    axis.set_ylabel("power of the structure")
    axis.legend(loc="lower left")
