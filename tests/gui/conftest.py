"""A window on a fake streamer, drawn off screen."""

from __future__ import annotations

import os

os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ["QT_FONT_DPI"] = "96"
os.environ.setdefault("PYQTGRAPH_QT_LIB", "PyQt5")

from collections.abc import Iterator
from typing import Any

import pytest
from support.fake_streamer import FakeStreamer, make_flow, make_row

from monitor.feed import Feed
from monitor.store import Store
from monitor.window import Window


@pytest.fixture(autouse=True)
def _windows_live_as_long_as_qt_paints_them(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hold the windows that a test makes until they are closed: it ends, and lets them go, before Qt is done."""
    held: list[Window] = []
    begin = Window.__init__

    def remember(self: Window, *arguments: Any, **options: Any) -> None:
        held.append(self)
        begin(self, *arguments, **options)

    monkeypatch.setattr(Window, "__init__", remember)
    yield
    held.clear()


@pytest.fixture
def streamer() -> Iterator[FakeStreamer]:
    streamer = FakeStreamer()
    yield streamer
    streamer.close()


@pytest.fixture
def window(streamer: FakeStreamer, qtbot: Any) -> Iterator[Window]:
    """An active window, subscribed, without data."""
    feed = Feed(Store(), streamer.results)
    window = Window(feed)
    qtbot.addWidget(window)
    window.resize(1920, 1080)
    with qtbot.waitExposed(window):
        window.show()
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    feed.start()
    streamer.wait_for_subscriber()
    yield window
    feed.stop()


@pytest.fixture
def filled(window: Window, streamer: FakeStreamer, qtbot: Any) -> Window:
    """A window with 60 frames, a picture and a field."""
    for index in range(60):
        streamer.frame(make_row(index))
    streamer.image(59)
    streamer.flow(make_flow(59))
    streamer.status()
    qtbot.waitUntil(lambda: window.store.status is not None and len(window.store) == 60)
    qtbot.waitUntil(lambda: window.feed.link().has_history)
    window.refresh_now()
    return window
