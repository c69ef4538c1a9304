"""Figures of merit of the blur screening, from frames whose truth is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import scipy.stats
from numpy.typing import NDArray
from sharpness_sequences import CLASSES, SHARP, VARIANTS

Row = tuple[str, str, str]
"""What, asked, measured."""

OURS = "this streamer"
FALSE_POSITIVES = 0.01


class Judged(msgspec.Struct, frozen=True):
    """A projection: what it shows, and what its final row says."""

    variant: str
    photons: float
    seed: int
    schedule: int
    index: int
    fringed: bool
    """Whether the specimen has phase fringes beside its absorption."""
    kind: str
    true_length_px: float
    true_angle_deg: float
    verdict: str | None
    first_verdict: str | None
    """Before any revision; None while provisional."""
    score: float | None
    length_px: float | None
    sigma_px: float | None
    angle_deg: float | None
    limit_px: float | None
    problems: str
    peers: dict[str, float] = {}
    """Scores of blur, by name of the measure and of the comparison."""

    @property
    def stream(self) -> tuple[str, float, int, int]:
        """The stream it belongs to."""
        return self.variant, self.photons, self.seed, self.schedule


def auc(sharp: NDArray[np.float64], blurred: NDArray[np.float64]) -> float:
    """Chance that a blurred frame has a larger score than a sharp one."""
    if not sharp.size or not blurred.size:
        return np.nan
    ranks = scipy.stats.rankdata(np.concatenate([sharp, blurred]))[sharp.size:]
    return float((ranks.sum() - blurred.size * (blurred.size + 1) / 2) / (sharp.size * blurred.size))


def recall(sharp: NDArray[np.float64], blurred: NDArray[np.float64], share: float = FALSE_POSITIVES) -> float:
    """Share of blurred frames above a threshold that at most `share` of the sharp ones exceed."""
    if not sharp.size or not blurred.size:
        return np.nan
    threshold = np.sort(sharp)[::-1][int(share * sharp.size)]
    return float(np.mean(blurred > threshold))


def scores_of(judged: Iterable[Judged], method: str) -> NDArray[np.float64]:
    """Scores by one method; a frame without one counts as the sharpest."""
    values = [one.score if method == OURS else one.peers.get(method) for one in judged]
    return np.array([-np.inf if value is None or not np.isfinite(value) else value for value in values], float)


def separation(judged: list[Judged], method: str, kind: str) -> tuple[float, float]:
    """AUC and recall at 1 % false positives of one class; of a peer, in its best form."""
    sharp = [one for one in judged if one.kind == SHARP]
    blurred = [one for one in judged if one.kind == kind]
    forms = [OURS] if method == OURS else sorted(
        {name for one in sharp[:1] for name in one.peers if name.startswith(f"{method}|")})
    found = [(auc(scores_of(sharp, form), scores_of(blurred, form)),
              recall(scores_of(sharp, form), scores_of(blurred, form))) for form in forms]
    return max(found, default=(np.nan, np.nan))


def separation_table(judged: list[Judged], methods: Sequence[str]) -> list[list[str]]:
    """One line per dose and method, and one for us on specimens without phase fringes."""
    table = [["photons/px", "method", *CLASSES]]
    for photons in sorted({one.photons for one in judged}):
        here = [one for one in judged if one.photons == photons and one.variant == "usual"]
        plain = [one for one in here if not one.fringed]
        for name, method, some in [(method, method, here) for method in methods] + [
                (f"{OURS}, absorption only", OURS, plain)]:
            cells = [separation(some, method, kind) for kind in CLASSES]
            table.append([f"{photons:g}", name, *(f"{area:.3f} / {found:.2f}" for area, found in cells)])
    return table


def angle_errors(judged: Iterable[Judged]) -> NDArray[np.float64]:
    """Distance of the angles in degrees, of frames that have both."""
    return np.array([abs((one.angle_deg - one.true_angle_deg + 90) % 180 - 90) for one in judged
                     if one.angle_deg is not None and np.isfinite(one.true_angle_deg)])


def length_errors(judged: Iterable[Judged]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Errors of the length in px, and in units of sigma, of frames called blurred."""
    pairs = [(one.length_px - one.true_length_px, one.sigma_px) for one in judged
             if one.verdict == "blurred" and one.length_px is not None and one.sigma_px]
    errors = np.array([pair[0] for pair in pairs], float)
    return errors, errors / np.array([pair[1] for pair in pairs], float)


