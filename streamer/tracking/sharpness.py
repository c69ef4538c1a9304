"""Which frames are blurred: a state machine per view around the blur estimate.

Every frame is compared with the mean spectrum of the last accepted frames of its view. Blurred frames never
enter that baseline. Until enough frames are accepted, verdicts are provisional and are given again, as
revisions, once the baseline stands. A frame that is sharper than the baseline shows that the baseline itself
was blurred: it takes its place, and the earlier rows are judged again.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from streamer.imaging.blur import Baseline, BlurEstimate, baseline_of, estimate_blur
from streamer.imaging.spectrum import PolarPower
from streamer.records import Verdict
from streamer.settings import BlurSettings

Key = tuple[str, int]
"""(acquisition, index) of a frame."""

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
_VIEWS = 512              # least recently seen views are forgotten


class SharpnessResult(NamedTuple):
    """Verdict on one frame; the names are those of its row."""

    verdict: Verdict
    provisional: bool = False
    blur_length_px: float | None = None
    blur_length_sigma_px: float | None = None
    blur_angle_deg: float | None = None
    blur_score: float | None = None
    blur_limit_px: float | None = None
    problems: tuple[str, ...] = ()
    revisions: tuple[tuple[Key, SharpnessResult], ...] = ()
    """Earlier frames whose verdict changed or became final; their own `revisions` are empty."""


@dataclass(slots=True)
class _Row:
    """A frame that may be judged again."""

    key: Key
    power: PolarPower
    result: SharpnessResult
    drift_px: tuple[float, float] | None = None


@dataclass(slots=True)
class _View:
    """What is remembered of one view."""

    members: list[_Row] = field(default_factory=list)
    """Accepted frames that form the baseline, oldest first."""
    accepted: int = 0
    """Frames accepted since the baseline was opened."""
    rows: OrderedDict[Key, _Row] = field(default_factory=OrderedDict)
    """Frames judged since the baseline was opened."""
    rejected: list[_Row] = field(default_factory=list)
    """Consecutive blurred frames."""
    candidate: _Row | None = None
    """A frame that was sharper than the settled baseline."""
    candidate_age: int = 0
    gains: deque[float] = field(default_factory=lambda: deque(maxlen=31))
    odd: list[_Row] = field(default_factory=list)
    """Consecutive frames of other contrast or content."""


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
        self._views: OrderedDict[str, _View] = OrderedDict()

    def configure(self, settings: BlurSettings) -> None:
        """Take new thresholds; they act from the next frame on."""
        self._settings = settings

    def baseline(self, view: str) -> Baseline | None:
        """Baseline of a view, or None before its first frame."""
        state = self._views.get(view)
        return baseline_of([row.power for row in state.members]) if state and state.members else None

    def update(self, view: str, key: Key, power: PolarPower | None, *,
               drift_px: tuple[float, float] | None = None, usable: bool = True) -> SharpnessResult:
        """Judge the next frame of a view.

        Parameters
        ----------
        view : str
        key : (str, int)
            Acquisition and index, by which later revisions name the frame.
        power : PolarPower or None
            None where it could not be computed.
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
        state = self._views.setdefault(view, _View())
        self._views.move_to_end(view)
        while len(self._views) > _VIEWS:
            self._views.popitem(last=False)
        row = _Row(key, _lean(power), SharpnessResult("undecided", provisional=True), drift_px)
        problems = self._forget_unlike(state, row)
        state.candidate_age += 1
        if state.candidate is not None and state.candidate_age > _CONFIRMED_WITHIN:
            state.candidate = None
        if not state.members:
            self._remember(state, row)
            self._accept(state, row)
            return row.result._replace(problems=tuple(problems))
        baseline = baseline_of([member.power for member in state.members])
        estimate = estimate_blur(row.power, baseline)
        sharper = self._sharper(row.power, baseline, estimate)
        if sharper:   # what was measured against a blurred baseline says nothing
            estimate = estimate_blur(row.power, baseline_of([row.power]))
        row.result = self._result(estimate, provisional=self._warming(state))
        self._remember(state, row)
        revised = self._sharper_came(state, row, problems) if sharper else self._advance(state, row, estimate, problems)
        changes = tuple((other, state.rows[other].result) for other in revised if other != key and other in state.rows)
        return row.result._replace(problems=tuple(problems), revisions=changes)

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to go on later, as builtins and arrays."""
        return {view: _pack(state) for view, state in self._views.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `snapshot`."""
        self._views = OrderedDict((view, _unpack(packed)) for view, packed in state.items())

    def _advance(self, state: _View, row: _Row, estimate: BlurEstimate, problems: list[str]) -> list[Key]:
        """Move the state on by one judged frame; return the keys of rows whose result changed."""
        if self._blurred(estimate):
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

    def _accepted(self, state: _View, row: _Row, estimate: BlurEstimate) -> list[Key]:
        """Take a sharp frame into the baseline; return the keys of rows judged again because of it."""
        warming = self._warming(state)
        state.gains.append(estimate.gain)
        self._accept(state, row)
        if warming:
            return [] if self._warming(state) else self._settle(state)
        return self._audit(state) if state.accepted == self._settings.baseline else []

    def _result(self, estimate: BlurEstimate, *, provisional: bool) -> SharpnessResult:
        verdict: Verdict = "sharp"
        if self._blurred(estimate):
            verdict = "blurred"
        elif not estimate.limit_px <= self._settings.tolerance_px:
            verdict = "undecided"
        return SharpnessResult(verdict, provisional, estimate.length_px, estimate.length_sigma_px,
                               estimate.angle_deg, estimate.score, estimate.limit_px)

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

    def _odd(self, state: _View, estimate: BlurEstimate) -> bool:
        usual = float(np.median(state.gains)) if state.gains else 1.0
        ratio = estimate.gain / max(usual, 1e-12)
        return not 1 / _GAIN_LIMIT < ratio < _GAIN_LIMIT or estimate.texture > _FOREIGN_TEXTURE

    def _warming(self, state: _View) -> bool:
        return state.accepted < min(self._settings.warm_up, self._settings.baseline)

    def _remember(self, state: _View, row: _Row) -> None:
        state.rows[row.key] = row
        state.rows.move_to_end(row.key)
        while len(state.rows) > HISTORY:
            state.rows.popitem(last=False)

    def _accept(self, state: _View, row: _Row) -> None:
        state.members.append(row)
        del state.members[:-self._settings.baseline]
        state.accepted += 1

    def _forget_unlike(self, state: _View, row: _Row) -> list[str]:
        """Drop baseline frames that cannot be compared with this one: other size, or other place."""
        if state.members and state.members[-1].power.shape != row.power.shape:
            old = state.members[-1].power.shape
            _clear(state)
            return [f"frame size changed from {old} to {row.power.shape}: new blur baseline"]
        if row.drift_px is None:
            return []
        reach = _FAR_SHARE * min(row.power.shape)
        near = [member for member in state.members if member.drift_px is None
                or np.hypot(member.drift_px[0] - row.drift_px[0], member.drift_px[1] - row.drift_px[1]) <= reach]
        if near or not state.members:
            state.members = near
            return []
        _clear(state)
        return ["the view moved by more than a third since the last accepted frames: new blur baseline"]

    def _sharper_came(self, state: _View, row: _Row, problems: list[str]) -> list[Key]:
        """Let a sharper frame replace the baseline: at once in warm-up, else when another confirms it."""
        state.rejected.clear()
        if not self._warming(state) and state.candidate is None:
            state.candidate, state.candidate_age = row, 0
            return []
        members = [row] if state.candidate is None else [state.candidate, row]
        baseline = baseline_of([member.power for member in members])
        problems.append("sharper than the frames before: these were blurred and are judged again")
        changed = []
        alike = []
        for other in state.rows.values():
            if any(other is member for member in members):
                continue
            estimate = estimate_blur(other.power, baseline)
            other.result = self._result(estimate, provisional=True)
            changed.append(other.key)
            if estimate.score <= self._settings.score_threshold - _ACCEPT_MARGIN and not self._odd(state, estimate):
                alike.append(other)
        state.members = (alike + members)[-self._settings.baseline:]
        state.accepted = len(state.members)
        state.candidate = None
        state.odd.clear()
        state.gains.clear()
        if self._warming(state):
            for member in members:
                member.result = member.result._replace(provisional=True)
            return changed
        self._settle(state)
        return [*changed, *(member.key for member in members)]

    def _settle(self, state: _View) -> list[Key]:
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

    def _audit(self, state: _View) -> list[Key]:
        """Look once more at the first baseline when it is full: short blur shows only now."""
        changed = []
        for row in self._purge(state):
            row.result = self._result(self._estimate_without(state, row), provisional=False)
            changed.append(row.key)
        return changed

    def _purge(self, state: _View) -> list[_Row]:
        """Throw out members that are blurred against the rest, worst first."""
        out: list[_Row] = []
        while len(state.members) > 2:
            estimates = [self._estimate_without(state, member) for member in state.members]
            worst = int(np.argmax([estimate.score for estimate in estimates]))
            if not self._blurred(estimates[worst]):
                break
            out.append(state.members.pop(worst))
            state.accepted -= 1
        return out

    def _estimate_without(self, state: _View, row: _Row) -> BlurEstimate:
        """Compare a row with the baseline made of the other members."""
        others = [member.power for member in state.members if member is not row]
        return estimate_blur(row.power, baseline_of(others or [row.power]))

    def _restart(self, state: _View, problems: list[str]) -> None:
        """After too many rejections the focus has changed for good: begin again with the sharpest of them."""
        baseline = baseline_of([member.power for member in state.members])
        traces = [float(np.trace(estimate_blur(row.power, baseline).covariance)) for row in state.rejected]
        best = state.rejected[int(np.argmin(traces))]
        problems.append(f"{len(state.rejected)} blurred frames in a row: new blur baseline from "
                        f"frame {best.key[1]}, the sharpest of them; check the focus")
        _clear(state)
        self._accept(state, best)

    def _odd_came(self, state: _View, row: _Row, problems: list[str]) -> None:
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
        _clear(state)
        for member in members:
            self._remember(state, member)
            self._accept(state, member)


