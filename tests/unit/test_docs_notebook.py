"""The examples of docs/notebook.md run, one after the other, on a session that was just made."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.live import live

from simulator.plan import Request
from simulator.recorder import Recorder, recorded
from simulator.scenarios import find
from streamer.client import Session
from streamer.errors import CommandError, LinkError, SessionError
from streamer.formats import open_recording
from streamer.service.offline import analyse
from streamer.settings import load
from streamer.sources.recording import items_of

PAGE = (Path(__file__).parents[2] / "docs" / "notebook.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording and its session."""
    folder = tmp_path_factory.mktemp("notebook")
    run = find("sun2025_txm").build(Request(frames=10, seed=4, shape=(160, 176)))
    with Recorder(folder / "recording.h5", run) as recorder:
        for _ in recorded(run.frames(), recorder):
            pass
    with open_recording(folder / "recording.h5") as recording:
        analyse(items_of(recording), load(assignments=["pictures.offline=all"]), folder / "session",
                pixel_size_nm=recording.pixel_size_nm)
    return folder


def test_examples_run(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(place)
    names: dict[str, Any] = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"docs/notebook.md, python block {number}", "exec"), names)  # noqa: S102  (our own page)
    said = capsys.readouterr().out
    assert "10 projections" in said
    assert "drift y +3.0" in said
    assert names["fields"].displacement.shape[1:] == (2, *names["field"].valid.shape)


def test_columns_rows_and_tables_say_the_same(place: Path) -> None:
    with Session(place / "session") as session:
        shots = [row for row in session.rows() if row.kind == "projection"]
        assert session["index"].tolist() == [row.index for row in shots]
        lengths = session["blur_length_px"]
        assert lengths.dtype == np.float64
        assert np.array_equal(np.isnan(lengths), [row.blur_length_px is None for row in shots])
        assert set(session.arrays()) == set(session.columns)
        table = session.table()
        assert len(table) == len(session.rows())
        assert str(table["received_at"].dtype).endswith("UTC]")
        assert len(session.rows(standing=True)) <= len(session.rows())


def test_fields_and_pictures(place: Path) -> None:
    with Session(place / "session") as session:
        fields = list(session.flows())
        one = session.flow(fields[-1].index)
        assert np.array_equal(one.displacement_px, fields[-1].displacement_px)
        assert one.strain is not None
        data = session.displacement()
        assert data.sizes["frame"] == len(fields)
        assert data.displacement.attrs["units"] == "px"
        picture = session.picture(fields[-1].index)
        assert picture.shape == (160, 176)
        assert 0.3 < np.median(picture) < 1.2


@pytest.mark.parametrize(("ask", "said"), [
    (lambda session: session["drift"], "there is no column 'drift'; columns: index"),
    (lambda session: session.flow(999), "999"),
    (lambda session: session.picture(999), "999"),
    (lambda session: session.displacement(view="nowhere"), "no displacement fields"),
])
def test_what_is_not_there_is_named(place: Path, ask: Any, said: str) -> None:
    with Session(place / "session") as session, pytest.raises(CommandError, match=said):
        ask(session)


def test_places_without_a_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SessionError, match="holds no session"):
        Session(tmp_path)
    monkeypatch.setattr("streamer.session._HEARTBEAT_S", 0.3)
    with pytest.raises(LinkError, match="nobody answers at"):
        Session("tcp://127.0.0.1:9")


def test_a_live_session_answers_the_same_questions(tmp_path: Path) -> None:
    frames = list(find("still").build(Request(frames=4, seed=2, shape=(96, 112))).frames())
    with live(tmp_path / "session", "pictures.kept_mb=50") as running:
        running.sender.send(frames)
        running.collect("frame", len(frames))
        with Session(running.service.outbox.results_endpoint) as session:
            assert session["index"].tolist() == [0, 1, 2, 3]
            assert [row.index for row in session.rows() if row.kind == "flat"]
            assert session.alerts() == []
            assert session.recollections() == []
            assert session.table().shape[0] == len(frames)
