"""All that can be done by key: once as a table, of which shortcuts, menus and the list of keys are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from monitor.panels.base import Action

KEYS: dict[str, tuple[Action, ...]] = {
    "Display": (
        Action("Space", "toggle_pause", "pause the display, and go on; nothing is lost meanwhile"),
        Action("F", "fit", "fit, and follow the newest frame again"),
        Action("W", "toggle_whole", "whole run or newest 500 frames"),
        Action("PgDown", "next_view", "next view, after the last all of them"),
        Action("PgUp", "previous_view", "view before"),
    ),
    "Go": (
        Action("Left", "select_previous", "frame before"),
        Action("Right", "select_next", "next frame"),
        Action("Home", "select_first", "first frame"),
        Action("End", "deselect", "newest frame, live"),
        Action("N", "next_flagged", "next flagged frame"),
        Action("P", "previous_flagged", "previous flagged frame"),
        Action("Esc", "deselect", "select no frame"),
    ),
    "Window": (
        Action("V", "toggle_panels", "list of panels, to show and to hide"),
        Action("S", "next_tab", "next tab of every group"),
        Action("Ctrl+0", "reset_layout", "put all panels where they belong"),
        Action("T", "toggle_theme", "dark or light"),
        Action("F11", "toggle_full_screen", "full screen"),
        Action("?", "toggle_keys", "list of keys"),
        Action("Ctrl+Q", "close", "close the dashboard; the streamer goes on"),
    ),
}
"""Of the window, by menu; those of a panel are its own `actions_by_key`."""
COLUMNS = 3
"""Of the list of keys."""


class Actor(Protocol):
    """Something with actions: a panel, or what asks the streamer."""

    @property
    def title(self) -> str:
        """Name of the menu; empty: that of the display."""

    @property
    def actions_by_key(self) -> tuple[Action, ...]:
        """Each names a method."""


class Bound(NamedTuple):
    """An action and what it calls."""

    menu: str
    action: Action
    call: Callable[[], object]


def gather(window: QtWidgets.QMainWindow, actors: Iterable[Actor]) -> list[Bound]:
    """Collect all actions by menu; a panel may take a key over from the window, never one from another panel."""
    bound = [Bound(actor.title or "Display", action, getattr(actor, action.method))
             for actor in actors for action in actor.actions_by_key]
    taken = {one.action.key for one in bound}
    own = [Bound(menu, action, getattr(window, action.method))
           for menu, actions in KEYS.items() for action in actions if action.key not in taken]
    return own + bound


def fill_menus(bar: QtWidgets.QMenuBar, bound: Iterable[Bound], *, locked: str) -> None:
    """Make a menu of each group; its entries are the shortcuts, too.

    Parameters
    ----------
    locked : str
        Why nothing can be changed; greys what would, and says so. Empty when it can.
    """
    menus: dict[str, QtWidgets.QMenu] = {}
    make = QtGui.QAction if hasattr(QtGui, "QAction") else QtWidgets.QAction
    for menu, (key, _, text, changes), call in bound:
        if menu not in menus:
            menus[menu] = bar.addMenu(menu)
            menus[menu].setToolTipsVisible(True)
        entry = make(text[:1].upper() + text[1:], bar)
        if key == "?":   # known by its text: as a shortcut it would need Shift on some keyboards only
            entry.setText(f"{entry.text()}\t?")
        else:
            entry.setShortcut(QtGui.QKeySequence(key))
        entry.triggered.connect(lambda *_, call=call: call())
        if changes and locked:
            entry.setEnabled(False)
            entry.setToolTip(locked)
        menus[menu].addAction(entry)


class _Keys(QtWidgets.QDialog):
    """Goes as it came: with ?."""

    def keyPressEvent(self, event: Any) -> None:
        """Close with ?, too."""
        if event.text() == "?":
            self.close()
        else:
            super().keyPressEvent(event)


def keys_dialog(parent: QtWidgets.QWidget, bound: Iterable[Bound]) -> QtWidgets.QDialog:
    """List all keys, by menu."""
    dialog = _Keys(parent)
    dialog.setWindowTitle("Keys")
    columns = QtWidgets.QHBoxLayout(dialog)
    columns.setSpacing(24)
    groups: dict[str, list[Action]] = {}
    for menu, action, _ in bound:
        groups.setdefault(menu, []).append(action)
    lengths = [len(actions) + 1 for actions in groups.values()]
    most = next(most for most in range(max(lengths), sum(lengths) + 1) if _columns(lengths, most) <= COLUMNS)
    grid, line = _column(columns), 0
    for menu, actions in groups.items():
        if line + len(actions) + 1 > most:
            grid, line = _column(columns), 0
        head = QtWidgets.QLabel(menu)
        head.setObjectName("caption")
        grid.addWidget(head, line, 0, 1, 2)
        for key, _, text, _ in actions:
            line += 1
            name = QtWidgets.QLabel(key)
            name.setObjectName("title")
            grid.addWidget(name, line, 0)
            grid.addWidget(QtWidgets.QLabel(text), line, 1)
        line += 1
    return dialog


def _columns(lengths: list[int], most: int) -> int:
    """Return how many columns of at most so many lines groups need that are not torn apart."""
    columns, line = 1, 0
    for length in lengths:
        columns, line = (columns, line + length) if line + length <= most else (columns + 1, length)
    return columns


def _column(columns: QtWidgets.QHBoxLayout) -> QtWidgets.QGridLayout:
    grid = QtWidgets.QGridLayout()
    grid.setHorizontalSpacing(14)
    grid.setVerticalSpacing(1)
    grid.setAlignment(QtCore.Qt.AlignmentFlag.AlignTop)
    columns.addLayout(grid)
    return grid
