"""Panels as docks: where they stand by default, what becomes of them when they are moved, and remembering it."""

from __future__ import annotations

import base64
import contextlib
import itertools
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyqtgraph.Qt import QtCore, QtWidgets

from monitor.panels.base import Panel

COLUMN_PX = 900
"""Width of the window that each further group below on the right needs, beside the first."""
ROWS_PX = 1300
"""Height of the window from which these groups stand in two rows."""
LAYOUT = 1
"""Raised when remembered layouts make no sense any more; one of other panels is ignored anyway."""

_AREA = QtCore.Qt.DockWidgetArea.LeftDockWidgetArea
_HORIZONTAL, _VERTICAL = QtCore.Qt.Orientation.Horizontal, QtCore.Qt.Orientation.Vertical

Kinds = Sequence[type[Panel]]


class Dock(QtWidgets.QDockWidget):
    """A panel that can be moved, floated and hidden; its head is the title bar."""

    turned = QtCore.Signal(object)
    """The panel came to the front; what it shows may be old."""
    closed = QtCore.Signal()
    exported = QtCore.Signal(object)
    """The panel is to be exported."""

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel.title)
        self.setObjectName(type(panel).__name__)
        self.panel = panel
        self.in_front = False
        """Whether the panel can be seen; behind another tab `isVisible` is true all the same."""
        for text, name, call in (("⤓", "export this panel: picture, drawing, table; Ctrl+E", self._export),
                                 ("❐", "float or dock this panel", self._toggle_floating),
                                 ("✕", "hide this panel; V lists all", self.close)):
            button = QtWidgets.QToolButton()
            button.setText(text)
            button.setToolTip(name)
            button.setAutoRaise(True)
            button.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
            button.clicked.connect(call)
            panel.head.layout().addWidget(button)
        panel.head.setContextMenuPolicy(QtCore.Qt.ContextMenuPolicy.CustomContextMenu)
        panel.head.customContextMenuRequested.connect(self._export)
        self.setTitleBarWidget(panel.head)
        self.setWidget(panel)
        self.visibilityChanged.connect(self._turn)

    def closeEvent(self, event: Any) -> None:
        """Hide."""
        super().closeEvent(event)
        self.closed.emit()

    def _export(self, *_: Any) -> None:
        self.exported.emit(self.panel)

    def _toggle_floating(self) -> None:
        self.setFloating(not self.isFloating())

    def _turn(self, visible: bool) -> None:
        self.in_front = visible
        if visible:
            self.turned.emit(self.panel)


