"""Coherent regions: parts of a sample that move as one, like tectonic plates.

Neighbouring particles (or points of the dense field) are merged pair by pair, those first whose union is described
best by a single motion: Ward's method (1963, doi:10.1080/01621459.1963.10500845) on a graph, each region moving by a
displacement, a rotation and a dilation of its own. Then points change sides until each belongs to the region whose
motion it shares more of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.optimize
import scipy.spatial
from numpy.typing import NDArray

from streamer.errors import FrameError
from streamer.imaging import ward
from streamer.imaging.flow import Field
from streamer.imaging.particles import Motion
from streamer.records import BoolArray, FloatArray

Labels = NDArray[np.int32]

NEIGHBOURS = 6
MODEL_PX = 0.1
"""What a region's motion leaves undescribed, 1 sigma per component: no point weighs more than this allows."""
SEAM_PX = 50.0
"""A point counts less by the change of displacement over this distance: seams belong to neither side."""


@dataclass(frozen=True, eq=False)
class Regions:
    """Which points move together."""

    label: Labels
    """(n,) or (K, L): 0 where there is no measurement, else the number of the region, 1 ... count."""
    count: int
    heights: FloatArray
    """(m,) what merging two of m + 1, m, ... 2 regions into one costs, in squared errors; largest first."""
    displacement_px: FloatArray
    """(2, count) mean displacement (y, x) of each region."""
    rotation_deg: FloatArray
    """(count,) from +x towards +y."""
    reason: str = ""
    """Why there are no regions; empty text when there are."""


def from_particles(motion: Motion, *, count: int | None = None) -> Regions:
    """Group the particles of a frame.

    Parameters
    ----------
    motion : particles.Motion
        Particles that are not valid get the label 0.
    count : int, optional
        Number of regions; None lets the data choose among 1 to 12.

    Returns
    -------
    Regions
        One label per particle.

    Raises
    ------
    FrameError
        If `count` is less than 1 or more than there are valid particles.
    """
    found = group(motion.centre_px[:, motion.valid], motion.displacement_px[:, motion.valid],
                  motion.sigma_px[:, motion.valid].max(axis=0, initial=0), count=count)
    return _spread(found, motion.valid)


def from_field(field: Field, *, count: int | None = None, mask: NDArray[np.bool_] | None = None) -> Regions:
    """Group the points of a dense field.

    Parameters
    ----------
    field : flow.Field
        Points that are not valid get the label 0.
    count : int, optional
        Number of regions; None lets the data choose among 1 to 12.
    mask : (K, L) bool, optional
        Points to use.

    Returns
    -------
    Regions
        One label per point of the grid, (K, L).

    Raises
    ------
    FrameError
        If the mask has another shape than the grid, or `count` is less than 1 or more than there are points.
    """
    used = field.valid
    if mask is not None:
        if mask.shape != used.shape:
            raise FrameError(f"regions: mask of shape {mask.shape} for a grid of shape {used.shape}")
        used = used & mask
    y, x = (axis[used] for axis in np.meshgrid(field.grid_y_px, field.grid_x_px, indexing="ij"))
    found = group(np.stack([y, x]), field.displacement_px[:, used], field.sigma_px[used], count=count)
    return _spread(found, used)


def group(centre_px: FloatArray, displacement_px: FloatArray, sigma_px: FloatArray, *,
          count: int | None = None) -> Regions:
    """Group points that move together.

    Parameters
    ----------
    centre_px, displacement_px : (2, n) float32
        Positions and displacements (y, x).
    sigma_px : (n,) float32
        Error per component.
    count : int, optional
        Number of regions; None lets the data choose among 1 to 12: the number beyond which one region less costs
        the most in proportion to what it cost before.

    Returns
    -------
    Regions
        None, with the reason, when there are no points.

    Raises
    ------
    FrameError
        If shapes do not fit, or `count` is less than 1 or more than there are points.
    """
    number = centre_px.shape[-1]
    if centre_px.shape != (2, number) or displacement_px.shape != (2, number) or sigma_px.shape != (number,):
        raise FrameError(f"regions: centres {centre_px.shape}, displacements {displacement_px.shape}, errors "
                         f"{sigma_px.shape}; expected (2, n), (2, n), (n,)")
    if number == 0:
        return Regions(np.zeros(0, np.int32), 0, np.zeros(0, np.float32), np.zeros((2, 0), np.float32),
                       np.zeros(0, np.float32), "regions: no valid point")
    if count is not None and not 1 <= count <= number:
        raise FrameError(f"regions: {count} regions of {number} points; expected 1 to {number}")
    place, way = (axis[1].astype(np.float64) + 1j * axis[0] for axis in (centre_px, displacement_px))
    edges = neighbours(centre_px)
    variance = np.nan_to_num(sigma_px.astype(np.float64), nan=1.0) ** 2 + MODEL_PX**2
    weight = 1 / (variance + SEAM_PX**2 * _unrest(place, way, edges))
    merges, heights = ward.merge(place, way, weight, edges)
    chosen = ward.choose(heights, place, way, variance) if count is None else count
    label = ward.exchange(ward.cut(merges, number, chosen), place, way, weight, edges)
    label = ward.numbered(label)
    shift, slope = ward.models(label, place, way, weight)
    middle = np.array([np.average(place[label == one], weights=weight[label == one]) for one in range(len(shift))])
    mean = shift + slope * middle
    return Regions((label + 1).astype(np.int32), len(shift), heights[:ward.MOST_REGIONS].astype(np.float32),
                   np.stack([mean.imag, mean.real]).astype(np.float32), np.degrees(slope.imag).astype(np.float32))


