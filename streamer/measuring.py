"""What can be said of a frame alone: corrected, transformed, registered; the heavy part of the analysis."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable

import numpy as np

from streamer.errors import FrameError
from streamer.imaging import correction as correcting
from streamer.imaging import spectrum
from streamer.imaging.registration import Registration, prepare_reference
from streamer.imaging.resolution import Resolution, resolution
from streamer.imaging.spectrum import NoiseShape
from streamer.records import FloatArray, Frame
from streamer.settings import Settings
from streamer.tracking import drift

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Context:
    """All that measuring a projection may depend on; immutable."""

    correction: correcting.Correction
    target: drift.Target
    settings: Settings
    named: correcting.Correction
    """By flats and darks that the stream named; `correction` may hold what was recognised besides."""


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Job:
    """A frame on its way, with the context it was given."""

    frame: Frame
    context: Context | None
    """None for what needs no measuring: flats, darks and refused frames."""
    problem: str = ""
    refused: bool = False
    """Whether the problem keeps the frame from being used at all."""
    errand: Callable[[], object] | None = None
    """What later frames will need and may be done beside them, from any thread."""


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Measurement:
    """What can be said of a projection alone."""

    image: FloatArray
    """(M, N) corrected."""
    level: correcting.Level
    spectrum: spectrum.Spectrum
    noise: NoiseShape | None
    """How the noise falls with frequency, where it was measured."""
    resolution: Resolution
    registration: Registration
    target_version: int
    elapsed_ms: dict[str, float]


def measure(job: Job) -> Measurement | FrameError | None:
    """Measure a projection; pure, so it may run in any thread or process and in any order.

    Returns
    -------
    Measurement, FrameError or None
        The error, returned and not raised, for a frame that cannot be measured; None when there is nothing to
        measure.
    """
    if job.context is None:
        return None
    try:
        return _measure(job.frame, job.context)
    except FrameError as error:
        return error
    except Exception as error:  # one broken frame must not end a beamtime
        log.exception("frame %d of %r could not be measured", job.frame.index, job.frame.acquisition)
        return FrameError(f"internal error while measuring: {type(error).__name__}: {error}; "
                          "please report it with the log")


def _measure(frame: Frame, context: Context) -> Measurement:
    elapsed: dict[str, float] = {}
    clock = Clock(elapsed)
    level = correcting.level(frame.pixels, context.correction)
    image = correcting.correct(frame.pixels, context.correction,
                               zinger_sigma=context.settings.calibration.zinger_sigma)
    clock.lap("correct")
    noise = context.correction.noise_shape(level.mean)
    seen = spectrum.measure_spectrum(image, context.correction.weight, noise)
    clock.lap("spectrum")
    found = resolution(seen, noise)
    clock.lap("resolution")
    registration = register(image, context.correction, context.target, context.settings)
    clock.lap("register")
    return Measurement(image, level, seen, noise, found, registration, context.target.version, elapsed)


def rehearse(shape: tuple[int, ...]) -> None:
    """Measure a made-up frame, so that what is done once for every shape is done before a frame has to wait for it."""
    noise = np.random.default_rng(0).integers(0, 1000, shape, np.uint16)
    target = drift.Target(active=prepare_reference(noise, id=0))
    measure(Job(Frame(pixels=noise, index=0), Context(correcting.IDENTITY, target, Settings(), correcting.IDENTITY)))


def register(
    image: FloatArray, correction: correcting.Correction, target: drift.Target, settings: Settings
) -> Registration:
    """Measure where a corrected frame is."""
    return drift.measure(image, target, settings=settings.drift, weight=correction.weight,
                         flats=correction.noisy_flats)


class Clock:
    """Writes down how long each stage took."""

    def __init__(self, elapsed_ms: dict[str, float]) -> None:
        self._elapsed_ms = elapsed_ms
        self._since = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Note the time since the last stage."""
        now = time.perf_counter()
        self._elapsed_ms[stage] = 1e3 * (now - self._since)
        self._since = now
