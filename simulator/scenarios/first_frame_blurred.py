"""The first frame, which everything would be compared with, is itself blurred."""

from __future__ import annotations

from simulator.motion import Drift, schedule_blur
from simulator.optics import Blur
from simulator.plan import (
    FULL_FRAME,
    Request,
    cathode_canvas,
    changed,
    generator,
    scaled,
    txm_run,
)
from simulator.run import Run, Scene, Shot

NAME = "first_frame_blurred"
SUMMARY = "30 frames of which the first is blurred by 6 px: the baseline has to find a sharper frame and re-label"

FRAMES = 30
PHOTONS = 500.0
CADENCE_S = 1.0
_FIRST_PX = 6.0


def build(request: Request) -> Run:
    """Plan the run: darks, flats, projections."""
    shape, frames, seed = request.shape or FULL_FRAME, request.frames or FRAMES, request.seed
    span = max(frames, FRAMES)
    drift = Drift(end_px=scaled((-30.0, 20.0), shape, FULL_FRAME), jitter_px=(0.7, 1.5))
    path = drift.path(frames, span=span, rng=generator(seed, "drift"))
    blurs = schedule_blur(frames, share=0.1, rng=generator(seed, "blur"), defocus_px=None)
    blurs[0] = Blur("motion", _FIRST_PX, float(generator(seed, "first").uniform(-8, 8)))

    def vary(index: int, shot: Shot) -> Shot:
        return changed(shot, blur=blurs.get(index))

    return txm_run(
        NAME, request, path_px=path, photons=PHOTONS, every_s=CADENCE_S, vary=vary,
        scenes={"main": Scene(cathode_canvas(shape, path, rng=generator(seed, "specimen")))},
    )