def neighbours(centre_px: FloatArray, *, each: int = NEIGHBOURS) -> NDArray[np.intp]:
    """Connect every point with its nearest ones, and clusters of points across the gaps between them.

    The nearest ones alone would leave clusters unconnected, and force parts of a cluster together that move apart
    before it can join another; the edges of Delaunay's triangles bridge the gaps.

    Returns
    -------
    (m, 2) integer array
        Pairs of points, the smaller number first, each once.
    """
    number = centre_px.shape[1]
    if number < 2:
        return np.zeros((0, 2), np.intp)
    points = centre_px.T.astype(np.float64)
    near = scipy.spatial.cKDTree(points).query(points, k=min(each + 1, number))[1]
    pairs = [np.stack([np.repeat(np.arange(number), near.shape[1]), near.ravel()], -1)]
    try:
        corners = scipy.spatial.Delaunay(points).simplices
    except (scipy.spatial.QhullError, ValueError):   # all on a line, or fewer than three
        corners = np.zeros((0, 3), np.intp)
    pairs += [corners[:, [a, b]] for a, b in ((0, 1), (1, 2), (0, 2))]
    every = np.sort(np.concatenate(pairs), axis=1)
    return np.asarray(np.unique(every[every[:, 0] != every[:, 1]], axis=0), np.intp)


def _unrest(place: ward.Complex, way: ward.Complex, edges: NDArray[np.intp]) -> NDArray[np.float64]:
    """Mean squared slope to the neighbours, (n,): large in the seams, where one motion turns into another."""
    a, b = edges.T
    squared = np.repeat(np.abs(way[a] - way[b]) ** 2 / np.maximum(np.abs(place[a] - place[b]), 1.0) ** 2, 2)
    number = len(way)
    return np.asarray(np.bincount(edges.ravel(), squared, number) / np.maximum(np.bincount(edges.ravel(),
                                                                                        minlength=number), 1))


def matched(label: Labels, previous: Labels) -> Labels:
    """Renumber regions so that each keeps the number, and with it the colour, that it had in an earlier frame.

    Parameters
    ----------
    label, previous : integer arrays of the same shape
        Regions of the same points, now and before; 0 is no region.

    Returns
    -------
    array like `label`
        The assignment with the most points in common (Kuhn 1955); new regions get numbers not used before.

    Raises
    ------
    FrameError
        If the shapes differ.
    """
    if label.shape != previous.shape:
        raise FrameError(f"regions: labels of shape {label.shape}, earlier ones of shape {previous.shape}")
    now, before = int(label.max(initial=0)), int(previous.max(initial=0))
    common = np.zeros((now + 1, before + 1))
    np.add.at(common, (label.ravel(), previous.ravel()), 1)
    rows, columns = scipy.optimize.linear_sum_assignment(-common[1:, 1:])
    number = np.zeros(now + 1, np.int32)
    for row, column in zip(rows, columns, strict=True):
        if common[row + 1, column + 1] > 0:
            number[row + 1] = column + 1
    fresh = iter(np.setdiff1d(np.arange(1, before + now + 1), previous))
    for one in range(1, now + 1):
        if number[one] == 0:
            number[one] = next(fresh)
    return number[label]


def adjusted_rand_index(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Give the agreement of two partitions: 1 for the same, 0 on average for chance, whatever the numbers.

    Hubert & Arabie 1985, doi:10.1007/BF01908075. Points with the label 0 in either do not count.

    Raises
    ------
    FrameError
        If the shapes differ.
    """
    if first.shape != second.shape:
        raise FrameError(f"regions: labels of shapes {first.shape} and {second.shape}")
    both = (first != 0) & (second != 0)
    if not both.any():
        return 1.0
    _, a = np.unique(first[both], return_inverse=True)
    _, b = np.unique(second[both], return_inverse=True)
    table = np.bincount(a * (b.max() + 1) + b).astype(np.float64)

    def pairs(counts: NDArray[Any]) -> float:
        return float(np.sum(counts * (counts - 1.0)) / 2)

    same, of_first, of_second, every = pairs(table), pairs(np.bincount(a)), pairs(np.bincount(b)), pairs(
        np.array([a.size]))
    chance = of_first * of_second / every if every else 0.0
    best = (of_first + of_second) / 2
    return 1.0 if best == chance else (same - chance) / (best - chance)


def _spread(found: Regions, used: BoolArray) -> Regions:
    label = np.zeros(used.shape, np.int32)
    label[used] = found.label
    return replace(found, label=label)
