"""Sets of whole numbers kept as ranges, so that weeks of frame numbers stay small."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

MOST_RANGES = 10_000
"""Beyond this the oldest ranges are forgotten; they stay counted."""


class Ranges:
    """Sorted, disjoint, merged ranges ``first..last`` of whole numbers."""

    __slots__ = ("_firsts", "_forgotten", "_lasts", "_size")

    def __init__(self, ranges: Iterable[Iterable[int]] = (), *, forgotten: int = 0) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._size = 0
        self._forgotten = forgotten
        for first, last in ranges:
            self.add(first, last)

    def __len__(self) -> int:
        """Count the numbers, forgotten ones included."""
        return self._size + self._forgotten

    def __contains__(self, number: int) -> bool:
        place = bisect.bisect_right(self._firsts, number) - 1
        return place >= 0 and number <= self._lasts[place]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (first, last) of every range, ascending."""
        return zip(self._firsts, self._lasts, strict=True)

    def add(self, first: int, last: int) -> None:
        """Add the numbers from `first` to `last`, both included; nothing when `last` is smaller."""
        if last < first:
            return
        low = bisect.bisect_left(self._lasts, first - 1)      # the first range that touches
        high = bisect.bisect_right(self._firsts, last + 1)    # behind the last one that touches
        if low < high:
            first, last = min(first, self._firsts[low]), max(last, self._lasts[high - 1])
        self._replace(low, high, [(first, last)])
        while len(self._firsts) > MOST_RANGES:
            self._forgotten += self._lasts[0] - self._firsts[0] + 1
            self._replace(0, 1, [])

    def remove(self, first: int, last: int) -> None:
        """Take the numbers from `first` to `last` out, as far as they are in; nothing when `last` is smaller."""
        if last < first:
            return
        low = bisect.bisect_left(self._lasts, first)
        high = bisect.bisect_right(self._firsts, last)
        if low >= high:
            return
        left = (self._firsts[low], first - 1)
        right = (last + 1, self._lasts[high - 1])
        self._replace(low, high, [piece for piece in (left, right) if piece[0] <= piece[1]])

    def between(self, first: int, last: int) -> list[tuple[int, int]]:
        """Return the parts of the ranges that lie in `first` .. `last`."""
        low = bisect.bisect_left(self._lasts, first)
        high = bisect.bisect_right(self._firsts, last)
        return [(max(first, self._firsts[place]), min(last, self._lasts[place])) for place in range(low, high)]

    def to_list(self) -> list[int | tuple[int, int]]:
        """Return single numbers as numbers and longer ranges as ``(first, last)``."""
        return [first if first == last else (first, last) for first, last in self]

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain lists and numbers."""
        return {"ranges": [list(piece) for piece in self], "forgotten": self._forgotten}

    @classmethod
    def restore(cls, tree: Mapping[str, Any]) -> Self:
        """Make a set from its snapshot."""
        return cls(tree["ranges"], forgotten=tree["forgotten"])

    def _replace(self, low: int, high: int, pieces: list[tuple[int, int]]) -> None:
        old = zip(self._firsts[low:high], self._lasts[low:high], strict=True)
        self._size += sum(last - first + 1 for first, last in pieces) - sum(last - first + 1 for first, last in old)
        self._firsts[low:high] = [first for first, _ in pieces]
        self._lasts[low:high] = [last for _, last in pieces]
