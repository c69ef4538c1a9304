"""A frame, live or selected, looked at in one of many ways, with its displacement arrows."""

from __future__ import annotations

import functools
from typing import Any

import pyqtgraph as pg
from pyqtgraph.Qt import QtCore, QtWidgets

from monitor.modes import CORRECTED, MODES, Composition, Material
from monitor.panels.base import Action, ElidedLabel, Panel, Scene
from monitor.panels.canvas import Canvas, Placed
from monitor.panels.material import Look, key_of, look, material
from monitor.panels.overlays import CORE, GAINS, PINNED
from monitor.panels.pacing import Pacer
from monitor.panels.particles import Place
from monitor.panels.parts import Combo
from monitor.panels.region import Region
from monitor.panels.timeline import Timeline
from monitor.tables import Table, field_table
from monitor.theme import GLYPHS, Theme
from monitor.words import blur, clock, verdict_word
from streamer.records import FlowResult, FrameRow


class FramePanel(Panel):
    """The picture with what is known of it drawn on it; the keys 1 to 9 choose what is shown."""

    title = "Frame"
    pace = "picture"
    actions_by_key = (
        *(Action(str(number), f"show_{mode.name}", f"picture: {mode.name} ({mode.about})")
          for number, mode in enumerate(MODES, start=1)),
        Action("X", "toggle_variant", "picture: drift taken out or not; divergence or shear"),
        Action("L", "level", "levels of the picture on screen"),
        Action("D", "toggle_arrows", "displacement arrows on or off"),
        Action("+", "longer_arrows", "longer arrows"),
        Action("-", "shorter_arrows", "shorter arrows"),
        Action("O", "toggle_pinned", "keep the field on screen to lay it over others, or let it go"),
        Action("I", "toggle_region", "region of interest on or off"),
    )
    painted = QtCore.Signal()

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.mode = CORRECTED
        self.with_arrows = True
        self.gain: int | None = None
        """Of the arrows, chosen by hand."""
        self.pinned: FlowResult | None = None
        self._others: set[int] = set()
        """Modes shown in their second variant."""
        self._scene: Scene | None = None
        self._seen: Look | None = None
        self._shown: tuple[int, Material] | None = None
        self._arrowed: Any = None
        self._scale_runs: list[str] = []
        self.canvas = Canvas()
        self.spot = pg.ScatterPlotItem(pxMode=False, brush=None)
        """Ring around what is marked."""
        self.canvas.box.addItem(self.spot, ignoreBounds=True)
        self._marked: Place | None = None
        self.region = Region(self.canvas.box, self)
        self.cursor = QtWidgets.QLabel()
        self.cursor.setObjectName("caption")
        self._head.addWidget(self.cursor)
        self._build()
        self.canvas.scene().sigMouseMoved.connect(self._read)
        self.region.changed.connect(self._write_region)
        self._zoomed = Pacer(100, lambda: [self._redraw_arrows], self)   # their density belongs to the zoom
        self.canvas.box.sigRangeChanged.connect(lambda *_: self._zoomed.request())

    def _build(self) -> None:
        self.modes = Combo()
        for number, mode in enumerate(MODES, start=1):
            self.modes.addItem(f"{number} {mode.name}")
            self.modes.setItemData(number - 1, mode.about, QtCore.Qt.ItemDataRole.ToolTipRole)
        self.modes.setCurrentIndex(self.mode)
        self.modes.activated.connect(self.show_mode)
        self.variant, self.follow = QtWidgets.QToolButton(), QtWidgets.QToolButton()
        self.variant.clicked.connect(self.toggle_variant)
        self.variant.setToolTip("the other way: key X")
        self.follow.setText("follow this region")
        self.follow.setToolTip("forecast when this region leaves the field of view")
        self.follow.clicked.connect(self._follow_region)
        self.words = ElidedLabel(whole=True)
        line, picture = QtWidgets.QHBoxLayout(), QtWidgets.QHBoxLayout()
        for widget in (self.modes, self.variant, self.follow):
            widget.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)   # keys belong to the window
            widget.setVisible(widget is self.modes)
            line.addWidget(widget)
        line.addWidget(self.words, 1)
        picture.setSpacing(2)
        picture.addWidget(self.canvas, 1)
        picture.addWidget(self.canvas.colours)
        self._body.addLayout(line)
        self._body.addLayout(picture, 1)

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        super().restyle(theme)
        self.canvas.restyle(theme)
        self.region.restyle(theme)
        self.spot.setPen(theme.pen(CORE, 2.5))
        self._arrowed = None

    def refresh(self, scene: Scene) -> None:
        """Show the selected frame or the newest one, in the chosen mode."""
        self._scene = scene
        mode = MODES[self.mode]
        seen = look(scene, with_flow=self.with_arrows or "flow" in mode.needs, extra=mode.extra)
        if seen is None:
            self._clear("no picture yet")
            return
        if seen.picture.thing is None:
            self._wait(scene, seen)
            return
        self._seen = seen
        fresh = self._paint(scene, seen)
        self._draw_arrows()
        self._draw_spot()
        self._write_region()
        self._write_legend(scene, seen)
        self._write_chip(scene, seen)
        if fresh:
            self.painted.emit()

    def as_table(self, scene: Scene) -> Table:
        """Return the displacement field of the frame on screen; pixels are in pictures."""
        del scene
        return field_table(self._seen.flow.thing if self._seen is not None else None)

    def fit(self) -> None:
        """Show the whole picture, with arrows that fill the room."""
        self.gain = None
        self._redraw_arrows()
        self.canvas.fit()

    def level(self) -> None:
        """Take the levels of the picture on screen."""
        self.canvas.forget_levels()

    def show_mode(self, mode: int) -> None:
        """Look at frames in another way, of `modes.MODES`."""
        self.mode = mode
        self.modes.setCurrentIndex(mode)
        self._again()

    show_raw = functools.partialmethod(show_mode, 0)
    show_corrected = functools.partialmethod(show_mode, 1)
    show_difference = functools.partialmethod(show_mode, 2)
    show_overlay = functools.partialmethod(show_mode, 3)
    show_displacement = functools.partialmethod(show_mode, 4)
    show_strain = functools.partialmethod(show_mode, 5)
    show_regions = functools.partialmethod(show_mode, 6)
    show_deblurred = functools.partialmethod(show_mode, 7)
    show_spectrum = functools.partialmethod(show_mode, 8)

    def toggle_variant(self) -> None:
        """Change between the two variants of the mode, where it has two."""
        if MODES[self.mode].variants is not None:
            self._others ^= {self.mode}
            self._again()

    def toggle_arrows(self) -> None:
        """Show or hide the arrows."""
        self.with_arrows = not self.with_arrows
        self._again()

    def longer_arrows(self) -> None:
        """Draw arrows longer, until the next fit."""
        self._scale_arrows(+1)

    def shorter_arrows(self) -> None:
        """Draw arrows shorter, until the next fit."""
        self._scale_arrows(-1)

    def toggle_pinned(self) -> None:
        """Keep the field on screen beside those to come, or let it go."""
        if self.pinned is not None:
            self.pinned = None
        elif self._seen is not None:
            self.pinned = self._seen.flow.thing
        self._redraw_arrows()

    def toggle_region(self) -> None:
        """Show or hide the region of interest."""
        if self.region.visible:
            self.region.hide()
        elif self.canvas.shape != (0, 0):
            self.region.show(self.canvas.shape)
        self.follow.setVisible(self.region.visible)
        self._write_region()

    def _again(self) -> None:
        if self._scene is not None:
            self.refresh(self._scene)

    def _clear(self, hint: str) -> None:
        self._seen = self._shown = self._arrowed = None
        self.canvas.clear(hint)
        self.canvas.chip.setVisible(False)
        self.region.hide()
        self.follow.setVisible(False)
        self.words.setText("")
        self._legend.setText("")

    def _wait(self, scene: Scene, seen: Look) -> None:
        """Keep what is on screen while a picture is on its way; show nothing when it cannot be had."""
        if self._seen is None or not seen.picture.why.endswith("is on its way"):
            self._clear(seen.picture.why)
        self._write_chip(scene, seen)

    def _paint(self, scene: Scene, seen: Look) -> bool:
        """Paint the picture if it is another than on screen; return whether it was."""
        mode, other = MODES[self.mode], self.mode in self._others
        wanted = self.mode, material(scene, seen, mode, other=other)
        self.variant.setVisible(mode.variants is not None)
        if mode.variants is not None:
            self.variant.setText(mode.variants[other])
        if wanted == self._shown:
            return False
        self._shown = wanted
        composition = mode.compose(wanted[1])
        self.canvas.paint_composition(composition, 2 * self.mode + other, wanted[1].pixel_size_nm)
        first, *more = composition.words.split("; ")
        colour = self.theme.dim if composition.missing else None
        self.words.set_runs([(first, colour), *((f"; {part}", colour) for part in more)])
        return True

    def mark(self, place: Place | None) -> None:
        """Draw a ring around a place of the reference frame, where it is in the frame shown; none for None."""
        self._marked = place
        self._draw_spot()

    def _draw_spot(self) -> None:
        seen, place = self._seen, self._marked
        shown = seen is not None and place is not None and not self._is_spectrum()
        self.spot.setVisible(shown)
        if seen is None or place is None or not shown:
            return
        drift = seen.drift
        row = seen.row
        if seen.flow.thing is None and row is not None and row.drift_y_px is not None and row.drift_x_px is not None:
            drift = row.drift_y_px, row.drift_x_px
        self.spot.setData([place.x_px + drift[1]], [place.y_px + drift[0]], size=2 * place.radius_px)

    def _redraw_arrows(self) -> None:
        self._arrowed = None
        if self._seen is not None and self.isVisible():
            self._draw_arrows()

    def _draw_arrows(self) -> None:
        """Draw the fields, if anything about them changed."""
        seen = self._seen
        if seen is None:
            return
        drawn = self.with_arrows and not self._is_spectrum()
        field = Placed(seen.flow.thing, seen.drift) if drawn and seen.flow.thing is not None else None
        pinned = Placed(self.pinned, seen.drift if field is not None else (self.pinned.drift_y_px,
                                                                           self.pinned.drift_x_px)
                        ) if drawn and self.pinned is not None else None
        wanted = field, pinned, self.canvas.shape, self.gain
        if wanted != self._arrowed:
            self._arrowed = wanted
            self.canvas.draw_arrows(field, pinned, gain=self.gain)
            self._write_scale(field, pinned, key_of(seen.picture.thing).index)

    def _write_scale(self, field: Placed | None, pinned: Placed | None, index: int) -> None:
        """Say whose arrows they are, and how much longer than true."""
        runs = []
        for one, arrows, colour in ((field, self.canvas.arrows, CORE), (pinned, self.canvas.pinned_arrows, PINNED)):
            if one is None:
                continue
            late = one.flow.index != index or pinned is not None
            whose = f", frame {one.flow.index}" if late else ""
            if one is pinned:
                whose += f" against {one.flow.reference_index}, kept"
            text = f"arrows × {arrows.gain}{whose}" if arrows.count else f"flow{whose}: nothing above the noise"
            runs.append(f"<span style='color:{colour}'>{text}</span>")
        self.canvas.scale_text.setVisible(bool(runs))
        if runs != self._scale_runs:
            self._scale_runs = runs
            self.canvas.scale_text.setHtml("<br>".join(runs))

    def _scale_arrows(self, step: int) -> None:
        now = GAINS.index(self.canvas.arrows.gain)
        self.gain = GAINS[min(max(now + step, 0), len(GAINS) - 1)]
        self._redraw_arrows()

    def _is_spectrum(self) -> bool:
        composition: Composition | None = self.canvas.composition
        return composition is not None and composition.spectrum

    def _read(self, position: Any) -> None:
        """Write the value under the mouse."""
        composition, text = self.canvas.composition, ""
        if composition is not None:
            point = self.canvas.box.mapSceneToView(position)
            text = composition.read(point.y(), point.x())
        self.cursor.setText(text)

    def _write_region(self) -> None:
        seen, composition = self._seen, self.canvas.composition
        if not self.region.visible or seen is None or composition is None:
            return
        if self._is_spectrum() or self.canvas.shape != self.region.shape:   # of another picture
            self.toggle_region()
            return
        self.region.write(composition.measured or composition.ground, seen.flow.thing, seen.drift,
                          self._shown[1].pixel_size_nm if self._shown is not None else None)

    def _follow_region(self) -> None:
        """Ask the streamer to forecast when this region leaves the field of view."""
        top, left, height, width = self.region.inside()
        self.asked.emit("set", {"settings": {"forecast.top_px": top, "forecast.left_px": left,
                                             "forecast.height_px": height, "forecast.width_px": width}})

    def _write_chip(self, scene: Scene, seen: Look) -> None:
        """Say which frame is looked at where it is not simply the newest."""
        chip = self.canvas.chip
        chip.setVisible(seen.chosen)
        if not seen.chosen:
            return
        newest = scene.newest
        live = "" if newest is None else " · live" if newest == seen.key else f" · live is {newest.index}"
        late = ""
        if seen.picture.thing is None and self._seen is not None:
            late = f"\non its way; frame {self._seen.key.index} is shown meanwhile"
        chip.setText(f"frame {seen.key.index} · selected{live}{late}")
        chip.setFont(self.theme.font(10.5, bold=True))
        chip.setStyleSheet(f"background: rgba(16, 20, 24, 200); color: {CORE}; padding: 3px; border-radius: 3px;")
        chip.adjustSize()
        chip.move(round(self.theme.px(8)), round(self.theme.px(8)))

    def _write_legend(self, scene: Scene, seen: Look) -> None:
        row, picture = seen.row, seen.picture.thing
        about = f"   view {picture.view}" if picture.view else ""
        runs: list[tuple[str, str | None]] = [(f" {picture.index}{about}   ", None)]
        if row is not None:
            runs += self._verdict(row, scene.pixel_size_nm)
        self._legend.set_runs(runs)

    def _verdict(self, row: FrameRow, pixel_size_nm: float | None) -> list[tuple[str, str | None]]:
        word = verdict_word(row)
        known = f"blur {blur(row, pixel_size_nm)}" if row.blur_length_px is not None else row.problems
        return [(f"{clock(row.exposed_at or row.received_at)}   ", None),
                (f"{GLYPHS.get(word, '')} {word}   ", self.theme.verdict_colour(word)), (known, None)]
