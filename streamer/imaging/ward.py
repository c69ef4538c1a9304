"""Ward's method on a graph, with a motion instead of a mean for every region.

Vectors are complex numbers in here, ``x + i y``: displacement, rotation and dilation are then ``d = a + b z``.
"""

from __future__ import annotations

import heapq
import itertools
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

Complex = NDArray[np.complex128]

MOST_REGIONS = 12
"""Among how many the data choose."""
GRADIENT = 0.003
"""Rotation and dilation of a region that are expected, 1 sigma."""
LEAST_EXCESS = 2.0
"""A single motion that leaves less than this, in squares of the predicted error, is one region."""
CLEAR_JUMP = 4.0
"""Where a merge costs this many times the one before, two regions that differ were joined."""
HEIGHT_FLOOR = 3e-4
"""Cost of a merge, relative to the dearest, below which it is not looked at."""
SWEEPS = 20
AROUND = 2
"""How many neighbours away a region may be for a point to have a part in it."""


class _Moments(NamedTuple):
    """Weighted sums over the points of a region; those of two regions add."""

    weight: float
    place: complex
    way: complex
    place_squared: float
    way_squared: float
    both: complex

    def plus(self, other: _Moments) -> _Moments:
        """Join two regions."""
        return _Moments(self.weight + other.weight, self.place + other.place, self.way + other.way,
                        self.place_squared + other.place_squared, self.way_squared + other.way_squared,
                        self.both + other.both)

    def misfit(self) -> float:
        """Squared error that the best displacement, rotation and dilation leave."""
        spread = self.place_squared - abs(self.place) ** 2 / self.weight
        both = self.both - self.place.conjugate() * self.way / self.weight
        rest = self.way_squared - abs(self.way) ** 2 / self.weight - abs(both) ** 2 / (spread + GRADIENT**-2)
        return max(rest, 0.0)


