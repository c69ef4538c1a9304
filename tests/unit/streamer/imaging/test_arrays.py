"""Helpers on arrays."""

import numpy as np
import pytest

from streamer.imaging.arrays import Same, medians


@pytest.mark.parametrize("count", [1, 2, 5, 6, 585, 586])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_medians_are_those_of_numpy(count, dtype):
    values = np.random.default_rng(count).normal(size=(7, count)).astype(dtype)

    found = medians(values)

    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.median(values, axis=1))


def test_the_median_of_a_line_is_a_number():
    assert float(medians(np.array([3.0, 1.0, 2.0, 10.0]))) == 2.5


def test_only_the_very_same_array_is_the_same():
    array = np.zeros(3)

    assert Same(array) == Same(array)
    assert hash(Same(array)) == hash(Same(array))
    assert Same(array) != Same(array.copy())
