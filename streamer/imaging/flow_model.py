"""What the flow has to know of a reference: its gradients, how much structure they hold, and how noise passes."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from streamer.imaging.flow_cells import SAMPLE_PX, TINY, cells, samples, weakest, window
from streamer.records import BoolArray, FloatArray

MATCH_WINDOW_PX = 10.0
"""Window in which two candidate fields, and the quality of the match, are compared, at a smoothing of 1 px or less."""
LARGEST_FINENESS = np.float32(1.0)
NOISE_WINDOW_PX, LARGEST_NOISE = 8.0, 0.95
"""At most this share of the weakest gradient energy in such a window is put down to noise."""


class NoiseGains(NamedTuple):
    """Variance that white noise of unit variance leaves after the smoothing of an image."""

    image: float
    gradient: float
    """Per component of the gradient."""
    smooth_gradient: float
    """Per component, when smoothed once more."""
    curvature: float
    """Of the second derivative, per component."""


class Model(NamedTuple):
    """What the flow has to know of the reference, at (m, n) samples and (m/2, n/2) cells."""

    absorbance: FloatArray
    gradient_x: FloatArray
    gradient_y: FloatArray
    usable: FloatArray | None
    """Samples of weight, 0 or 1; None when all are."""
    tensor: FloatArray
    """(m/2, n/2, 3) products of the gradient."""
    noise_tensor: FloatArray
    """The same of the gradient smoothed once more: what weighs the noise of a smoothed image."""
    variance: FloatArray
    """(m/2, n/2) local variance of the absorbance in the match window."""
    signal_tensor: FloatArray
    """The tensor less what the noise of the reference adds to it."""
    darkness: FloatArray
    """(m/2, n/2) variance of the photon noise in the absorbance, relative to that of a typical cell, in even light."""
    dimness: FloatArray | None
    """(m/2, n/2) what the light makes of it, relative to the usual; None = even light."""
    fineness: FloatArray
    """(2,) (x, y): mean squared second over mean squared first derivative, without noise, per px^2."""
    sample_x: FloatArray
    sample_y: FloatArray
    gains: NoiseGains
    match_window_px: float
    thin: Model | None
    """The same from every second sample, for what concerns the whole frame: a quarter of the work."""


def make_model(absorbance: FloatArray, usable: BoolArray | None, *, smoothing_px: float, noise: float,
               dimness: FloatArray | None = None) -> Model:
    """Prepare a reference.

    Parameters
    ----------
    absorbance : (M, N) float32
        Minus the logarithm of the smoothed image.
    usable : (M, N) bool, optional
        Pixels that carry weight; None when all do.
    smoothing_px : float
        Sigma with which the image was smoothed.
    noise : float
        Standard deviation of white noise in the logarithm of the unsmoothed image.
    dimness : (k, l) float32, optional
        As in `flow.Prepared`.
    """
    shape = absorbance.shape
    sigma = max(smoothing_px, 0.7)   # the derivative filter itself smooths about this much
    slopes = gradient(absorbance)
    fine = [samples(plane, shape) for plane in slopes]
    smooth = [samples(plane, shape) for plane in gradient(cv2.GaussianBlur(absorbance, (0, 0), sigma))]
    mask = None if usable is None else samples(usable.astype(np.float32), shape)
    if mask is not None:
        fine, smooth = [plane * mask for plane in fine], [plane * mask for plane in smooth]
    plain = samples(absorbance - np.median(absorbance[::4, ::4]), shape)
    y, x = np.indices(plain.shape, dtype=np.float32) * np.float32(SAMPLE_PX)
    share = np.ones_like(plain) if mask is None else mask
    width = MATCH_WINDOW_PX * max(1.0, smoothing_px)   # smoother noise needs a larger window to average out
    weight = window(cells(share), width) + TINY
    mean = window(cells(plain * share), width) / weight
    variance = window(cells(plain * plain * share), width) / weight - mean * mean
    gains = noise_gains(smoothing_px, sigma)
    tensor, smooth_tensor = products(*fine), products(*smooth)
    model = Model(samples(absorbance, shape), fine[0], fine[1], mask, tensor, smooth_tensor, np.maximum(variance, 0),
                  _signal(tensor, cells(share), np.float32(gains.gradient * noise**2)),
                  cells(np.exp(np.clip(plain, -3, 3))), dimness, _fineness(slopes, gains, noise), x, y, gains, width,
                  None)
    return model._replace(thin=_thinned(model))


def _fineness(slopes: tuple[FloatArray, FloatArray], gains: NoiseGains, noise: float) -> FloatArray:
    fineness = []
    for slope, bend in zip(slopes, (np.diff(slopes[0], axis=1), np.diff(slopes[1], axis=0)), strict=True):
        first, second = (float(np.mean(np.square(plane[::2, ::2]))) for plane in (slope, bend))
        above = second - gains.curvature * noise**2, first - gains.gradient * noise**2
        fineness.append(above[0] / above[1] if min(above) > 0 else 0.0)
    return np.minimum(np.array(fineness, np.float32), LARGEST_FINENESS)


def _signal(tensor: FloatArray, share: FloatArray, excess: np.float32) -> FloatArray:
    """Take off what noise adds; of a window at most nearly all that it has."""
    excess = np.minimum(excess * share, LARGEST_NOISE * weakest(window(tensor, NOISE_WINDOW_PX)))
    signal = tensor.copy()
    signal[..., 0] -= excess
    signal[..., 2] -= excess
    return signal


def _thinned(model: Model) -> Model:
    absorbance, slope_x, slope_y, x, y = (
        np.ascontiguousarray(plane[::2, ::2]) for plane in
        (model.absorbance, model.gradient_x, model.gradient_y, model.sample_x, model.sample_y))
    usable = None if model.usable is None else np.ascontiguousarray(model.usable[::2, ::2])
    tensor = products(slope_x, slope_y)
    return model._replace(absorbance=absorbance, gradient_x=slope_x, gradient_y=slope_y, usable=usable, tensor=tensor,
                          noise_tensor=tensor, fineness=np.zeros(2, np.float32), sample_x=x, sample_y=y)


def gradient(plane: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Slopes along x and y, per px."""
    return (cv2.Scharr(plane, cv2.CV_32F, 1, 0, scale=1 / 32),
            cv2.Scharr(plane, cv2.CV_32F, 0, 1, scale=1 / 32))


def products(x: FloatArray, y: FloatArray) -> FloatArray:
    """Mean tensor of every cell."""
    tensor: FloatArray = cv2.merge([cells(x * x), cells(x * y), cells(y * y)])
    return tensor


def noise_gains(smoothing_px: float, second_px: float) -> NoiseGains:
    """Send one bright pixel through the filters."""
    half = int(np.ceil(6 * (smoothing_px + second_px))) + 2
    point = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    point[half, half] = 1
    if smoothing_px > 0:
        point = cv2.GaussianBlur(point, (0, 0), smoothing_px)
    smooth = cv2.GaussianBlur(point, (0, 0), second_px)
    slope = gradient(point)[0]
    planes = point, slope, gradient(smooth)[0], np.diff(slope, axis=1)
    return NoiseGains(*(float(np.sum(plane**2)) for plane in planes))
