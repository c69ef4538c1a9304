"""Which way the sample moved: a rose of directions, coloured by how far."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from monitor.fields import BANDS, SECTORS, Rose, moved, rose, way
from monitor.panels.base import Scene
from monitor.panels.field import FieldPanel
from monitor.panels.parts import Empty
from monitor.panels.timeline import Timeline
from monitor.tables import Table, steps_table
from monitor.theme import DARK, Theme
from monitor.words import both_units
from streamer.records import FlowResult

LABELS = (("+x", 0.0), ("−y (up)", 90.0), ("−x", 180.0), ("+y (down)", 270.0))
RINGS = 2


class Dial(QtWidgets.QWidget):
    """The rose: the area of a wedge is its number of points, its bands are lengths from short (inside) to long."""

    def __init__(self) -> None:
        super().__init__()
        self.theme: Theme = DARK
        self.rose: Rose | None = None
        self.setToolTip("each wedge: points that moved this way, its area is their number; colours: how far; "
                        "arrow: the mean displacement, as long as the ring if all move alike")
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Ignored)

    def show_rose(self, found: Rose | None) -> None:
        """Draw another rose."""
        self.rose = found
        self.update()

    def radii(self) -> np.ndarray[Any, Any]:
        """Return the radius at which each band of each sector ends, as a share of the largest, (BANDS, SECTORS)."""
        if self.rose is None:
            return np.zeros((BANDS, SECTORS))
        counts = self.rose.counts.cumsum(axis=0)
        return np.sqrt(counts / max(int(counts.max()), 1))

    def paintEvent(self, event: Any) -> None:
        """Draw axes, wedges, and the mean."""
        del event
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        painter.setFont(self.theme.font(9.5))
        metrics = painter.fontMetrics()
        centre = QtCore.QPointF(self.width() / 2, self.height() / 2)
        room = min(self.width() / 2 - metrics.horizontalAdvance("−x") - self.theme.px(6),
                   self.height() / 2 - metrics.height() - self.theme.px(3))
        if self.rose is None or room < self.theme.px(12):
            return
        self._draw_axes(painter, centre, room)
        for path, colour in zip(wedges(self.radii(), centre, room), self.colours(), strict=True):
            painter.fillPath(path, colour)
        self._draw_mean(painter, centre, room)

    def colours(self) -> list[QtGui.QColor]:
        """Return the colours of the bands."""
        colours = self.theme.time_colours(BANDS + 1)   # without the one that the ground hardly differs from
        return colours[1:] if self.theme.name == "dark" else colours[:-1]

    def _draw_axes(self, painter: Any, centre: QtCore.QPointF, room: float) -> None:
        painter.setPen(self.theme.pen(self.theme.border))
        for ring in range(1, RINGS + 1):   # radii are square roots: rings at equal steps of the number
            radius = room * math.sqrt(ring / RINGS)
            painter.drawEllipse(centre, radius, radius)
        painter.drawLine(centre - QtCore.QPointF(room, 0), centre + QtCore.QPointF(room, 0))
        painter.drawLine(centre - QtCore.QPointF(0, room), centre + QtCore.QPointF(0, room))
        painter.setPen(QtGui.QColor(self.theme.text))
        metrics, gap = painter.fontMetrics(), self.theme.px(4)
        for text, degrees in LABELS:
            wide, high = metrics.horizontalAdvance(text), metrics.height()
            x = centre.x() + (room + gap + wide / 2) * math.cos(math.radians(degrees))
            y = centre.y() - (room + high / 2) * math.sin(math.radians(degrees))
            painter.drawText(QtCore.QRectF(x - wide / 2 - 1, y - high / 2, wide + 2, high),
                             int(QtCore.Qt.AlignmentFlag.AlignCenter), text)

    def _draw_mean(self, painter: Any, centre: QtCore.QPointF, room: float) -> None:
        """Draw an arrow along the mean displacement: the longer, the more all agree."""
        if self.rose is None or self.rose.agreement <= 0:
            return
        y, x = self.rose.mean_px
        length = math.hypot(y, x)
        tip = centre + QtCore.QPointF(x, y) * (self.rose.agreement * room / length)
        head = min(0.12, 0.5 * self.rose.agreement) * room / length
        sides = [tip + turned(QtCore.QPointF(-x, -y) * head, side) for side in (-25, 25)]
        for pen in (self.theme.pen(self.theme.surface, 4.0), self.theme.pen(self.theme.text, 1.6)):
            painter.setPen(pen)
            painter.drawLine(centre, tip)
            painter.drawPolyline(QtGui.QPolygonF([sides[0], tip, sides[1]]))


class CompassPanel(FieldPanel):
    """A rose with its key."""

    title = "Compass"

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.dial = Dial()
        self._body.addWidget(self.dial, 1)
        self.empty = Empty(self.dial)

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        super().restyle(theme)
        self.dial.theme = theme
        self.dial.update()

    def draw(self, flow: FlowResult, pixel_size_nm: float | None) -> str:
        """Count directions."""
        found = moved(flow)
        if not found.above.any():
            return (f"no point of the field of frame {flow.index} moved further than its error: "
                    f"{found.amplitude_px.size} of {found.points} points are valid")
        counted = rose(found, flow)
        self.dial.show_rose(counted)
        edges = counted.edges_px
        y, x = counted.mean_px
        runs: list[tuple[str, str | None]] = [(self.whose(flow), self.theme.dim), ("  ", None)]
        for band, colour in enumerate(self.dial.colours()):
            upper = f"–{edges[band + 1]:.2g}" if band + 1 < BANDS else "+"
            runs += [(" ■", colour.name()), (f"{edges[band]:.2g}{upper}", self.theme.text)]
        runs += [(" px", self.theme.text),
                 (f"   mean {both_units(math.hypot(y, x), pixel_size_nm)} at {way(y, x)}", self.theme.text),
                 (f"   outer ring: {int(counted.counts.sum(axis=0).max())} points", self.theme.dim),
                 (f"   {counted.undirected} below the noise", self.theme.dim)]
        self._legend.set_runs(runs)
        return ""

    def as_table(self, scene: Scene) -> Table:
        """Return how many points moved in each direction, by how far; 0 = right, 90 = up on the screen."""
        del scene
        found = self.dial.rose
        if found is None:
            return {}
        width = 360.0 / SECTORS
        edges = found.edges_px.tolist()
        return {**steps_table("direction_deg", (np.arange(SECTORS + 1) - 0.5) * width),
                **{f"points_of_{low:.3g}_to_{high:.3g}_px": counts.tolist()
                   for low, high, counts in zip(edges[:-1], edges[1:], found.counts, strict=True)}}

    def clear(self) -> None:
        """Show nothing."""
        self.dial.show_rose(None)


def wedges(radii: np.ndarray[Any, Any], centre: QtCore.QPointF, room: float) -> list[QtGui.QPainterPath]:
    """Return one path for each band: its part of every sector, between the band before and its own radius."""
    paths = []
    inner = np.zeros(radii.shape[1])
    width = 360.0 / radii.shape[1]
    for outer in radii:
        path = QtGui.QPainterPath()
        for sector in np.flatnonzero(outer > inner).tolist():
            start = sector * width - 0.45 * width
            boxes = [QtCore.QRectF(centre.x() - radius, centre.y() - radius, 2 * radius, 2 * radius)
                     for radius in (room * outer[sector], room * inner[sector])]
            path.arcMoveTo(boxes[0], start)
            path.arcTo(boxes[0], start, 0.9 * width)
            if inner[sector] > 0:
                path.arcTo(boxes[1], start + 0.9 * width, -0.9 * width)
            else:
                path.lineTo(centre)
            path.closeSubpath()
        paths.append(path)
        inner = outer
    return paths


def turned(vector: QtCore.QPointF, degrees: float) -> QtCore.QPointF:
    """Turn a vector on the screen."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return QtCore.QPointF(cosine * vector.x() - sine * vector.y(), sine * vector.x() + cosine * vector.y())
