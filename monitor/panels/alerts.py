"""Alerts, and requests to take frames again: what needs somebody on top, with what can be done about it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from monitor.alert_words import (
    PRIORITIES,
    alert_detail,
    brief_words,
    by_need,
    by_urgency,
    deadline_words,
    frames_words,
    request_detail,
    request_words,
    severity_words,
    state_words,
    tries_words,
)
from monitor.panels.base import Action, Panel, Scene
from monitor.panels.parts import FRAME_ACTIONS, Choice, Empty, Entry, pop_up
from monitor.panels.timeline import Timeline
from monitor.rows import Key
from monitor.store import SEVERITIES, is_shelved, is_waiting
from monitor.tables import Table
from monitor.theme import DARK, Theme
from monitor.words import clock
from streamer.records import Alert, Recollection

OPEN, ALL, REQUESTS = LISTS = ("open alerts", "all alerts", "to take again")

_ENOUGH_PX = 800
"""Width of the list from which states need not be cut."""
_Roles = QtCore.Qt.ItemDataRole


class Column(NamedTuple):
    """One column of a list."""

    name: str
    widths_px: tuple[int, int]
    """Where there is little room, and where there is enough; 0: what the others leave."""
    text: Callable[[Any], str]
    rank: Callable[[Any], Any]
    """By which it is sorted."""


ALERTS = (
    Column("Severity", (92, 100), severity_words, lambda one: SEVERITIES.index(one.severity)),
    Column("Frame", (70, 78), frames_words, lambda one: -1 if one.index is None else one.index),
    Column("View", (52, 70), lambda one: one.view, lambda one: one.view),
    Column("Time", (84, 88), lambda one: clock(one.raised_at), lambda one: one.raised_at),
    Column("State", (186, 330), state_words, state_words),
    Column("Alert", (0, 0), brief_words, lambda one: one.text),
)
REQUESTED = (
    Column("Priority", (72, 84), lambda one: PRIORITIES.get(one.priority, str(one.priority)), lambda one: one.priority),
    Column("Frame", (58, 70), lambda one: str(one.index), lambda one: one.index),
    Column("View", (52, 70), lambda one: one.view, lambda one: one.view),
    Column("Tries", (46, 56), tries_words, lambda one: one.tries),
    Column("Deadline", (100, 190), deadline_words,
           lambda one: float("inf") if one.deadline_frames is None else one.deadline_frames),
    Column("State", (160, 190), request_words, request_words),
    Column("Why", (0, 0), lambda one: one.reason, lambda one: one.reason),
)


class ListModel(QtCore.QAbstractTableModel):
    """Alerts or requests; the texts are made for the lines on screen only."""

    def __init__(self, parent: QtCore.QObject) -> None:
        super().__init__(parent)
        self.columns: Sequence[Column] = ALERTS
        self.lines: list[Any] = []
        self.theme = DARK
        self.by: tuple[int, bool] = (-1, False)
        """Column that somebody sorted by, and whether from the largest down; -1: by need."""
        self._given: list[Any] = []

    def show(self, lines: list[Any], columns: Sequence[Column]) -> bool:
        """Take other lines, sorted by need; True if lines have moved, so that what was selected is elsewhere."""
        if columns is not self.columns:
            self.by = (-1, False)
        self._given = lines
        ordered = self._ordered()
        same = columns is self.columns and [one.id for one in ordered] == [one.id for one in self.lines]
        if same:
            self.lines = ordered
            if ordered:
                self.dataChanged.emit(self.index(0, 0), self.index(len(ordered) - 1, len(columns) - 1))
            return False
        self.beginResetModel()
        self.lines, self.columns = ordered, columns
        self.endResetModel()
        return True

    def sort(self, column: int, order: Any = QtCore.Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column; -1 by need again."""
        self.beginResetModel()
        self.by = column, order == QtCore.Qt.SortOrder.DescendingOrder
        self.lines = self._ordered()
        self.endResetModel()

    def _ordered(self) -> list[Any]:
        column, falling = self.by
        if column < 0:
            return self._given
        return sorted(self._given, key=self.columns[column].rank, reverse=falling)

    def rowCount(self, parent: Any = None) -> int:
        """Return the number of lines."""
        return 0 if parent is not None and parent.isValid() else len(self.lines)

    def columnCount(self, parent: Any = None) -> int:
        """Return the number of columns."""
        return 0 if parent is not None and parent.isValid() else len(self.columns)

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:
        """Name the columns."""
        if orientation == QtCore.Qt.Orientation.Horizontal and role == _Roles.DisplayRole:
            return self.columns[section].name
        return None

    def data(self, index: Any, role: int = 0) -> Any:
        """Return text, colour, weight or tooltip of a cell."""
        if not index.isValid():
            return None
        one, name = self.lines[index.row()], self.columns[index.column()].name
        if role == _Roles.DisplayRole:
            return self.columns[index.column()].text(one)
        if role == _Roles.ToolTipRole:
            return alert_detail(one) if isinstance(one, Alert) else request_detail(one)
        if role == _Roles.ForegroundRole:
            return QtGui.QColor(self._colour(one, name))
        if role == _Roles.FontRole and name in ("Severity", "State") and _presses(one):
            return self.theme.font(10.0, bold=True)
        return None

    def _colour(self, one: Any, name: str) -> str:
        if isinstance(one, Alert):
            if name == "Severity":
                settled = one.state in ("recollected", "closed")   # good news needs no alarming colour
                return self.theme.dim if settled else self.theme.severity_colour(one.severity)
            return self.theme.text if _presses(one) else self.theme.dim
        return self.theme.text if one.state == "open" else self.theme.dim


