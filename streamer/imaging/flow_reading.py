"""A frame read where a displacement field says, beside the reference: what is left, and whether that is a match."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np

from streamer.imaging.flow_cells import CELL_PX, TINY, apply, cells, weakest, window
from streamer.imaging.flow_model import Model
from streamer.records import BoolArray, FloatArray

OFFSET_WINDOW_PX = 24.0
"""Brightness differences smoother than this (moving illumination, changed contrast) do not count."""
LEAST_CORRELATION = 0.5
"""Between reference and matched frame; vanished and new material stays below."""
LEAST_TEXTURE = 2.0
"""Weakest gradient energy of a window, in units of what noise alone would give."""
LARGEST_SIGMA_PX = 0.5


class Residual(NamedTuple):
    """Frame minus reference at some field, summed over cells."""

    slope: FloatArray
    """(k, l, 2) gradient times residual."""
    energy: FloatArray
    """(k, l) squared residual."""


class Reading:
    """One frame against the reference: the shared part of all steps.

    Parameters
    ----------
    model : Model
        Of the reference.
    frame : (M, N) float32
        Absorbance of the frame.
    usable : (M, N) bool, optional
        Pixels of the frame that carry weight.
    drift_px : (float, float)
        Drift (y, x) of the frame relative to the reference.
    noise : float
        Standard deviation of white noise in the logarithm of an unsmoothed image, at least.
    about : (k, l, 2) float32, optional
        Field (x, y) that tells, beyond the drift, which material is in view.
    dimness : (k, l) float32, optional
        Of the light of the frame, as in `flow.Prepared`.
    """

    def __init__(self, model: Model, frame: FloatArray, usable: BoolArray | None, *, drift_px: tuple[float, float],
                 noise: float, about: FloatArray | None = None, dimness: FloatArray | None = None) -> None:
        self._dimness = dimness
        self.model = model
        self._frame = frame
        self._drift = np.array(drift_px[::-1], np.float32)
        self._x = model.sample_x + np.float32(drift_px[1])
        self._y = model.sample_y + np.float32(drift_px[0])
        self._size = self._x.shape[1], self._x.shape[0]
        rows, columns = frame.shape
        x, y = (self._x, self._y) if about is None else self._targets(about)
        mask = ((x >= 1) & (x <= columns - 2) & (y >= 1) & (y <= rows - 2)).astype(np.float32)
        if model.usable is not None:
            mask *= model.usable
        if usable is not None:
            mask *= cv2.remap(usable.astype(np.float32), x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
        self._mask = mask
        self.share = cells(mask)
        self.tensor = model.tensor * self.share[..., None]
        self._offset_weight = window(self.share, OFFSET_WINDOW_PX) + TINY
        self.least_noise = np.float32(2 * noise**2)

    @cached_property
    def noise_tensor(self) -> FloatArray:
        """(k, l, 3) what weighs the noise, where material is in view."""
        return self.model.noise_tensor * self.share[..., None]

    @cached_property
    def photon_noise(self) -> FloatArray:
        """(k, l) variance of the photon noise of both frames together, relative to that of a typical cell."""
        if self._dimness is None or self.model.dimness is None:
            return self.model.darkness
        across, down = (float(way) / CELL_PX for way in self._drift)
        rows, columns = self._dimness.shape
        here = cv2.warpAffine(self._dimness, np.array([[1, 0, across], [0, 1, down]]), (columns, rows),
                              flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(self.model.darkness * (self.model.dimness + here) * np.float32(0.5))

    def residual(self, field: FloatArray) -> Residual:
        """Subtract the reference from the frame, read where the field says."""
        # linear: cv2's cubic is biased by up to 0.03 px, linear on smoothed images by less than 0.005
        difference = cv2.remap(self._frame, *self._targets(field), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        difference -= self.model.absorbance
        difference *= self._mask
        offset = window(cells(difference), OFFSET_WINDOW_PX) / self._offset_weight
        difference -= cv2.resize(offset, self._size, interpolation=cv2.INTER_LINEAR)
        difference *= self._mask
        slope = cv2.merge([cells(self.model.gradient_x * difference), cells(self.model.gradient_y * difference)])
        if self.model.fineness.any():
            slope += apply(self.tensor, self._ahead(field))
        return Residual(slope, cells(difference * difference))

    def _ahead(self, field: FloatArray) -> FloatArray:
        """How far, in px, a picture that is interpolated linearly seems displaced too much, to third order."""
        place = field + self._drift
        part = place - np.floor(place)
        ahead: FloatArray = part * (1 - part) * (1 - 2 * part) * (self.model.fineness / 6)
        return ahead

    def raw_noise(self, energy: FloatArray, window_px: float) -> FloatArray:
        """Variance of white noise before smoothing, both frames together, that explains the residual."""
        variance = window(energy, window_px) / (window(self.share, window_px) + TINY)
        return np.maximum(variance / np.float32(self.model.gains.image), self.least_noise)

    def trusted(self, field: FloatArray, energy: FloatArray, variance: FloatArray, *,
                largest_px: float = LARGEST_SIGMA_PX) -> BoolArray:
        """Say where a field with this residual and predicted squared error is in view, on texture, and a match."""
        width = self.model.match_window_px
        weight = window(self.share, width) + TINY
        tensor = window(self.noise_tensor, width) / weight[..., None]   # texture stands out better when smoother
        gradient_noise = self.raw_noise(energy, width) * np.float32(self.model.gains.smooth_gradient / 2)
        x, y = cells(self._x) + field[..., 0], cells(self._y) + field[..., 1]
        rows, columns = self._frame.shape
        trusted: BoolArray = (
            (window(energy, width) / weight < 2 * (1 - LEAST_CORRELATION) * self.model.variance)
            & (weakest(tensor) > LEAST_TEXTURE * gradient_noise)   # of one frame, per component
            & (variance < largest_px**2) & (self.share > 0.5)
            & (x >= 0) & (x <= columns - 1) & (y >= 0) & (y <= rows - 1))
        return trusted

    def _targets(self, field: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Where in the frame the samples are found."""
        x, y = cv2.split(cv2.resize(field, self._size, interpolation=cv2.INTER_LINEAR))
        x += self._x
        y += self._y
        return x, y
