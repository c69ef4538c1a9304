from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clocks import Clock

from streamer.clock import utc_text
from streamer.records import Alert
from streamer.tracking.alert_book import QUIET_S, TELL_HZ, AlertBook

KEY = ("scan", 7)


class Book:
    """A book, its clock, and the alerts as they were told."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.book = AlertBook(self.clock)
        self.told: list[Alert] = []

    def take(self, alerts: list[Alert] | Alert | None) -> None:
        self.told += [] if alerts is None else [alerts] if isinstance(alerts, Alert) else alerts

    def raise_blurred(self, index: int = 7) -> None:
        self.take(self.book.fire("blurred_frame", "MINOR", f"frame {index} is blurred", at=self.clock.now, view="main",
                                 acquisition="scan", index=index, owns=True))

    def tick(self, escalate_s: float = 0.0) -> None:
        self.take(self.book.tick(at=self.clock.now, escalate_s=escalate_s))

    @property
    def newest(self) -> Alert:
        return self.told[-1]


@pytest.fixture
def book() -> Book:
    return Book()


def test_the_whole_life_of_an_alert(book):
    book.raise_blurred()
    at = book.clock.now
    states = []
    for step in (
        lambda: book.book.asked(KEY, at=at), lambda: book.book.acknowledge(1, who="ANNA", note="I see", at=at),
        lambda: book.book.came(KEY, 61, "blurred", at=at), lambda: book.book.came(KEY, 62, "sharp", at=at),
        lambda: book.book.settled(KEY, at=at), lambda: book.book.end("blurred_frame", "main", at=at),
    ):
        book.take(step())
        states.append((book.newest.state, book.newest.recollected_as, book.newest.recollected_verdict))
    assert states == [("requested", None, None), ("requested", None, None), ("requested", 61, "blurred"),
                      ("requested", 62, "sharp"), ("recollected", 62, "sharp"), ("closed", 62, "sharp")]
    assert (book.newest.who, book.newest.note, book.newest.active) == ("ANNA", "I see", False)
    assert book.book.acknowledge(1, who="B", note="", at=at) is None


def test_an_alert_is_latched_until_somebody_has_seen_it(book):
    book.raise_blurred()
    book.take(book.book.end("blurred_frame", "main", at=5.0))
    assert (book.newest.state, book.newest.active, book.newest.changed_at) == ("new", False, utc_text(5.0))
    book.take(book.book.acknowledge(1, who="ANNA", note="", at=6.0))
    assert (book.newest.state, book.newest.changed_at) == ("closed", utc_text(6.0))


def test_a_served_request_leaves_the_alert_in_sight_until_it_is_acknowledged(book):
    book.raise_blurred()
    book.take(book.book.asked(KEY, at=1.0))
    book.take(book.book.came(KEY, 61, "sharp", at=1.0))
    book.take(book.book.settled(KEY, at=1.0))
    book.take(book.book.end("blurred_frame", "main", at=1.0))
    assert (book.newest.state, book.newest.who) == ("recollected", "")
    book.clock.now += 1000.0
    book.tick(escalate_s=300.0)
    assert not book.newest.escalated   # the loop has closed
    book.take(book.book.acknowledge(1, who="ANNA", note="", at=1.0))
    assert book.newest.state == "closed"


def test_a_request_that_is_withdrawn_gives_the_alert_back(book):
    book.raise_blurred()
    book.take(book.book.asked(KEY, at=1.0))
    book.take(book.book.settled(KEY, at=1.0))
    assert book.newest.state == "new"


def test_an_alert_of_several_frames_is_recollected_when_all_are(book):
    for index in (7, 8):
        book.raise_blurred(index)
        book.take(book.book.asked(("scan", index), at=1.0))
    for index, state in ((7, "requested"), (8, "recollected")):
        book.take(book.book.came(("scan", index), 60 + index, "sharp", at=1.0))
        book.take(book.book.settled(("scan", index), at=1.0))
        assert (book.newest.state, book.newest.count) == (state, 2)


def test_what_nobody_sees_escalates_by_one_step_once(book):
    book.raise_blurred()
    book.take(book.book.fire("lost", "INVALID", "gone", at=1.0))
    book.clock.now += 299.0
    book.tick(escalate_s=300.0)
    assert not any(alert.escalated for alert in book.told)
    book.clock.now += 1.0
    book.tick(escalate_s=300.0)
    assert [(alert.severity, alert.escalated, alert.state) for alert in book.told[-2:]] == [
        ("MAJOR", True, "new"), ("INVALID", True, "new")]
    book.clock.now += 300.0
    book.tick(escalate_s=300.0)
    assert [(alert.severity, alert.active) for alert in book.told[4:]] == [("MAJOR", False), ("INVALID", False)]
    book.clock.now += 300.0
    book.tick(escalate_s=300.0)
    assert len(book.told) == 6


@pytest.mark.parametrize("escalate_s", [0.0, 300.0])
def test_what_somebody_has_seen_never_escalates(book, escalate_s):
    book.raise_blurred()
    if escalate_s:
        book.take(book.book.acknowledge(1, who="ANNA", note="", at=1.0))
    book.clock.now += 290.0
    book.tick(escalate_s=escalate_s)
    book.clock.now += 1e6
    book.tick(escalate_s=escalate_s)
    assert not book.newest.escalated


def test_a_shelved_alert_is_quiet_and_counts_on_however_long_it_takes(book):
    book.raise_blurred()
    book.take(book.book.shelve(1, 600.0, note="shelved by ANNA", at=1e9))
    assert (book.newest.shelved_until, book.newest.note) == (utc_text(1e9 + 600.0), "shelved by ANNA")
    book.clock.now += 599.0
    book.tick(escalate_s=300.0)
    assert book.newest.shelved_until is not None
    assert not book.book.lapse("blurred_frame", "main", at=1e9)
    book.raise_blurred()
    assert book.newest.id == 1
    book.clock.now += 1.0
    book.tick(escalate_s=300.0)
    assert (book.newest.shelved_until, book.newest.escalated) == (None, False)
    book.clock.now += 300.0
    book.tick(escalate_s=300.0)
    assert book.newest.escalated   # so long after it was taken off the shelf


def test_an_alert_can_be_taken_off_the_shelf(book):
    book.raise_blurred()
    book.take(book.book.shelve(1, 600.0, note="", at=1e9))
    book.take(book.book.shelve(1, 0.0, note="", at=1e9))
    assert book.newest.shelved_until is None


def test_all_alerts_that_nobody_has_seen_are_acknowledged_at_once(book):
    book.raise_blurred()
    book.take(book.book.fire("gap", "MAJOR", "g", at=1.0))
    book.take(book.book.acknowledge(2, who="BEN", note="", at=1.0))
    found = book.book.acknowledge_all(who="ANNA", note="night", at=1.0)
    assert [(alert.id, alert.who, alert.note) for alert in found] == [(1, "ANNA", "night")]


def test_a_growing_count_is_told_at_a_bounded_rate_and_its_end_always(book):
    for count in range(1, 11):
        book.raise_blurred()
        assert book.newest.count == count   # the first ones at once
    for _ in range(100):
        book.clock.now += 0.1 / TELL_HZ
        book.raise_blurred()
    assert len(book.told) in range(19, 22)
    book.clock.now += 1.0 / TELL_HZ
    book.tick()
    assert book.newest.count == 110


def test_a_count_that_grows_slowly_is_told_every_time(book):
    for count in range(1, 100):
        book.raise_blurred()
        assert book.newest.count == count
        book.clock.now += 1.0 / TELL_HZ


def test_a_condition_that_flaps_is_told_at_a_bounded_rate(book):
    for _ in range(100):
        book.clock.now += 0.1 / TELL_HZ
        book.take(book.book.fire("stalled", "MAJOR", "no frame", at=1.0, lasting=True))
        book.take(book.book.end("stalled", "", at=1.0))
    assert len(book.told) < 30
    book.clock.now += 1.0 / TELL_HZ
    book.tick()
    assert (book.newest.id, book.newest.count, book.newest.active) == (1, 100, False)


def test_a_burst_is_over_after_a_quiet_time(book):
    book.raise_blurred()
    book.clock.now += QUIET_S + 1.0
    book.tick()
    assert not book.newest.active
    book.raise_blurred()
    assert book.newest.id == 2


def test_a_wall_clock_that_steps_back_changes_no_duration(book):
    book.take(book.book.fire("gap", "MAJOR", "g", at=2e9))
    book.clock.now += 200.0
    book.take(book.book.shelve(1, 60.0, note="", at=1e9))   # decades back
    book.clock.now += 59.0
    book.tick()
    assert book.newest.shelved_until is not None
    book.clock.now += 1.0
    book.take(book.book.tick(at=-1e12, escalate_s=300.0))   # no time at all
    assert book.newest.shelved_until is None
    assert book.newest.changed_at is None


def test_what_is_unknown_changes_nothing(book):
    assert book.book.acknowledge(5, who="A", note="", at=1.0) is None
    assert book.book.shelve(5, 60.0, note="", at=1.0) is None
    assert book.book.end("gap", "", at=1.0) == []
    assert book.book.lapse("gap", "", at=1.0) == []
    for method in (book.book.asked, book.book.settled):
        assert method(KEY, at=1.0) == []
    assert book.book.came(KEY, 5, "sharp", at=1.0) == []
    assert book.book.cleared(KEY, "text", who="", at=1.0) == []


STEPS = st.lists(st.tuples(
    st.sampled_from(["fire", "lasting", "end", "acknowledge", "asked", "came", "settled", "shelve", "tick", "cleared"]),
    st.integers(0, 3), st.integers(0, 500).map(lambda steps: 0.7 * steps)), max_size=40)   # never exactly at a limit


@given(STEPS, st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_whatever_happens_states_are_consistent_and_survive_a_restart(steps, stop):
    clock = Clock()
    books = [AlertBook(clock), AlertBook(clock)]
    told: dict[int, Alert] = {}
    for number, (step, which, seconds) in enumerate(steps):
        clock.now += seconds
        if number == stop:
            state = msgspec.json.decode(msgspec.json.encode(books[1].snapshot()))
            books[1] = AlertBook(clock)
            books[1].restore(state, at=clock.now + books[0]._epoch)
        found = [_do(book, step, which, clock.now + book._epoch) for book in books]
        assert [alert.id for alert in found[0]] == [alert.id for alert in found[1]]
        for alert in found[0]:
            assert not (alert.state == "closed" and alert.active)
            assert alert.state != "closed" or alert.who or alert.note
            assert told.get(alert.id, alert).state != "closed"   # what is closed stays so
            told[alert.id] = alert
    assert len({alert_id for alert_id, alert in told.items() if alert.state != "closed"}) == len(books[0]._entries)


def _do(book: AlertBook, step: str, which: int, at: float) -> list[Alert]:
    rule, key = f"rule {which}", ("scan", which)
    if step in {"fire", "lasting"}:
        lasting = step == "lasting"
        return book.fire(f"lasting {which}" if lasting else rule, "MINOR", "text", at=at, lasting=lasting,
                         acquisition="scan", index=which, owns=True)
    if step == "end":
        return [*book.end(rule, "", at=at), *book.end(f"lasting {which}", "", at=at)]
    if step in {"acknowledge", "shelve"}:
        found = (book.acknowledge(which + 1, who="ANNA", note="", at=at) if step == "acknowledge"
                 else book.shelve(which + 1, 60.0 * which, note="", at=at))
        return [] if found is None else [found]
    if step == "tick":
        return book.tick(at=at, escalate_s=300.0, flush=True)
    more = {"came": (50, "sharp"), "cleared": ("text",)}.get(step, ())
    return getattr(book, step)(key, *more, at=at, **({"who": ""} if step == "cleared" else {}))
