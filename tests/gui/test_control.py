"""Alerts and requests in their list, and what is asked of the streamer by mouse and by key."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets
from support.fake_streamer import FakeStreamer, make_row, moment

from monitor.commander import Commander
from monitor.control import SELECT_FIRST
from monitor.dialogs import HINT_ALPHA
from monitor.feed import Feed
from monitor.panels.alerts import ALERTS, ALL, LISTS, REQUESTED, REQUESTS, AlertsPanel
from monitor.panels.banner import BannerPanel
from monitor.panels.sharpness import SharpnessPanel
from monitor.panels.table import TablePanel
from monitor.rows import Key
from monitor.store import Store
from monitor.window import Window
from streamer.records import Alert, Recollection

pytestmark = [pytest.mark.gui, pytest.mark.qt_log_ignore(
    "propagateSizeHints", "XDG_RUNTIME_DIR", "plugin does not support raise", "grabbing the keyboard")]

LEFT, RIGHT = QtCore.Qt.MouseButton.LeftButton, QtCore.Qt.MouseButton.RightButton
Keys, Shift = QtCore.Qt.Key, QtCore.Qt.KeyboardModifier.ShiftModifier
Control = QtCore.Qt.KeyboardModifier.ControlModifier
SOON = (datetime.now(UTC) + timedelta(minutes=30)).isoformat()


def alert(number: int, **fields: Any) -> Alert:
    return Alert(**{"id": number, "raised_at": moment(number), "severity": "MAJOR", "rule": "blurred_frame",
                    "text": f"text of {number}", "acquisition": "scan-1", "view": "A"} | fields)


def request(number: int, index: int, **fields: Any) -> Recollection:
    return Recollection(**{"id": number, "requested_at": moment(9), "acquisition": "scan-1", "index": index,
                           "view": "A", "reason": f"blurred {index}"} | fields)


ALERTED = (
    alert(1, severity="MINOR", state="closed", who="bob", index=3),
    alert(2, index=8, state="recollected", recollected_as=61, recollected_verdict="sharp", who="ANNA"),
    alert(3, index=21, count=3, state="requested", escalated=True),
    alert(4, severity="INVALID", index=30, active=False),
    alert(5, severity="MINOR", shelved_until=SOON),
    alert(6, index=47),
    alert(7, severity="MINOR", index=46, state="acknowledged", who="bob"),
)
REQUESTED_AGAIN = (
    request(1, 21, tries=1, verdict="blurred", deadline_frames=63.0), request(2, 47, priority=3),
    request(3, 8, state="served", served_by=61, tries=1), request(4, 34, state="given_up", tries=3))


@pytest.fixture
def alerted(filled: Window, streamer: FakeStreamer, qtbot: Any) -> Iterator[Window]:
    """A window that can ask, with alerts and requests of every kind."""
    for one in ALERTED:
        streamer.alert(one)
    for each in REQUESTED_AGAIN:
        streamer.recollect(each)
    filled.commander.start()
    qtbot.waitUntil(lambda: len(filled.store.alerts()) == 7 and len(filled.store.recollections()) == 4)
    filled.refresh_now()
    yield filled
    filled.commander.stop()


def cells(window: Window, column: str) -> list[str]:
    model = window.panel(AlertsPanel).model
    place = [one.name for one in model.columns].index(column)
    return [str(model.data(model.index(line, place))) for line in range(model.rowCount())]


def click_line(window: Window, number: int, qtbot: Any, button: Any = LEFT) -> None:
    panel = window.panel(AlertsPanel)
    line = next(line for line, one in enumerate(panel.model.lines) if one.id == number)
    panel.table.scrollTo(panel.model.index(line, 0))
    spot = panel.table.visualRect(panel.model.index(line, 0)).center()
    if button == LEFT:
        qtbot.mouseClick(panel.table.viewport(), button, pos=spot)
    else:
        panel.table.customContextMenuRequested.emit(spot)


def choose(menu: Any, text: str) -> None:
    """Click a line of a menu and close it, as Qt does."""
    next(action for action in menu.actions() if text in action.text().replace("&", "")).trigger()
    menu.close()


def sent(streamer: FakeStreamer, op: str) -> list[dict[str, Any]]:
    return [arguments for asked, arguments in list(streamer.asked) if asked == op]


def write(window: Window, text: str, qtbot: Any) -> None:
    """Type into the field that has the focus, and send the form with Enter."""
    form = window.control.forms.form
    assert form is not None
    qtbot.waitUntil(form.isActiveWindow)
    field = form.focusWidget()
    qtbot.keyClicks(field, text)
    qtbot.keyClick(field, Keys.Key_Return)
    assert window.control.forms.form is None
    qtbot.waitUntil(window.isActiveWindow)


def message(window: Window) -> str:
    return window.scene().message


def test_what_needs_somebody_is_on_top(alerted: Window) -> None:
    panel = alerted.panel(AlertsPanel)
    assert [one.id for one in panel.model.lines] == [6, 4, 3, 7, 5, 2]
    assert cells(alerted, "Severity")[:3] == ["▲ MAJOR", "◆ INVALID", "▲ MAJOR"]
    assert cells(alerted, "Frame") == ["47", "30", "21 ×3", "46", "–", "8"]
    assert cells(alerted, "State") == [
        "new", "over, not acknowledged", "ESCALATED, asked again", "acknowledged by bob",
        f"shelved until {datetime.fromisoformat(SOON).astimezone():%H:%M}, new",
        "taken again as 61: sharp, acknowledged by ANNA"]
    assert panel._legend.text() == "   3 to acknowledge   1 shelved   2 to take again"
    colour = panel.model.data(panel.model.index(1, 0), QtCore.Qt.ItemDataRole.ForegroundRole).name()
    assert colour.lower() == alerted.theme.invalid.lower()
    assert "rule blurred_frame" in panel.model.data(panel.model.index(0, 0), QtCore.Qt.ItemDataRole.ToolTipRole)


def test_lists_are_turned_by_key_and_sorted_by_a_click_on_a_heading(alerted: Window, qtbot: Any) -> None:
    panel = alerted.panel(AlertsPanel)
    qtbot.keyClick(alerted, Keys.Key_Z)
    assert panel.choice.currentText() == ALL
    assert [one.id for one in panel.model.lines] == [6, 4, 3, 7, 5, 2, 1]
    header = panel.table.horizontalHeader()
    for expected in ([1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1], [6, 4, 3, 7, 5, 2, 1]):
        place = header.sectionViewportPosition([one.name for one in ALERTS].index("Time")) + 8
        qtbot.mouseClick(header.viewport(), LEFT, pos=QtCore.QPoint(place, 8))
        assert [one.id for one in panel.model.lines] == expected
    qtbot.keyClick(alerted, Keys.Key_Z)
    assert panel.choice.currentText() == REQUESTS
    assert panel.model.columns is REQUESTED
    assert cells(alerted, "Frame") == ["47", "21", "34", "8"]
    assert cells(alerted, "Tries") == ["0/3", "1/3", "3/3", "1/3"]
    assert cells(alerted, "Deadline")[:2] == ["none known", "in 63 frames"]
    assert cells(alerted, "State") == ["open", "open, newest: blurred", "given up after 3", "taken as 61"]
    qtbot.keyClick(alerted, Keys.Key_Z)
    assert panel.choice.currentText() == LISTS[0]


def test_a_click_selects_the_frame_everywhere_and_another_frame_lets_the_line_go(alerted: Window, qtbot: Any) -> None:
    panel = alerted.panel(AlertsPanel)
    click_line(alerted, 3, qtbot)
    assert alerted.selected == Key("scan-1", 21)
    assert panel.selected.id == 3
    assert [index.row() for index in panel.table.selectionModel().selectedRows()] == [2]
    alerted.select(Key("scan-1", 40))
    assert panel.selected is None
    assert not panel.table.selectionModel().hasSelection()
    click_line(alerted, 5, qtbot)   # is about no frame
    assert alerted.selected == Key("scan-1", 40)
    assert panel.selected.id == 5
    qtbot.keyClick(alerted, Keys.Key_Escape)
    assert alerted.selected is None
    alerted.refresh_now()
    assert panel.selected is None


def test_the_selected_line_stays_selected_when_others_come(
    alerted: Window, streamer: FakeStreamer, qtbot: Any,
) -> None:
    click_line(alerted, 4, qtbot)
    streamer.alert(alert(8, index=50))
    qtbot.waitUntil(lambda: len(alerted.store.alerts()) == 8)
    alerted.refresh_now()
    panel = alerted.panel(AlertsPanel)
    assert [one.id for one in panel.model.lines][:3] == [8, 6, 4]
    assert [index.row() for index in panel.table.selectionModel().selectedRows()] == [2]


def test_acknowledging_the_worst_the_selected_and_all(alerted: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    alerted.control._remember("ANNA")
    qtbot.keyClick(alerted, Keys.Key_A)
    qtbot.waitUntil(lambda: len(sent(streamer, "acknowledge")) == 1)
    qtbot.waitUntil(lambda: message(alerted) == "alert 4 acknowledged")
    click_line(alerted, 3, qtbot)
    qtbot.mouseClick(alerted.panel(AlertsPanel).buttons["acknowledge"], LEFT)
    qtbot.waitUntil(lambda: len(sent(streamer, "acknowledge")) == 2)
    qtbot.keyClick(alerted, Keys.Key_A, Shift)
    write(alerted, "seen them", qtbot)
    qtbot.waitUntil(lambda: len(sent(streamer, "acknowledge")) == 3)
    assert sent(streamer, "acknowledge") == [
        {"alert": 4, "who": "ANNA", "note": ""}, {"alert": 3, "who": "ANNA", "note": ""},
        {"alert": "all", "who": "ANNA", "note": "seen them"}]
    click_line(alerted, 7, qtbot)
    qtbot.keyClick(alerted, Keys.Key_A)
    assert message(alerted) == "alert 7 needs nobody: it is acknowledged by bob"


def test_an_alert_that_nobody_sees_selected_is_not_acted_on(
    alerted: Window, streamer: FakeStreamer, qtbot: Any,
) -> None:
    click_line(alerted, 3, qtbot)
    alerted.docks.show(TablePanel)
    qtbot.waitUntil(lambda: not alerted.docks.is_seen(alerted.panel(AlertsPanel)))
    qtbot.keyClick(alerted, Keys.Key_A)
    qtbot.waitUntil(lambda: len(sent(streamer, "acknowledge")) == 1)
    assert sent(streamer, "acknowledge")[0]["alert"] == 4   # the worst one


def test_shelving_from_a_menu(alerted: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    click_line(alerted, 6, qtbot)
    qtbot.keyClick(alerted, Keys.Key_H)
    menu = alerted.control.menu
    assert [action.text().replace("&", "") for action in menu.actions()] == [
        "Alert 6, ▲ MAJOR", "quiet for 10 min", "quiet for 30 min", "quiet for 60 min"]
    choose(menu, "30")
    qtbot.waitUntil(lambda: message(alerted).startswith("alert 6 is kept quiet until "))
    alerted.activateWindow()   # a platform that draws off screen gives the keys to menus
    qtbot.waitUntil(alerted.isActiveWindow)
    click_line(alerted, 5, qtbot)
    qtbot.keyClick(alerted, Keys.Key_H)
    choose(alerted.control.menu, "off the")
    qtbot.waitUntil(lambda: len(sent(streamer, "shelve")) == 2)
    assert [(asked["alert"], asked["minutes"]) for asked in sent(streamer, "shelve")] == [(6, 30), (5, 0)]


def test_taking_again_and_withdrawing(alerted: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    alerted.select(Key("scan-1", 46))
    qtbot.keyClick(alerted, Keys.Key_R)
    form = alerted.control.forms.form
    form.fields["priority"].setCurrentText("3 urgent")
    form.fields["who"].setText("BEN")
    form.fields["reason"].setFocus()
    write(alerted, "a crack", qtbot)
    qtbot.waitUntil(lambda: message(alerted) == "frame 46 is asked for again: request 7")
    assert sent(streamer, "recollect") == [
        {"index": 46, "acquisition": "scan-1", "reason": "a crack", "priority": 3, "who": "BEN"}]
    alerted.select(Key("scan-1", 47))
    assert alerted.panel(AlertsPanel).buttons["recollect"].text().startswith("Withdraw")
    qtbot.keyClick(alerted, Keys.Key_R)
    write(alerted, "no", qtbot)
    qtbot.waitUntil(lambda: message(alerted) == "request 2 is withdrawn")
    assert sent(streamer, "withdraw") == [{"recollection": 2, "why": "no", "who": "BEN"}]


@pytest.mark.parametrize(("key", "verdict"), [(Keys.Key_G, "sharp"), (Keys.Key_B, "blurred")])
def test_judging_a_frame_asks_why(
    key: Any, verdict: str, alerted: Window, streamer: FakeStreamer, qtbot: Any,
) -> None:
    alerted.control._remember("ANNA")
    alerted.select(Key("scan-1", 21))
    qtbot.keyClick(alerted, key)
    alerted.select(Key("scan-1", 22))   # the form keeps to its frame
    write(alerted, "agrees with BRAGG", qtbot)   # letters that are keys of the window
    qtbot.waitUntil(lambda: message(alerted).startswith(f"frame 21: verdict overridden by ANNA, now {verdict}"))
    assert sent(streamer, "override") == [{"index": 21, "acquisition": "scan-1", "verdict": verdict,
                                           "why": "agrees with BRAGG", "who": "ANNA"}]
    assert not sent(streamer, "acknowledge")
    assert not sent(streamer, "recollect")


def test_frames_that_cannot_be_judged_are_named(alerted: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    streamer.frame(make_row(60, verdict=None, problems="shape (3, 4), expected (240, 320)"))
    qtbot.waitUntil(lambda: len(alerted.store) == 61)
    qtbot.keyClick(alerted, Keys.Key_G)
    assert message(alerted) == SELECT_FIRST
    alerted.select(Key("scan-1", 60))
    qtbot.keyClick(alerted, Keys.Key_B)
    assert message(alerted) == "frame 60 has no verdict: shape (3, 4), expected (240, 320)"
    assert alerted.control.forms.form is None


def test_notes_about_a_frame_and_about_the_session(alerted: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    qtbot.keyClick(alerted, Keys.Key_M)
    form = alerted.control.forms.form
    assert not form.send.isEnabled()   # nothing to be written down
    form.accept()
    assert alerted.control.forms.form is form
    write(alerted, "beam is back", qtbot)
    qtbot.waitUntil(lambda: message(alerted) == "noted")
    alerted.select(Key("scan-1", 8))
    qtbot.keyClick(alerted, Keys.Key_M)
    write(alerted, "odd", qtbot)
    qtbot.waitUntil(lambda: message(alerted) == "noted about frame 8")
    assert [(note["text"], note.get("index")) for note in sent(streamer, "note")] == [
        ("beam is back", None), ("odd", 8)]


def test_reference_files_and_report(alerted: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    qtbot.keyClick(alerted, Keys.Key_R, Shift)
    write(alerted, "", qtbot)
    qtbot.waitUntil(lambda: message(alerted) == "frame 11 is the reference of view A from the next frame on")
    qtbot.keyClick(alerted, Keys.Key_S, Control)
    qtbot.waitUntil(lambda: message(alerted).endswith("to sessions/s: frames.csv, alerts.csv"))
    qtbot.keyClick(alerted, Keys.Key_R, Control)
    report = alerted.control.report
    qtbot.mouseClick(report.copy, LEFT)
    assert QtWidgets.QApplication.clipboard().text() == (
        "txm-streamer report sessions/session-1 --out sessions/session-1/report.html")
    report.close()
    qtbot.waitUntil(lambda: alerted.control.report is None)


def test_esc_leaves_a_form_and_a_half_written_one_is_not_thrown_away(
    alerted: Window, streamer: FakeStreamer, qtbot: Any,
) -> None:
    alerted.select(Key("scan-1", 21))
    qtbot.keyClick(alerted, Keys.Key_G)
    qtbot.waitUntil(alerted.control.forms.form.isActiveWindow)
    qtbot.keyClick(alerted.control.forms.form, Keys.Key_Escape)
    assert alerted.control.forms.form is None
    qtbot.waitUntil(alerted.isActiveWindow)
    qtbot.keyClick(alerted, Keys.Key_G)
    alerted.control.note()   # nothing was written yet: another form takes its place
    form = alerted.control.forms.form
    assert form.windowTitle() == "Note"
    form.fields["text"].setText("half a")
    alerted.control.call_blurred()
    assert alerted.control.forms.form is form
    assert message(alerted).startswith("another form is half filled in")
    form.reject()
    qtbot.wait(50)
    assert not sent(streamer, "override")
    assert not sent(streamer, "note")


def test_the_name_is_remembered(streamer: FakeStreamer, qtbot: Any, tmp_path: Any) -> None:
    settings = QtCore.QSettings(str(tmp_path / "s.ini"), QtCore.QSettings.Format.IniFormat)
    for expected in (None, "EVE"):
        feed = Feed(Store(), streamer.results)
        window = Window(feed, settings=settings)
        qtbot.addWidget(window)
        window.show()
        assert expected is None or window.control.who == expected
        window.control.introduce()
        form = window.control.forms.form
        form.fields["who"].setText("EVE")
        form.accept()
        assert message(window) == "you are EVE"
        feed.stop()


def test_refusals_are_shown_in_words(alerted: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    def refuse(**_: Any) -> None:
        raise LookupError("acknowledge: alert 4 is closed")

    streamer.answers["acknowledge"] = refuse
    qtbot.keyClick(alerted, Keys.Key_A)
    qtbot.waitUntil(lambda: "refused: acknowledge: alert 4 is closed" in message(alerted))


def test_menus_of_lines(alerted: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    click_line(alerted, 6, qtbot, RIGHT)
    panel = alerted.panel(AlertsPanel)
    choose(panel.menu, "with a note")
    write(alerted, "known", qtbot)
    qtbot.waitUntil(lambda: len(sent(streamer, "acknowledge")) == 1)
    assert sent(streamer, "acknowledge")[0]["note"] == "known"
    click_line(alerted, 7, qtbot, RIGHT)
    named = {action.text().split("\t")[0]: action for action in panel.menu.actions()}
    assert not named["Acknowledge"].isEnabled()
    assert named["Its frame is sharp ..."].isEnabled()
    panel.menu.close()
    alerted.docks.show(TablePanel)
    table = alerted.panel(TablePanel)
    table.refresh(alerted.scene())
    table.table.customContextMenuRequested.emit(table.table.visualRect(table.model.index(0, 0)).center())
    assert alerted.selected == Key("scan-1", 47)
    choose(table.menu, "Its frame is sharp")
    assert "Frame 47" in alerted.control.forms.form.findChild(QtWidgets.QLabel).text()
    alerted.control.forms.form.reject()


def test_read_only_greys_everything_and_says_why(streamer: FakeStreamer, qtbot: Any) -> None:
    feed = Feed(Store(), streamer.results)
    window = Window(feed, commander=Commander(streamer.results, feed.control, read_only=True))
    qtbot.addWidget(window)
    with qtbot.waitExposed(window):
        window.show()
    feed.start()
    streamer.wait_for_subscriber()
    try:
        streamer.frame(make_row(8))
        streamer.alert(alert(1, index=8))
        streamer.status()
        qtbot.waitUntil(lambda: window.store.worst_alert() is not None and len(window.store) == 1)
        window.refresh_now()
        panel = window.panel(AlertsPanel)
        click_line(window, 1, qtbot)
        assert [button.isEnabled() for button in panel.buttons.values()] == [False] * 6
        assert {button.toolTip() for button in panel.buttons.values()} == {"this dashboard is read-only"}
        click_line(window, 1, qtbot, RIGHT)
        assert not any(action.isEnabled() for action in panel.menu.actions())
        panel.menu.close()
        entries = {action.text(): action for action in window.menus.findChildren(
            type(window.panels_menu.menuAction())) if action.shortcut().toString() in ("A", "R", "G", "M", "H")}
        assert len(entries) == 5
        assert not any(action.isEnabled() for action in entries.values())
        window.control.do("call_sharp")
        assert message(window) == "this dashboard is read-only"
        assert window.control.forms.form is None
    finally:
        feed.stop()
    assert not sent(streamer, "acknowledge")


def test_an_applied_threshold_comes_back_with_the_status(alerted: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    panel = alerted.panel(SharpnessPanel)
    panel.attempt(2.2)
    qtbot.keyClick(alerted, Keys.Key_Return)
    qtbot.waitUntil(lambda: "blur.tolerance_px = 2.2 from the next frame on (settings revision 1)" in message(alerted))
    streamer.status(blur_tolerance_px=2.2, settings_revision=1)
    qtbot.waitUntil(lambda: alerted.store.status.settings_revision == 1 and panel.tried is None)
    assert panel.threshold.value() == 2.2


def test_the_bell_rings_once_for_each_grave_alert(
    window: Window, streamer: FakeStreamer, qtbot: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:
    rung, shown = [], []
    monkeypatch.setattr(QtWidgets.QApplication, "beep", lambda: rung.append(1))
    streamer.alert(alert(1))
    streamer.status()
    qtbot.waitUntil(lambda: window.feed.link().has_history and len(window.store.alerts()) == 1)
    window.refresh_now()
    streamer.alert(alert(2))
    qtbot.waitUntil(lambda: len(window.store.alerts()) == 2)
    window.refresh_now()
    assert not rung   # off until switched on
    qtbot.keyClick(window, Keys.Key_B, Shift)
    assert window.bell.on
    assert "sound from now on" in message(window)
    rung.clear()
    for number, fields in ((3, {"severity": "MINOR"}), (4, {"shelved_until": SOON}), (5, {"who": "ann"})):
        streamer.alert(alert(number, **fields))
    qtbot.waitUntil(lambda: len(window.store.alerts()) == 5)
    window.refresh_now()
    assert not rung   # nothing grave that waits
    monkeypatch.setattr(QtWidgets.QSystemTrayIcon, "isSystemTrayAvailable", lambda: True)
    monkeypatch.setattr(QtWidgets.QSystemTrayIcon, "show", lambda _: None)
    monkeypatch.setattr(QtWidgets.QSystemTrayIcon, "showMessage", lambda _, *texts: shown.append(texts))
    streamer.alert(alert(3, severity="INVALID", index=30))   # became worse
    streamer.alert(alert(6, index=47))
    qtbot.waitUntil(lambda: len(window.store.alerts()) == 6)
    window.refresh_now()
    window.refresh_now()
    assert 1 <= len(rung) <= 2
    assert shown[0][0].startswith("◆ INVALID, frame 30")
    assert shown[0][1] == "text of 3"
    qtbot.keyClick(window, Keys.Key_B, Shift)
    assert not window.bell.on


def test_100_000_alerts_are_listed_quickly(window: Window, qtbot: Any) -> None:
    alerts = [alert(number, index=number, state="closed" if number % 10 else "new") for number in range(1, 100_001)]
    window.store._put_alerts(alerts, 1)
    panel = window.panel(AlertsPanel)
    window.refresh_now()
    assert panel.model.rowCount() == 10_000
    panel.choice.setCurrentText(ALL)
    assert panel.model.rowCount() == 100_000
    began = time.process_time()
    for number in range(5):
        window.store._put_alerts([alert(200_000 + number, index=1)], 2 + number)
        panel.refresh(window.scene())
    assert (time.process_time() - began) / 5 < 0.5
    began = time.process_time()
    for _ in range(5):   # nothing new: nothing to sort
        panel.refresh(window.scene())
    assert (time.process_time() - began) / 5 < 0.05


def test_a_sharp_frame_taken_again_is_good_news_though_nobody_acknowledged(
    filled: Window, streamer: FakeStreamer, qtbot: Any,
) -> None:
    banner, panel = filled.panel(BannerPanel), filled.panel(AlertsPanel)
    streamer.alert(alert(1, index=47, state="requested"))
    qtbot.waitUntil(lambda: "MAJOR" in banner.alert.text())
    streamer.alert(alert(1, index=47, state="recollected", active=False, recollected_as=61,
                         recollected_verdict="sharp"))
    qtbot.waitUntil(lambda: banner.alert.text() == "no alert to acknowledge")
    filled.refresh_now()
    assert cells(filled, "State") == ["taken again as 61: sharp"]
    shown = panel.model.data(panel.model.index(0, 0), QtCore.Qt.ItemDataRole.ForegroundRole)
    assert shown.name() == filled.theme.dim
    assert "none to acknowledge" in panel._legend.text()


def test_a_report_is_written_where_the_session_can_be_read(
    filled: Window, streamer: FakeStreamer, qtbot: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, text in (("session.sqlite", ""), ("streamer/cli.py", "import sys; open(sys.argv[-1], 'w').write('a')"),
                       ("streamer/__init__.py", "")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))   # a command that is quick
    streamer.status(session_dir=str(tmp_path))
    qtbot.waitUntil(lambda: filled.store.status.session_dir == str(tmp_path))
    qtbot.keyClick(filled, Keys.Key_R, Control)
    report = filled.control.report
    qtbot.waitUntil(report.isActiveWindow)
    qtbot.keyClick(report, Keys.Key_Return)
    qtbot.waitUntil(lambda: message(filled) == f"the report is ready: {tmp_path / 'report.html'}")
    assert (tmp_path / "report.html").read_text() == "a"
    (tmp_path / "streamer/cli.py").write_text("raise SystemExit('txm-streamer: the journal is damaged')")
    filled.control.reporter.write(str(tmp_path))
    filled.control.reporter.write(str(tmp_path))
    assert message(filled).startswith("a report is being written already")
    qtbot.waitUntil(lambda: message(filled) == "no report: txm-streamer: the journal is damaged")


def test_the_hint_of_a_form_is_drawn_in_a_colour_to_be_read(alerted: Window, qtbot: Any) -> None:
    qtbot.keyClick(alerted, Keys.Key_A, Shift)
    field = alerted.control.forms.form.fields["note"]
    colour = field.palette().color(QtGui.QPalette.ColorRole.PlaceholderText)
    assert colour.alpha() == HINT_ALPHA
    assert colour.rgb() == QtGui.QColor(alerted.theme.text).rgb()
