"""What one frame says about every cell, in a form that can be averaged over frames, and the field that follows.

Where the reference has the structure tensor T, a frame that is read at a predicted field p leaves a residual whose
slope is ``s = T (p - u) + noise``. So ``T p - s = T u + noise``, whatever p was, as long as p is within about a pixel:
evidence of different frames can be averaged cell by cell, before anything is smoothed in space. Windows and the
weighing against noise come afterwards and see the noise of the average (inverse-compositional Gauss-Newton, Baker &
Matthews, doi:10.1023/B:VISI.0000011205.11775.fd; a Wiener filter for every window).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from streamer.imaging.flow_cells import (
    LEAST_DETERMINANT,
    TINY,
    apply,
    cell_of,
    dot,
    solve,
    trace_of_ratio,
    window,
)
from streamer.imaging.flow_model import Model
from streamer.imaging.flow_reading import Reading, Residual
from streamer.records import BoolArray, FloatArray

ROUGH_WINDOW_PX = 24.0
WINDOWS_PX = (24.0, 12.0, 6.0)
NOISE_WINDOW_PX = 8.0
RELIABLE_WINDOW_PX = 5.0
LARGEST_ENERGY = 20.0
"""Residual, in units of what photon noise leaves, at which a cell counts half: overlaps, rims, new material."""
FREE_WINDOW_PX = 12.0
LONGEST_PX = 1.5
FAR_PX = 0.4
"""A rigid shift longer than this is looked for again from where it led."""

# Predicted squared error: noise of the rough window, noise of each finer window as far as it was let in, and the
# displacement that the residual beyond photon noise would be the slope of. The weights make the median error of
# simulated sequences (seeds 301 and 302; 100, 500 and 2000 photons) what is predicted.
ROUGH_NOISE, STEP_NOISE, MISMATCH = 2.2, 2.7, 5.0


class Evidence(NamedTuple):
    """What one frame says, at the cells of the reference."""

    vector: FloatArray
    """(k, l, 2) signal tensor times displacement, the rigid part left out."""
    rigid_px: FloatArray
    """(2,) (x, y): motion of everything, beyond the drift."""
    noise: FloatArray
    """(k, l) variance of white noise, before smoothing, that explains the residual."""
    energy: FloatArray
    """(k, l) squared residual that no motion of a window explains."""
    residual: Residual
    at: FloatArray
    """(k, l, 2) where the frame was read, the rigid part included."""
    reading: Reading


class Estimate(NamedTuple):
    """A field from averaged evidence."""

    field: FloatArray
    """(k, l, 2) as (x, y)."""
    variance: FloatArray
    """(k, l) predicted squared error per component."""


def observe(model: Model, frame: FloatArray, usable: BoolArray | None, predicted: FloatArray, *,
            drift_px: tuple[float, float], rigid_px: FloatArray, noise: float,
            dimness: FloatArray | None = None) -> Evidence:
    """Read a frame at a predicted field.

    Parameters
    ----------
    model : Model
        Of the reference.
    frame, usable : (M, N) float32, (M, N) bool or None
        Absorbance of the frame; pixels that carry weight.
    predicted : (k, l, 2) float32
        Field (x, y) without the rigid part.
    drift_px : (float, float)
        Drift (y, x) of the frame relative to the reference.
    rigid_px : (2,) float32
        Expected motion (x, y) of everything beyond the drift.
    noise : float
        Standard deviation of white noise in the logarithm of the unsmoothed frame, at least.
    dimness : (k, l) float32, optional
        Of the light of the frame, as in `flow.Prepared`.
    """
    thin = model.thin or model
    for _ in range(3):
        coarse = Reading(thin, frame, usable, drift_px=drift_px, noise=noise, about=(at := predicted + rigid_px))
        step = _rigid(coarse, coarse.residual(at))
        rigid_px = rigid_px + step
        if np.hypot(*step) < FAR_PX:
            break
    at = predicted + rigid_px
    reading = Reading(model, frame, usable, drift_px=drift_px, noise=noise, about=at, dimness=dimness)
    residual = reading.residual(at)
    step = _rigid(reading, residual)
    signal = model.signal_tensor * reading.share[..., None]
    vector = apply(signal, predicted - step) - residual.slope
    free = solve(window(reading.tensor, FREE_WINDOW_PX), -window(residual.slope, FREE_WINDOW_PX))
    energy = _energy_after(reading, residual, free)
    return Evidence(vector, rigid_px + step, reading.raw_noise(energy, NOISE_WINDOW_PX), energy, residual, at, reading)


def estimate(reading: Reading, vector: FloatArray, *, noise: FloatArray, energy: FloatArray,
             around: FloatArray) -> Estimate:
    """Find the field that averaged evidence speaks for, finer windows as far as they stand above the noise.

    Parameters
    ----------
    reading : Reading
        Of the newest frame: which cells are in view.
    vector : (k, l, 2) float32
        Averaged evidence.
    noise : (k, l) float32
        Variance of the white noise that is left in it.
    energy : (k, l) float32
        Residual that frames leave at the field; cells where it is large count little.
    around : (k, l, 2) float32
        A field from which it is not far.
    """
    reliable = _reliability(reading, energy)
    tensor, signal = reading.tensor * reliable[..., None], reading.model.signal_tensor * reading.share[..., None]
    noise_tensor = reading.noise_tensor * np.square(reliable)[..., None]
    rough = window(tensor, ROUGH_WINDOW_PX)
    field = solve(rough, window(apply(tensor, around), ROUGH_WINDOW_PX))
    variance = ROUGH_NOISE * _noise_variance(cv2.split(rough), cv2.split(_noise_of(noise_tensor, ROUGH_WINDOW_PX)))
    for width in WINDOWS_PX:
        windowed = rough if width == ROUGH_WINDOW_PX else window(tensor, width)
        right = window((vector - apply(signal, field)) * reliable[..., None], width)
        move, let_in = _wiener(windowed, right, _noise_of(noise_tensor, width), noise, width)
        field = field + move
        variance += STEP_NOISE * let_in
    return Estimate(field, variance * noise + MISMATCH * _mismatch(reading, energy))


def _wiener(tensor: FloatArray, right: FloatArray, noise_tensor: FloatArray, noise: FloatArray, window_px: float
            ) -> tuple[FloatArray, FloatArray]:
    """Solve for a move as far as it stands above the noise; also give the variance it lets in per unit of noise.

    The prior is as wide as what stands above the noise nearby: a Wiener gain that sees the aperture of every window.
    """
    planes, noise_planes = cv2.split(tensor), cv2.split(noise_tensor)
    xx, xy, yy = planes
    x, y = cv2.split(right)
    noise_xx, noise_xy, noise_yy = noise_planes
    scale = 1 / (xx * yy - xy * xy + LEAST_DETERMINANT)
    power = window((yy * x * x - 2 * xy * x * y + xx * y * y) * scale, 2 * window_px)
    expected = window(noise * (yy * noise_xx - 2 * xy * noise_xy + xx * noise_yy) * scale, 2 * window_px)
    texture = (xx + yy) / 2
    prior = expected * texture / np.maximum(power - expected, TINY)
    stiff_x, stiff_y = xx + prior, yy + prior
    scale = 1 / (stiff_x * stiff_y - xy * xy + LEAST_DETERMINANT)
    move: FloatArray = cv2.merge([(stiff_y * x - xy * y) * scale, (stiff_x * y - xy * x) * scale])
    return move, texture / (texture + prior + TINY) * _noise_variance(planes, noise_planes)


def expected_energy(evidence: Evidence, field: FloatArray) -> FloatArray:
    """Residual energy (k, l) that a field (k, l, 2) near the place of reading would leave, to second order."""
    return _energy_after(evidence.reading, evidence.residual, field - evidence.at)


def surprise(evidence: Evidence, innovation: FloatArray, window_px: float) -> FloatArray:
    """Power of an innovation (k, l, 2) in units of what noise gives."""
    tensor = window(evidence.reading.tensor, window_px)
    right = window(innovation, window_px)
    power = window(dot(solve(tensor, right), right), window_px)
    noise = _noise_of(evidence.reading.noise_tensor, window_px)
    return np.asarray(power / (window(evidence.noise * trace_of_ratio(noise, tensor), window_px) + TINY))


def compensate(frame: FloatArray, field: FloatArray, *, drift_px: tuple[float, float]) -> FloatArray:
    """Put the material of a frame (M, N) back where it is in the reference; `field` (k, l, 2) is the whole motion."""
    y, x = np.indices(frame.shape, dtype=np.float32)
    columns, rows = (cell_of(np.arange(length, dtype=np.float32)) for length in frame.shape[::-1])
    moved_x, moved_y = cv2.split(cv2.remap(field, *np.meshgrid(columns, rows), cv2.INTER_LINEAR,
                                           borderMode=cv2.BORDER_REPLICATE))
    x += moved_x + np.float32(drift_px[1])
    y += moved_y + np.float32(drift_px[0])
    result: FloatArray = cv2.remap(frame, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=np.nan)
    return result


def _energy_after(reading: Reading, residual: Residual, move: FloatArray) -> FloatArray:
    energy = residual.energy + 2 * dot(move, residual.slope) + dot(move, apply(reading.tensor, move))
    return np.asarray(np.maximum(energy, np.float32(0.2) * residual.energy))


def _rigid(reading: Reading, residual: Residual) -> FloatArray:
    """Gauss-Newton step (x, y) of the whole frame; cells that do not match count little."""
    typical = float(np.median(residual.energy[::2, ::2])) + float(TINY)
    weight = reading.share / (1 + residual.energy / np.float32(4 * typical))
    xx, xy, yy = cv2.sumElems(reading.tensor * weight[..., None])[:3]
    x, y = cv2.sumElems(residual.slope * weight[..., None])[:2]
    scale = xx * yy - xy * xy
    if not scale > 0:
        return np.zeros(2, np.float32)
    step = np.array([xy * y - yy * x, xy * x - xx * y]) / scale
    return np.asarray(step / max(1.0, float(np.hypot(*step)) / LONGEST_PX), np.float32)


def _reliability(reading: Reading, energy: FloatArray) -> FloatArray:
    """Weigh cells by how far their residual (k, l) is beyond what photon noise leaves: 1 where it is not."""
    ratio = window(energy, RELIABLE_WINDOW_PX) / (_photon_energy(reading, RELIABLE_WINDOW_PX) + TINY)
    return np.asarray(1 / (1 + np.square(ratio / np.float32(LARGEST_ENERGY))), np.float32)


def _mismatch(reading: Reading, energy: FloatArray) -> FloatArray:
    """Squared displacement per component that would leave as much residual as there is beyond photon noise."""
    width = reading.model.match_window_px
    excess = np.maximum(window(energy, width) - _photon_energy(reading, width), 0)
    xx, _, yy = cv2.split(window(reading.tensor, width))
    return np.asarray(excess / (xx + yy + TINY))


def _photon_energy(reading: Reading, window_px: float) -> FloatArray:
    scale = reading.least_noise * np.float32(reading.model.gains.image)
    return window(reading.photon_noise * reading.share, window_px) * scale


def _noise_of(noise_tensor: FloatArray, window_px: float) -> FloatArray:
    # the square of a normalised Gaussian is a narrower one over 4 pi sigma^2
    noise: FloatArray = window(noise_tensor, window_px / np.sqrt(2)) / np.float32(4 * np.pi * window_px**2)
    return noise


def _noise_variance(tensor: Sequence[FloatArray], noise: Sequence[FloatArray]) -> FloatArray:
    """Mean variance per component of a solution, for white noise of unit variance; tensors as planes."""
    xx, xy, yy = tensor
    noise_xx, noise_xy, noise_yy = noise
    squared = xy * xy
    trace: FloatArray = (noise_xx * (yy * yy + squared) - 2 * noise_xy * xy * (xx + yy)
                         + noise_yy * (xx * xx + squared)) / (2 * np.square(xx * yy - squared + LEAST_DETERMINANT))
    return trace
