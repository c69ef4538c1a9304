"""What a user would pick instead: textbook measures of sharpness, each made comparable from frame to frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
import scipy.fft
import skimage.measure
from numpy.typing import NDArray

from streamer.records import FloatArray

_MEMORY = 15   # frames that a running median looks back on
_START = 6     # the first so many frames are compared with each other


def _laplacian(image: FloatArray) -> float:
    return float(cv2.Laplacian(image, cv2.CV_32F).var())


def _tenengrad(image: FloatArray) -> float:
    down, right = (cv2.Sobel(image, cv2.CV_32F, dx, 1 - dx, ksize=3) for dx in (0, 1))
    return float(np.mean(down * down + right * right))


def _smooth(image: FloatArray, sigma_px: float) -> FloatArray:
    smooth: FloatArray = cv2.GaussianBlur(image, (0, 0), sigma_px)
    return smooth


def _brenner(image: FloatArray) -> float:
    return float(np.mean(np.square(image[:, 2:] - image[:, :-2])))


def _sharpness_by_blur_effect(image: FloatArray) -> float:
    return 1.0 / max(float(skimage.measure.blur_effect(image)), 1e-6)   # more is blurred


def _power(image: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Power spectrum in a Hann window, with its frequencies, of a frame cropped to a fast size."""
    rows, columns = 648, 672
    if image.shape != (654, 678):
        rows, columns = (2 * (size // 2) for size in image.shape)
    window = np.hanning(rows).astype(np.float32)[:, None] * np.hanning(columns).astype(np.float32)
    spectrum = scipy.fft.rfft2((image[:rows, :columns] - image.mean()) * window)
    power: FloatArray = spectrum.real**2 + spectrum.imag**2
    return power, scipy.fft.fftfreq(rows).astype(np.float32)[:, None], scipy.fft.rfftfreq(columns).astype(np.float32)


def _cut_ratio(image: FloatArray) -> float:
    """Power along x over that along y, of Sun et al. (2025), from 0.05 to 0.25 cycles/px about either axis."""
    power, fy, fx = _power(image)
    fx = np.broadcast_to(fx, power.shape)
    fy = np.broadcast_to(np.abs(fy), power.shape)
    horizontal = power[(fx > 0.05) & (fx < 0.25) & (fy < 0.01)].sum()
    vertical = power[(fy > 0.05) & (fy < 0.25) & (fx < 0.01)].sum()
    return float(horizontal / vertical)


def _band_ratio(image: FloatArray, low: float, high: float) -> float:
    """Power of fine structure over that of coarse structure, both without the noise."""
    power, fy, fx = _power(image)
    frequency = np.hypot(fy, fx)
    floor = float(np.median(power[frequency > 0.5])) / np.log(2.0)
    fine = float(power[(frequency > low) & (frequency < high)].mean()) - floor
    coarse = float(power[(frequency > 0.015) & (frequency < 0.05)].mean()) - floor
    return max(fine / max(coarse, 1e-12), 1e-6)


PEERS: Mapping[str, Callable[[FloatArray], float]] = {
    "Laplacian variance": _laplacian,
    "Laplacian variance after Gauss 1.5": lambda image: _laplacian(_smooth(image, 1.5)),
    "Tenengrad": _tenengrad,
    "Tenengrad after Gauss 2": lambda image: _tenengrad(_smooth(image, 2.0)),
    "Brenner": _brenner,
    "skimage blur_effect": _sharpness_by_blur_effect,
    "H/V spectral ratio": _cut_ratio,
    "band ratio 0.06-0.12": lambda image: _band_ratio(image, 0.06, 0.12),
    "band ratio 0.10-0.20": lambda image: _band_ratio(image, 0.10, 0.20),
}
"""Larger is sharper."""


def measure_peers(image: FloatArray) -> tuple[dict[str, float], dict[str, float]]:
    """Apply all peers to a corrected frame; return logarithms of their values, and milliseconds."""
    relative = np.asarray(image / image.mean(), np.float32)
    values, elapsed_ms = {}, {}
    for name, peer in PEERS.items():
        started = time.perf_counter()
        values[name] = float(np.log(max(peer(relative), 1e-12)))
        elapsed_ms[name] = 1e3 * (time.perf_counter() - started)
    return values, elapsed_ms


def against_neighbours(values: Sequence[float]) -> dict[str, NDArray[np.float64]]:
    """Turn the values of a stream into scores of blur: how far each is below the last ones.

    Returns
    -------
    dict of str to (n,) array
        As a plain difference to the running median, in units of the running median deviation, and the same
        whatever the sign, for ratios that blur may change either way.
    """
    series = np.asarray(values, float)
    difference, spread = np.zeros(series.size), np.ones(series.size)
    for number in range(series.size):
        others = series[max(number - _MEMORY, 0):number] if number >= _START else np.delete(
            series[:_START], number)
        middle = np.median(others)
        difference[number] = middle - series[number]
        spread[number] = max(float(np.median(np.abs(others - middle))), 1e-6)
    deviation = difference / spread
    return {"difference": difference, "deviation": deviation, "either way": np.abs(difference),
            "deviation either way": np.abs(deviation)}
