"""How the sample of each view moves: trend, jitter, and where that leads."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.records import JitterAxis, Leaving, StageMove, ViewMotion
from streamer.settings import Settings
from streamer.tracking.forecast import leaving, region_of, stage_move
from streamer.tracking.trend import Trend, TrendState

LOOK_BACK = 4096
"""Frames in the histograms."""
LISTED = 32
"""Views that are described, those seen last."""
SETTLED = 8
"""Frames before the speed is told."""
BINS = 25
BIN_SIGMAS = 0.5


@dataclass
class _View:
    """What is remembered of one view."""

    jitter: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=LOOK_BACK))
    trend: Trend | None = None
    leaving: Leaving = field(default_factory=Leaving)
    stage: StageMove | None = None
    description: ViewMotion | None = None


class Motion:
    """The motion of all views, fed in the order of the frames.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._views: dict[str, _View] = {}

    def configure(self, settings: Settings) -> None:
        """Put new settings in force, from the next frame on."""
        self._settings = settings

    def update(self, view: str, trend: Trend, jitter_px: tuple[float, float], *, shape: tuple[int, int],
               pixel_size_nm: float | None) -> tuple[Leaving, StageMove | None] | None:
        """Take the next registered frame and say when its view will be left, and what would help.

        Parameters
        ----------
        view : str
        trend : Trend
            Of the view, with the frame in it.
        jitter_px : (y, x)
            Of the frame.
        shape : (M, N)
        pixel_size_nm : float or None

        Returns
        -------
        (Leaving, StageMove or None) or None
            None before there is a trend.
        """
        state = trend.state
        if state is None:
            return None
        known = self._views[view] = self._views.pop(view, _View())   # the newest last
        known.trend, known.description = trend, None
        known.jitter.append(jitter_px)
        known.leaving = leaving(state, region_of(self._settings.forecast, shape), shape, frames_seen=trend.count)
        y_px, x_px = (float(value) for value in (state.share * state.level).sum(axis=1))
        known.stage = stage_move((y_px, x_px), self._settings.stage, pixel_size_nm)
        return known.leaving, known.stage

    def speed_px(self, view: str) -> float | None:
        """Return the speed of the trend of a view, px per frame; None before it has settled."""
        known = self._views.get(view)
        state = None if known is None or known.trend is None or known.trend.count < SETTLED else known.trend.state
        return None if state is None else float(np.hypot(*_speed(state)))

    def views(self) -> list[ViewMotion]:
        """Describe the motion of the views that have a trend, the one seen last at the end."""
        found = []
        for view, known in list(self._views.items())[-LISTED:]:
            known.description = known.description or _describe(view, known)
            if known.description is not None:
                found.append(known.description)
        return found

    def snapshot(self) -> dict[str, Any]:
        """Return the state as builtins and arrays; the trends belong to the drift, the forecast to the next frame."""
        return {view: np.array(known.jitter).reshape(-1, 2) for view, known in self._views.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `snapshot` returned."""
        self._views = {}
        for view, jitter in state.items():
            known = self._views.setdefault(str(view), _View())
            known.jitter.extend((float(y), float(x)) for y, x in jitter)


def _describe(view: str, known: _View) -> ViewMotion | None:
    state = None if known.trend is None else known.trend.state
    sigma = None if known.trend is None else known.trend.jitter_px
    if state is None or sigma is None:
        return None
    level = (state.share * state.level).sum(axis=1)
    speed = _speed(state)
    jitter = np.array(known.jitter).reshape(-1, 2)
    jitter_y, jitter_x = (histogram(jitter[:, axis], sigma_px=sigma[axis]) for axis in range(2))
    return ViewMotion(
        view=view, frames=len(jitter), trend_y_px=float(level[0]), trend_x_px=float(level[1]),
        speed_y_px=float(speed[0]), speed_x_px=float(speed[1]), jitter_y=jitter_y, jitter_x=jitter_x,
        leaving=known.leaving, stage=known.stage)


def _speed(state: TrendState) -> NDArray[np.float64]:
    """Return the slope of a trend, (y, x) px per frame."""
    return np.asarray((state.share * state.slope).sum(axis=1) / state.frames_per_unit)


def histogram(jitter_px: Sequence[float] | NDArray[np.float64], *, sigma_px: float) -> JitterAxis:
    """Count the jitter of one axis in bins of half a standard deviation.

    Parameters
    ----------
    jitter_px : (n,)
    sigma_px : float
        Its standard deviation, positive.
    """
    width = BIN_SIGMAS * sigma_px
    first = -0.5 * BINS * width
    places = np.clip(np.floor((np.asarray(jitter_px, np.float64) - first) / width), 0, BINS - 1).astype(np.int64)
    counts = np.bincount(places, minlength=BINS)
    return JitterAxis(sigma_px=sigma_px, first_px=first, bin_px=width, counts=[int(count) for count in counts])
