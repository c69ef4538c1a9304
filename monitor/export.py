"""Any panel as a picture, a drawing or a table: into a file or to the clipboard."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, ClassVar

from pyqtgraph.Qt import QtCore, QtGui, QtSvg, QtWidgets

from monitor.clipping import clipped, cut
from monitor.layout import Dock, Docks
from monitor.panels.base import Action, Panel, Scene
from monitor.panels.parts import Entry, pop_up
from monitor.tables import as_csv, is_empty

PIXELS = 2
"""Of a picture, for each on the screen."""
KINDS = {"png": "picture (PNG)", "svg": "drawing (SVG)", "csv": "table (CSV)"}
_MARGIN_PX = 6


class Exporter(QtCore.QObject):
    """Offers a menu for a panel and does what is chosen there.

    Parameters
    ----------
    window : QWidget
        Menus and dialogs stand before it.
    docks : Docks
        Hold the panels.
    scene : callable
        What is shown now.
    """

    title: ClassVar[str] = "Window"
    actions_by_key: ClassVar[tuple[Action, ...]] = (
        Action("Ctrl+E", "offer", "export the panel under the mouse"),)
    told = QtCore.Signal(str)

    def __init__(self, window: QtWidgets.QWidget, docks: Docks, scene: Callable[[], Scene]) -> None:
        super().__init__(window)
        self._window, self._docks, self._scene = window, docks, scene
        self.menu: QtWidgets.QMenu | None = None
        self.dialog: QtWidgets.QFileDialog | None = None
        self._folder = Path.home()
        docks.exported.connect(self.offer_for)

    def offer(self) -> None:
        """Offer to export the panel under the mouse, or with the focus; all that can be seen if there is none."""
        for widget in (QtWidgets.QApplication.widgetAt(QtGui.QCursor.pos()), QtWidgets.QApplication.focusWidget()):
            panel = _panel_of(widget)
            if panel is not None:
                self.offer_for(panel)
                return
        seen = [dock.panel for dock in self._docks.docks.values() if dock.in_front]
        self.menu = pop_up(self._window, [Entry("Export which panel?"), *(
            Entry(panel.title, functools.partial(self.offer_for, panel)) for panel in seen)], self._place())

    def offer_for(self, panel: Panel) -> None:
        """Offer what can be made of a panel."""
        nothing = "" if not is_empty(panel.as_table(self._scene())) else "there are no numbers behind it now"
        entries = [Entry(f"Export {panel.title}")]
        entries += [Entry(f"{text} ...", functools.partial(self.ask, panel, kind), nothing if kind == "csv" else "")
                    for kind, text in KINDS.items()]
        self.menu = pop_up(self._window, [*entries, Entry("copy picture", functools.partial(self.copy, panel))],
                           self._place())

    def ask(self, panel: Panel, kind: str) -> None:
        """Ask where to; the window goes on meanwhile."""
        self.dialog = dialog = QtWidgets.QFileDialog(self._window, f"Export {panel.title}: {KINDS[kind]}")
        dialog.setAttribute(QtCore.Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.setAcceptMode(QtWidgets.QFileDialog.AcceptMode.AcceptSave)
        dialog.setNameFilter(f"{KINDS[kind]} (*.{kind})")
        dialog.setDefaultSuffix(kind)
        dialog.setDirectory(str(self._folder))
        dialog.selectFile(f"{name_for(panel, self._scene())}.{kind}")
        dialog.fileSelected.connect(lambda path: self.save(panel, Path(path)))
        dialog.show()

    def save(self, panel: Panel, path: Path) -> None:
        """Write a panel to a file; its ending says how."""
        try:
            _write(path, content(panel, path.suffix.lower().lstrip("."), self._scene()))
        except ValueError as error:
            self.told.emit(f"{path} was not written: {error}")
        except OSError as error:
            self.told.emit(f"{path} was not written: {error.strerror or error}")
        else:
            self._folder = path.parent
            self.told.emit(f"{path} written")

    def copy(self, panel: Panel) -> None:
        """Put a picture of a panel on the clipboard."""
        QtWidgets.QApplication.clipboard().setImage(picture(panel))
        self.told.emit(f"picture of {panel.title} copied")

    def _place(self) -> QtCore.QPoint:
        mouse = QtGui.QCursor.pos()
        return mouse if self._window.geometry().contains(mouse) else self._window.geometry().center()


def content(panel: Panel, kind: str, scene: Scene) -> bytes:
    """Return what a file of a panel holds.

    Raises
    ------
    ValueError
        If the kind is none of `KINDS`.
    """
    if kind == "csv":
        return as_csv(panel.as_table(scene))
    if kind == "svg":
        return _drawing(panel)
    if kind != "png":
        raise ValueError(f"its name ends in {f'.{kind}' if kind else 'nothing'}, expected one of "
                         f"{', '.join(f'.{known}' for known in KINDS)}")
    buffer = QtCore.QBuffer()
    buffer.open(QtCore.QIODevice.OpenModeFlag.WriteOnly)
    picture(panel).save(buffer, "PNG")
    return bytes(buffer.data())


def picture(panel: Panel) -> Any:
    """Return a panel with its heading, `PIXELS` for each pixel on the screen."""
    size = _size(panel)
    image = QtGui.QImage(size * PIXELS, QtGui.QImage.Format.Format_RGB32)
    image.setDevicePixelRatio(PIXELS)
    painter = QtGui.QPainter(image)
    _paint(panel, painter, size)
    painter.end()
    return image


def name_for(panel: Panel, scene: Scene) -> str:
    """Return a name for a file: session, panel, and the frame that is shown.

    What does not belong into names of files becomes a hyphen.
    """
    key = scene.selected or scene.newest
    session = PurePath(scene.status.session_dir).name if scene.status is not None else scene.store.session
    parts = [session, panel.title.lower(), f"frame {key.index}" if key is not None else ""]
    return "-".join(re.sub(r"[^\w.]+", "-", part).strip("-.") for part in parts if part)


def _drawing(panel: Panel) -> bytes:
    """Return a panel as SVG: outlines where it is a chart, a picture where it is a list."""
    buffer = QtCore.QBuffer()
    buffer.open(QtCore.QIODevice.OpenModeFlag.WriteOnly)
    size = _size(panel)
    generator = QtSvg.QSvgGenerator()
    generator.setOutputDevice(buffer)
    generator.setSize(size)
    generator.setViewBox(QtCore.QRect(QtCore.QPoint(0, 0), size))
    generator.setResolution(round(panel.logicalDpiX()))
    generator.setTitle(panel.title)
    listed = panel.findChild(QtWidgets.QTableView) is not None
    painter = QtGui.QPainter()
    with clipped(panel) as clips:
        painter.begin(generator)
        if listed:
            painter.drawImage(QtCore.QRect(QtCore.QPoint(0, 0), size), picture(panel))
        else:
            _paint(panel, painter, size)
        painter.end()
    top = _line_px(panel) * len(_heading(panel))
    return cut(bytes(buffer.data()).decode(), [clip.translated(0, top) for clip in clips]).encode()


def _size(panel: Panel) -> QtCore.QSize:
    return QtCore.QSize(panel.width(), panel.height() + _line_px(panel) * len(_heading(panel)))


def _line_px(panel: Panel) -> int:
    return int(panel.fontMetrics().height()) + _MARGIN_PX


def _heading(panel: Panel) -> list[list[tuple[str, str | None]]]:
    """Return title and legend, broken into lines that fit."""
    lines: list[list[tuple[str, str | None]]] = [[]]
    left = 0
    for text, colour in panel.heading():
        width = panel.fontMetrics().horizontalAdvance(text)
        if lines[-1] and left + width > panel.width() - 4 * _MARGIN_PX:
            lines.append([])
            left = 0
        lines[-1].append((text if lines[-1] else text.lstrip(), colour))
        left += width
    return lines


def _paint(panel: Panel, painter: Any, size: QtCore.QSize) -> None:
    theme, top = panel.theme, 0
    painter.fillRect(QtCore.QRect(QtCore.QPoint(0, 0), size), QtGui.QColor(theme.background))
    for number, line in enumerate(_heading(panel)):
        left = 2 * _MARGIN_PX
        for place, (text, colour) in enumerate(line):
            font = QtGui.QFont(panel.font())
            font.setBold(number == place == 0)
            painter.setFont(font)
            painter.setPen(QtGui.QColor(colour or theme.text))
            metrics, word = QtGui.QFontMetrics(font), text.lstrip()   # SVG drops blanks at the beginning
            left += metrics.horizontalAdvance(text[:len(text) - len(word)])
            painter.drawText(QtCore.QRect(left, top, metrics.horizontalAdvance(word) + 2, _line_px(panel)),
                             int(QtCore.Qt.AlignmentFlag.AlignVCenter), word)
            left += metrics.horizontalAdvance(word)
        top += _line_px(panel)
    panel.render(painter, QtCore.QPoint(0, top))


def _panel_of(widget: QtWidgets.QWidget | None) -> Panel | None:
    while widget is not None and not isinstance(widget, Dock):
        widget = widget.parentWidget()
    return widget.panel if widget is not None else None


def _write(path: Path, data: bytes) -> None:
    """Write a file as a whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
