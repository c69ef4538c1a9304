"""How far a trend can be continued, and how surely. No Qt."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from monitor.rows import FloatColumn

LOOKED_BACK = 1000
"""Frames from which the error of earlier forecasts is learnt."""
HORIZONS = 8
LEAST_SEEN = 12
"""Frames below which nothing is forecast."""
SHARE = 0.2
"""Of the frames seen, that are looked ahead."""
MOST_AHEAD = 200


class Forecast(NamedTuple):
    """The trend, continued."""

    ahead: FloatColumn
    """(n,) frames from the newest one, the first is 0."""
    trend_px: FloatColumn
    sigma_px: FloatColumn
    """1 sigma of where a frame will be: jitter, and how wrong such forecasts have been so far."""


def forecast(trend_px: FloatColumn, *, level_px: float, speed_px: float, jitter_px: float) -> Forecast | None:
    """Continue a trend at its present speed.

    How wrong that is is learnt from the past: every earlier frame is continued in the same way and compared with what
    came. The horizon is a fifth of the frames seen, so that each has been tried a few times over.

    Parameters
    ----------
    trend_px : ndarray of shape (n,)
        Of successive frames of one view.
    level_px, speed_px : float
        Present trend and speed, px per frame.
    jitter_px : float
        Scatter of single frames.

    Returns
    -------
    Forecast or None
        None with fewer than 12 frames.
    """
    seen = trend_px[np.isfinite(trend_px)][-LOOKED_BACK:]
    if seen.size < LEAST_SEEN or not np.isfinite([level_px, speed_px, jitter_px]).all():
        return None
    ahead = np.unique(np.linspace(0, min(max(seen.size * SHARE, 3), MOST_AHEAD), HORIZONS + 1).round()).astype(float)
    speeds = np.gradient(seen)
    wrong = np.zeros(ahead.size)
    for place, frames in enumerate(ahead[1:].astype(int), start=1):
        missed = seen[frames:] - seen[:-frames] - frames * speeds[:-frames]
        wrong[place] = np.sqrt(np.mean(missed**2))
    wrong = np.maximum.accumulate(wrong)   # later is never surer
    return Forecast(ahead, level_px + speed_px * ahead, np.hypot(jitter_px, wrong))
