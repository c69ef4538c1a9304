"""Small forms that are filled in while everything behind them goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from monitor.panels.parts import Combo

WIDTH_PX = 460
HINT_ALPHA = 190
_WIDEST_PX = 900
_LONGEST = 2000
"""Characters of a line."""


class Line(NamedTuple):
    """One line of a form: a text, or one of a few."""

    name: str
    label: str
    value: str = ""
    hint: str = ""
    choices: tuple[str, ...] = ()
    needed: bool = False
    """Whether the form cannot be sent without it."""


class Form(QtWidgets.QDialog):
    """Lines to fill in; Enter does what the button says, Esc leaves everything as it was.

    Parameters
    ----------
    parent : QWidget
        Stays usable meanwhile.
    title : str
        What is going to be done.
    about : str
        To what, and what follows.
    lines : sequence of Line
    button : str
        The verb.
    """

    filled = QtCore.Signal(object)
    """Texts by name, stripped."""

    def __init__(self, parent: QtWidgets.QWidget, title: str, about: str, lines: Sequence[Line], button: str) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setModal(False)
        self.setAttribute(QtCore.Qt.WidgetAttribute.WA_DeleteOnClose)
        self._needed = [line.name for line in lines if line.needed]
        self.fields: dict[str, QtWidgets.QLineEdit | QtWidgets.QComboBox] = {}
        head = QtWidgets.QLabel(about)
        head.setWordWrap(True)
        head.setMinimumWidth(WIDTH_PX)
        body = QtWidgets.QVBoxLayout(self)
        body.addWidget(head)
        grid = QtWidgets.QFormLayout()
        for line in lines:
            self.fields[line.name] = field = _field(line)
            grid.addRow(line.label, field)
        body.addLayout(grid)
        self.send = QtWidgets.QPushButton(button)
        self.send.setDefault(True)
        self.send.clicked.connect(self.accept)
        cancel = QtWidgets.QPushButton("Cancel")
        cancel.setAutoDefault(False)
        cancel.clicked.connect(self.reject)
        row = QtWidgets.QHBoxLayout()
        row.addStretch(1)
        row.addWidget(cancel)
        row.addWidget(self.send)
        body.addLayout(row)
        self._began = self.texts()
        for field in self.fields.values():
            (field.textChanged if isinstance(field, QtWidgets.QLineEdit) else field.currentIndexChanged).connect(
                self._check)
        self._check()

    @property
    def touched(self) -> bool:
        """Whether somebody has written something."""
        return self.texts() != self._began

    def texts(self) -> dict[str, str]:
        """Return what is written, by name."""
        return {name: (field.text() if isinstance(field, QtWidgets.QLineEdit) else field.currentText()).strip()
                for name, field in self.fields.items()}

    def accept(self) -> None:
        """Hand over what is written."""
        if not self.send.isEnabled():
            return
        self.filled.emit(self.texts())
        super().accept()

    def _check(self) -> None:
        texts = self.texts()
        self.send.setEnabled(all(texts[name] for name in self._needed))


class Forms:
    """At most one form at a time; what somebody has begun to write is not thrown away.

    Parameters
    ----------
    parent : QWidget
        They stand before it.
    """

    def __init__(self, parent: QtWidgets.QWidget) -> None:
        self._parent = parent
        self.form: Form | None = None

    def open(self, title: str, about: str, lines: Sequence[Line], button: str,
             filled: Callable[[dict[str, str]], None]) -> bool:
        """Show a form; False, and the one begun comes to the front, if another one is half written."""
        if self.form is not None:
            if self.form.touched:
                self.form.raise_()
                self.form.activateWindow()
                return False
            self.form.close()
        self.form = form = Form(self._parent, title, about, lines, button)
        form.filled.connect(filled)
        form.finished.connect(lambda _: self._gone(form))
        form.show()
        form.activateWindow()
        empty = next((field for field in form.fields.values()
                      if isinstance(field, QtWidgets.QLineEdit) and not field.text()), None)
        (empty or form.send).setFocus()
        return True

    def _gone(self, form: Form) -> None:
        if self.form is form:
            self.form = None
            self._parent.activateWindow()   # keys belong to it again


class Told(QtWidgets.QDialog):
    """Something to read, and a text to be copied.

    Parameters
    ----------
    parent : QWidget
    title, about : str
    text : str
        Goes to the clipboard at a click.
    verb : str
        Of the button that does it at once; empty for none.
    """

    confirmed = QtCore.Signal()
    """It is to be done at once."""

    def __init__(self, parent: QtWidgets.QWidget, title: str, about: str, text: str, *, verb: str = "") -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setAttribute(QtCore.Qt.WidgetAttribute.WA_DeleteOnClose)
        words = QtWidgets.QLabel(about)
        words.setWordWrap(True)
        words.setMinimumWidth(WIDTH_PX)
        words.setTextInteractionFlags(QtCore.Qt.TextInteractionFlag.TextSelectableByMouse)
        self.line = QtWidgets.QLineEdit(text)
        self.line.setReadOnly(True)
        self.line.setCursorPosition(0)
        self.line.setMinimumWidth(min(self.fontMetrics().horizontalAdvance(text) + 24, _WIDEST_PX))
        copy, close = QtWidgets.QPushButton("Copy"), QtWidgets.QPushButton("Close")
        copy.clicked.connect(lambda: QtWidgets.QApplication.clipboard().setText(text))
        copy.setAutoDefault(False)
        close.clicked.connect(self.close)
        self.do = QtWidgets.QPushButton(verb)
        self.do.clicked.connect(self.confirmed.emit)
        self.do.clicked.connect(self.close)
        (self.do if verb else close).setDefault(True)
        body, row = QtWidgets.QVBoxLayout(self), QtWidgets.QHBoxLayout()
        row.addStretch(1)
        for button in (copy, close, self.do):
            row.addWidget(button)
        body.addWidget(words)
        body.addWidget(self.line)
        body.addLayout(row)
        self.do.setVisible(bool(verb))
        self.copy = copy


class _Field(QtWidgets.QLineEdit):
    """A line to write in, whose hint can be read: Qt draws it in half of the colour of the text."""

    def showEvent(self, event: Any) -> None:
        """Take the colour for the hint; what was said before the style was known would be forgotten."""
        super().showEvent(event)
        palette = self.palette()
        faint = palette.color(QtGui.QPalette.ColorRole.Text)
        faint.setAlpha(HINT_ALPHA)
        palette.setColor(QtGui.QPalette.ColorRole.PlaceholderText, faint)
        self.setPalette(palette)


def _field(line: Line) -> QtWidgets.QLineEdit | QtWidgets.QComboBox:
    if line.choices:
        box = Combo()
        box.addItems(list(line.choices))
        box.setCurrentText(line.value)
        return box
    field = _Field(line.value)
    field.setMaxLength(_LONGEST)
    field.setPlaceholderText(line.hint)
    return field
