"""Places of the sample that come back in one stream without a name of their own.

A stage that goes to and fro between two fields of view, or a sample that is lost and found again, sends frames
that share nothing with each other. The first frame that fits no place known waits; a later one that fits it
founds a place, which is a view of its own from then on: ``main 2`` beside ``main``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from streamer.imaging.registration import DOUBTED, Registration, prepare_reference
from streamer.settings import DriftSettings
from streamer.tracking.drift import Drift, DriftResult, trusted
from streamer.tracking.drift_judgement import measure
from streamer.tracking.drift_track import Spare, Target, spare_from, spare_state
from streamer.tracking.keyframes import FrameKey

MOST_PLACES = 8
"""Of one stream; each is tried with every frame."""
MOST_WAITING = 4
WAITING_STREAMS = 8
"""Those seen last; of others nothing waits, or memory would grow with the number of names."""
LONGEST_WAIT = 64
"""Frames of the stream."""
CLEARLY = 1.5
"""Two frames found a place when they match by this much better than the quality gate asks for..."""
LEAST_SHARED = 0.3
"""...and share this much of the view."""


class Place(NamedTuple):
    """Where a frame belongs."""

    view: str
    registration: Registration
    """Against the keys of that view."""
    founder: tuple[FrameKey, DriftResult] | None = None
    """The frame that waited for this one and is the origin of a new view."""


class _Waiting:
    """A frame that fits no place known."""

    def __init__(self, frame: Spare, number: int, *, blurred: bool = False) -> None:
        self.frame = frame
        self.number = number   # of the stream
        self.blurred = blurred
        self.reference = prepare_reference(frame.image, id=-1, weight=frame.weight, flats=frame.flats)


class _Stream:
    """What is remembered of the frames that came under one name."""

    def __init__(self, name: str) -> None:
        self.views = [name]
        self.waiting: list[_Waiting] = []
        self.seen = 0


class Places:
    """Tell which view a frame belongs to.

    Parameters
    ----------
    drift : Drift
        Where the views are followed; a view that is founded is begun there.
    """

    def __init__(self, drift: Drift) -> None:
        self._drift = drift
        self._streams: dict[str, _Stream] = {}

    def views(self, stream: str) -> tuple[str, ...]:
        """Return the views that frames of `stream` belong to, the one of the same name first."""
        found = self._streams.get(stream)
        return (stream,) if found is None else tuple(found.views)

    def target(self, stream: str) -> Target:
        """Return what the next frame of `stream` is to be measured against: the keys of all its views."""
        target = self._drift.target(stream)
        others = [self._drift.target(view) for view in self.views(stream)[1:]]
        if not others:
            return target
        return replace(
            target, version=max(target.version, *(other.version for other in others)),
            beside=tuple(other.active for other in others if other.active is not None),
            others=target.others + tuple(key for other in others for key in other.others))

    def assign(self, stream: str, frame: Spare, registration: Registration) -> Place:
        """Tell which view a usable frame of `stream` belongs to, in the order of the frames.

        Parameters
        ----------
        stream : str
            The view that the source named.
        frame : Spare
        registration : Registration
            Against `target`.
        """
        known = self._streams[stream] = self._streams.pop(stream, _Stream(stream))   # the newest last
        known.seen += 1
        for old in list(self._streams.values())[:-WAITING_STREAMS]:
            old.waiting.clear()
        view = self._drift.holder(known.views, registration.reference_id)
        if self._drift.reference(stream) is None or not _elsewhere(registration, self._drift.settings):
            return Place(view or stream, registration)
        known.waiting = [kept for kept in known.waiting if known.seen - kept.number <= LONGEST_WAIT]
        founder = self._partner(known, frame)
        if founder is None or len(known.views) >= MOST_PLACES:
            known.waiting = [*known.waiting, _Waiting(frame, known.seen)][-MOST_WAITING:]
            return Place(stream, registration)
        known.waiting.remove(founder)
        view = f"{stream} {len(known.views) + 1}"
        known.views.append(view)
        origin = self._drift.begin(view, founder.frame, sharp=not founder.blurred)
        again = measure(frame.image, self._drift.target(view), settings=self._drift.settings, weight=frame.weight,
                        flats=frame.flats)
        text = f"fits no place known; with frame {frame.frame[1]} it founds one"
        return Place(view, again, (founder.frame.frame, replace(origin, problems=(text,))))

    def judged(self, stream: str, key: FrameKey, *, blurred: bool) -> None:
        """Take in whether a frame was blurred: the origin of a view should not be."""
        for kept in self._streams[stream].waiting if stream in self._streams else ():
            if kept.frame.frame == key:
                kept.blurred = blurred

    def snapshot(self) -> dict[str, Any]:
        """Return the state as builtins and arrays."""
        return {name: {"views": list(stream.views), "seen": stream.seen,
                       "waiting": [[spare_state(kept.frame), kept.number, kept.blurred] for kept in stream.waiting]}
                for name, stream in self._streams.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `snapshot` returned."""
        self._streams = {}
        for name, item in state.items():
            stream = self._streams[str(name)] = _Stream(str(name))
            stream.views, stream.seen = [str(view) for view in item["views"]], int(item["seen"])
            stream.waiting = [_Waiting(spare_from(frame), int(number), blurred=bool(blurred))
                              for frame, number, blurred in item["waiting"]]

    def _partner(self, known: _Stream, frame: Spare) -> _Waiting | None:
        """Return the newest frame that waits and shows the same place, if there is one."""
        settings = self._drift.settings
        for kept in reversed(known.waiting):
            found = measure(frame.image, Target(active=kept.reference), settings=settings, weight=frame.weight,
                            flats=frame.flats)
            if (trusted(found, settings) and found.overlap >= LEAST_SHARED
                    and found.quality >= min(CLEARLY * settings.quality, 0.9)):
                return kept
        return None


def _elsewhere(found: Registration, settings: DriftSettings) -> bool:
    """Tell whether a frame shows no place known, which is more than a match that cannot be trusted."""
    match = found.quality / DOUBTED if found.problem else found.quality
    return math.isnan(found.dy) or match < settings.quality
