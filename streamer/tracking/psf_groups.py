"""Which blurred frames share a point-spread function: the few kinds that a deconvolution has to know."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST = 256
"""Groups that may grow; beyond, the one that was joined least recently is closed."""

_SAME = 11.3             # squared distance in units of the errors, 99 % of chi-square with 3 degrees of freedom
_ALIKE_SHARE = 0.06      # of the covariance, by which frames of one group may differ in earnest...
_ALIKE_PX2 = 0.06        # ...and px^2
_ISOTROPIC = np.diag([1.0, 0.5, 1.0])   # of (yy, yx, xx)


class _Group(NamedTuple):
    number: int
    mean: NDArray[np.float64]
    """(3,) px^2: yy, yx, xx."""
    errors: NDArray[np.float64]
    """(3, 3) px^4 of the mean."""


class PsfGroups:
    """Group the covariances of point-spread functions, one by one, as they come.

    A frame joins the nearest group whose mean it meets within its errors, else it founds a new one. The mean is
    weighted by the errors. Frames of all views belong to the same groups: what shook the microscope is one thing.
    """

    def __init__(self) -> None:
        self._groups: list[_Group] = []
        self._next = 0

    def assign(self, covariance: NDArray[np.float64], errors: NDArray[np.float64]) -> int:
        """Return the number of the group of a frame, from 0.

        Parameters
        ----------
        covariance : (2, 2) array
            Of the extra point-spread function, px^2, ``[[yy, yx], [yx, xx]]``.
        errors : (3, 3) array
            Covariance of the errors of (yy, yx, xx), px^4.
        """
        found = np.array([covariance[0, 0], covariance[0, 1], covariance[1, 1]])
        alike = _ALIKE_PX2 + _ALIKE_SHARE * float(np.abs(found[[0, 2]]).sum())
        own = errors + alike**2 * _ISOTROPIC
        distances = [self._distance(found, own, group) for group in self._groups]
        if not distances or min(distances) > _SAME:
            group = _Group(self._next, found, own)
            self._next += 1
        else:
            group = self._groups.pop(int(np.argmin(distances)))
            share = group.errors @ np.linalg.inv(group.errors + own)
            group = _Group(group.number, group.mean + share @ (found - group.mean), group.errors - share @ group.errors)
        self._groups.append(group)
        del self._groups[:-MOST]
        return group.number

    @staticmethod
    def _distance(found: NDArray[np.float64], errors: NDArray[np.float64], group: _Group) -> float:
        apart = found - group.mean
        return float(apart @ np.linalg.solve(errors + group.errors, apart))

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to go on later, as builtins and arrays."""
        return {"groups": [list(group) for group in self._groups], "next": self._next}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `snapshot`."""
        self._groups = [_Group(int(number), mean, errors) for number, mean, errors in state["groups"]]
        self._next = int(state["next"])
