"""Small parts that panels share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyqtgraph as pg
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from monitor.theme import Theme

BAR_PX = 10
STEPS = 64


class Empty(QtWidgets.QLabel):
    """Words in the middle of a chart that has nothing to show: why, and what to do."""

    def __init__(self, over: QtWidgets.QWidget) -> None:
        super().__init__(over)
        self.setAlignment(QtCore.Qt.AlignmentFlag.AlignCenter)
        self.setWordWrap(True)
        self.setObjectName("caption")
        self.setAttribute(QtCore.Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.hide()
        over.installEventFilter(self)

    def say(self, reason: str) -> None:
        """Show a reason, or nothing for an empty text."""
        if self.text() != reason:
            self.setText(reason)
        self.setVisible(bool(reason))

    def eventFilter(self, over: Any, event: Any) -> bool:
        """Stay as large as the chart."""
        if event.type() in (QtCore.QEvent.Type.Resize, QtCore.QEvent.Type.Show):
            self.setGeometry(over.rect().adjusted(12, 4, -12, -4))
        return False


class Choice(QtWidgets.QComboBox):
    """A small list to choose from, in the head of a panel."""

    def __init__(self, words: Sequence[str], tip: str) -> None:
        super().__init__()
        self.addItems(list(words))
        self.setToolTip(tip)
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)   # keys belong to the window
        self.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToContents)

    def next(self) -> None:
        """Choose the next one, after the last the first."""
        self.setCurrentIndex((self.currentIndex() + 1) % self.count())


class ColourBar(QtWidgets.QWidget):
    """An upright bar of colours with its limits."""

    def __init__(self) -> None:
        super().__init__()
        self.colours: list[QtGui.QColor] = []
        """From low to high."""
        self.labels = ("", "", "")
        """Low, middle, high."""
        self._theme: Theme | None = None

    def restyle(self, theme: Theme) -> None:
        """Take the sizes of the theme."""
        self._theme = theme
        self.setFont(theme.font(9.0))
        self.setFixedWidth(round(theme.px(BAR_PX + 6)) + self.fontMetrics().horizontalAdvance("+0.00e-00"))

    def show_scale(self, colours: list[QtGui.QColor], labels: tuple[str, str, str]) -> None:
        """Show other colours and limits."""
        if (colours, labels) != (self.colours, self.labels):
            self.colours, self.labels = colours, labels
            self.update()

    def paintEvent(self, event: Any) -> None:
        """Draw the bar and its labels."""
        if self._theme is None or not self.colours:
            return
        painter, theme = QtGui.QPainter(self), self._theme
        line = self.fontMetrics().height()
        width, top, bottom = round(theme.px(BAR_PX)), line // 2, self.height() - line // 2
        for place, colour in enumerate(self.colours):
            here, there = (round(bottom - (bottom - top) * step / len(self.colours)) for step in (place, place + 1))
            painter.fillRect(QtCore.QRect(0, there, width, max(here - there, 1)), colour)
        painter.setPen(QtGui.QColor(theme.text))
        for share, label in zip((1.0, 0.5, 0.0), self.labels, strict=True):
            middle = round(top + (bottom - top) * share)
            painter.drawText(width + 5, middle + self.fontMetrics().ascent() // 2, label)


def bar_colours(name: str) -> list[QtGui.QColor]:
    """Return the colours of a map from low to high."""
    return list(pg.colormap.get(name).map([step / (STEPS - 1) for step in range(STEPS)], mode="qcolor"))
