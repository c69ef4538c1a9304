"""The frames that need a decision: blurred, bad, undecided and refused ones, newest on top."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from monitor.panels.base import Panel, Scene
from monitor.panels.parts import FRAME_ACTIONS, Entry, pop_up
from monitor.panels.timeline import Timeline
from monitor.rows import Key
from monitor.store import Store
from monitor.tables import Table
from monitor.theme import DARK, GLYPHS, Theme
from monitor.words import blur, clock, detail, value, verdict_word
from streamer.records import FrameRow

COLUMNS = ("Frame", "View", "Time", "Verdict", "Blur", "Angle", "Reason")
_WIDTHS = (64, 52, 84, 106, 160, 52)


class FlaggedModel(QtCore.QAbstractTableModel):
    """Positions of flagged rows, newest first; the texts are made for the lines on screen only."""

    def __init__(self, parent: QtCore.QObject) -> None:
        super().__init__(parent)
        self.positions = np.empty(0, np.int64)
        self.store = Store()
        self.theme = DARK
        self.pixel_size_nm: float | None = None

    def show(self, scene: Scene) -> None:
        """Take other positions in, as an insertion on top where that is what happened."""
        self.store, self.pixel_size_nm = scene.store, scene.pixel_size_nm
        positions = scene.charts.position[scene.charts.flagged][::-1]
        added = positions.size - self.positions.size
        if added >= 0 and np.array_equal(positions[added:], self.positions):
            if added:
                self.beginInsertRows(QtCore.QModelIndex(), 0, added - 1)
                self.positions = positions
                self.endInsertRows()
            if positions.size > added:   # rows may have been revised
                self.dataChanged.emit(self.index(added, 0), self.index(positions.size - 1, len(COLUMNS) - 1))
        else:
            self.beginResetModel()
            self.positions = positions
            self.endResetModel()

    def rowCount(self, parent: Any = None) -> int:
        """Return the number of flagged frames."""
        return 0 if parent is not None and parent.isValid() else int(self.positions.size)

    def columnCount(self, parent: Any = None) -> int:
        """Return the number of columns."""
        return 0 if parent is not None and parent.isValid() else len(COLUMNS)

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:
        """Name the columns."""
        if orientation == QtCore.Qt.Orientation.Horizontal and role == QtCore.Qt.ItemDataRole.DisplayRole:
            return COLUMNS[section]
        return None

    def data(self, index: Any, role: int = 0) -> Any:
        """Return text, colour or tooltip of a cell."""
        wanted = (QtCore.Qt.ItemDataRole.DisplayRole, QtCore.Qt.ItemDataRole.ForegroundRole,
                  QtCore.Qt.ItemDataRole.ToolTipRole)
        if not index.isValid() or role not in wanted:
            return None
        row = self.store.row(int(self.positions[index.row()]))
        if row is None:
            return None
        if role == QtCore.Qt.ItemDataRole.ForegroundRole:
            named = COLUMNS[index.column()] == "Verdict"
            return QtGui.QColor(self.theme.verdict_colour(verdict_word(row)) if named else self.theme.text)
        if role == QtCore.Qt.ItemDataRole.ToolTipRole:
            return detail(row, self.pixel_size_nm)
        return self._text(row, COLUMNS[index.column()])

    def _text(self, row: FrameRow, column: str) -> str:
        word = verdict_word(row)
        if column == "Reason":
            return self._reason(row, word)
        return {
            "Frame": str(row.index), "View": row.view, "Time": clock(row.exposed_at or row.received_at),
            "Verdict": f"{GLYPHS.get(word, '')} {word}", "Blur": blur(row, self.pixel_size_nm),
            "Angle": value(row.blur_angle_deg, digits=0, unit="°").replace(" ", ""),
        }[column]

    def _reason(self, row: FrameRow, word: str) -> str:
        reasons = []
        replaced_by = self.store.replacement(Key(row.acquisition, row.index))
        if replaced_by is not None:
            reasons.append(f"taken again as {replaced_by}")
        if word == "undecided" and row.blur_limit_px is not None:
            reasons.append(f"shows no blur below {row.blur_limit_px:.1f} px")
        if word == "blurred" and row.blur_score is not None:
            reasons.append(f"blur score {row.blur_score:.1f}")
        if row.problems:
            reasons.append(row.problems)
        return "; ".join(reasons)


class TablePanel(Panel):
    """Click a line to select its frame everywhere."""

    title = "Flagged frames"
    share = 0.45
    pace = "labels"

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.model = FlaggedModel(self)
        self.table = QtWidgets.QTableView()
        self.table.setModel(self.model)
        self.table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setEditTriggers(QtWidgets.QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setAlternatingRowColors(True)
        self.table.setShowGrid(False)
        self.table.setWordWrap(False)
        self.table.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.table.verticalHeader().setVisible(False)
        self.table.horizontalHeader().setStretchLastSection(True)
        self.table.horizontalHeader().setDefaultAlignment(QtCore.Qt.AlignmentFlag.AlignLeft)
        self.table.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)   # keys belong to the window
        self.table.setMinimumSize(200, 80)
        self.table.clicked.connect(lambda index: self.chosen.emit(int(self.model.positions[index.row()])))
        self.table.setContextMenuPolicy(QtCore.Qt.ContextMenuPolicy.CustomContextMenu)
        self.table.customContextMenuRequested.connect(self._open_menu)
        self.menu: QtWidgets.QMenu | None = None
        self._locked = ""
        self._body.addWidget(self.table, 1)

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        super().restyle(theme)
        self.model.theme = theme
        for column, width in enumerate(_WIDTHS):
            self.table.setColumnWidth(column, round(theme.px(width)))
        self.table.verticalHeader().setDefaultSectionSize(round(theme.px(23)))

    def refresh(self, scene: Scene) -> None:
        """List the flagged frames and mark the selected one."""
        self.model.show(scene)
        self._locked = scene.locked
        self.table.setColumnHidden(COLUMNS.index("View"), len(scene.store.views) < 2)
        count = self.model.rowCount()
        self._legend.set_runs([(f"   {count}" if count else "   none", None), ("   newest on top", self.theme.dim)])
        self._mark(scene)

    def as_table(self, scene: Scene) -> Table:
        """Return the lines with all that is known of their frames."""
        rows = [row for row in map(scene.store.row, self.model.positions.tolist()) if row is not None]
        return {name: [getattr(row, name) for row in rows] for name in FrameRow.__struct_fields__}

    def _open_menu(self, spot: Any) -> None:
        """Offer what can be done about the frame under the mouse."""
        index = self.table.indexAt(spot)
        if index.isValid():
            self.chosen.emit(int(self.model.positions[index.row()]))
            self.menu = pop_up(self, (Entry(text, functools.partial(self.wanted.emit, method), self._locked)
                                      for method, text in FRAME_ACTIONS), self.table.viewport().mapToGlobal(spot))

    def _mark(self, scene: Scene) -> None:
        selection = self.table.selectionModel()
        place = scene.store.place(scene.selected) if scene.selected is not None else None
        lines = np.flatnonzero(self.model.positions == (-1 if place is None else place))
        if not len(lines):
            selection.clearSelection()
        elif not selection.isRowSelected(int(lines[0]), QtCore.QModelIndex()):
            self.table.selectRow(int(lines[0]))
            self.table.scrollTo(self.model.index(int(lines[0]), 0))
