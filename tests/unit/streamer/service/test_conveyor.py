from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from streamer.engine import Engine, InlineExecutor
from streamer.journal import Journal
from streamer.pipeline import Outcome
from streamer.records import EndOfAcquisition, Frame, FrameRow
from streamer.service.conveyor import Conveyor
from streamer.service.recorder import Recorder
from streamer.settings import load


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path, create=True) as opened:
        yield opened


def _conveyor(journal: Journal, executor: Executor) -> tuple[Conveyor, Recorder]:
    recorder = Recorder(journal)
    return Conveyor(load(), recorder, Engine(executor, executor), ahead=1, on_flow=lambda task: None), recorder


def _frame(index: int) -> Frame:
    pixels = np.random.default_rng(index).poisson(300.0, (96, 96)).astype(np.uint16)
    return Frame(pixels=pixels, index=index, acquisition="a", received_at=time.time())


@pytest.mark.parametrize(("before", "after", "alerts"), [
    ({"verdict": "blurred", "provisional": True}, {"provisional": False}, 1),
    ({"verdict": "sharp", "provisional": True}, {"verdict": "blurred", "provisional": False}, 1),
    ({"verdict": "sharp", "provisional": True}, {"verdict": "blurred", "provisional": True}, 0),
    ({"verdict": "sharp", "provisional": True}, {"provisional": False}, 0),
    ({"verdict": "blurred", "provisional": False}, {"blur_length_px": 5.0}, 1),   # the one of its arrival
    ({"verdict": "bad", "provisional": False}, {"drift_y_px": 1.0}, 1),
])
def test_every_blurred_frame_raises_one_alert_as_soon_as_it_is_sure(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, before: dict[str, Any], after: dict[str, Any], alerts: int
) -> None:
    conveyor, recorder = _conveyor(journal, InlineExecutor())
    row = FrameRow(index=0, acquisition="a", view="main", kind="projection", blur_length_px=4.0, **before)
    later = msgspec.structs.replace(row, index=1, verdict="sharp", provisional=False)
    outcomes = iter([Outcome(row), Outcome(later, revisions=((("a", 0), after),))])
    monkeypatch.setattr(conveyor.pipeline, "finish", lambda job, measurement: next(outcomes))
    for index in range(2):
        conveyor.offer(_frame(index))
        conveyor.drain()
    recorder.commit()
    assert sum(alert.count for _, alert in journal.alerts()) == alerts


