from __future__ import annotations

import msgspec
import numpy as np
import pytest

from streamer.clock import utc_text
from streamer.records import Frame, FrameRow, Leaving, Recollection, StageMove
from streamer.settings import RecollectSettings
from streamer.tracking import recollections
from streamer.tracking.recollections import Change, Recollections

PIXELS = np.zeros((64, 64), np.uint16)


class Run:
    """An acquisition as it comes, its requests, and the rows as they stand."""

    def __init__(self, **settings: object) -> None:
        self.requests = Recollections(RecollectSettings(**settings))
        self.rows: dict[tuple[str, int], FrameRow] = {}
        self.changes: list[Change] = []
        self.remarks: list[str] = []
        self.index = 0

    def add(self, verdict: str | None, *, length_px: float = 4.0, view: str = "main", recollects: int | None = None,
            leaving: Leaving | None = None, kind: str = "projection", acquisition: str = "scan",
            expected: int | None = None, index: int | None = None, **columns: object) -> int:
        index = self.index if index is None else index
        self.index = max(self.index, index + 1)
        row = FrameRow(**{
            "index": index, "acquisition": acquisition, "view": view, "kind": kind, "verdict": verdict,
            "blur_length_px": length_px if verdict == "blurred" else 0.1, "recollects": recollects,
            "exposed_at": utc_text(10.0 * index), "trend_y_px": 0.5 * index, "trend_x_px": -0.25 * index,
            "exposure_s": 0.2, "angle_deg": 1.5 * index, "energy_ev": 8333.0} | columns)
        frame = Frame(pixels=PIXELS, index=index, acquisition=acquisition, view=view, kind=kind, expected=expected,
                      exposed_at=10.0 * index, recollects=recollects)
        fits = True
        if recollects is not None:
            fits, remark = self.requests.claim(row, self.rows.get((acquisition, recollects)))
            self.remarks.append(remark)
        self.rows[acquisition, index] = row
        self.take(self.requests.frame(row, frame, at=float(index), fits=fits, leaving=leaving,
                                      stage=StageMove(y_um=0.1, x_um=-0.2)))
        return index

    def revise(self, index: int, *, who: str = "", **columns: object) -> None:
        before = self.rows["scan", index]
        self.rows["scan", index] = after = msgspec.structs.replace(before, **columns)
        self.take(self.requests.revision(before, after, at=50.0, who=who))

    def take(self, changes: list[Change] | Change | None) -> None:
        self.changes += [] if changes is None else [changes] if isinstance(changes, Change) else changes

    @property
    def told(self) -> list[tuple[int, str, int, int | None]]:
        return [(request.index, request.state, request.tries, came) for request, came in self.changes]

    @property
    def newest(self) -> Recollection:
        return self.changes[-1].request


@pytest.fixture
def run() -> Run:
    return Run()


def test_a_request_is_as_complete_as_a_beamline_needs_it(run):
    for _ in range(4):
        run.add("sharp", expected=10, leaving=Leaving(frames=30.0))
    run.add("blurred", length_px=7.0, expected=10, leaving=Leaving(frames=30.0))
    assert run.changes == [Change(Recollection(
        id=1, requested_at=utc_text(4.0), acquisition="scan", index=4, view="main", reason="blurred by 7.0 px",
        priority=2, limit=5, changed_at=utc_text(4.0), exposed_at=utc_text(40.0), exposure_s=0.2, angle_deg=6.0,
        energy_ev=8333.0, drift_y_px=2.0, drift_x_px=-1.0, stage=StageMove(y_um=0.1, x_um=-0.2),
        deadline_frames=5.0, deadline_at=utc_text(4.0 + 5.0 * 10.0)))]
    assert run.requests.open() == [run.newest]


@pytest.mark.parametrize(("columns", "asked"), [
    ({"verdict": "blurred", "length_px": 2.0}, True),
    ({"verdict": "blurred", "length_px": 1.9}, False),   # shorter than is worth it
    ({"verdict": "blurred", "provisional": True}, False),
    ({"verdict": "bad", "problems": "beam dump: mean 3"}, True),
    ({"verdict": "bad", "problems": "empty beam: taken as flat"}, False),
    ({"verdict": "undecided"}, False),
    ({"verdict": "sharp"}, False),
    ({"verdict": None, "kind": "flat"}, False),
    ({"verdict": None}, False),
])
def test_which_frames_are_asked_for(run, columns, asked):
    run.add(**columns)
    assert bool(run.changes) == asked


