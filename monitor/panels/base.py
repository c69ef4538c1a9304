"""What every panel is: a titled frame that redraws itself from a scene and knows nothing of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import pyqtgraph as pg
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from monitor.feed import Link, LinkState
from monitor.panels.axes import Axis, ValueAxis
from monitor.panels.timeline import Timeline
from monitor.rows import Charts, Key
from monitor.shelf import Shelf
from monitor.store import Picture, Store
from monitor.tables import Table
from monitor.theme import DARK, Theme
from monitor.thumbnails import Thumbnails
from streamer.records import FlowResult, Status

Pace = Literal["picture", "charts", "labels"]


@dataclass(frozen=True)
class Scene:
    """What is to be shown now. While the display is paused, rows, picture and field stay as they were."""

    store: Store = field(default_factory=Store)
    charts: Charts = field(default_factory=Charts)
    picture: Picture | None = None
    flow: FlowResult | None = None
    status: Status | None = None
    link: Link = field(default_factory=lambda: Link(LinkState.CONNECTING, ""))
    newest: Key | None = None
    selected: Key | None = None
    view: str | None = None
    """Only this view is shown; None: all."""
    behind: int | None = None
    """Frames that came since the display was paused; None when it is not."""
    shown_hz: float = 0.0
    skipped: int = 0
    """Pictures that came and were never painted, because newer ones came first."""
    paint_ms: tuple[float, float] | None = None
    """Message received to picture painted: median and 95 % of the last ones."""
    locked: str = ""
    """Why nothing can be asked of the streamer that changes something; empty when it can."""
    shelf: Shelf | None = None
    """Pictures and fields of earlier frames; None where nobody can be asked for them."""
    thumbnails: Thumbnails | None = None
    message: str = ""

    @property
    def pixel_size_nm(self) -> float | None:
        """Size of a pixel on the sample, when known."""
        known = self.status.pixel_size_nm if self.status is not None else None
        return known or (self.picture.pixel_size_nm if self.picture is not None else None)


class Action(NamedTuple):
    """Something that a panel does by key; the list of keys and the menu name it, too."""

    key: str
    method: str
    """Of the panel, called without arguments."""
    text: str
    changes: bool = False
    """Whether it asks the streamer to change something; a read-only dashboard greys it."""


class Panel(QtWidgets.QFrame):
    """A titled part of the window.

    A panel is added by writing one file with a subclass and naming it in `monitor.window.PANELS`.
    """

    title: ClassVar[str] = ""
    pace: ClassVar[Pace] = "charts"
    share: ClassVar[float] = 1.0
    """Of the height of its column, relative to the others there."""
    actions_by_key: ClassVar[tuple[Action, ...]] = ()
    chosen = QtCore.Signal(object)
    """A frame was clicked: its position in the store."""
    asked = QtCore.Signal(str, object)
    """Something is asked of the streamer: a command and its arguments, a mapping; the window sends it."""
    wanted = QtCore.Signal(str)
    """Something is to be done about the selected alert or frame: the name of a method of `Control`."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__()
        self.timeline = timeline
        self.theme = DARK
        self.setObjectName("panel")
        self._title = QtWidgets.QLabel(self.title)
        self._title.setObjectName("title")
        self._legend = ElidedLabel(whole=True)
        self.head = QtWidgets.QFrame()
        """The line above the panel; as a dock it is what the panel is dragged by."""
        self.head.setObjectName("head")
        self._head = QtWidgets.QHBoxLayout(self.head)
        self._head.setContentsMargins(6, 2, 4, 2)
        self._head.addWidget(self._title)
        self._head.addWidget(self._legend, 1)
        self._body = QtWidgets.QVBoxLayout(self)
        self._body.setContentsMargins(6, 2, 6, 4)
        self._body.setSpacing(2)
        self._body.addWidget(self.head)

    def refresh(self, scene: Scene) -> None:
        """Draw the scene."""
        raise NotImplementedError

    def restyle(self, theme: Theme) -> None:
        """Take other colours; `refresh` follows."""
        self.theme = theme

    def heading(self) -> list[tuple[str, str | None]]:
        """Return title and legend, each piece with its colour; None: that of the text."""
        return [(self.title, None), *self._legend.runs]

    def as_table(self, scene: Scene) -> Table:
        """Return the numbers behind what is shown: columns by name, with units; empty if there are none.

        Columns may differ in length.
        """
        del scene
        return {}

    def fit(self) -> None:
        """Show everything and follow again."""

    def give_up(self) -> bool:
        """Drop what is tried and not applied yet; False if there is nothing, and Esc means something else."""
        return False