def _moments(place: Complex, way: Complex, weight: NDArray[np.float64]) -> list[_Moments]:
    columns = (weight, weight * place, weight * way, weight * np.abs(place) ** 2, weight * np.abs(way) ** 2,
               weight * place.conj() * way)
    return [_Moments(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def merge(place: Complex, way: Complex, weight: NDArray[np.float64],
           edges: NDArray[np.intp]) -> tuple[list[tuple[int, int]], NDArray[np.float64]]:
    """Merge neighbours until one region is left.

    Returns
    -------
    list of (int, int), array
        Which two became region n, n + 1, ...; what the last, the last but one, ... merge cost.
    """
    # about the common centre, or large coordinates would cost digits
    moments = _moments(place - place.mean(), way - way.mean(), weight)
    misfit = [0.0] * len(moments)
    beside: list[set[int]] = [set() for _ in moments]
    for a, b in edges.tolist():
        beside[a].add(b)
        beside[b].add(a)
    alive = set(range(len(moments)))

    def offer(a: int, b: int) -> tuple[float, int, int]:
        return moments[a].plus(moments[b]).misfit() - misfit[a] - misfit[b], a, b

    queue = [offer(a, b) for a, b in edges.tolist()]
    heapq.heapify(queue)
    merges: list[tuple[int, int]] = []
    heights: list[float] = []
    while len(alive) > 1:
        if not queue:   # islands: from here on each is the neighbour of every other
            queue = [offer(a, b) for a in alive for b in alive if a < b]
            heapq.heapify(queue)
            for a in alive:
                beside[a] = alive - {a}
        cost, a, b = heapq.heappop(queue)
        if a not in alive or b not in alive:
            continue
        new = len(moments)
        moments.append(moments[a].plus(moments[b]))
        misfit.append(misfit[a] + misfit[b] + cost)
        alive -= {a, b}
        near = {one for one in beside[a] | beside[b] if one in alive}
        beside.append(near)
        for one in near:
            beside[one].add(new)
            heapq.heappush(queue, offer(one, new))
        alive.add(new)
        merges.append((a, b))
        heights.append(max(cost, 0.0))
    return merges, np.array(heights[::-1])


def cut(merges: list[tuple[int, int]], number: int, count: int) -> NDArray[np.intp]:
    """Stop merging at so many regions, (n,)."""
    kept = merges[:number - count]
    rows = number + np.repeat(np.arange(len(kept)), 2)
    columns = np.array(kept, np.intp).reshape(-1)
    size = number + len(kept)
    tree = scipy.sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    return np.asarray(scipy.sparse.csgraph.connected_components(tree, directed=False)[1][:number], np.intp)


def choose(heights: NDArray[np.float64], place: Complex, way: Complex, variance: NDArray[np.float64]) -> int:
    """Find the largest number at which one region less costs much more than the merge before.

    Heights below a small share of the largest do not count; where none stands out, the one that does most is taken.
    """
    whole = _Moments(*(sum(column) for column in zip(*_moments(place - place.mean(), way - way.mean(), 1 / variance),
                                                     strict=True)))
    if len(heights) < 2 or whole.misfit() < LEAST_EXCESS * 2 * len(place):
        return 1
    lost = heights[:MOST_REGIONS] + HEIGHT_FLOOR * heights[0]
    jumps = lost[:-1] / lost[1:]
    clear = np.flatnonzero(jumps >= CLEAR_JUMP)
    return 2 + int(clear[-1] if clear.size else np.argmax(jumps))


def models(label: NDArray[np.intp], place: Complex, way: Complex,
            weight: NDArray[np.float64]) -> tuple[Complex, Complex]:
    """Fit ``a + b z`` to every region, (count,) each."""
    def total(values: NDArray[Any]) -> Complex:
        return np.asarray(np.bincount(label, values.real) + 1j * np.bincount(label, np.imag(values)))

    mass = total(weight).real
    middle, mean = total(weight * place) / mass, total(weight * way) / mass
    apart = place - middle[label]
    slope = total(weight * apart.conj() * way) / (total(weight * np.abs(apart) ** 2) + GRADIENT**-2)
    return np.asarray(mean - slope * middle), np.asarray(slope)


def exchange(label: NDArray[np.intp], place: Complex, way: Complex, weight: NDArray[np.float64],
             edges: NDArray[np.intp]) -> NDArray[np.intp]:
    """Let points change to the region whose motion they share more of, until none does.

    In a seam one motion turns into another, and a point half-way may look like a third region. So each point is held
    against the mixtures of any two regions around it, and belongs to the larger part of the one that fits best.
    """
    count, number = int(label.max()) + 1, len(label)
    if count == 1 or not len(edges):
        return label
    pairs = np.concatenate([edges, edges[:, ::-1]])
    graph = scipy.sparse.csr_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(number, number))
    for _ in range(SWEEPS):
        shift, slope = models(label, place, way, weight)
        around = np.eye(count)[label]
        for _ in range(AROUND):
            around = ((graph @ around) + around > 0).astype(np.float64)
        better = _larger_part(way, shift + slope * place[:, None], around > 0)
        if np.array_equal(better, label) or len(np.unique(better)) < count:
            break
        label = better
    return label


def _larger_part(way: Complex, motions: Complex, around: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Find the mixture of two motions that comes closest to each point, and its larger part, (n,).

    Parameters
    ----------
    way : (n,) complex
        What the points do.
    motions : (n, count) complex
        What every region would do at each of them.
    around : (n, count) bool
        Regions to think of.
    """
    error = np.where(around, np.abs(way[:, None] - motions) ** 2, np.inf)
    part = np.argmin(error, axis=1)
    least = error[np.arange(len(way)), part]
    for a, b in itertools.combinations(range(motions.shape[1]), 2):
        here = np.flatnonzero(around[:, a] & around[:, b])
        from_b, apart = way[here] - motions[here, b], motions[here, a] - motions[here, b]
        share = np.clip((from_b * apart.conj()).real / np.maximum(np.abs(apart) ** 2, 1e-12), 0, 1)
        rest = np.abs(from_b - share * apart) ** 2
        closer = rest < least[here]
        least[here[closer]] = rest[closer]
        part[here[closer]] = np.where(share[closer] > 0.5, a, b)
    return np.asarray(part)


def numbered(label: NDArray[np.intp]) -> NDArray[np.intp]:
    """Give regions their numbers by size, the largest first."""
    size = np.bincount(label)
    order = np.argsort(-size, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[label]
