from __future__ import annotations

import pytest

from streamer.records import Status
from streamer.service import watch
from streamer.service.watch import Watch
from streamer.settings import AlertsSettings


class Seen:
    """A watch, and the conditions that hold."""

    def __init__(self, *, waits: bool = False) -> None:
        self.held: dict[str, str] = {}
        self.severities: dict[str, str] = {}
        self.watch = Watch(lambda rule: rule in self.held, waits=waits)

    def look(self, **status: object) -> set[str]:
        heartbeat = Status(**({"at": 0.0, "state": "receiving", "version": "", "uptime_s": 0.0, "session_dir": "/s",
                               "frames_endpoint": "", "results_endpoint": "", "control_endpoint": ""} | status))
        for rule, text, severity in self.watch.look(heartbeat, AlertsSettings()):
            self.severities[rule] = severity
            if text is None:
                self.held.pop(rule, None)
            else:
                self.held[rule] = text
        return set(self.held)


def test_a_stream_that_stands_still_is_told_while_an_acquisition_is_open():
    seen = Seen()
    assert not seen.look(last_frame_age_s=60.0)
    assert seen.look(last_frame_age_s=61.0) == {"stalled"}
    assert seen.held["stalled"] == "no frame for 61 s in an open acquisition"
    assert not seen.look(last_frame_age_s=100.0, state="idle")
    assert not seen.look(last_frame_age_s=None)


def test_a_disk_needs_a_tenth_more_to_be_well_again():
    seen = Seen()
    told = [(free_gb, bool(seen.look(disk_free_gb=free_gb))) for free_gb in (1.05, 0.99, 1.05, 1.11, 1.05)]
    assert told == [(1.05, False), (0.99, True), (1.05, True), (1.11, False), (1.05, False)]
    assert not seen.look(disk_free_gb=None)


@pytest.mark.parametrize(("waits", "severity", "text"), [
    (True, "MINOR", "the sender has to wait"), (False, "MAJOR", "frames are being dropped")])
def test_a_queue_that_stays_full_is_overload(monkeypatch, waits, severity, text):
    now = [100.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])
    seen = Seen(waits=waits)
    for queue, passed_s, overload in (
        (58, 0.0, False), (64, 1.9, False),      # a burst
        (40, 0.0, False), (58, 1.9, False),      # the time counts from here
        (58, 2.0, True), (40, 5.0, True), (29, 0.0, True), (28, 0.0, False), (60, 1.0, False),
    ):
        now[0] += passed_s
        assert bool(seen.look(queue=queue, queue_limit=64)) == overload, (queue, now)
        if overload:
            assert text in seen.held["overload"]
            assert seen.severities["overload"] == severity


def test_no_queue_is_never_full():
    assert not Seen().look(queue=0, queue_limit=0)
