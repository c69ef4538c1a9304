"""What is open now: alerts that wait for somebody, requests to take frames again."""

from __future__ import annotations

from streamer.notify import is_over
from streamer.notify._text import rank
from streamer.records import Alert, Recollection

_REMEMBERED = 10_000


class OpenAlerts:
    """Alerts that are not over, not acknowledged and not shelved."""

    def __init__(self) -> None:
        self.worst: Alert | None = None
        """Of equals the newest."""
        self._alerts: dict[int, Alert] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._alerts)

    def update(self, alert: Alert) -> None:
        """Take the newest state of an alert."""
        self._alerts.pop(alert.id, None)
        if not (alert.who or alert.shelved_until or is_over(alert)):
            self._alerts[alert.id] = alert
        if len(self._alerts) > _REMEMBERED:
            del self._alerts[next(iter(self._alerts))]
        if self.worst is None or _urgency(alert) >= _urgency(self.worst) or alert.id == self.worst.id:
            # looking at all of them with every alert of a burst would be slow
            stays = alert.id in self._alerts and (self.worst is None or _urgency(alert) >= _urgency(self.worst))
            self.worst = alert if stays else max(self._alerts.values(), key=_urgency, default=None)


class OpenRequests:
    """Requests to take frames again that are not served yet; may be listed by another thread."""

    def __init__(self) -> None:
        self._requests: dict[int, Recollection] = {}

    def update(self, request: Recollection) -> None:
        """Take the newest state of a request."""
        others = {number: other for number, other in self._requests.items() if number != request.id}
        self._requests = others | ({request.id: request} if request.state == "open" else {})

    def sorted(self) -> list[Recollection]:
        """List them, the most urgent first."""
        return sorted(self._requests.values(), key=lambda request: (-request.priority, request.id))


def _urgency(alert: Alert) -> tuple[int, int]:
    return rank(alert.severity), alert.id
