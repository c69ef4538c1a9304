"""What a user would pick instead: registration from the libraries at hand, on the same corrected frames."""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from drift_figures import Judged
from skimage.registration import phase_cross_correlation

from streamer.imaging.registration import Reference, prepare_reference, register
from streamer.records import FloatArray

Shift = tuple[float, float]
"""Drift of the second frame relative to the first, (y, x) px; NaN where there is none."""
Method = Callable[[FloatArray, FloatArray], Shift]

OURS, OURS_PAIR = "this streamer", "this streamer, one pair"
CHAINED = ("long",)
"""Cases in which the sample leaves the view of the first frame: every frame against the one before."""
CHAINED_FRAMES = 300
COMPARED = ("base", "50", "dim", "pattern", "slow", "growth", "rotation", "local", "long", "raw", "large")
_EVERY = 3
_SPARED = {"skimage, masked": 18, "pystackreg": 9, "imreg_dft": 9}
"""Only every so many frames, of large frames three times as few; the slow ones are never chained."""
_ECC_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-4)


class Tried(NamedTuple):
    """One pair of frames."""

    case: str
    method: str
    seed: int
    index: int
    error_px: float
    """NaN when the method gave up."""
    elapsed_ms: float
    """CPU time; NaN where it is told elsewhere."""


def _skimage(upsample_factor: int) -> Method:
    def shift(reference: FloatArray, image: FloatArray) -> Shift:
        found = phase_cross_correlation(reference, image, upsample_factor=upsample_factor)[0]
        return -float(found[0]), -float(found[1])
    return shift


def _masked(reference: FloatArray, image: FloatArray) -> Shift:
    everywhere = np.ones(reference.shape, bool)
    found = phase_cross_correlation(reference, image, reference_mask=everywhere, moving_mask=everywhere)[0]
    return -float(found[0]), -float(found[1])


def _phase_correlate(reference: FloatArray, image: FloatArray) -> Shift:
    (x, y), _response = cv2.phaseCorrelate(reference, image, cv2.createHanningWindow(reference.shape[::-1], cv2.CV_32F))
    return y, x


def _ecc(reference: FloatArray, image: FloatArray) -> Shift:
    y, x = _phase_correlate(reference, image)
    warp = np.array([[1, 0, x], [0, 1, y]], np.float32)
    warp = cv2.findTransformECC(reference, image, warp, cv2.MOTION_TRANSLATION, _ECC_STOP)[1]
    return float(warp[1, 2]), float(warp[0, 2])


def _stackreg(reference: FloatArray, image: FloatArray) -> Shift:
    from pystackreg import StackReg  # noqa: PLC0415  (an extra)

    matrix = StackReg(StackReg.TRANSLATION).register(reference, image)
    return float(matrix[1, 2]), float(matrix[0, 2])


def _imreg(reference: FloatArray, image: FloatArray) -> Shift:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")   # about its own escape sequences
        import imreg_dft  # noqa: PLC0415  (an extra)

    found = imreg_dft.translation(reference, image)["tvec"]
    return -float(found[0]), -float(found[1])


class _OnePair:
    """Ours without a track; the caches of the reference are made once, as in the pipeline."""

    def __init__(self) -> None:
        self._reference: tuple[FloatArray, Reference] | None = None

    def prepare(self, reference: FloatArray) -> None:
        """Build the caches beforehand."""
        if self._reference is None or self._reference[0] is not reference:
            self._reference = reference, prepare_reference(reference, id=0)

    def __call__(self, reference: FloatArray, image: FloatArray) -> Shift:
        self.prepare(reference)
        assert self._reference is not None
        found = register(self._reference[1], image)
        return (found.dy, found.dx) if not found.problem else (np.nan, np.nan)


def methods() -> Mapping[str, Method]:
    """Return the peers that are installed, by name, and ours on a single pair."""
    extra = {"pystackreg": _stackreg, "imreg_dft": _imreg}
    return {
        OURS_PAIR: _OnePair(), "skimage, up 10": _skimage(10), "skimage, up 100": _skimage(100),
        "skimage, masked": _masked, "cv2.phaseCorrelate, Hann": _phase_correlate, "cv2 ECC": _ecc,
        **{name: method for name, method in extra.items() if importlib.util.find_spec(name)}}


def try_peers(judged: Sequence[Judged], images: Sequence[FloatArray]) -> Iterator[Tried]:
    """Register every usable frame with every method; of ours, repeat what the pipeline reported.

    Parameters
    ----------
    judged : sequence of Judged
        One sequence of one view.
    images : sequence of ndarray
        Its corrected frames.
    """
    usable = [(one, image) for one, image in zip(judged, images, strict=True) if one.truth.condition == "good"]
    chained = judged[0].case in CHAINED
    for one, _image in usable[1:]:
        yield Tried(one.case, OURS, one.seed, one.index, one.error_px, np.nan)
    for name, method in methods().items():
        if chained and name in _SPARED:
            continue
        every = 1 if chained else _SPARED.get(name, _EVERY) * (3 if max(images[0].shape) > 1024 else 1)
        place = np.zeros(2)
        for number in range(1 if chained else min(every, len(usable) - 1), len(usable), every):
            one, image = usable[number]
            base = usable[number - 1 if chained else 0][1]
            shift, spent = _timed(method, base, image)
            place = place + shift if chained else np.asarray(shift)
            error = float(np.hypot(*(place - one.truth.drift_px)))
            yield Tried(one.case, name, one.seed, one.index, error, spent)


def _timed(method: Method, reference: FloatArray, image: FloatArray) -> tuple[Shift, float]:
    if isinstance(method, _OnePair):
        method.prepare(reference)
    started = time.process_time()
    try:
        shift = method(reference, image)
    except (cv2.error, ValueError, ArithmeticError):   # what they raise when they do not converge
        shift = np.nan, np.nan
    return shift, 1e3 * (time.process_time() - started)
