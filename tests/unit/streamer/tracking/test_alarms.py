from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from support.clocks import Clock

from streamer.records import Alert, Event, FrameRow, Leaving, StageMove
from streamer.settings import AlertsSettings
from streamer.tracking import alert_book, exposure
from streamer.tracking.alarms import Alarms
from streamer.tracking.alert_book import TELL_AT_ONCE, TELL_HZ
from streamer.tracking.alert_rules import BAD_FRAMES, TAKEN
from streamer.tracking.recognition import DARK, FLAT


class Stream:
    """Rows of a view and the alerts as they stand."""

    def __init__(self) -> None:
        self.alarms = Alarms(AlertsSettings())
        self.alerts: dict[int, Alert] = {}
        self.index = 0

    def add(self, verdict: str, *, view: str = "main", length_px: float = 3.0, provisional: bool = False,
            focus_loss_px: float | None = None, problems: str = "", **more: object) -> None:
        row = FrameRow(index=self.index, acquisition="a", view=view, kind="projection", verdict=verdict,
                       provisional=provisional, blur_length_px=length_px, blur_angle_deg=20.0, problems=problems)
        self.index += 1
        self.take(self.alarms.frame(row, at=1.0, focus_loss_px=focus_loss_px, **more))
        self.take(self.alarms.tick(at=1.0, flush=True))

    def take(self, alerts: list[Alert]) -> None:
        self.alerts |= {alert.id: alert for alert in alerts}

    def of(self, rule: str) -> list[Alert]:
        return [alert for alert in self.alerts.values() if alert.rule == rule]


@pytest.fixture
def stream() -> Stream:
    return Stream()


def test_one_blurred_frame_is_no_series(stream):
    for verdict in ("sharp", "blurred", "sharp", "sharp", "blurred", "sharp"):
        stream.add(verdict)
    assert not stream.of("blurred_series")
    assert stream.of("blurred_frame")[0].severity == "MINOR"
    assert "along 20 deg" in stream.of("blurred_frame")[0].text


def test_a_long_blur_is_worse(stream):
    stream.add("blurred", length_px=7.0)
    stream.add("blurred", length_px=2.0)
    alert, = stream.of("blurred_frame")
    assert (alert.severity, alert.count) == ("MAJOR", 2)


def test_a_series_begins_with_two_of_three_and_ends_with_three_sharp_ones(stream):
    for verdict in ("blurred", "sharp", "blurred"):
        stream.add(verdict)
    alert, = stream.of("blurred_series")
    assert (alert.severity, alert.state) == ("MAJOR", "new")
    for verdict in ("sharp", "undecided", "bad", "sharp"):
        stream.add(verdict)
        assert stream.of("blurred_series")[0].state == "new"
    assert stream.of("blurred_series")[0].active
    stream.add("sharp")
    alert, = stream.of("blurred_series")
    assert (alert.state, alert.active) == ("new", False)   # over, but nobody has seen it
    for verdict in ("blurred", "blurred"):
        stream.add(verdict)
    alert, = stream.of("blurred_series")
    assert (alert.state, alert.active, alert.count) == ("new", True, 2)
    stream.take([stream.alarms.acknowledge(alert.id, who="ANNA", note="", at=1.0)])
    assert stream.of("blurred_series")[0].state == "acknowledged"
    for verdict in ("sharp", "sharp", "sharp"):
        stream.add(verdict)
    assert stream.of("blurred_series")[0].state == "closed"
    for verdict in ("blurred", "blurred"):
        stream.add(verdict)
    assert [alert.state for alert in stream.of("blurred_series")] == ["closed", "new"]


def test_views_and_warm_up_do_not_make_a_series(stream):
    stream.add("blurred", view="left")
    stream.add("blurred", view="right")
    for _ in range(3):
        stream.add("blurred", view="new", provisional=True)
    assert not stream.of("blurred_series")


def test_slow_defocus_lasts_until_it_is_over(stream):
    stream.add("sharp", focus_loss_px=3.6)
    stream.add("sharp", focus_loss_px=3.9)
    alert, = stream.of("slow_defocus")
    assert (alert.state, alert.count, alert.view) == ("new", 1, "main")
    assert "3.6 px" in alert.text
    stream.add("sharp")
    assert not stream.of("slow_defocus")[0].active


