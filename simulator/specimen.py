"""What lies in the beam: projected absorbance of a cathode, reflectance of an anode. Both are periodic."""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.spatial

from simulator.fields import Shape, band_noise, crackle, frequencies
from streamer.records import FloatArray

CANVAS_OVERSAMPLING = 2
"""Specimens are drawn this many times finer than the detector, so that edges fall where they are."""

_LARGE_PER_FIELD = 10
_SMALL_PER_FIELD = 40
_FIELD_AREA_PX2 = 654 * 678
_FLAKE_PX = 15.0


def cathode(shape: Shape, *, rng: np.random.Generator, zoom: float = CANVAS_OVERSAMPLING) -> FloatArray:
    """Draw the projected absorbance of a composite battery cathode.

    Overlapping secondary particles with irregular outline, grains and cracks inside, in a network of carbon
    and binder. Radii 50 to 135 px for the large and 10 to 40 px for the small ones (33 nm pixels: 1.7 to 4.5 um).

    Parameters
    ----------
    shape : (int, int)
        Size in pixels of the drawing.
    rng : numpy.random.Generator
        Where the numbers come from.
    zoom : float
        Pixels of the drawing per detector pixel.

    Returns
    -------
    ndarray, (M, N) float32
        mu * thickness, from 0; transmission is ``exp(-absorbance)``.
    """
    grains = np.zeros(shape, np.float32)
    for weight, length in ((0.5, 40.0), (0.45, 14.0), (0.35, 6.0)):
        grains += np.float32(weight) * band_noise(shape, wavelength_px=length * zoom, rng=rng)
    cracks: FloatArray = np.clip(crackle(shape, wavelength_px=110 * zoom, octaves=4, rng=rng) / 3 - 0.25, 0, 1)
    absorbance = _binder(shape, rng=rng, zoom=zoom)
    fields = shape[0] * shape[1] / (zoom**2 * _FIELD_AREA_PX2)
    # At least a few whatever the size, so that a small frame still shows something to follow.
    for radius in _radii(fields, rng):
        _add_particle(absorbance, radius * zoom, grains=grains, cracks=cracks, rng=rng, zoom=zoom)
    return absorbance


def phase_fringes(absorbance: FloatArray, *, strength_px2: float, zoom: float = CANVAS_OVERSAMPLING) -> FloatArray:
    """Add the bright rim outside and the dark rim inside of edges that free propagation gives.

    The transport-of-intensity term ``absorbance - strength * laplacian(absorbance)``, smoothed over about
    1.3 detector pixels (Paganin et al. 2002, J. Microsc. 206, 33, doi:10.1046/j.1365-2818.2002.01010.x).
    """
    fy, fx = (frequency * np.float32(zoom) for frequency in frequencies(_shape(absorbance)))
    squared = (2 * np.pi) ** 2 * (fy * fy + fx * fx)
    gain = 1 + strength_px2 * squared * np.exp(-0.5 * 1.3**2 * squared)
    result: FloatArray = scipy.fft.irfft2(scipy.fft.rfft2(absorbance) * gain, s=absorbance.shape)
    return result


