"""The fit behind `particles`: Gauss-Newton steps for all particles at once, and how far to believe the dense field.

Samples of a particle lie one after the other, so that every sum over particles is one `numpy.add.reduceat`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.imaging import flow
from streamer.records import BoolArray, FloatArray

Precise = NDArray[np.float64]

STEPS = 3
PARAMETERS = 6
"""Displacement y, x; its derivatives: of y along y and x, of x along y and x."""
LEAST_SAMPLES = 12
LEAST_IN_VIEW = 0.7
"""Share of a particle's pixels that the frame must show."""
LEAST_COVERED = 0.3
"""Share of a particle on which the dense field must be valid."""
LEAST_CORRELATION = 0.5
"""Between the particle in the reference and in the frame, moved back."""
LARGEST_SIGMA_PX = 0.5
FARTHEST = 5.0
"""A displacement this many prior deviations away from the dense field is a wrong match."""
LONERS = 0.01
"""Share of the particles that are expected to go their own way, the field notwithstanding."""
LOOSE = 1e-6
"""Share of the prior that keeps the equations of a particle without texture soluble."""
NARROW = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
"""Shares of the tolerance that the others may keep to, up to all of it."""
MISFIT = 6.0
"""A residual beyond the noise (particles that are several, or bend) is alike over many samples, and counts so many
times more."""
COMMON = 0.1
"""Share of the tolerance by which all particles together may turn against the field."""
TURN = np.array([0, 0, 0, 0.5, -0.5, 0])
"""Takes the rotation, in rad from +x towards +y, out of the parameters."""
FIELD_WINDOW_PX = 20.0
"""Over which the error of the dense field changes, about."""
ERROR_SHAPE = np.array([1, 1] + [0.5 / FIELD_WINDOW_PX**2] * 4)
"""Squared error of the field's mean and slopes over a particle, relative to that at a point."""


@dataclass(frozen=True, eq=False)
class Model:
    """What has to be known of the particles of a reference; made once."""

    number: NDArray[np.int32]
    """(n,) as in the labels."""
    centre_px: FloatArray
    """(2, n) mean (y, x) of the pixels."""
    area_px2: FloatArray
    """(n,)."""
    shape: tuple[int, int]
    sample_y: FloatArray
    """(s,) rows of the samples, those of a particle one after the other."""
    sample_x: FloatArray
    first: NDArray[np.intp]
    """(n,) first sample of every particle."""
    samples: NDArray[np.intp]
    """(n,) how many it has."""
    template: FloatArray
    """(s,) absorbance."""
    design: FloatArray
    """(6, s) what a unit of each parameter does to the absorbance, its mean over the particle taken out."""
    normal: Precise
    """(n, 6, 6) sum of its products."""
    excess: Precise
    """(n, 6, 6) the same of the design smoothed as noise is: it turns white noise into that of the right-hand side."""
    contrast: FloatArray
    """(s,) absorbance, the mean over the particle taken out."""
    noise_variance: FloatArray
    """(n,) of white noise in the reference before smoothing: photons, fewer of them where it is darker."""
    image_gain: float
    """Variance that smoothing leaves of white noise."""


class Prior(NamedTuple):
    """What the dense field says of every particle."""

    theta: Precise
    """(n, 6)."""
    variance: Precise
    """(n,) mean squared error of the field, per component."""
    covered: Precise
    """(n,) share of the particle on which the field is valid."""


class Estimate(NamedTuple):
    """Parameters of every particle."""

    theta: Precise
    """(n, 6)."""
    covariance: Precise
    """(n, 6, 6)."""
    residual: FloatArray
    """(s,) frame minus reference."""
    loner: Precise
    """(n,) probability that the particle goes its own way."""


