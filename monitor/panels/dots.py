"""Dots and bands as single items: a scatter plot of the library costs five times as much to change and to draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from pyqtgraph.graphicsItems.ScatterPlotItem import Symbols
from pyqtgraph.Qt import QtCore, QtGui

from monitor.rows import FloatColumn, IntColumn

PIECE = 32
"""Points of a band that are one polygon: the time for a ragged one grows with the square of its corners."""
REACH_PX = 4.0
"""How far beside a dot a click still means it."""


class Dots(pg.GraphicsObject):
    """Symbols of one look, drawn from one small picture; a click tells which.

    Parameters
    ----------
    symbol : str
        One of pyqtgraph's.
    """

    clicked = QtCore.Signal(int)
    """The number that came with the dot."""

    def __init__(self, symbol: str = "o") -> None:
        super().__init__()
        self.symbol = symbol
        self.x, self.y = np.empty(0), np.empty(0)
        self.ids: IntColumn = np.empty(0, np.int64)
        self.size, self.pen, self.brush = 5.0, pg.mkPen(None), pg.mkBrush("w")
        self._stamp: tuple[float, QtGui.QPixmap] | None = None
        self._fragments = pg.Qt.internals.PrimitiveArray(QtGui.QPainter.PixmapFragment, 10)
        self._bounds = QtCore.QRectF()
        self._rectangle: QtCore.QRectF | None = None
        """What `boundingRect` returns, as long as neither dots nor zoom change; Qt asks 20 times for each paint."""

    def set_look(self, size: float, pen: Any, brush: Any) -> None:
        """Take another size, in pixels of the screen, and other colours."""
        self.size, self.pen, self.brush = size, pg.mkPen(pen), pg.mkBrush(brush)
        self._stamp = self._rectangle = None
        self.update()

    def set_dots(self, x: FloatColumn, y: FloatColumn, ids: IntColumn | None = None) -> None:
        """Draw other dots; `ids` tell them apart when they are clicked."""
        self.prepareGeometryChange()
        self.x, self.y = np.asarray(x, float), np.asarray(y, float)
        self.ids = np.arange(self.x.size) if ids is None else ids
        self._bounds, self._rectangle = bounds(self.x, self.y), None
        self.update()

    def getData(self) -> tuple[FloatColumn, FloatColumn]:
        """Return what is drawn, as curves do."""
        return self.x, self.y

    def boundingRect(self) -> QtCore.QRectF:
        """Return the rectangle around all dots, with room for their size."""
        if self._rectangle is None:
            wide, high = (vector.length() if vector is not None else 0.0 for vector in self.pixelVectors())
            room = self.size / 2 + self.pen.widthF() + 1
            self._rectangle = self._bounds.adjusted(-room * wide, -room * high, room * wide, room * high)
        return self._rectangle

    def viewTransformChanged(self) -> None:
        """Take the new zoom into account."""
        self.prepareGeometryChange()
        self._rectangle = None

    def paint(self, painter: Any, *_: Any) -> None:
        """Stamp all dots."""
        if not self.x.size:
            return
        to_screen = painter.transform()
        ratio = painter.device().devicePixelRatioF()
        enlarged = abs(painter.deviceTransform().m11()) > 1.01 * ratio * abs(to_screen.m11())
        if enlarged or painter.paintEngine().type() == QtGui.QPaintEngine.Type.SVG:
            self._draw_shapes(painter, to_screen)
            return
        if self._stamp is None or self._stamp[0] != ratio:
            self._stamp = ratio, self._draw_stamp(ratio)
        pixmap = self._stamp[1]
        painter.resetTransform()
        self._fragments.resize(self.x.size)
        every = self._fragments.ndarray()
        every[:, 0] = to_screen.m11() * self.x + to_screen.dx()
        every[:, 1] = to_screen.m22() * self.y + to_screen.dy()
        every[:, 2:] = (0, 0, pixmap.width(), pixmap.height(), 1 / ratio, 1 / ratio, 0, 1)
        painter.drawPixmapFragments(*self._fragments.drawargs(), pixmap)

    def at(self, place: QtCore.QPointF) -> int | None:
        """Return the number of the nearest dot at a place in data; None if there is none."""
        if not self.x.size:
            return None
        across, down = self.pixelVectors()
        if across is None or down is None:
            return None
        wide, high = max(across.length(), 1e-30), max(down.length(), 1e-30)
        distance = np.hypot((self.x - place.x()) / wide, (self.y - place.y()) / high)
        nearest = int(np.argmin(distance))
        return int(self.ids[nearest]) if distance[nearest] <= self.size / 2 + REACH_PX else None

    def mouseClickEvent(self, event: Any) -> None:
        """Tell which dot was clicked; a click beside all of them is left to others."""
        found = self.at(event.pos()) if event.button() == QtCore.Qt.MouseButton.LeftButton else None
        if found is None:
            event.ignore()
            return
        event.accept()
        self.clicked.emit(found)

    def _draw_shapes(self, painter: Any, to_screen: QtGui.QTransform) -> None:
        """Draw outlines instead of pixels, for pictures and drawings that are larger than the screen."""
        painter.resetTransform()
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        painter.setPen(self.pen)
        painter.setBrush(self.brush)
        sized = QtGui.QTransform.fromScale(self.size, self.size).map(Symbols[self.symbol])
        for x, y in zip(self.x.tolist(), self.y.tolist(), strict=True):
            painter.drawPath(sized.translated(to_screen.map(QtCore.QPointF(x, y))))

    def _draw_stamp(self, ratio: float) -> QtGui.QPixmap:
        side = int(np.ceil((self.size + 2 * self.pen.widthF() + 2) * ratio))
        pixmap = QtGui.QPixmap(side, side)
        pixmap.fill(QtCore.Qt.GlobalColor.transparent)
        painter = QtGui.QPainter(pixmap)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        painter.translate(side / 2, side / 2)
        painter.scale(self.size * ratio, self.size * ratio)
        pen = QtGui.QPen(self.pen)
        pen.setCosmetic(True)
        pen.setWidthF(self.pen.widthF() * ratio)
        painter.setPen(pen)
        painter.setBrush(self.brush)
        painter.drawPath(Symbols[self.symbol])
        painter.end()
        return pixmap


class Band(pg.GraphicsObject):
    """The ground between two curves."""

    def __init__(self) -> None:
        super().__init__()
        self.brush: Any = pg.mkBrush("w")
        self.x, self.low, self.high = np.empty(0), np.empty(0), np.empty(0)
        self._bounds = QtCore.QRectF()
        self._pieces: list[QtGui.QPolygonF] = []

    def set_band(self, x: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> None:
        """Fill between other curves, of finite values."""
        self.prepareGeometryChange()
        self.x, self.low, self.high = x, low, high
        self._bounds = bounds(np.concatenate([x, x]), np.concatenate([low, high]))
        ends = [(begin, min(begin + PIECE, x.size)) for begin in range(0, max(x.size - 1, 0), PIECE - 1)]
        self._pieces = [pg.functions.arrayToQPolygonF(
            np.concatenate([x[begin:end], x[begin:end][::-1]]).astype(float),
            np.concatenate([low[begin:end], high[begin:end][::-1]]).astype(float)) for begin, end in ends]
        self.update()

    def boundingRect(self) -> QtCore.QRectF:
        """Return the rectangle around the band."""
        return self._bounds

    def paint(self, painter: Any, *_: Any) -> None:
        """Fill the ground."""
        painter.setPen(QtCore.Qt.PenStyle.NoPen)
        painter.setBrush(self.brush)
        for piece in self._pieces:
            painter.drawPolygon(piece)


def bounds(x: NDArray[Any], y: NDArray[Any]) -> QtCore.QRectF:
    """Return the rectangle around finite points."""
    if not x.size:
        return QtCore.QRectF()
    left, top = float(x.min()), float(y.min())
    return QtCore.QRectF(left, top, float(x.max()) - left, float(y.max()) - top)
