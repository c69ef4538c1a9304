"""A drifting, deforming specimen for tests: band-limited, with known blur, photons and faults."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


class Scene:
    """Spheres with texture and cracks, larger than the frame, so that it can drift.

    The transmission is low-passed like by a zone plate; `frame` shifts, blurs and exposes it exactly in
    Fourier space on the whole scene, then cuts the field of view out of its middle.
    """

    def __init__(self, seed: int, shape: tuple[int, int] = (654, 678), margin: int = 96) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = shape
        self.margin = margin
        full = (shape[0] + 2 * margin, shape[1] + 2 * margin)
        self.fy = np.fft.fftfreq(full[0])[:, None]
        self.fx = np.fft.rfftfreq(full[1])[None, :]
        self.full = full
        radius = np.hypot(self.fy, self.fx)
        cut = np.clip(radius / 0.9, 0, 1)
        optics = 2 / np.pi * (np.arccos(cut) - cut * np.sqrt(1 - cut**2)) * np.exp(-2 * (np.pi * 0.6 * radius) ** 2)
        self.spectrum = np.fft.rfft2(np.exp(-self._thickness())) * optics * np.sinc(self.fy) * np.sinc(self.fx)

    def _thickness(self) -> Float:
        rng, (rows, columns) = self.rng, self.full
        yy, xx = np.mgrid[:rows, :columns].astype(np.float32)
        total = 0.15 * self._texture(60.0) + 0.1
        scale = min(self.shape) / 654
        for low, high, count in ((80, 160, 10), (20, 60, 40)):
            for _ in range(count):
                r = rng.uniform(low, high) * scale
                y, x = rng.uniform(0, rows), rng.uniform(0, columns)
                aspect, turn = rng.uniform(0.7, 1.0), rng.uniform(0, np.pi)
                u = (yy - y) * np.cos(turn) + (xx - x) * np.sin(turn)
                v = (-(yy - y) * np.sin(turn) + (xx - x) * np.cos(turn)) / aspect
                wobble = 1 + 0.06 * np.sin(3 * np.arctan2(v, u) + turn) + 0.03 * np.sin(7 * np.arctan2(v, u))
                total += 0.9 * np.sqrt(np.clip(1 - (u * u + v * v) / (r * wobble) ** 2, 0, None)) * r / (100 * scale)
        grain = 0.25 * self._texture(12.0) + 0.16 * self._texture(4.0) + 0.10 * self._texture(1.5)
        inside = np.clip(total, 0, 1.2)
        cracks = np.exp(-(self._texture(25.0) / 0.04) ** 2)
        return np.clip(total + inside * (grain - 0.3 * cracks), 0, None)

    def _texture(self, size: float) -> Float:
        """Gaussian random field of unit variance with structure of about `size` px."""
        white = np.fft.rfft2(self.rng.standard_normal(self.full))
        field = np.fft.irfft2(white * np.exp(-2 * (np.pi * size * 0.5) ** 2 * (self.fy**2 + self.fx**2)), s=self.full)
        return field / field.std()

    def clean(self, *, drift: tuple[float, float] = (0.0, 0.0), length_px: float = 0.0, angle_deg: float = 0.0,
              defocus_px: float = 0.0) -> Float:
        """Return the field of view without noise, 1 = open beam."""
        turn = np.radians(angle_deg)
        along = self.fx * np.cos(turn) - self.fy * np.sin(turn)
        transfer = np.sinc(length_px * along) * np.exp(-2 * (np.pi * defocus_px) ** 2 * (self.fy**2 + self.fx**2))
        phase = np.exp(-2j * np.pi * (self.fy * drift[0] + self.fx * drift[1]))
        image = np.fft.irfft2(self.spectrum * transfer * phase, s=self.full)
        m = self.margin
        return np.clip(image[m:m + self.shape[0], m:m + self.shape[1]], 0, None)

    def frame(self, rng: np.random.Generator, *, photons: float = 200.0, drift: tuple[float, float] = (0.0, 0.0),
              length_px: float = 0.0, angle_deg: float = 0.0, defocus_px: float = 0.0) -> NDArray[np.uint16]:
        """Return counts as a detector would give them: Poisson noise, one count of read noise ."""
        clean = self.clean(drift=drift, length_px=length_px, angle_deg=angle_deg, defocus_px=defocus_px)
        counts = rng.poisson(photons * clean) + rng.normal(0, 1.0, clean.shape)
        return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
