from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from pyqtgraph.Qt import QtCore
from support.fake_streamer import FakeStreamer, make_flow, make_picture, make_row, make_spectra, packed_picture

from monitor.modes import MODES
from monitor.panels.frame import FramePanel
from monitor.rows import Key
from monitor.store import Picture
from monitor.window import Window
from monitor.words import measured
from streamer.records import STRAIN_PLANES

pytestmark = [pytest.mark.gui, pytest.mark.qt_log_ignore("propagateSizeHints", "XDG_RUNTIME_DIR", "JPEG")]

KEY = {mode.name: QtCore.Qt.Key(int(QtCore.Qt.Key.Key_1) + number) for number, mode in enumerate(MODES)}


@pytest.fixture
def asking(filled: Window) -> Iterator[Window]:
    """A filled window that can ask the streamer."""
    filled.commander.start()
    yield filled
    filled.commander.stop()


@pytest.fixture
def panel(asking: Window) -> FramePanel:
    found: FramePanel = asking.panel(FramePanel)
    return found


def show(window: Window, qtbot: Any, name: str) -> FramePanel:
    qtbot.keyClick(window, KEY[name])
    panel: FramePanel = window.panel(FramePanel)
    assert MODES[panel.mode].name == name
    assert panel.modes.currentText().endswith(name)
    return panel


def moved(index: int) -> tuple[float, float]:
    """Where the sample went since frame 0, the reference."""
    row, first = make_row(index), make_row(0)
    return row.drift_y_px - first.drift_y_px, row.drift_x_px - first.drift_x_px   # type: ignore[operator]


def full_flow(index: int) -> Any:
    flow = make_flow(index)
    planes = np.stack([np.full(flow.valid.shape, 0.01 * (number + 1), np.float32)
                       for number in range(len(STRAIN_PLANES))])
    labels = np.full(flow.valid.shape, -1, np.int16)
    labels[5:10, 5:10], labels[5:10, 10:15] = 3, 8
    return msgspec.structs.replace(flow, strain=planes, regions=labels)


def test_picture_levels_leave_out_outliers_and_stand_still(
    filled: Window, streamer: FakeStreamer, qtbot: Any,
) -> None:
    canvas = filled.panel(FramePanel).canvas
    np.testing.assert_array_equal(canvas.ground.image, make_picture(59))
    low, high = canvas.ground.levels
    assert make_picture(59).min() < low < high < make_picture(59).max()
    streamer.image(60)
    qtbot.waitUntil(lambda: filled.store.picture.index == 60)
    filled.refresh_now()
    assert tuple(canvas.ground.levels) == (low, high)


def test_levels_are_taken_anew_by_key(filled: Window, qtbot: Any) -> None:
    canvas = filled.panel(FramePanel).canvas
    low, high = canvas.ground.levels
    picture = filled._picture
    assert picture is not None
    nearly = (make_picture(59) * 0.97).astype(np.uint16)
    filled._picture = msgspec.structs.replace(picture, image=nearly)
    filled._draw("picture")
    assert tuple(canvas.ground.levels) == (low, high)   # they nearly fit
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_L)
    assert canvas.ground.levels[1] == pytest.approx(0.97 * high, rel=1e-3)
    assert canvas.bar.label.toPlainText() == "1 µm"


