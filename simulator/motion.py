"""How the sample moves between exposures, and what happens during them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.optics import Blur


class Drift(NamedTuple):
    """A systematic way with random jitter on top."""

    end_px: tuple[float, float]
    """Where the systematic part ends, (y, x)."""
    jitter_px: tuple[float, float] = (0.0, 0.0)
    """Standard deviation of the random part, (y, x)."""
    wander: float = 0.04
    """How far the systematic part strays from a straight line, as a share of its length."""

    def path(self, count: int, *, rng: np.random.Generator, span: int | None = None) -> NDArray[np.float64]:
        """Draw the positions of `count` frames relative to the first, (count, 2), px.

        Parameters
        ----------
        count : int
            Frames.
        rng : numpy.random.Generator
            Where jitter and wandering come from.
        span : int, optional
            Frames over which `end_px` is reached; by default all.
        """
        progress = np.arange(count) / max((span or count) - 1, 1)
        end = np.asarray(self.end_px)
        bend = rng.normal(0, self.wander, (2, 2))
        bow = bend[:, :1] * np.sin(np.pi * progress) + bend[:, 1:] * np.sin(2 * np.pi * progress)
        systematic = end * (progress + bow).T
        path: NDArray[np.float64] = systematic + rng.normal(0, 1, (count, 2)) * self.jitter_px
        return np.asarray(path - path[0])


def schedule_blur(
    count: int, *, share: float, rng: np.random.Generator, spared: int = 4,
    lengths_px: tuple[float, float] = (3.0, 9.0), spread_deg: float = 8.0, defocus_px: float | None = 1.6,
) -> dict[int, Blur]:
    """Choose which frames are blurred, and how.

    Parameters
    ----------
    count : int
        Frames.
    share : float
        Share of blurred frames.
    rng : numpy.random.Generator
        Where the choice comes from.
    spared : int
        The first frames are never blurred.
    lengths_px : (float, float)
        Range of the motion.
    spread_deg : float
        Directions lie within this of horizontal.
    defocus_px : float, optional
        One of them is a defocus of this sigma instead, when there are at least two.

    Returns
    -------
    dict of int to Blur
        By frame, in order.
    """
    number = min(round(share * count), max(count - spared, 0))
    chosen = sorted(int(frame) for frame in spared + rng.choice(max(count - spared, 1), number, replace=False))
    blurs = {
        frame: Blur("motion", float(rng.uniform(*lengths_px)), float(rng.uniform(-spread_deg, spread_deg)))
        for frame in chosen
    }
    if defocus_px is not None and number >= 2:
        blurs[int(rng.choice(chosen))] = Blur("defocus", defocus_px)
    return blurs
