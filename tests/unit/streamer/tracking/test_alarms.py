from __future__ import annotations

import pytest

from streamer.records import Alert, FrameRow, Leaving, StageMove
from streamer.settings import AlertsSettings
from streamer.tracking.alarms import Alarms


class Stream:
    """Rows of a view and the alerts as they stand."""

    def __init__(self) -> None:
        self.alarms = Alarms(AlertsSettings())
        self.alerts: dict[int, Alert] = {}
        self.index = 0

    def add(self, verdict: str, *, view: str = "main", length_px: float = 3.0, provisional: bool = False,
            focus_loss_px: float | None = None) -> None:
        row = FrameRow(index=self.index, acquisition="a", view=view, kind="projection", verdict=verdict,
                       provisional=provisional, blur_length_px=length_px, blur_angle_deg=20.0)
        self.index += 1
        self.alerts |= {alert.id: alert for alert in self.alarms.frame(row, at=1.0, focus_loss_px=focus_loss_px)}

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
    stream.add("sharp")
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
    assert stream.of("slow_defocus")[0].state == "closed"


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
    assert stream.of("leaving_view")[0].state == "closed"


def test_leaving_the_view_can_be_switched_off():
    alarms = Alarms(AlertsSettings(leaving_frames=0))
    assert not alarms.leaving(Leaving(frames=1.0), None, view="main", index=1, at=1.0)
