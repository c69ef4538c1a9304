"""When things are drawn: one in a turn of the loop, never too often, and at once when somebody waits."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pyqtgraph.Qt import QtCore

from monitor.panels.pacing import Pacer

pytestmark = [pytest.mark.gui, pytest.mark.qt_log_ignore("XDG_RUNTIME_DIR")]


def test_each_step_has_a_turn_of_its_own(qtbot: Any) -> None:
    parent, done = QtCore.QObject(), []

    def first() -> None:
        done.append("first")
        QtCore.QTimer.singleShot(0, lambda: done.append("between"))

    pacer = Pacer(1000, lambda: [first, lambda: done.append("second")], parent)
    pacer.request()
    pacer.request()
    assert done == []
    qtbot.waitUntil(lambda: "second" in done)
    assert done == ["first", "between", "second"]


def test_it_rests_as_long_as_it_took(qtbot: Any) -> None:
    parent, begun = QtCore.QObject(), []

    def slow() -> None:
        begun.append(time.monotonic())
        time.sleep(0.08)

    pacer = Pacer(1, lambda: [slow], parent)
    pacer.request()
    qtbot.waitUntil(lambda: len(begun) == 1)
    pacer.request()
    qtbot.waitUntil(lambda: len(begun) == 2)
    assert begun[1] - begun[0] >= 0.15


def test_who_waits_need_not_wait_for_the_rest(qtbot: Any) -> None:
    parent, done = QtCore.QObject(), []
    pacer = Pacer(60_000, lambda: [lambda: done.append(1)], parent)
    pacer.request()
    qtbot.waitUntil(lambda: len(done) == 1)
    pacer.request()
    pacer.hurry()
    qtbot.waitUntil(lambda: len(done) == 2)


def test_a_hurry_in_the_middle_begins_anew_when_all_is_done(qtbot: Any) -> None:
    parent, done = QtCore.QObject(), []
    pacer = Pacer(60_000, lambda: [lambda: done.append("a"), lambda: (done.append("b"), len(done) == 2
                                                                    and pacer.hurry())], parent)
    pacer.request()
    qtbot.waitUntil(lambda: len(done) == 4)
    assert done == ["a", "b", "a", "b"]


def test_it_waits_for_what_is_more_urgent(qtbot: Any) -> None:
    parent, done = QtCore.QObject(), []
    urgent = Pacer(1, lambda: [lambda: done.append("picture")], parent)
    other = Pacer(1, lambda: [lambda: (done.append("chart"), urgent.request()), lambda: done.append("chart")], parent,
                  yields_to=urgent)
    other.request()
    qtbot.waitUntil(lambda: len(done) == 3)
    assert done == ["chart", "picture", "chart"]


def test_what_was_asked_for_can_be_forgotten(qtbot: Any) -> None:
    parent, done = QtCore.QObject(), []
    pacer = Pacer(1, lambda: [pacer.stop, lambda: done.append(1)], parent)
    pacer.request()
    qtbot.wait(30)
    assert done == []
