"""The common motion of many tiles, with an error that can be believed.

The error of a tile is what its residual predicts, times a common factor, plus a common scatter (deformation,
detector pattern). Both are estimated, so that a few strong tiles cannot rule the mean of a deformed sample.
Tiles that do not agree lose their weight, and the scatter of the tiles about the fit, taken in blocks of
neighbours, gives the covariance of the result (sandwich estimate).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.imaging.arrays import medians
from streamer.imaging.tiles import LARGEST_STEP_PX, Tiles, invert_pairs

ROUNDS = 5
ROUNDS_WITH_SCATTER = 3
TOLERATED = 16.0
"""Squared deviation, in standard deviations, from which a tile loses its weight quickly."""
CHI2_MEDIAN = 1.386
"""Median of the sum of two squared standard deviates."""
ARM_PX = 100.0
"""Rotation and magnification are fitted as the motion at this distance from the centre."""
SHARED_PX, SHARED_BY = 0.1, 0.35
"""Tiles share a motion to about this, beyond their errors, and such a share of them must."""
LEAST_TILES_OF_FIELD = 12
EVEN_PX = 0.3
"""Tiles with smaller errors than this have an even say in what deforms."""

Doubles = NDArray[np.float64]


class Fit(NamedTuple):
    """The common motion of the tiles, in pixels of their level."""

    shift: Doubles
    """(2,) motion of the centre of the reference."""
    covariance: Doubles
    """(2, 2) of the shift."""
    turn_rad: float
    """Rotation from +x towards +y; 0 when it was not fitted."""
    turn_sigma_rad: float
    stretch: float
    """Relative change of all distances; 0 when it was not fitted."""
    stretch_sigma: float
    inliers: float
    """Share of the structure that moved together, to about a pixel."""
    deformation_px: float
    """Root mean square of what the tiles moved together with their neighbours, not with the fit."""


def common_shift(tiles: Tiles, *, start: Doubles | None = None) -> Doubles | None:
    """Return the shift (2,) of the tiles, as `fit_motion` does, without its error; None when too few can tell."""
    chosen = _chosen(tiles, turning=False)
    return None if chosen is None else _combine(chosen, start).motion


def fit_motion(tiles: Tiles, *, turning: bool = False, start: Doubles | None = None) -> Fit | None:
    """Fit a shift to the tiles, with rotation and magnification if `turning`; None when too few can tell.

    `start` is a shift (2,) that most of them share, if it is known.
    """
    chosen = _chosen(tiles, turning=turning)
    if chosen is None:
        return None
    informed, design, shift, _, variance = chosen
    motion, pull, distance = _combine(chosen, start)
    known = design[informed]
    deviation = shift - known @ motion
    covariance = _covariance(deviation, known, pull, distance, tiles.block[informed])
    away = np.hypot(*(tiles.shift - design @ motion).T)
    turn_rad = stretch = 0.0
    turn_sigma_rad = stretch_sigma = math.inf
    if turning:
        turn_rad, stretch = (float(value) / ARM_PX for value in motion[2:])
        turn_sigma_rad, stretch_sigma = (math.sqrt(max(float(covariance[place, place]), 0.0)) / ARM_PX
                                         for place in (2, 3))
    return Fit(motion[:2], covariance[:2, :2], turn_rad, turn_sigma_rad, stretch, stretch_sigma,
               _inliers(tiles, away), _deformation(deviation, variance, tiles.place[informed]))


class _Chosen(NamedTuple):
    """The tiles that can tell anything, (n,) of all."""

    informed: NDArray[np.bool_]
    """Which of all tiles they are."""
    design: Doubles
    """Of all tiles."""
    shift: Doubles
    own: Doubles
    """(n, 2, 2) covariance by their own residual."""
    variance: Doubles
    """(n,) the mean of both axes."""


class _Combined(NamedTuple):
    motion: Doubles
    pull: Doubles
    """(n, 2, k) weight of each tile in each parameter."""
    distance: Doubles
    """(n,) squared deviation in standard deviations."""


def _chosen(tiles: Tiles, *, turning: bool) -> _Chosen | None:
    variance = 0.5 * (tiles.covariance[:, 0, 0] + tiles.covariance[:, 1, 1])
    informed = ~tiles.lost & (variance < LARGEST_STEP_PX**2)
    if int(informed.sum()) < (8 if turning else 2):
        return None
    return _Chosen(informed, _design(tiles.place, turning=turning), tiles.shift[informed], tiles.covariance[informed],
                   variance[informed])


def _combine(chosen: _Chosen, start: Doubles | None) -> _Combined:
    """Weigh the tiles by their errors and by how well they agree, round after round."""
    informed, design, shift, own, variance = chosen
    known = design[informed]
    lines = known.reshape(-1, known.shape[2])   # of both axes of all tiles: sums over them are products of matrices
    motion = np.zeros(design.shape[2])
    motion[:2] = _start(shift, own, variance) if start is None else start
    spread = _Spread(variance)
    for turn in range(ROUNDS):
        deviation = shift - (lines @ motion).reshape(shift.shape)
        if turn < ROUNDS_WITH_SCATTER:
            scale, scatter = spread.of(deviation)
            weight = invert_pairs(scale * own + scatter * np.eye(2))
            weighted = np.matmul(weight, known)
        distance = (np.matmul(weight, deviation[:, :, None])[:, :, 0] * deviation).sum(axis=1)
        pull = weighted / np.square(1.0 + distance / TOLERATED)[:, None, None]
        pulls = pull.reshape(lines.shape).T
        motion = motion + np.linalg.solve(pulls @ lines, pulls @ deviation.ravel())
    return _Combined(motion, pull, distance)


def _start(shift: Doubles, own: Doubles, variance: Doubles) -> Doubles:
    """Return the motion that many tiles share to within their errors, else the median of all.

    Where a part of the sample moves by itself the median lies in between; where all of it deforms smoothly there is
    no part to prefer.
    """
    distance = _squared_distances(shift)
    say = 1.0 / (variance + SHARED_PX**2)
    near = 1.0 / (1.0 + np.square(distance / (4.0 * (variance + SHARED_PX**2))))
    support = near @ say
    best = int(np.argmax(support))
    if support[best] > SHARED_BY * say.sum():
        weight = near[best] * say
        return np.asarray(weight @ shift / weight.sum())
    return np.array([_weighted_median(shift[:, axis], 1.0 / own[:, axis, axis]) for axis in (0, 1)])


def _squared_distances(points: Doubles) -> Doubles:
    """Return those between all pairs, (n, n), one axis after the other: a sum over a third, of two, is slow."""
    y, x = points.T
    return np.asarray(np.square(np.subtract.outer(y, y)) + np.square(np.subtract.outer(x, x)))


def _design(place: Doubles, *, turning: bool) -> Doubles:
    """Motion of each tile, (n, 2, k), per unit of each parameter."""
    design = np.zeros((len(place), 2, 4 if turning else 2))
    design[:, 0, 0] = design[:, 1, 1] = 1.0
    if turning:
        design[:, 0, 2], design[:, 1, 2] = place[:, 1] / ARM_PX, -place[:, 0] / ARM_PX
        design[:, :, 3] = place / ARM_PX
    return design


def _deformation(deviation: Doubles, variance: Doubles, place: Doubles) -> float:
    """Root mean square of what neighbouring tiles have in common in their deviations, beyond chance."""
    if len(deviation) < LEAST_TILES_OF_FIELD:
        return 0.0
    distance = _squared_distances(place)
    np.fill_diagonal(distance, np.inf)
    trust = 1.0 / (variance + EVEN_PX**2)   # steep parts of the field have large errors, and count
    pairs = (distance < 2.5 * distance.min()) * np.multiply.outer(trust, trust)
    squared = np.einsum("ti,ti->t", deviation, deviation)
    # two independent deviations have a product of 0 on average, with this spread of the mean over all pairs
    chance = math.sqrt(float(squared @ np.square(pairs) @ squared))
    return math.sqrt(max(float(np.vdot(pairs @ deviation, deviation)) - chance, 0.0) / float(pairs.sum()))


class _Spread:
    """The factor on the tiles' own variances, and the variance common to all.

    Weak tiles show the factor, strong ones what is left beside it.
    """

    def __init__(self, variance: Doubles) -> None:
        strong = variance <= medians(variance)
        self._strong, self._weak = np.flatnonzero(strong), np.flatnonzero(~strong)
        self._of_strong, self._of_weak = variance[self._strong], variance[self._weak]

    def of(self, deviation: Doubles) -> tuple[float, float]:
        """Return both for tiles that are so far off."""
        squared = np.einsum("ti,ti->t", deviation, deviation) / CHI2_MEDIAN
        scale = 1.0
        if self._weak.size > 1:
            scale = min(max(_middle(squared[self._weak] / self._of_weak), 1.0), 9.0)
        return scale, max(_middle(squared[self._strong] - scale * self._of_strong), 0.0)


def _middle(values: Doubles) -> float:
    """Return the (upper) median: `np.median` takes ten times as long for so few."""
    half = values.size // 2
    return float(np.partition(values, half)[half])


def _covariance(deviation: Doubles, design: Doubles, pull: Doubles, distance: Doubles,
                block: NDArray[np.int64]) -> Doubles:
    """Sandwich covariance of the parameters, of single tiles or of blocks, whichever is larger."""
    # tiles that are half mistrusted hold the fit less than their weight says: the slope of the influence
    slope = np.maximum(1.0 - 2.0 * distance / (TOLERATED + distance), 0.05)
    unbread = np.linalg.inv(np.einsum("t,tik,til->kl", slope, pull, design))
    leverage = np.einsum("tik,kl,til->t", pull, unbread, design) / design.shape[2]
    influence = np.einsum("tik,ti->tk", pull, deviation) / np.maximum(1.0 - leverage, 0.1)[:, None]
    names, number = np.unique(block, return_inverse=True)
    sums = np.zeros((names.size, influence.shape[1]))
    np.add.at(sums, number, influence)
    single = unbread @ (influence.T @ influence) @ unbread
    together = unbread @ (sums.T @ sums) @ unbread * (names.size / max(names.size - 1, 1))
    return np.asarray(together if np.trace(together[:2, :2]) > np.trace(single[:2, :2]) else single, np.float64)


def _inliers(tiles: Tiles, away: Doubles) -> float:
    """Share of the tiles that moved with the fit to about a pixel; tiles that cannot tell count little."""
    variance = 0.5 * (tiles.covariance[:, 0, 0] + tiles.covariance[:, 1, 1])
    say = 1.0 / (1.0 + 4.0 * variance)
    together = ~tiles.lost & (away < 1.0 + 2.0 * np.sqrt(variance))
    return float(say[together].sum() / say.sum())


def _weighted_median(values: Doubles, weights: Doubles) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, 0.5 * total[-1])])
