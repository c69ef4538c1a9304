"""The way of the sample in the field of view."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from pyqtgraph.Qt import QtCore, QtGui

from monitor.panels.base import Panel, Scene, new_plot, style_plot
from monitor.panels.drift import MOST_VIEWS
from monitor.panels.parts import Empty
from monitor.panels.timeline import Timeline, settle
from monitor.rows import SHAPES, VERDICTS, Charts, FloatColumn
from monitor.theme import Theme

COLOURS = 24
MOST_POINTS = 4000
MOST_ELLIPSES = 60
"""Newest blurred frames whose blur is drawn."""
ENLARGED = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
ROUNDNESS = {"": 0.5, "motion": 0.2, "mixed": 0.55, "defocus": 1.0}
"""Width over length of an ellipse by the shape of the blur; rows do not tell the width itself."""
_CORNERS = 20
_OF_VIEW = (0.06, 0.25)
"""Shares of the chart between which the median ellipse is drawn to scale; else it becomes about as long as these."""


class Ellipses(pg.GraphicsObject):
    """The blur of frames at their places: one item, one path."""

    def __init__(self) -> None:
        super().__init__()
        self.path = QtGui.QPainterPath()
        self.pen: Any = pg.mkPen("w")
        self.brush: Any = None
        self.count = 0

    def set_ellipses(self, outlines: FloatColumn) -> None:
        """Draw closed outlines (n, corners, 2) of x and y."""
        self.prepareGeometryChange()
        self.count = len(outlines)
        self.path = QtGui.QPainterPath()
        for outline in outlines.tolist():
            self.path.addPolygon(QtGui.QPolygonF([QtCore.QPointF(x, y) for x, y in outline]))
            self.path.closeSubpath()
        self.update()

    def boundingRect(self) -> QtCore.QRectF:
        """Return the rectangle around all of them."""
        return self.path.boundingRect()

    def paint(self, painter: Any, *_: Any) -> None:
        """Draw the outlines."""
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        painter.setPen(self.pen)
        painter.setBrush(self.brush)
        painter.drawPath(self.path)


class TimePath(pg.GraphicsObject):
    """A polyline whose colour runs with time: one item, a pen for each of `COLOURS` stretches."""

    def __init__(self) -> None:
        super().__init__()
        self.points = np.empty((0, 2))
        """(n, 2): x, y."""
        self.pens: list[Any] = []
        self._bounds = QtCore.QRectF()

    def set_points(self, x: FloatColumn, y: FloatColumn) -> None:
        """Draw through these points."""
        self.prepareGeometryChange()
        self.points = np.stack([x, y], axis=1)
        self._bounds = QtCore.QRectF(x.min(), y.min(), np.ptp(x), np.ptp(y)) if x.size else QtCore.QRectF()
        self.update()

    def boundingRect(self) -> QtCore.QRectF:
        """Return the rectangle around the path."""
        return self._bounds

    def paint(self, painter: Any, *_: Any) -> None:
        """Draw stretch by stretch; each begins where the one before ended."""
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        cuts = np.linspace(0, len(self.points) - 1, len(self.pens) + 1).astype(int)
        for pen, begin, end in zip(self.pens, cuts[:-1], cuts[1:], strict=True):
            if end > begin:
                part = self.points[begin:end + 1]
                painter.setPen(pen)
                painter.drawPolyline(QtGui.QPolygonF([QtCore.QPointF(px, py) for px, py in part.tolist()]))


class PathPanel(Panel):
    """Equal scales, y down as in the picture; a square marks the start, a ring the newest frame, ellipses the blur."""

    title = "Path"

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.plot = new_plot("y / px", "x / px")
        box = self.plot.getViewBox()
        box.setAspectLocked(True)
        box.invertY(True)
        box.disableAutoRange()
        box.sigRangeChangedManually.connect(self._moved_by_user)
        self.paths = [TimePath() for _ in range(MOST_VIEWS)]
        self.start = pg.ScatterPlotItem(symbol="s")
        self.end = pg.ScatterPlotItem(symbol="o", brush=None)
        self.dots = pg.ScatterPlotItem(pen=None, hoverable=True, tip=None)
        self.dots.sigClicked.connect(self._clicked)
        self.ellipses = Ellipses()
        for item in (*self.paths, self.dots, self.ellipses, self.start, self.end):
            self.plot.addItem(item)
        self._body.addWidget(self.plot, 1)
        self.empty = Empty(self.plot)
        self.following = True
        self.enlarged = 1.0
        """Factor of the ellipses."""
        self._ranges = [(-1.0, 1.0), (-1.0, 1.0)]
        self._time_pens: list[Any] = []

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        super().restyle(theme)
        style_plot(self.plot, theme)
        self._time_pens = [theme.pen(colour, 1.6) for colour in theme.time_colours(COLOURS)]
        self.start.setBrush(theme.brush(theme.text))
        self.start.setPen(theme.pen(theme.background))
        self.start.setSize(theme.px(8))
        self.end.setPen(theme.pen(theme.text, 2.0))
        self.end.setSize(theme.px(13))
        self.ellipses.pen, self.ellipses.brush = theme.pen(theme.major), theme.brush(theme.major, 35)

    def fit(self) -> None:
        """Show the whole path and follow it again."""
        self.following = True
        self._ranges = [(0.0, -1.0), (0.0, -1.0)]

    def refresh(self, scene: Scene) -> None:
        """Draw the paths of the chosen view, or of all."""
        charts = scene.charts
        y, x = charts.numbers["drift_y_px"], charts.numbers["drift_x_px"]
        known = np.flatnonzero(np.isfinite(y) & np.isfinite(x))
        views = np.unique(charts.view[known]).tolist()[:MOST_VIEWS]
        ends: list[tuple[int, int]] = []
        for number, path in enumerate(self.paths):
            mine = known[charts.view[known] == views[number]] if number < len(views) else known[:0]
            mine = np.append(mine[:-1:mine.size // MOST_POINTS + 1], mine[-1:])   # the newest point always
            path.pens = self._time_pens if len(views) == 1 else [self.theme.pen(self.theme.series[number], 1.2)]
            path.set_points(x[mine], y[mine])
            if mine.size:
                ends.append((int(mine[0]), int(mine[-1])))
        self._draw_dots(charts, known, several=len(views) > 1)
        first, last = [end[0] for end in ends], [end[1] for end in ends]
        self.start.setData(x=x[first], y=y[first])
        self.end.setData(x=x[last], y=y[last])
        if self.following and known.size:
            self._follow(x[known], y[known])
        self._draw_ellipses(charts, known)
        self.empty.say("" if known.size else "no frame could be registered yet" if charts.order.size
                       else "no projections yet")
        self._write_legend(charts, known, several=len(views) > 1)

    def _draw_ellipses(self, charts: Charts, known: Any) -> None:
        """Draw the blur of the newest blurred frames where they are, enlarged by a round factor if need be."""
        numbers = charts.numbers
        blurred = known[(charts.verdict[known] == VERDICTS.index("blurred"))
                        & np.isfinite(numbers["blur_length_px"][known])][-MOST_ELLIPSES:]
        lengths = numbers["blur_length_px"][blurred]
        if blurred.size:
            view = min(float(np.ptp(ends)) for ends in self.plot.getViewBox().viewRange())
            self.enlarged = enlargement(float(np.median(lengths)) / view)
        roundness = np.array([ROUNDNESS[word] for word in SHAPES])[charts.shape[blurred]]
        self.ellipses.set_ellipses(outlines(
            numbers["drift_x_px"][blurred], numbers["drift_y_px"][blurred], self.enlarged * lengths,
            roundness, numbers["blur_angle_deg"][blurred]))

    def _draw_dots(self, charts: Charts, known: Any, *, several: bool) -> None:
        """Draw dots for the newest frames only: they are there to be clicked."""
        newest = known[-300:]
        numbers = charts.numbers
        colours = [self.theme.brush(self.theme.dim, 120)] * newest.size if several else self._shades(known, newest)
        self.dots.setData(x=numbers["drift_x_px"][newest], y=numbers["drift_y_px"][newest],
                          data=charts.position[newest], brush=colours, size=self.theme.px(5))

    def _shades(self, known: Any, newest: Any) -> list[Any]:
        place = np.arange(known.size - newest.size, known.size) * COLOURS // max(known.size, 1)
        brushes = [pg.mkBrush(pen.color()) for pen in self._time_pens]
        return [brushes[number] for number in place.tolist()]

    def _follow(self, x: FloatColumn, y: FloatColumn) -> None:
        least = 2.0
        self._ranges = [settle(now, float(data.min()), float(data.max()), least=least)
                        for now, data in zip(self._ranges, (x, y), strict=True)]
        self.plot.getViewBox().setRange(xRange=self._ranges[0], yRange=self._ranges[1], padding=0.02)

    def _write_legend(self, charts: Charts, known: Any, *, several: bool) -> None:
        scale = "to scale" if self.enlarged == 1 else f"× {self.enlarged:g}"
        blur = [(f"   ellipses: blur {scale}", self.theme.major)] if self.ellipses.count else []
        if several or not known.size:
            self._legend.set_runs([("   ■ start  ○ newest", self.theme.dim), *blur])
            return
        first, last = (int(charts.numbers["index"][place]) for place in (known[0], known[-1]))
        shades = [("▬", pen.color().name()) for pen in self._time_pens[::4]]
        self._legend.set_runs([(f"   frame {first} ", self.theme.dim), *shades, (f" {last}", self.theme.dim), *blur,
                               ("   ■ start  ○ newest", self.theme.dim)])

    def _moved_by_user(self, _mask: Any) -> None:
        self.following = False

    def _clicked(self, _item: Any, points: Any, _event: Any) -> None:
        if len(points):
            self.chosen.emit(int(points[0].data()))


def enlargement(share: float) -> float:
    """Return the round factor for ellipses whose median length is this share of the chart.

    >>> enlargement(0.1), enlargement(0.01), enlargement(1.2), enlargement(0.0)
    (1, 10, 0.2, 50)
    """
    least, most = _OF_VIEW
    if least <= share <= most:
        return 1
    if share > most:
        return max((factor for factor in ENLARGED if factor * share <= most), default=ENLARGED[0])
    return next((factor for factor in ENLARGED if factor * share >= least), ENLARGED[-1])


def outlines(x: FloatColumn, y: FloatColumn, length: FloatColumn, roundness: FloatColumn,
             angle_deg: FloatColumn) -> FloatColumn:
    """Return the corners of ellipses, (n, corners, 2) of x and y (down).

    Parameters
    ----------
    length : ndarray of shape (n,)
        From end to end.
    roundness : ndarray of shape (n,)
        Width over length.
    angle_deg : ndarray of shape (n,)
        Of the long axis, 0 = along +x, counter-clockwise on the screen; NaN counts as 0.
    """
    turn = 2 * np.pi * np.arange(_CORNERS) / _CORNERS
    along = 0.5 * length[:, None] * np.cos(turn)
    across = 0.5 * (length * roundness)[:, None] * np.sin(turn)
    angle = np.radians(np.nan_to_num(angle_deg))[:, None]
    return np.stack([x[:, None] + along * np.cos(angle) - across * np.sin(angle),
                     y[:, None] - along * np.sin(angle) - across * np.cos(angle)], axis=-1)
