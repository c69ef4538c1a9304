"""From the exposure of a frame to its alert: simulator and streamer as processes of their own, on this machine.

    python benchmarks/alerts.py [--scenario sun2025_txm] [--frames 200] [--rate 20] [--seed 0] [--set KEY=VALUE]...

Listens to the results as a dashboard would. The simulator has made its frames before the first one is sent, so that it
does not compete for the cores; a frame counts from the end of its exposure, which is when it is sent. The clock is the
same for all. A frame flagged later, by a revision, has no figure of its own: it is counted.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from simulator.plan import Request
from simulator.publisher import Pace, Sender, publish, with_ends
from simulator.scenarios import find
from streamer.client import Client
from streamer.clock import unix_of
from streamer.protocols import get

_SILENCE_S = 20.0
Key = tuple[str, int]
Times = dict[Key, float]
RULES = {"blurred_frame", "beam_dump", "saturated", "empty_beam", "bad_frame"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scenario", default="sun2025_txm")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], dest="assignments")
    parser.add_argument("--send", metavar="ENDPOINT", help="Be the simulator.")
    given = parser.parse_args()
    if given.send:
        _send(given)
        return
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        received, frames, alerts, requests, late = _measure(given, Path(folder))
    print(f"{given.scenario}, {given.frames} projections at {given.rate:g} frames/s, seed {given.seed}, "
          f"{os.cpu_count()} cores, load before {before:.1f}, after {os.getloadavg()[0]:.1f}")
    for name, times in (("received to row", received), ("exposed to row", frames), ("exposed to alert", alerts),
                        ("exposed to request", requests)):
        if times:
            median, high, highest = np.percentile(list(times.values()), (50, 95, 99))
            print(f"{name:19s} {len(times):4d} frames: median {median:6.1f} ms, 95 % {high:6.1f} ms, "
                  f"99 % {highest:6.1f} ms, worst {max(times.values()):6.1f} ms")
    print(f"flagged by a later revision: {late} frames")


def _send(given: argparse.Namespace) -> None:
    planned = find(given.scenario).build(Request(frames=given.frames, seed=given.seed))
    items = list(with_ends(planned.frames()))
    print("ready", flush=True)
    with Sender(given.send, connect=True, pattern="push") as sender:
        publish(items, sender, get("array-1.0"), pace=Pace(rate_hz=given.rate), restamp=True)


def _measure(given: argparse.Namespace, folder: Path) -> tuple[Times, Times, Times, Times, int]:
    """Run both programs; return milliseconds by frame, and how many frames were flagged later."""
    times: dict[str, Times] = {"received": {}, "frame": {}, "alert": {}, "recollect": {}}
    exposed: dict[Key, float] = {}
    revised: set[Key] = set()
    with _streamer(folder, given.assignments) as (results, frames_endpoint), Client(
            results, topics=("frame", "alert", "recollect", "status")) as client:
        assert client.receive(20.0) is not None, "the streamer does not answer"
        simulator = subprocess.Popen(
            [sys.executable, __file__, "--scenario", given.scenario, "--frames", str(given.frames), "--rate",
             str(given.rate), "--seed", str(given.seed), "--send", frames_endpoint], stdout=subprocess.PIPE)
        assert simulator.stdout is not None
        assert simulator.stdout.readline() == b"ready\n", "the simulator does not start"
        heard = time.monotonic()
        while time.monotonic() - heard < _SILENCE_S:
            result = client.receive(1.0)
            now = time.time()
            if result is None:
                continue
            if result.topic == "status":
                if simulator.poll() is not None and result.header["state"] == "idle" and not result.header["queue"]:
                    break
                continue
            heard = time.monotonic()
            key = result.header["acquisition"], result.header["index"]
            if result.topic == "frame" and key not in exposed and result.header["kind"] == "projection":
                exposed[key] = (unix_of(result.header["exposed_at"]) or 0.0) + (result.header["exposure_s"] or 0.0)
                times["received"][key] = result.header["latency_ms"]
                revised |= {key} if result.header["provisional"] else set()
            wanted = result.topic != "alert" or result.header["rule"] in RULES
            if wanted and key in exposed and key not in times[result.topic]:
                times[result.topic][key] = 1e3 * (now - exposed[key])
        simulator.wait(10.0)
        assert simulator.returncode == 0, f"the simulator ended with {simulator.returncode}"
    alerts = {key: value for key, value in times["alert"].items() if key not in revised}
    requests = {key: value for key, value in times["recollect"].items() if key not in revised}
    return times["received"], times["frame"], alerts, requests, len(revised & times["alert"].keys())


@contextmanager
def _streamer(folder: Path, assignments: list[str]) -> Iterator[tuple[str, str]]:
    """Run a streamer on free ports; yield where its results are and where it takes frames."""
    ports = [_free_port() for _ in range(3)]
    frames, results, control = (f"tcp://127.0.0.1:{port}" for port in ports)
    settings = [f"frames.endpoint={frames}", "frames.bind=true", "frames.pattern=pull", f"results.endpoint={results}",
                f"control.endpoint={control}", *assignments]
    process = subprocess.Popen(
        [sys.executable, "-m", "streamer.cli", "run", "--session", str(folder / "session"),
         *(part for setting in settings for part in ("--set", setting))], stderr=subprocess.DEVNULL)
    try:
        yield results, frames
    finally:
        process.terminate()
        process.wait(60.0)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    main()
