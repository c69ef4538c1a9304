"""The frame numbers of one acquisition: what came, what came spoilt, what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, Self

from streamer.records import Accounting, Tally
from streamer.sources.ranges import Ranges

NEAR = 64
"""Frames this far apart in number may have changed places on the way; farther apart the sender started anew."""
MODULI = (1 << 16, 1 << 31, 1 << 32)
"""Where counters of detectors and drivers run over."""

Bucket = Literal["duplicate", "out_of_order", "malformed", "refused", "dropped", "restarts"]
BUCKETS: tuple[Bucket, ...] = ("duplicate", "out_of_order", "malformed", "refused", "dropped", "restarts")

_PLAIN_FIELDS = ("name", "first", "newest", "origin", "contradicted", "offset", "modulus", "expected", "closed",
                 "received", "measured")


class Signature(NamedTuple):
    """What tells one frame from another with the same number."""

    exposed_at: float | None
    checksum: int

    def same_as(self, other: Signature) -> bool:
        """Tell whether both are of one exposure."""
        if self.exposed_at is not None and other.exposed_at is not None:
            return self.exposed_at == other.exposed_at
        return self.checksum == other.checksum


class Stream:
    """The numbers of one acquisition: each in ``first..newest`` was seen, is spoilt, or is missing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.first: int | None = None
        """Lowest number that is accounted for."""
        self.newest = -1
        self.origin = -1
        """The number that arrived first."""
        self.origin_signature: Signature | None = None
        self.contradicted = -1
        """A number that has just come again with other content; when the next one does so, too, all started anew."""
        self.offset = 0
        """What the wraps of the counter add up to."""
        self.modulus = 0
        self.expected: int | None = None
        self.closed = False
        self.received = 0
        self.measured = 0
        self.missing = Ranges()
        self.spoilt = Ranges()
        """Numbers that came, but not as a frame that could be measured; they may come again."""
        self.apart = Ranges()
        """Numbers ahead of the count that frames taken again came under, such as those behind all that is planned."""
        self.tallies: dict[Bucket, tuple[int, Ranges]] = {}

    def tally(self, bucket: Bucket, index: int | None) -> None:
        """Count one, with its number if it has one."""
        count, ranges = self.tallies.get(bucket, (0, Ranges()))
        if index is not None:
            ranges.add(index, index)
        self.tallies[bucket] = (count + 1, ranges)

    def non_empty(self) -> Iterator[tuple[str, int, Ranges]]:
        """Yield name, count and numbers of what is to be told, `missing` included."""
        if len(self.missing):
            yield "missing", len(self.missing), self.missing
        for bucket, (count, ranges) in self.tallies.items():
            yield bucket, count, ranges

    def accounting(self) -> Accounting:
        """Account for this acquisition."""
        return Accounting(received=self.received, measured=self.measured,
                          **{name: Tally(count=count, indices=ranges.to_list())
                             for name, count, ranges in self.non_empty()})

    def is_inside(self, index: int) -> bool:
        """Tell whether a number lies between the lowest and the newest, or came ahead of the count."""
        return index in self.apart or (self.first is not None and self.first <= index <= self.newest)

    def was_seen(self, index: int) -> bool:
        """Tell whether a number came as a frame that could be measured."""
        return self.is_inside(index) and index not in self.missing and index not in self.spoilt

    def is_complete(self) -> bool:
        """Tell whether no more frames are due."""
        return self.closed or (self.expected is not None and self.newest >= self.expected - 1)

    def owe(self, first: int, last: int) -> list[tuple[int, int]]:
        """Mark what neither came nor was spoilt as missing; return the ranges."""
        owed = Ranges([(first, last)])
        for piece in (*self.spoilt.between(first, last), *self.apart.between(first, last)):
            owed.remove(*piece)
        for piece in owed:
            self.missing.add(*piece)
        return list(owed)

    def place(self, index: int, *, taken_again: bool = False) -> tuple[list[tuple[int, int]], bool]:
        """Enter an accepted number; that of a frame taken again may run ahead of the count without a gap.

        Returns
        -------
        gaps : list of (first, last)
            What is missing from now on.
        late : bool
            Whether it came after a larger number; one that was spoilt before and comes again does not count.
        """
        late = index <= self.newest and index not in self.spoilt
        self.spoilt.remove(index, index)
        self.contradicted = -1
        gaps: list[tuple[int, int]] = []
        if taken_again and self._is_ahead(index):
            self.apart.add(index, index)
        elif self.first is None:
            self.first = self.newest = self.origin = index
            if self.expected is not None:   # then the frames before are owed, too
                gaps, self.first = self.owe(0, index - 1), 0
        elif index > self.newest:
            gaps, self.newest = self.owe(self.newest + 1, index - 1), index
        elif index < self.first:
            gaps, self.first = self.owe(index + 1, self.first - 1), index
        else:
            self.missing.remove(index, index)
        return gaps, late

    def spoil(self, index: int) -> None:
        """Enter a number that came without a usable frame; it opens no gap, for it may be damaged itself."""
        self.missing.remove(index, index)
        self.spoilt.add(index, index)

    def finish(self) -> list[tuple[int, int]]:
        """Close; return what is missing from now on because it was expected."""
        gaps: list[tuple[int, int]] = []
        if self.expected is not None and not self.closed and self.newest < self.expected - 1:
            start = 0 if self.first is None else self.newest + 1
            gaps = self.owe(start, self.expected - 1)
            self.first = start if self.first is None else self.first
            self.newest = self.expected - 1
        self.closed = True
        return gaps

    def unwrap(self, raw: int) -> tuple[int, int]:
        """Continue the count over the end of the sender's counter: (number, modulus of a new wrap or 0)."""
        index = raw + self.offset
        if self.first is None:
            return index, 0
        newest_raw = self.newest - self.offset
        if self.offset and raw >= self.modulus - NEAR and newest_raw < NEAR:
            return index - self.modulus, 0   # a late one from before the wrap
        if raw < NEAR and not self.is_complete():
            for modulus in MODULI:
                if modulus - NEAR <= newest_raw < modulus:
                    return index + modulus, modulus
        return index, 0

    def unwrap_recollected(self, raw: int | None, index: int) -> int | None:
        """Continue the count for a frame that `index` replaces; it lies before it."""
        if raw is None or not self.offset:
            return raw
        unwrapped = raw + self.offset
        return unwrapped - self.modulus if unwrapped >= index else unwrapped

    def _is_ahead(self, index: int) -> bool:
        if self.first is None:
            return self.expected is not None and index >= self.expected
        return index > self.newest + 1

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain lists, dicts, numbers and texts."""
        return {
            **{field: getattr(self, field) for field in _PLAIN_FIELDS},
            "origin_signature": None if self.origin_signature is None else list(self.origin_signature),
            "missing": self.missing.snapshot(),
            "spoilt": self.spoilt.snapshot(),
            "apart": self.apart.snapshot(),
            "tallies": {bucket: [count, ranges.snapshot()] for bucket, (count, ranges) in self.tallies.items()},
        }

    @classmethod
    def restore(cls, tree: Mapping[str, Any]) -> Self:
        """Make a stream that goes on where the snapshot was taken."""
        stream = cls(tree["name"])
        for field in _PLAIN_FIELDS:
            setattr(stream, field, tree[field])
        if tree["origin_signature"] is not None:
            stream.origin_signature = Signature(*tree["origin_signature"])
        stream.missing, stream.spoilt, stream.apart = (
            Ranges.restore(tree[name]) for name in ("missing", "spoilt", "apart"))
        stream.tallies = {bucket: (count, Ranges.restore(ranges))
                          for bucket, (count, ranges) in tree["tallies"].items()}
        return stream
