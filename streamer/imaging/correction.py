"""From detector counts to a clean picture: dark, flat, bad pixels, zingers; and what the raw counts say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.errors import FrameError
from streamer.imaging.arrays import medians
from streamer.imaging.noise import DetectorNoise
from streamer.imaging.spectrum import NoiseShape
from streamer.records import AnyArray, BoolArray, FloatArray

NON_FINITE_SHARE = 0.01
"""A frame with a larger share of NaN and infinite pixels is refused; fewer are repaired."""

_MAD_TO_SIGMA = 1.4826
_MEAN_ABS_TO_SIGMA = 1.2533   # of a normal distribution
_LINE_SIGMA = 8.0            # a line this far off its neighbours, in units of the usual difference...
_LINE_SHARE = 0.03           # ...and of the mean brightness
_WHOLE = 0.97                # ...in this share of its pixels is no structure
_MOST_LINES = 0.02           # of all lines; when more are off, it is the specimen
_MOST_SATURATED = 0.1         # of the pixels; frames with more are left as they are, and judged bad
_FEW = 8                     # as many pixels at the maximum are chance
_FEWEST_LEVELS = 16          # integer frames with fewer grey levels show no plateau
_ALONE = 2.0                  # an outlier is this far beyond its neighbours, in units of their own range
_BLOCKS = 8
_BRIDGE = 0.2                 # of a window must be known for its mean to count
_SUMMED = (np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64)   # by OpenCV, without overflow
_WINDOW = 5                   # px, neighbourhood that tells noise and structure from single outliers


@dataclass(frozen=True, eq=False, slots=True)
class Correction:
    """What turns detector counts into transmission: ``(pixels - dark) * gain``."""

    dark: FloatArray | None = None
    """(M, N) counts without beam."""
    gain: FloatArray | None = None
    """(M, N) reciprocal of flat minus dark, 1/counts, so that the open beam becomes 1; 0 where `weight` is 0."""
    weight: FloatArray | None = None
    """(M, N) expected photons, 1 = brightest; 0 where there are too few to tell anything."""
    bad: BoolArray | None = None
    """(M, N) dead, hot or flickering pixels; their values are replaced by their neighbours'."""
    flats: int = 0
    """Flats that went into `gain`."""
    darks: int = 0
    """Darks that went into `dark`."""
    noise: DetectorNoise | None = None
    """How the noise of the detector falls with frequency, measured on flats; None: not measured, taken as white."""
    counts_per_photon: float | None = None
    """Detected photons make so many counts, as the noise of flats tells; None before there are two of them."""
    open_beam: float | None = None
    """Mean of the newest flat less the dark, counts."""
    estimated_from: int = 0
    """Frames of the sample that `gain` was told from; 0 when it comes of flats. It then leaves the scale of the
    counts as it is, and slow changes of the light."""

    @property
    def photons_per_px(self) -> float | None:
        """Mean of the newest flat in photons; None while the counts per photon are not known."""
        return self.open_beam / self.counts_per_photon if self.open_beam and self.counts_per_photon else None

    @property
    def noisy_flats(self) -> int:
        """Exposures whose noise is in `gain`; 0 when there are none, or the gain was told from the sample."""
        return 0 if self.estimated_from else self.flats

    def noise_shape(self, mean: float) -> NoiseShape | None:
        """Return the shape of the noise in a frame of this mean (counts less the dark, `Level.mean`)."""
        if self.noise is None or not self.open_beam:
            return None
        return self.noise.shape(mean / self.open_beam)


IDENTITY = Correction()
"""No calibration: pixels keep their scale."""


class Level(NamedTuple):
    """Cheap statistics of the raw counts, for the judgement of the exposure."""

    mean: float
    """Mean of the finite, unsaturated pixels less the mean dark, in counts."""
    minimum: float
    maximum: float
    saturated_fraction: float
    """Share of pixels at the top of the range, 0..1."""
    finite_fraction: float
    """Share of pixels that are neither NaN nor infinite, 0..1."""
    blocks: FloatArray | None = None
    """(8, 8) mean counts less the mean dark, of as many parts of the frame; None for tiny frames."""


