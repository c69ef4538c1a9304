from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import numpy as np
import pytest

from streamer.errors import SessionError
from streamer.export import export_session
from streamer.journal import FILE_NAME, Batch, Journal
from streamer.packing import grey_levels
from streamer.records import (
    FRAME_TEXTS,
    Accounting,
    Alert,
    Command,
    Event,
    FlowResult,
    FrameRow,
    Notice,
    SpectraResult,
    Tally,
)


def _row(index: int, **columns: object) -> FrameRow:
    return FrameRow(**({"index": index, "acquisition": "scan", "view": "main", "kind": "projection"} | columns))


def _flow(index: int) -> FlowResult:
    rng = np.random.default_rng(index)
    return FlowResult(
        index=index, acquisition="scan", view="main", reference_index=0, drift_y_px=1.5, drift_x_px=-2.25,
        grid_y_px=np.arange(5, dtype=np.float32), grid_x_px=np.arange(7, dtype=np.float32),
        displacement_px=rng.normal(size=(2, 5, 7)).astype(np.float32), valid=rng.random((5, 7)) > 0.5,
        sigma_px=np.full((5, 7), np.nan, np.float32), flow_median_px=0.5, flow_p95_px=None, elapsed_ms=3.0)


def _spectra(index: int, **fields: object) -> SpectraResult:
    rng = np.random.default_rng(index)
    curves = {name: rng.exponential(size=64).astype(np.float32) for name in
              ("horizontal", "vertical", "reference_horizontal", "reference_vertical", "noise_horizontal",
               "noise_vertical")}
    return SpectraResult(**({
        "index": index, "acquisition": "scan", "view": "main", "floor": 0.005, "picture_low": -3.5, "picture_high": 2.0,
        "picture": rng.integers(0, 256, (64, 32), dtype=np.uint8), "resolution_x_px": 2.5} | curves | fields))


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    rows = [_row(0, verdict="sharp", provisional=True, drift_y_px=0.1 + 0.2), _row(1, kind="flat", problems="dusty")]
    alert = Alert(id=1, raised_at="2026-01-01T00:00:00.000000Z", severity="MAJOR", rule="gap", text="frames 3 to 4")
    event = Event(kind="gap", text="frames 3 to 4 are missing", acquisition="scan", index=3, at=2.0)
    accounting = Accounting(received=2, measured=2, missing=Tally(count=2, indices=[[3, 4]]))
    with Journal(tmp_path, create=True) as journal:
        journal.write(Batch(rows=[(1, rows[0]), (2, rows[1])], alerts=[(1, alert)], events=[event], flows=[_flow(0)],
                            commands=[(Command(op="note", arguments={"text": "hm"}), "done")],
                            settings=[(0, "a = 1", "me")], facts={"session": "x", "accounting": accounting}))
    with Journal(tmp_path) as journal:
        assert list(journal.rows()) == [(1, rows[0]), (2, rows[1])]
        assert list(journal.alerts()) == [(1, alert)]
        assert list(journal.events()) == [event]
        assert journal.settings() == (0, "a = 1")
        assert journal.meta()["session"] == "x"
        assert journal.meta()["accounting"]["missing"] == {"count": 2, "indices": [[3, 4]]}
        (flow,) = journal.flows()
    expected = _flow(0)
    for name in FlowResult.__struct_fields__:
        np.testing.assert_array_equal(getattr(flow, name), getattr(expected, name), err_msg=name)


def test_a_revised_row_keeps_its_place_and_takes_a_new_sequence_number(tmp_path: Path) -> None:
    with Journal(tmp_path, create=True) as journal:
        journal.write(Batch(rows=[(1, _row(0)), (2, _row(1))]))
        journal.write(Batch(rows=[(3, _row(0, revision=1))]))
        assert [(sequence, row.index) for sequence, row in journal.rows()] == [(3, 0), (2, 1)]
        assert [row.index for _, row in journal.rows(since=2)] == [0]


def test_the_same_number_in_two_acquisitions_makes_two_rows(tmp_path: Path) -> None:
    with Journal(tmp_path, create=True) as journal:
        journal.write(Batch(rows=[(1, _row(0)), (2, _row(0, acquisition="other"))]))
        assert len(list(journal.rows())) == 2


def test_a_reader_sees_committed_rows_while_the_writer_goes_on(tmp_path: Path) -> None:
    with Journal(tmp_path, create=True) as journal:
        journal.write(Batch(rows=[(1, _row(0))]))
        with Journal(tmp_path) as reader:
            reader.snapshot()
            assert len(list(reader.rows())) == 1
            journal.write(Batch(rows=[(2, _row(1))]))
            assert len(list(reader.rows())) == 1
            reader.release()
            assert len(list(reader.rows())) == 2


