"""Fit of a point-spread function to the power of a frame: the equation behind the blur estimate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.errors import FrameError
from streamer.imaging.spectrum import RINGS, SECTORS, PolarPower, bin_frequencies
from streamer.records import FloatArray

WINDOW_LOSS = 1.33      # excess variance of binned power under a 2-D Tukey(0.25) window
_TEXTURE = 0.35          # relative change of the power of a mode between frames of a drifting specimen
_LOOSE_VARIANCE = 300.0  # px^2, spread of the prior on S: keeps directions without structure solvable
_LOOSE_GAIN = 5.0        # the same for the logarithm of the gain
_FLOOR_ERROR = 0.015     # relative error of a noise floor
_LARGEST_STEP = 12.0     # px^2 per iteration
_ITERATIONS = 14
_SMALLEST_STEP = 2e-3
_HALVINGS = 5            # of a step that leads astray
SLACK = 10.0             # in -2 ln likelihood, which the estimating equation does not minimise exactly
_GAIN_ONLY = np.array([1.0, 0.0, 0.0, 0.0, 1.0])
_TAIL = 0.1              # what may be left of fine structure that the model has blurred away
_USUAL_BINS = 24         # bins that the expectation counts for beside what is found
_K = 4 * np.pi**2
_CLEAR = 4.0             # standard deviations of noise from which a ring of the baseline is taken as it is
_SLOPE_RINGS = 5         # rings that give the slope of the noisy ones
_USUAL_SLOPE = -3.0      # of the logarithm of power against that of frequency
_SLOPES = (-8.0, -1.0)
_RADIUS = np.sqrt(bin_frequencies(1)[:, 0, 0, 0] + bin_frequencies(1)[:, 0, 0, 2])

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class Baseline:
    """Mean power of the accepted frames, which sharp frames are expected to have."""

    power: FloatArray
    """(24, 12)."""
    floor: float
    """Mean power of their noise."""
    frames: int
    """How many frames were averaged."""
    shape: tuple[int, int]


def baseline_of(powers: Sequence[PolarPower]) -> Baseline:
    """Average the power of accepted frames.

    Parameters
    ----------
    powers : sequence of PolarPower
        At least one; all of frames of the same size.
    """
    if not powers:
        raise FrameError("a baseline needs at least one frame")
    mean: FloatArray = np.stack([power.power for power in powers]).mean(axis=0)
    return Baseline(
        mean, float(np.mean([power.floor for power in powers])), len(powers), powers[0].shape)


def _gaussian(s: Vector) -> tuple[Vector, Vector]:
    m = np.exp(np.clip(-_K * s, -40.0, 4.0))
    return m, -_K * m


def _uniform(s: Vector) -> tuple[Vector, Vector]:
    """Motion at constant speed: ``sinc(f L)^2``, continued to negative ``s``."""
    square = np.clip(3 * _K * s, -12.0, None)
    x = np.sqrt(np.maximum(np.abs(square), 1e-6))
    j, c = np.sin(x) / x, np.cos(x)
    sharper = square <= 0
    if sharper.any():
        j[sharper], c[sharper] = np.sinh(x[sharper]) / x[sharper], np.cosh(x[sharper])
    return j * j, 3 * _K * j * (c - j) / np.where(sharper, -x * x, x * x)


class Family(NamedTuple):
    """A kind of point-spread function."""

    transfer: Callable[[Vector], tuple[Vector, Vector]]
    """Squared transfer function and its derivative by ``s = f' S f``."""
    squares: NDArray[np.float64]
    """(288, places, 3) factors of (yy, yx, xx) in ``f' S f``; many places where it falls steeply within a bin."""
    basis: NDArray[np.float64]
    """(5, k) directions in which the parameters may change."""


def _places(nodes: int, depth: int) -> NDArray[np.float64]:
    places: NDArray[np.float64] = bin_frequencies(nodes, depth).reshape(RINGS * SECTORS, -1, 3) * [1.0, 2.0, 1.0]
    return places


_FREE = np.eye(5)
_ALIKE = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]])
QUICK = Family(_gaussian, _places(1, 1), _FREE)
"""Good for short blur of any kind."""
SMOOTH = Family(_gaussian, _places(4, 3), _FREE)
MOTION = Family(_uniform, _places(4, 3), _FREE)
DEFOCUS = Family(_gaussian, _places(1, 3), _ALIKE)


def scaled(theta: Vector, factor: float) -> Vector:
    """Enlarge the covariance."""
    scaled: Vector = theta * np.array([1.0, factor, factor, factor, 1.0])
    return scaled


