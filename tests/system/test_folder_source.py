"""A folder that fills, watched by a real streamer that is killed and started again."""

from __future__ import annotations

import signal
import subprocess
import sys

import msgspec
import numpy as np
import tifffile
from support.waiting import wait_until

from simulator.plan import Request
from simulator.scenarios import find
from streamer.errors import SessionError
from streamer.journal import Journal


def start(folder, session):
    ports = [f"{name}.endpoint=tcp://127.0.0.1:*" for name in ("results", "control")]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "streamer.cli", "run", "--connect", f"folder://{folder}", "--session",
         str(session),
         *(word for port in ports for word in ("--set", port)), "--set", "flow.enabled=false"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def rows(session):
    try:
        with Journal(session) as journal:
            return {(row.acquisition, row.index): row for _, row in journal.rows()}
    except SessionError:
        return {}


def test_every_file_once_though_the_streamer_is_killed(tmp_path):
    (tmp_path / "run").mkdir()
    frames = list(find("still").build(Request(frames=8, seed=3, shape=(96, 112))).frames())

    def land(frame):
        part = tmp_path / "run" / "next.tmp"
        tifffile.imwrite(part, frame.pixels)
        part.rename(tmp_path / "run" / f"{'scan' if frame.kind == 'projection' else frame.kind}_{frame.index:03d}.tif")

    session = tmp_path / "session"
    shots = [one for one in frames if one.kind == "projection"]
    flats = [one for one in frames if one.kind != "projection"]
    for one in (*flats, *shots[:4]):
        land(one)
    streamer = start(tmp_path / "run", session)
    wait_until(lambda: len([key for key in rows(session) if key[0] == "scan"]) == 4, timeout_s=60)
    streamer.kill()
    streamer.communicate(timeout=20)
    (tmp_path / "run" / "scan_004.tif").write_bytes(b"II*\0 cut")   # lands broken while nobody looks
    for one in shots[5:]:
        land(one)
    streamer = start(tmp_path / "run", session)
    wait_until(lambda: len([key for key in rows(session) if key[0] == "scan"]) == 7, timeout_s=90)
    streamer.send_signal(signal.SIGINT)
    said = streamer.communicate(timeout=60)[0].decode()
    assert streamer.returncode == 0, said
    found = rows(session)
    assert sorted(index for name, index in found if name == "scan") == [0, 1, 2, 3, 5, 6, 7]
    accounting = msgspec.json.decode((session / "summary.json").read_bytes())["accounting"]
    assert accounting["duplicate"]["count"] == 0
    assert accounting["malformed"]["count"] == 1
    assert np.isfinite([row.drift_y_px for row in found.values() if row.kind == "projection"]).all()
