"""Fit of a point-spread function to the power of a frame: the equation behind the blur estimate."""

from __future__ import annotations

import math
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
_PRIOR = np.diag([_LOOSE_GAIN**-2, *3 * [_LOOSE_VARIANCE**-2], _FLOOR_ERROR**-2])
_GAIN_ONLY = np.array([1.0, 0.0, 0.0, 0.0, 1.0])
_TAIL = 0.1              # what may be left of fine structure that the model has blurred away
_USUAL_BINS = 24         # bins that the expectation counts for beside what is found
_K = 4 * np.pi**2
_CLEAR = 4.0             # standard deviations of noise from which a ring of the baseline is taken as it is
_SLOPE_RINGS = 5         # rings that give the slope of the noisy ones
_USUAL_SLOPE = -3.0      # of the logarithm of power against that of frequency
_SLOPES = (-8.0, -1.0)
_RING = np.repeat(np.arange(RINGS), SECTORS)
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


def _gaussian(s: Vector) -> tuple[Vector, Callable[[], Vector]]:
    m = np.exp((-s).clip(-40.0, 4.0))
    return m, lambda: -m


def _uniform(s: Vector) -> tuple[Vector, Callable[[], Vector]]:
    """Motion at constant speed: ``sinc(f L)^2``, continued to negative ``s``."""
    square = np.maximum(3 * s, -12.0)
    sharper = square <= 0
    square = np.maximum(np.abs(square), 1e-6)
    x = np.sqrt(square)
    j = np.sin(x) / x
    if sharper.any():
        j[sharper] = np.sinh(x[sharper]) / x[sharper]
        square[sharper] *= -1

    def slope() -> Vector:
        c = np.cos(x)
        if sharper.any():
            c[sharper] = np.cosh(x[sharper])
        found: Vector = 3 * j * (c - j) / square
        return found

    return j * j, slope


class Family(NamedTuple):
    """A kind of point-spread function."""

    transfer: Callable[[Vector], tuple[Vector, Callable[[], Vector]]]
    """Squared transfer function of ``s = 4 pi^2 f' S f``, and what tells its derivative, which is not always needed."""
    squares: NDArray[np.float64]
    """(3, bins, places) factors of (yy, yx, xx) in `s`; many places where it falls steeply within a bin."""
    basis: NDArray[np.float64]
    """(5, k) directions in which the parameters may change."""

    def within(self, used: NDArray[np.bool_]) -> Family:
        """Return the same for some of the bins."""
        return self._replace(squares=self.squares.compress(used, axis=1))

    def fall(self, covariance: Vector) -> tuple[Vector, Callable[[], NDArray[np.float64]]]:
        """Squared transfer function, (bins,), and what tells its derivatives by (yy, yx, xx), (3, bins)."""
        _, bins, places = self.squares.shape
        s = np.zeros((1, places))   # without blur all bins are alike
        if covariance.any():
            s = (covariance @ self.squares.reshape(3, -1)).reshape(bins, places)
        shape, slope = self.transfer(s)
        return shape @ np.full(places, 1 / places), lambda: np.einsum("bk,ibk->ib", slope(), self.squares) / places


def _places(nodes: int, depth: int) -> NDArray[np.float64]:
    places = bin_frequencies(nodes, depth).reshape(RINGS * SECTORS, -1, 3) * [_K, 2 * _K, _K]
    return np.ascontiguousarray(np.moveaxis(places, -1, 0))


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


class Model(NamedTuple):
    """What a point-spread function makes of the baseline."""

    family: Family
    theta: Vector
    """(5,) logarithm of the gain; yy, yx, xx of the covariance in px^2; error of the noise floor."""
    badness: float
    """-2 ln likelihood."""
    m: Vector
    """(n,) gain and transfer function, or (1,) without blur."""
    slope: Callable[[], NDArray[np.float64]]
    """Tells the (3, n) derivatives of `m` by yy, yx, xx."""
    expected: Vector
    """(n,) smooth power that the model gives the frame."""
    fitted: Vector
    """(n,) the same with the texture of the baseline."""
    variance: Vector
    residual: Vector


def badness_of(model: Model) -> float:
    """Sort models by their likelihood, the best first."""
    return model.badness


class Solution(NamedTuple):
    """A fitted point-spread function."""

    theta: Vector
    """As in `Model`."""
    errors: NDArray[np.float64]
    """(4, 4) covariance of the errors of (ln g, yy, yx, xx)."""
    sharp_errors: NDArray[np.float64]
    """(4, 4) what these errors would be, were the frame not blurred."""
    chi2: float
    texture: float
    """Relative change of the power of a mode, in place of the expected `_TEXTURE`."""


