"""Gauss-Newton refinement of a displacement field in shrinking windows, weighed against the noise.

Everything is solved on cells of 4 px from samples taken every 2 px: the images were smoothed by about 1 px, which
correlates the noise over more than a sample, so little is lost and a step costs a quarter.
Vectors are ``(x, y)`` in here, last axis, as cv2 wants them. Symmetric tensors are ``(xx, xy, yy)``.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from streamer.records import BoolArray, FloatArray

SAMPLE_PX = 2
CELL_PX = 4

ROUGH_WINDOW_PX = 24.0
"""Gaussian sigma over which the dense search is averaged before anything else is believed."""
WINDOWS_PX = (16.0, 16.0, 8.0)
"""Windows of the steps that follow."""
LAST_WINDOW_PX = 5.0
OFFSET_WINDOW_PX = 24.0
"""Brightness differences smoother than this (moving illumination, changed contrast) do not count."""
MATCH_WINDOW_PX = 10.0
"""Window in which two candidate fields, and the quality of the match, are compared, at a smoothing of 1 px or less."""
CLEARLY_BETTER = 0.8
"""The unsmoothed search wins where it leaves less than this share of the residual: at the rims of moving blocks."""
LONGEST_STEP_PX = 2.0

LEAST_CORRELATION = 0.5
"""Between reference and matched frame; vanished and new material stays below."""
LEAST_TEXTURE = 2.0
"""Weakest gradient energy of a window, in units of what noise alone would give."""
LARGEST_SIGMA_PX = 0.5
LARGEST_EXCESS = 0.5
"""At most this share of a window's weakest gradient energy is put down to noise."""

# Predicted squared error: noise of the rough window, noise of each finer window as far as it was let in, and a share
# of the last increment for what is finer still. The weights were fitted to simulated truth on particle scenes (1 and
# 4 px fields, no photon noise to 100 photons); the test holds them against other seeds.
ROUGH_NOISE, STEP_NOISE, LAST_MOVE = 1.0, 2.3, 0.4

TINY = np.float32(1e-12)
LEAST_DETERMINANT = np.float32(1e-14)
"""Of a structure tensor: a gradient of 3e-4 per px either way; less is no texture, and float32 must not overflow."""


class NoiseGains(NamedTuple):
    """Variance that white noise of unit variance leaves after the smoothing of an image."""

    image: float
    gradient: float
    """Per component of the gradient."""
    smooth_gradient: float
    """Per component, when smoothed once more."""


class Model(NamedTuple):
    """What the refinement has to know of the reference, at (m, n) samples and (m/2, n/2) cells."""

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
    sample_x: FloatArray
    sample_y: FloatArray
    gains: NoiseGains
    match_window_px: float


class Solution(NamedTuple):
    """A displacement field at the cells of the reference frame."""

    displacement_px: FloatArray
    """(k, l, 2) as (x, y)."""
    variance_px2: FloatArray
    """(k, l) predicted squared error per component."""
    valid: BoolArray


class Step(NamedTuple):
    """A field after one increment."""

    field: FloatArray
    gain: FloatArray
    """(k, l) share of the increment that was taken, 0 to 1."""
    move: FloatArray
    """(k, l, 2) what was added."""


class Residual(NamedTuple):
    """Frame minus reference at some field, summed over cells."""

    slope: FloatArray
    """(k, l, 2) gradient times residual."""
    energy: FloatArray
    """(k, l) squared residual."""


