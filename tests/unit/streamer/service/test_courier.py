from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from support.notices import notice
from support.waiting import wait_until

from streamer.errors import ChannelError
from streamer.records import Notice, Severity
from streamer.service.courier import WAITING, Courier
from streamer.settings import NotifySettings

FAST = NotifySettings(timeout_s=0.3, retry_s=0.02)


class Fake:
    """A messenger that notes what it is given, and does as it is told."""

    def __init__(self, *, interval_s: float = 0.0) -> None:
        self.name = "fake"
        self.severity: Severity = "MINOR"
        self.interval_s = interval_s
        self.calls: list[tuple[float, list[Notice]]] = []
        self.attempts = 0
        self.error: Exception | None = None
        self.hold = threading.Event()
        self.hold.set()
        self.closed = False

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    def deliver(self, notices: Sequence[Notice], *, session: str) -> None:
        assert session == "day1"
        self.attempts += 1
        self.hold.wait(20.0)
        if self.error is not None:
            raise self.error
        self.calls.append((time.monotonic(), list(notices)))

    def close(self) -> None:
        self.closed = True
        self.hold.set()

    def ids(self) -> list[int]:
        return [one.alert.id for _, notices in list(self.calls) for one in notices]


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def courier(fake: Fake) -> Iterator[Courier]:
    running = Courier(fake, FAST, session="day1")
    yield running
    end(running)


def end(running: Courier) -> None:
    running.stop()
    running.join()


def test_what_is_told_is_told_back(fake: Fake, courier: Courier) -> None:
    courier.put([notice(1), notice(2)])
    wait_until(lambda: fake.ids() == [1, 2])
    told: list[Notice] = []
    wait_until(lambda: told.extend(courier.take_told()) or len(told) == 2)   # type: ignore[func-returns-value]
    assert [one.alert.id for one in told] == [1, 2]
    assert courier.take_told() == []
    assert courier.problem == ""


def test_a_burst_goes_out_in_few_calls_within_the_rate() -> None:
    fake = Fake(interval_s=0.2)
    courier = Courier(fake, FAST, session="day1")
    for number in range(900):
        courier.put([notice(number)])
    wait_until(lambda: len(fake.ids()) == 900)
    end(courier)
    assert sorted(fake.ids()) == list(range(900))
    assert len(fake.calls) <= 4
    times = [at for at, _ in fake.calls]
    assert all(later - earlier >= 0.19 for earlier, later in itertools.pairwise(times))


def test_a_newer_state_replaces_the_one_that_waits(fake: Fake, courier: Courier) -> None:
    fake.hold.clear()
    courier.put([notice(1)])
    wait_until(lambda: fake.attempts == 1)
    courier.put([notice(2), notice(1, occasion="closed", sequence=7)])
    courier.put([notice(2, occasion="closed", sequence=8)])
    fake.hold.set()
    wait_until(lambda: len(fake.ids()) == 3)
    assert [(one.alert.id, one.occasion) for _, notices in fake.calls for one in notices] == [
        (1, "new"), (1, "closed"), (2, "closed")]


def test_one_failure_is_made_good_and_no_problem(fake: Fake, courier: Courier) -> None:
    fake.hold.clear()
    fake.error = ChannelError("no answer")
    courier.put([notice(1)])
    wait_until(lambda: fake.attempts == 1)
    fake.error, error = None, fake.error
    assert courier.problem == ""
    fake.hold.set()
    wait_until(lambda: fake.ids() == [1])
    assert str(error) == "no answer"


def test_a_dead_channel_is_a_problem_until_it_works_again(
    fake: Fake, courier: Courier, caplog: pytest.LogCaptureFixture
) -> None:
    fake.error = ChannelError("no answer")
    courier.put([notice(1)])
    wait_until(lambda: courier.problem)
    assert courier.problem == "channel fake: no answer; alerts that wait: 1"
    courier.put([notice(2)])
    wait_until(lambda: fake.attempts >= 3)
    fake.error = None
    wait_until(lambda: fake.ids() == [1, 2])
    wait_until(lambda: not courier.problem)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        "channel fake: no answer", "channel fake works again"]


def test_a_channel_that_cannot_work_is_a_problem_before_the_first_alert() -> None:
    fake = Fake()
    fake.error = ChannelError("no such program")
    courier = Courier(fake, FAST, session="day1")
    wait_until(lambda: courier.problem)
    assert fake.attempts == 0
    fake.error = None
    wait_until(lambda: not courier.problem)
    end(courier)


def test_attempts_become_rarer(fake: Fake, courier: Courier) -> None:
    fake.error = ChannelError("no answer")
    started = time.monotonic()
    courier.put([notice(1)])
    wait_until(lambda: fake.attempts >= 5)
    assert time.monotonic() - started >= 0.02 * (1 + 2 + 4 + 8)


def test_a_bug_of_a_messenger_is_a_problem_and_not_the_end(
    fake: Fake, courier: Courier, caplog: pytest.LogCaptureFixture
) -> None:
    fake.error = RuntimeError("oops")
    courier.put([notice(1)])
    wait_until(lambda: courier.problem)
    assert "internal error: oops; please report it" in courier.problem
    fake.error = None
    wait_until(lambda: fake.ids() == [1])
    assert "RuntimeError" in caplog.text


def test_a_call_that_does_not_come_back_is_a_problem(fake: Fake, courier: Courier) -> None:
    fake.hold.clear()
    courier.put([notice(1)])
    wait_until(lambda: courier.problem)
    assert "channel fake has not come back for" in courier.problem
    fake.hold.set()
    wait_until(lambda: not courier.problem)


def test_more_than_fits_stays_in_the_journal_until_there_is_room(fake: Fake, courier: Courier) -> None:
    fake.hold.clear()
    courier.put([notice(number) for number in range(WAITING + 5)])
    courier.put([notice(3, occasion="closed", sequence=5000)])   # its place is there already
    assert not courier.wants_more
    fake.hold.set()
    wait_until(lambda: len(fake.ids()) >= WAITING)
    assert not courier.wants_more   # the journal does not know yet what was told
    wait_until(lambda: courier.take_told() and courier.wants_more)
    courier.refill([notice(number) for number in range(WAITING, WAITING + 5)])
    wait_until(lambda: fake.ids()[-1] == WAITING + 4)
    courier.take_told()
    assert not courier.wants_more


def test_the_end_is_one_last_call_without_waiting_for_the_rate() -> None:
    fake = Fake(interval_s=600.0)
    courier = Courier(fake, FAST, session="day1")
    courier.put([notice(1)])
    wait_until(lambda: fake.ids() == [1])
    courier.put([notice(2), notice(3)])
    end(courier)
    assert fake.ids() == [1, 2, 3]
    assert [one.alert.id for one in courier.take_told()] == [1, 2, 3]


def test_a_dead_channel_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    fake = Fake()
    fake.error = ChannelError("no answer")
    courier = Courier(fake, NotifySettings(retry_s=600.0), session="day1")
    courier.put([notice(1)])
    wait_until(lambda: "no answer" in caplog.text)
    started = time.monotonic()
    end(courier)
    assert time.monotonic() - started < 2.0
    assert courier.take_told() == []
    assert "1 alerts were not delivered; the journal keeps them" in caplog.text


def test_a_call_under_way_is_broken_off_at_the_end(fake: Fake, courier: Courier) -> None:
    fake.hold.clear()
    courier.put([notice(1)])
    wait_until(lambda: fake.attempts == 1)
    started = time.monotonic()
    end(courier)
    assert fake.closed
    assert time.monotonic() - started < 2.0
