"""Rows that were seen: one comes again when it is revised, or when its displacement is known."""

from __future__ import annotations

from collections import OrderedDict

from streamer.records import FrameRow

_REMEMBERED = 8192
"""More than can still be revised."""


class Recent:
    """The newest row of every recent frame."""

    def __init__(self) -> None:
        self._rows: OrderedDict[tuple[str, int], FrameRow] = OrderedDict()

    def exchange(self, row: FrameRow) -> FrameRow | None:
        """Remember a row and return the one of the same frame before it; None for a frame that is new."""
        key = row.acquisition, row.index
        before = self._rows.get(key)
        self._rows[key] = row
        if len(self._rows) > _REMEMBERED:
            self._rows.popitem(last=False)
        return before