def test_levels_belong_to_values_and_not_to_the_coding(filled: Window) -> None:
    canvas = filled.panel(FramePanel).canvas
    before = canvas.colours.texts
    low, high = canvas.ground.levels
    picture = filled._picture
    assert picture is not None
    filled._picture = msgspec.structs.replace(
        picture, image=(picture.image // 2).astype(np.uint16), scale=2 * picture.scale)   # type: ignore[operator]
    filled._draw("picture")
    assert canvas.colours.texts == before
    np.testing.assert_allclose(canvas.ground.levels, (low / 2, high / 2))


def test_binned_pictures_keep_the_coordinates_of_the_frame(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    streamer.image(60, binning=2)
    qtbot.waitUntil(lambda: filled.store.picture.index == 60)
    filled.refresh_now()
    canvas = filled.panel(FramePanel).canvas
    box = canvas.ground.mapRectToParent(canvas.ground.boundingRect())
    assert (box.width(), box.height()) == (640, 480)
    assert canvas.bar.label.toPlainText() == "2 µm"


def test_the_whole_picture_stays_in_sight_until_somebody_zooms(filled: Window, qtbot: Any) -> None:
    canvas = filled.panel(FramePanel).canvas

    def sees_all() -> bool:
        (left, right), (top, bottom) = canvas.box.viewRange()
        return left <= 0 and right >= 320 and top <= 0 and bottom >= 240

    for size in ((1000, 1000), (1800, 700), (1366, 768)):
        filled.resize(*size)
        qtbot.waitUntil(sees_all)
    canvas.box.scaleBy((0.3, 0.3))
    canvas.box.sigRangeChangedManually.emit([True, True])
    filled.resize(1900, 1000)
    filled.refresh_now()
    assert not sees_all()
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_F)
    assert sees_all()


def test_the_value_under_the_mouse_is_read(filled: Window) -> None:
    panel = filled.panel(FramePanel)
    panel._read(panel.canvas.box.mapViewToScene(QtCore.QPointF(100.5, 50.5)))
    assert panel.cursor.text() == f"y 50, x 100: {make_picture(59)[50, 100] / 65_535:.4g}"
    panel._read(panel.canvas.box.mapViewToScene(QtCore.QPointF(-5.0, 50.5)))
    assert panel.cursor.text() == ""


def test_arrows_come_and_go(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    canvas = filled.panel(FramePanel).canvas
    assert canvas.arrows.count > 20
    assert canvas.scale_text.toPlainText() == f"arrows × {canvas.arrows.gain}"
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_D)
    assert canvas.arrows.count == 0
    assert not canvas.scale_text.isVisible()
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_D)
    assert canvas.arrows.count > 20
    still = msgspec.structs.replace(make_flow(60), displacement_px=np.zeros_like(make_flow(60).displacement_px))
    streamer.flow(still)
    qtbot.waitUntil(lambda: filled.store.flow.index == 60)
    filled.refresh_now()
    assert canvas.arrows.count == 0
    assert "nothing above the noise" in canvas.scale_text.toPlainText()


def test_arrows_get_longer_and_shorter_until_a_fit(filled: Window, qtbot: Any) -> None:
    arrows = filled.panel(FramePanel).canvas.arrows
    gain, lines = arrows.gain, arrows.lines
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_Plus)
    assert arrows.gain > gain
    assert np.abs(arrows.lines[:10] - lines[:10]).max() > 0.1
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_Minus)
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_Minus)
    assert arrows.gain < gain
    for _ in range(10):
        qtbot.keyClick(filled, QtCore.Qt.Key.Key_Minus)
    assert arrows.gain == 1
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_F)
    filled.refresh_now()
    assert arrows.gain == gain


def test_arrows_stand_apart_on_screen(filled: Window) -> None:
    canvas = filled.panel(FramePanel).canvas
    shafts = canvas.arrows.lines[:canvas.arrows.count, :2] / canvas.box.viewPixelSize()[0]
    rows = np.unique(np.round(shafts[:, 1], 1))
    assert np.diff(rows).min() >= 18


def test_a_field_can_be_kept_and_laid_over_another(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    canvas = filled.panel(FramePanel).canvas
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_O)
    assert canvas.pinned_arrows.count == canvas.arrows.count
    later = make_flow(60)
    streamer.flow(msgspec.structs.replace(later, displacement_px=-later.displacement_px))
    streamer.image(60)
    qtbot.waitUntil(lambda: filled.store.flow.index == filled.store.picture.index == 60)
    filled.refresh_now()
    text = canvas.scale_text.toPlainText()
    assert f"arrows × {canvas.arrows.gain}, frame 60" in text
    assert f"arrows × {canvas.pinned_arrows.gain}, frame 59 against 0, kept" in text
    assert canvas.arrows.colour != canvas.pinned_arrows.colour
    new, old = canvas.arrows.lines, canvas.pinned_arrows.lines
    np.testing.assert_allclose(new[:5, 2:] - new[:5, :2], old[:5, :2] - old[:5, 2:], atol=1e-4)
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_O)
    assert canvas.pinned_arrows.count == 0
    assert "kept" not in canvas.scale_text.toPlainText()


