"""Measure the blur screening against textbook scores on simulated sequences, and on real frames.

Usage: ``.venv/bin/python -P benchmarks/sharpness.py [--quick] [--out FILE.json] [--plot FILE.png]``, or a part:
``--photons 200 --seeds 101-104 --ours-only``. The default seeds 5001... are held out: tune on 1xx.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import msgspec
import numpy as np
import scipy.fft

sys.path.insert(0, str(Path(__file__).parent))   # -P leaves it out

from sharpness_figures import (
    FALSE_POSITIVES,
    OURS,
    Judged,
    Row,
    auc,
    detail_table,
    failures,
    reach_rows,
    scores_of,
    separation_table,
    variant_table,
)
from sharpness_peers import PEERS, against_neighbours, measure_peers
from sharpness_real import real_rows
from sharpness_sequences import SHARP, VARIANTS, Specimen

from streamer.imaging.spectrum import fast_size
from streamer.pipeline import Pipeline, measure
from streamer.records import FloatArray, Frame, FrameRow
from streamer.settings import Settings, update

DOSES = (50.0, 200.0, 1000.0)
SEEDS = tuple(range(5001, 5011))
SCHEDULES = 3
VARIANT_DOSE = 200.0


class Watched(NamedTuple):
    """What became of a stream."""

    first: list[FrameRow]
    final: list[FrameRow]
    images: list[FloatArray]
    """Corrected; empty unless asked for."""
    elapsed_ms: dict[str, list[float]]


def watch(frames: Iterable[Frame], *, keep_images: bool = False) -> Watched:
    """Run frames through the pipeline and apply the revisions as the recorder does."""
    pipeline = Pipeline(update(Settings(), {"flow.enabled": False, "engine.kind": "inline"}))
    elapsed_ms: dict[str, list[float]] = {"sharpness": []}
    judge = pipeline._sharpness.update   # the stage "track" holds the drift, too
    pipeline._sharpness.update = _timed(judge, elapsed_ms["sharpness"])   # type: ignore[method-assign]
    first, final, images = [], {}, []
    for frame in frames:
        job = pipeline.begin(frame)
        outcome = pipeline.finish(job, measure(job))
        if frame.kind != "projection":
            continue
        row = outcome.row
        first.append(row)
        final[row.acquisition, row.index] = row
        if keep_images and outcome.image is not None:
            images.append(outcome.image)
        for stage, value in outcome.elapsed_ms.items():
            elapsed_ms.setdefault(stage, []).append(value)
        for key, columns in outcome.revisions:
            row = final[key]
            kept = {name: value for name, value in columns.items() if name != "verdict" or row.verdict != "bad"}
            final[key] = msgspec.structs.replace(row, revision=row.revision + 1, **kept)
    return Watched(first, list(final.values()), images, elapsed_ms)


def _timed(function: Callable[..., Any], elapsed_ms: list[float]) -> Callable[..., Any]:
    def timed(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            elapsed_ms.append(1e3 * (time.perf_counter() - started))
    return timed


def judge_stream(
    specimen: Specimen, photons: float, *, variant: str = "usual", schedule: int = 0, peers: bool = False,
    elapsed_ms: dict[str, list[float]] | None = None,
) -> list[Judged]:
    """Simulate a stream and say what was found in every projection."""
    watched = watch(specimen.stream(photons, VARIANTS[variant], schedule=schedule), keep_images=peers)
    timing: dict[str, list[float]] = {} if elapsed_ms is None else elapsed_ms
    for stage, values in watched.elapsed_ms.items():
        timing.setdefault(f"ours: {stage}", []).extend(values)
    scores: list[dict[str, float]] = [{} for _ in watched.final]
    if peers:
        values = []
        for image in watched.images:
            found, spent = measure_peers(image)
            values.append(found)
            for name, value in spent.items():
                timing.setdefault(name, []).append(value)
        for name in PEERS:
            for form, series in against_neighbours([value[name] for value in values]).items():
                for score, value in zip(scores, series, strict=True):
                    score[f"{name}|{form}"] = round(float(value), 6)
    truth = specimen.truth(VARIANTS[variant], schedule=schedule)
    return [
        Judged(variant, photons, specimen.seed, schedule, row.index, specimen.fringed, true.kind, true.length_px,
               true.angle_deg, row.verdict, None if first.provisional else first.verdict, row.blur_score,
               row.blur_length_px, row.blur_length_sigma_px, row.blur_angle_deg, row.blur_limit_px, row.problems, score)
        for true, first, row, score in zip(truth, watched.first, watched.final, scores, strict=True)]


def judge_all(
    seeds: Sequence[int], doses: Sequence[float], *, variants: bool, peers: bool, schedules: int, frames: int,
) -> Iterator[tuple[list[Judged], dict[str, list[float]]]]:
    """Judge the streams of one specimen after the other."""
    for seed in seeds:
        specimen, elapsed_ms, found = Specimen(seed, frames=frames), {}, []
        for schedule in range(schedules):
            for photons in doses:
                found += judge_stream(specimen, photons, schedule=schedule, peers=peers, elapsed_ms=elapsed_ms)
        for variant in [name for name in VARIANTS if name != "usual"] if variants else []:
            found += judge_stream(specimen, VARIANT_DOSE, variant=variant)
        yield found, elapsed_ms


def cost_rows(seed: int, *, frames: int = 24) -> list[Row]:
    """Time what blur screening adds to a spectrum that is taken anyway, in one thread, on a drifting texture."""
    rows = []
    for shape, asked in (((654, 678), "<= 3 ms"), ((2048, 2048), "<= 12 ms")):
        spent = watch(_texture_stream(shape, seed, frames)).elapsed_ms
        judged, spectrum = (float(np.median(spent[stage][frames // 2:])) for stage in ("sharpness", "spectrum"))
        plain = np.ones([fast_size(side) for side in shape], np.float32)
        bare = _median_ms(lambda plain=plain: scipy.fft.rfft2(plain))   # type: ignore[misc]
        rows.append((f"cost at {shape[0]} x {shape[1]}, spectrum shared", asked,
                     f"{judged:.1f} ms judged; spectrum {spectrum:.1f} ms, of these the bare transform {bare:.1f} ms"))
    return rows


def _texture_stream(shape: tuple[int, int], seed: int, frames: int) -> Iterator[Frame]:
    """Yield frames of a texture whose power falls like that of a specimen, 3 px further each time."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    texture = scipy.fft.irfft2(scipy.fft.rfft2(rng.standard_normal(shape)) * (0.004 + frequency) ** -1.5, s=shape)
    light = 200 * np.clip(1 + 0.15 * texture / texture.std(), 0.1, None)
    for number in range(frames):
        pixels = rng.poisson(np.roll(light, (3 * number, number), (0, 1))).astype(np.uint16)
        yield Frame(pixels=pixels, index=number, acquisition="cost")


