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
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.errors import FrameError
from streamer.imaging.spectrum import RINGS, SECTORS, PolarPower, bin_frequencies
from streamer.records import FloatArray

DETECTION_SIGMA = 4.0
"""A blur whose variance is this many standard deviations is found nearly always."""

_WINDOW_LOSS = 1.33      # excess variance of binned power under a 2-D Tukey(0.25) window
_TEXTURE = 0.35          # relative change of the power of a mode between frames of a drifting specimen
_FLOOR_VARIANCE = 0.03   # px^2, what the assumptions cost even at unlimited light
_LOOSE_VARIANCE = 300.0  # px^2, spread of the prior on S: keeps directions without structure solvable
_LOOSE_GAIN = 5.0        # the same for the logarithm of the gain
_FLOOR_ERROR = 0.015     # relative error of a noise floor
_LARGEST_STEP = 12.0     # px^2 per iteration
_ITERATIONS = 14
_HALVINGS = 5            # of a step that leads astray
_SLACK = 10.0             # in -2 ln likelihood, which the estimating equation does not minimise exactly
_GAIN_ONLY = np.array([1.0, 0.0, 0.0, 0.0, 1.0])
_MISFIT = 2.5            # reduced chi-square from which other starts are tried
_WIDE_STARTS = (0.0, 0.5, 2.0, 8.0)   # px^2
_TAIL = 0.1              # what may be left of fine structure that the model has blurred away
_USUAL_BINS = 24         # bins that the expectation counts for beside what is found
_SAME = 0.55             # relative change of the power of single modes up to which two frames show the same place
_GAIN_LIMIT = 2.0        # factor of the power of structure up to which contrast may change
_FOREIGN_VARIANCE = 1.0  # px^2, by which spectra of different places of a specimen differ
_SHAPE_SHARE = 0.015     # of the length, error from the unknown shape of the point-spread function
_K = 4 * np.pi**2
_FAMILY_SCORE = 8.0      # from here on the shape of the point-spread function matters to its length
_LONG_STARTS = (0.8, 1.0, 1.5, 2.2)
_ANGLES = np.linspace(0.0, np.pi, 12, endpoint=False)
_CLEAR = 4.0             # standard deviations of noise from which a ring of the baseline is taken as it is
_SLOPE_RINGS = 5         # rings that give the slope of the noisy ones
_USUAL_SLOPE = -3.0      # of the logarithm of power against that of frequency
_SLOPES = (-8.0, -1.0)
_RADIUS = np.sqrt(bin_frequencies(1)[:, 0, 0, 0] + bin_frequencies(1)[:, 0, 0, 2])
_ISOTROPIC = np.array([[1.0, 0.0, 0.0], [0.0, 0.25, 0.0], [0.0, 0.0, 1.0]])

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
    """Largest eigenvalue over the error that it has in a sharp frame: the significance of the blur."""
    limit_px: float
    """Shortest blur that would have been found, whatever its direction."""
    gain: float
    """Power of the structure relative to the baseline, with the blur taken out; 1 = same contrast."""
    chi2: float
    """Reduced chi-square of the fit, about 1 when the model holds."""
    least_px2: float
    """Smallest eigenvalue of `covariance`; significantly negative when the frame is sharper than the baseline."""
    texture: float
    """Relative change of the power of single modes: 0.2 to 0.4 for frames of the same place, 1 for another."""
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
    best = fit.solve(_gaussian, np.zeros(5))
    slack = _SLACK
    if best.chi2 > _MISFIT:   # strong blur is out of reach of careful steps from none
        slack = np.inf
        for variance in _WIDE_STARTS:
            start = np.array([0.0, variance, 0.0, variance, 0.0])
            best = min(best, fit.solve(_gaussian, start, slack=slack), key=_badness)
    estimate = _describe(best)
    if estimate.score < _FAMILY_SCORE:
        return estimate
    start = min((_scaled(best.theta, factor) for factor in _LONG_STARTS), key=partial(fit.badness, _uniform))
    other = fit.solve(_uniform, start, slack=slack)
    return _describe(other) if other.badness < best.badness else estimate


def _gaussian(s: Vector) -> tuple[Vector, Vector]:
    """Squared transfer function of a Gaussian with ``s = f' S f``, and its derivative."""
    m = np.exp(np.clip(-_K * s, -40.0, 4.0))
    return m, -_K * m


def _uniform(s: Vector) -> tuple[Vector, Vector]:
    """Return the same for motion at constant speed: ``sinc(f L)^2``, continued to negative ``s``."""
    square = np.clip(3 * _K * s, -12.0, None)
    x = np.sqrt(np.maximum(np.abs(square), 1e-6))
    j, c = np.sin(x) / x, np.cos(x)
    sharper = square <= 0
    if sharper.any():
        j[sharper], c[sharper] = np.sinh(x[sharper]) / x[sharper], np.cosh(x[sharper])
    return j * j, 3 * _K * j * (c - j) / np.where(sharper, -x * x, x * x)