def cell_centres(shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Rows and columns, in px, of the centres of the cells."""
    first = (CELL_PX - SAMPLE_PX) / 2
    rows, columns = (np.arange(length // CELL_PX, dtype=np.float32) * CELL_PX + np.float32(first) for length in shape)
    return rows, columns


def cell_of(position_px: FloatArray) -> FloatArray:
    """Fractional number of the cell at a pixel position."""
    return (position_px - np.float32((CELL_PX - SAMPLE_PX) / 2)) / np.float32(CELL_PX)


def make_model(absorbance: FloatArray, usable: BoolArray | None, *, smoothing_px: float) -> Model:
    """Prepare a reference.

    Parameters
    ----------
    absorbance : (M, N) float32
        Minus the logarithm of the smoothed image.
    usable : (M, N) bool, optional
        Pixels that carry weight; None when all do.
    smoothing_px : float
        Sigma with which the image was smoothed.
    """
    shape = absorbance.shape
    sigma = max(smoothing_px, 0.7)   # the derivative filter itself smooths about this much
    fine = [_samples(plane, shape) for plane in _gradient(absorbance)]
    smooth = [_samples(plane, shape) for plane in _gradient(cv2.GaussianBlur(absorbance, (0, 0), sigma))]
    mask = None if usable is None else _samples(usable.astype(np.float32), shape)
    if mask is not None:
        fine, smooth = [plane * mask for plane in fine], [plane * mask for plane in smooth]
    samples = _samples(absorbance - np.median(absorbance[::4, ::4]), shape)
    y, x = np.indices(samples.shape, dtype=np.float32) * np.float32(SAMPLE_PX)
    share = np.ones_like(samples) if mask is None else mask
    window = MATCH_WINDOW_PX * max(1.0, smoothing_px)   # smoother noise needs a larger window to average out
    weight = _window(_cells(share), window) + TINY
    mean = _window(_cells(samples * share), window) / weight
    variance = _window(_cells(samples * samples * share), window) / weight - mean * mean
    return Model(_samples(absorbance, shape), fine[0], fine[1], mask, _products(*fine), _products(*smooth),
                 np.maximum(variance, 0), x, y, _noise_gains(smoothing_px, sigma), window)


def refine(model: Model, frame: FloatArray, usable: BoolArray | None, start: FloatArray, *,
           drift_px: tuple[float, float], noise: float) -> Solution:
    """Refine a rough field.

    Parameters
    ----------
    model : Model
        Of the reference.
    frame : (M, N) float32
        Absorbance of the frame.
    usable : (M, N) bool, optional
        Pixels of the frame that carry weight.
    start : (k, l, 2) float32
        Rough field (x, y) at the cells, the drift taken out.
    drift_px : (float, float)
        Drift (y, x) of the frame relative to the reference.
    noise : float
        Standard deviation of white noise in the logarithm of an unsmoothed image, at least.
    """
    match = _Match(model, frame, usable, drift_px, noise)
    rough = match.residual(start)
    field = match.average(start, rough, ROUGH_WINDOW_PX)
    gains: dict[float, FloatArray] = {}
    for window in WINDOWS_PX:
        step = match.step(field, match.residual(field), window)
        field = step.field
        gains[window] = 1 - (1 - gains.get(window, np.float32(0))) * (1 - step.gain)
    residual = match.residual(field)
    sharper = _window(rough.energy, model.match_window_px) < CLEARLY_BETTER * _window(residual.energy,
                                                                                      model.match_window_px)
    if sharper.any():
        field = np.where(sharper[..., None], start, field)
        residual = match.residual(field)
    step = match.step(field, residual, LAST_WINDOW_PX)
    gains[LAST_WINDOW_PX] = np.maximum(step.gain, sharper)
    return match.judge(step.field, gains, step.move)


class _Match:
    """One frame against the reference: the shared part of all steps."""

    def __init__(self, model: Model, frame: FloatArray, usable: BoolArray | None, drift_px: tuple[float, float],
                 noise: float) -> None:
        self._model = model
        self._frame = frame
        self._x = model.sample_x + np.float32(drift_px[1])
        self._y = model.sample_y + np.float32(drift_px[0])
        rows, columns = frame.shape
        mask = ((self._x >= 1) & (self._x <= columns - 2) & (self._y >= 1) & (self._y <= rows - 2)).astype(np.float32)
        if model.usable is not None:
            mask *= model.usable
        if usable is not None:
            mask *= cv2.remap(usable.astype(np.float32), self._x, self._y, cv2.INTER_NEAREST,
                              borderMode=cv2.BORDER_CONSTANT)
        self._mask = mask
        self._share = _cells(mask)
        self._tensor = model.tensor * self._share[..., None]
        self._noise_tensor = model.noise_tensor * self._share[..., None]
        self._offset_weight = _window(self._share, OFFSET_WINDOW_PX) + TINY
        self._least_noise = np.float32(2 * noise**2)
        self._tensors: dict[float, tuple[FloatArray, FloatArray]] = {}

    def residual(self, field: FloatArray) -> Residual:
        """Subtract the reference from the frame, read where the field says."""
        size = self._x.shape[1], self._x.shape[0]
        map_x, map_y = cv2.split(cv2.resize(field, size, interpolation=cv2.INTER_LINEAR))
        map_x += self._x
        map_y += self._y
        # linear: cv2's cubic is biased by up to 0.03 px, linear on smoothed images by less than 0.005
        difference = cv2.remap(self._frame, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        difference -= self._model.absorbance
        difference *= self._mask
        offset = _window(_cells(difference), OFFSET_WINDOW_PX) / self._offset_weight
        difference -= cv2.resize(offset, size, interpolation=cv2.INTER_LINEAR)
        difference *= self._mask
        slope = cv2.merge([_cells(self._model.gradient_x * difference), _cells(self._model.gradient_y * difference)])
        return Residual(slope, _cells(difference * difference))

    def average(self, field: FloatArray, residual: Residual, window_px: float) -> FloatArray:
        """Take the one displacement that fits each window best."""
        mean = _solve(_window(self._tensor, window_px), _window(_apply(self._tensor, field), window_px))
        return mean + self._increment(residual, window_px)

    def step(self, field: FloatArray, residual: Residual, window_px: float) -> Step:
        """Add the Gauss-Newton increment as far as its power stands above the noise (Wiener gain)."""
        tensor, noise_tensor = self._windowed(window_px)
        increment = self._increment(residual, window_px)
        noise = self._raw_noise(residual, max(window_px, 8.0)) * _trace_of_ratio(noise_tensor, tensor)
        power = _dot(increment, _apply(tensor, increment))
        gain = 1 - _window(noise, 2 * window_px) / np.maximum(_window(power, 2 * window_px), TINY)
        gain = np.clip(gain, 0, 1, dtype=np.float32)
        increment *= gain[..., None]
        return Step(field + increment, gain, increment)

    def _raw_noise(self, residual: Residual, window_px: float) -> FloatArray:
        """Variance of white noise before smoothing, both frames together, that explains the residual."""
        variance = _window(residual.energy, window_px) / (_window(self._share, window_px) + TINY)
        return np.maximum(variance / np.float32(self._model.gains.image), self._least_noise)

    def _increment(self, residual: Residual, window_px: float) -> FloatArray:
        tensor, _ = self._windowed(window_px)
        increment = _solve(tensor, -_window(residual.slope, window_px))
        length = np.sqrt(_dot(increment, increment))
        increment *= (np.float32(LONGEST_STEP_PX) / np.maximum(length, np.float32(LONGEST_STEP_PX)))[..., None]
        return increment

    def _windowed(self, window_px: float) -> tuple[FloatArray, FloatArray]:
        """Structure tensor in a window, and the tensor that turns white noise into the noise of its right-hand side."""
        if window_px not in self._tensors:
            tensor = _window(self._tensor, window_px)
            # the reference's own noise makes gradients that carry no displacement and would shorten every increment
            excess = _window(self._share, window_px) * np.float32(self._model.gains.gradient * self._least_noise / 2)
            excess = np.minimum(excess, LARGEST_EXCESS * _weakest(tensor))
            tensor[..., 0] -= excess
            tensor[..., 2] -= excess
            # the square of a normalised Gaussian is a narrower one over 4 pi sigma^2
            noise = _window(self._noise_tensor, window_px / np.sqrt(2)) / np.float32(4 * np.pi * window_px**2)
            self._tensors[window_px] = tensor, noise
        return self._tensors[window_px]

    def judge(self, field: FloatArray, gains: dict[float, FloatArray], last_move: FloatArray) -> Solution:
        """Predict the error of a field, and say where it can be trusted."""
        model, window = self._model, self._model.match_window_px
        weight = _window(self._share, window) + TINY
        residual = self.residual(field)
        raw_noise = self._raw_noise(residual, window)
        variance = ROUGH_NOISE * self._noise_variance(ROUGH_WINDOW_PX)
        for window_px, gain in gains.items():
            variance += STEP_NOISE * gain * self._noise_variance(window_px)
        variance *= raw_noise
        variance += LAST_MOVE / 2 * _window(_dot(last_move, last_move) * self._share, window) / weight
        energy = _window(residual.energy, window) / weight
        tensor = _window(self._noise_tensor, window) / weight[..., None]   # texture stands out better when smoother
        gradient_noise = raw_noise * np.float32(model.gains.smooth_gradient / 2)   # of one frame, per component
        x, y = self._target(field)
        rows, columns = self._frame.shape
        valid = ((energy < 2 * (1 - LEAST_CORRELATION) * model.variance)
                 & (_weakest(tensor) > LEAST_TEXTURE * gradient_noise)
                 & (variance < LARGEST_SIGMA_PX**2) & (self._share > 0.5)
                 & (x >= 0) & (x <= columns - 1) & (y >= 0) & (y <= rows - 1))
        return Solution(field, variance, valid)

    def _noise_variance(self, window_px: float) -> FloatArray:
        """Mean variance per component of the solution in a window, for white noise of unit variance."""
        tensor, noise = self._windowed(window_px)
        xx, xy, yy = cv2.split(tensor)
        noise_xx, noise_xy, noise_yy = cv2.split(noise)
        # half the trace of inverse(tensor) @ noise @ inverse(tensor)
        trace: FloatArray = (noise_xx * (yy * yy + xy * xy) - 2 * noise_xy * xy * (xx + yy)
                             + noise_yy * (xx * xx + xy * xy)) / (2 * _determinant(tensor) ** 2)
        return trace

    def _target(self, field: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Where in the frame the centres of the cells are found."""
        return _cells(self._x) + field[..., 0], _cells(self._y) + field[..., 1]


def _samples(plane: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    rows, columns = (length // CELL_PX * (CELL_PX // SAMPLE_PX) for length in shape)
    return np.ascontiguousarray(plane[::SAMPLE_PX, ::SAMPLE_PX][:rows, :columns])


def _cells(samples: FloatArray) -> FloatArray:
    factor = CELL_PX // SAMPLE_PX
    size = samples.shape[1] // factor, samples.shape[0] // factor
    cells: FloatArray = cv2.resize(samples, size, interpolation=cv2.INTER_AREA)
    return cells


def _window(cells: FloatArray, sigma_px: float) -> FloatArray:
    """Gaussian mean over cells; nothing lies outside, so that ratios stay unbiased at the rim."""
    sigma = sigma_px / CELL_PX
    size = 2 * int(np.ceil(2.7 * sigma)) + 1
    mean: FloatArray = cv2.GaussianBlur(cells, (size, size), sigma, borderType=cv2.BORDER_CONSTANT)
    return mean


def _gradient(plane: FloatArray) -> tuple[FloatArray, FloatArray]:
    return (cv2.Scharr(plane, cv2.CV_32F, 1, 0, scale=1 / 32),
            cv2.Scharr(plane, cv2.CV_32F, 0, 1, scale=1 / 32))


def _products(x: FloatArray, y: FloatArray) -> FloatArray:
    tensor: FloatArray = cv2.merge([_cells(x * x), _cells(x * y), _cells(y * y)])
    return tensor


def _noise_gains(smoothing_px: float, second_px: float) -> NoiseGains:
    """Send one bright pixel through the filters."""
    half = int(np.ceil(6 * (smoothing_px + second_px))) + 2
    point = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    point[half, half] = 1
    if smoothing_px > 0:
        point = cv2.GaussianBlur(point, (0, 0), smoothing_px)
    smooth = cv2.GaussianBlur(point, (0, 0), second_px)
    return NoiseGains(*(float(np.sum(plane**2)) for plane in (point, _gradient(point)[0], _gradient(smooth)[0])))


def _weakest(tensor: FloatArray) -> FloatArray:
    """Smaller eigenvalue."""
    half_trace = (tensor[..., 0] + tensor[..., 2]) / 2
    half_difference = (tensor[..., 0] - tensor[..., 2]) / 2
    smaller = half_trace - np.sqrt(half_difference**2 + tensor[..., 1] ** 2)
    return smaller.astype(np.float32, copy=False)


def _determinant(tensor: FloatArray) -> FloatArray:
    return tensor[..., 0] * tensor[..., 2] - tensor[..., 1] ** 2 + LEAST_DETERMINANT


def _solve(tensor: FloatArray, right: FloatArray) -> FloatArray:
    xx, xy, yy = cv2.split(tensor)
    x, y = cv2.split(right)
    scale = 1 / _determinant(tensor)
    solution: FloatArray = cv2.merge([(yy * x - xy * y) * scale, (xx * y - xy * x) * scale])
    return solution


def _apply(tensor: FloatArray, field: FloatArray) -> FloatArray:
    xx, xy, yy = cv2.split(tensor)
    x, y = cv2.split(field)
    product: FloatArray = cv2.merge([xx * x + xy * y, xy * x + yy * y])
    return product


def _dot(first: FloatArray, second: FloatArray) -> FloatArray:
    """Scalar product; numpy's own sum over an axis of two is several times slower."""
    product: FloatArray = first[..., 0] * second[..., 0] + first[..., 1] * second[..., 1]
    return product


def _trace_of_ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """Trace of ``above @ inverse(below)``."""
    trace: FloatArray = (below[..., 2] * above[..., 0] - 2 * below[..., 1] * above[..., 1]
                         + below[..., 0] * above[..., 2]) / _determinant(below)
    return trace
