"""How the views and acquisitions stand, and how long it makes sense to take a frame of them again."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypeVar

import msgspec

from streamer.clock import utc_text
from streamer.records import Frame, FrameRow, Leaving, StageMove

K = TypeVar("K")
V = TypeVar("V")

_VIEWS = 1024
_INTERVALS = 15


@dataclass(slots=True)
class ViewNow:
    """A view as its newest frame shows it."""

    passed: int = 0
    """Frames."""
    drift_y_px: float | None = None
    """The trend."""
    drift_x_px: float | None = None
    leaving: Leaving | None = None
    stage: StageMove | None = None
    exposed_at: float | None = None
    intervals_s: deque[float] = field(default_factory=lambda: deque(maxlen=_INTERVALS))

    @property
    def frames_left(self) -> float | None:
        """Frames until the region of interest leaves it, 1 when it has left; None: not known."""
        return None if self.leaving is None else self.leaving.frames


@dataclass(slots=True)
class _Scan:
    """The projections of an acquisition; those taken again are not counted."""

    expected: int | None = None
    seen: int = 0
    of_view: dict[str, int] = field(default_factory=dict)


class Circumstances:
    """What the newest frames tell about views and acquisitions."""

    def __init__(self) -> None:
        self._views: OrderedDict[str, ViewNow] = OrderedDict()
        self._scans: OrderedDict[str, _Scan] = OrderedDict()

    def follow(self, row: FrameRow, frame: Frame, leaving: Leaving | None, stage: StageMove | None) -> None:
        """Take the next projection in; `leaving` and `stage` as far as it tells."""
        view = self.view(row.view)
        view.passed += 1
        if row.trend_y_px is not None and row.trend_x_px is not None:
            view.drift_y_px, view.drift_x_px = row.trend_y_px, row.trend_x_px
            view.leaving, view.stage = leaving, stage
        if frame.exposed_at is not None and row.recollects is None:   # those may carry the time of another frame
            if view.exposed_at is not None and frame.exposed_at > view.exposed_at:
                view.intervals_s.append(frame.exposed_at - view.exposed_at)
            view.exposed_at = frame.exposed_at
        scan = self._scans.get(row.acquisition, _Scan())
        keep(self._scans, row.acquisition, scan, _VIEWS)
        scan.expected = frame.expected if frame.expected is not None else scan.expected
        if row.recollects is None:
            scan.seen += 1
            scan.of_view[row.view] = scan.of_view.get(row.view, 0) + 1

    def view(self, name: str) -> ViewNow:
        """Return a view as it is now."""
        view = self._views.get(name, ViewNow())
        keep(self._views, name, view, _VIEWS)
        return view

    def deadline(self, row: FrameRow, at: float) -> tuple[float | None, str | None]:
        """Return within how many frames of its view a frame can be taken again, and until when; None: not known.

        The view is left some time, and the acquisition is complete some time.
        """
        view, scan = self.view(row.view), self._scans.get(row.acquisition)
        found = [] if view.frames_left is None else [view.frames_left]
        if scan is not None and scan.expected is not None and scan.expected > scan.seen > 0:
            share = scan.of_view.get(row.view, 0) / scan.seen
            found.append(float(round(share * (scan.expected - scan.seen))))
        if not found:
            return None, None
        interval_s = median(view.intervals_s) if view.intervals_s else None
        return min(found), None if interval_s is None else utc_text(at + min(found) * interval_s)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as builtins."""
        return {
            "views": {name: [view.passed, view.drift_y_px, view.drift_x_px, msgspec.to_builtins(view.leaving),
                             msgspec.to_builtins(view.stage), view.exposed_at, list(view.intervals_s)]
                      for name, view in self._views.items()},
            "scans": {name: [scan.expected, scan.seen, dict(scan.of_view)] for name, scan in self._scans.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `snapshot`."""
        self._views = OrderedDict(
            (name, ViewNow(passed, y_px, x_px, msgspec.convert(leaving, Leaving | None),
                           msgspec.convert(stage, StageMove | None), exposed_at, deque(intervals, _INTERVALS)))
            for name, (passed, y_px, x_px, leaving, stage, exposed_at, intervals) in state["views"].items())
        self._scans = OrderedDict((name, _Scan(expected, seen, dict(of_view)))
                                  for name, (expected, seen, of_view) in state["scans"].items())


def keep(memory: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    """Remember something as the newest, and forget the oldest beyond `most`."""
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > most:
        memory.popitem(last=False)
