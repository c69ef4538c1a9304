"""The way of a frame through the estimators: the one place that knows the order.

``begin`` (in order, cheap) takes flats and darks in and gives a projection the context it needs;
``measure`` (pure, heavy, anywhere) corrects, takes the spectrum and registers;
``finish`` (in order, cheap) brings in what is remembered of earlier frames and makes the row.

A frame is measured ahead of its turn against the reference of that moment. If the reference changed before its
turn came, `finish` registers it again: results depend on the order of the frames alone, never on timing, workers
or cores, so live and offline give the same numbers.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import msgspec
import numpy as np

from streamer.clock import utc_text
from streamer.columns import blur_columns, drift_columns, resolution_columns
from streamer.errors import CommandError, FrameError
from streamer.imaging import correction as correcting
from streamer.imaging.spectrum import NoiseShape
from streamer.measuring import Clock, Context, Job, Measurement, measure, register
from streamer.records import (
    AnyArray,
    CalibrationState,
    FloatArray,
    Frame,
    FrameRow,
    Leaving,
    SpectraResult,
    StageMove,
    ViewMotion,
)
from streamer.settings import Settings
from streamer.tracking.calibration import Calibration
from streamer.tracking.deformation import Deformation, FlowTask
from streamer.tracking.drift import Drift, DriftResult
from streamer.tracking.drift_track import Spare, spare_from, spare_state
from streamer.tracking.exposure import Exposure
from streamer.tracking.motion import Motion
from streamer.tracking.pattern import PatternEstimate
from streamer.tracking.places import Place, Places
from streamer.tracking.recognition import Recognition
from streamer.tracking.sharpness import Sharpness
from streamer.tracking.spectra import Spectra

__all__ = ["DEFAULT_VIEW", "Job", "Key", "Measurement", "Outcome", "Pipeline", "measure"]

log = logging.getLogger(__name__)

Key = tuple[str, int]
"""A frame: acquisition and index."""

DEFAULT_VIEW = "main"
_TRACKERS = ("calibration", "recognition", "pattern", "exposure", "sharpness", "spectra", "drift", "places", "motion",
             "deformation")
"""What remembers, in attributes of these names."""
SMALLEST_PX = 64
"""Shortest side of a frame that all estimators can work with."""

@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """What became of a frame, and what it changed about earlier ones."""

    row: FrameRow
    refused: bool = False
    revisions: tuple[tuple[Key, dict[str, Any]], ...] = ()
    """Columns of earlier rows that have new values."""
    image: FloatArray | None = None
    weight: FloatArray | None = None
    """Expected photons in `image`, 1 = brightest; None: not known."""
    corrected: bool = False
    """Whether `image` is more than the raw picture without its outliers."""
    noise: NoiseShape | None = None
    """Of `image`; None: white."""
    spectra: SpectraResult | None = None
    flow: FlowTask | None = None
    errands: tuple[Callable[[], object], ...] = ()
    """What the next frames will need and may be done beside them, from any thread, in this order."""
    lost: bool = False
    jump_px: float | None = None
    focus_loss_px: float | None = None
    leaving: Leaving | None = None
    """When the region of interest will leave the field of view; None where the frame does not tell."""
    speed_px: float | None = None
    """Of the trend, per frame; None where it does not tell."""
    stage: StageMove | None = None
    elapsed_ms: dict[str, float] = dataclasses.field(default_factory=dict)


class Pipeline:
    """The estimators of one session and the order in which a frame passes them.

    Parameters
    ----------
    settings : Settings
        Thresholds may be changed later with `configure`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._calibration = Calibration(settings.calibration)
        self._recognition = Recognition(settings.calibration)
        self._pattern = PatternEstimate()
        self._exposure = Exposure(settings.calibration)
        self._sharpness = Sharpness(settings.blur)
        self._spectra = Spectra()
        self._drift = Drift(settings.drift)
        self._places = Places(self._drift)
        self._motion = Motion(settings)
        self._deformation = Deformation(settings.flow)
        self._formats: dict[str, tuple[tuple[int, ...], np.dtype[Any], str]] = {}
        self._newest: dict[str, _Newest] = {}
        self._corrected: dict[str, str] = {}   # how the frames of a view are
        self.calibration = CalibrationState()

    def begin(self, frame: Frame) -> Job:
        """Take a frame in, in order of arrival: flats and darks at once, projections with their context."""
        try:
            return self._begin(frame)
        except FrameError as error:
            return Job(frame, None, f"refused: {error}", refused=True)
        except Exception as error:  # one broken frame must not end a beamtime
            log.exception("%s %d of %r could not be taken in", frame.kind, frame.index, frame.acquisition)
            problem = f"internal error while taking it in: {error}; please report it with the log"
            return Job(frame, None, problem, refused=True)

    def _begin(self, frame: Frame) -> Job:
        if min(frame.pixels.shape) < SMALLEST_PX:
            rows, columns = frame.pixels.shape
            raise FrameError(f"{rows} x {columns} px is too small to be analysed; at least {SMALLEST_PX} px on "
                             "either side are needed")
        problem = self._calibration.add(frame)
        if frame.kind != "projection":
            return Job(frame, None, problem, errand=self._calibration.errand)
        frame = msgspec.structs.replace(frame, view=self._assign(frame))
        named = self._calibration.correction(frame.pixels.shape)
        correction = self._best_correction(frame, named)
        return Job(frame, Context(correction, self._places.target(frame.view), self._settings, named))

    def finish(self, job: Job, measurement: Measurement | FrameError | None) -> Outcome:
        """Bring a measured frame together with what came before it; in order of arrival."""
        frame = job.frame
        if job.context is not None:
            correction = self._best_correction(frame, job.context.named)
            if correction is not job.context.correction:   # earlier frames taught another while this one was measured
                job = dataclasses.replace(job, context=dataclasses.replace(job.context, correction=correction))
                measurement = measure(job)
        if isinstance(measurement, Measurement) and job.context is not None:
            return self._track(frame, measurement, job.context)
        problem, refused = job.problem, job.refused
        if isinstance(measurement, FrameError):
            problem, refused = str(measurement), True
        row = FrameRow(index=frame.index, acquisition=frame.acquisition, view=frame.view or DEFAULT_VIEW,
                       kind=frame.kind, exposed_at=utc_text(frame.exposed_at),
                       received_at=utc_text(frame.received_at), problems=problem, **_as_sent(frame))
        return Outcome(row, refused=refused)

    def _assign(self, frame: Frame) -> str:
        """Return the view of a projection, or raise a FrameError when it does not fit into it.

        A view keeps the shape and type of its first frame. A new acquisition may bring another: it gets a view of
        its own, while a stray frame in the middle of an acquisition is refused.
        """
        view = frame.view or DEFAULT_VIEW
        shape, dtype = frame.pixels.shape, frame.pixels.dtype
        known = self._formats.setdefault(view, (shape, dtype, frame.acquisition))
        if known[:2] == (shape, dtype):
            return view
        if known[2] == frame.acquisition:
            raise FrameError(f"{_describe(shape, dtype)}, but view {view!r} began with {_describe(*known[:2])}; "
                             "start a new acquisition to change the format")
        return self._assign(msgspec.structs.replace(frame, view=f"{view} {_describe(shape, dtype)}"))

    def _track(self, frame: Frame, measurement: Measurement, context: Context) -> Outcome:
        elapsed = dict(measurement.elapsed_ms)
        clock = Clock(elapsed)
        stream, key = frame.view, (frame.acquisition, frame.index)
        registration = measurement.registration
        changed_how = self._recorrect(stream, context.correction)
        target = self._places.target(stream)
        if target.version != measurement.target_version:   # the reference changed while this frame was measured
            registration = register(measurement.image, context.correction, target, self._settings)
        clock.lap("register_again")
        problem = self._exposure.judge(stream, measurement.level, measurement.spectrum.power)
        finding = self._recognition.look(frame, measurement.level, context.named, usable=not problem)
        problem = finding.problem or problem
        held = Spare(key, measurement.image, context.correction.weight, (0.0, 0.0), None,
                     context.correction.noisy_flats)
        place = Place(stream, registration) if problem else self._places.assign(stream, held, registration)
        view, registration = place.view, place.registration
        frame = msgspec.structs.replace(frame, view=view)
        spectra = self._spectra.update(
            view, key, measurement.spectrum, baseline=self._sharpness.baseline_keys(view), noise=measurement.noise,
            resolution=measurement.resolution, usable=not problem)
        sharp = self._sharpness.update(view, key, measurement.spectrum.power, modes=measurement.spectrum.modes,
                                       usable=not problem, drift_px=self._drift.position(view, registration))
        verdict = "bad" if problem else sharp.verdict
        self._places.judged(stream, key, blurred=verdict == "blurred")
        moved = self._drift.update(view, key, measurement.image, registration, verdict=verdict,
                                   weight=context.correction.weight, flats=context.correction.noisy_flats,
                                   at_s=self._taken_at(frame))
        leaving, stage = self._follow_motion(frame, moved)
        row = FrameRow(
            index=frame.index, acquisition=frame.acquisition, view=view, kind=frame.kind,
            exposed_at=utc_text(frame.exposed_at), received_at=utc_text(frame.received_at), **_as_sent(frame),
            **(blur_columns(sharp) | drift_columns(moved) | {"verdict": verdict}),
            **({} if problem else resolution_columns(measurement.resolution, self._pixel_size_nm(frame))),
            problems="; ".join(filter(None, (problem, changed_how, *sharp.problems, *moved.problems))))
        if any(changed == self._deformation.reference_key(view) and result.verdict == "blurred"
               for changed, result in sharp.revisions):
            self._deformation.forget(view)   # what looked sharp at first was not; this frame or the next takes over
        revisions = [(changed, blur_columns(result)) for changed, result in sharp.revisions]
        revisions += [(changed, drift_columns(result)) for changed, result in moved.revisions]
        if place.founder is not None:
            changed, origin = place.founder
            revisions.append((changed, drift_columns(origin) | {"view": view, "problems": "; ".join(origin.problems)}))
        revisions += [(other, {"verdict": "bad", "problems": finding.problem_of_earlier}) for other in finding.earlier]
        task = self._flow_task(row, measurement.image, context)
        if verdict in {"sharp", "undecided"} and row.drift_y_px is not None:
            drift_px = row.drift_y_px, row.drift_x_px or 0.0
            self._newest[view] = _Newest(held._replace(drift=drift_px), row.drift_sigma_px or 0.0, frame.pixels)
            if view == stream and verdict == "sharp" and not row.provisional and (
                    context.correction.gain is None or context.correction.estimated_from):
                self._pattern.learn(view, measurement.image, context.correction, drift_px=drift_px,
                                    sigma_px=row.drift_sigma_px or 0.0)
        clock.lap("track")
        return Outcome(row, revisions=tuple(revisions), image=measurement.image, weight=context.correction.weight,
                       corrected=context.correction.gain is not None or context.correction.dark is not None,
                       noise=measurement.noise, spectra=spectra, flow=task,
                       errands=self._drift.errands(view),
                       lost=moved.lost, jump_px=moved.jump_px, focus_loss_px=sharp.focus_loss_px, leaving=leaving,
                       stage=stage, speed_px=None if leaving is None else self._motion.speed_px(view),
                       elapsed_ms=elapsed)

    def _taken_at(self, frame: Frame) -> float | None:
        trend = None if frame.recollects is None else self._drift.trend(frame.view)
        return frame.exposed_at if trend is None else trend.time_of_retake(frame.exposed_at)

    def _follow_motion(self, frame: Frame, moved: DriftResult) -> tuple[Leaving | None, StageMove | None]:
        """Say when the region of interest will leave the field of view, and what would bring it back."""
        trend = self._drift.trend(frame.view)
        if trend is None or moved.jitter_y_px is None or moved.jitter_x_px is None:
            return None, None
        rows, columns = frame.pixels.shape
        found = self._motion.update(frame.view, trend, (moved.jitter_y_px, moved.jitter_x_px), shape=(rows, columns),
                                    pixel_size_nm=self._pixel_size_nm(frame))
        return (None, None) if found is None else found

    def _best_correction(self, frame: Frame, named: correcting.Correction) -> correcting.Correction:
        """By flats that were named, else recognised, else by the pattern told from the moving sample."""
        return self._pattern.correction(frame.view, self._recognition.correction(named, frame.pixels.shape))

    def _recorrect(self, view: str, correction: correcting.Correction) -> str:
        """Follow a change in what frames are corrected by; return what to say about it.

        Spectra, brightness and keys of before would not compare with what comes: the pattern of the detector is
        in them, or it no longer is. The drift goes on from the newest good frame, corrected once more.
        """
        flats = correction.gain is not None and not correction.estimated_from
        self.calibration = CalibrationState(
            pattern="flats" if flats else self._pattern.word(view), flats=correction.flats, darks=correction.darks,
            counts_per_photon=correction.counts_per_photon, photons_per_px=correction.photons_per_px)
        now = _calibrated_by(correction)
        before = self._corrected.setdefault(view, now)
        if now == before:
            return ""
        self._corrected[view] = now
        self._exposure.recalibrated(view)
        self._sharpness.recalibrated(view)
        for one in self._places.views(view) if {now, before} != {"nothing", "darks"} else ():   # contrast alone changes
            newest = self._newest.get(one)
            if newest is None:
                continue
            image = correcting.correct(newest.pixels, correction, zinger_sigma=self._settings.calibration.zinger_sigma)
            place = newest.place._replace(image=image, weight=correction.weight, flats=correction.noisy_flats)
            self._newest[one] = newest._replace(place=place)
            self._drift.recalibrated(one, place, sigma_px=newest.sigma_px)
        return f"corrected by {now} from here on, before by {before}: new blur baseline"

    def _pixel_size_nm(self, frame: Frame) -> float | None:
        return self._settings.pixel_size_nm or frame.pixel_size_nm

    def _flow_task(self, row: FrameRow, image: FloatArray, context: Context) -> FlowTask | None:
        if not self._settings.flow.enabled or row.verdict is None:
            return None
        position = None if row.drift_y_px is None or row.drift_x_px is None else (row.drift_y_px, row.drift_x_px)
        task = self._deformation.admit(row.view, (row.acquisition, row.index), image, drift_px=position,
                                       verdict=row.verdict, weight=context.correction.weight)
        return task if isinstance(task, FlowTask) else None   # the verdict or the drift in the row says why

    @property
    def motion(self) -> list[ViewMotion]:
        """How the sample of every view moves."""
        return self._motion.views()

    def configure(self, settings: Settings) -> None:
        """Put new thresholds in force, from the next frame on."""
        self._settings = settings
        self._exposure.configure(settings.calibration)
        self._recognition.configure(settings.calibration)
        self._sharpness.configure(settings.blur)
        self._deformation.settings = settings.flow
        self._motion.configure(settings)

    def set_reference(self, view: str) -> int:
        """Make the newest usable frame of a view the reference of drift and flow; return its index.

        Raises
        ------
        CommandError
            If the view is not known.
        """
        if view not in self._newest:
            known = ", ".join(map(repr, self._newest)) or "none yet"
            raise CommandError(f"no usable frame of view {view!r} to take as reference; known views: {known}")
        key, image, weight = self._newest[view].place[:3]
        self._drift.rebase(view, key)
        self._deformation.set_reference(view, key, image, drift_px=(0.0, 0.0), weight=weight)
        return key[1]


    def snapshot(self) -> dict[str, Any]:
        """Return all that is remembered of earlier frames, as builtins and arrays that are never changed.

        Frames that were begun must be finished before.
        """
        return {name: getattr(self, f"_{name}").snapshot() for name in _TRACKERS} | {
            "formats": {view: [list(shape), dtype.str, acquisition]
                        for view, (shape, dtype, acquisition) in self._formats.items()},
            "newest": {view: [spare_state(kept.place), kept.sigma_px, kept.pixels]
                       for view, kept in self._newest.items()},
            "corrected": dict(self._corrected), "calibration_state": msgspec.to_builtins(self.calibration)}

    @classmethod
    def restored(cls, settings: Settings, state: Mapping[str, Any]) -> Self:
        """Return a pipeline that goes on where `snapshot` was taken: every later frame ends in the same row.

        Parameters
        ----------
        settings : Settings
            May differ from those of before; they act from the next frame on.
        state : mapping
        """
        pipeline = cls(settings)
        for name in _TRACKERS:
            getattr(pipeline, f"_{name}").restore(state[name])
        pipeline._formats = {view: (tuple(shape), np.dtype(dtype), acquisition)
                             for view, (shape, dtype, acquisition) in state["formats"].items()}
        pipeline._newest = {view: _Newest(spare_from(place), sigma_px, pixels)
                            for view, (place, sigma_px, pixels) in state["newest"].items()}
        pipeline._corrected = dict(state["corrected"])
        pipeline.calibration = msgspec.convert(state["calibration_state"], CalibrationState)
        return pipeline


class _Newest(NamedTuple):
    """The newest usable frame of a view."""

    place: Spare
    sigma_px: float
    pixels: AnyArray
    """Raw."""


def _as_sent(frame: Frame) -> dict[str, Any]:
    return {name: getattr(frame, name) for name in ("recollects", "exposure_s", "angle_deg", "energy_ev")}


def _calibrated_by(correction: correcting.Correction) -> str:
    pattern = f"the pattern in {correction.estimated_from} frames" if correction.estimated_from else "flats"
    used = [name for name, there in ((pattern, correction.gain), ("darks", correction.dark)) if there is not None]
    return " and ".join(used) or "nothing"


def _describe(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    return f"{' x '.join(map(str, shape))} {dtype.name}"
