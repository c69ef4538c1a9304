"""Pictures made of pictures: levels, differences, overlays, maps of regions. numpy only, no Qt.

Pictures are (row, column), y down. What is not known is NaN and is not drawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.records import AnyArray, FloatArray

Levels = tuple[float, float]
Bytes = NDArray[np.uint8]

QUANTILES = (0.005, 0.995)
SAMPLE = 10_000
"""Pixels from which levels are taken."""
PATIENCE = 0.12
"""Levels stay until they are off by this share of their range, so that the picture does not flicker."""
LARGEST_SIDE = 2048
"""Of pictures on screen; of larger ones every second (third, ...) pixel is shown."""
CATEGORIES = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0),
              (0, 114, 178))
"""Okabe and Ito's colours, told apart by all kinds of colour blindness."""


def sample(image: AnyArray) -> FloatArray:
    """Return some of the finite values of an image, evenly spread, (n,)."""
    step = max(1, int(np.sqrt(image.size / SAMPLE)))
    some = np.asarray(image[::step, ::step], np.float32)
    found: FloatArray = some[np.isfinite(some)]
    return found


def robust(image: AnyArray) -> Levels:
    """Return levels between which nearly all values lie; (0, 1) of an image without finite values."""
    some = np.sort(sample(image))
    if not some.size:
        return 0.0, 1.0
    low, high = (_quantile(some, share) for share in QUANTILES)
    return low, high


def _quantile(rising: FloatArray, share: float) -> float:
    """Return a quantile of sorted values; numpy's own takes three times as long."""
    place = share * (rising.size - 1)
    first = int(place)
    low, high = float(rising[first]), float(rising[min(first + 1, rising.size - 1)])
    return low + (place - first) * (high - low)


def symmetric(image: AnyArray) -> Levels:
    """Return levels about zero between which nearly all values lie."""
    some = np.sort(np.abs(sample(image)))
    top = _quantile(some, QUANTILES[1]) if some.size else 1.0
    return -top, top


def settled(current: Levels | None, wanted: Levels, *, least: float) -> Levels:
    """Return levels for an image that wants `wanted`: the present ones while they nearly fit.

    Parameters
    ----------
    least : float
        Smallest distance of the two: what is the same everywhere has no contrast to be enlarged.
    """
    low, high = wanted
    high = max(high, low + least)
    if current is not None:
        patience = PATIENCE * (current[1] - current[0])
        if abs(low - current[0]) <= patience and abs(high - current[1]) <= patience:
            return current
    return low, high


