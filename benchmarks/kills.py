"""Kill the streamer at random moments, start it again, and compare what is left with what was published.

Usage: ``.venv/bin/python -P benchmarks/kills.py [--kills 200] [--rate 20] [--seed 1] [--folder DIR]``.

A sender publishes frames without a break, a listener writes down everything that the streamer publishes. In the end:
every published row must be in the journal, none twice, every number sent must be measured or missing, and every row
must be the one that a streamer gives that was never interrupted and got the same frames.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import zmq

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))   # -P leaves it out

from support.scenes import Scene

from streamer import cli
from streamer.client import Client
from streamer.errors import CommandError, LinkError
from streamer.journal import Journal
from streamer.pipeline import Pipeline, measure
from streamer.protocols import get
from streamer.records import Frame, FrameRow
from streamer.settings import load

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["streamer.service.live", "streamer.sources"])
SHAPE = (160, 168)
PERIOD = 400
FLATS = 4
COMPARED = ("verdict", "provisional", "blur_length_px", "blur_angle_deg", "blur_score", "drift_y_px", "drift_x_px",
            "drift_sigma_px", "trend_y_px", "trend_x_px", "jitter_y_px", "jitter_x_px", "registration_quality",
            "reference_index")


class Sequence:
    """Frames of a sample that goes round in a circle; a few are blurred, some show nothing, one in a while jumps."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._scene = Scene(seed, SHAPE, margin=40)
        self._clean: dict[tuple[int, bool], np.ndarray] = {}

    def frame(self, number: int) -> Frame:
        """Return the frame of a number, which is the same whenever it is asked for."""
        rng = np.random.default_rng((self._seed, number))
        if number < FLATS:
            return Frame(pixels=rng.poisson(400.0, SHAPE).astype(np.uint16), index=number, acquisition="flats",
                         kind="flat", exposed_at=1e9 + 0.05 * number)
        blurred, place = number % 13 == 5, number % PERIOD
        if (place, blurred) not in self._clean:
            turn = 2 * np.pi * place / PERIOD
            step = 12.0 if place > 300 else 0.0
            self._clean[place, blurred] = self._scene.clean(
                drift=(18 * np.sin(turn) + step, 18 * (1 - np.cos(turn))), length_px=8.0 * blurred)
        light = 0.2 if number % 97 == 50 else 400.0
        pixels = rng.poisson(light * self._clean[place, blurred]).astype(np.uint16)
        return Frame(pixels=pixels, index=number, acquisition="scan", exposed_at=1e9 + 0.05 * number)


class Sender(threading.Thread):
    """Publishes frames at a steady rate, whoever listens."""

    def __init__(self, sequence: Sequence, endpoint: str, rate_hz: float) -> None:
        super().__init__(daemon=True)
        self.sent = 0
        self.ended = threading.Event()
        self._sequence, self._endpoint, self._rate_hz = sequence, endpoint, rate_hz

    def run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
            publisher.setsockopt(zmq.LINGER, 2000)
            publisher.bind(self._endpoint)
            time.sleep(1.0)   # until who is there already has subscribed
            dialect, due = get("array-1.0"), time.monotonic()
            while not self.ended.is_set():
                publisher.send_multipart(dialect.encode(self._sequence.frame(self.sent)))
                self.sent += 1
                due += 1 / self._rate_hz
                time.sleep(max(0.0, due - time.monotonic()))
            publisher.send_multipart(dialect.encode_end("scan"))
            time.sleep(0.5)


class Streamer:
    """One life of the streamer: a process of its own, which need not load the libraries each time."""

    def __init__(self, folder: Path, ports: list[int], log: Path) -> None:
        self.started = time.monotonic()
        self._log = log
        self._text_before = log.stat().st_size if log.exists() else 0
        arguments = ["run", "--session", str(folder), "--connect", _address(ports[0]), "--set",
                     f"results.endpoint={_address(ports[1])}", "--set", f"control.endpoint={_address(ports[2])}",
                     "--set", "frames.queue=1000"]
        self.process = FORKSERVER.Process(target=_life, args=(arguments, log), daemon=True)
        self.process.start()

    @property
    def is_ready(self) -> bool:
        """Whether it has said that it listens."""
        with self._log.open("rb") as file:
            file.seek(self._text_before)
            return b"frames from" in file.read()

    def end(self, number: int) -> int | None:
        """Send a signal and wait."""
        os.kill(self.process.pid, number)
        self.process.join(120)
        return self.process.exitcode


