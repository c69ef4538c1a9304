"""What is known about a simulated frame and never sent with it."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.records import FloatArray


class FrameTruth(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The truth about one projection, in the words and signs of the results."""

    view: str
    drift_px: tuple[float, float]
    """Relative to the first usable frame of the same view, (y, x)."""
    blur_covariance_px2: NDArray[np.float64]
    """(2, 2), order (y, x)."""
    blurred: bool
    usable: bool
    """False for a beam dump, an empty beam, a saturated frame."""
    condition: str = "good"
    """``good``, ``dump``, ``empty`` or ``saturated``."""
    displacement_px: FloatArray
    """(2, K, L) on the grid of the run, without the drift."""
    recollects: int | None = None
    """Index of the projection that this one replaces."""

    @property
    def blur_length_px(self) -> float:
        """``sqrt(12 * largest eigenvalue)``."""
        return blur_length_angle(self.blur_covariance_px2)[0]

    @property
    def blur_angle_deg(self) -> float:
        """Direction of the blur, counter-clockwise on the screen, in (-90, 90]; NaN without a direction."""
        return blur_length_angle(self.blur_covariance_px2)[1]


def blur_length_angle(covariance_px2: NDArray[np.float64]) -> tuple[float, float]:
    """Turn a blur covariance into length (px) and angle (degrees, NaN when it has no direction).

    Parameters
    ----------
    covariance_px2 : ndarray, (2, 2)
        Order (y, x).

    Returns
    -------
    length_px, angle_deg : float
        A linear motion of L px has length L; the angle is in (-90, 90], 0 along +x, counter-clockwise on the screen.
    """
    values, vectors = np.linalg.eigh(covariance_px2)
    length = math.sqrt(12 * max(float(values[1]), 0.0))
    if float(values[1] - values[0]) <= 1e-9:
        return length, math.nan
    # y points down; rounding keeps a vertical blur at +90.
    angle = round(math.degrees(math.atan2(-vectors[0, 1], vectors[1, 1])), 9)
    angle = -((-angle + 90) % 180 - 90)
    return length, angle
