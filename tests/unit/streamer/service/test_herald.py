from __future__ import annotations

import itertools
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.notices import Site, alert, site
from support.waiting import wait_until

from streamer.errors import ChannelError, SessionError
from streamer.journal import Journal
from streamer.notify import Matter, is_over
from streamer.records import Alert, FrameRow, Recollection, Status
from streamer.service import presenter
from streamer.service.herald import Herald
from streamer.service.presenter import Presenter
from streamer.service.recorder import Recorder
from streamer.settings import Settings, update

STATUS = Status(at=1.0, state="receiving", version="1", uptime_s=1.0, session_dir="", frames_endpoint="",
                results_endpoint="", control_endpoint="")


class Run:
    """A recorder and its herald, as the service has them."""

    def __init__(self, journal: Journal, **changes: Any) -> None:
        defaults = {"notify.retry_s": 0.02, "notify.interval_s": 0.0, "notify.timeout_s": 2.0}
        settings = update(Settings(), defaults | {f"notify.{name}": value for name, value in changes.items()})
        self.herald = Herald(settings, session="day1")
        self.recorder = Recorder(journal, due=self.herald.due,
                                 publish=lambda topic, sequence, fields, arrays: self.herald.publish(fields))
        self.herald.recall(journal)
        self.herald.start(journal)

    def record(self, *alerts: Alert) -> None:
        for one in alerts:
            self.recorder.alert(one)
        self.recorder.commit()

    def tick(self) -> None:
        self.herald.tick(STATUS, self.recorder)
        self.recorder.commit()

    def close(self) -> None:
        self.herald.close(self.recorder)
        self.recorder.commit()


def left(folder: Path, channel: str = "webhook") -> list[tuple[int, str]]:
    with Journal(folder) as reader:
        return [(one.alert.id, one.occasion) for one in reader.undelivered(channel, limit=100_000)]


def told(hook: Site) -> list[tuple[int, str]]:
    return [(one["id"], one["occasion"]) for body in list(hook.bodies) for one in body["alerts"]]


def states(*changes: dict[str, Any]) -> list[Alert]:
    return [alert(1, **change) for change in changes]


@pytest.mark.parametrize(("life", "occasions"), [
    (states({}), ["new"]),
    (states({"count": 1}, {"count": 2}, {"count": 900}), ["new"]),
    (states({"severity": "MINOR"}), []),
    (states({"severity": "MINOR"}, {"count": 2}, {"count": 3}), ["new"]),
    (states({}, {"severity": "INVALID"}, {"severity": "INVALID", "count": 2}), ["new", "worse"]),
    (states({}, {"escalated": True}, {"escalated": True, "count": 2}), ["new", "escalated"]),
    (states({}, {"state": "acknowledged", "who": "me"}, {"state": "closed", "who": "me"}, {"state": "closed"}),
     ["new", "closed"]),
    (states({}, {"state": "requested"}, {"state": "recollected", "active": False}, {"state": "closed"}),
     ["new", "closed"]),
    (states({}, {"active": False}), ["new"]),   # the frame is still blurred
    (states({"index": None}, {"index": None, "active": False}, {"index": None, "active": False, "count": 2},
            {"index": None, "count": 3}), ["new", "closed", "new"]),
    (states({"severity": "MINOR"}, {"severity": "MINOR", "state": "closed"}), []),
    (states({"state": "closed"}), []),
    (states({"shelved_until": "2999-01-01T00:00:00.000000Z"}, {"shelved_until": "2999-01-01T00:00:00.000000Z"}), []),
    (states({"shelved_until": "2999-01-01T00:00:00.000000Z"}, {}), ["new"]),
    (states({}, {"shelved_until": "2999-01-01T00:00:00.000000Z"}, {"state": "requested"}),
     ["new", "new"]),   # told again when it is no longer kept quiet
    (states({"shelved_until": "2001-01-01T00:00:00.000000Z"}), ["new"]),
])
def test_a_channel_hears_of_what_is_news(life: list[Alert], occasions: list[str]) -> None:
    herald = Herald(update(Settings(), {"notify.webhook_url": "http://host/"}), session="s")
    assert [notice.occasion for state in life for notice in herald.due(state, 1)] == occasions


