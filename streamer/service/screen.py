"""Frames as a screen can show them: binned, in sixteen or eight bits."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.records import AnyArray, FloatArray

LARGEST_IMAGE_SIDE = 1024
"""Pictures for the screen are binned down to this; what is measured never is."""
_LEVELS = 0.1, 99.9
"""Percentiles of the picture that are told apart, and a margin beyond them."""
_MARGIN = 0.05
_SAMPLE = 1 << 15
"""Pixels that the levels are found from."""


def picture(image: FloatArray) -> tuple[dict[str, Any], AnyArray]:
    """Pack a frame for the screen: binned to at most 1024 px a side, 16 bit.

    Returns
    -------
    fields : dict
        ``binning`` (1 or n: a pixel stands for n x n), ``offset`` and ``scale`` (value = offset + scale * pixel).
    image : (M // n, N // n) uint16 array
    """
    binning = -(-max(image.shape) // LARGEST_IMAGE_SIDE)
    image = binned(image, binning)
    low, high = float(image.min()), float(image.max())
    scale = (high - low) / 65535 or 1.0
    fields = {"binning": binning, "offset": low, "scale": scale}
    return fields, ((image - low) * np.float32(1 / scale)).astype(np.uint16)


def uncorrected(pixels: AnyArray) -> tuple[dict[str, float], AnyArray]:
    """Pack a frame as it came for the screen, binned like `picture`.

    Parameters
    ----------
    pixels : (M, N) array
        In detector units.

    Returns
    -------
    fields : dict
        ``raw_offset`` and ``raw_scale`` (value = raw_offset + raw_scale * pixel).
    raw : (M // n, N // n) uint8 or uint16 array
    """
    if pixels.dtype in (np.uint8, np.uint16):   # as it is: nothing is lost, and it costs nothing
        return {"raw_offset": 0.0, "raw_scale": 1.0}, binned(pixels, -(-max(pixels.shape) // LARGEST_IMAGE_SIDE))
    fields, raw = picture(np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0))
    return {"raw_offset": fields["offset"], "raw_scale": fields["scale"]}, raw


def binned(image: AnyArray, binning: int) -> AnyArray:
    """Average squares of `binning` x `binning` px, (M // binning, N // binning); what is left over is cut off."""
    if binning <= 1:
        return image
    rows, columns = (max(1, side // binning) for side in image.shape)
    small: AnyArray = cv2.resize(image[:rows * binning, :columns * binning], (columns, rows),
                                   interpolation=cv2.INTER_AREA)
    return small


def eight_bit(image: AnyArray) -> tuple[NDArray[np.uint8], float, float]:
    """Code an image in eight bits, between levels that single bright or dark pixels do not move.

    Parameters
    ----------
    image : (M, N) float32, uint16 or uint8 array

    Returns
    -------
    pixels : (M, N) uint8 array
        0 where the image is not finite.
    offset, scale : float
        value = offset + scale * pixel, for values between the levels; those beyond are cut off.
    """
    step = max(1, math.isqrt(image.size // _SAMPLE))
    sample = image[::step, ::step]
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return np.zeros(image.shape, np.uint8), 0.0, 1.0
    low, high = (float(level) for level in np.percentile(sample, _LEVELS))
    margin = _MARGIN * (high - low)
    offset, scale = low - margin, (high - low + 2 * margin) / 255 or 1.0
    if image.dtype.kind == "f":   # what follows takes the absolute value, and knows no numbers beyond 2^31
        image = np.clip(image, np.float32(offset), np.float32(offset + 255 * scale))
    else:
        image = np.maximum(image, image.dtype.type(max(0, math.ceil(offset))))
    pixels: NDArray[np.uint8] = cv2.convertScaleAbs(image, alpha=1 / scale, beta=-offset / scale)
    return pixels, offset, scale
