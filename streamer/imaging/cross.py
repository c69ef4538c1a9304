"""Blur against the average of registered frames: what a few photons leave to see.

The power of a frame alone is drowned by its own noise. Its correlation with the average of the frames before,
registered and therefore nearly free of noise, is not: ``E x = g exp(-2 pi^2 f' S f) r``, where ``x`` is the
mean of ``Re(F conj(R) exp(2 pi i f d))`` in every polar bin and ``r`` the same for sharp frames. What smears the
average, deformation or bad registration, shows like blur; so it is compared with the blur from the power.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.imaging.psf_fit import SLACK, WINDOW_LOSS, Vector, modes_of_rings, smooth_rings
from streamer.imaging.spectrum import RINGS, SECTORS, ComplexArray, bin_frequencies, polar_bins
from streamer.records import FloatArray

_TEXTURE = 0.1            # relative change of the correlated power of a mode from frame to frame
_LOOSE_VARIANCE = 300.0   # px^2, prior on S
_LOOSE_GAIN = 5.0
_LARGEST_STEP = 6.0       # px^2 per iteration
_SMALLEST_STEP = 2e-3
_ITERATIONS = 8
_GAIN_ONLY = np.array([1.0, 0.0, 0.0, 0.0])
_K = 2 * np.pi**2
_SQUARES = bin_frequencies(1).reshape(-1, 3) * np.array([1.0, 2.0, 1.0])
_PRIOR = np.diag([_LOOSE_GAIN**-2, *3 * [_LOOSE_VARIANCE**-2]])
_FEWEST_MODES = 2         # in a bin that is used


class CrossPower(NamedTuple):
    """Correlation of a frame with an average of registered frames."""

    power: FloatArray
    """(24, 12) per mode, in the unit of the polar power; free of a noise floor."""
    noise: FloatArray
    """(24, 12) variance of one mode from the noise of frame and average."""


class CrossEstimate(NamedTuple):
    """The extra point-spread function as it shows in the correlation."""

    covariance: Vector
    """(3,) px^2: yy, yx, xx."""
    errors: NDArray[np.float64]
    """(3, 3) px^4, covariance of their errors."""
    sharp_errors: NDArray[np.float64]
    """(3, 3) what these errors would be, were the frame not blurred."""
    gain: float
    """Correlation relative to the baseline, with the blur taken out; near 0 when frame and average show different
    places."""
    chi2: float
    """Reduced chi-square of the fit."""


def register_modes(modes: ComplexArray, shape: tuple[int, int], drift_px: tuple[float, float]) -> ComplexArray:
    """Shift a frame back by its drift.

    Parameters
    ----------
    modes : (2 r + 1, c) complex64 array
        `Spectrum.modes`.
    shape : (int, int)
        Size that was transformed (`PolarPower.shape`).
    drift_px : (dy, dx)
        Where its content went.

    Returns
    -------
    (2 r + 1, c) complex64 array
    """
    up, across = polar_bins(*shape).kept_reach
    orders = np.concatenate([np.arange(up + 1), np.arange(-up, 0)])
    down = np.exp(2j * np.pi * drift_px[0] / shape[0] * orders).astype(np.complex64)
    right = np.exp(2j * np.pi * drift_px[1] / shape[1] * np.arange(across)).astype(np.complex64)
    moved: ComplexArray = modes * down[:, None]
    moved *= right
    return moved


def cross_power(
    registered: ComplexArray, average: ComplexArray, shape: tuple[int, int], *, floor: float, average_floor: float,
    power: FloatArray,
) -> CrossPower:
    """Correlate a registered frame with the average of others.

    Parameters
    ----------
    registered, average : (2 r + 1, c) complex64 array
        From `register_modes`; the mean of such.
    shape : (int, int)
        Size that was transformed.
    floor, average_floor : float
        Power of their noise.
    power : (24, 12) float32 array
        Noise-free power of sharp frames, from which the variance is predicted.
    """
    groups = polar_bins(*shape).kept
    products = np.take(registered, groups.modes)   # fewer than all, and in the order of the bins
    products *= np.take(average, groups.modes).conj()
    total = groups.sums(products.real)
    counts = np.maximum(groups.counts, np.float32(1))
    signal = np.maximum(power, np.float32(0))
    both = np.float32(floor + average_floor)
    noise = np.float32(0.5) * (np.float32(floor * average_floor) + signal * both)
    return CrossPower(np.divide(total, counts, dtype=np.float32).reshape(RINGS, SECTORS), noise)


def estimate_cross(cross: CrossPower, baseline: Sequence[CrossPower], shape: tuple[int, int]) -> CrossEstimate:
    """Fit the covariance of the extra point-spread function to the correlation.

    Parameters
    ----------
    cross : CrossPower
        Of the frame.
    baseline : sequence of CrossPower
        Of sharp frames; at least one.
    shape : (int, int)
        Size that was transformed.
    """
    counts = polar_bins(*shape).kept.counts.reshape(RINGS, SECTORS)
    used = counts.ravel() >= _FEWEST_MODES
    reference = np.mean([one.power for one in baseline], axis=0)
    noise = np.mean([one.noise for one in baseline], axis=0) / len(baseline)
    modes = modes_of_rings(counts)
    smooth = smooth_rings(reference, counts, np.sqrt(WINDOW_LOSS * (noise * counts).sum(1)) / modes)
    unit = max(float(smooth.max()), 1e-30)
    r = reference.ravel()[used].astype(np.float64) / unit
    q = np.repeat(smooth, SECTORS)[used] / unit
    x = cross.power.ravel()[used].astype(np.float64) / unit
    spread = WINDOW_LOSS / counts.ravel()[used].astype(np.float64)
    own, reference_noise = (each.ravel()[used].astype(np.float64) / unit**2 for each in (cross.noise, noise))
    exponent = np.column_stack([np.ones(len(x)), -_K * _SQUARES[used]])
    equation = _Equation(x, r, q, spread, own, reference_noise, exponent)
    theta = equation.solve()
    chi2 = equation.chi2(theta)
    scale = max(chi2, 1.0)
    return CrossEstimate(
        theta[1:], equation.errors(theta) * scale, equation.errors(theta * _GAIN_ONLY) * scale,
        float(np.exp(np.clip(theta[0], -20.0, 20.0))), chi2)


class _Terms(NamedTuple):
    residual: Vector
    variance: Vector
    instruments: NDArray[np.float64]
    derivatives: NDArray[np.float64]


class _Equation(NamedTuple):
    """The estimating equation; parameters (ln g, yy, yx, xx). The smooth reference weighs, as for the power."""

    x: Vector
    r: Vector
    q: Vector
    """Smooth `r`."""
    spread: Vector
    noise: Vector
    reference_noise: Vector
    shape: NDArray[np.float64]
    """(n, 4) derivatives of the exponent."""

    def solve(self) -> Vector:
        """Gauss-Newton steps that must not make the fit clearly worse."""
        theta = np.zeros(4)
        terms = self._terms(theta)
        badness = self._badness(terms, theta)
        for _ in range(_ITERATIONS):
            slope = terms.instruments.T @ terms.derivatives
            values, vectors = np.linalg.eigh(0.5 * (slope + slope.T) + _PRIOR)
            values = np.maximum(np.abs(values), _LOOSE_VARIANCE**-2)
            step = vectors @ ((vectors.T @ (terms.instruments.T @ terms.residual - _PRIOR @ theta)) / values)
            step *= min(1.0, _LARGEST_STEP / max(float(np.abs(step[1:]).max()), 1e-12),
                        1.0 / max(abs(float(step[0])), 1e-12))
            trial = self._terms(theta + step)
            worse = self._badness(trial, theta + step)
            while worse > badness + SLACK and np.abs(step).max() > _SMALLEST_STEP:
                step = 0.5 * step
                trial = self._terms(theta + step)
                worse = self._badness(trial, theta + step)
            theta, terms, badness = theta + step, trial, worse
            if np.abs(step).max() < _SMALLEST_STEP:
                break
        return theta

    def chi2(self, theta: Vector) -> float:
        """Reduced chi-square."""
        terms = self._terms(theta)
        return float(np.sum(terms.residual**2 / terms.variance)) / max(len(self.x) - 4, 1)

    def errors(self, theta: Vector) -> NDArray[np.float64]:
        """(3, 3) covariance of the errors of (yy, yx, xx)."""
        terms = self._terms(theta)
        inner = terms.instruments.T @ (terms.instruments * terms.variance[:, None]) + _PRIOR
        inverse = np.linalg.pinv(terms.instruments.T @ terms.derivatives + _PRIOR)
        found: NDArray[np.float64] = (inverse @ inner @ inverse.T)[1:, 1:]
        return found

    def _badness(self, terms: _Terms, theta: Vector) -> float:
        return float(np.sum(terms.residual**2 / terms.variance + np.log(terms.variance)) + theta @ _PRIOR @ theta)

    def _terms(self, theta: Vector) -> _Terms:
        m = np.exp(np.clip(self.shape @ theta, -20.0, 4.0))
        variance = self.spread * (self.noise + m**2 * (self.reference_noise + (_TEXTURE * self.q) ** 2)) + 1e-18
        slopes = self.shape * m[:, None]
        return _Terms(self.x - m * self.r, variance, slopes * (self.q / variance)[:, None], slopes * self.r[:, None])
