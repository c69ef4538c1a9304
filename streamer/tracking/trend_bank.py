"""A bank of Kalman filters that follow one path, each expecting another restlessness of it.

The model is a local linear trend (level and slope; Harvey 1989, doi:10.1017/CBO9781107049994): the slope changes by
white noise, whose variance is what tells the filters apart. The calmest knows straight lines only. How likely each
is follows from how well it predicted all frames so far (Bayesian model averaging); a small inflow keeps the others in
play, so that the evidence of long ago is forgotten when the motion changes (fixed share; Herbster & Warmuth 1998,
doi:10.1023/A:1007424614876). The filters do not mix what they know: a straight line would be blurred by it. One that
lost the way begins again from where the others are. Heavy tails (Student's t) keep single wild frames from pulling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESTLESSNESS = np.concatenate([[0.0], 10.0 ** np.arange(-11.0, 0.5, 1.0)])
"""Variance of the change of slope per unit of time, in units of the jitter variance. The one of 1e-11 looks back some
thousand frames, (12 / 1e-11)**0.25."""
SIZE = RESTLESSNESS.size
INFLOW = 3e-3 * np.maximum(RESTLESSNESS, 1e-12) ** 0.25
"""Probability that the motion becomes as restless as that, per frame. On a calm way a filter loses about 0.35 times the
fourth root of its restlessness in log-likelihood per frame, so that each of them keeps a share of about a hundredth."""
KEPT_SHARE = 0.02
"""What the inflow alone keeps alive, about twice over, is no evidence of how the way goes on."""
USUAL_TURN = 0.16
"""A usual stage strays by a fifth of its speed and turns within a sixth of the way; in units of the speed squared over
the time seen, which is taken to be two thirds of the way: 0.2**2 * 6 / 1.5."""
LEAST_TURN = 1e-12
STRAIGHT = 0.3
"""Share of the stages that do not turn."""
LOST_SHARE = 0.01
LOST_SIGMAS = 3.0
TAIL = 4.0
"""Degrees of freedom of Student's t."""
SAME_SLOPE_SIGMAS = 3.0
LEVEL_VARIANCE = 1e6
SLOPE_VARIANCE = 1e4
"""What is known before the first frame, px^2."""

Doubles = NDArray[np.float64]


class Prediction(NamedTuple):
    """What the filters expected of a frame, and what came."""

    innovation: Doubles
    """(2, n) px: measured less expected, per axis (y, x) and filter."""
    expected: Doubles
    """(2, n) its variance, px^2."""
    mean: Doubles
    """(2,) px: innovation of all filters together."""
    variance: Doubles
    """(2,) its variance, px^2."""


