"""Simulated sequences for the drift benchmark: what a beamline would send, made in memory, with the truth beside it.

Seeds 7xxx are held out: nothing in the streamer may be tuned on them. Tune on 3xx.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from simulator.deformation import Field
from simulator.detector import Detector, Lighting
from simulator.fields import Shape, band_noise, crackle
from simulator.motion import Drift, schedule_blur
from simulator.optics import Blur, Canvas
from simulator.plan import FULL_FRAME, generator
from simulator.run import Condition, Run, Scene, Shot
from simulator.specimen import CANVAS_OVERSAMPLING, cathode, phase_fringes
from streamer.records import FloatArray, Frame, Kind

_DARKS = 8
_NOISE = 13                    # keeps the numbers of the noise apart from those of the scene
_FRINGES_PX2 = 6.0
_SPARE_PX = 48                 # deformation, rotation and blur look outside of the window
_FLICKER = 0.03                # standard deviation of the brightness from frame to frame
_GRADIENT = 0.06               # from edge to edge; its direction turns once in a sequence
_STAGES = 6                    # pictures of the specimen between which growth is interpolated
_BLUR_PX = (2.0, 12.0)
_JUMP_PX, _JUMP_AT = (60.0, 90.0), 0.5
_ACCIDENTS: tuple[tuple[float, Condition], ...] = (
    (0.12, "dump"), (0.14, "dump"), (0.25, "empty"), (0.37, "saturated"), (0.62, "empty"), (0.8, "dump"))
"""When, as shares of the sequence."""


class Case(NamedTuple):
    """What a sequence shows; the defaults are the base case."""

    median_px: float | None = None
    """Asked for; None: nothing was."""
    p95_px: float | None = None
    frames: int = 56
    """Projections of each view."""
    photons: float = 500.0
    """Per pixel of the open beam."""
    end_px: tuple[float, float] = (-187.0, 89.0)
    jitter_px: tuple[float, float] = (2.0, 5.0)
    blurred: float = 0.2
    flats: int = 16
    """0: neither flats nor darks."""
    pattern: float = 1.0
    """Times 1.5 % at 2.5 px and 1 % at 12 px, beside what the detector has of its own."""
    changed: float = 1.0
    """Times 0.4 % at 24 px and 0.2 % from pixel to pixel, on the screen since the flats were taken."""
    lighting: Lighting = "condenser"
    dims: float = 0.0
    """Share of the brightness that is lost until the end, while a gradient of 20 % builds up."""
    alters: Literal["", "growth", "rotation", "locally"] = ""
    accidents: bool = False
    """A jump, beam dumps, empty and saturated frames."""
    views: int = 1
    shape: Shape = FULL_FRAME


CASES: Mapping[str, Case] = {
    "base": Case(0.015, 0.03),
    "50": Case(0.025, 0.065, photons=50.0),
    "dim": Case(0.015, 0.025, dims=0.3),
    "pattern": Case(0.045, 0.06, pattern=3.0, changed=3.0),
    "slow": Case(0.012, 0.04, photons=300.0, end_px=(5.0, -3.3), jitter_px=(0.3, 0.5), pattern=2.0, changed=0.0,
                 flats=10),
    "growth": Case(0.025, 0.04, alters="growth"),
    "jump": Case(0.015, 0.03, accidents=True),
    "rotation": Case(0.03, None, alters="rotation"),
    "local": Case(None, 0.35, alters="locally"),
    "long": Case(None, 0.06, frames=1200, end_px=(850.0, -850.0), jitter_px=(1.0, 2.0)),
    "views": Case(0.015, 0.03, views=2),
    "changed": Case(photons=300.0, end_px=(5.0, -3.3), jitter_px=(0.3, 0.5), pattern=2.0, flats=10),
    "raw": Case(flats=0, changed=0.0, lighting="lamp"),
    "condenser": Case(flats=0, changed=0.0),
    "large": Case(frames=10, shape=(2048, 2048)),
}
TITLES: Mapping[str, str] = {
    "base": "base: 500 photons/px, drift 187 + 89 px, 20 % blurred",
    "50": "50 photons/px",
    "dim": "-30 % brightness and gradient",
    "pattern": "fixed pattern x 3",
    "slow": "6 px drift under a strong pattern, 10 flats",
    "growth": "growth and cracks",
    "jump": "jump of 108 px, dumps, empty and saturated frames",
    "rotation": "rotation up to 1 deg, error at the centre",
    "local": "8 px local deformation over 35 % of the view",
    "long": "1200 frames, 1200 px travelled",
    "views": "two interleaved views",
    "changed": "6 px drift as above, screen changed since the flats",
    "raw": "base without flats, even light",
    "condenser": "base without flats, condenser light",
    "large": "base at 2048 x 2048",
}


class Truth(NamedTuple):
    """What is known about a projection."""

    view: str
    drift_px: tuple[float, float]
    """Where the material in the centre of the first frame of the view went, (y, x)."""
    rotation_deg: float
    """From +x towards +y."""
    blurred: bool
    condition: Condition


class Turn:
    """A rotation about the centre of the frame that grows steadily; a `Deformation`."""

    smooth_px = 40.0

    def __init__(self, shape: Shape, *, end_deg: float) -> None:
        self._centre = (shape[0] - 1) / 2, (shape[1] - 1) / 2
        self._end_rad = np.radians(end_deg)

    def displacement(self, y: Field, x: Field, progress: float) -> Field:
        """See `Deformation.displacement`."""
        cosine, sine = np.cos(self._end_rad * progress), np.sin(self._end_rad * progress)
        down, right = y - self._centre[0], x - self._centre[1]
        return np.stack((sine * right + (cosine - 1) * down, (cosine - 1) * right - sine * down))

    def regions(self, y: Field, x: Field) -> None:
        """No regions."""


class Swelling:
    """A part of the sample that moves by itself while the rest stays; a `Deformation` whose mean is not 0."""

    def __init__(self, shape: Shape, *, end_px: float, share: float, rng: np.random.Generator) -> None:
        self._centre = rng.uniform(0.35, 0.65, 2) * shape
        self._radius_px = float(np.sqrt(share * shape[0] * shape[1] / np.pi))
        heading = rng.uniform(0, 2 * np.pi)
        self._end_px = end_px * np.array([np.sin(heading), np.cos(heading)])
        self.smooth_px = self._radius_px / 16

    def displacement(self, y: Field, x: Field, progress: float) -> Field:
        """See `Deformation.displacement`."""
        reach = np.hypot(y - self._centre[0], x - self._centre[1]) / self._radius_px
        part = np.cos(np.pi / 2 * np.minimum(reach, 1)) ** 2
        return np.asarray(progress * np.multiply.outer(self._end_px, part))

    def regions(self, y: Field, x: Field) -> None:
        """No regions."""


class Sequence:
    """One case with one specimen.

    Parameters
    ----------
    name : str
        In `CASES`.
    seed : int
        Specimens of odd seeds carry phase fringes, which are fine structure; the others only absorb.
    frames : int, optional
        Only the first so many of each view.
    """

    def __init__(self, name: str, seed: int, *, frames: int | None = None) -> None:
        self.name, self.seed, self.case = name, seed, CASES[name]
        self.fringed = seed % 2 == 1
        self.count = min(frames or self.case.frames, self.case.frames)
        """Projections of each view."""
        self._views = ["main"] if self.case.views == 1 else [f"view {number}" for number in range(self.case.views)]
        self._paths = {view: self._path(view) for view in self._views}
        self._shots = [self._shot(view, step) for step in range(self.count) for view in self._views]
        self._detector = Detector(self.case.shape, photons=self.case.photons, rng=generator(seed, "detector"),
                                  lighting=self.case.lighting)

    def stream(self) -> Iterator[Frame]:
        """Yield darks, flats and projections; `truth` tells what the projections show."""
        fixed, flicker = self._pattern, generator(self.seed, "flicker")
        if self.case.flats:
            for number in range(_DARKS):
                yield self._frame("dark", "", number, self._expose(0.0, 1.0, 1, number))
        for number in range(self.case.flats):
            yield self._frame("flat", "", number, self._expose(fixed, flicker.normal(1, _FLICKER), 2, number))
        fixed = fixed * self._changed
        for number, shot in enumerate(self._shots):
            brightness = flicker.normal(1, _FLICKER) * (12.0 if shot.condition == "saturated" else 1.0)
            through = self._transmission(shot) * fixed * self._light(shot.progress)
            yield self._frame("projection", shot.view, number, self._expose(through, brightness, 3, number))

    def truth(self) -> list[Truth]:
        """Return what the projections show, in their order."""
        return [Truth(shot.view, shot.drift_px, shot.progress if self.case.alters == "rotation" else 0.0,
                      shot.blur is not None, shot.condition) for shot in self._shots]

    def bound_px(self) -> float:
        """Return the median error that counting photons alone leaves to the best estimator, of the first two frames.

        Cramer and Rao for two exposures of the same light, from the light that falls on every pixel, all of it shared.
        """
        canvas = next(iter(self._run.scenes.values())).canvas
        shape, light = self.case.shape, self._detector.illumination * np.float32(self.case.photons)
        through = np.maximum(canvas.window(shape, (0.0, 0.0)), 1e-3)
        slopes = np.stack([canvas.window(shape, back) - canvas.window(shape, on)
                           for back, on in (((-0.5, 0.0), (0.5, 0.0)), ((0.0, -0.5), (0.0, 0.5)))]).reshape(2, -1)
        information = 0.5 * (slopes * (light / through).ravel()) @ slopes.T
        return float(np.sqrt(np.log(4) * np.trace(np.linalg.inv(information)) / 2))

    def _path(self, view: str) -> NDArray[np.float64]:
        drift = Drift(end_px=self.case.end_px, jitter_px=self.case.jitter_px)
        path = drift.path(self.case.frames, rng=generator(self.seed, f"drift {view}"))
        if self.case.accidents:
            path[round(_JUMP_AT * len(path)):] += _JUMP_PX
        return path

    @cached_property
    def _blurs(self) -> dict[str, dict[int, Blur]]:
        return {view: schedule_blur(self.case.frames, share=self.case.blurred, lengths_px=_BLUR_PX,
                                    rng=generator(self.seed, f"blur {view}")) for view in self._views}

    def _shot(self, view: str, step: int) -> Shot:
        accidents = {round(share * self.case.frames): condition for share, condition in _ACCIDENTS}
        condition = accidents.get(step, "good") if self.case.accidents else "good"
        y, x = self._paths[view][step]
        return Shot(kind="projection", index=step, acquisition="", expected=self.count, at_s=0.0, view=view,
                    drift_px=(float(y), float(x)), progress=step / (self.case.frames - 1), condition=condition,
                    blur=self._blurs[view].get(step) if condition == "good" else None)

    def _light(self, progress: float) -> FloatArray:
        """Light of a frame relative to that of the flats."""
        y, x = (np.linspace(-0.5, 0.5, size, dtype=np.float32) for size in self.case.shape)
        turn = 2 * np.pi * progress
        light = 1 + np.float32(_GRADIENT) * (np.float32(np.sin(turn)) * y[:, None] + np.float32(np.cos(turn)) * x)
        if self.case.dims:
            light *= np.float32(1 - self.case.dims * progress) * (1 + np.float32(0.2 * progress) * (x - y[:, None]))
        return np.asarray(light, np.float32)

    def _transmission(self, shot: Shot) -> FloatArray | float:
        if self.case.alters != "growth" or shot.condition != "good":
            return self._run.transmission(shot)
        stage, part = divmod(shot.progress * (_STAGES - 1), 1.0)
        stages = [(f"stage {int(stage)}", 1 - part), (f"stage {int(stage) + 1}", part)]
        through = [np.float32(share) * self._run.scenes[name].canvas.window(self.case.shape, shot.drift_px, shot.blur)
                   for name, share in stages if share > 0]
        return np.asarray(sum(through), np.float32)

    @cached_property
    def _run(self) -> Run:
        return Run(name="", shots=(), scenes=self._scenes(), pixel_size_nm=33.24, exposure_s=0.05, seed=self.seed,
                   detector=self._detector)

    def _scenes(self) -> dict[str, Scene]:
        shape, rng = self.case.shape, generator(self.seed, "deformation")
        if self.case.alters == "growth":
            absorbance = self._absorbance("main")
            return {f"stage {stage}": Scene(_photograph(grown, fringed=self.fringed))
                    for stage, grown in enumerate(_growth(absorbance, rng=rng))}
        deformation = {"": None, "rotation": Turn(shape, end_deg=1.0),
                       "locally": Swelling(shape, end_px=8.0, share=0.35, rng=rng)}[self.case.alters]
        return {view: Scene(_photograph(self._absorbance(view), fringed=self.fringed), deformation)
                for view in self._views}

    def _absorbance(self, view: str) -> FloatArray:
        """Draw the specimen, with room for its way."""
        room = np.ptp(self._paths[view][:self.count], axis=0) + _SPARE_PX
        size = [CANVAS_OVERSAMPLING * 2 * scipy.fft.next_fast_len(int(np.ceil((side + way) / 2)), real=True)
                for side, way in zip(self.case.shape, room, strict=True)]
        return cathode((size[0], size[1]), rng=generator(self.seed, f"specimen {view}"))

    @cached_property
    def _pattern(self) -> FloatArray:
        """What the screen lets through beyond what the detector has by itself."""
        rng = generator(self.seed, "pattern")
        pattern = sum(np.float32(share) * band_noise(self.case.shape, wavelength_px=length, rng=rng)
                      for share, length in ((0.015, 2.5), (0.01, 12.0)))
        return np.asarray(1 + np.float32(self.case.pattern) * pattern, np.float32)

    @cached_property
    def _changed(self) -> FloatArray:
        """What has changed on the screen since the flats were taken."""
        rng = generator(self.seed, "changed")
        changed = 0.004 * band_noise(self.case.shape, wavelength_px=24, rng=rng)
        changed += 0.002 * rng.standard_normal(self.case.shape, dtype=np.float32)
        return np.asarray(1 + np.float32(self.case.changed) * changed, np.float32)

    def _expose(self, through: FloatArray | float, brightness: float, kind: int, number: int) -> NDArray[np.uint16]:
        return self._detector.expose(through, brightness=brightness, seed=(_NOISE, self.seed, kind, number))

    def _frame(self, kind: Kind, view: str, number: int, pixels: NDArray[np.uint16]) -> Frame:
        name = "scan" if kind == "projection" else f"scan/{kind}"
        return Frame(pixels=pixels, index=number, acquisition=name, view=view, kind=kind, pixel_size_nm=33.24)


def _photograph(absorbance: FloatArray, *, fringed: bool) -> Canvas:
    if fringed:
        absorbance = phase_fringes(absorbance, strength_px2=_FRINGES_PX2)
    return Canvas.photograph(np.exp(-absorbance), zoom=CANVAS_OVERSAMPLING)


def _growth(absorbance: FloatArray, *, rng: np.random.Generator) -> Iterator[FloatArray]:
    """Yield stages in which cracks open in what absorbs, and deposits spread where little did."""
    shape = absorbance.shape
    veins = crackle(shape, wavelength_px=70 * CANVAS_OVERSAMPLING, octaves=3, rng=rng)
    patches = band_noise(shape, wavelength_px=60 * CANVAS_OVERSAMPLING, rng=rng)
    for stage in range(_STAGES):
        progress = stage / (_STAGES - 1)
        open_ = np.clip((veins - np.float32(3.5 - 2.2 * progress)) / 0.4, 0, 1) * np.float32(progress > 0)
        deposit = np.clip((patches - np.float32(2.6 - 1.6 * progress)) / 0.3, 0, 1) * np.float32(progress > 0)
        yield np.asarray(absorbance * (1 - 0.7 * open_) + np.float32(0.12) * deposit, np.float32)