class Solution(NamedTuple):
    """A fitted point-spread function."""

    theta: Vector
    """(5,) logarithm of the gain; yy, yx, xx of the covariance in px^2; error of the noise floor."""
    errors: NDArray[np.float64]
    """(4, 4) covariance of the errors of (ln g, yy, yx, xx)."""
    sharp_errors: NDArray[np.float64]
    """(4, 4) what these errors would be, were the frame not blurred."""
    chi2: float
    badness: float
    """-2 ln likelihood."""
    texture: float
    """Relative change of the power of a mode, in place of the expected `_TEXTURE`."""


def badness_of(solution: Solution) -> float:
    """Sort solutions by their likelihood, the best first."""
    return solution.badness


class Fit:
    """The estimating equation of one frame: parameters ``(ln g, yy, yx, xx, t)``.

    ``t`` is the error of the noise floors, in units of `self.noise`: common to all bins, small, but many bins
    add up.
    """

    def __init__(self, power: PolarPower, baseline: Baseline) -> None:
        self.used = power.counts.ravel() >= 2
        self.ring = np.repeat(np.arange(RINGS), SECTORS)[self.used]
        spread = np.hypot(np.sqrt(WINDOW_LOSS / (modes_of_rings(power.counts) * baseline.frames)), _FLOOR_ERROR)
        smooth = smooth_rings(baseline.power, power.counts, baseline.floor * spread)
        unit = max(float(smooth.max()), 1e-30)
        self.p = power.power.ravel()[self.used].astype(np.float64) / unit
        self.r = baseline.power.ravel()[self.used].astype(np.float64) / unit
        self.q = np.repeat(smooth, SECTORS)[self.used] / unit
        self.spread = WINDOW_LOSS / power.counts.ravel()[self.used].astype(np.float64)
        self.phi = power.floor / unit
        phi_r = baseline.floor / unit
        self.noise = float(np.hypot(self.phi, phi_r / np.sqrt(baseline.frames)))
        self.reference_variance = (phi_r**2 + 2 * phi_r * self.q) / baseline.frames + (_TEXTURE * self.q) ** 2
        constant = np.full(len(self.q), self.noise)
        self.by_smooth = np.stack([*4 * [self.q], constant], axis=1)
        self.by_reference = np.stack([*4 * [self.r], constant], axis=1)
        self.squares: dict[int, NDArray[np.float64]] = {}
        self.prior = np.diag([_LOOSE_GAIN**-2, *3 * [_LOOSE_VARIANCE**-2], _FLOOR_ERROR**-2])

    def solve(self, family: Family, theta: Vector, *, slack: float = SLACK) -> Solution:
        """Solve the estimating equation by Gauss-Newton steps that must not make the fit clearly worse."""
        model = self._model(family, theta)
        badness = self._badness(model, theta)
        for _ in range(_ITERATIONS):
            instruments, derivatives = self._slopes(model)
            slope = instruments.T @ derivatives
            values, vectors = np.linalg.eigh(family.basis.T @ (0.5 * (slope + slope.T) + self.prior) @ family.basis)
            vectors = family.basis @ vectors
            values = np.maximum(np.abs(values), _LOOSE_VARIANCE**-2)
            step = vectors @ ((vectors.T @ (instruments.T @ model.residual - self.prior @ theta)) / values)
            step *= min(1.0, _LARGEST_STEP / max(float(np.abs(step[1:4]).max()), 1e-12),
                        2.0 / max(abs(float(step[0])), 1e-12))
            for _ in range(_HALVINGS):
                trial = self._model(family, theta + step)
                worse = self._badness(trial, theta + step)
                if worse < badness + slack:
                    break
                step = 0.5 * step
            else:
                break
            theta, model, badness = theta + step, trial, worse
            if np.abs(step).max() < _SMALLEST_STEP:
                break
        chi2 = float(np.sum(model.residual**2 / model.variance)) / max(len(model.residual) - 4, 1)
        sharp = self._model(family, theta * _GAIN_ONLY)
        return Solution(theta, self._errors(model) * max(chi2, 1.0), self._errors(sharp) * max(chi2, 1.0), chi2,
                        badness, self._texture(model))

    def _errors(self, model: _Model) -> NDArray[np.float64]:
        """(4, 4) covariance of the errors of (ln g, yy, yx, xx)."""
        instruments, derivatives = self._slopes(model)
        inner = instruments.T @ (instruments * model.variance[:, None]) + self.prior
        inverse = np.linalg.pinv(instruments.T @ derivatives + self.prior)
        errors: NDArray[np.float64] = (inverse @ inner @ inverse.T)[:4, :4]
        return errors

    def badness(self, family: Family, theta: Vector) -> float:
        """-2 ln likelihood of the parameters."""
        return self._badness(self._model(family, theta), theta)

    def _badness(self, model: _Model, theta: Vector) -> float:
        return float(np.sum(model.residual**2 / model.variance + np.log(model.variance)) + theta @ self.prior @ theta)

    def _texture(self, model: _Model) -> float:
        """Estimate the relative change of single modes from the bins in which nothing else scatters.

        Every ring is scaled to fit: defocus changes rings as a whole, another place changes every bin.
        """
        weight = 1 / model.variance
        unscaled = np.maximum(self._by_ring(weight * model.fitted**2), 1e-30)
        scale = self._by_ring(weight * self.p * model.fitted) / unscaled
        own = self.spread * model.expected**2
        share = SECTORS / (SECTORS - 1)
        excess = share * (self.p - scale[self.ring] * model.fitted) ** 2 - (model.variance - _TEXTURE**2 * own)
        weight = (_TEXTURE**2 * own / model.variance) ** 2
        total = float(np.sum(weight * excess / np.maximum(own, 1e-30))) + _USUAL_BINS * _TEXTURE**2
        return float(np.sqrt(max(total / (float(weight.sum()) + _USUAL_BINS), 0.0)))

    def _by_ring(self, values: Vector) -> Vector:
        sums: Vector = np.bincount(self.ring, weights=values, minlength=RINGS).astype(np.float64)
        return sums

    def _model(self, family: Family, theta: Vector) -> _Model:
        if id(family) not in self.squares:
            self.squares[id(family)] = family.squares[self.used]
        squares = self.squares[id(family)]
        shape, slope = family.transfer(squares @ theta[1:4])
        gain = np.exp(np.clip(theta[0], -20.0, 20.0))
        fall = shape.sum(1) / shape.shape[1]
        m = gain * fall
        mq, fitted = m * self.q, m * self.r
        variance = self.spread * (self.phi**2 + 2 * self.phi * mq + m * m * self.reference_variance)
        variance += (_TAIL * np.clip(1 - fall, 0.0, 1.0) ** 2 * gain * self.q) ** 2 + 1e-18
        return _Model(m, mq, fitted, variance, self.p - fitted - theta[4] * self.noise, gain, slope, squares)

    def _slopes(self, model: _Model) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(n, 5) derivatives by the parameters: of the smooth model over the variance, and of the model itself."""
        shapes = np.ones((len(model.m), 5))
        shapes[:, 0] = model.m
        shapes[:, 1:4] = np.einsum("bk,bki->bi", model.slope, model.squares) * (model.gain / model.slope.shape[1])
        return shapes * self.by_smooth / model.variance[:, None], shapes * self.by_reference


class _Model(NamedTuple):
    m: Vector
    """(n,) gain and transfer function."""
    expected: Vector
    """(n,) smooth power that the model gives the frame."""
    fitted: Vector
    """(n,) the same with the texture of the baseline."""
    variance: Vector
    residual: Vector
    gain: float
    slope: Vector
    """(n, places) derivative of the transfer function."""
    squares: NDArray[np.float64]
    """(n, places, 3)."""


def smooth_rings(power: FloatArray, counts: FloatArray, error: Vector) -> Vector:
    """Average the power of a baseline in every ring; monotone and free of its noise.

    Rings that noise reaches follow the slope of those above it: were they taken as they are, their noise would
    go into the instruments as well as into the baseline, and look like blur.

    Parameters
    ----------
    power, counts : (24, 12) float32 array
    error : (24,) array
        Standard error of the mean of each ring from noise.

    Returns
    -------
    (24,) float64 array
    """
    rings = (power * counts).sum(1) / modes_of_rings(counts)
    falling: Vector = 0.5 * (np.minimum.accumulate(rings) + np.maximum.accumulate(rings[::-1])[::-1])
    clear = int(np.argmin(np.append(falling > _CLEAR * error, False)))   # rings before the first noisy one
    if clear == 0:
        falling[:] = max(float(falling.max()), 1e-30) * (_RADIUS / _RADIUS[0]) ** _USUAL_SLOPE
    elif clear < RINGS:
        last = slice(max(clear - _SLOPE_RINGS, 0), clear)
        x, y = np.log(_RADIUS[last]), np.log(falling[last])
        slope = np.polyfit(x, y, 1)[0] if clear >= _SLOPE_RINGS else _USUAL_SLOPE
        falling[clear:] = np.exp(y.mean()) * (_RADIUS[clear:] / np.exp(x.mean())) ** np.clip(slope, *_SLOPES)
    return falling


def modes_of_rings(counts: FloatArray) -> Vector:
    """(24,) modes in each ring, at least 1."""
    modes: Vector = np.maximum(counts.sum(1), 1).astype(np.float64)
    return modes