def test_a_blurred_frame_can_be_seen_with_its_blur_taken_out(
    filled: Window, streamer: FakeStreamer, qtbot: Any,
) -> None:
    panel = filled.panel(FramePanel)
    restored = make_picture(60)[:, ::-1].copy()
    text = "Wiener restores up to 0.11 cycles/px (half-period 4.6 px, 93 nm) along 37 deg; a preview, not data"
    streamer.image(60, deblurred=restored, deblur={"method": "wiener", "text": text})
    qtbot.waitUntil(lambda: filled.store.picture.index == 60)
    filled.refresh_now()
    np.testing.assert_array_equal(panel.canvas.ground.image, make_picture(60))
    show(filled, qtbot, "deblurred")
    np.testing.assert_array_equal(panel.canvas.ground.image, restored)
    assert panel.words.text() == text
    panel._read(panel.canvas.box.mapViewToScene(QtCore.QPointF(100.5, 50.5)))
    assert panel.cursor.text() == f"y 50, x 100: {restored[50, 100] / 65_535:.4g}"
    streamer.image(61)   # the next one is sharp: the preview goes, and the reason is there
    qtbot.waitUntil(lambda: filled.store.picture.index == 61)
    filled.refresh_now()
    np.testing.assert_array_equal(panel.canvas.ground.image, make_picture(61))
    assert panel.words.text().startswith("no deblurred preview: it comes with the newest picture if that is blurred")
    streamer.image(62, deblur={"text": "nothing to gain: below the noise"})
    qtbot.waitUntil(lambda: filled.store.picture.index == 62)
    filled.refresh_now()
    assert panel.words.text() == "no deblurred preview: nothing to gain: below the noise"
    show(filled, qtbot, "corrected")
    assert "preview" not in panel.words.text()


def test_difference_and_overlay_compare_with_the_reference(asking: Window, panel: FramePanel, qtbot: Any) -> None:
    show(asking, qtbot, "difference")
    qtbot.waitUntil(lambda: panel.canvas.top.image is not None and panel.canvas.top.isVisible())
    y, x = moved(59)
    change = panel.canvas.top.image
    assert change.shape == make_picture(0).shape
    assert np.isnan(change[:10]).all()                       # where the reference has not been
    assert f"drift y {y:+.1f}, x {x:+.1f} px" in panel.words.text()
    assert panel.canvas.top.levels[0] == -panel.canvas.top.levels[1]
    assert panel.variant.text() == "drift taken out"
    qtbot.keyClick(asking, QtCore.Qt.Key.Key_X)
    expected = (make_picture(59).astype(float) - make_picture(0)) / 65_535
    assert np.abs(panel.canvas.top.image - expected).max() < 0.06   # eight bits and JPEG
    assert panel.variant.text() == "as they lie"
    show(asking, qtbot, "overlay")
    assert panel.canvas.ground.image.shape == (*make_picture(0).shape, 3)
    assert panel.variant.text() == "drift taken out"
    assert panel.canvas.ground.lut is None
    qtbot.mouseClick(panel.variant, QtCore.Qt.MouseButton.LeftButton)
    assert "as they lie" in panel.words.text()
    show(asking, qtbot, "corrected")
    assert not panel.variant.isVisible()
    np.testing.assert_array_equal(panel.canvas.ground.image, make_picture(59))
    assert not panel.canvas.top.isVisible()


def test_the_drift_to_a_newer_key_frame_is_a_difference(
    asking: Window, panel: FramePanel, streamer: FakeStreamer, qtbot: Any,
) -> None:
    streamer.frame(make_row(60, reference_index=44, acquisition="scan-2"))
    streamer.frame(make_row(44, acquisition="scan-2"))
    streamer.image(60, acquisition="scan-2")
    qtbot.waitUntil(lambda: len(asking.store) == 62 and asking.store.picture.acquisition == "scan-2")
    show(asking, qtbot, "overlay")   # the only field is one of another acquisition
    row, key = make_row(60), make_row(44)
    y, x = row.drift_y_px - key.drift_y_px, row.drift_x_px - key.drift_x_px   # type: ignore[operator]
    qtbot.waitUntil(lambda: f"drift y {y:+.1f}, x {x:+.1f} px" in panel.words.text())
    assert "frame 44" in panel.words.text()


