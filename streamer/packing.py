"""Power spectra in compact form: two bytes a value, one byte a cell of a picture, both logarithmic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.records import FloatArray

LOWEST = -14.0
HIGHEST = 6.0
"""Limits of log10(power); 0.04 % lie between one step and the next half."""

_STEPS = 65534


def pack_power(power: FloatArray) -> bytes:
    """Write powers as little-endian uint16; 0 stands for 0 and less, others are good to 0.04 %."""
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = (np.log10(power) - LOWEST) * (_STEPS / (HIGHEST - LOWEST))
    codes = np.where(power > 0, 1.0 + np.clip(np.rint(steps), 0, _STEPS), 0.0)
    return codes.astype("<u2").tobytes()


def unpack_power(data: bytes) -> FloatArray:
    """Read what `pack_power` wrote, (n,) float32."""
    codes = np.frombuffer(data, "<u2").astype(np.float64)
    power = 10.0 ** (LOWEST + (codes - 1.0) * ((HIGHEST - LOWEST) / _STEPS))
    return np.where(codes > 0, power, 0.0).astype(np.float32)


def grey_levels(power: FloatArray) -> tuple[NDArray[np.uint8], float, float]:
    """Turn powers into grey levels.

    Parameters
    ----------
    power : (K, L) float32 array

    Returns
    -------
    levels : (K, L) uint8 array
        ``log10(power) = low + (high - low) * levels / 255``; 0 where there is no power.
    low, high : float
    """
    positive = power > 0
    if not positive.any():
        return np.zeros(power.shape, np.uint8), 0.0, 0.0
    decades = np.log10(power, out=np.full(power.shape, np.nan, np.float32), where=positive)
    low, high = float(np.nanmin(decades)), float(np.nanmax(decades))
    levels = np.where(positive, (decades - low) * (255 / ((high - low) or 1.0)), 0.0)
    return np.rint(levels).astype(np.uint8), low, high
