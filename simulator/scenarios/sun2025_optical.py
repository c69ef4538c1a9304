"""The optical experiment of Sun et al. (2025), J. Synchrotron Rad.: graphite in reflection, one frame a minute."""

from __future__ import annotations

from simulator.deformation import PlateDeformation
from simulator.detector import Detector
from simulator.fields import Shape
from simulator.motion import Drift, schedule_blur
from simulator.plan import (
    Request,
    anode_canvas,
    calibration,
    changed,
    generator,
    in_time,
    projections,
    scaled,
)
from simulator.run import Run, Scene, Shot

NAME = "sun2025_optical"
SUMMARY = "1200 optical frames of a graphite anode (Sun 2025): five plates that move against each other, mild drift"

FRAMES = 1200
PHOTONS = 4000.0
SHAPE: Shape = (180, 300)
CADENCE_S = 60.0
_FLATS = 3


def build(request: Request) -> Run:
    """Plan the run: three flats and darks, then the projections."""
    shape, frames, seed = request.shape or SHAPE, request.frames or FRAMES, request.seed
    # A short run is the beginning of the whole one; a longer one takes the same way more slowly.
    span = max(frames, FRAMES)
    drift = Drift(end_px=scaled((9.0, -14.0), shape, SHAPE), jitter_px=(0.25, 0.25))
    path = drift.path(frames, span=span, rng=generator(seed, "drift"))
    blurs = schedule_blur(
        frames, share=0.005, rng=generator(seed, "blur"), lengths_px=(3.0, 6.0), spread_deg=90.0, defocus_px=None)

    def vary(index: int, shot: Shot) -> Shot:
        return changed(shot, blur=blurs.get(index), progress=index / (span - 1))

    canvas = anode_canvas(shape, path, rng=generator(seed, "specimen"))
    deformation = PlateDeformation(shape, amplitude_px=3.5, rng=generator(seed, "deformation"))
    return Run(
        name=NAME, seed=seed, pixel_size_nm=560.0, exposure_s=0.02,
        shots=in_time(
            calibration(NAME, "dark", _FLATS), calibration(NAME, "flat", _FLATS, first_s=10.0),
            projections(NAME, path, first_s=CADENCE_S, every_s=CADENCE_S, vary=vary),
        ),
        scenes={"main": Scene(canvas, deformation)},
        detector=Detector(shape, photons=request.photons or PHOTONS, rng=generator(seed, "detector"), lighting="lamp"),
    )
