"""A sound, and a notice on the desktop, for alerts that should not wait until somebody looks; off until switched on."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from pyqtgraph.Qt import QtCore, QtWidgets

from monitor.alert_words import frames_words, severity_words
from monitor.panels.base import Action, Scene
from monitor.store import SEVERITIES, is_shelved
from streamer.records import Alert

GRAVE = SEVERITIES[SEVERITIES.index("MAJOR"):]


class Bell(QtCore.QObject):
    """Rings once for each alert that is grave, or becomes so, while somebody could listen.

    Parameters
    ----------
    window : QWidget
    scene : callable
        What is shown now.
    settings : QSettings, optional
        Where it is remembered whether it rings.
    """

    title: ClassVar[str] = "Control"
    actions_by_key: ClassVar[tuple[Action, ...]] = (
        Action("Shift+B", "toggle", "sound and notice for new MAJOR alerts, or not"),)
    told = QtCore.Signal(str)

    def __init__(self, window: QtWidgets.QWidget, scene: Callable[[], Scene],
                 settings: QtCore.QSettings | None = None) -> None:
        super().__init__(window)
        self._window, self._scene, self._settings = window, scene, settings
        self.on = settings is not None and bool(settings.value("bell", False, type=bool))
        self._heard: set[int] = set()
        self._known: tuple[object, ...] = ()
        self._tray: QtWidgets.QSystemTrayIcon | None = None

    def toggle(self) -> None:
        """Switch on or off, and let it be heard."""
        self.on = not self.on
        if self._settings is not None:
            self._settings.setValue("bell", self.on)
        if self.on:
            QtWidgets.QApplication.beep()
        desktop = "" if QtWidgets.QSystemTrayIcon.isSystemTrayAvailable() else " (this desktop shows no notices)"
        self.told.emit(f"new MAJOR alerts sound from now on{desktop}" if self.on else "alerts are silent from now on")

    def listen(self) -> None:
        """Look for alerts that nobody was told of; those of before this dashboard came are no news."""
        scene = self._scene()
        store = scene.store
        known = (store.session, store.alert_version, scene.link.has_history)
        if known == self._known:
            return
        if known[:1] != self._known[:1]:
            self._heard = set()
        was_complete = bool(self._known) and self._known[0] == store.session and bool(self._known[2])
        self._known = known
        grave = [alert for alert in store.waiting_alerts() if alert.severity in GRAVE and not is_shelved(alert)]
        new = [alert for alert in grave if alert.id not in self._heard]
        self._heard.update(alert.id for alert in new)
        if new and was_complete and self.on:
            self._ring(new)

    def _ring(self, new: list[Alert]) -> None:
        QtWidgets.QApplication.beep()
        if not QtWidgets.QSystemTrayIcon.isSystemTrayAvailable():
            return
        if self._tray is None:
            icon = self._window.style().standardIcon(QtWidgets.QStyle.StandardPixmap.SP_MessageBoxWarning)
            self._tray = QtWidgets.QSystemTrayIcon(icon, self._window)
            self._tray.messageClicked.connect(self._window.activateWindow)
        self._tray.show()
        worst = max(new, key=lambda alert: (SEVERITIES.index(alert.severity), alert.id))
        more = f" and {len(new) - 1} more" if len(new) > 1 else ""
        self._tray.showMessage(f"{severity_words(worst)}, frame {frames_words(worst)}{more}", worst.text)
