from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from support.fake_streamer import make_flow, make_picture, packed_flow, packed_picture

from monitor.commander import Answer
from monitor.rows import Key
from monitor.shelf import RETRY_S, Shelf
from monitor.store import Picture
from streamer.errors import ProtocolError


def decode(data: bytes) -> Any:
    """As the window does it with Qt."""
    try:
        return imagecodecs.jpeg8_decode(data)
    except (ValueError, RuntimeError) as error:
        raise ProtocolError("no JPEG") from error


class Desk:
    """Questions that wait until they are answered."""

    def __init__(self) -> None:
        self.now, self.news = 100.0, 0
        self.waiting: list[tuple[str, dict[str, Any], Callable[[Answer], None]]] = []
        self.asked: list[tuple[str, int, str]] = []
        self.shelf = Shelf(self.ask, decode=decode, notify=self.notify, now=lambda: self.now)

    def ask(self, op: str, *, done: Callable[[Answer], None], **arguments: Any) -> None:
        self.asked.append((op, arguments["index"], arguments.get("kind", "")))
        self.waiting.append((op, arguments, done))

    def notify(self) -> None:
        self.news += 1

    def answer(self, result: Any = None, error: str = "") -> None:
        op, arguments, done = self.waiting.pop(0)
        if result is None and not error:
            result = (packed_picture(**arguments) if op == "picture" else packed_flow(make_flow(arguments["index"])))
        done(Answer(op, arguments, result, error))


def key(index: int) -> Key:
    return Key("scan-1", index)


def test_a_picture_is_asked_for_once_and_kept() -> None:
    desk = Desk()
    for _ in range(3):
        found = desk.shelf.picture(key(12), place="frame")
        assert found.thing is None
        assert found.why == "the picture of frame 12 is on its way"
    assert desk.asked == [("picture", 12, "corrected")]
    desk.answer()
    assert desk.news == 1
    picture = desk.shelf.picture(key(12), place="frame").thing
    assert (picture.index, picture.view, picture.binning) == (12, "A", 1)
    value = picture.offset + picture.scale * picture.image.astype(float)
    assert np.abs(value - make_picture(12) / 65_535).max() < 0.05   # eight bits and JPEG
    assert len(desk.asked) == 1


def test_a_field_comes_with_all_its_arrays() -> None:
    desk = Desk()
    assert "displacement field of frame 7 is on its way" in desk.shelf.flow(key(7), place="field").why
    desk.answer()
    flow, expected = desk.shelf.flow(key(7), place="field").thing, make_flow(7)
    for name in ("displacement_px", "valid", "sigma_px", "grid_y_px", "grid_x_px"):
        np.testing.assert_array_equal(getattr(flow, name), getattr(expected, name))
    assert flow.reference_index == 0
    assert flow.strain is None


def test_a_key_held_down_asks_for_a_few_frames_only() -> None:
    desk = Desk()
    for index in range(500):
        desk.shelf.picture(key(index), place="frame")
        if index == 250:
            desk.answer()
    assert desk.asked == [("picture", 0, "corrected"), ("picture", 250, "corrected")]
    desk.answer()
    desk.answer()
    assert desk.asked[2:] == [("picture", 499, "corrected")]
    assert not desk.waiting


def test_places_do_not_push_each_other_out() -> None:
    desk = Desk()
    desk.shelf.picture(key(5), place="frame")
    desk.shelf.picture(key(0), place="reference")
    desk.shelf.picture(key(5), place="raw", kind="raw")
    desk.shelf.flow(key(5), place="field")
    while desk.waiting:
        desk.answer()
    assert sorted(desk.asked) == [("flow", 5, ""), ("picture", 0, "corrected"), ("picture", 5, "corrected"),
                                  ("picture", 5, "raw")]
    raw, corrected = (desk.shelf.picture(key(5), place="x", kind=kind).thing.image for kind in ("raw", "corrected"))
    assert np.abs(raw[::-1].astype(int) - corrected).max() < 30


