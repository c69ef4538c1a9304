"""From an exact specimen to a blurred, shifted view of it: transfer functions, kernels, band-limited canvas."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.special
from numpy.typing import NDArray

from simulator.fields import Shape, frequencies
from streamer.records import AnyArray, FloatArray

SPLINE_ORDER = 3
_FINE = 2
"""Splines are laid through a canvas sampled this many times finer, where its band ends at a quarter cycle."""
_MARGIN_PX = 32
"""Room around a deformed window in which its edges fade before it is blurred."""
WORKERS = 2


class Blur(NamedTuple):
    """What happened during the exposure, as a point-spread function known in closed form."""

    kind: Literal["motion", "vibration", "defocus"]
    size_px: float
    """Length of a linear motion; peak-to-peak way of a vibration; sigma of a defocus."""
    angle_deg: float = 0.0
    """0 = along +x, counter-clockwise on the screen; without meaning for a defocus."""

    @property
    def covariance_px2(self) -> NDArray[np.float64]:
        """Second moments of the kernel, (2, 2), order (y, x)."""
        if self.kind == "defocus":
            return np.eye(2) * self.size_px**2
        direction = self._direction
        variance = self.size_px**2 / (12.0 if self.kind == "motion" else 8.0)
        return variance * np.outer(direction, direction)

    @property
    def _direction(self) -> NDArray[np.float64]:
        angle = math.radians(self.angle_deg)
        return np.array([-math.sin(angle), math.cos(angle)])  # y points down

    def transfer(self, fy: FloatArray, fx: FloatArray) -> FloatArray:
        """Evaluate the Fourier transform of the kernel at frequencies in cycles per pixel (they broadcast)."""
        if self.kind == "defocus":
            return _gaussian(self.size_px, fy) * _gaussian(self.size_px, fx)
        dy, dx = (np.float32(value) for value in self._direction)
        cycles = np.float32(self.size_px) * (fy * dy + fx * dx)
        if self.kind == "motion":
            line: FloatArray = np.sinc(cycles)
            return line
        swing: FloatArray = scipy.special.j0(np.float32(np.pi) * cycles)
        return swing


def _gaussian(sigma_px: float, frequency: FloatArray) -> FloatArray:
    gaussian: FloatArray = np.exp(np.float32(-2 * (np.pi * sigma_px) ** 2) * frequency**2)
    return gaussian


def microscope_transfer(
    fy: FloatArray, fx: FloatArray, *, cutoff: float = 0.9, gaussian_px: float = 0.6
) -> FloatArray:
    """Transfer function of an incoherent zone-plate microscope and its detector pixel.

    Parameters
    ----------
    fy, fx : ndarray
        Frequencies in cycles per detector pixel (they broadcast).
    cutoff : float
        Where an ideal lens with this aperture stops, cycles per pixel.
    gaussian_px : float
        Sigma of everything else: aberrations, scintillator.

    Returns
    -------
    ndarray, float32
        1 at frequency 0.
    """
    ratio = np.clip(np.hypot(fy, fx) / np.float32(cutoff), 0, 1)
    lens = (np.arccos(ratio) - ratio * np.sqrt(1 - ratio * ratio)) * np.float32(2 / np.pi)
    pixel = np.sinc(fy) * np.sinc(fx)
    return np.asarray(lens * _gaussian(gaussian_px, fy) * _gaussian(gaussian_px, fx) * pixel, np.float32)


class Canvas:
    """A periodic, band-limited picture that can be looked at through a window at any sub-pixel position.

    Parameters
    ----------
    spectrum : ndarray, (M, N // 2 + 1) complex64
        Real FFT of the picture at detector pixels; the Nyquist terms are dropped, because they cannot be shifted.
    shape : (int, int)
        M, N.

    Notes
    -----
    The window at drift 0 starts at pixel (0, 0) of the canvas. The sample may be followed over the size of the
    canvas minus the size of the window; beyond that it repeats.
    """

    def __init__(self, spectrum: NDArray[np.complex64], shape: Shape) -> None:
        self.shape = shape
        self._spectrum = spectrum.astype(np.complex64)
        if shape[0] % 2 == 0:
            self._spectrum[shape[0] // 2] = 0
        if shape[1] % 2 == 0:
            self._spectrum[:, -1] = 0
        self._fy, self._fx = frequencies(shape)

    @classmethod
    def photograph(cls, fine: FloatArray, *, zoom: int, cutoff: float = 0.9, gaussian_px: float = 0.6) -> Canvas:
        """Look at a drawing, `zoom` times finer than the detector, through the microscope."""
        shape = (fine.shape[0] // zoom, fine.shape[1] // zoom)
        fy, fx = frequencies(shape)
        spectrum = _resized(scipy.fft.rfft2(fine, workers=WORKERS), shape)
        return cls(spectrum / zoom**2 * microscope_transfer(fy, fx, cutoff=cutoff, gaussian_px=gaussian_px), shape)

    def window(self, shape: Shape, drift_px: tuple[float, float], blur: Blur | None = None) -> FloatArray:
        """Return the view after a rigid drift, exact for the band-limited picture.

        Parameters
        ----------
        shape : (int, int)
            Size of the window.
        drift_px : (float, float)
            Where the sample went: ``window(y, x) = canvas(y - drift_y, x - drift_x)``.
        blur : Blur, optional
            What happened during the exposure.

        Returns
        -------
        ndarray, (M, N) float32
        """
        turn = self._spectrum * _phase(self._fy, drift_px[0])
        turn *= _phase(self._fx, drift_px[1])
        if blur is not None:
            turn *= blur.transfer(self._fy, self._fx)
        image: FloatArray = scipy.fft.irfft2(turn, s=self.shape, workers=WORKERS)
        return image[: shape[0], : shape[1]]

    def sample(self, y: FloatArray, x: FloatArray) -> FloatArray:
        """Return the picture at any points (pixels of the canvas), by a cubic spline through a twofold finer copy."""
        values = np.empty(y.shape, np.float32)
        coefficients, points = self._coefficients, np.stack((y, x)) * np.float32(_FINE)

        def half(rows: slice) -> None:
            scipy.ndimage.map_coordinates(
                coefficients, points[:, rows], output=values[rows],
                order=SPLINE_ORDER, mode="grid-wrap", prefilter=False,
            )

        middle = len(values) // 2
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="spline") as pool:
            list(pool.map(half, (slice(middle), slice(middle, None))))
        return values

    @cached_property
    def _coefficients(self) -> FloatArray:
        fine = (self.shape[0] * _FINE, self.shape[1] * _FINE)
        picture = scipy.fft.irfft2(_resized(self._spectrum, fine) * _FINE**2, s=fine, workers=WORKERS)
        coefficients: FloatArray = scipy.ndimage.spline_filter(
            picture, order=SPLINE_ORDER, mode="grid-wrap", output=np.float32)
        return coefficients


def pixel_positions(shape: Shape, *, margin: bool) -> tuple[FloatArray, FloatArray]:
    """Return rows (M,) and columns (N,) of a window, with the margin of `blurred_window` if asked for."""
    edge = _MARGIN_PX if margin else 0
    rows = np.arange(-edge, shape[0] + edge, dtype=np.float32)
    columns = np.arange(-edge, shape[1] + edge, dtype=np.float32)
    return rows, columns


def blurred_window(image: FloatArray, blur: Blur) -> FloatArray:
    """Blur a window that carries a margin all around (`pixel_positions`) and cut the margin off.

    For kernels up to about 24 px; the outer part of the margin fades to the mean, so that nothing wraps around.
    """
    size = (scipy.fft.next_fast_len(image.shape[0], real=True), scipy.fft.next_fast_len(image.shape[1], real=True))
    mean = image.mean()
    faded = (image - mean) * _fade(image.shape[0])[:, None] * _fade(image.shape[1])
    spectrum = scipy.fft.rfft2(faded, s=size, workers=WORKERS)
    spectrum *= blur.transfer(*frequencies(size))
    result: FloatArray = scipy.fft.irfft2(spectrum, s=size, workers=WORKERS)
    edge = _MARGIN_PX
    inner: FloatArray = result[edge : image.shape[0] - edge, edge : image.shape[1] - edge] + mean
    return inner


def _fade(count: int) -> FloatArray:
    """Raised-cosine ends over half of the margin."""
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(_MARGIN_PX // 2) + 0.5) / (_MARGIN_PX // 2))
    fade = np.ones(count, np.float32)
    fade[: ramp.size], fade[-ramp.size :] = ramp, ramp[::-1]
    return fade


def _phase(frequency: FloatArray, shift_px: float) -> NDArray[np.complex64]:
    turn = -2 * np.pi * shift_px * frequency.astype(np.float64)
    return np.asarray(np.cos(turn) + 1j * np.sin(turn), np.complex64)


def _resized(spectrum: AnyArray, shape: Shape) -> NDArray[np.complex64]:
    """Cut the spectrum of a real picture to fewer pixels, or fill it with zeros to more; even sizes."""
    result = np.zeros((shape[0], shape[1] // 2 + 1), np.complex64)
    rows = min(spectrum.shape[0], shape[0]) // 2
    columns = min(spectrum.shape[1], result.shape[1])
    result[:rows, :columns] = spectrum[:rows, :columns]
    result[-rows + 1 :, :columns] = spectrum[-rows + 1 :, :columns]
    return result
