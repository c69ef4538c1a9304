"""The life of alerts: raised, counted on, acknowledged, shelved, escalated, answered by new frames, closed.

An alert is latched: it stays in sight until somebody acknowledges it, even when what raised it is over. What fires
again meanwhile is counted in it, and the growing count is told at a bounded rate. Durations are measured on a clock
that never steps; the times in the texts are those of the wall clock, and nothing is computed from them within a run.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from streamer.clock import unix_of, utc_text
from streamer.records import SEVERITIES, Alert, AlertState, Severity, Verdict

Key = tuple[str, int]
"""A frame: acquisition and index."""
Spot = tuple[str, str]
"""What has one alert at a time: rule and view."""

TELL_HZ = 5.0
"""A count that grows is told no more often than this..."""
TELL_AT_ONCE = 10.0
"""...but for so many times in a row."""
_WHOLE = 1.0 - 1e-6
QUIET_S = 300.0
"""A burst is over when its rule has not fired for so long, however few frames have passed."""
MOST_OPEN = 10_000
"""Alerts that are not closed; the oldest one is closed unseen when there are more."""
_TIMES = ("since", "fired", "told")
"""Of an entry."""
_FRAMES = 256
"""Frames whose alert is remembered, so that what becomes of them is told in it."""


@dataclass(slots=True)
class _Entry:
    """An alert that is not closed; times are those of the steady clock."""

    alert: Alert
    since: float
    """Nobody has acknowledged it since then; shelving begins it anew."""
    fired: float
    told: float
    """It was last told, or was to be."""
    credit: float = TELL_AT_ONCE - 1.0
    """Times that it may still be told at once."""
    lasting: bool = False
    untold: bool = False
    shelved_until: float | None = None
    asked: set[Key] = field(default_factory=set)
    """Its frames that are asked for again."""


class AlertBook:
    """All alerts that are not closed.

    Every method returns the alerts that changed and are to be told.

    Parameters
    ----------
    clock : callable
        Seconds that never step back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._epoch = time.time() - clock()   # times of the steady clock, to be told to another run
        self._entries: dict[int, _Entry] = {}
        self._current: dict[Spot, int] = {}
        """The alert that a rule counts on in a view."""
        self._of_frame: OrderedDict[Key, int] = OrderedDict()
        self._last_id = 0

    @property
    def last_id(self) -> int:
        """Id of the newest alert that ever was; 0 before the first one."""
        return self._last_id

    def is_active(self, rule: str, view: str) -> bool:
        """Tell whether a rule holds in a view now."""
        entry = self._at((rule, view))
        return entry is not None and entry.alert.active

    def get(self, rule: str, view: str) -> Alert | None:
        """Return the alert that a rule counts on in a view."""
        entry = self._at((rule, view))
        return None if entry is None else entry.alert

    def fire(self, rule: str, severity: Severity, text: str, *, at: float, view: str = "", lasting: bool = False,
             acquisition: str = "", index: int | None = None, owns: bool = False) -> list[Alert]:
        """Raise an alert, or count it in the one that the rule already has in the view.

        Parameters
        ----------
        rule, severity, text, view, acquisition, index
            As in `Alert`.
        at : float
            Unix seconds.
        lasting : bool
            Whether it is a condition that comes and goes: one that comes back is counted in its alert as long as
            nobody has acknowledged that.
        owns : bool
            Whether what becomes of the frame is told in this alert.
        """
        now, spot = self._clock(), (rule, view)
        entry = self._at(spot)
        found: list[Alert] = []
        if entry is not None and not self._counts_on(entry):
            found = self.end(rule, view, at=at)
            entry = None
        if entry is None:
            self._last_id += 1
            alert = Alert(id=self._last_id, raised_at=utc_text(at) or "", severity=severity, rule=rule, text=text,
                          acquisition=acquisition, view=view, index=index, changed_at=utc_text(at))
            entry = self._entries[alert.id] = _Entry(alert, now, now, now, lasting=lasting)
            self._current[spot] = alert.id
            found += [*self._make_room(at), alert]
        else:
            before = entry.alert
            entry.alert = msgspec.structs.replace(
                before, severity=_worse(severity, before.severity), text=text, active=True, acquisition=acquisition,
                index=index, count=before.count + 1, changed_at=utc_text(at))
            found += self._tell(entry, urgent=entry.alert.severity != before.severity)
        entry.fired = now
        if owns and index is not None:
            self._remember((acquisition, index), entry.alert.id)
        return found

    def update(self, rule: str, view: str, *, at: float, severity: Severity, text: str) -> list[Alert]:
        """Tell more of a condition that holds already; it is not counted."""
        entry = self._at((rule, view))
        return [] if entry is None else self._change(entry, at, severity=severity, text=text)

    def end(self, rule: str, view: str, *, at: float) -> list[Alert]:
        """Take note that what a rule found in a view is over."""
        entry = self._at((rule, view))
        if entry is None:
            return []
        if not entry.lasting:
            del self._current[rule, view]
        if not entry.alert.active:
            return []
        return self._change(entry, at, active=False, urgent=entry.alert.count == 1)   # what flaps is not told each time

    def lapse(self, rule: str, view: str, *, at: float) -> list[Alert]:
        """End a burst, unless it is shelved: what is kept quiet is counted on however long it takes."""
        entry = self._at((rule, view))
        return [] if entry is None or entry.shelved_until is not None else self.end(rule, view, at=at)

    def acknowledge(self, alert_id: int, *, who: str, note: str, at: float) -> Alert | None:
        """Mark an alert as seen by a person; None if no such alert is open."""
        entry = self._entries.get(alert_id)
        return None if entry is None else self._change(entry, at, who=who, note=note)[0]

    def acknowledge_all(self, *, who: str, note: str, at: float) -> list[Alert]:
        """Mark every alert as seen that nobody has acknowledged yet."""
        waiting = [alert_id for alert_id, entry in self._entries.items() if not entry.alert.who]
        return [alert for alert_id in waiting
                if (alert := self.acknowledge(alert_id, who=who, note=note, at=at)) is not None]

    def shelve(self, alert_id: int, seconds: float, *, note: str, at: float) -> Alert | None:
        """Keep an alert quiet for a time, or, with 0, no longer; None if no such alert is open."""
        entry = self._entries.get(alert_id)
        if entry is None:
            return None
        now = self._clock()
        entry.shelved_until = now + seconds if seconds else None
        entry.since = now + seconds
        return self._change(entry, at, note=note, shelved_until=utc_text(at + seconds) if seconds else None)[0]

    def tick(self, *, at: float, escalate_s: float, flush: bool = False) -> list[Alert]:
        """Do what time brings: tell counts that wait, end shelving and quiet bursts, escalate what nobody has seen.

        Parameters
        ----------
        at : float
            Unix seconds.
        escalate_s : float
            0 for never.
        flush : bool
            Tell every count that waits, at the end.
        """
        now, found = self._clock(), []
        for entry in list(self._entries.values()):
            if entry.shelved_until is not None and now >= entry.shelved_until:
                entry.shelved_until = None
                found += self._change(entry, at, shelved_until=None)
            if entry.alert.active and not entry.lasting and now - entry.fired > QUIET_S:
                found += self.lapse(entry.alert.rule, entry.alert.view, at=at)
            if escalate_s and now - entry.since >= escalate_s and _is_waiting(entry.alert):
                found += self._change(entry, at, escalated=True, severity=_worse(entry.alert.severity, "MAJOR"))
            if entry.untold:
                found += self._tell(entry, urgent=flush)
        return found

    def asked(self, key: Key, *, at: float) -> list[Alert]:
        """Take note that a frame is asked for again."""
        entry = self._entry_of(key)
        if entry is None or key in entry.asked:
            return []
        entry.asked.add(key)
        return self._change(entry, at)

    def came(self, key: Key, index: int, verdict: Verdict | None, *, at: float) -> list[Alert]:
        """Take note of a frame that was taken again."""
        entry = self._entry_of(key)
        return [] if entry is None else self._change(entry, at, recollected_as=index, recollected_verdict=verdict)

    def settled(self, key: Key, *, at: float) -> list[Alert]:
        """Take note that a frame is no longer asked for."""
        entry = self._entry_of(key)
        if entry is None or key not in entry.asked:
            return []
        entry.asked.discard(key)
        return self._change(entry, at)

    def cleared(self, key: Key, text: str, *, who: str, at: float) -> list[Alert]:
        """Take note that nothing is wrong with a frame after all; with `who`, a person says so."""
        entry = self._entry_of(key)
        if entry is None:
            return []
        entry.asked.discard(key)
        if entry.alert.count > 1:   # it speaks of other frames, too
            return self._change(entry, at)
        self._current.pop((entry.alert.rule, entry.alert.view), None)
        who = entry.alert.who or who
        return self._change(entry, at, active=False, text=text, who=who)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as builtins; times are Unix seconds as the wall clock went when this run began."""
        return {
            "last_id": self._last_id,
            "entries": [{
                "alert": msgspec.to_builtins(entry.alert), "lasting": entry.lasting, "untold": entry.untold,
                "credit": entry.credit,
                "asked": [list(key) for key in sorted(entry.asked)],
                **{name: getattr(entry, name) + self._epoch for name in _TIMES},
            } for entry in self._entries.values()],
            "current": [[*spot, alert_id] for spot, alert_id in self._current.items()],
            "of_frame": [[*key, alert_id] for key, alert_id in self._of_frame.items()],
        }

    def restore(self, state: Mapping[str, Any], *, at: float) -> None:
        """Go on from a `snapshot`; what was shelved until a time of the wall clock stays so until then."""
        now = self._clock()
        self._last_id = int(state["last_id"])
        self._entries = {}
        for kept in state["entries"]:
            alert = msgspec.convert(kept["alert"], Alert)
            since, fired, told = (now - max(0.0, at - kept[name]) for name in _TIMES)
            entry = _Entry(alert, since, fired, told, float(kept["credit"]), bool(kept["lasting"]),
                           bool(kept["untold"]), asked={(str(name), int(index)) for name, index in kept["asked"]})
            until = unix_of(alert.shelved_until)
            if until is not None:
                entry.shelved_until = entry.since = now + max(0.0, until - at)
            self._entries[alert.id] = entry
        self._current = {(rule, view): int(alert_id) for rule, view, alert_id in state["current"]}
        self._of_frame = OrderedDict(((name, int(index)), int(alert_id)) for name, index, alert_id in state["of_frame"])

    def _at(self, spot: Spot) -> _Entry | None:
        return self._entries.get(self._current.get(spot, 0))

    def _entry_of(self, key: Key) -> _Entry | None:
        return self._entries.get(self._of_frame.get(key, 0))

    @staticmethod
    def _counts_on(entry: _Entry) -> bool:
        """Tell whether what fires again belongs to an alert: nobody has seen it yet, or it is kept quiet."""
        return not entry.alert.who or entry.shelved_until is not None

    def _change(self, entry: _Entry, at: float, *, urgent: bool = True, **fields: Any) -> list[Alert]:
        """Change an alert, work out its state, and tell it."""
        alert = msgspec.structs.replace(entry.alert, **fields)
        alert = msgspec.structs.replace(alert, state=_state(alert, asked=bool(entry.asked)))
        if alert == entry.alert and not entry.untold:
            return [alert]
        entry.alert = msgspec.structs.replace(alert, changed_at=utc_text(at))
        if entry.alert.state == "closed":
            self._forget(entry.alert)
            return [entry.alert]
        return self._tell(entry, urgent=urgent)

    def _tell(self, entry: _Entry, *, urgent: bool) -> list[Alert]:
        now = self._clock()
        entry.credit = min(entry.credit + TELL_HZ * (now - entry.told), TELL_AT_ONCE)
        entry.told = now
        entry.untold = not urgent and entry.credit < _WHOLE
        if entry.untold:
            return []
        entry.credit = max(entry.credit - 1.0, 0.0)
        return [entry.alert]

    def _forget(self, alert: Alert) -> None:
        self._entries.pop(alert.id, None)
        if self._current.get((alert.rule, alert.view)) == alert.id:
            del self._current[alert.rule, alert.view]

    def _make_room(self, at: float) -> list[Alert]:
        if len(self._entries) <= MOST_OPEN:
            return []
        oldest = self._entries[next(iter(self._entries))]
        closed = msgspec.structs.replace(oldest.alert, state="closed", active=False, changed_at=utc_text(at),
                                         note=f"closed unseen: more than {MOST_OPEN} alerts were open")
        self._forget(closed)
        return [closed]

    def _remember(self, key: Key, alert_id: int) -> None:
        self._of_frame[key] = alert_id
        self._of_frame.move_to_end(key)
        while len(self._of_frame) > _FRAMES:
            self._of_frame.popitem(last=False)


def _worse(one: Severity, other: Severity) -> Severity:
    return max(one, other, key=SEVERITIES.index)


def _is_waiting(alert: Alert) -> bool:
    """Tell whether an alert may escalate: not once it has, nor when a good frame has come."""
    return not alert.who and not alert.escalated and alert.shelved_until is None and alert.state != "recollected"


def _state(alert: Alert, *, asked: bool) -> AlertState:
    if asked:
        return "requested"
    if alert.who and not alert.active:
        return "closed"
    if alert.recollected_verdict == "sharp":
        return "recollected"
    return "acknowledged" if alert.who else "new"
