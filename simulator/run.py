"""A simulated run: a list of shots, and how each becomes a frame and its truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from simulator.deformation import Deformation, source_points
from simulator.detector import Detector, beam_current
from simulator.fields import Shape
from simulator.optics import Blur, Canvas, blurred_window, pixel_positions
from simulator.truth import FrameTruth
from streamer.records import FloatArray, Frame, Kind

Condition = Literal["good", "dump", "empty", "saturated"]

START_S = 1_715_673_600.0
"""2024-05-14 08:00 UTC, when every simulated run begins."""
TRUTH_STEP_PX = 16
_NOISE = 7
"""Keeps the numbers of the noise apart from those of the scene."""


class Shot(msgspec.Struct, frozen=True, kw_only=True):
    """One exposure before it is computed."""

    kind: Kind
    index: int
    acquisition: str
    expected: int
    at_s: float
    """Since the start of the run."""
    view: str = ""
    drift_px: tuple[float, float] = (0.0, 0.0)
    """Relative to the first projection of the view."""
    blur: Blur | None = None
    progress: float = 0.0
    """How far the deformation has grown, 0 to 1; 0 in the first projection."""
    condition: Condition = "good"
    recollects: int | None = None
    """Index of the projection that this one replaces."""


class Scene(NamedTuple):
    """One field of view."""

    canvas: Canvas
    deformation: Deformation | None = None


class Run:
    """A simulated acquisition; any of its frames can be made at any time, the same one every time.

    Parameters
    ----------
    name : str
        Name of the scenario and of the acquisition of its projections.
    shots : sequence of Shot
        What is planned, in order of exposure.
    scenes : mapping of str to Scene
        One per view.
    detector : Detector
        Illumination and camera.
    pixel_size_nm, exposure_s : float
        Written into every frame.
    seed : int
        Of the noise.
    """

    def __init__(
        self, *, name: str, shots: Sequence[Shot], scenes: Mapping[str, Scene], detector: Detector,
        pixel_size_nm: float, exposure_s: float, seed: int,
    ) -> None:
        self.name = name
        self.shots = tuple(shots)
        self.scenes = dict(scenes)
        self.detector = detector
        self.shape: Shape = detector.shape
        self.pixel_size_nm = pixel_size_nm
        self.exposure_s = exposure_s
        self.seed = seed
        self.photons = detector.photons
        self._references: dict[str, Shot] = {}
        """First usable projection of each view."""
        for shot in shots:
            self._refer(shot)

    def __len__(self) -> int:
        return len(self.shots)

    def add(self, shot: Shot) -> int:
        """Add an exposure that was not planned, behind all others whenever it happens; return its position."""
        self.shots = (*self.shots, shot)
        self._refer(shot)
        return len(self.shots) - 1

    def frames(self) -> Iterator[Frame]:
        """Yield all frames that are planned now, in order of exposure."""
        return (self.frame(position) for position in range(len(self.shots)))

    def frame(self, position: int) -> Frame:
        """Make the frame at a position of the plan."""
        shot = self.shots[position]
        pixels = self.detector.expose(
            self.transmission(shot), brightness=_brightness(shot), seed=(_NOISE, self.seed, position))
        pixels.flags.writeable = False
        return Frame(
            pixels=pixels, index=shot.index, acquisition=shot.acquisition, view=shot.view, kind=shot.kind,
            exposed_at=START_S + shot.at_s, received_at=START_S + shot.at_s + self.exposure_s,
            exposure_s=self.exposure_s, pixel_size_nm=self.pixel_size_nm, angle_deg=0.0, expected=shot.expected,
            recollects=shot.recollects,
        )

    def transmission(self, shot: Shot) -> FloatArray | float:
        """Return what the sample lets through during a shot, without illumination and noise."""
        if shot.kind == "dark" or shot.condition == "dump":
            return 0.0
        if shot.kind == "flat" or shot.condition == "empty":
            return 1.0
        scene = self.scenes[shot.view]
        if scene.deformation is None or shot.progress == 0.0:
            return scene.canvas.window(self.shape, shot.drift_px, shot.blur)
        rows, columns = pixel_positions(self.shape, margin=shot.blur is not None)
        y, x = source_points(scene.deformation, rows, columns, drift_px=shot.drift_px, progress=shot.progress)
        image = scene.canvas.sample(y, x)
        return image if shot.blur is None else blurred_window(image, shot.blur)

    @property
    def projections(self) -> tuple[int, ...]:
        """Positions of the projections in the order of their numbers."""
        return tuple(position for position, shot in enumerate(self.shots) if shot.kind == "projection")

    @cached_property
    def grid_px(self) -> tuple[FloatArray, FloatArray]:
        """Rows (K,) and columns (L,) at which the true displacement is given, in pixels of the reference frame."""
        return _grid(self.shape[0]), _grid(self.shape[1])

    def truth(self, position: int) -> FrameTruth:
        """Return what is known about a projection."""
        shot = self.shots[position]
        reference = self._references[shot.view]
        return FrameTruth(
            view=shot.view, usable=shot.condition == "good", condition=shot.condition,
            drift_px=(shot.drift_px[0] - reference.drift_px[0], shot.drift_px[1] - reference.drift_px[1]),
            blur_covariance_px2=np.zeros((2, 2)) if shot.blur is None else shot.blur.covariance_px2,
            blurred=shot.blur is not None, displacement_px=self._displacement(shot), recollects=shot.recollects,
        )

    def regions(self) -> NDArray[np.int32] | None:
        """Return the number of the coherent plate at each grid point, (K, L), where the sample has plates."""
        for scene in self.scenes.values():
            if scene.deformation is not None:
                return scene.deformation.regions(*self._grid_points)
        return None

    def description(self) -> dict[str, Any]:
        """Return what belongs beside the frames of a recording."""
        return {"acquisition": self.name, "scenario": self.name, "seed": self.seed, "photons": self.photons,
                "pixel_size_nm": self.pixel_size_nm, "exposure_s": self.exposure_s}

    @cached_property
    def _grid_points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        rows, columns = np.meshgrid(*(axis.astype(np.float64) for axis in self.grid_px), indexing="ij")
        return rows, columns

    def _refer(self, shot: Shot) -> None:
        if shot.kind != "projection" or shot.condition != "good":
            return
        known = self._references.setdefault(shot.view, shot)
        if shot.at_s < known.at_s:
            self._references[shot.view] = shot

    def _displacement(self, shot: Shot) -> FloatArray:
        deformation = self.scenes[shot.view].deformation
        y, x = self._grid_points
        if deformation is None:
            return np.zeros((2, *y.shape), np.float32)
        return deformation.displacement(y, x, shot.progress).astype(np.float32)


def _grid(size: int) -> FloatArray:
    """Points about `TRUTH_STEP_PX` apart, centred in the frame."""
    count = max(2, size // TRUTH_STEP_PX)
    start = (size - 1 - (count - 1) * TRUTH_STEP_PX) / 2
    return np.asarray(start + TRUTH_STEP_PX * np.arange(count), dtype=np.float32)


def _brightness(shot: Shot) -> float:
    return beam_current(shot.at_s) * (12.0 if shot.condition == "saturated" else 1.0)