def _clear(state: _View) -> None:
    """Open a new baseline; rows judged against the old one stay as they are."""
    state.members = []
    state.accepted = 0
    state.rows = OrderedDict()
    state.rejected = []
    state.odd = []
    state.candidate = None
    state.gains.clear()


def _lean(power: PolarPower) -> PolarPower:
    """Leave out what only a screen needs."""
    nothing = np.zeros(0, np.float32)
    return replace(power, horizontal=nothing, vertical=nothing)


def _pack(state: _View) -> dict[str, Any]:
    def keys(rows: list[_Row]) -> list[list[Any]]:
        return [list(row.key) for row in rows]

    kept = {row.key: row for row in (*state.rows.values(), *state.members, *state.rejected, *state.odd,
                                     *([state.candidate] if state.candidate else []))}
    return {
        "kept": [_pack_row(row) for row in kept.values()], "rows": keys(list(state.rows.values())),
        "members": keys(state.members), "rejected": keys(state.rejected), "odd": keys(state.odd),
        "candidate": keys([state.candidate] if state.candidate else []), "candidate_age": state.candidate_age,
        "accepted": state.accepted, "gains": list(state.gains)}


def _unpack(packed: dict[str, Any]) -> _View:
    kept = {row.key: row for row in map(_unpack_row, packed["kept"])}

    def rows(name: str) -> list[_Row]:
        return [kept[str(acquisition), int(index)] for acquisition, index in packed[name]]

    state = _View(members=rows("members"), accepted=int(packed["accepted"]),
                  rows=OrderedDict((row.key, row) for row in rows("rows")), rejected=rows("rejected"),
                  candidate=next(iter(rows("candidate")), None), candidate_age=int(packed["candidate_age"]),
                  odd=rows("odd"))
    state.gains.extend(packed["gains"])
    return state


def _pack_row(row: _Row) -> dict[str, Any]:
    power = row.power
    return {"key": list(row.key), "power": power.power, "counts": power.counts, "floor": power.floor,
            "shape": list(power.shape), "result": list(row.result[:7]),
            "drift_px": None if row.drift_px is None else list(row.drift_px)}


def _unpack_row(packed: dict[str, Any]) -> _Row:
    nothing = np.zeros(0, np.float32)
    acquisition, index = packed["key"]
    rows, columns = packed["shape"]
    drift = packed["drift_px"]
    power = PolarPower(packed["power"], packed["counts"], float(packed["floor"]), (int(rows), int(columns)),
                       nothing, nothing)
    return _Row((str(acquisition), int(index)), power, SharpnessResult(*packed["result"]),
                None if drift is None else (float(drift[0]), float(drift[1])))
