"""Which frames belong together: those of one angle and one energy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

ANGLE_TOLERANCE_DEG = 0.05
"""Encoders repeat an angle this well."""
ENERGY_TOLERANCE_EV = 0.2


def name_views(
    count: int, *, angles_deg: ArrayLike | None = None, energies_ev: ArrayLike | None = None,
) -> list[str]:
    """Name the view of each of `count` projections by its angle and energy.

    What is the same for all of them needs no name: of a series at one angle and energy, every view is ``""``.

    >>> name_views(3, angles_deg=[0.0, 45.01, 0.01])
    ['0.00 deg', '45.01 deg', '0.00 deg']
    """
    parts = [_named(count, values, tolerance, pattern) for values, tolerance, pattern in (
        (angles_deg, ANGLE_TOLERANCE_DEG, "{:.2f} deg"), (energies_ev, ENERGY_TOLERANCE_EV, "{:.1f} eV"))]
    return [", ".join(filter(None, words)) for words in zip(*parts, strict=True)]


def _named(count: int, values: ArrayLike | None, tolerance: float, pattern: str) -> list[str]:
    """Name groups of values that are closer than the tolerance to their neighbours, each by its first value."""
    if values is None:
        return [""] * count
    numbers: NDArray[np.float64] = np.asarray(values, np.float64)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        return [""] * count
    order = np.argsort(numbers, kind="stable")
    group = np.empty(count, np.int64)
    group[order] = np.concatenate([[0], np.cumsum(np.diff(numbers[order]) > tolerance)]) if count else []
    if count == 0 or group.max() == 0:
        return [""] * count
    first = {int(number): float(numbers[np.flatnonzero(group == number)[0]]) + 0.0 for number in set(group.tolist())}
    return [pattern.format(first[int(number)]) for number in group]
