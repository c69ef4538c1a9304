"""What is left of the drift when the trend is taken out, frame by frame, in a thin strip."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg

from monitor.panels.base import Panel, Scene, new_plot, style_plot
from monitor.panels.dots import Curve, Dots
from monitor.panels.parts import Empty
from monitor.panels.timeline import FrameAxis, Timeline, settle, thin
from monitor.tables import Table, frames_table
from monitor.theme import Theme
from monitor.words import both_units

DOTTED = 120
"""Frames shown up to which each has a dot: one alone has no line."""


class JitterPanel(Panel):
    """Two curves about zero."""

    title = "Jitter"
    share = 0.6

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.plot = new_plot("px", FrameAxis())
        self.zero = pg.InfiniteLine(angle=0, movable=False)
        self.plot.addItem(self.zero)
        self.curves = {axis: Curve() for axis in "yx"}
        self.dots = {axis: Dots() for axis in "yx"}
        for item in (*self.curves.values(), *self.dots.values()):
            self.plot.addItem(item)
        for dots in self.dots.values():
            dots.clicked.connect(self.chosen.emit)
        timeline.attach(self.plot)
        self._body.addWidget(self.plot, 1)
        self.empty = Empty(self.plot)
        self._range = (-1.0, 1.0)

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        super().restyle(theme)
        style_plot(self.plot, theme)
        self.zero.setPen(theme.pen(theme.border))
        for axis, colour in zip("yx", theme.series, strict=False):
            self.curves[axis].setPen(theme.pen(colour))
            self.dots[axis].set_look(theme.px(3.5), None, theme.brush(colour))

    def refresh(self, scene: Scene) -> None:
        """Draw what the x range shows."""
        charts = scene.charts
        largest, runs = 0.0, []
        low, high = self.timeline.range
        for (axis, curve), colour in zip(self.curves.items(), self.theme.series, strict=False):
            jitter = charts.numbers[f"jitter_{axis}_px"]
            known = np.flatnonzero(np.isfinite(jitter))
            some = known[thin(charts.order[known], jitter[known], low, high)]
            curve.setData(charts.order[some], jitter[some])
            dotted = some if some.size <= DOTTED else some[:0]
            self.dots[axis].set_dots(charts.order[dotted], jitter[dotted], charts.position[dotted])
            shown = jitter[some]
            if shown.size:
                largest = max(largest, float(np.abs(shown).max()))
                runs.append((f"   ━ {axis} {_rms(shown, scene.pixel_size_nm)}", colour))
        self._range = settle(self._range, -largest, largest, least=0.2)
        self.plot.getViewBox().setYRange(*self._range, padding=0)
        self.empty.say("" if runs else "no jitter yet: it is told from the third registered frame of a view on")
        self._legend.set_runs([*runs, ("   rms of the frames shown", self.theme.dim)] if runs else [])

    def as_table(self, scene: Scene) -> Table:
        """Return the frames that the chart spans."""
        return frames_table(scene.charts, ("jitter_y_px", "jitter_x_px"), within=self.timeline.range)


def _rms(jitter: Any, pixel_size_nm: float | None) -> str:
    rms = float(np.sqrt(np.mean(jitter**2)))
    return both_units(rms, pixel_size_nm, sigma_px=rms / np.sqrt(2 * jitter.size))
