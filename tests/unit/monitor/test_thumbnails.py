from __future__ import annotations

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from support.fake_streamer import jpeg

from monitor.commander import Answer
from monitor.rows import Key
from monitor.store import Picture
from monitor.thumbnails import PAGE, RETRY_S, Thumbnails, Wish, reduced

DATA = jpeg(np.full((24, 32), 40_000, np.uint16))


class Gallery:
    """Thumbnails of some frames, numbered from `first`; those of rows in `without` were never made."""

    def __init__(self, count: int, *, first: int = 1, without: frozenset[int] = frozenset(), **options: Any) -> None:
        self.keys = [index for index in range(count) if index not in without]
        self.first, self.now, self.pages, self.news = first, 50.0, 0, 0
        self.error = ""
        self.thumbnails = Thumbnails(self.ask, decode=imagecodecs.jpeg8_decode, place_of=lambda key: key.index,
                                     notify=self.notify, now=lambda: self.now, **options)

    def notify(self) -> None:
        self.news += 1

    def ask(self, op: str, *, done: Callable[[Answer], None], **arguments: Any) -> None:
        assert op == "thumbnails"
        self.pages += 1
        begin = max(0, arguments["since"] + 1 - self.first)
        some = self.keys[begin:begin + arguments["limit"]]
        last = self.first + begin + len(some) - 1 if some else arguments["since"]
        result = {"thumbnails": [{"index": index, "acquisition": "a", "view": "", "data": DATA} for index in some],
                  "next": last, "more": begin + len(some) < len(self.keys)}
        done(Answer(op, arguments, result, self.error))

    def look(self, *indices: int) -> list[bool]:
        self.thumbnails.want([Wish(Key("a", index), index) for index in indices])
        return [self.thumbnails.get(Key("a", index)) is not None for index in indices]


def test_the_first_frames_come_with_one_page() -> None:
    gallery = Gallery(20)
    assert all(gallery.look(*range(20)))
    assert gallery.pages == 1
    assert gallery.look(3) == [True]
    assert gallery.pages == 1


@pytest.mark.parametrize("first", [1, 4000])
@pytest.mark.parametrize("without", [frozenset(), frozenset(range(0, 90_000, 7)), frozenset(range(20_000, 60_000))])
@pytest.mark.parametrize("place", [0, 77_771, 99_999])
def test_any_part_of_a_long_run_is_found_in_a_few_questions(first: int, without: frozenset[int], place: int) -> None:
    gallery = Gallery(100_000, first=first, without=without)
    wanted = [index for index in range(max(0, place - 9), place + 1) if index not in without]
    assert all(gallery.look(*wanted))
    assert gallery.pages <= 12


def test_what_was_never_made_is_not_asked_for_again_and_again() -> None:
    gallery = Gallery(1000, without=frozenset({500, 501}))
    assert gallery.look(499, 500, 501, 502) == [True, False, False, True]
    pages = gallery.pages
    for _ in range(5):
        gallery.look(499, 500, 501, 502)
    assert gallery.pages == pages
    gallery.now += RETRY_S + 0.1
    gallery.look(499, 500, 501, 502)
    assert pages < gallery.pages <= pages + 2


def test_the_newest_frame_may_have_none_yet() -> None:
    gallery = Gallery(100)
    assert gallery.look(99, 100) == [True, False]
    gallery.keys.append(100)
    gallery.now += RETRY_S + 0.1
    assert gallery.look(99, 100) == [True, True]


def test_errors_are_told_and_rested_from() -> None:
    gallery = Gallery(10)
    gallery.error = "unknown op 'thumbnails'"
    assert gallery.look(1) == [False]
    gallery.look(1)
    assert gallery.pages == 1
    assert gallery.thumbnails.why == "unknown op 'thumbnails'"
    gallery.error = ""
    gallery.now += RETRY_S + 0.1
    assert gallery.look(1) == [True]
    assert gallery.thumbnails.why == ""


@pytest.mark.parametrize("result", [
    None, [], {}, {"thumbnails": [{}], "next": 1, "more": False}, {"thumbnails": [], "next": 0},
    {"thumbnails": [], "next": "x", "more": False},
    {"thumbnails": [{"index": 1, "acquisition": "a", "data": 7}], "next": 1, "more": False},
])
def test_answers_that_make_no_sense_are_told(result: Any) -> None:
    thumbnails = Thumbnails(lambda op, *, done, **arguments: done(Answer(op, arguments, result)),
                            decode=imagecodecs.jpeg8_decode, place_of=lambda key: key.index)
    thumbnails.want([Wish(Key("a", 1), 1)])
    assert thumbnails.why


def test_memory_is_bounded() -> None:
    gallery = Gallery(3000, limit_bytes=100 * 24 * 32)
    for begin in range(0, 3000, 40):
        gallery.look(*range(begin, begin + 40))
    assert sum(gallery.thumbnails.get(Key("a", index)) is not None for index in range(3000)) <= 100
    assert gallery.pages < 3000 / PAGE * 3


def test_live_pictures_need_no_question() -> None:
    gallery = Gallery(0)
    gallery.thumbnails.keep_picture(Picture(index=5, acquisition="a", view="", kind="projection", offset=0, scale=1,
                                            image=np.arange(654 * 678, dtype=np.uint16).reshape(654, 678)))
    assert gallery.look(5) == [True]
    assert gallery.pages == 0
    assert max(gallery.thumbnails.get(Key("a", 5)).shape) < 200   # type: ignore[union-attr]


@pytest.mark.parametrize("image", [np.zeros((1, 1), np.uint8), np.full((10, 10), np.nan, np.float32),
                                   np.zeros((8000, 8000), np.uint8), np.zeros((3, 5000), np.uint16)])
def test_odd_pictures_have_thumbnails(image: Any) -> None:
    small = reduced(image)
    assert small.dtype == np.uint8
    assert max(small.shape) <= 5000
