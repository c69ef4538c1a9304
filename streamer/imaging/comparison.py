"""Two frames, two fields, two sessions beside each other."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from streamer.errors import FrameError
from streamer.imaging.deformation import BINS, edges_of
from streamer.imaging.flow import Field
from streamer.imaging.warp import moved_back
from streamer.records import BoolArray, FloatArray

RESAMPLES = 1000
LARGEST_SAMPLE = 10_000
"""Of a bootstrap; of larger samples so many are drawn, and the interval is scaled to the size of the whole."""


class Overlay(NamedTuple):
    """Two fields on the grid of the first."""

    grid_y_px: FloatArray
    grid_x_px: FloatArray
    first_px: FloatArray
    """(2, K, L); zero where not valid."""
    second_px: FloatArray
    difference_px: FloatArray
    """(2, K, L) second less first."""
    sigma_px: FloatArray
    """(K, L) error of the difference per component; NaN where not valid."""
    valid: BoolArray
    """(K, L) where both are."""


class Comparison(NamedTuple):
    """Amplitudes of two sessions."""

    edges_px: FloatArray
    """(n + 1,) common bins."""
    first: FloatArray
    """(n,) share of the points per bin; adds up to 1."""
    second: FloatArray
    first_median_px: float
    second_median_px: float
    first_interval_px: tuple[float, float]
    """95 % interval of the median, by bootstrap."""
    second_interval_px: tuple[float, float]
    distance: float
    """Largest distance between the two cumulative distributions (Kolmogorov and Smirnov), 0 to 1."""
    p_value: float
    """Of two samples from one distribution being so far apart."""


def differential_map(reference: NDArray[Any], frame: NDArray[Any], *, drift_px: tuple[float, float]) -> FloatArray:
    """Subtract the reference from the frame, moved back by its drift and brought to the same brightness.

    What moved shows as a pair of bright and dark; what changed its absorption as one of them.

    Parameters
    ----------
    reference, frame : (M, N) arrays
        Corrected images.
    drift_px : (float, float)
        Drift (y, x) of the frame relative to the reference.

    Returns
    -------
    (M, N) float32
        In units of the reference's median brightness; NaN where the frame shows nothing.

    Raises
    ------
    FrameError
        If the shapes differ, the drift is not finite, or either image has no light.
    """
    if reference.shape != frame.shape or reference.ndim != 2:
        raise FrameError(f"deformation: frame of shape {frame.shape} against a reference of shape {reference.shape}")
    if not np.all(np.isfinite(drift_px)):
        raise FrameError(f"deformation: drift {drift_px} is not finite; give the drift of the frame in px")
    back = moved_back(frame, drift_px=drift_px)
    both = np.isfinite(back) & np.isfinite(reference)
    levels = [float(np.median(plane[both])) if both.any() else 0.0 for plane in (reference, back)]
    if not min(levels) > 0:
        raise FrameError(f"deformation: median brightness {levels[0]:g} and {levels[1]:g} where both frames look; "
                         "expected light in both")
    return np.asarray(back / levels[1] - np.asarray(reference, np.float32) / levels[0], np.float32)


def overlay(first: Field, second: Field) -> Overlay:
    """Put two fields of one reference onto the grid of the first, to be drawn over each other.

    Parameters
    ----------
    first, second : flow.Field
        Against the same reference frame; the grids may differ.

    Returns
    -------
    Overlay
        Points count where both fields are valid; the second is interpolated linearly, and not beyond its grid.
    """
    maps = [np.asarray((wanted - own[0]) / (own[-1] - own[0]) * (len(own) - 1) if len(own) > 1 else wanted - own[0],
                       np.float32)
            for wanted, own in ((first.grid_y_px, second.grid_y_px), (first.grid_x_px, second.grid_x_px))]
    map_x, map_y = np.meshgrid(maps[1], maps[0])
    slack = 1e-3   # of a step: rounding of positions
    inside = ((map_y >= -slack) & (map_y <= len(second.grid_y_px) - 1 + slack)
              & (map_x >= -slack) & (map_x <= len(second.grid_x_px) - 1 + slack))

    def read(plane: NDArray[Any]) -> FloatArray:
        values: FloatArray = cv2.remap(np.ascontiguousarray(plane, np.float32), map_x, map_y, cv2.INTER_LINEAR,
                                       borderMode=cv2.BORDER_REPLICATE)
        return values

    # invalid points around it must not pull at a value: their weight is taken out again
    share = read(second.valid)
    weight = np.maximum(share, np.float32(1e-6))
    moved = np.stack([read(plane * second.valid) for plane in second.displacement_px]) / weight
    variance = read(np.where(second.valid, second.sigma_px, 0) ** 2) / weight
    valid: BoolArray = first.valid & inside & (share > 0.5)
    one, other = (np.where(valid, plane, np.float32(0)) for plane in (first.displacement_px, moved))
    with np.errstate(invalid="ignore"):
        sigma = np.sqrt(first.sigma_px**2 + variance)
    return Overlay(first.grid_y_px, first.grid_x_px, one, other, other - one,
                   np.where(valid, sigma, np.float32(np.nan)), valid)


def compare(first_px: NDArray[Any], second_px: NDArray[Any], *, bins: int | ArrayLike = BINS, seed: int = 0,
            resamples: int = RESAMPLES) -> Comparison:
    """Compare the amplitudes of two sessions.

    Parameters
    ----------
    first_px, second_px : arrays
        Magnitudes of displacement, such as ``numpy.hypot(*field.displacement_px)[field.valid]``, of the same frames
        or of all; those not finite do not count.
    bins : int or (n + 1,) array
        Number of common bins from 0 to the largest magnitude, or their edges in px.
    seed : int
        Of the bootstrap.
    resamples : int
        Of the bootstrap; of samples of more than 10 000 so many are drawn for it.

    Returns
    -------
    Comparison

    Raises
    ------
    FrameError
        If either sample is empty, or the bins are not increasing.

    Notes
    -----
    Neighbouring points of a dense field are not independent; interval and p-value take them as if they were, and are
    too small by about the number of points per correlation area. Particles come closer to what they assume.
    """
    samples = [np.asarray(values, np.float64).ravel() for values in (first_px, second_px)]
    samples = [values[np.isfinite(values)] for values in samples]
    if not all(values.size for values in samples):
        raise FrameError(f"deformation: samples of {samples[0].size} and {samples[1].size} amplitudes; expected some "
                         "in both")
    edges = edges_of(bins, samples)
    shares = [np.histogram(values, edges)[0] / values.size for values in samples]
    test = scipy.stats.ks_2samp(*samples, method="asymp")
    rng = np.random.default_rng(seed)
    one, other = (_median_interval(values, rng, resamples) for values in samples)
    return Comparison(edges, shares[0].astype(np.float32), shares[1].astype(np.float32), float(np.median(samples[0])),
                      float(np.median(samples[1])), one, other, float(test.statistic), float(test.pvalue))


def _median_interval(values: NDArray[np.float64], rng: np.random.Generator, resamples: int) -> tuple[float, float]:
    """Draw the sample again and again; the spread of a larger one shrinks as the root of its size."""
    sample = values if values.size <= LARGEST_SAMPLE else rng.choice(values, LARGEST_SAMPLE, replace=False)
    medians = np.array([np.median(rng.choice(sample, sample.size)) for _ in range(resamples)])
    low, high = (float(limit) for limit in np.percentile(medians, [2.5, 97.5]))
    middle, shrink = float(np.median(values)), math.sqrt(sample.size / values.size)
    return middle + shrink * (low - middle), middle + shrink * (high - middle)
