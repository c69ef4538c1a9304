"""Follow the deformation of every view against its reference frame."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.imaging import flow
from streamer.records import FloatArray, FlowResult, Verdict
from streamer.settings import FlowSettings

SMALLEST_OVERLAP = 0.3
"""Share of the frame below which too little of the reference is left in view."""

FrameKey = tuple[str, int]
"""(acquisition, index)."""


class Outcome(NamedTuple):
    """What became of a frame: its field, or why it has none."""

    result: FlowResult | None
    """None when the frame was skipped; `problems` says why."""
    problems: tuple[str, ...] = ()


class Reference(NamedTuple):
    """The frame of a view that its deformation is measured against."""

    key: FrameKey
    image: FloatArray
    weight: NDArray[Any] | None
    drift_px: tuple[float, float]
    """Of the frame, in the coordinates of the session."""
    prepared: flow.Prepared


class FlowTask(NamedTuple):
    """A frame whose field is wanted, with the reference it is measured against; `solve` may run anywhere."""

    view: str
    key: FrameKey
    image: NDArray[Any]
    weight: NDArray[Any] | None
    drift_px: tuple[float, float]
    """Of the frame relative to the reference."""
    reference: Reference
    settings: FlowSettings
    problems: tuple[str, ...] = ()


class Deformation:
    """Displacement fields of the frames of every view, each against the view's reference frame.

    A field depends on its frame, the reference and the drift between them only, so frames may be skipped.
    The first frame of a view that is neither blurred nor bad becomes its reference; a frame of another shape
    starts the view anew.

    Parameters
    ----------
    settings : FlowSettings
        `step_px` and `smoothing_px` are used. Replace `settings` to change them; references stay.
    """

    def __init__(self, settings: FlowSettings) -> None:
        self._settings = settings
        self._references: dict[str, Reference] = {}

    @property
    def settings(self) -> FlowSettings:
        """The settings in force."""
        return self._settings

    @settings.setter
    def settings(self, settings: FlowSettings) -> None:
        if settings.smoothing_px != self._settings.smoothing_px:
            self._references = {
                view: old._replace(prepared=_prepare(old.image, old.weight, settings))
                for view, old in self._references.items()
            }
        self._settings = settings

    def reference_key(self, view: str) -> FrameKey | None:
        """Say which frame is the reference of `view`; None before there is one."""
        reference = self._references.get(view)
        return None if reference is None else reference.key

    def set_reference(self, view: str, key: FrameKey, image: NDArray[Any], *, drift_px: tuple[float, float],
                      weight: NDArray[Any] | None = None) -> None:
        """Make a frame the reference of its view, whatever its verdict (the user's `reference` command).

        Parameters
        ----------
        image : (M, N) array
            Corrected image, proportional to the transmission.
        drift_px : (float, float)
            Drift (y, x) of the frame in the coordinates of the session.
        weight : (M, N) array, optional
            Pixels of weight zero are not used.
        """
        plane = np.array(image, np.float32)   # a copy: the caller may reuse its buffer
        kept = None if weight is None else np.asarray(weight) > 0
        self._references[view] = Reference(key, plane, kept, drift_px, _prepare(plane, kept, self._settings))

    def forget(self, view: str) -> None:
        """Drop the reference of `view`; its next usable frame becomes the reference."""
        self._references.pop(view, None)

    def admit(self, view: str, key: FrameKey, image: NDArray[Any], *, drift_px: tuple[float, float] | None,
              verdict: Verdict, weight: NDArray[Any] | None = None) -> FlowTask | Outcome:
        """Choose the reference of a frame, in the order of the frames; the field itself may be solved anywhere.

        Parameters
        ----------
        view : str
            What is tracked together.
        key : (str, int)
            Acquisition and index of the frame.
        image : (M, N) array
            Corrected image, proportional to the transmission.
        drift_px : (float, float) or None
            Drift (y, x) of the frame in the coordinates of the session; None when it is not known.
        verdict : str
            Blurred and bad frames are skipped.
        weight : (M, N) array, optional
            Pixels of weight zero are not used.

        Returns
        -------
        FlowTask or Outcome
            What `solve` needs, or why the frame is skipped.
        """
        if verdict in {"blurred", "bad"}:
            return Outcome(None, (f"flow: skipped, the frame is {verdict}",))
        if drift_px is None or not np.all(np.isfinite(drift_px)):
            return Outcome(None, ("flow: skipped, the drift of the frame is not known",))
        reference = self._references.get(view)
        problems: tuple[str, ...] = ()
        if reference is not None and reference.image.shape != image.shape:
            problems = (f"flow: reference replaced, frames changed from {_size(reference.image)} to {_size(image)}",)
            reference = None
        if reference is None:
            self.set_reference(view, key, image, drift_px=drift_px, weight=weight)
            reference = self._references[view]
        relative = (drift_px[0] - reference.drift_px[0], drift_px[1] - reference.drift_px[1])
        return FlowTask(view, key, image, weight, relative, reference, self._settings, problems)

    def update(self, view: str, key: FrameKey, image: NDArray[Any], *, drift_px: tuple[float, float] | None,
               verdict: Verdict, weight: NDArray[Any] | None = None) -> Outcome:
        """Measure the displacement field of one frame at once; arguments as for `admit`.

        Returns
        -------
        Outcome
            The field, which is zero for the reference itself, or None and the reason.
        """
        task = self.admit(view, key, image, drift_px=drift_px, verdict=verdict, weight=weight)
        return task if isinstance(task, Outcome) else solve(task)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values and arrays, to be given to `restore`."""
        return {view: {"key": list(kept.key), "image": kept.image, "weight": kept.weight,
                       "drift_px": list(kept.drift_px)}
                for view, kept in self._references.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state made by `snapshot`."""
        self._references = {}
        for view, kept in state.items():
            acquisition, index = kept["key"]
            drift_y, drift_x = kept["drift_px"]
            self.set_reference(view, (str(acquisition), int(index)), kept["image"],
                               drift_px=(float(drift_y), float(drift_x)), weight=kept["weight"])


def solve(task: FlowTask) -> Outcome:
    """Measure the displacement field of an admitted frame; pure.

    Returns
    -------
    Outcome
        The field, which is zero for the reference itself and invalid everywhere when too little is in view.
    """
    started = time.perf_counter()
    reference, settings, problems = task.reference, task.settings, task.problems
    share = _overlap(task.image.shape, task.drift_px)
    if share < SMALLEST_OVERLAP:
        text = (f"flow: only {100 * share:.0f} % of reference frame {reference.key[1]} is in view, "
                f"at least {100 * SMALLEST_OVERLAP:.0f} % is needed; set a new reference")
        problems += (text,)
        field = flow.empty(reference.prepared, step_px=settings.step_px)
    else:
        current = (reference.prepared if task.key == reference.key
                   else _prepare(task.image, task.weight, settings))
        field = flow.displacement(reference.prepared, current, drift_px=task.drift_px, step_px=settings.step_px)
    return Outcome(_result(task.view, task.key, reference, task.drift_px, field, started), problems)


def _prepare(image: NDArray[Any], weight: NDArray[Any] | None, settings: FlowSettings) -> flow.Prepared:
    return flow.prepare(image, smoothing_px=settings.smoothing_px, weight=weight)


def _overlap(shape: tuple[int, ...], drift_px: tuple[float, float]) -> float:
    """Share of the reference that is inside the frame."""
    sides = (max(0.0, 1 - abs(drift) / length) for drift, length in zip(drift_px, shape, strict=True))
    return float(np.prod(list(sides)))


def _size(image: NDArray[Any]) -> str:
    return " x ".join(str(length) for length in image.shape)


def _result(view: str, key: FrameKey, reference: Reference, drift_px: tuple[float, float], field: flow.Field,
            started: float) -> FlowResult:
    statistics = flow.magnitude_statistics(field)
    return FlowResult(
        index=key[1], acquisition=key[0], view=view, reference_index=reference.key[1],
        drift_y_px=drift_px[0], drift_x_px=drift_px[1],
        grid_y_px=field.grid_y_px, grid_x_px=field.grid_x_px, displacement_px=field.displacement_px,
        valid=field.valid, sigma_px=field.sigma_px,
        flow_median_px=None if statistics is None else statistics[0],
        flow_p95_px=None if statistics is None else statistics[1],
        elapsed_ms=1e3 * (time.perf_counter() - started))
