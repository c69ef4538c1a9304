"""A sample on its way out of the field of view: status, summary and alert, through the whole pipeline."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from support.acquisitions import received
from support.live import live
from support.scenes import Scene

from streamer.clock import unix_of
from streamer.journal import Journal
from streamer.records import EndOfAcquisition, Frame
from streamer.service.offline import analyse
from streamer.settings import load

SHAPE = (192, 200)
SPEED_PX = 2.5
CADENCE_S = 30.0


def way(frames: int, *, back: int = 0, blurred: int | None = None) -> list[Frame]:
    rng, scene = np.random.default_rng(501), Scene(500, SHAPE, margin=90)
    drifts = [SPEED_PX * index for index in range(frames)]
    drifts += [drifts[-1] - 2.0 * SPEED_PX * (index + 1) for index in range(back)]
    return [Frame(pixels=scene.frame(rng, photons=1000.0, drift=(0.0, drift), length_px=8.0 * (index == blurred)),
                  index=index, acquisition="scan", view="main", exposed_at=1e9 + CADENCE_S * index, pixel_size_nm=40.0)
            for index, drift in enumerate(drifts)]


def session(folder: Path, frames: list[Frame], *assignments: str) -> Path:
    chosen = load(assignments=["flow.enabled=false", "calibration.recognise=false", *assignments])
    analyse([*received(frames), EndOfAcquisition(acquisition="scan")], chosen, folder)
    return folder


def test_the_summary_says_when_the_view_is_left_and_what_helps(tmp_path: Path) -> None:
    folder = session(tmp_path / "s", way(24), "stage.xx=-1.0")
    motion, = json.loads((folder / "summary.json").read_text())["motion"]
    left = math.floor(100.0 / SPEED_PX) + 1 - 23   # the first frame that shows less than half
    assert motion["leaving"]["frames"] == pytest.approx(left, rel=0.1)
    assert motion["leaving"]["frames_low"] - 0.5 <= left <= motion["leaving"]["frames_high"] + 0.5   # whole frames
    assert motion["leaving"]["seconds"] == pytest.approx(CADENCE_S * motion["leaving"]["frames"])
    assert motion["leaving"]["visible_share"] == pytest.approx(1.0 - 23.0 * SPEED_PX / 200.0, abs=0.01)
    assert motion["stage"]["x_um"] == pytest.approx(23.0 * SPEED_PX * 0.04, abs=0.02)
    assert motion["speed_x_px"] == pytest.approx(SPEED_PX, rel=0.05)
    assert sum(motion["jitter_y"]["counts"]) == motion["frames"] == 21


def test_the_alert_comes_in_time_and_closes_when_the_sample_is_brought_back(tmp_path: Path) -> None:
    folder = session(tmp_path / "s", way(30, back=12), "alerts.leaving_frames=12")
    with Journal(folder) as journal:
        alert, = [alert for _, alert in journal.alerts() if alert.rule == "leaving_view"]
    assert (alert.severity, alert.view, alert.state, alert.active) == ("MINOR", "main", "new", False)   # unseen
    assert "advice only: moving the stage by" in alert.text
    assert "visible at frame 2" in alert.text   # about twelve frames before the fortieth


def test_a_region_of_interest_goes_before_the_whole_view(tmp_path: Path) -> None:
    folder = session(tmp_path / "s", way(20), "forecast.keep=1.0", "forecast.top_px=60", "forecast.left_px=80",
                     "forecast.height_px=60", "forecast.width_px=60")
    motion, = json.loads((folder / "summary.json").read_text())["motion"]
    assert motion["leaving"]["visible_share"] == pytest.approx(1.0)
    assert motion["leaving"]["frames"] == pytest.approx((200 - 140) / SPEED_PX - 19.0, abs=1.0)


def test_a_request_makes_sense_until_the_view_is_left(tmp_path: Path) -> None:
    blurred, left = 25, math.floor(100.0 / SPEED_PX) + 1
    frames = way(left + 3, blurred=blurred)
    with live(tmp_path, "flow.enabled=false", "calibration.recognise=false", "recollect.shortest_px=4") as running:
        running.sender.send(frames)
        running.collect("frame", len(frames))
    with Journal(tmp_path) as journal:
        (_, request), = journal.recollections()
    assert request.index == blurred
    assert request.deadline_frames == pytest.approx(left - blurred, abs=2)
    assert unix_of(request.deadline_at) == pytest.approx(
        (unix_of(request.requested_at) or 0.0) + (request.deadline_frames or 0.0) * CADENCE_S, abs=0.01)
    assert (request.state, request.reason.partition("; ")[2]) == (
        "expired", "the region of interest has left the field of view")
