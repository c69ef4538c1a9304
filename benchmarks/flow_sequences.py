"""Simulated sequences for the flow benchmark: a sample that deforms frame by frame, made in memory, with its truth.

Seeds 8xxx are held out: nothing in the streamer may be tuned on them. Tune on 1xx and 3xx.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from simulator.deformation import Deformation, Field, PlateDeformation, SmoothDeformation
from simulator.detector import Detector
from simulator.fields import Shape
from simulator.optics import Blur, Canvas
from simulator.plan import FULL_FRAME, cathode_canvas, generator
from simulator.run import Run, Scene, Shot
from streamer.records import FloatArray

Kind = Literal["smooth", "plates", "particles"]
KINDS: Mapping[Kind, str] = {
    "smooth": "swelling and shear of a cathode, waves from 0.7 of the view",
    "plates": "five plates of a cathode against each other, seams of 24 px",
    "particles": "overlapping particles, each in one piece, that follow five plates",
}
FRAMES = 56
END_PX = 6.0
RESIDUAL_PX = 0.2
"""Rms, per axis, of what the drift of a frame is wrong by."""
FLICKER = 0.03
BLURRED = (9, 21, 34, 47)
_BLUR_PX = (4.0, 10.0)
_NOISE = 17                   # keeps the numbers of the noise apart from those of the scene
_OWN_PX = 0.3                 # standard deviation of what every particle moves by itself until the end
_BINDER = 0.3                 # absorbance below which there is no particle


class _Sample(Protocol):
    def transmission(self, shift_px: tuple[float, float], progress: float, blur: Blur | None) -> FloatArray:
        """Noise-free frame."""

    def displacement(self, y: Field, x: Field, progress: float) -> Field:
        """Where the material went, (2, ...)."""

    def particles(self) -> NDArray[np.bool_]:
        """Where the first frame shows particles."""


class Sequence:
    """A sample that deforms up to 6 px, the drift known to 0.2 px, the brightness to 3 %, four frames blurred.

    Parameters
    ----------
    kind : str
        In `KINDS`.
    seed : int
        Of specimen, motion and noise.
    frames : int
        All of the motion happens within these.
    amplitude_px : float
        Largest displacement in the last frame; 0 for a sample at rest.
    """

    def __init__(self, kind: Kind, seed: int, *, frames: int = FRAMES, amplitude_px: float = END_PX,
                 shape: Shape = FULL_FRAME) -> None:
        self.kind, self.seed, self.count, self.shape = kind, seed, frames, shape
        self._amplitude_px = amplitude_px
        rng = generator(seed, "flow residual")
        self.residual_px = RESIDUAL_PX * rng.standard_normal((frames, 2))
        self.residual_px[0] = 0
        self._brightness = generator(seed, "flow flicker").normal(1, FLICKER, frames)
        blur = generator(seed, "flow blur")
        self.blurs = {index: Blur(kind="motion", size_px=blur.uniform(*_BLUR_PX), angle_deg=blur.uniform(-90, 90))
                      for index in BLURRED if index < frames}
        self._clean: dict[int, FloatArray] = {}

    def frame(self, index: int, photons: float) -> FloatArray:
        """Return a frame as the flow gets it: relative to the open beam, with the noise of counting."""
        if index not in self._clean:
            shift_y, shift_x = self.residual_px[index]
            self._clean[index] = self._sample.transmission((float(shift_y), float(shift_x)), self.progress(index),
                                                           self.blurs.get(index))
        brightness = np.float32(self._brightness[index])
        if not np.isfinite(photons):
            return self._clean[index] * brightness
        rng = np.random.Generator(np.random.SFC64((_NOISE, self.seed, index, round(photons))))
        light = np.maximum(self._clean[index], 0) * brightness * np.float32(photons)
        return rng.poisson(light).astype(np.float32) / np.float32(photons)

    def truth(self, index: int, grid_y: FloatArray, grid_x: FloatArray) -> FloatArray:
        """Return (2, K, L): where the material at the points of the first frame is, what the drift missed included."""
        y, x = np.meshgrid(grid_y.astype(float), grid_x.astype(float), indexing="ij")
        moved = self._sample.displacement(y, x, self.progress(index))
        return np.asarray(moved + self.residual_px[index].reshape(2, 1, 1), np.float32)

    def on_particles(self, grid_y: FloatArray, grid_x: FloatArray) -> NDArray[np.bool_]:
        """Return (K, L): which points lie on particles of the first frame."""
        rows, columns = (np.rint(axis).astype(int) for axis in (grid_y, grid_x))
        return self._particles[rows[:, None], columns]

    def progress(self, index: int) -> float:
        """How far the motion has come, 0 to 1."""
        return index / (self.count - 1)

    @cached_property
    def _particles(self) -> NDArray[np.bool_]:
        return self._sample.particles()

    @cached_property
    def _sample(self) -> _Sample:
        rng = generator(self.seed, "deformation")
        if self.kind == "particles":
            return _Particles(self.shape, self.seed, amplitude_px=self._amplitude_px)
        make = SmoothDeformation if self.kind == "smooth" else PlateDeformation
        return _Cathode(self.shape, self.seed, make(self.shape, amplitude_px=self._amplitude_px, rng=rng))


class _Cathode:
    """The simulator's cathode, with fringes when the seed is odd, under a continuous deformation."""

    def __init__(self, shape: Shape, seed: int, deformation: Deformation) -> None:
        self._shape = shape
        self._deformation = deformation
        room = np.array([[0.0, 0.0], [24.0, 24.0]])
        self._canvas: Canvas = cathode_canvas(shape, room, rng=generator(seed, "specimen"))
        detector = Detector(shape, photons=500.0, rng=generator(seed, "detector"), lighting="lamp")
        self._run = Run(name="", shots=(), scenes={"": Scene(self._canvas, deformation)}, pixel_size_nm=33.24,
                        exposure_s=0.05, seed=seed, detector=detector)

    def transmission(self, shift_px: tuple[float, float], progress: float, blur: Blur | None) -> FloatArray:
        """See `_Sample.transmission`."""
        shot = Shot(kind="projection", index=0, acquisition="", expected=1, at_s=0.0, drift_px=shift_px,
                    progress=progress, blur=blur)
        return np.asarray(self._run.transmission(shot), np.float32)

    def displacement(self, y: Field, x: Field, progress: float) -> Field:
        """See `_Sample.displacement`."""
        return self._deformation.displacement(y, x, progress)

    def particles(self) -> NDArray[np.bool_]:
        """See `_Sample.particles`."""
        through = np.maximum(self._canvas.window(self._shape, (0.0, 0.0)), 1e-3)
        return np.asarray(ndimage.gaussian_filter(-np.log(through), 4.0) > _BINDER)


