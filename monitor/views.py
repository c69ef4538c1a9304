"""Which frame and which view are looked at: stepping through what the charts hold. No Qt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monitor.rows import BoolColumn, Charts


def order_of(charts: Charts, place: int | None) -> float | None:
    """Return where on the frame axis a row of the store is drawn; None if it is not."""
    if place is None:
        return None
    lines = np.flatnonzero(charts.position == place)
    return float(charts.order[lines[0]]) if lines.size else None


def nearest(charts: Charts, order: float) -> int | None:
    """Return the place in the store of the row drawn nearest to a place on the frame axis; None without rows."""
    if not charts.order.size:
        return None
    return int(charts.position[int(np.argmin(np.abs(charts.order - order)))])


def step(charts: Charts, place: int | None, direction: int, among: BoolColumn | None = None) -> int | None:
    """Return the place of the row before or after one; None if there is none.

    Parameters
    ----------
    place : int or None
        Place in the store of the row looked at; None, or one that is not drawn: the newest, live.
    direction : {-1, 1}
        To older or newer rows.
    among : ndarray of bool, optional
        Rows that count, such as the flagged ones; all of them by default.
    """
    lines = np.flatnonzero(among) if among is not None else np.arange(charts.order.size)
    now = order_of(charts, place)
    if not lines.size:
        return None
    if now is None:
        if among is not None:
            return int(charts.position[lines[-1]])
        return int(charts.position[lines[-2]]) if direction < 0 and lines.size > 1 else None
    orders = charts.order[lines]
    later = lines[orders > now] if direction > 0 else lines[orders < now]
    if not later.size:
        return None
    return int(charts.position[later[0] if direction > 0 else later[-1]])


def turn(views: Sequence[str], view: str | None, direction: int) -> str | None:
    """Return the next view, or the one before; None stands for all of them together."""
    every: list[str | None] = [None, *views]
    now = every.index(view) if view in every else 0
    return every[(now + direction) % len(every)]
