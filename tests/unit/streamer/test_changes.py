"""What two analyses of the same frames say differently."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.changes import changes
from streamer.records import Alert, FrameRow

ROW = FrameRow(index=0, acquisition="scan", view="main", kind="projection", verdict="sharp", drift_y_px=0.0,
               drift_x_px=0.0)


def rows(count: int, acquisition: str = "scan", **changed: object) -> list[FrameRow]:
    return [msgspec.structs.replace(ROW, index=index, acquisition=acquisition, **changed) for index in range(count)]


def alert(number: int, rule: str) -> Alert:
    return Alert(id=number, raised_at="2026-01-01T00:00:00.000000Z", severity="MINOR", rule=rule, text="")


def test_the_same_is_the_same() -> None:
    found = changes(rows(4), rows(4))
    assert (found.frames, found.only_before, found.only_after, found.verdicts, found.alerts) == (4, 0, 0, [], {})
    assert found.text.splitlines() == ["4 frames compared", "verdicts: the same", "drift: the same for 4 frames",
                                       "alerts: the same number of every rule"]


def test_verdicts_are_counted_per_change_the_most_frequent_first() -> None:
    after = rows(12)
    for index in (2, 3, 4, 5, 6, 7):
        after[index] = msgspec.structs.replace(after[index], verdict="blurred")
    after[9] = msgspec.structs.replace(after[9], verdict=None)
    found = changes(rows(12), after)
    assert [(change.before, change.after, [index for _, index in change.frames]) for change in found.verdicts] == [
        ("sharp", "blurred", [2, 3, 4, 5, 6, 7]), ("sharp", "none", [9])]
    assert "verdicts: 6 frames sharp -> blurred (2, 3, 4, 5, 6, ...)" in found.text
    assert "verdicts: 1 frame sharp -> none (9)" in found.text


def test_drifts_are_compared_where_both_have_one() -> None:
    before, after = rows(5), rows(5)
    after[1] = msgspec.structs.replace(after[1], drift_y_px=3.0, drift_x_px=4.0)
    after[2] = msgspec.structs.replace(after[2], drift_x_px=-1.0)
    after[3] = msgspec.structs.replace(after[3], drift_y_px=None, drift_x_px=None)
    before[4] = msgspec.structs.replace(before[4], drift_y_px=None, drift_x_px=None)
    found = changes(before, after)
    assert (found.drifts, found.drift_median_px, found.drift_largest_px) == (3, 1.0, 5.0)
    assert found.drift_largest_at == ("scan", 1)
    assert (found.drifts_gained, found.drifts_lost) == (1, 1)
    assert ("drift: differs by 1 px (median of 3 frames), at most by 5 px at frame 1; 1 frame with a drift only now; "
            "1 frame without one now") in found.text


@pytest.mark.parametrize(("before", "after", "expected"), [
    (rows(3, "live-1"), rows(3, "scan"), (3, 0, 0)),             # a sender calls it otherwise than a file
    (rows(3, "a") + rows(3, "b"), rows(3, "a"), (3, 3, 0)),
    (rows(3, "a") + rows(3, "b"), rows(3, "c"), (0, 6, 3)),
    (rows(2), rows(5), (2, 0, 3)),
    (rows(2), [], (0, 2, 0)),
    ([], [], (0, 0, 0)),
    (rows(2) + rows(4, "scan/flat", kind="flat"), rows(2), (2, 0, 0)),
])
def test_frames_belong_together(before: list[FrameRow], after: list[FrameRow], expected: tuple[int, int, int]) -> None:
    found = changes(before, after)
    assert (found.frames, found.only_before, found.only_after) == expected
    assert found.text.startswith(f"{expected[0]} frames compared")


def test_frames_of_several_acquisitions_are_named_with_theirs() -> None:
    before = rows(2, "a") + rows(2, "b")
    found = changes(before, [msgspec.structs.replace(row, verdict="bad") for row in before])
    assert "4 frames sharp -> bad (a 0, a 1, b 0, b 1)" in found.text


def test_alerts_are_counted_by_rule() -> None:
    found = changes([], [], before_alerts=[alert(1, "blurred_frame"), alert(2, "jump")],
                    after_alerts=[alert(1, "blurred_frame"), alert(2, "blurred_frame"), alert(3, "jump")])
    assert found.alerts == {"blurred_frame": (1, 2)}
    assert found.text.endswith("alerts: blurred_frame 1 -> 2")


@given(st.lists(st.sampled_from(["sharp", "blurred", "undecided", "bad", None]), max_size=20),
       st.randoms(use_true_random=False))
def test_there_and_back_is_the_mirror_image(verdicts: list, random) -> None:
    before = [msgspec.structs.replace(row, verdict=verdict) for row, verdict in zip(
        rows(len(verdicts)), verdicts, strict=True)]
    after = [msgspec.structs.replace(row, verdict=random.choice(verdicts), drift_y_px=random.uniform(-5, 5))
             for row in before]
    there, back = changes(before, after), changes(after, before)
    assert there.drift_largest_px == back.drift_largest_px
    assert there.drift_median_px == back.drift_median_px
    assert {(change.before, change.after, *change.frames) for change in there.verdicts} == {
        (change.after, change.before, *change.frames) for change in back.verdicts}
