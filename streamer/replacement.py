"""Which rows stand for the acquisition when frames were taken again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streamer.records import FrameRow

_WORTH = {"sharp": 4, "undecided": 3, "blurred": 2, "bad": 1, None: 0}

_Key = tuple[str, int]


def in_force(rows: Iterable[FrameRow]) -> list[FrameRow]:
    """Return the rows that count: one for every place in the acquisition.

    Of a frame and those that were taken again for it, the best one stands in the place of the first; of equally good
    ones the one that came last. What cannot replace (a frame of another view, one that names a frame that is not
    there) stands for itself. The rows of before are all in the journal.

    Parameters
    ----------
    rows : iterable of FrameRow
        In order of arrival.

    Returns
    -------
    list of FrameRow
        In the same order.

    Examples
    --------
    >>> row = FrameRow(index=3, acquisition="a", view="main", kind="projection", verdict="blurred")
    >>> again = FrameRow(index=8, acquisition="a", view="main", kind="projection", verdict="sharp", recollects=3)
    >>> [row.index for row in in_force([row, again])]
    [8]
    """
    ordered = list(rows)
    places, best = _settle(ordered)
    return [best[place] for place in dict.fromkeys(places)]


def replaced_by(rows: Iterable[FrameRow]) -> dict[_Key, int]:
    """Return the frames that do not stand, by acquisition and number, with the number of the one in their place.

    Parameters
    ----------
    rows : iterable of FrameRow
        In order of arrival; those that neither replace nor are replaced may be left out.
    """
    ordered = list(rows)
    places, best = _settle(ordered)
    return {(row.acquisition, row.index): best[place].index for place, row in zip(places, ordered, strict=True)
            if best[place] is not row}


def _settle(rows: list[FrameRow]) -> tuple[list[_Key], dict[_Key, FrameRow]]:
    """Return the place of every row, and the row that stands in each place."""
    known = {(row.acquisition, row.index): row for row in rows}
    places = [_place(row, known) for row in rows]
    best: dict[_Key, FrameRow] = {}
    for place, row in zip(places, rows, strict=True):
        held = best.get(place)
        if held is None or _WORTH[row.verdict] >= _WORTH[held.verdict]:
            best[place] = row
    return places, best


def _place(row: FrameRow, known: Mapping[_Key, FrameRow]) -> _Key:
    """Return the frame whose place a row may take, by way of those that were taken again before."""
    seen = {(row.acquisition, row.index)}
    while row.recollects is not None and row.kind == "projection":
        replaced = known.get((row.acquisition, row.recollects))
        if replaced is None or replaced.kind != "projection" or replaced.view != row.view:
            break
        row = replaced
        if (row.acquisition, row.index) in seen:   # two that name each other
            return min(seen)
        seen.add((row.acquisition, row.index))
    return row.acquisition, row.index