def test_what_is_to_be_told_stays_until_it_was_told_in_its_newest_state(tmp_path: Path) -> None:
    alert = Alert(id=1, raised_at="", severity="MAJOR", rule="gap", text="frames 3 to 4", escalated=True, active=False)
    closed = msgspec.structs.replace(alert, state="closed")
    new, over = (Notice(channel="webhook", occasion=occasion, sequence=sequence, alert=state)   # type: ignore[arg-type]
                 for occasion, sequence, state in (("new", 1, alert), ("closed", 2, closed)))
    other = msgspec.structs.replace(new, channel="jsonl")
    with Journal(tmp_path, create=True) as journal:
        journal.write(Batch(alerts=[(1, alert)], undelivered=[new, other]))
        assert list(journal.undelivered("webhook", limit=9)) == [new]
        journal.write(Batch(alerts=[(2, closed)], undelivered=[over], delivered=[new]))   # told while it changed
        assert list(journal.undelivered("webhook", limit=9)) == [over]
        assert list(journal.undelivered("webhook", limit=0)) == []
        journal.write(Batch(delivered=[over]))
        assert list(journal.undelivered("webhook", limit=9)) == []
        assert [notice.channel for notice in journal.undelivered("jsonl", limit=9)] == ["jsonl"]


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    Journal(tmp_path, create=True).close()
    with Journal(tmp_path) as reader, pytest.raises(SessionError):
        reader.write(Batch(rows=[(1, _row(0))]))


def test_a_full_disk_leaves_the_journal_as_it_was_and_can_be_tried_again(tmp_path: Path) -> None:
    with Journal(tmp_path, create=True) as journal:
        journal.write(Batch(rows=[(1, _row(0))]))
        pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
        journal._db.execute(f"PRAGMA max_page_count = {pages}")
        big = Batch(rows=[(2, _row(1, problems="x" * 100_000)), (3, _row(2))])
        with pytest.raises(SessionError, match="full"):
            journal.write(big)
        assert len(list(journal.rows())) == 1
        journal._db.execute("PRAGMA max_page_count = 100000")
        journal.write(big)
        assert len(list(journal.rows())) == 3


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path, create=True), pytest.raises(SessionError, match="another streamer"):
        Journal(tmp_path, create=True)


def test_a_session_is_never_overwritten(tmp_path: Path) -> None:
    Journal(tmp_path, create=True).close()
    with pytest.raises(SessionError, match="already holds a session"):
        Journal(tmp_path, create=True)


@pytest.mark.parametrize("content", [b"", b"this is not a database at all, but some text of another program"])
def test_a_folder_without_a_session_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SessionError, match="no session"):
        Journal(tmp_path / "nowhere")
    (tmp_path / "session.sqlite").write_bytes(content)
    with pytest.raises(SessionError, match=r"session\.sqlite"):
        Journal(tmp_path)


def test_a_journal_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path, create=True).close()
    with sqlite3.connect(tmp_path / "session.sqlite") as db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    db.close()
    with pytest.raises(SessionError, match="schema 99"):
        Journal(tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SessionError, match="file"):
        Journal(tmp_path / "file" / "session", create=True)


def test_columns_hold_what_rows_hold(tmp_path: Path) -> None:
    rows = [_row(0, verdict="sharp", provisional=True, drift_y_px=-0.25, angle_deg=float("inf")),
            _row(7, kind="flat", problems="dusty", recollects=3, energy_ev=8333.5), _row(2**40)]
    with Journal(tmp_path, create=True) as journal:
        journal.write(Batch(rows=list(enumerate(rows, start=5))))
        sequences, columns = journal.columns(since=4, limit=10)
        assert journal.columns(since=5, limit=1)[0] == [6]
        none, empty = journal.columns(since=7, limit=10)
    assert sequences == [5, 6, 7]
    assert {*columns} == {*empty} == {*FrameRow.__struct_fields__}
    assert none == []
    assert all(len(column) == 0 for column in empty.values())
    for name, column in columns.items():
        values = [getattr(row, name) for row in rows]
        if name in FRAME_TEXTS:
            assert list(column) == values, name
        else:   # what is not finite is none on the wire
            numbers = np.array(values, np.float64)
            np.testing.assert_array_equal(column, np.where(np.isinf(numbers), np.nan, numbers), err_msg=name)


def test_a_session_that_knows_fewer_columns_can_be_read(tmp_path: Path) -> None:
    with Journal(tmp_path, create=True) as journal:
        journal.write(Batch(rows=[(1, _row(0, psf_group=3))]))
    with sqlite3.connect(tmp_path / "session.sqlite") as db:
        db.execute("ALTER TABLE frames DROP COLUMN psf_group")
    db.close()
    with Journal(tmp_path) as journal:
        assert list(journal.rows()) == [(1, _row(0))]


