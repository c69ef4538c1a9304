from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.records import FrameRow
from streamer.replacement import in_force, replaced_by


def row(index: int, verdict: str | None = "sharp", recollects: int | None = None, **columns: object) -> FrameRow:
    return FrameRow(**{"index": index, "acquisition": "a", "view": "main", "kind": "projection", "verdict": verdict,
                       "recollects": recollects} | columns)


@pytest.mark.parametrize(("rows", "standing"), [
    ([row(0), row(1, "blurred"), row(2), row(3, "sharp", 1)], [0, 3, 2]),
    ([row(0, "blurred"), row(1, "blurred", 0), row(2, "sharp", 0)], [2]),
    ([row(0, "blurred"), row(1, "bad", 0)], [0]),                       # nothing better came
    ([row(0, "blurred"), row(1, "undecided", 0)], [1]),
    ([row(0, "sharp"), row(1, "sharp", 0)], [1]),                       # somebody wanted it
    ([row(0, "blurred"), row(1, "sharp", 0), row(2, "sharp", 0)], [2]),
    ([row(0, "blurred"), row(1, "blurred", 0), row(2, "sharp", 1)], [2]),   # by way of the one before
    ([row(0, "blurred"), row(1, "sharp", 0, view="left")], [0, 1]),
    ([row(0, "blurred"), row(1, "sharp", 7)], [0, 1]),
    ([row(0, "blurred"), row(1, "sharp", 0, acquisition="b")], [0, 1]),
    ([row(0, None, kind="flat"), row(1, "sharp", 0), row(2, None, 1, kind="flat")], [0, 1, 2]),
    ([row(0, None), row(1, "sharp", 0)], [1]),                          # what could not be measured
    ([row(1, "sharp", 0), row(0, "blurred")], [1]),                     # late on the way
    ([row(0, "blurred", 1), row(1, "sharp", 0)], [1]),                  # each names the other
    ([row(0, "blurred", 0)], [0]),
    ([], []),
])
def test_which_rows_stand(rows, standing):
    assert [found.index for found in in_force(rows)] == standing


def test_what_does_not_stand_names_what_does():
    rows = [row(0), row(1, "blurred"), row(2), row(3, "blurred", 1), row(4, "sharp", 1), row(5, "blurred", 2)]
    assert replaced_by(rows) == {("a", 1): 4, ("a", 3): 4, ("a", 5): 2}


@given(st.lists(st.tuples(st.sampled_from(["sharp", "blurred", "bad", "undecided", None]),
                          st.one_of(st.none(), st.integers(0, 12))), max_size=12))
def test_every_place_has_one_row_whatever_names_what(named):
    rows = [row(index, verdict, recollects) for index, (verdict, recollects) in enumerate(named)]
    standing = in_force(rows)
    assert len({found.index for found in standing}) == len(standing) <= len(rows)
    assert {found.index for found in standing} <= {found.index for found in rows}
    assert {found.index for found in rows if found.recollects is None} or not rows or standing
    replaced = replaced_by(rows)
    assert {key[1] for key in replaced} == {found.index for found in rows} - {found.index for found in standing}
    assert set(replaced.values()) <= {found.index for found in standing}
    again = in_force(standing)
    assert len(again) <= len(standing)
