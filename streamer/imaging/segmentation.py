"""Which pixels of a reference frame belong to which particle. Done once per reference, off the hot path."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from skimage.filters import threshold_otsu
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

from streamer.errors import FrameError
from streamer.records import BoolArray, FloatArray

Labels = NDArray[np.int32]

SMALLEST_PX = 32
"""Shortest side of a frame that is looked at."""
LEAST_SMOOTHING_PX, LARGEST_SMOOTHING_PX = 1.0, 6.0
CLEAR = 8.0
"""Smooth until the two classes are this many standard deviations of the noise apart."""
LEAST_CONTRAST = 5.0
"""Closer than this, what Otsu's threshold cuts in two is noise: its halves are 1.6 deviations apart."""
LEAST_STEEPNESS = 1.25
"""Mean squared gradient on the outline over that of the frame: 1 for uneven light, 1.5 and more for particles."""
FLAT = 1e-5
"""Range of brightness, relative to its mean, of an image that shows nothing."""
NECK = 0.8
"""A blob is cut where it is narrower than this share of its narrower part."""


class Mask(NamedTuple):
    """Where the particles are."""

    inside: BoolArray
    """(M, N)."""
    smoothing_px: float
    """Gaussian sigma that the noise asked for before the threshold."""
    reason: str = ""
    """Why the mask is empty; empty text when it is not."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Particles of a reference frame."""

    labels: Labels
    """(M, N): 0 between the particles, else the number of the particle, 1 ... n, from the top left on."""
    reason: str = ""
    """Why there are no particles; empty text when there are."""

    @property
    def count(self) -> int:
        """How many particles there are."""
        return int(self.labels.max(initial=0))


def mask(image: NDArray[Any], *, bright: bool = False, weight: NDArray[Any] | None = None) -> Mask:
    """Tell particles from what lies between them.

    Otsu's threshold (1979, doi:10.1109/TSMC.1979.4310076) on the image, smoothed as much as its noise asks for.

    Parameters
    ----------
    image : (M, N) array
        Transmission, reflectance, or intensity in any unit: a common factor has no effect.
    bright : bool
        Whether the particles are brighter than what lies between them (reflection) or absorb.
    weight : (M, N) array, optional
        Pixels of weight zero are not used, nor are those that are not finite; neither is in a particle.

    Returns
    -------
    Mask
        Empty, with the reason, where the image shows nothing but noise or uneven light.

    Raises
    ------
    FrameError
        If the image is not a plane of at least 32 px, or the weight has another shape.
    """
    plane, usable = _checked(image, weight)
    light = float(plane[usable].mean()) if usable.any() else 0.0
    if not light > 0:
        return _nothing(plane, "no light on any usable pixel")
    plane /= np.float32(light)
    grain = _noise(plane, usable)
    smoothing = LEAST_SMOOTHING_PX
    while True:
        smooth = _smoothed(plane, usable, smoothing)
        values = smooth[usable]
        if np.ptp(values) < FLAT:
            return _nothing(plane, "the image is constant")
        inside = smooth > threshold_otsu(values) if bright else smooth < threshold_otsu(values)
        contrast = abs(float(smooth[inside & usable].mean() - smooth[~inside & usable].mean()))
        left = grain / (2 * math.sqrt(math.pi) * smoothing)   # deviation of white noise after a Gaussian
        if contrast >= CLEAR * left or smoothing >= LARGEST_SMOOTHING_PX:
            break
        smoothing = min(LARGEST_SMOOTHING_PX, smoothing * math.sqrt(2))
    if contrast < LEAST_CONTRAST * left:
        return _nothing(plane, f"a contrast of {100 * contrast:.2g} % is {contrast / left:.1f} times the noise, "
                               f"less than {LEAST_CONTRAST:g}")
    inside &= usable
    if _steepness(smooth, inside, usable) < LEAST_STEEPNESS:
        return _nothing(plane, "brightness changes nowhere faster than elsewhere: uneven light, no outlines")
    return Mask(inside, smoothing)


