"""What stays on the detector, told from what moves with the sample, without flats.

In the logarithm of the counts a frame is the sum of the sample, moved by its drift ``d_t``, of a pattern that does
not move, and of noise: ``a_t(x) = s(x - d_t) + p(x)``. In Fourier space every mode is a small problem of least
squares of its own. With the weights ``w_t`` and the sums ``W = sum w``, ``c = sum w e^{-ikd}``, ``U = sum w A`` and
``V = sum w A e^{ikd}`` the pattern is ``P = (W U - c V) / (W^2 - |c|^2)``. Modes whose phase the motion hardly turns
have a denominator near zero: there nothing tells sample from pattern, and they are left alone.

What enters the view and what leaves it breaks the model: the frames are tapered, and should span few pixels of motion
(8 frames over 11 px leave less than a tenth of the sample behind, 24 over 33 px up to a half).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.fft

from streamer.imaging.spectrum import ComplexArray, fast_size, polar_bins
from streamer.records import BoolArray, FloatArray

_SEPARABLE = 0.4     # of the greatest possible denominator
_RINGS = 48          # up to 0.5 cycles/px, in which noise and pattern are compared
_DARKEST = 0.05      # of the mean; darker pixels say nothing in the logarithm


class Pattern(NamedTuple):
    """A pattern that was told from the sample."""

    logarithm: FloatArray
    """(M, N) of the relative response; 0 where nothing is known: at the border, and in modes that cannot be told."""
    light: FloatArray
    """(M, N) relative mean light: the pattern, and what cannot be told from it."""
    separable: float
    """Share of the modes that could be told."""
    prominence: float
    """Standard deviation of the pattern over that of a frame."""

    def averaged(self, other: Pattern, share: float) -> Pattern:
        """Average with another one that has this share of the result."""
        keep = 1 - share
        return Pattern(
            keep * self.logarithm + share * other.logarithm, keep * self.light + share * other.light,
            keep * self.separable + share * other.separable, keep * self.prominence + share * other.prominence)


@dataclass(frozen=True, eq=False, slots=True)
class PatternSums:
    """Sums over frames of one view; see the module."""

    shape: tuple[int, int]
    total: float
    turned: ComplexArray
    """``c``, (m, n / 2 + 1), as are the others."""
    frames: ComplexArray
    returned: ComplexArray
    newest: ComplexArray
    noise: float = 0.0
    """Sum of the noise power of the frames, told from differences of successive ones at high frequencies."""

    @classmethod
    def of(cls, image: FloatArray, drift_px: tuple[float, float]) -> PatternSums:
        """Return the sums of a single frame of positive counts, at this drift (dy, dx)."""
        rows, columns = fast_size(image.shape[0]), fast_size(image.shape[1])
        window = _window(image.shape, (rows, columns))
        counts = image[window]
        logarithm = np.log(np.maximum(counts, np.float32(_DARKEST * max(float(counts.mean()), 1e-30))))
        logarithm -= logarithm.mean()
        bins = polar_bins(rows, columns)
        logarithm *= bins.window_y[:, None] * bins.window_x
        modes: ComplexArray = scipy.fft.rfft2(logarithm, overwrite_x=True)
        turn: ComplexArray = np.multiply.outer(
            np.exp(-2j * np.pi * drift_px[0] * np.fft.fftfreq(rows)).astype(np.complex64),
            np.exp(-2j * np.pi * drift_px[1] * np.fft.rfftfreq(columns)).astype(np.complex64))
        return cls((image.shape[0], image.shape[1]), 1.0, turn, modes, modes * turn.conj(), modes)

    def added(self, other: PatternSums) -> PatternSums:
        """Add a frame."""
        change = (other.newest - self.newest).ravel()[polar_bins(*self._inner).noise_modes]
        noise = float(np.median(np.square(change.real) + np.square(change.imag))) / (2 * float(np.log(2.0)))
        return PatternSums(self.shape, self.total + other.total, self.turned + other.turned,
                           self.frames + other.frames, self.returned + other.returned, other.newest,
                           self.noise + noise)

    @property
    def _inner(self) -> tuple[int, int]:
        return fast_size(self.shape[0]), fast_size(self.shape[1])

    def solve(self) -> Pattern:
        """Tell the pattern from the sample.

        Frequencies at which the pattern does not stand out of the noise of its estimate are damped (Wiener), so
        that a detector without a pattern gets none.
        """
        total = np.float32(self.total)
        determinant = total**2 - np.square(self.turned.real) - np.square(self.turned.imag)
        told = determinant > _SEPARABLE * total**2
        modes = np.where(told, (total * self.frames - self.turned * self.returned) / np.where(told, determinant, 1), 0)
        noise = self.noise / max(float(total) - 1, 1e-6)
        variance = np.float32(noise) * total / np.where(told, determinant, np.float32(1))
        modes = modes * _damping(modes, variance.astype(np.float32), told)
        light = np.where(told, modes, self.frames / total)
        rows, columns = self._inner
        window = _window(self.shape, (rows, columns))
        pattern = np.zeros(self.shape, np.float32)
        pattern[window] = scipy.fft.irfft2(modes, s=(rows, columns))
        inner = np.exp(scipy.fft.irfft2(light, s=(rows, columns)))
        border = [(part.start, size - part.stop) for part, size in zip(window, self.shape, strict=True)]
        prominence = float(np.linalg.norm(modes) / max(float(np.linalg.norm(self.newest[told])), 1e-30))
        return Pattern(pattern, np.pad(inner.astype(np.float32), border, mode="edge"), float(told.mean()), prominence)


def _damping(modes: ComplexArray, variance: FloatArray, told: BoolArray) -> FloatArray:
    """Share of the power in each ring of frequencies that is not noise."""
    rows, half = modes.shape
    radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.linspace(0, 0.5, half)[None, :])
    ring = (radius * 2 * _RINGS).astype(np.intp)
    power, expected = (np.bincount(ring[told], values[told], minlength=ring.max() + 1) for values in (
        np.square(modes.real) + np.square(modes.imag), variance))
    share = np.clip(1 - expected / np.maximum(power, 1e-30), 0, 1).astype(np.float32)
    damping: FloatArray = share[ring]
    return damping


def _window(shape: tuple[int, ...], inner: tuple[int, int]) -> tuple[slice, slice]:
    """Return the middle of a frame, which is what its spectrum is taken of."""
    top, left = (shape[0] - inner[0]) // 2, (shape[1] - inner[1]) // 2
    return slice(top, top + inner[0]), slice(left, left + inner[1])
