"""How every particle moves by itself: displacement, rotation and dilation, measured on the images.

The dense field knows no outlines and smooths across them. Here each particle moves as one affine patch (Lucas &
Kanade 1981; Baker & Matthews 2004, doi:10.1023/B:VISI.0000011205.11775.fd), fitted to all its pixels by Gauss-Newton
steps, with the dense field as its prior: a particle with little texture keeps what the field said.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.errors import FrameError
from streamer.imaging import flow
from streamer.imaging.particle_fit import PARAMETERS, Estimate, Fit, Model, Precise, centred, products, response, sums
from streamer.imaging.segmentation import Labels
from streamer.records import BoolArray, FloatArray


class Motion(NamedTuple):
    """Motion of the particles of a reference in one frame, the drift taken out."""

    number: NDArray[np.int32]
    """(n,) as in the labels."""
    centre_px: FloatArray
    """(2, n) centre (y, x) in the reference."""
    area_px2: FloatArray
    displacement_px: FloatArray
    """(2, n) of the centre (y, x); zero where not valid."""
    sigma_px: FloatArray
    """(2, n) predicted 1-sigma error; NaN where not valid, as the other errors."""
    rotation_deg: FloatArray
    """(n,) from +x towards +y."""
    rotation_sigma_deg: FloatArray
    dilation: FloatArray
    """(n,) relative growth of the area."""
    dilation_sigma: FloatArray
    valid: BoolArray
    """(n,) in view, with texture, matched."""


def make_model(reference: flow.Prepared, labels: Labels) -> Model:
    """Prepare the particles of a reference.

    Parameters
    ----------
    reference : flow.Prepared
        The reference frame, made ready for the flow.
    labels : (M, N) int32
        As of `segmentation.segment`: 0, or the number of a particle.

    Returns
    -------
    Model
        With no particles when there are no labels.

    Raises
    ------
    FrameError
        If the labels have another shape than the reference.
    """
    plane = reference.absorbance
    if labels.shape != plane.shape:
        raise FrameError(f"particles: labels of shape {labels.shape} for a reference of shape {plane.shape}")
    inside = labels > 0
    if reference.usable is not None:
        inside &= reference.usable
    # every second pixel, as on a chess board: smoothing by about a pixel leaves nothing new in the others
    chess = np.add.outer(*(np.arange(length) for length in plane.shape)) % 2 == 0
    inside &= np.isin(labels, labels[inside & chess])   # a particle of one pixel may be on none of its squares
    number, owner = np.unique(labels[inside], return_inverse=True)
    rows, columns = np.nonzero(inside)
    area = np.bincount(owner, minlength=len(number))
    centre = np.stack([np.bincount(owner, axis, len(number)) / area for axis in (rows, columns)])
    kept = chess[inside]
    order = np.argsort(owner[kept], kind="stable")
    y, x, owner = (axis[kept][order] for axis in (rows, columns, owner))
    samples = np.bincount(owner, minlength=len(number))
    first = np.cumsum(samples) - samples
    place = np.stack([y - centre[0, owner], x - centre[1, owner]]).astype(np.float32)
    template = plane[y, x]
    sigma = max(reference.smoothing_px, 0.7)   # the derivative filter itself smooths about this much
    design, smooth = (response(image, y, x, place, first, samples)
                      for image in (plane, cv2.GaussianBlur(plane, (0, 0), sigma)))
    darker = np.exp(sums(template, first) / samples - np.median(plane[::4, ::4]))
    return Model(
        number.astype(np.int32), centre.astype(np.float32), area.astype(np.float32), (plane.shape[0], plane.shape[1]),
        y.astype(np.float32), x.astype(np.float32), first, samples, template, design, products(design, first),
        products(smooth, first) / 2, centred(template, first, samples),
        (reference.noise**2 * darker).astype(np.float32),
        1 / (4 * math.pi * reference.smoothing_px**2) if reference.smoothing_px > 0.3 else 1.0)


def track(model: Model, frame: flow.Prepared, field: flow.Field, *, drift_px: tuple[float, float],
          prior_px: float = 0.3, prior_gradient: float = 0.1) -> Motion:
    """Measure the motion of every particle in a frame.

    Maximum a posteriori: what the pixels say, and the mean and the slope of the dense field over the particle with
    the given tolerances.

    Parameters
    ----------
    model : Model
        Of the reference.
    frame : flow.Prepared
        Of the same shape as the reference.
    field : flow.Field
        Of the frame against the reference, from `flow.displacement`.
    drift_px : (float, float)
        Drift (y, x) of the frame relative to the reference, the one that the field was measured with.
    prior_px : float
        How far a particle may be from the dense field, 1 sigma per component.
    prior_gradient : float
        The same for the derivatives of the displacement (dimensionless).

    Returns
    -------
    Motion
        Not valid: particles out of view, without texture, not matched, or where the field is not valid.

    Raises
    ------
    FrameError
        If the frame has another shape than the reference, the drift is not finite, or a tolerance not positive.
    """
    if frame.absorbance.shape != model.shape:
        raise FrameError(f"particles: frame of shape {frame.absorbance.shape} against a reference of "
                         f"shape {model.shape}")
    if not np.all(np.isfinite(drift_px)):
        raise FrameError(f"particles: drift {drift_px} is not finite; give the drift of the frame in px")
    if not (prior_px > 0 and prior_gradient > 0):
        raise FrameError(f"particles: tolerances {prior_px} px and {prior_gradient}; expected positive numbers")
    if not model.number.size:
        return _nothing(model)
    fit = Fit(model, frame, field, drift_px)
    found = fit.solve(prior_px, prior_gradient)
    return _result(model, found, fit.judge(found, prior_px))


def table(motion: Motion) -> NDArray[Any]:
    """Give one row per particle, with the units in the names of the columns.

    Returns
    -------
    (n,) structured array
        number, centre_y_px, centre_x_px, area_px2, displacement_y_px, displacement_x_px, sigma_y_px, sigma_x_px,
        rotation_deg, rotation_sigma_deg, dilation, dilation_sigma, valid.
    """
    columns: dict[str, NDArray[Any]] = {
        "number": motion.number, "centre_y_px": motion.centre_px[0], "centre_x_px": motion.centre_px[1],
        "area_px2": motion.area_px2, "displacement_y_px": motion.displacement_px[0],
        "displacement_x_px": motion.displacement_px[1], "sigma_y_px": motion.sigma_px[0],
        "sigma_x_px": motion.sigma_px[1], "rotation_deg": motion.rotation_deg,
        "rotation_sigma_deg": motion.rotation_sigma_deg, "dilation": motion.dilation,
        "dilation_sigma": motion.dilation_sigma, "valid": motion.valid}
    rows = np.empty(len(motion.number), [(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        rows[name] = column
    return rows


def _result(model: Model, found: Estimate, valid: BoolArray) -> Motion:
    theta, covariance = found.theta, found.covariance
    turn, growth = np.zeros(PARAMETERS), np.zeros(PARAMETERS)
    turn[[3, 4]] = np.degrees(0.5), -np.degrees(0.5)
    growth[[2, 5]] = 1.0

    def told(values: Precise, missing: float) -> FloatArray:
        return np.where(valid, values, missing).astype(np.float32)

    def error(weights: Precise) -> FloatArray:
        return told(np.sqrt(np.einsum("i,nij,j->n", weights, covariance, weights)), math.nan)

    sigma = np.sqrt(np.stack([covariance[:, 0, 0], covariance[:, 1, 1]]))
    return Motion(model.number, model.centre_px, model.area_px2, told(theta[:, :2].T, 0), told(sigma, math.nan),
                  told(theta @ turn, 0), error(turn), told(theta @ growth, 0), error(growth), valid)


def _nothing(model: Model) -> Motion:
    none = np.zeros(0, np.float32)
    return Motion(model.number, model.centre_px, model.area_px2, np.zeros((2, 0), np.float32),
                  np.zeros((2, 0), np.float32), none, none, none, none, np.zeros(0, bool))
