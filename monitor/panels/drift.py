"""Drift against the frame number, y above x, and where it goes on."""

from __future__ import annotations

import numpy as np
import pyqtgraph as pg

from monitor.motion import Forecast, forecast
from monitor.panels.base import Panel, Scene, new_plot, style_plot
from monitor.panels.dots import Band, Curve, Dots
from monitor.panels.parts import Empty
from monitor.panels.timeline import FrameAxis, Timeline, settle, thin
from monitor.rows import Charts, IntColumn
from monitor.tables import Table, frames_table
from monitor.theme import Theme
from monitor.words import decimals, value
from streamer.records import Leaving, ViewMotion

MOST_VIEWS = 6
SOON_FRAMES = 100
"""Up to here it presses that the sample leaves the view."""
MOST_DOTS = 900
"""Of all views together in one strip."""
_TABLE = ("drift_y_px", "drift_x_px", "drift_sigma_px", "trend_y_px", "trend_x_px")


class _Strip:
    """One axis of the drift: dots, trend and a band of one sigma, for each view; of a single view the forecast."""

    def __init__(self, panel: DriftPanel, axis: str, *, with_numbers: bool) -> None:
        self.axis = axis
        self.plot = new_plot(f"{axis} / px", FrameAxis())
        self.plot.getAxis("bottom").setStyle(showValues=with_numbers)
        self.theme = panel.theme
        self.range = (-1.0, 1.0)
        self.leaving = pg.LinearRegionItem(movable=False)
        self.leaving.setVisible(False)
        self.plot.addItem(self.leaving, ignoreBounds=True)
        self.bands = [Band() for _ in range(MOST_VIEWS)]
        self.dots = [Dots() for _ in range(MOST_VIEWS)]
        self.trends = [Curve() for _ in range(MOST_VIEWS)]
        self.ahead_band, self.ahead = Band(), Curve()
        for item in (*self.bands, *self.trends, *self.dots, self.ahead_band, self.ahead):
            self.plot.addItem(item)
        for dots in self.dots:
            dots.clicked.connect(panel.chosen.emit)
        self._used = 0
        """Views that are drawn."""
        self._several: bool | None = None
        """As the trends are coloured now."""
        panel.timeline.attach(self.plot)

    def restyle(self, theme: Theme) -> None:
        self.theme, self._several = theme, None
        style_plot(self.plot, theme)
        for number, colour in enumerate(theme.series):
            self.dots[number].set_look(theme.px(4.5), None, theme.brush(colour, 200))
            self.bands[number].brush = theme.brush(colour, 70)
        self.ahead.setPen(theme.pen(theme.trend, dashed=True))
        self.ahead_band.brush = theme.brush(theme.trend, 45)
        self.leaving.setBrush(theme.brush(theme.major, 40))
        for line in self.leaving.lines:
            line.setPen(theme.pen(theme.major))

    def _colour(self, *, several: bool) -> None:
        """Tell the trends of several views apart."""
        if self._several == several:
            return
        self._several = several
        for trend, colour in zip(self.trends, self.theme.series, strict=True):
            trend.setPen(self.theme.pen(colour if several else self.theme.trend))

    def draw(self, charts: Charts, mine: list[IntColumn], low: float, high: float) -> None:
        drift, trend = charts.numbers[f"drift_{self.axis}_px"], charts.numbers[f"trend_{self.axis}_px"]
        sigma = charts.numbers["drift_sigma_px"]
        extremes: list[float] = []
        most = MOST_DOTS // max(len(mine), 1)
        for number in range(max(len(mine), self._used)):
            places = mine[number] if number < len(mine) else np.empty(0, np.int64)
            some = places[thin(charts.order[places], drift[places], low, high, most=most)]
            self.dots[number].set_dots(charts.order[some], drift[some], charts.position[some])
            self.trends[number].setData(charts.order[some], trend[some])
            sure = some[np.isfinite(sigma[some] + trend[some])]
            self.bands[number].set_band(charts.order[sure], trend[sure] - sigma[sure], trend[sure] + sigma[sure])
            if some.size:
                extremes += [float(drift[some].min()), float(drift[some].max())]
            if sure.size:   # the usual band, too: one that fills the chart says nothing
                usual = float(np.median(sigma[sure]))
                extremes += [float(trend[sure].min()) - usual, float(trend[sure].max()) + usual]
        self._used = len(mine)
        self._colour(several=len(mine) > 1)
        if extremes:
            self.range = settle(self.range, min(extremes), max(extremes), least=0.5)
            self.plot.getViewBox().setYRange(*self.range, padding=0)

    def draw_ahead(self, newest: float, ahead: Forecast | None) -> None:
        """Continue the trend from frame `newest` on."""
        for item in (self.ahead, self.ahead_band):
            item.setVisible(ahead is not None)
        if ahead is not None:
            x = newest + ahead.ahead
            self.ahead.setData(x, ahead.trend_px)
            self.ahead_band.set_band(x, ahead.trend_px - ahead.sigma_px, ahead.trend_px + ahead.sigma_px)

    def draw_leaving(self, newest: float, leaving: Leaving | None) -> None:
        """Mark when the view will be left."""
        shown = leaving is not None and leaving.frames_low is not None
        self.leaving.setVisible(shown)
        if leaving is not None and leaving.frames_low is not None:
            last = leaving.frames_low * 1e3 if leaving.frames_high is None else leaving.frames_high
            self.leaving.setRegion((newest + leaving.frames_low, newest + last))


