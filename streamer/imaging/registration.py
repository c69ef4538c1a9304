"""Rigid registration of a frame to a reference.

The sign: ``image(y, x) = reference(y - dy, x - dx)``; content that ``numpy.roll(image, (3, -2), (0, 1))``
moves has ``(dy, dx) = (+3, -2)``.

A frame is first found (`acquisition`), then measured (`refinement`, by `tiles` and `rigid_fit`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.errors import FrameError
from streamer.imaging import acquisition, tiles
from streamer.imaging.prepared import Prepared, half, half_usable, prepare_frame, working_binning
from streamer.imaging.refinement import refine
from streamer.imaging.smoothing import best_smoothing
from streamer.once import once
from streamer.records import FloatArray

DOUBTED = 0.1
"""What is left of the quality of a match that has a rival or may be no match of the sample."""
STRUCTURED_SIGMAS = 12.0
"""The strongest of 100 tiles of pure noise stays below 8."""
STILL_WITH_FLATS, STILL_WITHOUT_FLATS = 0.8, 0.9
"""Correlation, noise apart, that a sample at rest must show at zero to be told from a fixed pattern."""
PATTERN_REACH_PX = 1.5
APART_PX = 2.0
"""Coarse pixels that the refinement may move away from where it started."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A frame that others are measured against, with its tile caches, which are built when first needed."""

    id: int
    frame: Prepared
    warm: bool = True
    """Whether it may hold its tile caches, which take five times the memory of the rest."""

    @property
    def levels(self) -> tuple[tiles.Level, tiles.Level]:
        """The tile caches, coarse and fine."""
        return self._coarse, self._fine

    @property
    def structured(self) -> bool:
        """Whether there is anything to hold on to, beyond what noise shows by chance."""
        return self._coarse.structure > STRUCTURED_SIGMAS

    @property
    def ready(self) -> bool:
        """Whether the tile caches are there."""
        return "_fine" in self.__dict__

    def prepare(self) -> None:
        """Build the tile caches before somebody has to wait for them; from any thread."""
        _ = self.levels

    def warmed(self) -> Reference:
        """Return this one, or a copy of one without caches that builds them."""
        return self if self.warm else replace(self, warm=True)

    def small(self) -> Reference:
        """Return a copy to be kept, without caches."""
        return replace(self, warm=False)

    @once
    def _coarse(self) -> tiles.Level:
        frame = self.frame
        return tiles.prepare_level(half(frame.contrast), half_usable(frame.usable), sigma_px=1.2, mean=frame.mean,
                                   flats=frame.flats)

    @once
    def _fine(self) -> tiles.Level:
        frame = self.frame
        sigma_px = best_smoothing(frame.contrast, 4.0 * float(np.median(self._coarse.noise)))
        return tiles.prepare_level(frame.contrast, frame.usable, sigma_px=sigma_px, mean=frame.mean,
                                   flats=frame.flats)

    def __getstate__(self) -> dict[str, Any]:
        """Go to another process with the caches: they are built once, not there for every frame."""
        if self.warm:
            self.prepare()
        return self.__dict__


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
    magnification: float | None = None
    """Change of all distances relative to the reference, 0.005 = half a percent larger; None = not measured."""
    turned: bool = False
    """Rotation or magnification are beyond doubt and taken out of the shift, which is that of the centre."""
    turn_sigma_rad: float = 0.0
    """Standard error of both: times the distance from the centre, the error of what is there."""
    deformation_px: float = 0.0
    """Root mean square of the smooth deformation of what is seen of the reference, about the shift."""
    pull_px: float = 0.0
    """Part of `sigma_px` that neighbouring frames share: what a fixed pattern may pull."""
    seen_pull_px: float = 0.0
    """As much of that as is seen in the residual, not only possible."""
    ambiguous: bool = False
    """Another shift explains the frame as well."""
    problem: str = ""
    """Why there is no (good) answer; empty when there is one."""
    inliers: float = 0.0
    """Share of the structure that moved together."""
    reference_id: int | None = None


