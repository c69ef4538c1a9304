"""The bar beside a picture that says which colour stands for which value."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from monitor.theme import DARK, Theme

TICKS = 5
_BAR_PX = 14.0
_WIDTH_PX = 62.0


@functools.cache
def table(name: str) -> NDArray[np.uint8]:
    """Return the 256 colours of a map, (256, 3); pyqtgraph is slow with any other number of them."""
    if name == "grey":
        return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    colours: NDArray[np.uint8] = pg.colormap.get(name).getLookupTable(nPts=256)[:, :3].astype(np.uint8)
    return colours


class ColourBar(QtWidgets.QWidget):
    """An upright ramp with figures; with a second figure below each where there are two units."""

    def __init__(self) -> None:
        super().__init__()
        self.theme = DARK
        self.texts: list[str] = []
        """From the bottom to the top."""
        self.title = ""
        self._ramp: QtGui.QImage | None = None
        self._colours = ""

    def restyle(self, theme: Theme) -> None:
        """Take other colours and another scale."""
        self.theme = theme
        self.setFixedWidth(round(theme.px(_WIDTH_PX)))
        self.update()

    def show_range(self, colours: str, low: float, high: float, *, unit: str = "",
                   nm_per_unit: float | None = None) -> None:
        """Explain a colour map between two values."""
        steps = np.linspace(low, high, TICKS)
        texts = [figure(step, high - low) for step in steps]
        title = unit
        if nm_per_unit:
            scale, name = (1.0, "nm") if max(abs(low), abs(high)) * nm_per_unit < 1000 else (1e-3, "µm")
            texts = [f"{text}\n{figure(step * nm_per_unit * scale, (high - low) * nm_per_unit * scale)}"
                     for text, step in zip(texts, steps, strict=True)]
            title = f"{unit}\n{name}"
        if (texts, title, colours) == (self.texts, self.title, self._colours):
            return
        self.texts, self.title = texts, title
        if colours != self._colours:
            self._colours = colours
            ramp = np.ascontiguousarray(table(colours)[::-1].reshape(256, 1, 3))
            self._ramp = QtGui.QImage(ramp.tobytes(), 1, 256, 3, QtGui.QImage.Format.Format_RGB888).copy()
        self.update()

    def paintEvent(self, event: Any) -> None:
        """Draw title, ramp and figures."""
        del event
        if self._ramp is None or not self.texts:
            return
        painter = QtGui.QPainter(self)
        font = self.theme.font(9.0)
        painter.setFont(font)
        painter.setPen(QtGui.QColor(self.theme.text))
        line, gap = QtGui.QFontMetrics(font).height(), self.theme.px(4)
        top = gap
        if self.title:
            height = line * (self.title.count("\n") + 1)
            painter.drawText(QtCore.QRectF(gap, 0, self.width() - gap, height),
                             int(QtCore.Qt.AlignmentFlag.AlignLeft), self.title)
            top += height
        tall = line * (self.texts[0].count("\n") + 1)
        ramp = QtCore.QRectF(gap, top + tall / 2, self.theme.px(_BAR_PX), self.height() - top - tall - gap)
        if ramp.height() < 2 * tall:   # no room for a bar: the two ends in words
            return
        painter.drawImage(ramp, self._ramp)
        painter.drawRect(ramp)
        count = len(self.texts) if ramp.height() > 1.2 * tall * len(self.texts) else 2
        for number in range(count):
            share = number / (count - 1)
            y = ramp.bottom() - share * ramp.height()
            text = self.texts[round(share * (len(self.texts) - 1))]
            painter.drawText(QtCore.QRectF(ramp.right() + gap, y - tall / 2, self.width(), tall),
                             int(QtCore.Qt.AlignmentFlag.AlignLeft | QtCore.Qt.AlignmentFlag.AlignVCenter), text)


def figure(number: float, span: float) -> str:
    """Write a number with as many digits as tell the ticks of a range apart.

    >>> figure(0.5, 2.0), figure(1234.4, 5000.0), figure(-0.0, 1.0)
    ('0.50', '1234', '0.00')
    """
    digits = min(6, max(0, 2 - int(np.floor(np.log10(span))))) if span > 0 and np.isfinite(span) else 3
    if abs(number) >= 1e5 or digits == 6:
        return f"{number:.2e}"
    text = f"{number:.{digits}f}"
    return text.lstrip("-") if not text.strip("-0.") else text
