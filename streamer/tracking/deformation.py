"""Follow the deformation of every view against its reference frame.

`Deformation.admit` runs in order for every frame and is cheap; it makes tasks. `Follower.solve` computes the field of
a task and remembers what the fields before it have taught; it runs in one thread, and may be given some tasks only.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.imaging import flow
from streamer.imaging.flow_composition import compose
from streamer.imaging.flow_refinement import Solution
from streamer.records import FloatArray, FlowResult, Verdict
from streamer.settings import FlowSettings
from streamer.tracking import flow_filter

SMALLEST_OVERLAP = 0.3
"""Share of the frame below which too little of the reference is left in view."""

VIEWS = 8
"""Views whose path is remembered, those seen last; one that comes back later is searched for anew."""
KEY_EVERY, KEY_AGAIN, FADING = 8, 3, 0.8
"""Frames between two key frames, kept for the time when the reference is no longer recognised; fewer once less than
this share of the points matched at best still does."""
LEAST_COVERAGE = 0.4
"""Share of the points matched at best below which a frame is looked for by way of the key frame."""
NOTHING_SHARED = 0.02
"""Share of valid points below which a frame is said to share nothing with the reference."""

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


def make_reference(key: FrameKey, image: FloatArray, weight: NDArray[Any] | None, drift_px: tuple[float, float],
                   settings: FlowSettings) -> Reference:
    """Make a frame ready to be measured against; arguments as the fields of `Reference`, arrays are not copied."""
    return Reference(key, image, weight, drift_px, _prepare(image, weight, settings))


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
    place: int = 0
    """Number of the frame, counted in the view, frames without a task included."""


class Deformation:
    """Displacement fields of the frames of every view, each against the view's reference frame.

    The first frame of a view that is neither blurred nor bad becomes its reference; a frame of another shape
    starts the view anew.

    Parameters
    ----------
    settings : FlowSettings
        `step_px`, `smoothing_px` and `method` are used. Replace `settings` to change them; references stay.
    """

    def __init__(self, settings: FlowSettings) -> None:
        self._settings = settings
        self._references: dict[str, Reference] = {}
        self._places: dict[str, int] = {}
        self._follower = Follower()

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
            Expected photons per pixel; pixels of weight zero are not used.
        """
        plane = np.array(image, np.float32)   # a copy: the caller may reuse its buffer
        light = None if weight is None else np.asarray(weight)
        self._references[view] = make_reference(key, plane, light, drift_px, self._settings)

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
        place = self._places[view] = self._places.get(view, -1) + 1
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
        return FlowTask(view, key, image, weight, relative, reference, self._settings, problems, place)

    def update(self, view: str, key: FrameKey, image: NDArray[Any], *, drift_px: tuple[float, float] | None,
               verdict: Verdict, weight: NDArray[Any] | None = None) -> Outcome:
        """Measure the displacement field of one frame at once; arguments as for `admit`.

        Returns
        -------
        Outcome
            The field, which is zero for the reference itself, or None and the reason.
        """
        task = self.admit(view, key, image, drift_px=drift_px, verdict=verdict, weight=weight)
        return task if isinstance(task, Outcome) else self._follower.solve(task)

    def snapshot(self) -> dict[str, Any]:
        """Return the references as plain values and arrays, to be given to `restore`.

        What was learned from fields is not among it: the first frame after `restore` is searched for anew.
        """
        return {view: {"key": list(kept.key), "image": kept.image, "weight": kept.weight,
                       "drift_px": list(kept.drift_px)}
                for view, kept in self._references.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state made by `snapshot`."""
        self._references, self._follower = {}, Follower()
        for view, kept in state.items():
            acquisition, index = kept["key"]
            drift_y, drift_x = kept["drift_px"]
            self.set_reference(view, (str(acquisition), int(index)), kept["image"],
                               drift_px=(float(drift_y), float(drift_x)), weight=kept["weight"])


class Key(NamedTuple):
    """A frame whose field is known, by way of which later ones may be found."""

    key: FrameKey
    place: int
    prepared: flow.Prepared
    drift_px: tuple[float, float]
    """Relative to the reference."""
    solution: Solution


class _Path(NamedTuple):
    """What is known of a view."""

    reference: Reference
    track: flow_filter.Track
    key: Key | None = None
    coverage: float = 0.0
    """Share of the points in view that matched in the newest frame."""
    best: float = 0.0
    """The largest there ever was."""

    @property
    def recognised(self) -> bool:
        """Whether the reference is still seen in the frames."""
        return self.coverage >= LEAST_COVERAGE * self.best


class Follower:
    """Fields of successive tasks, each helped by what those before have taught.

    One thread at a time may use it. Tasks of a view must come in order; any may be left out, which costs accuracy only.
    """

    def __init__(self) -> None:
        self._paths: OrderedDict[str, _Path] = OrderedDict()

    def solve(self, task: FlowTask) -> Outcome:
        """Measure the displacement field of an admitted frame.

        Returns
        -------
        Outcome
            The field, which is zero for the reference itself and invalid where nothing matches, and the reason.
        """
        if task.settings.method != "tracked" or task.key == task.reference.key or _too_far(task):
            return solve(task)
        started = time.perf_counter()
        frame = _prepare(task.image, task.weight, task.settings)
        path, problems = self._follow(task, frame)
        if path is None:
            self._paths.pop(task.view, None)
            return _finished(task, None, started, problems)
        solution = flow_filter.whole(path.track)
        coverage = _coverage(task, solution)
        path = path._replace(coverage=coverage, best=max(path.best, coverage))
        if path.key is not None and not path.recognised:
            solution, problems = _by_way_of(path.key, task, frame, solution, problems)
        wait = KEY_EVERY if coverage > FADING * path.best else KEY_AGAIN
        due = path.key is None or task.place - path.key.place >= wait
        if due and _coverage(task, solution) >= LEAST_COVERAGE * path.best:
            path = path._replace(key=Key(task.key, task.place, frame, task.drift_px, solution))
        self._paths[task.view] = path
        self._paths.move_to_end(task.view)
        while len(self._paths) > VIEWS:
            self._paths.popitem(last=False)
        return _finished(task, solution, started, problems)

    def _follow(self, task: FlowTask, frame: flow.Prepared) -> tuple[_Path | None, tuple[str, ...]]:
        """Go on from the frame before, or begin."""
        prepared, known = task.reference.prepared, self._paths.get(task.view)
        if known is not None and (known.reference is not task.reference or known.track.place >= task.place):
            known = None
        if known is not None and known.recognised:
            track, anew = flow_filter.advance(known.track, prepared, frame, drift_px=task.drift_px, place=task.place)
            return known._replace(track=track), (("flow: lost for a moment, found anew",) if anew else ())
        begun = flow_filter.begin(prepared, frame, drift_px=task.drift_px, place=task.place)
        if begun is None:
            return None, ()
        return _Path(task.reference, begun) if known is None else known._replace(track=begun), ()


def _coverage(task: FlowTask, solution: Solution) -> float:
    return float(solution.valid.mean()) / _overlap(task.image.shape, task.drift_px)


def solve(task: FlowTask) -> Outcome:
    """Measure the displacement field of an admitted frame from this frame alone; pure.

    Returns
    -------
    Outcome
        The field, which is zero for the reference itself and invalid everywhere when too little is in view.
    """
    started = time.perf_counter()
    reference, settings = task.reference, task.settings
    if _too_far(task):
        share = _overlap(task.image.shape, task.drift_px)
        text = (f"flow: only {100 * share:.0f} % of reference frame {reference.key[1]} is in view, "
                f"at least {100 * SMALLEST_OVERLAP:.0f} % is needed; set a new reference")
        return _result(task, flow.empty(reference.prepared, step_px=settings.step_px), started, (text,))
    current = reference.prepared if task.key == reference.key else _prepare(task.image, task.weight, settings)
    if settings.method == "dis":
        solution = flow.search(reference.prepared, current, drift_px=task.drift_px)
    else:
        solution = flow.match(reference.prepared, current, drift_px=task.drift_px)
    return _finished(task, solution, started, ())


def _by_way_of(key: Key, task: FlowTask, frame: flow.Prepared, direct: Solution, problems: tuple[str, ...]
               ) -> tuple[Solution, tuple[str, ...]]:
    """Measure against the key frame and add its field, where that is better than what was found directly."""
    further = task.drift_px[0] - key.drift_px[0], task.drift_px[1] - key.drift_px[1]
    step = flow.match(key.prepared, frame, drift_px=further)
    if step is None:
        return direct, problems
    composed = compose(key.solution, step, drift_px=key.drift_px)
    if composed.valid.mean() <= max(NOTHING_SHARED, 1.2 * direct.valid.mean()):
        return direct, problems
    return composed, (*problems, f"flow: reference no longer recognised, measured by way of frame {key.key[1]}")


def _finished(task: FlowTask, solution: Solution | None, started: float, problems: tuple[str, ...]) -> Outcome:
    """Read the solution on the grid, and say so when there is none."""
    prepared, step_px = task.reference.prepared, task.settings.step_px
    field = (flow.empty(prepared, step_px=step_px) if solution is None else
             flow.sample(solution, prepared.absorbance.shape, step_px=step_px))
    if field.valid.mean() < NOTHING_SHARED:
        problems = (*problems, f"flow: no structure in common with reference frame {task.reference.key[1]}")
    return _result(task, field, started, problems)


def _too_far(task: FlowTask) -> bool:
    return _overlap(task.image.shape, task.drift_px) < SMALLEST_OVERLAP


def _prepare(image: NDArray[Any], weight: NDArray[Any] | None, settings: FlowSettings) -> flow.Prepared:
    return flow.prepare(image, smoothing_px=settings.smoothing_px, weight=weight)


def _overlap(shape: tuple[int, ...], drift_px: tuple[float, float]) -> float:
    """Share of the reference that is inside the frame."""
    sides = (max(0.0, 1 - abs(drift) / length) for drift, length in zip(drift_px, shape, strict=True))
    return float(np.prod(list(sides)))


def _size(image: NDArray[Any]) -> str:
    return " x ".join(str(length) for length in image.shape)


def _result(task: FlowTask, field: flow.Field, started: float, problems: tuple[str, ...]) -> Outcome:
    statistics = flow.magnitude_statistics(field)
    result = FlowResult(
        index=task.key[1], acquisition=task.key[0], view=task.view, reference_index=task.reference.key[1],
        drift_y_px=task.drift_px[0], drift_x_px=task.drift_px[1],
        grid_y_px=field.grid_y_px, grid_x_px=field.grid_x_px, displacement_px=field.displacement_px,
        valid=field.valid, sigma_px=field.sigma_px,
        flow_median_px=None if statistics is None else statistics[0],
        flow_p95_px=None if statistics is None else statistics[1],
        elapsed_ms=1e3 * (time.perf_counter() - started))
    return Outcome(result, task.problems + problems)
