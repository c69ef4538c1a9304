"""Two adjoining fields of view, exposed in turn, each with its own drift and its own blurred frames."""

from __future__ import annotations

import numpy as np

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
from simulator.run import Run, Scene, Shot

NAME = "two_views"
SUMMARY = "60 frames of two fields of view in turn, left and right, each with its own drift and 15 % blurred"

FRAMES = 60
PHOTONS = 500.0
CADENCE_S = 1.0
_VIEWS = ("left", "right")
_DRIFTS_PX = {"left": (-60.0, 25.0), "right": (35.0, 45.0)}


def build(request: Request) -> Run:
    """Plan the run: darks, flats, projections left, right, left, ..."""
    shape, frames, seed = request.shape or FULL_FRAME, request.frames or FRAMES, request.seed
    span = -(-max(frames, FRAMES) // len(_VIEWS))
    each = -(-frames // len(_VIEWS))
    paths, blurs = {}, {}
    for view in _VIEWS:
        drift = Drift(end_px=scaled(_DRIFTS_PX[view], shape, FULL_FRAME), jitter_px=(1.0, 3.0))
        paths[view] = drift.path(each, span=span, rng=generator(seed, f"drift {view}"))
        blurs[view] = schedule_blur(each, share=0.15, rng=generator(seed, f"blur {view}"))

    def vary(index: int, shot: Shot) -> Shot:
        turn, view = index // len(_VIEWS), _VIEWS[index % len(_VIEWS)]
        dy, dx = paths[view][turn]
        return changed(shot, view=view, drift_px=(float(dy), float(dx)), blur=blurs[view].get(turn))

    return txm_run(
        NAME, request, path_px=np.zeros((frames, 2)), photons=PHOTONS, every_s=CADENCE_S, vary=vary,
        scenes={
            view: Scene(cathode_canvas(shape, paths[view], rng=generator(seed, f"specimen {view}"))) for view in _VIEWS
        },
    )