class Fit:
    """One frame against the particles of its reference."""

    def __init__(self, model: Model, frame: flow.Prepared, field: flow.Field, drift_px: tuple[float, float]) -> None:
        self._model, self._frame, self._drift = model, frame, drift_px
        self._count = len(model.number)
        self._place = np.stack([model.sample_y, model.sample_x]) - np.repeat(model.centre_px, model.samples, axis=1)
        self.prior = self._from_field(field)
        self._seen = self._in_view()
        self.seen = self._sum(self._seen)
        self._normal, self._excess = self._matrices()

    def solve(self, prior_px: float, prior_gradient: float) -> Estimate:
        """Take the steps with the wide prior, then weigh it against the narrow one that the whole frame suggests."""
        tolerance = np.array([prior_px] * 2 + [prior_gradient] * 4)
        theta, residual = self.prior.theta, self._residual(self.prior.theta)
        for _ in range(STEPS):
            move = self._step(theta, residual, np.broadcast_to(tolerance, theta.shape))
            theta = theta - move
            residual = self._residual(theta)
        data = self._information(residual)
        pull = self._right(residual) / self._scale(residual)[:, None]
        # where the pixels alone would go
        own = theta - self.prior.theta - _solved(data + np.diag(LOOSE / tolerance**2), pull)
        common = _common_turn(own, data, tolerance)
        own = own - common
        share, narrow = _own_way(own, data, tolerance)
        # a mixture of two Gaussians, by its mean and its covariance
        (near, near_error), (far, far_error) = (
            self._posterior(own, data, kept) for kept in (tolerance * narrow, tolerance))
        mean = common + near + share[:, None] * (far - near)
        apart = far - near
        covariance = (near_error + share[:, None, None] * (far_error - near_error)
                      + (share * (1 - share))[:, None, None] * apart[:, :, None] * apart[:, None, :])
        return Estimate(self.prior.theta + mean, covariance, self._residual(self.prior.theta + mean), share)

    def judge(self, found: Estimate, prior_px: float) -> BoolArray:
        """Say which particles can be trusted."""
        model = self._model
        sigma = np.sqrt(np.max([found.covariance[:, 0, 0], found.covariance[:, 1, 1]], axis=0))
        here = model.contrast * self._seen
        there = found.residual + here
        alike = self._sum(here * there) / np.sqrt(self._sum(here**2) * self._sum(there**2) + 1e-30)
        away = np.abs(found.theta - self.prior.theta)[:, :2].max(axis=1)
        valid: BoolArray = ((self.seen >= np.maximum(LEAST_SAMPLES, LEAST_IN_VIEW * model.samples))
                            & (self.prior.covered >= LEAST_COVERED)
                            & (alike > LEAST_CORRELATION)
                            & (sigma < LARGEST_SIGMA_PX) & (away < FARTHEST * prior_px))
        return valid

    def _posterior(self, own: Precise, data: Precise, tolerance: Precise) -> tuple[Precise, Precise]:
        """Weigh what the pixels say against the field; both may be wrong."""
        precision = np.diag(1 / tolerance**2)
        inverse = np.linalg.inv(data + precision)
        mean = (inverse @ data @ own[..., None])[..., 0]
        # the error of the field averages out over a particle that is larger than its windows
        windows = 1 + self._model.area_px2.astype(np.float64) / (4 * math.pi * FIELD_WINDOW_PX**2)
        wrong = np.zeros_like(data)
        variance = (self.prior.variance / windows)[:, None] * ERROR_SHAPE + tolerance**2
        wrong[:, range(PARAMETERS), range(PARAMETERS)] = variance
        return mean, inverse @ (data + precision @ wrong @ precision) @ inverse

    def _step(self, theta: Precise, residual: FloatArray, tolerance: Precise) -> Precise:
        right = self._right(residual) / self._scale(residual)[:, None] + (theta - self.prior.theta) / tolerance**2
        matrix = self._information(residual)
        matrix[:, range(PARAMETERS), range(PARAMETERS)] += 1 / tolerance**2
        return _solved(matrix, right)

    def _from_field(self, field: flow.Field) -> Prior:
        """Take mean and slope of the dense field over every particle."""
        model = self._model
        at = [_fraction(axis, samples) for axis, samples in ((field.grid_y_px, model.sample_y),
                                                             (field.grid_x_px, model.sample_x))]
        weight = field.valid.astype(np.float32)
        variance = np.where(field.valid, field.sigma_px, np.float32(0)) ** 2
        share, u_y, u_x, error = (_read(plane, *at) for plane in (
            weight, *(plane * weight for plane in (*field.displacement_px, variance))))   # these carry the share
        total = np.maximum(self._sum(share), 1e-6)
        middle = self._sum(share * self._place) / total
        place = self._place - np.repeat(middle, model.samples, axis=1).astype(np.float32)
        moments = np.stack([self._sum(share * a * b) for a in place for b in place], -1).reshape(-1, 2, 2)
        moments += 1e-3 * total[:, None, None] * np.eye(2)   # a particle of one column has no slope across
        theta = np.zeros((self._count, PARAMETERS))
        for component, values in enumerate((u_y, u_x)):
            slope = np.linalg.solve(moments, self._sum(values * place).T[..., None])[..., 0]
            theta[:, component] = self._sum(values) / total - np.sum(slope * middle.T, axis=1)
            theta[:, 2 + 2 * component:4 + 2 * component] = slope
        return Prior(theta, self._sum(error) / total, total / model.samples)

    def _target(self, theta: Precise) -> tuple[FloatArray, FloatArray]:
        """Where in the frame the samples are found."""
        model, (y, x) = self._model, self._place
        own = np.repeat(theta.T.astype(np.float32), model.samples, axis=1)
        return (model.sample_y + np.float32(self._drift[0]) + own[0] + own[2] * y + own[3] * x,
                model.sample_x + np.float32(self._drift[1]) + own[1] + own[4] * y + own[5] * x)

    def _in_view(self) -> FloatArray:
        y, x = self._target(self.prior.theta)
        rows, columns = self._model.shape
        seen = ((y >= 1) & (y <= rows - 2) & (x >= 1) & (x <= columns - 2)).astype(np.float32)
        if self._frame.usable is not None:
            seen *= _read(self._frame.usable.astype(np.float32), y, x) > 0.99
        return seen

    def _residual(self, theta: Precise) -> FloatArray:
        """Frame minus reference where the parameters say, the mean over every particle taken out."""
        # linear: cv2's cubic is biased by up to 0.03 px, linear on smoothed images by less than 0.005
        difference = (_read(self._frame.absorbance, *self._target(theta)) - self._model.template) * self._seen
        offset = self._sum(difference) / np.maximum(self.seen, 1)
        residual: FloatArray = (difference - np.repeat(offset.astype(np.float32), self._model.samples)) * self._seen
        return residual

    def _matrices(self) -> tuple[Precise, Precise]:
        """Give the normal matrices of what is seen: those of the reference, less where some is hidden."""
        share = np.where(self.seen < self._model.samples, self.seen / self._model.samples, 1.0)[:, None, None]
        return self._model.normal * share, self._model.excess * share

    def _right(self, residual: FloatArray) -> Precise:
        return self._sum(self._model.design * residual).T

    def _sum(self, values: FloatArray) -> Precise:
        return sums(values, self._model.first).astype(np.float64)

    def _scale(self, residual: FloatArray) -> Precise:
        """Variance per sample that makes the normal matrix the information that correlated noise leaves, (n,)."""
        white = np.maximum(self._sum(residual**2) / np.maximum(self.seen - 1, 1) / self._model.image_gain, 1e-12)
        photons = 2 * self._model.noise_variance.astype(np.float64)   # of both frames
        return np.asarray(white * (1 + MISFIT * np.maximum(1 - photons / white, 0)) * self._correlation + 1e-12)

    @cached_property
    def _correlation(self) -> Precise:
        """How much less samples of smoothed noise tell than independent ones, averaged over the parameters, (n,)."""
        trace = np.trace(self._normal, axis1=1, axis2=2)[:, None, None]
        return np.asarray(np.trace(_solved(self._normal + (1e-6 * trace + 1e-12) * np.eye(PARAMETERS), self._excess),
                                   axis1=1, axis2=2) / PARAMETERS)

    def _information(self, residual: FloatArray) -> Precise:
        return self._normal / self._scale(residual)[:, None, None]


