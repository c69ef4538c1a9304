"""Trying a threshold: by dragging and by key, what it would have flagged, applying it and dropping it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets
from support.fake_streamer import FakeStreamer, make_row

from monitor.panels.sharpness import SharpnessPanel
from monitor.rows import Key
from monitor.window import Window

pytestmark = [pytest.mark.gui, pytest.mark.qt_log_ignore("propagateSizeHints", "XDG_RUNTIME_DIR")]

BLURRED = [8, 21, 34, 47]
UNDECIDED = [17, 46]


@pytest.fixture
def panel(filled: Window, streamer: FakeStreamer) -> Iterator[SharpnessPanel]:
    """Of a filled window that can ask the streamer; blur scores of the frames: 9, or 0.7."""
    streamer.answers["set"] = lambda **_: {"settings_revision": 1}
    filled.commander.start()
    yield filled.panel(SharpnessPanel)
    filled.commander.stop()


def place(panel: SharpnessPanel, y: float) -> QtCore.QPoint:
    scene = panel.plot.getViewBox().mapViewToScene(QtCore.QPointF(30.0, y))
    return panel.plot.mapFromScene(scene)


def drag(panel: SharpnessPanel, begin: float, end: float, qtbot: Any) -> None:
    """Drag the line with the mouse, as a hand does: in steps."""
    viewport = panel.plot.viewport()
    qtbot.mouseMove(viewport, place(panel, begin))
    qtbot.mousePress(viewport, QtCore.Qt.MouseButton.LeftButton, pos=place(panel, begin))
    for step in np.linspace(begin, end, 6)[1:]:
        spot = QtCore.QPointF(place(panel, float(step)))
        on_screen = QtCore.QPointF(viewport.mapToGlobal(spot.toPoint()))
        move = QtGui.QMouseEvent(QtCore.QEvent.Type.MouseMove, spot, on_screen, QtCore.Qt.MouseButton.NoButton,
                                 QtCore.Qt.MouseButton.LeftButton, QtCore.Qt.KeyboardModifier.NoModifier)
        QtWidgets.QApplication.sendEvent(viewport, move)
        qtbot.wait(5)
    qtbot.mouseRelease(viewport, QtCore.Qt.MouseButton.LeftButton, pos=place(panel, end))


def asked(streamer: FakeStreamer) -> list[dict[str, Any]]:
    return [arguments for op, arguments in streamer.asked if op == "set"]


def test_dragging_the_line_shows_what_would_have_been_flagged_and_enter_applies_it(
    panel: SharpnessPanel, streamer: FakeStreamer, qtbot: Any,
) -> None:
    assert not panel.apply_button.isVisible()
    drag(panel, 3.0, 1.4, qtbot)
    assert panel.tried == pytest.approx(1.4, abs=0.15)
    limits = {index: make_row(index).blur_limit_px for index in range(60) if index != 30}
    would = sorted(index for index, limit in limits.items() if limit > panel.tried and index not in BLURRED)
    assert len(would) > len(UNDECIDED)
    assert panel.newly.x.tolist() == sorted(set(would) - set(UNDECIDED))
    assert f"would flag {len(would) + 4}, now 6" in panel._legend.text()
    assert panel.in_force.isVisible()
    assert panel.in_force.value() == 3.0
    assert panel.apply_button.isVisible()
    tried = panel.tried
    qtbot.keyClick(panel.window(), QtCore.Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: bool(asked(streamer)))
    assert asked(streamer)[0]["key"] == "blur.tolerance_px"
    assert asked(streamer)[0]["value"] == tried
    streamer.status(blur_tolerance_px=tried, blur_shortest_px=1.2)
    qtbot.waitUntil(lambda: panel.tried is None)
    assert panel.threshold.value() == tried
    assert not panel.apply_button.isVisible()
    assert f"tolerance {tried:.4g} px" in panel._legend.text()


def test_keys_step_the_threshold_of_the_score_and_escape_drops_it(
    panel: SharpnessPanel, streamer: FakeStreamer, qtbot: Any,
) -> None:
    window = panel.window()
    window.select(Key("scan-1", 21))
    qtbot.keyClick(window, QtCore.Qt.Key.Key_U)
    assert panel.choice.currentText() == "score"
    assert 10.0**panel.threshold.value() == pytest.approx(3.5)
    x, y = panel.dots["blurred"].getData()
    assert x.tolist() == BLURRED
    np.testing.assert_allclose(10.0**y, 9.0)
    assert panel.dots["bad"].getData()[1].tolist() == [-1.0]   # no score: on the floor
    for _ in range(29):
        qtbot.keyClick(window, "[")
    assert panel.tried == pytest.approx(1.0)   # the setting allows no less
    qtbot.keyClick(window, "]")
    assert panel.tried == pytest.approx(1.1)
    panel.attempt(9.5)
    assert panel.no_longer.x.tolist() == BLURRED
    assert panel._legend.text().endswith(
        "would flag 2, now 6   ○ newly   □ no longer   of 59: blurred 0, now 4; undecided 2, now 2")
    qtbot.keyClick(window, QtCore.Qt.Key.Key_Escape)
    assert panel.tried is None
    assert 10.0**panel.threshold.value() == pytest.approx(3.5)
    assert panel.no_longer.x.size == 0
    assert window.selected == Key("scan-1", 21)   # Esc dropped the trial first
    qtbot.keyClick(window, QtCore.Qt.Key.Key_Escape)
    assert window.selected is None
    assert not asked(streamer)


def test_buttons_apply_and_drop(panel: SharpnessPanel, streamer: FakeStreamer, qtbot: Any) -> None:
    panel.toggle_quantity()
    panel.attempt(9.5)
    qtbot.mouseClick(panel.drop_button, QtCore.Qt.MouseButton.LeftButton)
    assert panel.tried is None
    panel.attempt(9.5)
    qtbot.mouseClick(panel.apply_button, QtCore.Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: bool(asked(streamer)))
    assert (asked(streamer)[0]["key"], asked(streamer)[0]["value"]) == ("blur.score_threshold", 9.5)


def test_enter_without_a_trial_asks_nothing(panel: SharpnessPanel, streamer: FakeStreamer, qtbot: Any) -> None:
    qtbot.keyClick(panel.window(), QtCore.Qt.Key.Key_Return)
    panel.apply()
    assert not asked(streamer)


def test_thresholds_that_are_not_known_cannot_be_tried(window: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    panel = window.panel(SharpnessPanel)
    streamer.frame(make_row(0))
    qtbot.waitUntil(lambda: len(window.store) == 1)
    window.refresh_now()
    panel.higher()
    panel.attempt(2.0)
    assert panel.tried is None
    assert not panel.threshold.isVisible()


def test_a_threshold_that_somebody_else_sets_ends_the_trial(
    panel: SharpnessPanel, streamer: FakeStreamer, qtbot: Any,
) -> None:
    panel.attempt(2.0)
    streamer.status(blur_tolerance_px=5.0)
    qtbot.waitUntil(lambda: panel.threshold.value() == 5.0)
    assert panel.tried is None
