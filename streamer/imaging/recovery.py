"""What a restored frame can be trusted for: power before and after, and where blur and noise have left nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamer.errors import FrameError
from streamer.imaging.blur import Baseline
from streamer.imaging.deblur import (
    RING_FREQUENCIES,
    PointSpread,
    SignalModel,
    point_spread,
    richardson_lucy,
    signal_model,
    wiener,
)
from streamer.imaging.spectrum import RINGS, SECTORS, NoiseShape, PolarPower, measure_spectrum
from streamer.records import FloatArray

Method = Literal["wiener", "richardson_lucy"]
METHODS: tuple[Method, ...] = ("wiener", "richardson_lucy")
NAMES: dict[Method, str] = {"wiener": "Wiener", "richardson_lucy": "Richardson-Lucy"}

NOTHING = "nothing to gain: what this blur takes away is below the noise of the frame, which is shown as it is"
_LEAST_GAIN = 0.03      # expected decrease of the error, relative to the frame merely smoothed
_BESIDE = 1             # sectors to either side of the direction of the blur
_GRID = 96              # frequencies a side at which the expected error is summed up
_NODES = np.linspace(0.004, 0.5, 497)
_VECTOR = NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class Recovery:
    """What restoring a frame has brought, along the direction of its blur."""

    method: Method
    text: str
    """One sentence for the user."""
    worthwhile: bool
    """False: nothing is to be gained, and the frame was given back as it was."""
    angle_deg: float | None
    """Direction of the blur, in which everything below holds; None: all directions alike."""
    frequency: _VECTOR
    """(24,) cycles/px."""
    before: _VECTOR
    """(24,) power of the structure in the blurred frame, free of noise."""
    after: _VECTOR
    """(24,) the same in the restored frame."""
    expected: _VECTOR
    """(24,) the same in a sharp frame: of the baseline, if given, else of the smooth model."""
    reach: float | None
    """Highest frequency, cycles/px, at which the blur has left more structure than there is noise."""
    half_period_px: float | None
    """``0.5 / reach``."""
    half_period_nm: float | None
    lost: tuple[tuple[float, float], ...]
    """Gaps below `reach`, about the zeros of the blur, where nothing was left (cycles/px)."""
    noise_gain: float
    """Standard deviation of the noise after over before, between 0.012 and 0.30 cycles/px."""
    expected_gain: float
    """Expected decrease of the rms error, relative to the blurred frame smoothed as well as can be."""


def restore(
    image: FloatArray, covariance_px2: NDArray[np.float64], shape: str = "", *, method: Method = "wiener",
    light: FloatArray | None = None, noise: NoiseShape | None = None, baseline: Baseline | None = None,
    pixel_size_nm: float | None = None,
) -> tuple[FloatArray, Recovery]:
    """Take the blur out of a frame as far as its noise allows, and say how far that was.

    Parameters
    ----------
    image : (M, N) float32 array
        Corrected intensity.
    covariance_px2 : (2, 2) array
        Of the blur, ``[[yy, yx], [yx, xx]]``, y down.
    shape : {"motion", "defocus", "mixed", ""}
        See `point_spread`.
    method : {"wiener", "richardson_lucy"}
    light : (M, N) float32 array, optional
        Expected photons, 1 = brightest.
    noise : NoiseShape, optional
        Measured on flats.
    baseline : Baseline, optional
        Of sharp frames of the same scene, to compare with.
    pixel_size_nm : float, optional
        For the statement.

    Returns
    -------
    restored : (M, N) float32 array
        The frame itself where nothing is to be gained.
    recovery : Recovery

    Raises
    ------
    FrameError
        If the frame is too small or dark, the covariance is not finite, or shape or method is not known.
    """
    if method not in METHODS:
        raise FrameError(f"method is {method!r}; expected {' or '.join(METHODS)}")
    spread = point_spread(covariance_px2, shape)
    before = measure_spectrum(image, light, noise).power
    model = signal_model(before, spread, noise=noise, light=light)
    gain = expected_gain(spread, model)
    if gain < _LEAST_GAIN:
        return image, _nothing(method, before, spread, model, gain)
    restored = (wiener if method == "wiener" else richardson_lucy)(image, spread, model)
    after = measure_spectrum(restored, light).power
    return restored, _describe(method, before, after, spread, model, gain, noise, baseline, pixel_size_nm)


def expected_gain(spread: PointSpread, model: SignalModel) -> float:
    """Return by which share the error falls when the frame is restored and not just smoothed.

    Both errors are those of the best linear filter, against the sharp frame.
    """
    axis = (np.arange(_GRID) + 0.5) / (2 * _GRID)
    fy, fx = np.concatenate([-axis[::-1], axis])[:, None], axis[None, :]
    radius = np.hypot(fy, fx)
    transfer, ratio, signal = spread.transfer(fy, fx), model.ratio(radius), model.signal(radius)
    seen = transfer**2
    smooth = seen / (seen + ratio)
    smoothed = float(np.sum(signal * ((1 - smooth * transfer) ** 2 + smooth**2 * ratio)))
    best = float(np.sum(signal * ratio / (seen + ratio)))
    return 1.0 - float(np.sqrt(best / max(smoothed, 1e-30)))


def _reach(spread: PointSpread, model: SignalModel) -> tuple[float | None, tuple[tuple[float, float], ...]]:
    """Highest frequency with more structure than noise along the blur, and the gaps below it."""
    dy, dx = _direction(spread)
    clear = spread.transfer(dy * _NODES, dx * _NODES) ** 2 > model.ratio(_NODES)
    if not clear.any():
        return None, ()
    last = int(np.flatnonzero(clear)[-1])
    edges = np.flatnonzero(np.diff(np.concatenate([[1], clear[:last + 1].astype(int)])))
    gaps = tuple((float(_NODES[start]), float(_NODES[stop])) for start, stop in edges.reshape(-1, 2))
    return float(_NODES[last]), gaps


def _direction(spread: PointSpread) -> tuple[float, float]:
    """Return the unit vector (dy, dx) of the larger variance."""
    length = float(np.hypot(*spread.motion))
    return (spread.motion[0] / length, spread.motion[1] / length) if length > 0 else (0.0, 1.0)


def _angle(spread: PointSpread) -> float | None:
    if not any(spread.motion):
        return None
    dy, dx = spread.motion
    angle = float(np.degrees(np.arctan2(-dy, dx)))
    return angle - 180 if angle > 90 else angle + 180 if angle <= -90 else angle


def _sectors(spread: PointSpread) -> NDArray[np.intp]:
    """Sectors of a polar power that look along the blur; all when it has no direction."""
    if not any(spread.motion):
        return np.arange(SECTORS)
    dy, dx = spread.motion
    own = int(np.floor((np.arctan2(dy, dx) / np.pi + 0.5) * SECTORS)) % SECTORS
    return np.arange(own - _BESIDE, own + _BESIDE + 1) % SECTORS


def _rings(power: FloatArray, counts: FloatArray, sectors: NDArray[np.intp]) -> _VECTOR:
    """(24,) mean over some sectors, NaN where there is no mode."""
    weight = counts[:, sectors].astype(np.float64)
    total = weight.sum(1)
    sums = (power[:, sectors] * weight).sum(1)
    means: _VECTOR = np.divide(sums, total, out=np.full(RINGS, np.nan), where=total > 0)
    return means


def _noise_bins(power: PolarPower, noise: NoiseShape | None) -> FloatArray:
    shape = np.ones_like(power.power) if noise is None else noise.bins
    return np.float32(power.floor) * shape


def _describe(
    method: Method, before: PolarPower, after: PolarPower, spread: PointSpread, model: SignalModel, gain: float,
    noise: NoiseShape | None, baseline: Baseline | None, pixel_size_nm: float | None,
) -> Recovery:
    sectors = _sectors(spread)
    total = np.maximum(before.power, 0) + _noise_bins(before, noise)
    passed = np.maximum(after.power + np.float32(after.floor), 0) / np.maximum(total, 1e-30)
    blurred = np.maximum(_rings(before.power, before.counts, sectors), 0.0)
    restored = np.maximum(_rings(before.power * passed, before.counts, sectors), 0.0)
    if baseline is not None and baseline.power.shape == before.power.shape:
        expected = np.maximum(_rings(baseline.power, before.counts, sectors), 0.0)
    else:
        expected = model.signal(RING_FREQUENCIES)
    weight = before.counts * _noise_bins(before, noise)
    amplified = float(np.sqrt(np.sum(weight * passed) / max(float(np.sum(weight)), 1e-30)))
    reach, lost = _reach(spread, model)
    half_px = None if reach is None else 0.5 / reach
    half_nm = None if half_px is None or not pixel_size_nm else half_px * pixel_size_nm
    return Recovery(method, _sentence(method, reach, half_nm, lost, _angle(spread), amplified), True, _angle(spread),
                    RING_FREQUENCIES, blurred, restored, expected, reach, half_px, half_nm, lost, amplified, gain)


def _nothing(method: Method, power: PolarPower, spread: PointSpread, model: SignalModel, gain: float) -> Recovery:
    blurred = np.maximum(_rings(power.power, power.counts, _sectors(spread)), 0.0)
    return Recovery(method, NOTHING, False, _angle(spread), RING_FREQUENCIES, blurred, blurred,
                    model.signal(RING_FREQUENCIES), None, None, None, (), 1.0, gain)


def _sentence(
    method: Method, reach: float | None, half_nm: float | None, lost: tuple[tuple[float, float], ...],
    angle_deg: float | None, noise_gain: float,
) -> str:
    where = "in all directions" if angle_deg is None else f"along {round(angle_deg)} deg"
    if reach is None:
        return f"{NAMES[method]}: the blur has left nothing above the noise {where}; a preview, not data"
    size = f"half-period {0.5 / reach:.1f} px" + (f", {half_nm:.0f} nm" if half_nm is not None else "")
    gaps = ", ".join(f"{low:.3f}-{high:.3f}" for low, high in lost[:3]) + (", ..." if len(lost) > 3 else "")
    without = f" without {gaps}" if gaps else ""
    beyond = "" if reach >= float(_NODES[-1]) else ", nothing beyond"
    return (f"{NAMES[method]} restores up to {reach:.2g} cycles/px ({size}) {where}{without}{beyond}; "
            f"noise x {noise_gain:.1f}; a preview, not data")
