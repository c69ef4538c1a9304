from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from support.fake_streamer import FakeStreamer, make_row, moment
from support.waiting import wait_until

from monitor import feed as feed_module
from monitor.feed import Feed, LinkState
from monitor.rows import Key
from monitor.store import Store
from streamer.errors import LinkError
from streamer.records import Alert


@pytest.fixture
def streamer() -> Iterator[FakeStreamer]:
    streamer = FakeStreamer()
    yield streamer
    streamer.close()


@pytest.fixture
def listening(streamer: FakeStreamer) -> Iterator[Feed]:
    feed = Feed(Store(), streamer.results)
    feed.start()
    streamer.wait_for_subscriber()
    yield feed
    feed.stop()


def test_a_late_joiner_gets_everything_once(streamer: FakeStreamer) -> None:
    for index in range(50):
        streamer.frame(make_row(index))
    streamer.alert(Alert(id=1, raised_at=moment(1), severity="MINOR", rule="r", text="t"))
    feed = Feed(Store(), streamer.results)
    feed.start()
    try:
        streamer.wait_for_subscriber()
        for index in range(50, 60):
            streamer.frame(make_row(index))
        streamer.status()
        for index in range(60, 80):
            streamer.frame(make_row(index))
        wait_until(lambda: len(feed.store) == 80 and feed.link().has_history)
        assert [feed.store.row(Key("scan-1", index)) for index in range(80)] == [make_row(index) for index in range(80)]
        assert feed.store.alerts()[0].id == 1
        assert feed.link().state is LinkState.LIVE
        assert streamer.histories == [0]
        assert feed.store.lost == {}
    finally:
        feed.stop()


def test_a_gap_is_filled_from_the_history(streamer: FakeStreamer, listening: Feed) -> None:
    streamer.status()
    wait_until(lambda: listening.link().has_history)
    streamer.frame(make_row(0))
    streamer.frame(make_row(1), lose=True)
    streamer.frame(make_row(2))
    wait_until(lambda: len(listening.store) == 3)
    assert streamer.histories == [0, 1]
    assert listening.store.lost == {"frame": 1}


def test_the_last_message_may_be_lost_too(streamer: FakeStreamer, listening: Feed) -> None:
    streamer.frame(make_row(0))
    streamer.status()
    wait_until(lambda: listening.link().has_history and len(listening.store) == 1)
    streamer.frame(make_row(1), lose=True)
    streamer.alert(Alert(id=1, raised_at=moment(1), severity="MINOR", rule="r", text="t"), lose=True)
    streamer.status()
    streamer.status()
    wait_until(lambda: len(listening.store) == 2 and len(listening.store.alerts()) == 1)


def test_a_long_history_comes_in_pages(streamer: FakeStreamer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "PAGE", 20)
    for index in range(50):
        streamer.frame(make_row(index))
    streamer.frame(make_row(3, revision=1))
    for number in (1, 2):
        streamer.alert(Alert(id=number, raised_at="", severity="MAJOR", rule="blurred_frame", text="taken again"))
    feed = Feed(Store(), streamer.results)
    feed.start()
    try:
        streamer.wait_for_subscriber()
        streamer.status()
        wait_until(lambda: feed.link().has_history)
        assert [alert.id for alert in feed.store.alerts()] == [2, 1]
        assert feed.store.heard("alert") == 2   # though only the first page told of them
        assert streamer.histories == [0, 21, 41]   # frame 3 was revised: it comes last
        assert len(feed.store) == 50
        assert feed.store.row(Key("scan-1", 3)).revision == 1
    finally:
        feed.stop()


