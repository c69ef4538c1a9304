from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pyqtgraph.Qt import QtCore, QtWidgets
from support.fake_streamer import FakeStreamer, make_row, moment

from monitor import feed as feed_module
from monitor.keys import gather
from monitor.panels.banner import BannerPanel
from monitor.panels.deformation import DeformationPanel
from monitor.panels.drift import DriftPanel
from monitor.panels.frame import FramePanel
from monitor.panels.jitter import JitterPanel
from monitor.panels.path import PathPanel
from monitor.panels.sharpness import SharpnessPanel
from monitor.panels.statusbar import StatusPanel
from monitor.panels.table import COLUMNS, TablePanel
from monitor.rows import Key
from monitor.window import Window
from monitor.words import measured
from streamer.records import Alert, Recollection

pytestmark = [pytest.mark.gui, pytest.mark.qt_log_ignore("propagateSizeHints", "XDG_RUNTIME_DIR", "raise()")]

BLURRED = [8, 21, 34, 47]
FLAGGED = sorted([*BLURRED, 17, 30, 46])


def click_dot(panel: Any, dots: Any, number: int, qtbot: Any) -> None:
    click(panel.plot, dots.x[number], dots.y[number], qtbot)


def click(plot: Any, x: float, y: float, qtbot: Any) -> None:
    """Click a chart at a place in data."""
    QtWidgets.QApplication.processEvents()   # charts that moved are laid out
    spot = plot.mapFromScene(plot.getViewBox().mapViewToScene(QtCore.QPointF(x, y)))
    qtbot.mouseMove(plot.viewport(), spot)
    qtbot.mouseClick(plot.viewport(), QtCore.Qt.MouseButton.LeftButton, pos=spot)


def show_table(window: Window) -> None:
    """Bring the table to the front: it is a tab behind the alerts."""
    window.docks.show(TablePanel)
    QtWidgets.QApplication.processEvents()
    window.refresh_now()


def cell(window: Window, line: int, column: str) -> str:
    model = window.panel(TablePanel).model
    return str(model.data(model.index(line, COLUMNS.index(column))))


def test_sharpness_shows_every_frame_by_verdict(filled: Window) -> None:
    panel = filled.panel(SharpnessPanel)
    x, y = panel.dots["blurred"].getData()
    assert x.tolist() == BLURRED
    np.testing.assert_allclose(y, [make_row(index).blur_length_px for index in BLURRED])
    assert panel.dots["bad"].getData()[0].tolist() == [30]
    assert panel.dots["bad"].getData()[1].tolist() == [0.0]
    assert panel.dots["sharp"].getData()[0].size == 60 - len(FLAGGED)
    symbols = {item.symbol for item in panel.dots.values()}
    colours = {item.brush.color().name() for item in panel.dots.values()}
    assert len(symbols) == len(colours) == 5
    assert panel.threshold.value() == 3.0
    np.testing.assert_allclose(panel.limit.getData()[1][0], make_row(0).blur_limit_px)


def test_error_bars_span_one_sigma(filled: Window) -> None:
    x, y = filled.panel(SharpnessPanel).bars.getData()
    row = make_row(8)
    here = np.flatnonzero(x == 8)
    np.testing.assert_allclose(y[here], [row.blur_length_px - row.blur_length_sigma_px,
                                         row.blur_length_px + row.blur_length_sigma_px])


def test_drift_and_trend_of_both_axes(filled: Window) -> None:
    for strip, axis in zip(filled.panel(DriftPanel).strips, "yx", strict=True):
        x, y = strip.dots[0].getData()
        known = [index for index in range(60) if index != 30]
        assert x.tolist() == known
        np.testing.assert_allclose(y, [getattr(make_row(index), f"drift_{axis}_px") for index in known])
        np.testing.assert_allclose(strip.trends[0].getData()[1],
                                   [getattr(make_row(index), f"trend_{axis}_px") for index in known])


def test_path_has_y_down_and_equal_scales(filled: Window) -> None:
    panel = filled.panel(PathPanel)
    np.testing.assert_allclose(panel.paths[0].points[-1], [make_row(59).drift_x_px, make_row(59).drift_y_px])
    box = panel.plot.getViewBox()
    assert box.yInverted()
    assert box.state["aspectLocked"] == 1.0


