"""Axes of charts: their numbers are painted only where they have to be."""

from __future__ import annotations

import math
from typing import Any

import pyqtgraph as pg
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

_Drawn = list[tuple[Any, Any]]


class Axis(pg.AxisItem):
    """An axis whose grid is painted with the chart, and whose numbers only when they themselves are to be painted.

    The grid reaches over the chart, so that each new dot has the axis painted; of that, texts take nine tenths.
    """

    def __init__(self, orientation: str) -> None:
        super().__init__(orientation)
        self.setFlag(QtWidgets.QGraphicsItem.GraphicsItemFlag.ItemUsesExtendedStyleOption)
        self._lines: _Drawn = []
        self._texts = QtGui.QPicture()

    def paint(self, p: Any, opt: Any, widget: Any) -> None:
        """Draw the grid, and the numbers where they are within what is to be painted."""
        del widget
        if self.picture is None:
            self._draw_anew()
        p.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing, False)
        for pen, lines in self._lines:
            p.setPen(pen)
            p.drawLines(*lines.drawargs())
        if opt.exposedRect.intersects(self._own()):
            self._texts.play(p)

    def _own(self) -> QtCore.QRectF:
        """Return the room beside the chart."""
        own: QtCore.QRectF = self.mapRectFromParent(self.geometry())
        return own

    def _draw_anew(self) -> None:
        self._lines = []
        self._texts = QtGui.QPicture()
        painter = QtGui.QPainter(self._texts)
        try:
            if self.style["tickFont"]:
                painter.setFont(self.style["tickFont"])
            specs = self.generateDrawSpecs(painter)
            if specs is None:   # no room at all
                return
            (pen, begin, end), ticks, texts = specs
            self.drawPicture(painter, (QtGui.QPen(QtCore.Qt.PenStyle.NoPen), begin, end), [], texts)
            groups: list[tuple[Any, list[tuple[float, ...]]]] = [(pen, [(*begin, *end)])]
            for pen, begin, end in ticks:
                if pen != groups[-1][0]:
                    groups.append((pen, []))
                groups[-1][1].append((*begin, *end))
        finally:
            painter.end()
            self.picture = self._texts   # at last: measuring the texts forgets it
        for pen, every in groups:
            lines = pg.Qt.internals.PrimitiveArray(QtCore.QLineF, 4)
            lines.resize(len(every))
            lines.ndarray()[:] = every
            self._lines.append((pen, lines))


class ValueAxis(Axis):
    """Numbers from bottom to top, two at least and none over another, however low the chart is."""

    _step = math.inf

    def tickSpacing(self, minVal: float, maxVal: float, size: float) -> Any:
        """Leave out steps that are lower than a line of text."""
        levels: list[tuple[float, float]] = super().tickSpacing(minVal, maxVal, size)
        room = 0.85 * QtGui.QFontMetrics(self.style["tickFont"] or self.font()).height()
        span = maxVal - minVal
        least = room * span / max(size, 1.0)
        kept = [level for level in levels if level[0] >= least]
        low, high = minVal + 0.48 * least, maxVal - 0.48 * least   # what is nearer to an end is left out by pyqtgraph
        ends = {step: (math.ceil(low / step) * step, math.floor(high / step) * step) for step, _ in levels}
        self._step = math.inf
        if self.logMode:   # decades
            return levels
        if any(ends[step][0] < ends[step][1] for step, _ in kept):
            return kept
        for room_for_two in (True, False):
            for step, (low, high) in ends.items():
                if high - low >= (least if room_for_two else 0.0):
                    self._step = step
                    return [(high - low if room_for_two else 2 * span, low)]
        return []

    def tickStrings(self, values: Any, scale: float, spacing: float | None) -> list[str]:
        """Write the digits that the step has, not those of the distance between two outermost ones."""
        return list(super().tickStrings(values, scale, None if spacing is None else min(spacing, self._step)))
