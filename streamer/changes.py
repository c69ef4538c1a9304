"""What two analyses of the same frames say differently."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from streamer.records import Alert, FrameRow

_NAMED = 5
"""Frames that are named of each change."""

_Key = tuple[str, int]


class VerdictChange(NamedTuple):
    """Frames whose verdict became another one."""

    before: str
    """``none`` where there was none."""
    after: str
    frames: list[_Key]
    """Acquisition and index of all of them, in order of arrival."""


class Changes(NamedTuple):
    """What differs between two analyses; frames are projections that both have."""

    frames: int
    only_before: int
    """Projections that the second analysis does not have."""
    only_after: int
    verdicts: list[VerdictChange]
    """The most frequent one first."""
    drifts: int
    """Frames with a drift in both."""
    drift_median_px: float | None
    """Of the distances between the two drifts of a frame; None without any, as what follows."""
    drift_largest_px: float | None
    drift_largest_at: _Key | None
    """Acquisition (of the second analysis) and index of the frame with the largest one."""
    drifts_gained: int
    """Frames that have a drift only in the second analysis."""
    drifts_lost: int
    alerts: dict[str, tuple[int, int]]
    """By rule: alerts before and after, where that is not the same number."""

    @property
    def text(self) -> str:
        """All of it in a few lines."""
        return "\n".join((_frames_text(self), *_verdict_lines(self), _drift_text(self), _alerts_text(self)))


def changes(before_rows: Iterable[FrameRow], after_rows: Iterable[FrameRow], *, before_alerts: Iterable[Alert] = (),
            after_alerts: Iterable[Alert] = ()) -> Changes:
    """Compare two analyses of the same frames.

    Parameters
    ----------
    before_rows, after_rows : iterable of FrameRow
        Of the two sessions, in order of arrival. Flats and darks are passed over. Frames belong together when
        acquisition and index agree; where each session has one acquisition, by the index alone, since a sender may
        call it otherwise than a file.
    before_alerts, after_alerts : iterable of Alert

    Returns
    -------
    Changes
        Without rows: zeros and None.

    Examples
    --------
    >>> row = FrameRow(index=3, acquisition="a", view="main", kind="projection", verdict="sharp", drift_y_px=0.0,
    ...                drift_x_px=1.0)
    >>> import msgspec
    >>> print(changes([row], [msgspec.structs.replace(row, verdict="blurred", drift_x_px=1.5)]).text)
    1 frame compared
    verdicts: 1 frame sharp -> blurred (3)
    drift: differs by 0.5 px (median of 1 frame), at most by 0.5 px at frame 3
    alerts: the same number of every rule
    """
    before, after = _projections(before_rows), _projections(after_rows)
    by_index = all(len({acquisition for acquisition, _ in rows}) == 1 for rows in (before, after))
    earlier = {("", key[1]): row for key, row in before.items()} if by_index else before
    places = [("", key[1]) if by_index else key for key in after]
    pairs = [(earlier[place], row) for place, row in zip(places, after.values(), strict=True) if place in earlier]
    distances = [(math.hypot(*(b - a for a, b in zip(old, new, strict=True))), (row.acquisition, row.index))
                 for row, old, new in ((row, _drift(first), _drift(row)) for first, row in pairs) if old and new]
    largest, largest_at = max(distances, key=lambda found: found[0], default=(None, None))
    return Changes(
        frames=len(pairs), only_before=len(before) - len(pairs), only_after=len(after) - len(pairs),
        verdicts=_verdict_changes(pairs), drifts=len(distances),
        drift_median_px=statistics.median(distance for distance, _ in distances) if distances else None,
        drift_largest_px=largest, drift_largest_at=largest_at,
        drifts_gained=sum(_drift(old) is None and _drift(new) is not None for old, new in pairs),
        drifts_lost=sum(_drift(old) is not None and _drift(new) is None for old, new in pairs),
        alerts=_alert_changes(before_alerts, after_alerts))


def _projections(rows: Iterable[FrameRow]) -> dict[_Key, FrameRow]:
    return {(row.acquisition, row.index): row for row in rows if row.kind == "projection"}


def _drift(row: FrameRow) -> tuple[float, float] | None:
    return None if row.drift_y_px is None or row.drift_x_px is None else (row.drift_y_px, row.drift_x_px)


def _verdict_changes(pairs: Iterable[tuple[FrameRow, FrameRow]]) -> list[VerdictChange]:
    found: dict[tuple[str, str], list[_Key]] = {}
    for old, new in pairs:
        if old.verdict != new.verdict:
            found.setdefault((old.verdict or "none", new.verdict or "none"), []).append((new.acquisition, new.index))
    listed = [VerdictChange(before, after, frames) for (before, after), frames in found.items()]
    return sorted(listed, key=lambda change: -len(change.frames))


def _alert_changes(before: Iterable[Alert], after: Iterable[Alert]) -> dict[str, tuple[int, int]]:
    earlier, later = (Counter(alert.rule for alert in alerts) for alerts in (before, after))
    return {rule: (earlier[rule], later[rule]) for rule in sorted(earlier | later) if earlier[rule] != later[rule]}


def _frames_text(found: Changes) -> str:
    alone: Mapping[str, int] = {"only in the session of before": found.only_before,
                                "only in the new one": found.only_after}
    return f"{_count(found.frames)} compared" + "".join(f", {count} {text}" for text, count in alone.items() if count)


def _verdict_lines(found: Changes) -> list[str]:
    if not found.verdicts:
        return ["verdicts: the same"]
    several = len({acquisition for change in found.verdicts for acquisition, _ in change.frames}) > 1
    lines = []
    for change in found.verdicts:
        named = ", ".join(f"{acquisition} {index}" if several else str(index)
                          for acquisition, index in change.frames[:_NAMED])
        more = ", ..." if len(change.frames) > _NAMED else ""
        lines.append(f"verdicts: {_count(len(change.frames))} {change.before} -> {change.after} ({named}{more})")
    return lines


def _drift_text(found: Changes) -> str:
    parts = []
    if found.drift_largest_px == 0.0:
        parts.append(f"the same for {_count(found.drifts)}")
    elif found.drift_largest_at is not None:
        parts.append(f"differs by {found.drift_median_px:.3g} px (median of {_count(found.drifts)}), at most by "
                     f"{found.drift_largest_px:.3g} px at frame {found.drift_largest_at[1]}")
    parts += [f"{_count(count)} {text}" for text, count in (
        ("with a drift only now", found.drifts_gained), ("without one now", found.drifts_lost)) if count]
    return "drift: " + ("; ".join(parts) or "none to compare")


def _alerts_text(found: Changes) -> str:
    if not found.alerts:
        return "alerts: the same number of every rule"
    return "alerts: " + ", ".join(f"{rule} {before} -> {after}" for rule, (before, after) in found.alerts.items())


def _count(frames: int) -> str:
    return f"{frames} frame" if frames == 1 else f"{frames} frames"
