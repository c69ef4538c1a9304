"""When things are drawn anew: never too often, one thing in a turn of the loop, and at most half of the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pyqtgraph.Qt import QtCore

Steps = Sequence[Callable[[], None]]


class Pacer(QtCore.QObject):
    """Do something soon, but not more often than every `interval_ms`, and then rest for as long as it took.

    Each step has a turn of the loop for itself and for the painting that follows from it, so that a key, or a picture,
    waits for one step and not for all.

    Parameters
    ----------
    interval_ms : int
        Shortest time from one beginning to the next.
    steps : callable
        Returns what is to be done, one after the other.
    yields_to : Pacer, optional
        While that one is due, no step is begun.
    """

    def __init__(self, interval_ms: int, steps: Callable[[], Steps], parent: QtCore.QObject, *,
                 yields_to: Pacer | None = None) -> None:
        super().__init__(parent)
        self._timer = QtCore.QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._turn)
        self._interval_ms, self._steps, self._yields_to = interval_ms, steps, yields_to
        self._left: list[Callable[[], None]] = []
        self._is_running, self._is_wanted, self._is_hurried = False, False, False
        self._clock, self._step_clock = QtCore.QElapsedTimer(), QtCore.QElapsedTimer()
        self._busy_ms = 0.0
        self._rest_until_ms = 0.0
        """By `_clock`, which starts with the first step."""

    @property
    def is_due(self) -> bool:
        """Whether the next turn of the loop is for this."""
        return bool(self._timer.isActive()) and self._timer.remainingTime() <= 0

    def request(self, after_ms: int = 0) -> None:
        """Ask for it, within `after_ms` unless it was done just now; requests before it happens are one."""
        if self._is_running:
            self._is_wanted = True
            return
        since = self._clock.elapsed() if self._clock.isValid() else self._rest_until_ms
        wait = max(after_ms, round(self._rest_until_ms - since), 0)
        if not self._timer.isActive() or wait < self._timer.remainingTime():
            self._timer.start(wait)

    def hurry(self) -> None:
        """Ask for it without any rest before: somebody waits."""
        if self._is_running:
            self._is_wanted = self._is_hurried = True
        else:
            self._timer.start(0)

    def stop(self) -> None:
        """Forget what was asked for."""
        self._timer.stop()
        self._left, self._is_running, self._is_wanted, self._is_hurried = [], False, False, False

    def _turn(self) -> None:
        if not self._is_running:
            self._begin()
        elif self._step_clock.isValid():
            self._busy_ms += self._step_clock.nsecsElapsed() / 1e6
            self._step_clock.invalidate()
        if not self._left:
            self._end()
            return
        if self._yields_to is None or not self._yields_to.is_due:
            self._step_clock.start()
            self._left.pop(0)()
        if self._is_running:   # nobody stopped it meanwhile
            self._timer.start(0)   # what is to be painted now is painted before

    def _begin(self) -> None:
        self._left, self._is_running = list(self._steps()), True
        self._is_wanted = self._is_hurried = False
        self._clock.start()
        self._busy_ms = 0.0

    def _end(self) -> None:
        self._is_running = False
        self._rest_until_ms = max(float(self._interval_ms), self._clock.elapsed() + self._busy_ms)
        if self._is_hurried:
            self.hurry()
        elif self._is_wanted:
            self.request()
