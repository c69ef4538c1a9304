"""Blur length of every frame, with the shortest blur it could have shown and the tolerance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg

from monitor.panels.base import Panel, Scene, new_plot, style_plot
from monitor.panels.timeline import FrameAxis, Timeline, settle, thin
from monitor.rows import VERDICTS, Charts
from monitor.theme import GLYPHS, SYMBOLS, Theme

_SIZES = {"sharp": 5, "blurred": 12, "undecided": 8, "bad": 12, "refused": 11}


class SharpnessPanel(Panel):
    """Dots by verdict, in colour and shape; click one to select its frame."""

    title = "Sharpness"

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.plot = new_plot("blur length / px", FrameAxis())
        self.plot.setToolTip("grey ground: blur this short could not have been seen in the frame")
        self.limit = pg.PlotCurveItem(connect="finite", fillLevel=0)
        self.bars = pg.PlotCurveItem(connect="pairs")
        self.tolerance = pg.InfiniteLine(angle=0, movable=False)
        self.plot.addItem(self.limit)
        self.plot.addItem(self.bars)
        self.plot.addItem(self.tolerance)
        self.dots: dict[str, pg.ScatterPlotItem] = {}
        for word in ("sharp", "undecided", "blurred", "bad", "refused"):
            item = pg.ScatterPlotItem(symbol=SYMBOLS[word], hoverable=True, tip=None)
            item.sigClicked.connect(self._clicked)
            self.plot.addItem(item)
            self.dots[word] = item
        timeline.attach(self.plot)
        self._body.addWidget(self.plot, 1)
        self._range = (0.0, 4.0)

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        super().restyle(theme)
        style_plot(self.plot, theme)
        self.limit.setPen(theme.pen(theme.dim))
        self.limit.setBrush(theme.brush(theme.dim, 40))
        self.bars.setPen(theme.pen(theme.dim))
        self.tolerance.setPen(theme.pen(theme.major, dashed=True))
        for word, item in self.dots.items():
            colour = theme.verdict_colour(word)
            item.setBrush(theme.brush(colour))
            item.setPen(theme.pen(colour if word == "refused" else theme.background, 2.0 if word == "refused" else 0.7))
            item.setSize(theme.px(_SIZES[word]))

    def refresh(self, scene: Scene) -> None:
        """Draw what the x range shows."""
        charts = scene.charts
        x, length = charts.order, charts.numbers["blur_length_px"]
        low, high = self.timeline.range
        some = thin(x, length, low, high)
        self.limit.setData(x[some], charts.numbers["blur_limit_px"][some])
        sigma = charts.numbers["blur_length_sigma_px"][some]
        known = some[np.isfinite(sigma) & np.isfinite(length[some])]
        self._draw_bars(charts, known)
        for word, item in self.dots.items():
            chosen = self._chosen(charts, word, some, low, high)
            y = np.where(np.isfinite(length[chosen]), length[chosen], 0.0)   # no length: on the floor
            item.setData(x=x[chosen], y=y, data=charts.position[chosen])
        tolerance = scene.status.blur_tolerance_px if scene.status is not None else 0.0
        self.tolerance.setVisible(tolerance > 0)
        self.tolerance.setValue(tolerance)
        runs = [(f"   {GLYPHS[word]} {word}", self.theme.verdict_colour(word)) for word in self.dots]
        runs.append((f"   ┄ tolerance {tolerance:.1f} px", self.theme.major) if tolerance > 0 else ("", self.theme.dim))
        self._legend.set_runs([*runs, ("   ▒ limit", self.theme.dim)])
        shown = length[some]
        top = max([tolerance * 1.5, 1.0, *([float(np.nanmax(shown))] if np.isfinite(shown).any() else [])])
        self._range = settle(self._range, -0.02 * top, top, least=1.0)
        self.plot.getViewBox().setYRange(max(self._range[0], -0.05 * top), self._range[1], padding=0)

    def _chosen(self, charts: Charts, word: str, some: Any, low: float, high: float) -> Any:
        if word == "sharp":
            return some[charts.verdict[some] == VERDICTS.index("sharp")]
        code = 0 if word == "refused" else VERDICTS.index(word)
        marked = np.flatnonzero(charts.flagged & (charts.verdict == code))
        rank = thin(charts.order[marked], charts.numbers["blur_length_px"][marked], low, high, most=600)
        return marked[rank]

    def _draw_bars(self, charts: Charts, known: Any) -> None:
        length, sigma = charts.numbers["blur_length_px"][known], charts.numbers["blur_length_sigma_px"][known]
        ends = np.stack([np.maximum(length - sigma, 0.0), length + sigma], axis=1).ravel()
        self.bars.setData(np.repeat(charts.order[known], 2), ends)

    def _clicked(self, _item: Any, points: Any, _event: Any) -> None:
        if len(points):
            self.chosen.emit(int(points[0].data()))