def detail_table(judged: list[Judged]) -> list[list[str]]:
    """What our rows say of every class: verdicts, lengths, angles, uncertainty."""
    table = [["photons/px", "class", "frames", "blurred", "undecided", "median length error", "mean error",
              "angle median / p90", "error / sigma: mean, sd, robust sd", "limit, median"]]
    for photons in sorted({one.photons for one in judged}):
        for kind in (SHARP, *CLASSES):
            some = [one for one in judged if one.photons == photons and one.kind == kind and one.variant == "usual"]
            if not some:
                continue
            errors, pulls = length_errors(some) if kind != SHARP else (np.zeros(0), np.zeros(0))
            angles = angle_errors(one for one in some if one.verdict == "blurred")
            limits = [one.limit_px for one in some if one.limit_px is not None]
            table.append([
                f"{photons:g}", kind, str(len(some)), _share(some, "blurred"), _share(some, "undecided"),
                f"{np.median(np.abs(errors)):.2f} px" if errors.size else "",
                f"{errors.mean():+.2f} px" if errors.size else "",
                f"{np.median(angles):.1f} / {np.percentile(angles, 90):.1f} deg" if angles.size else "",
                f"{pulls.mean():+.2f}, {pulls.std():.2f}, {robust_sd(pulls):.2f}" if pulls.size > 2 else "",
                f"{np.median(limits):.2f} px" if limits else ""])
    return table


def variant_table(judged: list[Judged]) -> list[list[str]]:
    """Verdicts by variant and dose."""
    table = [["stream", "photons/px", "sharp frames", "called blurred", "at first sight", "undecided", "bad",
              "AUC / recall 3 px", "5 px", "found of >= 3 px"]]
    for variant in VARIANTS:
        for photons in sorted({one.photons for one in judged if one.variant == variant}):
            some = [one for one in judged if one.variant == variant and one.photons == photons]
            sharp = [one for one in some if one.kind == SHARP]
            strong = [one for one in some if one.true_length_px > 2.99]
            early = sum(one.first_verdict == "blurred" for one in sharp)
            table.append([
                variant, f"{photons:g}", str(len(sharp)), _count(sharp, "blurred"), str(early),
                _count(sharp, "undecided"), _count(some, "bad"),
                *("{:.3f} / {:.2f}".format(*separation(some, OURS, kind)) for kind in ("3 px", "5 px")),
                f"{_count(strong, 'blurred')} of {len(strong)}"])
    return table


def robust_sd(values: NDArray[np.float64]) -> float:
    """Standard deviation from the quartiles."""
    return float(np.subtract(*np.percentile(values, [75, 25])) / 1.349)


def replaced(judged: list[Judged]) -> tuple[int, int]:
    """Count the streams whose blurred first frame ended as blurred, with most of the sharp ones sharp."""
    good = 0
    streams = {one.stream for one in judged if one.kind == "first"}
    for stream in streams:
        some = [one for one in judged if one.stream == stream]
        sharp = [one for one in some if one.kind == SHARP]
        found = all(one.verdict == "blurred" for one in some if one.kind == "first")
        good += found and sum(one.verdict == "blurred" for one in sharp) <= 0.1 * len(sharp)
    return good, len(streams)


def _share(judged: list[Judged], verdict: str) -> str:
    return f"{100 * np.mean([one.verdict == verdict for one in judged]):.1f} %"


