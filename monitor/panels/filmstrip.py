"""All frames from left to right as small pictures with their verdicts; the newest is at the right."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from monitor.panels.base import Panel, Scene
from monitor.panels.timeline import Timeline
from monitor.rows import Key
from monitor.tables import Table, frames_table
from monitor.theme import DARK, GLYPHS, Theme
from monitor.thumbnails import Wish
from monitor.words import detail, verdict_word
from streamer.records import FrameRow

_TILES = 200
"""Kept ready to be painted: a new frame moves them all, and changes none."""
_GAP_PX = 5.0
_ASPECTS = (0.5, 2.5)
_ALIKE = 0.1
"""Pictures whose proportions differ by less share a size of tiles: binning cuts some pixels off."""
_TALLEST_PX = 110.0
"""Thumbnails have no more rows; the room is better used by others."""


class _Look(NamedTuple):
    """All that a tile shows."""

    key: Key
    word: str
    recollects: int | None
    replaced_by: int | None
    selected: bool
    image: int
    """Tells one thumbnail from another."""
    size: tuple[int, int]
    ratio: float


class Strip(QtWidgets.QWidget):
    """Paints the tiles that can be seen, and no other."""

    clicked = QtCore.Signal(int)
    """Position in the store."""
    scrolled = QtCore.Signal(int)
    """By so many pixels, with the wheel."""

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene()
        self.offset = 0
        """Pixels to the left of what is seen."""
        self.aspect = 1.0
        """Width over height of the pictures."""
        self._rows: dict[int, FrameRow | None] = {}
        """Of this scene, by place in the store."""
        self._tiles: OrderedDict[_Look, QtGui.QPixmap] = OrderedDict()
        self.setMinimumHeight(44)
        self.restyle(DARK)

    def restyle(self, theme: Theme) -> None:
        """Take other colours and another scale."""
        self.theme = theme
        self.font_of_words = theme.font(9.0)
        metrics = QtGui.QFontMetrics(self.font_of_words)
        self.line_px = metrics.height() + 2
        """Height of the line of words below the pictures."""
        self._least_px, self._gap_px = metrics.horizontalAdvance("▲ 0000 ↻"), round(theme.px(_GAP_PX))
        self._tiles.clear()
        self.update()

    def take(self, scene: Scene) -> None:
        """Show the frames of a scene."""
        self.scene, self._rows = scene, {}
        self.update()

    @property
    def count(self) -> int:
        """Frames in the strip."""
        return int(self.scene.charts.position.size)

    @property
    def step_px(self) -> int:
        """From one tile to the next."""
        picture = (self.height() - self.line_px - self.theme.px(_GAP_PX)) * self.aspect
        return max(round(picture), self._least_px) + self._gap_px

    @property
    def length_px(self) -> int:
        """Of all tiles; at least the width, so that the newest is at the right."""
        return max(self.count * self.step_px, self.width())

    def seen(self) -> range:
        """Return the numbers of the tiles that can be seen."""
        left, step = self.offset - self._begin_px(), self.step_px
        return range(max(0, left // step), min(self.count, (left + self.width()) // step + 1))

    def place(self, number: int) -> QtCore.QRect:
        """Return where a tile is."""
        gap, step = self._gap_px, self.step_px
        left = self._begin_px() + number * step - self.offset
        return QtCore.QRect(left + gap // 2, gap // 2, step - gap, self.height() - gap)

    def row_of(self, number: int) -> FrameRow | None:
        """Return the row of a tile."""
        place = int(self.scene.charts.position[number])
        if place not in self._rows:
            self._rows[place] = self.scene.store.row(place)
        return self._rows[place]

    def _begin_px(self) -> int:
        """Return where the first tile begins: few frames stand at the right."""
        return self.length_px - self.count * self.step_px

    def _at(self, x: float) -> int | None:
        number = int((x + self.offset - self._begin_px()) // self.step_px)
        return number if 0 <= number < self.count else None

    def mousePressEvent(self, event: Any) -> None:
        """Choose a frame."""
        number = self._at(event.pos().x())
        if number is not None and event.button() == QtCore.Qt.MouseButton.LeftButton:
            self.clicked.emit(int(self.scene.charts.position[number]))

    def wheelEvent(self, event: Any) -> None:
        """Scroll."""
        delta = event.angleDelta()
        self.scrolled.emit(-(delta.y() or delta.x()))

    def event(self, event: Any) -> bool:
        """Tell all values of the frame under the mouse."""
        if event.type() == QtCore.QEvent.Type.ToolTip:
            number = self._at(event.pos().x())
            row = self.row_of(number) if number is not None else None
            QtWidgets.QToolTip.showText(event.globalPos(), detail(row, self.scene.pixel_size_nm) if row else "")
            return True
        return bool(super().event(event))

    def paintEvent(self, event: Any) -> None:
        """Draw the tiles that can be seen."""
        del event
        painter = QtGui.QPainter(self)
        if not self.count:
            painter.setFont(self.font_of_words)
            painter.setPen(QtGui.QColor(self.theme.dim))
            painter.drawText(self.rect(), int(QtCore.Qt.AlignmentFlag.AlignCenter), "no frames yet")
        beside = self._beside_px()
        for number in self.seen():
            row = self.row_of(number)
            if row is not None:
                tile = self.place(number)
                painter.drawPixmap(tile.topLeft() - QtCore.QPoint(beside, beside), self._tile(row, tile.size()))

    def _beside_px(self) -> int:
        """Return how far the frame of a selected tile reaches over its edge."""
        return round(self.theme.px(1.5)) + 1

    def _tile(self, row: FrameRow, size: QtCore.QSize) -> QtGui.QPixmap:
        """Return a tile as it looks now, with some room around it."""
        key = Key(row.acquisition, row.index)
        small = self.scene.thumbnails.get(key) if self.scene.thumbnails is not None else None
        ratio = self.devicePixelRatioF()
        look = _Look(key, verdict_word(row), row.recollects, self.scene.store.replacement(key),
                     key == self.scene.selected, id(small), (size.width(), size.height()), ratio)
        found = self._tiles.get(look)
        if found is None:
            beside = self._beside_px()
            found = QtGui.QPixmap((size + 2 * QtCore.QSize(beside, beside)) * ratio)
            found.setDevicePixelRatio(ratio)
            found.fill(QtCore.Qt.GlobalColor.transparent)
            painter = QtGui.QPainter(found)
            painter.setRenderHint(QtGui.QPainter.RenderHint.SmoothPixmapTransform)
            painter.setFont(self.font_of_words)
            self._paint_tile(painter, QtCore.QRect(QtCore.QPoint(beside, beside), size), look, self._image(key))
            painter.end()
            self._tiles[look] = found
            if len(self._tiles) > _TILES:
                self._tiles.popitem(last=False)
        return found

    def _paint_tile(self, painter: Any, tile: QtCore.QRect, look: _Look, image: QtGui.QImage | None) -> None:
        colour = QtGui.QColor(self.theme.verdict_colour(look.word))
        picture = tile.adjusted(0, 0, 0, -self.line_px)
        painter.fillRect(picture, QtGui.QColor(self.theme.background))
        if image is not None:
            painter.drawImage(_fitted(picture, image), image)
        else:
            painter.setPen(QtGui.QColor(self.theme.dim))
            painter.drawText(picture, int(QtCore.Qt.AlignmentFlag.AlignCenter), str(look.key.index))
        if look.replaced_by is not None:
            self._cross_out(painter, picture, look.replaced_by)
        width = self.theme.px(3.0 if look.selected else 2.0 if look.word != "sharp" else 1.0)
        frame = QtGui.QColor(self.theme.text) if look.selected else colour
        painter.setBrush(QtCore.Qt.BrushStyle.NoBrush)
        painter.setPen(QtGui.QPen(frame, width))
        painter.drawRect(picture)
        words = tile.adjusted(0, tile.height() - self.line_px + 2, 0, 0)
        painter.setPen(colour)
        painter.drawText(words, int(QtCore.Qt.AlignmentFlag.AlignHCenter | QtCore.Qt.AlignmentFlag.AlignTop),
                         self._words(look, tile.width()))

    def _words(self, look: _Look, width: int) -> str:
        """Return verdict and number, and what the frame replaces, as far as there is room."""
        name = f"{GLYPHS.get(look.word, '')} {look.key.index}"
        metrics = QtGui.QFontMetrics(self.font_of_words)
        full = f"{name} ↻{look.recollects}"
        return name if look.recollects is None else full if metrics.horizontalAdvance(full) <= width else f"{name} ↻"

    def _cross_out(self, painter: Any, picture: QtCore.QRect, replaced_by: int) -> None:
        """Mark a frame that was taken again."""
        painter.fillRect(picture, QtGui.QColor(16, 20, 24, 130))
        painter.setPen(QtGui.QPen(QtGui.QColor("#ffffff"), self.theme.px(1.5)))
        painter.drawLine(picture.bottomLeft(), picture.topRight())
        painter.drawText(picture.adjusted(0, 0, -3, -1), int(QtCore.Qt.AlignmentFlag.AlignRight
                                                             | QtCore.Qt.AlignmentFlag.AlignBottom), f"→ {replaced_by}")

    def _image(self, key: Key) -> QtGui.QImage | None:
        """Return a thumbnail as Qt paints it."""
        small = self.scene.thumbnails.get(key) if self.scene.thumbnails is not None else None
        if small is None or small.size == 1:
            return None
        height, width = small.shape
        aspect = min(max(width / height, _ASPECTS[0]), _ASPECTS[1])
        if abs(aspect / self.aspect - 1) > _ALIKE:
            self.aspect = aspect
        return QtGui.QImage(small.tobytes(), width, height, width, QtGui.QImage.Format.Format_Grayscale8).copy()


class FilmstripPanel(Panel):
    """Click a frame to select it; the strip follows the newest one until it is scrolled away."""

    title = "Filmstrip"
    share = 0.24

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.strip = Strip()
        self.bar = QtWidgets.QScrollBar(QtCore.Qt.Orientation.Horizontal)
        self.bar.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        keeps = self.bar.sizePolicy()
        keeps.setRetainSizeWhenHidden(True)   # the tiles keep their size when there comes something to scroll
        self.bar.setSizePolicy(keeps)
        self.following = True
        self._selected: Key | None = None
        self._body.addWidget(self.strip, 1)
        self._body.addWidget(self.bar)
        self.bar.valueChanged.connect(self._scrolled)
        self.strip.clicked.connect(self.chosen.emit)
        self.strip.scrolled.connect(lambda step: self.bar.setValue(self.bar.value() + step))

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        super().restyle(theme)
        self.strip.restyle(theme)
        self.strip.setMaximumHeight(round(theme.px(_TALLEST_PX)))

    def fit(self) -> None:
        """Follow the newest frame again."""
        self.following = True
        self._layout()

    def resizeEvent(self, event: Any) -> None:
        """Keep the newest frame in sight when there is another amount of room."""
        super().resizeEvent(event)
        self._layout()

    def refresh(self, scene: Scene) -> None:
        """Take the frames of the charts in."""
        moved = scene.selected != self._selected
        self.strip.take(scene)
        self._selected = scene.selected
        if moved and scene.selected is None:
            self.following = True
        self._layout()
        if moved and scene.selected is not None:
            self._bring(scene.selected)
        self._want()
        self.strip.update()
        self._write_legend()

    def as_table(self, scene: Scene) -> Table:
        """Return the frames in the strip."""
        return frames_table(scene.charts, ("blur_length_px", "blur_score"))

    def _layout(self) -> None:
        strip = self.strip
        blocked = self.bar.blockSignals(True)
        self.bar.setPageStep(max(strip.width(), 1))
        self.bar.setSingleStep(strip.step_px)
        self.bar.setRange(0, max(0, strip.length_px - strip.width()))
        self.bar.setVisible(self.bar.maximum() > 0)
        if self.following:
            self.bar.setValue(self.bar.maximum())
        self.bar.blockSignals(blocked)
        strip.offset = self.bar.value()
        strip.update()

    def _scrolled(self, value: int) -> None:
        self.following = value >= self.bar.maximum()
        self.strip.offset = value
        self._want()
        self.strip.update()
        self._write_legend()

    def _bring(self, key: Key) -> None:
        """Scroll as little as needed to see a frame."""
        place = self.strip.scene.store.place(key)
        found = np.flatnonzero(self.strip.scene.charts.position == (-1 if place is None else place))
        if not found.size:
            return
        tile = self.strip.place(int(found[0]))
        if tile.left() < 0:
            self.bar.setValue(self.bar.value() + tile.left())
        elif tile.right() > self.strip.width():
            self.bar.setValue(self.bar.value() + tile.right() - self.strip.width())

    def _want(self) -> None:
        """Ask for the thumbnails that can be seen."""
        scene, strip = self.strip.scene, self.strip
        if scene.thumbnails is None or not self.isVisible():
            return
        wishes = []
        for number in strip.seen():
            row = strip.row_of(number)
            if row is not None:
                wishes.append(Wish(Key(row.acquisition, row.index), int(scene.charts.position[number])))
        scene.thumbnails.want(wishes)

    def _write_legend(self) -> None:
        strip, thumbnails = self.strip, self.strip.scene.thumbnails
        where = "newest at the right" if self.following else "End follows the newest again"
        runs: list[tuple[str, str | None]] = [(f"   {strip.count} frames" if strip.count else "   none", None)]
        runs.append((f"   {where}", self.theme.dim))
        if thumbnails is not None and thumbnails.why:
            runs.append((f"   no pictures: {thumbnails.why}", self.theme.dim))
        self._legend.set_runs(runs)


def _fitted(room: QtCore.QRect, image: QtGui.QImage) -> QtCore.QRect:
    """Return the largest rectangle of the image's proportions in the middle of the room."""
    size = image.size().scaled(room.size(), QtCore.Qt.AspectRatioMode.KeepAspectRatio)
    return QtCore.QRect(room.center() - QtCore.QPoint(size.width() // 2, size.height() // 2), size)