def test_deformation_follows_the_frames(filled: Window) -> None:
    x, y = filled.panel(DeformationPanel).curves["flow_median_px"].getData()
    assert x[-1] == 59
    assert y[-1] == make_row(59).flow_median_px


def test_table_lists_flagged_frames_newest_first(filled: Window) -> None:
    show_table(filled)
    model = filled.panel(TablePanel).model
    assert [int(cell(filled, line, "Frame")) for line in range(model.rowCount())] == FLAGGED[::-1]
    assert cell(filled, 0, "Verdict") == "▲ blurred"
    row = make_row(47)
    assert cell(filled, 0, "Blur") == (f"{measured(row.blur_length_px, row.blur_length_sigma_px, 'px')} "
                                       f"({row.blur_length_px * 21:.0f} nm)")
    line = FLAGGED[::-1].index(30)
    assert cell(filled, line, "Verdict") == "◆ bad"
    assert "beam dump" in cell(filled, line, "Reason")
    assert "no blur below 4.2 px" in cell(filled, FLAGGED[::-1].index(17), "Reason")


def test_refused_frames_and_their_replacements_are_listed(
    filled: Window, streamer: FakeStreamer, qtbot: Any,
) -> None:
    show_table(filled)
    streamer.frame(make_row(60, verdict=None, blur_length_px=None, problems="shape (3, 4), expected (240, 320)"))
    streamer.frame(make_row(61, recollects=47))
    qtbot.waitUntil(lambda: len(filled.store) == 62)
    filled.refresh_now()
    assert cell(filled, 0, "Verdict") == "✖ refused"
    assert "expected (240, 320)" in cell(filled, 0, "Reason")
    assert cell(filled, 1, "Frame") == "47"
    assert "taken again as 61" in cell(filled, 1, "Reason")


def test_a_click_on_a_line_selects_the_frame_everywhere(filled: Window, qtbot: Any) -> None:
    show_table(filled)
    table = filled.panel(TablePanel).table
    line = FLAGGED[::-1].index(21)
    place = table.visualRect(table.model().index(line, 0)).center()
    qtbot.mouseClick(table.viewport(), QtCore.Qt.MouseButton.LeftButton, pos=place)
    assert filled.selected == Key("scan-1", 21)
    assert filled.detail.text().startswith("Frame 21 (scan-1, view A)")
    assert all(mark.isVisible() and mark.value() == 21 for mark in filled.timeline._marks)


def test_a_click_on_a_dot_selects_its_frame(filled: Window, qtbot: Any) -> None:
    show_table(filled)
    panel = filled.panel(SharpnessPanel)
    click_dot(panel, panel.dots["blurred"], 1, qtbot)
    assert filled.selected == Key("scan-1", 21)
    assert [index.row() for index in filled.panel(TablePanel).table.selectionModel().selectedRows()] == [
        FLAGGED[::-1].index(21)]


def test_keys_step_through_flagged_frames(filled: Window, qtbot: Any) -> None:
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_P)
    assert filled.selected == Key("scan-1", 47)
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_P)
    assert filled.selected == Key("scan-1", 46)
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_N)
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_N)   # there is none after the newest
    assert filled.selected == Key("scan-1", 47)
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_Escape)
    assert filled.selected is None


def test_space_freezes_the_display_but_not_the_alerts(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_Space)
    assert filled.paused
    for index in range(60, 74):
        streamer.frame(make_row(index))
    streamer.alert(Alert(id=4, raised_at=moment(1), severity="MAJOR", rule="blurred_frame", text="take it again"))
    qtbot.waitUntil(lambda: len(filled.store) == 74 and filled.store.worst_alert() is not None)
    filled.refresh_now()
    banner = filled.panel(BannerPanel)
    assert "paused, 14 behind" in banner.note.text()
    assert banner.chip.text().startswith("PAUSED")
    assert "take it again" in banner.alert.text()
    assert filled.panel(SharpnessPanel).dots["sharp"].getData()[0].max() < 60
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_Space)
    assert filled.panel(SharpnessPanel).dots["sharp"].getData()[0].max() > 60
    assert "paused" not in banner.note.text()