class Docks(QtCore.QObject):
    """All docks of a window.

    Parameters
    ----------
    window : QMainWindow
        Gets the docks; has no central widget.
    places : mapping of text to panels
        ``left`` (one above the other), ``lists`` (tabs below them), ``right`` (one above the other); every other
        place is a group of tabs below on the right.
    panels : mapping of class to panel
        May hold others, which do not dock.
    """

    turned = QtCore.Signal(object)
    exported = QtCore.Signal(object)

    def __init__(self, window: QtWidgets.QMainWindow, places: Mapping[str, Kinds],
                 panels: Mapping[type[Panel], Panel]) -> None:
        super().__init__(window)
        self._window, self._places = window, places
        self.docks = {kind: Dock(panels[kind]) for kinds in places.values() for kind in kinds}
        self.scale = 1.0
        """Of the theme."""
        self._form: tuple[int, int] | None = None
        self._arranging = False
        self.automatic = True
        """Whether nobody has moved anything: the layout may then follow the size of the window."""
        for dock in self.docks.values():
            dock.turned.connect(self.turned.emit)
            dock.exported.connect(self.exported.emit)
            dock.topLevelChanged.connect(self._touched)
            dock.dockLocationChanged.connect(self._touched)
            dock.closed.connect(self._touched)
            dock.toggleViewAction().triggered.connect(self._touched)
        window.setDockNestingEnabled(True)
        window.setTabPosition(QtCore.Qt.DockWidgetArea.AllDockWidgetAreas, QtWidgets.QTabWidget.TabPosition.North)

    def reset(self) -> None:
        """Put every panel where it belongs."""
        self.automatic, self._form = True, None
        self.follow()

    def follow(self) -> None:
        """Arrange anew when the window became so large or small that another layout fits better."""
        columns = max(1, int(self._window.width() / (COLUMN_PX * self.scale)))
        rows = 2 if self._window.height() >= ROWS_PX * self.scale else 1
        if self.automatic and self._form != (columns, rows):
            self._form = columns, rows
            with self._quietly():
                self._arrange(columns, rows)

    def share_again(self) -> None:
        """Share the room out anew: what was said before the window was shown Qt keeps only in part."""
        if self.automatic:
            self._form = None
            self.follow()

    def next_tab(self) -> None:
        """Bring the next tab of each group below on the right to the front, after the last the first."""
        for group in self._tabbed():
            now = next((number for number, dock in enumerate(group) if dock.in_front), -1)
            group[(now + 1) % len(group)].raise_()

    def show(self, kind: type[Panel]) -> None:
        """Bring a panel to the front, hidden or not."""
        self.docks[kind].show()
        self.docks[kind].raise_()

    def is_seen(self, panel: Panel) -> bool:
        """Tell whether a panel can be seen; one that does not dock always can."""
        dock = self.docks.get(type(panel))
        return dock is None or dock.in_front

    def state(self) -> str:
        """Write down where everything is."""
        data = bytes(self._window.saveState(self._version()))
        return f"{self._version()}:{zlib.crc32(data)}:{base64.b64encode(data).decode()}"

    def restore(self, state: object) -> bool:
        """Put everything where it was; False, and nothing happens, if that was of another version or is damaged."""
        try:
            version, checksum, text = str(state).split(":")
            data = base64.b64decode(text, validate=True)
            whole = int(version) == self._version() and int(checksum) == zlib.crc32(data)   # Qt crashes on damaged ones
        except ValueError:
            return False
        with self._quietly():
            if not (whole and self._window.restoreState(data, self._version())):
                return False
        self.automatic = False
        return True

    def _version(self) -> int:
        names = ",".join(sorted(dock.objectName() for dock in self.docks.values()))
        return zlib.crc32(f"{LAYOUT} {names}".encode()) & 0x7FFFFFFF

    def _touched(self, *_: Any) -> None:
        self._draw_no_lines()
        if not self._arranging and self._window.isVisible():
            self.automatic = False

    @contextlib.contextmanager
    def _quietly(self) -> Iterator[None]:
        self._arranging = True
        try:
            yield
        finally:
            self._arranging = False
            self._draw_no_lines()

    def _draw_no_lines(self) -> None:
        """Leave the bright line away that Qt draws under tabs; bars come and go with what is docked."""
        for bar in self._window.findChildren(QtWidgets.QTabBar):
            bar.setDrawBase(False)

    def _tabbed(self) -> list[list[Dock]]:
        """Return the groups of tabs, each once, in the order of the panels."""
        groups, seen = [], set()
        for dock in self.docks.values():
            mates = {dock, *self._window.tabifiedDockWidgets(dock)}
            if len(mates) > 1 and dock not in seen:
                groups.append([one for one in self.docks.values() if one in mates])
            seen |= mates
        return groups

    def _arrange(self, columns: int, rows: int) -> None:
        window = self._window
        for dock in self.docks.values():
            dock.setFloating(False)   # it has no effect once the window knows the dock no more
            window.removeDockWidget(dock)
        left, right, lists = (self._of(place) for place in ("left", "right", "lists"))
        window.addDockWidget(_AREA, left[0])
        window.splitDockWidget(left[0], right[0], _HORIZONTAL)
        self._stack([*left, *lists[:1]])
        self._tabify(lists)
        cells = self._cells(columns, rows)
        self._stack([*right, *(row[0][0] for row in cells)])
        for row in cells:
            for before, after in itertools.pairwise(row):
                window.splitDockWidget(before[0], after[0], _HORIZONTAL)
            for group in row:
                self._tabify(group)
        for dock in self.docks.values():
            dock.show()
        for group in (lists, *(group for row in cells for group in row)):
            group[0].raise_()
        self._share(left, lists, right, cells)

    def _cells(self, columns: int, rows: int) -> list[list[list[Dock]]]:
        """Return rows of groups of tabs; what has no cell of its own is in the last one."""
        groups = [self._of(place) for place in self._places if place not in ("left", "right", "lists")]
        count = min(columns * rows, len(groups))
        groups = [*groups[:count - 1], [dock for group in groups[count - 1:] for dock in group]]
        width = -(-count // rows)
        return [groups[first:first + width] for first in range(0, count, width)]

    def _of(self, place: str) -> list[Dock]:
        return [self.docks[kind] for kind in self._places[place]]

    def _stack(self, docks: Sequence[Dock]) -> None:
        for before, after in itertools.pairwise(docks):
            self._window.splitDockWidget(before, after, _VERTICAL)

    def _tabify(self, docks: Sequence[Dock]) -> None:
        for before, after in itertools.pairwise(docks):
            self._window.tabifyDockWidget(before, after)

    def _share(self, left: list[Dock], lists: list[Dock], right: list[Dock], cells: list[list[list[Dock]]]) -> None:
        """Give each its share of the room; Qt wants sizes that fit the window, or inner ones shift outer ones."""
        window, width, height = self._window, self._window.width(), self._window.height()
        for row in cells:
            window.resizeDocks([group[0] for group in row], [width // 2 // len(row)] * len(row), _HORIZONTAL)
        window.resizeDocks([left[0], right[0]], [width // 2] * 2, _HORIZONTAL)
        for column in ([*left, *lists[:1]], [*right, *(row[0][0] for row in cells)]):
            whole = sum(dock.panel.share for dock in column)
            window.resizeDocks(column, [int(height * dock.panel.share / whole) for dock in column], _VERTICAL)
