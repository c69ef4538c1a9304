"""The frame axis that the charts share: it follows the newest frame until the user zooms, and again after a fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from pyqtgraph.Qt import QtCore

from monitor.panels.axes import Axis
from monitor.rows import Charts, FloatColumn, IntColumn, Start

NEWEST = 500
"""Frames shown while following a long run."""
MOST_AHEAD = 0.12
"""Share of the frames shown that may be left free for what is forecast."""
MOST_POINTS = 1500
"""Symbols drawn in one chart at the most; 10 000 of them cost 27 ms."""


class FrameAxis(Axis):
    """Numbers of frames; they start anew with each acquisition."""

    def __init__(self) -> None:
        super().__init__("bottom")
        self.starts: tuple[Start, ...] = ()

    def tickSpacing(self, minVal: float, maxVal: float, size: float) -> Any:
        """Leave out fractions of a frame."""
        return [level for level in super().tickSpacing(minVal, maxVal, size) if level[0] >= 1] or [(1, 0)]

    def tickStrings(self, values: Any, scale: float, spacing: float) -> list[str]:
        """Write the frame number within its acquisition."""
        return [str(self._number(round(value))) for value in values]

    def _number(self, order: float) -> int:
        here = [start for start in self.starts if start.order <= order]
        return int(order if not here else order - here[-1].order + here[-1].index)


class Timeline(QtCore.QObject):
    """Keep the x range of all attached charts the same."""

    moved = QtCore.Signal()
    """The user changed the range: charts have to draw another part."""
    picked = QtCore.Signal(float)
    """A chart was clicked beside all dots: where on the frame axis."""

    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self.following = True
        self.whole = False
        self.range = (-0.5, 20.5)
        self.ahead = 0.0
        """Frames after the newest one that charts have something to show of."""
        self._plots: list[pg.PlotWidget] = []
        self._marks: list[pg.InfiniteLine] = []
        self._starts: list[list[pg.InfiniteLine]] = []

    def attach(self, plot: pg.PlotWidget) -> None:
        """Control the x range of a chart; its y range follows the data."""
        self._plots.append(plot)
        box = plot.getViewBox()
        box.setMouseEnabled(x=True, y=False)
        box.disableAutoRange()
        box.setXRange(*self.range, padding=0)
        box.sigRangeChangedManually.connect(lambda _mask, box=box: self._moved_by_user(box))
        plot.scene().sigMouseClicked.connect(lambda event, box=box: self._clicked(box, event))
        mark = pg.InfiniteLine(angle=90, movable=False)
        mark.setVisible(False)
        plot.addItem(mark, ignoreBounds=True)
        self._marks.append(mark)
        self._starts.append([])

    def follow(self, charts: Charts) -> None:
        """Move to the newest frames, unless the user has taken over, and write the right numbers."""
        if self.following and charts.order.size:
            first, last = float(charts.order[0]), float(charts.order[-1])
            if not self.whole:
                first = max(first, last - NEWEST)
            ahead = min(self.ahead, (last - first) * MOST_AHEAD)
            room = max(1.0, (last - first) * 0.03, ahead)
            inside = self.range[0] <= first - 0.4 <= last + max(0.4, 0.5 * ahead) <= self.range[1]
            if not inside or (last - first) < 0.7 * self._width():
                self.range = (first - 0.5 - 0.2 * room, max(last + room, first + 20.0) + 0.5)
                self._apply()
        for number, plot in enumerate(self._plots):
            axis = plot.getAxis("bottom")
            if isinstance(axis, FrameAxis) and axis.starts != charts.starts:
                axis.starts = charts.starts
                axis.picture = None
                axis.update()
            self._draw_starts(number, charts.starts[1:])

    def mark(self, order: float | None, pen: Any) -> None:
        """Show where the selected frame is."""
        for mark in self._marks:
            mark.setVisible(order is not None)
            if order is not None:
                mark.setPen(pen)
                mark.setValue(order)

    def resume(self) -> None:
        """Follow the newest frame again."""
        self.following = True
        self.range = (0.0, -1.0)   # anything not in force, so that the next `follow` moves

    def _width(self) -> float:
        return self.range[1] - self.range[0] if self.range[1] - self.range[0] > 22 else 0.0

    def _clicked(self, box: Any, event: Any) -> None:
        mine = event.button() == QtCore.Qt.MouseButton.LeftButton and not event.isAccepted()
        if mine and box.sceneBoundingRect().contains(event.scenePos()):
            self.picked.emit(float(box.mapSceneToView(event.scenePos()).x()))

    def _moved_by_user(self, box: Any) -> None:
        self.following = False
        self.range = tuple(box.viewRange()[0])
        self._apply()
        self.moved.emit()

    def _apply(self) -> None:
        for plot in self._plots:
            plot.getViewBox().setXRange(*self.range, padding=0)

    def _draw_starts(self, number: int, starts: tuple[Start, ...]) -> None:
        lines, plot = self._starts[number], self._plots[number]
        while len(lines) < len(starts):
            line = pg.InfiniteLine(angle=90, movable=False, pen=pg.mkPen("#808890", style=QtCore.Qt.PenStyle.DotLine))
            plot.addItem(line, ignoreBounds=True)
            lines.append(line)
        for line, start in zip(lines, starts, strict=False):
            line.setValue(start.order - 0.5)
        for line in lines[len(starts):]:
            line.setVisible(False)


def thin(x: FloatColumn, y: FloatColumn, low: float, high: float, *, most: int = MOST_POINTS) -> IntColumn:
    """Choose the points to draw between `low` and `high`: all, or the extremes of equal groups.

    Parameters
    ----------
    x : ndarray of shape (n,)
        Sorted.
    y : ndarray of shape (n,)
        NaN loses against any number.

    Returns
    -------
    ndarray of int
        Sorted, at most `most` of them.
    """
    begin, end = np.searchsorted(x, low, "left"), np.searchsorted(x, high, "right")
    count = int(end - begin)
    if count <= most:
        return np.arange(begin, end)
    size = -(-count // (most // 2))
    groups = count // size
    part = y[begin:begin + groups * size].reshape(groups, size)
    base = begin + np.arange(groups) * size
    lows = base + np.argmin(np.where(np.isnan(part), np.inf, part), axis=1)
    highs = base + np.argmax(np.where(np.isnan(part), -np.inf, part), axis=1)
    return np.unique(np.concatenate([lows, highs]))


def settle(current: tuple[float, float], low: float, high: float, *, least: float) -> tuple[float, float]:
    """Return a y range that holds `low` to `high` and moves only when it must, so that charts stand still."""
    middle, span = (low + high) / 2, max(high - low, least)
    begin, end = middle - span / 2, middle + span / 2
    too_large = current[1] - current[0] > 2.2 * span
    if begin < current[0] or end > current[1] or too_large:
        return begin - 0.15 * span, end + 0.15 * span
    return current