def _median_ms(function: Callable[[], object]) -> float:
    spent: list[float] = []
    for _ in range(9):
        _timed(function, spent)()
    return float(np.median(spent))


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Write a table; the first line is its head."""
    lines = [f"| {' | '.join(line)} |" for line in table]
    return "\n".join([lines[0], f"|{' --- |' * len(table[0])}", *lines[1:]])


def plot(judged: list[Judged], path: Path) -> None:
    """Draw ROC curves of the telling cells, ours and the peers'."""
    import matplotlib as mpl  # noqa: PLC0415  (an extra)

    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    cells = ((50.0, "5 px"), (200.0, "2 px"), (200.0, "3 px"), (1000.0, "2 px"))
    figure, axes = pyplot.subplots(1, len(cells), figsize=(4 * len(cells), 4.4), sharey=True, layout="constrained")
    for axis, (photons, kind) in zip(axes, cells, strict=True):
        here = [one for one in judged if one.photons == photons and one.variant == "usual"]
        sharp, blurred = ([one for one in here if one.kind == name] for name in (SHARP, kind))
        if not sharp or not blurred:
            continue
        for method in (OURS, *PEERS):
            forms = [OURS] if method == OURS else [name for name in sharp[0].peers if name.startswith(f"{method}|")]
            if not forms:
                continue
            best = max(forms, key=lambda form: auc(scores_of(sharp, form), scores_of(blurred, form)))
            negative, positive = scores_of(sharp, best), scores_of(blurred, best)
            steps = np.sort(np.concatenate([negative, positive, [np.inf]]))[::-1]
            curve = [(np.mean(negative >= step), np.mean(positive >= step)) for step in steps]
            ours = method == OURS
            axis.plot(*np.transpose(curve), label=method, lw=2.5 if ours else 1.0, color="black" if ours else None)
        axis.set(title=f"{kind} at {photons:g} photons/px", xlabel="false positives", xlim=(0, 1))
        axis.set_xscale("symlog", linthresh=0.01)
        axis.axvline(FALSE_POSITIVES, color="0.8", lw=0.8, zorder=0)
    axes[0].set_ylabel("blurred frames found")
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=5)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def timing_table(elapsed_ms: dict[str, list[float]]) -> list[list[str]]:
    """Median ms per frame of every method and of our stages."""
    return [["method or stage", "ms per frame, median"],
            *([name, f"{np.median(values):.2f}"] for name, values in sorted(elapsed_ms.items()) if values)]


