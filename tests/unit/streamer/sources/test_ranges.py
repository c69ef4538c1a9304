from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from streamer.sources import ranges
from streamer.sources.ranges import Ranges

ACTIONS = st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(-2, 8)), max_size=30)


@given(actions=ACTIONS, low=st.integers(0, 40), width=st.integers(0, 20))
def test_behaves_like_a_set(actions, low, width):
    found, truth = Ranges(), set()
    for add, first, length in actions:
        numbers = range(first, first + length)
        if add:
            found.add(first, first + length - 1)
            truth |= set(numbers)
        else:
            found.remove(first, first + length - 1)
            truth -= set(numbers)
        assert len(found) == len(truth)
    assert {number for first, last in found for number in range(first, last + 1)} == truth
    assert [number in found for number in range(50)] == [number in truth for number in range(50)]
    pieces = list(found)
    assert all(first <= last for first, last in pieces)
    assert all(after[0] > before[1] + 1 for before, after in itertools.pairwise(pieces))   # merged, sorted
    inside = {number for first, last in found.between(low, low + width) for number in range(first, last + 1)}
    assert inside == {number for number in truth if low <= number <= low + width}
    assert list(Ranges.restore(found.snapshot())) == pieces


def test_single_numbers_and_ranges_in_lists():
    assert Ranges([(3, 3), (5, 9), (1, 1)]).to_list() == [1, 3, (5, 9)]
    assert Ranges([(3, 4), (5, 9), (2, 2)]).to_list() == [(2, 9)]


def test_memory_is_bounded_but_the_count_is_not():
    found = Ranges()
    for number in range(0, 3 * ranges.MOST_RANGES, 2):
        found.add(number, number)
    assert len(found) == 1.5 * ranges.MOST_RANGES
    assert len(found.to_list()) == ranges.MOST_RANGES
    assert len(Ranges.restore(found.snapshot())) == len(found)
