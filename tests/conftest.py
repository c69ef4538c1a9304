"""What every test relies on: no thread, no child process and no socket outlives the test that made it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("QT_FONT_DPI", "96")
os.environ.setdefault("PYQTGRAPH_QT_LIB", "PyQt5")

_REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew-golden", action="store_true",
                     help="write the pictures that tests/gui/test_golden.py compares with, instead of comparing")


@pytest.fixture(autouse=True)
def _leave_nothing_running() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    # pyzmq keeps one thread of its own for messages that are sent without a copy
    left = [thread for thread in threading.enumerate()
            if thread not in before and type(thread).__name__ != "GarbageCollectorThread"]
    for thread in left:
        thread.join(5.0)
    left = [thread for thread in left if thread.is_alive()]
    assert not left, f"threads left running: {left}"


@pytest.fixture
def real_data() -> Path:
    """Folder of real recordings, which are not part of the project."""
    if not _REAL_DATA.is_dir():
        pytest.skip("the real recordings are not on this machine (expected beside the project, in shared/data)")
    return _REAL_DATA
