"""The arguments of commands, checked: they come from outside and may be anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamer.errors import CommandError

_LONGEST_TEXT = 100_000
_LARGEST = (1 << 63) - 1   # that the journal can hold
NOBODY = "somebody"
"""Who did it, where nobody is named."""

Arguments = Mapping[str, Any]


def text(op: str, arguments: Arguments, name: str) -> str:
    """Return a text, empty when it is not given."""
    value = arguments.get(name)
    value = "" if value is None else value
    if not isinstance(value, str):
        raise CommandError(f"{op}: {name} is {value!r}, expected a text")
    if len(value) > _LONGEST_TEXT:
        raise CommandError(f"{op}: {name} has {len(value)} characters, at most {_LONGEST_TEXT} are kept")
    return value.strip()


def person(op: str, arguments: Arguments) -> str:
    """Return who asks."""
    return text(op, arguments, "who") or NOBODY


def whole(op: str, arguments: Arguments, name: str, what: str) -> int:
    """Return a whole number from 0."""
    value = arguments.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST:
        raise CommandError(f"{op}: {name} is {value!r}, expected {what}")
    return value


def number(op: str, arguments: Arguments, name: str, *, high: float) -> float:
    """Return a number from 0 to `high`."""
    value = arguments.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= high:
        raise CommandError(f"{op}: {name} is {value!r}, expected a number from 0 to {high:g}")
    return float(value)


def acquisition(op: str, arguments: Arguments) -> str | None:
    """Return the name of an acquisition; None when it is not given."""
    return None if arguments.get("acquisition") is None else text(op, arguments, "acquisition")
