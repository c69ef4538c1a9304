"""What other thresholds would have flagged, before they are applied. No Qt.

The rule is that of the streamer. It acts here on what the rows say: a stricter or looser threshold would also have
let other frames into the baseline, so that a few rows near the threshold may come out otherwise when it is applied.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from monitor.rows import VERDICTS, BoolColumn, Charts, IntColumn
from streamer.records import Status

SHARP, BLURRED, UNDECIDED = (VERDICTS.index(word) for word in ("sharp", "blurred", "undecided"))


class Thresholds(NamedTuple):
    """What the verdict depends on."""

    score: float
    """A frame with a larger one is blurred..."""
    shortest_px: float
    """...if its blur is longer than this."""
    tolerance_px: float
    """A frame that is not blurred, and could not have shown blur of this length, is undecided."""


class Trial(NamedTuple):
    """Verdicts as they are and as they would be."""

    verdict: IntColumn
    """(n,) numbers of `VERDICTS`, as they would be."""
    judged: BoolColumn
    """(n,) rows that the thresholds act on; all others keep their verdict."""
    newly: BoolColumn
    """(n,) would be flagged, and are not."""
    no_longer: BoolColumn
    """(n,) are flagged, and would not be."""
    flagged_now: int
    """Of the judged rows, blurred or undecided."""
    flagged_then: int


def in_force(status: Status | None) -> Thresholds | None:
    """Return the thresholds of the streamer, None while they are not known."""
    if status is None or status.blur_score_threshold <= 0 or status.blur_tolerance_px <= 0:
        return None
    return Thresholds(status.blur_score_threshold, status.blur_shortest_px, status.blur_tolerance_px)


def judge(charts: Charts, thresholds: Thresholds) -> Trial:
    """Judge all rows again.

    Rows without a score keep their verdict: bad and refused frames, those whose blur could not be estimated, and the
    first one of each baseline, which there was nothing to compare with.

    Parameters
    ----------
    charts : Charts
    thresholds : Thresholds

    Returns
    -------
    Trial
    """
    score, length, limit = (charts.numbers[name] for name in ("blur_score", "blur_length_px", "blur_limit_px"))
    verdict = charts.verdict
    judged = np.isfinite(score) & np.isin(verdict, (SHARP, BLURRED, UNDECIDED))
    with np.errstate(invalid="ignore"):
        blurred = (score > thresholds.score) & (length > thresholds.shortest_px)
        shows = limit <= thresholds.tolerance_px   # not when the limit is not known
    then = np.where(judged, np.where(blurred, BLURRED, np.where(shows, SHARP, UNDECIDED)), verdict)
    now_flagged, then_flagged = judged & (verdict != SHARP), judged & (then != SHARP)
    return Trial(then, judged, then_flagged & ~now_flagged, now_flagged & ~then_flagged,
                 int(now_flagged.sum()), int(then_flagged.sum()))


def told(trial: Trial, verdict: IntColumn) -> tuple[str, str]:
    """Say what a trial would have flagged: in short, and by verdict.

    >>> columns = [np.array(values) for values in ([1, 2, 2], [1, 1, 1])]
    >>> told(Trial(columns[0], columns[1] > 0, columns[0] > 1, columns[0] < 0, 0, 2), columns[1])
    ('would flag 2, now 0', 'of 3: blurred 2, now 0; undecided 0, now 0')
    """
    counts = [f"{VERDICTS[code]} {np.count_nonzero(trial.judged & (trial.verdict == code))}, now "
              f"{np.count_nonzero(trial.judged & (verdict == code))}" for code in (BLURRED, UNDECIDED)]
    return (f"would flag {trial.flagged_then}, now {trial.flagged_now}",
            f"of {np.count_nonzero(trial.judged)}: {'; '.join(counts)}")
