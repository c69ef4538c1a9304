"""What several estimators need of arrays."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Real = TypeVar("Real", np.float32, np.float64)


class Same:
    """An array that is equal to itself alone, so that a cache can know it; it must not change meanwhile."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def __hash__(self) -> int:
        return id(self.array)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.array is self.array


def medians(values: NDArray[Real]) -> NDArray[Real]:
    """Return what `numpy.median` does along the last axis, of finite values.

    It looks for three places at once, which takes seven times as long as to look for one.
    """
    middle = values.shape[-1] // 2
    parted = np.partition(values, middle, axis=-1)
    upper = parted[..., middle]
    if values.shape[-1] % 2:
        return upper
    return np.asarray((parted[..., :middle].max(axis=-1) + upper) / values.dtype.type(2))
