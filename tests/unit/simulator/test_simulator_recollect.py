"""The beamline's side of the conversation: what is asked for, when it is taken, and when it is over. No sockets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import recollect
from simulator.plan import Request
from simulator.recollect import LOST_S, MOST_TRIES, SETTLED_S, Beamline, Wishes
from simulator.run import Run
from simulator.scenarios import find
from streamer.errors import ProtocolError
from streamer.records import Frame, Recollection

LATE_S = 30.0


def wish(number: int, index: int, **fields: Any) -> Recollection:
    return Recollection(**({
        "id": number, "requested_at": "2026-03-01T09:00:00.000000+00:00", "acquisition": "still", "index": index,
        "view": "main", "reason": f"frame {index} is blurred"} | fields))


class Clock:
    """Time that passes when told, or when somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Told:
    """Wishes, and what a streamer says to them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.wishes = Wishes(now=self.clock)

    def asks(self, one: Recollection, session: str = "s") -> None:
        self.wishes.hear("recollect", {"session": session, "sequence": 1, **msgspec.to_builtins(one)})

    def beats(self, *open_: Recollection, queue: int = 0, session: str = "s") -> None:
        self.wishes.hear("status", {"session": session, "queue": queue, "recollections": msgspec.to_builtins(open_)})

    def passes(self, seconds: float, *open_: Recollection, queue: int = 0) -> None:
        """Let time pass with a heartbeat a second."""
        for _ in range(round(seconds)):
            self.clock.now += 1.0
            self.beats(*open_, queue=queue)

    def take(self, index: int) -> int | None:
        """Expose what is due, and let it leave; return the frame that was asked for."""
        found = self.wishes.next()
        if found is None:
            return None
        self.wishes.exposed(*found, index)
        self.wishes.sent(index, recollects=True)
        return found[1].index


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_wish_is_due_once(told: Told) -> None:
    told.asks(wish(1, 4))
    assert told.take(60) == 4
    told.asks(wish(1, 4))
    told.beats(wish(1, 4))   # composed before the frame came
    assert told.take(61) is None


def test_a_frame_that_is_not_sharp_is_taken_once_more(told: Told) -> None:
    told.asks(wish(1, 4))
    told.take(60)
    told.asks(wish(1, 4, tries=1, verdict="blurred"))
    assert told.take(61) == 4
    assert told.take(62) is None
    told.asks(wish(1, 4, tries=2, verdict="sharp", state="served", served_by=61))
    assert told.take(62) is None
    assert told.wishes.pending() == []


@pytest.mark.parametrize("state", ["served", "given_up", "expired", "withdrawn"])
def test_what_is_no_longer_open_is_not_taken(told: Told, state: Any) -> None:
    told.asks(wish(1, 4))
    told.asks(wish(1, 4, state=state))
    assert told.take(60) is None


def test_the_heartbeat_makes_up_for_lost_messages(told: Told) -> None:
    told.beats(wish(1, 4), wish(2, 5))
    told.beats(wish(2, 5))
    assert told.take(60) == 5
    assert told.take(61) is None


def test_a_frame_that_was_lost_on_its_way_is_taken_again(told: Told) -> None:
    told.beats(wish(1, 4))
    told.take(60)
    told.passes(LOST_S, wish(1, 4))
    assert told.take(61) is None
    told.passes(1, wish(1, 4), queue=2)   # it may be among those that wait
    assert told.take(61) is None
    told.passes(1, wish(1, 4))
    assert told.take(61) == 4


def test_a_streamer_that_is_away_for_a_while_is_given_time_to_answer(told: Told) -> None:
    told.beats(wish(1, 4))
    told.take(60)
    told.clock.now += 10 * LOST_S   # killed, say, and started again
    assert told.take(61) is None
    told.passes(LOST_S, wish(1, 4))
    assert told.take(61) is None
    told.passes(2, wish(1, 4))
    assert told.take(61) == 4


def test_one_that_has_not_left_is_not_lost(told: Told) -> None:
    told.asks(wish(1, 4))
    found = told.wishes.next()
    assert found is not None
    told.wishes.exposed(*found, 60)
    told.passes(10 * LOST_S, wish(1, 4))
    told.wishes.sent(60, recollects=False)   # a flat of that number
    told.passes(10 * LOST_S, wish(1, 4))
    assert told.wishes.next() is None


def test_a_streamer_that_never_counts_is_not_served_for_ever(told: Told) -> None:
    told.beats(wish(1, 4))
    taken = 0
    while told.take(60 + taken) is not None:
        taken += 1
        told.passes(2 * LOST_S, wish(1, 4))
    assert taken == MOST_TRIES


def test_the_most_urgent_comes_first(told: Told) -> None:
    told.beats(wish(1, 4), wish(2, 5, priority=3), wish(3, 6, deadline_frames=20.0), wish(4, 7, deadline_frames=8.0))
    assert [told.take(60 + number) for number in range(4)] == [5, 7, 6, 4]


def test_what_was_open_before_is_of_another_run(told: Told) -> None:
    told.beats(wish(1, 4))
    told.wishes.begin()
    told.beats(wish(1, 4), wish(2, 5))
    assert told.take(60) == 5
    assert told.take(61) is None
    told.beats(wish(1, 4))
    assert told.wishes.pending() == []


def test_another_session_counts_its_requests_anew(told: Told) -> None:
    told.asks(wish(1, 4))
    told.take(60)
    told.beats(wish(1, 9), session="other")
    assert told.take(61) == 9


def test_it_is_settled_when_a_heartbeat_knows_all_frames_and_wants_nothing(told: Told) -> None:
    assert not told.wishes.heard
    assert not told.wishes.is_settled()
    told.wishes.sent(55, recollects=False)
    told.beats()
    assert told.wishes.heard
    assert not told.wishes.is_settled()   # it may not have seen the last frame
    told.clock.now += SETTLED_S + 0.1
    assert not told.wishes.is_settled()
    told.beats(queue=3)
    assert not told.wishes.is_settled()
    told.beats(wish(1, 4))
    assert not told.wishes.is_settled()
    told.beats()
    assert told.wishes.is_settled()


@pytest.mark.parametrize(("topic", "header"), [
    ("recollect", {}),
    ("recollect", {"session": "s", "id": "one"}),
    ("recollect", msgspec.to_builtins(wish(1, 4)) | {"index": None}),
    ("recollect", msgspec.to_builtins(wish(1, 4)) | {"state": "perhaps"}),
    ("status", {"recollections": 7}),
    ("status", {"recollections": [{"id": 1}]}),
    ("status", {"queue": "long"}),
])
def test_messages_that_are_not_understood(told: Told, topic: str, header: dict[str, Any]) -> None:
    told.beats(wish(2, 5))
    with pytest.raises(ProtocolError, match=f"'{topic}' message is not understood"):
        told.wishes.hear(topic, header)
    assert [one.index for one in told.wishes.pending()] == [5]


@given(steps=st.lists(st.tuples(st.sampled_from(("ask", "again", "close", "beat", "take", "wait")),
                                st.integers(1, 4)), max_size=60))
@settings(max_examples=200, deadline=None)
def test_never_more_frames_than_the_streamer_or_the_clock_gave_reason_for(steps: list[tuple[str, int]]) -> None:
    told, wanted, reasons, taken = Told(), {}, 0, 0
    for step, number in steps:
        if step == "ask" and number not in wanted:
            wanted[number] = wish(number, 10 + number)
            told.asks(wanted[number])
            reasons += 1
        elif step == "again" and number in wanted:
            wanted[number] = msgspec.structs.replace(wanted[number], tries=wanted[number].tries + 1)
            told.asks(wanted[number])
            reasons += 1
        elif step == "close" and number in wanted:
            told.asks(msgspec.structs.replace(wanted.pop(number), state="served"))
        elif step == "beat":
            told.beats(*wanted.values())
        elif step == "take":
            taken += told.take(100 + taken) is not None
        elif step == "wait":
            told.passes(LOST_S + 1, *wanted.values())
            reasons += len(wanted)
        assert taken <= reasons


# -- the whole conversation ------------------------------------------------------------------------------------------


class Talk:
    """A run on a beamline and a streamer that answers to what it is sent, frame by frame, on one clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, run: Run, answer: Callable[[Frame, Told], None]) -> None:
        self.told, self.run = Told(), run
        self.beamline = Beamline(run, self.told.wishes, wait_s=3.0, late_s=LATE_S, source="tcp://there:5556")
        monkeypatch.setattr(self.beamline, "_stop", self)
        monkeypatch.setattr(recollect.time, "monotonic", self.told.clock)
        self._answer = answer
        self._stopped = False
        self.waited_s = 0.0
        self.beat: Callable[[Told], None] = lambda told: told.beats()
        self.beat_every_s = 1.0

    def wait(self, seconds: float) -> bool:
        """Stand in for the event that ends the beamline: the streamer beats while it is waited for."""
        before = self.told.clock.now // self.beat_every_s
        self.told.clock.now += seconds
        self.waited_s += seconds
        if self.told.clock.now // self.beat_every_s > before:
            self.beat(self.told)
        return self._stopped

    def is_set(self) -> bool:
        return self._stopped

    def set(self) -> None:
        self._stopped = True

    def frames(self) -> Iterator[Frame]:
        for frame in self.beamline.frames():
            self.told.clock.now += 0.25
            self.beamline.sent(frame)
            self._answer(frame, self.told)
            yield frame

    def go(self) -> list[tuple[int, int | None]]:
        """Return number and replaced number of the projections in the order in which they were sent."""
        return [(frame.index, frame.recollects) for frame in self.frames() if frame.kind == "projection"]


