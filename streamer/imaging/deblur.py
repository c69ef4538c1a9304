"""Previews of blurred frames with the blur taken out as far as their noise allows: Wiener and Richardson-Lucy.

The point-spread function is the measured one (`streamer.imaging.blur`), noise and signal are those of the frame's own
power spectrum. What the blur and the noise have destroyed is not invented: `streamer.imaging.recovery` says what a
preview can be trusted for.

The Wiener filter is that of Wiener (1949), here with a signal power that is fitted to the frame; Richardson-Lucy is
due to Richardson (1972, doi:10.1364/JOSA.62.000055) and Lucy (1974, doi:10.1086/111605), accelerated as in Biggs and
Andrews (1997, doi:10.1364/AO.36.001766).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray
from skimage.restoration import wiener as wiener_filter  # now, not at the first blurred frame: that stalls a second

from streamer.errors import FrameError
from streamer.imaging.spectrum import LOWEST, RINGS, NoiseShape, PolarPower, bin_frequencies
from streamer.records import FloatArray

ITERATIONS = 12
"""Of Richardson-Lucy at most."""

_ROUND = 3.0             # ratio of the eigenvalues from which a blur of unknown shape is taken for a motion
_WINDOW_LOSS = 1.33      # excess variance of binned power under a 2-D Tukey(0.25) window
_SCATTER = 0.5           # relative difference of a bin from the smooth isotropic spectrum
_FLOOR_ERROR = 0.015     # relative error of a noise floor
_PRIOR_SLOPE = 3.0, 1.5  # usual fall of the power of structure with frequency, and how much it differs
_STEEPEST = 8.0
_FIT_STEPS = 25
_LEAST_SIGNAL = 1e-6     # of the noise; below, nothing is restored anyhow
_MARGIN_PX = 12          # beyond the reach of the point-spread function, where the border fades out
_MOST_REACH_PX = 96
_DARK = 1e-3             # of the mean; Richardson-Lucy divides by the light
_STEP = 0.95             # largest extrapolation of the accelerated iteration

Grid = NDArray[Any]


class PointSpread(NamedTuple):
    """A point-spread function as its transfer function: motion at constant speed, then a Gaussian."""

    motion: tuple[float, float]
    """(dy, dx) way during the exposure, px."""
    gaussian: NDArray[np.float64]
    """(2, 2) px^2, ``[[yy, yx], [yx, xx]]``, y down."""

    def transfer(self, fy: Grid, fx: Grid) -> Grid:
        """Return the (real) transfer function at frequencies in cycles/px, which are broadcast; 1 at 0."""
        (yy, yx), (_, xx) = self.gaussian.tolist()
        along = fy * self.motion[0] + fx * self.motion[1]
        transfer: Grid = np.sinc(along) if any(self.motion) else np.ones_like(along)
        if yx:
            transfer *= np.exp(-2 * np.pi**2 * (yy * fy * fy + 2 * yx * fy * fx + xx * fx * fx))
        elif yy or xx:   # round: two factors are cheaper than one matrix
            transfer *= np.exp(-2 * np.pi**2 * yy * fy * fy)
            transfer *= np.exp(-2 * np.pi**2 * xx * fx * fx)
        return transfer

    @property
    def reach_px(self) -> int:
        """How far from a point its light is found."""
        return int(np.ceil(np.hypot(*self.motion) / 2 + 3 * np.sqrt(max(np.linalg.eigvalsh(self.gaussian)[1], 0.0))))


@dataclass(frozen=True, slots=True)
class SignalModel:
    """Smooth power of structure and noise against frequency, of one frame; what decides what can be restored."""

    level: float
    """Power of the structure, without the blur, at 0.012 cycles/px, in the unit of `PolarPower`."""
    slope: float
    """It falls like ``f^-slope exp(-fall f^2)``."""
    fall: float
    """px^2."""
    noise: float
    """Power of the noise beyond 0.5 cycles/px."""
    noise_rings: tuple[float, ...]
    """Of the noise relative to that, in the rings of `PolarPower` and at 0.5 cycles/px."""

    def signal(self, frequency: Grid) -> Grid:
        """Power of the structure at frequencies in cycles/px; lower ones than 0.012 count as that."""
        f = np.maximum(frequency, LOWEST)
        power: Grid = np.exp(math.log(self.level) - self.slope * np.log(f / LOWEST) - self.fall * f * f)
        return power

    def noise_at(self, frequency: Grid) -> Grid:
        """Power of the noise."""
        if all(ring == 1.0 for ring in self.noise_rings):
            return np.full_like(frequency, self.noise)
        noise: Grid = self.noise * np.interp(frequency, _NOISE_NODES, self.noise_rings)
        return noise.astype(frequency.dtype)

    def ratio(self, frequency: Grid) -> Grid:
        """Noise over signal."""
        ratio: Grid = self.noise_at(frequency) / np.maximum(self.signal(frequency), _LEAST_SIGNAL * self.noise)
        return ratio


_SQUARES = bin_frequencies(4)
BIN_FY = np.copysign(np.sqrt(_SQUARES[..., 0]), _SQUARES[..., 1])
"""(24, 12, 4) places in every bin of a `PolarPower` that stand for its modes, cycles/px."""
BIN_FX = np.sqrt(_SQUARES[..., 2])
RING_FREQUENCIES = np.hypot(BIN_FY, BIN_FX)[:, 0, 0]
"""(24,) cycles/px."""
_NOISE_NODES = np.append(RING_FREQUENCIES, 0.5)


def point_spread(covariance_px2: ArrayLike, shape: str = "") -> PointSpread:
    """Make a point-spread function out of the covariance that the blur estimate gives.

    Parameters
    ----------
    covariance_px2 : (2, 2) array
        ``[[yy, yx], [yx, xx]]`` px^2, y down; negative eigenvalues count as 0.
    shape : {"motion", "defocus", "mixed", ""}
        motion: constant speed along the larger axis, a Gaussian along the other. mixed: the smaller variance is that
        of a round Gaussian, the rest motion. defocus: a round Gaussian and not a disc: behind a zone plate with
        partly coherent light the disc's zeros are nowhere to be relied upon, and restoring across a zero that is not
        there inverts contrast. Empty: motion when one axis has three times the variance of the other, else defocus.

    Raises
    ------
    FrameError
        If the covariance is not finite, or the shape is none of these.
    """
    covariance = np.asarray(covariance_px2, np.float64)
    if covariance.shape != (2, 2) or not np.isfinite(covariance).all():
        raise FrameError(f"covariance of the blur is {covariance.tolist()}; expected two by two finite numbers in px^2")
    values, vectors = np.linalg.eigh(0.5 * (covariance + covariance.T))
    least, largest = np.maximum(values, 0.0)
    along, across = vectors[:, 1], vectors[:, 0]
    if shape == "":
        shape = "motion" if largest > _ROUND * least else "defocus"
    if shape == "defocus":
        return PointSpread((0.0, 0.0), np.eye(2) * 0.5 * (least + largest))
    if shape == "mixed":
        gaussian, variance = np.eye(2) * least, largest - least
    elif shape == "motion":
        gaussian, variance = least * np.outer(across, across), largest
    else:
        raise FrameError(f"shape of the blur is {shape!r}; expected motion, defocus or mixed")
    length = float(np.sqrt(12 * variance))
    return PointSpread((length * float(along[0]), length * float(along[1])), gaussian)


def covariance_of(length_px: float, angle_deg: float, shape: str = "") -> NDArray[np.float64]:
    """Return the covariance, (2, 2) px^2, that a row of results tells: it holds the larger axis alone.

    The other axis has no variance for a motion (and for an unknown shape), the same for defocus, and half of it for
    a mixture, which is all that can be said.
    """
    largest = length_px**2 / 12
    least = largest * {"defocus": 1.0, "mixed": 0.5}.get(shape, 0.0)
    turn = np.radians(angle_deg)
    along = np.array([-np.sin(turn), np.cos(turn)])   # y points down
    return least * np.eye(2) + (largest - least) * np.outer(along, along)


def signal_model(
    power: PolarPower, spread: PointSpread, *, noise: NoiseShape | None = None, light: FloatArray | None = None
) -> SignalModel:
    """Fit the power that the structure of a frame would have without its blur.

    Parameters
    ----------
    power : PolarPower
        Of the blurred frame.
    spread : PointSpread
        Its blur.
    noise : NoiseShape, optional
        How the noise depends on frequency, as it was given to `measure_spectrum`.
    light : (M, N) float32 array, optional
        Expected photons, as they were given to `measure_spectrum`: restoring works on the corrected frame, whose
        dark parts have more noise than the spectrum, which is weighted, tells.
    """
    fall = np.mean(spread.transfer(BIN_FY, BIN_FX) ** 2, axis=-1).ravel()
    used = (power.counts.ravel() >= 2) & (fall > 1e-3)
    measured = power.power.ravel()[used].astype(np.float64)
    counts, fall = power.counts.ravel()[used].astype(np.float64), fall[used]
    radius = np.repeat(RING_FREQUENCIES, power.counts.shape[1])[used]
    phi = max(float(power.floor), 1e-12)
    terms = np.stack([np.ones_like(radius), -np.log(radius / LOWEST), -(radius / 0.3) ** 2], axis=1)
    theta = _fit(terms, measured, fall, counts, phi)
    share = 1.0 if light is None else max(float(light[::4, ::4].mean()), 1e-3)
    rings = np.ones(RINGS) if noise is None else np.average(noise.bins, axis=1, weights=np.maximum(power.counts, 1))
    return SignalModel(float(np.exp(theta[0])), float(theta[1]), float(theta[2]) / 0.09, phi / share,
                       (*rings.tolist(), 1.0))


def _fit(
    terms: NDArray[np.float64], measured: NDArray[np.float64], fall: NDArray[np.float64],
    counts: NDArray[np.float64], phi: float,
) -> NDArray[np.float64]:
    """Gauss-Newton for ``ln signal = terms @ theta``, weighted by what scatters a bin."""
    slope, spread = _PRIOR_SLOPE
    prior = np.diag([1e-4, spread**-2, 0.05])
    low = terms[:, 1] > -1.2   # up to 0.04 cycles/px
    start = np.sum(counts[low] * measured[low]) / max(np.sum((counts * fall * np.exp(slope * terms[:, 1]))[low]), 1e-30)
    theta = np.array([np.log(max(float(start), 1e-6 * phi)), slope, 0.0])
    expected = theta.copy()
    for _ in range(_FIT_STEPS):
        model = fall * np.exp(np.clip(terms @ theta, -60, 60))
        variance = _WINDOW_LOSS / counts * (phi + model) ** 2 + (_SCATTER * model) ** 2 + (_FLOOR_ERROR * phi) ** 2
        slopes = model[:, None] * terms
        normal = slopes.T @ (slopes / variance[:, None]) + prior
        step = np.linalg.solve(normal, slopes.T @ ((measured - model) / variance) - prior @ (theta - expected))
        theta = theta + step * min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-9))
        theta[1], theta[2] = np.clip(theta[1], 0.5, _STEEPEST), max(theta[2], 0.0)
        if float(np.abs(step).max()) < 1e-3:
            break
    return theta


def wiener(image: FloatArray, spread: PointSpread, model: SignalModel) -> FloatArray:
    """Restore a frame with the linear filter of the least mean square error.

    Parameters
    ----------
    image : (M, N) float32 array
        Corrected intensity, not its logarithm.
    spread : PointSpread
        Its blur.
    model : SignalModel
        Its structure and noise.

    Returns
    -------
    (M, N) float32 array
        With the same mean.
    """
    work, mean, place = _padded(image, spread)
    fy, fx, radius = _frequencies(*work.shape)
    # The operator whose power is noise over signal makes its balance of 1 the optimum; complex is how it knows
    # transfer functions from pictures. Its own choice, the Laplacian, would stand for a power that falls like f^-4.
    whole = wiener_filter(work, spread.transfer(fy, fx).astype(np.complex64), balance=1.0,
                               reg=np.sqrt(model.ratio(radius)).astype(np.complex64), clip=False)
    restored: FloatArray = whole[place] + np.float32(mean)
    restored += np.float32(mean - float(restored.mean(dtype=np.float64)))
    return restored


def richardson_lucy(
    image: FloatArray, spread: PointSpread, model: SignalModel, *, iterations: int = ITERATIONS
) -> FloatArray:
    """Restore a frame as the most likely source of its photons, and stop where only noise is left to explain.

    `skimage.restoration.richardson_lucy` takes the light beyond the border as none, starts from grey, and ends after
    as many steps as it is told; all three matter here.

    The frame is freed of what is noise at every frequency before it is compared, else the iteration would copy that
    noise first. It ends when, at the frequencies where structure stands out, the blurred estimate differs from the
    frame as it is by no more than the power that the best estimate leaves (discrepancy principle).

    Parameters
    ----------
    image : (M, N) float32 array
        Corrected intensity; values below 0.1 % of the mean count as that.
    spread, model : PointSpread, SignalModel
        Blur, structure and noise.
    iterations : int
        At most.

    Returns
    -------
    (M, N) float32 array
        Positive, with the mean of the frame.
    """
    mean = float(image.mean(dtype=np.float64))
    if mean <= 0:
        raise FrameError(f"mean of the frame is {mean:.4g}; Richardson-Lucy needs light, use wiener")
    work, level, place = _padded(np.maximum(image, np.float32(_DARK * mean)), spread)
    np.maximum(work, np.float32(_DARK * mean - level), out=work)
    light = (work + np.float32(level)) * np.float32(1 / mean)
    fy, fx, radius = _frequencies(*light.shape)
    transfer, ratio = spread.transfer(fy, fx), model.ratio(radius)
    data = scipy.fft.rfft2(light)   # of the noisy frame, which says when to stop
    seen = np.square(transfer)
    clear = seen > ratio
    clear[0, 0] = True   # never empty
    light = np.maximum(scipy.fft.irfft2(data * (seen / (seen + ratio)), s=light.shape), np.float32(_DARK))
    target = model.noise * light.size * float(np.mean((ratio / (seen + ratio))[clear]))
    estimate = light
    before, change = estimate, None
    for _ in range(iterations):
        blurred = scipy.fft.rfft2(estimate)
        blurred *= transfer
        left = data[clear] - blurred[clear]
        if float(np.mean(np.square(left.real) + np.square(left.imag))) <= target:
            break
        back = np.maximum(scipy.fft.irfft2(blurred, s=light.shape, overwrite_x=True), np.float32(_DARK))
        modes = scipy.fft.rfft2(np.divide(light, back, out=back))
        modes *= transfer
        after = scipy.fft.irfft2(modes, s=light.shape, overwrite_x=True)
        np.maximum(after, 0, out=after)
        after *= estimate
        estimate, before, change = _extrapolated(after, estimate, before, change)
    restored: FloatArray = np.maximum(before[place], 0)
    restored *= np.float32(mean / max(float(restored.mean(dtype=np.float64)), 1e-30))
    return restored


def _extrapolated(
    after: FloatArray, estimate: FloatArray, before: FloatArray, change: FloatArray | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the next point to step from, the newest estimate, and the change that the step made."""
    new = after - estimate
    if change is None:
        return after, after, new
    share = float(np.vdot(new, change)) / max(float(np.vdot(change, change)), 1e-30)
    ahead = after + np.float32(min(max(share, 0.0), _STEP)) * (after - before)
    return np.maximum(ahead, np.float32(_DARK)), after, new


