"""Scenes whose motion is known exactly: a band-limited specimen moved in Fourier space before the photons arrive.

The detector pattern and the illumination stay where they are, as in a real microscope, so a method that
locks on the detector instead of the sample is found out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Array = NDArray[np.float32]


def specimen(seed: int, *, size: int = 1024, grains: int = 260, absorption: float = 0.012) -> Array:
    """Transmission (size, size) of overlapping spheres with pores and grain texture, periodic, band limited."""
    rng = np.random.default_rng(seed)
    thickness = np.zeros((size, size))
    for _ in range(grains):
        radius = min(rng.lognormal(np.log(16.0), 0.55), 70.0)
        centre_y, centre_x = rng.uniform(0, size, 2)
        reach = np.arange(-int(radius) - 1, int(radius) + 2)
        row, column = int(centre_y), int(centre_x)
        squared = ((reach + row - centre_y)[:, None] ** 2 + (reach + column - centre_x)[None, :] ** 2)
        ball = 2.0 * np.sqrt(np.clip(radius**2 - squared, 0.0, None))
        ball *= rng.uniform(0.6, 1.3)
        thickness[np.ix_((reach + row) % size, (reach + column) % size)] += ball
    texture = ndimage.gaussian_filter(rng.standard_normal((size, size)), 1.6, mode="wrap")
    thickness *= 1.0 + 0.25 * texture / texture.std()
    frequency = np.hypot(fft.fftfreq(size)[:, None], fft.rfftfreq(size)[None, :]) / 0.45
    inside = np.clip(frequency, 0.0, 1.0)
    otf = 2.0 / np.pi * (np.arccos(inside) - inside * np.sqrt(1.0 - inside**2))
    sharp = fft.rfft2(np.exp(-absorption * np.clip(thickness, 0.0, None)))
    return np.clip(fft.irfft2(sharp * otf, s=(size, size)), 0.0, None).astype(np.float32)


def moved(canvas: Array, dy: float, dx: float, *, rotation_deg: float = 0.0) -> Array:
    """Return the canvas rotated about its centre (positive = from +x towards +y) and then moved by (dy, dx)."""
    size = canvas.shape[0]
    image = canvas
    if rotation_deg:
        angle = np.deg2rad(rotation_deg)
        image = _shear(image, -np.tan(angle / 2.0), axis=1)
        image = _shear(image, np.sin(angle), axis=0)
        image = _shear(image, -np.tan(angle / 2.0), axis=1)
    ramp_y = np.exp(-2j * np.pi * fft.fftfreq(size) * dy).astype(np.complex64)
    ramp_x = np.exp(-2j * np.pi * fft.rfftfreq(size) * dx).astype(np.complex64)
    spectrum = fft.rfft2(image.astype(np.float32)) * ramp_y[:, None] * ramp_x[None, :]
    return fft.irfft2(spectrum, s=image.shape)


def _shear(image: Array, slope: float, *, axis: int) -> Array:
    """Move every line along `axis` by slope times its distance from the centre, exactly."""
    size = image.shape[0]
    distance = slope * (np.arange(size) - size / 2)
    phase = np.exp(-2j * np.pi * fft.rfftfreq(size)[None, :] * distance[:, None])
    lines = image if axis == 1 else image.T
    lines = fft.irfft(fft.rfft(lines, axis=1) * phase, n=size, axis=1)
    return lines if axis == 1 else lines.T


def detector_pattern(shape: tuple[int, int], seed: int, *, strength: float = 1.0) -> Array:
    """Sensitivity of the detector about 1: white, 2.5 px and 12 px texture and dust."""
    rng = np.random.default_rng(seed)
    pattern = 0.012 * rng.standard_normal(shape)
    for sigma, share in ((2.5, 0.015), (12.0, 0.010)):
        texture = ndimage.gaussian_filter(rng.standard_normal(shape), sigma)
        pattern += share * texture / texture.std()
    y, x = np.indices(shape)
    for _ in range(18):
        centre_y, centre_x, radius = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(1.5, 5.0)
        pattern -= 0.08 * np.exp(-((y - centre_y) ** 2 + (x - centre_x) ** 2) / (2 * radius**2))
    return np.clip(1.0 + strength * pattern, 0.05, None).astype(np.float32)


def light(shape: tuple[int, int], *, gradient: float = 0.0, angle_deg: float = 30.0, edge: float = 1.0) -> Array:
    """Illumination about 1: a linear gradient, and a round fall-off to `edge` in the corners."""
    y, x = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    angle = np.deg2rad(angle_deg)
    ramp = 1.0 + gradient * (y * np.sin(angle) + x * np.cos(angle))
    fall = edge + (1.0 - edge) / (1.0 + np.exp((np.hypot(y, x) - 1.0) / 0.12))
    return (ramp * fall).astype(np.float32)


@dataclass(frozen=True)
class Scene:
    """One specimen before one detector."""

    canvas: Array
    shape: tuple[int, int] = (654, 678)
    photons: float = 500.0
    pattern_strength: float = 1.0
    edge: float = 1.0
    seed: int = 0

    @cached_property
    def flat(self) -> Array:
        """Expected counts without sample, (M, N)."""
        pattern = detector_pattern(self.shape, self.seed + 7, strength=self.pattern_strength)
        return self.photons * pattern * light(self.shape, gradient=0.15, edge=self.edge)

    def counts(self, drift: tuple[float, float], rng: np.random.Generator, *, rotation_deg: float = 0.0,
               blur_px: float = 0.0, brightness: float = 1.0, gradient: float = 0.0) -> Array:
        """Photon counts (M, N) of the specimen at `drift`, smeared along x by `blur_px`."""
        image = moved(self.canvas, *drift, rotation_deg=rotation_deg)
        if blur_px > 0.0:
            line = np.sinc(fft.rfftfreq(image.shape[1]) * blur_px)
            image = fft.irfft(fft.rfft(image, axis=1) * line, n=image.shape[1], axis=1).astype(np.float32)
        top = (image.shape[0] - self.shape[0]) // 2
        left = (image.shape[1] - self.shape[1]) // 2
        view = image[top:top + self.shape[0], left:left + self.shape[1]]
        expected = view * self.flat * brightness * light(self.shape, gradient=gradient, angle_deg=110.0)
        return rng.poisson(np.clip(expected, 0.0, None)).astype(np.float32)

    def mean_flat(self, rng: np.random.Generator, *, exposures: int = 16) -> Array:
        """Mean of so many exposures without sample."""
        return (rng.poisson(self.flat * exposures) / exposures).astype(np.float32)

    def corrected(self, drift: tuple[float, float], rng: np.random.Generator, *, flat: Array,
                  rotation_deg: float = 0.0, blur_px: float = 0.0, brightness: float = 1.0,
                  gradient: float = 0.0) -> Array:
        """Transmission (M, N): counts over the measured flat."""
        counts = self.counts(drift, rng, rotation_deg=rotation_deg, blur_px=blur_px,
                             brightness=brightness, gradient=gradient)
        return (counts / np.maximum(flat, 1.0)).astype(np.float32)