def _life(arguments: list[str], log: Path) -> None:
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), sys.stderr.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    cli.main(arguments)


class Listener(threading.Thread):
    """Writes down what is published."""

    def __init__(self, ports: list[int]) -> None:
        super().__init__(daemon=True)
        self.heard: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        self.ended = threading.Event()
        self._results = _address(ports[1])

    def run(self) -> None:
        with Client(self._results, topics=("frame", "alert", "flow", "recollect")) as client:
            while not self.ended.is_set():
                result = client.receive(0.2)
                if result is not None:
                    self.heard[result.topic].append((result.sequence, result.header))


def _address(port: int) -> str:
    return f"tcp://127.0.0.1:{port}"


def _ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def live_and_die(folder: Path, kills: int, rate_hz: float, seed: int) -> tuple[Sender, Listener, list[float]]:
    """Kill as often as asked, then let the last streamer end in peace."""
    rng, ports = np.random.default_rng(seed), _ports(3)
    sender, listener = Sender(Sequence(seed), _address(ports[0]), rate_hz), Listener(ports)
    listener.start()
    ready: list[float] = []
    log = folder.parent / f"{folder.name}.log"
    for life in range(kills + 1):
        streamer = Streamer(folder, ports, log)
        if life == 0:
            log.touch()
            sender.start()
        early = bool(ready) and life < kills and rng.random() < 0.25
        left_s = 5.0 if life == kills else rng.uniform(0.0, 1.2 * np.median(ready) if early else 2.0)
        end = time.monotonic() + (left_s if early else 120.0)
        while time.monotonic() < end and streamer.process.is_alive():
            if not early and streamer.is_ready:
                ready.append(time.monotonic() - streamer.started)
                early, end = True, time.monotonic() + left_s
                _change_a_setting(ports, life)
            time.sleep(0.01)
        if not streamer.process.is_alive():
            raise SystemExit(f"the streamer ended by itself in life {life}; see {log}")
        if life < kills:
            streamer.end(signal.SIGKILL)
        if life % 10 == 9:
            print(f"{life + 1} kills, {sender.sent} frames sent", file=sys.stderr, flush=True)
    sender.ended.set()
    sender.join()
    time.sleep(2.0)
    status = streamer.end(signal.SIGTERM)
    if status != 0:
        raise SystemExit(f"the last streamer ended with status {status}; see {log}")
    listener.ended.set()
    listener.join()
    return sender, listener, ready


def _change_a_setting(ports: list[int], life: int) -> None:
    with Client(_address(ports[1]), _address(ports[2])) as client, contextlib.suppress(LinkError, CommandError):
        client.request("set", key="alerts.jump_px", value=1000.0 + life, timeout_s=0.5)


def uninterrupted(rows: list[FrameRow], sequence: Sequence) -> dict[int, FrameRow]:
    """Return the rows of a pipeline that got the same frames in one go."""
    pipeline, found = Pipeline(load()), {}
    for row in rows:
        job = pipeline.begin(msgspec.structs.replace(sequence.frame(row.index), view=""))
        outcome = pipeline.finish(job, measure(job))
        found[row.index] = outcome.row
        for (_, index), columns in outcome.revisions:
            kept = found[index]
            fields = {name: value for name, value in columns.items() if name != "verdict" or kept.verdict != "bad"}
            found[index] = msgspec.structs.replace(kept, **fields)
    return found


