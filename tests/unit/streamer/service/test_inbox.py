from __future__ import annotations

import threading

import numpy as np

from streamer.records import EndOfAcquisition, Frame, Refusal
from streamer.service.inbox import Dropped, Inbox


def _frame(index: int) -> Frame:
    return Frame(pixels=np.full((4, 4), index, np.uint16), index=index)


def _indices(inbox: Inbox) -> list[object]:
    taken = []
    while (item := inbox.get(0.0)) is not None:
        if isinstance(item, Dropped):
            taken.append(("dropped", item.frame.index))
        else:
            taken.append(item.index if isinstance(item, Frame | Refusal) else item)
    return taken


def test_what_comes_in_goes_out_in_order() -> None:
    inbox = Inbox(3, "block")
    end = EndOfAcquisition(acquisition="a")
    for item in (_frame(0), Refusal(reason="x", index=1), _frame(2), end):
        inbox.put(item)
    assert len(inbox) == 2
    assert _indices(inbox) == [0, 1, 2, end]
    assert inbox.get(0.01) is None


def test_urgent_matters_go_first() -> None:
    inbox = Inbox(3, "block")
    inbox.put(_frame(0))
    inbox.put_urgent("now")
    assert _indices(inbox) == ["now", 0]


def test_a_full_queue_blocks_the_receiver_until_there_is_room() -> None:
    inbox = Inbox(1, "block")
    inbox.put(_frame(0))
    done = threading.Event()

    def put() -> None:
        inbox.put(_frame(1))
        done.set()

    thread = threading.Thread(target=put)
    thread.start()
    assert not done.wait(0.05)
    assert inbox.get(0.0).index == 0
    assert done.wait(5.0)
    thread.join()


def test_closing_lets_the_receiver_go() -> None:
    inbox = Inbox(1, "block")
    inbox.put(_frame(0))
    thread = threading.Thread(target=inbox.put, args=(_frame(1),))
    thread.start()
    inbox.close()
    thread.join(5.0)
    assert not thread.is_alive()
    assert _indices(inbox) == [0, 1]


def test_the_oldest_frames_are_given_up_in_their_place_and_without_their_pixels() -> None:
    inbox = Inbox(2, "drop_oldest")
    inbox.put(Refusal(reason="x", index=10))
    for index in range(4):
        inbox.put(_frame(index))
        inbox.put(Refusal(reason="x", index=20 + index))
    assert len(inbox) == 2
    assert _indices(inbox) == [10, ("dropped", 0), 20, ("dropped", 1), 21, 2, 22, 3, 23]


def test_dropped_frames_hold_no_pixels() -> None:
    inbox = Inbox(1, "drop_oldest")
    inbox.put(_frame(0))
    inbox.put(_frame(1))
    dropped = inbox.get(0.0)
    assert isinstance(dropped, Dropped)
    assert dropped.frame.pixels.size == 1
    assert dropped.frame.pixels.base is None
