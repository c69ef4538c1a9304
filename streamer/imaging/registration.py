"""Rigid registration of a frame to a reference.

The sign: ``image(y, x) = reference(y - dy, x - dx)``; content that ``numpy.roll(image, (3, -2), (0, 1))``
moves has ``(dy, dx) = (+3, -2)``.

A frame is first found (`acquisition`), then measured (`tiles`). The square root of the intensity is
compared, whose photon noise is the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.errors import FrameError
from streamer.imaging import acquisition, tiles
from streamer.imaging.rigid_fit import Fit, fit_motion
from streamer.records import BoolArray, FloatArray

SMALLEST_SIDE_PX = 64
"""Below this a frame has too few tiles."""
FULL_SIDE_PX = 1200
"""Frames with a longer short side are measured on a binned copy: the error stays below 0.01 px."""
USABLE_SHARE = 0.05
"""Pixels with less light than this share of the bright level are not used."""
NOISY = 0.002
"""Variance of the contrast per pixel (125 photons) from which the finest detail is only noise."""
LARGEST_ROUNDS = 5
CLOSE_PX, CLOSE_RAD = 0.05, 1e-4
"""The refinement ends when a step is smaller than this; its error is then far smaller."""
RIGID_SHARE, LEAST_SCATTER_PX = 0.5, 0.03
"""A rotation must explain this much of the scatter of the tiles, which must be worth it; else it is deformation."""
TURN_SIGMA_RAD = 3.5e-4
"""A rotation with a larger error (0.02 degrees) is not reported."""
DOUBTED = 0.1
"""What is left of the quality of a match that has a rival or may be no match of the sample."""
STILL_WITH_FLATS, STILL_WITHOUT_FLATS = 0.8, 0.9
"""Correlation, noise apart, that a sample at rest must show at zero to be told from a fixed pattern."""
PATTERN_REACH_PX = 1.5
PATTERN_PULL, PATTERN_RANGE_PX, LARGEST_PULL_PX = 5.0, 12.0, 0.5
"""Without flats, errors are so much larger than the scatter of the tiles, within this distance of zero."""
ERROR_FLOOR_PX = 0.003


@dataclass(frozen=True, eq=False)
class Prepared:
    """A frame that is ready to be compared."""

    contrast: FloatArray
    """(M, N) float32 about 0, at the working resolution."""
    usable: BoolArray | None
    """(M, N) at the working resolution; None = all."""
    coarse: acquisition.Coarse
    shape: tuple[int, int]
    """Of the frame as it came."""
    weighted: bool
    """The light on each pixel is known: the frame is corrected with flats."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A frame that others are measured against, with everything that can be computed beforehand."""

    id: int
    frame: Prepared
    levels: tuple[tiles.Level, ...] = ()
    """Coarse to fine; empty in a reference that was made small to be kept."""

    def small(self) -> Reference:
        """Return a copy without the tile caches, a sixth of the memory; they are rebuilt when needed."""
        return replace(self, levels=())


@dataclass(frozen=True)
class Registration:
    """Where the content of a frame is, relative to a reference."""

    dy: float
    """Pixels; NaN when nothing was found."""
    dx: float
    sigma_px: float | None
    """Predicted standard error per axis."""
    quality: float
    """0 to 1: normalised correlation of the real overlap, less what chance would give."""
    overlap: float
    """Share of the frame that shows the same part of the sample."""
    rotation_deg: float | None = None
    """From +x towards +y, about the centre of the reference; None when it was not measured."""
    ambiguous: bool = False
    """Another shift explains the frame as well."""
    problem: str = ""
    """Why there is no (good) answer; empty when there is one."""
    inliers: float = 0.0
    """Share of the structure that moved together."""
    reference_id: int | None = None


class _Motion(NamedTuple):
    """Result of the refinement, in pixels of the frame."""

    dy: float
    dx: float
    sigma_px: float
    rotation_deg: float | None
    inliers: float


def prepare_reference(image: NDArray[Any], *, id: int, weight: FloatArray | None = None) -> Reference:  # noqa: A002
    """Compute what registering against `image` needs.

    Parameters
    ----------
    image : (M, N)
        Corrected frame: transmission or counts.
    id : int
        Comes back as `Registration.reference_id`.
    weight : (M, N), optional
        Expected photons per pixel, on any scale.

    Raises
    ------
    FrameError
        If the image is not a two-dimensional frame of at least 64 x 64 real pixels.
    """
    frame = prepare_frame(image, weight=weight)
    return reference_of(frame, id=id)


