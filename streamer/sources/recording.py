"""Recordings as a source: the same items as from the wire, as fast as they can be read."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec

from streamer.formats import Recording
from streamer.records import EndOfAcquisition, Frame, Refusal


def items_of(
    recording: Recording, *, start: int = 0, stop: int | None = None
) -> Iterator[Frame | Refusal | EndOfAcquisition]:
    """Yield the frames of a recording, received now, and then its end.

    Parameters
    ----------
    recording : Recording
        An open recording; one picture is in memory at a time.
    start, stop : int, optional
        First projection and the one after the last. When that is not all of them, the rest is not missing: frames
        then tell no expected number.

    Raises
    ------
    RecordingError
        If the range holds no projection.
    """
    is_whole = start == 0 and (stop is None or stop >= recording.count)
    for item in recording.frames(start, stop):
        stamped = msgspec.structs.replace(item, received_at=time.time())
        if isinstance(stamped, Frame) and not is_whole:
            stamped = msgspec.structs.replace(stamped, expected=None)
        yield stamped
    yield EndOfAcquisition(acquisition=recording.name)
