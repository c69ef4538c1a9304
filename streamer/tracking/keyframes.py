"""Where the key frames of one view lie, from redundant measurements between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.imaging.registration import Reference, reference_from_state, reference_state

SIGMA_FLOOR_PX = 0.005
"""No measurement between two keys is trusted better than this."""
OUTLIER_PX = 2.0

Doubles = NDArray[np.float64]
FrameKey = tuple[str, int]


class Edge(NamedTuple):
    """The pose of `second` is that of `first` plus `shift`."""

    first: int
    second: int
    shift: tuple[float, float]
    sigma_px: float


@dataclass(frozen=True, eq=False)
class Key:
    """A frame that others are measured against."""

    id: int
    frame: FrameKey
    pose: tuple[float, float]
    """Position of its content relative to the origin of the view."""
    sigma_px: float
    reference: Reference
    sharp: bool = True
    rotation_deg: float | None = 0.0
    """Relative to the origin, from +x towards +y; None when it could not be told."""
    magnification: float = 0.0
    """Relative to the origin, as far as it was beyond doubt."""
    systematic_px: float = 0.0
    """Error of the pose from deformation and fixed pattern on the way from the origin: it adds up."""


def carried(pose: tuple[float, float], shift: tuple[float, float], rotation_deg: float | None,
            magnification: float = 0.0) -> tuple[float, float]:
    """Return how far a frame moved from a key at `pose`, as seen from the origin.

    The shift is that of the centre of the key; a rotation or a magnification moves what is elsewhere, the origin
    too.
    """
    turn, scale = math.radians(rotation_deg or 0.0), 1.0 + magnification
    cosine, sine = scale * math.cos(turn), scale * math.sin(turn)
    return (shift[0] + (cosine - 1.0) * pose[0] + sine * pose[1],
            shift[1] - sine * pose[0] + (cosine - 1.0) * pose[1])


def backwards(shift: tuple[float, float], rotation_deg: float | None,
              magnification: float = 0.0) -> tuple[float, float]:
    """Return the shift from b to a when that from a to b, with its rotation and magnification, is given."""
    turn, scale = math.radians(rotation_deg or 0.0), 1.0 + magnification
    cosine, sine = math.cos(turn) / scale, math.sin(turn) / scale
    return -cosine * shift[0] + sine * shift[1], -sine * shift[0] - cosine * shift[1]


class KeyGraph:
    """Keys of one view and the measurements between them.

    Parameters
    ----------
    limit : int
        Keys kept; beyond it the one that is closest to another is given up, never the origin.
    """

    def __init__(self, *, limit: int = 64) -> None:
        self.limit = limit
        self.keys: dict[int, Key] = {}
        self.edges: list[Edge] = []
        self.origin: int = -1

    def add(self, key: Key, edges: list[Edge], *, protect: frozenset[int] = frozenset()) -> list[int]:
        """Add a key with its measurements, solve, and return the ids of the keys that were given up."""
        if not self.keys:
            self.origin = key.id
        self.keys[key.id] = key
        self.edges += edges
        self._solve()
        given_up = []
        while len(self.keys) > self.limit:
            given_up.append(self._give_up(protect | {self.origin, key.id}))
        return given_up

    def connect(self, edge: Edge) -> None:
        """Add one more measurement between two keys and solve."""
        self.edges.append(edge)
        self._solve()

    def nearest(self, pose: tuple[float, float], *, reach_px: float) -> list[Key]:
        """Return sharp keys within reach on both axes, the nearest first."""
        found = [key for key in self.keys.values()
                 if key.sharp and max(abs(key.pose[0] - pose[0]), abs(key.pose[1] - pose[1])) < reach_px]
        return sorted(found, key=lambda key: math.dist(key.pose, pose))

    def spread(self, pose: tuple[float, float], *, reach_px: float, count: int) -> list[Key]:
        """Return up to `count` sharp keys within reach, near and far: far ones keep errors from adding up."""
        found = self.nearest(pose, reach_px=reach_px)
        if len(found) <= count:
            return found
        return [found[round(place)] for place in np.linspace(0, len(found) - 1, count)]

    def rebase(self, id: int) -> None:  # noqa: A002
        """Make a key the origin: its pose becomes 0, exactly."""
        offset = self.keys[id].pose
        self.keys = {key.id: replace(key, pose=(key.pose[0] - offset[0], key.pose[1] - offset[1]))
                     for key in self.keys.values()}
        self.origin = id
        self.keys[id] = replace(self.keys[id], pose=(0.0, 0.0), sigma_px=0.0)
        self._solve()

    def snapshot(self) -> dict[str, Any]:
        """Return the state as builtins and arrays."""
        return {"limit": self.limit, "origin": self.origin, "edges": [list(edge) for edge in self.edges],
                "keys": [{"id": key.id, "frame": list(key.frame), "pose": list(key.pose), "sigma_px": key.sigma_px,
                          "sharp": key.sharp, "rotation_deg": key.rotation_deg,
                          "magnification": key.magnification, "systematic_px": key.systematic_px,
                          "reference": reference_state(key.reference)}
                         for key in self.keys.values()]}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> KeyGraph:
        """Return the graph that `snapshot` described."""
        graph = cls(limit=int(state["limit"]))
        graph.origin = int(state["origin"])
        graph.edges = [Edge(int(first), int(second), (float(shift[0]), float(shift[1])), float(sigma))
                       for first, second, shift, sigma in state["edges"]]
        for item in state["keys"]:
            graph.keys[int(item["id"])] = Key(
                int(item["id"]), (str(item["frame"][0]), int(item["frame"][1])),
                (float(item["pose"][0]), float(item["pose"][1])), float(item["sigma_px"]),
                reference_from_state(item["reference"]), bool(item["sharp"]),
                None if item["rotation_deg"] is None else float(item["rotation_deg"]),
                float(item["magnification"]), float(item["systematic_px"]))
        return graph

    def _solve(self) -> None:
        """Weighted least squares for all poses but the origin's; grossly wrong measurements are dropped."""
        free = [id_ for id_ in self.keys if id_ != self.origin]
        place = {id_: number for number, id_ in enumerate(free)}
        while free:
            normal, right = np.zeros((len(free), len(free))), np.zeros((len(free), 2))
            origin = np.array(self.keys[self.origin].pose)
            for edge in self.edges:
                weight = 1.0 / (edge.sigma_px**2 + SIGMA_FLOOR_PX**2)
                shift = np.array(edge.shift)
                for one, other, sign in ((edge.second, edge.first, 1.0), (edge.first, edge.second, -1.0)):
                    if one == self.origin:
                        continue
                    row = place[one]
                    normal[row, row] += weight
                    right[row] += sign * weight * shift
                    if other == self.origin:
                        right[row] += weight * origin
                    else:
                        normal[row, place[other]] -= weight
            poses, covariance = self._loose(normal, right, free)
            for id_, row in place.items():
                self.keys[id_] = replace(self.keys[id_], pose=(float(poses[row, 0]), float(poses[row, 1])),
                                         sigma_px=math.sqrt(max(covariance[row, row], 0.0)))
            worst = max(self.edges, key=self._misfit, default=None)
            if worst is None or self._misfit(worst) <= OUTLIER_PX or not self._spare(worst):
                return
            self.edges.remove(worst)

    def _loose(self, normal: Doubles, right: Doubles, free: list[int]) -> tuple[Doubles, Doubles]:
        """Solve with a hair of weight on the present poses, so that a key without measurements stays put."""
        hair = 1e-9
        present = np.array([self.keys[id_].pose for id_ in free])
        covariance = np.linalg.inv(normal + hair * np.eye(len(free)))
        return np.asarray(covariance @ (right + hair * present)), np.asarray(covariance, np.float64)

    def _misfit(self, edge: Edge) -> float:
        first, second = self.keys[edge.first].pose, self.keys[edge.second].pose
        return math.hypot(second[0] - first[0] - edge.shift[0], second[1] - first[1] - edge.shift[1])

    def _spare(self, edge: Edge) -> bool:
        """Tell whether both ends hold on to something else."""
        others = [other for other in self.edges if other is not edge]
        return all(end == self.origin or any(end in (other.first, other.second) for other in others)
                   for end in (edge.first, edge.second))

    def _give_up(self, protected: frozenset[int]) -> int:
        """Remove one key; what hung on it hangs on the origin from now on, at the pose the key had."""
        victim = self._most_redundant(protected)
        gone = self.keys.pop(victim)
        kept = []
        for edge in self.edges:
            if victim not in (edge.first, edge.second):
                kept.append(edge)
                continue
            other, sign = (edge.second, 1.0) if edge.first == victim else (edge.first, -1.0)
            if other != self.origin:
                start = self.keys[self.origin].pose
                shift = (gone.pose[0] - start[0] + sign * edge.shift[0], gone.pose[1] - start[1] + sign * edge.shift[1])
                kept.append(Edge(self.origin, other, shift, math.hypot(edge.sigma_px, gone.sigma_px)))
        self.edges = kept
        return victim

    def _most_redundant(self, protected: frozenset[int]) -> int:
        """Return the key whose nearest neighbour is closest, the older one of a pair."""
        ids = sorted(self.keys)
        poses = np.array([self.keys[id_].pose for id_ in ids])
        distance = np.hypot(*(poses[:, None, :] - poses[None, :, :]).transpose(2, 0, 1))
        np.fill_diagonal(distance, np.inf)
        order = np.argsort(distance.min(axis=1), kind="stable")
        return next(ids[int(row)] for row in order if ids[int(row)] not in protected)
