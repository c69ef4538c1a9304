"""The newest frame with its displacement arrows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyqtgraph as pg
from pyqtgraph.Qt import QtCore, QtWidgets

from monitor.panels.base import ElidedLabel, Pacer, Panel, Scene
from monitor.panels.overlays import SPACING, Arrows, ScaleBar
from monitor.panels.timeline import Timeline
from monitor.rows import Key
from monitor.store import Picture
from monitor.theme import GLYPHS, Theme
from monitor.words import blur, clock, verdict_word
from streamer.records import AnyArray, FlowResult

QUANTILES = (0.005, 0.995)
SAMPLE = 20_000
"""Pixels from which the levels are taken."""
PATIENCE = 0.12
"""Levels stay until they are off by this share of their range, so that the picture does not flicker."""


class FramePanel(Panel):
    """Grey picture, arrows where something moved, a scale bar."""

    title = "Frame"
    pace = "picture"
    painted = QtCore.Signal()

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.view = pg.GraphicsView()
        self.box = pg.ViewBox(lockAspect=True, invertY=True, enableMenu=False)
        self.view.setCentralItem(self.box)
        self.image = pg.ImageItem(axisOrder="row-major")
        self.arrows, self.bar = Arrows(), ScaleBar()
        self.scale_text = pg.TextItem(anchor=(1.0, 1.0), color="#ffe14d", fill=pg.mkBrush(16, 20, 24, 170))
        self.hint = pg.TextItem("no picture yet", anchor=(0.5, 0.5))
        self.preview_text = pg.TextItem("deblurred preview", color="#101418", fill=pg.mkBrush(255, 225, 77, 220))
        for item in (self.image, self.arrows, self.bar, self.scale_text, self.hint, self.preview_text):
            self.box.addItem(item, ignoreBounds=item is not self.image)
        self.bar.setVisible(False)
        self.preview_text.setVisible(False)
        self.cursor = QtWidgets.QLabel()
        self.cursor.setObjectName("caption")
        self._head.addWidget(self.cursor)
        self.view.scene().sigMouseMoved.connect(self._read)
        self.preview_note = ElidedLabel()
        self.preview_note.setVisible(False)
        self._body.addWidget(self.preview_note)
        self._body.addWidget(self.view, 1)
        self._levels: tuple[float, float] | None = None
        self._shown: Picture | None = None
        self._flow: FlowResult | None = None
        self._shape = (0, 0)
        self.with_arrows = True
        self.with_preview = False
        self._pixels: AnyArray | None = None
        """On screen: the picture, or its preview."""
        self._scene: Scene | None = None
        self._zoomed = Pacer(100, self._redraw_arrows, self)   # their density belongs to the zoom
        self.box.sigRangeChanged.connect(self._zoomed.request)

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        super().restyle(theme)
        self.view.setBackground(theme.background)
        self.arrows.restyle(theme)
        self.bar.restyle(theme)
        self.scale_text.setFont(theme.font(10.5, bold=True))
        self.preview_text.setFont(theme.font(10.5, bold=True))
        self.hint.setColor(theme.dim)

    def refresh(self, scene: Scene) -> None:
        """Show the newest picture and the newest field of the same view."""
        picture, self._scene = scene.picture, scene
        if picture is None or picture.image is None:
            self._clear()
            return
        new = picture is not self._shown
        if new:
            self._show(picture, picture.image, scene.pixel_size_nm)
        if new or scene.flow is not self._flow:
            self._flow = scene.flow
            self._draw_arrows(scene, picture)
        self._write_legend(scene, picture)
        if new:
            self.painted.emit()

    def fit(self) -> None:
        """Show the whole picture."""
        self.box.autoRange(padding=0.01)

    def level(self) -> None:
        """Take the levels of the picture on screen."""
        self._levels = None
        if self._pixels is not None:
            self._level(self._pixels)

    def toggle_arrows(self) -> None:
        """Show or hide the arrows."""
        self.with_arrows = not self.with_arrows
        self._redraw_arrows()

    def toggle_preview(self) -> None:
        """Show blurred frames as they are, or with the blur taken out as far as possible."""
        self.with_preview = not self.with_preview
        self.preview_note.setVisible(self.with_preview)
        if self._shown is not None and self._shown.image is not None and self._scene is not None:
            self._show(self._shown, self._shown.image, self._scene.pixel_size_nm)

    def _redraw_arrows(self) -> None:
        if self._shown is not None and self._scene is not None:
            self._draw_arrows(self._scene, self._shown)

    def _read(self, position: Any) -> None:
        """Write the value under the mouse."""
        text = ""
        if self._shown is not None and self._pixels is not None:
            point = self.box.mapSceneToView(position)
            y, x = (math.floor(at / self._shown.binning) for at in (point.y(), point.x()))
            height, width = self._pixels.shape
            if 0 <= y < height and 0 <= x < width:
                number = self._shown.offset + self._shown.scale * float(self._pixels[y, x])
                text = f"y {math.floor(point.y())}, x {math.floor(point.x())}: {number:.4g}"
        self.cursor.setText(text)

    def _clear(self) -> None:
        self._shown = self._flow = self._levels = self._pixels = None
        self._shape = (0, 0)
        self.image.clear()
        self.arrows.set_flow(None, (0.0, 0.0), shape=self._shape, spacing_px=1.0)
        self.preview_note.setText("")
        for item in (self.bar, self.scale_text, self.preview_text):
            item.setVisible(False)
        self.hint.setVisible(True)
        self._legend.setText("")

    def _show(self, picture: Picture, image: AnyArray, pixel_size_nm: float | None) -> None:
        preview = picture.deblurred if self.with_preview else None
        self._pixels = image = image if preview is None else preview
        self._write_preview(picture)
        self._level(image)
        self.image.setImage(image, levels=self._levels, autoLevels=False)
        height, width = (size * picture.binning for size in image.shape)
        self.image.setRect(QtCore.QRectF(0, 0, width, height))
        self.bar.set_size(width, height, picture.pixel_size_nm or pixel_size_nm)
        self.scale_text.setPos(0.98 * width, 0.975 * height)
        self.preview_text.setPos(0.015 * width, 0.015 * height)
        self.preview_text.setVisible(preview is not None)
        self.bar.setVisible(True)
        self.hint.setVisible(False)
        if (height, width) != self._shape:
            self._shape = height, width
            self.fit()
        self._shown = picture

    def _write_preview(self, picture: Picture) -> None:
        """Say what the preview is worth, or, greyed, why there is none."""
        said = str((picture.deblur or {}).get("text", ""))
        if picture.deblurred is not None:
            self.preview_note.set_runs([(said or "deblurred preview", None)])
        else:
            reason = said or "this frame was not found blurred, or there was no time to restore it"
            self.preview_note.set_runs([(f"no deblurred preview: {reason.removeprefix('no preview: ')}",
                                         self.theme.dim)])

    def _level(self, image: AnyArray) -> None:
        step = max(1, int(np.sqrt(image.size / SAMPLE)))
        low, high = np.quantile(image[::step, ::step], QUANTILES)
        high = max(high, low + 1)
        if self._levels is not None:
            patience = PATIENCE * (self._levels[1] - self._levels[0])
            if abs(low - self._levels[0]) < patience and abs(high - self._levels[1]) < patience:
                return
        self._levels = float(low), float(high)
        self.image.setLevels(self._levels)

    def _draw_arrows(self, scene: Scene, picture: Picture) -> None:
        flow = scene.flow if self.with_arrows else None
        if flow is not None and (flow.view, flow.acquisition) != (picture.view, picture.acquisition):
            flow = None
        drift = (0.0, 0.0)
        if flow is not None:
            row = scene.store.row(Key(picture.acquisition, picture.index))
            drift = flow.drift_y_px, flow.drift_x_px
            if (row is not None and row.reference_index == flow.reference_index
                    and row.drift_y_px is not None and row.drift_x_px is not None):
                drift = row.drift_y_px, row.drift_x_px
        pixel = self.box.viewPixelSize()[0]
        self.arrows.set_flow(flow, drift, shape=self._shape, spacing_px=self.theme.px(SPACING) * pixel)
        self.scale_text.setVisible(flow is not None)
        if flow is not None:
            late = "" if flow.index == picture.index else f" of frame {flow.index}"
            self.scale_text.setText(f"arrows{late} × {self.arrows.gain}" if self.arrows.count
                                    else f"flow{late}: nothing above the noise")

    def _write_legend(self, scene: Scene, picture: Picture) -> None:
        row = scene.store.row(Key(picture.acquisition, picture.index))
        about = f"   view {picture.view}" if picture.view else ""
        runs: list[tuple[str, str | None]] = [(f" {picture.index}{about}   ", None)]
        if row is not None:
            word = verdict_word(row)
            known = f"blur {blur(row, scene.pixel_size_nm)}" if row.blur_length_px is not None else row.problems
            runs += [(f"{clock(row.exposed_at or row.received_at)}   ", None),
                     (f"{GLYPHS.get(word, '')} {word}   ", self.theme.verdict_colour(word)), (known, None)]
        self._legend.set_runs(runs)