def anode(shape: Shape, *, rng: np.random.Generator, zoom: float = CANVAS_OVERSAMPLING) -> FloatArray:
    """Draw the reflectance of a graphite anode under an optical microscope.

    Flakes of different brightness, bright glints on some, dark pores between them.

    Returns
    -------
    ndarray, (M, N) float32
        From 0.05 to about 1.2.
    """
    wobble = [band_noise(shape, wavelength_px=14 * zoom, rng=rng) * np.float32(2.0 * zoom) for _ in range(2)]
    count = max(12, round(shape[0] * shape[1] / (zoom * _FLAKE_PX) ** 2))
    tree = scipy.spatial.cKDTree(rng.uniform(0, shape, (count, 2)), boxsize=shape)
    rows, columns = np.indices(shape, dtype=np.float32)
    points = np.stack(((rows + wobble[0]) % shape[0], (columns + wobble[1]) % shape[1]), axis=-1)
    distances, flake = tree.query(points, k=2, workers=2)
    rim = np.exp(-((distances[..., 1] - distances[..., 0]) / (1.8 * zoom)) ** 2)
    brightness = np.clip(rng.normal(0.42, 0.15, count), 0.12, 0.85)
    brightness[rng.random(count) < 0.06] = 1.0
    fine = band_noise(shape, wavelength_px=5 * zoom, rng=rng)
    sheen = band_noise(shape, wavelength_px=20 * zoom, rng=rng)
    pores = np.clip(band_noise(shape, wavelength_px=24 * zoom, rng=rng) - 1.2, 0, 1)
    reflectance = brightness[flake[..., 0]] * (1 + 0.10 * fine + 0.14 * sheen) * (1 - 0.75 * rim) * (1 - 0.8 * pores)
    result: FloatArray = np.clip(reflectance, 0.05, 1.2).astype(np.float32)
    return result


def _shape(image: FloatArray) -> Shape:
    return int(image.shape[0]), int(image.shape[1])


def _radii(fields: float, rng: np.random.Generator) -> list[float]:
    """Sizes of the particles, in detector pixels; small areas get smaller particles."""
    shrink = min(1.0, max(0.25, fields**0.5))
    large = rng.uniform(50, 135, max(3, round(_LARGE_PER_FIELD * fields / shrink**2)))
    small = rng.uniform(10, 40, max(6, round(_SMALL_PER_FIELD * fields / shrink**2)))
    return [float(radius) * shrink for radius in (*large, *small)]


def _binder(shape: Shape, *, rng: np.random.Generator, zoom: float) -> FloatArray:
    broad = band_noise(shape, wavelength_px=160 * zoom, rng=rng, spread=0.7)
    clumps = band_noise(shape, wavelength_px=26 * zoom, rng=rng)
    fine = band_noise(shape, wavelength_px=8 * zoom, rng=rng)
    strands = crackle(shape, wavelength_px=90 * zoom, octaves=4, rng=rng)
    binder = 0.20 + 0.06 * broad + 0.03 * clumps + 0.010 * fine - 0.028 * strands
    result: FloatArray = np.clip(binder, 0.0, None).astype(np.float32)
    return result


def _add_particle(
    absorbance: FloatArray, radius: float, *, grains: FloatArray, cracks: FloatArray, rng: np.random.Generator,
    zoom: float,
) -> None:
    """Add one particle of the given radius (drawing pixels) at a random place, around the edges too."""
    height, width = absorbance.shape
    centre = rng.uniform(0, (height, width))
    reach = int(radius * 1.35) + 2
    rows = np.arange(int(centre[0]) - reach, int(centre[0]) + reach + 1)
    columns = np.arange(int(centre[1]) - reach, int(centre[1]) + reach + 1)
    y = (rows - centre[0]).astype(np.float32)[:, None] * np.float32(rng.uniform(0.85, 1.2))
    x = (columns - centre[1]).astype(np.float32)[None, :]
    angle, outline = np.arctan2(y, x), np.float32(radius)
    for order in range(2, 8):
        lobe = rng.normal(0, 0.06 / order)
        outline = outline + np.float32(radius * lobe) * np.cos(order * angle + np.float32(rng.uniform(0, 2 * np.pi)))
    thickness = 2 * np.sqrt(np.clip(outline**2 - y * y - x * x, 0, None))
    shift_y, shift_x = (int(value) for value in rng.integers(0, absorbance.shape))
    place = np.ix_((rows + shift_y) % height, (columns + shift_x) % width)
    inside = 1 + rng.uniform(0.05, 0.12) * grains[place] - rng.uniform(0.0, 0.5) * cracks[place]
    # Not every particle is as dense: porous ones let more through.
    per_px = rng.uniform(0.0016, 0.0036) / zoom
    target = np.ix_(rows % height, columns % width)
    absorbance[target] += np.float32(per_px) * thickness * np.clip(inside, 0.2, 2.0)
