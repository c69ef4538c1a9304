"""Measure speed and robustness of the streamer as a user runs it, and print one table.

Usage: ``make bench``, or ``.venv/bin/python -P benchmarks/run.py [--quick] [NAME]...``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import zmq
from numpy.typing import NDArray

from streamer.client import Client
from streamer.formats import open_recording
from streamer.journal import Journal
from streamer.protocols import get
from streamer.records import Frame

Row = tuple[str, str, str]
"""What, asked, measured."""


def recording(folder: Path, *, frames: int = 56) -> Path:
    """Simulate the recording that everything is measured on."""
    path = folder / f"sun2025_{frames}.h5"
    if not path.exists():
        command("simulator.cli", "run", "sun2025_txm", "--seed", "2025", "--frames", str(frames), "--save", str(path))
    return path


def command(module: str, *arguments: str) -> str:
    """Run a command of the project to its end."""
    return _run("-m", module, *arguments)


def _run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-P", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr}")
    return done.stdout


def analyse(folder: Path, *, quick: bool) -> list[Row]:
    """Analyse the recording with flow off and on; the median of several runs."""
    rows: list[Row] = []
    source = recording(folder)
    for flow, asked in (("false", ">= 40 frames/s"), ("true", ">= 10 frames/s")):
        speeds, stages = [], {}
        for run in range(1 if quick else 5):
            session = folder / f"analyse_{flow}_{run}"
            command("streamer.cli", "analyse", str(source), "--out", str(session), "--set", f"flow.enabled={flow}")
            timing = json.loads((session / "summary.json").read_text())["timing"]
            speeds.append((timing["frames_per_s"], 56 / timing["elapsed_s"]))
            stages = timing["stages"]
        every, projections = (statistics.median(column) for column in zip(*speeds, strict=True))
        name = "on" if flow == "true" else "off"
        rows.append((f"analyse sun2025_txm, flow {name}", asked,
                     f"{every:.0f} frames/s with flats and darks, {projections:.0f} projections/s"))
        for stage in ("correct", "spectrum", "register", "track", "flow"):
            if stage in stages:
                spread = f"{stages[stage]['median_ms']:.1f} ms median, {stages[stage]['p95_ms']:.1f} ms at 95 %"
                rows.append((f"  {stage}, flow {name}", "", spread))
    return rows


@contextlib.contextmanager
def running_streamer(session: Path, *settings: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run a streamer on free ports; yields the process and its frames, results and control endpoints."""
    assignments = ["frames.pattern=pull", "frames.bind=true", "frames.endpoint=tcp://127.0.0.1:*",
                   "results.endpoint=tcp://127.0.0.1:*", "control.endpoint=tcp://127.0.0.1:*", *settings]
    arguments = [part for assignment in assignments for part in ("--set", assignment)]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "streamer.cli", "run", "--session", str(session), *arguments],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    words = process.stderr.readline().replace(",", " ").replace(";", " ").split()
    threading.Thread(target=process.stderr.read, daemon=True).start()   # alerts must not fill the pipe
    try:
        yield process, [word for word in words if word.startswith("tcp://")]
    finally:
        process.terminate()
        process.wait(60)