def _common_turn(own: Precise, data: Precise, tolerance: Precise) -> Precise:
    """Give the rotation of all particles together against the field, (6,).

    The windows of the field shorten its slopes between the particles, of a sample that turns everywhere the same
    way. A common dilation is not told from the bias that noise gives it, and stays out.
    """
    noise = np.linalg.inv(data + np.diag(LOOSE / tolerance**2)) + np.diag((COMMON * tolerance) ** 2)
    weight = 1 / (TURN @ noise @ TURN)
    turn = np.sum(weight * (own @ TURN)) / (np.sum(weight) + 1 / (COMMON * np.abs(TURN) @ tolerance) ** 2)
    return np.asarray(turn * TURN / (TURN @ TURN))


def _own_way(own: Precise, data: Precise, tolerance: Precise) -> tuple[Precise, Precise]:
    """Tell particles that go their own way from those that go with the field.

    How closely the others follow it is found from all of them, for displacements and slopes apart: the share of the
    tolerance at which what the pixels say, `own` with the information `data`, is most likely under a mixture of a
    narrow and the wide prior.

    Returns
    -------
    (n,) array, (6,) array
        Probability of each particle to go its own way; the share of the tolerance that the others keep to.
    """
    noise = np.asarray(np.linalg.inv(data + np.diag(LOOSE / tolerance**2)), np.float64)
    narrow = np.ones(PARAMETERS)
    for part in (slice(0, 2), slice(2, PARAMETERS)):
        likelihood = [_log_density(own[:, part], noise[:, part, part] + np.diag((share * tolerance[part]) ** 2))
                      for share in NARROW]
        narrow[part] = NARROW[int(np.argmax([np.sum(np.logaddexp(
            each + math.log(1 - LONERS), likelihood[-1] + math.log(LONERS))) for each in likelihood]))]
    near, far = (_log_density(own, noise + np.diag((share * tolerance) ** 2)) for share in (narrow, 1.0))
    return 1 / (1 + np.exp(np.clip(near - far, -500, 500)) * (1 - LONERS) / LONERS), narrow


