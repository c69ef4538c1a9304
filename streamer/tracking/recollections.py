"""Which frames are to be taken again, and what becomes of the requests.

A frame that is surely blurred, or has no usable image, is asked for until a sharp one came for it, until `limit` came
in vain, until its view has been left or its acquisition has ended, or until it turns out to be sharp after all. A frame
that came for it and is judged again later is followed, too: the request is served, or opened again.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from streamer.clock import utc_text
from streamer.records import Frame, FrameRow, Leaving, Recollection, RecollectionState, StageMove
from streamer.settings import RecollectSettings
from streamer.tracking.alert_rules import LONG_PX, is_taken
from streamer.tracking.circumstances import Circumstances, keep

Key = tuple[str, int]
"""A frame: acquisition and index."""

PRIORITIES = (1, 2, 3)
MOST_OPEN = 512
"""Requests that are open; beyond, frames are no longer asked for."""
REMEMBERED = 256
"""Closed requests, and frames that came for one, that are still followed."""
_OVER = "the acquisition has ended"


class Change(NamedTuple):
    """A request that is new or has changed."""

    request: Recollection
    came: int | None = None
    """The frame that came for it with this change."""


class Claim(NamedTuple):
    """What a frame that says it replaces another is worth."""

    fits: bool
    """Whether it can stand in the place of the other."""
    remark: str = ""
    """For its row; empty when it is what was asked for."""


class Recollections:
    """The requests to take frames again; methods return what changed.

    Parameters
    ----------
    settings : RecollectSettings
        May be replaced at any time.
    """

    def __init__(self, settings: RecollectSettings) -> None:
        self.settings = settings
        self._about = Circumstances()
        self._open: dict[int, Recollection] = {}
        self._began: dict[int, int] = {}
        """Frames of the view that had passed when a request was opened."""
        self._by_frame: dict[Key, int] = {}
        self._closed: OrderedDict[Key, Recollection] = OrderedDict()
        self._came_for: OrderedDict[Key, int] = OrderedDict()
        """The number that a frame is to replace, by that frame."""
        self._last_id = 0

    def open(self) -> list[Recollection]:
        """Return the requests that are open, the most urgent first."""
        return sorted(self._open.values(), key=self._urgency)

    def claim(self, row: FrameRow, replaced: FrameRow | None) -> Claim:
        """Say what a frame is worth that says it replaces another, before it is given to `frame`.

        Parameters
        ----------
        row : FrameRow
            Of the frame; names the other in `recollects`.
        replaced : FrameRow or None
            Row of the other; None when there is none.
        """
        number = row.recollects or 0
        if replaced is None:
            return Claim(False, f"is to replace frame {number}, which acquisition {row.acquisition!r} does not have")
        why = _misfit(row, replaced)
        if why:
            return Claim(False, f"does not replace frame {number}: {why}")
        key = row.acquisition, self._origin(row.acquisition, number)
        return Claim(True, "" if key in self._by_frame else self._not_asked(key))

    def frame(self, row: FrameRow, frame: Frame, *, at: float, fits: bool = True, ended: bool = False,
              leaving: Leaving | None = None, stage: StageMove | None = None) -> list[Change]:
        """Take the row of the next frame in.

        Parameters
        ----------
        row : FrameRow
        frame : Frame
        at : float
            Unix seconds.
        fits : bool
            Of its `claim`, if it makes one.
        ended : bool
            Whether its acquisition has ended: nothing is asked for any more without being told.
        leaving, stage : optional
            Of its view, where the frame tells.
        """
        if row.kind != "projection":
            return []
        self._about.follow(row, frame, leaving, stage)
        changes = self._overdue(row.view, at)
        if row.recollects is not None:
            changes += self._came(row, row.recollects, at, fits=fits)
        if (row.recollects is None or not fits) and not ended:
            changes += self._judge(row, at)
        return changes

    def revision(self, before: FrameRow, after: FrameRow, *, at: float, who: str = "", ended: bool = False,
                 ) -> list[Change]:
        """Follow an earlier row that was revised, by a person if `who` is given; `ended` as for `frame`."""
        key = after.acquisition, after.index
        replaced = self._came_for.get(key)
        if replaced is not None:
            return self._replacement_revised((after.acquisition, replaced), after, at, ended=ended)
        request = self._open.get(self._by_frame.get(key, 0))
        if request is None:
            wanted = not ended and (bool(who) or not self._wanted(before))
            return self._judge(after, at, person=who) if wanted else []
        if before.view != after.view:
            request = msgspec.structs.replace(request, view=after.view)
            self._began[request.id] = self._about.view(after.view).passed
            self._open[request.id] = request
        if after.verdict not in {"sharp", "undecided"} and not is_taken(after):
            return []
        if request.who and not who:   # a person wants it all the same
            return []
        why = f"it is {after.verdict}" if not is_taken(after) else "it shows no sample"
        return [self._close(request, "withdrawn", at, reason=f"{who or 'judged again'}: {why}")]

    def ask(self, row: FrameRow, *, at: float, who: str, reason: str, priority: int) -> Change:
        """Open a request of a person, or give the one that is open already more weight."""
        request = self._open.get(self._by_frame.get((row.acquisition, row.index), 0))
        if request is None:
            return Change(self._begin(row, at, who=who, reason=reason, priority=priority))
        return Change(self._put(msgspec.structs.replace(
            request, who=who, reason=reason, priority=max(priority, request.priority)), at))

    def withdraw(self, request_id: int, *, at: float, who: str, why: str) -> Change | None:
        """Close a request that a person no longer wants; None if no such request is open."""
        request = self._open.get(request_id)
        if request is None:
            return None
        return self._close(request, "withdrawn", at, reason=f"withdrawn by {who}" + (f": {why}" if why else ""))

    def existed(self, request_id: int) -> bool:
        """Tell whether there ever was a request with this id."""
        return 0 < request_id <= self._last_id

    def end(self, is_over: Callable[[str], bool], *, at: float) -> list[Change]:
        """Close the requests of the acquisitions that have ended."""
        over = [request for request in self._open.values() if is_over(request.acquisition)]
        return [self._close(request, "expired", at, reason=_OVER) for request in over]

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as builtins."""
        return {
            "last_id": self._last_id,
            "open": [[msgspec.to_builtins(request), self._began[request.id]] for request in self._open.values()],
            "closed": [msgspec.to_builtins(request) for request in self._closed.values()],
            "came_for": [[*key, index] for key, index in self._came_for.items()],
            "about": self._about.snapshot(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `snapshot`."""
        self._last_id = int(state["last_id"])
        requests = [(msgspec.convert(request, Recollection), int(began)) for request, began in state["open"]]
        self._open = {request.id: request for request, _ in requests}
        self._began = {request.id: began for request, began in requests}
        self._by_frame = {(request.acquisition, request.index): request.id for request, _ in requests}
        closed = (msgspec.convert(request, Recollection) for request in state["closed"])
        self._closed = OrderedDict(((request.acquisition, request.index), request) for request in closed)
        self._came_for = OrderedDict(((name, int(index)), int(replaced)) for name, index, replaced in state["came_for"])
        self._about.restore(state["about"])

    def _origin(self, acquisition: str, number: int) -> int:
        """Return the frame that is asked for when one is replaced that came for it itself."""
        seen = set()
        while (acquisition, number) not in self._by_frame and number not in seen:
            seen.add(number)
            number = self._came_for.get((acquisition, number), number)
        return number

    def _urgency(self, request: Recollection) -> tuple[float, float, int]:
        waited = self._about.view(request.view).passed - self._began[request.id]
        left = math.inf if request.deadline_frames is None else request.deadline_frames - waited
        return -request.priority, left, request.id

    def _not_asked(self, key: Key) -> str:
        """Say why a frame that is replaced is not asked for."""
        done = self._closed.get(key)
        if done is None:   # without automatic requests it is for others to see what is to be taken again
            return f"replaces frame {key[1]}, which nobody has asked for" if self.settings.automatic else ""
        if done.state == "served":
            return f"replaces frame {key[1]} once more: frame {done.served_by} came for it and was sharp"
        return f"replaces frame {key[1]}, which is no longer asked for: {done.state.replace('_', ' ')}"

    def _judge(self, row: FrameRow, at: float, *, person: str = "") -> list[Change]:
        """Ask for a frame when it is worth it, or when a person says that it is blurred."""
        key = row.acquisition, row.index
        said = bool(person) and self.settings.automatic and row.verdict in {"blurred", "bad"}
        if key in self._by_frame or not (said or self._wanted(row)):
            return []
        done = self._closed.get(key)
        if done is not None and done.state == "served" and not person:
            return []
        changes = self._make_room(row.acquisition, at)
        if len(self._open) >= MOST_OPEN:
            return changes
        severe = row.verdict == "bad" or (row.blur_length_px or 0.0) > LONG_PX
        reason = f"blurred by {row.blur_length_px or 0.0:.1f} px" if row.verdict == "blurred" else row.problems
        return [*changes, Change(self._begin(row, at, who="", reason=reason, priority=2 if severe else 1))]

    def _wanted(self, row: FrameRow) -> bool:
        """Tell whether a frame is to be asked for without being told."""
        if not self.settings.automatic or row.kind != "projection" or row.provisional or is_taken(row):
            return False
        long_enough = (row.blur_length_px or 0.0) >= self.settings.shortest_px
        return row.verdict == "bad" or (row.verdict == "blurred" and long_enough)

    def _begin(self, row: FrameRow, at: float, *, who: str, reason: str, priority: int) -> Recollection:
        self._last_id += 1
        key, view = (row.acquisition, row.index), self._about.view(row.view)
        deadline_frames, deadline_at = self._about.deadline(row, at)
        self._began[self._last_id] = view.passed
        self._by_frame[key] = self._last_id
        self._closed.pop(key, None)
        return self._put(Recollection(
            id=self._last_id, requested_at=utc_text(at) or "", acquisition=row.acquisition, index=row.index,
            view=row.view, reason=reason, who=who, priority=priority, limit=self.settings.limit,
            exposed_at=row.exposed_at, exposure_s=row.exposure_s, angle_deg=row.angle_deg, energy_ev=row.energy_ev,
            drift_y_px=view.drift_y_px, drift_x_px=view.drift_x_px, stage=view.stage,
            deadline_frames=deadline_frames, deadline_at=deadline_at), at)

    def _came(self, row: FrameRow, number: int, at: float, *, fits: bool) -> list[Change]:
        """Take a frame in that was taken again."""
        number = self._origin(row.acquisition, number)
        if fits:
            keep(self._came_for, (row.acquisition, row.index), number, REMEMBERED)
        request = self._open.get(self._by_frame.get((row.acquisition, number), 0))
        if request is None:
            return []
        tried = msgspec.structs.replace(request, tries=request.tries + 1, verdict=row.verdict)
        if fits and row.verdict == "sharp":
            return [self._serve(tried, row.index, at)]
        return [self._failed(tried, row.index, at)]

    def _serve(self, request: Recollection, index: int, at: float) -> Change:
        served = msgspec.structs.replace(request, served_by=index, verdict="sharp")
        return self._close(served, "served", at, came=index)

    def _failed(self, request: Recollection, index: int, at: float) -> Change:
        """Ask again for a frame that another came for in vain, or give it up."""
        if request.tries >= request.limit:
            return self._close(request, "given_up", at, came=index)
        key, view = (request.acquisition, request.index), self._about.view(request.view)
        if request.id not in self._open:
            self._began[request.id] = view.passed
            self._by_frame[key] = request.id
            self._closed.pop(key, None)
        again = msgspec.structs.replace(   # where the sample is by now
            request, state="open", drift_y_px=view.drift_y_px, drift_x_px=view.drift_x_px, stage=view.stage)
        return Change(self._put(again, at), index)

    def _replacement_revised(self, key: Key, after: FrameRow, at: float, *, ended: bool) -> list[Change]:
        """Follow a frame that came for another and was judged again."""
        request = self._open.get(self._by_frame.get(key, 0)) or self._closed.get(key)
        if request is None:
            return []
        if after.verdict == "sharp" and request.state in {"open", "given_up"}:
            return [self._serve(request, after.index, at)]
        failed = after.verdict in {"blurred", "bad"} and not after.provisional
        if failed and request.state == "served" and request.served_by == after.index:
            again = msgspec.structs.replace(request, served_by=None, verdict=after.verdict)
            if ended:
                return [self._close(again, "expired", at, reason=_OVER, came=after.index)]
            return [self._failed(again, after.index, at)]
        return []

    def _overdue(self, name: str, at: float) -> list[Change]:
        """Close the requests of a view that has been left, and look again at deadlines that have passed."""
        view, changes = self._about.view(name), []
        gone = view.frames_left is not None and view.frames_left <= 1.0
        for request in [request for request in self._open.values() if request.view == name]:
            waited = view.passed - self._began[request.id]
            if gone and not request.who:
                reason = "the region of interest has left the field of view"
                changes.append(self._close(request, "expired", at, reason=reason))
            elif request.deadline_frames is not None and waited > request.deadline_frames:
                later = None if view.frames_left is None else waited + view.frames_left
                changes.append(Change(self._put(msgspec.structs.replace(
                    request, deadline_frames=later, deadline_at=None), at)))
        return changes

    def _make_room(self, acquisition: str, at: float) -> list[Change]:
        """Let the oldest request of another acquisition expire when there are too many."""
        if len(self._open) < MOST_OPEN:
            return []
        stale = next((request for request in self._open.values() if request.acquisition != acquisition), None)
        reason = f"more than {MOST_OPEN} requests were open"
        return [] if stale is None else [self._close(stale, "expired", at, reason=reason)]

    def _put(self, request: Recollection, at: float) -> Recollection:
        request = msgspec.structs.replace(request, changed_at=utc_text(at))
        self._open[request.id] = request
        return request

    def _close(self, request: Recollection, state: RecollectionState, at: float, *, reason: str = "",
               came: int | None = None) -> Change:
        key = request.acquisition, request.index
        request = msgspec.structs.replace(request, state=state, changed_at=utc_text(at),
                                          reason="; ".join(filter(None, (request.reason, reason))))
        self._open.pop(request.id, None)
        self._began.pop(request.id, None)
        self._by_frame.pop(key, None)
        keep(self._closed, key, request, REMEMBERED)
        return Change(request, came)


def _misfit(row: FrameRow, replaced: FrameRow) -> str:
    """Say why a frame cannot stand in the place of another; empty when it can."""
    kind = next((one.kind for one in (row, replaced) if one.kind != "projection"), None)
    if kind is not None:
        return f"a {kind} neither replaces a frame nor is replaced"
    if row.verdict is None:
        return "it could not be measured"
    return "" if row.view == replaced.view else f"it shows view {row.view!r}, that one {replaced.view!r}"