def prepare_reference(image: NDArray[Any], *, id: int, weight: FloatArray | None = None,  # noqa: A002
                      flats: int = 0) -> Reference:
    """Make a frame the reference that others are registered to.

    Parameters
    ----------
    image : (M, N)
        Corrected frame: transmission or counts.
    id : int
        Comes back as `Registration.reference_id`.
    weight : (M, N), optional
        Expected photons per pixel, on any scale.
    flats : int
        Exposures in the flat that the image was divided by, 0 = none or not known. Their noise stays where it is
        when the sample moves, and is allowed for.

    Raises
    ------
    FrameError
        If the image is not a two-dimensional frame of at least 64 x 64 real pixels.
    """
    return Reference(id, prepare_frame(image, weight=weight, flats=flats))


def register(reference: Reference, image: NDArray[Any], *, weight: FloatArray | None = None,
             min_overlap: float = 0.12, flats: int = 0) -> Registration:
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
    flats : int
        As in `prepare_reference`.

    Returns
    -------
    Registration
        With low `quality` and a `problem` when there is no unique answer; never an exception for content.

    Raises
    ------
    FrameError
        If the image is not a frame of the shape of the reference.
    """
    return register_prepared((reference,), prepare_frame(image, weight=weight, flats=flats),
                             min_overlap=min_overlap)


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
    reference = reference.warmed()
    ranked = _past_the_pattern(reference, frame, ranked)
    best = ranked[0]
    quality = max(math.tanh(best.score), 0.0)
    if quality <= 0.0:
        return _nothing(reference, "shares no structure with the reference")
    rival = acquisition.rival(reference.frame.coarse, frame.coarse, ranked, min_overlap=min_overlap)
    motion = refine(reference.levels, frame, (best.dy, best.dx))
    if motion is None:
        return _nothing(reference, "too little structure in the overlap to measure the shift")
    problem, working = "", working_binning(frame.shape)
    apart = math.hypot(motion.dy / working - best.dy, motion.dx / working - best.dx)
    if rival is not None:
        problem = f"repeating structure: ({rival.dy * working:.0f}, {rival.dx * working:.0f}) px fits as well"
    elif apart > APART_PX * frame.coarse.binning:
        problem = f"the shift found and the shift measured are {apart * working:.0f} px apart"
    elif _may_be_pattern(reference, frame, (motion.dy, motion.dx), best.correlation):
        problem = "only the fixed pattern of the detector or the illumination seems to match"
    if problem:
        quality *= DOUBTED
    return Registration(
        motion.dy, motion.dx, motion.sigma_px, quality, best.overlap, motion.rotation_deg, motion.stretch,
        motion.turned, motion.turn_sigma_rad, motion.deformation_px, motion.pull_px, motion.seen_pull_px,
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


def reference_state(reference: Reference) -> dict[str, Any]:
    """Return a reference as builtins and arrays, without what can be computed again."""
    frame = reference.frame
    return {"id": reference.id, "contrast": frame.contrast, "usable": frame.usable,
            "coarse": frame.coarse.image, "shape": list(frame.shape), "weighted": frame.weighted,
            "flats": frame.flats, "mean": frame.mean}


def reference_from_state(state: Mapping[str, Any]) -> Reference:
    """Return the reference that `reference_state` described, small."""
    shape = (int(state["shape"][0]), int(state["shape"][1]))
    contrast = np.asarray(state["contrast"])
    coarse = acquisition.with_spectrum(np.asarray(state["coarse"]), binning=acquisition.binning_for(contrast.shape))
    frame = Prepared(contrast, state["usable"], coarse, shape, bool(state["weighted"]), int(state["flats"]),
                     float(state["mean"]))
    return Reference(int(state["id"]), frame, warm=False)
