"""Small parts that panels share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyqtgraph.Qt import QtCore, QtWidgets


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
