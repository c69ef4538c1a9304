"""The forecast of when a region leaves the field of view, on paths of many stages, against when it does leave."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from drift_figures import Row
from numpy.typing import NDArray

from simulator.motion import Drift
from simulator.plan import FULL_FRAME, generator
from streamer.records import Leaving
from streamer.tracking.forecast import Region, leaving
from streamer.tracking.trend import Trend

REGION = Region(top=163.5, left=169.5, height=327.0, width=339.0, keep=0.9)
"""The middle half of the view; a tenth of it may be lost."""
ASKED_AT = (0.4, 0.6, 0.8, 0.9)
"""Of the frames until the region leaves."""
_LENGTHS_PX = (230.0, 300.0)
_MISSING = 0.05
_ERROR_PX = 0.02
_DRAWS = 30


class Stage(NamedTuple):
    """A kind of path."""

    frames: int
    jitter_px: tuple[float, float]
    wander: float


STAGES = {
    "straight, 56 frames, jitter 1 px": Stage(56, (1.0, 1.0), 0.0),
    "straight, 1200 frames, jitter 5 px": Stage(1200, (5.0, 5.0), 0.0),
    "wandering, 56 frames, jitter 2 and 5 px": Stage(56, (2.0, 5.0), 0.04),
    "wandering, 1200 frames, jitter 5 px": Stage(1200, (5.0, 5.0), 0.04),
}


class Forecast(NamedTuple):
    """What was said, and when the region left."""

    stage: str
    seed: int
    at: float
    remaining: int
    said: Leaving
    knowing: float
    """Median of the frames that remain, for one who knows the stage and only not its jitter to come."""


def forecasts(seeds: Iterable[int]) -> list[Forecast]:
    """Follow paths, a few frames missing, and ask for the forecast on the way."""
    found = []
    for name, stage in STAGES.items():
        for seed in seeds:
            path, systematic = (_path(stage._replace(jitter_px=jitter), seed, name)
                                for jitter in (stage.jitter_px, (0.0, 0.0)))
            systematic += np.mean(path - systematic, axis=0)   # paths are relative to the first frame, jitter included
            out = _first_out(path)
            if out is None:
                continue
            asked = {round(share * out): share for share in ASKED_AT}
            rng, trend = generator(seed, f"missing {name}"), Trend()
            for number, (y, x) in enumerate(path[:out]):
                if number and rng.random() < _MISSING:
                    trend.skip()
                else:
                    trend.update(y + rng.normal(0, _ERROR_PX), x + rng.normal(0, _ERROR_PX))
                state = trend.state
                if number in asked and state is not None:
                    said = leaving(state, REGION, FULL_FRAME, frames_seen=number + 1)
                    knowing = [_first_out(way + rng.normal(0, 1, way.shape) * stage.jitter_px)
                               for way in [systematic[number + 1:]] * _DRAWS]
                    ends = [len(path) - number if end is None else end + 1 for end in knowing]
                    found.append(Forecast(name, seed, asked[number], out - number, said, float(np.median(ends))))
    return found


def forecast_rows(found: list[Forecast]) -> list[Row]:
    """What was asked, and what came of it, by kind of path."""
    rows: list[Row] = []
    for name in dict.fromkeys(one.stage for one in found):
        here = [one for one in found if one.stage == name]
        covered = np.mean([_covered(one) for one in here])
        errors = ", ".join(f"{100 * np.median([_error(one) for one in here if one.at == share]):.0f} % at {share:g}"
                           for share in ASKED_AT)
        all_errors = np.array([_error(one) for one in here])
        knowing = np.median([abs(one.knowing - one.remaining) / one.remaining for one in here])
        rows.append((f"forecast of leaving the view, {name}", "within 10 % of the remaining frames, interval 90 %",
                     (f"off by {100 * np.median(all_errors):.0f} % (median; {errors} of the way), within 10 % in "
                      f"{np.mean(all_errors <= 0.1):.0%} of {len(here)}; interval covers {covered:.0%}; one who knows "
                      f"all but the jitter to come is off by {knowing:.0%}")))
    return rows


def _first_out(path: NDArray[np.float64]) -> int | None:
    """Return the first frame that shows too little."""
    starts, lengths = np.array(REGION[:2]) + path, np.array(REGION[2:4])
    shown = np.minimum(starts + lengths, FULL_FRAME) - np.maximum(starts, 0)
    out = np.flatnonzero(np.prod(np.maximum(shown, 0) / lengths, axis=1) < REGION.keep)
    return int(out[0]) if len(out) else None


def _path(stage: Stage, seed: int, name: str) -> NDArray[np.float64]:
    rng = generator(seed, f"stage {name}")
    heading, length = rng.uniform(0, 2 * np.pi), rng.uniform(*_LENGTHS_PX)
    end = float(length * np.sin(heading)), float(length * np.cos(heading))
    return Drift(end_px=end, jitter_px=stage.jitter_px, wander=stage.wander).path(stage.frames, rng=rng)


def _error(one: Forecast) -> float:
    """Relative to the remaining frames; infinite without a forecast."""
    return np.inf if one.said.frames is None else abs(one.said.frames - one.remaining) / one.remaining


def _covered(one: Forecast) -> bool:
    low = np.inf if one.said.frames_low is None else one.said.frames_low
    high = np.inf if one.said.frames_high is None else one.said.frames_high
    return low <= one.remaining <= high