def segment(image: NDArray[Any], *, bright: bool = False, least_area_px2: float = 80.0,
            weight: NDArray[Any] | None = None) -> Segmentation:
    """Find and number the particles of a reference frame; those that touch are cut at their necks.

    Watershed of the distance to the outline (Vincent & Soille 1991, doi:10.1109/34.87344), from those of its maxima
    that stand a fixed share above the neck between them.

    Parameters
    ----------
    image, bright, weight
        As for `mask`.
    least_area_px2 : float
        Smaller particles are left out.

    Returns
    -------
    Segmentation
        Without particles, with the reason, where there are none.

    Raises
    ------
    FrameError
        As for `mask`; or if `least_area_px2` is not positive.
    """
    if not least_area_px2 > 0:
        raise FrameError(f"particles: smallest area {least_area_px2} px^2; expected a positive number")
    found = mask(image, bright=bright, weight=weight)
    if found.reason:
        return Segmentation(np.zeros(found.inside.shape, np.int32), found.reason)
    labels = split(found.inside, least_area_px2=least_area_px2)
    reason = "" if labels.any() else f"particles: none is larger than {least_area_px2:g} px^2"
    return Segmentation(labels, reason)


def split(inside: NDArray[np.bool_], *, least_area_px2: float = 80.0) -> Labels:
    """Cut a mask into convex pieces.

    Parameters
    ----------
    inside : (M, N) bool
        Pixels of particles.
    least_area_px2 : float
        Smaller pieces are left out, and smaller holes are filled first.

    Returns
    -------
    (M, N) int32
        0, or the number of the piece, 1 ... n, in order of its first pixel.
    """
    whole = _filled(inside.astype(np.uint8), least_area_px2 / 2)
    distance = cv2.distanceTransform(whole, cv2.DIST_L2, cv2.DIST_MASK_5)
    # On a logarithm a fixed height is a fixed share; the slight blur takes the ridges of a pixel away.
    height = np.log(np.maximum(cv2.GaussianBlur(distance, (0, 0), 1.0), 0.1)).astype(np.float32)
    height[whole == 0] = height.min()
    peaks = h_maxima(height, -math.log(NECK))
    _, markers = cv2.connectedComponents(peaks.astype(np.uint8) & whole, connectivity=8)
    labels = watershed(-height, markers, mask=whole > 0)
    areas = np.bincount(labels.ravel())
    kept = areas >= least_area_px2
    kept[0] = False
    number = np.zeros(areas.size, np.int32)
    present, first = np.unique(labels, return_index=True)
    order = [label for label in present[np.argsort(first)] if kept[label]]
    number[order] = np.arange(1, len(order) + 1)
    return np.asarray(number[labels], np.int32)


def cells(labels: Labels, *, size_px: float = 24.0) -> Labels:
    """Cut particles that are larger than a size into cells of about that size.

    A large particle may lie across the seam between two regions, or deform by itself.

    Parameters
    ----------
    labels : (M, N) int32
        As of `segment`.
    size_px : float
        Side of a cell.

    Returns
    -------
    (M, N) int32
        0, or the number of the cell, 1 ... n; a cell lies within one particle.
    """
    if not size_px > 0:
        raise FrameError(f"particles: cells of {size_px} px; expected a positive size")
    y, x = np.nonzero(labels)
    owner = labels[y, x]
    area = np.bincount(owner)
    parts = np.where(area > 1.5 * size_px**2, np.maximum(np.round(area / size_px**2), 1), 1).astype(int)
    large = parts[owner] > 1
    raster = np.zeros(len(y), np.int64)
    rows, columns = (np.floor(axis[large] / size_px).astype(np.int64) for axis in (y, x))
    raster[large] = 1 + rows * (labels.shape[1] + 1) + columns
    _, cell = np.unique(np.stack([owner, raster]), axis=1, return_inverse=True)
    cell = _without_scraps(cell, owner, y, x, size_px)
    result = np.zeros(labels.shape, np.int32)
    result[y, x] = np.unique(cell, return_inverse=True)[1] + 1
    return result