class AlertsPanel(Panel):
    """Click a line to select its frame everywhere; the buttons act on the line, and on the selected frame."""

    title = "Alerts"
    share = 0.55
    pace = "labels"
    actions_by_key = (Action("Z", "next_list", "open alerts, all, or frames to take again"),)

    BUTTONS = (("acknowledge", "Acknowledge", "A"), ("shelve", "Shelve", "H"), ("recollect", "Take again", "R"),
               ("call_sharp", "Sharp", "G"), ("call_blurred", "Blurred", "B"), ("note", "Note", "M"))
    """Method of `Control`, word, and key."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self._scene = Scene()
        self._drawn: tuple[object, ...] = ()
        self._id: int | None = None
        """Of the selected line."""
        self._frame: Key | None = None
        """Selected everywhere when the list was drawn last."""
        self.choice = Choice(LISTS, "alerts that are not closed, all alerts, or frames that are to be taken again: Z")
        self.choice.currentIndexChanged.connect(lambda _: self._changed())
        self._head.addWidget(self.choice)
        self.model = ListModel(self)
        self.table = _table(self.model)
        self.table.clicked.connect(self._clicked)
        self.table.customContextMenuRequested.connect(self._open_menu)
        self.table.horizontalHeader().sectionClicked.connect(self._sort)
        self.menu: QtWidgets.QMenu | None = None
        self.buttons: dict[str, QtWidgets.QToolButton] = {}
        self._row = QtWidgets.QHBoxLayout()
        self._row.setSpacing(4)
        for method, word, key in self.BUTTONS:
            self.buttons[method] = button = QtWidgets.QToolButton()
            button.setObjectName("act")
            button.setText(f"{word}  {key}")
            button.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)   # keys belong to the window
            button.clicked.connect(lambda *_, method=method: self.wanted.emit(method))
            self._row.addWidget(button)
        self._row.addStretch(1)
        self._body.addWidget(self.table, 1)
        self._body.addLayout(self._row)
        self.empty = Empty(self.table.viewport())

    @property
    def selected(self) -> Alert | None:
        """The alert of the selected line."""
        one = self._selected_line()
        return one if isinstance(one, Alert) else None

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        super().restyle(theme)
        self.model.theme = theme
        self._drawn = ()
        self.table.verticalHeader().setDefaultSectionSize(round(theme.px(23)))
        self._set_widths()

    def resizeEvent(self, event: Any) -> None:
        """Give the states more room where there is some."""
        super().resizeEvent(event)
        self._set_widths()

    def next_list(self) -> None:
        """Show the next list."""
        self.choice.next()

    def give_up(self) -> bool:
        """Select no line; False if none is selected, or its frame is: that is dropped with the frame."""
        if self._id is None or self._scene.selected is not None:
            return False
        self._select(None)
        return True

    def refresh(self, scene: Scene) -> None:
        """List what there is now, whether the display is paused or not."""
        self._scene = scene
        if scene.selected != self._frame:
            self._frame = scene.selected
            if scene.selected is None or scene.selected != self._key(self._selected_line()):
                self._id = None   # another frame was selected elsewhere, or none
        waiting = scene.store.waiting_alerts()
        shelved = sum(is_shelved(alert) for alert in waiting)
        requests = scene.store.recollections()
        what = (scene.store, scene.store.alert_version, requests, shelved, self.choice.currentIndex(), self.theme,
                len(scene.store.views))
        if what != self._drawn:
            self._drawn = what
            self._list(requests)
        self._mark()
        self._write_legend(len(waiting) - shelved, shelved, sum(request.state == "open" for request in requests))
        self._enable(scene)

    def as_table(self, scene: Scene) -> Table:
        """Return the lines that are listed, with all that is known of them."""
        del scene
        kind = Recollection if self.choice.currentText() == REQUESTS else Alert
        return {name: [getattr(one, name) for one in self.model.lines] for name in kind.__struct_fields__
                if name != "stage"}

    def _list(self, requests: list[Recollection]) -> None:
        columns = REQUESTED if self.choice.currentText() == REQUESTS else ALERTS
        if columns is REQUESTED:
            lines: list[Any] = by_urgency(requests)
        else:
            lines = by_need(self._scene.store.alerts(), closed=self.choice.currentText() == ALL)
        before = self.model.columns
        bar = self.table.verticalScrollBar()
        place = bar.value()
        self.model.show(lines, columns)
        bar.setValue(place)
        if before is not columns:
            self.table.horizontalHeader().setSortIndicator(-1, QtCore.Qt.SortOrder.AscendingOrder)
            self._set_widths()
        self.table.setColumnHidden([column.name for column in columns].index("View"),
                                   len(self._scene.store.views) < 2)
        self.empty.say("" if lines else {OPEN: "no open alert", ALL: "no alert in this session",
                                         REQUESTS: "no frame is to be taken again"}[self.choice.currentText()])

    def _set_widths(self) -> None:
        enough = self.width() >= self.theme.px(_ENOUGH_PX)
        for number, column in enumerate(self.model.columns):
            if column.widths_px[enough]:
                self.table.setColumnWidth(number, round(self.theme.px(column.widths_px[enough])))

    def _write_legend(self, waiting: int, shelved: int, asked: int) -> None:
        runs: list[tuple[str, str | None]] = [(f"   {waiting} to acknowledge" if waiting else "   none to acknowledge",
                                               self.theme.major if waiting else self.theme.dim)]
        if shelved:
            runs.append((f"   {shelved} shelved", self.theme.dim))
        if asked:
            runs.append((f"   {asked} to take again", self.theme.minor))
        self._legend.set_runs(runs)

    def _enable(self, scene: Scene) -> None:
        alert = self.selected or scene.store.worst_alert()
        for method, button in self.buttons.items():
            why = scene.locked
            if not why and method in ("acknowledge", "shelve") and alert is None:
                why = "no alert waits to be acknowledged"
            if not why and method in ("recollect", "call_sharp", "call_blurred") and scene.selected is None:
                why = "select a frame first"
            button.setEnabled(not why)
            button.setToolTip(why or _TIPS[method])
        asked = any(request.state == "open" and Key(request.acquisition, request.index) == scene.selected
                    for request in scene.store.recollections())
        self.buttons["recollect"].setText("Withdraw  R" if asked else "Take again  R")

    def _mark(self) -> None:
        """Keep the selected line selected wherever it is now."""
        place = next((line for line, one in enumerate(self.model.lines) if one.id == self._id), None) \
            if self._id is not None else None
        selection = self.table.selectionModel()
        if place is None:
            selection.clearSelection()
        elif not selection.isRowSelected(place, QtCore.QModelIndex()):
            self.table.selectRow(place)

    def _select(self, one: Any) -> None:
        self._id = one.id if one is not None else None
        self._mark()
        self._enable(self._scene)

    def _selected_line(self) -> Any:
        return None if self._id is None else next((one for one in self.model.lines if one.id == self._id), None)

    def _changed(self) -> None:
        self._id = None
        self.refresh(self._scene)

    def _sort(self, column: int) -> None:
        """Sort up, down, and by need again."""
        header = self.table.horizontalHeader()
        now, falling = self.model.by
        column, falling = (column, False) if now != column else (column, True) if not falling else (-1, False)
        order = QtCore.Qt.SortOrder.DescendingOrder if falling else QtCore.Qt.SortOrder.AscendingOrder
        header.setSortIndicatorShown(column >= 0)
        header.setSortIndicator(column, order)
        self.model.sort(column, order)
        self._mark()

    @staticmethod
    def _key(one: Any) -> Key | None:
        return Key(one.acquisition, one.index) if one is not None and one.index is not None else None

    def _clicked(self, index: Any) -> None:
        one = self.model.lines[index.row()]
        self._select(one)
        key = self._key(one)
        place = self._scene.store.place(key) if key is not None else None
        if place is not None:
            self._frame = key
            self.chosen.emit(place)

    def _open_menu(self, spot: Any) -> None:
        """Offer what can be done about the line under the mouse."""
        index = self.table.indexAt(spot)
        if not index.isValid():
            return
        self._clicked(index)
        one = self.model.lines[index.row()]
        methods = [*_OF_ALERTS, *FRAME_ACTIONS] if isinstance(one, Alert) else list(FRAME_ACTIONS)
        entries = []
        for method, text in methods:
            why = self._scene.locked or ("needs nobody" if method in dict(_OF_ALERTS) and not _needs(one) else "")
            entries.append(Entry(text, functools.partial(self.wanted.emit, method), why))
        self.menu = pop_up(self, entries, self.table.viewport().mapToGlobal(spot))


_OF_ALERTS = (("acknowledge", "Acknowledge\tA"), ("acknowledge_with_note", "Acknowledge with a note ..."),
              ("shelve", "Keep quiet for ...\tH"))
_TIPS = {
    "acknowledge": "say that you have seen the selected alert, else the worst one: A; all of them: Shift+A",
    "shelve": "keep the selected or worst alert quiet for a while: H",
    "recollect": "ask to take the selected frame again, or withdraw that: R",
    "call_sharp": "the selected frame is good, whatever was measured: G",
    "call_blurred": "the selected frame is blurred, whatever was measured: B",
    "note": "write something down about the selected frame, or about the session: M",
}


def _presses(one: Any) -> bool:
    """Tell whether somebody should act now."""
    return isinstance(one, Alert) and is_waiting(one) and not is_shelved(one)


def _needs(one: Any) -> bool:
    return isinstance(one, Alert) and is_waiting(one)


def _table(model: ListModel) -> QtWidgets.QTableView:
    table = QtWidgets.QTableView()
    table.setModel(model)
    table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode.SingleSelection)
    table.setEditTriggers(QtWidgets.QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setAlternatingRowColors(True)
    table.setShowGrid(False)
    table.setWordWrap(False)
    table.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    table.verticalHeader().setVisible(False)
    table.horizontalHeader().setStretchLastSection(True)
    table.horizontalHeader().setSectionsClickable(True)
    table.horizontalHeader().setHighlightSections(False)
    table.horizontalHeader().setDefaultAlignment(QtCore.Qt.AlignmentFlag.AlignLeft)
    table.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)   # keys belong to the window
    table.setContextMenuPolicy(QtCore.Qt.ContextMenuPolicy.CustomContextMenu)
    table.setMinimumSize(200, 60)
    return table