def correct(pixels: AnyArray, correction: Correction = IDENTITY, *, zinger_sigma: float = 6.0) -> FloatArray:
    """Subtract the dark, divide by the flat, and replace pixels that cannot be right.

    Single outliers (zingers, hot pixels) are replaced by the median of their 3x3 neighbourhood. An outlier
    is a pixel that lies more than `zinger_sigma` standard deviations off that median, where the deviation is
    the larger of the noise of the whole frame and of the activity of its 5x5 neighbourhood without itself:
    lines, edges and corners have active neighbours and stay as they are. So do smooth peaks without noise,
    which are not far beyond their neighbours. Rows and columns that are off over their whole length are
    replaced by their neighbours: no specimen has a line of one pixel from border to border. Patches of
    saturated integer pixels are filled from around them: their edges would outshine the specimen.

    Parameters
    ----------
    pixels : (M, N) array
        Any real dtype; not changed.
    correction : Correction
        The default leaves the counts on their scale.
    zinger_sigma : float
        Distance from the neighbours, in standard deviations, from which a pixel is repaired.

    Returns
    -------
    (M, N) float32 array
        Finite everywhere. Pixels with no expected light have the mean of the others.

    Raises
    ------
    FrameError
        If `pixels` is not a real, non-empty matrix, does not have the shape of the calibration, or has more
        than 1 % of NaN or infinite pixels.
    """
    _check(pixels, correction)
    with np.errstate(over="ignore", invalid="ignore"):
        image: FloatArray = pixels.astype(np.float32)
    if correction.dark is not None:
        np.subtract(image, correction.dark, out=image)
    if correction.gain is not None:
        np.multiply(image, correction.gain, out=image)
    known = _known(correction)
    bad, lost = known.bad, _lost(pixels, image)
    if lost is not None:
        image[lost] = 0.0
        bad = np.flatnonzero(lost if correction.bad is None else lost | correction.bad)
    if known.unlit.size:
        image.ravel()[known.unlit] = _mean_without(image, known.unlit)
    _fill(image, bad)
    _repair_outliers(image, zinger_sigma)
    _repair_columns(image)
    _repair_columns(image.T)
    return image


def level(pixels: AnyArray, correction: Correction = IDENTITY) -> Level:
    """Statistics of a raw frame.

    A pixel is saturated when it has the largest value of its integer dtype, or when it sits on the plateau
    that a detector with fewer bits leaves: the frame's maximum, if more pixels have just that value than lie
    in the hundredth of the range below it.

    Parameters
    ----------
    pixels : (M, N) array
        Counts, any real dtype.
    correction : Correction
        Its dark is taken off the mean.

    Raises
    ------
    FrameError
        If `pixels` is not a real, non-empty matrix.
    """
    _check(pixels, IDENTITY)
    values: AnyArray = pixels.ravel()
    if pixels.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        return Level(0.0, 0.0, 0.0, 0.0, 0.0)
    low, high = float(values.min()), float(values.max())
    saturated = _plateau(values, low, high)
    usable = values.size - saturated if saturated < values.size else values.size
    mean = (_total(values) - high * (values.size - usable)) / usable
    dark = _known(correction).dark
    return Level(mean - dark, low, high, saturated / values.size, values.size / pixels.size, _blocks(pixels, dark))


class _Known(NamedTuple):
    """What is the same for all frames of one correction."""

    dark: float
    """Mean."""
    unlit: NDArray[np.intp]
    """Flat indices, as those of `bad`."""
    bad: NDArray[np.intp]


@lru_cache(maxsize=4)   # it stays the same until the next flat or dark
def _known(correction: Correction) -> _Known:
    nowhere = np.empty(0, np.intp)
    return _Known(0.0 if correction.dark is None else float(correction.dark.mean()),
                  nowhere if correction.weight is None else np.flatnonzero(correction.weight <= 0.0),
                  nowhere if correction.bad is None else np.flatnonzero(correction.bad))