class Bank:
    """The filters of both axes.

    Parameters
    ----------
    start : (2,) px
        Where the path begins.
    """

    def __init__(self, start: Doubles) -> None:
        shape = (2, SIZE)
        self.share = np.full(shape, 1.0 / SIZE)
        self.level = np.repeat(start[:, None], SIZE, axis=1)
        self.slope = np.zeros(shape)
        self.covariance = np.zeros((3, *shape))   # level, level with slope, slope
        self.covariance[0] = LEVEL_VARIANCE
        self.covariance[2] = SLOPE_VARIANCE

    @property
    def mean_level(self) -> Doubles:
        """(2,) px."""
        return np.asarray((self.share * self.level).sum(axis=1))

    def evidence(self, noise: Doubles, time: float) -> Doubles:
        """Return how likely it is that the way goes on as restlessly as each filter says, (2, n).

        Early on, the frames do not tell whether a stage will turn: then what is usual of stages decides. What the
        inflow alone keeps alive does not count.

        Parameters
        ----------
        noise : (2,) px^2
            Variance of the jitter.
        time : float
            Units of time that the way was followed for.
        """
        speed = np.square((self.share * self.slope).sum(axis=1)).mean()   # of either axis, squared
        usual = np.log10(np.maximum(USUAL_TURN * speed / (time * noise), LEAST_TURN))
        decades = np.log10(RESTLESSNESS[1:]) - usual[:, None]
        turning = 1.0 / (1.0 + decades**2)          # heavy tails: what the frames say prevails
        turning *= (1.0 - STRAIGHT) / turning.sum(axis=1, keepdims=True)
        share = self.share * np.concatenate([np.full((2, 1), STRAIGHT), turning], axis=1)
        share = np.maximum(share / share.sum(axis=1, keepdims=True) - KEPT_SHARE, 0.0)
        return np.asarray(share / share.sum(axis=1, keepdims=True))

    def predict(self, value: Doubles, step: float, noise: Doubles) -> Prediction:
        """Go on by a time and compare with what was measured then.

        Parameters
        ----------
        value : (2,) px
        step : float
            Units of time.
        noise : (2,) px^2
            Variance of the jitter.
        """
        level_level, level_slope, slope_slope = self.covariance
        wander = RESTLESSNESS * noise[:, None]
        self.level = self.level + step * self.slope
        level_level = level_level + step * (2.0 * level_slope + step * (slope_slope + wander * step / 3.0))
        level_slope = level_slope + step * (slope_slope + wander * step / 2.0)
        self.covariance = np.stack([level_level, level_slope, slope_slope + wander * step])
        innovation = value[:, None] - self.level
        expected = level_level + noise[:, None]
        mean = (self.share * innovation).sum(axis=1)
        variance = (self.share * (expected + (innovation - mean[:, None])**2)).sum(axis=1)
        return Prediction(innovation, expected, mean, variance)

    def learn(self, found: Prediction, noise: Doubles, *, only: NDArray[np.bool_]) -> None:
        """Take what a frame says, along the axes (2,) that it may be believed on."""
        level_level, level_slope, slope_slope = self.covariance
        ratio = found.innovation**2 / found.expected
        likelihood = -0.5 * (np.log(found.expected) + (TAIL + 1.0) * np.log1p(ratio / TAIL))
        posterior = self.share * np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
        posterior /= posterior.sum(axis=1, keepdims=True)
        usable = only[:, None]
        self.share = np.where(usable, (1.0 - INFLOW.sum()) * posterior + INFLOW, self.share)
        doubted = level_level + noise[:, None] * (TAIL + ratio) / (TAIL + 1.0)
        gain_level = np.where(usable, level_level / doubted, 0.0)
        gain_slope = np.where(usable, level_slope / doubted, 0.0)
        self.level = self.level + gain_level * found.innovation
        self.slope = self.slope + gain_slope * found.innovation
        self.covariance = np.stack([(1.0 - gain_level) * level_level, (1.0 - gain_level) * level_slope,
                                    slope_slope - gain_slope * level_slope])
        self._revive()

    def begin_anew(self, axis: int, values: Sequence[float], steps: Sequence[float], noise: float) -> None:
        """Go on from where the stage stepped to, or along the line that it has taken since.

        Parameters
        ----------
        axis : int
        values : (n,) px
            Of the frames since the step, the newest last.
        steps : (n,)
            Time before each of them.
        noise : float
            Variance of the jitter, px^2.
        """
        time = np.cumsum(steps) - np.sum(steps)   # 0 at the newest
        middle = time.mean()
        spread = float(np.square(time - middle).sum())
        slope = float((time - middle) @ np.array(values)) / spread
        slope_variance = noise / spread
        mean_slope = float(self.share[axis] @ self.slope[axis])
        known = float(self.share[axis] @ self.covariance[2, axis])
        if (slope - mean_slope)**2 > SAME_SLOPE_SIGMAS**2 * (slope_variance + known):
            self.slope[axis] = slope
            self.covariance[1, axis] = -middle * slope_variance
            self.covariance[2, axis] = slope_variance
        else:
            self.covariance[1, axis] = -middle * self.covariance[2, axis]
        self.level[axis] = np.mean(values) - middle * self.slope[axis]
        self.covariance[0, axis] = noise / len(values) + middle**2 * self.covariance[2, axis]

    def _revive(self) -> None:
        """Let filters that lost the way begin again from where the others are: calm ones, after a turn."""
        level, slope = ((self.share * value).sum(axis=1, keepdims=True) for value in (self.level, self.slope))
        level_off, slope_off = self.level - level, self.slope - slope
        spread = np.stack([level_off**2, level_off * slope_off, slope_off**2])
        common = (self.share * (self.covariance + spread)).sum(axis=2, keepdims=True)
        allowed = LOST_SIGMAS**2 * (self.covariance + common)
        lost = (self.share < LOST_SHARE) & ((spread[0] > allowed[0]) | (spread[2] > allowed[2]))
        self.level = np.where(lost, level, self.level)
        self.slope = np.where(lost, slope, self.slope)
        self.covariance = np.where(lost, common, self.covariance)
