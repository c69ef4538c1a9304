"""Frames that are taken again: where the sample is by then, and whether the exposure succeeds this time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulator.plan import changed, generator
from simulator.run import Run, Shot

_LOOK_BACK = 8
"""Beyond the planned frames the sample goes on as it moved during this many of them."""


class Reexposures:
    """Plan exposures of a run once more.

    The same view, seen as the sample is at the new time: between two planned exposures of the view, drift and
    deformation go from one to the other on a straight line, and beyond the last one they go on as before.
    The microscope is no better than it was: a new exposure is blurred as often as the projections of the run were
    planned to be, by one of their blurs.

    Parameters
    ----------
    run : Run
        What is planned. Shots are made for it, not added to it.
    """

    def __init__(self, run: Run) -> None:
        planned = [shot for shot in run.shots if shot.kind == "projection"]
        self._seed = run.seed
        self._next = 1 + max((shot.index for shot in planned), default=-1)
        self._courses = {view: _Course([shot for shot in planned if shot.view == view])
                         for view in {shot.view for shot in planned}}
        good = [shot for shot in planned if shot.condition == "good"]
        self._blurs = [shot.blur for shot in good if shot.blur is not None]
        self.blurred_share = len(self._blurs) / max(len(good), 1)
        times = [shot.at_s for shot in planned]
        self.interval_s = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
        """Between two projections, as a rule."""

    def shot(self, asked: Shot, *, at_s: float, trial: int) -> Shot:
        """Return the next exposure of what `asked` shows, under the number behind all others of its acquisition.

        Parameters
        ----------
        asked : Shot
            The projection to be taken again.
        at_s : float
            When, in seconds since the start of the run.
        trial : int
            Counts the exposures of this one; same run, same trial, same luck.
        """
        drift_px, progress = self._courses[asked.view].at(at_s)
        rng = generator(self._seed, f"again {asked.acquisition} {asked.index} {trial}")
        blurred = rng.random() < self.blurred_share
        index, self._next = self._next, self._next + 1
        return changed(
            asked, index=index, at_s=at_s, drift_px=drift_px, progress=progress, condition="good",
            blur=self._blurs[int(rng.integers(len(self._blurs)))] if blurred else None, recollects=asked.index)


class _Course:
    """How one view moves and deforms with time."""

    def __init__(self, shots: list[Shot]) -> None:
        self._times_s = np.array([shot.at_s for shot in shots])
        self._states = np.array([(*shot.drift_px, shot.progress) for shot in shots])
        """(n, 3): drift y, drift x, progress."""

    def at(self, at_s: float) -> tuple[tuple[float, float], float]:
        """Return drift (y, x) in px and progress of the deformation."""
        if at_s > self._times_s[-1]:
            y, x, progress = self._beyond(at_s)
        else:
            y, x, progress = (float(np.interp(at_s, self._times_s, column)) for column in self._states.T)
        return (y, x), progress

    def _beyond(self, at_s: float) -> list[float]:
        times_s, states = self._times_s[-_LOOK_BACK:], self._states[-_LOOK_BACK:]
        if len(times_s) < 2:
            return [float(value) for value in states[-1]]
        since_s = times_s - times_s.mean()
        speed: NDArray[np.float64] = since_s @ (states - states.mean(axis=0)) / (since_s @ since_s)
        return [float(value) for value in states.mean(axis=0) + speed * (at_s - times_s.mean())]
