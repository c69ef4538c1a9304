"""Pieces that scenarios are put together from: canvases, flats and darks, the order of exposures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from simulator.detector import Detector
from simulator.fields import Shape
from simulator.optics import Canvas
from simulator.run import Run, Scene, Shot
from simulator.specimen import CANVAS_OVERSAMPLING, anode, cathode, phase_fringes
from streamer.records import Kind

FULL_FRAME: Shape = (654, 678)
_SPARE_PX = 48
"""Room beyond the drift: deformation, blur and splines look outside of the window."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked a scenario for; None means the default of the scenario."""

    frames: int | None = None
    seed: int = 0
    photons: float | None = None
    shape: Shape | None = None


def generator(seed: int, purpose: str) -> np.random.Generator:
    """Return a stream of numbers for one purpose, independent of all others of the same seed."""
    return np.random.default_rng([seed, *purpose.encode()])


def cathode_canvas(shape: Shape, path_px: NDArray[np.float64], *, rng: np.random.Generator) -> Canvas:
    """Draw a cathode in transmission, large enough for the window to follow the path (n, 2)."""
    size = _canvas_shape(shape, path_px)
    absorbance = cathode((size[0] * CANVAS_OVERSAMPLING, size[1] * CANVAS_OVERSAMPLING), rng=rng)
    fringed = phase_fringes(absorbance, strength_px2=6.0)
    return Canvas.photograph(np.exp(-fringed), zoom=CANVAS_OVERSAMPLING)


def anode_canvas(shape: Shape, path_px: NDArray[np.float64], *, rng: np.random.Generator) -> Canvas:
    """Draw an anode in reflection (NA 0.3, green light, 560 nm pixels: cut-off 0.61 cycles per pixel)."""
    size = _canvas_shape(shape, path_px)
    reflectance = anode((size[0] * CANVAS_OVERSAMPLING, size[1] * CANVAS_OVERSAMPLING), rng=rng)
    return Canvas.photograph(reflectance, zoom=CANVAS_OVERSAMPLING, cutoff=0.61)


def scaled(distance_px: tuple[float, float], shape: Shape, nominal: Shape) -> tuple[float, float]:
    """Shorten a drift in a frame that is smaller than nominal, so that the views still overlap."""
    return distance_px[0] * shape[0] / nominal[0], distance_px[1] * shape[1] / nominal[1]


def calibration(name: str, kind: Kind, count: int, *, first_s: float = 0.0, every_s: float = 1.0) -> list[Shot]:
    """Plan `count` flats or darks in their own acquisition ``<name>/<kind>``."""
    return [
        Shot(kind=kind, index=index, acquisition=f"{name}/{kind}", expected=count, at_s=first_s + index * every_s)
        for index in range(count)
    ]


def projections(
    name: str, path_px: NDArray[np.float64], *, first_s: float, every_s: float,
    vary: Callable[[int, Shot], Shot] = lambda _index, shot: shot,
) -> list[Shot]:
    """Plan one projection per position of the path (n, 2); `vary` changes the plan of single ones."""
    count = len(path_px)
    return [
        vary(index, Shot(
            kind="projection", index=index, acquisition=name, expected=count, view="main",
            at_s=first_s + index * every_s, drift_px=(float(position[0]), float(position[1])),
        ))
        for index, position in enumerate(path_px)
    ]


def txm_run(
    name: str, request: Request, *, scenes: Mapping[str, Scene], path_px: NDArray[np.float64], photons: float,
    every_s: float, flats: int = 5, darks: int = 5, vary: Callable[[int, Shot], Shot] = lambda _index, shot: shot,
) -> Run:
    """Plan a run of an X-ray microscope: darks, flats, then one projection per position of the path (n, 2)."""
    shape = request.shape or FULL_FRAME
    return Run(
        name=name, seed=request.seed, pixel_size_nm=33.24, exposure_s=0.048, scenes=scenes,
        shots=in_time(
            calibration(name, "dark", darks), calibration(name, "flat", flats, first_s=10.0),
            projections(name, path_px, first_s=30.0, every_s=every_s, vary=vary),
        ),
        detector=Detector(
            shape, photons=request.photons or photons, rng=generator(request.seed, "detector"), lighting="condenser"),
    )


def changed(shot: Shot, **fields: object) -> Shot:
    """Return the shot with other values in some fields."""
    return msgspec.structs.replace(shot, **fields)


def in_time(*groups: Iterable[Shot]) -> Sequence[Shot]:
    """Merge plans in the order of exposure; simultaneous ones stay in the order given."""
    return sorted((shot for group in groups for shot in group), key=lambda shot: shot.at_s)


def _canvas_shape(shape: Shape, path_px: NDArray[np.float64]) -> Shape:
    travel = np.ptp(path_px, axis=0)
    rows, columns = (_even_fast(size + float(way) + _SPARE_PX) for size, way in zip(shape, travel, strict=True))
    return rows, columns


def _even_fast(size: float) -> int:
    """Next even size with a fast FFT."""
    return 2 * int(scipy.fft.next_fast_len(int(np.ceil(size / 2)), real=True))