def _blocks(pixels: AnyArray, dark: float) -> FloatArray | None:
    """Average a frame over 8 x 8 parts, from every third row: enough to see where there is no light."""
    rows = pixels[::3]
    if min(rows.shape) < _BLOCKS:
        return None
    values = rows.astype(np.float32)
    if pixels.dtype.kind == "f" and not np.isfinite(values).all():   # they stay in the parts that they belong to
        blocks = np.asarray(cv2.resize(values, (_BLOCKS, _BLOCKS), interpolation=cv2.INTER_AREA))
    else:
        down, across = (_averaging(size) for size in values.shape)
        blocks = down @ values @ across.T   # six times as fast
    return blocks - np.float32(dark)


@lru_cache(maxsize=8)
def _averaging(size: int) -> FloatArray:
    """Return the matrix that averages a line of so many values over the blocks, (8, size)."""
    return np.asarray(cv2.resize(np.eye(size, dtype=np.float32), (size, _BLOCKS), interpolation=cv2.INTER_AREA))


def _lost(pixels: AnyArray, image: FloatArray) -> BoolArray | None:
    """Mask pixels that say nothing: not finite, or saturated; None when there are none."""
    if pixels.dtype.kind == "f":
        finite = np.isfinite(image)
        count = image.size - int(np.count_nonzero(finite))
        if count > NON_FINITE_SHARE * image.size:
            raise FrameError(f"frame has {100 * count / image.size:.1f} % NaN or infinite pixels; expected at most "
                             f"{100 * NON_FINITE_SHARE:g} %: check the sender")
        if count:
            return ~finite
    elif pixels.dtype.kind in "iu":
        high = pixels.max()
        count = int(np.count_nonzero(pixels == high))
        if count > _FEW:
            count = _plateau(pixels, float(pixels.min()), float(high))
        if _FEW < count <= _MOST_SATURATED * pixels.size:
            saturated: BoolArray = pixels == high
            return saturated
    return None


def _plateau(values: AnyArray, low: float, high: float) -> int:
    """Count the pixels at the top when they are saturated, else return 0."""
    whole = values.dtype.kind in "iu"
    at_top = int(np.count_nonzero(values == values.dtype.type(high)))
    if whole and high == np.iinfo(values.dtype).max:
        return at_top
    if low == high or (whole and high - low < _FEWEST_LEVELS):
        return 0   # constant frames are judged as such; a few levels always look like a plateau
    step = max(0.01 * (high - low), 1.0 if whole else 0.0)
    limit = high - step
    below = int(np.count_nonzero(values >= (values.dtype.type(math.ceil(limit)) if whole else limit))) - at_top
    return at_top if at_top > max(below, _FEW) else 0


def _check(pixels: AnyArray, correction: Correction) -> None:
    if pixels.ndim != 2 or pixels.size == 0:
        raise FrameError(f"frame has shape {pixels.shape}; expected a non-empty matrix (rows, columns)")
    if pixels.dtype.kind not in "biuf":
        raise FrameError(f"frame has type {pixels.dtype}; expected real numbers")
    for name in ("dark", "gain", "weight", "bad"):
        array: NDArray[np.generic] | None = getattr(correction, name)
        if array is not None and array.shape != pixels.shape:
            raise FrameError(f"frame has shape {pixels.shape}, but the calibration's {name} has {array.shape}; "
                             "take flats and darks of the same size")


def _mean_without(image: FloatArray, left_out: NDArray[np.intp]) -> float:
    count = image.size - left_out.size
    return (_total(image) - float(image.ravel()[left_out].sum(dtype=np.float64))) / max(count, 1)


def _total(values: AnyArray) -> float:
    """Add up in double precision; OpenCV takes a third of the time, or less, where it knows the type."""
    return float(cv2.sumElems(values)[0] if values.dtype in _SUMMED else values.sum(dtype=np.float64))