class _Particles:
    """Grainy spheres that move in one piece and shine through each other; the densest one at a point counts."""

    def __init__(self, shape: Shape, seed: int, *, amplitude_px: float, margin_px: int = 40) -> None:
        rng = generator(seed, "specimen")
        self._shape, self._margin_px = shape, margin_px
        rows, columns = (side + 2 * margin_px for side in shape)
        radii: list[float] = []
        while np.pi * np.sum(np.square(radii)) < 1.1 * rows * columns:
            radii.append(float(10 * (45 / 10) ** rng.uniform()))
        centres = rng.uniform(0, (rows, columns), (len(radii), 2))
        self._centres = centres - margin_px
        self._patches = [_sphere(radius, rng) for radius in radii]
        self._plates = PlateDeformation(shape, amplitude_px=max(amplitude_px, 1e-9),
                                        rng=generator(seed, "deformation"))
        self._own = (_OWN_PX if amplitude_px else 0.0) * rng.standard_normal((len(radii), 2))
        self._owner, self._absorbance = self._paint_owner()

    def transmission(self, shift_px: tuple[float, float], progress: float, blur: Blur | None) -> FloatArray:
        """See `_Sample.transmission`."""
        absorbance = np.zeros(tuple(side + 2 * self._margin_px for side in self._shape), np.float32)
        places = self._centres + self._moves(progress).T + shift_px + self._margin_px
        for patch, place in zip(self._patches, places, strict=True):
            _paint(absorbance, patch, place)
        canvas = Canvas.photograph(np.exp(-absorbance), zoom=1, cutoff=1.2, gaussian_px=0.6)
        return canvas.window(absorbance.shape, (0.0, 0.0), blur)[self._inner]

    def displacement(self, y: Field, x: Field, progress: float) -> Field:
        """See `_Sample.displacement`; between the particles 0."""
        rows, columns = (np.clip(np.rint(axis).astype(int), 0, side - 1)
                         for axis, side in zip((y, x), self._shape, strict=True))
        owner = self._owner[rows, columns]
        moves = self._moves(progress)
        return np.asarray(np.where(owner >= 0, moves[:, owner], 0.0))

    def particles(self) -> NDArray[np.bool_]:
        """See `_Sample.particles`."""
        return np.asarray((self._owner >= 0) & (self._absorbance > 0.1))

    @property
    def _inner(self) -> tuple[slice, slice]:
        edge = self._margin_px
        return slice(edge, edge + self._shape[0]), slice(edge, edge + self._shape[1])

    def _moves(self, progress: float) -> Field:
        """Motion of every particle, (2, n)."""
        y, x = self._centres.T
        return np.asarray(self._plates.displacement(y, x, progress) + progress * self._own.T)

    def _paint_owner(self) -> tuple[NDArray[np.int32], FloatArray]:
        """Number of the densest particle at each pixel of the frame, -1 for none, and the absorbance."""
        size = tuple(side + 2 * self._margin_px for side in self._shape)
        owner, densest = np.full(size, -1, np.int32), np.zeros(size, np.float32)
        absorbance = np.zeros(size, np.float32)
        for number, (patch, place) in enumerate(zip(self._patches, self._centres + self._margin_px, strict=True)):
            alone = np.zeros_like(patch, shape=(patch.shape[0] + 2, patch.shape[1] + 2))
            corner = np.floor(place).astype(int) - patch.shape[0] // 2
            _paint(alone, patch, place - corner)
            target, source = _overlap(corner, alone.shape, size)
            mine = alone[source]
            wins = mine > np.maximum(densest[target], 0.02)
            densest[target] = np.where(wins, mine, densest[target])
            owner[target] = np.where(wins, number, owner[target])
            absorbance[target] += mine
        return owner[self._inner], absorbance[self._inner]