def reference_of(frame: Prepared, *, id: int) -> Reference:  # noqa: A002
    """Make a reference of a frame that is prepared already."""
    return with_levels(Reference(id, frame))


def with_levels(reference: Reference) -> Reference:
    """Return the reference with its tile caches, building them if it is a small one."""
    if reference.levels:
        return reference
    frame = reference.frame
    half = tiles.prepare_level(_half(frame.contrast), _half_usable(frame.usable), sigma_px=1.2)
    noise = 4.0 * float(np.median(half.noise))
    full = tiles.prepare_level(frame.contrast, frame.usable, sigma_px=1.2 if noise < NOISY else 1.5)
    return replace(reference, levels=(half, full))


def register(reference: Reference, image: NDArray[Any], *, weight: FloatArray | None = None,
             min_overlap: float = 0.12) -> Registration:
    """Measure where the content of `image` is, relative to `reference`.

    Parameters
    ----------
    reference : Reference
    image : (M, N)
        Corrected frame, of the shape of the reference.
    weight : (M, N), optional
        Expected photons per pixel, on any scale.
    min_overlap : float
        Smallest share of the frame that must show the same part of the sample.

    Returns
    -------
    Registration
        With low `quality` and a `problem` when there is no unique answer; never an exception for content.

    Raises
    ------
    FrameError
        If the image is not a frame of the shape of the reference.
    """
    return register_prepared((reference,), prepare_frame(image, weight=weight), min_overlap=min_overlap)


def register_prepared(references: Sequence[Reference], frame: Prepared, *, min_overlap: float = 0.12) -> Registration:
    """Find out which of the references shows most of a prepared frame, and measure against that one.

    Raises
    ------
    FrameError
        If the frame does not have the shape of the references.
    """
    finds = []
    for reference in references:
        if frame.shape != reference.frame.shape:
            raise FrameError(f"frame has shape {frame.shape}, its reference has {reference.frame.shape}; "
                             "frames of one view must have one shape")
        finds.append(acquisition.candidates(reference.frame.coarse, frame.coarse, min_overlap=min_overlap))
    number = max(range(len(finds)), key=lambda place: finds[place][0].evidence if finds[place] else -math.inf)
    return _measure(references[number], frame, finds[number], min_overlap=min_overlap)


def _measure(reference: Reference, frame: Prepared, ranked: list[acquisition.Candidate], *,
             min_overlap: float) -> Registration:
    if not ranked:
        return _nothing(reference, "no structure in the frame or in its reference")
    reference = with_levels(reference)
    ranked = _past_the_pattern(reference, frame, ranked)
    best = ranked[0]
    quality = max(math.tanh(best.score), 0.0)
    if quality <= 0.0:
        return _nothing(reference, "shares no structure with the reference")
    rival = acquisition.rival(reference.frame.coarse, frame.coarse, ranked, min_overlap=min_overlap)
    motion = _refine(reference, frame, (best.dy, best.dx))
    if motion is None:
        return _nothing(reference, "too little structure in the overlap to measure the shift")
    problem = ""
    if rival is not None:
        problem = f"repeating structure: ({rival.dy:.0f}, {rival.dx:.0f}) px fits as well"
    elif _may_be_pattern(reference, frame, (motion.dy, motion.dx), best.correlation):
        problem = "only the fixed pattern of the detector or the illumination seems to match"
    if problem:
        quality *= DOUBTED
    return Registration(motion.dy, motion.dx, motion.sigma_px, quality, best.overlap, motion.rotation_deg,
                        rival is not None, problem, motion.inliers, reference.id)


def _past_the_pattern(reference: Reference, frame: Prepared,
                      ranked: list[acquisition.Candidate]) -> list[acquisition.Candidate]:
    """Prefer another place that matches when the match at zero may be one of what does not move."""
    best = ranked[0]
    if not _may_be_pattern(reference, frame, (best.dy, best.dx), best.correlation):
        return ranked
    elsewhere = [candidate for candidate in ranked
                 if candidate.score > 0.0 and math.hypot(candidate.dy, candidate.dx) > 2.0 * PATTERN_REACH_PX]
    return elsewhere or ranked