def _log_density(values: Precise, covariance: Precise) -> Precise:
    """Of a Gaussian around zero, but for a constant."""
    _, logarithm = np.linalg.slogdet(covariance)
    squared = np.sum(values * _solved(covariance, values), axis=1)
    return np.asarray(-0.5 * (squared + logarithm))


def _solved(matrix: Precise, right: Precise) -> Precise:
    if right.ndim == matrix.ndim:
        return np.asarray(np.linalg.solve(matrix, right))
    return np.asarray(np.linalg.solve(matrix, right[..., None])[..., 0])


def sums(values: FloatArray, first: NDArray[np.intp]) -> FloatArray:
    """Sum over the samples of every particle, (..., s) to (..., n)."""
    sums: FloatArray = np.add.reduceat(values, first, axis=-1)
    return sums


def centred(values: FloatArray, first: NDArray[np.intp], samples: NDArray[np.intp]) -> FloatArray:
    """Take the mean over every particle out."""
    mean = sums(values, first) / samples.astype(np.float32)
    centred: FloatArray = values - np.repeat(mean, samples, axis=-1)
    return centred


def response(plane: FloatArray, y: NDArray[np.intp], x: NDArray[np.intp], place: FloatArray,
            first: NDArray[np.intp], samples: NDArray[np.intp]) -> FloatArray:
    """Tell what a unit of each parameter does to the image at the samples, (6, s)."""
    gradients = [cv2.Scharr(plane, cv2.CV_32F, *axis, scale=1 / 32)[y, x] for axis in ((0, 1), (1, 0))]
    rows = [*gradients, *(gradient * axis for gradient in gradients for axis in place)]
    return centred(np.stack(rows), first, samples)


def products(design: FloatArray, first: NDArray[np.intp]) -> Precise:
    """Sum of the products of the rows over every particle."""
    products = np.empty((len(first), PARAMETERS, PARAMETERS))
    for i, row in enumerate(design):
        products[:, i, :] = sums(row * design, first).T
    return products


def _read(plane: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
    """Interpolate at scattered points; cv2 wants them in lines that are not too long."""
    width = 1024
    padded = [np.zeros(-(-y.size // width) * width, np.float32) for _ in range(2)]
    for target, source in zip(padded, (x, y), strict=True):
        target[:source.size] = source
    map_x, map_y = (axis.reshape(-1, width) for axis in padded)
    values = cv2.remap(np.ascontiguousarray(plane, np.float32), map_x, map_y, cv2.INTER_LINEAR,
                       borderMode=cv2.BORDER_REPLICATE)
    flat: FloatArray = values.ravel()[:y.size]
    return flat


def _fraction(axis: FloatArray, position: FloatArray) -> FloatArray:
    """Fractional place on an evenly spaced axis."""
    step = np.float32((axis[-1] - axis[0]) / max(len(axis) - 1, 1) or 1)
    return np.asarray((position - axis[0]) / step, np.float32)
