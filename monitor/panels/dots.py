"""Dots, curves and bands as single items: those of the library cost two to five times as much to change and to draw."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import ArrayLike, NDArray
from pyqtgraph.graphicsItems.ScatterPlotItem import Symbols
from pyqtgraph.Qt import QtCore, QtGui

from monitor.rows import BoolColumn, FloatColumn, IntColumn

PIECE = 32
"""Points of a band that are one polygon: the time for a ragged one grows with the square of its corners."""
REACH_PX = 4.0
"""How far beside a dot a click still means it."""


class _Item(pg.GraphicsObject):
    """Something at places in data, with some pixels of the screen around it."""

    def __init__(self) -> None:
        super().__init__()
        self.room_px = 0.0
        self._bounds = QtCore.QRectF()
        self._rectangle: QtCore.QRectF | None = None
        """What `boundingRect` returns, as long as neither data nor zoom change; Qt asks 20 times for each paint."""

    def boundingRect(self) -> QtCore.QRectF:
        """Return the rectangle around all of it."""
        if self._rectangle is None:
            to_screen = self.sceneTransform()
            wide, high = (self.room_px / max(abs(scale), 1e-30) for scale in (to_screen.m11(), to_screen.m22()))
            empty = self._bounds.isNull() and self._bounds.topLeft().isNull()
            self._rectangle = self._bounds if empty else self._bounds.adjusted(-wide, -high, wide, high)
        return self._rectangle

    def viewTransformChanged(self) -> None:
        """Take the new zoom into account."""
        self.prepareGeometryChange()
        self._rectangle = None

    def _cover(self, around: QtCore.QRectF) -> None:
        """Be somewhere else from now on."""
        self.prepareGeometryChange()
        self._bounds, self._rectangle = around, None
        self.update()


class Dots(_Item):
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

    def set_look(self, size: float, pen: Any, brush: Any) -> None:
        """Take another size, in pixels of the screen, and other colours."""
        self.size, self.pen, self.brush = size, pg.mkPen(pen), pg.mkBrush(brush)
        self.room_px = size / 2 + self.pen.widthF() + 1
        self._stamp = None
        self._cover(self._bounds)

    def set_dots(self, x: FloatColumn, y: FloatColumn, ids: IntColumn | None = None) -> None:
        """Draw other dots; `ids` tell them apart when they are clicked."""
        if not self.x.size and not len(x):
            return
        self.x, self.y = np.asarray(x, float), np.asarray(y, float)
        self.ids = np.arange(self.x.size) if ids is None else ids
        self._cover(bounds(self.x, self.y))

    def getData(self) -> tuple[FloatColumn, FloatColumn]:
        """Return what is drawn, as curves do."""
        return self.x, self.y

    def paint(self, painter: Any, *_: Any) -> None:
        """Stamp all dots; those without pen and brush are there to be clicked alone."""
        styles = self.pen.style(), self.brush.style()
        if not self.x.size or styles == (QtCore.Qt.PenStyle.NoPen, QtCore.Qt.BrushStyle.NoBrush):
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


class Curve(_Item):
    """A line through points, interrupted where there is no value.

    Parameters
    ----------
    pairs : bool
        Each two points are a line of their own.
    """

    def __init__(self, *, pairs: bool = False) -> None:
        super().__init__()
        self.pen = pg.mkPen("w")
        self.x, self.y = np.empty(0), np.empty(0)
        self._pairs = pairs
        self._lines = pg.Qt.internals.PrimitiveArray(QtCore.QLineF, 4)
        self._runs: list[QtGui.QPolygonF] = []

    def setPen(self, pen: QtGui.QPen) -> None:
        """Draw with another pen."""
        self.pen, self.room_px = pen, pen.widthF() + 1
        self.setData(self.x, self.y)

    def setData(self, x: ArrayLike, y: ArrayLike) -> None:
        """Draw through other points; those at both ends of a gap are not joined."""
        before, self.x, self.y = self.x.size, np.asarray(x), np.asarray(y)
        if not before and not self.x.size:
            return
        known = np.isfinite(self.y)
        if self.pen.style() == QtCore.Qt.PenStyle.SolidLine:
            self._set_lines(known)
        else:   # dashes run on from point to point
            self._set_runs(known)
        self._cover(bounds(self.x[known], self.y[known]))

    def getData(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return what is drawn, as curves of the library do."""
        return self.x, self.y

    def paint(self, painter: Any, *_: Any) -> None:
        """Draw the line."""
        if not self.x.size:
            return
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing, False)
        painter.setPen(self.pen)
        if len(self._lines):
            painter.drawLines(*self._lines.drawargs())
        for run in self._runs:
            painter.drawPolyline(run)

    def _set_lines(self, known: BoolColumn) -> None:
        step = 2 if self._pairs else 1
        joined = np.flatnonzero((known[:-1] & known[1:])[::step]) * step
        self._runs = []
        self._lines.resize(joined.size)
        every = self._lines.ndarray()
        for column, (values, shift) in enumerate(((self.x, 0), (self.y, 0), (self.x, 1), (self.y, 1))):
            every[:, column] = values[joined + shift]

    def _set_runs(self, known: BoolColumn) -> None:
        self._lines.resize(0)
        begins, ends = np.flatnonzero(np.diff(known, prepend=False, append=False)).reshape(-1, 2).T
        self._runs = [pg.functions.arrayToQPolygonF(self.x[begin:end], self.y[begin:end])
                      for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]


class Band(_Item):
    """The ground between two curves."""

    def __init__(self) -> None:
        super().__init__()
        self.brush: Any = pg.mkBrush("w")
        self.x, self.low, self.high = np.empty(0), np.empty(0), np.empty(0)
        self._pieces: list[QtGui.QPolygonF] = []

    def set_band(self, x: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> None:
        """Fill between other curves, of finite values."""
        if not self.x.size and not x.size:
            return
        self.x, self.low, self.high = x, low, high
        where, cuts = _corners(x.size)
        y = np.concatenate([low, high])
        every = pg.functions.arrayToQPolygonF(x[where % max(x.size, 1)], y[where])
        self._pieces = [every.mid(begin, count) for begin, count in cuts]
        self._cover(bounds(np.concatenate([x, x]), y))

    def paint(self, painter: Any, *_: Any) -> None:
        """Fill the ground."""
        painter.setPen(QtCore.Qt.PenStyle.NoPen)
        painter.setBrush(self.brush)
        for piece in self._pieces:
            painter.drawPolygon(piece)


@functools.lru_cache(maxsize=64)
def _corners(count: int) -> tuple[IntColumn, list[tuple[int, int]]]:
    """Return how pieces go along the lower edge and back along the upper one, and which corners belong to each."""
    ends = [(begin, min(begin + PIECE, count)) for begin in range(0, max(count - 1, 0), PIECE - 1)]
    ways = [np.r_[begin:end, count + end - 1:count + begin - 1:-1] for begin, end in ends]
    sizes = [way.size for way in ways]
    return np.concatenate([np.empty(0, np.int64), *ways]), list(zip(np.cumsum([0, *sizes])[:-1].tolist(), sizes,
                                                                    strict=True))


def bounds(x: NDArray[Any], y: NDArray[Any]) -> QtCore.QRectF:
    """Return the rectangle around finite points."""
    if not x.size:
        return QtCore.QRectF()
    left, top = float(x.min()), float(y.min())
    return QtCore.QRectF(left, top, float(x.max()) - left, float(y.max()) - top)
