"""What the flow benchmark found, as tables and as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

Row = tuple[str, str, str]
OURS, MEDIUM, CHAINED = "this streamer", "DIS medium", "DIS medium, chained"
_BARS = {500.0: "<= 0.75, 95 % interval below 0.85", 2000.0: "<= 0.8"}


class Tried(NamedTuple):
    """One method on one frame."""

    kind: str
    seed: int
    photons: float
    method: str
    index: int
    error_px: float
    """Mean end-point error on particles where ours is valid."""
    everywhere_px: float
    """The same where ours is not valid, too; ours is 0 there."""
    valid: float
    over_sigma: float
    """Median of error / sigma in the plane, over that of a normal error."""
    spent_ms: float


def reach_rows(tried: list[Tried]) -> list[Row]:
    """Ratios of the mean errors of whole sequences."""
    rows: list[Row] = []
    for photons in sorted({one.photons for one in tried}):
        for other, asked in ((MEDIUM, _BARS.get(photons, "")), (CHAINED, "<= 0.4")):
            ratios = _ratios(tried, photons, other)
            if not ratios:
                continue
            kinds = "; ".join(f"{kind} {np.mean(values):.2f}" for kind, values in ratios.items())
            every = np.concatenate(list(ratios.values()))
            low, high = _interval(every)
            rows.append((f"sequences to 6 px, {photons:.0f} photons: error / {other}", asked,
                         f"{every.mean():.2f} ({low:.2f} to {high:.2f}, {len(every)} sequences): {kinds}"))
    return rows


def _ratios(tried: list[Tried], photons: float, other: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for kind, seed in dict.fromkeys((one.kind, one.seed) for one in tried):
        errors = [[one.error_px for one in tried if (one.kind, one.seed, one.photons, one.method)
                   == (kind, seed, photons, method)] for method in (OURS, other)]
        if all(errors):
            found.setdefault(kind, []).append(float(np.mean(errors[0]) / np.mean(errors[1])))
    return found


def _interval(values: np.ndarray) -> tuple[float, float]:
    """95 % of the mean, by drawing sequences again."""
    draws = np.random.default_rng(1).choice(values, (4000, len(values))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def calibration_rows(tried: list[Tried]) -> list[Row]:
    """Whether sigma is the error."""
    rows: list[Row] = []
    for photons in sorted({one.photons for one in tried}):
        ours = [one for one in tried if one.method == OURS and one.photons == photons]
        kinds = "; ".join(f"{kind} {np.median([one.over_sigma for one in ours if one.kind == kind]):.2f}"
                          for kind in dict.fromkeys(one.kind for one in ours))
        rows.append((f"sigma at {photons:.0f} photons: median of error / sigma in the plane", "0.8 to 1.3",
                     f"{np.median([one.over_sigma for one in ours]):.2f}: {kinds}"))
    return rows


def cost_rows(spent: Mapping[str, list[float]]) -> list[Row]:
    """CPU time of a frame."""
    asked = {"tracked, 654 x 678": "<= 40 ms, stretch 25 ms", "tracked, 180 x 300": "<= 5 ms"}
    return [(f"cost of a frame, one thread: {name}", asked.get(name, ""),
             f"{np.median(ms):.1f} ms of CPU time (95 %: {np.percentile(ms, 95):.1f})") for name, ms in spent.items()]


def detail_table(tried: list[Tried]) -> list[list[str]]:
    """Errors early, in the middle and late."""
    table = [["sequence", "photons/px", "ours, early", "middle", "late", "all", "DIS medium", "chained", "valid",
              "ours / DIS medium, points that are not valid included", "error / sigma"]]
    for kind, photons in dict.fromkeys((one.kind, one.photons) for one in tried):
        these = [one for one in tried if (one.kind, one.photons) == (kind, photons)]
        ours = [one for one in these if one.method == OURS]
        last = max(one.index for one in ours)
        parts = [_mean(one.error_px for one in ours if low * last < one.index <= high * last)
                 for low, high in ((0, 0.2), (0.35, 0.55), (0.8, 1), (0, 1))]
        theirs = [[one for one in these if one.method == method] for method in (MEDIUM, CHAINED)]
        whole = (f"{np.mean([one.everywhere_px for one in ours]):.3f} / "
                 f"{np.mean([one.everywhere_px for one in theirs[0]]):.3f}" if theirs[0] else "")
        table.append([kind, f"{photons:.0f}", *parts, *(_mean(one.error_px for one in some) for some in theirs),
                      f"{100 * np.mean([one.valid for one in ours]):.0f} %", whole,
                      f"{np.median([one.over_sigma for one in ours]):.2f}"])
    return table


def peer_table(tried: list[Tried]) -> list[list[str]]:
    """Every method on the frames it ran on, beside ours on the same frames."""
    cases = list(dict.fromkeys((one.kind, one.photons) for one in tried))
    table = [["method", *(f"{kind}, {photons:.0f}" for kind, photons in cases), "CPU ms"]]
    ours = {(one.kind, one.seed, one.photons, one.index): one.error_px for one in tried if one.method == OURS}
    for method in dict.fromkeys(one.method for one in tried):
        line = [method]
        for case in cases:
            mine = [one for one in tried if one.method == method and (one.kind, one.photons) == case]
            same = [ours[one.kind, one.seed, one.photons, one.index] for one in mine]
            line.append(f"{np.mean([one.error_px for one in mine]):.3f} ({np.mean(same):.3f})" if mine else "")
        spent = [one.spent_ms for one in tried if one.method == method and np.isfinite(one.spent_ms)]
        table.append([*line, f"{np.median(spent):.0f}" if spent else ""])
    return table


def _mean(values: Iterable[float]) -> str:
    listed = list(values)
    return f"{np.mean(listed):.3f}" if listed else ""


def plot(tried: list[Tried], path: Path) -> None:
    """Draw the error of every method along the sequences."""
    import matplotlib as mpl  # noqa: PLC0415  (an extra)

    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    cases = list(dict.fromkeys((one.kind, one.photons) for one in tried))
    figure, axes = pyplot.subplots(1, len(cases), figsize=(3.4 * len(cases), 3.6), sharey=True, layout="constrained",
                                   squeeze=False)
    for axis, case in zip(axes.flat, cases, strict=True):
        for method in dict.fromkeys(one.method for one in tried):
            these = [one for one in tried if one.method == method and (one.kind, one.photons) == case]
            frames = sorted({one.index for one in these})
            errors = [np.mean([one.error_px for one in these if one.index == frame]) for frame in frames]
            axis.plot(frames, errors, "-" if len(frames) > 20 else "o", ms=3, label=method,
                      lw=2.5 if method == OURS else 1)
        axis.set(title=f"{case[0]}, {case[1]:.0f} photons/px", xlabel="frame", ylim=(0, 0.8))
        axis.title.set_fontsize(9)
        axis.grid(alpha=0.25)
    axes[0, 0].set_ylabel("mean error on particles, px")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
