"""E-mail, chat and the other services of apprise, by address; needs the ``notify`` extra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamer.errors import ChannelError
from streamer.notify import Display, Messenger
from streamer.notify._extra import extra
from streamer.notify._text import line, summary, worst
from streamer.records import Notice, Severity
from streamer.settings import Settings

NAME = "apprise"
SUMMARY = "e-mail and chat by apprise addresses"

_LINES = 20
"""Alerts of one message that are told one by one."""
_LONGEST_TITLE = 120
_LOOKS = {"MINOR": "warning", "MAJOR": "failure", "INVALID": "failure", "NO_ALARM": "info"}


class Service:
    """One service; each is a channel of its own, so that one that fails does not make the others tell twice.

    Parameters
    ----------
    apprise : module
    url : str
        Almost all of it may be a password, so only its scheme is ever told.
    number : int
        Its place in the list of addresses.
    severity, interval_s
        See `Messenger`.
    """

    def __init__(self, apprise: Any, url: str, *, number: int, severity: Severity, interval_s: float) -> None:
        scheme = url.partition("://")[0] if "://" in url else "?"
        self.name = f"{NAME} {number} ({scheme})"
        self.severity = severity
        self.interval_s = interval_s
        self._apprise = apprise
        self._url = url
        self._shown = f"{scheme}://*** (notify.apprise_urls)"

    def check(self) -> None:
        """Read the address; nothing is sent."""
        self._open()

    def deliver(self, notices: Sequence[Notice], *, session: str) -> None:
        """Send one message about all of them."""
        body = [line(notice) for notice in notices[:_LINES]]
        if len(notices) > _LINES:
            body.append(f"and {len(notices) - _LINES} more, see the dashboard")
        severity = worst(notices).alert.severity
        looks = "success" if all(notice.occasion == "closed" for notice in notices) else _LOOKS[severity]
        title = f"{session}: {summary(notices)}"
        if len(title) > _LONGEST_TITLE:
            title = title[:_LONGEST_TITLE - 4] + " ..."
        if not self._open().notify(title=title, body="\n".join(body), notify_type=looks):
            raise ChannelError(f"{self._shown} did not take the message; its log says more")

    def close(self) -> None:
        """Nothing is open between calls."""

    def _open(self) -> Any:
        sender = self._apprise.Apprise()
        if not sender.add(self._url):
            raise ChannelError(f"{self._shown} is no address that apprise knows; see its list of services")
        return sender


def open_(settings: Settings) -> list[Messenger | Display]:
    """Make one for each address."""
    notify = settings.notify
    if not notify.apprise_urls:
        return []
    module = extra("apprise", setting="notify.apprise_urls", name="notify")
    return [Service(module, url, number=number, severity=notify.apprise_severity,
                    interval_s=notify.apprise_interval_s)
            for number, url in enumerate(notify.apprise_urls, start=1)]