def test_every_blurred_frame_or_none_by_settings():
    every, none = Run(shortest_px=0.0), Run(automatic=False)
    for run in (every, none):
        run.add("blurred", length_px=0.5)
    assert (len(every.changes), len(none.changes)) == (1, 0)


def test_a_frame_is_asked_for_again_until_a_sharp_one_came(run):
    run.add("blurred")
    for verdict in ("blurred", "undecided", "sharp"):
        run.add(verdict, recollects=0)
    assert run.told == [(0, "open", 0, None), (0, "open", 1, 1), (0, "open", 2, 2), (0, "served", 3, 3)]
    assert (run.newest.served_by, run.newest.verdict) == (3, "sharp")
    assert [change.request.drift_y_px for change in run.changes[:3]] == [0.0, 0.5, 1.0]   # where the sample is by then
    assert run.remarks == ["", "", ""]
    assert run.requests.open() == []


def test_a_frame_is_given_up_after_its_limit():
    run = Run(limit=2)
    run.add("bad", problems="beam dump: dark")
    run.add("bad", recollects=0)
    run.add("blurred", recollects=0)
    assert run.told == [(0, "open", 0, None), (0, "open", 1, 1), (0, "given_up", 2, 2)]
    run.add("blurred", recollects=0)   # and nothing asks for it any more
    assert len(run.changes) == 3
    assert run.remarks[-1] == "replaces frame 0, which is no longer asked for: given up"


@pytest.mark.parametrize(("columns", "remark"), [
    ({"recollects": 40}, "is to replace frame 40, which acquisition 'scan' does not have"),
    ({"recollects": 1}, "replaces frame 1, which nobody has asked for"),
    ({"recollects": 0, "view": "left"}, "does not replace frame 0: it shows view 'left', that one 'main'"),
    ({"recollects": 0, "verdict": None}, "does not replace frame 0: it could not be measured"),
    ({"recollects": 0, "verdict": None, "kind": "flat"}, "does not replace frame 0: a flat neither replaces a frame"),
    ({"recollects": 0, "acquisition": "other"}, "is to replace frame 0, which acquisition 'other' does not have"),
])
def test_a_frame_that_does_not_fit_is_told_so(run, columns, remark):
    run.add("blurred")
    run.add("sharp")
    run.add(**({"verdict": "sharp"} | columns))
    assert run.remarks[0].startswith(remark)
    assert run.requests.open()[0].state == "open"


def test_who_asks_for_nothing_is_not_surprised():
    run = Run(automatic=False)
    run.add("blurred")
    run.add("sharp", recollects=0)
    assert run.remarks == [""]


def test_a_frame_that_does_not_fit_is_a_try(run):
    run.add("blurred")
    run.add("sharp", recollects=0, view="left")
    assert run.told == [(0, "open", 0, None), (0, "open", 1, 1)]


def test_a_blurred_frame_that_fits_nowhere_is_asked_for_itself(run):
    run.add("sharp")
    run.add("blurred", recollects=40)
    assert run.told == [(1, "open", 0, None)]


def test_the_second_sharp_frame_is_told_that_it_is_one_too_many(run):
    run.add("blurred")
    run.add("sharp", recollects=0)
    run.add("sharp", recollects=0)
    assert run.remarks == ["", "replaces frame 0 once more: frame 1 came for it and was sharp"]
    assert run.told[-1] == (0, "served", 1, 1)


def test_what_turns_out_to_be_sharp_is_no_longer_asked_for(run):
    run.add("blurred")
    run.revise(0, verdict="sharp")
    assert run.told[-1] == (0, "withdrawn", 0, None)
    assert run.newest.reason == "blurred by 4.0 px; judged again: it is sharp"
    run.revise(0, verdict="blurred")
    assert (run.told[-1], run.newest.id) == ((0, "open", 0, None), 2)


def test_what_turns_out_to_be_blurred_is_asked_for_once(run):
    run.add("blurred", provisional=True)
    run.revise(0, drift_y_px=1.0)
    assert not run.changes
    run.revise(0, provisional=False)
    run.revise(0, blur_length_px=9.0)
    assert run.told == [(0, "open", 0, None)]


def test_what_turns_out_to_show_no_sample_is_no_longer_asked_for(run):
    run.add("bad", problems="empty beam: structure has 1.0 % of its usual power")
    run.revise(0, problems="empty beam: taken as flat")
    assert run.told[-1] == (0, "withdrawn", 0, None)


