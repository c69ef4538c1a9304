"""The line one reads from across the room: state, worst alert, the newest frame in big numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from pyqtgraph.Qt import QtCore, QtWidgets

from monitor.feed import LinkState
from monitor.panels.base import ElidedLabel, Panel, Scene
from monitor.panels.parts import Combo
from monitor.panels.timeline import Timeline
from monitor.rows import VERDICTS
from monitor.store import is_shelved
from monitor.theme import GLYPHS, SEVERITY_GLYPHS, Theme
from monitor.words import DASH, came_late_s, decimals, duration, length_um, value, verdict_word
from streamer.records import Alert, FrameRow

ALL_VIEWS = "all views"
REPLAY_AFTER_S = 600.0
"""A frame that comes so long after its exposure is of a recording."""
JITTER_FRAMES = 100
_NUMBERS = {"frame": 62, "blur": 92, "drift y": 128, "drift x": 128, "jitter": 92, "flagged": 104, "asked": 60}
"""With the width of each in px."""
_FIRST_TO_GO = ("asked", "flagged", "jitter")
"""Where there is little room, so that the alert keeps a third of the line."""


class BannerPanel(Panel):
    """Never pauses: an alert must be seen while the display is frozen."""

    pace = "labels"
    view_chosen = QtCore.Signal(object)

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.setObjectName("banner")
        self.head.hide()
        line = QtWidgets.QHBoxLayout()
        self._line = line
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
        self.views = Combo()
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
        self._line.setSpacing(round(theme.px(14)))
        self.chip.setMinimumWidth(round(theme.px(150)))
        self.alert.setFont(theme.font(11.5, bold=True))
        for name, width in _NUMBERS.items():   # so that nothing moves when digits come and go
            self.numbers[name].setMinimumWidth(round(theme.px(width)))

    def refresh(self, scene: Scene) -> None:
        """Show the state now, whether paused or not."""
        row = self._newest(scene)
        late_s = came_late_s(row)
        replayed_s = late_s if late_s is not None and late_s > REPLAY_AFTER_S else None
        self._show_chip(scene, replayed=replayed_s is not None)
        self._show_alert(scene, replayed_s)
        self._list_views(scene)
        self._show_newest(row, scene.pixel_size_nm)
        self._show_jitter(scene)
        counts = np.bincount(scene.charts.verdict[scene.charts.flagged], minlength=len(VERDICTS))
        named = [f"{GLYPHS[VERDICTS[code] or 'refused']}{counts[code]}" for code in (2, 3, 4, 0) if counts[code]]
        self._set("flagged", str(int(counts.sum())), "flagged  " + " ".join(named))
        asked = sum(request.state == "open" for request in scene.store.recollections())
        self._set("asked", str(asked), "to retake", self.theme.minor if asked else None)

    def resizeEvent(self, event: Any) -> None:
        """Leave out numbers where there is little room."""
        super().resizeEvent(event)
        views = self.views.maximumWidth() if self.views.isVisible() else 0
        room = self.width() - self.theme.px(150 + 14 * (len(_NUMBERS) + 2)) - views
        widths = dict(_NUMBERS)
        for name in (*_FIRST_TO_GO, None):
            if name is None or room - self.theme.px(sum(widths.values())) > self.width() / 3:
                break
            del widths[name]
        for name in _FIRST_TO_GO:
            for label in (self.numbers[name], self.numbers[f"{name} caption"]):
                label.setVisible(name in widths)

    def _show_newest(self, row: FrameRow | None, size_nm: float | None) -> None:
        self._set("frame", DASH if row is None else str(row.index), "frame")
        word = verdict_word(row) if row is not None else ""
        sigma = row.blur_length_sigma_px if row is not None else None
        length = value(row.blur_length_px, digits=decimals(sigma, otherwise=1), unit="px") if row is not None else DASH
        self._set("blur", length, f"{GLYPHS.get(word, '')} {word}".strip() or "blur", self.theme.verdict_colour(word))
        for axis in ("y", "x"):
            drift = getattr(row, f"drift_{axis}_px") if row is not None else None
            sigma = row.drift_sigma_px if row is not None else None
            text = value(drift, digits=min(decimals(sigma), 2), unit="px", signed=True)   # to be read from afar
            um = length_um(drift, size_nm, sigma_px=sigma)
            self._set(f"drift {axis}", text, f"drift {axis}  {um}".strip())

    def _show_jitter(self, scene: Scene) -> None:
        both = np.stack([scene.charts.numbers[f"jitter_{axis}_px"] for axis in "yx"])
        newest = both[:, np.isfinite(both).all(axis=0)][:, -JITTER_FRAMES:]
        size_nm, count = scene.pixel_size_nm, newest.shape[1]
        rms = float(np.sqrt((newest**2).sum(axis=0).mean())) if count > 1 else None
        digits = decimals(rms / (2 * count) ** 0.5 if rms else None)
        nm = f"  {rms * size_nm:.0f} nm" if rms is not None and size_nm else ""
        self._set("jitter", value(rms, digits=digits, unit="px"), f"jitter{nm}")
        self.numbers["jitter"].setToolTip(f"root mean square of the distance from the trend, newest {count} frames")

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

    def _show_chip(self, scene: Scene, *, replayed: bool) -> None:
        theme, link = self.theme, scene.link
        colour = {LinkState.LIVE: theme.ok, LinkState.STALE: theme.minor, LinkState.DISCONNECTED: theme.major,
                  LinkState.CONNECTING: theme.border, LinkState.ENDED: theme.border}[link.state]
        shape = {LinkState.LIVE: "● ", LinkState.STALE: "■ ", LinkState.DISCONNECTED: "▲ "}.get(link.state, "")
        text = f"{shape}{link.chip}"
        if replayed and link.state is LinkState.LIVE:
            text, colour = "◀ REPLAY", theme.minor
        if scene.behind is not None:
            text, colour = f"PAUSED · {link.chip}", theme.invalid
        self.chip.setText(text)
        plain = colour == theme.border
        style = (f"background: {colour}; color: {theme.text if plain else theme.on_state}; font-weight: bold; "
                 f"border-radius: {theme.px(4):.0f}px; padding: {theme.px(7):.0f}px {theme.px(10):.0f}px;")
        if self.chip.styleSheet() != style:
            self.chip.setStyleSheet(style)

    def _show_alert(self, scene: Scene, replayed_s: float | None) -> None:
        waiting = scene.store.waiting_alerts()
        shelved = sum(is_shelved(alert) for alert in waiting)
        alert = scene.store.worst_alert()
        quiet = f"  ·  {shelved} shelved" if shelved else ""
        if alert is not None:
            more = len(waiting) - shelved - 1
            others = f"  ·  {more} more" if more else ""
            self.alert.set_runs([(_headline(alert), self.theme.severity_colour(alert.severity)), (alert.text, None),
                                 (others + quiet, self.theme.dim)])
        else:
            self.alert.set_runs([("no alert to acknowledge" + quiet, self.theme.dim)])
        notes = []
        if scene.behind is not None:
            notes.append(f"paused, {scene.behind} behind; Space goes on")
        notes += [text for text in (scene.link.text, scene.message) if text]
        if replayed_s is not None:
            notes.append(f"frames come {duration(replayed_s)} after their exposure: a recording, or clocks that differ")
        if scene.status is not None:
            notes += scene.status.problems
        if scene.locked:
            notes.append(scene.locked)
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


def _headline(alert: Alert) -> str:
    """Write how bad it is, where, how often, and whether nobody has looked for too long."""
    where = f"  frame {alert.index}" if alert.index is not None else ""
    times = f"  ({alert.count} frames)" if alert.count > 1 else ""
    escalated = "  ESCALATED" if alert.escalated else ""
    return f"{SEVERITY_GLYPHS[alert.severity]} {alert.severity}{where}{times}{escalated}  "


def _doing(scene: Scene) -> str:
    """Say what the streamer does, when there is nothing more important."""
    if scene.status is None:
        return ""
    name = f"acquisition {scene.status.acquisition}" if scene.status.acquisition else "acquisition"
    return {"waiting": f"waiting for frames from {scene.status.frames_endpoint}", "idle": f"{name} has ended",
            "receiving": f"{name} is running", "stopping": ""}[scene.status.state]
