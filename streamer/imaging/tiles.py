"""Sub-pixel shift of many small tiles by inverse-compositional Lucas-Kanade.

Every tile has its own gain, offset and slope of the light, so that illumination may change, and predicts
its own error from its structure and its residual.

S. Baker, I. Matthews, Lucas-Kanade 20 years on, IJCV 56, 221 (2004), doi:10.1023/B:VISI.0000011205.11775.fd.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.imaging.arrays import medians
from streamer.records import FloatArray

TILES_ON_SHORT_SIDE = 10
SMALLEST_TILE_PX = 16
LEAST_STRUCTURE = 0.05
"""Share of the power of the noise by which the derivatives of a tile must exceed it to be used."""
LARGEST_STEP_PX = 3.0
"""A tile that wants to move further than this in one step has lost its structure."""
GAIN_SLOPE = 0.02
"""Change of the gain across a tile that is to be expected."""
BLOCK_TILES = 3
EVERY = 2
NEAR_PX = 0.5
"""A tile that lies so far off no longer tells which slopes the frame has kept."""
RESPONSE_SPREAD, LEAST_RESPONSE, LARGEST_RESPONSE = 0.15, 0.15, 1.5
"""How much the share of the slopes that a frame has kept differs from tile to tile, and what is believed of it."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Level:
    """What the tiles of one reference need at one resolution."""

    rows: FloatArray
    """(T, 4, P) per pixel of a tile: derivative along y and x, freed from all that a change of gain, offset or
    illumination slope could explain; structure about its mean; one."""
    at_reference: Doubles
    """(T, 4): the products of the rows with the reference itself."""
    inverse: Doubles
    """(T, 2, 2) inverse information on the shift, corrected for the noise in the derivatives; inf = no structure."""
    slopes: FloatArray
    """(T, 2, p) the first two of the rows at every second pixel either way, which is as good for the response."""
    response: Doubles
    """(T, 2): by how much the products with the derivatives change when the reference itself moves by a pixel."""
    trust: Doubles
    """(T, 2): 0 to 1, how well a single tile tells the response of a frame through the noise."""
    energy: Doubles
    """(T,) sum of squares of the smoothed reference in the tile, about its mean."""
    grid: tuple[int, int]
    """Tiles along y and x."""
    side: int
    """Side of a tile in pixels of this level."""
    origin: tuple[int, int]
    shape: tuple[int, int]
    sigma_px: float
    """Gaussian smoothing, in pixels of this level."""
    noise: Doubles
    """(T,) variance of the noise of a pixel of the reference, before smoothing."""
    of_flat: Doubles
    """(T,) the part of it that a single flat would have brought in."""
    flats: int
    """Exposures in the flat of the reference, 0 = none or not known."""

    structure: float
    """Strongest tile: by how many standard deviations its structure exceeds what noise shows by chance."""


class Tiles(NamedTuple):
    """Shifts of the tiles that took part, in pixels of the level."""

    shift: Doubles
    """(n, 2) whole shift, not the last step."""
    covariance: Doubles
    """(n, 2, 2) predicted from structure and residual."""
    lost: NDArray[np.bool_]
    """(n,) tiles that wanted to move further than a tile can tell."""
    block: NDArray[np.int64]
    """(n,) number of the block of neighbouring tiles that each belongs to."""
    place: Doubles
    """(n, 2) centre of the tile relative to the centre of the reference."""
    excess_px2: Doubles
    """(n,) residual beyond the noise, per slope of the structure: squared distance that the sample would have to be
    off to leave it."""
    noise_px2: Doubles
    """(n,) the same of the noise of both frames."""