class Fit:
    """The estimating equation of one frame: parameters ``(ln g, yy, yx, xx, t)``.

    ``t`` is the error of the noise floors, in units of `self.noise`: common to all bins, small, but many bins
    add up.
    """

    def __init__(self, power: PolarPower, baseline: Baseline) -> None:
        self.used = power.counts.ravel() >= 2
        self.ring = _RING[self.used]
        spread = np.hypot(np.sqrt(WINDOW_LOSS / (modes_of_rings(power.counts) * baseline.frames)), _FLOOR_ERROR)
        smooth = smooth_rings(baseline.power, power.counts, baseline.floor * spread)
        unit = max(float(smooth.max()), 1e-30)
        self.p = power.power.ravel()[self.used].astype(np.float64) / unit
        self.r = baseline.power.ravel()[self.used].astype(np.float64) / unit
        self.q = smooth[self.ring] / unit
        self.spread = WINDOW_LOSS / power.counts.ravel()[self.used].astype(np.float64)
        phi, phi_r = power.floor / unit, baseline.floor / unit
        self.noise = math.hypot(phi, phi_r / math.sqrt(baseline.frames))
        reference_variance = (phi_r**2 + 2 * phi_r * self.q) / baseline.frames + (_TEXTURE * self.q) ** 2
        self.variance = self.spread * phi**2 + 1e-18, self.spread * (2 * phi) * self.q, self.spread * reference_variance
        self.scales = np.full((2, 5, len(self.q)), self.noise)   # smooth, and with the texture
        self.scales[:, :4] = np.stack([self.q, self.r])[:, None]

    def solve(self, family: Family, *starts: Vector, slack: float = SLACK) -> Model:
        """Solve the estimating equation from the likeliest start.

        Gauss-Newton steps must not make the fit clearly worse.
        """
        family = family.within(self.used)
        model = min((self._model(family, theta) for theta in starts), key=badness_of)
        for _ in range(_ITERATIONS):
            instruments, derivatives = self._slopes(model)
            slope = instruments @ derivatives.T
            values, vectors = np.linalg.eigh(family.basis.T @ (0.5 * (slope + slope.T) + _PRIOR) @ family.basis)
            vectors = family.basis @ vectors
            values = np.maximum(np.abs(values), _LOOSE_VARIANCE**-2)
            step = vectors @ ((vectors.T @ (instruments @ model.residual - _PRIOR @ model.theta)) / values)
            gain, *variances, _ = step.tolist()
            step *= min(1.0, _LARGEST_STEP / max(*map(abs, variances), 1e-12), 2.0 / max(abs(gain), 1e-12))
            for _ in range(_HALVINGS):
                trial = self._model(family, model.theta + step)
                if trial.badness < model.badness + slack:
                    break
                step = 0.5 * step
            else:
                break
            model = trial
            if abs(step).max() < _SMALLEST_STEP:
                break
        return model

    def solution(self, model: Model) -> Solution:
        """Say how good a model is that was solved for."""
        chi2 = float((model.residual**2 / model.variance).sum()) / max(len(model.residual) - 4, 1)
        sharp = self._model(model.family, model.theta * _GAIN_ONLY)
        return Solution(model.theta, self._errors(model) * max(chi2, 1.0), self._errors(sharp) * max(chi2, 1.0), chi2,
                        self._texture(model))

    def _errors(self, model: Model) -> NDArray[np.float64]:
        """(4, 4) covariance of the errors of (ln g, yy, yx, xx)."""
        instruments, derivatives = self._slopes(model)
        inner = instruments * model.variance @ instruments.T + _PRIOR
        inverse = np.linalg.inv(instruments @ derivatives.T + _PRIOR)
        errors: NDArray[np.float64] = (inverse @ inner @ inverse.T)[:4, :4]
        return errors

    def _texture(self, model: Model) -> float:
        """Estimate the relative change of single modes from the bins in which nothing else scatters.

        Every ring is scaled to fit: defocus changes rings as a whole, another place changes every bin.
        """
        weighted = model.fitted / model.variance
        unscaled = np.maximum(self._by_ring(weighted * model.fitted), 1e-30)
        scale = self._by_ring(weighted * self.p) / unscaled
        own = self.spread * model.expected**2
        share = SECTORS / (SECTORS - 1)
        excess = share * (self.p - scale[self.ring] * model.fitted) ** 2 - (model.variance - _TEXTURE**2 * own)
        weight = (_TEXTURE**2 * own / model.variance) ** 2
        total = float((weight * excess / np.maximum(own, 1e-30)).sum()) + _USUAL_BINS * _TEXTURE**2
        return math.sqrt(max(total / (float(weight.sum()) + _USUAL_BINS), 0.0))

    def _by_ring(self, values: Vector) -> Vector:
        sums: Vector = np.bincount(self.ring, weights=values, minlength=RINGS).astype(np.float64)
        return sums

    def _model(self, family: Family, theta: Vector) -> Model:
        fall, slope = family.fall(theta[1:4])
        gain = math.exp(min(max(float(theta[0]), -20.0), 20.0))
        m = gain * fall
        expected, fitted = m * self.q, m * self.r
        of_noise, of_both, of_structure = self.variance
        variance = of_noise + m * (of_both + m * of_structure)
        variance += (_TAIL * gain * self.q * np.maximum(1 - fall, 0.0) ** 2) ** 2
        residual = self.p - fitted - theta[4] * self.noise
        badness = float((residual**2 / variance + np.log(variance)).sum() + theta @ _PRIOR @ theta)
        return Model(family, theta, badness, m, lambda: gain * slope(), expected, fitted, variance, residual)

    def _slopes(self, model: Model) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(5, n) derivatives by the parameters: of the smooth model over the variance, and of the model itself."""
        shapes = np.ones((5, len(self.q)))
        shapes[0] = model.m
        shapes[1:4] = model.slope()
        smooth, derivatives = shapes * self.scales
        return smooth / model.variance, derivatives


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
        middle = x.mean()
        slope = (x - middle) @ y / ((x - middle) ** 2).sum() if clear >= _SLOPE_RINGS else _USUAL_SLOPE
        steepest, flattest = _SLOPES
        falling[clear:] = np.exp(y.mean()) * (_RADIUS[clear:] / np.exp(middle)) ** min(max(slope, steepest), flattest)
    return falling


def modes_of_rings(counts: FloatArray) -> Vector:
    """(24,) modes in each ring, at least 1."""
    modes: Vector = np.maximum(counts.sum(1), 1).astype(np.float64)
    return modes
