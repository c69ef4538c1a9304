"""Verdicts and alerts along the acquisition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from streamer.records import SEVERITIES, Alert
from streamer.report.drawing import (
    GREY,
    ORANGE,
    RED,
    TWO_COLUMNS_MM,
    VERDICT_COLOURS,
    VERDICT_MARKS,
    Array,
    Columns,
    Drawn,
    Scale,
    lettered,
    new_figure,
)

_SEVERITY_COLOURS = dict(zip(SEVERITIES, (GREY, "#E69F00", ORANGE, RED), strict=True))
_SEVERITY_MARKS = dict(zip(SEVERITIES, ("o", "v", "D", "X"), strict=True))
_MOST_BARS = 200


class Verdicts(NamedTuple):
    """Every frame in its place in the acquisition, (n,) each; NaN: not available."""

    place: Array
    verdict: Sequence[str]
    blur_length_px: Array
    blur_sigma_px: Array
    limit_px: Array
    """Shortest blur that the frame could have revealed."""
    score: Array
    replaced: Array
    """Whether the frame was taken again and stands in the place of another."""


def draw(verdicts: Verdicts, alerts: Sequence[Alert], scale: Scale, *, tolerance_px: float) -> Drawn:
    """Draw blur and verdict of every frame, and when alerts were raised."""
    told = [alert for alert in alerts if alert.index is not None]
    rules = list(dict.fromkeys(alert.rule for alert in told))
    figure = new_figure(TWO_COLUMNS_MM, 62 + max(18, 4.5 * len(rules)))
    axes = figure.subplots(2, 1, sharex=True, height_ratios=[62, max(18, 4.5 * len(rules))])
    _draw_blur(axes[0], verdicts, tolerance_px)
    scale.also(axes[0], "y", float(np.nanmax(verdicts.blur_length_px, initial=tolerance_px)))
    axis = axes[1]
    for severity in SEVERITIES:
        these = [alert for alert in told if alert.severity == severity]
        if these:
            axis.plot([alert.index for alert in these], [rules.index(alert.rule) for alert in these],
                      _SEVERITY_MARKS[severity], color=_SEVERITY_COLOURS[severity], label=severity)
    axis.set_yticks(range(len(rules)), [rule.replace("_", " ") for rule in rules])
    axis.set_ylim(len(rules) - 0.4, -0.6)
    axis.set_xlabel("frame")
    if told:
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    else:
        axis.text(0.5, 0.5, "no alerts about frames", ha="center", va="center", transform=axis.transAxes)
        axis.set_yticks([])
    lettered(axes, ["blur of every frame", "alerts, by the frame that raised them"])
    columns: Columns = {
        "place": verdicts.place, "verdict": verdicts.verdict, "blur_length_px": verdicts.blur_length_px,
        "blur_length_sigma_px": verdicts.blur_sigma_px, "blur_limit_px": verdicts.limit_px,
        "blur_score": verdicts.score, "taken_again": verdicts.replaced}
    return Drawn("fig0_timeline", "Verdicts and alerts",
                 "Length of the blur of every frame that stands (frames taken again in the place of those that they "
                 f"replace); bars are 1 sigma, the line is the tolerance of {tolerance_px:g} px, crosses mark frames "
                 "that were taken again. Grey: the shortest blur that the frame could have revealed.",
                 figure, {"frames": columns, "alerts": {
                     "index": [alert.index for alert in told], "rule": [alert.rule for alert in told],
                     "severity": [alert.severity for alert in told], "count": [alert.count for alert in told],
                     "text": [alert.text for alert in told]}}, vector=True)


def _draw_blur(axis: Any, verdicts: Verdicts, tolerance_px: float) -> None:
    names = np.array(verdicts.verdict, dtype=object)
    length = np.nan_to_num(verdicts.blur_length_px)
    axis.plot(verdicts.place, verdicts.limit_px, "-", color="#BBBBBB", lw=0.7, label="detection limit", zorder=1)
    for verdict, colour in VERDICT_COLOURS.items():
        these = names == verdict
        if not these.any():
            continue
        options = {"color": colour, "ms": 3 if verdict != "sharp" else 2, "lw": 0.7}
        axis.errorbar(verdicts.place[these], length[these],
                      np.nan_to_num(verdicts.blur_sigma_px[these]) if these.sum() <= _MOST_BARS else None,
                      fmt=VERDICT_MARKS[verdict], label=f"{verdict} ({int(these.sum())})", elinewidth=0.6, **options)
    again = np.asarray(verdicts.replaced, bool)
    if again.any():
        axis.plot(verdicts.place[again], length[again], "x", color="black", ms=5, label="taken again")
    axis.axhline(tolerance_px, color=GREY, lw=0.6, ls="--")
    axis.set_ylabel("blur length (px)")
    axis.set_ylim(bottom=-0.05 * max(float(length.max(initial=1.0)), 1.0))
    axis.legend(loc="center left", bbox_to_anchor=(1.09, 0.5))