LIVES = st.lists(st.fixed_dictionaries({
    "severity": st.sampled_from(["MINOR", "MAJOR", "INVALID"]),
    "state": st.sampled_from(["new", "new", "requested", "recollected", "acknowledged", "closed"]),
    "active": st.booleans(), "escalated": st.booleans(), "index": st.sampled_from([None, 3]),
    "shelved_until": st.sampled_from([None, None, "2001-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"]),
    "who": st.sampled_from(["", "", "me"]), "count": st.integers(1, 5)}), max_size=12)


@given(LIVES)
def test_whatever_happens_to_an_alert_its_story_makes_sense(life: list[dict[str, Any]]) -> None:
    herald = Herald(update(Settings(), {"notify.webhook_url": "http://host/"}), session="s")
    told_of = [notice for state in states(*life) for notice in herald.due(state, 1)]
    assert all(notice.alert.severity != "MINOR" for notice in told_of if notice.occasion != "closed")
    assert all((notice.occasion == "closed") == is_over(notice.alert) for notice in told_of)
    for before, after in itertools.pairwise(told_of):   # what is over is told once, and begins with "new" again
        assert before.occasion != "closed" or after.occasion == "new"
    assert not told_of or told_of[0].occasion == "new"


def test_each_channel_has_its_own_least_severity(tmp_path: Path) -> None:
    lines = tmp_path / "alerts.jsonl"
    with site() as hook, Journal(tmp_path / "s", create=True) as journal:
        run = Run(journal, webhook_url=hook.url, jsonl_path=str(lines))
        run.record(alert(1, severity="MINOR"), alert(2, severity="MAJOR"))
        run.close()
    assert told(hook) == [(2, "new")]
    assert [json.loads(line)["id"] for line in lines.read_text().splitlines()] == [1, 2]


def test_what_is_not_told_is_in_the_journal_in_the_transaction_of_the_alert_and_told_after_a_restart(
    tmp_path: Path
) -> None:
    with site() as hook:
        hook.behaviour = 500
        with Journal(tmp_path, create=True) as journal:
            run = Run(journal, webhook_url=hook.url)
            run.record(alert(1), alert(2))
            assert left(tmp_path) == [(1, "new"), (2, "new")]
            wait_until(lambda: run.herald.problems)
            assert "answered 500" in run.herald.problems[0]
            run.record(alert(2, state="closed"))
            run.close()
        assert left(tmp_path) == [(1, "new"), (2, "closed")]
        hook.behaviour = 200
        with Journal(tmp_path, create=True, resume=True) as journal:
            again = Run(journal, webhook_url=hook.url)
            wait_until(lambda: sorted(told(hook)) == [(1, "new"), (2, "closed")])
            again.record(alert(1, count=7))                  # known from before: no news
            again.record(alert(1, state="closed"))
            again.close()
            assert sorted(told(hook)) == [(1, "closed"), (1, "new"), (2, "closed")]
        assert left(tmp_path) == []


def test_a_kill_between_telling_and_noting_tells_twice_and_never_not_at_all(tmp_path: Path) -> None:
    with site() as hook:
        with Journal(tmp_path, create=True) as journal:
            run = Run(journal, webhook_url=hook.url)
            run.record(alert(1))
            wait_until(lambda: told(hook))
            assert left(tmp_path) == [(1, "new")]   # a kill -9 here
            run.herald.close(run.recorder)          # whose last words never reach the journal
        with Journal(tmp_path, create=True, resume=True) as journal:
            again = Run(journal, webhook_url=hook.url)
            wait_until(lambda: told(hook) == [(1, "new"), (1, "new")])
            again.close()
    assert left(tmp_path) == []


def test_ten_thousand_alerts_reach_a_channel_once_each_within_its_rate(tmp_path: Path) -> None:
    number = 10_000
    with site() as hook, Journal(tmp_path, create=True) as journal:
        run = Run(journal, webhook_url=hook.url, interval_s=0.05)
        alerts = [alert(identity, count=1) for identity in range(number)]
        run.record(*alerts)
        wait_until(lambda: run.tick() or len(hook.alerts()) >= number,   # type: ignore[func-returns-value]
                   timeout_s=60.0)
        run.close()
    assert hook.alerts() == list(range(number))
    assert len(hook.calls) <= 2 + number // 500
    assert all(later - earlier >= 0.045 for earlier, later in itertools.pairwise(hook.calls))
    assert left(tmp_path) == []