def _places(nodes: int) -> NDArray[np.float64]:
    """(288, nodes, 3) factors of (yy, yx, xx) in f' S f."""
    places: NDArray[np.float64] = bin_frequencies(nodes).reshape(-1, nodes, 3) * np.array([1.0, 2.0, 1.0])
    return places


_SQUARES: dict[Family, NDArray[np.float64]] = {_gaussian: _places(1), _uniform: _places(4)}


def _scaled(theta: Vector, factor: float) -> Vector:
    scaled: Vector = theta * np.array([1.0, factor, factor, factor, 1.0])
    return scaled


class _Solution(NamedTuple):
    theta: Vector
    errors: NDArray[np.float64]
    """(4, 4) covariance of the errors of (ln g, yy, yx, xx)."""
    sharp_errors: NDArray[np.float64]
    """(4, 4) what these errors would be, were the frame not blurred."""
    chi2: float
    badness: float
    """-2 ln likelihood."""
    texture: float
    """Relative change of the power of a mode, in place of the expected `_TEXTURE`."""


def _badness(solution: _Solution) -> float:
    return solution.badness


class _Fit:
    """The estimating equation of one frame: parameters ``(ln g, yy, yx, xx, t)``.

    ``t`` is the error of the noise floors, in units of `self.noise`: common to all bins, small, but many bins
    add up.
    """

    def __init__(self, power: PolarPower, baseline: Baseline) -> None:
        self.used = power.counts.ravel() >= 2
        self.ring = np.repeat(np.arange(RINGS), SECTORS)[self.used]
        smooth = _smooth_reference(baseline, power.counts)
        unit = max(float(smooth.max()), 1e-30)
        self.p = power.power.ravel()[self.used].astype(np.float64) / unit
        self.r = baseline.power.ravel()[self.used].astype(np.float64) / unit
        self.q = np.repeat(smooth, SECTORS)[self.used] / unit
        self.spread = _WINDOW_LOSS / power.counts.ravel()[self.used].astype(np.float64)
        self.phi = power.floor / unit
        self.phi_r = baseline.floor / unit
        self.frames = baseline.frames
        self.noise = float(np.hypot(self.phi, self.phi_r / np.sqrt(self.frames)))
        self.prior = np.diag([_LOOSE_GAIN**-2, *3 * [_LOOSE_VARIANCE**-2], _FLOOR_ERROR**-2])

    def solve(self, family: Family, theta: Vector, *, slack: float = _SLACK) -> _Solution:
        """Solve the estimating equation by Gauss-Newton steps that must not make the fit clearly worse."""
        model = self._model(family, theta)
        badness = self._badness(model, theta)
        for _ in range(_ITERATIONS):
            slope = model.instruments.T @ model.derivatives
            values, vectors = np.linalg.eigh(0.5 * (slope + slope.T) + self.prior)
            values = np.maximum(np.abs(values), _LOOSE_VARIANCE**-2)
            step = vectors @ ((vectors.T @ (model.instruments.T @ model.residual - self.prior @ theta)) / values)
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
            if np.abs(step).max() < 1e-3:
                break
        chi2 = float(np.sum(model.residual**2 / model.variance)) / max(len(model.residual) - 4, 1)
        sharp = self._model(family, theta * _GAIN_ONLY)
        return _Solution(theta, self._errors(model) * max(chi2, 1.0), self._errors(sharp) * max(chi2, 1.0), chi2,
                         self._badness(model, theta), self._texture(model))

    def _errors(self, model: _Model) -> NDArray[np.float64]:
        """(4, 4) covariance of the errors of (ln g, yy, yx, xx)."""
        inner = model.instruments.T @ (model.instruments * model.variance[:, None]) + self.prior
        inverse = np.linalg.pinv(model.instruments.T @ model.derivatives + self.prior)
        errors: NDArray[np.float64] = (inverse @ inner @ inverse.T)[:4, :4]
        return errors

    def badness(self, family: Family, theta: Vector) -> float:
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
        squares = _SQUARES[family][self.used]
        shape, slope = family(squares @ theta[1:4])
        slopes = np.einsum("bk,bki->bi", slope, squares) / slope.shape[1]
        gain = np.exp(np.clip(theta[0], -20.0, 20.0))
        fall = shape.mean(1)
        m = gain * fall
        mq = m * self.q
        variance = self.spread * (
            self.phi**2 + 2 * self.phi * mq + m**2 * (self.phi_r**2 + 2 * self.phi_r * self.q) / self.frames
            + (_TEXTURE * mq) ** 2) + (_TAIL * np.clip(1 - fall, 0.0, 1.0) ** 2 * gain * self.q) ** 2 + 1e-18
        offset = np.full((len(m), 1), self.noise)
        shapes = np.column_stack([m, gain * slopes])
        return _Model(mq, m * self.r, variance, self.p - m * self.r - theta[4] * self.noise,
                      np.hstack([shapes * self.q[:, None], offset]) / variance[:, None],
                      np.hstack([shapes * self.r[:, None], offset]))