def test_banner_names_the_newest_frame_in_px_and_um(filled: Window) -> None:
    numbers = filled.panel(BannerPanel).numbers
    row = make_row(59)
    assert numbers["frame"].text() == "59"
    assert numbers["blur"].text() == measured(row.blur_length_px, row.blur_length_sigma_px).split(" ")[0] + " px"
    assert numbers["drift y"].text() == f"{row.drift_y_px:+.2f} px"
    assert numbers["drift x caption"].text() == f"drift x  {row.drift_x_px * 0.021:+.3f} µm"
    assert numbers["flagged"].text() == str(len(FLAGGED))
    assert "LIVE" in filled.panel(BannerPanel).chip.text()


def test_banner_counts_what_waits(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    fields = {"raised_at": moment(1), "rule": "blurred_frame", "severity": "MAJOR"}
    streamer.alert(Alert(id=4, text="take it again", index=47, count=3, escalated=True, **fields))
    streamer.alert(Alert(id=5, text="kept quiet", shelved_until="2999-01-01T00:00:00+00:00", **fields))
    streamer.alert(Alert(id=6, text="seen", state="acknowledged", who="ann", **fields))
    streamer.alert(Alert(id=3, text="another", **fields))
    streamer.recollect(Recollection(id=1, requested_at=moment(1), acquisition="scan-1", index=47, view="A", reason="x"))
    qtbot.waitUntil(lambda: len(filled.store.alerts()) == 4 and len(filled.store.recollections()) == 1)
    filled.refresh_now()
    banner = filled.panel(BannerPanel)
    assert banner.alert.text() == "▲ MAJOR  frame 47  (3 frames)  ESCALATED  take it again  ·  1 more  ·  1 shelved"
    assert banner.numbers["asked"].text() == "1"
    jitter = [math.hypot(row.jitter_y_px, row.jitter_x_px) for row in map(make_row, range(60)) if row.index != 30]
    rms = math.sqrt(sum(size**2 for size in jitter) / len(jitter))
    assert banner.numbers["jitter"].text() == measured(rms, rms / math.sqrt(2 * 59)).split(" ")[0] + " px"


def test_a_recording_is_no_live_beam(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    banner = filled.panel(BannerPanel)
    assert "LIVE" in banner.chip.text()
    streamer.frame(make_row(60, exposed_at="2025-06-01T09:00:00+00:00"))
    qtbot.waitUntil(lambda: "REPLAY" in banner.chip.text())
    assert "273 days after their exposure" in banner.note.text()
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_Space)
    assert banner.chip.text().startswith("PAUSED")


def test_every_frame_can_be_stepped_to(filled: Window, qtbot: Any) -> None:
    for key, index in ((QtCore.Qt.Key.Key_Left, 58), (QtCore.Qt.Key.Key_Left, 57), (QtCore.Qt.Key.Key_Right, 58),
                       (QtCore.Qt.Key.Key_Right, 59), (QtCore.Qt.Key.Key_Right, 59), (QtCore.Qt.Key.Key_Home, 0),
                       (QtCore.Qt.Key.Key_Left, 0), (QtCore.Qt.Key.Key_Right, 1)):
        qtbot.keyClick(filled, key)
        assert filled.selected == Key("scan-1", index)
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_End)
    assert filled.selected is None


