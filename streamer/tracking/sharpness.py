"""Which frames are blurred: a state machine per view around the blur estimate.

Every frame is compared with the mean spectrum of the last accepted frames of its view. Blurred frames never
enter that baseline. Until enough frames are accepted, verdicts are provisional and are given again, as
revisions, once the baseline stands. A frame that is sharper than the baseline shows that the baseline itself
was blurred: it takes its place, and the earlier rows are judged again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from itertools import islice
from statistics import median
from typing import Any

import numpy as np

from streamer.imaging.blur import Baseline, BlurEstimate, baseline_of, estimate_blur, shape_of
from streamer.imaging.spectrum import ComplexArray, PolarPower
from streamer.records import Verdict
from streamer.settings import BlurSettings
from streamer.tracking.average import RegisteredAverage
from streamer.tracking.psf_groups import PsfGroups
from streamer.tracking.sharpness_state import Key, Row, SharpnessResult, ViewState, clear, pack, unpack

__all__ = ["HISTORY", "Key", "Sharpness", "SharpnessResult"]

HISTORY = 512
"""Rows of a view that may still be revised."""

_SHARPER_SCORE = 4.0      # significance from which the baseline is blurred against a frame
_MISFIT = 2.5             # reduced chi-square of a fit that may have gone astray
_ACCEPT_MARGIN = 1.0      # a frame this close below the threshold is sharp, but no model for others
_LOCKED_OUT = 8           # more consecutive rejections than this, and the baseline is wrong
_CONFIRMED_WITHIN = 16    # frames within which a second sharper frame must confirm the first
_GAIN_LIMIT = 2.0         # contrast changed by more than this factor of power...
_FOREIGN_TEXTURE = 0.8    # ...or single modes by more than this: another place
_ODD_FRAMES = 3           # as often in a row: a new baseline
_FAR_SHARE = 0.3          # of the frame: baseline frames that drifted further show other structure
_MOST_VIEWS = 512         # least recently seen views are forgotten...
_WARM_VIEWS = 64          # ...and lose their average, a megabyte each, before


class Sharpness:
    """Judge frames, one baseline per view.

    A frame is *blurred* when its score is above `score_threshold` and its length above `shortest_px`. It is
    *undecided* when it is not blurred, but blur of `tolerance_px` could have gone unnoticed; else *sharp*.
    Significant blur shorter than the tolerance still is blurred: the tolerance says what must be seen.

    Parameters
    ----------
    settings : BlurSettings
    """

    def __init__(self, settings: BlurSettings) -> None:
        self._settings = settings
        self._views: OrderedDict[str, ViewState] = OrderedDict()
        self._groups = PsfGroups()

    def configure(self, settings: BlurSettings) -> None:
        """Take new thresholds; they act from the next frame on."""
        self._settings = settings

    def baseline(self, view: str) -> Baseline | None:
        """Baseline of a view, or None before its first frame."""
        state = self._views.get(view)
        return baseline_of([row.power for row in state.members]) if state and state.members else None

    def baseline_keys(self, view: str) -> tuple[Key, ...]:
        """Frames that the next frame of a view will be compared with."""
        state = self._views.get(view)
        return tuple(row.key for row in state.members) if state else ()

    def update(self, view: str, key: Key, power: PolarPower | None, *, modes: ComplexArray | None = None,
               drift_px: tuple[float, float] | None = None, usable: bool = True) -> SharpnessResult:
        """Judge the next frame of a view.

        Parameters
        ----------
        view : str
        key : (str, int)
            Acquisition and index, by which later revisions name the frame.
        power : PolarPower or None
            None where it could not be computed.
        modes : (2 r + 1, c) complex64 array, optional
            `Spectrum.modes`; with `drift_px` the frame is also compared with the average of registered frames.
        drift_px : (dy, dx), optional
            Drift of the frame; baseline frames that show another place are then left out.
        usable : bool
            False for frames without a usable image: they are 'bad' and change nothing.

        Returns
        -------
        SharpnessResult
        """
        if not usable:
            return SharpnessResult("bad")
        if power is None:
            return SharpnessResult("undecided", problems=("no power spectrum, blur not estimated",))
        state = self._views.setdefault(view, ViewState())
        self._views.move_to_end(view)
        while len(self._views) > _MOST_VIEWS:
            self._views.popitem(last=False)
        if len(self._views) > _WARM_VIEWS:
            next(islice(reversed(self._views.values()), _WARM_VIEWS, None)).average = RegisteredAverage()
        row = Row(key, power, SharpnessResult("undecided", provisional=True), drift_px)
        problems = self._forget_unlike(state, row)
        state.candidate_age += 1
        if state.candidate is not None and state.candidate_age > _CONFIRMED_WITHIN:
            state.candidate = None
        if not state.members:
            self._remember(state, row)
            self._accept(state, row)
            return row.result._replace(problems=tuple(problems))
        baseline = baseline_of([member.power for member in state.members])
        seen = None
        if modes is not None and drift_px is not None:
            seen = state.average.compare(row.power, modes, drift_px, baseline.power)
            row.cross = seen.estimate
        estimate = estimate_blur(row.power, baseline, row.cross)
        sharper = self._sharper(row.power, baseline, estimate)
        if sharper:   # what was measured against a blurred baseline says nothing
            estimate = estimate_blur(row.power, baseline_of([row.power]))
        row.result = self._result(estimate, provisional=self._warming(state))
        self._remember(state, row)
        revised = self._sharper_came(state, row, problems) if sharper else self._advance(state, row, estimate, problems)
        if seen is not None and state.members[-1] is row:
            state.average.accept(seen)
        changes = tuple((other, state.rows[other].result) for other in revised if other != key and other in state.rows)
        return row.result._replace(focus_loss_px=state.focus.loss_px, problems=tuple(problems), revisions=changes)

    def recalibrated(self, view: str) -> None:
        """Open a new baseline: the frames of a view are corrected differently from now on."""
        state = self._views.get(view)
        if state is not None and state.members:
            clear(state)

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to go on later, as builtins and arrays."""
        return {"views": {view: pack(state) for view, state in self._views.items()}, "groups": self._groups.snapshot()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `snapshot`."""
        self._views = OrderedDict((view, unpack(packed)) for view, packed in state["views"].items())
        self._groups.restore(state["groups"])

    def _advance(self, state: ViewState, row: Row, estimate: BlurEstimate, problems: list[str]) -> list[Key]:
        """Move the state on by one judged frame; return the keys of rows whose result changed."""
        if self._blurred(estimate):
            if estimate.least_score < -_SHARPER_SCORE:
                problems.append("sharper than the frames before in one direction, blurred in another: "
                                "the baseline may be blurred itself")
            state.rejected.append(row)
            state.odd.clear()
            if len(state.rejected) > _LOCKED_OUT:
                self._restart(state, problems)
            return []
        state.rejected.clear()
        if self._odd(state, estimate):
            self._odd_came(state, row, problems)
            return []
        state.odd.clear()
        if estimate.score > self._settings.score_threshold - _ACCEPT_MARGIN:
            return []
        return self._accepted(state, row, estimate)

    def _accepted(self, state: ViewState, row: Row, estimate: BlurEstimate) -> list[Key]:
        """Take a sharp frame into the baseline; return the keys of rows judged again because of it."""
        warming = self._warming(state)
        state.gains.append(estimate.gain)
        self._accept(state, row)
        if warming:
            return [] if self._warming(state) else self._settle(state)
        changed = self._audit(state) if state.accepted == self._settings.baseline else []
        if state.accepted % self._settings.baseline == 0 and len(state.members) == self._settings.baseline:
            state.focus.follow([member.power for member in state.members])
        return changed

    def _result(self, estimate: BlurEstimate, *, provisional: bool) -> SharpnessResult:
        verdict: Verdict = "sharp"
        if self._blurred(estimate):
            verdict = "blurred"
        elif not estimate.limit_px <= self._settings.tolerance_px:
            verdict = "undecided"
        blurred = verdict == "blurred"
        group = self._groups.assign(estimate.covariance, estimate.covariance_errors) \
            if blurred and not provisional else None
        return SharpnessResult(verdict, provisional, estimate.length_px, estimate.length_sigma_px,
                               estimate.angle_deg, estimate.score, estimate.limit_px, group,
                               shape_of(estimate) if blurred else "", estimate.gauge_px2)

    def _blurred(self, estimate: BlurEstimate) -> bool:
        return estimate.score > self._settings.score_threshold and estimate.length_px > self._settings.shortest_px

    def _sharper(self, power: PolarPower, baseline: Baseline, estimate: BlurEstimate) -> bool:
        """Tell whether the baseline is blurred against the frame, by exchanging their roles."""
        if estimate.least_score > -_SHARPER_SCORE and estimate.chi2 < _MISFIT:
            return False
        swapped = estimate_blur(replace(power, power=baseline.power, floor=baseline.floor), baseline_of([power]))
        if swapped.score < _SHARPER_SCORE or swapped.length_px < self._settings.shortest_px:
            return False
        if self._blurred(estimate):   # either both are blurred, in different directions, or the fit went astray
            return swapped.chi2 < 0.5 * estimate.chi2
        return swapped.chi2 < estimate.chi2 + 1.0

    def _odd(self, state: ViewState, estimate: BlurEstimate) -> bool:
        usual = median(state.gains) if state.gains else 1.0
        ratio = estimate.gain / max(usual, 1e-12)
        return not 1 / _GAIN_LIMIT < ratio < _GAIN_LIMIT or estimate.texture > _FOREIGN_TEXTURE

    def _warming(self, state: ViewState) -> bool:
        return state.accepted < min(self._settings.warm_up, self._settings.baseline)

    def _remember(self, state: ViewState, row: Row) -> None:
        state.rows[row.key] = row
        state.rows.move_to_end(row.key)
        while len(state.rows) > HISTORY:
            state.rows.popitem(last=False)

    def _accept(self, state: ViewState, row: Row) -> None:
        state.members.append(row)
        del state.members[:-self._settings.baseline]
        state.accepted += 1

    def _forget_unlike(self, state: ViewState, row: Row) -> list[str]:
        """Drop baseline frames that cannot be compared with this one: other size, or other place."""
        if state.members and state.members[-1].power.shape != row.power.shape:
            old = state.members[-1].power.shape
            clear(state)
            return [f"frame size changed from {old} to {row.power.shape}: new blur baseline"]
        if row.drift_px is None:
            return []
        reach = _FAR_SHARE * min(row.power.shape)
        near = [member for member in state.members if member.drift_px is None
                or np.hypot(member.drift_px[0] - row.drift_px[0], member.drift_px[1] - row.drift_px[1]) <= reach]
        if near or not state.members:
            state.members = near
            return []
        clear(state)
        return ["the view moved by more than a third since the last accepted frames: new blur baseline"]

    def _sharper_came(self, state: ViewState, row: Row, problems: list[str]) -> list[Key]:
        """Let a sharper frame replace the baseline: at once in warm-up, else when another confirms it."""
        state.rejected.clear()
        if not self._warming(state) and state.candidate is None:
            state.candidate, state.candidate_age = row, 0
            return []
        members = [row] if state.candidate is None else [state.candidate, row]
        baseline = baseline_of([member.power for member in members])
        problems.append("sharper than the frames before: these were blurred and are judged again")
        state.gains.clear()
        state.average = RegisteredAverage()
        changed = []
        alike = []
        for other in state.rows.values():
            if any(other is member for member in members):
                continue
            other.cross = None   # it spoke of the old baseline
            estimate = estimate_blur(other.power, baseline)
            other.result = self._result(estimate, provisional=True)
            changed.append(other.key)
            if estimate.score <= self._settings.score_threshold - _ACCEPT_MARGIN and not self._odd(state, estimate):
                alike.append(other)
        state.members = (alike + members)[-self._settings.baseline:]
        state.accepted = len(state.members)
        state.candidate = None
        state.odd.clear()
        if self._warming(state):
            for member in members:
                member.result = member.result._replace(provisional=True)
            return changed
        self._settle(state)
        return [*changed, *(member.key for member in members)]

    def _settle(self, state: ViewState) -> list[Key]:
        """Leave warm-up: judge every provisional row against the others, throwing blurred ones out first."""
        self._purge(state)
        if self._warming(state):
            return []
        changed = []
        for row in state.rows.values():
            if row.result.provisional:
                estimate = self._estimate_without(state, row)
                row.result = self._result(estimate, provisional=False)
                changed.append(row.key)
        return changed

    def _audit(self, state: ViewState) -> list[Key]:
        """Look once more at the first baseline when it is full: short blur shows only now."""
        changed = []
        for row in self._purge(state):
            row.result = self._result(self._estimate_without(state, row), provisional=False)
            changed.append(row.key)
        return changed

    def _purge(self, state: ViewState) -> list[Row]:
        """Throw out members that are blurred against the rest, worst first."""
        out: list[Row] = []
        while len(state.members) > 2:
            estimates = [self._estimate_without(state, member) for member in state.members]
            worst = int(np.argmax([estimate.score for estimate in estimates]))
            if not self._blurred(estimates[worst]):
                break
            out.append(state.members.pop(worst))
            state.accepted -= 1
            state.average = RegisteredAverage()   # it was in it
        return out

    def _estimate_without(self, state: ViewState, row: Row) -> BlurEstimate:
        """Compare a row with the baseline made of the other members."""
        others = [member.power for member in state.members if member is not row]
        return estimate_blur(row.power, baseline_of(others or [row.power]), row.cross)

    def _restart(self, state: ViewState, problems: list[str]) -> None:
        """After too many rejections the focus has changed for good: begin again with the sharpest of them."""
        baseline = baseline_of([member.power for member in state.members])
        traces = [float(np.trace(estimate_blur(row.power, baseline).covariance)) for row in state.rejected]
        best = state.rejected[int(np.argmin(traces))]
        problems.append(f"{len(state.rejected)} blurred frames in a row: new blur baseline from "
                        f"frame {best.key[1]}, the sharpest of them; check the focus")
        clear(state)
        self._accept(state, best)

    def _odd_came(self, state: ViewState, row: Row, problems: list[str]) -> None:
        """Open a new baseline when the last frames differ from the old one, but not from each other."""
        others = state.odd[-_ODD_FRAMES + 1:]
        state.odd = [*others, row]
        if len(state.odd) < _ODD_FRAMES:
            return
        estimate = estimate_blur(row.power, baseline_of([other.power for other in others]))
        if not 1 / _GAIN_LIMIT < estimate.gain < _GAIN_LIMIT or estimate.texture > _FOREIGN_TEXTURE:
            return
        problems.append(f"contrast or place changed {len(state.odd)} frames ago: new blur baseline")
        members = list(state.odd)
        clear(state)
        for member in members:
            self._remember(state, member)
            self._accept(state, member)
