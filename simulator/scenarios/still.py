"""Nothing happens: what is measured here is the noise of the measurement."""

from __future__ import annotations

import numpy as np

from simulator.detector import Detector
from simulator.plan import FULL_FRAME, Request, calibration, cathode_canvas, generator, in_time, projections
from simulator.run import Run, Scene

NAME = "still"
SUMMARY = "40 frames in which nothing moves and nothing is blurred: everything found here is a false alarm"

FRAMES = 40
PHOTONS = 500.0
CADENCE_S = 1.0
_FLATS = 10
_DARKS = 5


def build(request: Request) -> Run:
    """Plan the run: darks, flats, projections."""
    shape, frames, seed = request.shape or FULL_FRAME, request.frames or FRAMES, request.seed
    path = np.zeros((frames, 2))
    return Run(
        name=NAME, seed=seed, pixel_size_nm=33.24, exposure_s=0.048,
        shots=in_time(
            calibration(NAME, "dark", _DARKS), calibration(NAME, "flat", _FLATS, first_s=10.0),
            projections(NAME, path, first_s=30.0, every_s=CADENCE_S),
        ),
        scenes={"main": Scene(cathode_canvas(shape, path, rng=generator(seed, "specimen")))},
        detector=Detector(
            shape, photons=request.photons or PHOTONS, rng=generator(seed, "detector"), lighting="condenser"),
    )
