"""The way of the sample in the field of view."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from pyqtgraph.Qt import QtCore, QtGui

from monitor.panels.base import Panel, Scene, new_plot, style_plot
from monitor.panels.dots import Dots, bounds
from monitor.panels.drift import MOST_VIEWS
from monitor.panels.parts import Empty
from monitor.panels.timeline import Timeline, settle
from monitor.rows import SHAPES, VERDICTS, Charts, FloatColumn
from monitor.tables import Table, frames_table
from monitor.theme import Theme

COLOURS = 24
SMOOTH = 600
"""Points up to which the line is drawn smoothly."""
DOTTED = 300
"""Newest frames that have dots to be seen; all that are drawn can be clicked."""
MOST_POINTS = 4000
MOST_ELLIPSES = 60
"""Newest blurred frames whose blur is drawn."""
ENLARGED = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
ROUNDNESS = {"": 0.5, "motion": 0.2, "mixed": 0.55, "defocus": 1.0}
"""Width over length of an ellipse by the shape of the blur; rows do not tell the width itself."""
_CORNERS = 20
_OF_VIEW = (0.06, 0.25)
"""Shares of the chart between which the median ellipse is drawn to scale; else it becomes about as long as these."""
_TABLE = ("drift_y_px", "drift_x_px", "blur_length_px", "blur_angle_deg")


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
        for outline in outlines:
            self.path.addPolygon(pg.functions.arrayToQPolygonF(outline[:, 0], outline[:, 1]))
            self.path.closeSubpath()
        self.update()

    def boundingRect(self) -> QtCore.QRectF:
        """Return the rectangle around all of them."""
        return self.path.boundingRect()

    def paint(self, painter: Any, *_: Any) -> None:
        """Draw the outlines."""
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
        self.dotted = 0
        """Newest points that are drawn as dots, too."""
        self._line = QtGui.QPolygonF()
        self._bounds = QtCore.QRectF()

    def set_points(self, x: FloatColumn, y: FloatColumn) -> None:
        """Draw through these points."""
        self.prepareGeometryChange()
        self.points = np.stack([x, y], axis=1)
        self._bounds = bounds(x, y)
        self._line = pg.functions.arrayToQPolygonF(x, y)
        self.update()

    def boundingRect(self) -> QtCore.QRectF:
        """Return the rectangle around the path."""
        return self._bounds

    def paint(self, painter: Any, *_: Any) -> None:
        """Draw stretch by stretch; each begins where the one before ended."""
        count = len(self.points)
        if not count:
            return
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing, count <= SMOOTH)   # else it costs five times more
        dot = _round(self.pens[0])
        cuts = np.linspace(0, count - 1, len(self.pens) + 1).astype(int)
        for pen, begin, end in zip(self.pens, cuts[:-1], cuts[1:], strict=True):
            if end > begin:
                painter.setPen(pen)
                painter.drawPolyline(self._line[begin:end + 1])
            first = max(begin, count - self.dotted)
            if first <= end:
                dot.setColor(pen.color())
                painter.setPen(dot)
                painter.drawPoints(self._line[first:end + 1])


class PathPanel(Panel):
    """Equal scales, y down as in the picture; a square marks the start, a ring the newest frame, ellipses the blur."""

    title = "Path"
    share = 1.25

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.plot = new_plot("y / px", "x / px")
        box = self.plot.getViewBox()
        box.setAspectLocked(True)
        box.invertY(True)
        box.disableAutoRange()
        box.sigRangeChangedManually.connect(self._moved_by_user)
        self.paths = [TimePath() for _ in range(MOST_VIEWS)]
        self.start, self.end = Dots("s"), Dots("o")
        self.dots = Dots()
        """Not to be seen: the paths draw them in their colours; to be clicked."""
        for dots in (self.start, self.end, self.dots):
            dots.clicked.connect(self.chosen.emit)
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
        self._time_pens = [theme.pen(colour) for colour in theme.time_colours(COLOURS)]
        self.dots.set_look(theme.px(5), None, None)
        self.start.set_look(theme.px(8), theme.pen(theme.background), theme.brush(theme.text))
        self.end.set_look(theme.px(13), theme.pen(theme.text, 2.0), None)
        self.ellipses.pen, self.ellipses.brush = theme.pen(theme.major), theme.brush(theme.major, 35)

    def fit(self) -> None:
        """Show the whole path and follow it again."""
        self.following = True
        self._ranges = [(0.0, -1.0), (0.0, -1.0)]

    def as_table(self, scene: Scene) -> Table:
        """Return the frames that the chart spans."""
        return frames_table(scene.charts, _TABLE)

    def refresh(self, scene: Scene) -> None:
        """Draw the paths of the chosen view, or of all."""
        charts = scene.charts
        y, x = charts.numbers["drift_y_px"], charts.numbers["drift_x_px"]
        known = np.flatnonzero(np.isfinite(y) & np.isfinite(x))
        views = np.unique(charts.view[known]).tolist()[:MOST_VIEWS]
        ends: list[tuple[int, int]] = []
        drawn: list[Any] = [known[:0]]
        for number, path in enumerate(self.paths):
            mine = known[charts.view[known] == views[number]] if number < len(views) else known[:0]
            mine = np.append(mine[:-1:mine.size // MOST_POINTS + 1], mine[-1:])   # the newest point always
            path.pens = self._time_pens if len(views) == 1 else [self.theme.pen(self.theme.series[number])]
            path.dotted = DOTTED if len(views) == 1 else 0
            path.set_points(x[mine], y[mine])
            if mine.size:
                drawn.append(mine)
                ends.append((int(mine[0]), int(mine[-1])))
        clickable = np.concatenate(drawn)
        self.dots.set_dots(x[clickable], y[clickable], charts.position[clickable])
        first, last = [end[0] for end in ends], [end[1] for end in ends]
        self.start.set_dots(x[first], y[first], charts.position[first])
        self.end.set_dots(x[last], y[last], charts.position[last])
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

    def _follow(self, x: FloatColumn, y: FloatColumn) -> None:
        least = 2.0
        ends = [(float(data.min()), float(data.max())) for data in (x, y)]
        room = 0.05 * max(least, *(high - low for low, high in ends))   # for the ring around the newest
        self._ranges = [settle(now, low - room, high + room, least=least)
                        for now, (low, high) in zip(self._ranges, ends, strict=True)]
        self.plot.getViewBox().setRange(xRange=self._ranges[0], yRange=self._ranges[1], padding=0.02)

    def _write_legend(self, charts: Charts, known: Any, *, several: bool) -> None:
        scale = "to scale" if self.enlarged == 1 else f"× {self.enlarged:g}"
        blur = [(f"   ellipses: blur {scale}", self.theme.major)] if self.ellipses.count else []
        if several or not known.size:
            self._legend.set_runs([("   ■ start  ○ newest", self.theme.dim), *blur])
            return
        first, last = (int(charts.numbers["index"][place]) for place in (known[0], known[-1]))
        shades = [("▬", pen.color().name()) for pen in self._time_pens[::4]]
        self._legend.set_runs([(f"   ■ {first} ", self.theme.dim), *shades, (f" {last} ○", self.theme.dim), *blur])

    def _moved_by_user(self, _mask: Any) -> None:
        self.following = False


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


def _round(pen: Any) -> QtGui.QPen:
    """Return a pen that draws dots where another draws a line."""
    dot = QtGui.QPen(pen)
    dot.setWidthF(4.5 * pen.widthF())
    dot.setCapStyle(QtCore.Qt.PenCapStyle.RoundCap)
    return dot


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
