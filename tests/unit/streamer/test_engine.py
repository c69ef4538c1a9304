from __future__ import annotations

import threading

import pytest

from streamer.engine import open_engine, worker_count
from streamer.errors import SettingsError
from streamer.settings import EngineSettings


@pytest.mark.parametrize(("kind", "here"), [("inline", True), ("threads", False)])
def test_work_is_done_where_it_should_be(kind: str, here: bool) -> None:
    with open_engine(EngineSettings(kind=kind)) as engine:   # type: ignore[arg-type]
        assert (engine.submit(threading.get_ident).result() == threading.get_ident()) is here
        with pytest.raises(ZeroDivisionError):
            engine.submit(lambda: 1 / 0).result()


def test_no_frame_waits_behind_an_errand() -> None:
    hold, done = threading.Event(), threading.Event()
    with open_engine(EngineSettings(kind="threads", workers=1)) as engine:
        engine.errand(lambda: hold.wait(10.0))
        engine.errand(done.set)
        assert engine.submit(int, "7").result(10.0) == 7
        assert not done.is_set()
        hold.set()
        assert done.wait(10.0)
    here: list[int] = []
    with open_engine(EngineSettings(kind="inline")) as engine:
        engine.errand(lambda: here.append(threading.get_ident()))
    assert here == [threading.get_ident()]


def test_zero_workers_takes_the_cores() -> None:
    assert worker_count(EngineSettings(kind="threads", workers=0)) >= 1
    assert worker_count(EngineSettings(kind="threads", workers=7)) == 7
    assert worker_count(EngineSettings(kind="inline", workers=7)) == 1


def test_an_engine_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(SettingsError, match=r"txm-live\[cluster\]"):
        open_engine(EngineSettings(kind="dask"))