def test_leaving_the_view_is_told_once_and_closes_when_it_is_over(stream):
    def frame(frames: float | None, stage: StageMove | None = None) -> None:
        forecast = Leaving(frames=frames, frames_low=frames and 0.5 * frames, frames_high=None, visible_share=0.61)
        found = stream.alarms.leaving(forecast, stage, view="main", index=7, at=1.0)
        stream.alerts |= {alert.id: alert for alert in found}

    frame(None)
    frame(21.0)
    assert not stream.of("leaving_view")
    frame(12.4, StageMove(y_um=1.25, x_um=-0.5))
    frame(11.0)
    alert, = stream.of("leaving_view")
    assert (alert.severity, alert.state, alert.count) == ("MINOR", "new", 1)
    assert "about 12 frames (90 %: 6 to far), 61 % of it" in alert.text
    assert "advice only: moving the stage by y +1.25 um, x -0.50 um" in alert.text
    assert not stream.alarms.leaving(None, None, view="main", index=8, at=1.0)
    frame(25.0)
    assert stream.of("leaving_view")[0].state == "new"
    frame(31.0)
    assert not stream.of("leaving_view")[0].active


def test_leaving_the_view_is_told_again_when_half_of_the_time_is_gone(stream):
    texts = []
    for left in (18.0, 12.0, 8.9, 5.0, 4.0, 1.0):
        found = stream.alarms.leaving(Leaving(frames=left, visible_share=0.6), None, view="main", index=7, at=1.0)
        texts += [(alert.text.partition(" frames")[0][-2:], alert.severity, alert.count) for alert in found]
    assert texts == [("18", "MINOR", 1), (" 9", "MINOR", 1), (" 4", "MAJOR", 1), (" 1", "MAJOR", 1)]


def test_leaving_the_view_can_be_switched_off():
    alarms = Alarms(AlertsSettings(leaving_frames=0))
    assert not alarms.leaving(Leaving(frames=1.0), None, view="main", index=1, at=1.0)


@pytest.mark.parametrize(("problems", "rule"), [
    ("beam dump: mean 3 counts, usual 400 (limit 20 %)", "beam_dump"),
    ("shutter half open: 40 % of the frame is dark, from a side on", "beam_dump"),
    ("saturated: 80.0 % of the pixels are at 65535 (limit 25 %)", "saturated"),
    ("empty beam: structure has 1.0 % of its usual power", "empty_beam"),
    ("no structure: nothing but noise (empty beam or no light)", "empty_beam"),
    ("something new", "bad_frame"),
    ("empty beam: taken as flat", None),   # somebody took the sample out on purpose
    ("no light: taken as dark", None),
])
def test_a_frame_without_a_usable_image_has_a_rule_of_its_own(stream, problems, rule):
    stream.add("bad", problems=problems)
    assert [alert.rule for alert in stream.alerts.values()] == ([] if rule is None else [rule])


def test_every_reason_for_a_bad_frame_has_a_rule():
    """The rules know the words in which `tracking.exposure` says why."""
    source = Path(exposure.__file__).read_text()
    reasons = [start for start in BAD_FRAMES if f'"{start}' in source]
    assert set(reasons) == set(BAD_FRAMES)
    assert {FLAT, DARK} == set(TAKEN)


def test_the_drift_rate_has_a_dead_band(stream):
    for speed_px, active in ((9.0, None), (10.5, True), (9.0, True), (8.1, True), (7.9, False), (9.9, False),
                             (11.0, True)):
        stream.add("sharp", speed_px=speed_px)
        found = stream.of("drift_rate")
        assert [alert.active for alert in found] == ([] if active is None else [active])
    assert (found[0].severity, found[0].count) == ("MINOR", 2)
    stream.alarms.settings = AlertsSettings(drift_px=0.0)
    stream.add("sharp", speed_px=50.0)
    assert not stream.of("drift_rate")[0].active


def test_a_jump_and_a_lost_sample_are_told(stream):
    stream.add("sharp", jump_px=39.0)
    assert not stream.alerts
    stream.add("sharp", jump_px=41.0)
    stream.add("sharp", lost=True)
    stream.add("sharp", lost=True)
    assert [(alert.severity, alert.count) for alert in stream.of("jump")] == [("MINOR", 1)]
    assert [(alert.severity, alert.count) for alert in stream.of("lost_registration")] == [("MAJOR", 2)]


def test_a_burst_is_over_after_some_frames_and_the_next_one_is_another(stream):
    stream.add("blurred")
    for _ in range(5):
        stream.add("sharp")
    assert stream.of("blurred_frame")[0].active
    stream.add("sharp")
    assert not stream.of("blurred_frame")[0].active
    stream.add("blurred")
    assert [alert.active for alert in stream.of("blurred_frame")] == [False, True]


def test_what_a_person_has_seen_is_raised_anew_when_it_happens_again(stream):
    stream.add("blurred")
    stream.take([stream.alarms.acknowledge(1, who="ANNA", note="", at=1.0)])
    stream.add("blurred")
    assert [(alert.state, alert.count) for alert in stream.of("blurred_frame")] == [("closed", 1), ("new", 1)]


