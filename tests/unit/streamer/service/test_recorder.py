from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamer.errors import SessionError
from streamer.journal import Journal
from streamer.records import Alert, Command, Event, FrameRow, Recollection, StageMove
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


def test_rows_that_are_given_up_are_named_and_all_else_is_kept(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.service.recorder._BACKLOG", 3)
    monkeypatch.setattr("streamer.service.recorder._HISTORY", 5)
    recorder = Recorder(journal)
    recorder.remember(lambda told: {f"part {len(seen)}": bytes([told])})
    seen: list[int] = []
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages}")
    for index in range(8):
        seen.append(index)
        recorder.row(_row(index, problems="x" * 50_000), received_at=time.time())
        recorder.alert(Alert(id=index + 1, raised_at="", severity="MINOR", rule="r", text="t"))
        recorder.event(Event(kind="gap", text=f"gap {index}"))
        recorder.facts(newest=index)
        recorder.commit()
        assert recorder.take_given_up() == []   # told when it is over
    assert "5 rows are given up" in recorder.problem
    journal._db.execute("PRAGMA max_page_count = 100000")
    recorder.commit()
    assert recorder.problem == ""
    assert recorder.take_given_up() == [("a", index) for index in range(3)]   # 3 and 4 are still in memory
    assert recorder.take_given_up() == []
    recorder.commit()
    assert sorted(row.index for _, row in journal.rows()) == [3, 4, 5, 6, 7]
    assert [alert.id for _, alert in journal.alerts()] == [*range(1, 9)]
    assert len(list(journal.events())) == 8
    assert journal.meta()["newest"] == 7
    assert set(journal.state()) == {f"part {number}" for number in range(1, 9)}


def test_the_state_is_written_with_the_results_it_belongs_to(journal: Journal) -> None:
    told: list[bool] = []
    recorder = Recorder(journal)
    recorder.remember(lambda alerts: told.append(alerts) or {"n": bytes([len(told)])})   # type: ignore[func-returns-value]
    recorder.row(_row(0), received_at=time.time())
    recorder.commit()
    recorder.alert(Alert(id=1, raised_at="", severity="MINOR", rule="r", text="t"))
    recorder.commit()
    assert told == [False, True]
    assert journal.state() == {"n": b"\2"}


def test_another_recorder_goes_on(journal: Journal) -> None:
    first = Recorder(journal)
    for index in range(3):
        first.row(_row(index, verdict="sharp"), received_at=time.time())
    first.commit()
    second = Recorder(journal)
    second.go_on(first.sequences)
    assert second.newest == ("a", 2)
    assert second.has_row(("a", 0))
    second.revise(("a", 1), {"verdict": "blurred"})
    second.commit()
    assert [(sequence, row.index, row.verdict, row.revision) for sequence, row in journal.rows()] == [
        (1, 0, "sharp", 0), (4, 1, "blurred", 1), (3, 2, "sharp", 0)]


def test_what_a_person_says_of_a_verdict_outlasts_revisions_and_restarts(tmp_path: Path) -> None:
    with Journal(tmp_path, create=True) as journal:
        recorder = Recorder(journal)
        recorder.row(_row(3, verdict="blurred", problems="dusty"), received_at=time.time())
        row = recorder.find(3)
        assert row is not None
        revised = recorder.override(row, "sharp", "verdict overridden by ANNA: was blurred, now sharp")
        assert (revised.verdict, revised.revision, revised.provisional) == ("sharp", 1, False)
        arguments = {"index": 3, "acquisition": "a", "remark": "verdict overridden by ANNA: was blurred, now sharp"}
        recorder.command(Command(op="override", arguments=arguments), "done")
        recorder.command(Command(op="override", arguments={"index": 9}), "refused: there is no frame 9")
        recorder.commit()
        again = Recorder(journal)
        again.go_on({"frame": 2})
        for one in (recorder, again):
            assert one.revise(("a", 3), {"verdict": "blurred", "provisional": True}) is None
            found = one.revise(("a", 3), {"verdict": "blurred", "drift_y_px": 1.5, "problems": "not registered"})
            assert found is not None
            _, after = found
            assert (after.verdict, after.drift_y_px) == ("sharp", 1.5)
            assert after.problems == "not registered; verdict overridden by ANNA: was blurred, now sharp"


def test_the_last_word_replaces_the_one_before(journal: Journal) -> None:
    recorder = Recorder(journal)
    recorder.row(_row(3, verdict="blurred", problems="dusty"), received_at=time.time())
    for verdict, remark in (("sharp", "says ANNA"), ("bad", "says BEN")):
        row = recorder.find(3, "a")
        assert row is not None
        revised = recorder.override(row, verdict, remark)
    assert (revised.verdict, revised.problems, revised.revision) == ("bad", "dusty; says BEN", 2)


def test_rows_that_are_no_longer_in_memory_are_found_and_overruled(journal: Journal) -> None:
    recorder = Recorder(journal)
    recorder.row(_row(3, verdict="blurred"), received_at=time.time())
    recorder.commit()
    recorder = Recorder(journal)
    recorder.go_on({"frame": 1})
    recorder._rows.clear()
    row = recorder.find(3)
    assert row is not None
    recorder.override(row, "sharp", "says ANNA")
    recorder.commit()
    assert [(sequence, found.verdict) for sequence, found in journal.rows()] == [(2, "sharp")]
    assert recorder.find(4) is None
    assert recorder.find(3, "other") is None


def test_a_clock_that_steps_back_gives_no_negative_latency(journal: Journal) -> None:
    assert Recorder(journal).row(_row(0), received_at=time.time() + 3600.0) == 0.0


def test_requests_are_in_the_journal_and_told_in_order(journal: Journal) -> None:
    told: list[tuple[str, int]] = []
    recorder = Recorder(journal, publish=lambda topic, sequence, fields, arrays: told.append((topic, sequence)))
    request = Recollection(id=1, requested_at="", acquisition="scan", index=3, view="main", reason="r",
                           stage=StageMove(y_um=0.5, x_um=-1.0))
    served = msgspec.structs.replace(request, state="served", served_by=9, stage=None)
    recorder.recollection(request)
    recorder.commit()
    assert list(journal.recollections()) == [(1, request)]
    recorder.recollection(served)
    recorder.commit()
    assert list(journal.recollections()) == [(2, served)]
    assert told == [("recollect", 1), ("recollect", 2)]
