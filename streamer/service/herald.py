"""Who is told of what: alerts to the channels that want them, every result to the displays."""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from typing import Any

from streamer import notify
from streamer.clock import utc_text
from streamer.errors import SessionError
from streamer.journal import Journal
from streamer.notify import Display
from streamer.records import SEVERITIES, Alert, FrameRow, Notice, Occasion, Recollection, Severity, Status
from streamer.service.courier import WAITING, Courier
from streamer.service.presenter import Presenter
from streamer.service.recorder import Recorder
from streamer.settings import Settings

_REMEMBERED = 10_000
"""Alerts whose earlier state is known."""


class Herald:
    """Tell the world outside what the streamer publishes; all methods are for the thread of the analysis.

    An alert is decided upon when it is recorded (`due`), so that the journal takes it and the fact that it has still to
    be told in one transaction, and handed over when it is published.

    Parameters
    ----------
    settings : Settings
        Which channels and displays there are.
    session : str
        Name of the session.

    Raises
    ------
    SettingsError
        If an extra that is asked for is not installed.
    """

    def __init__(self, settings: Settings, *, session: str) -> None:
        self._settings = settings.notify
        self._session = session
        self._messengers, self._displays = notify.open_all(settings)
        self._couriers: dict[str, Courier] = {}
        self._presenters: list[Presenter] = []
        self._known: OrderedDict[int, tuple[Alert, frozenset[str]]] = OrderedDict()
        """Alerts, and the channels that have told of them and not yet that they are over."""
        self._decided: dict[str, list[Notice]] = defaultdict(list)

    @property
    def displays(self) -> list[Display]:
        """What shows how things stand."""
        return list(self._displays)

    def recall(self, journal: Journal) -> None:
        """Learn what an earlier run on this session has told, before anything new is recorded."""
        for _, alert in journal.alerts():
            told = {one.name for one in self._messengers if not notify.is_over(alert)
                    and SEVERITIES.index(alert.severity) >= SEVERITIES.index(one.severity)}
            self._remember(alert, frozenset(told))

    def start(self, journal: Journal) -> None:
        """Begin to tell and to show, with what an earlier run has left."""
        self._presenters = [Presenter(display) for display in self._displays]
        for _, alert in journal.alerts():
            self._show(alert)
        for _, request in journal.recollections():
            self._show(request)
        for messenger in self._messengers:
            courier = self._couriers[messenger.name] = Courier(messenger, self._settings, session=self._session)
            courier.refill(list(journal.undelivered(messenger.name, limit=WAITING)))

    @property
    def problems(self) -> list[str]:
        """What keeps somebody from being told or shown."""
        found = [*(courier.problem for courier in self._couriers.values()),
                 *(presenter.problem for presenter in self._presenters)]
        return [problem for problem in found if problem]

    def due(self, alert: Alert, sequence: int) -> list[Notice]:
        """Decide through which channels an alert, or its new state, is to be told."""
        if not self._messengers:
            return []
        before, told = self._known.get(alert.id, (None, frozenset()))
        notices = []
        for messenger in self._messengers:
            name = messenger.name
            occasion = _occasion(before, alert, loud=messenger.severity, told=name in told)
            if occasion is not None:
                told = told - {name} if occasion == "closed" else told | {name}
                notice = Notice(channel=name, occasion=occasion, sequence=sequence, alert=alert)
                notices.append(notice)
                self._decided[name].append(notice)
        self._remember(alert, told)
        return notices

    def publish(self, fields: Any) -> None:
        """Pass on a result that was just published."""
        if isinstance(fields, FrameRow | Alert | Recollection):
            self._show(fields)
        if isinstance(fields, Alert) and self._decided:
            for name, notices in self._decided.items():
                if name in self._couriers:   # `start` takes what came before it from the journal
                    self._couriers[name].put(notices)
            self._decided.clear()

    def tick(self, status: Status, recorder: Recorder) -> None:
        """Do what is due a few times a second; the caller commits."""
        self._show(status)
        for courier in self._couriers.values():
            if courier.wants_more and not recorder.problem:   # what was told before has left the journal, then
                courier.refill(_left(recorder.journal, courier.name))
            recorder.delivered(courier.take_told())

    def close(self, recorder: Recorder) -> None:
        """Tell what waits as far as that goes quickly, and end; the caller commits."""
        for courier in self._couriers.values():
            courier.stop()
        for courier in self._couriers.values():
            courier.join()
            recorder.delivered(courier.take_told())
        for presenter in self._presenters:
            presenter.close()

    def _show(self, matter: notify.Matter) -> None:
        for presenter in self._presenters:
            presenter.put(matter)

    def _remember(self, alert: Alert, told: frozenset[str]) -> None:
        self._known[alert.id] = alert, told
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def _left(journal: Journal, channel: str) -> list[Notice]:
    try:
        return list(journal.undelivered(channel, limit=WAITING))
    except SessionError:   # the recorder meets it, too, and says so
        return []


def _occasion(before: Alert | None, alert: Alert, *, loud: Severity, told: bool) -> Occasion | None:
    """Tell why somebody should hear of an alert now; None when there is no news.

    Parameters
    ----------
    before, alert
        Its earlier state and its new one.
    loud : str
        Severity from which on somebody wants to hear of it.
    told : bool
        Whether somebody has heard of it, and not yet that it is over.
    """
    if notify.is_over(alert):
        return "closed" if told else None
    severity = SEVERITIES.index(alert.severity)
    if severity < SEVERITIES.index(loud) or _is_shelved(alert):
        return None
    if not told or before is None or _is_shelved(before):
        return None if alert.who else "new"
    if alert.escalated and not before.escalated:
        return "escalated"
    return "worse" if severity > SEVERITIES.index(before.severity) else None


def _is_shelved(alert: Alert) -> bool:
    return alert.shelved_until is not None and alert.shelved_until > (utc_text(time.time()) or "")
