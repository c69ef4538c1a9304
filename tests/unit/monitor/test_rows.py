"""Frames that were taken again stand where they were taken, whatever their numbers."""

from __future__ import annotations

import numpy as np
import pytest
from support.fake_streamer import make_row, moment

from monitor.rows import RowTable


def fill(rows):
    table = RowTable()
    for sequence, row in enumerate(rows, start=1):
        table.put(row, sequence)
    return table


def shown(table):
    charts = table.charts(1)
    return list(zip(charts.numbers["index"].astype(int).tolist(), charts.order.tolist(), strict=True))


def again(index, recollects, at):
    return make_row(index, recollects=recollects, received_at=moment(at), exposed_at=moment(at))


PLANNED = [make_row(index) for index in range(6)]


def test_between_those_that_were_taken_before_and_after():
    order = dict(shown(fill([*PLANNED[:3], again(100, 1, 2.5), *PLANNED[3:]])))
    assert order == {0: 0, 1: 1, 2: 2, 100: 2.5, 3: 3, 4: 4, 5: 5}


def test_several_in_one_gap_come_one_after_the_other():
    order = dict(shown(fill([*PLANNED, again(101, 2, 5.6), again(100, 1, 5.3)])))
    assert 5 < order[100] < order[101] < 6


def test_whatever_the_order_in_which_they_come_to_be_known():
    rows = [*PLANNED[:3], again(100, 1, 2.5), *PLANNED[3:], again(101, 4, 8)]
    expected = shown(fill(rows))
    for seed in range(5):
        shuffled = [rows[place] for place in np.random.default_rng(seed).permutation(len(rows))]
        assert shown(fill(shuffled)) == expected


def test_before_the_first_planned_one_or_without_any():
    assert dict(shown(fill([again(100, 1, -1), *PLANNED])))[100] == -0.5
    assert len(shown(fill([again(100, 1, 0), again(101, 1, 1)]))) == 2


def test_they_do_not_push_the_next_acquisition_away():
    later = [make_row(index, acquisition="scan-2", received_at=moment(50 + index)) for index in range(2)]
    charts = fill([*PLANNED, again(1000, 1, 5.5), *later]).charts(1)
    assert charts.order.max() == 7
    assert [(start.order, start.index) for start in charts.starts] == [(0, 0), (6, 0)]


def test_a_time_that_cannot_be_read_puts_nothing_into_disorder():
    table = fill([*PLANNED, make_row(100, recollects=1, received_at="yesterday")])
    assert np.isfinite(table.charts(1).order).all()


@pytest.mark.parametrize("text", [None, "2026-11-27T03:14:31.000001+00:00", "2026-11-27T03:14:31Z", "yesterday, about",
                                  "2026-11-27T03:14:31.000001234567+00:00", "vor kurzem, früher"])
def test_moments_come_back_as_they_were(text: str | None) -> None:
    table = RowTable()
    table.put(make_row(0, received_at=text), 1)
    for index in range(1, 600):   # beyond the room that a table begins with
        table.put(make_row(index), index + 1)
    assert table.row(0).received_at == text
    table.put(make_row(0), 1000)
    assert table.row(0).received_at == make_row(0).received_at
    assert table.row(599).exposed_at == make_row(599).exposed_at
