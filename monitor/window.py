"""The dashboard window: arranges the panels and redraws each at its own pace."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from monitor.commander import Answer, Commander
from monitor.feed import Feed
from monitor.panels.banner import BannerPanel
from monitor.panels.base import INTERVAL_MS, ElidedLabel, Pacer, Panel, Scene
from monitor.panels.corner import Corner
from monitor.panels.deformation import DeformationPanel
from monitor.panels.drift import DriftPanel
from monitor.panels.frame import FramePanel
from monitor.panels.path import PathPanel
from monitor.panels.sharpness import SharpnessPanel
from monitor.panels.spectra import SpectraPanel
from monitor.panels.statusbar import StatusPanel
from monitor.panels.table import TablePanel
from monitor.panels.timeline import Timeline
from monitor.rows import Charts, Key
from monitor.store import Picture
from monitor.theme import DARK, LIGHT, Theme
from monitor.words import detail
from streamer.records import FlowResult

PANELS: dict[str, tuple[type[Panel], ...]] = {
    "top": (BannerPanel,),
    "left": (FramePanel, TablePanel),
    "right": (SharpnessPanel, DriftPanel),
    "corner": (PathPanel, DeformationPanel, SpectraPanel),
    "bottom": (StatusPanel,),
}
"""Every panel, by its place in the window; those of a corner become tabs where there is no room for all."""

KEYS = (
    ("Space", "toggle_pause", "pause the display, and go on; nothing is lost meanwhile"),
    ("F", "fit", "fit, and follow the newest frame again"),
    ("W", "toggle_whole", "whole run or newest 500 frames"),
    ("N", "next_flagged", "next flagged frame"),
    ("P", "previous_flagged", "previous flagged frame"),
    ("Esc", "deselect", "select no frame"),
    ("L", "level", "grey levels of the picture on screen"),
    ("A", "toggle_arrows", "displacement arrows on or off"),
    ("B", "toggle_preview", "deblurred preview of blurred frames on or off"),
    ("S", "next_tab", "next tab in the corner: path, deformation, spectra"),
    ("T", "toggle_theme", "dark or light"),
    ("F11", "toggle_full_screen", "full screen"),
    ("?", "toggle_keys", "this list"),
)
COLUMN_PX = 900
"""Width of the window that each further column in the corner needs, beside the first."""
MESSAGE_S = 12.0
HINT = "Click a dot or a line to see all values of its frame here; ? lists the keys."


class Window(QtWidgets.QMainWindow):
    """Show what a feed receives.

    Parameters
    ----------
    feed : Feed
        Not yet started, or running; the window does not stop it.
    theme : Theme
        Colours and scale.
    """

    news = QtCore.Signal()
    answered = QtCore.Signal(object)

    def __init__(self, feed: Feed, *, theme: Theme = DARK, commander: Commander | None = None) -> None:
        super().__init__()
        self.feed, self.store, self.theme = feed, feed.store, theme
        self.commander = commander or Commander(feed.endpoint, feed.control)
        self.timeline = Timeline(self)
        self.view: str | None = None
        self.selected: Key | None = None
        self._paused_at: int | None = None
        self._all = self._charts = Charts()
        """All rows as of now or of the pause, and those of the chosen view."""
        self._picture: Picture | None = None
        self._flow: FlowResult | None = None
        self._newest: Key | None = None
        self._session = ""
        self._message, self._message_until = "", 0.0
        self._painted: deque[float] = deque(maxlen=200)
        self._keys: QtWidgets.QDialog | None = None
        self.panels = {kind: kind(self.timeline) for kinds in PANELS.values() for kind in kinds}
        self._arrange()
        self._connect()
        self._pacers = {pace: Pacer(interval, call, self) for (pace, interval), call in zip(
            INTERVAL_MS.items(), (self._refresh_picture, self._refresh_charts, self._refresh_labels), strict=True)}
        self.timeline.moved.connect(self._pacers["charts"].request)
        self._clock = QtCore.QTimer(self)   # ages grow without news
        self._clock.timeout.connect(self._pacers["labels"].request)
        self._clock.start(250)
        self.restyle(theme)

    @property
    def paused(self) -> bool:
        """Whether the display stands still."""
        return self._paused_at is not None

    def panel(self, kind: type[Panel]) -> Any:
        """Return the panel of a class."""
        return self.panels[kind]

    def scene(self) -> Scene:
        """Put together what is to be shown now."""
        now = time.monotonic()
        recent = sum(now - at < 5.0 for at in self._painted)
        return Scene(
            store=self.store, charts=self._charts, picture=self._picture, flow=self._flow, status=self.store.status,
            link=self.feed.link(), newest=self._newest, selected=self.selected, view=self.view,
            behind=None if self._paused_at is None else max(0, len(self.store) - self._paused_at),
            shown_hz=recent / 5.0, message=self._message if now < self._message_until else "",
        )

    def say(self, text: str) -> None:
        """Show a message for a while."""
        self._message, self._message_until = text, time.monotonic() + MESSAGE_S
        self._pacers["labels"].request()

    def ask(self, op: str, arguments: Mapping[str, Any]) -> None:
        """Ask something of the streamer and show what came of it."""
        self.commander.ask(op, done=self.answered.emit, **arguments)

    def _show_answer(self, answer: Answer) -> None:
        self.say(f"{answer.op} refused: {answer.error}" if answer.error else f"{answer.op}: done")

    def refresh_now(self) -> None:
        """Redraw everything at once, as before a picture of the window is taken."""
        self._on_news()
        self._refresh_picture()
        self._refresh_charts()
        self._refresh_labels()

    def restyle(self, theme: Theme) -> None:
        """Take other colours everywhere."""
        self.theme = theme
        self.setStyleSheet(theme.stylesheet())
        for panel in self.panels.values():
            panel.restyle(theme)
        self.refresh_now()

    def select(self, key: Key | None) -> None:
        """Mark a frame in all charts and show its values."""
        self.selected = key
        self._refresh_charts()
        self._refresh_labels()

    def toggle_pause(self) -> None:
        """Stop or resume the display; receiving, alerts and the state of the link go on."""
        self._paused_at = len(self.store) if self._paused_at is None else None
        self.refresh_now()

    def fit(self) -> None:
        """Show everything and follow the newest frame again."""
        self.timeline.resume()
        for panel in self.panels.values():
            panel.fit()
        self._refresh_charts()

    def toggle_whole(self) -> None:
        """Change between the newest frames and the whole run."""
        self.timeline.whole = not self.timeline.whole
        self.timeline.resume()
        self._refresh_charts()

    def next_flagged(self) -> None:
        """Select the next flagged frame."""
        self._step(+1)

    def previous_flagged(self) -> None:
        """Select the flagged frame before."""
        self._step(-1)

    def deselect(self) -> None:
        """Select no frame."""
        self.select(None)

    def level(self) -> None:
        """Adapt the grey levels to the picture on screen."""
        self.panel(FramePanel).level()

    def toggle_arrows(self) -> None:
        """Show or hide the displacement arrows."""
        self.panel(FramePanel).toggle_arrows()

    def toggle_preview(self) -> None:
        """Show or hide deblurred previews."""
        self.panel(FramePanel).toggle_preview()

    def next_tab(self) -> None:
        """Bring the next tab in the corner to the front."""
        self._corner.next_tab()

    def toggle_theme(self) -> None:
        """Change between dark and light."""
        other = LIGHT if self.theme.name == "dark" else DARK
        self.restyle(replace(other, scale=self.theme.scale))

    def toggle_full_screen(self) -> None:
        """Change between window and full screen."""
        self.setWindowState(self.windowState() ^ QtCore.Qt.WindowState.WindowFullScreen)

    def toggle_keys(self) -> None:
        """Show or hide the list of keys."""
        if self._keys is None:
            self._keys = _keys_dialog(self)
        self._keys.setVisible(not self._keys.isVisible())

    def closeEvent(self, event: Any) -> None:
        """Stop redrawing."""
        self._clock.stop()
        self.feed.notify = lambda: None
        super().closeEvent(event)

    def keyPressEvent(self, event: Any) -> None:
        """Know ? by its text: as a shortcut it would need Shift on some keyboards only."""
        if event.text() == "?":
            self.toggle_keys()
        else:
            super().keyPressEvent(event)

    def resizeEvent(self, event: Any) -> None:
        """Turn panels in the corner into tabs when there is little room."""
        super().resizeEvent(event)
        self._corner.set_columns(int(self.width() / self.theme.px(COLUMN_PX)))

    def _arrange(self) -> None:
        self.setWindowTitle("txm-monitor")
        left = _stack([self.panels[kind] for kind in PANELS["left"]], (68, 32))
        self._corner = Corner([self.panels[kind] for kind in PANELS["corner"]])
        self._corner.turned.connect(lambda: self._draw("charts"))
        right = _stack([*(self.panels[kind] for kind in PANELS["right"]), self._corner], (30, 36, 34))
        columns = QtWidgets.QSplitter(QtCore.Qt.Orientation.Horizontal)
        for column in (left, right):
            columns.addWidget(column)
        columns.setSizes([1000, 1000])
        columns.setChildrenCollapsible(False)
        self.detail = ElidedLabel(HINT)
        self.detail.setContentsMargins(8, 0, 8, 0)
        centre = QtWidgets.QWidget()
        rows = QtWidgets.QVBoxLayout(centre)
        rows.setContentsMargins(6, 6, 6, 4)
        rows.setSpacing(5)
        for kind in PANELS["top"]:
            rows.addWidget(self.panels[kind])
        rows.addWidget(columns, 1)
        rows.addWidget(self.detail)
        for kind in PANELS["bottom"]:
            rows.addWidget(self.panels[kind])
        self.setCentralWidget(centre)

    def _connect(self) -> None:
        self.news.connect(self._on_news)
        self.answered.connect(self._show_answer)
        self.feed.notify = self.news.emit
        self.panel(FramePanel).painted.connect(lambda: self._painted.append(time.monotonic()))
        self.panel(BannerPanel).view_chosen.connect(self._choose_view)
        for panel in self.panels.values():
            panel.chosen.connect(self._choose)
        shortcut = QtGui.QShortcut if hasattr(QtGui, "QShortcut") else QtWidgets.QShortcut
        for key, method, _ in KEYS:
            if key != "?":
                shortcut(QtGui.QKeySequence(key), self).activated.connect(getattr(self, method))
        for panel in self.panels.values():
            panel.asked.connect(self.ask)
            for key, method, _ in panel.actions_by_key:
                shortcut(QtGui.QKeySequence(key), self).activated.connect(getattr(panel, method))

    def _on_news(self) -> None:
        for notice in self.feed.taken():
            self.say(notice)
        if self.store.session != self._session:
            self._begin_session()
        for pacer in self._pacers.values():
            pacer.request()

    def _begin_session(self) -> None:
        self._session = self.store.session
        self.selected, self.view = None, None
        self._paused_at = None if self._paused_at is None else 0
        self.timeline.resume()
        self.timeline.whole = False
        self.panel(PathPanel).fit()

    def _refresh_picture(self) -> None:
        if not self.paused:
            self._newest = self.store.newest
            self._picture = self._of_view(self.store.picture, self._picture)
            self._flow = self._of_view(self.store.flow, self._flow)
        self._draw("picture")

    def _of_view(self, new: Any, old: Any) -> Any:
        """Keep what is shown while the newest one belongs to a view that is not."""
        if self.view is None or new is None or new.view == self.view:
            return new
        return old if old is not None and old.view == self.view else None

    def _refresh_charts(self) -> None:
        if not self.paused and self._all.version != self.store.version:
            self._all = self.store.charts()
            self._charts = self._all.only(self.view)
        self.timeline.follow(self._charts)
        self.timeline.mark(self._order(self.selected), self.theme.pen(self.theme.text, dashed=True))
        self._draw("charts")

    def _refresh_labels(self) -> None:
        self._draw("labels")
        row = self.store.row(self.selected) if self.selected is not None else None
        if row is None or self.selected is None:
            self.detail.setText(HINT)
            return
        size = self.scene().pixel_size_nm
        shown = self._picture is not None and Key(self._picture.acquisition, self._picture.index) == self.selected
        note = "" if shown else " · its picture is not available yet: the newest one is shown"
        self.detail.setText(detail(row, size, replaced_by=self.store.replacement(self.selected)) + note)

    def _draw(self, pace: str) -> None:
        scene = self.scene()
        for panel in self.panels.values():
            if panel.pace == pace and (panel.isVisible() or not self.isVisible()):   # hidden tabs cost nothing
                panel.refresh(scene)

    def _choose(self, position: int) -> None:
        row = self.store.row(position)
        self.select(Key(row.acquisition, row.index) if row is not None else None)

    def _choose_view(self, view: str | None) -> None:
        self.view = view
        self._charts = self._all.only(view)
        self.panel(PathPanel).fit()
        self.refresh_now()

    def _order(self, key: Key | None) -> float | None:
        place = self.store.place(key) if key is not None else None
        lines = np.flatnonzero(self._charts.position == (-1 if place is None else place))
        return float(self._charts.order[lines[0]]) if lines.size else None

    def _step(self, direction: int) -> None:
        flagged = np.flatnonzero(self._charts.flagged)
        if not flagged.size:
            return
        now, orders = self._order(self.selected), self._charts.order[flagged]
        if now is None:
            line = flagged[-1]
        else:
            after = orders > now if direction > 0 else orders < now
            if not after.any():
                return
            line = flagged[after][0 if direction > 0 else -1]
        self._choose(int(self._charts.position[line]))


def _stack(widgets: list[QtWidgets.QWidget], shares: tuple[int, ...]) -> QtWidgets.QSplitter:
    splitter = QtWidgets.QSplitter(QtCore.Qt.Orientation.Vertical)
    for number, (widget, share) in enumerate(zip(widgets, shares, strict=True)):
        splitter.addWidget(widget)
        splitter.setStretchFactor(number, share)
    splitter.setSizes([share * 10 for share in shares])
    splitter.setChildrenCollapsible(False)
    return splitter


def _keys_dialog(parent: Window) -> QtWidgets.QDialog:
    dialog = QtWidgets.QDialog(parent)
    dialog.setWindowTitle("Keys")
    grid = QtWidgets.QGridLayout(dialog)
    grid.setHorizontalSpacing(18)
    every = [*KEYS, *(action for panel in parent.panels.values() for action in panel.actions_by_key)]
    for line, (key, _, text) in enumerate(every):
        name = QtWidgets.QLabel(key)
        name.setObjectName("title")
        grid.addWidget(name, line, 0)
        grid.addWidget(QtWidgets.QLabel(text), line, 1)
    return dialog