def test_a_replacement_that_turns_out_to_be_blurred_opens_the_request_again(run):
    run.add("blurred")
    run.add("sharp", recollects=0)
    run.revise(1, verdict="blurred", provisional=True)
    assert run.newest.state == "served"
    run.revise(1, provisional=False)
    assert (run.told[-1], run.newest.served_by, run.newest.verdict) == ((0, "open", 1, 1), None, "blurred")
    assert run.requests.open() == [run.newest]
    run.add("sharp", recollects=0)
    assert run.told[-1] == (0, "served", 2, 2)


def test_a_replacement_that_turns_out_to_be_sharp_serves(run):
    run.add("blurred")
    run.add("blurred", recollects=0)
    run.revise(1, verdict="sharp")
    assert (run.told[-1], run.newest.served_by) == ((0, "served", 1, 1), 1)


def test_a_frame_that_was_given_up_can_still_turn_out_to_be_served():
    run = Run(limit=1)
    run.add("blurred")
    run.add("blurred", recollects=0)
    run.revise(1, verdict="sharp")
    assert [state for _, state, _, _ in run.told] == ["open", "given_up", "served"]


def test_a_replacement_of_a_replacement_that_turns_out_blurred_may_be_the_last():
    run = Run(limit=1)
    run.add("blurred")
    run.add("sharp", recollects=0)
    run.revise(1, verdict="blurred")
    assert [state for _, state, _, _ in run.told] == ["open", "served", "given_up"]


def test_a_frame_that_replaces_a_replacement_serves_the_request(run):
    run.add("blurred")
    run.add("blurred", recollects=0)
    run.add("blurred", recollects=1)   # the sender names the newest one
    run.add("sharp", recollects=2)
    assert [(state, tries, came) for _, state, tries, came in run.told] == [
        ("open", 0, None), ("open", 1, 1), ("open", 2, 2), ("served", 3, 3)]
    assert {request.id for request, _ in run.changes} == {1}
    run.revise(3, verdict="blurred")
    assert run.told[-1] == (0, "open", 3, 3)
    run.add("sharp", recollects=0)
    run.add("sharp", recollects=4)
    assert run.remarks == ["", "", "", "", "replaces frame 0 once more: frame 4 came for it and was sharp"]


def test_of_an_acquisition_that_has_ended_nothing_is_asked_for(run):
    run.add("sharp")
    run.add("blurred")
    run.add("sharp", recollects=1)
    run.take(run.requests.end(lambda name: True, at=9.0))
    row = run.rows["scan", 0]
    blurred = msgspec.structs.replace(row, verdict="blurred", blur_length_px=6.0)
    assert run.requests.revision(row, blurred, at=9.0, ended=True) == []
    assert run.requests.frame(msgspec.structs.replace(blurred, index=5), Frame(pixels=PIXELS, index=5), at=9.0,
                              ended=True) == []
    again = run.rows["scan", 2]
    failed = msgspec.structs.replace(again, verdict="blurred")
    (request, came), = run.requests.revision(again, failed, at=9.0, ended=True)
    assert (request.state, request.served_by, came) == ("expired", None, 2)
    assert request.reason.endswith("; the acquisition has ended")
    assert run.requests.open() == []


def test_a_person_asks_and_withdraws(run):
    run.add("sharp")
    run.take(run.requests.ask(run.rows["scan", 0], at=5.0, who="ANNA", reason="a crack", priority=3))
    assert (run.newest.who, run.newest.reason, run.newest.priority) == ("ANNA", "a crack", 3)
    run.revise(0, verdict="undecided")   # the streamer's opinion matters no more
    assert run.newest.state == "open"
    run.take(run.requests.withdraw(1, at=6.0, who="BEN", why="too late"))
    assert (run.newest.state, run.newest.reason) == ("withdrawn", "a crack; withdrawn by BEN: too late")
    assert run.requests.withdraw(1, at=6.0, who="BEN", why="") is None
    assert (run.requests.existed(1), run.requests.existed(2), run.requests.existed(0)) == (True, False, False)


def test_a_person_who_asks_for_what_is_asked_for_gives_it_weight(run):
    run.add("blurred")
    run.take(run.requests.ask(run.rows["scan", 0], at=5.0, who="ANNA", reason="now", priority=3))
    assert (run.newest.id, run.newest.priority, run.newest.who) == (1, 3, "ANNA")
    assert len(run.requests.open()) == 1


