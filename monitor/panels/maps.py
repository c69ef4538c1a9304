"""A map on the grid of a displacement field, with equal scales, y down, a scale bar and a colour bar."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from pyqtgraph.Qt import QtCore, QtWidgets

from monitor.modes import field_box
from monitor.panels.colourbar import ColourBar, table
from monitor.panels.field import FieldPanel
from monitor.panels.overlays import ScaleBar
from monitor.panels.parts import Empty
from monitor.panels.timeline import Timeline
from monitor.theme import Theme
from streamer.records import AnyArray, FlowResult

LEAST_PX = 190
"""Height from which there is room for a scale bar."""


class FieldMap(QtWidgets.QWidget):
    """Values or colours at the points of a field; what is not known is not drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.view = pg.GraphicsView()
        self.box = pg.ViewBox(lockAspect=True, invertY=True, enableMenu=False)
        self.view.setCentralItem(self.box)
        self.view.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Ignored)
        self.image = pg.ImageItem(axisOrder="row-major")
        self.scale = ScaleBar()
        self.edge = QtWidgets.QGraphicsRectItem()
        """Of the frame: the field may be known in a part of it only."""
        for item in (self.image, self.edge, self.scale):
            self.box.addItem(item, ignoreBounds=item is not self.image)
        self.bar = ColourBar()
        self._least = float(LEAST_PX)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.view, 1)
        row.addWidget(self.bar)
        self.clear()

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        self.view.setBackground(theme.surface)
        self.scale.restyle(theme)
        self.bar.restyle(theme)
        self.edge.setPen(theme.pen(theme.border))
        self._least = theme.px(LEAST_PX)

    def show_values(self, flow: FlowResult, values: AnyArray, colours: str, levels: tuple[float, float], *,
                    unit: str, pixel_size_nm: float | None) -> None:
        """Show one number per point of the grid, (K, L), NaN where there is none."""
        low, high = levels
        known = np.isfinite(values)
        scaled = np.where(known, (values - low) * (255.0 / (high - low)), 0.0)
        shown = np.empty((*values.shape, 4), np.uint8)
        shown[..., :3] = table(colours)[np.clip(np.round(scaled), 0, 255).astype(np.uint8)]
        shown[..., 3] = np.where(known, 255, 0)
        self.bar.show_range(colours, low, high, unit=unit)
        self.bar.setVisible(True)
        self._show(flow, shown, pixel_size_nm)

    def show_colours(self, flow: FlowResult, colours: NDArray[np.uint8], *, pixel_size_nm: float | None) -> None:
        """Show one colour per point of the grid, (K, L, 4)."""
        self.bar.setVisible(False)
        self._show(flow, colours, pixel_size_nm)

    def clear(self) -> None:
        """Show nothing."""
        self.image.clear()
        self.bar.setVisible(False)
        self.scale.setVisible(False)
        self.edge.setVisible(False)
        self._place = QtCore.QRectF()

    def fit(self) -> None:
        """Show the whole map."""
        if not self._place.isEmpty():
            self.box.setRange(self._place, padding=0.02)

    def _show(self, flow: FlowResult, colours: NDArray[np.uint8], pixel_size_nm: float | None) -> None:
        self.image.setImage(colours, autoLevels=False, levels=(0, 255))
        top, left, height, width = field_box(flow, (0.0, 0.0))
        place = QtCore.QRectF(left, top, width, height)
        self.image.setRect(place)
        self.edge.setRect(place)
        self.edge.setVisible(True)
        self.scale.set_size(left + width, top + height, pixel_size_nm)
        self._show_scale()
        if place != self._place:
            self._place = place
            self.fit()

    def resizeEvent(self, event: Any) -> None:
        """Keep showing the whole map."""
        super().resizeEvent(event)
        self._show_scale()
        self.fit()

    def _show_scale(self) -> None:
        """Show the scale bar where it does not cover half of the map."""
        self.scale.setVisible(self.edge.isVisible() and self.view.height() >= self._least)


class MapPanel(FieldPanel):
    """A panel of a displacement field that shows a map."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.map = FieldMap()
        self._body.addWidget(self.map, 1)
        self.empty = Empty(self.map)

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        super().restyle(theme)
        self.map.restyle(theme)

    def clear(self) -> None:
        """Show nothing."""
        self.map.clear()

    def fit(self) -> None:
        """Show the whole map."""
        self.map.fit()
