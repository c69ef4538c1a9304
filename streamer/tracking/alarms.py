"""When a person is told: rules over rows and events, one alert for a burst."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from streamer.clock import utc_text
from streamer.records import Alert, Event, FrameRow, Leaving, Severity, StageMove
from streamer.settings import AlertsSettings

_BURST_FRAMES = 5
"""An alert is counted on, not raised anew, while its rule fires again within so many frames of the view."""
_SERIES_ON = 2
_SERIES_OF = 3
"""A series of blurred frames is on when so many of the last so many are blurred, and off when none of them is."""
_OVER = 1.5
"""A view is no longer being left when the forecast is this much longer than the limit."""
_LONG_PX = 5.0
"""A single frame blurred by more than this is more than a nuisance."""

_REMEMBERED = 10_000
"""Alerts that can still be acknowledged."""

_SEVERITIES: tuple[Severity, ...] = ("NO_ALARM", "MINOR", "MAJOR", "INVALID")
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
        self._judged: dict[str, deque[bool]] = {}
        """Whether each of the last frames of a view is blurred."""
        self._last_id = 0

    def frame(self, row: FrameRow, *, at: float, lost: bool = False, jump_px: float | None = None,
              focus_loss_px: float | None = None) -> list[Alert]:
        """Judge a new row; return alerts that are new, count on or close.

        Parameters
        ----------
        row : FrameRow
        at : float
            Unix seconds.
        lost : bool
            Whether the drift has been unknown for several frames.
        jump_px : float, optional
            How far the sample moved since the frame before.
        focus_loss_px : float, optional
            Blur that has crept in since the baseline was opened.
        """
        passed = self._passed[row.view] = self._passed.get(row.view, 0) + 1
        found: list[tuple[str, Severity, str]] = []
        if _surely_blurred(row):
            found.append(("blurred_frame", _blurred_severity(row), _blurred_text(row)))
        if row.verdict == "bad":
            found.append(("bad_frame", "MAJOR", f"frame {row.index} has no usable image: {row.problems}"))
        if lost:
            text = f"frame {row.index} shares too little with the reference; its drift is not known"
            found.append(("lost_registration", "MAJOR", text))
        if jump_px is not None and jump_px > self.settings.jump_px:
            found.append(("jump", "MINOR", f"the sample jumped by {jump_px:.0f} px at frame {row.index}"))
        alerts = [self._raise(rule, severity, text, at=at, passed=passed, view=row.view, index=row.index,
                              acquisition=row.acquisition) for rule, severity, text in found]
        focus = None if focus_loss_px is None else (
            f"the focus is being lost: {focus_loss_px:.1f} px of blur have crept in by frame {row.index}; refocus")
        return [*alerts, *self.condition("slow_defocus", focus, at=at, view=row.view), *self._series(row, at)]

    def _series(self, row: FrameRow, at: float) -> list[Alert]:
        """Follow series of blurred frames, with hysteresis."""
        if row.provisional or row.verdict not in {"blurred", "sharp"}:
            return []
        judged = self._judged.setdefault(row.view, deque(maxlen=_SERIES_OF))
        judged.append(row.verdict == "blurred")
        if sum(judged) >= _SERIES_ON:
            text = (f"{sum(judged)} of the last {len(judged)} frames are blurred, up to frame {row.index}; "
                    "look at stage, vibration and focus")
            return self.condition("blurred_series", text, at=at, view=row.view)
        return [] if any(judged) else self.condition("blurred_series", None, at=at, view=row.view)

    def leaving(self, forecast: Leaving | None, stage: StageMove | None, *, view: str, index: int, at: float,
                ) -> list[Alert]:
        """Follow whether the region of interest is about to leave the field of view, with hysteresis.

        Parameters
        ----------
        forecast : Leaving or None
            Of the newest frame; None when it does not tell, which changes nothing.
        stage : StageMove or None
            What would bring the sample back.
        view, index, at
            Of the frame; Unix seconds.
        """
        if forecast is None:
            return []
        limit = self.settings.leaving_frames
        left = forecast.frames
        if left is None or left > _OVER * limit or not limit:
            return self.condition("leaving_view", None, at=at, view=view)
        if left > limit:
            return []
        text = _leaving_text(forecast, stage, index)
        return self.condition("leaving_view", text, at=at, severity="MINOR", view=view)

    def revision(self, before: FrameRow, after: FrameRow, *, at: float) -> list[Alert]:
        """Judge an earlier row that was revised: a frame is reported as soon as it is surely blurred, and once."""
        if _surely_blurred(before) or not _surely_blurred(after):
            return []
        return [self._raise("blurred_frame", _blurred_severity(after), _blurred_text(after), at=at,
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

    def condition(self, rule: str, text: str | None, *, at: float, severity: Severity = "MAJOR",
                  view: str = "") -> list[Alert]:
        """Follow a lasting condition, such as a stalled stream: a text while it holds, None when it is over."""
        burst = self._bursts.get((rule, view))
        if text is None:
            return [] if self._bursts.pop((rule, view), None) is None else self._close(burst)
        if burst is not None:
            return []
        return [self._raise(rule, severity, text, at=at, passed=0, view=view)]

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
            fields["severity"] = max(severity, burst.alert.severity, key=_SEVERITIES.index)
            alert = msgspec.structs.replace(burst.alert, count=burst.alert.count + 1, text=text, **fields)
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


def _blurred_severity(row: FrameRow) -> Severity:
    return "MAJOR" if (row.blur_length_px or 0.0) > _LONG_PX else "MINOR"


def _leaving_text(forecast: Leaving, stage: StageMove | None, index: int) -> str:
    """Say when, how surely, and what would help."""
    low, high = (None if value is None else round(value) for value in (forecast.frames_low, forecast.frames_high))
    surely = f" (90 %: {low} to {'far' if high is None else high})"
    text = (f"the region of interest leaves the field of view in about {forecast.frames or 0.0:.0f} frames{surely}, "
            f"{100 * forecast.visible_share:.0f} % of it is visible at frame {index}")
    if stage is not None:
        text += f"; advice only: moving the stage by y {stage.y_um:+.2f} um, x {stage.x_um:+.2f} um brings it back"
    return text


def _surely_blurred(row: FrameRow) -> bool:
    return row.verdict == "blurred" and not row.provisional


def _blurred_text(row: FrameRow) -> str:
    where = "alike in all directions" if row.blur_shape == "defocus" else f"along {row.blur_angle_deg or 0.0:.0f} deg"
    return f"frame {row.index} is blurred: {row.blur_length_px or 0.0:.1f} px {where}; take it again"
