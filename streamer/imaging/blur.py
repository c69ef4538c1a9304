"""How much more a frame is blurred than the sharp frames around it: length, direction, uncertainty.

The squared transfer function of any small extra blur falls like ``exp(-4 pi^2 f' S f)``, where ``S`` is the
covariance of its point-spread function. The power spectrum of the frame divided by that of the baseline thus
tells `S` without registration, and `S` tells length and direction. Linear motion over L px has the variance
``L^2 / 12`` along its direction, hence ``length = sqrt(12 * largest eigenvalue)``.

The logarithmic form of this relation for single images is due to Mizutani et al. (doi:10.1111/jmi.12315);
here it is relative to a baseline, two-dimensional, free of the noise floor, and solved by instrumental
variables, because the ratio of two noisy spectra would show blur in sharp frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.errors import FrameError
from streamer.imaging.spectrum import SECTORS, PolarPower, bin_frequencies
from streamer.records import FloatArray

DETECTION_SIGMA = 4.0
"""A blur whose variance is this many standard deviations is found nearly always."""

_WINDOW_LOSS = 1.33      # excess variance of binned power under a 2-D Tukey(0.25) window
_TEXTURE = 0.35          # relative change of the power of a mode between frames of a drifting specimen
_FLOOR_VARIANCE = 0.03   # px^2, what the assumptions cost even at unlimited light
_LOOSE_VARIANCE = 300.0  # px^2, spread of the prior on S: keeps directions without structure solvable
_LOOSE_GAIN = 5.0        # the same for the logarithm of the gain
_LARGEST_STEP = 12.0     # px^2 per iteration
_ITERATIONS = 14
_SHAPE_SHARE = 0.015     # of the length, error from the unknown shape of the point-spread function
_K = 4 * np.pi**2
_FAMILY_SCORE = 8.0      # from here on the shape of the point-spread function matters to its length
_STARTS = (0.8, 1.0, 1.5, 2.2)
_ANGLES = np.linspace(0.0, np.pi, 36, endpoint=False)
_DIRECTIONS = np.stack([np.sin(_ANGLES) ** 2, 2 * np.sin(_ANGLES) * np.cos(_ANGLES), np.cos(_ANGLES) ** 2], 1)

Vector = NDArray[np.float64]
Family = Callable[[Vector], tuple[Vector, Vector]]


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


@dataclass(frozen=True, eq=False, slots=True)
class BlurEstimate:
    """The extra point-spread function of a frame relative to its baseline."""

    covariance: NDArray[np.float64]
    """(2, 2) px^2, ``[[yy, yx], [yx, xx]]``, y down; negative eigenvalues mean sharper than the baseline."""
    covariance_errors: NDArray[np.float64]
    """(3, 3) px^4, covariance of the errors of (yy, yx, xx)."""
    length_px: float
    """``sqrt(12 * largest eigenvalue)``; 0 when that eigenvalue is not positive."""
    length_sigma_px: float
    """1-sigma error of `length_px`, at least 1.5 % of it for what is not known of the shape of the blur; where
    the length is 0, the length that one sigma would look like."""
    angle_deg: float
    """Direction of the blur, 0 = along +x, counter-clockwise on the screen, in (-90, 90]."""
    score: float
    """Largest eigenvalue over its error: the significance of the blur."""
    limit_px: float
    """Shortest blur that would have been found, whatever its direction."""
    gain: float
    """Power of the structure relative to the baseline, with the blur taken out; 1 = same contrast."""
    chi2: float
    """Reduced chi-square of the fit, about 1 when the model holds."""
    least_px2: float
    """Smallest eigenvalue of `covariance`; significantly negative when the frame is sharper than the baseline."""
    least_score: float
    """`least_px2` over its error."""


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


def estimate_blur(power: PolarPower, baseline: Baseline) -> BlurEstimate:
    """Fit the covariance of the extra point-spread function of a frame.

    The model is ``E p = g exp(-4 pi^2 f' S f) r`` for the power ``p`` of the frame and ``r`` of the baseline
    in every bin of frequency ``f``. The estimating equation weighs the residuals with the smooth, azimuthally
    averaged baseline in place of ``r`` itself, whose noise would otherwise look like blur.

    Parameters
    ----------
    power : PolarPower
        Of the frame.
    baseline : Baseline
        Of sharp frames of the same scene; no registration is needed.

    Returns
    -------
    BlurEstimate
        Without structure in a direction the errors and the limit are large (up to about 100 px).
    """
    fit = _Fit(power, baseline)
    theta = fit.solve(_gaussian, np.zeros(4))
    errors, chi2 = fit.errors(_gaussian, theta)
    estimate = _describe(theta, errors, chi2)
    if estimate.score < _FAMILY_SCORE:
        return estimate
    start = min((_scaled(theta, factor) for factor in _STARTS), key=lambda start: fit.chi2(_uniform, start))
    theta = fit.solve(_uniform, start)
    errors, other = fit.errors(_uniform, theta)
    return _describe(theta, errors, other) if other < chi2 else estimate


def _gaussian(s: Vector) -> tuple[Vector, Vector]:
    """Squared transfer function of a Gaussian with ``s = f' S f``, and its derivative."""
    m = np.exp(np.clip(-_K * s, -40.0, 4.0))
    return m, -_K * m


def _uniform(s: Vector) -> tuple[Vector, Vector]:
    """Return the same for motion at constant speed: ``sinc(f L)^2``, continued to negative ``s``."""
    square = np.clip(3 * _K * s, -12.0, None)
    x = np.sqrt(np.maximum(np.abs(square), 1e-6))
    j = np.where(square > 0, np.sin(x), np.sinh(x)) / x
    c = np.where(square > 0, np.cos(x), np.cosh(x))
    return j * j, 3 * _K * j * (c - j) / np.where(square > 0, x * x, -x * x)


def _places(nodes: int) -> NDArray[np.float64]:
    """(288, nodes, 3) factors of (yy, yx, xx) in f' S f."""
    return bin_frequencies(nodes).reshape(-1, nodes, 3) * np.array([1.0, 2.0, 1.0])


_SQUARES: dict[Family, NDArray[np.float64]] = {_gaussian: _places(1), _uniform: _places(4)}


def _scaled(theta: Vector, factor: float) -> Vector:
    return theta * np.array([1.0, factor, factor, factor])


class _Fit:
    """The estimating equation of one frame: parameters ``(ln g, yy, yx, xx)``."""

    def __init__(self, power: PolarPower, baseline: Baseline) -> None:
        used = power.counts.ravel() >= 2
        smooth = _smooth_reference(baseline.power, power.counts)
        unit = max(float(smooth.max()), 1e-30)
        self.p = power.power.ravel()[used].astype(np.float64) / unit
        self.r = baseline.power.ravel()[used].astype(np.float64) / unit
        self.q = np.repeat(smooth, SECTORS)[used] / unit
        self.n = power.counts.ravel()[used].astype(np.float64)
        self.phi = power.floor / unit
        self.phi_r = baseline.floor / unit
        self.frames = baseline.frames
        self.used = used
        self.prior = np.diag([_LOOSE_GAIN**-2] + 3 * [_LOOSE_VARIANCE**-2])

    def solve(self, family: Family, theta: Vector) -> Vector:
        for _ in range(_ITERATIONS):
            _, residual, weighted, j_r = self._linear(family, theta)
            slope = weighted.T @ j_r
            values, vectors = np.linalg.eigh(0.5 * (slope + slope.T) + self.prior)
            values = np.maximum(np.abs(values), _LOOSE_VARIANCE**-2)
            step = vectors @ ((vectors.T @ (weighted.T @ residual - self.prior @ theta)) / values)
            step *= min(1.0, _LARGEST_STEP / max(float(np.abs(step[1:]).max()), 1e-12),
                        2.0 / max(abs(float(step[0])), 1e-12))
            theta = theta + step
            if np.abs(step).max() < 1e-3:
                break
        return theta

    def errors(self, family: Family, theta: Vector) -> tuple[NDArray[np.float64], float]:
        variance, residual, weighted, j_r = self._linear(family, theta)
        chi2 = float(np.sum(residual**2 / variance)) / max(len(residual) - 4, 1)
        slope = weighted.T @ j_r + self.prior
        inner = weighted.T @ (weighted * variance[:, None]) + self.prior
        inverse = np.linalg.pinv(slope)
        return inverse @ inner @ inverse.T * max(chi2, 1.0), chi2

    def chi2(self, family: Family, theta: Vector) -> float:
        variance, residual, _, _ = self._linear(family, theta)
        return float(np.sum(residual**2 / variance + np.log(variance)))

    def _linear(self, family: Family, theta: Vector) -> tuple[Vector, Vector, NDArray[np.float64], NDArray[np.float64]]:
        """Variance, residual, weighted instruments (n, 4) and derivatives of the model (n, 4)."""
        squares = _SQUARES[family][self.used]
        shape, slope = family(squares @ theta[1:])
        slopes = np.einsum("bk,bki->bi", slope, squares) / slope.shape[1]
        gain = np.exp(np.clip(theta[0], -20.0, 20.0))
        m = gain * shape.mean(1)
        mq = m * self.q
        variance = _WINDOW_LOSS / self.n * (
            self.phi**2 + 2 * self.phi * mq + m**2 * (self.phi_r**2 + 2 * self.phi_r * self.q) / self.frames
            + (_TEXTURE * mq) ** 2) + 1e-18
        derivative = np.column_stack([m, gain * slopes])
        return variance, self.p - m * self.r, derivative * (self.q / variance)[:, None], derivative * self.r[:, None]


def _smooth_reference(power: FloatArray, counts: FloatArray) -> Vector:
    """(24,) azimuthal mean, smoothed over three rings and made monotone: free of the noise of single bins."""
    total = counts.sum(1)
    rings = np.where(total > 0, (power * counts).sum(1) / np.maximum(total, 1), 0.0).astype(np.float64)
    padded = np.concatenate([rings[:1], rings, rings[-1:]])
    rings = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    falling = 0.5 * (np.minimum.accumulate(rings) + np.maximum.accumulate(rings[::-1])[::-1])
    smooth: Vector = np.maximum(falling, 1e-6 * max(float(np.abs(falling).max()), 1e-30))
    return smooth


def _describe(theta: Vector, errors: NDArray[np.float64], chi2: float) -> BlurEstimate:
    covariance = np.array([[theta[1], theta[2]], [theta[2], theta[3]]])
    values, vectors = np.linalg.eigh(covariance)
    spread = errors[1:, 1:]
    largest, least = float(values[1]), float(values[0])
    vy, vx = vectors[:, 1]
    sigma = _sigma_along(vy, vx, spread)
    sigma_least = _sigma_along(vectors[0, 0], vectors[1, 0], spread)
    worst = float(np.sqrt(max(np.einsum("ki,ij,kj->k", _DIRECTIONS, spread, _DIRECTIONS).max(), 0.0)))
    length = np.sqrt(12 * max(largest, 0.0))
    angle = np.degrees(np.arctan2(-vy, vx))
    angle = angle - 180 if angle > 90 else angle + 180 if angle <= -90 else angle
    return BlurEstimate(
        covariance=covariance, covariance_errors=spread, length_px=float(length),
        length_sigma_px=float(np.hypot(np.sqrt(12 * (max(largest, 0.0) + sigma)) - length, _SHAPE_SHARE * length)), angle_deg=float(angle),
        score=largest / float(np.hypot(sigma, _FLOOR_VARIANCE)),
        limit_px=float(np.sqrt(12 * DETECTION_SIGMA * np.hypot(worst, _FLOOR_VARIANCE))),
        gain=float(np.exp(np.clip(theta[0], -50, 50))), chi2=chi2, least_px2=least,
        least_score=least / float(np.hypot(sigma_least, _FLOOR_VARIANCE)))


def _sigma_along(vy: float, vx: float, spread: NDArray[np.float64]) -> float:
    """Error of the variance of the point-spread function along a unit vector."""
    a = np.array([vy * vy, 2 * vy * vx, vx * vx])
    return float(np.sqrt(max(float(a @ spread @ a), 0.0)))
