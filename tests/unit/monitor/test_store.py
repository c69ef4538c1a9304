from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_streamer import make_flow, make_picture, make_row, moment

from monitor.rows import VERDICTS, Key
from monitor.store import Store
from streamer.errors import ProtocolError
from streamer.records import FRAME_TEXTS, Alert, FrameRow, Recollection, Status
from streamer.wire import Result, decode_result, encode_columns, encode_result

PICTURE = {"index": 7, "acquisition": "scan-1", "view": "A", "kind": "projection", "offset": 0.0, "scale": 1.0}


def message(topic: Any, fields: Any, sequence: int, arrays: dict[str, Any] | None = None) -> Result:
    return decode_result([bytes(part) for part in
                          encode_result(topic, fields, session="s", sequence=sequence, arrays=arrays)])


def live(row: FrameRow, sequence: int) -> Result:
    return message("frame", row, sequence)


def history(rows: list[FrameRow], sequence: int, alerts: list[Alert] | None = None, *,
            columns: bool = False) -> dict[str, Any]:
    tree: dict[str, Any] = {"frames": rows, "alerts": alerts or [], "sequence": {"frame": sequence, "alert": 0}}
    if columns:
        tree |= {"frames": [], "columns": encode_columns(
            {name: [getattr(row, name) for row in rows] for name in FrameRow.__struct_fields__})}
    return msgspec.json.decode(msgspec.json.encode(tree))


def rows_of(store: Store) -> dict[Key, FrameRow]:
    rows = [store.row(position) for position in range(len(store))]
    return {Key(row.acquisition, row.index): row for row in rows if row is not None}


def test_a_row_comes_back_as_it_was_sent() -> None:
    store = Store()
    rows = [make_row(3), make_row(30), make_row(4, kind="flat", verdict=None, exposed_at=None),
            make_row(5, psf_group=2, recollects=3, problems="no drift; too dark", rotation_deg=-0.25, revision=7)]
    for sequence, row in enumerate(rows, start=1):
        assert store.accept(live(row, sequence)) == "ok"
    assert [store.row(Key(row.acquisition, row.index)) for row in rows] == rows
    assert store.replacement(Key("scan-1", 3)) == 5


def test_a_revision_replaces_the_row() -> None:
    store = Store()
    store.accept(live(make_row(0, verdict="sharp"), 1))
    store.accept(live(make_row(0, verdict="blurred", revision=1), 2))
    assert len(store) == 1
    assert store.row(0).verdict == "blurred"
    assert store.charts().flagged.tolist() == [True]


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[FrameRow], int, int, int]:
    """Revisions in the order of publication; live from `begin`; history as of `cut`, merged after `when` messages."""
    keys = draw(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 8)), min_size=1, max_size=30))
    rows = [FrameRow(index=index, acquisition=name, view=name, kind="projection", revision=number,
                     blur_length_px=float(number)) for number, (name, index) in enumerate(keys)]
    begin = draw(st.integers(1, len(rows) + 1))
    cut = draw(st.integers(begin - 1, len(rows)))
    when = draw(st.integers(0, len(rows) - begin + 1))
    return rows, begin, cut, when


@given(streams(), st.booleans())
def test_history_and_live_messages_merge_without_loss_or_doubling(
    case: tuple[list[FrameRow], int, int, int], columns: bool,
) -> None:
    rows, begin, cut, when = case
    newest = {Key(row.acquisition, row.index): row for row in rows}
    snapshot = list({(row.acquisition, row.index): row for row in rows[:cut]}.values())
    store, sequels = Store(), []
    for number, sequence in enumerate(range(begin, len(rows) + 1)):
        if number == when:
            store.merge(history(snapshot, cut, columns=columns))
        sequels.append(store.accept(live(rows[sequence - 1], sequence)))
    if when == len(rows) - begin + 1:
        store.merge(history(snapshot, cut, columns=columns))
    assert rows_of(store) == newest
    assert set(sequels) <= {"ok"}
    charts = store.charts()
    assert charts.position.size == len(newest)
    assert np.all(np.diff(charts.order) > 0)


