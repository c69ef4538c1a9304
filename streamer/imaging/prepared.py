"""A frame in the form in which frames are compared.

The square root of the intensity is taken, whose photon noise is the same everywhere, in units of the mean of
the frame, so that exposure and beam current do not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.errors import FrameError
from streamer.imaging import acquisition
from streamer.imaging.arrays import Same
from streamer.records import BoolArray, FloatArray

SMALLEST_SIDE_PX = 64
"""Below this a frame has too few tiles."""
FULL_SIDE_PX = 1200
"""Frames with a longer short side are measured on a binned copy: the error stays below 0.01 px."""
SPARSE = 3
"""Every so many pixels on either axis give the mean: it is only a unit."""
USABLE_SHARE = 0.05
"""Pixels with less light than this share of the bright level are not used."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A frame that is ready to be compared."""

    contrast: FloatArray
    """(M, N) float32 about 0, at the working resolution."""
    usable: BoolArray | None
    """(M, N) at the working resolution; None = all."""
    coarse: acquisition.Coarse
    shape: tuple[int, int]
    """Of the frame as it came."""
    weighted: bool
    """The light on each pixel is known: the frame is corrected with flats."""
    flats: int = 0
    """Exposures in the flat that the frame was divided by; 0 = none, or not known."""
    mean: float = 0.0
    """Mean of the frame: with flats its transmission."""


def prepare_frame(image: NDArray[Any], *, weight: FloatArray | None = None, flats: int = 0) -> Prepared:
    """Bring a frame into the form in which frames are compared; parameters and errors as `prepare_reference`."""
    if image.ndim != 2 or min(image.shape) < SMALLEST_SIDE_PX:
        raise FrameError(f"frame has shape {image.shape}; expected two dimensions of at least {SMALLEST_SIDE_PX} px")
    if image.dtype.kind not in "buif":
        raise FrameError(f"frame has type {image.dtype}; expected real numbers")
    if weight is not None and weight.shape != image.shape:
        raise FrameError(f"weight has shape {weight.shape}, its frame {image.shape}; they must be equal")
    binning = working_binning((image.shape[0], image.shape[1]))
    values = area_binned(image.astype(np.float32, copy=False), binning)
    if not math.isfinite(cv2.sumElems(values)[0]):
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    light = _Light() if weight is None else _light(Same(weight), binning)
    contrast, mean = _contrast(values, light)
    shape = (image.shape[0], image.shape[1])
    return Prepared(contrast, light.usable, acquisition.coarsen(contrast, light.trust), shape, weight is not None,
                    flats, mean)


class _Light(NamedTuple):
    """What a weight tells."""

    usable: BoolArray | None = None
    """Pixels that have light enough; None = all."""
    dark: NDArray[np.intp] | None = None
    """Flat indices of the others."""
    trust: FloatArray | None = None
    """In the pixels of the coarse frame; None = even."""


@lru_cache(maxsize=4)   # the weight stays the same array until the next flat
def _light(weight: Same, binning: int) -> _Light:
    light = area_binned(weight.array.astype(np.float32, copy=False), binning)
    bright = float(np.percentile(light[::8, ::8], 90))
    if not bright > 0.0:
        return _Light()
    trust = np.sqrt(np.clip(acquisition.binned(light) / bright, 0.0, 1.0))
    usable = light >= USABLE_SHARE * bright
    return _Light(trust=trust) if usable.all() else _Light(usable, np.flatnonzero(~usable), trust)


def _contrast(values: FloatArray, light: _Light) -> tuple[FloatArray, float]:
    """Square root of the intensity in units of its mean, less one: its photon noise is the same everywhere."""
    some = slice(None, None, SPARSE)
    lit = values[some, some] if light.usable is None else values[some, some][light.usable[some, some]]
    mean = float(lit.mean()) if lit.size else 0.0
    if not mean > 0.0:
        return np.zeros_like(values), 0.0
    contrast = np.clip(values, 0.0, 4.0 * mean)
    contrast *= np.float32(1.0 / mean)
    np.sqrt(contrast, out=contrast)
    contrast -= np.float32(1.0)
    if light.dark is not None:
        contrast.ravel()[light.dark] = 0.0
    return contrast, mean


def area_binned(image: FloatArray, binning: int) -> FloatArray:
    """Return the means of squares of pixels; an incomplete last row or column is left out."""
    if binning == 1:
        return image
    rows, columns = image.shape[0] // binning, image.shape[1] // binning
    crop = image[:rows * binning, :columns * binning]
    return np.asarray(cv2.resize(crop, (columns, rows), interpolation=cv2.INTER_AREA))


def half(image: FloatArray) -> FloatArray:
    """Return the image at half its resolution."""
    return area_binned(image, 2)


def half_usable(usable: BoolArray | None) -> BoolArray | None:
    """Return which pixels at half the resolution are made of usable ones only."""
    return None if usable is None else _half_usable(Same(usable))


@lru_cache(maxsize=4)   # as the weight
def _half_usable(of: Same) -> BoolArray:
    usable = of.array
    rows, columns = usable.shape[0] // 2 * 2, usable.shape[1] // 2 * 2
    lines = usable[0:rows:2, :columns] & usable[1:rows:2, :columns]
    return np.asarray(lines[:, ::2] & lines[:, 1::2])


def working_binning(shape: tuple[int, int]) -> int:
    """Return how many pixels of a large detector go into one pixel of the contrast."""
    return math.ceil(min(shape) / FULL_SIDE_PX)