def test_a_person_overrules(run):
    run.add("sharp")
    run.revise(0, verdict="blurred", who="ANNA")   # however short
    assert run.told[-1] == (0, "open", 0, None)
    run.take(run.requests.ask(run.rows["scan", 0], at=5.0, who="BEN", reason="", priority=1))
    run.revise(0, verdict="sharp", who="ANNA")
    assert (run.newest.state, run.newest.reason) == ("withdrawn", "ANNA: it is sharp")


def test_requests_end_with_their_acquisition(run):
    run.add("blurred")
    run.add("blurred", acquisition="other", index=0)
    run.take(run.requests.end(lambda name: name == "scan", at=9.0))
    assert [(request.acquisition, request.state) for request, _ in run.changes[2:]] == [("scan", "expired")]
    assert [request.acquisition for request in run.requests.open()] == ["other"]


def test_requests_expire_when_the_region_has_left_the_view(run):
    run.add("blurred", leaving=Leaving(frames=3.0))
    assert run.newest.deadline_frames == 3.0
    run.add("sharp", leaving=Leaving(frames=2.0))
    assert run.newest.state == "open"
    run.add("sharp", leaving=Leaving(frames=1.0, visible_share=0.4))
    assert (run.newest.state, run.newest.reason.partition("; ")[2]) == (
        "expired", "the region of interest has left the field of view")


def test_a_deadline_that_passed_is_looked_at_again(run):
    run.add("blurred", leaving=Leaving(frames=2.0))
    for _ in range(2):
        run.add("sharp", leaving=Leaving(frames=20.0))   # somebody has moved the stage
    assert len(run.changes) == 1
    run.add("sharp", leaving=Leaving(frames=20.0))
    assert (run.newest.state, run.newest.deadline_frames) == ("open", 23.0)
    for _ in range(21):
        run.add("sharp", leaving=Leaving())
    assert (run.newest.state, run.newest.deadline_frames) == ("open", None)


def test_a_complete_scan_is_no_deadline(run):
    run.add("sharp", expected=2)
    run.add("blurred", expected=2)
    assert run.newest.deadline_frames is None


def test_views_in_turn_share_the_scan(run):
    for index in range(6):
        run.add("blurred" if index == 4 else "sharp", expected=16, view=("left", "right")[index % 2])
    assert run.newest.deadline_frames == pytest.approx(7.0)   # 11 of both are due, 3 of 5 so far were of this one


def test_the_most_urgent_come_first(run):
    run.add("blurred", length_px=3.0)
    run.add("blurred", length_px=9.0)
    run.add("blurred", length_px=3.0, leaving=Leaving(frames=5.0))
    assert [request.index for request in run.requests.open()] == [1, 2, 0]


def test_no_more_than_a_bounded_number_is_open(run, monkeypatch):
    monkeypatch.setattr(recollections, "MOST_OPEN", 4)
    monkeypatch.setattr(recollections, "REMEMBERED", 6)
    for index in range(20):
        run.add("blurred", acquisition="old", index=index)
    assert len(run.requests.open()) == 4
    for _ in range(20):
        run.add("blurred")
    assert [request.acquisition for request in run.requests.open()] == ["scan"] * 4
    for _ in range(200):
        run.add("sharp", recollects=0)
    assert len(msgspec.json.encode(run.requests.snapshot())) < 10_000


@pytest.mark.parametrize("stop", range(0, 10, 2))
def test_a_snapshot_goes_on_as_if_nothing_had_happened(stop):
    whole, broken = Run(), Run()
    script = [("blurred", None), ("sharp", None), ("blurred", 0), ("blurred", None), ("sharp", 0), ("sharp", 3),
              ("sharp", 3), ("blurred", None), ("bad", 7), ("sharp", 7)]
    for number, (verdict, recollects) in enumerate(script):
        if number == stop:
            state = msgspec.json.decode(msgspec.json.encode(broken.requests.snapshot()))
            broken.requests = Recollections(RecollectSettings())
            broken.requests.restore(state)
        for run in (whole, broken):
            run.add(verdict, recollects=recollects, expected=20, leaving=Leaving(frames=30.0 - number))
    for run in (whole, broken):
        run.revise(4, verdict="blurred")
        run.revise(9, verdict="blurred")
    assert broken.changes == whole.changes
    assert broken.requests.open() == whole.requests.open()
    assert broken.remarks == whole.remarks