def _sphere(radius: float, rng: np.random.Generator) -> FloatArray:
    """Draw a grainy sphere in a patch of odd size; returned as quintic spline coefficients."""
    half = int(np.ceil(radius)) + 5
    y, x = np.mgrid[-half:half + 1, -half:half + 1]
    grain = ndimage.gaussian_filter(rng.standard_normal(y.shape), 1.3)
    grain += 2.0 * ndimage.gaussian_filter(rng.standard_normal(y.shape), 3.5)
    chord = np.sqrt(np.clip(1.0 - (y**2 + x**2) / radius**2, 0.0, None))
    dense = chord * (rng.uniform(0.2, 0.45) * np.sqrt(radius / 20) + 0.1 * grain / grain.std())
    smooth = ndimage.gaussian_filter(dense, 0.9)
    coefficients: FloatArray = ndimage.spline_filter(smooth, order=5, output=np.float32)
    return coefficients


def _paint(absorbance: FloatArray, patch: FloatArray, place: Field) -> None:
    """Add a particle with its centre at any place."""
    whole = np.rint(place).astype(int)
    moved = ndimage.shift(patch, place - whole, order=5, prefilter=False)
    target, source = _overlap(whole - patch.shape[0] // 2, patch.shape, absorbance.shape)
    absorbance[target] += moved[source]


def _overlap(
    corner: NDArray[np.int_], size: tuple[int, ...], room: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where a patch lies in a picture, and which part of the patch that is."""
    low = np.maximum(corner, 0)
    high = np.maximum(np.minimum(corner + size, room), low)
    target = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    source = tuple(slice(int(a), int(b)) for a, b in zip(low - corner, high - corner, strict=True))
    return target, source
