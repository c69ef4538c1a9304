"""A recording as if it were happening now."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator

import msgspec

from simulator.publisher import Item, with_ends
from streamer.formats import Recording
from streamer.records import Frame

log = logging.getLogger(__name__)


def replayed(
    recording: Recording, *, start: int = 0, stop: int | None = None, loop: bool = False
) -> Iterator[Item]:
    """Yield the frames of a recording and the ends of its acquisitions.

    Parameters
    ----------
    recording : Recording
        An open recording.
    start, stop : int, optional
        First projection and the one after the last.
    loop : bool
        For ever; the acquisitions of later rounds are called ``name#2``, ``name#3``, ..., and their times go on.

    Raises
    ------
    RecordingError
        If the range holds no projection.
    """
    shift_s = 0.0
    for number in itertools.count(1):
        times: list[float] = []
        sent = 0
        for item in with_ends(_one_round(recording, start=start, stop=stop, number=number, shift_s=shift_s)):
            if isinstance(item, Frame):
                sent += 1
                if item.exposed_at is not None:
                    times.append(item.exposed_at)
            yield item
        if not loop or not sent:
            return
        if times:
            # The next round begins one usual interval after this one.
            shift_s += (max(times) - min(times)) * (1 + 1 / max(len(times) - 1, 1))


def _one_round(
    recording: Recording, *, start: int, stop: int | None, number: int, shift_s: float
) -> Iterator[Frame]:
    whole = start == 0 and (stop is None or stop >= recording.count)
    for entry in recording.frames(start, stop):
        if not isinstance(entry, Frame):
            log.warning("not sent: %s", entry.reason)
            continue
        frame = _renamed(entry, recording.name, number)
        if not whole:
            # The rest is not missing: it was not asked for.
            frame = msgspec.structs.replace(frame, expected=None)
        if frame.exposed_at is not None:
            frame = msgspec.structs.replace(frame, exposed_at=frame.exposed_at + shift_s)
        yield frame


def _renamed(frame: Frame, name: str, number: int) -> Frame:
    if number == 1:
        return frame
    tail = frame.acquisition.removeprefix(name)
    return msgspec.structs.replace(frame, acquisition=f"{name}#{number}{tail}")