class DriftPanel(Panel):
    """Dots are measured drifts, the line is their systematic part, dashed with its 1-sigma band where it goes on."""

    title = "Drift"

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.strips = [_Strip(self, "y", with_numbers=False), _Strip(self, "x", with_numbers=True)]
        for strip in self.strips:
            self._body.addWidget(strip.plot, 1)
        self.strips[0].plot.setToolTip(
            "red ground: when too little of the region will be in view, with 90 % probability, if the drift goes on; "
            "pale band: where frames will be, 1 sigma, as wrong as such forecasts have been so far")
        self.empty = Empty(self.strips[0].plot)

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        super().restyle(theme)
        for strip in self.strips:
            strip.restyle(theme)

    def refresh(self, scene: Scene) -> None:
        """Draw what the x range shows."""
        charts = scene.charts
        known = np.flatnonzero(np.isfinite(charts.numbers["drift_y_px"]) & np.isfinite(charts.numbers["drift_x_px"]))
        views = np.unique(charts.view[known]).tolist()
        mine = [known[charts.view[known] == view] if len(views) > 1 else known for view in views[:MOST_VIEWS]]
        for strip in self.strips:
            strip.draw(charts, mine, *self.timeline.range)
        motion = self._motion(scene, views) if len(views) == 1 else None
        self._draw_ahead(charts, known, motion)
        self.empty.say("" if known.size else _why_nothing(charts))
        if len(views) > 1:
            self._name_views(charts, views)
        else:
            self._tell(scene, motion)

    def as_table(self, scene: Scene) -> Table:
        """Return the frames that the chart spans."""
        return frames_table(scene.charts, _TABLE, within=self.timeline.range)

    def _motion(self, scene: Scene, views: list[int]) -> ViewMotion | None:
        """Return what the streamer says of the view; while the display is paused it is about later frames."""
        if scene.status is None or scene.behind is not None:
            return None
        name = scene.charts.views[views[0]]
        return next((motion for motion in scene.status.motion if motion.view == name), None)

    def _draw_ahead(self, charts: Charts, known: IntColumn, motion: ViewMotion | None) -> None:
        newest = float(charts.order[known[-1]]) if known.size else 0.0
        furthest = 0.0
        for strip in self.strips:
            ahead = None
            if motion is not None:
                level, speed, jitter = (getattr(motion, f"{name}_{strip.axis}{unit}") for name, unit in
                                        (("trend", "_px"), ("speed", "_px"), ("jitter", "")))
                ahead = forecast(charts.numbers[f"trend_{strip.axis}_px"][known], level_px=level, speed_px=speed,
                                 jitter_px=jitter.sigma_px)
            strip.draw_ahead(newest, ahead)
            if ahead is not None:
                furthest = float(ahead.ahead[-1])
            strip.draw_leaving(newest, motion.leaving if motion is not None else None)
        self.timeline.ahead = furthest

    def _name_views(self, charts: Charts, views: list[int]) -> None:
        runs: list[tuple[str, str | None]] = [
            (f"   ● {charts.views[view] or 'unnamed view'}", self.theme.series[number])
            for number, view in enumerate(views[:MOST_VIEWS])]
        more = len(views) - MOST_VIEWS
        runs += [(f"   and {more} more: choose one above", self.theme.dim)] if more > 0 else []
        self._legend.set_runs(runs)

    def _tell(self, scene: Scene, motion: ViewMotion | None) -> None:
        runs: list[tuple[str, str | None]] = []
        newest = scene.store.row(scene.newest)
        if newest is not None and newest.drift_y_px is not None:
            y, x = newest.drift_y_px, newest.drift_x_px
            digits = decimals(newest.drift_sigma_px)
            y_px, x_px = (value(drift, digits=digits, signed=True) for drift in (y, x))
            runs.append((f"   now y {y_px}, x {x_px} px", None))
        if motion is not None and (text := leaving_text(motion.leaving)):
            soon = motion.leaving.frames is not None and motion.leaving.frames <= SOON_FRAMES
            colour = self.theme.major if soon else self.theme.dim
            runs += [(f"   {text[0]}", colour), *((part, colour) for part in text[1:])]
        runs.append(("   • measured  — trend ± σ  ┄ forecast", self.theme.dim))
        self._legend.set_runs(runs)


def leaving_text(leaving: Leaving) -> tuple[str, ...]:
    """Say when the view will be left, what matters most first; empty if that is beyond the forecast.

    >>> leaving_text(Leaving(frames=89.0, frames_low=63.0, frames_high=484.0, seconds=22.2))
    ('leaves the view in 89 frames', ' (63 to 484, 90 %)', ', 22 s')
    >>> leaving_text(Leaving(frames_low=3381.0))
    ()
    """
    if leaving.frames is None:
        return ()
    high = f"{leaving.frames_high:.0f}" if leaving.frames_high is not None else "?"
    low = f"{leaving.frames_low:.0f}" if leaving.frames_low is not None else "?"
    seconds = leaving.seconds
    time = "" if seconds is None else f", {seconds:.0f} s" if seconds < 120 else f", {seconds / 60:.0f} min"
    return f"leaves the view in {leaving.frames:.0f} frames", f" ({low} to {high}, 90 %)", time


def _why_nothing(charts: Charts) -> str:
    return "no frame could be registered yet" if charts.order.size else "no projections yet"