class _Model(NamedTuple):
    expected: Vector
    """(n,) smooth power that the model gives the frame."""
    fitted: Vector
    """(n,) the same with the texture of the baseline."""
    variance: Vector
    residual: Vector
    instruments: NDArray[np.float64]
    """(n, 5) derivatives by the parameters, of the smooth model, over the variance."""
    derivatives: NDArray[np.float64]
    """(n, 5) of the model itself."""


def _smooth_reference(baseline: Baseline, counts: FloatArray) -> Vector:
    """(24,) azimuthal mean of the baseline, monotone and free of its noise.

    Rings that noise reaches follow the slope of those above it: were they taken as they are, their noise would
    go into the instruments as well as into the baseline, and look like blur.
    """
    total = np.maximum(counts.sum(1), 1).astype(np.float64)
    rings = (baseline.power * counts).sum(1) / total
    falling: Vector = 0.5 * (np.minimum.accumulate(rings) + np.maximum.accumulate(rings[::-1])[::-1])
    noise = baseline.floor * np.hypot(np.sqrt(_WINDOW_LOSS / (total * baseline.frames)), _FLOOR_ERROR)
    clear = int(np.argmin(np.append(falling > _CLEAR * noise, False)))   # rings before the first noisy one
    if clear == 0:
        falling[:] = max(float(falling.max()), 1e-30) * (_RADIUS / _RADIUS[0]) ** _USUAL_SLOPE
    elif clear < RINGS:
        last = slice(max(clear - _SLOPE_RINGS, 0), clear)
        x, y = np.log(_RADIUS[last]), np.log(falling[last])
        slope = np.polyfit(x, y, 1)[0] if clear >= _SLOPE_RINGS else _USUAL_SLOPE
        falling[clear:] = np.exp(y.mean()) * (_RADIUS[clear:] / np.exp(x.mean())) ** np.clip(slope, *_SLOPES)
    return falling


def _describe(solution: _Solution) -> BlurEstimate:
    _, yy, yx, xx, _ = solution.theta
    values, vectors = np.linalg.eigh(np.array([[yy, yx], [yx, xx]]))
    largest, least = float(values[1]), float(values[0])
    (least_y, vy), (least_x, vx) = vectors
    foreign = _foreign(solution)
    errors = solution.errors[1:, 1:] + (foreign * (_FOREIGN_VARIANCE + 0.5 * abs(largest))) ** 2 * _ISOTROPIC
    doubt = (foreign * _FOREIGN_VARIANCE) ** 2 + _FLOOR_VARIANCE**2
    sharp_errors = solution.sharp_errors[1:, 1:] + doubt * _ISOTROPIC
    sharp_sigma = float(np.hypot(_skewed(_sigma_along(vy, vx, sharp_errors)), 0.5 * foreign * abs(largest)))
    worst = _skewed(max(_sigma_along(np.sin(angle), np.cos(angle), sharp_errors) for angle in _ANGLES))
    length = float(np.sqrt(12 * max(largest, 0.0)))
    one_sigma = float(np.sqrt(12 * (max(largest, 0.0) + _sigma_along(vy, vx, errors)))) - length
    angle = float(np.degrees(np.arctan2(-vy, vx)))   # y points down
    return BlurEstimate(
        covariance=np.array([[yy, yx], [yx, xx]]), covariance_errors=errors, length_px=length,
        length_sigma_px=float(np.hypot(one_sigma, _SHAPE_SHARE * length)),
        angle_deg=angle - 180 if angle > 90 else angle + 180 if angle <= -90 else angle,
        score=largest / sharp_sigma, limit_px=float(np.sqrt(12 * DETECTION_SIGMA * worst)),
        gain=float(np.exp(np.clip(solution.theta[0], -50, 50))), chi2=solution.chi2, texture=solution.texture,
        least_px2=least, least_score=least / _skewed(_sigma_along(least_y, least_x, sharp_errors)))


def _foreign(solution: _Solution) -> float:
    """How far a frame shows another place, or other contrast: 0 = the same, 1 = its spectrum tells nothing of blur."""
    texture = (solution.texture - _SAME) / (1 - _SAME)
    contrast = abs(float(solution.theta[0])) - 2 * float(np.sqrt(solution.errors[0, 0]))
    return float(np.clip(max(texture, contrast / np.log(_GAIN_LIMIT) - 1), 0.0, 1.5))


def _skewed(sigma: float) -> float:
    """Widen an error of a variance in px^2: errors as large as 1 px^2 have a long tail towards blur."""
    return sigma * (1 + sigma)


def _sigma_along(vy: float, vx: float, spread: NDArray[np.float64]) -> float:
    """Error of the variance of the point-spread function along a unit vector."""
    a = np.array([vy * vy, 2 * vy * vx, vx * vx])
    return float(np.sqrt(max(float(a @ spread @ a), 0.0)))
