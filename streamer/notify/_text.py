"""Alerts in words, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from streamer.records import SEVERITIES, Notice, Severity

_OCCASIONS = {"new": "", "worse": "now ", "escalated": "nobody has acknowledged: ", "closed": "over: "}


def rank(severity: Severity) -> int:
    """Return the number of a severity, that of EPICS: the larger the worse."""
    return SEVERITIES.index(severity)


def worst(notices: Sequence[Notice]) -> Notice:
    """Return the worst of some notices, of equals the newest; one that is over only when all are."""
    return max(notices, key=lambda notice: (notice.occasion != "closed", rank(notice.alert.severity), notice.sequence))


def line(notice: Notice) -> str:
    """Say it in one line."""
    alert = notice.alert
    view = f" ({alert.view})" if alert.view else ""
    times = f" [{alert.count} times]" if alert.count > 1 else ""
    return f"{_OCCASIONS[notice.occasion]}{alert.severity} {alert.rule}{view}: {alert.text}{times}"


def summary(notices: Sequence[Notice]) -> str:
    """Say the worst one in one line, and how many there are beside it."""
    others = f" (and {len(notices) - 1} more)" if len(notices) > 1 else ""
    return line(worst(notices)) + others


def fields(notice: Notice, *, session: str) -> dict[str, Any]:
    """All there is to say, for JSON."""
    return {"session": session, "occasion": notice.occasion, "sequence": notice.sequence,
            **msgspec.structs.asdict(notice.alert)}


def json_lines(notices: Sequence[Notice], *, session: str) -> bytes:
    """Write a line of JSON for each."""
    return b"".join(msgspec.json.encode(fields(notice, session=session)) + b"\n" for notice in notices)