def _fill(image: FloatArray, bad: NDArray[np.intp]) -> None:
    """Replace pixels by the median of the good ones around them; inside large holes by a smooth bridge."""
    if not bad.size:
        return
    image.ravel()[bad] = np.nan
    near = _around(image, bad, _WINDOW)
    count = np.count_nonzero(np.isfinite(near), axis=1)
    near.sort(axis=1)   # NaN last
    image.ravel()[bad] = near[np.arange(bad.size), np.maximum(count - 1, 0) // 2]
    inside = bad[count == 0]
    if inside.size:
        image.ravel()[inside] = 0.0
        image.ravel()[inside] = _mean_without(image, bad)
        image.ravel()[inside] = _bridged(image, inside)


def _bridged(image: FloatArray, inside: NDArray[np.intp]) -> FloatArray:
    """Values for the inside of large holes that run smoothly into what is around, by averages over ever more."""
    known = np.ones(image.shape, np.float32)
    known.ravel()[inside] = 0.0
    values = np.zeros(inside.size, np.float32)
    open_, size = np.ones(inside.size, bool), 2 * _WINDOW
    while open_.any() and size < 2 * max(image.shape):
        share = cv2.blur(known, (size, size)).ravel()[inside]
        mean = cv2.blur(image * known, (size, size)).ravel()[inside]
        reached = open_ & (share > _BRIDGE)
        values[reached] = mean[reached] / share[reached]
        open_ &= ~reached
        size = round(1.5 * size)
    values[open_] = image.ravel()[inside[open_]]
    return values


def _repair_columns(image: FloatArray) -> None:
    """Replace dead and hot columns, in place."""
    if min(image.shape) < 2 * _WINDOW:
        return
    profile = image.mean(axis=0)
    margin = _WINDOW // 2
    # the border repeats the line above and below: the median of a square is that of the line
    usual = cv2.medianBlur(np.pad(profile, margin, mode="reflect")[None], _WINDOW)[0, margin:-margin]
    distance = np.abs(profile - usual)
    limit = max(_LINE_SIGMA * _MAD_TO_SIGMA * float(medians(distance)), _LINE_SHARE * abs(float(profile.mean())))
    suspects = np.flatnonzero(distance > limit)
    if not 0 < suspects.size <= max(_MOST_LINES * image.shape[1], 4):
        return
    good = np.setdiff1d(np.arange(image.shape[1]), suspects)
    for column in suspects:
        right = int(np.searchsorted(good, column))
        between = 0.5 * (image[:, good[max(right - 1, 0)]] + image[:, good[min(right, good.size - 1)]])
        off = image[:, column] - between
        if max(np.mean(off > 0), np.mean(off < 0)) > _WHOLE:
            image[:, column] = between


def _repair_outliers(image: FloatArray, zinger_sigma: float) -> None:
    """Replace single outliers by the 3x3 median, in place."""
    if min(image.shape) < _WINDOW:
        return
    distance = cv2.medianBlur(image, 3)
    cv2.absdiff(image, distance, dst=distance)   # in place, as the mean below: fresh memory costs more than the work
    sample = distance[::4, ::3].ravel()
    noise = _MAD_TO_SIGMA * float(np.partition(sample, sample.size // 2)[sample.size // 2])
    candidates = np.flatnonzero(distance > zinger_sigma * noise)
    if not candidates.size:
        return
    own = distance.ravel()[candidates]
    count = _WINDOW**2
    cv2.blur(distance, (_WINDOW, _WINDOW), dst=distance)
    around = (count * distance.ravel()[candidates] - own) / (count - 1)
    outliers = candidates[own > zinger_sigma * np.maximum(noise, _MEAN_ABS_TO_SIGMA * around)]
    near = np.sort(_around(image, outliers, 3), axis=1)   # itself included
    low, median, high = near[:, 2], near[:, 4], near[:, -3]
    value = image.ravel()[outliers]
    alone = np.maximum(value - high, low - value) > _ALONE * (high - low)
    image.ravel()[outliers[alone]] = median[alone]


def _around(image: FloatArray, places: NDArray[np.intp], window: int) -> FloatArray:
    """(n, window^2) values around pixels given by their flat index; the border repeats."""
    steps = np.arange(-(window // 2), window // 2 + 1)
    rows, columns = np.divmod(places, image.shape[1])
    near_rows = np.clip(rows[:, None, None] + steps[:, None], 0, image.shape[0] - 1)
    near_columns = np.clip(columns[:, None, None] + steps, 0, image.shape[1] - 1)
    near: FloatArray = image[near_rows, near_columns].reshape(places.size, window**2)
    return near
