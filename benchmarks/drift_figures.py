"""From registered frames to the tables of the drift benchmark: errors, failures, and whether sigma is true."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from drift_sequences import CASES, TITLES, Truth
from numpy.typing import NDArray

from streamer.records import FrameRow

Row = tuple[str, str, str]
"""What, asked, measured."""
FAILED_PX = 1.0
RADIUS_68 = 1.515
"""68.27 % of the errors in two dimensions are shorter than so many sigma of either axis."""


class Judged(NamedTuple):
    """One projection: what was reported, and what is true."""

    case: str
    seed: int
    fringed: bool
    index: int
    truth: Truth
    origin: bool
    """The first of its view, whose drift is 0 by definition."""
    verdict: str | None
    error_y_px: float | None
    """Reported less true; None where no drift was reported."""
    error_x_px: float | None
    sigma_px: float | None
    rotation_error_deg: float | None
    quality: float | None
    reference_index: int | None
    problems: str
    bound_px: float
    """Of the sequence: median error that counting photons alone leaves."""

    @property
    def error_px(self) -> float:
        """Length of the error; NaN where no drift was reported."""
        return float(np.hypot(np.nan if self.error_y_px is None else self.error_y_px,
                              np.nan if self.error_x_px is None else self.error_x_px))


def judge_rows(
    case: str, seed: int, rows: Sequence[FrameRow], truths: Sequence[Truth], *, bound_px: float
) -> list[Judged]:
    """Compare the rows of the projections with the truth."""
    seen: set[str] = set()
    judged = []
    for row, truth in zip(rows, truths, strict=True):
        usable = truth.condition == "good"
        origin = usable and truth.view not in seen
        if usable:
            seen.add(truth.view)
        known = row.drift_y_px is not None and row.drift_x_px is not None
        judged.append(Judged(
            case, seed, seed % 2 == 1, row.index, truth, origin, row.verdict,
            row.drift_y_px - truth.drift_px[0] if known else None,   # type: ignore[operator]
            row.drift_x_px - truth.drift_px[1] if known else None,   # type: ignore[operator]
            row.drift_sigma_px if known else None,
            None if row.rotation_deg is None else row.rotation_deg - truth.rotation_deg,
            row.registration_quality, row.reference_index, row.problems, bound_px))
    return judged


class Figures(NamedTuple):
    """Over the projections of some sequences; errors are lengths in px."""

    count: int
    """Registered projections, without the origins."""
    median: float
    p95: float
    largest: float
    failures: int
    """Reported, and wrong by more than 1 px, or of a frame that shows no sample."""
    refused: int
    """Usable, but without a drift."""
    usable: int
    per_axis: float
    """Share of the components of the errors that are within the predicted sigma; 0.683 if it is true."""
    in_plane: float
    """Share of the errors shorter than 1.515 sigma; 0.683 if it is true."""
    spread: float
    """Robust standard deviation of component / sigma; 1 if sigma is true."""
    end: float
    """Median over the sequences of the error in the last registered projection of a view."""


def figures(judged: Iterable[Judged]) -> Figures:
    """Sum up; NaN where there is nothing to sum up."""
    everything = [one for one in judged if not one.origin]
    usable = [one for one in everything if one.truth.condition == "good"]
    reported = [one for one in everything if one.error_y_px is not None]
    known = [one for one in usable if one.error_y_px is not None]
    if not known:
        return Figures(0, *[np.nan] * 3, len(failed(reported)), len(usable), len(usable), *[np.nan] * 4)
    length = np.array([one.error_px for one in known])
    sigma = np.array([one.sigma_px or np.nan for one in known], float)
    parts = np.array([[one.error_y_px, one.error_x_px] for one in known], float) / sigma[:, None]
    parts, there = parts[np.isfinite(sigma)], np.isfinite(sigma)
    last = {(one.case, one.seed, one.truth.view): one.error_px for one in known}
    return Figures(len(known), float(np.median(length)), float(np.percentile(length, 95)), float(length.max()),
                   len(failed(reported)), len(usable) - len(known), len(usable),
                   float(np.mean(np.abs(parts) <= 1)), float(np.mean(length[there] <= RADIUS_68 * sigma[there])),
                   float(np.median(np.abs(parts)) / 0.6745), float(np.median(list(last.values()))))


def failed(judged: Iterable[Judged]) -> list[Judged]:
    """Return what was reported and is wrong by more than 1 px, or shows no sample."""
    return [one for one in judged if one.error_y_px is not None
            and (one.error_px > FAILED_PX or one.truth.condition != "good")]


def detail_table(judged: list[Judged]) -> list[list[str]]:
    """One line a case and kind of specimen."""
    table = [["case", "specimens", "frames", "bound", "median", "95 %", "max", "end", "> 1 px", "refused",
              "axis within 1 sigma", "plane", "sd"]]
    for case in dict.fromkeys(one.case for one in judged):
        for name, fringed in (("all", (True, False)), ("with fringes", (True,)), ("absorption only", (False,))):
            found = [one for one in judged if one.case == case and one.fringed in fringed]
            if not found:
                continue
            of, bound = figures(found), np.median([one.bound_px for one in found])
            table.append([TITLES[case] if name == "all" else "", name, str(of.count), *(
                f"{value:.4f}" for value in (bound, of.median, of.p95, of.largest, of.end)), str(of.failures),
                f"{of.refused} of {of.usable}", f"{of.per_axis:.1%}", f"{of.in_plane:.1%}", f"{of.spread:.2f}"])
    return table


def blur_table(judged: list[Judged]) -> list[list[str]]:
    """Errors of what was blurred, and of what was not."""
    table = [["case", "sharp: median", "95 %", "sd", "blurred: median", "95 %", "sd"]]
    for case in dict.fromkeys(one.case for one in judged):
        halves = [figures(one for one in judged if one.case == case and one.truth.blurred == blurred)
                  for blurred in (False, True)]
        table.append([TITLES[case], *(f"{value:.4f}" if name != "spread" else f"{value:.2f}" for of in halves
                                      for name, value in zip(("median", "p95", "spread"),
                                                             (of.median, of.p95, of.spread), strict=True))])
    return table


def reach_rows(judged: list[Judged]) -> list[Row]:
    """What was asked of every case, and what came of it."""
    rows: list[Row] = []
    cases = dict.fromkeys(one.case for one in judged)
    for name in cases:
        found, case = [one for one in judged if one.case == name], CASES[name]
        of, seeds = figures(found), sorted({one.seed for one in found})
        bars = [f"{word} <= {bar}" for word, bar in (("median", case.median_px), ("95 %", case.p95_px)) if bar]
        told = [f"{of.median:.4f} / {of.p95:.4f} px, max {of.largest:.3f}", f"{of.failures} wrong by > 1 px",
                f"{of.refused} of {of.usable} refused"]
        if name == "long":
            bars += ["max <= 0.13", "end <= 0.05"]
            told.append(f"end {of.end:.4f}")
        if name == "jump":
            bars.append("only the unusable refused")
            unusable = [one for one in found if one.truth.condition != "good"]
            told.append(f"{sum(one.error_y_px is None for one in unusable)} of {len(unusable)} unusable ones refused")
        rows.append((TITLES[name], ", ".join(bars), f"{'; '.join(told)} ({len(seeds)} seeds)"))
        if fringed := [one for one in found if one.fringed]:
            part = figures(fringed)
            rows.append(("  of these specimens with fringes", ", ".join(bars[:2]), (
                f"{part.median:.4f} / {part.p95:.4f} px; bound of photon noise: median "
                f"{np.median([one.bound_px for one in fringed]):.4f}, of all specimens "
                f"{np.median([one.bound_px for one in found]):.4f}")))
        if case.alters == "rotation":
            rows.append(("  rotation", "median <= 0.02 deg", _turned(found)))
    wrong = failed(judged)
    rows.append(("drift reported and wrong by > 1 px, all cases", "0",
                 f"{len(wrong)}, of which {sum(bool(one.problems) for one in wrong)} carry a warning"))
    asked = [figures(one for one in judged if one.case == name) for name in cases
             if CASES[name].median_px or CASES[name].p95_px]
    if asked:
        shares = [of.per_axis for of in asked]
        rows.append(("errors within the predicted 1 sigma, mean of the cases with a bar", "60 to 76 %", (
            f"{np.mean(shares):.1%} per axis (cases from {min(shares):.0%} to {max(shares):.0%}); "
            f"{np.mean([of.in_plane for of in asked]):.1%} within 1.515 sigma in the plane; error / sigma has robust "
            f"sd {min(of.spread for of in asked):.2f} to {max(of.spread for of in asked):.2f}")))
    return rows


def _turned(judged: list[Judged]) -> str:
    usable = [one for one in judged if one.error_y_px is not None and not one.origin]
    errors: NDArray[np.float64] = np.abs(
        [one.rotation_error_deg for one in usable if one.rotation_error_deg is not None])
    if not len(errors):
        return "not reported"
    return (f"{np.median(errors):.4f} deg median, {np.percentile(errors, 95):.4f} at 95 %; reported for "
            f"{len(errors)} of {len(usable)}")


def failure_lines(judged: list[Judged], *, limit: int = 40) -> list[str]:
    """Name what was wrong, and what was refused."""
    wrong = failed(judged)
    refused = [one for one in judged if one.truth.condition == "good" and one.error_y_px is None]
    lines = [f"- {one.case}, seed {one.seed}, frame {one.index} ({_kind(one)}): wrong by ({one.error_y_px:+.2f}, "
             f"{one.error_x_px:+.2f}) px, sigma {one.sigma_px or 0:.3f}, quality {one.quality or 0:.2f}, key "
             f"{one.reference_index}; {one.problems}" for one in wrong[:limit]]
    lines += [f"- {one.case}, seed {one.seed}, frame {one.index} ({_kind(one)}): refused, quality "
              f"{one.quality or 0:.2f}; {one.problems}" for one in refused[:limit]]
    left = max(len(wrong) - limit, 0) + max(len(refused) - limit, 0)
    return [*lines, f"- and {left} more"] if left else lines


def worst_lines(judged: list[Judged], *, each: int = 2) -> list[str]:
    """Name the largest errors and the largest errors relative to sigma of every case."""
    lines = []
    for case in dict.fromkeys(one.case for one in judged):
        known = [one for one in judged if one.case == case and one.error_y_px is not None and not one.origin]
        for word, rank in (("error", _length), ("error / sigma", _surprise)):
            worst = sorted(known, key=rank, reverse=True)[:each]
            lines += [f"- {case}, largest {word}: seed {one.seed}, frame {one.index} ({_kind(one)}): "
                      f"({one.error_y_px:+.3f}, {one.error_x_px:+.3f}) px, sigma {one.sigma_px or 0:.4f}, key "
                      f"{one.reference_index}" for one in worst]
    return lines


def _length(one: Judged) -> float:
    return one.error_px


def _surprise(one: Judged) -> float:
    return one.error_px / max(one.sigma_px or 0.0, 1e-6)


def _kind(one: Judged) -> str:
    if one.truth.condition != "good":
        return one.truth.condition
    return f"{'blurred' if one.truth.blurred else 'sharp'}, called {one.verdict}"