def test_raw_is_asked_for(asking: Window, panel: FramePanel, qtbot: Any) -> None:
    show(asking, qtbot, "raw")
    qtbot.waitUntil(lambda: panel.words.text().startswith("raw"))
    shown = panel.canvas.ground.image.astype(float) * 256
    assert np.abs(shown - make_picture(59)[::-1]).max() < 4500
    assert panel.canvas.colours.title == "counts"


def test_fields_are_mapped_with_a_colour_bar(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    streamer.flow(full_flow(60))
    qtbot.waitUntil(lambda: filled.store.flow.index == 60)
    filled.refresh_now()
    panel = show(filled, qtbot, "displacement")
    canvas, flow = panel.canvas, full_flow(60)
    np.testing.assert_allclose(canvas.top.image[flow.valid], np.hypot(*flow.displacement_px)[flow.valid], rtol=1e-5)
    box = canvas.top.mapRectToParent(canvas.top.boundingRect())
    assert (box.height(), box.width()) == (240, 320)
    assert box.top() == pytest.approx(moved(59)[0] + 0.5)
    assert canvas.colours.title == "px\nnm"
    number, nm = (float(text) for text in canvas.colours.texts[-1].split("\n"))
    assert nm == pytest.approx(21 * number, rel=0.02)
    show(filled, qtbot, "strain")
    assert np.nanmax(canvas.top.image) == pytest.approx(1.0)
    assert panel.words.text().startswith("growth of the area")
    assert canvas.colours.title == "%"
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_X)
    assert np.nanmax(canvas.top.image) == pytest.approx(2.0)
    assert panel.words.text().startswith("right angles")
    streamer.flow(make_flow(61))   # not every field is analysed: the one before stays
    qtbot.waitUntil(lambda: filled.store.flow.index == 61)
    filled.refresh_now()
    assert "; shear of frame 60 against frame 0" in panel.words.text()
    show(filled, qtbot, "regions")
    assert canvas.outlines.isVisible()
    assert len(canvas.outlines.lines) == 4 * 5 + 15   # two squares side by side share an edge
    assert not canvas.colours.isVisible()
    assert canvas.top.image.shape == (*flow.regions.shape, 4)
    show(filled, qtbot, "corrected")
    assert not canvas.outlines.isVisible()


