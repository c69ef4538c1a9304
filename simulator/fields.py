"""Periodic random pictures: the texture of grains, the veins of a condenser, the strands of a binder."""

from __future__ import annotations

import numpy as np
import scipy.fft

from streamer.records import FloatArray

Shape = tuple[int, int]


def frequencies(shape: Shape) -> tuple[FloatArray, FloatArray]:
    """Return the frequencies of a real FFT in cycles per pixel: (M, 1) and (1, N // 2 + 1), float32."""
    fy = scipy.fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    fx = scipy.fft.rfftfreq(shape[1]).astype(np.float32)[None, :]
    return fy, fx


def band_noise(shape: Shape, *, wavelength_px: float, rng: np.random.Generator, spread: float = 0.5) -> FloatArray:
    """Draw periodic noise around one wavelength, mean 0 and standard deviation 1.

    Parameters
    ----------
    shape : (int, int)
        Size in pixels.
    wavelength_px : float
        Centre of the band.
    rng : numpy.random.Generator
        Where the numbers come from.
    spread : float
        Width of the band in octaves (1 sigma).

    Returns
    -------
    ndarray, (M, N) float32
    """
    fy, fx = frequencies(shape)
    # Only the modes within three sigma of the band are drawn: coarse noise on a large canvas has few.
    highest = 2 ** (3 * spread) / wavelength_px
    rows, columns = np.flatnonzero(np.abs(fy) <= highest), int((fx <= highest).sum())
    fy, fx = fy[rows], fx[:, :columns]
    octaves = np.log2(np.maximum(np.hypot(fy, fx), 1e-6) * np.float32(wavelength_px))
    modes = rng.standard_normal((2, *octaves.shape), dtype=np.float32) * np.exp(-0.5 * (octaves / spread) ** 2)
    modes[:, 0, 0] = 0
    spectrum = np.zeros((shape[0], shape[1] // 2 + 1), np.complex64)
    spectrum[rows, :columns] = modes[0] + 1j * modes[1]
    noise: FloatArray = scipy.fft.irfft2(spectrum, s=shape, workers=2)
    return noise / max(float(noise.std()), 1e-12)


def crackle(shape: Shape, *, wavelength_px: float, octaves: int, rng: np.random.Generator) -> FloatArray:
    """Draw branching veins of all sizes: ridges of noise, finer ones where there are coarse ones already.

    Musgrave's ridged multifractal, made periodic.

    Parameters
    ----------
    shape : (int, int)
        Size in pixels.
    wavelength_px : float
        Mesh of the coarsest veins.
    octaves : int
        Number of sizes, each half of the one before.
    rng : numpy.random.Generator
        Where the numbers come from.

    Returns
    -------
    ndarray, (M, N) float32
        Mean 0 and standard deviation 1; veins are positive.
    """
    total = np.zeros(shape, np.float32)
    weight: FloatArray = np.ones(shape, np.float32)
    for octave in range(octaves):
        noise = band_noise(shape, wavelength_px=max(3.0, wavelength_px / 2**octave), rng=rng)
        ridge = np.clip(1 - np.abs(noise) / np.float32(1.5), 0, 1) ** 3 * weight
        total += ridge * np.float32(0.75**octave)
        weight = np.clip(2.5 * ridge, 0.15, 1)
    total -= total.mean()
    return total / max(float(total.std()), 1e-12)
