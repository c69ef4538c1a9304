from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import wait_until

from monitor.demo import Demo, free_endpoints, last_line


def test_free_endpoints_differ() -> None:
    endpoints = free_endpoints(5)
    assert len(set(endpoints)) == 5
    assert all(endpoint.startswith("tcp://127.0.0.1:") for endpoint in endpoints)


def test_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\n  two  \n\n")
    assert last_line(log) == "two"
    log.write_text("")
    assert last_line(log) == "it said nothing"


def with_children(demo: Demo, tmp_path: Path, scripts: dict[str, str]) -> Demo:
    """Run other programs in the place of simulator and streamer."""
    for name, script in scripts.items():
        (tmp_path / f"{name}_child.py").write_text(script)
    demo._commands = {name: [f"{name}_child"] for name in scripts}
    return demo


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_child_that_dies_is_named_with_its_last_words(on_path: Path) -> None:
    demo = with_children(Demo(), on_path, {"streamer": "import sys; sys.exit('cannot bind tcp://127.0.0.1:5556')"})
    with demo:
        wait_until(lambda: demo.failure() is not None)
        assert demo.failure() == "the streamer ended with status 1: cannot bind tcp://127.0.0.1:5556"


def test_a_simulator_that_is_done_is_no_failure(on_path: Path) -> None:
    demo = with_children(Demo(), on_path, {"simulator": "pass"})
    with demo:
        demo._children["simulator"].wait(10)
        assert demo.failure() is None


STUBBORN = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, lambda *_: None)
pathlib.Path(__file__).with_suffix(".ready").touch()
time.sleep(60)
"""
POLITE = """
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path(__file__).with_suffix(".drained").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
pathlib.Path(__file__).with_suffix(".ready").touch()
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_stopping_lets_children_finish_and_kills_those_that_do_not(
    on_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("monitor.demo.SIMULATOR_GRACE_S", 0.2)
    demo = with_children(Demo(), on_path, {"streamer": POLITE, "simulator": STUBBORN})
    demo.start()
    wait_until(lambda: all((on_path / f"{name}_child.ready").exists() for name in ("streamer", "simulator")))
    children = [child.pid for child in demo._children.values()]
    demo.stop()
    assert (on_path / "streamer_child.drained").exists()
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIG_DFL)
    demo.stop()   # twice does no harm


KILLED = """
import sys, os, pathlib, signal, time
from monitor.demo import Demo
demo = Demo()
demo._commands = {"streamer": ["streamer_child"]}
demo.start()
while not (pathlib.Path(sys.argv[1]) / "streamer_child.ready").exists():
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_children_end_when_the_dashboard_is_killed(on_path: Path) -> None:
    (on_path / "streamer_child.py").write_text(POLITE)
    subprocess.run([sys.executable, "-P", "-c", KILLED, str(on_path)], timeout=30, check=False)
    wait_until((on_path / "streamer_child.drained").exists)
