"""The dashboard window: arranges the panels and redraws each at its own pace."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pyqtgraph.Qt import QtCore, QtWidgets

from monitor import jpeg
from monitor.answers import answer_words
from monitor.bell import Bell
from monitor.commander import Answer, Commander
from monitor.control import Control
from monitor.export import Exporter
from monitor.feed import Feed
from monitor.gauge import Gauge
from monitor.keys import fill_menus, gather, keys_dialog
from monitor.layout import Docks
from monitor.panels.alerts import AlertsPanel
from monitor.panels.banner import BannerPanel
from monitor.panels.base import ElidedLabel, Panel, Scene
from monitor.panels.compass import CompassPanel
from monitor.panels.deformation import DeformationPanel
from monitor.panels.displacements import DisplacementsPanel
from monitor.panels.drift import DriftPanel
from monitor.panels.filmstrip import FilmstripPanel
from monitor.panels.flow_histograms import FlowHistogramsPanel
from monitor.panels.frame import FramePanel
from monitor.panels.jitter import JitterPanel
from monitor.panels.pacing import Pacer, Steps
from monitor.panels.particles import ParticlesPanel
from monitor.panels.path import PathPanel
from monitor.panels.regions import RegionsPanel
from monitor.panels.sharpness import SharpnessPanel
from monitor.panels.spectra import SpectraPanel
from monitor.panels.statusbar import StatusPanel
from monitor.panels.strain import StrainPanel
from monitor.panels.table import TablePanel
from monitor.panels.timeline import Timeline
from monitor.panels.volume import VolumePanel
from monitor.rows import Charts, Key
from monitor.shelf import Shelf
from monitor.store import Picture
from monitor.theme import DARK, LIGHT, Theme
from monitor.thumbnails import Thumbnails
from monitor.views import nearest, order_of, step, turn
from monitor.words import detail
from streamer.records import Alert, FlowResult

PANELS: dict[str, tuple[type[Panel], ...]] = {
    "left": (FramePanel, FilmstripPanel),                    # one above the other
    "lists": (AlertsPanel, TablePanel, ParticlesPanel),      # tabs below them
    "right": (SharpnessPanel, DriftPanel, JitterPanel),      # one above the other
    "motion": (PathPanel, DisplacementsPanel),               # below on the right, where there is room one beside the
    "field": (DeformationPanel, FlowHistogramsPanel, CompassPanel, StrainPanel, RegionsPanel, VolumePanel),   # other,
    "spectrum": (SpectraPanel,),              # else tabs
}
"""Every panel that docks, by its place in the layout that a window begins with."""

INTERVAL_MS = {"picture": 25, "charts": 200, "labels": 250}
"""Shortest time between two redraws: a picture costs 8 ms, all charts together 15 ms."""
LOADING_S = 1.0
"""Shortest time between two redraws of the charts while a long run is loaded."""
WORDS_MS = 100
"""What is said of a picture may come so much later than the picture."""
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
    commander : Commander, optional
        What is asked goes through it; one of our own, not yet started, by default.
    settings : QSettings, optional
        Where the layout is remembered; nowhere by default.
    """

    news = QtCore.Signal()
    answered = QtCore.Signal(object)

    def __init__(self, feed: Feed, *, theme: Theme = DARK, commander: Commander | None = None,
                 settings: QtCore.QSettings | None = None) -> None:
        super().__init__()
        self.feed, self.store, self.theme = feed, feed.store, theme
        self.commander = commander or Commander(feed.endpoint, feed.control)
        self.shelf = Shelf(self.commander.ask, decode=jpeg.decode, notify=self.news.emit)
        self.thumbnails = Thumbnails(self.commander.ask, decode=jpeg.decode, place_of=self.store.place,
                                     notify=self.news.emit)
        self.timeline = Timeline(self)
        self.view: str | None = None
        self.selected: Key | None = None
        self._paused_at: int | None = None
        self._charts_at = -math.inf
        self._all = self._charts = Charts()
        """All rows as of now or of the pause, and those of the chosen view."""
        self._picture: Picture | None = None
        self._flow: FlowResult | None = None
        self._newest: Key | None = None
        self._session = ""
        self._message, self._message_until = "", 0.0
        self._gauge, self._unpainted = Gauge(), False
        self._announced: tuple[int, FlowResult | None] = (0, None)
        """Pictures and field when there were news last."""
        self._keys: QtWidgets.QDialog | None = None
        self._settings = settings
        kinds: list[type[Panel]] = [BannerPanel, *(kind for kinds in PANELS.values() for kind in kinds), StatusPanel]
        self.panels = {kind: kind(self.timeline) for kind in kinds}
        self.docks = Docks(self, PANELS, self.panels)
        self.control = Control(self, self.scene, self._listed_alert, settings)
        self.exporter = Exporter(self, self.docks, self.scene)
        self.bell = Bell(self, self.scene, settings)
        self._bound = gather(self, [self.exporter, self.control, self.bell, *self.panels.values()])
        self._arrange()
        self._connect()
        picture = Pacer(INTERVAL_MS["picture"], lambda: [self._refresh_picture], self)
        self._pacers = {"picture": picture, **{
            pace: Pacer(INTERVAL_MS[pace], steps, self, yields_to=picture)
            for pace, steps in (("charts", self._paced_charts), ("labels", lambda: [self._refresh_labels]))}}
        self.timeline.moved.connect(self._pacers["charts"].request)
        self.timeline.picked.connect(self._pick)
        self._clock = QtCore.QTimer(self)   # ages grow without news
        self._clock.timeout.connect(self._pacers["labels"].request)
        self._clock.start(250)
        self.restyle(theme)

    @property
    def paused(self) -> bool:
        """Whether the display stands still."""
        return self._paused_at is not None

    @property
    def locked(self) -> str:
        """Why nothing can be asked of the streamer that changes something; empty when it can."""
        return "this dashboard is read-only" if self.commander.read_only else ""

    def panel(self, kind: type[Panel]) -> Any:
        """Return the panel of a class."""
        return self.panels[kind]

    def scene(self) -> Scene:
        """Put together what is to be shown now."""
        now = time.monotonic()
        return Scene(
            store=self.store, charts=self._charts, picture=self._picture, flow=self._flow, status=self.store.status,
            link=self.feed.link(), newest=self._newest, selected=self.selected, view=self.view,
            behind=None if self._paused_at is None else max(0, len(self.store) - self._paused_at),
            shown_hz=self._gauge.hz, skipped=self._gauge.skipped, paint_ms=self._gauge.delay_ms, locked=self.locked,
            shelf=self.shelf, thumbnails=self.thumbnails,
            message=self._message if now < self._message_until else "",
        )

    def say(self, text: str) -> None:
        """Show a message for a while."""
        self._message, self._message_until = text, time.monotonic() + MESSAGE_S
        self._pacers["labels"].request()

    def ask(self, op: str, arguments: Mapping[str, Any]) -> None:
        """Ask something of the streamer and show what came of it."""
        self.commander.ask(op, done=self.answered.emit, **arguments)

    def _listed_alert(self) -> Alert | None:
        """Return the alert selected in the list, if that can be seen: no key acts on what nobody sees."""
        panel = self.panel(AlertsPanel)
        return panel.selected if self.docks.is_seen(panel) else None

    def _show_answer(self, answer: Answer) -> None:
        self.say(answer_words(answer))

    def refresh_now(self) -> None:
        """Redraw everything at once, as before a picture of the window is taken."""
        self._on_news()
        self._refresh_picture()
        self._refresh_charts()
        self._refresh_labels()

    def restyle(self, theme: Theme) -> None:
        """Take other colours everywhere."""
        self.theme = theme
        self.docks.scale = theme.scale
        self.setStyleSheet(theme.stylesheet())
        for panel in self.panels.values():
            panel.restyle(theme)
        self.refresh_now()

    def select(self, key: Key | None) -> None:
        """Mark a frame in all charts and show its values."""
        self.selected = key
        self._mark()
        self._refresh_labels()
        self._pacers["picture"].request()
        self._pacers["charts"].hurry()   # a key held down need not wait for all of them

    def toggle_pause(self) -> None:
        """Stop or resume the display; receiving, alerts and the state of the link go on."""
        self._paused_at = len(self.store) if self._paused_at is None else None
        self.refresh_now()

    def fit(self) -> None:
        """Show everything and follow the newest frame again."""
        self.timeline.resume()
        for panel in self.panels.values():
            panel.fit()
        self._follow()
        self._pacers["charts"].hurry()

    def toggle_whole(self) -> None:
        """Change between the newest frames and the whole run."""
        self.timeline.whole = not self.timeline.whole
        self.timeline.resume()
        self._follow()
        self._pacers["charts"].hurry()

    def select_next(self) -> None:
        """Select the next frame."""
        self._step(+1)

    def select_previous(self) -> None:
        """Select the frame before."""
        self._step(-1)

    def select_first(self) -> None:
        """Select the first frame."""
        if self._charts.position.size:
            self._choose(int(self._charts.position[0]))

    def next_flagged(self) -> None:
        """Select the next flagged frame."""
        self._step(+1, flagged=True)

    def previous_flagged(self) -> None:
        """Select the flagged frame before."""
        self._step(-1, flagged=True)

    def next_view(self) -> None:
        """Show the next view alone, after the last all of them."""
        self._choose_view(turn(self.store.views, self.view, +1))

    def previous_view(self) -> None:
        """Show the view before alone."""
        self._choose_view(turn(self.store.views, self.view, -1))

    def deselect(self) -> None:
        """Select no frame; what is tried in a panel is dropped first."""
        if not any(panel.give_up() for panel in self.panels.values()):
            self.select(None)

    def next_tab(self) -> None:
        """Bring the next tab of every group to the front."""
        self.docks.next_tab()

    def reset_layout(self) -> None:
        """Put all panels where they belong."""
        self.docks.reset()

    def toggle_panels(self) -> None:
        """Show or hide the list of panels."""
        if self.panels_menu.isVisible():
            self.panels_menu.close()
        else:
            self.panels_menu.popup(self.mapToGlobal(self.menus.geometry().bottomLeft()))

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
            self._keys = keys_dialog(self, self._bound)
        self._keys.setVisible(not self._keys.isVisible())

    def closeEvent(self, event: Any) -> None:
        """Remember the layout and stop redrawing."""
        if self._settings is not None:
            self._settings.setValue("layout", self.docks.state())
            self._settings.setValue("geometry", self.saveGeometry())
        self._clock.stop()
        self.control.reporter.stop()
        self.feed.notify = self.shelf.notify = self.thumbnails.notify = lambda: None
        super().closeEvent(event)

    def keyPressEvent(self, event: Any) -> None:
        """Know ? by its text: as a shortcut it would need Shift on some keyboards only."""
        if event.text() == "?":
            self.toggle_keys()
        else:
            super().keyPressEvent(event)

    def showEvent(self, event: Any) -> None:
        """Share the room out that there is now."""
        super().showEvent(event)
        if not event.spontaneous():
            self.docks.share_again()

    def resizeEvent(self, event: Any) -> None:
        """Turn panels into tabs when there is little room."""
        super().resizeEvent(event)
        self.docks.follow()

    def _arrange(self) -> None:
        self.setWindowTitle("txm-monitor")
        self.menus = QtWidgets.QMenuBar()
        fill_menus(self.menus, self._bound, locked=self.locked)
        self.panels_menu = self.menus.addMenu("Panels")
        for dock in self.docks.docks.values():
            self.panels_menu.addAction(dock.toggleViewAction())
        self.detail = ElidedLabel(HINT)
        self.detail.setContentsMargins(8, 0, 8, 0)
        self.setMenuWidget(_column(self.menus, self.panel(BannerPanel)))
        bottom = QtWidgets.QStatusBar()
        bottom.setSizeGripEnabled(False)
        bottom.addWidget(_column(self.detail, self.panel(StatusPanel)), 1)
        self.setStatusBar(bottom)
        self.docks.reset()
        self.is_new = True
        """Whether no size was remembered."""
        if self._settings is not None:
            self.is_new = not self.restoreGeometry(_bytes(self._settings.value("geometry")))
            self.docks.restore(self._settings.value("layout"))

    def _connect(self) -> None:
        self.news.connect(self._on_news)
        self.answered.connect(self._show_answer)
        self.feed.notify = self.news.emit
        self.panel(FramePanel).painted.connect(self._await_paint)
        self.panel(FramePanel).canvas.viewport().installEventFilter(self)
        self.panel(BannerPanel).view_chosen.connect(self._choose_view)
        for panel in self.panels.values():
            panel.chosen.connect(self._choose)
        self.panel(ParticlesPanel).marked.connect(self.panel(FramePanel).mark)
        self.docks.turned.connect(self._show_panel)
        for panel in self.panels.values():
            panel.asked.connect(self.ask)
            panel.wanted.connect(self.control.do)
        self.control.asked.connect(self.ask)
        self.control.told.connect(self.say)
        for actor in (self.exporter, self.bell):
            actor.told.connect(self.say)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """See when a new picture is really on screen: when the view has been painted, not when it was told to."""
        if self._unpainted and event.type() == QtCore.QEvent.Type.Paint:
            self._unpainted = False
            QtCore.QTimer.singleShot(0, self._gauge.painted)
        return bool(super().eventFilter(watched, event))

    def _await_paint(self) -> None:
        self._unpainted = True

    def _on_news(self) -> None:
        for notice in self.feed.taken():
            self.say(notice)
        if self.store.session != self._session:
            self._begin_session()
        anything = (self.store.pictures, self.store.flow)
        is_seen = self.selected is None and anything == self._announced   # a row alone changes words only
        self._announced = anything
        self._pacers["picture"].request(WORDS_MS if is_seen else 0)
        self._pacers["charts"].request()
        self._pacers["labels"].request()

    def _begin_session(self) -> None:
        self._session = self.store.session
        self.shelf.clear()
        self.thumbnails.clear()
        self.selected, self.view = None, None
        self._paused_at = None if self._paused_at is None else 0
        self.timeline.resume()
        self.timeline.whole = False
        self.panel(PathPanel).fit()

    def _refresh_picture(self) -> None:
        if self.paused:
            self._gauge.pause(self.store.pictures)
        else:
            self._gauge.take(self.store.pictures, self.store.picture_at)
            self._newest = self.store.newest
            self._picture = self._of_view(self.store.picture, self._picture)
            self._flow = self._of_view(self.store.flow, self._flow)
        if self._picture is not None:
            self.shelf.keep_picture(self._picture)
            self.thumbnails.keep_picture(self._picture)
        if self._flow is not None:
            self.shelf.keep_flow(self._flow)
        self._draw("picture")

    def _of_view(self, new: Any, old: Any) -> Any:
        """Keep what is shown while the newest one belongs to a view that is not."""
        if self.view is None or new is None or new.view == self.view:
            return new
        return old if old is not None and old.view == self.view else None

    def _paced_charts(self) -> Steps:
        """Return what draws the charts; seldom anything while a long run is loaded: its rows need the time."""
        now = time.monotonic()
        if self.feed.is_loading and now - self._charts_at < LOADING_S:
            self._pacers["charts"].request(round(1000 * LOADING_S))
            return []
        self._charts_at = now
        return self._chart_steps()

    def _chart_steps(self) -> Steps:
        """Return what draws the charts, one after the other, all of the same rows."""
        self._follow()
        scene = self.scene()
        return [functools.partial(panel.refresh, scene) for panel in self._seen("charts")]

    def _refresh_charts(self) -> None:
        self._pacers["charts"].stop()
        for draw in self._chart_steps():
            draw()

    def _follow(self) -> None:
        """Take the rows of now, and let all charts span them."""
        if not self.paused and self._all.version != self.store.version:
            self._all = self.store.charts()
            self._charts = self._all.only(self.view)
        self.timeline.follow(self._charts)
        self._mark()

    def _mark(self) -> None:
        self.timeline.mark(self._order(self.selected), self.theme.pen(self.theme.text, dashed=True))

    def _refresh_labels(self) -> None:
        self.bell.listen()
        self._draw("labels")
        row = self.store.row(self.selected) if self.selected is not None else None
        if row is None or self.selected is None:
            self.detail.setText(HINT)
            return
        size = self.scene().pixel_size_nm
        self.detail.setText(detail(row, size, replaced_by=self.store.replacement(self.selected)))

    def _draw(self, pace: str) -> None:
        scene = self.scene()
        for panel in self._seen(pace):
            panel.refresh(scene)

    def _seen(self, pace: str) -> list[Panel]:
        """Return the panels of a pace that can be seen; the others cost nothing."""
        return [panel for panel in self.panels.values()
                if panel.pace == pace and (self.docks.is_seen(panel) or not self.isVisible())]

    def _show_panel(self, panel: Panel) -> None:
        """Draw a panel that came to the front; it was left alone while nobody saw it."""
        if self.isVisible():
            panel.refresh(self.scene())

    def _choose(self, position: int) -> None:
        row = self.store.row(position)
        self.select(Key(row.acquisition, row.index) if row is not None else None)

    def _pick(self, order: float) -> None:
        place = nearest(self._charts, order)
        if place is not None:
            self._choose(place)

    def _choose_view(self, view: str | None) -> None:
        self.view = view
        self._charts = self._all.only(view)
        self.panel(PathPanel).fit()
        self.refresh_now()

    def _order(self, key: Key | None) -> float | None:
        return order_of(self._charts, self.store.place(key) if key is not None else None)

    def _step(self, direction: int, *, flagged: bool = False) -> None:
        now = self.store.place(self.selected) if self.selected is not None else None
        place = step(self._charts, now, direction, self._charts.flagged if flagged else None)
        if place is not None:
            self._choose(place)


def _bytes(value: object) -> QtCore.QByteArray:
    return value if isinstance(value, QtCore.QByteArray) else QtCore.QByteArray()


def _column(*widgets: QtWidgets.QWidget) -> QtWidgets.QWidget:
    column = QtWidgets.QWidget()
    rows = QtWidgets.QVBoxLayout(column)
    rows.setContentsMargins(4, 0, 4, 2)
    rows.setSpacing(3)
    for widget in widgets:
        rows.addWidget(widget)
    return column
