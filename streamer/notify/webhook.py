"""Alerts posted as JSON to a web address."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any

import msgspec

from streamer import __version__
from streamer.errors import ChannelError
from streamer.notify import Display, Messenger
from streamer.notify._text import fields, summary, worst
from streamer.records import Notice, Severity
from streamer.settings import Settings

NAME = "webhook"
SUMMARY = "JSON posted to a web address"

_OF_ANSWER = 200
"""Bytes of a refusal that are worth telling."""


class Webhook:
    """An address that takes ``{"text", "severity", "session", "alerts": [...]}`` by POST.

    Parameters
    ----------
    url : str
        Its path and query often are the password, so only its host is ever told.
    timeout_s : float
        For each step of the exchange.
    severity, interval_s
        See `Messenger`.
    """

    def __init__(self, url: str, *, timeout_s: float, severity: Severity, interval_s: float) -> None:
        self.name = NAME
        self.severity = severity
        self.interval_s = interval_s
        self._url = url
        self._shown = masked(url)
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(_NoRedirect)

    def check(self) -> None:
        """Read the address; nothing is sent."""
        self._request(b"")

    def deliver(self, notices: Sequence[Notice], *, session: str) -> None:
        """Post them all together."""
        body = {"text": summary(notices), "severity": worst(notices).alert.severity, "session": session,
                "alerts": [fields(notice, session=session) for notice in notices]}
        request = self._request(msgspec.json.encode(body))
        try:
            with self._opener.open(request, timeout=self._timeout_s):
                return
        except urllib.error.HTTPError as error:
            with error:
                raise self._failure(f"answered {error.code} {error.reason}{_said(error)}") from None
        except urllib.error.URLError as error:
            raise self._failure(_reason(error.reason)) from None
        except (OSError, http.client.HTTPException, ValueError) as error:   # ValueError: an address of odd characters
            raise self._failure(_reason(error)) from None

    def close(self) -> None:
        """Nothing is open between calls; the one under way ends by its time-out."""

    def _request(self, body: bytes) -> urllib.request.Request:
        headers = {"Content-Type": "application/json", "User-Agent": f"txm-live/{__version__}"}
        try:
            parts = urllib.parse.urlsplit(self._url)
            if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
                raise ValueError
            if parts.username is not None:
                raise self._failure("holds a user name, which is not sent that way; use an address with a key")
            return urllib.request.Request(self._url, data=body, headers=headers, method="POST")  # noqa: S310  (checked)
        except ValueError as error:
            if isinstance(error, ChannelError):
                raise
            raise self._failure("is no address; expected one such as https://host/path") from None

    def _failure(self, what: str) -> ChannelError:
        return ChannelError(f"{self._shown} (notify.webhook_url) {what}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET, without the alerts."""

    def redirect_request(self, *_arguments: Any) -> None:
        return None


def masked(url: str) -> str:
    """Show scheme, host and port of an address; what follows may be a key.

    >>> masked("https://user:secret@hooks.example.org:8443/services/KEY")
    'https://hooks.example.org:8443/***'
    """
    try:
        parts = urllib.parse.urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return "***"
    if not parts.hostname or parts.scheme not in {"http", "https"}:
        return "***"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}/***"


def _said(error: urllib.error.HTTPError) -> str:
    """Give the start of what a server says about its refusal."""
    try:
        text = " ".join(error.read(_OF_ANSWER).decode("utf-8", "replace").split())
    except (OSError, http.client.HTTPException):
        return ""
    return f": {text}" if text else ""


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "did not answer in time (notify.timeout_s)"
    if isinstance(error, http.client.RemoteDisconnected | http.client.IncompleteRead | ConnectionResetError
                  | BrokenPipeError):
        return "closed the connection before it answered"
    if isinstance(error, http.client.HTTPException):
        return f"gave no answer of HTTP ({type(error).__name__})"
    if isinstance(error, ValueError):   # its text may hold the address
        return "is no address; expected one such as https://host/path"
    text = error.strerror if isinstance(error, OSError) else None
    return f"is not to be reached: {text or error}"


def open_(settings: Settings) -> list[Messenger | Display]:
    """Make the one that is asked for."""
    notify = settings.notify
    if not notify.webhook_url:
        return []
    return [Webhook(notify.webhook_url, timeout_s=notify.timeout_s, severity=notify.webhook_severity,
                    interval_s=notify.interval_s)]
