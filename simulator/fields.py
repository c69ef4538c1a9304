"""Periodic random pictures: the texture of grains, the veins of a condenser, the network of a binder."""

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
    octaves = np.log2(np.maximum(np.hypot(fy, fx), 1e-6) * wavelength_px)
    spectrum = scipy.fft.rfft2(rng.standard_normal(shape, dtype=np.float32))
    spectrum *= np.exp(-0.5 * (octaves / spread) ** 2)
    spectrum[0, 0] = 0
    noise: FloatArray = scipy.fft.irfft2(spectrum, s=shape)
    return noise / max(float(noise.std()), 1e-12)


def veins(shape: Shape, *, wavelength_px: float, width: float, rng: np.random.Generator) -> FloatArray:
    """Draw a periodic network of thin curves: the zero lines of smooth noise.

    Parameters
    ----------
    shape : (int, int)
        Size in pixels.
    wavelength_px : float
        Mesh of the network.
    width : float
        Width of the curves relative to the mesh, about.
    rng : numpy.random.Generator
        Where the numbers come from.

    Returns
    -------
    ndarray, (M, N) float32
        1 on the curves, falling to 0 beside them.
    """
    noise = band_noise(shape, wavelength_px=wavelength_px, rng=rng, spread=0.35)
    line: FloatArray = np.exp(-np.abs(noise) / np.float32(width))
    return line