def numbers(text: str) -> list[int]:
    """Read ``101-104,110``."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        found += range(int(first), int(last if dash else first) + 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photons", type=float, nargs="+", default=list(DOSES), help="per pixel of the open beam")
    parser.add_argument("--seeds", type=numbers, default=list(SEEDS), help="of the specimens, such as 101-104,110")
    parser.add_argument("--schedules", type=int, default=SCHEDULES, help="choices of blurred frames per specimen")
    parser.add_argument("--frames", type=int, default=40, help="in each stream")
    parser.add_argument("--ours-only", action="store_true", help="neither peers, variants, cost nor real frames")
    parser.add_argument("--variants", action="store_true", help="the difficult streams even so")
    parser.add_argument("--real", action="store_true", help="the real frames even so")
    parser.add_argument("--quick", action="store_true", help="one short sequence, to see that it works")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write tables and every judged frame")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the ROC curves (needs matplotlib)")
    asked = parser.parse_args()
    if asked.quick:
        asked.seeds, asked.schedules, asked.frames = asked.seeds[-1:], 1, 32
    cv2.setNumThreads(1)
    whole = not asked.ours_only
    judged: list[Judged] = []
    elapsed_ms: dict[str, list[float]] = {}
    for found, spent in judge_all(asked.seeds, asked.photons, variants=whole or asked.variants, peers=whole,
                                  schedules=asked.schedules, frames=asked.frames):
        judged += found
        for name, values in spent.items():
            elapsed_ms.setdefault(name, []).extend(values)
        print(f"seed {found[0].seed} done", file=sys.stderr, flush=True)
    reach = reach_rows(judged)
    reach += cost_rows(asked.seeds[0]) if whole else []
    reach += real_rows(lambda frames: watch(frames).final) if whole or asked.real else []
    tables = {
        "Asked and measured": [["what", "asked", "measured"], *map(list, reach)],
        "AUC / recall at 1 % false positives": separation_table(judged, (OURS, *PEERS) if whole else (OURS,)),
        "Ours, by class": detail_table(judged), "Ours, by stream": variant_table(judged),
        "Time": timing_table(elapsed_ms)}
    for title, table in tables.items():
        print(f"\n## {title}\n\n{markdown(table)}", flush=True)
    print("\n## Failures\n", *failures(judged), sep="\n")
    if asked.out:
        asked.out.write_bytes(msgspec.json.format(msgspec.json.encode(
            {"tables": tables, "failures": failures(judged), "frames": judged}), indent=0))
    if asked.plot:
        plot(judged, asked.plot)


if __name__ == "__main__":
    main()
