"""The X-ray experiment of Sun et al. (2025), J. Synchrotron Rad.: NMC cathode, 33.24 nm pixels, one frame in 15 min."""

from __future__ import annotations

from simulator.deformation import SmoothDeformation
from simulator.detector import Detector
from simulator.motion import Drift, schedule_blur
from simulator.plan import (
    FULL_FRAME,
    Request,
    calibration,
    cathode_canvas,
    changed,
    generator,
    in_time,
    projections,
    scaled,
)
from simulator.run import Run, Scene, Shot

NAME = "sun2025_txm"
SUMMARY = "56 X-ray frames of a battery cathode (Sun 2025): drift of 187 px, jitter, 20 % blurred, slow deformation"

FRAMES = 56
PHOTONS = 500.0
CADENCE_S = 900.0
_DARKS = 5
_FLAT_BEFORE_S = 60.0


def build(request: Request) -> Run:
    """Plan the run: darks, then a flat before each projection."""
    shape, frames, seed = request.shape or FULL_FRAME, request.frames or FRAMES, request.seed
    # A short run is the beginning of the whole one; a longer one takes the same way more slowly.
    span = max(frames, FRAMES)
    drift = Drift(end_px=scaled((-187.0, 89.0), shape, FULL_FRAME), jitter_px=(2.0, 5.0))
    path = drift.path(frames, span=span, rng=generator(seed, "drift"))
    blurs = schedule_blur(frames, share=0.2, rng=generator(seed, "blur"))

    def vary(index: int, shot: Shot) -> Shot:
        return changed(shot, blur=blurs.get(index), progress=index / (span - 1))

    flats = calibration(NAME, "flat", frames, first_s=CADENCE_S - _FLAT_BEFORE_S, every_s=CADENCE_S)
    deformation = SmoothDeformation(shape, amplitude_px=3.0, rng=generator(seed, "deformation"))
    canvas = cathode_canvas(shape, path, rng=generator(seed, "specimen"))
    return Run(
        name=NAME, seed=seed, pixel_size_nm=33.24, exposure_s=0.048,
        shots=in_time(
            calibration(NAME, "dark", _DARKS), flats,
            projections(NAME, path, first_s=CADENCE_S, every_s=CADENCE_S, vary=vary),
        ),
        scenes={"main": Scene(canvas, deformation)},
        detector=Detector(
            shape, photons=request.photons or PHOTONS, rng=generator(seed, "detector"), lighting="condenser"),
    )
