"""Gauss-Newton refinement of a displacement field in shrinking windows, weighed against the noise.

Vectors and tensors are as in `flow_cells`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np

from streamer.imaging.flow_cells import (
    TINY,
    apply,
    determinant,
    dot,
    solve,
    trace_of_ratio,
    weakest,
    window,
)
from streamer.imaging.flow_model import Model
from streamer.imaging.flow_reading import Reading, Residual
from streamer.records import BoolArray, FloatArray

ROUGH_WINDOW_PX = 24.0
"""Gaussian sigma over which the dense search is averaged before anything else is believed."""
WINDOWS_PX = (16.0, 16.0, 8.0)
"""Windows of the steps that follow."""
LAST_WINDOW_PX = 5.0
CLEARLY_BETTER = 0.8
"""The unsmoothed search wins where it leaves less than this share of the residual: at the rims of moving blocks."""
LONGEST_STEP_PX = 2.0

LARGEST_EXCESS = 0.5
"""At most this share of a window's weakest gradient energy is put down to noise."""

# Predicted squared error: noise of the rough window, noise of each finer window as far as it was let in, and a share
# of the last increment for what is finer still. The weights were fitted to simulated truth on particle scenes (1 and
# 4 px fields, no photon noise to 100 photons); the test holds them against other seeds.
ROUGH_NOISE, STEP_NOISE, LAST_MOVE = 1.1, 2.6, 0.45

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
    match = _Match(model, frame, usable, drift_px=drift_px, noise=noise)
    rough = match.residual(start)
    field = match.average(start, rough, ROUGH_WINDOW_PX)
    gains: dict[float, FloatArray] = {}
    for width in WINDOWS_PX:
        step = match.step(field, match.residual(field), width)
        field = step.field
        gains[width] = 1 - (1 - gains.get(width, np.float32(0))) * (1 - step.gain)
    residual = match.residual(field)
    width = model.match_window_px
    sharper = window(rough.energy, width) < CLEARLY_BETTER * window(residual.energy, width)
    if sharper.any():
        field = np.where(sharper[..., None], start, field)
        residual = match.residual(field)
    step = match.step(field, residual, LAST_WINDOW_PX)
    gains[LAST_WINDOW_PX] = np.maximum(step.gain, sharper)
    return match.judge(step.field, gains, step.move)


def judge(model: Model, frame: FloatArray, usable: BoolArray | None, field: FloatArray, *,
          drift_px: tuple[float, float], noise: float) -> Solution:
    """Judge a field of other origin; arguments as for `refine`."""
    everything = dict.fromkeys((*WINDOWS_PX, LAST_WINDOW_PX), np.float32(1))
    return _Match(model, frame, usable, drift_px=drift_px, noise=noise).judge(field, everything, np.zeros_like(field))


class _Match(Reading):
    """One frame against the reference, with the tensors of every window kept."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._tensors: dict[float, tuple[FloatArray, FloatArray]] = {}

    def average(self, field: FloatArray, residual: Residual, window_px: float) -> FloatArray:
        """Take the one displacement that fits each window best."""
        mean = solve(window(self.tensor, window_px), window(apply(self.tensor, field), window_px))
        return mean + self._increment(residual, window_px)

    def step(self, field: FloatArray, residual: Residual, window_px: float) -> Step:
        """Add the Gauss-Newton increment as far as its power stands above the noise (Wiener gain)."""
        tensor, noise_tensor = self._windowed(window_px)
        increment = self._increment(residual, window_px)
        noise = self.raw_noise(residual.energy, max(window_px, 8.0)) * trace_of_ratio(noise_tensor, tensor)
        power = dot(increment, apply(tensor, increment))
        gain = 1 - window(noise, 2 * window_px) / np.maximum(window(power, 2 * window_px), TINY)
        gain = np.clip(gain, 0, 1, dtype=np.float32)
        increment *= gain[..., None]
        return Step(field + increment, gain, increment)

    def _increment(self, residual: Residual, window_px: float) -> FloatArray:
        tensor, _ = self._windowed(window_px)
        increment = solve(tensor, -window(residual.slope, window_px))
        length = np.sqrt(dot(increment, increment))
        increment *= (np.float32(LONGEST_STEP_PX) / np.maximum(length, np.float32(LONGEST_STEP_PX)))[..., None]
        return increment

    def _windowed(self, window_px: float) -> tuple[FloatArray, FloatArray]:
        """Structure tensor in a window, and the tensor that turns white noise into the noise of its right-hand side."""
        if window_px not in self._tensors:
            tensor = window(self.tensor, window_px)
            # the reference's own noise makes gradients that carry no displacement and would shorten every increment
            excess = window(self.share, window_px) * np.float32(self.model.gains.gradient * self.least_noise / 2)
            excess = np.minimum(excess, LARGEST_EXCESS * weakest(tensor))
            tensor[..., 0] -= excess
            tensor[..., 2] -= excess
            # the square of a normalised Gaussian is a narrower one over 4 pi sigma^2
            noise = window(self.noise_tensor, window_px / np.sqrt(2)) / np.float32(4 * np.pi * window_px**2)
            self._tensors[window_px] = tensor, noise
        return self._tensors[window_px]

    def judge(self, field: FloatArray, gains: Mapping[float, FloatArray | np.float32],
              last_move: FloatArray) -> Solution:
        """Predict the error of a field, and say where it can be trusted."""
        width = self.model.match_window_px
        weight = window(self.share, width) + TINY
        residual = self.residual(field)
        raw_noise = self.raw_noise(residual.energy, width)
        variance = ROUGH_NOISE * self._noise_variance(ROUGH_WINDOW_PX)
        for window_px, gain in gains.items():
            variance += STEP_NOISE * gain * self._noise_variance(window_px)
        variance *= raw_noise
        variance += LAST_MOVE / 2 * window(dot(last_move, last_move) * self.share, width) / weight
        return Solution(field, variance, self.trusted(field, residual.energy, variance))

    def _noise_variance(self, window_px: float) -> FloatArray:
        """Mean variance per component of the solution in a window, for white noise of unit variance."""
        tensor, noise = self._windowed(window_px)
        xx, xy, yy = cv2.split(tensor)
        noise_xx, noise_xy, noise_yy = cv2.split(noise)
        # half the trace of inverse(tensor) @ noise @ inverse(tensor)
        trace: FloatArray = (noise_xx * (yy * yy + xy * xy) - 2 * noise_xy * xy * (xx + yy)
                             + noise_yy * (xx * xx + xy * xy)) / (2 * determinant(tensor) ** 2)
        return trace
