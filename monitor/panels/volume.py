"""Whether the field of view is large enough to stand for the sample: how random boxes differ, against their size."""

from __future__ import annotations

import math

import numpy as np
import pyqtgraph as pg

from monitor.analysis import Volume, volume_of
from monitor.panels.base import Scene, new_plot, style_plot
from monitor.panels.dots import Curve, Dots
from monitor.panels.field import NOT_WORKED_OUT, FieldPanel
from monitor.panels.parts import Empty
from monitor.panels.timeline import Timeline
from monitor.tables import Table
from monitor.theme import Theme
from monitor.words import both_units
from streamer.records import FlowResult

SETTLED = 0.1
"""Share of the mean amplitude, or of a radian, below which the boxes agree."""


class VolumePanel(FieldPanel):
    """Deviation of amplitude and of direction between boxes, both in parts of one."""

    title = "Volume"
    extra = "analysis"

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.plot = new_plot("deviation", "side of the boxes / px")
        self.plot.setMouseEnabled(x=False, y=False)
        self.plot.setToolTip("standard deviation between 200 random boxes: of the mean amplitude, as a share of the "
                             "mean over all; of the direction, in radians. Beyond half the view boxes overlap and "
                             "agree whatever the sample")
        self.curves = [Curve() for _ in range(2)]
        self.dots = [Dots("o"), Dots("t")]
        self.settled = pg.InfiniteLine(angle=0, movable=False, pos=SETTLED)
        self.minimum = pg.InfiniteLine(angle=90, movable=False)
        self.half = pg.LinearRegionItem(movable=False)
        for item in (self.half, *self.curves, *self.dots, self.settled, self.minimum):
            self.plot.addItem(item, ignoreBounds=True)
        self._body.addWidget(self.plot, 1)
        self.empty = Empty(self.plot)

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        super().restyle(theme)
        style_plot(self.plot, theme)
        for curve, dots, colour in zip(self.curves, self.dots, theme.series, strict=False):
            curve.setPen(theme.pen(colour))
            dots.set_look(theme.px(6), None, theme.brush(colour))
        self.settled.setPen(theme.pen(theme.dim, dashed=True))
        self.minimum.setPen(theme.pen(theme.text))
        self.half.setBrush(theme.brush(theme.dim, 35))
        for line in self.half.lines:
            line.setPen(None)

    def draw(self, flow: FlowResult, pixel_size_nm: float | None) -> str:
        """Draw the curves and the smallest size that has settled."""
        study = volume_of(flow)
        if study is None:
            return f"no representative volume of frame {flow.index}: {NOT_WORKED_OUT}"
        size = np.array(study.size_px)
        amplitude, direction = deviations(study)
        known = np.concatenate([amplitude, direction])
        known = known[np.isfinite(known)]
        if not known.size:
            return f"frame {flow.index}: too few valid points to compare boxes"
        for curve, dots, deviation in zip(self.curves, self.dots, (amplitude, direction), strict=True):
            curve.setData(size, deviation)
            dots.set_dots(*(column[np.isfinite(deviation)] for column in (size, deviation)))
        sides = [float(np.ptp(grid)) for grid in (flow.grid_y_px, flow.grid_x_px)]
        self.half.setRegion((min(sides) / 2, 2 * max(*sides, float(size[-1]))))
        self.minimum.setVisible(study.minimum_px is not None)
        if study.minimum_px is not None:
            self.minimum.setValue(study.minimum_px)
        box = self.plot.getViewBox()
        box.setXRange(0.0, float(size[-1]), padding=0.02)
        box.setYRange(0.0, 1.08 * max(float(known.max()), 2 * SETTLED), padding=0)
        self._tell(flow, study, min(sides) / 2, pixel_size_nm)
        return ""

    def as_table(self, scene: Scene) -> Table:
        """Return the deviations as they are drawn: of the amplitude as a share of its mean, of the direction in rad."""
        del scene
        (size, amplitude), (_, direction) = (curve.getData() for curve in self.curves)
        return {} if not size.size else {"box_px": size.tolist(), "amplitude_deviation": amplitude.tolist(),
                                         "direction_deviation_rad": direction.tolist()}

    def clear(self) -> None:
        """Show nothing."""
        for item in self.curves:
            item.setData([], [])
        for dots in self.dots:
            dots.set_dots(np.zeros(0), np.zeros(0))
        self.minimum.setVisible(False)
        self.half.setRegion((0.0, 0.0))

    def _tell(self, flow: FlowResult, study: Volume, half_px: float, pixel_size_nm: float | None) -> None:
        smallest = study.minimum_px
        if smallest is None:
            words = "none: too small a view"
        else:
            words = both_units(smallest, pixel_size_nm, sigma_px=half_px / 10)
            words += ", over half the view: too small a view" if smallest > half_px else ""
        amplitude, direction = self.theme.series[:2]
        self._legend.set_runs([
            (self.whose(flow), self.theme.dim), (f"   {words}", self.theme.text),
            ("   ● amplitude / mean", amplitude), ("   ▼ direction / rad", direction),
            ("   ┄ settled   ▒ over half the view", self.theme.dim)])


def deviations(study: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Return the deviations of amplitude, as a share of the mean, and of direction, in radians, (n,) each."""
    amplitude, direction = (np.array([math.nan if each is None else each for each in column], float)
                            for column in (study.amplitude_deviation_px, study.direction_deviation_deg))
    mean = study.mean_amplitude_px
    share = amplitude / mean if mean is not None and mean > 0 else np.full(amplitude.shape, np.nan)
    return np.where(np.isfinite(share), share, np.nan), np.radians(np.where(np.isfinite(direction), direction, np.nan))
