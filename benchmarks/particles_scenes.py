"""Pairs of simulated frames whose particles move as known: five plates that push each other, a smooth field, nothing,
or every sphere on its own way."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import ndimage

from simulator.deformation import Deformation, PlateDeformation, SmoothDeformation, source_points
from simulator.optics import Canvas
from simulator.plan import anode_canvas, cathode_canvas, generator
from streamer.records import FloatArray

Specimen = Literal["cathode", "spheres", "anode"]
Motion = Literal["plates", "smooth", "still", "own"]

SHAPES = {"cathode": (654, 678), "spheres": (654, 678), "anode": (180, 300)}
AMPLITUDES_PX = {"cathode": 4.0, "spheres": 4.0, "anode": 3.5}
"""The anode's is that of the scenario `sun2025_optical`."""
PLATES = 5
SPARE_PX = 64


class Pair(NamedTuple):
    """Reference and frame, and what is known of them."""

    reference: FloatArray
    frame: FloatArray
    drift_px: tuple[float, float]
    displacement_px: FloatArray
    """(2, M, N) at the pixels of the reference, the drift not included."""
    plates: FloatArray
    """(M, N) number of the plate at the pixels of the reference; zero without plates."""
    bright: bool
    """Whether the particles are brighter than what lies between them."""


def make_pair(specimen: Specimen, motion: Motion, seed: int, *, photons: float = 500.0) -> Pair:
    shape = SHAPES[specimen]
    drift = (2.3, -1.7)
    if motion == "own":
        return _own_ways(shape, drift, seed, photons)
    canvas = _canvas(specimen, shape, drift, seed)
    amplitude = 0.0 if motion == "still" else AMPLITUDES_PX[specimen]
    field = _deformation(motion, shape, amplitude, seed)
    rows, columns = (np.arange(length, dtype=np.float32) for length in shape)
    y, x = np.meshgrid(rows.astype(float), columns.astype(float), indexing="ij")
    first = canvas.sample(y.astype(np.float32), x.astype(np.float32))
    second = canvas.sample(*source_points(field, rows, columns, drift_px=drift, progress=1.0))
    noise = generator(seed, "photons")
    plates = field.regions(y, x)
    return Pair(_expose(first, photons, noise), _expose(second, photons, noise), drift,
                field.displacement(y, x, 1.0).astype(np.float32),
                np.zeros(shape, np.int32) if plates is None else plates, specimen == "anode")


def _canvas(specimen: Specimen, shape: tuple[int, int], drift: tuple[float, float], seed: int) -> Canvas:
    path, rng = np.array([(0.0, 0.0), drift]), generator(seed, "specimen")
    if specimen == "spheres":
        return _seen(_Spheres((shape[0] + SPARE_PX, shape[1] + SPARE_PX), rng).absorbance(0.0, (0.0, 0.0))[0])
    return (cathode_canvas if specimen == "cathode" else anode_canvas)(shape, path, rng=rng)


def _seen(absorbance: FloatArray) -> Canvas:
    return Canvas.photograph(np.exp(-absorbance), zoom=1)


def _own_ways(shape: tuple[int, int], drift: tuple[float, float], seed: int, photons: float) -> Pair:
    """Spheres that keep their form and move by 0.7 px rms, each its own way; of two that overlap the later counts."""
    spheres = _Spheres((shape[0] + SPARE_PX, shape[1] + SPARE_PX), generator(seed, "specimen"))
    first, _ = spheres.absorbance(0.0, (0.0, 0.0))
    second, motion = spheres.absorbance(0.5, drift)
    inner = (slice(0, shape[0]), slice(0, shape[1]))
    noise = generator(seed, "photons")
    images = [_expose(_seen(plane).window(shape, (0.0, 0.0)), photons, noise) for plane in (first, second)]
    return Pair(*images, drift, motion[:, *inner], np.zeros(shape, np.int32), False)


def _deformation(motion: Motion, shape: tuple[int, int], amplitude_px: float, seed: int) -> Deformation:
    rng = generator(seed, "deformation")
    if motion == "plates":
        return PlateDeformation(shape, amplitude_px=amplitude_px, rng=rng, plates=PLATES)
    return SmoothDeformation(shape, amplitude_px=amplitude_px, rng=rng)


def _expose(image: FloatArray, photons: float, rng: np.random.Generator) -> FloatArray:
    return (rng.poisson(photons * np.clip(image, 0, None)) / photons).astype(np.float32)


class _Spheres:
    """Grainy spheres of 8 to 22 px that overlap here and there."""

    def __init__(self, shape: tuple[int, int], rng: np.random.Generator) -> None:
        self._shape = shape
        grain = ndimage.gaussian_filter(rng.standard_normal(shape), 1.3) / 0.21
        grain += 2.0 * ndimage.gaussian_filter(rng.standard_normal(shape), 3.5) / 0.08
        self._grain = np.pad(grain / grain.std(), 32, mode="wrap")
        count = int(0.9 * shape[0] * shape[1] / (np.pi * 245))
        self._radius = rng.uniform(8, 22, count)
        self._centre = rng.uniform((0, 0), shape, (count, 2))
        self._heading = rng.standard_normal((count, 2))

    def absorbance(self, way_px: float, drift_px: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
        """Draw them after a way of so many px rms per component; also where every pixel of the first picture went."""
        total = np.zeros(np.add(self._shape, 64))
        motion = np.zeros((2, *total.shape), np.float32)
        for radius, centre, heading in zip(self._radius, self._centre, self._heading, strict=True):
            low = (centre - radius).astype(int) + 32 - 6
            place = tuple(slice(start, start + 2 * int(radius) + 14) for start in low)
            y, x = np.ogrid[place]
            squared = ((y - 32 - centre[0]) ** 2 + (x - 32 - centre[1]) ** 2) / radius**2
            motion[(slice(None), *place)] = np.where(squared <= 1, (way_px * heading)[:, None, None],
                                                     motion[(slice(None), *place)])
            drawn = np.sqrt(np.clip(1 - squared, 0, None)) * (0.35 + 0.1 * self._grain[place])
            drawn = ndimage.gaussian_filter(drawn, 1.0, mode="constant")
            total[place] += ndimage.shift(drawn, way_px * heading + drift_px, order=5, mode="constant")
        inner = (slice(32, -32), slice(32, -32))
        return total[inner].astype(np.float32), motion[:, *inner]
