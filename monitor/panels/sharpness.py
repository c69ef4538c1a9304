"""Sharpness of every frame, and what other thresholds would have flagged."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyqtgraph as pg
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from monitor.panels.base import Action, Panel, Scene, new_plot, style_plot
from monitor.panels.dots import Band, Curve, Dots
from monitor.panels.parts import Choice, Empty
from monitor.panels.timeline import FrameAxis, Timeline, settle, thin
from monitor.rows import VERDICTS, Charts, FloatColumn, IntColumn
from monitor.tables import Table, frames_table
from monitor.theme import GLYPHS, SYMBOLS, Theme
from monitor.whatif import Thresholds, Trial, in_force, judge, told

_SIZES = {"sharp": 5, "blurred": 12, "undecided": 8, "bad": 12, "refused": 11}
LEAST_DRAWN = 0.1
"""Of a score: what is smaller is drawn there."""
_FEW = 30
"""Up to so many frames get large marks."""
_MARKED = 600
"""Frames of one verdict that are marked at the most."""


_TABLE = ("blur_length_px", "blur_length_sigma_px", "blur_angle_deg", "blur_limit_px", "blur_score")


class Shown(NamedTuple):
    """A quantity whose threshold can be tried."""

    label: str
    column: str
    threshold: str
    """Field of `Thresholds`."""
    key: str
    """Of the setting."""
    unit: str
    step: float
    low: float
    high: float
    """Bounds of the setting."""
    logarithmic: bool
    """Scores reach far above their threshold, and what matters is near it."""

    def to_axis(self, values: Any) -> Any:
        """Return where values are drawn; those that have no logarithm at its lower end."""
        return np.log10(np.fmax(values, LEAST_DRAWN)) if self.logarithmic else values

    def from_axis(self, place: float) -> float:
        """Return the value that is drawn at a place."""
        return float(10.0**place) if self.logarithmic else place


SHOWN = {
    "length": Shown("blur length / px", "blur_length_px", "tolerance_px", "blur.tolerance_px", " px", 0.1, 0.1, 100.0,
                    logarithmic=False),
    "score": Shown("blur score / σ", "blur_score", "score", "blur.score_threshold", " σ", 0.1, 1.0, 50.0,
                   logarithmic=True),
}


class SharpnessPanel(Panel):
    """Dots by verdict, in colour and shape; click one to select its frame, drag the dashed line to try a threshold."""

    title = "Sharpness"
    actions_by_key = (
        Action("[", "lower", "try a lower blur threshold; Enter applies, Esc drops it"),
        Action("]", "higher", "try a higher blur threshold"),
        Action("U", "toggle_quantity", "sharpness as length or as score of the blur"),
    )

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.choice = Choice(list(SHOWN), "length of the blur, with the tolerance; or its significance, "
                                          "with the threshold from which a frame is blurred")
        self.choice.currentIndexChanged.connect(self._quantity_changed)
        self.apply_button, self.drop_button = _button("apply  ⏎"), _button("drop  Esc")
        self.apply_button.clicked.connect(self.apply)
        self.drop_button.clicked.connect(self.give_up)
        for widget in (self.apply_button, self.drop_button, self.choice):
            self._head.addWidget(widget)
        self.plot = new_plot(SHOWN["length"].label, FrameAxis())
        self.plot.setToolTip("grey ground: blur this short could not have been seen in the frame")
        self.limit, self.ground = Curve(), Band()
        self.bars = Curve(pairs=True)
        self.threshold = pg.InfiniteLine(angle=0, movable=True)
        self.threshold.setCursor(QtCore.Qt.CursorShape.SizeVerCursor)
        self.threshold.sigDragged.connect(lambda line: self.attempt(self.shown.from_axis(float(line.value()))))
        self.threshold.sigClicked.connect(lambda _, event: event.accept())   # it was to be dragged: no frame is meant
        self.in_force = pg.InfiniteLine(angle=0, movable=False)
        for item in (self.ground, self.limit, self.bars, self.in_force, self.threshold):
            self.plot.addItem(item)
        self.dots = {word: Dots(SYMBOLS[word]) for word in ("sharp", "undecided", "blurred", "bad", "refused")}
        for item in self.dots.values():
            item.clicked.connect(self.chosen.emit)
            self.plot.addItem(item)
        self.newly, self.no_longer = Dots("o"), Dots("s")
        for item in (self.newly, self.no_longer):
            self.plot.addItem(item)
        timeline.attach(self.plot)
        self._body.addWidget(self.plot, 1)
        self.empty = Empty(self.plot)
        self.tried: float | None = None
        """A threshold that is not in force."""
        self._thresholds: Thresholds | None = None
        self._range = (0.0, 4.0)
        self._scene = Scene()
        shortcut = QtGui.QShortcut if hasattr(QtGui, "QShortcut") else QtWidgets.QShortcut
        self._enters = [shortcut(QtGui.QKeySequence(key), self) for key in ("Return", "Enter")]
        for enter in self._enters:
            enter.setContext(QtCore.Qt.ShortcutContext.WindowShortcut)
            enter.activated.connect(self.apply)
        self._show_trial(None)

    @property
    def shown(self) -> Shown:
        """What the chart shows."""
        return SHOWN[self.choice.currentText()]

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        super().restyle(theme)
        style_plot(self.plot, theme)
        self.limit.setPen(theme.pen(theme.dim))
        self.ground.brush = theme.brush(theme.dim, 40)
        self.bars.setPen(theme.pen(theme.dim))
        self.threshold.setPen(theme.pen(theme.major, dashed=True))
        self.threshold.setHoverPen(theme.pen(theme.major, 3.0))
        self.in_force.setPen(theme.pen(theme.dim, dashed=True))
        for word, item in self.dots.items():
            colour = theme.verdict_colour(word)
            edge = theme.pen(colour, 2.0) if word == "refused" else theme.pen(theme.background, 0.7)
            item.set_look(theme.px(_SIZES[word]), edge, theme.brush(colour))

    def refresh(self, scene: Scene) -> None:
        """Draw what the x range shows."""
        self._scene = scene
        charts, shown = scene.charts, self.shown
        thresholds = in_force(scene.status)
        if thresholds != self._thresholds:   # set by us or by somebody else: what was tried is told against the new one
            self._thresholds, self.tried = thresholds, None
        x, y = charts.order, shown.to_axis(charts.numbers[shown.column])
        low, high = self.timeline.range
        some = thin(x, y, low, high)
        self._draw_ground(charts, some, shown)
        for word, item in self.dots.items():
            chosen = self._chosen(charts, word, some, y)
            item.set_dots(x[chosen], self._floored(y[chosen]), charts.position[chosen])
        self._draw_threshold(charts)
        self._fit_range(y[some])
        self.empty.say("" if x.size else "no projections yet")

    def as_table(self, scene: Scene) -> Table:
        """Return the frames that the chart spans."""
        return frames_table(scene.charts, _TABLE, within=self.timeline.range)

    def lower(self) -> None:
        """Try a threshold one step lower."""
        self._step(-1)

    def higher(self) -> None:
        """Try a threshold one step higher."""
        self._step(+1)

    def toggle_quantity(self) -> None:
        """Show the length or the score of the blur."""
        self.choice.next()

    def attempt(self, value: float) -> None:
        """Show what another threshold would have flagged."""
        if self._thresholds is None:
            return
        value = round(min(max(value, self.shown.low), self.shown.high), 2)
        self.tried = value if value != getattr(self._thresholds, self.shown.threshold) else None
        self._draw_threshold(self._scene.charts)

    def apply(self) -> None:
        """Ask the streamer to take the threshold that is tried."""
        if self.tried is not None:
            self.asked.emit("set", {"key": self.shown.key, "value": self.tried})

    def give_up(self) -> bool:
        """Drop the threshold that is tried; False if there is none."""
        if self.tried is None:
            return False
        self.tried = None
        self._draw_threshold(self._scene.charts)
        return True

    def _step(self, sign: int) -> None:
        if self._thresholds is not None:
            now = getattr(self._thresholds, self.shown.threshold) if self.tried is None else self.tried
            self.attempt(now + sign * self.shown.step)

    def _quantity_changed(self) -> None:
        self.give_up()
        axis = self.plot.getAxis("left")
        axis.setLogMode(y=self.shown.logarithmic)
        axis.setLabel(self.shown.label, **axis.labelStyle)
        self._range = (0.0, -1.0)
        self.refresh(self._scene)

    def _draw_threshold(self, charts: Charts) -> None:
        """Draw the line, and what changes if it is not the one in force."""
        self.threshold.setVisible(self._thresholds is not None)
        self.in_force.setVisible(self.tried is not None)
        trial = None
        if self._thresholds is not None:
            name = self.shown.threshold
            now = getattr(self._thresholds, name)
            self.in_force.setValue(self.shown.to_axis(now))
            self.threshold.setValue(self.shown.to_axis(now if self.tried is None else self.tried))
            if self.tried is not None:
                trial = judge(charts, self._thresholds._replace(**{name: self.tried}))
        self._mark(charts, trial)
        self._show_trial(trial)

    def _mark(self, charts: Charts, trial: Trial | None) -> None:
        y = self.shown.to_axis(charts.numbers[self.shown.column])
        for item, name, colour in ((self.newly, "newly", self.theme.major),
                                   (self.no_longer, "no_longer", self.theme.ok)):
            chosen = self._within(charts, getattr(trial, name), y) if trial is not None else np.zeros(0, np.int64)
            item.set_look(self.theme.px(19 if len(chosen) <= _FEW else 9), self.theme.pen(colour, 2.0), None)
            item.set_dots(charts.order[chosen], self._floored(y[chosen]))

    def _show_trial(self, trial: Trial | None) -> None:
        """Say what a trial would have flagged, in place of the legend."""
        for widget in (self.apply_button, self.drop_button):
            widget.setVisible(trial is not None)
        for enter in self._enters:
            enter.setEnabled(trial is not None)
        if trial is None:
            self._write_legend()
            return
        brief, counts = told(trial, self._scene.charts.verdict)
        self._legend.set_runs([
            (f"   {self.tried:.4g}{self.shown.unit} {brief}", self.theme.text), ("   ○ newly", self.theme.major),
            ("   □ no longer", self.theme.ok), (f"   {counts}", self.theme.dim)])

    def _write_legend(self) -> None:
        here = {word for word, item in self.dots.items() if len(item.x)} | {"sharp", "blurred"}
        runs = [(f"   {GLYPHS[word]} {word}", self.theme.verdict_colour(word)) for word in self.dots if word in here]
        if self._thresholds is not None:
            name = "tolerance" if self.shown.threshold == "tolerance_px" else "threshold"
            value = getattr(self._thresholds, self.shown.threshold)
            runs.append((f"   ┄ {name} {value:.4g}{self.shown.unit}", self.theme.major))
        if self.shown.column == "blur_length_px":
            runs.append(("   ▒ limit", self.theme.dim))
        self._legend.set_runs(runs)

    def _draw_ground(self, charts: Charts, some: IntColumn, shown: Shown) -> None:
        """Draw limit and error bars of lengths; scores are in units of their error."""
        if shown.column != "blur_length_px":
            self.limit.setData([], [])
            self.ground.set_band(*np.zeros((3, 0)))
            self.bars.setData([], [])
            return
        limit = charts.numbers["blur_limit_px"]
        self.limit.setData(charts.order[some], limit[some])
        known = some[np.isfinite(limit[some])]
        self.ground.set_band(charts.order[known], np.zeros(known.size), limit[known])
        length, sigma = charts.numbers["blur_length_px"], charts.numbers["blur_length_sigma_px"]
        known = some[np.isfinite(sigma[some]) & np.isfinite(length[some])]
        ends = np.stack([np.maximum(length[known] - sigma[known], 0.0), length[known] + sigma[known]], axis=1)
        self.bars.setData(np.repeat(charts.order[known], 2), ends.ravel())

    def _fit_range(self, shown: FloatColumn) -> None:
        threshold = float(self.threshold.value()) if self._thresholds is not None else 0.0
        known = shown[np.isfinite(shown)]
        top = max(threshold * 1.5, 1.0, float(known.max()) if known.size else 0.0)
        if self.shown.logarithmic:
            self._range = settle(self._range, np.log10(LEAST_DRAWN), max(top, threshold + 0.3), least=1.0)
            self.plot.getViewBox().setYRange(*self._range, padding=0)
            return
        self._range = settle(self._range, -0.02 * top, top, least=1.0)
        self.plot.getViewBox().setYRange(max(self._range[0], -0.05 * top), self._range[1], padding=0)

    def _chosen(self, charts: Charts, word: str, some: IntColumn, y: FloatColumn) -> IntColumn:
        if word == "sharp":
            return some[charts.verdict[some] == VERDICTS.index("sharp")]
        code = 0 if word == "refused" else VERDICTS.index(word)
        return self._within(charts, charts.flagged & (charts.verdict == code), y)

    def _floored(self, y: FloatColumn) -> FloatColumn:
        """Put frames without a value on the floor."""
        return np.where(np.isfinite(y), y, self.shown.to_axis(0.0))

    def _within(self, charts: Charts, marked: Any, y: FloatColumn) -> IntColumn:
        """Choose among marked frames those to draw."""
        places = np.flatnonzero(marked)
        return places[thin(charts.order[places], y[places], *self.timeline.range, most=_MARKED)]


def _button(text: str) -> QtWidgets.QPushButton:
    button = QtWidgets.QPushButton(text)
    button.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
    return button
