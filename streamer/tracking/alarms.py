"""When a person is told: rules over rows and events, one alert for a burst."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamer.records import Alert, Event, FrameRow, Leaving, Recollection, Severity, StageMove
from streamer.settings import AlertsSettings
from streamer.tracking import alert_rules as rules
from streamer.tracking.alert_book import AlertBook

_BURST_FRAMES = 5
"""An alert is counted on, not raised anew, while its rule fires again within so many frames of the view."""
_SERIES_ON = 2
_SERIES_OF = 3
"""A series of blurred frames is on when so many of the last so many are blurred, and off when none of them is."""
_VIEWS = 1024
"""Views whose frames are counted, those seen last."""


@dataclass(slots=True)
class _View:
    """What is remembered of one view."""

    passed: int = 0
    """Frames."""
    fired: dict[str, int] = field(default_factory=dict)
    """Frames that had passed when a rule last fired."""
    judged: deque[bool] = field(default_factory=lambda: deque(maxlen=_SERIES_OF))
    """Whether each of the last frames is blurred."""
    told_frames: float = 0.0
    """What was told last of the frames until it is left."""


class Alarms:
    """Turn what happens into alerts; every method returns the alerts that changed.

    Parameters
    ----------
    settings : AlertsSettings
        Thresholds; may be replaced at any time.
    clock : callable
        Seconds that never step back, for durations.
    """

    def __init__(self, settings: AlertsSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._book = AlertBook(clock)
        self._views: OrderedDict[str, _View] = OrderedDict()
        self._stream = _View()
        """Of what belongs to no view."""

    def frame(self, row: FrameRow, *, at: float, lost: bool = False, jump_px: float | None = None,
              focus_loss_px: float | None = None, speed_px: float | None = None, retried: bool = False,
              ) -> list[Alert]:
        """Judge a new row.

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
        speed_px : float, optional
            Of the trend, per frame; None changes nothing.
        retried : bool
            Whether it was asked for: that it is blurred or bad again is told in the alert of the frame it came for.
        """
        view = self._view(row.view)
        view.passed += 1
        self._stream.passed += 1
        alerts = [*self._lapse(view, row.view, at), *self._lapse(self._stream, "", at)]
        own = () if retried else (rules.blurred_frame(row), rules.bad_frame(row))
        for found in (*own, rules.lost_registration(row, lost=lost),
                      rules.jump(row, jump_px, limit_px=self.settings.jump_px)):
            alerts += self._fire(found, view, row, at)
        focus = None if focus_loss_px is None else (
            f"the focus is being lost: {focus_loss_px:.1f} px of blur have crept in by frame {row.index}; refocus")
        alerts += self.condition("slow_defocus", focus, at=at, view=row.view)
        return [*alerts, *self._series(view, row, at), *self._drift(speed_px, row, at)]

    def leaving(self, forecast: Leaving | None, stage: StageMove | None, *, view: str, index: int, at: float,
                ) -> list[Alert]:
        """Follow whether the region of interest is about to leave the field of view, with hysteresis.

        What is told is told again when half of the time is gone.

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
        limit, left = self.settings.leaving_frames, forecast.frames
        if left is None or left > rules.OVER * limit or not limit:
            return self._book.end("leaving_view", view, at=at)
        known, active = self._view(view), self._book.is_active("leaving_view", view)
        if (left > limit and not active) or (active and left > 0.5 * known.told_frames):
            return []
        known.told_frames = left
        found = rules.leaving_view(forecast, stage, index=index, limit=limit)
        if active:
            return self._book.update(found.rule, view, at=at, severity=found.severity, text=found.text)
        return self._book.fire(*found, at=at, view=view, lasting=True)

    def revision(self, before: FrameRow, after: FrameRow, *, at: float, who: str = "") -> list[Alert]:
        """Judge an earlier row that was revised: a frame is reported as soon as it is surely blurred, and once.

        Parameters
        ----------
        before, after : FrameRow
        at : float
            Unix seconds.
        who : str
            The person who revised it; empty: the streamer itself.
        """
        was, now = (rules.blurred_frame(row) or rules.bad_frame(row) for row in (before, after))
        if now is not None and (was is None or (was.rule != now.rule and who)):
            return self._fire(now, self._view(after.view), after, at)
        if was is None or now is not None:
            return []
        now_is = "shows no sample" if rules.is_taken(after) else f"is {after.verdict}"
        text = f"frame {after.index} was taken for {before.verdict} and {now_is} after all"
        return self._book.cleared((after.acquisition, after.index), text + (f", says {who}" if who else ""),
                                  who=who, at=at)

    def event(self, event: Event) -> list[Alert]:
        """Judge something that happened to the stream."""
        found = rules.event(event)
        if found is None:
            return []
        self._stream.fired[found.rule] = self._stream.passed
        return self._book.fire(*found, at=event.at, acquisition=event.acquisition, index=event.index)

    def condition(self, rule: str, text: str | None, *, at: float, severity: Severity = "MAJOR",
                  view: str = "") -> list[Alert]:
        """Follow a lasting condition, such as a stalled stream: a text while it holds, None when it is over."""
        if text is None:
            return self._book.end(rule, view, at=at)
        if self._book.is_active(rule, view):
            return []
        return self._book.fire(rule, severity, text, at=at, view=view, lasting=True)

    def is_active(self, rule: str, view: str = "") -> bool:
        """Tell whether a lasting condition holds, for those that judge with hysteresis."""
        return self._book.is_active(rule, view)

    def recollection(self, request: Recollection, came: int | None, *, at: float) -> list[Alert]:
        """Follow a request to take a frame again in the alert of that frame.

        Parameters
        ----------
        request : Recollection
        came : int or None
            The frame that came for it with this change.
        at : float
            Unix seconds.
        """
        key = request.acquisition, request.index
        alerts = [] if came is None else self._book.came(key, came, request.verdict, at=at)
        if request.state == "open":
            return [*alerts, *self._book.asked(key, at=at)]
        alerts += self._book.settled(key, at=at)
        if request.state == "given_up":
            text = (f"frame {request.index} was taken again {request.tries} times and none was sharp; "
                    "it is not asked for any more")
            alerts += self._book.fire("recollection_failed", "MAJOR", text, at=at, view=request.view,
                                      acquisition=request.acquisition, index=request.index)
            view = self._view(request.view)
            view.fired["recollection_failed"] = view.passed
        return alerts

    def acknowledge(self, alert_id: int, *, who: str, note: str, at: float) -> Alert | None:
        """Mark an alert as seen by a person; None if no such alert is open."""
        return self._book.acknowledge(alert_id, who=who, note=note, at=at)

    def acknowledge_all(self, *, who: str, note: str, at: float) -> list[Alert]:
        """Mark every alert as seen that nobody has acknowledged yet."""
        return self._book.acknowledge_all(who=who, note=note, at=at)

    def shelve(self, alert_id: int, seconds: float, *, note: str, at: float) -> Alert | None:
        """Keep an alert quiet for a time, or, with 0, no longer; None if no such alert is open."""
        return self._book.shelve(alert_id, seconds, note=note, at=at)

    def existed(self, alert_id: int) -> bool:
        """Tell whether there ever was an alert with this id."""
        return 0 < alert_id <= self._book.last_id

    def tick(self, *, at: float, flush: bool = False) -> list[Alert]:
        """Do what time brings; call it several times a second, and with `flush` at the end."""
        return self._book.tick(at=at, escalate_s=self.settings.escalate_s, flush=flush)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as builtins."""
        return {"book": self._book.snapshot(), "stream": _pack(self._stream),
                "views": {name: _pack(view) for name, view in self._views.items()}}

    def restore(self, state: Mapping[str, Any], *, at: float | None = None) -> None:
        """Go on from a `snapshot`, at a time of the wall clock (Unix seconds), now by default."""
        self._book.restore(state["book"], at=time.time() if at is None else at)
        self._stream = _unpack(state["stream"])
        self._views = OrderedDict((name, _unpack(view)) for name, view in state["views"].items())

    def _view(self, name: str) -> _View:
        view = self._views.setdefault(name, _View())
        self._views.move_to_end(name)
        while len(self._views) > _VIEWS:
            self._views.popitem(last=False)
        return view

    def _fire(self, found: rules.Found | None, view: _View, row: FrameRow, at: float) -> list[Alert]:
        if found is None:
            return []
        view.fired[found.rule] = view.passed
        return self._book.fire(*found, at=at, view=row.view, acquisition=row.acquisition, index=row.index,
                               owns=found.rule == "blurred_frame" or found.rule in rules.BAD_RULES)

    def _lapse(self, view: _View, name: str, at: float) -> list[Alert]:
        """End the bursts that have not been counted on for some frames."""
        over = [rule for rule, fired in view.fired.items() if view.passed - fired > _BURST_FRAMES]
        for rule in over:
            del view.fired[rule]
        return [alert for rule in over for alert in self._book.lapse(rule, name, at=at)]

    def _series(self, view: _View, row: FrameRow, at: float) -> list[Alert]:
        """Follow series of blurred frames, with hysteresis."""
        if row.provisional or row.verdict not in {"blurred", "sharp"}:
            return []
        judged = view.judged
        judged.append(row.verdict == "blurred")
        if sum(judged) >= _SERIES_ON:
            text = (f"{sum(judged)} of the last {len(judged)} frames are blurred, up to frame {row.index}; "
                    "look at stage, vibration and focus")
            return self.condition("blurred_series", text, at=at, view=row.view)
        return [] if any(judged) else self.condition("blurred_series", None, at=at, view=row.view)

    def _drift(self, speed_px: float | None, row: FrameRow, at: float) -> list[Alert]:
        """Follow the speed of the trend, with a dead-band."""
        limit = self.settings.drift_px
        if speed_px is None:
            return []
        if not limit or speed_px < rules.CALM * limit:
            return self.condition("drift_rate", None, at=at, view=row.view)
        if speed_px <= limit:
            return []
        text = (f"the sample drifts by {speed_px:.1f} px a frame at frame {row.index}, more than {limit:g}; "
                "look at stage and temperature")
        return self.condition("drift_rate", text, at=at, severity="MINOR", view=row.view)


def _pack(view: _View) -> dict[str, Any]:
    return {"passed": view.passed, "fired": dict(view.fired), "judged": list(view.judged),
            "told_frames": view.told_frames}


def _unpack(state: Mapping[str, Any]) -> _View:
    return _View(int(state["passed"]), dict(state["fired"]), deque(state["judged"], _SERIES_OF), state["told_frames"])