def _without_scraps(cell: NDArray[np.intp], owner: NDArray[np.int32], y: NDArray[np.intp], x: NDArray[np.intp],
                    size_px: float) -> NDArray[np.intp]:
    """Give cells of less than a third of the size to the nearest larger one of the same particle."""
    count = np.bincount(cell)
    centre = np.stack([np.bincount(cell, axis) / count for axis in (y, x)], -1)
    particle = np.zeros(len(count), np.int64)
    particle[cell] = owner
    small = count < size_px**2 / 3
    target = np.arange(len(count))
    # particles are kept apart by a third coordinate that outweighs any distance in the frame
    place = np.column_stack([centre, 1e6 * particle])
    if small.any() and not small.all():
        distance, nearest = cKDTree(place[~small]).query(place[small])
        same = distance < 1e5
        target[np.flatnonzero(small)[same]] = np.flatnonzero(~small)[nearest[same]]
    return target[cell]


def _checked(image: NDArray[Any], weight: NDArray[Any] | None) -> tuple[FloatArray, BoolArray]:
    if image.ndim != 2 or min(image.shape) < SMALLEST_PX:
        raise FrameError(f"particles: image of shape {image.shape}; expected (rows, columns), "
                         f"each at least {SMALLEST_PX}")
    if weight is not None and weight.shape != image.shape:
        raise FrameError(f"particles: weight of shape {weight.shape} for an image of shape {image.shape}")
    plane = np.ascontiguousarray(image, np.float32)
    usable = np.isfinite(plane)
    if weight is not None:
        usable &= weight > 0
    return np.where(usable, plane, np.float32(0)), usable


def _noise(plane: FloatArray, usable: BoolArray) -> float:
    """Deviation of white noise, from the diagonal detail of every second 2x2 block (Donoho's MAD)."""
    rows, columns = plane.shape[0] // 2 * 2, plane.shape[1] // 2 * 2
    a, b, c, d = (plane[i:rows:2, j:columns:2] for i in (0, 1) for j in (0, 1))
    whole = usable[:rows:2, :columns:2] & usable[1:rows:2, 1:columns:2]
    detail = np.abs(a - b - c + d)[whole]
    return float(np.median(detail)) / (2 * 0.6745) if detail.size else 0.0


def _smoothed(plane: FloatArray, usable: BoolArray, sigma_px: float) -> FloatArray:
    """Smooth; unusable pixels take the level of their neighbours."""
    smooth: FloatArray = cv2.GaussianBlur(plane, (0, 0), sigma_px)
    if not usable.all():
        smooth /= np.maximum(cv2.GaussianBlur(usable.astype(np.float32), (0, 0), sigma_px), np.float32(1e-3))
    return smooth


def _steepness(smooth: FloatArray, inside: BoolArray, usable: BoolArray) -> float:
    """Mean squared gradient along the outline of a mask, over that of all usable pixels."""
    wide = cv2.GaussianBlur(smooth, (0, 0), 1.5)
    energy = cv2.Scharr(wide, cv2.CV_32F, 1, 0) ** 2 + cv2.Scharr(wide, cv2.CV_32F, 0, 1) ** 2
    square = np.ones((3, 3), np.uint8)
    core = cv2.erode(usable.astype(np.uint8), np.ones((9, 9), np.uint8), borderType=cv2.BORDER_CONSTANT,
                     borderValue=0) > 0
    rim = inside & (cv2.erode(inside.astype(np.uint8), square) == 0) & core
    if not rim.any():
        return 0.0
    return float(energy[rim].mean() / max(float(energy[core].mean()), 1e-30))


def _nothing(plane: FloatArray, reason: str) -> Mask:
    return Mask(np.zeros(plane.shape, bool), 0.0, f"particles: {reason}")


def _filled(phase: NDArray[np.uint8], largest_px2: float) -> NDArray[np.uint8]:
    """Fill holes up to a size."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(1 - phase, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < largest_px2
    small[0] = False   # the phase itself
    filled: NDArray[np.uint8] = np.where(small[labels], 1, phase).astype(np.uint8)
    return filled