def judge(folder: Path, sender: Sender, listener: Listener, seed: int) -> list[list[str]]:
    """Compare what was published, what is in the journal, and what should be."""
    with Journal(folder) as journal:
        kept = {(row.acquisition, row.index): (sequence, row) for sequence, row in journal.rows()}
        alerts = {alert.id: sequence for sequence, alert in journal.alerts()}
        requests = {request.id: sequence for sequence, request in journal.recollections()}
        events = Counter(event.kind for event in journal.events())
        accounting, parts = journal.meta()["accounting"], journal.meta()["accounting_by_acquisition"]
        revisions = [int(command.arguments["value"]) for _, command, _ in journal.commands() if command.op == "set"]
        newest = journal.settings()
        restarts = journal.meta()["restarts"]
    scan = {name: value if isinstance(value, int) else value["count"] for name, value in parts["scan"].items()}
    numbers = sorted(index for acquisition, index in kept if acquisition == "scan")
    published = listener.heard["frame"]
    lost = sum(kept.get((header["acquisition"], header["index"]), (0, None))[0] < sequence
               for sequence, header in published)
    lost_alerts = sum(alerts.get(header["id"], 0) < sequence for sequence, header in listener.heard["alert"])
    lost_requests = sum(requests.get(header["id"], 0) < sequence for sequence, header in listener.heard["recollect"])
    again = {topic: sum(later[0] <= earlier[0] for earlier, later in itertools.pairwise(heard))
             for topic, heard in listener.heard.items()}
    order = [row for _, row in kept.values() if not row.problems.startswith("dropped")]
    expected = uninterrupted(order, Sequence(seed))
    differ, off_px = 0, 0.0
    for row in order:
        other = expected[row.index]
        differ += any(getattr(row, name) != getattr(other, name) for name in COMPARED)
        if (row.drift_y_px is None) != (other.drift_y_px is None):
            off_px = float("inf")
        elif row.drift_y_px is not None:
            off_px = max(off_px, abs(row.drift_y_px - other.drift_y_px), abs(row.drift_x_px - other.drift_x_px))
    measured, missing, dropped = (accounting["measured"], accounting["missing"]["count"],
                                  accounting["dropped"]["count"])
    return [
        ["what", "asked", "measured"],
        ["restarts", "", f"{len(restarts)}"],
        ["frames sent, measured, missing, dropped", "", f"{sender.sent}, {measured}, {missing}, {dropped}"],
        ["messages heard", "", ", ".join(f"{len(heard)} {topic}" for topic, heard in listener.heard.items())],
        ["published rows that are lost", "0", str(lost)],
        ["published alerts that are lost", "0", str(lost_alerts)],
        ["published requests to take a frame again that are lost", "0", str(lost_requests)],
        ["sequence numbers used twice", "0", str(sum(again.values()))],
        ["frames measured twice", "0", str(measured + dropped - len(kept) + events["duplicate"])],
        ["frames from the first to the last that are not accounted for", "0",
         str(numbers[-1] - numbers[0] + 1 - sum(scan[name] for name in ("measured", "missing", "dropped")))],
        ["settings changed, number of the newest", "equal", f"{len(revisions)}, {newest[0]}"],
        ["rows that differ from an uninterrupted run", "0", f"{differ} of {len(order)}"],
        ["drift off an uninterrupted run, at most", "< 0.01 px", f"{off_px:.3g} px"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rate", type=float, default=20.0, help="frames per second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the session goes; kept")
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="kills-"))
    folder = asked.folder or home / "session"
    folder.parent.mkdir(parents=True, exist_ok=True)
    found = live_and_die(folder, asked.kills, asked.rate, asked.seed)
    state = sum(path.stat().st_size for path in (folder / "state").iterdir()) / 1e6
    table = judge(folder, found[0], found[1], asked.seed)
    table.append(["started to ready, median and at most", "", f"{np.median(found[2]):.1f} s, {max(found[2]):.1f} s"])
    table.append(["size of the state at the end", "", f"{state:.1f} MB"])
    for row in table:
        print(" | ".join(row))
    if asked.folder is None:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
