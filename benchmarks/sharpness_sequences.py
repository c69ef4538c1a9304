"""Simulated sequences for the blur benchmark: what a beamline would send, made in memory, with the truth beside it.

Seeds 5xxx are held out: nothing in the streamer may be tuned on them. Tune on 1xx.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import scipy.fft

from simulator.deformation import SmoothDeformation
from simulator.detector import Detector, Lighting
from simulator.fields import band_noise
from simulator.motion import Drift
from simulator.optics import Blur, Canvas
from simulator.plan import FULL_FRAME, generator
from simulator.run import Run, Scene, Shot
from simulator.specimen import CANVAS_OVERSAMPLING, cathode, phase_fringes
from simulator.truth import blur_length_angle
from streamer.records import FloatArray, Frame, Kind

FRAMES = 40
SHARP = "sharp"
CLASSES: Mapping[str, tuple[Literal["motion", "vibration", "defocus"], float]] = {
    "1.5 px": ("motion", 1.5), "2 px": ("motion", 2.0), "3 px": ("motion", 3.0), "5 px": ("motion", 5.0),
    "8 px": ("motion", 8.0), "12 px": ("motion", 12.0), "vibration 3": ("vibration", 3.0),
    "defocus 1": ("defocus", 1.0),
}
"""What blurred frames suffer: motion over so many px, vibration from peak to peak, sigma of a defocus."""

_FLATS, _DARKS = 16, 8
_NOISE = 11                     # keeps the numbers of the noise apart from those of the scene
_FRINGES_PX2 = 6.0
_SPARE_PX = 48                  # deformation and blur look outside of the window
_BELOW_EDGE = 0.45              # absorbance of the sample there, relative to that of the usual stream
_SPARED_AFTER_EDGE = 10         # frames, at most
_NEAR_HORIZONTAL = (0.6, 8.0)   # share of the motions that are, and the standard deviation of their angle, degrees


class Truth(NamedTuple):
    """What is known about a frame."""

    kind: str
    """`SHARP`, a name in `CLASSES`, or ``first`` for a blurred first frame."""
    length_px: float
    angle_deg: float
    """NaN without a direction."""


class Variant(NamedTuple):
    """How a stream differs from the usual one."""

    share: float = 0.25
    """Of the frames that are blurred."""
    first_px: float = 0.0
    """Motion of the first frame."""
    steps: bool = False
    """The light fades by 35 % over the first half of the stream, and comes back 1.6 times as bright at once."""
    calibrated: bool = True
    """Flats and darks come first."""
    lighting: Lighting = "condenser"
    pattern: float = 0.0
    """Relative strength of a fixed pattern 24 px wide, beside the 1 % from pixel to pixel."""
    edge: float = 1.0
    """Factor of the absorbance of the sample in the second half of the stream, which begins sharp."""


VARIANTS: Mapping[str, Variant] = {
    "usual": Variant(),
    "45 % blurred": Variant(share=0.45),
    "first frame blurred": Variant(first_px=5.0),
    "brightness steps": Variant(steps=True),
    "raw, no flats": Variant(calibrated=False, lighting="lamp", pattern=0.02),
    "raw, condenser light": Variant(calibrated=False, pattern=0.02),
    "contrast x 2.6": Variant(edge=2.6),
}


class Specimen:
    """One specimen that drifts and deforms; streams of it differ in which frames are blurred, and in the light.

    Parameters
    ----------
    seed : int
    frames : int
        Projections in a stream.
    """

    def __init__(self, seed: int, *, frames: int = FRAMES) -> None:
        self.seed = seed
        self.count = frames
        self.fringed = seed % 2 == 1
        """Edges of every other specimen carry phase fringes, which are fine structure; else it only absorbs."""
        drift = Drift(end_px=(3.3 * (frames - 1), 1.5 * (frames - 1)), jitter_px=(0.7, 6.0))
        self._path = drift.path(frames, rng=generator(seed, "drift"))
        self._deformation = SmoothDeformation(FULL_FRAME, amplitude_px=2.0, rng=generator(seed, "deformation"))
        self._seen: dict[tuple[int, Blur | None, float], FloatArray] = {}
        self._scenes: dict[float, Scene] = {}
        self._detectors: dict[tuple[float, Lighting], Detector] = {}

    def stream(self, photons: float, variant: Variant = VARIANTS["usual"], *, schedule: int = 0) -> Iterator[Frame]:
        """Yield darks, flats and projections; `truth` tells what they show."""
        detector = self._detector(photons, variant.lighting)
        light = self._pattern(variant)
        if variant.calibrated:
            for number in range(_DARKS):
                yield self._frame("dark", number, detector.expose(0.0, seed=(_NOISE, self.seed, 1, number)))
            for number in range(_FLATS):
                yield self._frame("flat", number, detector.expose(light, seed=(_NOISE, self.seed, 2, number)))
        blurs = self._blurs(variant, schedule)
        for number in range(self.count):
            blur = blurs.get(number, (SHARP, None))[1]
            through = self._transmission(number, blur, self._contrast(number, variant))
            pixels = detector.expose(through * light * self._residual, brightness=self._brightness(number, variant),
                                     seed=(_NOISE, self.seed, 3, schedule, number, int(photons)))
            yield self._frame("projection", number, pixels)

    def truth(self, variant: Variant = VARIANTS["usual"], *, schedule: int = 0) -> list[Truth]:
        """Return what the projections of a stream show."""
        blurs = self._blurs(variant, schedule)
        return [Truth(name, *blur_length_angle(blur.covariance_px2)) if blur is not None else Truth(name, 0.0, np.nan)
                for name, blur in (blurs.get(number, (SHARP, None)) for number in range(self.count))]

    def _blurs(self, variant: Variant, schedule: int) -> dict[int, tuple[str, Blur]]:
        """Choose the blurred frames; over the schedules of a specimen all classes are equally frequent."""
        rng = generator(self.seed, f"blur {schedule}")
        half = self.count // 2
        spared = [0, *(range(half, half + _SPARED_AFTER_EDGE) if variant.edge != 1.0 else ())]
        free = np.setdiff1d(np.arange(self.count), spared)
        share = min(round(variant.share * self.count), free.size)
        chosen = sorted(int(frame) for frame in rng.choice(free, share, replace=False))
        order = generator(self.seed, "classes").permutation(len(CLASSES))
        blurs = {}
        for place, frame in enumerate(chosen):
            name = list(CLASSES)[order[(schedule * share + place) % len(CLASSES)]]
            kind, size_px = CLASSES[name]
            near = rng.random() < _NEAR_HORIZONTAL[0]
            angle = rng.normal(0, _NEAR_HORIZONTAL[1]) if near else rng.uniform(-90, 90)
            blurs[frame] = name, Blur(kind, size_px, float(angle))
        if variant.first_px:
            blurs[0] = "first", Blur("motion", variant.first_px, float(rng.uniform(-90, 90)))
        return blurs

    def _contrast(self, number: int, variant: Variant) -> float:
        if variant.edge == 1.0:
            return 1.0
        return _BELOW_EDGE * (variant.edge if number >= self.count // 2 else 1.0)

    def _brightness(self, number: int, variant: Variant) -> float:
        if not variant.steps:
            return 1.0
        half = self.count // 2
        return 1 - 0.35 * number / half if number < half else 0.65 * 1.6

    def _transmission(self, number: int, blur: Blur | None, contrast: float) -> FloatArray:
        """What the sample lets through in a frame; kept, because other doses and lights show it again."""
        key = number, blur, contrast
        if key not in self._seen:
            shot = Shot(kind="projection", index=number, acquisition="", expected=self.count, at_s=0.0, view="main",
                        drift_px=(float(self._path[number, 0]), float(self._path[number, 1])), blur=blur,
                        progress=number / (self.count - 1))
            run = Run(name="", shots=(), scenes={"main": self._scene(contrast)}, pixel_size_nm=33.24, exposure_s=0.05,
                      detector=self._detector(1000.0, "condenser"), seed=self.seed)
            self._seen[key] = np.asarray(run.transmission(shot), np.float32)
        return self._seen[key]

    def _scene(self, contrast: float) -> Scene:
        if contrast not in self._scenes:
            canvas = Canvas.photograph(np.exp(np.float32(-contrast) * self._absorbance), zoom=CANVAS_OVERSAMPLING)
            self._scenes[contrast] = Scene(canvas, self._deformation)
        return self._scenes[contrast]

    @cached_property
    def _absorbance(self) -> FloatArray:
        """Draw the specimen, with room for its way."""
        room = np.ptp(self._path, axis=0) + _SPARE_PX
        size = [CANVAS_OVERSAMPLING * 2 * scipy.fft.next_fast_len(int(np.ceil((side + way) / 2)), real=True)
                for side, way in zip(FULL_FRAME, room, strict=True)]
        absorbance = cathode((size[0], size[1]), rng=generator(self.seed, "specimen"))
        return phase_fringes(absorbance, strength_px2=_FRINGES_PX2) if self.fringed else absorbance

    def _detector(self, photons: float, lighting: Lighting) -> Detector:
        key = photons, lighting
        if key not in self._detectors:
            self._detectors[key] = Detector(
                FULL_FRAME, photons=photons, rng=generator(self.seed, "detector"), lighting=lighting)
        return self._detectors[key]

    def _pattern(self, variant: Variant) -> FloatArray | float:
        """Return what the screen lets through beyond what the detector has by itself."""
        if not variant.pattern:
            return 1.0
        pattern = band_noise(FULL_FRAME, wavelength_px=24, rng=generator(self.seed, "pattern"))
        return 1 + np.float32(variant.pattern) * pattern

    @cached_property
    def _residual(self) -> FloatArray:
        """What has changed on the screen since the flats were taken, and with it the light."""
        rng = generator(self.seed, "residual")
        residual = 1 + 0.004 * band_noise(FULL_FRAME, wavelength_px=24, rng=rng)
        residual += 0.002 * rng.standard_normal(FULL_FRAME, dtype=np.float32)
        residual *= np.linspace(0.98, 1.02, FULL_FRAME[1], dtype=np.float32)
        return residual

    def _frame(self, kind: Kind, number: int, pixels: np.ndarray) -> Frame:
        name = "scan" if kind == "projection" else f"scan/{kind}"
        view = "main" if kind == "projection" else ""
        return Frame(pixels=pixels, index=number, acquisition=name, view=view, kind=kind, pixel_size_nm=33.24)