def test_spectra_come_back_and_are_small(tmp_path: Path) -> None:
    plain = dict.fromkeys(("reference_horizontal", "reference_vertical", "noise_horizontal", "noise_vertical"))
    written = [_spectra(0), _spectra(1, **plain), _spectra(0, acquisition="other")]
    with Journal(tmp_path, create=True) as journal:
        journal.write(Batch(spectra=written))
    with Journal(tmp_path) as journal:
        read = list(journal.spectra())
        assert [(spectra.acquisition, spectra.index) for spectra in read] == [("scan", 0), ("scan", 1), ("other", 0)]
        assert [spectra.acquisition for spectra in journal.spectra(index=0)] == ["scan", "other"]
        assert [spectra.index for spectra in journal.spectra(acquisition="scan")] == [0, 1]
        assert not list(journal.spectra(acquisition="scan", index=7))
    for before, after in zip(written, read, strict=True):
        for name in SpectraResult.__struct_fields__:
            expected, found = getattr(before, name), getattr(after, name)
            if isinstance(expected, np.ndarray):
                np.testing.assert_allclose(found, expected, rtol=5e-4, err_msg=name)
                assert found.dtype == expected.dtype
            else:
                assert found == expected, name


def test_spectra_take_little_room(tmp_path: Path) -> None:
    radius = np.hypot(*np.meshgrid(np.arange(-32, 32), np.arange(32), indexing="ij"))
    power = (1 + 1e4 * np.exp(-radius / 2)) * np.random.default_rng(3).gamma(12, 1 / 12, size=(300, 64, 32))
    pictures = [grey_levels(picture.astype(np.float32))[0] for picture in power]   # cells of 12 modes
    with Journal(tmp_path, create=True) as journal:
        journal.write(Batch(facts={"a": 1}))
        journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before = journal.path.stat().st_size
        journal.write(Batch(spectra=[_spectra(index, picture=picture) for index, picture in enumerate(pictures)]))
        journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert (journal.path.stat().st_size - before) / 300 < 3000


def test_a_session_without_spectra_has_none(tmp_path: Path) -> None:
    with Journal(tmp_path, create=True) as journal:
        journal._db.execute("DROP TABLE spectra")
        journal._db.commit()
    with Journal(tmp_path) as journal:
        assert not list(journal.spectra())


def test_one_field_can_be_asked_for(tmp_path: Path) -> None:
    with Journal(tmp_path, create=True) as journal:
        journal.write(Batch(flows=[_flow(index) for index in range(3)]))
    with Journal(tmp_path) as journal:
        (one,) = journal.flows(index=1)
        assert one.index == 1
        assert [flow.index for flow in journal.flows(acquisition=one.acquisition)] == [0, 1, 2]
        assert not list(journal.flows(acquisition="other"))


def test_commands_come_back_with_what_came_of_them(tmp_path: Path) -> None:
    command = Command(op="reference", arguments={"view": "left"})
    with Journal(tmp_path, create=True) as journal:
        journal.write(Batch(commands=[(command, "done")]))
        ((_, found, outcome),) = journal.commands()
    assert (found, outcome) == (command, "done")


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    with Journal(tmp_path, create=True) as journal:
        journal.write(Batch(flows=[_flow(index) for index in range(200)]))
        path = journal.path
    data = bytearray(path.read_bytes())
    data[len(data) // 3:] = b"\xa5" * len(data[len(data) // 3:])
    path.write_bytes(data)
    with Journal(tmp_path) as journal, pytest.raises(SessionError, match=r"session\.sqlite cannot be read.*copy"):
        list(journal.flows())


def test_a_session_of_before_has_fewer_columns_and_no_requests(tmp_path: Path) -> None:
    alert = Alert(id=1, raised_at="2026-01-01T00:00:00.000000Z", severity="MAJOR", rule="gap", text="t", state="closed")
    with Journal(tmp_path, create=True) as journal:
        journal.write(Batch(alerts=[(4, alert)]))
    with sqlite3.connect(tmp_path / "session.sqlite") as db:
        for name in ("active", "changed_at", "shelved_until", "escalated", "recollected_as", "recollected_verdict"):
            db.execute(f"ALTER TABLE alerts DROP COLUMN {name}")
        for name in ("exposure_s", "angle_deg", "energy_ev"):
            db.execute(f"ALTER TABLE frames DROP COLUMN {name}")
        db.execute("DROP TABLE recollections")
    db.close()
    with Journal(tmp_path) as journal:
        assert list(journal.alerts()) == [(4, alert)]
        assert list(journal.recollections()) == []
    names = {path.name for path in export_session(tmp_path)}
    assert "recollections.csv" in names
    assert (tmp_path / "recollections.csv").read_text().count("\n") == 1


def test_the_log_is_brought_in_beside_the_commits(tmp_path: Path) -> None:
    with Journal(tmp_path, create=True) as journal:
        journal.leave_checkpoints()
        path = tmp_path / FILE_NAME
        before = path.stat().st_size
        for part in range(3):   # beyond the 1000 pages after which a commit would do it
            for number in range(12):
                journal.write(Batch(state={f"{part} {number}": bytes(1 << 20)}))
            assert path.stat().st_size == before
            journal.checkpoint()
            assert path.stat().st_size > before + (12 << 20)
            before = path.stat().st_size
        assert path.with_name(f"{FILE_NAME}-wal").stat().st_size < 16 << 20   # it begins anew, and does not grow
        path.unlink()
        journal.checkpoint()
        assert not path.exists()   # somebody took it away: no empty one takes its place
