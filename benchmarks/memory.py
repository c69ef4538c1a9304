"""Analyse a recording of 20 GB and watch the memory of the process.

Usage: ``.venv/bin/python -P benchmarks/memory.py [--frames 22000] [--set KEY=VALUE]... [--folder DIR]``.

The recording is an HDF5 file of 654 x 678 uint16 whose pictures lie outside of it: a simulated run, to and fro, again
and again from one file of 48 MB. It takes no more disk than that, and every picture is read as from a whole file. A
child process imports everything, says what it has by then, and analyses; its memory is looked at once a second.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import h5py
import numpy as np

from simulator.plan import Request
from simulator.scenarios import find
from streamer.records import Frame

CYCLE = 28
SEED = 3


def make_recording(folder: Path, frames: int) -> Path:
    """Write a recording of many frames that takes little disk."""
    run = find("sun2025_txm").build(Request(frames=CYCLE, seed=SEED))
    found: dict[str, list[np.ndarray]] = {"projection": [], "flat": [], "dark": []}
    for item in run.frames():
        if isinstance(item, Frame):
            found[item.kind].append(item.pixels)
    there = np.stack(found["projection"])
    cycle = np.concatenate([there, there[-2:0:-1]])
    (folder / "pictures.raw").write_bytes(cycle.tobytes())
    rounds, rest = divmod(frames, len(cycle))
    pieces = [(str(folder / "pictures.raw"), 0, count * cycle[0].nbytes)
              for count in (*[len(cycle)] * rounds, rest) if count]
    path = folder / "long.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("exchange/data", (frames, *cycle.shape[1:]), cycle.dtype, external=pieces)
        file["exchange/data_white"] = np.stack(found["flat"])
        file["exchange/data_dark"] = np.stack(found["dark"])
    return path


def analyse(path: Path, out: Path, assignments: list[str]) -> None:
    """Analyse in this process, and print its memory once a second: seconds, frames, MB, MB that are not of files."""
    from streamer import console  # noqa: PLC0415
    from streamer.formats import open_recording  # noqa: PLC0415
    from streamer.service import offline  # noqa: PLC0415
    from streamer.settings import load  # noqa: PLC0415
    from streamer.sources.recording import items_of  # noqa: PLC0415

    console.start_log(level=logging.ERROR)
    done, ended, started = 0, threading.Event(), time.monotonic()

    def say() -> None:
        print(json.dumps([round(time.monotonic() - started, 1), done, *memory_mb()]), flush=True)

    def watch() -> None:
        while not ended.wait(1.0):
            say()

    def count() -> None:
        nonlocal done
        done += 1

    say()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with open_recording(path) as recording:
            offline.analyse(items_of(recording), load(assignments=assignments), out, name=str(path),
                            recording={"path": str(path)}, on_progress=count)
    finally:
        ended.set()
        watcher.join()
        say()


def memory_mb() -> tuple[float, float, float]:
    """Return the memory of this process in MB: now, without mapped files, and the highest so far."""
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    now, anonymous, highest = (round(int(lines[name].split()[0]) / 1024, 1) for name in ("VmRSS", "RssAnon", "VmHWM"))
    return now, anonymous, highest


def report(lines: list[list[float]]) -> None:
    """Print the curve in twenty steps, and what the second half of the frames added."""
    base, frames = lines[0][2], lines[-1][1]
    print(f"{'frames':>8} {'s':>8} {'MB above the imports':>22}")
    for step in range(21):
        at = min(lines, key=lambda line: abs(line[1] - step * frames / 20))
        print(f"{at[1]:8.0f} {at[0]:8.0f} {at[2] - base:22.0f}")
    analysing = [line for line in lines if 0 < line[1] < frames]
    half = [line for line in analysing if line[1] > frames / 2]
    slope = np.polyfit([line[1] for line in half], [line[3] for line in half], 1)[0] if len(half) > 2 else 0.0
    peak = max((line[2] for line in analysing), default=base)
    print(f"imports {base:.0f} MB; highest {lines[-1][4] - base:.0f} MB above, while analysing {peak - base:.0f} MB; "
          f"second half {1e3 * slope:.1f} kB a frame")


def main() -> None:
    """Make the recording, start the child, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=22_000)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child is not None:
        analyse(chosen.child, chosen.folder / "session", chosen.set)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        path = make_recording(folder, chosen.frames)
        command = [sys.executable, "-P", __file__, "--child", str(path), "--folder", str(folder)]
        command += [word for assignment in chosen.set for word in ("--set", assignment)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            lines = [json.loads(line) for line in child.stdout]
        if child.returncode:
            sys.exit(child.returncode)
        (folder / "memory.json").write_text(json.dumps(lines))
        report(lines)


if __name__ == "__main__":
    main()
