"""What the charts say of a displacement field: how far, which way. No Qt, no analysis of its own."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.records import BoolArray, FloatArray, FlowResult

NOISE_SIGMAS = 2.0
NOISE_PX = 0.1
"""What counts as noise where the field has no error."""
SECTORS = 36
BANDS = 4

Counts = NDArray[np.int64]


class Moved(NamedTuple):
    """Valid points of a field."""

    amplitude_px: FloatArray
    """(n,)."""
    direction_deg: FloatArray
    """(n,) 0 = along +x, counter-clockwise on the screen, in [0, 360)."""
    above: BoolArray
    """(n,) longer than the noise: the others have no direction."""
    points: int
    """Of the grid."""


class Rose(NamedTuple):
    """Directions by sector, lengths by band."""

    counts: Counts
    """(bands, sectors); sector k is centred on ``360 k / sectors`` degrees."""
    edges_px: NDArray[np.float64]
    """(bands + 1,) of the amplitude."""
    undirected: int
    """Valid points below the noise."""
    mean_px: tuple[float, float]
    """(y, x) mean displacement of all valid points."""
    agreement: float
    """Its length over the mean length: 1 when all points move alike, near 0 when they move all ways."""


def moved(flow: FlowResult) -> Moved:
    """Return how far and which way the valid points moved."""
    y, x = flow.displacement_px[:, flow.valid]
    amplitude = np.hypot(y, x)
    sigma = flow.sigma_px[flow.valid]
    noise = np.where(np.isfinite(sigma), NOISE_SIGMAS * sigma, NOISE_PX)
    direction = np.degrees(np.arctan2(-y, x)) % 360.0   # y points down
    return Moved(amplitude, direction, amplitude > noise, flow.valid.size)


def way(y_px: float, x_px: float) -> str:
    """Write the direction of a vector: 0° = to the right, 90° = up on the screen, counter-clockwise.

    >>> way(0.0, 1.0), way(-1.0, 0.0), way(0.0, -1.0), way(1e-9, 1.0)
    ('0°', '90°', '180°', '0°')
    """
    return f"{round(math.degrees(math.atan2(-y_px, x_px))) % 360}°"


def histogram(values: NDArray[Any], *, most: int = 40, least: int = 8) -> tuple[NDArray[np.float64], Counts]:
    """Count in equal bins, from the smallest to the largest value.

    The number of bins follows Freedman & Diaconis (1981, doi:10.1007/BF01025868), between `least` and `most`.

    Returns
    -------
    edges : ndarray of shape (bins + 1,)
    counts : ndarray of shape (bins,)
        Both are empty without finite values.
    """
    known = values[np.isfinite(values)].astype(np.float64)
    if not known.size:
        return np.zeros(0), np.zeros(0, np.int64)
    edges = bins(known, most=most, least=least)
    return edges, np.histogram(known, edges)[0]


def bins(known: NDArray[Any], *, most: int = 40, least: int = 8) -> NDArray[np.float64]:
    """Return edges of bins for these values, at least one of them."""
    low, high = float(known.min()), float(known.max())
    if not high - low > 1e-6 * max(abs(low), abs(high), 1e-3):   # all alike: still a bar to be seen
        low, high = low - 0.5, high + 0.5
    quarter, three = np.quantile(known, (0.25, 0.75))
    width = 2.0 * float(three - quarter) / known.size ** (1 / 3)
    number = most if width <= 0 else int(np.clip(round((high - low) / width), least, most))
    return np.linspace(low, high, number + 1)


def rose(found: Moved, flow: FlowResult) -> Rose:
    """Count directions by sector and length."""
    lengths, directions = found.amplitude_px[found.above], found.direction_deg[found.above]
    mean = flow.displacement_px[:, flow.valid].mean(axis=1, dtype=np.float64) if flow.valid.any() else (0.0, 0.0)
    top = float(np.quantile(lengths, 0.98)) if lengths.size else 1.0
    edges = np.linspace(0.0, _round(top), BANDS + 1)
    sector = np.floor(directions / 360.0 * SECTORS + 0.5).astype(np.int64) % SECTORS
    band = np.clip(np.searchsorted(edges, lengths, "right") - 1, 0, BANDS - 1)
    counts = np.bincount(band * SECTORS + sector, minlength=BANDS * SECTORS).reshape(BANDS, SECTORS)
    length = float(found.amplitude_px.mean(dtype=np.float64)) if found.amplitude_px.size else 0.0
    agreement = min(float(np.hypot(*mean)) / length, 1.0) if length > 0 else 0.0
    return Rose(counts, edges, int((~found.above).sum()), (float(mean[0]), float(mean[1])), agreement)


def _round(top: float) -> float:
    """Return the next number of one digit that is divided by four without many digits.

    >>> [_round(value) for value in (0.7, 1.0, 1.3, 17.0, 0.0)]
    [0.8, 1.0, 2.0, 20.0, 1.0]
    """
    if not top > 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(top))
    return float(min(factor for factor in (1, 2, 4, 6, 8, 10) if factor * power >= top * (1 - 1e-9)) * power)
