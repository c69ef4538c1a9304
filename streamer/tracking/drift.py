"""The drift of each view: which frames to measure against, and what the measurements add up to.

The heavy part, `measure`, is a pure function of a frame and a frozen `Target` and may run anywhere; `Drift`
takes the measurements in order. A new key frame is set when the sample has moved on by a share of the view
or no longer looks like the key; it is measured against several older keys, and the poses of all keys follow
from least squares, so that errors do not add up from key to key.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.errors import CommandError
from streamer.imaging.refinement import TURN_SIGMA_RAD
from streamer.imaging.registration import Reference, Registration, prepare_reference
from streamer.records import FloatArray
from streamer.settings import DriftSettings
from streamer.tracking.drift_judgement import deformed, measure, place_of, remarks, sigma_of, too_weak, trusted, turn_of
from streamer.tracking.drift_track import ROWS, Connection, DriftResult, Row, Spare, Target, Track, added, moved
from streamer.tracking.keyframes import Edge, FrameKey, Key, KeyGraph, backwards, carried
from streamer.tracking.trend import Trend

__all__ = ["Drift", "DriftResult", "Target", "measure", "trusted"]

JUMP_QUALITY = 2.0
"""A jump by more than a key step must match this much better than the quality gate asks for."""
INLIERS_KEPT, QUALITY_KEPT, NEAR_GATE = 0.8, 0.7, 1.5
"""The sample has changed, and a new key is due, when the inliers fall below this share of their best value
since the last one, or the quality does and comes near the gate."""
KEY_PAUSE_FRAMES = 2
EDGES = 6
EDGE_REACH = 0.55
LOST_AFTER = 3
KNOWN_SHARE = 0.5
"""Of the step between keys: how near a key must be for its place to count as known."""
KEY_BYTES = 160_000_000
"""Memory for the keys of one view."""
REVISE_PX = 0.01
WARM_VIEWS = 8
"""Views whose active key keeps its tile caches, six times the memory of the frame."""


class Drift:
    """The drift of all views, fed in the order of the frames."""

    def __init__(self, settings: DriftSettings) -> None:
        self.settings = settings
        self._tracks: dict[str, Track] = {}
        self._warm: dict[str, None] = {}   # the most recent view last
        self._next_id = self._version = 0

    def target(self, view: str) -> Target:
        """Return what the next frame of `view` is to be measured against."""
        return self._tracks[view].target if view in self._tracks else Target()

    def reference(self, view: str) -> tuple[int, int] | None:
        """Return frame index and reference id of the origin of `view`; None before the first usable frame."""
        track = self._tracks.get(view)
        return None if track is None else (track.origin_frame[1], track.graph.origin)

    def holder(self, views: Sequence[str], reference_id: int | None) -> str | None:
        """Return which of the views has a key of this id; None when none has."""
        return next((view for view in views
                     if view in self._tracks and reference_id in self._tracks[view].graph.keys), None)

    def begin(self, view: str, first: Spare, *, sharp: bool) -> DriftResult:
        """Begin a view; an origin that is not sharp is relieved by the next frame that is."""
        return self._begin(view, first, sharp=sharp)

    def trend(self, view: str) -> Trend | None:
        """Return the trend of `view`; None before the first usable frame."""
        return self._tracks[view].trend if view in self._tracks else None

    def position(self, view: str, registration: Registration) -> tuple[float, float] | None:
        """Return the drift that a registration means, in px; None when it is not to be trusted."""
        track = self._tracks.get(view)
        if track is None or not trusted(registration, self.settings):
            return None
        used = track.graph.keys.get(registration.reference_id)   # type: ignore[arg-type]
        if used is None:
            return None
        return place_of(used, registration)

    def update(self, view: str, key: FrameKey, image: NDArray[Any], registration: Registration, *, verdict: str,
               weight: FloatArray | None = None, flats: int = 0, at_s: float | None = None) -> DriftResult:
        """Take the next frame of a view.

        Parameters
        ----------
        view : str
        key : (acquisition, index)
        image : (M, N)
            Corrected frame; it becomes a key frame when the sample has moved on.
        registration : Registration
            What `measure` found. It is measured again here when its reference is gone.
        verdict : str
            ``sharp``, ``blurred``, ``undecided`` or ``bad``.
        weight : (M, N), optional
            Expected photons per pixel, on any scale.
        flats : int
            Exposures in the flat that the image was divided by; 0 = none or not known.
        at_s : float, optional
            When it was exposed, s from any origin.
        """
        if verdict == "bad":
            if view in self._tracks:
                self._tracks[view].trend.skip()
            return DriftResult(problems=("not registered: no usable image",), lost=self._lost(view))
        track = self._tracks.get(view)
        newest = Spare(key, image, weight, (0.0, 0.0), None, flats)
        if track is None:
            return self._begin(view, newest, sharp=verdict != "blurred", at_s=at_s)
        self._keep_warm(view)
        if registration.reference_id not in track.graph.keys:
            registration = self._measure(newest, track.target)
        track.newest = newest
        revisions: tuple[tuple[FrameKey, DriftResult], ...] = ()
        if not trusted(registration, self.settings) and track.spare is not None:
            revisions = self._set_key(track, track.spare)   # the sample has changed too fast for the keys there are
            registration = self._measure(newest, track.target)
        if not trusted(registration, self.settings):
            problem = registration.problem or too_weak(registration)
            return replace(self._missed(track, registration.quality, problem), revisions=revisions)
        used = track.graph.keys[registration.reference_id]   # type: ignore[index]
        drift = place_of(used, registration)
        step = None if track.last is None else math.dist(drift, track.last)
        needed = min(JUMP_QUALITY * self.settings.quality, 0.9)
        if step is not None and step > self.settings.key_step * min(image.shape) and registration.quality < needed:
            problem = f"not registered: a jump of {step:.0f} px matches too weakly"
            return replace(self._missed(track, registration.quality, problem), revisions=revisions)
        track.failures, track.last = 0, drift
        result = self._result(track, used, drift, step, registration, at_s)
        track.rows.append(Row(key, used.id, used.pose, result))
        candidate = newest._replace(drift=drift, registration=registration)
        revisions += self._connect(track) + self._follow(track, candidate, used, registration, verdict)
        return replace(track.rows[-1].result, revisions=tuple(item for item in revisions if item[0] != key))

    def errands(self, view: str) -> tuple[Callable[[], object], ...]:
        """Return what the next frame of `view` will need and may be done before it comes, in this order."""
        track = self._tracks.get(view)
        active = None if track is None else track.target.active
        if track is None or active is None:
            return ()
        track.connection = self._next_connection(track)
        wanted = () if active.ready else (active.prepare,)
        return wanted if track.connection is None else (*wanted, track.connection.measure)

    def rebase(self, view: str, key: FrameKey | None = None) -> None:
        """Make a frame of `view` the origin of the drift from now on; None takes the newest one.

        Raises
        ------
        CommandError
            If the view is unknown, or the frame was not registered or is no longer remembered.
        """
        track = self._tracks.get(view)
        if track is None or track.newest is None:
            raise CommandError(f"view {view!r} has no frames yet; it cannot be given another reference")
        newest = track.newest
        frame = newest.frame
        key = frame if key is None else key
        known = {item.frame for item in track.graph.keys.values()}
        if track.spare is not None and key == track.spare.frame:
            self._set_key(track, track.spare)
        elif key == frame and track.failures:   # nothing connects this frame to the old keys
            self._begin(view, newest, sharp=True)
            return
        elif key == frame and key not in known:
            self._set_key(track, newest._replace(drift=track.last or (0.0, 0.0)))
        place = next((item for item in track.graph.keys.values() if item.frame == key), None)
        if place is None:
            kept = ", ".join(str(item.frame[1]) for item in track.graph.keys.values())
            raise CommandError(f"frame {key[1]} of view {view!r} is not kept; "
                               f"choose the newest frame or one of {kept}")
        track.graph.rebase(place.id)
        track.origin_frame = key
        track.trend.move(-place.pose[0], -place.pose[1])
        if track.last is not None:
            track.last = (track.last[0] - place.pose[0], track.last[1] - place.pose[1])
        track.rows.clear()
        self._retarget(track, track.target.active.id if track.target.active is not None else place.id)

    def recalibrated(self, view: str, held: Spare, *, sigma_px: float) -> None:
        """Go on from one frame alone: frames are corrected differently from now on, and the keys were not."""
        track = self._tracks.get(view)
        reference = self._reference(held)
        if track is not None and reference.structured:
            track.graph, track.newest = KeyGraph(limit=track.graph.limit), held
            track.graph.add(Key(reference.id, held.frame, held.drift, sigma_px, reference), [])
            self._retarget(track, reference.id)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as builtins and arrays; what goes on from it gives the same drift."""
        return {"next_id": self._next_id, "version": self._version, "warm": list(self._warm),
                "views": {view: track.snapshot() for view, track in self._tracks.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `snapshot` returned."""
        self._next_id, self._version = int(state["next_id"]), int(state["version"])
        self._warm = dict.fromkeys(map(str, state["warm"]))
        self._tracks = {str(view): Track.restore(item) for view, item in state["views"].items()}
        for view in self._warm:
            self._set_caches(view, warm=True)

    def _measure(self, held: Spare, target: Target) -> Registration:
        return measure(held.image, target, settings=self.settings, weight=held.weight, flats=held.flats)

    def _reference(self, held: Spare) -> Reference:
        return prepare_reference(held.image, id=self._take_id(), weight=held.weight, flats=held.flats)

    def _begin(self, view: str, first: Spare, *, sharp: bool, at_s: float | None = None) -> DriftResult:
        """Start a track: drift exactly 0; not with a frame that shows nothing."""
        reference, key = self._reference(first), first.frame
        if not reference.structured:
            return DriftResult(registration_quality=0.0, problems=("no structure to measure the drift against",))
        limit = int(np.clip(KEY_BYTES // max(reference.frame.contrast.nbytes, 1), 4, 64))
        track = Track(KeyGraph(limit=limit), origin_frame=key, last=(0.0, 0.0), newest=first)
        track.graph.add(Key(reference.id, key, (0.0, 0.0), 0.0, reference, sharp), [])
        self._retarget(track, reference.id)
        self._tracks[view] = track
        self._keep_warm(view)
        track.trend.update(0.0, 0.0, at_s=at_s)
        return DriftResult(drift_y_px=0.0, drift_x_px=0.0, drift_sigma_px=0.0, rotation_deg=0.0,
                           registration_quality=1.0, reference_index=key[1])

    def _result(self, track: Track, used: Key, drift: tuple[float, float], step: float | None,
                registration: Registration, at_s: float | None) -> DriftResult:
        trend = track.trend.update(*drift, at_s=at_s)
        systematic_px = used.systematic_px + deformed(registration)
        sigma_px = math.hypot(sigma_of(used.pose, registration), used.sigma_px, systematic_px)
        certain = registration.turn_sigma_rad < TURN_SIGMA_RAD
        turn = added(registration.rotation_deg, used.rotation_deg) if certain else None
        return DriftResult(
            drift_y_px=drift[0], drift_x_px=drift[1], drift_sigma_px=sigma_px, rotation_deg=turn,
            trend_y_px=None if trend is None else trend[0], trend_x_px=None if trend is None else trend[1],
            jitter_y_px=None if trend is None else drift[0] - trend[0],
            jitter_x_px=None if trend is None else drift[1] - trend[1],
            registration_quality=registration.quality, reference_index=used.frame[1], jump_px=step,
            problems=remarks(used.magnification + turn_of(registration)[1], systematic_px, registration.seen_pull_px))

    def _missed(self, track: Track, quality: float, problem: str) -> DriftResult:
        track.failures += 1
        track.trend.skip()
        return DriftResult(registration_quality=quality, problems=(problem,), lost=track.failures >= LOST_AFTER)

    def _lost(self, view: str) -> bool:
        track = self._tracks.get(view)
        return track is not None and track.failures >= LOST_AFTER

    def _follow(self, track: Track, candidate: Spare, used: Key, registration: Registration,
                verdict: str) -> tuple[tuple[FrameKey, DriftResult], ...]:
        """Move on to another key when the sample has moved on or changed."""
        track.since_key += 1
        if verdict == "blurred":
            return ()
        track.best_quality = max(track.best_quality, registration.quality)
        track.best_inliers = max(track.best_inliers, registration.inliers)
        rows, columns = candidate.image.shape
        gone = max(abs(registration.dy) / rows, abs(registration.dx) / columns)
        far = gone > self.settings.key_step
        torn = registration.inliers < INLIERS_KEPT * track.best_inliers
        faint = registration.quality < min(QUALITY_KEPT * track.best_quality, NEAR_GATE * self.settings.quality)
        changed = (torn or faint) and track.since_key >= KEY_PAUSE_FRAMES
        if not (far or changed or not used.sharp):
            if track.target.active is None or track.target.active.id != used.id:
                self._retarget(track, used.id)   # found again by another key
            track.spare = candidate
            return ()
        back = self._known_place(track, candidate, registration) if far and not changed else None
        if back is not None:
            self._retarget(track, back.id)
            track.spare = candidate
            return ()
        return self._set_key(track, candidate)

    def _known_place(self, track: Track, candidate: Spare, registration: Registration) -> Key | None:
        """Return the key of a place that the sample has come back to, if it still looks the same there.

        A sample that goes to and fro thus needs no more keys than the way is long.
        """
        reach = KNOWN_SHARE * self.settings.key_step * min(candidate.image.shape)
        for key in track.graph.nearest(candidate.drift, reach_px=reach):
            reference = key.reference.warmed()
            again = self._measure(candidate, Target(active=reference))
            if trusted(again, self.settings) and again.quality > QUALITY_KEPT * registration.quality:
                track.graph.keys[key.id] = replace(key, reference=reference)   # its caches are there already
                return key
        return None

    def _set_key(self, track: Track, chosen: Spare) -> tuple[tuple[FrameKey, DriftResult], ...]:
        """Make a frame the active key and return the frames that this revises.

        It is measured against the key it was found with at once, and against others with the frames to come: no
        frame waits for all of them.
        """
        reference = self._reference(chosen)
        found, graph = chosen.registration, track.graph
        edges: list[Edge] = []
        rotation_deg: float | None = 0.0
        magnification = systematic_px = 0.0
        if found is not None and found.reference_id in graph.keys and found.sigma_px is not None:
            base = graph.keys[found.reference_id]
            rotation_deg = added(base.rotation_deg, found.rotation_deg)
            turn = turn_of(found)
            magnification = base.magnification + turn[1]
            systematic_px = base.systematic_px + deformed(found) + found.pull_px
            shift = carried(base.pose, (found.dy, found.dx), *turn)
            edges.append(Edge(base.id, reference.id, shift, math.hypot(sigma_of(base.pose, found), deformed(found))))
        reach = EDGE_REACH * min(chosen.image.shape)
        others = [older.id for older in graph.spread(chosen.drift, reach_px=reach, count=EDGES)
                  if found is None or older.id != found.reference_id]
        graph.add(Key(reference.id, chosen.frame, chosen.drift, 0.0, reference, True, rotation_deg, magnification,
                      systematic_px), edges)
        self._retarget(track, reference.id)
        track.waiting = others
        revisions = self._revise(track)
        while not edges and track.waiting:   # nothing holds it yet
            revisions += self._connect(track)
        return revisions

    def _connect(self, track: Track) -> tuple[tuple[FrameKey, DriftResult], ...]:
        """Measure the active key against the next one that waits; return the frames that this revises."""
        connection = self._next_connection(track)
        older = track.graph.keys.get(track.waiting.pop(0)) if track.waiting else None
        if older is None or connection is None:
            return ()
        active, back = connection.active, connection.found
        if not trusted(back, self.settings) or back.sigma_px is None:
            return ()
        rotation_deg, magnification = turn_of(back)
        way = backwards((back.dy, back.dx), rotation_deg, magnification)
        shift = carried(older.pose, way, -rotation_deg, 1.0 / (1.0 + magnification) - 1.0)
        track.graph.connect(Edge(older.id, active.id, shift, math.hypot(sigma_of(older.pose, back), deformed(back))))
        return self._revise(track)

    def _next_connection(self, track: Track) -> Connection | None:
        """Return the measurement that `_connect` makes next: the one that was begun, if it is still that one."""
        active = track.target.active
        older = track.graph.keys.get(track.waiting[0]) if track.waiting else None
        if active is None or older is None:
            return None
        begun = track.connection
        if begun is not None and begun.active is active and begun.older is older.reference.frame:
            return begun
        return Connection(active, older.reference.frame, self.settings.overlap)

    def _revise(self, track: Track) -> tuple[tuple[FrameKey, DriftResult], ...]:
        """Publish again what hangs on keys that moved by more than their error."""
        revisions, rows = [], []
        for row in track.rows:
            key = track.graph.keys.get(row.key)
            offset = (0.0, 0.0) if key is None else (key.pose[0] - row.pose[0], key.pose[1] - row.pose[1])
            if key is None or math.hypot(*offset) <= max(key.sigma_px, REVISE_PX):
                rows.append(row)
                continue
            result = moved(row.result, offset)
            rows.append(Row(row.frame, row.key, key.pose, result))
            revisions.append((row.frame, result))
        track.rows = deque(rows, maxlen=ROWS)
        if track.rows and track.last is not None:   # the trend goes on from where the newest frame is now
            last = track.rows[-1].result
            now = (last.drift_y_px or 0.0, last.drift_x_px or 0.0)
            track.trend.move(now[0] - track.last[0], now[1] - track.last[1])
            track.last = now
        return tuple(revisions)

    def _retarget(self, track: Track, active: int) -> None:
        """Make a key the active one; only that one keeps its tile caches."""
        keys = track.graph.keys
        for id_, key in keys.items():
            if id_ != active and key.reference.warm:
                keys[id_] = replace(key, reference=key.reference.small())
        chosen = replace(keys[active], reference=keys[active].reference.warmed())
        keys[active] = chosen
        others = track.graph.nearest(chosen.pose, reach_px=math.inf)
        self._version += 1
        track.target = Target(self._version, chosen.reference,
                              tuple(key.reference for key in others if key.id != active))
        track.since_key, track.best_quality, track.best_inliers, track.spare = 0, 0.0, 0.0, None
        track.waiting = []

    def _keep_warm(self, view: str) -> None:
        """Rebuild the tile caches of a view that comes back, and let go those of the view seen least recently."""
        if view not in self._warm:
            self._set_caches(view, warm=True)
        self._warm.pop(view, None)
        self._warm[view] = None
        if len(self._warm) > WARM_VIEWS:
            oldest = next(iter(self._warm))
            del self._warm[oldest]
            if oldest in self._tracks:
                self._set_caches(oldest, warm=False)

    def _set_caches(self, view: str, *, warm: bool) -> None:
        """Exchange the active key for the same one with or without its caches; the version stays."""
        track = self._tracks[view]
        if track.target.active is None or track.target.active.warm is warm:
            return
        reference = track.target.active.warmed() if warm else track.target.active.small()
        track.graph.keys[reference.id] = replace(track.graph.keys[reference.id], reference=reference)
        track.target = replace(track.target, active=reference)

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1
