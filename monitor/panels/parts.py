"""Small parts that panels share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets


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


class Combo(QtWidgets.QComboBox):
    """A list that drops down, with an arrow as large as its letters: that of the style stays tiny on large screens."""

    def paintEvent(self, event: Any) -> None:
        """Draw the list, then the arrow at its right."""
        super().paintEvent(event)
        size, room = 0.34 * self.fontMetrics().ascent(), self.rect()
        x, y = room.right() - 2.4 * size, room.center().y() + 0.5
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        painter.setPen(QtCore.Qt.PenStyle.NoPen)
        painter.setBrush(self.palette().color(self.foregroundRole()))
        painter.drawPolygon(QtGui.QPolygonF([
            QtCore.QPointF(x - size, y - 0.5 * size), QtCore.QPointF(x + size, y - 0.5 * size),
            QtCore.QPointF(x, y + 0.6 * size)]))


class Choice(Combo):
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


class Entry(NamedTuple):
    """One line of a menu that pops up."""

    text: str
    call: Callable[[], object] | None = None
    """None: a heading."""
    why_not: str = ""
    """Greys it, and is its tooltip."""


def pop_up(parent: QtWidgets.QWidget, entries: Iterable[Entry], place: QtCore.QPoint) -> QtWidgets.QMenu:
    """Show a menu at a place on the screen; everything goes on meanwhile."""
    menu = QtWidgets.QMenu(parent)
    menu.setToolTipsVisible(True)
    for text, call, why_not in entries:
        line = menu.addAction(text)
        line.setEnabled(call is not None and not why_not)
        line.setToolTip(why_not)
        if call is not None:
            line.triggered.connect(lambda *_, call=call: call())
    menu.aboutToHide.connect(menu.deleteLater)
    menu.popup(place)
    return menu


FRAME_ACTIONS = (("recollect", "Take its frame again, or not ...\tR"), ("call_sharp", "Its frame is sharp ...\tG"),
                 ("call_blurred", "Its frame is blurred ...\tB"), ("note", "Note ...\tM"))
"""Methods of `Control` about the selected frame, and how menus name them."""
