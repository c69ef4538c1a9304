"""How far and which way the points of the field moved: two histograms."""

from __future__ import annotations

import numpy as np
import pyqtgraph as pg
from pyqtgraph.Qt import QtWidgets

from monitor.fields import SECTORS, bins, moved
from monitor.panels.base import Scene, new_plot, style_plot
from monitor.panels.field import FieldPanel
from monitor.panels.parts import Empty
from monitor.panels.timeline import Timeline
from monitor.tables import Table, steps_table
from monitor.theme import Theme
from monitor.words import both_units
from streamer.records import FlowResult

_QUARTERS = [(degrees, str(degrees)) for degrees in range(0, 361, 90)]


class FlowHistogramsPanel(FieldPanel):
    """Amplitude of all valid points, those above the noise filled; direction of these."""

    title = "Flow"

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.amplitude = new_plot("points", "amplitude / px")
        self.direction = new_plot("", "direction / °, 90 = up")
        self.amplitude.setToolTip("outline: all valid points; filled: those above twice their error")
        self.direction.setToolTip("of the points above twice their error: 0 = right, 90 = up on the screen, "
                                  "counter-clockwise")
        self.direction.getAxis("bottom").setTicks([_QUARTERS])
        self.all, self.above, self.ways = (
            pg.PlotCurveItem([0.0, 1.0], [0], stepMode="center", fillLevel=0) for _ in range(3))
        row = QtWidgets.QHBoxLayout()
        row.setSpacing(2)
        for plot, items in ((self.amplitude, (self.above, self.all)), (self.direction, (self.ways,))):
            plot.setMouseEnabled(x=False, y=False)
            for item in items:
                plot.addItem(item)
            row.addWidget(plot, 1)
        self._body.addLayout(row, 1)
        self.empty = Empty(self)

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        super().restyle(theme)
        for plot in (self.amplitude, self.direction):
            style_plot(plot, theme)
        self.all.setPen(theme.pen(theme.dim))
        self.all.setBrush(None)
        for item, colour in ((self.above, theme.series[0]), (self.ways, theme.series[1])):
            item.setPen(theme.pen(colour))
            item.setBrush(theme.brush(colour, 110))

    def draw(self, flow: FlowResult, pixel_size_nm: float | None) -> str:
        """Count."""
        found = moved(flow)
        if not found.amplitude_px.size:
            return f"no point of the field of frame {flow.index} is valid"
        edges = bins(np.append(found.amplitude_px, 0.0))
        every, above = (np.histogram(part, edges)[0] for part in (found.amplitude_px, found.amplitude_px[found.above]))
        self.all.setData(edges, every)
        self.above.setData(edges, above)
        ways, turns = np.histogram(found.direction_deg[found.above], SECTORS, (0.0, 360.0))
        self.ways.setData(turns, ways)
        _fit(self.amplitude, float(edges[-1]), int(every.max()))
        _fit(self.direction, 360.0, int(ways.max()))
        median = float(np.median(found.amplitude_px))
        self._legend.set_runs([
            (self.whose(flow), self.theme.dim),
            (f"   median {both_units(median, pixel_size_nm)}", self.theme.text),
            (f"   {int(found.above.sum())} of {found.amplitude_px.size} points above the noise", self.theme.dim)])
        return ""

    def as_table(self, scene: Scene) -> Table:
        """Return the bins of both histograms side by side."""
        del scene
        edges, every = self.all.getData()
        turns, ways = self.ways.getData()
        return {**steps_table("amplitude_px", edges, points=every, points_above_noise=self.above.getData()[1]),
                **steps_table("direction_deg", turns, points_of_direction=ways)}

    def clear(self) -> None:
        """Show nothing."""
        for item in (self.all, self.above, self.ways):
            item.setData([0.0, 1.0], [0])


def _fit(plot: pg.PlotWidget, right: float, top: int) -> None:
    box = plot.getViewBox()
    box.setXRange(0.0, right, padding=0.02)
    box.setYRange(0.0, 1.08 * max(top, 1), padding=0)