def _padded(image: FloatArray, spread: PointSpread) -> tuple[FloatArray, float, tuple[slice, slice]]:
    """Continue a frame beyond its border, mirrored and fading into its mean, up to a size that transforms fast.

    Returns
    -------
    work : the frame less its mean
    mean : float
    place : where the frame is in `work`
    """
    if image.ndim != 2 or min(image.shape) < 2:
        raise FrameError(f"frame has shape {image.shape}; expected a matrix (rows, columns)")
    margin = min(2 * spread.reach_px, _MOST_REACH_PX) + _MARGIN_PX
    rows, columns = (scipy.fft.next_fast_len(side + 2 * min(margin, side // 2), real=True) for side in image.shape)
    top, left = (rows - image.shape[0]) // 2, (columns - image.shape[1]) // 2
    bottom, right = rows - image.shape[0] - top, columns - image.shape[1] - left
    mean = float(image.mean(dtype=np.float64))
    work = cv2.copyMakeBorder(np.ascontiguousarray(image, np.float32), top, bottom, left, right, cv2.BORDER_REFLECT)
    work -= np.float32(mean)
    work *= _fading(top, image.shape[0], bottom)[:, None]
    work *= _fading(left, image.shape[1], right)
    return work, mean, (slice(top, top + image.shape[0]), slice(left, left + image.shape[1]))


def _fading(before: int, inside: int, after: int) -> FloatArray:
    """(before + inside + after,): 1 inside, falling to 0 at either end."""
    fading = np.ones(before + inside + after, np.float32)
    for count, part in ((before, slice(0, before)), (after, slice(None, -after - 1, -1))):
        fading[part] = 0.5 - 0.5 * np.cos(np.pi * (np.arange(count) + 0.5) / max(count, 1))
    return fading


def _frequencies(rows: int, columns: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(rows, 1), (1, columns // 2 + 1) and (rows, columns // 2 + 1) frequencies in cycles/px."""
    fy = np.fft.fftfreq(rows).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(columns).astype(np.float32)[None, :]
    return fy, fx, np.hypot(fy, fx)