def test_views_are_turned_by_key(window: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    for index in range(6):
        streamer.frame(make_row(index, view="AB"[index % 2]))
    qtbot.waitUntil(lambda: len(window.store) == 6)
    window.refresh_now()
    for expected in ("A", "B", None, "A"):
        qtbot.keyClick(window, QtCore.Qt.Key.Key_PageDown)
        assert window.view == expected
    qtbot.keyClick(window, QtCore.Qt.Key.Key_PageUp)
    assert window.view is None


def test_the_status_bar_names_the_dialect_of_the_frames(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    link = filled.panel(StatusPanel).link
    assert "last frame 0.2 s ago  ·" in link.text()
    streamer.status(protocol="dectris-1")
    qtbot.waitUntil(lambda: "last frame 0.2 s ago (dectris-1)  ·" in link.text())


def test_skipped_pictures_and_their_delay_are_told(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    panel = filled.panel(StatusPanel)
    qtbot.waitUntil(lambda: filled.scene().paint_ms is not None)
    before = filled.scene().skipped
    for index in range(60, 70):
        streamer.image(index)
    filled._pacers["picture"]._timer.stop()
    deadline = QtCore.QDeadlineTimer(5000)
    while filled.store.pictures < 11 and not deadline.hasExpired():   # the loop of Qt stands still meanwhile
        QtCore.QThread.msleep(5)
    filled.refresh_now()
    assert filled.scene().skipped == before + 9
    assert panel.skipped.text() == f"skipped {before + 9}"
    assert "message received to picture painted" in panel.skipped.toolTip()


def test_status_bar_counts_and_names_losses(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    panel = filled.panel(StatusPanel)
    assert panel.lost.text() == "▲ lost 4"
    assert "missing: 3 (frames 5, 9-10)" in panel.lost.toolTip()
    assert panel.queue.text() == "queue 2/64"
    assert panel.lag.text() == "lag 28 / 44 ms"
    assert "in 4.0/s  measured 3.9/s" in panel.rates.text()
    assert panel.odd.text() == ""
    assert streamer.results in panel.link.text()
    streamer.send_raw(b"{}", b"somebody else")
    qtbot.waitUntil(lambda: filled.feed.link().foreign == 1)
    filled.refresh_now()
    assert panel.odd.text() == "foreign messages 1"
    assert "something else than results" in filled.panel(BannerPanel).note.text()


def test_zooming_stops_following_until_a_fit(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    box = filled.panel(SharpnessPanel).plot.getViewBox()
    box.setXRange(5, 25, padding=0)
    box.sigRangeChangedManually.emit([True, False])
    assert not filled.timeline.following
    assert filled.panel(DriftPanel).strips[0].plot.getViewBox().viewRange()[0] == pytest.approx([5, 25])
    for index in range(60, 80):
        streamer.frame(make_row(index))
    qtbot.waitUntil(lambda: len(filled.store) == 80)
    filled.refresh_now()
    assert box.viewRange()[0] == pytest.approx([5, 25])
    assert filled.panel(SharpnessPanel).dots["blurred"].getData()[0].tolist() == [8, 21]
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_F)
    assert filled.timeline.following
    low, high = box.viewRange()[0]
    assert low < 0
    assert high > 79


def test_views_can_be_chosen(window: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    for index in range(40):
        streamer.frame(make_row(index, view="AB"[index % 2]))
    streamer.status()
    qtbot.waitUntil(lambda: len(window.store) == 40 and window.store.status is not None)
    window.refresh_now()
    views = window.panel(BannerPanel).views
    assert [views.itemText(number) for number in range(views.count())] == ["all views", "A", "B"]
    strip = window.panel(DriftPanel).strips[0]
    assert [strip.dots[number].getData()[0].size for number in range(3)] == [20 - 1, 20, 0]   # 30 is bad
    views.setCurrentIndex(2)
    views.activated.emit(2)
    assert strip.dots[0].getData()[0].tolist() == list(range(1, 40, 2))
    assert strip.dots[1].getData()[0].size == 0


def test_a_view_can_be_chosen_while_paused(window: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    for index in range(20):
        streamer.frame(make_row(index, view="AB"[index % 2]))
    qtbot.waitUntil(lambda: len(window.store) == 20)
    window.refresh_now()
    qtbot.keyClick(window, QtCore.Qt.Key.Key_Space)
    streamer.frame(make_row(21, view="B"))
    qtbot.waitUntil(lambda: len(window.store) == 21)
    window.panel(BannerPanel).view_chosen.emit("B")
    assert window.panel(DriftPanel).strips[0].dots[0].getData()[0].tolist() == list(range(1, 20, 2))


def test_the_newest_frames_or_the_whole_run(window: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    for index in range(0, 2000, 2):
        streamer.frame(make_row(index))
    qtbot.waitUntil(lambda: len(window.store) == 1000)
    window.refresh_now()
    box = window.panel(SharpnessPanel).plot.getViewBox()
    assert 1480 < box.viewRange()[0][0] < 1500
    qtbot.keyClick(window, QtCore.Qt.Key.Key_W)
    assert box.viewRange()[0][0] < 0
    assert box.viewRange()[0][1] > 1998
    qtbot.keyClick(window, QtCore.Qt.Key.Key_W)
    assert box.viewRange()[0][0] > 1480


@pytest.mark.parametrize("with_data", [False, True])
def test_the_window_fits_a_small_screen(window: Window, streamer: FakeStreamer, qtbot: Any, *, with_data: bool) -> None:
    if with_data:
        streamer.alert(Alert(id=1, raised_at=moment(1), severity="MAJOR", rule="r", text="a long text " * 40))
        streamer.frame(make_row(0, problems="a long reason " * 40, acquisition="a long name " * 10, view="v" * 80))
        streamer.status(session_dir="/a/long/path" * 20, problems=["the disk is nearly full " * 10])
        qtbot.waitUntil(lambda: window.store.status is not None and len(window.store) == 1)
        window.select(Key("a long name " * 10, 0))
    window.resize(1366, 768)
    window.refresh_now()
    assert window.minimumSizeHint().width() <= 1366
    assert window.minimumSizeHint().height() <= 768
    assert (window.width(), window.height()) == (1366, 768)


def test_themes_change_all_colours(filled: Window, qtbot: Any) -> None:
    dark = filled.grab().toImage()
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_T)
    light = filled.grab().toImage()
    assert filled.theme.name == "light"
    for x, y in ((5, 5), (1200, 200), (1200, 600), (300, 1000)):
        assert dark.pixelColor(x, y).lightness() < 90
        assert light.pixelColor(x, y).lightness() > 165


def test_the_list_of_keys_is_complete(filled: Window, qtbot: Any) -> None:
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_Question, QtCore.Qt.KeyboardModifier.ShiftModifier)
    assert filled._keys is not None
    words = [label.text() for label in filled._keys.findChildren(type(filled.panel(BannerPanel).chip))]
    actions = [bound.action for bound in gather(filled, filled.panels.values())]
    assert all(action.key in words and action.text in words for action in actions)
    qtbot.keyClick(filled._keys, QtCore.Qt.Key.Key_Question, QtCore.Qt.KeyboardModifier.ShiftModifier)
    assert not filled._keys.isVisible()
    assert len({action.key for action in actions}) == len(actions)


def test_a_killed_streamer_leaves_the_window_alive(
    filled: Window, streamer: FakeStreamer, qtbot: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_module, "STALE_AFTER_S", 0.2)
    monkeypatch.setattr(feed_module, "DISCONNECTED_AFTER_S", 3.0)
    chip = filled.panel(BannerPanel).chip
    streamer.close()
    qtbot.waitUntil(lambda: "STALE" in chip.text())
    qtbot.waitUntil(lambda: "DISCONNECTED" in chip.text())
    assert filled.isVisible()
    monkeypatch.undo()
    again = FakeStreamer(session="session-2", results=streamer.results)
    try:
        again.frame(make_row(3, acquisition="second"))
        again.wait_for_subscriber()
        again.status()
        qtbot.waitUntil(lambda: "LIVE" in chip.text() and filled.feed.link().has_history, timeout=15_000)
        filled.refresh_now()
        assert filled.panel(SharpnessPanel).dots["sharp"].getData()[0].tolist() == [3]
        assert filled.panel(TablePanel).model.rowCount() == 0
        assert filled.panel(FramePanel).canvas.hint.isVisible()
        assert "session-2" in filled.panel(BannerPanel).note.text()
    finally:
        again.close()


def test_a_click_beside_the_dots_selects_the_nearest_frame(filled: Window, qtbot: Any) -> None:
    jitter = filled.panel(JitterPanel).plot
    click(jitter, 20.3, 0.0, qtbot)
    assert filled.selected == Key("scan-1", 20)
    sharpness = filled.panel(SharpnessPanel)
    click(sharpness.plot, 33.2, 1.6 + float(sharpness.threshold.value()), qtbot)
    assert filled.selected == Key("scan-1", 33)
    click(sharpness.plot, 41.0, float(sharpness.threshold.value()), qtbot)   # the line is dragged, not clicked
    assert filled.selected == Key("scan-1", 33)


def test_every_frame_of_the_path_can_be_clicked(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    for index in range(60, 400):
        streamer.frame(make_row(index))
    qtbot.waitUntil(lambda: len(filled.store) == 400)
    filled.refresh_now()
    row = make_row(3)
    click(filled.panel(PathPanel).plot, row.drift_x_px, row.drift_y_px, qtbot)
    assert filled.selected is not None
    assert filled.selected.index < 10