def prepare_level(contrast: FloatArray, usable: NDArray[np.bool_] | None, *, sigma_px: float,
                  mean: float = 0.0, flats: int = 0) -> Level:
    """Build the tile caches of a reference.

    Parameters
    ----------
    contrast : (M, N) float32
        Reference about 0, already binned to this level.
    usable : (M, N) bool or None
        Pixels that may be used; tiles that hold others do not take part.
    sigma_px : float
        Smoothing before the comparison.
    mean, flats : float, int
        Transmission where the contrast is 0, and exposures in the flat that it is relative to; 0 = not known.
    """
    radius = _radius(sigma_px) + 1
    rows, columns = contrast.shape
    short = min(rows, columns) - 2 * radius
    side = short // max(1, min(TILES_ON_SHORT_SIDE, short // SMALLEST_TILE_PX))
    grid = ((rows - 2 * radius) // side, (columns - 2 * radius) // side)
    origin = ((rows - grid[0] * side) // 2, (columns - grid[1] * side) // 2)
    smooth, slope = _kernels(sigma_px, 0.0)
    parts = [cv2.sepFilter2D(contrast, cv2.CV_32F, kernel_x, kernel_y)
             for kernel_x, kernel_y in ((smooth, slope), (slope, smooth), (smooth, smooth))]
    tiles = np.empty((grid[0] * grid[1], 4, side * side), np.float32)
    for place, part in enumerate(parts[:2]):
        tiles[:, place].reshape(*grid, side, side)[:] = _tiled(part, origin, grid, side)
    base = _gather(parts[2], origin, grid, side)
    brightness = base.mean(axis=1)
    np.subtract(base, brightness[:, None], out=tiles[:, 2])
    tiles[:, 3] = 1.0
    energy = np.einsum("tp,tp->t", tiles[:, 2], tiles[:, 2]).astype(np.float64)
    noise = _tile_noise(contrast, origin, grid, side)
    information = _free_from_light(tiles, energy, noise)
    bias = side * side * noise * float(np.square(smooth).sum() * np.square(slope).sum())
    whole = np.ones(len(tiles), np.bool_) if usable is None else _all_usable(usable, origin, grid, side)
    inverse = _invert(information, bias, whole)
    change = 0.5 * (np.pad(smooth, (2, 0)) - np.pad(smooth, (0, 2)))
    by_noise = side * side * noise * float(np.square(smooth).sum() * (np.pad(slope, 1) * change).sum())
    slopes = np.ascontiguousarray(tiles[:, :2].reshape(-1, 2, side, side)[:, :, ::EVERY, ::EVERY])
    slopes = slopes.reshape(len(tiles), 2, -1)
    by_noise *= slopes.shape[2] / (side * side)
    response = _response(slopes.reshape(*grid, 2, -1), parts[2], origin, grid, side)
    response = np.maximum(response - by_noise[:, None], 1e-12)
    share = by_noise[:, None] / response
    scatter = 2.0 * (share + share**2) * 4.0 * math.pi * sigma_px**2 / (side * side)   # of the measured response
    trust = 1.0 / (1.0 + scatter / RESPONSE_SPREAD**2)
    # noise has power in two components, of which so many independent samples are in a tile
    chance = bias * math.sqrt(4.0 * 4.0 * math.pi * sigma_px**2 / (side * side))
    power = information[:, 0, 0] + information[:, 1, 1]
    excess = np.where(whole, (power - 2.0 * bias) / np.maximum(chance, 1e-20), 0.0)
    at_reference = np.matmul(tiles, base[:, :, None])[:, :, 0].astype(np.float64)
    through = mean * np.square(1.0 + base).mean(axis=1, dtype=np.float64)
    # one flat leaves a frame as much noise as its own photons, times what is let through
    of_flat = noise * through / (1.0 + through / max(flats, 1))
    return Level(tiles, at_reference, inverse, slopes, response, trust, energy, grid, side, origin, (rows, columns),
                 sigma_px, noise, of_flat, flats, float(excess.max()))


def _free_from_light(tiles: FloatArray, energy: Doubles, noise: Doubles) -> Doubles:
    """Project what the light may do out of the derivatives, in place; return the information left, (T, 2, 2).

    Gain, offset and its slope are free; a slope of the gain is held near 0 as far as the noise hides it, since
    it takes much of what coarse structure tells.
    """
    side = math.isqrt(tiles.shape[2])
    ramp = (np.arange(side, dtype=np.float32) - (side - 1) / 2) / side
    ones = np.ones(side, np.float32)
    plane = np.stack([np.outer(ones, ones), np.outer(ramp, ones), np.outer(ones, ramp)]).reshape(3, -1)
    plane /= np.linalg.norm(plane, axis=1, keepdims=True)
    slopes, structure = tiles[:, :2], tiles[:, 2]
    # in units of the structure of each tile, so that one hair of weight suits all of them
    unit = (side / np.maximum(np.sqrt(energy), 1e-20))[:, None, None]
    pairs = (plane[:, None] * plane).reshape(9, -1)   # one product with all tiles is quicker than one with each
    normal = np.empty((len(tiles), 6, 6))
    normal[:, :3, :3] = plane @ plane.T
    normal[:, 3:, :3] = normal[:, :3, 3:] = (structure @ pairs.T).reshape(-1, 3, 3) * unit
    normal[:, 3:, 3:] = (np.square(structure) @ pairs.T).reshape(-1, 3, 3) * np.square(unit)
    hold = np.full((len(tiles), 6), 1e-6)
    hold[:, 4:] += np.minimum(24.0 * noise / np.maximum(GAIN_SLOPE**2 * energy, 1e-20), 1e6)[:, None]
    normal += hold[:, :, None] * np.eye(6)
    along = np.empty((len(tiles), 2, 6))
    along[:, :, :3] = slopes @ plane.T
    along[:, :, 3:] = (slopes * structure[:, None]) @ plane.T * unit
    share = np.linalg.solve(normal, along.transpose(0, 2, 1)).transpose(0, 2, 1)
    information = np.matmul(slopes, slopes.transpose(0, 2, 1)).astype(np.float64) - np.matmul(
        along, share.transpose(0, 2, 1))
    share[:, :, 3:] *= unit
    offset, gain = np.split(share.astype(np.float32), 2, axis=2)
    slopes -= offset @ plane
    slopes -= gain @ plane * structure[:, None]
    return np.asarray(information)


def _all_usable(usable: NDArray[np.bool_], origin: tuple[int, int], grid: tuple[int, int],
                side: int) -> NDArray[np.bool_]:
    area = usable[origin[0]:origin[0] + grid[0] * side, origin[1]:origin[1] + grid[1] * side]
    lines = np.bitwise_and.reduce(area.reshape(grid[0], side, -1), axis=1)   # six times faster than all at once
    return np.asarray(lines.reshape(*grid, side).all(axis=2).ravel())


def match_tiles(level: Level, contrast: FloatArray, shift: tuple[float, float],
                usable: NDArray[np.bool_] | None = None, *, flats: int = 0,
                moved: tuple[float, float] | None = None) -> Tiles | None:
    """Shift of every tile of the reference that lies inside the frame, starting from `shift`.

    Parameters
    ----------
    level : Level
    contrast : (M, N) float32
        Frame about 0, at the resolution of the level.
    shift : (dy, dx)
        Pixels of the level; good to about 2 px.
    usable : (M, N) bool or None
    flats : int
        Exposures in the flat of both frames, 0 = none or not known.
    moved : (dy, dx)
        Where the content of a frame that was warped back came from; by default `shift`.

    Returns
    -------
    Tiles or None
        None when no tile lies inside.
    """
    whole = (round(shift[0]), round(shift[1]))
    radius = _radius(level.sigma_px) + 1
    spans = [_inside(level.origin[axis] + whole[axis], level.grid[axis], level.side, level.shape[axis], radius)
             for axis in (0, 1)]
    (first_y, last_y), (first_x, last_x) = spans
    if last_y <= first_y or last_x <= first_x:
        return None
    top = level.origin[0] + whole[0] + first_y * level.side
    left = level.origin[1] + whole[1] + first_x * level.side
    grid = (last_y - first_y, last_x - first_x)
    crop = contrast[top - radius:top + grid[0] * level.side + radius,
                    left - radius:left + grid[1] * level.side + radius]
    kernel_y, _ = _kernels(level.sigma_px, shift[0] - whole[0])
    kernel_x, _ = _kernels(level.sigma_px, shift[1] - whole[1])
    smooth = cv2.sepFilter2D(crop, cv2.CV_32F, kernel_x, kernel_y)
    values = _gather(smooth, (radius, radius), grid, level.side)
    part = (slice(first_y, last_y), slice(first_x, last_x))
    index = np.arange(level.grid[0] * level.grid[1]).reshape(level.grid)[part].ravel()
    keep = np.isfinite(level.inverse[index, 0, 0])
    if usable is not None:
        keep &= _all_usable(usable, (top, left), grid, level.side)
    if not keep.any():
        return None
    rows = level.rows.reshape(*level.grid, 4, -1)[part]   # a view: copying it would cost a millisecond
    products = np.matmul(rows, values.reshape(*grid, -1, 1)).reshape(-1, 4).astype(np.float64)
    squares = np.einsum("tp,tp->t", values, values)
    if flats and level.flats:
        products[:, :2] -= _drag_of_flats(level, index, max(flats, level.flats), shift if moved is None else moved)
    slopes = level.slopes.reshape(*level.grid, 2, -1)[part]
    response = _response(slopes, smooth, (radius, radius), grid, level.side)[keep]
    index = index[keep]
    return _solve(level, products[keep], squares[keep], index, shift, _kept_slopes(level, response, index))


def _response(slopes: FloatArray, smooth: FloatArray, origin: tuple[int, int], grid: tuple[int, int],
              side: int) -> Doubles:
    """Return the products, (T, 2), of slopes, (*grid, 2, p), with the central differences along y and x."""
    def part(down: int, right: int) -> FloatArray:
        return _tiled(smooth, (origin[0] + down, origin[1] + right), grid, side)[:, :, ::EVERY, ::EVERY]

    changes = np.empty((2, *part(0, 0).shape), np.float32)
    np.subtract(part(1, 0), part(-1, 0), out=changes[0])
    np.subtract(part(0, 1), part(0, -1), out=changes[1])
    products = np.einsum("yxap,ayxp->yxa", slopes, changes.reshape(2, *grid, -1))
    return np.asarray(0.5 * products.reshape(-1, 2).astype(np.float64))


def _kept_slopes(level: Level, response: Doubles, index: NDArray[np.int64]) -> Doubles:
    """Return which share of the slopes of the reference each tile of the frame still has, (n, 2).

    A blurred frame, or one that lacks what has grown in its reference, has less. Noise of the frame is not in it on
    average: it is not that of the reference.
    """
    expected, trust = level.response[index], level.trust[index]
    whole = np.clip(response.sum(axis=0) / expected.sum(axis=0), LEAST_RESPONSE, LARGEST_RESPONSE)
    return np.asarray(np.clip(whole + trust * (response / expected - whole), LEAST_RESPONSE, LARGEST_RESPONSE))


def _drag_of_flats(level: Level, index: NDArray[np.int64], flats: int, moved: tuple[float, float]) -> Doubles:
    """Return what the noise of the flat, the same in both frames, adds on average to the products, (n, 2).

    White noise that was smoothed by a Gaussian has a Gaussian correlation; its slope at the distance that the sample
    moved is what pulls the sample back.
    """
    variance = level.sigma_px**2
    correlation = math.exp(-(moved[0]**2 + moved[1]**2) / (4.0 * variance)) / (4.0 * math.pi * variance)
    slope = np.asarray(moved) * (correlation / (2.0 * variance))
    return np.multiply.outer(level.side**2 * level.of_flat[index] / flats, slope)


def _solve(level: Level, products: Doubles, squares: FloatArray, index: NDArray[np.int64],
           shift: tuple[float, float], kept: Doubles) -> Tiles:
    """Shift and predicted covariance of each tile, from its products with the rows and its sum of squares."""
    misfit = products - level.at_reference[index]
    least_squares = np.einsum("tij,tj->ti", level.inverse[index], misfit[:, :2])
    # where a tile lies further off, slopes differ because they are not those of the same place
    near = np.exp(-np.square(least_squares / NEAR_PX).sum(axis=1, keepdims=True))
    kept = 1.0 - near * (1.0 - kept)
    step = least_squares / kept
    pixels, area = level.side**2, 4.0 * math.pi * level.sigma_px**2
    # |I - R|^2 = I.I - 2 I.R + R.R with R = structure + mean; everything about the tile means
    energy = squares - products[:, 3] ** 2 / pixels
    difference = energy - 2.0 * products[:, 2] + level.energy[index]
    left = (difference - np.einsum("ti,ti->t", least_squares, misfit[:, :2])
            - misfit[:, 2] ** 2 / np.maximum(level.energy[index], 1e-20))
    # the step is not the least-squares one (noise correction), so the residual has no floor of its own
    smoothed = level.noise[index] / area
    left = np.maximum(left, pixels * np.maximum(smoothed, 1e-9))
    covariance = level.inverse[index] * (left / pixels * area)[:, None, None]
    slope = 0.5 * (level.inverse[index, 0, 0] + level.inverse[index, 1, 1])
    noise_px2 = 2.0 * pixels * smoothed * slope
    row, column = np.divmod(index, level.grid[1])
    place = [level.origin[axis] + (number + 0.5) * level.side - 0.5 * level.shape[axis]
             for axis, number in enumerate((row, column))]
    return Tiles(np.asarray(shift) - step, covariance, np.abs(step).max(axis=1) > LARGEST_STEP_PX,
                 row // BLOCK_TILES * level.grid[1] + column // BLOCK_TILES, np.stack(place, axis=1),
                 left * slope - noise_px2, noise_px2)


def invert_pairs(matrices: Doubles) -> Doubles:
    """Invert (n, 2, 2) symmetric positive matrices."""
    determinant = matrices[:, 0, 0] * matrices[:, 1, 1] - matrices[:, 0, 1] ** 2
    inverse = np.empty_like(matrices)
    inverse[:, 0, 0], inverse[:, 1, 1] = matrices[:, 1, 1], matrices[:, 0, 0]
    inverse[:, 0, 1] = inverse[:, 1, 0] = -matrices[:, 0, 1]
    return np.asarray(inverse / determinant[:, None, None])


def _tile_noise(contrast: FloatArray, origin: tuple[int, int], grid: tuple[int, int], side: int) -> Doubles:
    """Variance of the white noise per pixel, (T,), from the median of a Laplacian difference.

    J. Immerkaer, Fast noise variance estimation, CVIU 64, 300 (1996), doi:10.1006/cviu.1996.0060, with the
    median in place of the mean so that edges do not count.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    values = _gather(cv2.filter2D(contrast, cv2.CV_32F, kernel), origin, grid, side)[:, ::7]
    return np.asarray((medians(np.abs(values)) / 0.6745) ** 2 / 36.0, np.float64)


def _radius(sigma_px: float) -> int:
    return math.ceil(3.5 * sigma_px + 0.5)


def _kernels(sigma_px: float, offset_px: float) -> tuple[FloatArray, FloatArray]:
    """Return the Gaussian sampled about `offset_px`, and its derivative; correlating with them smooths and shifts."""
    radius = _radius(sigma_px)
    position = np.arange(-radius, radius + 1) - offset_px
    gauss = np.exp(-(position**2) / (2.0 * sigma_px**2))
    gauss /= gauss.sum()
    slope = position / sigma_px**2 * gauss
    slope -= slope.mean()
    slope /= (slope * position).sum()
    return gauss.astype(np.float32), slope.astype(np.float32)


def _inside(start: int, count: int, side: int, size: int, radius: int) -> tuple[int, int]:
    """Return the first tile whose support lies inside 0..size and the one after the last."""
    first = max(0, math.ceil((radius - start) / side))
    last = min(count, (size - radius - start) // side)
    return first, last


def _gather(image: FloatArray, origin: tuple[int, int], grid: tuple[int, int], side: int) -> FloatArray:
    """Return the tiles (T, side * side), each contiguous."""
    return np.ascontiguousarray(_tiled(image, origin, grid, side)).reshape(grid[0] * grid[1], side * side)


def _tiled(image: FloatArray, origin: tuple[int, int], grid: tuple[int, int], side: int) -> FloatArray:
    """Return a view of the tiles, (*grid, side, side)."""
    area = image[origin[0]:origin[0] + grid[0] * side, origin[1]:origin[1] + grid[1] * side]
    return area.reshape(grid[0], side, grid[1], side).transpose(0, 2, 1, 3)


def _invert(information: Doubles, noise: Doubles, usable: NDArray[np.bool_]) -> Doubles:
    """Invert (T, 2, 2) information after taking out what noise adds to it; inf where little or nothing is left."""
    information = information - noise[:, None, None] * np.eye(2)
    trace = information[:, 0, 0] + information[:, 1, 1]
    determinant = information[:, 0, 0] * information[:, 1, 1] - information[:, 0, 1] ** 2
    fit = usable & (trace > np.maximum(LEAST_STRUCTURE * noise, 1e-12)) & (determinant > 1e-4 * trace**2)
    inverse = np.full_like(information, np.inf)
    inverse[fit] = invert_pairs(information[fit])
    return inverse
