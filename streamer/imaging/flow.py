"""Displacement fields: where the material of a reference frame went, beyond the rigid drift.

Dense inverse search (DIS; Kroeger et al., ECCV 2016, doi:10.1007/978-3-319-46493-0_29) catches large motion.
Its field is smoothed and then refined by inverse-compositional Gauss-Newton steps in Gaussian windows that
shrink from 24 to 5 px (Lucas & Kanade 1981; Baker & Matthews, doi:10.1023/B:VISI.0000011205.11775.fd). Every step
is weighed, Wiener fashion, by how far its power exceeds what photon noise alone would give, so that fine
windows speak at high dose and stay silent at low dose.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.errors import FrameError
from streamer.imaging import flow_model, flow_refinement
from streamer.imaging.flow_cells import cell_centres, cell_of, cells, samples
from streamer.records import BoolArray, FloatArray

LEAST_LIGHT = np.float32(0.05)
SMALLEST_PX = 32
"""Shortest side of a frame, and of an overlap, that is looked at."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A frame made ready for the flow; the reference keeps its own for the whole acquisition."""

    absorbance: FloatArray
    """(M, N) minus the logarithm of the smoothed image."""
    usable: BoolArray | None
    """(M, N) pixels that carry weight; None when all do."""
    smoothing_px: float
    noise: float
    """Standard deviation of white noise in the logarithm before smoothing, from the finest diagonal detail."""
    dimness: FloatArray | None = None
    """(k, l) at the cells of the detector: what the light makes of the variance of the photon noise, relative to the
    usual; None = even."""

    @cached_property
    def model(self) -> flow_model.Model:
        """Gradients and structure tensors, made when the frame first serves as a reference."""
        return flow_model.make_model(self.absorbance, self.usable, smoothing_px=self.smoothing_px, noise=self.noise,
                                    dimness=self.dimness)


class Field(NamedTuple):
    """Displacement of the reference's material on a grid of the reference frame."""

    grid_y_px: FloatArray
    """(K,) rows in the reference frame."""
    grid_x_px: FloatArray
    """(L,) columns in the reference frame."""
    displacement_px: FloatArray
    """(2, K, L): (y, x); zero where not valid."""
    valid: BoolArray
    """(K, L) inside the overlap, on usable pixels, with texture, and matched."""
    sigma_px: FloatArray
    """(K, L) predicted 1-sigma error per component; NaN where not valid."""


def prepare(image: NDArray[Any], *, smoothing_px: float = 1.0, weight: NDArray[Any] | None = None) -> Prepared:
    """Smooth a transmission image and take minus its logarithm.

    Parameters
    ----------
    image : (M, N) array
        Transmission, or intensity in any unit: a common factor has no effect.
    smoothing_px : float
        Sigma of the Gaussian. Smoothing before the logarithm keeps dark pixels from shouting.
    weight : (M, N) array, optional
        Expected photons per pixel, on any scale, or True where there are any. Pixels of weight zero are not used, nor
        are those that are not finite.

    Returns
    -------
    Prepared

    Raises
    ------
    FrameError
        If the image is not a plane of at least 32 px, or the weight has another shape.
    """
    if image.ndim != 2 or min(image.shape) < SMALLEST_PX:
        raise FrameError(f"flow: image of shape {image.shape}; expected (rows, columns), each at least {SMALLEST_PX}")
    if weight is not None and weight.shape != image.shape:
        raise FrameError(f"flow: weight of shape {weight.shape} for an image of shape {image.shape}")
    plane = np.ascontiguousarray(image, np.float32)
    usable = None if weight is None else weight > 0
    if not np.isfinite(plane.sum(dtype=np.float64)):
        finite = np.isfinite(plane)
        usable = finite if usable is None else usable & finite
    if usable is None or usable.all():
        usable, smooth = None, _smooth(plane, smoothing_px)
    else:   # normalised convolution: unusable pixels are filled from their neighbours
        inside = usable.astype(np.float32)
        plane = np.where(usable, plane, np.float32(0))
        share = _smooth(inside, max(smoothing_px, 1.0))
        level = np.float32(plane.sum() / max(inside.sum(), 1))
        smooth = (_smooth(plane, max(smoothing_px, 1.0)) + 1e-3 * level) / (share + np.float32(1e-3))
    median = float(np.median(smooth[::4, ::4]))
    smooth = np.maximum(smooth, np.float32(1e-3 * median if median > 0 else 1e-6))
    dimness = None if weight is None or weight.dtype == bool else _dimness(weight)
    return Prepared(-np.log(smooth), usable, smoothing_px, _noise(plane, smooth), dimness)


