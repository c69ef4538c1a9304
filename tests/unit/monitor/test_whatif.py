from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.acquisitions import acquisition, received
from support.fake_streamer import make_row

from monitor.rows import VERDICTS, Charts, RowTable
from monitor.whatif import Thresholds, in_force, judge, told
from simulator.plan import Request
from simulator.scenarios import sun2025_txm
from streamer.journal import Journal
from streamer.records import Frame, FrameRow
from streamer.service.offline import analyse
from streamer.settings import load

THRESHOLDS = Thresholds(3.5, 1.2, 3.0)


def charts_of(rows: list[FrameRow]) -> Charts:
    table = RowTable()
    for number, row in enumerate(rows):
        table.put(row, number + 1)
    return table.charts(1)


@pytest.mark.parametrize(("score", "length", "limit", "word"), [
    (3.6, 5.0, 1.0, "blurred"), (3.5, 5.0, 1.0, "sharp"), (9.0, 1.2, 1.0, "sharp"), (9.0, 1.3, 9.0, "blurred"),
    (1.0, 0.5, 3.0, "sharp"), (1.0, 0.5, 3.1, "undecided"), (1.0, 0.5, None, "undecided"), (9.0, None, 1.0, "sharp"),
])
def test_the_rule(score: float, length: float | None, limit: float | None, word: str) -> None:
    row = make_row(0, verdict="sharp", blur_score=score, blur_length_px=length, blur_limit_px=limit)
    assert VERDICTS[judge(charts_of([row]), THRESHOLDS).verdict[0]] == word


@pytest.mark.parametrize("fields", [
    {"verdict": "bad"}, {"verdict": None, "problems": "too small"}, {"verdict": "undecided", "blur_score": None},
])
def test_rows_that_the_thresholds_do_not_act_on_keep_their_verdict(fields: dict[str, object]) -> None:
    charts = charts_of([make_row(0, **fields)])
    for threshold in (1.0, 50.0):
        trial = judge(charts, THRESHOLDS._replace(score=threshold, tolerance_px=threshold))
        assert not trial.judged[0]
        assert trial.verdict.tolist() == charts.verdict.tolist()
        assert trial.flagged_now == trial.flagged_then == 0


def test_a_trial_counts_and_marks_what_changes() -> None:
    rows = [make_row(number, verdict="blurred" if score > 3.5 else "sharp", blur_score=score, blur_length_px=4.0,
                     blur_limit_px=1.0) for number, score in enumerate([1.0, 2.0, 3.0, 4.0, 5.0])]
    charts = charts_of(rows)
    lower, higher = (judge(charts, THRESHOLDS._replace(score=score)) for score in (2.5, 4.5))
    assert np.flatnonzero(lower.newly).tolist() == [2]
    assert not lower.no_longer.any()
    assert told(lower, charts.verdict) == (
        "would flag 3, now 2", "of 5: blurred 3, now 2; undecided 0, now 0")
    assert np.flatnonzero(higher.no_longer).tolist() == [3]
    assert (higher.flagged_now, higher.flagged_then) == (2, 1)
    assert judge(charts, THRESHOLDS).verdict.tolist() == charts.verdict.tolist()


def test_nothing_and_thresholds_that_are_not_known() -> None:
    trial = judge(Charts(), THRESHOLDS)
    assert trial.verdict.size == trial.flagged_now == trial.flagged_then == 0
    assert in_force(None) is None


def of_scenario() -> list[Frame]:
    run = sun2025_txm.build(Request(frames=20, seed=4))
    return [run.frame(place) for place in range(len(run.shots))]


def with_short_blur() -> list[Frame]:
    return received(acquisition(24, seed=7, blurred=(4, 9, 10, 17)))


@pytest.mark.parametrize(("frames", "thresholds"), [
    (of_scenario, THRESHOLDS), (with_short_blur, THRESHOLDS), (with_short_blur, Thresholds(4.5, 2.0, 1.0))])
def test_thresholds_in_force_give_the_verdicts_of_a_real_session(
    tmp_path: Path, frames: Callable[[], list[Frame]], thresholds: Thresholds,
) -> None:
    settings = load(assignments=[
        "flow.enabled=false", "engine.kind=inline", f"blur.score_threshold={thresholds.score}",
        f"blur.shortest_px={thresholds.shortest_px}", f"blur.tolerance_px={thresholds.tolerance_px}"])
    analyse(frames(), settings, tmp_path / "s")
    with Journal(tmp_path / "s") as journal:
        charts = charts_of([row for _, row in journal.rows()])
    trial = judge(charts, thresholds)
    final = charts.numbers["provisional"] == 0
    assert final.sum() >= 18
    assert np.unique(charts.verdict[final]).size >= 2
    assert trial.verdict[final].tolist() == charts.verdict[final].tolist()
    assert np.flatnonzero(~trial.judged).size <= 1   # the first frame, which there was nothing to compare with
