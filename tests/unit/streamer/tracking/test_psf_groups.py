from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.tracking.psf_groups import MOST, PsfGroups


def motion(length_px: float, angle_deg: float) -> np.ndarray:
    along = np.array([-np.sin(np.radians(angle_deg)), np.cos(np.radians(angle_deg))])
    return length_px**2 / 12 * np.outer(along, along)


def errors(px2: float) -> np.ndarray:
    return px2**2 * np.diag([1.0, 0.5, 1.0])


def test_three_kinds_of_blur_make_three_groups():
    rng, groups = np.random.default_rng(1), PsfGroups()
    kinds = [motion(5, 0), motion(5, 70), np.eye(2) * 2.0]
    found: list[set[int]] = [set(), set(), set()]
    for _ in range(40):
        kind = int(rng.integers(3))
        noise = rng.normal(0, 0.1, (2, 2))
        found[kind].add(groups.assign(kinds[kind] + 0.5 * (noise + noise.T), errors(0.1)))
    assert [len(numbers) for numbers in found] == [1, 1, 1]
    assert set.union(*found) == {0, 1, 2}


def test_lengths_that_differ_are_apart_and_errors_bring_them_together():
    exact, vague = PsfGroups(), PsfGroups()
    assert [exact.assign(motion(length, 10), errors(0.05)) for length in (4, 8, 4, 8)] == [0, 1, 0, 1]
    assert [vague.assign(motion(length, 10), errors(3.0)) for length in (4, 8)] == [0, 0]


@given(st.lists(st.tuples(st.floats(1, 40), st.floats(-90, 90)), max_size=30))
def test_the_same_blur_twice_in_a_row_is_one_group(blurs):
    groups = PsfGroups()
    for length, angle in blurs:
        first = groups.assign(motion(length, angle), errors(0.1))
        assert groups.assign(motion(length, angle), errors(0.1)) == first


def test_memory_is_bounded():
    groups = PsfGroups()
    numbers = [groups.assign(np.eye(2) * 1.6**k % 1e5 + k * 1e6 * np.eye(2), errors(0.01)) for k in range(MOST + 20)]
    assert len(groups.snapshot()["groups"]) <= MOST
    assert numbers == sorted(numbers)


def test_restored_it_goes_on_the_same():
    groups, other = PsfGroups(), PsfGroups()
    for length in (3, 6, 9):
        groups.assign(motion(length, 0), errors(0.1))
    other.restore(groups.snapshot())
    for length in (3, 12, 6, 9):
        assert other.assign(motion(length, 0), errors(0.1)) == groups.assign(motion(length, 0), errors(0.1))