def test_a_refusal_is_told_and_asked_again_after_a_while() -> None:
    desk = Desk()
    desk.shelf.picture(key(3), place="frame")
    desk.answer(error="the picture of frame 3 is not kept any more")
    found = desk.shelf.picture(key(3), place="frame")
    assert found.why == "the picture of frame 3 cannot be had: the picture of frame 3 is not kept any more"
    assert len(desk.asked) == 1
    desk.now += RETRY_S + 0.1
    assert "not kept any more" in desk.shelf.picture(key(3), place="frame").why
    assert len(desk.asked) == 2
    desk.answer()
    assert desk.shelf.picture(key(3), place="frame").thing is not None


BROKEN: dict[str, Any] = {
    "no object": [1, 2], "nothing": {}, "no data": packed_picture(3) | {"data": None},
    "no base64": packed_picture(3) | {"data": "%%%"},
    "half a JPEG": packed_picture(3) | {"data": packed_picture(3)["data"][:400]},
    "no JPEG": packed_picture(3) | {"data": base64.b64encode(b"hello").decode()},
    "binning 0": packed_picture(3) | {"binning": 0}, "a text as scale": packed_picture(3) | {"scale": "much"},
    "another frame": packed_picture(4), "no index": {k: v for k, v in packed_picture(3).items() if k != "index"},
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_pictures_are_refused_in_words(name: str) -> None:
    desk = Desk()
    desk.shelf.picture(key(3), place="frame")
    desk.answer(BROKEN[name])
    why = desk.shelf.picture(key(3), place="frame").why
    assert why.startswith("the picture of frame 3 cannot be had: ")
    assert desk.news == 1


def flow_with(**changes: Any) -> dict[str, Any]:
    return packed_flow(make_flow(3)) | changes


BROKEN_FIELDS: dict[str, Any] = {
    "no object": "flow", "nothing": {}, "an array is missing": flow_with(valid=None),
    "another dtype": flow_with(valid={"dtype": "|O", "shape": [1], "data": ""}),
    "a shape of texts": flow_with(valid={"dtype": "|b1", "shape": ["a"], "data": ""}),
    "too few bytes": flow_with(valid={"dtype": "|b1", "shape": [30, 40], "data": "AAAA"}),
    "shapes apart": flow_with(grid_y_px={"dtype": "<f4", "shape": [1], "data": "AAAAAA=="}),
    "strain of another grid": flow_with(strain={"dtype": "<f4", "shape": [1, 1, 1], "data": "AAAAAA=="}),
}


@pytest.mark.parametrize("name", BROKEN_FIELDS)
def test_broken_fields_are_refused_in_words(name: str) -> None:
    desk = Desk()
    desk.shelf.flow(key(3), place="field")
    desk.answer(BROKEN_FIELDS[name])
    assert desk.shelf.flow(key(3), place="field").why.startswith("the displacement field of frame 3 cannot be had: ")


def test_memory_is_bounded_and_what_is_looked_at_stays() -> None:
    desk = Desk()
    one = make_picture(0).nbytes
    desk.shelf.limit_bytes = 5 * one
    for index in range(40):
        desk.shelf.keep_picture(Picture(index=index, acquisition="scan-1", view="A", kind="projection", offset=0.0,
                                        scale=1.0, image=make_picture(0)))
        assert desk.shelf.picture(key(0), place="reference").thing is not None
        assert desk.shelf.bytes <= 5 * one
    assert not desk.asked
    assert desk.shelf.picture(key(39), place="frame").thing is not None
    assert desk.shelf.picture(key(20), place="frame").thing is None


def test_answers_for_a_session_that_is_over_are_left_out() -> None:
    desk = Desk()
    desk.shelf.picture(key(3), place="frame")
    desk.shelf.clear()
    desk.shelf.picture(key(3), place="frame")
    assert len(desk.asked) == 2
    desk.answer(packed_picture(3) | {"view": "old"})
    assert desk.shelf.picture(key(3), place="frame").thing is None
    desk.answer()
    assert desk.shelf.picture(key(3), place="frame").thing.view == "A"


def test_a_question_that_is_refused_at_once_does_no_harm() -> None:
    shelf = Shelf(lambda op, *, done, **arguments: done(Answer(op, arguments, error="200 questions wait already")),
                  decode=decode)
    shelf.picture(key(3), place="frame")
    assert "200 questions wait" in shelf.picture(key(3), place="frame").why
