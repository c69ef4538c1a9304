"""The line one reads from across the room: state, worst alert, the newest frame in big numbers."""

from __future__ import annotations

import numpy as np
from pyqtgraph.Qt import QtCore, QtWidgets

from monitor.feed import LinkState
from monitor.panels.base import ElidedLabel, Panel, Scene
from monitor.panels.timeline import Timeline
from monitor.rows import VERDICTS
from monitor.theme import GLYPHS, SEVERITY_GLYPHS, Theme
from monitor.words import DASH, length_um, value, verdict_word
from streamer.records import FrameRow

ALL_VIEWS = "all views"
_NUMBERS = {"frame": 62, "blur": 86, "drift y": 122, "drift x": 122, "flagged": 96}
"""With the width of each in px."""


class BannerPanel(Panel):
    """Never pauses: an alert must be seen while the display is frozen."""

    pace = "labels"
    view_chosen = QtCore.Signal(object)

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.setObjectName("banner")
        self.head.hide()
        line = QtWidgets.QHBoxLayout()
        line.setSpacing(14)
        self.chip = QtWidgets.QLabel("CONNECTING")
        self.chip.setAlignment(QtCore.Qt.AlignmentFlag.AlignCenter)
        self.alert = ElidedLabel()
        self.note = ElidedLabel()
        self.note.setObjectName("caption")
        words = QtWidgets.QVBoxLayout()
        words.setSpacing(0)
        words.addWidget(self.alert)
        words.addWidget(self.note)
        self.numbers: dict[str, QtWidgets.QLabel] = {}
        line.addWidget(self.chip)
        line.addLayout(words, 1)
        for name in _NUMBERS:
            line.addLayout(self._number(name))
        self.views = QtWidgets.QComboBox()
        self.views.addItem(ALL_VIEWS)
        self.views.setFocusPolicy(QtCore.Qt.FocusPolicy.ClickFocus)
        self.views.setMaximumWidth(170)
        self.views.activated.connect(self._view_activated)
        line.addWidget(self.views)
        self._body.addLayout(line)

    def _view_activated(self, number: int) -> None:
        self.views.clearFocus()   # keys belong to the window
        self.view_chosen.emit(self.views.itemData(number))

    def _number(self, name: str) -> QtWidgets.QVBoxLayout:
        column = QtWidgets.QVBoxLayout()
        column.setSpacing(0)
        number, caption = QtWidgets.QLabel(DASH), QtWidgets.QLabel(name)
        number.setObjectName("number")
        caption.setObjectName("caption")
        column.addWidget(number)
        column.addWidget(caption)
        self.numbers[name] = number
        self.numbers[f"{name} caption"] = caption
        return column

    def restyle(self, theme: Theme) -> None:
        """Take other colours."""
        super().restyle(theme)
        self.chip.setMinimumWidth(round(theme.px(150)))
        self.alert.setFont(theme.font(11.5, bold=True))
        for name, width in _NUMBERS.items():   # so that nothing moves when digits come and go
            self.numbers[name].setMinimumWidth(round(theme.px(width)))

    def refresh(self, scene: Scene) -> None:
        """Show the state now, whether paused or not."""
        self._show_chip(scene)
        self._show_alert(scene)
        self._list_views(scene)
        row = self._newest(scene)
        size = scene.pixel_size_nm
        self._set("frame", DASH if row is None else str(row.index), "frame")
        word = verdict_word(row) if row is not None else ""
        self._set("blur", value(row.blur_length_px, unit="px") if row is not None else DASH,
                  f"{GLYPHS.get(word, '')} {word}".strip() or "blur", self.theme.verdict_colour(word))
        for axis in ("y", "x"):
            drift = getattr(row, f"drift_{axis}_px") if row is not None else None
            um = length_um(drift, size)
            self._set(f"drift {axis}", value(drift, digits=2, unit="px", signed=True), f"drift {axis}  {um}".strip())
        counts = np.bincount(scene.charts.verdict[scene.charts.flagged], minlength=len(VERDICTS))
        named = [f"{GLYPHS[VERDICTS[code] or 'refused']}{counts[code]}" for code in (2, 3, 4, 0) if counts[code]]
        self._set("flagged", str(int(counts.sum())), "flagged  " + " ".join(named))

    def _newest(self, scene: Scene) -> FrameRow | None:
        if scene.view is None:
            return scene.store.row(scene.newest)
        judged = np.flatnonzero(scene.charts.verdict > 0)
        return scene.store.row(int(scene.charts.position[judged[-1]])) if judged.size else None

    def _set(self, name: str, text: str, caption: str, colour: str | None = None) -> None:
        label, under = self.numbers[name], self.numbers[f"{name} caption"]
        for widget, words in ((label, text), (under, caption)):
            if widget.text() != words:
                widget.setText(words)
        style = f"color: {colour};" if colour else ""
        if label.styleSheet() != style:
            label.setStyleSheet(style)

    def _show_chip(self, scene: Scene) -> None:
        theme, link = self.theme, scene.link
        colour = {LinkState.LIVE: theme.ok, LinkState.STALE: theme.minor, LinkState.DISCONNECTED: theme.major,
                  LinkState.CONNECTING: theme.border, LinkState.ENDED: theme.border}[link.state]
        shape = {LinkState.LIVE: "● ", LinkState.STALE: "■ ", LinkState.DISCONNECTED: "▲ "}.get(link.state, "")
        text = f"{shape}{link.chip}"
        if scene.behind is not None:
            text, colour = f"PAUSED · {link.chip}", theme.invalid
        self.chip.setText(text)
        plain = colour == theme.border
        style = (f"background: {colour}; color: {theme.text if plain else theme.on_state}; font-weight: bold; "
                 f"border-radius: {theme.px(4):.0f}px; padding: {theme.px(7):.0f}px {theme.px(10):.0f}px;")
        if self.chip.styleSheet() != style:
            self.chip.setStyleSheet(style)

    def _show_alert(self, scene: Scene) -> None:
        alert = scene.store.worst_alert()
        if alert is not None:
            colour = self.theme.severity_colour(alert.severity)
            where = f"  frame {alert.index}" if alert.index is not None else ""
            times = f"  ({alert.count} frames)" if alert.count > 1 else ""
            self.alert.set_runs([(f"{SEVERITY_GLYPHS[alert.severity]} {alert.severity}{where}{times}  ", colour),
                                 (alert.text, None)])
        else:
            self.alert.set_runs([("no open alert", self.theme.dim)])
        notes = []
        if scene.behind is not None:
            notes.append(f"paused, {scene.behind} behind; Space goes on")
        notes += [text for text in (scene.link.text, scene.message) if text]
        if scene.status is not None:
            notes += scene.status.problems
        self.note.setText(" · ".join(notes) or _doing(scene))

    def _list_views(self, scene: Scene) -> None:
        names = [view or "unnamed view" for view in scene.store.views]
        if self.views.count() != len(names) + 1:
            self.views.clear()
            self.views.addItem(ALL_VIEWS, None)
            for name, view in zip(names, scene.store.views, strict=False):
                self.views.addItem(name, view)
        self.views.setVisible(len(names) > 1)
        index = 0 if scene.view is None else self.views.findData(scene.view)
        if index != self.views.currentIndex():
            self.views.setCurrentIndex(max(index, 0))


def _doing(scene: Scene) -> str:
    """Say what the streamer does, when there is nothing more important."""
    if scene.status is None:
        return ""
    name = f"acquisition {scene.status.acquisition}" if scene.status.acquisition else "acquisition"
    return {"waiting": f"waiting for frames from {scene.status.frames_endpoint}", "idle": f"{name} has ended",
            "receiving": f"{name} is running", "stopping": ""}[scene.status.state]
