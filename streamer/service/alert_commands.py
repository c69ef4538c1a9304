"""What a person does with an alert."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from streamer.errors import CommandError
from streamer.records import Alert
from streamer.service.arguments import Arguments, number, person, text, whole

if TYPE_CHECKING:
    from streamer.service.live import Service

_LONGEST_MIN = 100_000.0


class AlertCommands:
    """The commands about alerts, by name in `known`.

    Parameters
    ----------
    service : Service
        What they act on.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self.known: Mapping[str, Callable[[Arguments], Any]] = {
            "acknowledge": self._acknowledge, "shelve": self._shelve}

    def _acknowledge(self, arguments: Arguments) -> dict[str, Any]:
        alarms = self._service.conveyor.alarms
        who, note = person("acknowledge", arguments), text("acknowledge", arguments, "note")
        if arguments.get("alert") == "all":
            alerts = alarms.acknowledge_all(who=who, note=note, at=time.time())
            self._service.conveyor.alert(alerts)
            return {"acknowledged": [alert.id for alert in alerts]}
        alert_id = whole("acknowledge", arguments, "alert", 'the id of an alert, or "all"')
        return self._told("acknowledge", alert_id, alarms.acknowledge(alert_id, who=who, note=note, at=time.time()))

    def _shelve(self, arguments: Arguments) -> dict[str, Any]:
        alert_id = whole("shelve", arguments, "alert", "the id of an alert")
        minutes = number("shelve", arguments, "minutes", high=_LONGEST_MIN)
        who, note = person("shelve", arguments), text("shelve", arguments, "note")
        what = f"shelved for {minutes:g} min by {who}" if minutes else f"taken off the shelf by {who}"
        alert = self._service.conveyor.alarms.shelve(
            alert_id, 60.0 * minutes, note=f"{what}: {note}" if note else what, at=time.time())
        return self._told("shelve", alert_id, alert)

    def _told(self, op: str, alert_id: int, alert: Alert | None) -> dict[str, Any]:
        if alert is None:
            existed = self._service.conveyor.alarms.existed(alert_id)
            raise CommandError(f"{op}: alert {alert_id} is closed" if existed else
                               f"{op}: there is no alert {alert_id}")
        self._service.conveyor.alert([alert])
        return {"alert": alert_id, "state": alert.state, "shelved_until": alert.shelved_until}
