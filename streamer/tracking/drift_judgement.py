"""Measuring a frame against keys, and what that means for the drift: place, error and what to say about it."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from streamer.imaging.prepared import prepare_frame
from streamer.imaging.registration import Registration, register_prepared
from streamer.records import FloatArray
from streamer.settings import DriftSettings
from streamer.tracking.drift_track import Target
from streamer.tracking.keyframes import Key, carried

DEFORMED_SHARE = 0.35
"""Of the deformation of what is seen: the error of the drift, which the part that is not seen would change."""
LEAST_SAID_PX, MUCH_PULLED_PX = 0.2, 0.8
"""Errors worth a word: of what adds up, and of a single frame, whose sigma tells of smaller ones."""
LEAST_MAGNIFICATION = 0.001
"""A change by less is not worth a word."""
LEAST_INLIERS = 0.2
LARGEST_SIGMA_PX = 1.0


def trusted(registration: Registration, settings: DriftSettings) -> bool:
    """Tell whether a registration passes the quality gate."""
    return (not registration.problem and not registration.ambiguous and registration.sigma_px is not None
            and registration.quality >= settings.quality and registration.inliers >= LEAST_INLIERS
            and registration.sigma_px <= LARGEST_SIGMA_PX)


def too_weak(registration: Registration) -> str:
    """Say why a match that has no problem of its own is not trusted."""
    if registration.sigma_px is not None and registration.sigma_px > LARGEST_SIGMA_PX:
        return f"not registered: the match is uncertain by {registration.sigma_px:.1f} px"
    return "not registered: the match is too weak"


def measure(image: NDArray[Any], target: Target, *, settings: DriftSettings,
            weight: FloatArray | None = None, flats: int = 0) -> Registration:
    """Register a frame against the active key or, when that fails, against all others.

    Parameters
    ----------
    image : (M, N)
        Corrected frame.
    target : Target
        From `Drift.target`; may be a little older than the track.
    weight : (M, N), optional
        Expected photons per pixel, on any scale.
    flats : int
        Exposures in the flat that the frame was divided by; 0 = none or not known.
    """
    if target.active is None:
        return Registration(math.nan, math.nan, None, 0.0, 0.0, problem="the view has no reference yet")
    frame = prepare_frame(image, weight=weight, flats=flats)
    found = register_prepared((target.active, *target.beside), frame, min_overlap=settings.overlap)
    if trusted(found, settings) or not target.others:
        return found
    other = register_prepared(target.others, frame, min_overlap=settings.overlap)
    return other if trusted(other, settings) else found


def place_of(used: Key, registration: Registration) -> tuple[float, float]:
    """Return where a frame is that was measured against a key."""
    way = carried(used.pose, (registration.dy, registration.dx), *turn_of(registration))
    return used.pose[0] + way[0], used.pose[1] + way[1]


def turn_of(registration: Registration) -> tuple[float, float]:
    """Return rotation (degrees) and magnification as far as they are beyond doubt: far from the centre they weigh."""
    return ((registration.rotation_deg or 0.0, registration.magnification or 0.0) if registration.turned
            else (0.0, 0.0))


def sigma_of(pose: tuple[float, float], registration: Registration) -> float:
    """Return the error of a measurement as seen from the origin, in px."""
    return math.hypot(registration.sigma_px or 0.0, registration.turn_sigma_rad * math.hypot(*pose))


def remarks(magnification: float, systematic_px: float, pull_px: float) -> tuple[str, ...]:
    """Say what makes the drift less certain than it looks."""
    remarks = []
    if abs(magnification) > LEAST_MAGNIFICATION:
        word = "larger" if magnification > 0.0 else "smaller"
        remarks.append(f"{100.0 * abs(magnification):.2f} % {word} than the first frame: magnification or swelling")
    if systematic_px > LEAST_SAID_PX or pull_px > MUCH_PULLED_PX:
        uncertain_px = math.hypot(systematic_px, pull_px)
        remarks.append(f"deformation or a fixed pattern: drift uncertain by {uncertain_px:.1f} px")
    return tuple(remarks)


def deformed(registration: Registration) -> float:
    """Return the error of the drift that the deformation of what is seen means, in px."""
    return DEFORMED_SHARE * registration.deformation_px
