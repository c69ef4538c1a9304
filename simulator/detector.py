"""Illumination and camera: what stays fixed on the detector while the sample moves, and the noise of counting."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulator.fields import Shape, band_noise, crackle
from streamer.records import FloatArray

Lighting = Literal["condenser", "lamp"]

OFFSET_ADU = 1000.0
READ_NOISE_ADU = 22.0
OPEN_BEAM_ADU = 14_000.0
"""Mean of the open beam above the offset, whatever the dose: the operator sets the gain."""
FULL_SCALE_ADU = 65_535
_HOT_SHARE = 1e-4
_ZINGER_SHARE = 2e-5
_STRIPES = 4
"""Noise is drawn in this many stripes, each with its own stream of numbers, so that threads share the work."""


class Detector:
    """A camera behind a scintillator, with its light.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    photons : float
        Mean photons per pixel of the open beam.
    rng : numpy.random.Generator
        Draws what stays fixed: illumination, gain of the pixels, dust, scratches, hot pixels.
    lighting : {"condenser", "lamp"}
        A bright patch of a synchrotron's condenser with veins and a dark corner, or the even light of a microscope.

    Attributes
    ----------
    illumination : ndarray, (M, N) float32
        Light on the sample relative to its mean.
    screen : ndarray, (M, N) float32
        What dust and scratches on the scintillator let through.
    gain_adu : ndarray, (M, N) float32
        Counts per photon of every pixel.
    """

    def __init__(self, shape: Shape, *, photons: float, rng: np.random.Generator, lighting: Lighting) -> None:
        self.shape = shape
        self.photons = photons
        self.illumination = condenser(shape, rng=rng) if lighting == "condenser" else lamp(shape)
        self.screen = _dust(shape, rng=rng) * _scratches(shape, rng=rng)
        pattern = 1 + 0.01 * rng.standard_normal(shape, dtype=np.float32)
        pattern += 0.004 * band_noise(shape, wavelength_px=24, rng=rng)
        self.gain_adu: FloatArray = pattern * np.float32(OPEN_BEAM_ADU / photons)
        columns = rng.normal(0, 4.0, shape[1])
        self._offset: FloatArray = np.broadcast_to((OFFSET_ADU + columns).astype(np.float32), shape).copy()
        hot = rng.integers(0, shape[0] * shape[1], max(1, round(_HOT_SHARE * shape[0] * shape[1])))
        self._offset.ravel()[hot] += rng.uniform(2_000, 40_000, hot.size).astype(np.float32)
        self._open: FloatArray = self.illumination * self.screen * np.float32(photons)

    def expose(
        self, transmission: FloatArray | float, *, brightness: float = 1.0, seed: tuple[int, ...]
    ) -> NDArray[np.uint16]:
        """Take one exposure.

        Parameters
        ----------
        transmission : ndarray or float
            What the sample lets through; 1 is an open beam, 0 a closed shutter.
        brightness : float
            Ring current relative to the start.
        seed : tuple of int
            Same seed, same noise.

        Returns
        -------
        ndarray, (M, N) uint16
        """
        photons = self._open * np.maximum(transmission, 0, dtype=np.float32)
        photons *= np.float32(brightness)
        image = np.empty(self.shape, np.uint16)
        edges = np.linspace(0, self.shape[0], _STRIPES + 1).astype(int)

        def stripe(number: int) -> None:
            rows = slice(edges[number], edges[number + 1])
            rng = np.random.Generator(np.random.SFC64((*seed, number)))
            counts = self.gain_adu[rows] * rng.poisson(photons[rows])
            counts += self._offset[rows]
            counts += np.float32(READ_NOISE_ADU) * rng.standard_normal(counts.shape, dtype=np.float32)
            _add_zingers(counts, rng)
            np.rint(counts, out=counts)
            image[rows] = np.clip(counts, 0, FULL_SCALE_ADU, out=counts)

        with ThreadPoolExecutor(2, thread_name_prefix="noise") as pool:
            list(pool.map(stripe, range(_STRIPES)))
        return image


def beam_current(at_s: float, *, top_up_s: float = 600.0, lifetime_s: float = 30_000.0) -> float:
    """Ring current relative to a full ring: it decays and is topped up again."""
    return math.exp(-(at_s % top_up_s) / lifetime_s)


def condenser(shape: Shape, *, rng: np.random.Generator) -> FloatArray:
    """Light of a capillary condenser: a bright patch, fine veins, and a corner cut off by an aperture; mean 1.

    The corner that the aperture cuts receives less than 5 % of the mean. Modelled on the open tiles of NSRRC BL01B.
    """
    y, x = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij", sparse=True)
    centre_y, centre_x = rng.uniform(0.0, 0.25), rng.uniform(-0.2, 0.2)
    radius = np.hypot((y - centre_y) / 1.15, (x - centre_x) / 1.0)
    light = 0.42 + 0.58 * np.exp(-0.5 * (radius / 0.62) ** 2) + 0.35 * np.exp(-0.5 * (radius / 0.2) ** 2)
    reach = min(shape) / 654
    patchy = band_noise(shape, wavelength_px=max(8.0, 130 * reach), rng=rng)
    mottle = band_noise(shape, wavelength_px=max(4.0, 22 * reach), rng=rng)
    lines = crackle(shape, wavelength_px=max(8.0, 90 * reach), octaves=5, rng=rng)
    light = light * (1 + 0.05 * patchy + 0.018 * mottle + 0.042 * lines)
    # The aperture: beyond a slanted line across the upper right corner there is no light.
    beyond = (x - y) / math.sqrt(2) - rng.uniform(1.19, 1.23)
    light = light * (0.015 + 0.985 / (1 + np.exp(np.clip(beyond / 0.022, -50, 50))))
    result: FloatArray = (light / light.mean()).astype(np.float32)
    return result


def lamp(shape: Shape) -> FloatArray:
    """Light of a reflection microscope: even, a little weaker towards the edges; mean 1."""
    y, x = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij", sparse=True)
    light = 1 - 0.10 * (y * y + x * x)
    result: FloatArray = (light / light.mean()).astype(np.float32)
    return result


def _dust(shape: Shape, *, rng: np.random.Generator) -> FloatArray:
    """Specks on the scintillator, darker than their surroundings, a few of them brighter."""
    screen = np.ones(shape, np.float32)
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    columns = np.arange(shape[1], dtype=np.float32)[None, :]
    for _ in range(max(4, round(24 * shape[0] * shape[1] / (654 * 678)))):
        centre_y, centre_x = rng.uniform(0, shape)
        radius = rng.uniform(0.8, 3.5)
        depth = rng.uniform(0.03, 0.18) * (-0.6 if rng.random() < 0.2 else 1.0)
        distance2 = (rows - centre_y) ** 2 + (columns - centre_x) ** 2
        screen -= np.float32(depth) * np.exp(-(distance2 / np.float32(radius**2)) ** 2)
    return screen


def _scratches(shape: Shape, *, rng: np.random.Generator) -> FloatArray:
    """One long bent scratch that scatters light, with dark dots along it, and a few short ones."""
    screen = np.ones(shape, np.float32)
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    along = np.linspace(0, 1, shape[1])
    for number in range(4):
        level, slope, bend = rng.uniform(0.1, 0.9), rng.normal(0, 0.12), rng.normal(0, 0.15)
        course = shape[0] * (level + slope * (along - 0.5) + bend * (along - 0.5) ** 2)
        start = rng.uniform(0, 0.7)
        strength = np.full(shape[1], 0.10) if number == 0 else 0.05 * ((along > start) & (along < start + 0.25))
        strength = strength - 0.28 * (rng.random(shape[1]) < 0.03) * (strength > 0)
        screen += (strength * np.exp(-(((rows - course) / 1.1) ** 2))).astype(np.float32)
    return screen


def _add_zingers(counts: FloatArray, rng: np.random.Generator) -> None:
    """Stray X-rays that hit the camera itself: single bright pixels, elsewhere in every exposure."""
    number = int(rng.poisson(_ZINGER_SHARE * counts.size))
    if number:
        where = rng.integers(0, counts.size, number)
        counts.ravel()[where] += rng.exponential(12_000, number).astype(np.float32)