class ElidedLabel(QtWidgets.QLabel):
    """A label that never widens the window: what does not fit ends in dots, the tooltip has it all.

    Parameters
    ----------
    text : str
    whole : bool
        Of several pieces, leave those out that do not fit, and do not cut one in the middle of a word; the first
        is cut all the same.
    """

    def __init__(self, text: str = "", *, whole: bool = False) -> None:
        super().__init__()
        self._whole = whole
        self._runs: Sequence[tuple[str, str | None]] = []
        self._text = ""
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Preferred)
        self.setText(text)

    @property
    def runs(self) -> Sequence[tuple[str, str | None]]:
        """Pieces of text, each with its colour."""
        return self._runs

    def setText(self, text: str) -> None:
        """Show a text in the colour of the label."""
        self.set_runs([(text, None)])

    def set_runs(self, runs: Sequence[tuple[str, str | None]]) -> None:
        """Show pieces of text, each in its colour (None: the label's)."""
        if runs == self._runs:
            return
        self._runs = runs
        self._text = "".join(piece for piece, _ in runs)
        self.setToolTip(self._text)
        self.update()   # and no more: a text that Qt knows of makes it lay the whole window out again

    def text(self) -> str:
        """Return all of the text, whether there is room for it or not."""
        return self._text

    def sizeHint(self) -> QtCore.QSize:
        """Ask for what is needed, whatever the text."""
        return self.minimumSizeHint()

    def minimumSizeHint(self) -> QtCore.QSize:
        """Ask for the height of a line and no width."""
        return QtCore.QSize(0, self.fontMetrics().height())

    def fitting(self, room_px: int) -> list[tuple[str, str | None]]:
        """Return the pieces of text that are seen where there is so much room."""
        metrics = self.fontMetrics()
        seen: list[tuple[str, str | None]] = []
        for number, (piece, colour) in enumerate(self._runs):
            width = metrics.horizontalAdvance(piece)
            if width > room_px:
                cut = metrics.elidedText(piece, QtCore.Qt.TextElideMode.ElideRight, room_px)
                if self._whole and number:
                    cut = " …" if metrics.horizontalAdvance(" …") <= room_px else ""
                return [*seen, (cut, colour)]
            seen.append((piece, colour))
            room_px -= width
        return seen

    def paintEvent(self, event: Any) -> None:
        """Draw as much as fits."""
        painter = QtGui.QPainter(self)
        metrics, room = self.fontMetrics(), self.contentsRect()
        left, right = room.left(), room.right()
        if self.alignment() & QtCore.Qt.AlignmentFlag.AlignRight:
            left = max(left, right - metrics.horizontalAdvance(self.text()))
        for piece, colour in self.fitting(right - left + 1):
            painter.setPen(QtGui.QColor(colour) if colour else self.palette().color(self.foregroundRole()))
            painter.drawText(QtCore.QRect(left, room.top(), max(right - left + 2, 0), room.height()),
                             int(QtCore.Qt.AlignmentFlag.AlignVCenter), piece)
            left += metrics.horizontalAdvance(piece)


def new_plot(left: str, bottom: str | pg.AxisItem, *, top: pg.AxisItem | None = None) -> pg.PlotWidget:
    """Make a chart with labelled axes; `bottom` is a label or an axis."""
    axes = {"left": ValueAxis("left"), "bottom": Axis("bottom") if isinstance(bottom, str) else bottom}
    plot = pg.PlotWidget(enableMenu=False, axisItems=axes if top is None else axes | {"top": top})
    # one rectangle to paint: with several, Qt cuts each line at the edges of each
    plot.setViewportUpdateMode(QtWidgets.QGraphicsView.ViewportUpdateMode.BoundingRectViewportUpdate)
    plot.showAxis("top", top is not None)
    plot.hideButtons()
    labels = {"left": left, "bottom": bottom if isinstance(bottom, str) else ""}
    for name, label in labels.items():
        axis = plot.getAxis(name)
        axis.enableAutoSIPrefix(False)   # the label names the unit; to be said before there is a label
        if label:
            axis.setLabel(label)
    return plot


def style_plot(plot: pg.PlotWidget, theme: Theme) -> None:
    """Give a chart the colours and sizes of the theme."""
    plot.setBackground(theme.surface)
    for name in ("left", "bottom", "top"):
        axis = plot.getAxis(name)
        axis.setPen(theme.pen(theme.border))
        axis.setTextPen(theme.pen(theme.text))
        axis.setTickFont(theme.font(9.5))
        axis.setStyle(tickTextOffset=round(theme.px(4)), tickLength=-round(theme.px(4)))
        if axis.labelText:
            axis.setLabel(axis.labelText, **{"color": theme.text, "font-size": f"{9.5 * theme.scale:.1f}pt"})
    plot.getAxis("left").setWidth(round(theme.px(58)))
    plot.showGrid(x=True, y=True, alpha=0.15)
