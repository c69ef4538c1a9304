"""Colours, symbols and sizes. Every state has a colour, a shape and a word, so that no one depends on colour.

The colour sets keep a CIEDE2000 distance of at least 13 (dark) and 11 (light) between states for the three kinds of
colour blindness (simulation of Machado et al., IEEE TVCG 15, 1291 (2009), doi:10.1109/TVCG.2009.113).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyqtgraph as pg
from pyqtgraph.Qt import QtGui

SYMBOLS = {"sharp": "o", "blurred": "t1", "undecided": "s", "bad": "d", "refused": "x"}
"""Of pyqtgraph's scatter plots, by verdict; a frame without verdict but with problems was refused."""
GLYPHS = {"sharp": "●", "blurred": "▲", "undecided": "■", "bad": "◆", "refused": "✖"}
SEVERITY_GLYPHS = {"NO_ALARM": "●", "MINOR": "■", "MAJOR": "▲", "INVALID": "◆"}


@dataclass(frozen=True)
class Theme:
    """One set of colours and one scale for everything that is drawn."""

    name: str
    background: str
    surface: str
    border: str
    text: str
    dim: str
    """Secondary text; still at least 4.5:1 on the surface."""
    ok: str
    minor: str
    major: str
    invalid: str
    trend: str
    on_state: str
    """Text on a ground in the colour of a state."""
    series: tuple[str, ...]
    """For views, where several are drawn together."""
    time_map: str
    time_span: tuple[float, float]
    """Part of the map from first to last: its ends hardly differ from dark or bright grounds."""
    scale: float = 1.0
    """Multiplies fonts, pens and symbols; 1 for a screen of 96 dpi."""

    def px(self, size: float) -> float:
        """Scale a size in pixels."""
        return size * self.scale

    def verdict_colour(self, verdict: str) -> str:
        """Return the colour of a verdict, or of ``refused``."""
        return {"sharp": self.ok, "blurred": self.major, "undecided": self.minor, "bad": self.invalid,
                "refused": self.text}.get(verdict, self.dim)

    def severity_colour(self, severity: str) -> str:
        """Return the colour of the severity of an alert."""
        return {"NO_ALARM": self.ok, "MINOR": self.minor, "MAJOR": self.major, "INVALID": self.invalid}[severity]

    def pen(self, colour: str, width: float = 1.0, *, dashed: bool = False) -> QtGui.QPen:
        """Make a pen whose width does not zoom; long curves want a width of 1, wider ones cost ten times as much."""
        style = pg.QtCore.Qt.PenStyle.DashLine if dashed else pg.QtCore.Qt.PenStyle.SolidLine
        return pg.mkPen(colour, width=self.px(width), style=style)

    def brush(self, colour: str, alpha: int = 255) -> QtGui.QBrush:
        """Make a brush, translucent below an alpha of 255."""
        shade = QtGui.QColor(colour)
        shade.setAlpha(alpha)
        return pg.mkBrush(shade)

    def font(self, points: float = 10.0, *, bold: bool = False) -> QtGui.QFont:
        """Make a font of the window's family."""
        font = QtGui.QFont()
        font.setPointSizeF(points * self.scale)
        font.setBold(bold)
        return font

    def time_colours(self, count: int) -> list[QtGui.QColor]:
        """Return colours from first to last."""
        colours = pg.colormap.get(self.time_map).map(np.linspace(*self.time_span, count), mode="qcolor")
        return list(colours)

    def stylesheet(self) -> str:
        """Write the style of all plain widgets."""
        points = 10.0 * self.scale
        return f"""
        QWidget {{ background: {self.background}; color: {self.text}; font-size: {points:.1f}pt; }}
        QFrame#panel, QFrame#banner {{ background: {self.surface}; border: 1px solid {self.border};
                                       border-radius: {self.px(4):.0f}px; }}
        QFrame#panel QLabel, QFrame#banner QLabel, QFrame#banner QWidget {{ background: transparent; border: none; }}
        QLabel#caption {{ color: {self.dim}; }}
        QLabel#title {{ font-weight: bold; }}
        QLabel#number {{ font-size: {points * 1.5:.1f}pt; font-weight: bold; }}
        QTableView {{ background: {self.surface}; gridline-color: {self.border}; border: none;
                      alternate-background-color: {self.background}; }}
        QTableView::item:selected {{ background: {self.border}; color: {self.text}; }}
        QHeaderView::section {{ background: {self.background}; color: {self.dim}; border: none;
                                padding: {self.px(3):.0f}px; }}
        QComboBox {{ background: {self.background}; border: 1px solid {self.border}; padding: {self.px(3):.0f}px; }}
        QComboBox::drop-down {{ border: none; width: {self.px(18):.0f}px; }}
        QComboBox::down-arrow {{ image: none; }}
        QFrame#banner QComboBox {{ background: {self.background}; border: 1px solid {self.border}; }}
        QComboBox QAbstractItemView {{ background: {self.surface}; color: {self.text};
                                       selection-background-color: {self.border}; }}
        QLineEdit {{ background: {self.surface}; border: 1px solid {self.border}; padding: {self.px(3):.0f}px;
                     selection-background-color: {self.ok}; selection-color: {self.on_state}; }}
        QLineEdit:focus {{ border-color: {self.ok}; }}
        QPushButton, QFrame#panel QToolButton#act {{ background: {self.background}; border: 1px solid {self.border};
                      border-radius: {self.px(3):.0f}px; padding: {self.px(2):.0f}px {self.px(8):.0f}px; }}
        QPushButton:default {{ border-color: {self.ok}; }}
        QPushButton:hover, QToolButton#act:hover {{ background: {self.border}; }}
        QPushButton:disabled, QFrame#panel QToolButton#act:disabled {{ color: {self.dim}; background: transparent;
                                                                       border-color: transparent; }}
        QMenu {{ background: {self.surface}; border: 1px solid {self.border}; }}
        QMenu::item:selected {{ background: {self.border}; }}
        QMenu::item:disabled {{ color: {self.dim}; }}
        QMainWindow::separator {{ width: {self.px(6):.0f}px; height: {self.px(6):.0f}px;
                                  background: {self.background}; }}
        QMainWindow::separator:hover {{ background: {self.border}; }}
        QSplitter::handle {{ background: {self.background}; }}
        QTabWidget::pane {{ border: none; }}
        QTabBar::tab {{ background: {self.background}; color: {self.dim}; border: 1px solid {self.border};
                        padding: {self.px(4):.0f}px {self.px(6):.0f}px; }}
        QTabBar::tab:selected {{ background: {self.surface}; color: {self.text}; }}
        QToolTip {{ background: {self.surface}; color: {self.text}; border: 1px solid {self.border}; }}
        QScrollBar:vertical {{ background: {self.surface}; width: {self.px(10):.0f}px; border: none; }}
        QScrollBar::handle:vertical {{ background: {self.border}; min-height: {self.px(24):.0f}px;
                                       border-radius: {self.px(4):.0f}px; }}
        QScrollBar:horizontal {{ background: {self.surface}; height: {self.px(10):.0f}px; border: none; }}
        QScrollBar::handle:horizontal {{ background: {self.border}; min-width: {self.px(24):.0f}px;
                                         border-radius: {self.px(4):.0f}px; }}
        QScrollBar::add-line, QScrollBar::sub-line {{ height: 0px; width: 0px; }}
        QScrollBar::add-page, QScrollBar::sub-page {{ background: {self.surface}; }}
        """


DARK = Theme(
    name="dark", background="#1c2127", surface="#232a31", border="#3d4853", text="#edf1f4", dim="#b4bfc8",
    ok="#56B4E9", minor="#F0E442", major="#FF5A4E", invalid="#CC79A7", trend="#ffffff", on_state="#101418",
    series=("#56B4E9", "#E69F00", "#CC79A7", "#F0E442", "#8fd1b8", "#ff8f85"), time_map="viridis",
    time_span=(0.12, 0.94),
)
LIGHT = Theme(
    name="light", background="#f3f5f7", surface="#ffffff", border="#c3ccd4", text="#14191e", dim="#4b5761",
    ok="#005b7f", minor="#806d00", major="#9a1428", invalid="#b81cd8", trend="#14191e", on_state="#ffffff",
    series=("#0072B2", "#a85200", "#A23E78", "#6b5a00", "#00694e", "#A8001C"), time_map="viridis",
    time_span=(0.0, 0.78),
)
THEMES = {"dark": DARK, "light": LIGHT}


def screen_scale(height_px: int) -> float:
    """Return the scale for a screen so high: above 1600 px everything grows, if the system does not enlarge it."""
    return min(height_px / 1200.0, 4.0) if height_px >= 1600 else 1.0
