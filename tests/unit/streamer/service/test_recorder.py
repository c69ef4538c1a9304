from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamer.errors import SessionError
from streamer.journal import Journal
from streamer.records import Alert, FrameRow
from streamer.service.recorder import Recorder


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path, create=True) as opened:
        yield opened


def _row(index: int, **columns: Any) -> FrameRow:
    return FrameRow(**({"index": index, "acquisition": "a", "view": "main", "kind": "projection"} | columns))


def test_nothing_is_published_before_it_is_in_the_journal(journal: Journal) -> None:
    published: list[tuple[str, int, Any]] = []

    def publish(topic: str, sequence: int, fields: Any, arrays: Any) -> None:
        assert sequence in [kept for kept, _ in journal.rows()]
        published.append((topic, sequence, fields.index))

    recorder = Recorder(journal, publish=publish)
    recorder.row(_row(0), received_at=time.time())
    recorder.row(_row(1), received_at=time.time())
    assert published == []
    recorder.commit()
    assert published == [("frame", 1, 0), ("frame", 2, 1)]


def test_a_revision_is_counted_published_and_kept(journal: Journal) -> None:
    recorder = Recorder(journal)
    recorder.row(_row(0, verdict="undecided", provisional=True), received_at=time.time())
    recorder.revise(("a", 0), {"verdict": "sharp", "provisional": False})
    recorder.revise(("a", 0), {"flow_median_px": 0.5}, counts=False)
    recorder.revise(("a", 0), {"flow_median_px": 0.5})   # nothing new: no message
    recorder.revise(("a", 99), {"verdict": "sharp"})     # not known: nothing to revise
    recorder.commit()
    ((sequence, row),) = journal.rows()
    assert (sequence, row.verdict, row.provisional, row.flow_median_px, row.revision) == (3, "sharp", False, 0.5, 1)


def test_a_frame_without_image_stays_bad(journal: Journal) -> None:
    recorder = Recorder(journal)
    recorder.row(_row(0, verdict="bad"), received_at=time.time())
    recorder.revise(("a", 0), {"verdict": "sharp", "drift_y_px": 1.0})
    recorder.commit()
    ((_, row),) = journal.rows()
    assert (row.verdict, row.drift_y_px) == ("bad", 1.0)


def test_a_frame_that_was_refused_may_come_again(journal: Journal) -> None:
    recorder = Recorder(journal)
    recorder.row(_row(0, problems="cut"), received_at=time.time())
    recorder.row(_row(0, verdict="sharp"), received_at=time.time())
    recorder.commit()
    ((_, row),) = journal.rows()
    assert (row.verdict, row.problems, row.revision) == ("sharp", "", 1)


def test_latency_is_from_received_to_recorded(journal: Journal) -> None:
    recorder = Recorder(journal)
    assert 1000 <= recorder.row(_row(0), received_at=time.time() - 1.0) < 2000
    recorder.commit()
    ((_, row),) = journal.rows()
    assert row.latency_ms is not None
    assert row.latency_ms >= 1000


def test_an_unwritable_journal_is_told_and_caught_up_with(journal: Journal) -> None:
    published: list[int] = []
    recorder = Recorder(journal, publish=lambda topic, sequence, fields, arrays: published.append(sequence))
    journal._db.execute(f"PRAGMA max_page_count = {journal._db.execute('PRAGMA page_count').fetchone()[0]}")
    for index in range(3):
        recorder.row(_row(index, problems="x" * 50_000), received_at=time.time())
        recorder.commit()
    assert "full" in recorder.problem
    assert "3 steps wait" in recorder.problem
    assert published == [1, 2, 3]
    journal._db.execute("PRAGMA max_page_count = 100000")
    recorder.commit()
    assert recorder.problem == ""
    assert [sequence for sequence, _ in journal.rows()] == [1, 2, 3]


def test_alerts_have_numbers_of_their_own(journal: Journal) -> None:
    recorder = Recorder(journal)
    alert = Alert(id=1, raised_at="", severity="MINOR", rule="r", text="t")
    recorder.row(_row(0), received_at=time.time())
    recorder.alert(alert)
    recorder.commit()
    assert list(journal.alerts()) == [(1, alert)]
    assert recorder.sequences == {"frame": 1, "alert": 1}


def test_what_could_not_be_written_to_the_end_is_told(journal: Journal) -> None:
    recorder = Recorder(journal)
    journal._db.execute(f"PRAGMA max_page_count = {journal._db.execute('PRAGMA page_count').fetchone()[0]}")
    recorder.row(_row(0, problems="x" * 50_000), received_at=time.time())
    with pytest.raises(SessionError, match="1 rows are lost"):
        recorder.close()
