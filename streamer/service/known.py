"""Which frames a session has already, for sources that find old ones again when they begin anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from streamer.clock import utc_text
from streamer.journal import FILE_NAME, Journal
from streamer.records import Frame, Refusal


def known_frames(folder: Path) -> Callable[[Frame | Refusal], bool]:
    """Return what tells the frames, and the refusals, that the session in a folder holds.

    A frame is known by its acquisition and number, one without a number by the time it was exposed; a refusal without
    a number by its words.

    Raises
    ------
    SessionError
        If there is a session that cannot be read.
    """
    if not (folder / FILE_NAME).is_file():
        return lambda _: False
    with Journal(folder) as journal:
        rows = [(row.acquisition, row.index, row.exposed_at) for _, row in journal.rows()]
        said = {event.text for event in journal.events() if event.kind in {"malformed", "refused"}}
    numbers = {(acquisition, index) for acquisition, index, _ in rows}
    times = {(acquisition, at) for acquisition, _, at in rows if at is not None}

    def is_known(item: Frame | Refusal) -> bool:
        if item.index is None:
            return isinstance(item, Refusal) and item.reason in said
        if item.index < 0:
            return (item.acquisition, utc_text(item.exposed_at)) in times
        return (item.acquisition, item.index) in numbers

    return is_known