def test_rows_as_columns_are_the_same_as_one_by_one() -> None:
    rows = [make_row(index) for index in range(60)]
    rows += [make_row(60, kind="flat", verdict=None, exposed_at=None), make_row(61, acquisition="b", view="B"),
             make_row(62, psf_group=2, recollects=3, problems="no drift; too dark", rotation_deg=-0.25, revision=7),
             make_row(63, verdict=None, problems="shape (3, 4)", blur_length_px=None),
             make_row(5, acquisition="b", view="C", received_at=moment(-9), blur_shape="motion")]
    one, other = Store(), Store()
    one.merge(history(rows, 70))
    assert other.merge(history(rows, 70, columns=True)) == len(rows)
    assert rows_of(one) == rows_of(other) == {Key(row.acquisition, row.index): row for row in rows}
    assert one.newest == other.newest
    assert one.views == other.views
    assert other.replacement(Key("scan-1", 3)) == 62
    a, b = one.charts(), other.charts()
    assert a.starts == b.starts
    for name in ("order", "position", "verdict", "flagged", "view"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    newer = make_row(5, verdict="bad", problems="")
    other.accept(live(newer, 71))
    assert other.merge(history(rows, 70, columns=True)) == len(rows) - 1
    assert other.row(Key("scan-1", 5)) == newer


def test_columns_of_a_streamer_of_before_may_be_fewer() -> None:
    store, row = Store(), FrameRow(index=4, acquisition="a", view="", kind="dark")
    tree = history([row], 1, columns=True)
    tree["columns"] = {name: tree["columns"][name] for name in ("index", "acquisition", "kind")}
    store.merge(tree)
    assert store.row(0) == row


@pytest.mark.parametrize("spoil", [
    {"index": [1]}, {"kind": ["movie"]}, {"verdict": ["fine"]}, {"verdict": [3]}, {"view": ["a", "b"]}, {"index": None},
    {"acquisition": {"dtype": "<f8", "shape": [1], "data": ""}},
    {"index": {"dtype": "<f8", "shape": [9], "data": "AA=="}}])
def test_columns_that_are_none_are_refused(spoil: dict[str, Any]) -> None:
    store, tree = Store(), history([make_row(4)], 1, columns=True)
    tree["columns"] |= spoil
    with pytest.raises(ProtocolError):
        store.merge(tree)
    assert len(store) == 0


def test_numbers_of_a_row_are_all_but_its_texts() -> None:
    texts = {item.name for item in msgspec.structs.fields(FrameRow)
             if "str" in str(item.type) or "Literal" in str(item.type)}
    assert texts == FRAME_TEXTS


def test_topics_of_a_newer_streamer_are_ignored() -> None:
    store = Store()
    assert store.accept(message("weather", {"rain": True}, 3)) == "ok"
    assert store.lost == {}


def test_gaps_are_named_and_counted() -> None:
    store = Store()
    assert store.accept(live(make_row(0), 1)) == "ok"
    assert store.accept(live(make_row(3), 4)) == "gap"
    assert store.accept(live(make_row(4), 5)) == "ok"
    assert store.lost == {"frame": 2}


def test_messages_that_waited_while_history_came_are_no_restart() -> None:
    store = Store()
    store.accept(live(make_row(0), 1))
    store.merge(history([make_row(index) for index in range(5)], 5))
    assert [store.accept(live(make_row(index), index + 1)) for index in range(1, 7)] == ["ok"] * 6
    assert store.accept(live(make_row(9), 10)) == "gap"


def test_a_streamer_that_counts_anew_may_replace_every_row() -> None:
    store = Store()
    for sequence in range(1, 4):
        store.accept(live(make_row(sequence), sequence))
    assert store.accept(live(make_row(2, verdict="bad", revision=1), 2)) == "restart"
    assert store.row(Key("scan-1", 2)).verdict == "bad"
    store.merge(history([make_row(3, verdict="bad", revision=2)], 3))
    assert store.row(Key("scan-1", 3)).revision == 2


def test_acquisitions_follow_each_other_on_the_frame_axis_by_time() -> None:
    store = Store()
    later = [make_row(index, acquisition="late", received_at=moment(1000 + index)) for index in (5, 6)]
    earlier = [make_row(index, acquisition="early") for index in (2, 3, 7)]
    dark = make_row(0, acquisition="darks", kind="dark", verdict=None, problems="")
    for sequence, row in enumerate([*later, *earlier, dark], start=1):
        store.accept(live(row, sequence))
    charts = store.charts()
    assert charts.order.tolist() == [2, 3, 7, 8, 9]
    assert charts.numbers["index"].tolist() == [2, 3, 7, 5, 6]
    starts = [(start.order, start.index, start.acquisition) for start in charts.starts]
    assert starts == [(2, 2, "early"), (8, 5, "late")]
    assert store.newest == Key("late", 6)


def test_charts_of_one_view() -> None:
    store = Store()
    for sequence in range(1, 9):
        store.accept(live(make_row(sequence, view="AB"[sequence % 2]), sequence))
    charts = store.charts()
    assert charts.only(None) is charts
    assert charts.only("A").numbers["index"].tolist() == [2, 4, 6, 8]
    assert [store.row(int(position)).index for position in charts.only("A").position] == [2, 4, 6, 8]
    assert charts.only("nothing").order.size == 0
    assert store.views == ["B", "A"]


def test_only_what_needs_a_decision_is_flagged() -> None:
    store = Store()
    rows = [make_row(index, verdict=verdict, problems=problems) for index, (verdict, problems) in enumerate([
        ("sharp", ""), ("sharp", "no flow"), ("blurred", ""), ("undecided", ""), ("bad", ""), (None, "wrong shape")])]
    for sequence, row in enumerate(rows, start=1):
        store.accept(live(row, sequence))
    charts = store.charts()
    assert charts.flagged.tolist() == [False, False, True, True, True, True]
    assert [VERDICTS[code] for code in charts.verdict] == ["sharp", "sharp", "blurred", "undecided", "bad", ""]


def test_alerts_by_id_the_worst_unacknowledged_first() -> None:
    store = Store()
    alerts = [Alert(id=1, raised_at=moment(1), severity="MAJOR", rule="r", text="one"),
              Alert(id=2, raised_at=moment(2), severity="MINOR", rule="r", text="two"),
              Alert(id=3, raised_at=moment(3), severity="MAJOR", rule="r", text="three")]
    for sequence, alert in enumerate(alerts, start=1):
        store.accept(message("alert", alert, sequence))
    assert store.worst_alert() == alerts[2]
    store.accept(message("alert", msgspec.structs.replace(alerts[2], state="acknowledged"), 4))
    assert store.worst_alert() == alerts[0]
    store.merge(history([], 0, alerts=[alerts[2]]))   # older than the acknowledgement
    assert store.worst_alert() == alerts[0]
    assert [alert.id for alert in store.alerts()] == [3, 2, 1]


def test_alerts_that_were_seen_shelved_or_answered_are_not_the_worst() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    fields = {"raised_at": moment(1), "severity": "MAJOR", "rule": "r", "text": "t"}
    alerts = [Alert(id=1, **fields), Alert(id=2, state="requested", who="ann", **fields),
              Alert(id=3, state="recollected", **fields), Alert(id=4, state="closed", **fields),
              Alert(id=5, shelved_until="2026-03-01T00:10:00+00:00", **fields),
              Alert(id=6, shelved_until="2026-02-28T23:00:00", state="requested", **fields), Alert(id=7, **fields),
              Alert(id=8, shelved_until="soon", **fields)]
    for expected in (8, 7, 6, 1, None):
        store = Store()
        kept = [alert for alert in alerts if alert.id <= (expected or 0) or alert.id in (2, 3, 4, 5)]
        store.merge(history([], 0, alerts=kept))
        worst = store.worst_alert(now)
        assert (worst and worst.id) == expected
    assert {alert.id for alert in store.waiting_alerts()} == {5}


def test_requests_come_live_by_history_and_by_heartbeat() -> None:
    store, request = Store(), Recollection(id=1, requested_at=moment(1), acquisition="a", index=8, view="A", reason="x")
    served = msgspec.structs.replace(request, state="served", served_by=12)
    store.accept(message("recollect", served, 5))
    tree = history([], 0) | {"recollections": [msgspec.to_builtins(request)], "sequence": {"recollect": 4}}
    store.merge(tree)   # as of before
    assert store.recollections() == [served]
    other = msgspec.structs.replace(request, id=2)
    status = Status(at=0.0, state="idle", version="1", uptime_s=1.0, session_dir="s", frames_endpoint="f",
                    results_endpoint="r", control_endpoint="c", recollections=[request, other])
    store.accept(message("status", status, 1))
    assert store.recollections() == [other, served]


def test_only_the_newest_picture_and_field_are_kept() -> None:
    store = Store()
    store.accept(message("image", PICTURE, 1, {"image": make_picture(7)}))
    assert store.picture.index == 7
    assert store.picture.image.shape == make_picture(7).shape
    flow = make_flow(7)
    fields = msgspec.structs.asdict(flow)
    arrays = {name: fields.pop(name) for name, value in list(fields.items()) if isinstance(value, np.ndarray)}
    store.accept(message("flow", fields, 1, arrays))
    np.testing.assert_array_equal(store.flow.displacement_px, flow.displacement_px)


@pytest.mark.parametrize(("topic", "fields", "arrays", "words"), [
    ("frame", {"index": "one", "acquisition": "", "view": "", "kind": "projection"}, {}, "Expected `int`"),
    ("frame", {"index": 1}, {}, "acquisition"),
    ("frame", {"index": 1, "acquisition": "", "view": "", "kind": "picture"}, {}, "picture"),
    ("status", {"at": 1.0}, {}, "state"),
    ("image", PICTURE, {}, "2-D"),
    ("image", PICTURE, {"image": np.zeros(4, np.uint16)}, "2-D"),
    ("flow", {"index": 1, "acquisition": "", "view": ""}, {}, "cannot be read"),
])
def test_messages_with_missing_or_wrong_fields_are_refused(
    topic: str, fields: dict[str, Any], arrays: dict[str, Any], words: str,
) -> None:
    with pytest.raises(ProtocolError, match=words):
        Store().accept(message(topic, fields, 1, arrays))


def test_fields_with_shapes_that_do_not_belong_together_are_refused() -> None:
    fields = msgspec.structs.asdict(make_flow(1))
    arrays = {name: fields.pop(name) for name, value in list(fields.items()) if isinstance(value, np.ndarray)}
    arrays["valid"] = arrays["valid"][:-1]
    with pytest.raises(ProtocolError, match="belong together"):
        Store().accept(message("flow", fields, 1, arrays))


@pytest.mark.parametrize("answer", [None, [], {}, {"frames": [{}], "alerts": [], "sequence": {}},
                                    {"frames": [], "alerts": [], "sequence": {"frame": "x"}}])
def test_an_answer_that_is_no_history_is_refused(answer: Any) -> None:
    with pytest.raises(ProtocolError, match="history"):
        Store().merge(answer)


def test_a_hundred_thousand_rows_stay_quick() -> None:
    store = Store()
    base = msgspec.to_builtins(make_row(1))
    rows = [{**base, "index": index} for index in range(100_000)]
    store.merge({"frames": rows, "alerts": [], "sequence": {"frame": 100_000}})
    began = time.process_time()
    charts = store.charts()
    elapsed_s = time.process_time() - began
    assert charts.order.size == 100_000
    assert elapsed_s < 0.2
