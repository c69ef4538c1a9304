from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pyqtgraph.Qt import QtCore
from support.fake_streamer import FakeStreamer, make_row

from monitor.panels.base import Scene
from monitor.panels.filmstrip import FilmstripPanel
from monitor.panels.timeline import Timeline
from monitor.rows import Charts, Key
from monitor.store import Store
from monitor.theme import DARK
from monitor.thumbnails import Thumbnails
from monitor.window import Window
from streamer.records import FrameRow

pytestmark = [pytest.mark.gui, pytest.mark.qt_log_ignore("propagateSizeHints", "XDG_RUNTIME_DIR")]


@pytest.fixture
def panel(filled: Window) -> Iterator[FilmstripPanel]:
    """The strip of a window that can ask."""
    filled.commander.start()
    yield filled.panel(FilmstripPanel)
    filled.commander.stop()


def lone(qtbot: Any, rows: list[FrameRow], **fields: Any) -> FilmstripPanel:
    """A strip by itself."""
    store = Store()
    for sequence, row in enumerate(rows, start=1):
        store._put(row, sequence)
    panel = FilmstripPanel(Timeline())
    qtbot.addWidget(panel)
    panel.resize(900, 130)
    panel.restyle(DARK)
    panel.show()
    panel.refresh(Scene(store=store, charts=store.charts(), **fields))
    return panel


def colours(panel: FilmstripPanel, number: int) -> set[str]:
    """Of the pixels of a tile."""
    place = panel.strip.place(number)
    picture = panel.strip.grab(place).toImage()
    return {picture.pixelColor(x, y).name() for x in range(picture.width()) for y in range(picture.height())}


def test_thumbnails_come_for_what_is_seen(filled: Window, panel: FilmstripPanel, streamer: FakeStreamer, qtbot: Any,
                                          ) -> None:
    filled.refresh_now()
    seen = [Key("scan-1", index) for index in range(60)][panel.strip.seen().start:]
    assert 5 < len(seen) < 40
    qtbot.waitUntil(lambda: all(filled.thumbnails.get(key) is not None for key in seen))
    asked = [arguments for op, arguments in streamer.asked if op == "thumbnails"]
    assert len(asked) < 6
    assert panel.following
    assert panel.strip.place(59).right() <= panel.strip.width()
    qtbot.waitUntil(lambda: panel._legend.text().startswith("   60"))
    assert "newest at the right" in panel._legend.text()


def test_a_click_selects_the_frame(filled: Window, panel: FilmstripPanel, qtbot: Any) -> None:
    place = panel.strip.place(57).center()
    qtbot.mouseClick(panel.strip, QtCore.Qt.MouseButton.LeftButton, pos=place)
    assert filled.selected == Key("scan-1", 57)
    filled.refresh_now()
    assert DARK.text in colours(panel, 57)
    assert DARK.text not in colours(panel, 56)


def test_the_strip_follows_until_it_is_scrolled(filled: Window, panel: FilmstripPanel, streamer: FakeStreamer,
                                                qtbot: Any) -> None:
    panel.bar.setValue(0)
    assert not panel.following
    assert panel.strip.seen().start == 0
    assert "End follows the newest again" in panel._legend.text()
    streamer.frame(make_row(60))
    qtbot.waitUntil(lambda: len(filled.store) == 61)
    filled.refresh_now()
    assert panel.strip.seen().start == 0
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_F)
    filled.refresh_now()
    assert panel.following
    assert panel.strip.seen().stop == 61


def test_a_selected_frame_is_brought_into_sight(filled: Window, panel: FilmstripPanel, qtbot: Any) -> None:
    filled.select(Key("scan-1", 3))
    qtbot.waitUntil(lambda: 3 in panel.strip.seen())
    assert panel.strip.place(3).left() >= 0
    filled.select(None)
    qtbot.waitUntil(lambda: panel.following)
    assert 59 in panel.strip.seen()


def test_the_wheel_scrolls(filled: Window, panel: FilmstripPanel) -> None:
    before = panel.bar.value()
    panel.strip.scrolled.emit(-200)
    assert panel.bar.value() == before - 200
    assert not panel.following


def test_verdicts_have_shape_and_colour_and_tiles_numbers(qtbot: Any) -> None:
    rows = [make_row(0), make_row(8), make_row(17), make_row(30), make_row(31, verdict=None, problems="too small"),
            make_row(32, recollects=8)]
    panel = lone(qtbot, rows)
    for number, colour in enumerate((DARK.ok, DARK.major, DARK.minor, DARK.invalid, DARK.text, DARK.ok)):
        assert colour.lower() in colours(panel, number)
    assert "#ffffff" in colours(panel, 1)        # crossed out: taken again as 32
    assert "#ffffff" not in colours(panel, 2)
    assert not panel.bar.isVisible()
    assert panel.strip.place(5).right() > panel.strip.width() - 10   # few frames stand at the right


def test_no_frames_are_said(qtbot: Any) -> None:
    panel = lone(qtbot, [])
    assert panel._legend.text().startswith("   none")
    assert panel.grab().width() == 900


def test_the_reason_why_there_are_no_pictures_is_told(qtbot: Any) -> None:
    thumbnails = Thumbnails(lambda op, *, done, **arguments: None, decode=lambda data: np.zeros((1, 1), np.uint8),
                            place_of=lambda key: None)
    thumbnails.why = "unknown op 'thumbnails'"
    panel = lone(qtbot, [make_row(0)], thumbnails=thumbnails)
    assert "no pictures: unknown op 'thumbnails'" in panel._legend.text()


class CountingStore(Store):
    """Counts the rows that are read."""

    read = 0

    def row(self, which: Any) -> FrameRow | None:
        self.read += 1
        return make_row(int(which))


def test_of_100_000_frames_only_those_in_sight_are_read(qtbot: Any) -> None:
    count = 100_000
    store = CountingStore()
    charts = Charts(version=1, order=np.arange(float(count)), position=np.arange(count))
    panel = FilmstripPanel(Timeline())
    qtbot.addWidget(panel)
    panel.resize(900, 130)
    panel.restyle(DARK)
    panel.show()
    for offset in (None, 0, 5_000_000, None):
        panel.refresh(Scene(store=store, charts=charts))
        panel.bar.setValue(panel.bar.maximum() if offset is None else offset)
        store.read = 0
        panel.strip.grab()
        assert 0 < store.read < 30
    assert panel.strip.seen().stop == count
    assert panel.strip.row_of(panel.strip.seen()[-1]).index == count - 1   # type: ignore[union-attr]


def test_damaged_thumbnails_leave_a_tile_with_a_number(filled: Window, streamer: FakeStreamer, qtbot: Any,
                                                       panel: FilmstripPanel) -> None:
    def damaged(since: int, limit: int) -> Any:
        return {"thumbnails": [{"index": index, "acquisition": "scan-1", "view": "A", "data": "AAAA"}
                               for index in range(60)], "next": 60, "more": False}

    filled.thumbnails.clear()
    streamer.answers["thumbnails"] = damaged
    filled.refresh_now()
    qtbot.waitUntil(lambda: filled.thumbnails.get(Key("scan-1", 55)) is not None)
    assert panel.strip._image(Key("scan-1", 55)) is None
    assert panel.grab().width() > 0
