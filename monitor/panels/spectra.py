"""Power spectra of a frame along x and y against those of the sharp frames before, and in two dimensions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyqtgraph as pg
from pyqtgraph.Qt import QtCore, QtWidgets

from monitor.panels.axes import Axis
from monitor.panels.base import Panel, Scene, new_plot, style_plot
from monitor.panels.dots import Curve
from monitor.panels.parts import Empty
from monitor.panels.timeline import Timeline, settle
from monitor.pixels import whole
from monitor.rows import Key
from monitor.tables import Table
from monitor.theme import Theme
from monitor.words import half_period
from streamer.records import AnyArray, FloatArray, SpectraResult

_LEAST_DECADES = 1.0
_PICTURE_SHARE = 0.3      # of the width, at most
_NARROW_PX = 380          # panels narrower than this have no room for the picture
_LABELS_PX = 50           # wider is the chart that carries the labels of the power
_DIGIT_PX = 8             # of a figure above the chart


class HalfPeriodAxis(Axis):
    """Half-period in nm, or in pixels while their size is not known, beside frequencies in cycles/px."""

    def __init__(self) -> None:
        super().__init__("top")
        self.enableAutoSIPrefix(False)
        self.pixel_size_nm: float | None = None
        self._scale = 1.0

    def set_scale(self, scale: float) -> None:
        """Leave room for the figures of a larger font."""
        self._scale = scale

    def tickValues(self, low: float, high: float, size: float) -> list[tuple[float, list[float]]]:
        """Place ticks at round frequencies as far apart as their half-periods can be read."""
        ticks: list[float] = []
        digits = max(map(len, self.tickStrings([0.1, 0.3], 1.0, 0.1)))
        room = _DIGIT_PX * self._scale * (digits + 1.3) * (high - low) / max(size, 1.0)
        for at in (0.1, 0.2, 0.4, 0.3, 0.05):
            if low <= at <= high and all(abs(at - other) >= room for other in ticks):
                ticks.append(at)
        return [(0.1, ticks)]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        """Write half-periods."""
        del scale, spacing
        unit = self.pixel_size_nm or 1.0
        return [f"{0.5 / at * unit:.0f}" if self.pixel_size_nm else f"{0.5 / at:.3g}" for at in values]


class Direction(NamedTuple):
    """The chart of one direction."""

    plot: pg.PlotWidget
    axis: HalfPeriodAxis
    reference: Curve
    noise: Curve
    frame: Curve
    lost: pg.FillBetweenItem
    """Between frame and reference, where the frame has less power."""
    mark: pg.InfiniteLine


class SpectraPanel(Panel):
    """Two charts with one scale and the picture of the spectrum, whose centre is the mean of the frame."""

    title = "Spectra"

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.directions = {axis: _direction(axis) for axis in "xy"}
        self.view = pg.GraphicsView()
        self.box = pg.ViewBox(lockAspect=True, invertY=True, enableMenu=False, enableMouse=False)
        self.view.setCentralItem(self.box)
        self.view.setToolTip("power against fx (right) and fy (down), -0.5 to 0.5 cycles/px, logarithmic; "
                             "motion blur darkens it along the direction of the motion")
        self.image = pg.ImageItem(axisOrder="row-major")
        self.image.setColorMap(pg.colormap.get("viridis"))
        self.box.addItem(self.image)
        self._row = QtWidgets.QHBoxLayout()
        self._row.setSpacing(2)
        for widget in (*(direction.plot for direction in self.directions.values()), self.view):
            widget.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Ignored)
            self._row.addWidget(widget, 1)
        self._body.addLayout(self._row, 1)
        self.shown: SpectraResult | None = None
        self.empty = Empty(self)
        self._size_nm: float | None = None
        self._range = (-6.0, 0.0)

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        super().restyle(theme)
        self.view.setBackground(theme.surface)
        for axis, direction in self.directions.items():
            style_plot(direction.plot, theme)
            direction.axis.set_scale(theme.scale)
            direction.axis.setGrid(False)   # one grid is enough: that of the frequencies
            colour = theme.series["xy".index(axis)]
            direction.frame.setPen(theme.pen(colour, 1.6))
            direction.reference.setPen(theme.pen(theme.dim))
            direction.noise.setPen(theme.pen(theme.text, dashed=True))
            direction.mark.setPen(theme.pen(colour, dashed=True))
            direction.lost.setBrush(theme.brush(theme.major, 90))
        self.directions["y"].plot.getAxis("left").setWidth(round(theme.px(8)))
        self._write_legend()

    def resizeEvent(self, event: Any) -> None:
        """Give the picture of the spectrum the room that is left."""
        super().resizeEvent(event)
        room, labels = self._row.geometry().width(), round(self.theme.px(_LABELS_PX))
        with_picture = self.width() >= self.theme.px(_NARROW_PX)
        side = min(int(_PICTURE_SHARE * room), self._row.geometry().height()) if with_picture else 0
        chart = max((room - side - labels) // 2, 1)
        for place, width in enumerate((chart + labels, chart, side)):
            self._row.setStretch(place, width)
        self.view.setVisible(with_picture)

    def refresh(self, scene: Scene) -> None:
        """Draw the spectra of the selected frame, or of the newest picture."""
        spectra, why = _spectra_of(scene)
        self.empty.say(why)
        if spectra is self.shown and scene.pixel_size_nm == self._size_nm:
            return
        self.shown, self._size_nm = spectra, scene.pixel_size_nm
        self._write_legend()
        if spectra is None:
            self._clear()
            return
        for axis, name in (("x", "horizontal"), ("y", "vertical")):
            power, noise = getattr(spectra, name), getattr(spectra, f"noise_{name}")
            self._draw(self.directions[axis], power, getattr(spectra, f"reference_{name}"),
                       np.full_like(power, spectra.floor) if noise is None else noise,
                       getattr(spectra, f"resolution_{axis}_px"))
        self._fit_range(spectra)
        self.image.setImage(whole(spectra.picture), levels=(0, 255), autoLevels=False)
        self.image.setRect(QtCore.QRectF(-0.5, -0.5, 1.0, 1.0))
        self.box.setRange(QtCore.QRectF(-0.5, -0.5, 1.0, 1.0), padding=0)

    def as_table(self, scene: Scene) -> Table:
        """Return power by frequency, along x and y, with what it is compared with."""
        del scene
        shown = self.shown
        if shown is None:
            return {}
        curves = {f"{what}_{axis}".lstrip("_"): getattr(shown, f"{what}_{name}".lstrip("_"))
                  for what in ("", "reference", "noise") for axis, name in (("x", "horizontal"), ("y", "vertical"))}
        where = frequencies(shown.horizontal.size)
        return {"frequency_per_px": where.tolist(), "half_period_px": (0.5 / where).tolist(),
                **{f"power_{name}": power.tolist() for name, power in curves.items() if power is not None}}

    def _clear(self) -> None:
        self.image.clear()
        for direction in self.directions.values():
            for curve in (direction.frame, direction.reference, direction.noise, *direction.lost.curves):
                curve.setData([], [])
            direction.mark.setVisible(False)

    def _draw(self, direction: Direction, power: FloatArray, reference: FloatArray | None, noise: FloatArray,
              resolution_px: float | None) -> None:
        direction.axis.pixel_size_nm = self._size_nm
        direction.axis.picture = None   # its ticks, drawn anew
        direction.axis.update()
        where = frequencies(power.size)
        direction.frame.setData(where, _decades(power))
        direction.noise.setData(where, _decades(noise))
        usual = np.full(where.shape, np.nan, np.float32) if reference is None else _decades(reference)
        given = slice(0 if reference is None else None)
        direction.reference.setData(where[given], usual[given])
        lost = np.isfinite(usual) & np.isfinite(_decades(power))
        for edge, curve in zip(direction.lost.curves, (usual, np.fmin(usual, _decades(power))), strict=True):
            edge.setData(where[lost], curve[lost])
        direction.mark.setVisible(resolution_px is not None)
        if resolution_px is not None:
            direction.mark.setValue(0.5 / resolution_px)

    def _fit_range(self, spectra: SpectraResult) -> None:
        every = np.concatenate([_decades(each) for each in (spectra.horizontal, spectra.vertical)])
        known = every[np.isfinite(every)]
        if known.size:
            low, high = float(known.min()), float(known.max())
            self._range = settle(self._range, low, high, least=_LEAST_DECADES)
        for direction in self.directions.values():
            direction.plot.getViewBox().setYRange(*self._range, padding=0)

    def _write_legend(self) -> None:
        spectra = self.shown
        if spectra is None:
            self._legend.set_runs([])
            return
        size = self._size_nm
        runs = [(f" {spectra.index}   ", self.theme.text)]
        for axis, colour in zip("xy", self.theme.series, strict=False):
            found = half_period(getattr(spectra, f"resolution_{axis}_px"),
                                getattr(spectra, f"resolution_{axis}_sigma_px"), size)
            runs.append((f"━ {axis}: {found}   ", colour))
        if spectra.reference_horizontal is not None:
            runs += [("━ reference   ", self.theme.dim), ("▒ lost   ", self.theme.major)]
        runs.append(("┄ noise", self.theme.text))
        self._legend.set_runs(runs)


def frequencies(count: int) -> FloatArray:
    """Cycles/px of the values of a directional spectrum."""
    return ((np.arange(count) + 0.5) * (0.5 / count)).astype(np.float32)


def _decades(power: AnyArray) -> FloatArray:
    return np.log10(power, out=np.full(power.shape, np.nan, np.float32), where=power > 0)


def _direction(axis: str) -> Direction:
    top = HalfPeriodAxis()
    plot = new_plot("power" if axis == "x" else "", f"f{axis} / px⁻¹", top=top)
    plot.setMouseEnabled(x=False, y=False)
    plot.setXRange(0.0, 0.5, padding=0.0)
    plot.getAxis("left").setLogMode(y=True)
    plot.getAxis("left").setStyle(showValues=axis == "x")
    plot.setToolTip(f"power along {axis} against cycles per pixel; grey: mean of the sharp frames before, "
                    "red ground: what the frame lost against it; above: half-period in nm, or in px while the size "
                    "of a pixel is not known; "
                    "dashed upright: where the structure sinks into the noise")
    reference, noise, frame = Curve(), Curve(), Curve()
    lost = pg.FillBetweenItem(pg.PlotCurveItem(pen=None), pg.PlotCurveItem(pen=None))
    mark = pg.InfiniteLine(angle=90, movable=False)
    mark.setVisible(False)
    for item in (*lost.curves, lost, reference, noise, frame, mark):
        plot.addItem(item)
    return Direction(plot, top, reference, noise, frame, lost, mark)


def _spectra_of(scene: Scene) -> tuple[SpectraResult | None, str]:
    """Return the spectra of the selected frame, else those of the newest picture; None with the reason."""
    live = scene.picture.spectra if scene.picture is not None else None
    if scene.selected is None or (live is not None and Key(live.acquisition, live.index) == scene.selected):
        return live, "" if live is not None else "no spectra yet: they come with the pictures of frames"
    if scene.shelf is None:
        return None, "spectra of earlier frames cannot be asked for here"
    return scene.shelf.spectra(scene.selected, place="spectra")
