"""A rectangle on the picture: what is inside in numbers, and the place that a forecast shall follow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from pyqtgraph.Qt import QtCore

from monitor.modes import Box, Layer
from monitor.panels.overlays import CORE
from monitor.theme import Theme
from monitor.words import measured, value
from streamer.records import FlowResult

SMALLEST_PX = 4.0


class Region(QtCore.QObject):
    """A rectangle that can be dragged and resized, in pixels of the frame, with its text above."""

    changed = QtCore.Signal()

    def __init__(self, box: pg.ViewBox, parent: QtCore.QObject) -> None:
        super().__init__(parent)
        self.rectangle = pg.ROI((0, 0), (10, 10), pen=pg.mkPen(CORE), hoverPen=pg.mkPen("#ffffff"), rotatable=False,
                                handlePen=pg.mkPen("#ffffff", width=2), handleHoverPen=pg.mkPen("#ffffff", width=3))
        self.rectangle.handleSize = 8
        for corner, opposite in (((0, 0), (1, 1)), ((1, 1), (0, 0)), ((1, 0), (0, 1)), ((0, 1), (1, 0))):
            self.rectangle.addScaleHandle(corner, opposite)
        self.rectangle.setZValue(20)
        self.text = pg.TextItem(anchor=(0.0, 1.0), color=CORE, fill=pg.mkBrush(16, 20, 24, 190))
        self.text.setZValue(21)
        for item in (self.rectangle, self.text):
            item.setVisible(False)
            box.addItem(item, ignoreBounds=True)
        self.shape = (0, 0)
        self.rectangle.sigRegionChanged.connect(lambda _: self._moved())

    @property
    def visible(self) -> bool:
        """Whether it is there."""
        return bool(self.rectangle.isVisible())

    def restyle(self, theme: Theme) -> None:
        """Take the scale of the theme."""
        self.rectangle.setPen(theme.pen(CORE, 2.0))
        self.text.setFont(theme.font(10.5, bold=True))

    def show(self, shape: tuple[int, int]) -> None:
        """Come up in the middle of a picture of this shape, or where it was before."""
        if self.shape != shape:
            self.shape = shape
            height, width = shape
            self.rectangle.setPos((width / 3, height / 3), update=False)
            self.rectangle.setSize((max(width / 3, 1.0), max(height / 3, 1.0)))
        for item in (self.rectangle, self.text):
            item.setVisible(True)

    def hide(self) -> None:
        """Go."""
        for item in (self.rectangle, self.text):
            item.setVisible(False)

    def inside(self) -> tuple[int, int, int, int]:
        """Return top, left, height, width in whole pixels within the picture."""
        begins, sizes = [], []
        corner, size = self.rectangle.pos(), self.rectangle.size()
        for begin, length, limit in ((corner.y(), size.y(), self.shape[0]), (corner.x(), size.x(), self.shape[1])):
            first = min(max(round(begin), 0), max(limit - 1, 0))
            begins.append(first)
            sizes.append(max(1, min(round(begin + length), limit) - first))
        return begins[0], begins[1], sizes[0], sizes[1]

    def write(self, layer: Layer, flow: FlowResult | None, drift: tuple[float, float],
              pixel_size_nm: float | None) -> None:
        """Say what is inside: mean and scatter of the layer, median displacement of the field."""
        top, left, height, width = self.inside()
        mean, scatter = _inside(layer, (top, left, height, width))
        unit = f" {layer.unit}" if layer.unit else ""
        text = "no values inside" if mean is None else f"mean {measured(mean, scatter)}{unit}"
        moved = "no displacement known here"
        if flow is not None:
            rows = _within(flow.grid_y_px + drift[0], top, height)
            columns = _within(flow.grid_x_px + drift[1], left, width)
            valid = flow.valid[rows, columns]
            if valid.any():
                y, x = (float(np.median(plane[rows, columns][valid])) for plane in flow.displacement_px)
                nm = f" ({np.hypot(y, x) * pixel_size_nm:.0f} nm)" if pixel_size_nm else ""
                moved = (f"median displacement y {value(y, digits=2, signed=True)}, "
                         f"x {value(x, digits=2, signed=True)} px{nm}")
        self.text.setText(f"{height} × {width} px at y {top}, x {left}\n{text}\n{moved}")
        self.text.setPos(left, top)

    def _moved(self) -> None:
        if self.visible:
            self.changed.emit()


def _within(grid: Any, begin: float, length: float) -> slice:
    first, last = np.searchsorted(grid, (begin, begin + length))
    return slice(int(first), int(last))


def _inside(layer: Layer, box: Box) -> tuple[float | None, float]:
    """Return mean and standard deviation of the values of a layer inside a box."""
    if layer.pixels.ndim != 2:
        return None, 0.0
    cuts = []
    for begin, length, start, whole, count in zip(box[:2], box[2:], layer.box[:2], layer.box[2:], layer.pixels.shape,
                                                  strict=True):
        first, last = ((at - start) / whole * count for at in (begin, begin + length))
        cuts.append(slice(max(0, round(first)), max(round(last), round(first) + 1, 0)))
    some = layer.pixels[tuple(cuts)]
    some = some[np.isfinite(some)].astype(np.float64)
    if not some.size:
        return None, 0.0
    return layer.offset + layer.scale * float(some.mean()), abs(layer.scale) * float(some.std())
