"""Measure the drift against truth, and against the methods a user would pick, on simulated and on real sequences.

Usage: ``.venv/bin/python -P benchmarks/drift.py [--quick] [--out FILE.json] [--plot FILE.png]``, or a part:
``--cases base,50 --seeds 301-302 --ours-only``. The default seeds 7001... are held out: tune on 3xx.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))   # -P leaves it out

from drift_comparison import comparison_table, plot, time_table
from drift_figures import (
    Judged,
    Row,
    blur_table,
    detail_table,
    failure_lines,
    judge_rows,
    reach_rows,
    worst_lines,
)
from drift_forecast import forecast_rows, forecasts
from drift_peers import CHAINED, CHAINED_FRAMES, COMPARED, Tried, try_peers
from drift_real import real_rows
from drift_sequences import CASES, Sequence
from sharpness import Watched, markdown, numbers, watch

from streamer.records import FloatArray
from streamer.tracking import drift as tracking

SEEDS = (7001, 7002, 7003, 7004, 7005, 7006)
FEWER = {"long": 2, "large": 1}
"""Seeds of the cases that take long."""
QUICK = ("base", "slow", "jump", "rotation")
PEER_SEEDS = 1
FORECAST_SEEDS = 20


def judge_case(
    name: str, seed: int, *, frames: int | None = None, keep_images: bool = False
) -> tuple[list[Judged], Watched]:
    """Run one sequence through the pipeline and compare the final rows with the truth."""
    sequence = Sequence(name, seed, frames=frames)
    with _timed_registration() as spent_ms:
        watched = watch(sequence.stream(), keep_images=keep_images)
    watched.elapsed_ms["CPU of registration"] = spent_ms
    return judge_rows(name, seed, watched.final, sequence.truth(), bound_px=sequence.bound_px()), watched


@contextlib.contextmanager
def _timed_registration() -> Iterator[list[float]]:
    """Write down the CPU time of every registration, which a busy machine hardly changes."""
    spent_ms: list[float] = []
    measure = tracking.measure

    def timed(*arguments: Any, **options: Any) -> Any:
        started = time.process_time()
        try:
            return measure(*arguments, **options)
        finally:
            spent_ms.append(1e3 * (time.process_time() - started))

    tracking.measure = timed
    try:
        yield spent_ms
    finally:
        tracking.measure = measure


def run_cases(
    names: list[str], seeds: list[int], *, frames: int | None, peers: bool
) -> Iterator[tuple[list[Judged], list[Tried], dict[str, list[float]]]]:
    """Yield what was found in every sequence, by us and by the others, and what our stages took."""
    for name in names:
        for place, seed in enumerate(seeds[:FEWER.get(name)]):
            compared = peers and place < PEER_SEEDS and name in COMPARED
            judged, watched = judge_case(name, seed, frames=frames, keep_images=compared and name not in CHAINED)
            tried: list[Tried] = []
            if compared and name in CHAINED:
                tried += try_peers(*_beginning(name, seed, frames))
            elif compared:
                tried += try_peers(judged, watched.images)
            yield judged, tried, watched.elapsed_ms
            print(f"{name}, seed {seed} done", file=sys.stderr, flush=True)


def _beginning(name: str, seed: int, frames: int | None) -> tuple[list[Judged], list[FloatArray]]:
    """Run the first part of a long sequence by itself; of the whole the pictures are too many to keep."""
    part = min(frames or CHAINED_FRAMES, CHAINED_FRAMES)
    judged, watched = judge_case(name, seed, frames=part, keep_images=True)
    return judged, watched.images


def cost_rows(elapsed_ms: dict[str, list[dict[str, list[float]]]]) -> list[Row]:
    """Sum up what registration took in one thread."""
    rows = []
    for name, title, asked in (("base", "654 x 678", "<= 7 ms, stretch 4 ms"),
                               ("large", "2048 x 2048", "<= 46 ms, stretch 18 ms")):
        if name in elapsed_ms:
            spent = {stage: np.concatenate([one[stage] for one in elapsed_ms[name]])
                     for stage in ("CPU of registration", "register", "track")}
            rows.append((f"cost at {title}, one thread", asked, (
                f"{_ms(spent['CPU of registration'])} of CPU time; by the clock {_ms(spent['register'])}, and all "
                f"that is remembered from frame to frame {_ms(spent['track'])}")))
    return rows


def _ms(spent: FloatArray) -> str:
    return f"{np.median(spent):.1f} ms (95 %: {np.percentile(spent, 95):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=lambda text: text.split(","),
                        help=f"of {', '.join(CASES)}; by default all")
    parser.add_argument("--seeds", type=numbers, default=list(SEEDS), help="such as 301-304,310")
    parser.add_argument("--frames", type=int, help="only the first so many of each sequence")
    parser.add_argument("--ours-only", action="store_true", help="neither peers, forecast nor real frames")
    parser.add_argument("--real", action="store_true", help="the real frames even so")
    parser.add_argument("--forecast", action="store_true", help="the forecast even so")
    parser.add_argument("--quick", action="store_true", help="short sequences, to see that it works")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write tables and every judged frame")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the errors (needs matplotlib)")
    asked = parser.parse_args()
    if unknown := set(asked.cases or ()) - set(CASES):
        parser.error(f"unknown case {', '.join(sorted(unknown))}; known: {', '.join(CASES)}")
    if asked.quick:
        asked.seeds, asked.frames, asked.cases = asked.seeds[-1:], asked.frames or 12, asked.cases or list(QUICK)
    asked.cases = asked.cases or list(CASES)
    cv2.setNumThreads(1)
    judged: list[Judged] = []
    tried: list[Tried] = []
    elapsed_ms: dict[str, list[dict[str, list[float]]]] = {}
    for found, pairs, spent in run_cases(asked.cases, asked.seeds, frames=asked.frames, peers=not asked.ours_only):
        judged += found
        tried += pairs
        elapsed_ms.setdefault(found[0].case, []).append(spent)
    reach = reach_rows(judged) + cost_rows(elapsed_ms)
    if asked.forecast or not asked.ours_only:
        first = asked.seeds[0]
        reach += forecast_rows(forecasts(range(first, first + (2 if asked.quick else FORECAST_SEEDS))))
    if asked.real or not asked.ours_only:
        reach += real_rows(lambda frames: watch(frames).final)
    tables = {"Asked and measured": [["what", "asked", "measured"], *map(list, reach)],
              "Ours, by case": detail_table(judged), "Ours, by blur": blur_table(judged)}
    if tried:
        tables |= {"Median / 95 % px / share of frames wrong by > 1 px or given up": comparison_table(tried),
                   "Time of a pair": time_table(tried)}
    for title, table in tables.items():
        print(f"\n## {title}\n\n{markdown(table)}", flush=True)
    lists = {"Failures": failure_lines(judged), "Worst": worst_lines(judged)}
    for title, lines in lists.items():
        print(f"\n## {title}\n", *lines, sep="\n")
    if asked.out:
        asked.out.write_bytes(msgspec.json.format(msgspec.json.encode(
            {"tables": tables, "lists": lists, "frames": judged, "pairs": tried}), indent=0))
    if asked.plot and tried:
        plot(tried, asked.plot)


if __name__ == "__main__":
    main()
