"""Where a frame is painted: the picture, a map over it, arrows, outlines, and what they mean."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyqtgraph as pg
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from monitor import pixels
from monitor.modes import Box, Composition, Layer
from monitor.panels.colourbar import ColourBar, table
from monitor.panels.overlays import CORE, PINNED, SPACING, Arrows, Lines, Rings, ScaleBar
from monitor.theme import DARK, Theme
from streamer.records import FlowResult

_SHADE = pg.mkBrush(16, 20, 24, 190)


class Placed(NamedTuple):
    """A field and where its grid lies on the picture."""

    flow: FlowResult
    drift: tuple[float, float]


class _Image(pg.ImageItem):
    """A picture whose grey levels become bytes in one go: the library takes three times as long, piece by piece."""

    def render(self) -> None:
        """Make of the pixels what Qt paints."""
        if self.image is None or self.image.dtype != np.uint16 or self.image.ndim != 2 or self.lut is not None:
            super().render()
            return
        low, high = self.levels
        grey = self.image.astype(np.float32)
        grey -= np.float32(low)
        grey *= np.float32(255 / max(high - low, 1e-12))
        np.clip(grey, 0, 255, out=grey)
        self.qimage = pg.functions.ndarray_to_qimage(grey.astype(np.uint8), QtGui.QImage.Format.Format_Grayscale8)
        self._renderRequired = self._unrenderable = False


class Canvas(pg.GraphicsView):
    """One picture at a time; levels are kept for each way to look at it."""

    _fitted = False   # Qt resizes while the widget is made

    def __init__(self) -> None:
        super().__init__()
        self.theme = DARK
        self.box = pg.ViewBox(lockAspect=True, invertY=True, enableMenu=False)
        self.setCentralItem(self.box)
        self.ground, self.top = (_Image(axisOrder="row-major") for _ in range(2))
        self.outlines, self.rings, self.bar = Lines("#ffffff", 1.4), Rings(), ScaleBar()
        self.pinned_arrows, self.arrows = Arrows(PINNED), Arrows(CORE)
        self.scale_text = pg.TextItem(anchor=(1.0, 1.0), fill=_SHADE)
        self.hint = pg.TextItem("no picture yet", anchor=(0.5, 0.5))
        for item in (self.ground, self.top, self.outlines, self.rings, self.pinned_arrows, self.arrows, self.bar,
                     self.scale_text, self.hint):
            self.box.addItem(item, ignoreBounds=item is not self.ground)
        self.colours = ColourBar()
        keeps = self.colours.sizePolicy()
        keeps.setRetainSizeWhenHidden(True)   # the picture stays where it is from mode to mode
        self.colours.setSizePolicy(keeps)
        self.chip = QtWidgets.QLabel(self)   # of the widget: it stays in sight when the picture is zoomed
        self.composition: Composition | None = None
        self._mode = 0
        self._pixel_size_nm: float | None = None
        self._levels: dict[tuple[int, str], pixels.Levels] = {}
        self._painted: dict[Any, Any] = {}
        """Pixels on screen, by item."""
        self._box: Box | None = None
        self._fitted = True
        self.box.sigRangeChangedManually.connect(self._zoomed)
        self.box.sigRangeChanged.connect(lambda *_: self._place_scale())
        self.clear()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the frame on screen, in its pixels; (0, 0) while there is none, or a spectrum."""
        if self._box is None or self.composition is None or self.composition.spectrum:
            return 0, 0
        return round(self._box[2]), round(self._box[3])

    def restyle(self, theme: Theme) -> None:
        """Take other colours and another scale."""
        self.theme = theme
        self.setBackground(theme.background)
        for lines in (self.arrows, self.pinned_arrows, self.outlines):
            lines.set_scale(theme.scale)
        self.bar.restyle(theme)
        self.colours.restyle(theme)
        self.scale_text.setFont(theme.font(10.5, bold=True))
        self.hint.setFont(theme.font(11.0))
        self.hint.setColor(theme.dim)

    def clear(self, hint: str = "no picture yet") -> None:
        """Show nothing but a hint."""
        self.composition = self._box = None
        self._painted = {}
        self.hint.setText(hint)
        for item in (self.ground, self.top):
            item.clear()
        for item in (self.ground, self.top, self.outlines, self.rings, self.pinned_arrows, self.arrows, self.bar,
                     self.scale_text):
            item.setVisible(False)
        self.hint.setVisible(True)
        self.colours.setVisible(False)

    def fit(self) -> None:
        """Show the whole picture, and go on doing so until somebody zooms."""
        self._fitted = True
        self.box.autoRange(padding=0.01)

    def resizeEvent(self, event: Any) -> None:
        """Show the whole picture in the new room, unless somebody zoomed."""
        super().resizeEvent(event)
        if self._fitted:
            self.fit()

    def _zoomed(self, _: Any) -> None:
        self._fitted = False

    def _place_scale(self) -> None:
        """Keep what is said of the arrows at the lower right of the room: on narrow pictures it hides the scale bar."""
        corner = self.box.viewRect().bottomRight()
        inset = self.theme.px(6) * float(self.box.viewPixelSize()[0])
        self.scale_text.setPos(corner.x() - inset, corner.y() - inset)

    def forget_levels(self) -> None:
        """Take the levels of the picture on screen at once."""
        self._levels = {}
        if self.composition is not None:
            self.paint_composition(self.composition, self._mode, self._pixel_size_nm)

    def paint_composition(self, composition: Composition, mode: int, pixel_size_nm: float | None) -> None:
        """Paint what is to be seen of a frame; `mode` tells apart levels that have nothing to do with each other."""
        self.composition, self._mode, self._pixel_size_nm = composition, mode, pixel_size_nm
        self._paint(self.ground, composition.ground)
        self._paint(self.top, composition.top)
        measured = composition.measured
        self.colours.setVisible(measured is not None)
        if measured is not None:
            low, high = self._levels[mode, measured.colours]
            self.colours.show_range(measured.colours, low, high, unit=measured.unit, nm_per_unit=measured.nm_per_unit)
        self.outlines.setVisible(composition.outlines is not None)
        if composition.outlines is not None:
            self.outlines.set_lines(composition.outlines)
        self.rings.setVisible(composition.spectrum)
        self.bar.setVisible(not composition.spectrum)
        self.hint.setVisible(False)
        box = composition.ground.box
        if composition.spectrum:
            self.rings.restyle(self.theme, pixel_size_nm)
        else:
            self.bar.set_size(box[3], box[2], pixel_size_nm)
        if box != self._box:
            self._box = box
            self.fit()

    def _paint(self, item: pg.ImageItem, layer: Layer | None) -> None:
        item.setVisible(layer is not None)
        if layer is None:
            return
        levels = None
        if layer.colours:
            key = self._mode, layer.colours
            self._levels[key] = pixels.settled(self._levels.get(key), layer.levels, least=layer.least)
            levels = [(level - layer.offset) / layer.scale for level in self._levels[key]]
        if self._painted.get(item) is not layer.pixels:
            self._painted[item] = layer.pixels
            mapped = layer.colours not in ("", "grey")   # Qt paints grey by itself, twice as fast
            item.setLookupTable(table(layer.colours) if mapped else None, update=False)
            item.setImage(layer.pixels, levels=levels, autoLevels=False)
        elif levels is not None and tuple(levels) != tuple(item.levels):
            item.setLevels(levels)
        top, left, height, width = layer.box
        item.setRect(QtCore.QRectF(left, top, width, height))

    def draw_arrows(self, field: Placed | None, pinned: Placed | None, *, gain: int | None) -> None:
        """Draw the arrows of one or two fields, both on one scale."""
        spacing = self.theme.px(SPACING) * float(self.box.viewPixelSize()[0])
        chosen = gain
        for item, one in ((self.arrows, field), (self.pinned_arrows, pinned)):
            item.setVisible(one is not None)
            item.set_flow(one.flow if one is not None else None, one.drift if one is not None else (0.0, 0.0),
                          shape=self.shape, spacing_px=spacing, gain=chosen)
            chosen = chosen or (item.gain if item.count else None)