@pytest.mark.parametrize(("answer", "words"), [
    ({}, "cannot be read"), ({"frames": [], "alerts": [], "sequence": {"frame": 0}, "more": True}, "brings nothing"),
])
def test_a_history_that_is_none_is_asked_for_again(
    streamer: FakeStreamer, listening: Feed, monkeypatch: pytest.MonkeyPatch, answer: dict[str, object], words: str,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(streamer, "_history", lambda **_: answer)
        streamer.status()
        wait_until(lambda: words in listening.link().text)
    streamer.frame(make_row(0))
    wait_until(lambda: listening.link().has_history and len(listening.store) == 1)


def test_news_are_announced_once_until_taken(streamer: FakeStreamer) -> None:
    calls = count()
    feed = Feed(Store(), streamer.results, notify=lambda: next(calls))
    feed.start()
    try:
        streamer.wait_for_subscriber()
        for index in range(200):
            streamer.frame(make_row(index))
        wait_until(lambda: len(feed.store) == 200)
        assert next(calls) == 1
        feed.taken()
        streamer.frame(make_row(200))
        wait_until(lambda: len(feed.store) == 201)
        assert next(calls) == 3
    finally:
        feed.stop()


def test_silence_turns_stale_then_disconnected(
    streamer: FakeStreamer, listening: Feed, monkeypatch: pytest.MonkeyPatch,
) -> None:
    streamer.status()
    wait_until(lambda: listening.link().state is LinkState.LIVE)
    monkeypatch.setattr(feed_module, "STALE_AFTER_S", 0.2)
    monkeypatch.setattr(feed_module, "DISCONNECTED_AFTER_S", 0.6)
    wait_until(lambda: listening.link().state is LinkState.STALE)
    assert listening.link().chip.startswith("STALE ")
    streamer.close()
    wait_until(lambda: listening.link().state is LinkState.DISCONNECTED)
    assert streamer.results in listening.link().text


def test_another_session_on_the_same_address_begins_anew(streamer: FakeStreamer, listening: Feed) -> None:
    for index in range(5):
        streamer.frame(make_row(index))
    streamer.status()
    wait_until(lambda: len(listening.store) == 5 and listening.link().has_history)
    streamer.close()
    again = FakeStreamer(session="session-2", results=streamer.results)
    try:
        again.frame(make_row(0, acquisition="second"))
        again.wait_for_subscriber()
        again.status()
        wait_until(lambda: listening.store.session == "session-2" and listening.link().has_history, timeout_s=20)
        wait_until(lambda: len(listening.store) == 1)
        assert "session-2" in listening.taken()[0]
    finally:
        again.close()


def test_a_restart_in_the_same_session_loads_the_history_again(streamer: FakeStreamer, listening: Feed) -> None:
    streamer.frame(make_row(0))
    streamer.status()
    streamer.status()
    wait_until(lambda: listening.link().has_history and listening.store.status.uptime_s == 2.0)
    streamer.frame(make_row(1), lose=True)
    streamer.sequence["status"], streamer.uptime_s = 0, 0.0   # a new process; the journal still counts the frames
    streamer.status()
    wait_until(lambda: len(listening.store) == 2)
    assert streamer.histories == [0, 0]
    assert "restarted" in listening.taken()[0]


def test_a_restarted_streamer_that_goes_on_counting_is_told_too(streamer: FakeStreamer, listening: Feed) -> None:
    streamer.frame(make_row(0))
    streamer.status()
    streamer.status()
    wait_until(lambda: listening.link().has_history and listening.store.status.uptime_s == 2.0)
    streamer.frame(make_row(1), lose=True)
    streamer.uptime_s = 0.0   # a new process that goes on with every sequence number
    streamer.status()
    streamer.frame(make_row(2))
    wait_until(lambda: len(listening.store) == 3)
    assert listening.link().state is LinkState.LIVE
    assert [notice for notice in listening.taken() if "restarted" in notice]


def test_a_streamer_of_before_sends_its_history_row_by_row(streamer: FakeStreamer, listening: Feed) -> None:
    streamer.knows_columns = False
    streamer.frame(make_row(0), lose=True)
    streamer.status()
    wait_until(lambda: len(listening.store) == 1)
    assert listening.store.row(0) == make_row(0)


def test_ended_when_the_sender_closed_its_acquisition(streamer: FakeStreamer, listening: Feed) -> None:
    streamer.status(state="idle")
    wait_until(lambda: listening.link().state is LinkState.ENDED)
    streamer.status(state="receiving")
    wait_until(lambda: listening.link().state is LinkState.LIVE)
    streamer.status(state="stopping")
    wait_until(lambda: listening.link().state is LinkState.ENDED)


@pytest.mark.parametrize(("parts", "words"), [
    ((b'{"htype": "array-1.0", "frame": 1}', b"\x00\x00"), "not JSON"),
    ((b"frame", b'{"schema": 99, "session": "x", "sequence": 1}'), "schema 99"),
    ((b"frame", b'{"schema": 1, "session": 5, "sequence": 1}'), "session 5"),
    ((b"frame", b'{"schema": 1, "session": "session-1", "sequence": 1, "index": "a"}'), "cannot be read"),
    ((b"status", b"\xff\xfe garbage"), "not JSON"),
    ((b"x",), "1 part"),
])
def test_messages_of_others_are_counted_and_named(
    streamer: FakeStreamer, listening: Feed, parts: tuple[bytes, ...], words: str,
) -> None:
    streamer.send_raw(*parts)
    wait_until(lambda: listening.link().foreign == 1)
    assert f"{streamer.results} sends something else than results" in listening.link().text
    assert words in listening.link().text
    streamer.frame(make_row(0))
    streamer.status()
    wait_until(lambda: len(listening.store) == 1 and listening.link().state is LinkState.LIVE)


def test_an_address_where_nobody_is_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "STALE_AFTER_S", 0.1)
    feed = Feed(Store(), "tcp://127.0.0.1:1")
    feed.start()
    wait_until(lambda: "nobody answers at tcp://127.0.0.1:1" in feed.link().text)
    assert feed.link().state is LinkState.CONNECTING
    feed.stop()


def test_an_address_that_sends_no_status_says_so(listening: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    assert listening.link().text == ""
    monkeypatch.setattr(feed_module, "STALE_AFTER_S", 0.1)
    wait_until(lambda: "sends no status" in listening.link().text)


def test_what_is_no_address_is_refused_at_once() -> None:
    with pytest.raises(LinkError, match="expected an address"):
        Feed(Store(), "somewhere")
