"""What goes wrong at a beamline: dumps, an empty beam, saturation, a stage that jumps."""

from __future__ import annotations

from simulator.motion import Drift, schedule_blur
from simulator.plan import (
    FULL_FRAME,
    Request,
    cathode_canvas,
    changed,
    generator,
    scaled,
    txm_run,
)
from simulator.run import Condition, Run, Scene, Shot

NAME = "bad_frames"
SUMMARY = "60 frames with beam dumps, empty beams, saturation, and a jump of 100 px in the middle; 10 % blurred"

FRAMES = 60
PHOTONS = 500.0
CADENCE_S = 1.0
_JUMP_PX = (60.0, -80.0)
# As shares of the run, so that a short run has them too.
_ACCIDENTS: tuple[tuple[float, Condition], ...] = (
    (0.12, "dump"), (0.14, "dump"), (0.25, "empty"), (0.37, "saturated"), (0.62, "empty"), (0.8, "dump"),
)
_JUMP_AT = 0.5


def build(request: Request) -> Run:
    """Plan the run: darks, flats, projections."""
    shape, frames, seed = request.shape or FULL_FRAME, request.frames or FRAMES, request.seed
    span = max(frames, FRAMES)
    drift = Drift(end_px=scaled((-40.0, 30.0), shape, FULL_FRAME), jitter_px=(0.7, 1.5))
    path = drift.path(frames, span=span, rng=generator(seed, "drift"))
    path[round(_JUMP_AT * frames):] += scaled(_JUMP_PX, shape, FULL_FRAME)
    accidents = {max(1, round(share * frames)): condition for share, condition in _ACCIDENTS}
    blurs = schedule_blur(frames, share=0.1, rng=generator(seed, "blur"))

    def vary(index: int, shot: Shot) -> Shot:
        condition = accidents.get(index, "good")
        return changed(shot, condition=condition, blur=blurs.get(index) if condition == "good" else None)

    return txm_run(
        NAME, request, path_px=path, photons=PHOTONS, every_s=CADENCE_S, vary=vary,
        scenes={"main": Scene(cathode_canvas(shape, path, rng=generator(seed, "specimen")))},
    )
