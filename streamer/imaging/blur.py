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

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.imaging.cross import CrossEstimate
from streamer.imaging.psf_fit import (
    DEFOCUS,
    MOTION,
    QUICK,
    SLACK,
    SMOOTH,
    Baseline,
    Fit,
    Solution,
    Vector,
    badness_of,
    baseline_of,
    scaled,
)
from streamer.imaging.spectrum import PolarPower

__all__ = ["DETECTION_SIGMA", "Baseline", "BlurEstimate", "baseline_of", "estimate_blur", "shape_of"]

DETECTION_SIGMA = 4.0
"""A blur whose variance is this many standard deviations is found nearly always."""

_FLOOR_VARIANCE = 0.03   # px^2, what the assumptions cost even at unlimited light
_MISFIT = 2.5            # reduced chi-square from which other starts are tried
_WIDE_STARTS = (1.0, 8.0, 40.0)   # px^2
_SAME = 0.55             # relative change of the power of single modes up to which two frames show the same place
_GAIN_LIMIT = 2.0        # factor of the power of structure up to which contrast may change
_FOREIGN_VARIANCE = 1.0  # px^2, by which spectra of different places of a specimen differ
_SHAPE_SHARE = 0.015     # of the length, error from the unknown shape of the point-spread function
_FAMILY_SCORE = 8.0      # from here on the shape of the point-spread function matters to its length
_LONG_STARTS = (0.8, 1.0, 1.5, 2.2)
_LONG_PX = 15.0          # as from this length
_ROUND = 0.5             # ratio of the eigenvalues above which a blur is no motion along one line
_NEARLY_ROUND = 0.7      # ratio of the eigenvalues from which a blur has no direction...
_THIN = 0.15             # ...and below which it is motion along a line
_CLEAR = 3.0             # standard deviations
_PARAMETER_COST = 6.0    # in -2 ln likelihood, for each free parameter of a shape
_CROSS_VARIANCE = 0.05   # px^2, by which deformation and bad registration smear the average of usual sequences
_CERTAIN_SCORE = 5.0     # from here on the power needs no help, and the correlation is not exact for long blur
_SHARED_NOISE = 0.6      # correlation of the errors of both routes, which see the same noise of the frame
_DISAGREE = 16.3         # squared distance of both routes, 99.9 % of chi-square with 3 degrees of freedom
_ANGLES = np.linspace(0.0, np.pi, 12, endpoint=False)
_ALL_WAYS = np.stack([np.sin(_ANGLES) ** 2, np.sin(2 * _ANGLES), np.cos(_ANGLES) ** 2], axis=1)
_ISOTROPIC = np.array([[1.0, 0.0, 0.0], [0.0, 0.25, 0.0], [0.0, 0.0, 1.0]])


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
    gauge_px2: float | None = None
    """Trace by which the correlation with registered frames shows more than the power does: deformation or
    misregistration, not blur."""


def estimate_blur(power: PolarPower, baseline: Baseline, cross: CrossEstimate | None = None) -> BlurEstimate:
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
    cross : CrossEstimate, optional
        What the correlation with registered frames says. Where both agree within their errors the estimate is
        their mean weighted by these. Where not, either something else than blur smears the average, or a fixed
        pattern hides the blur from the power: a frame that is not blurred beyond doubt then gets an error as
        large as the difference.

    Returns
    -------
    BlurEstimate
        Without structure in a direction the errors and the limit are large (up to about 100 px).
    """
    fit = Fit(power, baseline)
    model = fit.solve(QUICK, np.zeros(5))
    best = fit.solution(model)
    slack = SLACK
    if best.chi2 > _MISFIT or best.texture > _SAME:   # strong blur is out of reach of careful steps from none
        slack = np.inf
        starts = (np.array([0.0, variance, 0.0, variance, 0.0]) for variance in _WIDE_STARTS)
        model = min((model, *(fit.solve(QUICK, start, slack=slack) for start in starts)), key=badness_of)
        best = fit.solution(model)
    gauge = None if cross is None else float((cross.covariance - best.theta[1:4])[[0, 2]].sum())
    estimate = _describe(best, gauge)
    if cross is not None and estimate.score < _CERTAIN_SCORE:
        estimate = _describe(_combined(best, cross), gauge)
    if estimate.score < _FAMILY_SCORE and estimate.length_px < _LONG_PX:
        return estimate
    return _describe(_shaped(fit, best.theta, slack), None)


def shape_of(estimate: BlurEstimate) -> str:
    """Name the shape of a blur.

    Returns
    -------
    str
        ``motion`` along one direction, ``defocus`` alike in all, ``mixed``, or empty when the errors are too large
        to tell.
    """
    values, vectors = np.linalg.eigh(estimate.covariance)
    least, largest = float(values[0]), float(values[1])
    across, along = (_sigma_along(vectors[0, k], vectors[1, k], estimate.covariance_errors) for k in (0, 1))
    seen = least > _CLEAR * across
    if least > _NEARLY_ROUND * largest or largest - least < _CLEAR * np.hypot(along, across):
        return "defocus" if seen else ""
    return "mixed" if seen and least > _THIN * largest else "motion"


def _shaped(fit: Fit, theta: Vector, slack: float) -> Solution:
    """Fit the shapes that a point-spread function may have; return the likeliest.

    The error grows by the spread of those that are nearly as likely.
    """
    other = fit.solve(MOTION, *(scaled(theta, factor) for factor in _LONG_STARTS), slack=slack) if _directed(theta) \
        else fit.solve(DEFOCUS, _alike(theta), slack=slack)
    found = [fit.solve(SMOOTH, theta, slack=slack), other]
    badness = np.array([one.badness + _PARAMETER_COST * one.family.basis.shape[1] for one in found])
    likeliest = found[int(np.argmin(badness))]
    share = np.exp(-0.5 * (badness - badness.min()))
    share /= share.sum()
    apart = np.array([one.theta[1:4] - likeliest.theta[1:4] for one in found])
    solution = fit.solution(likeliest)
    solution.errors[1:, 1:] += (apart * share[:, None]).T @ apart
    return solution


def _directed(theta: Vector) -> bool:
    """Tell whether the blur is clearly longer one way than across: motion is."""
    least, largest = np.linalg.eigvalsh([[theta[1], theta[2]], [theta[2], theta[3]]])
    return bool(least < _ROUND * largest)


def _alike(theta: Vector) -> Vector:
    """Return the same blur in all directions."""
    variance = max(0.5 * float(theta[1] + theta[3]), 0.0)
    return np.array([theta[0], variance, 0.0, variance, theta[4]])


def _combined(solution: Solution, cross: CrossEstimate) -> Solution:
    """Average both routes; the error takes into account that they share the noise of the frame."""
    own, other = solution.errors[1:, 1:], cross.errors + _CROSS_VARIANCE**2 * _ISOTROPIC
    apart = cross.covariance - solution.theta[1:4]
    errors, sharp_errors = solution.errors.copy(), solution.sharp_errors.copy()
    if apart @ np.linalg.solve(own + other, apart) > _DISAGREE:
        for each in (errors, sharp_errors):
            each[1:, 1:] += np.outer(apart, apart)
        return solution._replace(errors=errors, sharp_errors=sharp_errors)
    if np.trace(own) < np.trace(other):   # nothing to gain
        return solution
    share = own @ np.linalg.inv(own + other)   # of the other
    theta = solution.theta.copy()
    theta[1:4] += share @ apart
    errors[1:, 1:] = _mean_errors(own, other, share)
    sharp_errors[1:, 1:] = _mean_errors(
        solution.sharp_errors[1:, 1:], cross.sharp_errors + _CROSS_VARIANCE**2 * _ISOTROPIC, share)
    return solution._replace(theta=theta, errors=errors, sharp_errors=sharp_errors)


def _mean_errors(
    own: NDArray[np.float64], other: NDArray[np.float64], share: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Covariance of a weighted mean of two correlated estimates."""
    rest = np.eye(len(share)) - share
    shared = _SHARED_NOISE * rest @ np.linalg.cholesky(own) @ np.linalg.cholesky(other).T @ share.T
    mean: NDArray[np.float64] = rest @ own @ rest.T + share @ other @ share.T + shared + shared.T
    return mean


