"""Every rule that a person is told by, raised and closed again, from frames on the wire to alerts in the journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support.live import Live, live
from support.notices import Site, site
from support.scenes import Scene
from support.waiting import wait_until

from streamer.journal import Journal
from streamer.records import AnyArray, Frame
from streamer.service import watch

SHAPE = (192, 200)
PHOTONS = 1000.0
QUICK = ("flow.enabled=false", "calibration.recognise=false", "pictures.kept_mb=0")


class Scan:
    """Frames of a sample that drifts slowly, numbered as they are made, and what goes wrong in between."""

    def __init__(self, *, shape: tuple[int, int] = SHAPE, margin: int = 90, photons: float = PHOTONS) -> None:
        self._rng = np.random.default_rng(501)
        self._scene = Scene(500, shape, margin=margin)
        self._shape = shape
        self._photons = photons
        self.number = 0
        self.frames: list[Frame] = [
            Frame(pixels=self._noise(photons), index=index, acquisition="scan/flat", kind="flat",
                  exposed_at=1e9 + index) for index in range(2)]

    def sharp(self, count: int, *, step: tuple[float, float] = (0.0, 0.0), **blur: float) -> None:
        """Add frames at rest but for `step`, where the sample is from now on."""
        for _ in range(count):
            drift = 0.3 * self.number + step[0], step[1]
            self.add(self._scene.frame(self._rng, photons=self._photons, drift=drift, **blur))

    def along(self, places: list[float], **blur: Callable[[int], float]) -> None:
        """Add a frame for every place along x."""
        for place in places:
            self.add(self._scene.frame(self._rng, photons=self._photons, drift=(0.0, place),
                                       **{name: value(self.number) for name, value in blur.items()}))

    def bad(self) -> None:
        """Add a beam dump, an empty beam, and a saturated frame."""
        for pixels in (self._noise(5.0), self._noise(self._photons), np.full(self._shape, 65535, np.uint16)):
            self.add(pixels)

    def foreign(self, count: int) -> None:
        """Add frames that show nothing of the sample, nor of each other."""
        for number in range(count):
            self.add(Scene(700 + number, self._shape, margin=10).frame(self._rng, photons=self._photons))

    def add(self, pixels: AnyArray) -> None:
        self.frames.append(Frame(pixels=pixels, index=self.number, acquisition="scan", view="main",
                                 exposed_at=1e9 + 100 + self.number))
        self.number += 1

    def _noise(self, photons: float) -> AnyArray:
        return self._rng.poisson(photons, self._shape).astype(np.uint16)


def run(folder: Path, scan: Scan, *settings: str) -> None:
    """Have a scan analysed, and everything that it raised acknowledged."""
    with live(folder, *QUICK, *settings) as running:
        running.sender.send(scan.frames)
        running.collect("frame", len(scan.frames), timeout_s=60.0)
        running.client.request("acknowledge", alert="all", who="ANNA")
        running.sender.end("scan")


def told(folder: Path) -> dict[str, tuple[str, str, bool]]:
    """Return severity, state, and whether it still holds, of the newest alert of every rule."""
    with Journal(folder) as journal:
        return {alert.rule: (alert.severity, alert.state, alert.active) for _, alert in journal.alerts()}


def closed(severity: str, *rules: str) -> dict[str, tuple[str, str, bool]]:
    return dict.fromkeys(rules, (severity, "closed", False))


def test_what_frames_show(tmp_path: Path) -> None:
    scan = Scan()
    scan.sharp(10)
    scan.bad()
    scan.sharp(7)
    scan.sharp(7, step=(0.0, 30.0))
    scan.sharp(2, step=(0.0, 30.0), length_px=8.0)
    scan.sharp(7, step=(0.0, 30.0))
    scan.foreign(4)
    scan.sharp(8, step=(0.0, 30.0))
    run(tmp_path, scan, "alerts.jump_px=20")
    majors = ("beam_dump", "empty_beam", "saturated", "blurred_frame", "blurred_series", "lost_registration")
    assert told(tmp_path) == closed("MINOR", "jump") | closed("MAJOR", *majors)


def test_where_the_sample_goes(tmp_path: Path) -> None:
    scan = Scan()
    scan.along([2.5 * index for index in range(30)] + [72.5 - 5.0 * index for index in range(13)] + [12.5] * 16)
    run(tmp_path, scan, "alerts.leaving_frames=12", "alerts.drift_px=1")
    assert told(tmp_path) == closed("MINOR", "leaving_view", "drift_rate")


def test_a_focus_that_is_lost_slowly(tmp_path: Path) -> None:
    scan = Scan(shape=(340, 360), margin=40, photons=200.0)
    scan.along([0.0] * 75, defocus_px=lambda index: (0.015 * index) ** 0.5)
    scan.along([0.0] * 12, defocus_px=lambda _: 0.0)   # refocused: a new baseline
    run(tmp_path, scan)
    assert told(tmp_path)["slow_defocus"] == ("MAJOR", "closed", False)


def test_what_happens_to_the_stream(tmp_path: Path) -> None:
    scan = Scan()
    scan.sharp(22)
    flats, shots = scan.frames[:2], scan.frames[2:]
    with live(tmp_path, *QUICK) as running:
        running.sender.send([*flats, shots[0], shots[1], shots[1], shots[4], shots[3]])
        running.sender.socket.send_multipart([b"not json", b"x"])
        odd = Frame(pixels=np.ones((100, 100), np.uint16), index=5, acquisition="scan", view="main")
        running.sender.send([odd, *shots[6:13]])
        running.sender.send([msgspec.structs.replace(shot, index=number, exposed_at=2e9 + number)
                             for number, shot in enumerate(shots[13:])])
        wait_until(lambda: told(tmp_path).get("restart") == ("MINOR", "new", False), what="an end of the burst")
        running.client.request("acknowledge", alert="all", who="ANNA")
    assert told(tmp_path) == (closed("MINOR", "duplicate", "out_of_order", "restart")
                              | closed("MAJOR", "gap", "malformed", "refused"))


def test_a_frame_that_never_becomes_sharp(tmp_path: Path) -> None:
    scan = Scan()
    scan.sharp(10)
    scan.sharp(1, length_px=8.0)
    scan.sharp(1)
    scan.sharp(1, length_px=8.0)
    scan.sharp(8)
    scan.frames[14] = msgspec.structs.replace(scan.frames[14], recollects=10)
    run(tmp_path, scan, "recollect.limit=1")
    assert told(tmp_path)["recollection_failed"] == ("MAJOR", "closed", False)


@pytest.fixture
def hook() -> Iterator[Site]:
    with site() as opened:
        yield opened


def fill_the_disk(running: Live, _: Site, *, wrong: bool) -> None:
    database = running.service.recorder.journal._db
    pages = database.execute("PRAGMA page_count").fetchone()[0] if wrong else 1_000_000
    database.execute(f"PRAGMA max_page_count = {pages}")
    if wrong:
        running.client.request("note", text="x" * 20_000)   # larger than what is free inside the file


def send_nothing(running: Live, _: Site, *, wrong: bool) -> None:
    running.client.request("set", key="alerts.stalled_s", value=0.1 if wrong else 1000.0)


def want_room(running: Live, _: Site, *, wrong: bool) -> None:
    running.client.request("set", key="alerts.disk_free_gb", value=1e6 if wrong else 0.0)


def refuse_alerts(running: Live, hook: Site, *, wrong: bool) -> None:
    hook.behaviour = 500 if wrong else 200
    want_room(running, hook, wrong=wrong)   # something to tell


def send_too_much(running: Live, _: Site, *, wrong: bool) -> None:
    if wrong:
        scan = Scan(shape=(320, 328), margin=10)
        scan.sharp(30)
        running.sender.send([msgspec.structs.replace(frame, acquisition="large") for frame in scan.frames[2:]])


def test_what_hinders_the_streamer(hook: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_PATIENCE_S", 0.0)
    scan = Scan()
    scan.sharp(3)
    with live(tmp_path, *QUICK, f"notify.webhook_url={hook.url}", "notify.retry_s=0.05", "notify.interval_s=0",
              "frames.queue=8", "alerts.overload_share=0.5") as running:
        running.sender.send(scan.frames)
        running.collect("frame", len(scan.frames))
        for rule, severity, do in (
                ("journal", "MAJOR", fill_the_disk), ("stalled", "MAJOR", send_nothing),
                ("disk_low", "MAJOR", want_room), ("channel", "MAJOR", refuse_alerts),
                ("overload", "MINOR", send_too_much)):   # the sender waits
            do(running, hook, wrong=True)
            alert = heard(running, rule, active=True)
            assert (alert["severity"], alert["state"]) == (severity, "new")
            do(running, hook, wrong=False)
            heard(running, rule, active=False)
            running.client.request("acknowledge", alert=alert["id"], who="ANNA")
            heard(running, rule, state="closed")


def heard(running: Live, rule: str, **wanted: Any) -> dict[str, Any]:
    """Return the next alert of a rule that is as it should be."""
    while True:
        header, = running.collect("alert", 1)
        if header["rule"] == rule and wanted.items() <= header.items():
            return header


def test_ten_thousand_in_a_burst_are_one_alert_and_few_calls(hook: Site, tmp_path: Path) -> None:
    with live(tmp_path, *QUICK, f"notify.webhook_url={hook.url}", "notify.interval_s=0.2") as running:
        for number in range(10_000):
            running.sender.socket.send_multipart([b"not json %d" % number, b"x"])
        wait_until(lambda: running.client.history()["alerts"][-1:] and
                   running.client.history()["alerts"][0]["count"] == 10_000, timeout_s=60.0, what="the whole burst")
    with Journal(tmp_path) as journal:
        (sequence, alert), = journal.alerts()
    assert (alert.rule, alert.count, alert.state) == ("malformed", 10_000, "new")
    assert sequence < 1000   # its count was told at a bounded rate
    assert [body["alerts"][0]["occasion"] for body in hook.bodies] == ["new"]


def test_a_clock_that_steps_back_changes_no_duration(
    hook: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, now = Scan(), time.time
    scan.sharp(8)
    scan.sharp(1, length_px=8.0)
    scan.sharp(8)
    for number, frame in enumerate(scan.frames[11:], start=11):   # the clock of the sender, too
        scan.frames[number] = msgspec.structs.replace(frame, exposed_at=(frame.exposed_at or 0.0) - 3600.0)
    channel = f"notify.webhook_url={hook.url}", "notify.interval_s=0"
    with live(tmp_path, *QUICK, *channel, "alerts.escalate_s=1") as running:
        running.sender.send(scan.frames[:11])
        alert, = running.collect("alert", 1)
        running.client.request("shelve", alert=alert["id"], minutes=0.005)
        monkeypatch.setattr(time, "time", lambda: now() - 3600.0)
        running.sender.send(scan.frames[11:])
        while not alert["escalated"]:
            alert, = running.collect("alert", 1)
        wait_until(lambda: len(hook.bodies) == 3, what="three notices")
        rows = running.client.history()["frames"]
    assert [row["index"] for row in rows[2:]] == list(range(17))
    assert [row["index"] for row in rows[2:] if row["verdict"] == "blurred"] == [8]
    assert np.allclose([row["drift_y_px"] for row in rows[2:]], 0.3 * np.arange(17), atol=0.2)
    assert all(row["latency_ms"] >= 0.0 for row in rows)
    assert [body["alerts"][0]["occasion"] for body in hook.bodies] == ["new", "new", "escalated"]
    assert alert["shelved_until"] is None
    assert alert["changed_at"] < alert["raised_at"]   # as the clock said