def test_the_spectrum_has_rings_and_no_arrows(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    streamer.image(61, spectra=make_spectra(61))
    qtbot.waitUntil(lambda: filled.store.picture.index == 61)
    filled.refresh_now()
    panel = show(filled, qtbot, "spectrum")
    canvas = panel.canvas
    assert canvas.rings.isVisible()
    assert [label.toPlainText() for label in canvas.rings.labels] == [
        "0.1/px  105 nm", "0.2/px  52 nm", "0.3/px  35 nm", "0.4/px  26 nm"]
    assert canvas.ground.image.shape == (64, 64)
    assert canvas.arrows.count == 0
    assert not canvas.bar.isVisible()
    show(filled, qtbot, "corrected")
    assert not canvas.rings.isVisible()
    assert canvas.bar.isVisible()
    assert canvas.arrows.count > 20


def test_what_is_missing_is_said_in_grey(filled: Window, qtbot: Any) -> None:
    panel = show(filled, qtbot, "strain")
    assert panel.words.text().startswith("no strain of frame 59: the streamer did not work it out")
    assert panel.words._runs[0][1] == filled.theme.dim
    np.testing.assert_array_equal(panel.canvas.ground.image, make_picture(59))


def test_modes_can_be_chosen_from_the_list(filled: Window, qtbot: Any) -> None:
    panel = filled.panel(FramePanel)
    panel.modes.setCurrentIndex(4)
    panel.modes.activated.emit(4)
    assert panel.words.text().startswith("displacement against frame 0")


def test_an_earlier_frame_is_shown_with_its_field(asking: Window, panel: FramePanel, qtbot: Any) -> None:
    canvas = panel.canvas
    assert not canvas.chip.isVisible()
    asking.select(Key("scan-1", 12))
    qtbot.waitUntil(lambda: canvas.chip.text() == "frame 12 · selected · live is 59")
    qtbot.waitUntil(lambda: "arrows × " in canvas.scale_text.toPlainText())
    assert np.abs(canvas.ground.image.astype(float) * 256 - make_picture(12)).max() < 4500
    assert canvas.chip.isVisible()
    assert panel._legend.text().startswith(" 12   view A")
    assert panel.words.text() == "not corrected: no flats yet"
    show(asking, qtbot, "difference")
    qtbot.waitUntil(lambda: "than frame 0" in panel.words.text())
    show(asking, qtbot, "spectrum")
    assert panel.words.text().startswith("no spectrum of frame 12")
    qtbot.keyClick(asking, QtCore.Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: not canvas.chip.isVisible())
    np.testing.assert_array_equal(canvas.ground.image, make_picture(59))


def test_a_selected_frame_stays_while_others_come(
    asking: Window, panel: FramePanel, streamer: FakeStreamer, qtbot: Any,
) -> None:
    asking.select(Key("scan-1", 12))
    qtbot.waitUntil(lambda: panel.canvas.chip.text() == "frame 12 · selected · live is 59")
    shown = panel.canvas.ground.image
    streamer.frame(make_row(60))
    streamer.image(60)
    qtbot.waitUntil(lambda: "live is 60" in panel.canvas.chip.text())
    assert panel.canvas.ground.image is shown


def test_holding_an_arrow_key_asks_for_few_pictures(
    asking: Window, panel: FramePanel, streamer: FakeStreamer, qtbot: Any,
) -> None:
    for _ in range(50):
        qtbot.keyClick(asking, QtCore.Qt.Key.Key_Left)
    assert asking.selected == Key("scan-1", 9)
    qtbot.waitUntil(lambda: panel.canvas.chip.text() == "frame 9 · selected · live is 59")
    pictures = [arguments["index"] for op, arguments in streamer.asked if op == "picture"]
    assert pictures[-1] == 9
    assert len(pictures) < 50


def test_a_picture_that_cannot_be_had_is_not_replaced_by_another(
    asking: Window, panel: FramePanel, streamer: FakeStreamer, qtbot: Any,
) -> None:
    streamer.kept = {59}
    asking.select(Key("scan-1", 12))
    qtbot.waitUntil(lambda: "cannot be had" in panel.canvas.hint.toPlainText())
    assert "the picture of frame 12 is not kept" in panel.canvas.hint.toPlainText()
    assert panel.canvas.chip.text() == "frame 12 · selected · live is 59"
    assert not panel.canvas.ground.isVisible()
    assert panel.words.text() == ""
    qtbot.keyClick(asking, QtCore.Qt.Key.Key_Escape)
    qtbot.waitUntil(panel.canvas.ground.isVisible)
    np.testing.assert_array_equal(panel.canvas.ground.image, make_picture(59))


@pytest.mark.parametrize("damage", [{"data": "AAAA"}, {"data": packed_picture(12)["data"][:400]},
                                    {"data": packed_picture(12)["data"][:-400]}, {"data": 5}])
def test_a_damaged_picture_is_said(
    asking: Window, panel: FramePanel, streamer: FakeStreamer, qtbot: Any, damage: dict[str, Any],
) -> None:
    streamer.answers["picture"] = lambda **arguments: packed_picture(**arguments) | damage
    asking.select(Key("scan-1", 12))
    qtbot.waitUntil(lambda: "the picture of frame 12 cannot be had" in panel.canvas.hint.toPlainText())
    assert not panel.canvas.ground.isVisible()


def test_a_region_is_dragged_read_and_followed(asking: Window, panel: FramePanel, qtbot: Any) -> None:
    asked: list[Any] = []
    panel.asked.disconnect()
    panel.asked.connect(lambda op, arguments: asked.append((op, arguments)))
    assert not panel.region.visible
    qtbot.keyClick(asking, QtCore.Qt.Key.Key_I)
    assert panel.region.visible
    top, left, height, width = panel.region.inside()
    inside = make_picture(59)[top:top + height, left:left + width] / 65_535
    text = panel.region.text.toPlainText()
    assert text.startswith(f"{height} × {width} px at y {top}, x {left}\n")
    assert f"mean {measured(inside.mean(), inside.std())}" in text
    assert "median displacement y " in text
    drag(panel, qtbot, (left + width / 2, top + height / 2), (left + width / 2 + 40, top + height / 2 + 20))
    after = panel.region.inside()
    assert after[:2] == pytest.approx((top + 20, left + 40), abs=2)
    assert after[2:] == pytest.approx((height, width), abs=1)
    inside = make_picture(59)[after[0]:after[0] + after[2], after[1]:after[1] + after[3]] / 65_535
    assert f"mean {measured(inside.mean(), inside.std())}" in panel.region.text.toPlainText()
    qtbot.mouseClick(panel.follow, QtCore.Qt.MouseButton.LeftButton)
    assert asked == [("set", {"settings": dict(zip(
        ("forecast.top_px", "forecast.left_px", "forecast.height_px", "forecast.width_px"), after, strict=True))})]
    qtbot.keyClick(asking, QtCore.Qt.Key.Key_I)
    assert not panel.region.visible
    assert not panel.follow.isVisible()


def test_a_region_stays_within_the_picture(filled: Window, qtbot: Any) -> None:
    panel = filled.panel(FramePanel)
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_I)
    panel.region.rectangle.setPos((-50, 230))
    panel.region.rectangle.setSize((1000, 1000))
    assert panel.region.inside() == (230, 0, 10, 320)
    panel.region.rectangle.setPos((900, 900))
    assert panel.region.inside() == (239, 319, 1, 1)


