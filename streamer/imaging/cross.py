"""Blur against the average of registered frames: what a few photons leave to see.

The power of a frame alone is drowned by its own noise. Its correlation with the average of the frames before,
registered and therefore nearly free of noise, is not: ``E x = g exp(-2 pi^2 f' S f) r``, where ``x`` is the
mean of ``Re(F conj(R) exp(2 pi i f d))`` in every polar bin and ``r`` the same for sharp frames. What smears the
average, deformation or bad registration, shows like blur; so it is compared with the blur from the power.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
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
    (n,) complex64 array
        The modes that are in a polar bin, sorted by bin: all that is correlated.
    """
    bins = polar_bins(*shape)
    up, across = bins.kept_reach
    orders = np.concatenate([np.arange(up + 1), np.arange(-up, 0)])
    down = np.exp(2j * np.pi * drift_px[0] / shape[0] * orders).astype(np.complex64)
    right = np.exp(2j * np.pi * drift_px[1] / shape[1] * np.arange(across)).astype(np.complex64)
    moved: ComplexArray = modes * down[:, None]
    moved *= right
    return moved.take(bins.kept.modes)


def cross_power(
    registered: ComplexArray, average: ComplexArray, shape: tuple[int, int], *, floor: float, average_floor: float,
    power: FloatArray,
) -> CrossPower:
    """Correlate a registered frame with the average of others.

    Parameters
    ----------
    registered, average : (n,) complex64 array
        From `register_modes`; the mean of such.
    shape : (int, int)
        Size that was transformed.
    floor, average_floor : float
        Power of their noise.
    power : (24, 12) float32 array
        Noise-free power of sharp frames, from which the variance is predicted.
    """
    groups = polar_bins(*shape).kept
    products = average.conj()
    products *= registered
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
    bins = _bins(*shape)
    reference = np.mean([one.power for one in baseline], axis=0)
    noise = np.mean([one.noise for one in baseline], axis=0) / len(baseline)
    error = np.sqrt(WINDOW_LOSS * (noise * bins.counts).sum(1)) / bins.modes
    smooth = smooth_rings(reference, bins.counts, error)
    unit = max(float(smooth.max()), 1e-30)
    x, r = (each.ravel()[bins.used].astype(np.float64) / unit for each in (cross.power, reference))
    q = np.repeat(smooth, SECTORS)[bins.used] / unit
    own, reference_noise = (each.ravel()[bins.used].astype(np.float64) / unit**2 for each in (cross.noise, noise))
    equation = _Equation(x, r, q, bins.spread * own + 1e-18,
                         bins.spread * (reference_noise + (_TEXTURE * q) ** 2), bins.exponent)
    terms = equation.solve()
    chi2 = float((terms.residual**2 / terms.variance).sum()) / max(len(x) - 4, 1)
    scale = max(chi2, 1.0)
    sharp = equation.terms(terms.theta * _GAIN_ONLY)
    return CrossEstimate(terms.theta[1:], _errors(terms) * scale, _errors(sharp) * scale,
                         math.exp(min(max(float(terms.theta[0]), -20.0), 20.0)), chi2)


class _Bins(NamedTuple):
    """What does not depend on the frame."""

    counts: FloatArray
    """(24, 12)."""
    modes: Vector
    """(24,) in each ring."""
    used: NDArray[np.bool_]
    """(288,)."""
    spread: Vector
    """(n,) of the bins that are used: relative variance of the mean of their modes."""
    exponent: NDArray[np.float64]
    """(4, n) derivatives of the exponent by the parameters."""


@lru_cache(maxsize=8)
def _bins(rows: int, columns: int) -> _Bins:
    counts = polar_bins(rows, columns).kept.counts
    used = counts >= _FEWEST_MODES
    rings = counts.reshape(RINGS, SECTORS)
    return _Bins(rings, modes_of_rings(rings), used, WINDOW_LOSS / counts[used].astype(np.float64),
                 np.vstack([np.ones(np.count_nonzero(used)), -_K * _SQUARES[used].T]))


class _Terms(NamedTuple):
    theta: Vector
    badness: float
    """-2 ln likelihood."""
    residual: Vector
    variance: Vector
    instruments: NDArray[np.float64]
    """(4, n) derivatives by the parameters: of the smooth model over the variance..."""
    derivatives: NDArray[np.float64]
    """...and of the model itself."""


class _Equation(NamedTuple):
    """The estimating equation; parameters (ln g, yy, yx, xx). The smooth reference weighs, as for the power."""

    x: Vector
    r: Vector
    q: Vector
    """Smooth `r`."""
    noise: Vector
    """Variance of `x` without structure..."""
    texture: Vector
    """...and what comes to it with the square of the model."""
    exponent: NDArray[np.float64]
    """(4, n) derivatives of the exponent."""

    def solve(self) -> _Terms:
        """Gauss-Newton steps that must not make the fit clearly worse."""
        terms = self.terms(np.zeros(4))
        for _ in range(_ITERATIONS):
            slope = terms.instruments @ terms.derivatives.T
            values, vectors = np.linalg.eigh(0.5 * (slope + slope.T) + _PRIOR)
            values = np.maximum(np.abs(values), _LOOSE_VARIANCE**-2)
            step = vectors @ ((vectors.T @ (terms.instruments @ terms.residual - _PRIOR @ terms.theta)) / values)
            gain, *variances = step.tolist()
            step *= min(1.0, _LARGEST_STEP / max(*map(abs, variances), 1e-12), 1.0 / max(abs(gain), 1e-12))
            trial = self.terms(terms.theta + step)
            while trial.badness > terms.badness + SLACK and abs(step).max() > _SMALLEST_STEP:
                step = 0.5 * step
                trial = self.terms(terms.theta + step)
            terms = trial
            if abs(step).max() < _SMALLEST_STEP:
                break
        return terms

    def terms(self, theta: Vector) -> _Terms:
        """Everything that follows from parameters."""
        m = np.exp((theta @ self.exponent).clip(-20.0, 4.0))
        residual = self.x - m * self.r
        variance = self.noise + m * m * self.texture
        badness = float((residual**2 / variance + np.log(variance)).sum() + theta @ _PRIOR @ theta)
        slopes = self.exponent * m
        return _Terms(theta, badness, residual, variance, slopes * (self.q / variance), slopes * self.r)


def _errors(terms: _Terms) -> NDArray[np.float64]:
    """(3, 3) covariance of the errors of (yy, yx, xx)."""
    inner = terms.instruments * terms.variance @ terms.instruments.T + _PRIOR
    inverse = np.linalg.inv(terms.instruments @ terms.derivatives.T + _PRIOR)
    found: NDArray[np.float64] = (inverse @ inner @ inverse.T)[1:, 1:]
    return found