def _may_be_pattern(reference: Reference, frame: Prepared, shift: tuple[float, float], correlation: float) -> bool:
    """Tell whether a match lies at zero and explains too little.

    A sample at rest repeats itself but for the noise. The pattern of detector and illumination, which is at
    zero whatever the sample does, explains only its own part of the frame.
    """
    if math.hypot(*shift) > PATTERN_REACH_PX:
        return False
    noise = 4.0 * float(np.median(reference.levels[0].noise)) / reference.frame.coarse.binning**2
    signal = [max(1.0 - noise / max(float(coarse.image.var()), 1e-12), 0.2)
              for coarse in (reference.frame.coarse, frame.coarse)]
    needed = STILL_WITH_FLATS if frame.weighted else STILL_WITHOUT_FLATS
    return correlation < needed * math.sqrt(signal[0] * signal[1])


def _nothing(reference: Reference, problem: str) -> Registration:
    return Registration(math.nan, math.nan, None, 0.0, 0.0, problem=problem, reference_id=reference.id)


def _refine(reference: Reference, frame: Prepared, start: tuple[float, float]) -> _Motion | None:
    """Measure shift and rotation to a fraction of a pixel."""
    working = _working_binning(frame.shape)
    shift = np.asarray(start, np.float64) / working
    half_level, full_level = reference.levels
    found = tiles.match_tiles(half_level, _half(frame.contrast), (shift[0] / 2, shift[1] / 2),
                              _half_usable(frame.usable))
    fit = None if found is None else fit_motion(found)
    if fit is not None:
        shift = fit.shift * 2.0
    settled = _settle(full_level, frame, shift)
    if settled is None:
        return None
    fit, turn_rad = _with_rotation(full_level, frame, *settled)
    sigma = math.hypot(math.sqrt(max(float(np.trace(fit.covariance)) / 2.0, 0.0)), ERROR_FLOOR_PX)
    if not frame.weighted:   # what does not move pulls all tiles the same way, which their scatter does not show
        away = float(fit.shift @ fit.shift)
        sigma = math.hypot(sigma, min(PATTERN_PULL * sigma, LARGEST_PULL_PX) * math.exp(-away / PATTERN_RANGE_PX**2))
    dy, dx = (float(value) * working for value in fit.shift)
    return _Motion(dy, dx, sigma * working, None if turn_rad is None else math.degrees(turn_rad), fit.inliers)


def _settle(level: tiles.Level, frame: Prepared, shift: NDArray[np.float64]) -> tuple[tiles.Tiles, Fit] | None:
    """Repeat the match until it stands still."""
    settled = None
    for _ in range(LARGEST_ROUNDS):
        found = tiles.match_tiles(level, frame.contrast, (float(shift[0]), float(shift[1])), frame.usable)
        fit = None if found is None else fit_motion(found)
        if found is None or fit is None:
            return None
        settled, step, shift = (found, fit), float(np.abs(fit.shift - shift).max()), fit.shift
        if step < CLOSE_PX:
            break
    return settled


def _with_rotation(level: tiles.Level, frame: Prepared, found: tiles.Tiles, fit: Fit) -> tuple[Fit, float | None]:
    """Return the fit with the rotation taken out, if there is one, and the rotation, if it can be told."""
    turned = fit_motion(found, turning=True)
    if turned is None:
        return fit, None
    rigid = turned.scatter_px < RIGID_SHARE * fit.scatter_px and fit.scatter_px > LEAST_SCATTER_PX
    if not (rigid and abs(turned.turn_rad) > 5.0 * turned.turn_sigma_rad):
        return fit, turned.turn_rad if turned.turn_sigma_rad < TURN_SIGMA_RAD else None
    shift, turn_rad, last = fit.shift, turned.turn_rad, turned
    for _ in range(LARGEST_ROUNDS):
        warped, usable = _turned_back(frame, shift, turn_rad, margin=8)
        again = tiles.match_tiles(level, warped, (0.0, 0.0), usable)
        rest = None if again is None else fit_motion(again, turning=True)
        if rest is None:
            return fit, None
        cosine, sine = math.cos(turn_rad), math.sin(turn_rad)
        shift = shift + np.array([[cosine, sine], [-sine, cosine]]) @ rest.shift
        turn_rad += rest.turn_rad
        last = rest
        if float(np.abs(rest.shift).max()) < CLOSE_PX and abs(rest.turn_rad) < CLOSE_RAD:
            break
    return last._replace(shift=shift), turn_rad


