"""When a region of the sample will leave the field of view if the drift goes on, and what would bring it back.

The trend is continued as the filters know it: many ways are drawn from their states, each turning as restlessly as
its filter says; along each, the jitter puts single frames out with a probability that follows from how far the
region is from the edge. The quantiles of the first frame that is out make the interval. The draws are the same every
time, so equal trends give equal forecasts.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import scipy.special
from numpy.typing import NDArray

from streamer.records import Leaving, StageMove
from streamer.settings import ForecastSettings, StageSettings
from streamer.tracking.trend import TrendState

WAYS = 48
HORIZON_FRAMES = 10_000.0
STEPS = 40
ROUGH, WIDE, ALONE = (np.linspace(0.0, 1.0, count) for count in (64, STEPS // 2, STEPS))
"""Powers of the horizon that are looked at."""
CLOSE = np.linspace(0.6, 1.6, STEPS // 2)
"""The forecast looks closely at these times about when the mean way leaves, as shares of that time."""
SEEN_FACTOR = 20.0
"""Nothing is said of a time that is this much longer than the one that was seen."""
NOTHING_PX = 1e-6
SURE = 5.0
"""Standard deviations of the jitter that never happen."""

Doubles = NDArray[np.float64]


class Region(NamedTuple):
    """A rectangle in the reference frame, px, and the share of it that must stay visible."""

    top: float
    left: float
    height: float
    width: float
    keep: float


def region_of(settings: ForecastSettings, shape: tuple[int, int]) -> Region:
    """Return the region that the settings name; the whole field of view when they name none, or one outside."""
    rows, columns = shape
    top, left = min(settings.top_px, rows), min(settings.left_px, columns)
    height = min(settings.height_px, rows - top)
    width = min(settings.width_px, columns - left)
    if height <= 0 or width <= 0:
        top, left, height, width = 0, 0, rows, columns
    return Region(float(top), float(left), float(height), float(width), settings.keep)


def margins(drift_px: Doubles, region: Region, shape: tuple[int, int]) -> Doubles:
    """Return how far the region may still move along each axis before too little of it is visible.

    Parameters
    ----------
    drift_px : (2, ...)
    region : Region
    shape : (M, N)

    Returns
    -------
    (2, ...) px
        Negative along any axis: too little is visible.
    """
    lengths = np.array([region.height, region.width])
    starts = np.array([region.top, region.left])
    ones = (slice(None), *(None,) * (drift_px.ndim - 1))
    start = starts[ones] + drift_px
    over = np.maximum(-start, start + (lengths - np.array(shape))[ones])   # px beyond the nearer edge
    share = np.clip(1.0 - over / lengths[ones], NOTHING_PX, 1.0)
    return np.asarray(lengths[ones] * (1.0 - region.keep / share[::-1]) - over)


def visible_share(drift_px: tuple[float, float], region: Region, shape: tuple[int, int]) -> float:
    """Return the share of the region that is in the field of view."""
    share = 1.0
    for start, length, drift, size in zip(region[:2], region[2:4], drift_px, shape, strict=True):
        low, high = max(start + drift, 0.0), min(start + drift + length, float(size))
        share *= max(high - low, 0.0) / length
    return share


def leaving(state: TrendState, region: Region, shape: tuple[int, int], *, frames_seen: int) -> Leaving:
    """Forecast the first frame that shows too little of the region.

    Parameters
    ----------
    state : TrendState
    region : Region
    shape : (M, N)
        Of the frames.
    frames_seen : int
        Frames that the trend was learnt from.

    Returns
    -------
    Leaving
        Median and 90 % interval in frames from the newest one on; None for what lies beyond the horizon, which is
        20 times the frames seen, and 10 000 at most.
    """
    horizon = min(HORIZON_FRAMES, SEEN_FACTOR * frames_seen)
    frames = _grid(state, region, shape, horizon)
    ways = _ways(state, frames)
    room = margins(ways, region, shape)
    sigma = np.sqrt(state.noise)[:, None, None]
    inside = np.maximum(room, NOTHING_PX)
    distance = np.where((room > 0.0).all(axis=0), 1.0 / np.sqrt(((sigma / inside)**2).sum(axis=0)),
                        (room / sigma).min(axis=0))
    stays = np.zeros(distance.shape)   # logarithm of the probability that one frame is not out
    near = distance < SURE
    stays[near] = scipy.special.log_ndtr(distance[near])
    gone = 1.0 - np.exp(np.cumsum(_summed(stays, frames), axis=1)).mean(axis=0)
    low, middle, high = (_when(gone, frames, share) for share in (0.05, 0.5, 0.95))
    level = tuple(float(value) for value in (state.share * state.level).sum(axis=1))
    return Leaving(frames=middle, frames_low=low, frames_high=high,
                   seconds=None if middle is None or state.interval_s is None else middle * state.interval_s,
                   visible_share=visible_share((level[0], level[1]), region, shape))


def stage_move(trend_px: tuple[float, float], settings: StageSettings, pixel_size_nm: float | None) -> StageMove | None:
    """Suggest how to move the stage so that the sample is back where the reference frame saw it; advice only.

    Parameters
    ----------
    trend_px : (y, x)
    settings : StageSettings
        What the stage has to travel for the sample to move in the frame.
    pixel_size_nm : float or None

    Returns
    -------
    StageMove or None
        None without the size of a pixel.
    """
    if not pixel_size_nm:
        return None
    down_um, right_um = (-value * pixel_size_nm * 1e-3 for value in trend_px)
    return StageMove(y_um=settings.yy * down_um + settings.yx * right_um,
                     x_um=settings.xy * down_um + settings.xx * right_um)


def _grid(state: TrendState, region: Region, shape: tuple[int, int], horizon: float) -> Doubles:
    """Return the frames to look at, (STEPS,): over all times, and closely about when the mean way leaves."""
    rough = horizon ** ROUGH
    level, slope = ((state.share * value).sum(axis=1)[:, None] for value in (state.level, state.slope))
    out = (margins(level + slope * rough / state.frames_per_unit, region, shape) < 0.0).any(axis=0)
    if not out.any():
        return np.unique(np.round(horizon ** ALONE))
    middle = float(rough[int(np.argmax(out))])
    return np.unique(np.round(np.concatenate([horizon ** WIDE, np.maximum(CLOSE * middle, 1.0)])))


def _ways(state: TrendState, frames: Doubles) -> Doubles:
    """Draw how the trend may go on, (2, WAYS, frames)."""
    first, turns, bends, chosen = _draws(frames.size)
    units = frames / state.frames_per_unit
    step = np.diff(units, prepend=0.0)
    last = state.share.shape[1] - 1
    which = np.minimum((np.cumsum(state.share, axis=1)[:, :, None] < chosen[:, None]).sum(axis=1), last)   # (2, WAYS)
    axis = np.arange(2)[:, None]
    variance, shared, slope_variance = state.covariance[:, axis, which]
    level_sigma = np.sqrt(variance)
    by_level = shared / np.maximum(level_sigma, NOTHING_PX)
    rest = np.sqrt(np.maximum(slope_variance - by_level**2, 0.0))
    level = state.level[axis, which] + level_sigma * first[:, 0]
    slope = state.slope[axis, which] + by_level * first[:, 0] + rest * first[:, 1]
    wander = np.sqrt(state.wander[axis, which])[:, :, None]
    turned = np.cumsum(turns * np.sqrt(step), axis=2)         # integrated white noise, exact at the steps
    before = np.concatenate([np.zeros_like(turned[:, :, :1]), turned[:, :, :-1]], axis=2)
    bent = np.cumsum(0.5 * step * (before + turned) + bends * np.sqrt(step**3 / 12.0), axis=2)
    return np.asarray(level[:, :, None] + slope[:, :, None] * units + wander * bent)


@functools.cache
def _draws(steps: int) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """Return normal and uniform numbers for the ways: per axis, evenly spread over the ways, and always the same."""
    rng = np.random.default_rng(0)
    even = scipy.special.ndtri((np.arange(WAYS) + 0.5) / WAYS)
    first = np.stack([[rng.permutation(even) for _ in range(2)] for _ in range(2)])
    turns, bends = rng.normal(size=(2, 2, WAYS, steps))
    chosen = np.stack([rng.permutation((np.arange(WAYS) + 0.5) / WAYS) for _ in range(2)])
    return first, turns, bends, chosen


def _summed(values: Doubles, frames: Doubles) -> Doubles:
    """Sum over the frames after one place of the grid up to the next, linear in between, (ways, frames)."""
    step = np.diff(frames, prepend=0.0)
    before = np.concatenate([values[:, :1], values[:, :-1]], axis=1)
    return np.asarray(0.5 * ((step + 1.0) * values + (step - 1.0) * before))


def _when(gone: Doubles, frames: Doubles, share: float) -> float | None:
    """Return after how many frames the region has left with a probability; None beyond the horizon."""
    after = int(np.searchsorted(gone, share))
    if after == gone.size:
        return None
    if after == 0:
        return float(frames[0])
    part = (share - gone[after - 1]) / (gone[after] - gone[after - 1])
    return float(np.ceil((1.0 - part) * frames[after - 1] + part * frames[after]))