def test_a_frame_that_was_judged_wrongly_is_told_so(stream):
    stream.add("blurred")
    row = FrameRow(index=0, acquisition="a", view="main", kind="projection", verdict="blurred")
    sharp = msgspec.structs.replace(row, verdict="sharp")
    stream.take(stream.alarms.revision(row, sharp, at=2.0))
    alert, = stream.of("blurred_frame")
    assert (alert.state, alert.active) == ("new", False)
    assert alert.text == "frame 0 was taken for blurred and is sharp after all"
    stream.add("blurred")
    row = msgspec.structs.replace(row, index=1)
    stream.take(stream.alarms.revision(row, msgspec.structs.replace(row, verdict="sharp"), at=2.0, who="ANNA"))
    alert = stream.of("blurred_frame")[-1]
    assert (alert.state, alert.who) == ("closed", "ANNA")
    assert alert.text.endswith("after all, says ANNA")


def test_a_frame_that_turns_out_to_be_no_picture_of_the_sample_is_told_so(stream):
    stream.add("bad", problems="empty beam: structure has 1.0 % of its usual power")
    row = FrameRow(index=0, acquisition="a", view="main", kind="projection", verdict="bad", problems="empty beam: it")
    stream.take(stream.alarms.revision(row, msgspec.structs.replace(row, problems=FLAT), at=2.0))
    assert "shows no sample" in stream.of("empty_beam")[0].text


def test_ten_thousand_in_a_burst_make_one_alert_for_each_rule_and_view():
    clock = Clock()
    alarms, told, newest = Alarms(AlertsSettings(), clock=clock), 0, {}
    for index in range(10_000):
        clock.now += 0.0005   # five seconds altogether
        row = FrameRow(index=index, acquisition="a", view=f"view {index % 2}", kind="projection", verdict="blurred",
                       blur_length_px=4.0)
        found = [*alarms.frame(row, at=1.0), *alarms.event(Event(kind="malformed", text=f"message {index}", at=1.0)),
                 *alarms.tick(at=1.0)]
        told += len(found)
        newest |= {alert.id: alert for alert in found}
    newest |= {alert.id: alert for alert in alarms.tick(at=1.0, flush=True)}
    counts = {(alert.rule, alert.view): alert.count for alert in newest.values()}
    assert counts == {("blurred_frame", "view 0"): 5000, ("blurred_frame", "view 1"): 5000, ("malformed", ""): 10_000,
                      ("blurred_series", "view 0"): 1, ("blurred_series", "view 1"): 1}
    assert told <= 3 * (5.0 * TELL_HZ + TELL_AT_ONCE + 2) + 2
    assert len(msgspec.json.encode(alarms.snapshot())) < 50_000


def test_memory_stays_bounded_however_many_views_come(monkeypatch):
    monkeypatch.setattr(alert_book, "MOST_OPEN", 50)
    alarms, closed = Alarms(AlertsSettings()), []
    for index in range(2000):
        row = FrameRow(index=index, acquisition="a", view=f"view {index}", kind="projection", verdict="blurred")
        closed += [alert for alert in alarms.frame(row, at=1.0) if alert.state == "closed"]
    assert len(closed) == 1950
    assert "closed unseen" in closed[0].note
    assert len(alarms.snapshot()["book"]["entries"]) == 50
    assert len(msgspec.json.encode(alarms.snapshot())) < 250_000


@pytest.mark.parametrize("stop", range(0, 12, 3))
def test_a_snapshot_goes_on_as_if_nothing_had_happened(stop):
    verdicts = ("sharp", "blurred", "bad", "blurred", "sharp", "sharp", "sharp", "sharp", "blurred", "blurred", "sharp",
                "sharp")
    clock = Clock()
    whole, broken = Alarms(AlertsSettings(), clock=clock), Alarms(AlertsSettings(), clock=clock)
    for index, verdict in enumerate(verdicts):
        if index == stop:
            state = msgspec.json.decode(msgspec.json.encode(broken.snapshot()))
            broken = Alarms(AlertsSettings(), clock=clock)
            broken.restore(state)
        clock.now += 1.0
        row = FrameRow(index=index, acquisition="a", view="main", kind="projection", verdict=verdict,
                       blur_length_px=4.0, problems="beam dump: dark" if verdict == "bad" else "")
        assert broken.frame(row, at=float(index)) == whole.frame(row, at=float(index))
        assert broken.tick(at=float(index)) == whole.tick(at=float(index))
        if index == 2:
            assert broken.acknowledge(1, who="A", note="", at=2.0) == whole.acknowledge(1, who="A", note="", at=2.0)
