"""Tables and picture of the comparison with what a user would pick instead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from drift_figures import FAILED_PX
from drift_peers import CHAINED, CHAINED_FRAMES, OURS, Tried
from drift_sequences import TITLES

PLOTTED = ("base", "50", "pattern", "slow", "growth", "long")


def comparison_table(tried: list[Tried]) -> list[list[str]]:
    """Errors of every method in every case."""
    cases = list(dict.fromkeys(one.case for one in tried))
    table = [["method", *(f"{case}, chained" if case in CHAINED else case for case in cases)]]
    for method in dict.fromkeys(one.method for one in tried):
        line = [method]
        for case in cases:
            errors = _errors(tried, case, method)
            line.append(_told(errors) if len(errors) else "")
        table.append(line)
    return table


def time_table(tried: list[Tried]) -> list[list[str]]:
    """Median CPU time of a pair, by size of the frame."""
    table = [["method", "CPU ms at 654 x 678", "CPU ms at 2048 x 2048"]]
    timed = [one for one in tried if np.isfinite(one.elapsed_ms) and one.case not in CHAINED]
    for method in dict.fromkeys(one.method for one in timed):
        spent = [[one.elapsed_ms for one in timed if one.method == method and (one.case == "large") == large]
                 for large in (False, True)]
        table.append([method, *(f"{np.median(some):.1f}" if some else "" for some in spent)])
    return table


def _errors(tried: list[Tried], case: str, method: str) -> np.ndarray:
    """Where a method gave up the error is infinite."""
    errors = np.array([one.error_px for one in tried if one.case == case and one.method == method])
    return np.where(np.isfinite(errors), errors, np.inf)


def _told(errors: np.ndarray) -> str:
    """Median / 95 % / share that failed; a method that gives up has failed."""
    failed = np.mean(errors > FAILED_PX)
    middle, high = (np.percentile(errors, share, method="higher") for share in (50, 95))
    return f"{_px(middle)} / {_px(high)} / {100 * failed:.0f} %"


def _px(error: float) -> str:
    return "none" if not np.isfinite(error) else f"{error:.3g}" if error >= 0.1 else f"{error:.3f}"


def plot(tried: list[Tried], path: Path) -> None:
    """Draw how large the errors of every method are, case by case."""
    import matplotlib as mpl  # noqa: PLC0415  (an extra)

    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    cases = [case for case in PLOTTED if any(one.case == case for one in tried)]
    columns = min(3, len(cases))
    figure, axes = pyplot.subplots(-(-len(cases) // columns), columns, figsize=(4.6 * columns, 6.6 if len(cases) > 3
                                   else 3.8), sharex=True, sharey=True, layout="constrained", squeeze=False)
    names = list(dict.fromkeys(one.method for one in tried))
    colours = dict(zip(names, ["black", "0.45", *pyplot.get_cmap("tab10").colors], strict=False))
    for axis, case in zip(axes.flat, cases, strict=False):
        for method in names:
            errors = np.sort(_errors(tried, case, method))
            if len(errors):
                share = (np.arange(len(errors)) + 1) / len(errors)
                ours = method == OURS
                axis.step(np.maximum(errors, 1e-3), share, where="post", lw=2.5 if ours else 1.1,
                          label=method, color=colours[method], zorder=3 if ours else 2)
        title = TITLES[case].partition(":")[0]
        axis.set(title=f"first {CHAINED_FRAMES} of {title}; others chained" if case in CHAINED else title, xscale="log",
                 xlim=(2e-3, 400), ylim=(0, 1.02))
        axis.title.set_fontsize(9)
        axis.axvline(FAILED_PX, color="0.8", lw=0.8, zorder=0)
        axis.grid(alpha=0.25)
    for axis in axes[-1]:
        axis.set_xlabel("error, px")
    for axis in axes[:, 0]:
        axis.set_ylabel("frames with at most this error")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
