"""What a window shows of input that is wrong or missing: a clear word, and it goes on."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import numpy as np
import pytest
from pyqtgraph.Qt import QtCore
from support.fake_streamer import FakeStreamer, make_flow, make_row, moment

from monitor import feed as feed_module
from monitor.commander import Commander
from monitor.feed import Feed
from monitor.panels.banner import BannerPanel
from monitor.panels.frame import FramePanel
from monitor.panels.statusbar import StatusPanel
from monitor.store import Store
from monitor.window import Window

pytestmark = [pytest.mark.gui, pytest.mark.qt_log_ignore("propagateSizeHints", "XDG_RUNTIME_DIR")]


def note(window: Window) -> str:
    return str(window.panel(BannerPanel).note.text())


def send_image(streamer: FakeStreamer, index: int, image: np.ndarray, **fields: Any) -> None:
    header = {"index": index, "acquisition": "scan-1", "view": "A", "kind": "projection", "offset": 0.0,
              "scale": 1 / 65_535, "binning": 1} | fields
    streamer.send("image", header, {"image": image})


def test_nobody_there(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "STALE_AFTER_S", 0.2)
    feed = Feed(Store(), "tcp://127.0.0.1:1")
    window = Window(feed)
    qtbot.addWidget(window)
    window.show()
    feed.start()
    qtbot.waitUntil(lambda: "nobody answers at tcp://127.0.0.1:1" in note(window))
    assert "CONNECTING" in window.panel(BannerPanel).chip.text()
    feed.stop()


@pytest.mark.parametrize(("parts", "words"), [
    ((b"hello",), "1 part"),
    ((b"frame", b"\xff\x00garbage"), "not JSON"),
    ((b"weather", b"{}"), "not a result of a txm-streamer"),
    ((b"status", b'{"schema": 99, "session": "s", "sequence": 1}'), "schema 99, this program reads 1"),
    ((b"frame", b'{"schema": 1, "session": 5, "sequence": 1}'), "names session 5"),
    ((b"frame", b'{"schema": 1, "session": "session-1", "sequence": 999, "index": "x"}'), "cannot be read"),
])
def test_messages_of_others(
    parts: tuple[bytes, ...], words: str, filled: Window, streamer: FakeStreamer, qtbot: Any,
) -> None:
    streamer.send_raw(*parts)
    qtbot.waitUntil(lambda: words in note(filled))
    assert filled.panel(StatusPanel).odd.text().startswith("foreign messages 1")
    assert len(filled.store) == 60


@pytest.mark.parametrize("shape", [(10, 10), (1, 1), (1, 2000), (8000, 8000)])
def test_frames_of_any_size_are_shown(
    shape: tuple[int, int], filled: Window, streamer: FakeStreamer, qtbot: Any,
) -> None:
    image = np.arange(shape[0] * shape[1], dtype=np.uint32).reshape(shape).astype(np.uint16)
    send_image(streamer, 60, image, pixel_size_nm=21.0)
    qtbot.waitUntil(lambda: filled.store.picture is not None and filled.store.picture.index == 60, timeout=15_000)
    began = time.process_time()
    filled.refresh_now()
    filled.grab()
    assert time.process_time() - began < 5.0
    assert filled.panel(FramePanel).canvas.shape == shape


def test_pictures_of_one_grey_or_with_numbers_that_are_none(
    filled: Window, streamer: FakeStreamer, qtbot: Any,
) -> None:
    shape = 50, 60
    spoiled = (np.zeros(shape, np.uint16), np.full(shape, np.nan, np.float32), np.full(shape, np.inf, np.float32))
    for index, image in enumerate(spoiled, start=60):
        send_image(streamer, index, image)
        qtbot.waitUntil(lambda index=index: filled.store.picture is not None and filled.store.picture.index == index)
        filled.refresh_now()
        filled.grab()


def test_rows_and_fields_of_nothing_but_nan(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    nothing = dict.fromkeys(("blur_length_px", "drift_y_px", "drift_x_px", "trend_y_px", "trend_x_px", "jitter_y_px",
                             "jitter_x_px", "blur_limit_px", "drift_sigma_px", "flow_median_px"))
    streamer.frame(make_row(60, **nothing))
    flow = make_flow(60)
    streamer.flow(msgspec.structs.replace(
        flow, displacement_px=np.full_like(flow.displacement_px, np.nan), valid=np.zeros_like(flow.valid),
        sigma_px=np.full_like(flow.sigma_px, np.nan)))
    send_image(streamer, 60, np.ones((20, 30), np.uint16))
    qtbot.waitUntil(lambda: filled.store.flow is not None and filled.store.flow.index == 60)
    for key in (QtCore.Qt.Key.Key_S,) * 9:
        filled.refresh_now()
        filled.grab()
        qtbot.keyClick(filled, key)
    assert filled.panel(BannerPanel).numbers["blur"].text() == "–"


def test_no_pixel_size_means_pixels(window: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    streamer.frame(make_row(0))
    send_image(streamer, 0, np.ones((20, 30), np.uint16))
    streamer.status(pixel_size_nm=None)
    qtbot.waitUntil(lambda: window.store.status is not None and window.store.picture is not None)
    window.refresh_now()
    banner = window.panel(BannerPanel)
    assert banner.numbers["drift y caption"].text() == "drift y"
    assert "px" in window.panel(FramePanel).canvas.bar.label.toPlainText()


def test_a_session_without_frames(window: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    streamer.status(state="waiting")
    qtbot.waitUntil(lambda: window.feed.link().has_history and window.store.status is not None)
    window.refresh_now()
    assert "waiting for frames from tcp://127.0.0.1:5555" in note(window)
    for key in (QtCore.Qt.Key.Key_Left, QtCore.Qt.Key.Key_Right, QtCore.Qt.Key.Key_Home, QtCore.Qt.Key.Key_End,
                QtCore.Qt.Key.Key_N, QtCore.Qt.Key.Key_P, QtCore.Qt.Key.Key_F, QtCore.Qt.Key.Key_W, QtCore.Qt.Key.Key_S,
                QtCore.Qt.Key.Key_PageDown, QtCore.Qt.Key.Key_Space, QtCore.Qt.Key.Key_T):
        qtbot.keyClick(window, key)
    assert window.selected is None
    assert window.grab().width() == 1920


def test_a_read_only_window_sends_nothing(streamer: FakeStreamer, qtbot: Any) -> None:
    feed = Feed(Store(), streamer.results)
    window = Window(feed, commander=Commander(feed.endpoint, feed.control, read_only=True))
    qtbot.addWidget(window)
    window.show()
    window.ask("acknowledge", {"alert": "all"})
    qtbot.waitUntil(lambda: "read-only" in note(window))
    changing = [entry for menu in window.menus.actions() if menu.menu() is not None
                for entry in menu.menu().actions() if not entry.isEnabled()]
    assert changing
    assert all("read-only" in entry.toolTip() for entry in changing)
    feed.stop()


def test_several_windows_watch_one_streamer(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    feed = Feed(Store(), streamer.results)
    other = Window(feed)
    qtbot.addWidget(other)
    other.show()
    feed.start()
    qtbot.waitUntil(lambda: (streamer.status(), feed.link().has_history)[1])
    streamer.frame(make_row(60, received_at=moment(60)))
    streamer.status()
    qtbot.waitUntil(lambda: len(other.store) == len(filled.store) == 61)
    filled.toggle_pause()
    assert not other.paused
    feed.stop()
