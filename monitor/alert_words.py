"""Alerts and requests to take frames again, in words and in the order in which they matter."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from monitor.store import is_shelved, is_waiting
from monitor.theme import SEVERITY_GLYPHS
from monitor.words import DASH, clock
from streamer.records import Alert, Recollection

_ENDS = {"given_up": "given up", "expired": "expired", "withdrawn": "withdrawn"}
PRIORITIES = {1: "1 low", 2: "2 usual", 3: "3 urgent"}


def by_need(alerts: Iterable[Alert], now: datetime | None = None, *, closed: bool = True) -> list[Alert]:
    """Sort: what needs somebody now on top, then what is known or shelved, then what is closed; each newest first.

    Parameters
    ----------
    alerts : iterable of Alert
        Newest first.
    now : datetime, optional
        For what is shelved.
    closed : bool
        False leaves out what is closed.
    """
    urgent: list[Alert] = []
    known: list[Alert] = []
    ended: list[Alert] = []
    for alert in alerts:
        if alert.state == "closed":
            ended.append(alert)
        else:
            (urgent if is_waiting(alert) and not is_shelved(alert, now) else known).append(alert)
    return [*urgent, *known, *(ended if closed else ())]


def severity_words(alert: Alert) -> str:
    """Write the severity as shape and word."""
    return f"{SEVERITY_GLYPHS[alert.severity]} {alert.severity}"


def frames_words(alert: Alert) -> str:
    """Name the newest frame, and how many there are; how often it came where it is about none.

    >>> fields = {"id": 1, "raised_at": "", "severity": "MAJOR", "rule": "", "text": ""}
    >>> [frames_words(Alert(**fields, **more)) for more in ({"index": 47}, {"index": 47, "count": 3}, {"count": 2}, {})]
    ['47', '47 ×3', '×2', '–']
    """
    times = f"×{alert.count}" if alert.count > 1 else ""
    return f"{'' if alert.index is None else alert.index} {times}".strip() or DASH


def state_words(alert: Alert, now: datetime | None = None) -> str:
    """Say how far an alert has come, who has seen it, and what is odd about it."""
    taken = "" if alert.recollected_as is None else f"taken again as {alert.recollected_as}"
    if alert.recollected_verdict and taken:
        taken += f": {alert.recollected_verdict}"
    step = {"requested": "asked again", "closed": "closed"}.get(alert.state, "")
    parts = [part for part in (step, taken, f"acknowledged by {alert.who}" if alert.who else "") if part]
    if is_waiting(alert):
        if not alert.active and alert.state != "requested":
            parts.insert(0, "over, not acknowledged")
        elif alert.state == "new":
            parts.insert(0, "new")
        if is_shelved(alert, now):
            parts.insert(0, f"shelved until {clock(alert.shelved_until)[:5]}")
        if alert.escalated:
            parts.insert(0, "ESCALATED")
    return ", ".join(parts)


def brief_words(alert: Alert) -> str:
    """Return the text of an alert without the frame that stands beside it.

    >>> fields = {"id": 1, "raised_at": "", "severity": "MAJOR", "rule": "", "index": 4}
    >>> [brief_words(Alert(**fields, text=text)) for text in ("frame 4 is blurred: 3.3 px", "frames 4 to 7 missing")]
    ['blurred: 3.3 px', 'frames 4 to 7 missing']
    """
    return alert.text.removeprefix(f"frame {alert.index} ").removeprefix("is ")


def alert_detail(alert: Alert, now: datetime | None = None) -> str:
    """Write all that is known of an alert, a line each."""
    where = [f"frame {alert.index}" if alert.index is not None else "", alert.acquisition,
             f"view {alert.view}" if alert.view else ""]
    lines = [f"alert {alert.id}: {severity_words(alert)}, rule {alert.rule}",
             ", ".join(word for word in where if word),
             f"{alert.count} frames, or times" if alert.count > 1 else "", alert.text,
             f"{state_words(alert, now)}; raised {_day(alert.raised_at)}"
             + (f", changed {_day(alert.changed_at)}" if alert.changed_at else ""),
             f"note: {alert.note}" if alert.note else ""]
    return "\n".join(line for line in lines if line)


def by_urgency(requests: Iterable[Recollection]) -> list[Recollection]:
    """Sort: open ones on top, the most urgent first, then the others; each newest first."""
    return sorted(requests, key=lambda request: (request.state != "open",
                                                 -request.priority if request.state == "open" else 0, -request.id))


def tries_words(request: Recollection) -> str:
    """Write how many frames came for a request, and how many may."""
    return f"{request.tries}/{request.limit}"


def deadline_words(request: Recollection) -> str:
    """Say until when a request makes sense.

    >>> fields = {"id": 1, "requested_at": "", "acquisition": "", "index": 4, "view": "", "reason": ""}
    >>> [deadline_words(Recollection(**fields, **more)) for more in ({"deadline_frames": 63.4}, {})]
    ['in 63 frames', 'none known']
    """
    words = []
    if request.deadline_frames is not None:
        words.append(f"in {request.deadline_frames:.0f} frames")
    if request.deadline_at is not None:
        words.append(f"at {clock(request.deadline_at)[:8]}")
    return ", ".join(words) or "none known"


def request_words(request: Recollection) -> str:
    """Say how far a request has come.

    >>> fields = {"id": 1, "requested_at": "", "acquisition": "", "index": 4, "view": "", "reason": ""}
    >>> [request_words(Recollection(**fields, **more)) for more in
    ...  ({"tries": 1, "verdict": "blurred"}, {"state": "served", "served_by": 61}, {"state": "given_up", "tries": 3})]
    ['open, newest: blurred', 'taken as 61', 'given up after 3']
    """
    if request.state == "open":
        return "open" + (f", newest: {request.verdict}" if request.verdict else "")
    if request.state == "served":
        return "taken" + (f" as {request.served_by}" if request.served_by is not None else "")
    return _ENDS[request.state] + (f" after {request.tries}" if request.state == "given_up" else "")


def request_detail(request: Recollection) -> str:
    """Write all that is known of a request, a line each."""
    stage = request.stage
    facts: list[tuple[str, Any]] = [
        ("exposure", None if request.exposure_s is None else f"{request.exposure_s:g} s"),
        ("angle", None if request.angle_deg is None else f"{request.angle_deg:g}°"),
        ("energy", None if request.energy_ev is None else f"{request.energy_ev:g} eV"),
        ("stage", None if stage is None else f"move y {stage.y_um:+.2f}, x {stage.x_um:+.2f} µm")]
    known = ", ".join(f"{name} {text}" for name, text in facts if text is not None)
    lines = [f"request {request.id}: frame {request.index}, {request.acquisition}, view {request.view}",
             f"asked by {request.who or 'the streamer'} {_day(request.requested_at)}: {request.reason}",
             f"{request_words(request)}; tries {tries_words(request)}; deadline {deadline_words(request)}", known]
    return "\n".join(line for line in lines if line)


def _day(at: str | None) -> str:
    """Write local date and time of a moment in ISO 8601."""
    try:
        moment = datetime.fromisoformat(at or "")
    except ValueError:
        return DASH
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
