from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.packing import grey_levels, pack_power, unpack_power


@given(st.lists(st.floats(1e-13, 1e5), min_size=1, max_size=64))
def test_powers_come_back_to_within_one_in_two_thousand(values: list[float]) -> None:
    power = np.array(values, np.float32)
    packed = pack_power(power)
    assert len(packed) == 2 * power.size
    back = unpack_power(packed)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, power, rtol=5e-4)


@pytest.mark.parametrize(("value", "expected"), [(0.0, 0.0), (-1.0, 0.0), (np.nan, 0.0), (1e-20, 1e-14), (1e9, 1e6)])
def test_what_has_no_logarithm_or_lies_beyond_the_limits(value: float, expected: float) -> None:
    assert unpack_power(pack_power(np.array([value], np.float32)))[0] == pytest.approx(expected, rel=1e-3)


def test_grey_levels_span_all_powers() -> None:
    power = np.array([[1e-4, 1.1e-2], [1.0, 0.0]], np.float32)
    levels, low, high = grey_levels(power)
    assert [low, high] == pytest.approx([-4, 0], abs=1e-6)
    assert levels.dtype == np.uint8
    assert levels.tolist() == [[0, 130], [255, 0]]


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_an_even_picture_has_one_grey_level(value: float) -> None:
    levels, low, high = grey_levels(np.full((4, 2), value, np.float32))
    assert not levels.any()
    assert low == high == pytest.approx(np.log10(value or 1.0))