def thinned(image: AnyArray) -> tuple[AnyArray, int]:
    """Return an image no larger than `LARGEST_SIDE`, and how many pixels one of its pixels stands for on a side."""
    step = -(-max(image.shape) // LARGEST_SIDE)
    return (image if step <= 1 else image[::step, ::step]), max(step, 1)


def rebinned(image: AnyArray, factor: int) -> AnyArray:
    """Average squares of `factor` x `factor` pixels; what is left over is cut off."""
    if factor == 1:
        return image
    rows, columns = (side // factor for side in image.shape)
    part = image[:rows * factor, :columns * factor]
    down = part[::factor].astype(np.float32)   # line upon line: 7 times as fast as numpy's mean over blocks
    for row in range(1, factor):
        down += part[row::factor]
    mean: AnyArray = down[:, ::factor].copy()
    for column in range(1, factor):
        mean += down[:, column::factor]
    mean /= np.float32(factor**2)
    return mean


def moved(image: FloatArray, dy: float, dx: float, shape: tuple[int, int]) -> FloatArray:
    """Shift an image down and right, NaN where nothing comes from.

    Returns
    -------
    ndarray of `shape`, float32
        ``out[y, x] = image[y - dy, x - dx]``, linear between pixels.
    """
    out = np.full(shape, np.nan, np.float32)
    if not (np.isfinite(dy) and np.isfinite(dx)):
        return out
    whole = int(np.floor(dy)), int(np.floor(dx))
    part_y, part_x = dy - whole[0], dx - whole[1]
    # of two neighbours the earlier one counts with the part, and the first row or column has none
    rows = image if part_y == 0 else image[1:] * np.float32(1 - part_y) + image[:-1] * np.float32(part_y)
    both = rows if part_x == 0 else rows[:, 1:] * np.float32(1 - part_x) + rows[:, :-1] * np.float32(part_x)
    target, source = [], []
    for start, length, room in zip((whole[0] + (part_y != 0), whole[1] + (part_x != 0)), both.shape, shape,
                                   strict=True):
        begin, end = max(start, 0), min(start + length, room)
        if end <= begin:
            return out
        target.append(slice(begin, end))
        source.append(slice(begin - start, end - start))
    out[tuple(target)] = both[tuple(source)]
    return out


def red_blue(reference: FloatArray, frame: FloatArray, levels: Levels) -> Bytes:
    """Lay two pictures over each other: red what is dark in the reference only, blue what is dark in the frame only.

    Returns
    -------
    ndarray of shape (M, N, 3), uint8
        Grey where both are alike, and the frame in grey where the reference shows nothing.
    """
    red, blue = _bytes(frame, levels), _bytes(reference, levels)
    np.copyto(blue, red, where=np.isnan(reference))
    both = np.empty((*frame.shape, 3), np.uint8)
    both[..., 0], both[..., 2] = red, blue
    np.minimum(red, blue, out=both[..., 1])
    return both


def _bytes(image: FloatArray, levels: Levels) -> Bytes:
    low, high = levels
    scaled = image - np.float32(low)
    scaled *= np.float32(255 / max(high - low, 1e-12))
    np.fmax(scaled, np.float32(0), out=scaled)   # of NaN and a number, the number
    np.fmin(scaled, np.float32(255), out=scaled)
    return scaled.astype(np.uint8)


def magnitude(field: FloatArray, valid: AnyArray) -> FloatArray:
    """Return the length of each vector of a (2, K, L) field, NaN where it is not valid."""
    length: FloatArray = np.where(valid, np.hypot(field[0], field[1]), np.float32(np.nan)).astype(np.float32)
    return length


def whole(half: AnyArray) -> AnyArray:
    """Complete the picture of a spectrum: (K, K / 2) of fx from 0 up to (K, K) with its mirror image."""
    return np.concatenate([half[::-1, ::-1], half], axis=1)


def region_colours(labels: AnyArray, *, alpha: int) -> Bytes:
    """Colour regions so that neighbours differ.

    Parameters
    ----------
    labels : ndarray of shape (K, L), integer
        -1 outside all regions, where nothing is drawn.

    Returns
    -------
    ndarray of shape (K, L, 4), uint8
    """
    numbers, flat = np.unique(labels, return_inverse=True)
    places = flat.reshape(labels.shape)
    table = np.zeros((numbers.size, 4), np.uint8)
    inside = numbers >= 0
    chosen = _apart(numbers.size, (pair for pair in _touching(places) if inside[pair].all()))
    for place, number in enumerate(numbers.tolist()):
        if number >= 0:
            table[place] = (*CATEGORIES[chosen[place] % len(CATEGORIES)], alpha)
    return table[places]


def _touching(places: NDArray[np.intp]) -> list[list[int]]:
    """Return pairs of numbers that lie beside or above each other."""
    pairs = np.concatenate([
        np.stack([places[:, :-1].ravel(), places[:, 1:].ravel()], axis=1),
        np.stack([places[:-1].ravel(), places[1:].ravel()], axis=1)])
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    found: list[list[int]] = np.unique(np.sort(pairs, axis=1), axis=0).tolist()
    return found


def _apart(count: int, pairs: Iterable[list[int]]) -> list[int]:
    """Give each number the first colour that none of its neighbours has."""
    neighbours: list[set[int]] = [set() for _ in range(count)]
    for one, other in pairs:
        neighbours[one].add(other)
        neighbours[other].add(one)
    chosen: list[int] = []
    for place in range(count):
        taken = {chosen[other] for other in neighbours[place] if other < place}
        chosen.append(next(colour for colour in range(count + 1) if colour not in taken))
    return chosen


def outlines(labels: AnyArray) -> NDArray[Any]:
    """Return the borders of regions as lines (x1, y1, x2, y2) in cells of the map, (n, 4)."""
    padded = np.pad(labels, 1, constant_values=-1)
    y, x = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])       # upright: between columns x - 1 and x
    upright = np.stack([x, y, x, y + 1], axis=1)
    y, x = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    level = np.stack([x, y, x + 1, y], axis=1)
    return np.concatenate([upright, level]).astype(float)
