"""What a person asks of the streamer: by key, menu or button, with a short form where reasons are wanted."""

from __future__ import annotations

import functools
import getpass
import shlex
from collections.abc import Callable
from typing import ClassVar

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from monitor.alert_words import PRIORITIES, severity_words, state_words
from monitor.dialogs import Forms, Line, Told
from monitor.panels.base import Action, Scene
from monitor.panels.parts import Entry, pop_up
from monitor.reporter import Reporter
from monitor.rows import Key
from monitor.store import is_shelved, is_waiting
from monitor.words import verdict_word
from streamer.records import Alert, FrameRow, Recollection

MINUTES = (10, 30, 60)
"""For which an alert can be kept quiet."""
SELECT_FIRST = "no frame is selected: click a dot, a line or a small picture first"


class Control(QtCore.QObject):
    """The actions about alerts, frames and the session.

    Parameters
    ----------
    window : QWidget
        Forms and menus stand before it.
    scene : callable
        What is shown now.
    alert : callable
        The alert selected in the list, as far as that can be seen; None for none.
    settings : QSettings, optional
        Where the name of the person is remembered.
    """

    title: ClassVar[str] = "Control"
    actions_by_key: ClassVar[tuple[Action, ...]] = (
        Action("A", "acknowledge", "acknowledge the selected alert, else the worst", changes=True),
        Action("Shift+A", "acknowledge_all", "acknowledge all alerts", changes=True),
        Action("H", "shelve", "keep the selected or worst alert quiet for a while", changes=True),
        Action("R", "recollect", "take the selected frame again, or withdraw that", changes=True),
        Action("G", "call_sharp", "judge the selected frame: good, sharp", changes=True),
        Action("B", "call_blurred", "judge the selected frame: blurred", changes=True),
        Action("M", "note", "note about the selected frame, else the session", changes=True),
        Action("Shift+R", "set_reference", "make the newest frame the reference", changes=True),
        Action("Ctrl+S", "save_session", "write the files of the session now"),
        Action("Ctrl+R", "show_report", "where the session is, and a report on it"),
        Action("Ctrl+U", "introduce", "who you are: goes with all you do here"),
    )
    asked = QtCore.Signal(str, object)
    """A command for the streamer and its arguments, a mapping."""
    told = QtCore.Signal(str)
    """Words for the person, such as why nothing is done."""

    def __init__(self, window: QtWidgets.QWidget, scene: Callable[[], Scene], alert: Callable[[], Alert | None],
                 settings: QtCore.QSettings | None = None) -> None:
        super().__init__(window)
        self._window, self._scene, self._alert, self._settings = window, scene, alert, settings
        self.forms = Forms(window)
        self.menu: QtWidgets.QMenu | None = None
        self.report: Told | None = None
        self.reporter = Reporter(self)
        self.reporter.told.connect(self.told.emit)
        self._who = str(settings.value("who") or "") if settings is not None else ""

    @property
    def who(self) -> str:
        """Name of the person."""
        return self._who or _login()

    def do(self, name: str) -> None:
        """Do something by the name of its method, unless nothing can be changed now."""
        action = next((one for one in self.actions_by_key if one.method == name), None)
        locked = self._scene().locked
        if locked and (action is None or action.changes):
            self.told.emit(locked)
        else:
            getattr(self, name)()

    def acknowledge(self) -> None:
        """Say that somebody has seen an alert."""
        alert = self._meant()
        if alert is not None:
            self.asked.emit("acknowledge", {"alert": alert.id, "who": self.who, "note": ""})

    def acknowledge_with_note(self) -> None:
        """Say that somebody has seen an alert, and what it was."""
        alert = self._meant()
        if alert is not None:
            self._form("Acknowledge", f"Alert {alert.id}, {severity_words(alert)}: {alert.text}",
                       (Line("note", "Note", hint="what it was, what was done"),), "Acknowledge",
                       lambda texts: self.asked.emit("acknowledge", {"alert": alert.id} | texts))

    def acknowledge_all(self) -> None:
        """Say that somebody has seen all alerts."""
        count = len(self._scene().store.waiting_alerts())
        if not count:
            self.told.emit("no alert waits to be acknowledged")
            return
        self._form("Acknowledge all", f"{count} alert{'s' if count > 1 else ''}, shelved ones among them, and what "
                   "comes until you press Enter.", (Line("note", "Note", hint="what it was, what was done"),),
                   "Acknowledge all", lambda texts: self.asked.emit("acknowledge", {"alert": "all"} | texts))

    def shelve(self) -> None:
        """Choose for how long an alert is kept quiet."""
        alert = self._meant()
        if alert is None:
            return
        entries = [Entry(f"Alert {alert.id}, {severity_words(alert)}"),
                   *(Entry(f"quiet for &{minutes} min", functools.partial(self.shelve_for, alert, minutes))
                     for minutes in MINUTES)]
        if is_shelved(alert):
            entries.append(Entry("off the &shelf", functools.partial(self.shelve_for, alert, 0)))
        self.menu = pop_up(self._window, entries, _place(self._window))

    def shelve_for(self, alert: Alert, minutes: int) -> None:
        """Keep an alert quiet; no minutes take it off the shelf."""
        self.asked.emit("shelve", {"alert": alert.id, "minutes": minutes, "who": self.who, "note": ""})

    def recollect(self) -> None:
        """Ask to take the selected frame again, or withdraw what was asked."""
        row = self._frame()
        if row is None:
            return
        request = _request(self._scene(), Key(row.acquisition, row.index))
        if request is not None:
            self.withdraw(request)
            return
        self._form("Take again", f"{_frame_words(row)}. The beamline is asked to take it again.",
                   (Line("reason", "Why", hint="such as: blurred, a crack in view"),
                    Line("priority", "Priority", PRIORITIES[2], choices=tuple(PRIORITIES.values()))), "Ask for it",
                   lambda texts: self.asked.emit("recollect", _about(row) | texts | {"priority": int(
                       texts["priority"][0])}))

    def withdraw(self, request: Recollection) -> None:
        """Take back that a frame is to be taken again."""
        self._form("Withdraw", f"Frame {request.index} is asked for again: {request.reason} (tries {request.tries} of "
                   f"{request.limit}). Take the request back?", (Line("why", "Why"),), "Withdraw",
                   lambda texts: self.asked.emit("withdraw", {"recollection": request.id} | texts))

    def call_sharp(self) -> None:
        """Override the verdict of the selected frame: sharp."""
        self._override("sharp")

    def call_blurred(self) -> None:
        """Override the verdict of the selected frame: blurred."""
        self._override("blurred")

    def note(self) -> None:
        """Write something down about the selected frame, or about the session."""
        key = self._scene().selected
        row = self._scene().store.row(key) if key is not None else None
        about = "About the session." if row is None else f"About {_frame_words(row, begin=False)}."
        self._form("Note", f"{about} It goes into the journal.", (Line("text", "Note", needed=True),), "Write down",
                   lambda texts: self.asked.emit("note", texts | (_about(row) if row is not None else {})))

    def set_reference(self) -> None:
        """Make the newest frame of a view the origin of drift and flow."""
        scene = self._scene()
        views = tuple(scene.store.views)
        if not views:
            self.told.emit("no view is known yet: there is no frame that could be a reference")
            return
        row = scene.store.row(scene.selected or scene.newest)
        view = scene.view or (row.view if row is not None else views[-1])
        self._form("Set the reference", "The newest frame of this view that is neither blurred nor bad becomes the "
                   "origin of drift and displacements, from the next frame on.",
                   (Line("view", "View", view, choices=views),), "Set",
                   lambda texts: self.asked.emit("reference", texts))

    def save_session(self) -> None:
        """Have the files of the session written."""
        self.told.emit("the files of the session are being written ...")
        self.asked.emit("snapshot", {})

    def show_report(self) -> None:
        """Say where the session is and which command reports on it; offer to do so where it can be read from here."""
        status = self._scene().status
        if status is None or not status.session_dir:
            self.told.emit("where the session is becomes known with the first status of the streamer")
            return
        folder = status.session_dir
        if self.report is not None:
            self.report.close()
        self.report = report = Told(
            self._window, "Report", f"The session is in {folder} on the machine of the streamer; Ctrl+S brings its "
            "files up to date. This command, given there, writes a report:",
            f"txm-streamer report {shlex.quote(folder)} --out {shlex.quote(folder.rstrip('/') + '/report.html')}",
            verb="Write it now" if self.reporter.can_read(folder) else "")
        report.confirmed.connect(lambda: self.reporter.write(folder))
        report.destroyed.connect(lambda: self._forget(report))
        report.show()

    def introduce(self) -> None:
        """Ask who sits here."""
        self._form("Who you are", "Your name goes with what you acknowledge, judge and note here, and is remembered.",
                   (), "Remember", lambda _: self.told.emit(f"you are {self.who}"))

    def _forget(self, report: Told) -> None:
        if self.report is report:
            self.report = None

    def _override(self, verdict: str) -> None:
        row = self._frame()
        if row is None:
            return
        if row.kind != "projection" or row.verdict is None:
            self.told.emit(f"frame {row.index} has no verdict: {row.problems or f'it is a {row.kind}'}")
            return
        what = "Confirm that it is" if verdict == row.verdict else "It becomes"
        self._form(f"Judge: {verdict}", f"{_frame_words(row)}. {what} {verdict}, whatever is measured later.",
                   (Line("why", "Why", hint="what you see in the picture"),), f"Call it {verdict}",
                   lambda texts: self.asked.emit("override", _about(row) | {"verdict": verdict} | texts))

    def _meant(self) -> Alert | None:
        """Return the alert selected in the list, else the worst; say so if there is none."""
        alert = self._alert()
        if alert is not None and not is_waiting(alert):
            self.told.emit(f"alert {alert.id} needs nobody: it is {state_words(alert)}")
            return None
        alert = alert or self._scene().store.worst_alert()
        if alert is None:
            self.told.emit("no alert waits to be acknowledged")
        return alert

    def _frame(self) -> FrameRow | None:
        """Return the row of the selected frame; say what to do if there is none."""
        key = self._scene().selected
        row = self._scene().store.row(key) if key is not None else None
        if row is None:
            self.told.emit(SELECT_FIRST)
        return row

    def _form(self, title: str, about: str, lines: tuple[Line, ...], button: str,
              filled: Callable[[dict[str, str]], None]) -> None:
        """Ask for some lines and for the name of the person."""
        def done(texts: dict[str, str]) -> None:
            self._remember(texts["who"])
            filled({**texts, "who": self.who})

        if not self.forms.open(title, about, (*lines, Line("who", "Your name", self.who)), button, done):
            self.told.emit("another form is half filled in: send it, or close it with Esc, first")

    def _remember(self, who: str) -> None:
        self._who = who
        if self._settings is not None:
            self._settings.setValue("who", who)


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):   # a container may know no names
        return "somebody"


def _about(row: FrameRow) -> dict[str, object]:
    return {"index": row.index, "acquisition": row.acquisition}


def _frame_words(row: FrameRow, *, begin: bool = True) -> str:
    name = f"{'Frame' if begin else 'frame'} {row.index}"
    where = ", ".join(word for word in (row.acquisition, f"view {row.view}" if row.view else "") if word)
    return f"{name} ({where}), {verdict_word(row)}" if where else f"{name}, {verdict_word(row)}"


def _request(scene: Scene, key: Key) -> Recollection | None:
    """Return the open request for a frame."""
    return next((request for request in scene.store.recollections()
                 if request.state == "open" and Key(request.acquisition, request.index) == key), None)


def _place(window: QtWidgets.QWidget) -> QtCore.QPoint:
    """Return the place of the mouse, or the middle of the window if it is elsewhere."""
    mouse = QtGui.QCursor.pos()
    return mouse if window.geometry().contains(mouse) else window.geometry().center()
