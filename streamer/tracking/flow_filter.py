"""What is remembered of a deforming sample from frame to frame: evidence averaged in time, and a better reference."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from streamer.imaging import flow, flow_evidence
from streamer.imaging.flow_cells import apply, solve, window
from streamer.imaging.flow_evidence import Evidence
from streamer.imaging.flow_model import Model, make_model
from streamer.imaging.flow_refinement import Solution
from streamer.records import FloatArray

MEMORY = 12
"""Frames that the straight line through the evidence of a cell rests on."""
LEARNED_FRAMES = 4
"""After so many the reference is replaced by the mean of it and them, motion compensated: less noise that stays."""
LARGEST_LEARNED_PX = 0.5
"""Errors of the fields that frames are put back with stay in the mean; beyond this motion they outweigh the noise."""
KEPT = 3
"""Frames that the evidence counts for after that."""
PACE_WINDOW_PX = 16.0
SURPRISE_WINDOW_PX, LARGEST_SURPRISE = 24.0, 8.0
"""Power of an innovation, in units of noise, beyond which a cell forgets what was before."""
USUAL_SURPRISE = 1.0
"""Where it is more than this in half of the frame, the sample does not move in straight lines: a shorter memory."""
LOST_SHARE = 0.1
"""Of the cells that matched before; when so many no longer do, the whole field is searched for anew."""
FAR_PX = 0.15
"""A frame that moved further than this from where it was expected is read again."""
LEAST_TRUST = 0.5
"""A frame that counts for less than this is searched without the path, in case it is the path that is wrong."""
FORGET = np.float32(0.2)
LARGEST_SIGMA_PX = 1.0
"""Motion against each other within a window is in this sigma, which is still worth having."""


class Learned(NamedTuple):
    """Mean of the frames so far, put back where they were in the reference."""

    total: FloatArray
    """(M, N) sum of absorbance."""
    weight: FloatArray
    """(M, N) frames in it."""
    frames: int


class Track(NamedTuple):
    """State of one view against one reference; arrays are at the cells of the reference and are never written to."""

    place: int
    """Number of the newest frame, counted in the view."""
    model: Model
    learned: Learned | None
    """None once the reference has been learned."""
    merged: int
    """Frames that `model` is the mean of."""
    vector: FloatArray
    """(k, l, 2) evidence on the straight line."""
    trend: FloatArray
    """(k, l, 2) its change per frame."""
    support: FloatArray
    """(k, l) frames that it rests on."""
    noise: FloatArray
    """(k, l) variance of the white noise of one frame and the reference."""
    energy: FloatArray
    """(k, l) residual energy."""
    solution: Solution
    """The newest field, the rigid part left out."""
    rigid_px: FloatArray


def begin(reference: flow.Prepared, frame: flow.Prepared, *, drift_px: tuple[float, float], place: int) -> Track | None:
    """Search for the field of the first frame; None when there is nothing to find."""
    solution = flow.match(reference, frame, drift_px=drift_px)
    if solution is None:
        return None
    model = reference.model
    learned = Learned(reference.absorbance, np.ones_like(reference.absorbance), 1)
    evidence = _read(model, 1, frame, solution.displacement_px, np.zeros(2, np.float32), drift_px)
    track = _restarted(model, evidence, solution, place, learned=learned, merged=1)
    return _learn(track, reference, frame, drift_px)


def advance(track: Track, reference: flow.Prepared, frame: flow.Prepared, *, drift_px: tuple[float, float],
            place: int) -> tuple[Track, bool]:
    """Follow one frame further; also say whether the field had to be searched for anew."""
    elapsed = np.float32(place - track.place)
    pace = solve(window(track.model.signal_tensor, PACE_WINDOW_PX), window(track.trend, PACE_WINDOW_PX))
    predicted = track.solution.displacement_px + pace * elapsed
    evidence = _read(track.model, track.merged, frame, predicted, track.rigid_px, drift_px)
    following = _filtered(track, evidence, predicted, elapsed, place)
    found = following.solution.displacement_px
    seen = following.solution.valid[::2, ::2]   # what is out of view may be predicted to be anywhere
    moved = np.abs(found - predicted)[::2, ::2][seen]
    if moved.size and np.percentile(moved, 90) > FAR_PX:   # evidence is linear nearby only
        evidence = _read(track.model, track.merged, frame, found, evidence.rigid_px, drift_px)
        following = _filtered(track, evidence, found, elapsed, place)
    if _lost(track, following, evidence):
        anew = _searched(track, following, evidence, reference, frame, drift_px=drift_px, place=place)
        if anew is not None:
            return anew, True
    return _learn(following, reference, frame, drift_px), False


def _lost(track: Track, following: Track, evidence: Evidence) -> bool:
    """Suspect that the field slipped: much that matched no longer does, or the residual has grown."""
    expected = track.solution.valid & (evidence.reading.share > 0.5)
    gone = np.count_nonzero(expected & ~following.solution.valid)
    return bool(gone > LOST_SHARE * np.count_nonzero(expected)) or _trust(track, evidence) < LEAST_TRUST


def _searched(track: Track, following: Track, evidence: Evidence, reference: flow.Prepared, frame: flow.Prepared, *,
              drift_px: tuple[float, float], place: int) -> Track | None:
    """Search without the path so far; None when that is no better, as for a frame that is blurred."""
    anew = flow.match(reference, frame, drift_px=drift_px, model=track.model)
    if anew is None:
        return None
    again = _read(track.model, track.merged, frame, anew.displacement_px, np.zeros(2, np.float32), drift_px)
    left, before = (float(np.median(one.energy)) for one in (again, evidence))
    more = np.count_nonzero(anew.valid) > 1.05 * np.count_nonzero(following.solution.valid)
    if not more and left > 0.8 * before:
        return None
    return _restarted(track.model, again, anew, place, learned=track.learned, merged=track.merged)


def whole(track: Track) -> Solution:
    """Put the rigid part back into the field."""
    return track.solution._replace(displacement_px=track.solution.displacement_px + track.rigid_px)


def _read(model: Model, merged: int, frame: flow.Prepared, predicted: FloatArray, rigid_px: FloatArray,
          drift_px: tuple[float, float]) -> Evidence:
    noise = frame.noise * math.sqrt((1 + 1 / merged) / 2)   # a mean of frames is less noisy than this one
    return flow_evidence.observe(model, frame.absorbance, frame.usable, predicted, drift_px=drift_px,
                                 rigid_px=rigid_px, noise=noise, dimness=frame.dimness)


def _restarted(model: Model, evidence: Evidence, solution: Solution, place: int, *, learned: Learned | None,
               merged: int) -> Track:
    share, zero = evidence.reading.share, np.zeros_like(evidence.vector)
    return Track(
        place, model, learned, merged, evidence.vector, zero, (share > 0.5).astype(np.float32), evidence.noise,
        evidence.energy, solution._replace(displacement_px=solution.displacement_px - evidence.rigid_px),
        evidence.rigid_px)


def _filtered(track: Track, evidence: Evidence, predicted: FloatArray, elapsed: np.float32, place: int) -> Track:
    """Update the straight line of every cell by least squares with a limited memory (an alpha-beta filter)."""
    reading = evidence.reading
    innovation = evidence.vector - track.vector - track.trend * elapsed
    seen = reading.share > 0.5
    surprise = flow_evidence.surprise(evidence, innovation, SURPRISE_WINDOW_PX)
    usual = float(np.median(surprise[::2, ::2]))
    memory = MEMORY * min(1.0, (USUAL_SURPRISE / usual) ** 1.5) if usual > 0 else MEMORY
    count = np.minimum(track.support + 1, np.where(surprise > LARGEST_SURPRISE, 2, max(2.0, memory)))
    count = np.where(seen, count, 0).astype(np.float32)
    solid = np.maximum(count, np.float32(1))
    trust = np.float32(_trust(track, evidence)) * seen
    alpha = trust * np.minimum(2 * (2 * solid - 1) / (solid * (solid + 1)), 1)
    beta = trust * (count > 1) * np.minimum(6 / (solid * (solid + 1)), 1)
    vector = track.vector + track.trend * elapsed + alpha[..., None] * innovation
    trend = track.trend + beta[..., None] / elapsed * innovation
    noise = track.noise + np.maximum(alpha, FORGET) * trust * (evidence.noise - track.noise)
    energy = track.energy + np.maximum(alpha, FORGET) * trust * (evidence.energy - track.energy)
    left = (alpha * track.merged + 1) / (track.merged + 1)   # the noise of the reference does not average out
    found = flow_evidence.estimate(reading, vector, noise=noise * left, energy=energy, around=predicted)
    at = found.field + evidence.rigid_px
    valid = reading.trusted(at, flow_evidence.expected_energy(evidence, at), found.variance,
                                     largest_px=LARGEST_SIGMA_PX)
    return track._replace(place=place, vector=vector, trend=trend, support=count, noise=noise, energy=energy,
                          solution=Solution(found.field, found.variance, valid), rigid_px=evidence.rigid_px)


def _trust(track: Track, evidence: Evidence) -> float:
    """How much less than usual a frame says: one that is blurred leaves a larger residual."""
    usual, now = (float(np.median(energy[::2, ::2])) for energy in (track.energy, evidence.energy))
    return min(1.0, (1.2 * usual / now) ** 2) if now > 0 else 1.0


def _learn(track: Track, reference: flow.Prepared, frame: flow.Prepared, drift_px: tuple[float, float]) -> Track:
    """Add the frame to the mean, and put the mean in the place of the reference when it is time."""
    if track.learned is None:
        return track
    if np.percentile(np.abs(track.solution.displacement_px[::2, ::2]), 90) > LARGEST_LEARNED_PX:
        return track._replace(learned=None)
    moved = flow_evidence.compensate(frame.absorbance, track.solution.displacement_px + track.rigid_px,
                                     drift_px=drift_px)
    total, count, frames = track.learned
    inside = np.isfinite(moved)
    if not inside.any():
        return track
    moved -= np.float32(np.median((moved - reference.absorbance)[::4, ::4][inside[::4, ::4]]))
    learned = Learned(total + np.where(inside, moved, np.float32(0)), count + inside, frames + 1)
    if frames < LEARNED_FRAMES:
        return track._replace(learned=learned)
    model = make_model(learned.total / learned.weight, reference.usable, smoothing_px=reference.smoothing_px,
                       noise=reference.noise / float(np.sqrt(learned.frames)), dimness=reference.dimness)
    pace = solve(window(track.model.signal_tensor, PACE_WINDOW_PX), window(track.trend, PACE_WINDOW_PX))
    field = track.solution.displacement_px
    return track._replace(
        model=model, learned=None, merged=learned.frames,
        vector=apply(model.signal_tensor, field), trend=apply(model.signal_tensor, pace),
        support=np.minimum(track.support, np.float32(KEPT)))
