"""What is drawn over the picture: displacement arrows, outlines, rings, and the scale bar."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from pyqtgraph.Qt import QtCore, QtGui

from monitor.theme import Theme
from streamer.records import FloatArray, FlowResult

SPACING = 26.0
"""Distance of the arrows in pixels of the screen."""
NOISE_SIGMAS = 2.0
NOISE_PX = 0.1
"""What counts as noise where the field has no error."""
GAINS = (1, 2, 5, 10, 20, 50)
HALO, CORE, PINNED = "#101418", "#ffe14d", "#5fe3ff"
RINGS = (0.1, 0.2, 0.3, 0.4)
"""Frequencies in cycles/px."""


class Lines(pg.GraphicsObject):
    """Many lines as one item, each with a dark halo and a bright core, to be seen on any ground.

    One item costs 3 ms for 1000 arrows; an item per arrow costs 90 ms.
    """

    def __init__(self, colour: str, core_px: float) -> None:
        super().__init__()
        self.colour, self._core_px = colour, core_px
        self._lines = pg.Qt.internals.PrimitiveArray(QtCore.QLineF, 4)
        self._bounds = QtCore.QRectF()
        self._pens: tuple[QtGui.QPen, ...] = ()
        self.set_scale(1.0)

    def set_scale(self, scale: float) -> None:
        """Draw for a screen of another scale."""
        self._pens = (pg.mkPen(HALO, width=scale * (self._core_px + 2.0)),   # beyond 4 px Qt is five times slower
                      pg.mkPen(self.colour, width=scale * self._core_px))
        self.update()

    def set_lines(self, segments: np.ndarray[Any, Any]) -> None:
        """Draw these lines (x1, y1, x2, y2), (n, 4)."""
        if not len(segments) and not len(self._lines):
            return
        self.prepareGeometryChange()
        self._lines.resize(len(segments))
        self._lines.ndarray()[:] = segments
        self._bounds = _bounds(segments)
        self.update()

    @property
    def lines(self) -> np.ndarray[Any, Any]:
        """What is drawn, (n, 4)."""
        drawn: np.ndarray[Any, Any] = self._lines.ndarray().copy()
        return drawn

    def boundingRect(self) -> QtCore.QRectF:
        """Return the rectangle around all lines."""
        return self._bounds

    def paint(self, painter: Any, *_: Any) -> None:
        """Draw all halos, then all cores; smooth edges of wide lines cost three times as much and are not seen."""
        if not len(self._lines):
            return
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing, False)
        for pen in self._pens:
            painter.setPen(pen)
            painter.drawLines(*self._lines.drawargs())


class Arrows(Lines):
    """The displacement arrows of one field."""

    def __init__(self, colour: str = CORE) -> None:
        super().__init__(colour, 2.0)
        self.count = 0
        self.gain = 1
        self._picture = QtCore.QRectF()

    def set_flow(
        self, flow: FlowResult | None, drift: tuple[float, float], *, shape: tuple[int, int], spacing_px: float,
        gain: int | None = None,
    ) -> None:
        """Draw a field over a picture of this shape and with this drift against the field's reference frame.

        Parameters
        ----------
        gain : int, optional
            How many times longer than true; by default a round factor that fills the room.
        """
        segments = np.empty((0, 4))
        self.count = 0
        self._picture = QtCore.QRectF(0.0, 0.0, shape[1], shape[0])
        if flow is not None:
            base, vector = visible_arrows(flow, drift, spacing_px=spacing_px)
            inside = np.all((base >= 0) & (base < shape), axis=1)
            base, vector = base[inside], vector[inside]
            self.count = len(base)
            if self.count:
                self.gain = gain or choose_gain(self.gain, vector, 1.3 * spacing_px)
                segments = arrow_segments(base, vector * self.gain, head=0.24 * spacing_px)
        self.set_lines(segments)

    def paint(self, painter: Any, *_: Any) -> None:
        """Draw what is on the picture: an arrow enlarged out of it would point at something else."""
        if not self._picture.contains(self._bounds):   # clipping has its price
            painter.setClipRect(self._picture)
        super().paint(painter)


class Rings(pg.GraphicsObject):
    """Circles of equal frequency over a spectrum whose centre is frequency 0."""

    def __init__(self) -> None:
        super().__init__()
        self._pens = (pg.mkPen(HALO, width=3), pg.mkPen("#ffffff", width=1))
        self.labels = []
        for radius in RINGS:
            label = pg.TextItem(anchor=(0.5, 0.5), color="#ffffff", fill=pg.mkBrush(16, 20, 24, 170))
            label.setParentItem(self)
            label.setPos(0.0, -radius)
            self.labels.append(label)

    def restyle(self, theme: Theme, pixel_size_nm: float | None) -> None:
        """Take the scale of the theme, and name the half-periods where the size of a pixel is known."""
        for label, radius in zip(self.labels, RINGS, strict=True):
            half = f"  {0.5 / radius * pixel_size_nm:.0f} nm" if pixel_size_nm else ""
            label.setText(f"{radius:g}/px{half}")
            label.setFont(theme.font(9.5))

    def boundingRect(self) -> QtCore.QRectF:
        """Return the square around all rings."""
        return QtCore.QRectF(-0.5, -0.5, 1.0, 1.0)

    def paint(self, painter: Any, *_: Any) -> None:
        """Draw the rings."""
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        for pen in self._pens:
            painter.setPen(pen)
            for radius in RINGS:
                painter.drawEllipse(QtCore.QPointF(0.0, 0.0), radius, radius)


class ScaleBar(pg.GraphicsObject):
    """A bar of round length at the lower left of the picture, anchored to the picture."""

    def __init__(self) -> None:
        super().__init__()
        self._line = QtCore.QLineF()
        self._halo, self._core = pg.mkPen(HALO, width=7), pg.mkPen("#ffffff", width=3)
        self.label = pg.TextItem(anchor=(0.5, 1.0), color="#ffffff", fill=pg.mkBrush(16, 20, 24, 170))
        self.label.setParentItem(self)

    def restyle(self, theme: Theme) -> None:
        """Take the scale of the theme."""
        self._halo, self._core = theme.pen(HALO, 7.0), theme.pen("#ffffff", 3.0)
        self.label.setFont(theme.font(10.5, bold=True))

    def set_size(self, width_px: float, height_px: float, pixel_size_nm: float | None) -> None:
        """Fit the bar to a picture, in pixels of the frame."""
        length_px, text = scale_bar(width_px, pixel_size_nm)
        left, y = 0.04 * width_px, 0.955 * height_px
        self.prepareGeometryChange()
        self._line = QtCore.QLineF(left, y, left + length_px, y)
        self.label.setText(text)
        self.label.setPos(left + length_px / 2, y - 0.008 * height_px)
        self.update()

    def boundingRect(self) -> QtCore.QRectF:
        """Return the rectangle around the bar."""
        line = self._line
        return QtCore.QRectF(line.x1(), line.y1(), line.dx(), 0.0).adjusted(-8, -8, 8, 8)

    def paint(self, painter: Any, *_: Any) -> None:
        """Draw halo and bar."""
        for pen in (self._halo, self._core):
            painter.setPen(pen)
            painter.drawLine(self._line)


def visible_arrows(
    flow: FlowResult, drift: tuple[float, float], *, spacing_px: float,
) -> tuple[FloatArray, FloatArray]:
    """Choose the vectors worth an arrow: valid, above the noise, not too dense.

    Returns
    -------
    base, vector : ndarray of shape (N, 2)
        (y, x) of the material in the frame before its displacement, and the displacement, in px.
    """
    steps = [max(1, round(spacing_px * (grid.size - 1) / max(float(grid[-1] - grid[0]), 1e-6))) if grid.size > 1 else 1
             for grid in (flow.grid_y_px, flow.grid_x_px)]
    chosen = tuple(slice(step // 2, None, step) for step in steps)
    field, sigma = flow.displacement_px[(slice(None), *chosen)], flow.sigma_px[chosen]
    size = np.hypot(field[0], field[1])
    noise = np.where(np.isfinite(sigma), NOISE_SIGMAS * sigma, NOISE_PX)
    with np.errstate(invalid="ignore"):
        shown = flow.valid[chosen] & (size > noise)
    y, x = np.meshgrid(flow.grid_y_px[chosen[0]], flow.grid_x_px[chosen[1]], indexing="ij")
    base = np.stack([y[shown] + drift[0], x[shown] + drift[1]], axis=1)
    return base, np.stack([field[0][shown], field[1][shown]], axis=1)


def choose_gain(current: int, vector: FloatArray, room_px: float) -> int:
    """Return the round factor that lets long arrows fill `room_px`; the present one stays while it does."""
    longest = float(np.quantile(np.hypot(vector[:, 0], vector[:, 1]), 0.95))
    if 0.3 * room_px <= longest * current <= 1.2 * room_px:
        return current
    return max((gain for gain in GAINS if gain * longest <= room_px), default=GAINS[0])


def arrow_segments(base: FloatArray, vector: FloatArray, *, head: float) -> np.ndarray[Any, Any]:
    """Return shafts and heads as lines (x1, y1, x2, y2); heads of short arrows shrink with them."""
    tip = base + vector
    length = np.hypot(vector[:, 0], vector[:, 1])[:, None]
    along = vector / np.maximum(length, 1e-9)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    size = np.minimum(head, 0.45 * length)
    barbs = [tip - size * along + side * 0.6 * size * across for side in (-1, 1)]
    lines = [(base, tip), (tip, barbs[0]), (tip, barbs[1])]
    return np.concatenate([np.hstack([begin[:, ::-1], end[:, ::-1]]) for begin, end in lines]).astype(float)


def scale_bar(width_px: float, pixel_size_nm: float | None) -> tuple[float, str]:
    """Return length in px and text of a bar of about a fifth of the width.

    >>> scale_bar(700, 20.0)
    (100.0, '2 µm')
    >>> scale_bar(700, None)
    (100.0, '100 px')
    """
    unit = width_px / 5 * (pixel_size_nm or 1.0)
    power = 10.0 ** np.floor(np.log10(unit))
    length = max(factor for factor in (1, 2, 5) if factor * power <= unit) * power
    if not pixel_size_nm:
        return float(length), f"{length:.0f} px"
    text = f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"
    return float(length / pixel_size_nm), text


def _bounds(segments: np.ndarray[Any, Any]) -> QtCore.QRectF:
    if not len(segments):
        return QtCore.QRectF()
    xs, ys = segments[:, ::2], segments[:, 1::2]
    return QtCore.QRectF(xs.min(), ys.min(), np.ptp(xs), np.ptp(ys)).adjusted(-3, -3, 3, 3)