def test_when_the_journal_cannot_be_written_people_hear_of_it_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_journal: Journal, _batch: object) -> None:
        raise SessionError("disk full")

    with site() as hook, Journal(tmp_path, create=True) as journal:
        run = Run(journal, webhook_url=hook.url)
        monkeypatch.setattr(Journal, "write", full)
        run.record(alert(1, rule="journal"))
        wait_until(lambda: told(hook) == [(1, "new")])
        wait_until(lambda: run.tick() or not run.herald._couriers["webhook"]._told)   # type: ignore[func-returns-value]
        monkeypatch.undo()
        run.close()
    assert left(tmp_path) == []
    assert told(hook) == [(1, "new")]


def test_a_hanging_channel_costs_the_analysis_nothing(tmp_path: Path) -> None:
    with site() as hook, Journal(tmp_path, create=True) as journal:
        hook.behaviour = lambda _: hook.leave.wait(30.0) and None
        run = Run(journal, webhook_url=hook.url, timeout_s=0.5)
        slowest = 0.0
        for identity in range(200):
            started = time.perf_counter()
            run.recorder.alert(alert(identity))
            run.herald.publish(alert(identity))
            slowest = max(slowest, time.perf_counter() - started)
        run.recorder.commit()
        wait_until(lambda: run.herald.problems)
        run.close()
    assert slowest < 0.1
    assert len(left(tmp_path)) == 200


class Screen:
    """A display that notes what it shows, or breaks."""

    name = "screen"

    def __init__(self, *, error: ChannelError | None = None) -> None:
        self.error = error
        self.seen: list[Matter] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.closed = False

    def start(self) -> None:
        if self.error is not None:
            raise self.error

    def show(self, matter: Matter) -> None:
        self.go_on.wait(20.0)
        if isinstance(matter, FrameRow) and matter.index < 0:
            raise RuntimeError("oops")
        self.seen.append(matter)

    def close(self) -> None:
        self.closed = True


def row(index: int) -> FrameRow:
    return FrameRow(index=index, acquisition="scan", view="main", kind="projection")


def test_a_display_is_shown_everything_and_closed() -> None:
    screen = Screen()
    shown = Presenter(screen)
    for index in range(100):
        shown.put(row(index))
    shown.close()
    assert [one.index for one in screen.seen if isinstance(one, FrameRow)] == list(range(100))
    assert screen.closed
    assert shown.problem == ""


def test_a_display_that_cannot_start_is_named_and_left_alone() -> None:
    screen = Screen(error=ChannelError("address in use"))
    shown = Presenter(screen)
    shown.put(row(1))
    shown.close()
    assert shown.problem == "address in use"
    assert not screen.seen


def test_a_display_survives_a_result_that_it_cannot_show(caplog: pytest.LogCaptureFixture) -> None:
    screen = Screen()
    shown = Presenter(screen)
    shown.put(row(-1))
    shown.put(row(1))
    shown.close()
    assert screen.seen == [row(1)]
    assert "internal error: oops" in shown.problem
    assert "RuntimeError" in caplog.text


def test_a_display_that_does_not_keep_up_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presenter, "_WAITING", 5)
    screen = Screen()
    screen.go_on.clear()
    shown = Presenter(screen)
    for index in range(20):
        shown.put(row(index))
    screen.go_on.set()
    shown.close()
    assert "does not keep up" in shown.problem
    assert screen.seen[-1] == row(19)


def test_displays_know_the_alerts_and_requests_of_before(tmp_path: Path) -> None:
    metrics = pytest.importorskip("prometheus_client")
    assert metrics
    with Journal(tmp_path, create=True) as journal:
        run = Run(journal)
        for number, state in enumerate(("served", *["open"] * 60), start=1):
            run.recorder.recollection(Recollection(id=number, requested_at="", acquisition="scan", index=number,
                                                   view="main", reason="blurred", state=state))   # type: ignore[arg-type]
        run.record(alert(1), alert(2, state="closed"))
        run.close()
    with Journal(tmp_path, create=True, resume=True) as journal:
        herald = Herald(update(Settings(), {"metrics.endpoint": "127.0.0.1:0"}), session="s")
        herald.start(journal)
        herald.close(Recorder(journal))
        (shown,) = herald._displays
        assert shown._open.labels("MAJOR")._value.get() == 1   # type: ignore[attr-defined]
        assert len(shown._requests.sorted()) == 60   # type: ignore[attr-defined]
