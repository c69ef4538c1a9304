"""Panels as docks: where they are, how they move, what is remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyqtgraph.Qt import QtCore, QtWidgets

from monitor.feed import Feed
from monitor.panels.base import Panel
from monitor.panels.drift import DriftPanel
from monitor.panels.frame import FramePanel
from monitor.panels.path import PathPanel
from monitor.panels.sharpness import SharpnessPanel
from monitor.panels.table import TablePanel
from monitor.store import Store
from monitor.window import PANELS, Window

pytestmark = [pytest.mark.gui,
              pytest.mark.qt_log_ignore("propagateSizeHints", "XDG_RUNTIME_DIR", "raise()", "grabbing")]

BELOW = [kind for place, kinds in PANELS.items() if place not in ("left", "lists", "right") for kind in kinds]
LIST = PANELS["lists"][0]
"""The one of the tabs below the frame that is in front."""


@pytest.fixture
def settings(tmp_path: Path) -> QtCore.QSettings:
    return QtCore.QSettings(str(tmp_path / "monitor.ini"), QtCore.QSettings.Format.IniFormat)


@pytest.fixture
def another(settings: QtCore.QSettings, qtbot: Any) -> Iterator[Callable[[], Window]]:
    """Opens windows that remember; without a streamer."""
    feeds: list[Feed] = []

    def open_window() -> Window:
        feeds.append(Feed(Store(), "tcp://127.0.0.1:1"))
        window = Window(feeds[-1], settings=settings)
        window.resize(1600, 900)
        qtbot.addWidget(window)
        with qtbot.waitExposed(window):
            window.show()
        return window

    yield open_window
    for feed in feeds:
        feed.stop()


def click(window: Window, kind: type[Panel], text: str, qtbot: Any) -> None:
    """Press one of the buttons in the head of a panel."""
    buttons = [button for button in window.panel(kind).head.findChildren(QtWidgets.QToolButton)
               if button.text() == text]
    qtbot.mouseClick(buttons[0], QtCore.Qt.MouseButton.LeftButton)


def seen(window: Window, kinds: list[type[Panel]]) -> set[type[Panel]]:
    return {kind for kind in kinds if window.docks.is_seen(window.panel(kind))}


def top_left(window: Window, kind: type[Panel]) -> tuple[int, int]:
    corner = window.docks.docks[kind].geometry().topLeft()
    return corner.x(), corner.y()


def test_every_panel_has_its_place(filled: Window) -> None:
    frame, sharpness, drift = (top_left(filled, kind) for kind in (FramePanel, SharpnessPanel, DriftPanel))
    assert frame[0] == top_left(filled, LIST)[0] == 0
    assert frame[1] == sharpness[1]
    assert sharpness[0] == drift[0] == top_left(filled, PathPanel)[0] > 800
    assert sharpness[1] < drift[1] < top_left(filled, PathPanel)[1]
    assert all(dock.windowTitle() and dock.titleBarWidget() is dock.panel.head for dock in filled.docks.docks.values())


def test_groups_become_tabs_where_there_is_little_room(filled: Window, qtbot: Any) -> None:
    for size, groups in (((1366, 768), 1), ((1920, 1080), 2), ((3000, 1080), 3), ((1920, 1400), 3)):
        filled.resize(*size)
        qtbot.waitUntil(lambda expected=groups: len(seen(filled, BELOW)) == expected)
        always = [FramePanel, LIST, SharpnessPanel, DriftPanel]
        assert seen(filled, always) == {*always}


def test_a_key_brings_every_tab_to_the_front(filled: Window, qtbot: Any) -> None:
    filled.resize(1366, 768)
    qtbot.waitUntil(lambda: len(seen(filled, BELOW)) == 1)
    all_seen = set()
    for _ in BELOW:
        qtbot.keyClick(filled, QtCore.Qt.Key.Key_S)
        all_seen |= seen(filled, BELOW)
    assert all_seen == set(BELOW)


def test_what_nobody_sees_is_not_drawn_and_is_fresh_when_it_comes_back(
    filled: Window, qtbot: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[object] = []
    monkeypatch.setattr(PathPanel, "refresh", lambda self, scene: drawn.append(scene))
    click(filled, PathPanel, "✕", qtbot)
    qtbot.waitUntil(lambda: not filled.docks.is_seen(filled.panel(PathPanel)))
    drawn.clear()
    filled.refresh_now()
    assert drawn == []
    filled.docks.docks[PathPanel].toggleViewAction().trigger()
    qtbot.waitUntil(lambda: len(drawn) == 1)


def test_everything_goes_back_to_its_place_however_it_was_left(filled: Window, qtbot: Any) -> None:
    docks = filled.docks.docks
    for kind in (FramePanel, SharpnessPanel, PathPanel):
        docks[kind].setFloating(True)
    docks[DriftPanel].close()
    docks[PathPanel].close()
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_0, QtCore.Qt.KeyboardModifier.ControlModifier)
    assert not any(dock.isFloating() or dock.isHidden() for dock in docks.values())
    assert filled.docks.is_seen(filled.panel(FramePanel))
    assert docks[FramePanel].geometry().right() < docks[SharpnessPanel].geometry().left()


def test_panels_float_and_dock_by_their_button(filled: Window, qtbot: Any) -> None:
    dock = filled.docks.docks[DriftPanel]
    click(filled, DriftPanel, "❐", qtbot)
    assert dock.isFloating()
    assert filled.docks.is_seen(filled.panel(DriftPanel))
    click(filled, DriftPanel, "❐", qtbot)
    assert not dock.isFloating()


def test_a_layout_that_somebody_made_stays_when_the_window_is_resized(filled: Window, qtbot: Any) -> None:
    click(filled, DriftPanel, "✕", qtbot)
    filled.resize(1366, 768)
    assert not filled.docks.docks[DriftPanel].isVisible()
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_0, QtCore.Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: filled.docks.is_seen(filled.panel(DriftPanel)))
    assert len(seen(filled, BELOW)) == 1


def test_the_list_of_panels_shows_and_hides(filled: Window, qtbot: Any) -> None:
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_V)
    assert filled.panels_menu.isVisible()
    entries = {entry.text(): entry for entry in filled.panels_menu.actions()}
    assert set(entries) == {kind.title for kind in filled.docks.docks}
    place = filled.panels_menu.actionGeometry(entries["Sharpness"]).center()
    qtbot.mouseClick(filled.panels_menu, QtCore.Qt.MouseButton.LeftButton, pos=place)
    qtbot.waitUntil(lambda: not filled.docks.docks[SharpnessPanel].isVisible())
    assert not entries["Sharpness"].isChecked()


def test_the_layout_is_remembered(another: Callable[[], Window], qtbot: Any) -> None:
    window = another()
    click(window, PathPanel, "❐", qtbot)
    click(window, TablePanel, "✕", qtbot)
    window.close()
    again = another()
    assert again.docks.docks[PathPanel].isFloating()
    assert not again.docks.docks[TablePanel].isVisible()
    assert (again.width(), again.height()) == (1600, 900)


def damage(state: str) -> str:
    version, checksum, data = state.split(":")
    return f"{version}:{checksum}:{data[:40]}{'A' if data[40] != 'A' else 'B'}{data[41:]}"


@pytest.mark.parametrize("spoil", [
    lambda _: "", lambda _: "nonsense", lambda _: 12, lambda _: None, lambda _: "1:2:3", lambda state: state[:200],
    damage, lambda state: "7" + state, lambda state: ":".join([*state.split(":")[:2], "AAAA"])])
def test_a_layout_that_makes_no_sense_is_ignored(
    spoil: Any, another: Callable[[], Window], settings: QtCore.QSettings, qtbot: Any,
) -> None:
    window = another()
    click(window, TablePanel, "✕", qtbot)
    window.close()
    settings.setValue("layout", spoil(settings.value("layout")))
    settings.setValue("geometry", "nonsense")
    again = another()
    assert again.docks.automatic
    assert again.docks.docks[TablePanel].isVisible()


@pytest.mark.parametrize(("size", "scale"), [((1366, 768), 1.0), ((3840, 2160), 1.8), ((3840, 2160), 2.0)])
def test_all_panels_fit_the_screen(size: tuple[int, int], scale: float, filled: Window) -> None:
    filled.resize(*size)
    filled.restyle(replace(filled.theme, scale=scale))
    filled.docks.reset()
    filled.refresh_now()
    assert filled.minimumSizeHint().width() <= size[0]
    assert filled.minimumSizeHint().height() <= size[1]
    assert (filled.width(), filled.height()) == size


def test_no_line_is_drawn_under_tabs(filled: Window, qtbot: Any) -> None:
    click(filled, PathPanel, "❐", qtbot)
    click(filled, PathPanel, "❐", qtbot)
    filled.resize(1366, 768)
    QtWidgets.QApplication.processEvents()
    bars = [bar for bar in filled.findChildren(QtWidgets.QTabBar) if bar.isVisible()]
    assert bars
    assert not any(bar.drawBase() for bar in bars)