def drag(panel: FramePanel, qtbot: Any, begin: tuple[float, float], end: tuple[float, float]) -> None:
    """With the left button, from one place of the frame (x, y) to another."""
    points = [panel.canvas.mapFromScene(panel.canvas.box.mapViewToScene(QtCore.QPointF(*place)))
              for place in (begin, end)]
    viewport, button = panel.canvas.viewport(), QtCore.Qt.MouseButton.LeftButton
    qtbot.mouseMove(viewport, points[0])
    qtbot.mousePress(viewport, button, pos=points[0], delay=30)
    for share in (0.3, 0.6, 1.0):
        point = points[0] + (points[1] - points[0]) * share
        event = pg_move(viewport, point)
        QtCore.QCoreApplication.sendEvent(viewport, event)
        qtbot.wait(30)
    qtbot.mouseRelease(viewport, button, pos=points[1], delay=30)


def pg_move(viewport: Any, point: Any) -> Any:
    from pyqtgraph.Qt import QtGui

    left = QtCore.Qt.MouseButton.LeftButton
    return QtGui.QMouseEvent(QtCore.QEvent.Type.MouseMove, QtCore.QPointF(point),
                             QtCore.QPointF(viewport.mapToGlobal(point)), left, left,
                             QtCore.Qt.KeyboardModifier.NoModifier)


ODD = {
    "tiny": np.full((10, 10), 7, np.uint16), "NaN": np.full((10, 10), np.nan, np.float32),
    "some NaN": np.where(np.eye(50) > 0, np.nan, 1.0).astype(np.float32), "huge": np.zeros((8000, 8000), np.uint8),
    "one row": np.arange(300, dtype=np.uint16)[None],
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_pictures_are_drawn_in_every_mode(filled: Window, qtbot: Any, odd: str) -> None:
    panel = filled.panel(FramePanel)
    filled.shelf.keep_picture(Picture(index=0, acquisition="scan-1", view="A", kind="projection", offset=0.0,
                                      scale=1.0, image=ODD[odd]))
    filled._picture = Picture(index=59, acquisition="scan-1", view="A", kind="projection", offset=0.0, scale=1.0,
                              image=ODD[odd], spectra=make_spectra(59))
    filled._flow = full_flow(59)
    for name in KEY:
        show(filled, qtbot, name)
        filled._draw("picture")
        assert panel.grab().width() > 0
    assert panel.region.visible is False
    show(filled, qtbot, "corrected")
    qtbot.keyClick(filled, QtCore.Qt.Key.Key_I)
    assert " px at y " in panel.region.text.toPlainText()


def test_no_work_is_done_for_a_hidden_panel(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    panel = filled.panel(FramePanel)
    filled.docks.docks[FramePanel].hide()
    streamer.image(60)
    qtbot.waitUntil(lambda: filled.store.picture.index == 60)
    filled.refresh_now()
    np.testing.assert_array_equal(panel.canvas.ground.image, make_picture(59))
    filled.docks.docks[FramePanel].show()
    qtbot.waitUntil(lambda: np.array_equal(panel.canvas.ground.image, make_picture(60)))
