"""The best forecast there can be of a simulated path: by one who knows the law that the path was drawn from.

The law of `simulator.motion.Drift`: along each axis the way goes to `end`, straight but for two half waves whose
heights are normal with a standard deviation of `wander` times `end`; independent jitter on top. Known are the number of
frames until the end, the range of lengths, `wander` and the jitter; not known are heading, length, waves and origin.
The posterior is exact but for the grid of ends: given the end, an axis is a linear model with normal priors
(Rasmussen & Williams 2006, section 2.1, ISBN 026218253X). No streamer can know all this: what is left to the oracle
cannot be known from the frames.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ENDS = 401
WAYS = 400
_LEAST_VARIANCE = 1e-9
_ORIGIN_PRECISION = 1e-8

Doubles = NDArray[np.float64]


class Law(NamedTuple):
    """How a path is drawn."""

    frames: int
    jitter_px: tuple[float, float]
    wander: float
    lengths_px: tuple[float, float]
    """Uniform between these; every heading alike."""


class _Axis(NamedTuple):
    """Posterior of one axis for each possible end."""

    evidence: Doubles
    """(ENDS,) logarithm."""
    mean: Doubles
    """(ENDS, 3): origin and heights of the half waves, px."""
    root: Doubles
    """(ENDS, 3, 3) of its covariance."""


def future_paths(law: Law, numbers: NDArray[np.int64], path_px: Doubles, rng: np.random.Generator) -> Doubles:
    """Draw how a path may go on, jitter included.

    Parameters
    ----------
    law : Law
    numbers : (n,)
        Frames that were measured.
    path_px : (n, 2)
        Where they were.
    rng : numpy.random.Generator

    Returns
    -------
    (WAYS, m, 2) px
        Of the frames after the newest measured one, up to the last of the path.
    """
    reach = law.lengths_px[1]
    ends = np.linspace(-reach, reach, ENDS)
    axes = [_posterior(law, ends, numbers / (law.frames - 1), path_px[:, axis], law.jitter_px[axis])
            for axis in range(2)]
    length = np.hypot(ends[:, None], ends)
    allowed = (length >= law.lengths_px[0]) & (length <= law.lengths_px[1])
    evidence = axes[0].evidence[:, None] + axes[1].evidence - np.log(np.maximum(length, 1.0))
    weight = np.where(allowed, np.exp(evidence - evidence[allowed].max(initial=-np.inf)), 0.0)
    chosen = np.unravel_index(rng.choice(weight.size, WAYS, p=(weight / weight.sum()).ravel()), weight.shape)
    progress = np.arange(numbers[-1] + 1, law.frames) / (law.frames - 1)
    ways = []
    for axis, which, jitter_px in zip(axes, chosen, law.jitter_px, strict=True):
        terms = axis.mean[which] + np.einsum("wij,wj->wi", axis.root[which], rng.normal(size=(WAYS, 3)))
        jitter = rng.normal(0.0, jitter_px, (WAYS, progress.size))
        ways.append(ends[which][:, None] * progress + terms @ _basis(progress).T + jitter)
    return np.stack(ways, axis=2)


def _basis(progress: Doubles) -> Doubles:
    return np.stack([np.ones_like(progress), np.sin(np.pi * progress), np.sin(2.0 * np.pi * progress)], axis=1)


def _posterior(law: Law, ends: Doubles, progress: Doubles, path_px: Doubles, jitter_px: float) -> _Axis:
    basis = _basis(progress) / jitter_px
    rest = (path_px[:, None] - progress[:, None] * ends) / jitter_px              # (n, ENDS)
    precision = 1.0 / np.maximum((law.wander * ends)**2, _LEAST_VARIANCE)
    prior = np.stack([np.full_like(precision, _ORIGIN_PRECISION), precision, precision], axis=1)
    covariance = np.linalg.inv(basis.T @ basis + prior[:, :, None] * np.eye(3))
    projected = rest.T @ basis                                                   # (ENDS, 3)
    mean = np.einsum("eij,ej->ei", covariance, projected)
    evidence = (-0.5 * np.square(rest).sum(axis=0) + 0.5 * (projected * mean).sum(axis=1)
                + 0.5 * np.linalg.slogdet(covariance)[1] + np.log(precision))
    return _Axis(evidence, mean, np.linalg.cholesky(covariance))
