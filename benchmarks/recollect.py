"""Whether the loop closes: how many blurred frames of whole runs are replaced by sharp ones before their end.

A simulator that takes frames again and a streamer, as processes, for several seeds; counted from the simulated truth
and the session.

Usage: ``.venv/bin/python -P benchmarks/recollect.py [--seeds N] [--first SEED] [--rate HZ] [--scenario NAME]
[--set KEY=VALUE]...``
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from monitor.demo import free_endpoints

FIRST_SEED = 9_301
SHORTEST_PX = 3.0
"""True blur from which on a frame has to be replaced."""
_STREAMER_GRACE_S = 60.0

Row = tuple[str, str, str]
"""What, asked, measured."""


class Loop(NamedTuple):
    """Counts of one run."""

    seed: int
    blurred: list[int]
    """Planned frames that are truly blurred by `SHORTEST_PX` or more."""
    replaced: list[int]
    """Of these, those for which a truly sharp frame came that was judged sharp, before the acquisition ended."""
    asked: list[int]
    """Frames that were asked for."""
    asked_sharp: list[int]
    """Of these, those that are truly sharp and usable."""
    taken: int
    """Frames that were taken again."""
    taken_blurred: int
    """Of these, those that are truly blurred."""
    states: dict[str, int]
    """Requests by their last state."""
    exposed_to_asked_ms: list[float]
    missing: int
    """Frames that the streamer did not get."""


def run_loop(folder: Path, seed: int, *, scenario: str, rate_hz: float, assignments: Sequence[str]) -> Loop:
    """Run a scenario through both processes and count."""
    frames, results, control = free_endpoints(3)
    session, truth = folder / f"session_{seed}", folder / f"truth_{seed}.h5"
    settings = [f"frames.endpoint={frames}", "frames.bind=true", "frames.pattern=pull", f"results.endpoint={results}",
                f"control.endpoint={control}", *assignments]
    streamer = subprocess.Popen(
        [sys.executable, "-P", "-m", "streamer.cli", "run", "--session", str(session),
         *(word for setting in settings for word in ("--set", setting))],
        stdout=subprocess.DEVNULL, stderr=(folder / f"streamer_{seed}.log").open("wb"))
    try:
        subprocess.run(
            [sys.executable, "-P", "-m", "simulator.cli", "run", scenario, "--seed", str(seed), "--save", str(truth),
             "--rate", f"{rate_hz:g}", "--connect", frames, "--pattern", "push", "--recollect", results],
            check=True, stdout=subprocess.DEVNULL, stderr=(folder / f"simulator_{seed}.log").open("wb"))
    finally:
        streamer.terminate()
        streamer.wait(_STREAMER_GRACE_S)
    return count(seed, session, truth)


def count(seed: int, session: Path, truth: Path) -> Loop:
    """Compare what the streamer asked for and got with what is true."""
    with h5py.File(truth) as file:
        blurred, usable = file["truth/blurred"][()], file["truth/usable"][()]
        length_px, recollects = file["truth/blur_length_px"][()], file["truth/recollects"][()]
    planned = recollects < 0
    rows = {int(row["index"]): row for row in _table(session / "frames.csv") if row["kind"] == "projection"}
    requests = _table(session / "recollections.csv")
    good = {int(recollects[index]) for index, row in rows.items()
            if recollects[index] >= 0 and row["verdict"] == "sharp" and not blurred[index] and usable[index]}
    wanted = np.flatnonzero(planned & blurred & (length_px >= SHORTEST_PX)).tolist()
    asked = [int(request["index"]) for request in requests]
    states: dict[str, int] = {}
    for request in requests:
        states[request["state"]] = states.get(request["state"], 0) + 1
    accounting = json.loads((session / "summary.json").read_text(encoding="utf-8"))["accounting"]
    return Loop(
        seed=seed, blurred=wanted, replaced=[index for index in wanted if index in good], asked=asked,
        asked_sharp=[index for index in asked if usable[index] and not blurred[index]],
        taken=int((~planned).sum()), taken_blurred=int((~planned & blurred).sum()), states=states,
        exposed_to_asked_ms=[1000 * (_at(request["requested_at"]) - _at(request["exposed_at"]))
                             for request in requests if request["exposed_at"] and not request["who"]],
        missing=int(accounting["missing"]["count"]))


def summary(loops: Sequence[Loop]) -> list[Row]:
    """Put all runs together."""
    blurred, replaced = (sum(len(names) for names in column) for column in zip(
        *((loop.blurred, loop.replaced) for loop in loops), strict=True))
    asked = sum(len(loop.asked) for loop in loops)
    states = {state: sum(loop.states.get(state, 0) for loop in loops)
              for state in sorted({state for loop in loops for state in loop.states})}
    times = [value for loop in loops for value in loop.exposed_to_asked_ms]
    late = f"{statistics.median(times):.0f} ms median, {np.percentile(times, 95):.0f} ms at 95 %" if times else "-"
    return [
        (f"truly blurred by >= {SHORTEST_PX:g} px", "", str(blurred)),
        ("  replaced by a sharp frame before the end", "all", str(replaced)),
        ("frames asked for", "", f"{asked}: {', '.join(f'{number} {state}' for state, number in states.items())}"),
        ("  truly sharp ones among them", "0", str(sum(len(loop.asked_sharp) for loop in loops))),
        ("frames taken again", "", str(sum(loop.taken for loop in loops))),
        ("  blurred again", "", str(sum(loop.taken_blurred for loop in loops))),
        ("frames that were lost on the way", "0", str(sum(loop.missing for loop in loops))),
        ("exposed to asked for, those judged again later included", "", late),
    ]


def lines(rows: Iterable[Row]) -> Iterable[str]:
    """Write a table."""
    yield "| what | asked | measured |"
    yield "| --- | --- | --- |"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def main() -> None:
    """Run all seeds, a line each, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])   # type: ignore[union-attr]
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=FIRST_SEED)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--scenario", default="sun2025_txm")
    parser.add_argument("--set", action="append", default=[], dest="assignments", metavar="KEY=VALUE")
    parser.add_argument("--keep", type=Path, help="keep sessions and truth in this folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="txm-recollect-") as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        loops = []
        for seed in range(given.first, given.first + given.seeds):
            loop = run_loop(folder, seed, scenario=given.scenario, rate_hz=given.rate, assignments=given.assignments)
            loops.append(loop)
            left = sorted(set(loop.blurred) - set(loop.replaced))
            print(f"seed {seed}: {len(loop.replaced)} of {len(loop.blurred)} replaced"
                  f"{f', not {left}' if left else ''}; {loop.taken} taken again, {loop.taken_blurred} of them blurred; "
                  f"asked for though sharp: {loop.asked_sharp or 'none'}; {loop.states}", flush=True)
    print(*lines(summary(loops)), sep="\n")


if __name__ == "__main__":
    main()