def displacement(reference: Prepared, frame: Prepared, *, drift_px: tuple[float, float], step_px: int = 8) -> Field:
    """Estimate where the material of the reference is in the frame, less the drift.

    Material at ``(y, x)`` of the reference is found at ``(y + D_y + u_y, x + D_x + u_x)`` of the frame.

    Parameters
    ----------
    reference, frame : Prepared
        Of the same shape.
    drift_px : (float, float)
        ``D``: drift (y, x) of the frame relative to the reference.
    step_px : int
        Spacing of the grid.

    Returns
    -------
    Field

    Raises
    ------
    FrameError
        If the two frames have different shapes, or the drift is not finite.
    """
    shape = reference.absorbance.shape
    if frame.absorbance.shape != shape:
        raise FrameError(f"flow: frame of shape {frame.absorbance.shape} against a reference of shape {shape}")
    if not np.all(np.isfinite(drift_px)):
        raise FrameError(f"flow: drift {drift_px} is not finite; give the drift of the frame in px")
    solution = match(reference, frame, drift_px=drift_px)
    return empty(reference, step_px=step_px) if solution is None else sample(solution, shape, step_px=step_px)


def match(reference: Prepared, frame: Prepared, *, drift_px: tuple[float, float],
          model: flow_model.Model | None = None) -> flow_refinement.Solution | None:
    """Solve for the displacement at the cells of the reference, with nothing known beforehand.

    Parameters
    ----------
    reference, frame : Prepared
        Of the same shape.
    drift_px : (float, float)
        Drift (y, x) of the frame relative to the reference.
    model : Model, optional
        A better one of the reference than its own.

    Returns
    -------
    Solution or None
        None when less than 32 px of the reference are in view, or it shows nothing.
    """
    start = _dense_search(reference, frame, drift_px, _quick())
    if start is None:
        return None
    return flow_refinement.refine(model or reference.model, frame.absorbance, frame.usable, start, drift_px=drift_px,
                                  noise=max(reference.noise, frame.noise))


def search(reference: Prepared, frame: Prepared, *, drift_px: tuple[float, float]) -> flow_refinement.Solution | None:
    """Take what dense inverse search (medium preset) finds as it is, judged like `match`; arguments as there."""
    start = _dense_search(reference, frame, drift_px, cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM))
    if start is None:
        return None
    return flow_refinement.judge(reference.model, frame.absorbance, frame.usable, start, drift_px=drift_px,
                                 noise=max(reference.noise, frame.noise))


def sample(solution: flow_refinement.Solution, shape: tuple[int, ...], *, step_px: int) -> Field:
    """Read a solution, known at the cells, on the grid of a frame of this shape."""
    grid_y, grid_x = (grid(length, step_px) for length in shape)
    return _sample(solution, grid_y, grid_x)


def empty(reference: Prepared, *, step_px: int = 8) -> Field:
    """Give the field of a frame that tells nothing: no point valid."""
    grid_y, grid_x = (grid(length, step_px) for length in reference.absorbance.shape)
    shape = len(grid_y), len(grid_x)
    return Field(grid_y, grid_x, np.zeros((2, *shape), np.float32), np.zeros(shape, bool),
                 np.full(shape, np.nan, np.float32))


def grid(length: int, step_px: int) -> FloatArray:
    """Place points every `step_px`, centred on an axis of `length` pixels."""
    count = (length - 1) // step_px + 1
    start = (length - 1 - (count - 1) * step_px) / 2
    return (start + step_px * np.arange(count)).astype(np.float32)


