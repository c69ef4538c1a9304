"""Values that are worked out once, by whichever thread needs them first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any, Self, TypeVar, overload

T = TypeVar("T")


class once(cached_property[T]):  # noqa: N801  (a decorator, as the one it extends)
    """A cached property that two threads do not compute twice: the second one waits for the first.

    `functools.cached_property` does so up to Python 3.11 only. As there, the lock is that of the attribute, not of the
    instance, so the function must not wait for another thread that asks for the same attribute.
    """

    def __init__(self, function: Callable[[Any], T]) -> None:
        super().__init__(function)
        self._once = threading.RLock()

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> T: ...
    def __get__(self, instance: object, owner: type[Any] | None = None) -> Self | T:
        if instance is None:
            return self
        with self._once:
            return super().__get__(instance, owner)
