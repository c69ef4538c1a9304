"""Times as text: UTC, ISO 8601 with microseconds, the form of every file and result."""

from __future__ import annotations

import datetime


def utc_text(unix_s: float | None) -> str | None:
    """Write a Unix time; None stays None.

    >>> utc_text(0.5)
    '1970-01-01T00:00:00.500000Z'
    """
    if unix_s is None:
        return None
    try:
        moment = datetime.datetime.fromtimestamp(unix_s, datetime.UTC)
    except (OverflowError, OSError, ValueError):   # a sender's clock may say anything
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def unix_of(text: str | None) -> float | None:
    """Read what `utc_text` wrote.

    >>> unix_of('1970-01-01T00:00:00.500000Z')
    0.5
    """
    return None if text is None else datetime.datetime.fromisoformat(text).timestamp()
