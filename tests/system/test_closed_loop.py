"""From a blurred frame to a good one, with real processes: the streamer asks, the simulator takes again."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from monitor.demo import Demo, free_endpoints
from streamer.client import Client

SEED = 14
"""Frames 6, 7 and 13 (the last one) are blurred, and 6 is blurred again at first."""
SMALL = ["--seed", str(SEED), "--frames", "14", "--size", "320x328", "--photons", "2000"]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Streamer:
    """A streamer on addresses of its own, which it keeps when it is started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.frames, self.results, control = free_endpoints(3)
        settings = (f"frames.endpoint={self.frames}", "frames.bind=true", "frames.pattern=pull", "flow.enabled=false",
                    f"results.endpoint={self.results}", f"control.endpoint={control}")
        self._command = [sys.executable, "-P", "-m", "streamer.cli", "run", "--session", str(folder / "session"),
                         *(word for setting in settings for word in ("--set", setting))]
        self.start()

    def start(self) -> None:
        with (self.folder / "streamer.log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def simulator(streamer: Streamer, *options: str) -> list[str]:
    return [sys.executable, "-P", "-m", "simulator.cli", "run", "sun2025_txm", *SMALL, "--connect", streamer.frames,
            "--pattern", "push", "--recollect", streamer.results, *options]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let a streamer and a simulator that takes frames again run to their end."""
    folder = tmp_path_factory.mktemp("loop")
    streamer = Streamer(folder)
    try:
        done = subprocess.run(simulator(streamer, "--save", str(folder / "truth.h5"), "--rate", "12"),
                              check=False, capture_output=True, text=True, timeout=90)
    finally:
        streamer.end()
    assert done.returncode == 0, done.stderr + (folder / "streamer.log").read_text()
    (folder / "simulator.log").write_text(done.stderr)
    return folder


def test_every_blurred_frame_is_replaced_by_a_sharp_one(folder: Path) -> None:
    with h5py.File(folder / "truth.h5") as file:
        blurred, recollects = file["truth/blurred"][()], file["truth/recollects"][()]
    planned = np.flatnonzero(blurred & (recollects < 0)).tolist()
    assert planned == [6, 7, 13]
    rows = {int(row["index"]): row for row in table(folder / "session" / "frames.csv") if row["kind"] == "projection"}
    assert sorted(rows) == list(range(len(blurred)))
    for index, row in rows.items():
        assert row["recollects"] == ("" if recollects[index] < 0 else str(recollects[index]))
        assert (row["verdict"] == "blurred") == blurred[index], row
    assert {int(recollects[index]) for index, row in rows.items()
            if recollects[index] >= 0 and row["verdict"] == "sharp"} == set(planned)


def test_requests_tell_the_story(folder: Path) -> None:
    requests = {int(row["index"]): row for row in table(folder / "session" / "recollections.csv")}
    assert {index: (row["state"], row["tries"]) for index, row in requests.items()} == {
        6: ("served", "2"), 7: ("served", "1"), 13: ("served", "1")}
    assert "taken again: 4 frames" in (folder / "simulator.log").read_text()


def test_a_registered_stack_has_the_better_frames(folder: Path) -> None:
    stack = folder / "registered.h5"
    done = subprocess.run(
        [sys.executable, "-P", "-m", "streamer.cli", "export", str(folder / "session"), "--out", str(folder),
         "--registered", str(stack), "--recording", str(folder / "truth.h5"), "--acquisition", "sun2025_txm"],
        check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {row["index"]: row for row in table(folder / "frames.csv") if row["kind"] == "projection"}
    replaced = {index: row["replaced_by"] for index, row in rows.items() if row["replaced_by"]}
    assert {"6", "7", "13"} <= replaced.keys()
    assert all(rows[number]["verdict"] == "sharp" for number in replaced.values())
    with h5py.File(stack) as file:
        assert {str(index) for index in file["frames/index"][()]} == rows.keys() - replaced.keys()
        assert len(file["frames/index"]) == 14


def test_frames_taken_again_disturb_no_account(folder: Path) -> None:
    accounting = json.loads((folder / "session" / "summary.json").read_text())["accounting"]
    assert {name: accounting[name]["count"] for name in ("missing", "duplicate", "out_of_order", "refused")} == {
        "missing": 0, "duplicate": 0, "out_of_order": 0, "refused": 0}


def test_the_drift_of_a_frame_taken_again_is_that_of_its_own_time(folder: Path) -> None:
    with h5py.File(folder / "truth.h5") as file:
        drift_px, recollects = file["truth/drift_px"][()], file["truth/recollects"][()]
    rows = {int(row["index"]): row for row in table(folder / "session" / "frames.csv") if row["kind"] == "projection"}
    for index in np.flatnonzero(recollects >= 0):
        if rows[index]["verdict"] == "sharp":
            measured = float(rows[index]["drift_y_px"]), float(rows[index]["drift_x_px"])
            np.testing.assert_allclose(measured, drift_px[index], atol=0.5)


@pytest.mark.slow
def test_a_request_outlives_a_streamer_that_is_killed(tmp_path: Path) -> None:
    streamer = Streamer(tmp_path)
    with (tmp_path / "simulator.log").open("wb") as log, subprocess.Popen(
            simulator(streamer, "--rate", "6", "--late", "80"), stdout=log, stderr=log) as beamline:
        try:
            with Client(streamer.results, topics=("recollect",)) as client:
                asked = client.receive(60.0)
                assert asked is not None
                streamer.process.kill()   # it has asked, and what is taken again has not come yet
                streamer.process.wait()
                streamer.start()
            assert beamline.wait(100) == 0, (tmp_path / "simulator.log").read_text()
        finally:
            beamline.kill()
            streamer.end()
    requests = {int(row["id"]): row for row in table(tmp_path / "session" / "recollections.csv")}
    assert asked.header["state"] == "open"
    assert requests[asked.header["id"]]["index"] == str(asked.header["index"])
    assert {row["state"] for row in requests.values()} == {"served"}


def test_the_demo_closes_the_loop() -> None:
    demo = Demo()
    simulator = demo._commands["simulator"]
    assert simulator[simulator.index("--recollect") + 1] == demo.results
    demo.stop()