def _count(judged: list[Judged], verdict: str) -> str:
    return str(sum(one.verdict == verdict for one in judged))


def failures(judged: list[Judged]) -> list[str]:
    """Name sharp frames called blurred, and clear blur that was missed."""
    lines = []
    for one in judged:
        missed = one.true_length_px >= 4.9 and one.photons >= 200 and one.verdict != "blurred"
        if (one.kind == SHARP and one.verdict == "blurred") or missed or one.verdict in {"bad", None}:
            told = "none" if one.score is None else (
                f"score {one.score:.1f}, {one.length_px:.2f} +- {one.sigma_px:.2f} px, limit {one.limit_px:.2f} px")
            lines.append(f"{one.variant}, {one.photons:g} photons, seed {one.seed}, schedule {one.schedule}, frame "
                         f"{one.index}: {one.kind} -> {one.verdict} ({told}) {one.problems[:120]}")
    return lines


def reach_rows(judged: list[Judged]) -> list[Row]:
    """Compare with what was asked for, over all specimens, and over those that only absorb, which are harder."""
    plain = _reach([one for one in judged if not one.fringed])
    return [(what, asked, measured if measured == hard else f"{measured} (absorption only: {hard})")
            for (what, asked, measured), (_, _, hard) in zip(_reach(judged), plain, strict=True)]


def _reach(judged: list[Judged]) -> list[Row]:
    def at(photons: float, *kinds: str) -> list[Judged]:
        return [one for one in judged if one.photons == photons and one.variant == "usual"
                and (not kinds or one.kind in kinds)]

    def apart(photons: float, kind: str) -> tuple[float, float]:
        return separation(at(photons, SHARP, kind), OURS, kind)

    sharp = [one for one in judged if one.kind == SHARP]
    wrong = sum(one.verdict == "blurred" for one in sharp)
    errors, _ = length_errors(at(200, "3 px", "5 px", "8 px"))
    pulls = length_errors(one for one in judged if one.variant == "usual" and one.kind not in {SHARP, "first"})[1]
    angles = [angle_errors(one for one in at(200, kind) if one.verdict == "blurred") for kind in ("3 px", "5 px")]
    good, streams = replaced(judged)
    return [
        ("AUC, 3 px at 200 photons/px; 2 px at 1000", ">= 0.995",
         f"{apart(200, '3 px')[0]:.4f}; {apart(1000, '2 px')[0]:.4f}"),
        ("recall at 1 % false positives, 3 px at 200; 5 px at 50", ">= 0.95",
         f"{apart(200, '3 px')[1]:.3f}; {apart(50, '5 px')[1]:.3f}"),
        ("sharp frames called blurred, all streams", "<= 1 %",
         f"{wrong} of {len(sharp)} ({100 * wrong / max(len(sharp), 1):.2f} %)"),
        ("verdict recall, 3 px at 200", ">= 0.9",
         f"{np.mean([one.verdict == 'blurred' for one in at(200, '3 px')] or [np.nan]):.3f}"),
        ("length, median error, 3 to 8 px at 200", "<= 0.4 px",
         f"{np.median(np.abs(errors)) if errors.size else np.nan:.3f} px"),
        ("angle, median error at 200, 3 px; 5 px", "<= 5 deg; <= 2.5 deg",
         "; ".join(f"{np.median(some) if some.size else np.nan:.2f} deg" for some in angles)),
        ("error / sigma of the length: sd (robust)", "0.8 to 1.25",
         f"{pulls.std():.2f} ({robust_sd(pulls):.2f})" if pulls.size > 2 else "none"),
        ("a blurred first frame is replaced and re-labelled", "always", f"{good} of {streams} streams"),
        ("stretch: AUC, 2 px at 200", ">= 0.98", f"{apart(200, '2 px')[0]:.4f}"),
        ("stretch: recall at 1 % false positives, 3 px at 50", ">= 0.7", f"{apart(50, '3 px')[1]:.3f}"),
    ]