def _turned_back(frame: Prepared, shift: NDArray[np.float64], turn_rad: float, *,
                 margin: int) -> tuple[FloatArray, BoolArray]:
    """Return the frame moved and turned back onto its reference, and which pixels of that are real."""
    rows, columns = frame.contrast.shape
    centre_y, centre_x = (rows - 1) / 2, (columns - 1) / 2
    cosine, sine = math.cos(turn_rad), math.sin(turn_rad)
    matrix = np.array([[cosine, -sine, centre_x + shift[1] - cosine * centre_x + sine * centre_y],
                       [sine, cosine, centre_y + shift[0] - sine * centre_x - cosine * centre_y]])
    real = np.zeros((rows, columns), np.uint8)
    inner = (slice(margin, rows - margin), slice(margin, columns - margin))
    real[inner] = 1 if frame.usable is None else frame.usable[inner]
    size = (columns, rows)
    warped = cv2.warpAffine(frame.contrast, matrix, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    usable = cv2.warpAffine(real, matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return np.asarray(warped), np.asarray(usable, np.bool_)


def _working_binning(shape: tuple[int, int]) -> int:
    return max(1, min(shape) // FULL_SIDE_PX + (min(shape) > FULL_SIDE_PX))


def prepare_frame(image: NDArray[Any], *, weight: FloatArray | None = None) -> Prepared:
    """Bring a frame into the form in which frames are compared; parameters and errors as `prepare_reference`."""
    if image.ndim != 2 or min(image.shape) < SMALLEST_SIDE_PX:
        raise FrameError(f"frame has shape {image.shape}; expected two dimensions of at least {SMALLEST_SIDE_PX} px")
    if image.dtype.kind not in "buif":
        raise FrameError(f"frame has type {image.dtype}; expected real numbers")
    if weight is not None and weight.shape != image.shape:
        raise FrameError(f"weight has shape {weight.shape}, its frame {image.shape}; they must be equal")
    binning = _working_binning((image.shape[0], image.shape[1]))
    values = _area(image.astype(np.float32, copy=False), binning)
    if not math.isfinite(float(values.sum())):
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    usable, trust = None, None
    if weight is not None:
        light = _area(weight.astype(np.float32, copy=False), binning)
        bright = float(np.percentile(light[::8, ::8], 90))
        if bright > 0.0:
            trust = np.sqrt(np.clip(acquisition.binned(light) / bright, 0.0, 1.0))
            if float(light.min()) < USABLE_SHARE * bright:
                usable = light >= USABLE_SHARE * bright
    contrast = _contrast(values, usable)
    shape = (image.shape[0], image.shape[1])
    return Prepared(contrast, usable, acquisition.coarsen(contrast, trust), shape, weight is not None)


def _contrast(values: FloatArray, usable: BoolArray | None) -> FloatArray:
    """Square root of the intensity in units of its mean, less one: its photon noise is the same everywhere."""
    lit = values if usable is None else values[usable]
    mean = float(lit.mean()) if lit.size else 0.0
    if not mean > 0.0:
        return np.zeros_like(values)
    contrast = np.clip(values, 0.0, 4.0 * mean)
    contrast *= np.float32(1.0 / mean)
    np.sqrt(contrast, out=contrast)
    contrast -= np.float32(1.0)
    if usable is not None:
        contrast *= usable
    return contrast


def _area(image: FloatArray, binning: int) -> FloatArray:
    if binning == 1:
        return image
    rows, columns = image.shape[0] // binning, image.shape[1] // binning
    crop = image[:rows * binning, :columns * binning]
    return np.asarray(cv2.resize(crop, (columns, rows), interpolation=cv2.INTER_AREA))


def _half_usable(usable: BoolArray | None) -> BoolArray | None:
    return None if usable is None else _half(usable.astype(np.float32)) > 0.99


def _half(image: FloatArray) -> FloatArray:
    return _area(image, 2)


def reference_state(reference: Reference) -> dict[str, Any]:
    """Return a reference as builtins and arrays, without what can be computed again."""
    frame = reference.frame
    return {"id": reference.id, "contrast": frame.contrast, "usable": frame.usable,
            "coarse": frame.coarse.image, "shape": list(frame.shape), "weighted": frame.weighted}


def reference_from_state(state: Mapping[str, Any]) -> Reference:
    """Return the reference that `reference_state` described, small."""
    shape = (int(state["shape"][0]), int(state["shape"][1]))
    contrast = np.asarray(state["contrast"])
    coarse = acquisition.with_spectrum(np.asarray(state["coarse"]), binning=acquisition.binning_for(contrast.shape))
    frame = Prepared(contrast, state["usable"], coarse, shape, bool(state["weighted"]))
    return Reference(int(state["id"]), frame)