def magnitude_statistics(field: Field) -> tuple[float, float] | None:
    """Give median and 95th percentile of the magnitude over valid points, in px; None when there are none."""
    if not field.valid.any():
        return None
    magnitude = np.hypot(*field.displacement_px)[field.valid]
    median, p95 = np.percentile(magnitude, [50, 95])
    return float(median), float(p95)


def _smooth(plane: FloatArray, sigma_px: float) -> FloatArray:
    if sigma_px <= 0:
        return plane
    smooth: FloatArray = cv2.GaussianBlur(plane, (0, 0), sigma_px)
    return smooth


def _noise(plane: FloatArray, smooth: FloatArray) -> float:
    """Relative white noise from the diagonal detail of every fourth 2x2 block (Donoho's MAD)."""
    rows, columns = plane.shape[0] // 4 * 4, plane.shape[1] // 4 * 4
    block = plane[:rows, :columns]
    detail = block[::4, ::4] - block[1::4, ::4] - block[::4, 1::4] + block[1::4, 1::4]
    return float(np.median(np.abs(detail) / smooth[:rows:4, :columns:4])) / (2 * 0.6745)


def _quick() -> cv2.DISOpticalFlow:
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    search.setFinestScale(1)
    search.setPatchStride(4)
    search.setGradientDescentIterations(8)
    return search


def _dimness(weight: NDArray[Any]) -> FloatArray | None:
    light = cells(samples(weight.astype(np.float32, copy=False), weight.shape))
    lit = light[light > 0]
    if not lit.size:
        return None
    usual = np.float32(np.median(lit))
    return np.asarray(usual / np.maximum(light, LEAST_LIGHT * usual), np.float32)


def _dense_search(reference: Prepared, frame: Prepared, drift_px: tuple[float, float],
                  inverse_search: cv2.DISOpticalFlow) -> FloatArray | None:
    """Find large motion between the integer-shifted overlaps; (h, w, 2) as (x, y) at the refinement's cells."""
    shape = reference.absorbance.shape
    whole = round(drift_px[0]), round(drift_px[1])
    y0, y1 = max(0, -whole[0]), min(shape[0], shape[0] - whole[0])
    x0, x1 = max(0, -whole[1]), min(shape[1], shape[1] - whole[1])
    if min(y1 - y0, x1 - x0) < SMALLEST_PX:
        return None
    first = reference.absorbance[y0:y1, x0:x1]
    second = frame.absorbance[y0 + whole[0]:y1 + whole[0], x0 + whole[1]:x1 + whole[1]]
    low, high = (float(value) for value in np.percentile(first[::4, ::4], [0.5, 99.5]))
    if not high > low:
        return None
    offset = float(np.median(second[::4, ::4] - first[::4, ::4]))
    gain = 255.0 / (high - low)
    # DIS wants bytes, scaled alike in both; cv2 objects are not thread-safe, so every call has its own
    dense = inverse_search.calc(_bytes(first, low, gain), _bytes(second, low + offset, gain), None)
    cell_y, cell_x = cell_centres(shape)
    map_x, map_y = np.meshgrid(cell_x - x0, cell_y - y0)
    start: FloatArray = cv2.remap(dense, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    start += np.array([whole[1] - drift_px[1], whole[0] - drift_px[0]], np.float32)
    return start


def _bytes(plane: FloatArray, low: float, gain: float) -> NDArray[np.uint8]:
    scaled = plane * np.float32(gain) - np.float32(low * gain)
    return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)


def _sample(solution: flow_refinement.Solution, grid_y: FloatArray, grid_x: FloatArray) -> Field:
    """Read a solution, known at the cells, at the points of the grid."""
    map_x, map_y = np.meshgrid(cell_of(grid_x), cell_of(grid_y))

    def read(plane: FloatArray) -> FloatArray:
        values: FloatArray = cv2.remap(plane, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return values

    valid = read(solution.valid.astype(np.float32)) > 0.5
    u = read(solution.displacement_px)
    field = np.where(valid, np.stack([u[..., 1], u[..., 0]]), np.float32(0))
    sigma = np.where(valid, np.sqrt(read(solution.variance_px2)), np.float32(np.nan))
    return Field(grid_y, grid_x, field, valid, sigma)