def still(frames: int = 8) -> Run:
    return find("still").build(Request(frames=frames, seed=3, shape=(32, 32)))


def asking(*numbers: int, bad_tries: int = 0) -> Callable[[Frame, Told], None]:
    """A streamer that finds some frames blurred, and the first frames taken again for each of them, too."""
    open_: dict[int, Recollection] = {}

    def answer(frame: Frame, told: Told) -> None:
        if frame.kind == "projection" and frame.recollects is None and frame.index in numbers:
            open_[frame.index] = wish(frame.index + 1, frame.index)
        elif frame.recollects is not None:
            before = open_[frame.recollects]
            tries = before.tries + 1
            open_[frame.recollects] = msgspec.structs.replace(
                before, tries=tries, state="open" if tries <= bad_tries else "served")
        else:
            return
        told.asks(open_[frame.index if frame.recollects is None else frame.recollects])

    return answer


def test_asked_frames_are_taken_before_the_next_planned_one(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Talk(monkeypatch, still(), asking(2, 5))
    assert talk.go() == [(0, None), (1, None), (2, None), (8, 2), (3, None), (4, None), (5, None), (9, 5), (6, None),
                         (7, None)]
    assert [shot.recollects for shot in talk.beamline.taken] == [2, 5]


def test_frames_that_fail_again_are_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Talk(monkeypatch, still(4), asking(1, bad_tries=2))
    assert talk.go() == [(0, None), (1, None), (4, 1), (5, 1), (6, 1), (2, None), (3, None)]
    times = [shot.at_s for shot in sorted(talk.run.shots, key=lambda shot: shot.at_s) if shot.kind == "projection"]
    assert len(set(times)) == len(times)   # in between, one after the other


def test_late_requests_are_served_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Talk(monkeypatch, still(4), asking(3, bad_tries=1))
    assert talk.go() == [(0, None), (1, None), (2, None), (3, None), (4, 3), (5, 3)]
    assert 1.0 < talk.waited_s < 5.0   # until a heartbeat says that all is well
    assert [shot.at_s for shot in talk.run.shots[-2:]] == [shot.at_s + later for shot, later in zip(
        [talk.run.shots[talk.run.projections[3]]] * 2, (0.5, 1.0), strict=True)]


def test_requests_of_a_streamer_that_comes_to_no_end_have_a_limit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    talk = Talk(monkeypatch, still(4), lambda *_: None)
    talk.beat = lambda told: told.beats(*[wish(1, 2)] if told.clock.now > 102 else [], queue=7)
    with caplog.at_level(logging.WARNING):
        sent = talk.go()
    assert [index for index, _ in sent if index < 4] == [0, 1, 2, 3]
    assert len(sent) <= 4 + MOST_TRIES
    assert caplog.messages[-1] == (
        "the streamer did not come to an end within 30 s after the last frame and still wants frame 2; "
        "ending without it")


def test_without_a_streamer_the_run_goes_on_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    talk = Talk(monkeypatch, still(4), lambda *_: None)
    talk.beat = lambda told: None
    with caplog.at_level(logging.WARNING):
        assert len(talk.go()) == 4
    assert caplog.messages == [
        "no streamer is heard on tcp://there:5556 yet; going on",
        "no streamer was heard on tcp://there:5556, so nothing was taken again"]
    assert talk.waited_s < 3.5


@pytest.mark.parametrize("fields", [
    {"index": 400}, {"acquisition": "other"}, {"acquisition": "still/flat"}, {"acquisition": ""}])
def test_what_this_run_does_not_have_is_named_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fields: dict[str, Any]
) -> None:
    strange = wish(1, 2, **{key: value for key, value in fields.items() if key != "index"})
    strange = msgspec.structs.replace(strange, index=fields.get("index", 2))
    talk = Talk(monkeypatch, still(4), lambda frame, told: told.asks(strange) if frame.index == 1 else None)
    with caplog.at_level(logging.WARNING):
        assert len(talk.go()) == 4
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"request 1 asks for frame {strange.index} of {strange.acquisition!r}")


def test_a_run_that_the_streamer_calls_number_two(monkeypatch: pytest.MonkeyPatch) -> None:
    one = wish(1, 1, acquisition="still#2")

    def answer(frame: Frame, told: Told) -> None:
        if frame.kind == "projection" and frame.index == 1:
            told.asks(one)
        elif frame.recollects is not None:
            told.asks(msgspec.structs.replace(one, state="served"))

    assert (4, 1) in Talk(monkeypatch, still(4), answer).go()


def test_a_frame_taken_again_can_be_asked_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(frame: Frame, told: Told) -> None:
        if frame.kind == "projection" and frame.index in (1, 4):
            told.beats(wish(frame.index, frame.index))
        elif frame.index == 5:
            told.beats()

    assert [pair for pair in Talk(monkeypatch, still(4), answer).go() if pair[1] is not None] == [(4, 1), (5, 4)]


def test_it_stops_when_told_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Talk(monkeypatch, still(4), asking(3, bad_tries=99))
    taken = []
    for frame in talk.frames():
        if frame.recollects is not None:
            taken.append(frame.index)
            talk.beamline.stop()
    assert len(taken) == 1