class _Telling(InlineExecutor):
    """Remembers what it was asked to run."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.names.append(function.__name__)
        future = super().submit(function, *args, **kwargs)
        assert future.exception() is None
        return future


def test_what_is_done_once_is_done_before_a_frame_waits_for_it(journal: Journal) -> None:
    executor = _Telling()
    conveyor, _ = _conveyor(journal, executor)
    flats = [msgspec.structs.replace(_frame(index), kind="flat") for index in range(3)]
    flats[1] = msgspec.structs.replace(flats[1], pixels=flats[1].pixels[:80])   # two shapes in turns
    tiny = Frame(pixels=np.ones((8, 8), np.uint16), index=3, acquisition="b", kind="flat")
    y, x = np.indices((96, 96))
    pixels = (300 + 200 * np.sin(x / 3) * np.sin(y / 4)).astype(np.uint16)
    for item in (*flats, tiny, *(Frame(pixels=pixels, index=index, acquisition="a") for index in (5, 6))):
        conveyor.offer(item)
        conveyor.drain()
    assert executor.names == ["rehearse", "rehearse", "measure", "prepare", "measure"]


def test_flats_among_projections_are_compared_on_the_side(journal: Journal) -> None:
    executor = _Telling()
    conveyor, _ = _conveyor(journal, executor)
    flats = [msgspec.structs.replace(_frame(index), kind="flat") for index in range(4)]
    for item in (_frame(9), *flats):
        conveyor.offer(item)
        conveyor.drain()
    assert executor.names.count("compare") == 1   # the first two at once, as nothing was known before


class _Dying(Executor):
    """Loses what is submitted, as a cluster does whose worker died."""

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(RuntimeError("the worker died"))
        return future


def test_a_lost_worker_costs_its_frame_and_no_more(journal: Journal) -> None:
    conveyor, recorder = _conveyor(journal, _Dying())
    conveyor.offer(_frame(0))
    conveyor.drain()
    recorder.commit()
    ((_, row),) = journal.rows()
    assert "the worker died" in row.problems
    assert conveyor.ledger.accounting().refused.count == 1


def test_a_frame_taken_again_in_vain_is_told_in_the_alert_of_the_frame_it_came_for(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    conveyor, recorder = _conveyor(journal, InlineExecutor())
    verdicts = ["sharp", "blurred", *["sharp"] * 8, "blurred", "sharp"]
    rows = [FrameRow(index=index, acquisition="a", view="main", kind="projection", verdict=verdict,
                     recollects=1 if index >= 10 else None, blur_length_px=4.0 if verdict == "blurred" else 0.2)
            for index, verdict in enumerate(verdicts)]
    outcomes = iter([Outcome(row) for row in rows])
    monkeypatch.setattr(conveyor.pipeline, "finish", lambda job, measurement: next(outcomes))
    for row in rows:
        conveyor.offer(msgspec.structs.replace(_frame(row.index), recollects=row.recollects))
        conveyor.drain()
    conveyor.offer(EndOfAcquisition(acquisition="a"))
    conveyor.account(last=True)
    recorder.commit()
    (_, alert), = journal.alerts()
    assert (alert.index, alert.count, alert.state, alert.active) == (1, 1, "recollected", False)
    assert (alert.recollected_as, alert.recollected_verdict) == (11, "sharp")
    (_, request), = journal.recollections()
    assert (request.state, request.tries, request.served_by) == ("served", 2, 11)


def test_requests_end_when_the_sender_closes_the_acquisition(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    conveyor, recorder = _conveyor(journal, InlineExecutor())
    row = FrameRow(index=0, acquisition="a", view="main", kind="projection", verdict="bad", problems="beam dump: dark")
    monkeypatch.setattr(conveyor.pipeline, "finish", lambda job, measurement: Outcome(row))
    conveyor.offer(_frame(0))
    conveyor.offer(EndOfAcquisition(acquisition="a"))
    recorder.commit()
    (_, request), = journal.recollections()
    assert (request.state, request.reason) == ("expired", "beam dump: dark; the acquisition has ended")
    (_, alert), = journal.alerts()
    assert (alert.rule, alert.state) == ("beam_dump", "new")


def test_requests_end_when_the_sender_starts_anew(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    conveyor, recorder = _conveyor(journal, InlineExecutor())
    rows = [FrameRow(index=index, acquisition=name, view="main", kind="projection", verdict="blurred",
                     blur_length_px=4.0) for index, name in ((0, "a"), (1, "a"), (0, "a#2"))]
    outcomes = iter([Outcome(row) for row in rows])
    monkeypatch.setattr(conveyor.pipeline, "finish", lambda job, measurement: next(outcomes))
    conveyor.offer(_frame(0))
    conveyor.drain()
    conveyor.offer(_frame(1))
    conveyor.offer(msgspec.structs.replace(_frame(0), pixels=_frame(7).pixels))   # frame 1 is still on its way
    conveyor.drain()
    recorder.commit()
    requests = [(request.acquisition, request.index, request.state) for _, request in journal.recollections()]
    assert requests == [("a", 0, "expired"), ("a#2", 0, "open")]


def test_a_replacement_judged_again_is_told_in_the_alert_of_the_frame_it_came_for(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    conveyor, recorder = _conveyor(journal, InlineExecutor())
    first = FrameRow(index=0, acquisition="a", view="main", kind="projection", verdict="blurred", blur_length_px=4.0)
    again = msgspec.structs.replace(first, index=1, verdict="sharp", blur_length_px=0.2, recollects=0)
    last = msgspec.structs.replace(again, index=2, recollects=None)
    outcomes = iter([Outcome(first), Outcome(again),
                     Outcome(last, revisions=((("a", 1), {"verdict": "blurred", "blur_length_px": 3.0}),))])
    monkeypatch.setattr(conveyor.pipeline, "finish", lambda job, measurement: next(outcomes))
    for row in (first, again, last):
        conveyor.offer(msgspec.structs.replace(_frame(row.index), recollects=row.recollects))
        conveyor.drain()
    conveyor.account(last=True)
    recorder.commit()
    (_, request), = journal.recollections()
    assert (request.state, request.tries, request.served_by, request.verdict) == ("open", 1, None, "blurred")
    (_, alert), = journal.alerts()
    assert (alert.index, alert.count, alert.state) == (0, 1, "requested")
    assert (alert.recollected_as, alert.recollected_verdict) == (1, "blurred")
