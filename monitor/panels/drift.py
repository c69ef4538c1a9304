"""Drift against the frame number, y above x."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg

from monitor.panels.base import Panel, Scene, new_plot, style_plot
from monitor.panels.timeline import FrameAxis, Timeline, settle, thin
from monitor.rows import Charts
from monitor.theme import Theme
from monitor.words import length_um, value

MOST_VIEWS = 6


class _Strip:
    """One axis of the drift: dots, trend and a band of one sigma, for each view."""

    def __init__(self, panel: DriftPanel, axis: str, *, with_numbers: bool) -> None:
        self.axis = axis
        self.plot = new_plot(f"{axis} / px", FrameAxis())
        self.plot.getAxis("bottom").setStyle(showValues=with_numbers)
        self.dots: list[pg.ScatterPlotItem] = []
        self.trends: list[pg.PlotCurveItem] = []
        self.bands: list[pg.FillBetweenItem] = []
        self.theme = panel.theme
        self.range = (-1.0, 1.0)
        for _ in range(MOST_VIEWS):
            edges = [pg.PlotCurveItem(pen=None), pg.PlotCurveItem(pen=None)]
            self.bands.append(pg.FillBetweenItem(*edges))
            self.dots.append(pg.ScatterPlotItem(pen=None, hoverable=True, tip=None))
            self.trends.append(pg.PlotCurveItem(connect="finite"))
            self.dots[-1].sigClicked.connect(panel.clicked)
            for item in (*edges, self.bands[-1], self.trends[-1], self.dots[-1]):
                self.plot.addItem(item)
        panel.timeline.attach(self.plot)

    def restyle(self, theme: Theme) -> None:
        self.theme = theme
        style_plot(self.plot, theme)
        for number, colour in enumerate(theme.series):
            self.dots[number].setBrush(theme.brush(colour, 200))
            self.dots[number].setSize(theme.px(4.5))
            self.bands[number].setBrush(theme.brush(colour, 70))

    def draw(self, charts: Charts, views: list[int], low: float, high: float) -> None:
        drift, trend = charts.numbers[f"drift_{self.axis}_px"], charts.numbers[f"trend_{self.axis}_px"]
        sigma = charts.numbers["drift_sigma_px"]
        extremes: list[float] = []
        for number in range(MOST_VIEWS):
            view = views[number] if number < len(views) else -1
            mine = np.flatnonzero((charts.view == view) & np.isfinite(drift))
            some = mine[thin(charts.order[mine], drift[mine], low, high)]
            x = charts.order[some]
            self.dots[number].setData(x=x, y=drift[some], data=charts.position[some])
            colour = self.theme.series[number] if len(views) > 1 else self.theme.trend
            self.trends[number].setData(x, trend[some], pen=self.theme.pen(colour))
            sure = some[np.isfinite(sigma[some] + trend[some])]
            for edge, sign in zip(self.bands[number].curves, (-1, 1), strict=True):
                edge.setData(charts.order[sure], trend[sure] + sign * sigma[sure])
            if some.size:
                extremes += [float(drift[some].min()), float(drift[some].max())]
        if extremes:
            self.range = settle(self.range, min(extremes), max(extremes), least=0.5)
            self.plot.getViewBox().setYRange(*self.range, padding=0)


class DriftPanel(Panel):
    """Dots are measured drifts, the line is their systematic part; within the band, of one sigma, is no jitter."""

    title = "Drift"

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.strips = [_Strip(self, "y", with_numbers=False), _Strip(self, "x", with_numbers=True)]
        for strip in self.strips:
            self._body.addWidget(strip.plot, 1)

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        super().restyle(theme)
        for strip in self.strips:
            strip.restyle(theme)

    def refresh(self, scene: Scene) -> None:
        """Draw what the x range shows."""
        charts = scene.charts
        views = np.unique(charts.view[np.isfinite(charts.numbers["drift_y_px"])]).tolist()
        for strip in self.strips:
            strip.draw(charts, views[:MOST_VIEWS], *self.timeline.range)
        runs: list[tuple[str, str | None]] = [("   • measured   — trend ± σ", self.theme.dim)]
        if len(views) > 1:
            runs = [(f"   ● {charts.views[view] or 'unnamed view'}", self.theme.series[number])
                    for number, view in enumerate(views[:MOST_VIEWS])]
            more = len(views) - MOST_VIEWS
            runs += [(f"   and {more} more views: choose one above", self.theme.dim)] if more > 0 else []
        elif newest := scene.store.row(scene.newest):
            y, x = newest.drift_y_px, newest.drift_x_px
            size = scene.pixel_size_nm
            um = f"  ({length_um(y, size)}, {length_um(x, size)})" if size and y is not None else ""
            y_px, x_px = (value(drift, digits=2, signed=True) for drift in (y, x))
            runs.append((f"   now y {y_px}, x {x_px} px{um}", None))
        self._legend.set_runs(runs)

    def clicked(self, _item: Any, points: Any, _event: Any) -> None:
        """Select the frame of the dot."""
        if len(points):
            self.chosen.emit(int(points[0].data()))
