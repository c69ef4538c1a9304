"""The forecast of when a region leaves the field of view, on paths of many stages, against when it does leave."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from drift_figures import Row
from drift_oracle import Law, future_paths
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
    possible: tuple[float, float, float]
    """5 %, median and 95 % for one who knows the law of the path and has seen the same frames."""


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
            oracle = generator(seed, f"oracle {name}")
            seen: list[int] = []
            measured = path[:out].copy()
            for number in range(out):
                if number and rng.random() < _MISSING:
                    trend.skip()
                else:
                    measured[number] += rng.normal(0, _ERROR_PX, 2)
                    trend.update(*measured[number])
                    seen.append(number)
                state = trend.state
                if number in asked and state is not None:
                    said = leaving(state, REGION, FULL_FRAME, frames_seen=number + 1)
                    found.append(Forecast(name, seed, asked[number], out - number, said,
                                          _knowing(stage, systematic[number + 1:], rng),
                                          _possible(stage, seen, measured, number, oracle)))
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
        best = np.array([abs(one.possible[1] - one.remaining) / one.remaining for one in here])
        best_covered = np.mean([one.possible[0] <= one.remaining <= one.possible[2] for one in here])
        knowing = np.median([abs(one.knowing - one.remaining) / one.remaining for one in here])
        asked = "within 10 % of the remaining frames, interval 90 %"
        rows.append((f"forecast of leaving the view, {name}", asked,
                     (f"off by {100 * np.median(all_errors):.0f} % (median; {errors} of the way), within 10 % in "
                      f"{np.mean(all_errors <= 0.1):.0%} of {len(here)}; interval covers {covered:.0%}; one who knows "
                      f"all but the jitter to come is off by {knowing:.0%}")))
        rows.append((f"the same by an oracle that knows the law of the path, {name}", asked,
                     (f"off by {100 * np.median(best):.0f} %, within 10 % in {np.mean(best <= 0.1):.0%}; interval "
                      f"covers {best_covered:.0%}; our mean error, of at most 100 %, is "
                      f"{np.mean(np.minimum(all_errors, 1.0)) / np.mean(np.minimum(best, 1.0)):.1f} times its")))
    return rows


def _knowing(stage: Stage, systematic: NDArray[np.float64], rng: np.random.Generator) -> float:
    ends = _ends(systematic + rng.normal(0, 1, (_DRAWS, *systematic.shape)) * stage.jitter_px)
    return float(np.median(np.minimum(ends, len(systematic) + 1)))


def _possible(stage: Stage, seen: list[int], measured: NDArray[np.float64], number: int, rng: np.random.Generator,
              ) -> tuple[float, float, float]:
    """Return quantiles of the frames that remain; known is also that the region leaves before the path ends."""
    law = Law(stage.frames, stage.jitter_px, stage.wander, _LENGTHS_PX)
    ways = future_paths(law, np.array(seen), measured[seen], rng)
    ends = _ends(ways[:, number - seen[-1]:])   # the newest frame may be missing
    left = ends[np.isfinite(ends)] if np.isfinite(ends).any() else np.array([stage.frames - number])
    low, middle, high = np.quantile(left, (0.05, 0.5, 0.95), method="inverted_cdf")
    return float(low), float(middle), float(high)


def _ends(ways: NDArray[np.float64]) -> NDArray[np.float64]:
    """Frames that remain on each way, (n, frames, 2); infinite where the region stays."""
    found = [_first_out(way) for way in ways]
    return np.array([np.inf if end is None else end + 1 for end in found])


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
