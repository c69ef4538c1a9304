"""Measure the flow against truth, and against the methods a user would pick, on simulated and on real frames.

Usage: ``.venv/bin/python -P benchmarks/flow.py [--quick] [--out FILE.json] [--plot FILE.png]``, or a part:
``--kinds smooth --photons 500 --seeds 301-302 --ours-only``. The default seeds 8001... are held out: tune on 3xx.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))   # -P leaves it out

from flow_figures import Tried, calibration_rows, cost_rows, detail_table, peer_table, plot, reach_rows
from flow_pairs import at_grid, pair_rows
from flow_peers import DIS_MEDIUM, Peer, chained, peers
from flow_peers import flow as peer_flow
from flow_sequences import KINDS, Kind, Sequence
from numpy.typing import NDArray
from sharpness import markdown, numbers

from streamer.imaging.flow import Prepared, prepare
from streamer.records import FloatArray, FlowResult
from streamer.settings import FlowSettings
from streamer.tracking.deformation import Deformation

SEEDS = (8001, 8002, 8003, 8004)
DOSES = (500.0, 2000.0)
PEER_SEEDS = 1
SMALL = (180, 300)
_COST_FRAMES = 30


class Points(NamedTuple):
    """Where a frame is judged."""

    truth_px: FloatArray
    on: NDArray[np.bool_]
    """On particles whose place is in view."""
    valid: NDArray[np.bool_]
    """Of these, what ours calls valid."""


def try_sequence(sequence: Sequence, photons: float, *, others: bool, slow: bool) -> Iterator[Tried]:
    """Follow one sequence with ours, frame by frame, and run the others on its sharp frames."""
    reference = sequence.frame(0, photons)
    named = peers() if slow else {DIS_MEDIUM: peers()[DIS_MEDIUM]}
    chain = _Chain(peers()[DIS_MEDIUM], reference) if others else None
    for index, result, spent_ms in _ours(sequence, photons, "tracked"):
        frame = sequence.frame(index, photons)
        points = _points(sequence, index, result)
        ratio = _over_sigma(result, points)
        yield _judged(sequence, photons, "this streamer", index, result.displacement_px, points, spent_ms, ratio)
        if chain is not None:
            dense = chain.follow(frame)
            grid = result.grid_y_px, result.grid_x_px
            yield _judged(sequence, photons, f"{DIS_MEDIUM}, chained", index, at_grid(dense, *grid), points)
            yield from _others(named, sequence, photons, index, frame, reference, result, points)
    if slow:
        for index, result, spent_ms in _ours(sequence, photons, "single"):
            points = _points(sequence, index, result)
            yield _judged(sequence, photons, "this streamer, two frames alone", index, result.displacement_px, points,
                          spent_ms, _over_sigma(result, points))


def _others(named: dict[str, Peer], sequence: Sequence, photons: float, index: int, frame: FloatArray,
            reference: FloatArray, result: FlowResult, points: Points) -> Iterator[Tried]:
    for name, peer in named.items():
        if index % peer.every == peer.every - 1:
            started = time.process_time()
            dense = peer_flow(peer, reference, frame)
            spent_ms = 1e3 * (time.process_time() - started)
            found = at_grid(dense, result.grid_y_px, result.grid_x_px)
            yield _judged(sequence, photons, name, index, found, points, spent_ms)


class _Chain:
    """Flow from frame to frame, added up."""

    def __init__(self, peer: Peer, reference: FloatArray) -> None:
        self._peer, self._before = peer, reference
        self._sum = np.zeros((2, *reference.shape), np.float32)

    def follow(self, frame: FloatArray) -> FloatArray:
        self._sum = chained(peer_flow(self._peer, self._before, frame), self._sum)
        self._before = frame
        return self._sum


def _ours(sequence: Sequence, photons: float, method: str) -> Iterator[tuple[int, FlowResult, float]]:
    """Give frames to the tracker as the pipeline would; blurred ones are known as such."""
    follower = Deformation(FlowSettings(method=method))   # type: ignore[arg-type]
    for index in range(sequence.count):
        frame = sequence.frame(index, photons)
        verdict = "blurred" if index in sequence.blurs else "sharp"
        started = time.process_time()
        outcome = follower.update("", ("", index), frame, drift_px=(0.0, 0.0), verdict=verdict)   # type: ignore[arg-type]
        spent_ms = 1e3 * (time.process_time() - started)
        if outcome.result is not None and index:
            yield index, outcome.result, spent_ms


def _points(sequence: Sequence, index: int, result: FlowResult) -> Points:
    grid_y, grid_x = result.grid_y_px, result.grid_x_px
    truth = sequence.truth(index, grid_y, grid_x)
    y, x = grid_y[:, None] + truth[0], grid_x[None] + truth[1]
    inside = (y > 2) & (y < sequence.shape[0] - 3) & (x > 2) & (x < sequence.shape[1] - 3)
    on = sequence.on_particles(grid_y, grid_x) & inside
    return Points(truth, on, on & result.valid)


def _over_sigma(result: FlowResult, points: Points) -> float:
    error = np.hypot(*(result.displacement_px - points.truth_px))
    return float(np.median((error / result.sigma_px)[points.valid]) / np.sqrt(np.log(4)))


def _judged(sequence: Sequence, photons: float, method: str, index: int, found: FloatArray, points: Points,
            spent_ms: float = np.nan, over_sigma: float = np.nan) -> Tried:
    error = np.hypot(*(found - points.truth_px))
    share = float(points.valid.sum() / max(1, points.on.sum()))
    return Tried(sequence.kind, sequence.seed, photons, method, index, float(error[points.valid].mean()),
                 float(error[points.on].mean()), share, over_sigma, spent_ms)


def costs(seed: int) -> dict[str, list[float]]:
    """CPU time of a frame, preparation included, in one thread."""
    spent: dict[str, list[float]] = {}
    for name, shape in (("654 x 678", None), ("180 x 300", SMALL)):
        sequence = (Sequence("smooth", seed, frames=_COST_FRAMES) if shape is None else
                    Sequence("smooth", seed, frames=_COST_FRAMES, shape=shape))
        for method in ("tracked", "single"):
            spent[f"{method}, {name}"] = [ms for index, _, ms in _ours(sequence, 500.0, method) if index > 8]
        frame = sequence.frame(1, 500.0)
        spent[f"prepare, {name}"] = [_timed(frame) for _ in range(9)]
    return spent


def _timed(frame: FloatArray) -> float:
    started = time.process_time()
    prepared: Prepared = prepare(frame)
    assert prepared.noise > 0
    return 1e3 * (time.process_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=list(KINDS), help=", ".join(KINDS))
    parser.add_argument("--photons", type=float, nargs="+", default=list(DOSES))
    parser.add_argument("--seeds", type=numbers, default=list(SEEDS), help="such as 301-304,310")
    parser.add_argument("--frames", type=int, default=56, help="in each sequence")
    parser.add_argument("--ours-only", action="store_true", help="no peers")
    parser.add_argument("--no-pairs", action="store_true", help="neither single pairs, real frames nor cost")
    parser.add_argument("--quick", action="store_true", help="short sequences, to see that it works")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write tables and every judged frame")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the errors (needs matplotlib)")
    asked = parser.parse_args()
    if unknown := set(asked.kinds) - set(KINDS):
        parser.error(f"unknown kind {', '.join(sorted(unknown))}; known: {', '.join(KINDS)}")
    if asked.quick:
        asked.seeds, asked.frames, asked.photons = asked.seeds[-1:], 12, asked.photons[:1]
    cv2.setNumThreads(1)
    tried: list[Tried] = []
    for kind in asked.kinds:
        for place, seed in enumerate(asked.seeds):
            sequence = Sequence(_kind(kind), seed, frames=asked.frames)
            for photons in asked.photons:
                slow = not asked.ours_only and place < PEER_SEEDS
                tried += try_sequence(sequence, photons, others=not asked.ours_only, slow=slow)
            print(f"{kind}, seed {seed} done", file=sys.stderr, flush=True)
    reach = reach_rows(tried) + calibration_rows(tried)
    if not asked.no_pairs:
        reach += [*pair_rows(asked.seeds), *cost_rows(costs(asked.seeds[0]))]
    tables = {"Asked and measured": [["what", "asked", "measured"], *map(list, reach)],
              "In detail": detail_table(tried), "Others": peer_table(tried)}
    for title, table in tables.items():
        print(f"\n## {title}\n\n{markdown(table)}", flush=True)
    if asked.out:
        asked.out.write_bytes(msgspec.json.format(msgspec.json.encode({"tables": tables, "frames": tried}), indent=0))
    if asked.plot:
        plot(tried, asked.plot)


def _kind(name: str) -> Kind:
    return next(kind for kind in KINDS if kind == name)


if __name__ == "__main__":
    main()
