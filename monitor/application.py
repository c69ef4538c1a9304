"""The running dashboard: Qt, the feed, the window, and what ends them."""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import pyqtgraph as pg
from pyqtgraph.Qt import QtCore

from monitor import snapshot
from monitor.commander import Commander
from monitor.feed import Feed
from monitor.store import Store
from monitor.theme import THEMES, screen_scale
from monitor.window import Window
from streamer.errors import TxmError

Layout = Literal["remembered", "reset", "default"]

TIDY_MS = 60_000
"""Time between two calls of `give_memory_back`, which takes 2 to 4 ms."""

_log = logging.getLogger(__name__)
_qt_log = logging.getLogger("monitor.qt")


class Child(Protocol):
    """Processes that the dashboard depends on."""

    def failure(self) -> str | None:
        """Say what went wrong, None while all is well."""


class Stop(Protocol):
    """A request from outside to end."""

    requested: bool


class Application:
    """One dashboard on one streamer.

    Parameters
    ----------
    endpoint : str
        Results endpoint of the streamer.
    child : Child, optional
        Ends the dashboard when it fails before anything was shown.
    theme : str
        Name of the colours.
    size_px : (int, int), optional
        Size of the window; that of the screen by default.
    read_only : bool
        Ask the streamer for nothing that changes something.
    layout : {"remembered", "reset", "default"}
        Where panels are: as they were left, as they belong from now on, or as they belong this once, for pictures.

    Raises
    ------
    LinkError
        If the endpoint is not an address.
    """

    def __init__(self, endpoint: str, *, child: Child | None, theme: str, size_px: tuple[int, int] | None,
                 stop: Stop, read_only: bool = False, layout: Layout = "default") -> None:
        QtCore.qInstallMessageHandler(_log_qt)
        self._app = pg.mkQApp("txm-monitor")
        self._child, self._stop = child, stop
        self._failure: str | None = None
        self.store = Store()
        self.feed = Feed(self.store, endpoint)
        room = self._app.primaryScreen().availableGeometry()
        width_px, height_px = size_px or (min(1920, room.width()), min(1080, room.height()))
        scale = screen_scale(height_px if size_px is not None else room.height())
        commander = Commander(endpoint, self.feed.control, read_only=read_only)
        self.window = Window(self.feed, theme=replace(THEMES[theme], scale=scale), commander=commander,
                             settings=_settings(layout))
        if layout != "remembered" or self.window.is_new:
            self.window.resize(width_px, height_px)
        self._watch = QtCore.QTimer()   # also lets Python see signals, which Qt's loop would hold back
        self._watch.timeout.connect(self._look)
        self._tidy = QtCore.QTimer()
        self._tidy.timeout.connect(give_memory_back)
        sys.excepthook = self._caught

    def __enter__(self) -> Self:
        self.feed.start()
        self.window.commander.start()
        self.window.show()
        self._watch.start(100)
        self._tidy.start(TIDY_MS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.stop()
        self._tidy.stop()
        self.window.close()
        self.window.commander.stop()
        self.feed.stop()
        sys.excepthook = sys.__excepthook__

    def run(self) -> int:
        """Show the window until it is closed; return the exit status."""
        self._app.exec()
        if self._failure is not None:
            raise TxmError(self._failure)
        return 0

    def photograph(self, path: Path, *, frames: int | None, limit_s: float) -> str:
        """Wait until the picture is due, write it, and say what it shows.

        Raises
        ------
        TxmError
            If nothing came that could be shown.
        """
        patience = snapshot.Patience(
            frames=frames, limit_s=limit_s, renews=frames is not None or self._child is not None)
        answer = snapshot.Answer.WAIT

        def is_due() -> bool:
            nonlocal answer
            answer = patience.judge(self.store, self.feed.link())
            return answer is not snapshot.Answer.WAIT

        self._until(is_due)
        if self._failure is not None:
            raise TxmError(self._failure)
        if self._stop.requested:
            raise TxmError(f"interrupted; {path} was not written")
        if answer is snapshot.Answer.GAVE_UP:
            raise TxmError(f"{patience.reason}; {path} was not written")
        snapshot.save(self.window, path)
        return f"{path} written: {patience.reason}"

    def _until(self, condition: Callable[[], bool]) -> None:
        """Run the event loop until the condition holds or something ends it."""
        timer = QtCore.QTimer()
        timer.timeout.connect(lambda: self._app.quit() if condition() else None)
        timer.start(50)
        self._app.exec()
        timer.stop()

    def _look(self) -> None:
        if self._stop.requested:
            self._app.quit()
        failure = self._child.failure() if self._child is not None else None
        if failure is not None and self._failure is None:
            self._failure = failure
            self.window.say(failure)
            if len(self.store) == 0:
                self._app.quit()

    def _caught(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Keep the window alive when something in it fails; PyQt would abort the process."""
        if threading.current_thread() is not threading.main_thread() or issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        where = trace
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        place = f" at {Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}" if where is not None else ""
        text = f"internal error in the display: {kind.__name__}: {error}{place}"
        _log.error("%s", text)
        _log.debug("trace", exc_info=(kind, error, trace))
        self.window.say(text)


def give_memory_back() -> None:
    """Give back to the system what is free, where the C library can.

    Charts of a long run come and go in ever larger columns; the holes they leave took a tenth of all memory.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _settings(layout: Layout) -> QtCore.QSettings | None:
    """Return where the layout is remembered, emptied if it is to begin anew."""
    if layout == "default":
        return None
    settings = QtCore.QSettings("txm-live", "txm-monitor")
    if layout == "reset":
        settings.remove("layout")
        settings.remove("geometry")
    return settings


def _log_qt(kind: Any, _context: Any, text: str) -> None:
    """Send Qt's own messages to the log; most of them are of no use to a user."""
    serious = kind in (QtCore.QtMsgType.QtCriticalMsg, QtCore.QtMsgType.QtFatalMsg)
    _qt_log.log(logging.ERROR if serious else logging.DEBUG, "%s", text)