def _describe(solution: Solution, gauge_px2: float | None) -> BlurEstimate:
    _, yy, yx, xx, _ = solution.theta
    covariance = np.array([[yy, yx], [yx, xx]])
    values, vectors = np.linalg.eigh(covariance)
    least, largest = values.tolist()
    (least_y, vy), (least_x, vx) = vectors.tolist()
    foreign = _foreign(solution)
    errors = solution.errors[1:, 1:] + (foreign * (_FOREIGN_VARIANCE + 0.5 * abs(largest))) ** 2 * _ISOTROPIC
    doubt = (foreign * _FOREIGN_VARIANCE) ** 2 + _FLOOR_VARIANCE**2
    sharp_errors = solution.sharp_errors[1:, 1:] + doubt * _ISOTROPIC
    sharp_sigma = math.hypot(_skewed(_sigma_along(vy, vx, sharp_errors)), 0.5 * foreign * abs(largest))
    worst = _skewed(float(np.sqrt((_ALL_WAYS @ sharp_errors * _ALL_WAYS).sum(1).max())))
    length = math.sqrt(12 * max(largest, 0.0))
    one_sigma = math.sqrt(12 * (max(largest, 0.0) + _sigma_along(vy, vx, errors))) - length
    angle = math.degrees(math.atan2(-vy, vx))   # y points down
    return BlurEstimate(
        covariance=covariance, covariance_errors=errors, length_px=length,
        length_sigma_px=math.hypot(one_sigma, _SHAPE_SHARE * length),
        angle_deg=angle - 180 if angle > 90 else angle + 180 if angle <= -90 else angle,
        score=largest / sharp_sigma, limit_px=math.sqrt(12 * DETECTION_SIGMA * worst),
        gain=math.exp(min(max(float(solution.theta[0]), -50.0), 50.0)), chi2=solution.chi2, texture=solution.texture,
        least_px2=least, least_score=least / _skewed(_sigma_along(least_y, least_x, sharp_errors)),
        gauge_px2=gauge_px2)


def _foreign(solution: Solution) -> float:
    """How far a frame shows another place, or other contrast: 0 = the same, 1 = its spectrum tells nothing of blur."""
    texture = (solution.texture - _SAME) / (1 - _SAME)
    contrast = abs(float(solution.theta[0])) - 2 * float(np.sqrt(solution.errors[0, 0]))
    return min(max(texture, contrast / math.log(_GAIN_LIMIT) - 1, 0.0), 1.5)


def _skewed(sigma: float) -> float:
    """Widen an error of a variance in px^2: errors as large as 1 px^2 have a long tail towards blur."""
    return sigma * (1 + sigma)


def _sigma_along(vy: float, vx: float, spread: NDArray[np.float64]) -> float:
    """Error of the variance of the point-spread function along a unit vector."""
    a = np.array([vy * vy, 2 * vy * vx, vx * vx])
    return math.sqrt(max(float(a @ spread @ a), 0.0))
