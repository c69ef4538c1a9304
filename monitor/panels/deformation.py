"""How much the sample deformed: median and 95 % of the displacement against the frame number."""

from __future__ import annotations

import numpy as np

from monitor.panels.base import Panel, Scene, new_plot, style_plot
from monitor.panels.dots import Curve, Dots
from monitor.panels.field import NONE_YET
from monitor.panels.parts import Empty
from monitor.panels.timeline import FrameAxis, Timeline, settle, thin
from monitor.rows import Charts, FloatColumn, IntColumn
from monitor.tables import Table, frames_table
from monitor.theme import Theme


class DeformationPanel(Panel):
    """Two curves; the flow takes the newest frame only, so not every frame has a point."""

    title = "Deformation"

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.plot = new_plot("displacement / px", FrameAxis())
        self.curves = {name: Curve() for name in ("flow_p95_px", "flow_median_px")}
        self.dots = {name: Dots(symbol) for name, symbol in zip(self.curves, "to", strict=True)}
        for item in (*self.curves.values(), *self.dots.values()):
            self.plot.addItem(item)
        for dots in self.dots.values():
            dots.clicked.connect(self.chosen.emit)
        timeline.attach(self.plot)
        self._body.addWidget(self.plot, 1)
        self.empty = Empty(self.plot)
        self._range = (0.0, 1.0)

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        super().restyle(theme)
        style_plot(self.plot, theme)
        for name, colour in zip(self.curves, theme.series[1::-1], strict=True):
            self.curves[name].setPen(theme.pen(colour))
            self.dots[name].set_look(theme.px(5), None, theme.brush(colour))
        self._legend.set_runs([("   ▼ 95 %", theme.series[1]), ("   ● median", theme.series[0])])

    def as_table(self, scene: Scene) -> Table:
        """Return the frames that the chart spans."""
        return frames_table(scene.charts, tuple(self.curves), within=self.timeline.range)

    def refresh(self, scene: Scene) -> None:
        """Draw what the x range shows."""
        top = 0.1
        for name, curve in self.curves.items():
            x, y, places = self._points(scene.charts, name)
            curve.setData(x, y)
            some = np.isfinite(y)
            self.dots[name].set_dots(x[some], y[some], scene.charts.position[places[some]])
            top = max(top, float(y[some].max()) if some.any() else 0.0)
        drawn = any(dots.x.size for dots in self.dots.values())
        self.empty.say("" if drawn else NONE_YET)
        self._range = settle(self._range, 0.0, top, least=0.1)
        self.plot.getViewBox().setYRange(-0.02 * top, self._range[1], padding=0)

    def _points(self, charts: Charts, name: str) -> tuple[FloatColumn, FloatColumn, IntColumn]:
        """Return x, y and row of what is drawn, view after view, with a gap between two."""
        low, high = self.timeline.range
        values = charts.numbers[name]
        begin, end = np.searchsorted(charts.order, low, "left"), np.searchsorted(charts.order, high, "right")
        known = begin + np.flatnonzero(np.isfinite(values[begin:end]))
        views = np.unique(charts.view[known]) if len(charts.views) > 1 else [None]
        x, y, rows = [np.empty(0)], [np.empty(0)], [known[:0]]
        for number, view in enumerate(views):
            mine = known if view is None else known[charts.view[known] == view]
            mine = mine[thin(charts.order[mine], values[mine], low, high)]
            gap = min(number, 1)
            x += [np.zeros(gap), charts.order[mine]]
            y += [np.full(gap, np.nan), values[mine]]
            rows += [np.zeros(gap, np.int64), mine]
        return np.concatenate(x), np.concatenate(y), np.concatenate(rows)
