"""Where every frame went and how fast: the line at the bottom."""

from __future__ import annotations

from pyqtgraph.Qt import QtWidgets

from monitor.feed import LinkState
from monitor.panels.base import ElidedLabel, Panel, Scene
from monitor.panels.timeline import Timeline
from monitor.theme import Theme
from monitor.words import DASH, accounting, value
from streamer.records import Accounting, Status

_ODDITIES = (("duplicate", "duplicates"), ("out_of_order", "out of order"), ("malformed", "malformed"),
             ("refused", "refused"), ("restarts", "restarts"))


class StatusPanel(Panel):
    """Rates, lag, queue, losses by name, link."""

    pace = "labels"

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.head.hide()
        self._body.setContentsMargins(6, 2, 6, 2)
        line = QtWidgets.QHBoxLayout()
        self._line = line
        self.rates, self.lag, self.queue, self.lost, self.skipped, self.odd = self._labels = [
            QtWidgets.QLabel() for _ in range(6)]
        self.link = ElidedLabel()
        for label in self._labels:
            line.addWidget(label)
        line.addWidget(self.link, 1)
        self._body.addLayout(line)

    def restyle(self, theme: Theme) -> None:
        """Take other colours and another scale."""
        super().restyle(theme)
        self._line.setSpacing(round(theme.px(12)))

    def refresh(self, scene: Scene) -> None:
        """Show the newest heartbeat."""
        status = scene.status
        if status is None:
            for label in self._labels:
                label.setText("")
            self.link.setText(scene.link.endpoint)
            return
        old = scene.link.state in (LinkState.STALE, LinkState.DISCONNECTED)
        self.rates.setText(f"status of {scene.link.age_s or 0.0:.0f} s ago:" if old else
                           f"in {status.received_hz:.1f}/s  measured {status.measured_hz:.1f}/s  "
                           f"shown {scene.shown_hz:.1f}/s")
        self._colour(self.rates, self.theme.minor if old else None)
        self.rates.setToolTip("frames per second: received and measured by the streamer, painted here\n"
                              f"{_delay(scene)}")
        self.skipped.setText(f"skipped {scene.skipped}")
        self.skipped.setToolTip("pictures that came and were not painted, because newer ones came first; every row and "
                                f"every alert is counted all the same\n{_delay(scene)}")
        median, p95 = (value(lag, digits=0) for lag in (status.latency_median_ms, status.latency_p95_ms))
        self.lag.setText(f"lag {median} / {p95} ms")
        self.lag.setToolTip("received to published, median and 95 %, over the last frames")
        self.queue.setText(f"queue {status.queue}/{status.queue_limit}")
        full = status.queue_limit > 0 and status.queue >= 0.8 * status.queue_limit
        self._colour(self.queue, self.theme.major if full else None)
        counts = status.accounting
        lost = counts.missing.count + counts.dropped.count
        self.lost.setText(f"▲ lost {lost}" if lost else "lost 0")
        self._colour(self.lost, self.theme.major if lost else None)
        self.odd.setText("  ".join(self._odd(counts, scene)))
        self._colour(self.odd, self.theme.minor)
        for label in (self.lost, self.odd):
            label.setToolTip(accounting(counts))
        self.link.setText(self._link(status, scene))

    @staticmethod
    def _odd(counts: Accounting, scene: Scene) -> list[str]:
        odd = [f"{word} {getattr(counts, name).count}" for name, word in _ODDITIES if getattr(counts, name).count]
        if scene.link.foreign:
            odd.append(f"foreign messages {scene.link.foreign}")
        recovered = sum(scene.store.lost.get(topic, 0) for topic in ("frame", "alert"))
        if recovered:
            odd.append(f"results fetched again {recovered}")
        return odd

    @staticmethod
    def _link(status: Status, scene: Scene) -> str:
        age = DASH if status.last_frame_age_s is None else f"{status.last_frame_age_s:.1f} s ago"
        age += f" ({status.protocol})" if status.protocol else ""
        free = status.disk_free_gb
        room = "" if free is None else f"disk {value(free, digits=0, unit='GB')} free  ·  "
        return (f"last frame {age}  ·  {room}{scene.link.endpoint}  ·  txm-live {status.version}  ·  "
                f"session {status.session_dir}")

    @staticmethod
    def _colour(label: QtWidgets.QLabel, colour: str | None) -> None:
        style = f"color: {colour};" if colour else ""
        if label.styleSheet() != style:
            label.setStyleSheet(style)


def _delay(scene: Scene) -> str:
    if scene.paint_ms is None:
        return "no picture was painted yet"
    median, p95 = scene.paint_ms
    return f"message received to picture painted: {median:.0f} ms, 95 % within {p95:.0f} ms"
