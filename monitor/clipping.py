"""Drawings that end where their charts end: what Qt writes as SVG knows no clipping.

Marks are drawn before and after what belongs into a chart; afterwards all between two marks becomes a group that is
clipped. Qt writes a flat list of groups, a new one whenever the pen changes, so that each mark has its own.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyqtgraph as pg
from pyqtgraph.Qt import QtCore, QtWidgets

_FAR = 1e6
"""Before, or behind, everything else in a chart."""


class Mark(pg.GraphicsObject):
    """A text that is found again in the drawing, and nowhere else.

    Parameters
    ----------
    box : ViewBox
    text : str
    """

    def __init__(self, box: pg.ViewBox, text: str) -> None:
        super().__init__()
        self._box, self._text = box, text

    def boundingRect(self) -> QtCore.QRectF:
        """Return what is seen, so that it is painted."""
        return QtCore.QRectF(self._box.viewRect())

    def paint(self, painter: Any, *_: Any) -> None:
        """Write the text."""
        painter.resetTransform()
        painter.setPen(pg.mkPen("#010203", width=1.25))
        painter.drawText(QtCore.QPointF(0, 0), self._text)


@contextlib.contextmanager
def clipped(widget: QtWidgets.QWidget) -> Iterator[list[QtCore.QRect]]:
    """Mark the content of all charts of a widget; yields where they are on it."""
    marks: list[tuple[pg.ViewBox, Mark]] = []
    places: list[QtCore.QRect] = []
    for view in widget.findChildren(QtWidgets.QGraphicsView):
        for box in [item for item in view.scene().items() if isinstance(item, pg.ViewBox)]:
            for end, depth in (("begin", -_FAR), ("end", _FAR)):
                mark = Mark(box, f"{end} clip {len(places)}.")
                mark.setZValue(depth)
                box.addItem(mark, ignoreBounds=True)
                marks.append((box, mark))
            place = view.mapFromScene(box.sceneBoundingRect()).boundingRect()
            places.append(QtCore.QRect(view.viewport().mapTo(widget, place.topLeft()), place.size()))
    try:
        yield places
    finally:
        for box, mark in marks:
            box.removeItem(mark)


def cut(drawing: str, places: Sequence[QtCore.QRect]) -> str:
    """Clip what lies between marks; the marks vanish. A chart whose marks are not both there stays as it is."""
    shapes = []
    for number, place in enumerate(places):
        found = [re.search(rf"<g [^>]*>\s*<text [^>]*>{end} clip {number}\.</text>\s*</g>", drawing)
                 for end in ("begin", "end")]
        begin, end = found
        if begin is None or end is None or begin.end() > end.start():
            drawing = re.sub(rf"<text [^>]*>(begin|end) clip {number}\.</text>", "", drawing)
            continue
        drawing = (f'{drawing[:begin.start()]}<g clip-path="url(#chart{number})">{drawing[begin.end():end.start()]}</g>'
                   f"{drawing[end.end():]}")
        shapes.append(f'<clipPath id="chart{number}"><rect x="{place.x()}" y="{place.y()}" width="{place.width()}" '
                      f'height="{place.height()}"/></clipPath>')
    return drawing.replace("<defs>", f"<defs>{''.join(shapes)}", 1)
