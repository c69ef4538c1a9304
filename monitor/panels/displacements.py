"""How the frames are spread about their trend, or over the field of view: histograms of jitter and drift."""

from __future__ import annotations

import numpy as np
import pyqtgraph as pg

from monitor.fields import bins
from monitor.panels.base import Action, Panel, Scene, new_plot, style_plot
from monitor.panels.parts import Choice, Empty
from monitor.panels.timeline import Timeline
from monitor.rows import FloatColumn
from monitor.tables import Table, steps_table
from monitor.theme import Theme
from monitor.words import both_units

CHOICES = ("jitter", "drift")
LEAST = 3
"""Frames below which there is no histogram."""


class DisplacementsPanel(Panel):
    """Frames per bin, y and x on common bins."""

    title = "Spread"
    actions_by_key = (Action("J", "toggle_choice", "histograms of the jitter or of the drift"),)

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self._scene = Scene()
        self._drawn: tuple[object, ...] = ()
        self.choice = Choice(CHOICES, "jitter: drift less its trend; drift: since the first frame of the view")
        self.choice.currentIndexChanged.connect(lambda _: self.refresh(self._scene))
        self._head.addWidget(self.choice)
        self.plot = new_plot("frames", "jitter / px")
        self.plot.setMouseEnabled(x=False, y=False)
        self.steps = {axis: pg.PlotCurveItem([0.0, 1.0], [0], stepMode="center", fillLevel=0) for axis in "yx"}
        for item in self.steps.values():
            self.plot.addItem(item)
        self._body.addWidget(self.plot, 1)
        self.empty = Empty(self.plot)

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        super().restyle(theme)
        self._drawn = ()
        style_plot(self.plot, theme)
        for item, colour in zip(self.steps.values(), theme.series, strict=False):
            item.setPen(theme.pen(colour))
            item.setBrush(theme.brush(colour, 60))

    def toggle_choice(self) -> None:
        """Show the other quantity."""
        self.choice.next()

    def refresh(self, scene: Scene) -> None:
        """Count again if rows have changed."""
        self._scene, name = scene, self.choice.currentText()
        what = (scene.charts, name, scene.pixel_size_nm)
        if len(self._drawn) == len(what) and all(old is new for old, new in zip(self._drawn, what, strict=True)):
            return
        self._drawn = what
        columns = {axis: scene.charts.numbers[f"{name}_{axis}_px"] for axis in "yx"}
        known = {axis: column[np.isfinite(column)] for axis, column in columns.items()}
        count = min(column.size for column in known.values())
        if count < LEAST:
            self._nothing(name, count)
            return
        self.empty.say("")
        axis = self.plot.getAxis("bottom")
        if axis.labelText != f"{name} / px":
            axis.setLabel(f"{name} / px", **axis.labelStyle)
        edges = bins(np.concatenate([*known.values()]))
        top = 1
        for name, item in self.steps.items():
            counts = np.histogram(known[name], edges)[0]
            item.setData(edges, counts)
            top = max(top, int(counts.max()))
        box = self.plot.getViewBox()
        box.setXRange(edges[0], edges[-1], padding=0.02)
        box.setYRange(0, 1.08 * top, padding=0)
        runs: list[tuple[str, str | None]] = [
            (f"   ▬ {axis} {_spread(known[axis], scene.pixel_size_nm)}", colour)
            for axis, colour in zip(known, self.theme.series, strict=False)]
        self._legend.set_runs([*runs, (f"   {count} frames, standard deviations", self.theme.dim)])

    def as_table(self, scene: Scene) -> Table:
        """Return the bins."""
        del scene
        drawn = {axis: item.getData() for axis, item in self.steps.items()}
        return steps_table(f"{self.choice.currentText()}_px", drawn["y"][0],
                           **{f"frames_{axis}": counts for axis, (_, counts) in drawn.items()})

    def _nothing(self, name: str, count: int) -> None:
        for item in self.steps.values():
            item.setData([0.0, 1.0], [0])
        self._legend.set_runs([])
        self.empty.say(f"{count} frames with a {name}: a histogram needs {LEAST}"
                       if self._scene.charts.order.size else "no projections yet")


def _spread(known: FloatColumn, pixel_size_nm: float | None) -> str:
    sigma = float(known.std())
    return both_units(sigma, pixel_size_nm, sigma_px=sigma / np.sqrt(2 * known.size))
