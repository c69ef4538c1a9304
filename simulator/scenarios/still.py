"""Nothing happens: what is measured here is the noise of the measurement."""

from __future__ import annotations

import numpy as np

from simulator.plan import FULL_FRAME, Request, cathode_canvas, generator, txm_run
from simulator.run import Run, Scene

NAME = "still"
SUMMARY = "40 frames in which nothing moves and nothing is blurred: everything found here is a false alarm"

FRAMES = 40
PHOTONS = 500.0
CADENCE_S = 1.0
_FLATS = 10


def build(request: Request) -> Run:
    """Plan the run: darks, flats, projections."""
    shape, frames, seed = request.shape or FULL_FRAME, request.frames or FRAMES, request.seed
    path = np.zeros((frames, 2))
    return txm_run(
        NAME, request, path_px=path, photons=PHOTONS, every_s=CADENCE_S, flats=_FLATS,
        scenes={"main": Scene(cathode_canvas(shape, path, rng=generator(seed, "specimen")))},
    )
