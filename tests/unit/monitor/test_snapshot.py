from __future__ import annotations

import pytest
from support.fake_streamer import FakeStreamer, make_row
from support.waiting import wait_until

from monitor import snapshot
from monitor.feed import Feed, Link, LinkState
from monitor.snapshot import Answer, Patience
from monitor.store import Store

LIVE = Link(LinkState.LIVE, "tcp://127.0.0.1:1", has_history=True)


def store_with(count: int) -> Store:
    store = Store()
    store.merge({"frames": [make_row(index).__class__(index=index, acquisition="a", view="", kind="projection")
                            for index in range(count)], "alerts": [], "sequence": {"frame": count}})
    return store


def test_due_when_enough_frames_came() -> None:
    patience = Patience(frames=3, limit_s=60)
    assert patience.judge(store_with(2), LIVE) is Answer.WAIT
    assert patience.judge(store_with(3), LIVE) is Answer.DONE
    assert patience.reason == "3 frames were received"


def test_due_at_the_time_limit_with_what_is_there() -> None:
    patience = Patience(frames=3, limit_s=0.0, renews=False)
    store = store_with(2)
    wait_until(lambda: patience.judge(store, LIVE) is Answer.DONE)
    assert patience.reason == "the time limit of 0 s passed with 2 of 3 frames"


def test_gives_up_when_nothing_came() -> None:
    patience = Patience(limit_s=0.0)
    silent = Link(LinkState.CONNECTING, "tcp://127.0.0.1:1", text="nobody answers")
    store = Store()
    wait_until(lambda: patience.judge(store, silent) is Answer.GAVE_UP)
    assert patience.reason == "no frame within 0 s: nobody answers"


def test_due_when_the_acquisition_ended_and_nothing_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "SETTLE_S", 0.2)
    streamer = FakeStreamer()
    feed = Feed(Store(), streamer.results)
    feed.start()
    try:
        streamer.wait_for_subscriber()
        streamer.frame(make_row(0))
        streamer.status(state="receiving", queue=0)
        wait_until(lambda: feed.link().has_history)
        patience = Patience(limit_s=60)
        assert patience.judge(feed.store, feed.link()) is Answer.WAIT
        streamer.status(state="idle", queue=4)
        wait_until(lambda: feed.link().state is LinkState.ENDED)
        assert patience.judge(feed.store, feed.link()) is Answer.WAIT
        streamer.status(state="idle", queue=0)
        wait_until(lambda: patience.judge(feed.store, feed.link()) is Answer.DONE)
        assert patience.reason == "the acquisition ended with 1 frames"
    finally:
        feed.stop()
        streamer.close()