def resident_mb(pid: int) -> float:
    """Return the memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def live(folder: Path, *, quick: bool) -> list[Row]:
    """Send 20 frames/s of 654 x 678 for a minute and watch from outside."""
    seconds, rate = (10, 20) if quick else (60, 20)
    with open_recording(recording(folder)) as source:
        frames = list(source.frames())
    flats = [frame for frame in frames if frame.kind != "projection"][:8]
    projections = [frame for frame in frames if frame.kind == "projection"]
    session, latencies, memory = folder / "live", [], []
    with running_streamer(session) as (process, (endpoint, results, control)), Client(results, control) as client:
        assert client.receive(10) is not None
        sent: dict[tuple[str, int], float] = {}
        sender = threading.Thread(target=_send_paced, args=(endpoint, flats, projections, seconds * rate, rate, sent))
        sender.start()
        deadline = time.monotonic() + seconds + 30
        while len(latencies) < seconds * rate and time.monotonic() < deadline:
            result = client.receive(1.0)
            now = time.time()
            if result is None or result.topic != "frame" or result.header["revision"]:
                continue
            key = result.header["acquisition"], result.header["index"]
            if key in sent:   # the flow's summary makes a second message of the frame
                latencies.append(1e3 * (now - sent.pop(key)))
                if len(latencies) % rate == 0:
                    memory.append(resident_mb(process.pid))
        sender.join()
        status = _newest_status(client)
    accounting = json.loads((session / "summary.json").read_text())["accounting"]
    lost = seconds * rate - accounting["measured"] + len(flats)
    half = len(memory) // 2
    spread = (f"{np.median(latencies):.1f} ms median, {np.percentile(latencies, 95):.1f} ms at 95 %, "
              f"{max(latencies):.0f} ms at most")
    return [
        (f"live {rate} frames/s, {seconds} s: lost", "0", str(lost)),
        ("  sent to received by a listener", "<= 50 ms at 95 %", spread),
        ("  received to published (its own word)", "<= 50 ms at 95 %",
         f"{status['latency_median_ms']:.1f} ms median, {status['latency_p95_ms']:.1f} ms at 95 %"),
        ("  memory, first and second half of the run", "flat",
         f"{np.median(memory[:half]):.0f} MB, {np.median(memory[half:]):.0f} MB"),
        ("  flow, newest frame only", "", f"{status['flow_done']} fields, {status['flow_skipped']} frames skipped"),
    ]


def _newest_status(client: Client) -> dict[str, float]:
    while True:
        result = client.receive(5.0)
        if result is not None and result.topic == "status":
            return result.header


def _send_paced(
    endpoint: str, flats: list[Frame], projections: list[Frame], count: int, rate: float,
    sent: dict[tuple[str, int], float],
) -> None:
    encode = get("array-1.0").encode
    order = [*range(len(projections)), *range(len(projections) - 2, 0, -1)]   # to and fro: no jump at the turn
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.connect(endpoint)
        for flat in flats:
            socket.send_multipart(encode(flat))
        start = time.monotonic() + 0.5
        for number in range(count):
            source = projections[order[number % len(order)]]
            frame = Frame(pixels=source.pixels, index=number, acquisition="bench", view="main")
            time.sleep(max(0.0, start + number / rate - time.monotonic()))
            sent["bench", number] = time.time()
            socket.send_multipart(encode(frame))


def burst(folder: Path, *, quick: bool) -> list[Row]:
    """Push frames as fast as they go and account for every one."""
    count = 200 if quick else 2000
    with open_recording(recording(folder)) as source:
        projections = [frame for frame in source.frames() if isinstance(frame, Frame) and frame.kind == "projection"]
    encode, session, begun = get("array-1.0").encode, folder / "burst", time.monotonic()
    with running_streamer(session) as (_process, (endpoint, results, control)), Client(results, control) as client, \
            zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.connect(endpoint)
        for number in range(count):
            image = projections[number % len(projections)].pixels
            socket.send_multipart(encode(Frame(pixels=image, index=number, acquisition="burst", expected=count)))
        socket.send_multipart(get("array-1.0").encode_end("burst"))
        while _newest_status(client)["accounting"]["measured"] < count:   # type: ignore[index]
            pass
    elapsed = time.monotonic() - begun
    accounting = json.loads((session / "summary.json").read_text())["accounting"]
    found = {name: accounting[name]["count"] for name in ("missing", "duplicate", "malformed", "refused", "dropped")}
    told = ", ".join(f"{value} {name}" for name, value in found.items())
    outcome = (f"{accounting['received']} received, {accounting['measured']} measured, {told}; "
               f"{count / elapsed:.0f} frames/s")
    return [(f"PUSH {count} frames as fast as it goes", "every frame accounted for", outcome)]


def accuracy(folder: Path, *, quick: bool) -> list[Row]:
    """Compare what every scenario gives with its truth, over seeds that nothing was tuned on."""
    rows: list[Row] = []
    for scenario in ("sun2025_txm", "two_views", "still", "bad_frames", "first_frame_blurred"):
        seeds = (9101,) if quick else (9101, 9102, 9103, 9104)
        found = [compare(folder, scenario, seed) for seed in seeds]
        error = np.concatenate([one.error for one in found])
        inside = np.concatenate([one.inside for one in found])
        counts = np.sum([one.counts for one in found], axis=0)
        told = (f"drift error {np.median(error):.3f} px median, {np.percentile(error, 95):.3f} at 95 %, "
                f"{100 * np.mean(inside):.0f} % of the components within 1 sigma; blurred found {counts[0]} of "
                f"{counts[1]}, false alarms {counts[2]} of {counts[3]}, unusable found {counts[4]} of {counts[5]}")
        rows.append((f"{scenario}, {len(seeds)} runs", "", told))
    return rows


class Comparison(NamedTuple):
    """One run against its truth."""

    error: NDArray[np.float64]
    """Drift error of every registered frame, px."""
    inside: NDArray[np.bool_]
    """Whether each component of the error is within its predicted sigma."""
    counts: list[int]
    """Blurred found, blurred, sharp called blurred, sharp, unusable found, unusable."""


def compare(folder: Path, scenario: str, seed: int) -> Comparison:
    """Simulate a scenario, analyse it, and compare with the truth."""
    path, session = folder / f"{scenario}_{seed}.h5", folder / f"{scenario}_{seed}"
    command("simulator.cli", "run", scenario, "--seed", str(seed), "--save", str(path))
    command("streamer.cli", "analyse", str(path), "--out", str(session), "--set", "flow.enabled=false")
    with h5py.File(path) as file:
        truth = {name: file[f"truth/{name}"][()] for name in ("drift_px", "blurred", "usable")}
    path.unlink()
    with Journal(session) as journal:
        rows = sorted((row for _, row in journal.rows() if row.kind == "projection"), key=lambda row: row.index)
    drift, sigma = (np.array([[getattr(row, name) for name in names] for row in rows], float)
                    for names in (("drift_y_px", "drift_x_px"), ("drift_sigma_px", "drift_sigma_px")))
    blurred, bad = (np.array([row.verdict == verdict for row in rows]) for verdict in ("blurred", "bad"))
    error = drift - truth["drift_px"]
    measured = np.isfinite(error).all(axis=1) & (sigma[:, 0] > 0)
    smeared, sharp = truth["blurred"] & truth["usable"], ~truth["blurred"] & truth["usable"]
    counts = [blurred & smeared, smeared, blurred & sharp, sharp, bad & ~truth["usable"], ~truth["usable"]]
    return Comparison(np.hypot(*error[measured].T), (np.abs(error) <= sigma)[measured].ravel(),
                      [int(np.count_nonzero(each)) for each in counts])


def sharpness(folder: Path, *, quick: bool) -> list[Row]:
    """Compare the blur screening with what was asked for; sharpness.py itself prints much more."""
    results = folder / "sharpness.json"
    _run(str(Path(__file__).with_name("sharpness.py")), "--out", str(results), *(["--quick"] if quick else []))
    _head, *rows = json.loads(results.read_text())["tables"]["Asked and measured"]
    return [(what, asked, measured) for what, asked, measured in rows]


def drift(folder: Path, *, quick: bool) -> list[Row]:
    """Compare the drift with what was asked for; drift.py itself prints much more."""
    results = folder / "drift.json"
    arguments = ["--ours-only", "--forecast", "--real", "--out", str(results), *(["--quick"] if quick else [])]
    _run(str(Path(__file__).with_name("drift.py")), *arguments)
    _head, *rows = json.loads(results.read_text())["tables"]["Asked and measured"]
    return [(what, asked, measured) for what, asked, measured in rows]


def flow(folder: Path, *, quick: bool) -> list[Row]:
    """Compare the displacement fields with what was asked for; flow.py itself prints much more."""
    results = folder / "flow.json"
    arguments = ["--seeds", "8001-8002", "--out", str(results), *(["--quick"] if quick else [])]
    _run(str(Path(__file__).with_name("flow.py")), *arguments)
    _head, *rows = json.loads(results.read_text())["tables"]["Asked and measured"]
    return [(what, asked, measured) for what, asked, measured in rows]


BENCHMARKS: dict[str, Callable[..., list[Row]]] = {
    "analyse": analyse, "live": live, "burst": burst, "accuracy": accuracy, "sharpness": sharpness,
    "drift": drift, "flow": flow}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="short runs, to see that it works")
    chosen = parser.parse_args()
    unknown = set(chosen.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}; known: {', '.join(BENCHMARKS)}")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| what | asked | measured |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen.names or BENCHMARKS:
            for row in BENCHMARKS[name](Path(folder), quick=chosen.quick):
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
