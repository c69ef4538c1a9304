"""When a person is told: rules over rows and events, one alert for a burst."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec

from streamer.clock import utc_text
from streamer.records import Alert, Event, FrameRow, Severity
from streamer.settings import AlertsSettings

_BURST_FRAMES = 5
"""An alert is counted on, not raised anew, while its rule fires again within so many frames of the view."""
_SERIES = 3
"""So many blurred frames in a burst are no accident."""

_REMEMBERED = 10_000
"""Alerts that can still be acknowledged."""

_EVENT_SEVERITY: Mapping[str, Severity] = {
    "gap": "MAJOR", "dropped": "MAJOR", "malformed": "MAJOR", "refused": "MAJOR",
    "duplicate": "MINOR", "out_of_order": "MINOR", "restart": "MINOR",
}


@dataclasses.dataclass(slots=True)
class _Burst:
    alert: Alert
    last_seen: int
    """Frames of the view, or events, that had passed when the rule last fired."""


class Alarms:
    """Turn what happens into alerts.

    Parameters
    ----------
    settings : AlertsSettings
        Thresholds.
    """

    def __init__(self, settings: AlertsSettings) -> None:
        self.settings = settings
        self._alerts: dict[int, Alert] = {}
        self._bursts: dict[tuple[str, str], _Burst] = {}
        self._passed: dict[str, int] = {}
        self._last_id = 0

    def frame(self, row: FrameRow, *, at: float, lost: bool = False, jump_px: float | None = None) -> list[Alert]:
        """Judge a new row; return alerts that are new or count on."""
        passed = self._passed[row.view] = self._passed.get(row.view, 0) + 1
        found: list[tuple[str, Severity, str]] = []
        if _surely_blurred(row):
            found.append(("blurred_frame", "MINOR", _blurred_text(row)))
        if row.verdict == "bad":
            found.append(("bad_frame", "MAJOR", f"frame {row.index} has no usable image: {row.problems}"))
        if lost:
            text = f"frame {row.index} shares too little with the reference; its drift is not known"
            found.append(("lost_registration", "MAJOR", text))
        if jump_px is not None and jump_px > self.settings.jump_px:
            found.append(("jump", "MINOR", f"the sample jumped by {jump_px:.0f} px at frame {row.index}"))
        return [self._raise(rule, severity, text, at=at, passed=passed, view=row.view, index=row.index,
                            acquisition=row.acquisition) for rule, severity, text in found]

    def revision(self, before: FrameRow, after: FrameRow, *, at: float) -> list[Alert]:
        """Judge an earlier row that was revised: a frame is reported as soon as it is surely blurred, and once."""
        if _surely_blurred(before) or not _surely_blurred(after):
            return []
        return [self._raise("blurred_frame", "MINOR", _blurred_text(after), at=at,
                            passed=self._passed.get(after.view, 0), view=after.view, index=after.index,
                            acquisition=after.acquisition)]

    def event(self, event: Event) -> list[Alert]:
        """Judge something that happened to the stream."""
        severity = _EVENT_SEVERITY.get(event.kind)
        if severity is None:
            return []
        passed = max(self._passed.values(), default=0)
        return [self._raise(event.kind, severity, event.text, at=event.at, passed=passed, view="",
                            index=event.index, acquisition=event.acquisition)]

    def condition(self, rule: str, text: str | None, *, at: float, severity: Severity = "MAJOR") -> list[Alert]:
        """Follow a lasting condition, such as a stalled stream: a text while it holds, None when it is over."""
        burst = self._bursts.get((rule, ""))
        if text is None:
            return [] if self._bursts.pop((rule, ""), None) is None else self._close(burst)
        if burst is not None:
            return []
        return [self._raise(rule, severity, text, at=at, passed=0, view="")]

    def acknowledge(self, alert_id: int, *, who: str, note: str) -> Alert | None:
        """Mark an alert as seen by a person; None if there is no such alert."""
        alert = self._alerts.get(alert_id)
        if alert is None:
            return None
        return self._keep(msgspec.structs.replace(alert, state="acknowledged", who=who, note=note))

    def _close(self, burst: _Burst | None) -> list[Alert]:
        if burst is None:
            return []
        return [self._keep(msgspec.structs.replace(self._alerts[burst.alert.id], state="closed"))]

    def _raise(self, rule: str, severity: Severity, text: str, *, at: float, passed: int, view: str,
               **fields: Any) -> Alert:
        burst = self._bursts.get((rule, view))
        if burst is not None and passed - burst.last_seen <= _BURST_FRAMES and burst.alert.state == "new":
            count = burst.alert.count + 1
            if rule == "blurred_frame" and count >= _SERIES:
                severity = "MAJOR"
            alert = msgspec.structs.replace(burst.alert, count=count, text=text, severity=severity, **fields)
        else:
            self._last_id += 1
            alert = Alert(id=self._last_id, raised_at=utc_text(at) or "", severity=severity, rule=rule, text=text,
                          view=view, **fields)
        self._bursts[rule, view] = _Burst(alert, passed)
        return self._keep(alert)

    def _keep(self, alert: Alert) -> Alert:
        self._alerts[alert.id] = alert
        if len(self._alerts) > _REMEMBERED:
            del self._alerts[min(self._alerts)]
        for burst in self._bursts.values():
            if burst.alert.id == alert.id:
                burst.alert = alert
        return alert


def _surely_blurred(row: FrameRow) -> bool:
    return row.verdict == "blurred" and not row.provisional


def _blurred_text(row: FrameRow) -> str:
    length_px, angle_deg = row.blur_length_px or 0.0, row.blur_angle_deg or 0.0
    return f"frame {row.index} is blurred: {length_px:.1f} px along {angle_deg:.0f} deg; take it again"
