"""Panels as pictures, drawings and tables; tables hold what is drawn."""

from __future__ import annotations

import csv
import errno
import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets
from support.fake_streamer import FakeStreamer, make_analysed_flow, make_row, make_spectra, moment

from monitor.clipping import cut
from monitor.export import content, name_for
from monitor.panels.alerts import AlertsPanel
from monitor.panels.compass import CompassPanel
from monitor.panels.displacements import DisplacementsPanel
from monitor.panels.drift import DriftPanel
from monitor.panels.flow_histograms import FlowHistogramsPanel
from monitor.panels.frame import FramePanel
from monitor.panels.jitter import JitterPanel
from monitor.panels.particles import ParticlesPanel
from monitor.panels.path import PathPanel
from monitor.panels.regions import RegionsPanel
from monitor.panels.sharpness import SharpnessPanel
from monitor.panels.spectra import SpectraPanel
from monitor.panels.strain import StrainPanel
from monitor.panels.table import TablePanel
from monitor.panels.volume import VolumePanel
from monitor.rows import Key
from monitor.window import PANELS, Window
from streamer.records import Alert

pytestmark = [pytest.mark.gui, pytest.mark.qt_log_ignore(
    "propagateSizeHints", "XDG_RUNTIME_DIR", "plugin does not support raise", "grabbing the keyboard")]

SVG = "{http://www.w3.org/2000/svg}"
DOCKED = [kind for kinds in PANELS.values() for kind in kinds]


@pytest.fixture
def shown(filled: Window, streamer: FakeStreamer, qtbot: Any) -> Window:
    """A window with everything that a panel can show."""
    streamer.image(60, spectra=make_spectra(60))
    streamer.flow(make_analysed_flow(60))
    streamer.alert(Alert(id=1, raised_at=moment(1), severity="MAJOR", rule="r", text="a, b; \"c\"\nd", index=47))
    qtbot.waitUntil(lambda: filled.store.flow.index == 60 and filled.store.picture.index == 60
                    and filled.store.worst_alert() is not None)
    filled.refresh_now()
    for panel in filled.panels.values():
        panel.refresh(filled.scene())
    return filled


def table(window: Window, kind: Any) -> dict[str, list[str]]:
    text = content(window.panel(kind), "csv", window.scene()).decode()
    head, *lines = csv.reader(io.StringIO(text, newline=""))
    return {name: [line[place] for line in lines] for place, name in enumerate(head)}


def parsed(drawing: bytes | str) -> ET.Element:
    return ET.fromstring(drawing)  # noqa: S314  (our own)


def numbers(column: list[str]) -> Any:
    return np.array([float(cell) if cell else np.nan for cell in column])


def test_tables_of_charts_hold_what_is_drawn(shown: Window) -> None:
    found = table(shown, SharpnessPanel)
    assert list(found)[:4] == ["acquisition", "index", "view", "verdict"]
    assert len(found["index"]) == 60
    for word, dots in shown.panel(SharpnessPanel).dots.items():
        x, y = dots.getData()
        mine = {int(index): length for index, verdict, length in
                zip(found["index"], found["verdict"], numbers(found["blur_length_px"]), strict=True) if verdict == word}
        if word not in ("bad", "refused"):
            np.testing.assert_allclose([mine[int(index)] for index in x], y)
    strips = shown.panel(DriftPanel).strips
    found = table(shown, DriftPanel)
    for strip in strips:
        x, y = strip.dots[0].getData()
        column = dict(zip(map(int, found["index"]), numbers(found[f"drift_{strip.axis}_px"]), strict=True))
        np.testing.assert_allclose([column[int(index)] for index in x], y)
    found = table(shown, JitterPanel)
    x, y = shown.panel(JitterPanel).curves["y"].getData()
    known = np.isfinite(numbers(found["jitter_y_px"]))
    np.testing.assert_allclose(numbers(found["jitter_y_px"])[known], y)
    found = table(shown, PathPanel)
    known = np.isfinite(numbers(found["drift_x_px"]))
    np.testing.assert_allclose(numbers(found["drift_x_px"])[known], shown.panel(PathPanel).paths[0].points[:, 0])


def test_a_table_ends_where_the_chart_does(shown: Window) -> None:
    box = shown.panel(SharpnessPanel).plot.getViewBox()
    box.setXRange(5, 25, padding=0)
    box.sigRangeChangedManually.emit([True, False])
    assert [int(index) for index in table(shown, SharpnessPanel)["index"]] == list(range(5, 26))
    assert len(table(shown, PathPanel)["index"]) == 60


def test_tables_of_histograms_hold_their_bins(shown: Window) -> None:
    found, panel = table(shown, DisplacementsPanel), shown.panel(DisplacementsPanel)
    edges, counts = panel.steps["x"].getData()
    np.testing.assert_allclose(numbers(found["jitter_px_from"]), edges[:-1])
    np.testing.assert_allclose(numbers(found["jitter_px_to"]), edges[1:])
    assert [int(number) for number in found["frames_x"]] == counts.tolist()
    found, panel = table(shown, FlowHistogramsPanel), shown.panel(FlowHistogramsPanel)
    counts = panel.all.getData()[1]
    assert [int(number) for number in found["points"] if number] == counts.tolist()
    assert sum(int(number) for number in found["points_of_direction"] if number) == sum(
        int(number) for number in found["points_above_noise"] if number)
    found = table(shown, CompassPanel)
    rose = shown.panel(CompassPanel).dial.rose
    points = [numbers(column) for name, column in found.items() if name.startswith("points_of")]
    np.testing.assert_array_equal(points, rose.counts)


def test_tables_of_fields_and_spectra(shown: Window) -> None:
    flow = make_analysed_flow(60)
    found = table(shown, FramePanel)
    np.testing.assert_allclose(numbers(found["displacement_y_px"]), flow.displacement_px[0].ravel())
    np.testing.assert_allclose(numbers(found["y_px"]).reshape(flow.valid.shape)[:, 0], flow.grid_y_px)
    np.testing.assert_allclose(numbers(table(shown, StrainPanel)["shear_rad"]), flow.strain[1].ravel())
    np.testing.assert_array_equal(numbers(table(shown, RegionsPanel)["region"]), flow.regions.ravel())
    assert table(shown, ParticlesPanel)["number"] == ["2", "5", "7"]
    assert table(shown, VolumePanel)["box_px"] == ["24.0", "60.0", "120.0", "200.0"]
    found, spectra = table(shown, SpectraPanel), make_spectra(60)
    np.testing.assert_allclose(numbers(found["power_x"]), spectra.horizontal)
    np.testing.assert_allclose(numbers(found["power_reference_y"]), spectra.reference_vertical)
    np.testing.assert_allclose(numbers(found["frequency_per_px"])[:2], [0.5 / 128, 1.5 / 128])
    assert "power_noise_x" not in found


def test_tables_of_lists_hold_their_lines(shown: Window) -> None:
    found = table(shown, AlertsPanel)
    assert (found["id"], found["text"], found["index"]) == (["1"], ["a, b; \"c\"\nd"], ["47"])
    found = table(shown, TablePanel)
    assert found["index"][0] == "47"
    assert found["verdict"][0] == "blurred"
    assert float(found["blur_length_px"][0]) == pytest.approx(make_row(47).blur_length_px)


def test_every_panel_becomes_a_picture_and_a_drawing(shown: Window) -> None:
    for kind in DOCKED:
        panel = shown.panel(kind)
        image = QtGui.QImage.fromData(content(panel, "png", shown.scene()))
        assert image.width() == 2 * panel.width()
        assert image.height() > 2 * panel.height()   # with its heading
        drawing = content(panel, "svg", shown.scene())
        root = parsed(drawing)
        assert root.tag == f"{SVG}svg"
        assert b" clip " not in drawing   # no mark is left over
    shown.refresh_now()   # and none in the charts


def test_charts_are_drawn_in_outlines_and_end_at_their_edges(shown: Window) -> None:
    panel = shown.panel(SharpnessPanel)
    root = parsed(content(panel, "svg", shown.scene()))
    assert len(list(root.iter(f"{SVG}path"))) > 60   # a path for each dot
    clips = {node.get("id"): node[0] for node in root.iter(f"{SVG}clipPath")}
    groups = [node for node in root.iter(f"{SVG}g") if node.get("clip-path")]
    assert [group.get("clip-path") for group in groups] == ["url(#chart0)"]
    assert len(list(groups[0].iter(f"{SVG}path"))) > 60
    assert abs(float(clips["chart0"].get("width")) - panel.plot.getViewBox().width()) <= 2
    assert "Sharpness" in [node.text for node in root.iter(f"{SVG}text")]
    words = parsed(content(shown.panel(FramePanel), "svg", shown.scene()))
    assert any(node.get("clip-path") for node in words.iter(f"{SVG}g"))


def test_a_drawing_without_its_marks_stays_as_it_is() -> None:
    text = '<svg><defs></defs><g a="b"><text x="0">begin clip 0.</text></g><path/></svg>'
    assert parsed(cut(text, [QtCore.QRect(0, 0, 5, 5)])) is not None
    assert "clip" not in cut(text, [QtCore.QRect(0, 0, 5, 5)])


def test_names_say_session_panel_and_frame(shown: Window) -> None:
    shown.select(Key("scan-1", 21))
    assert name_for(shown.panel(TablePanel), shown.scene()) == "session-1-flagged-frames-frame-21"
    shown.store.reset("a/b: c?")
    shown.select(None)
    shown.refresh_now()
    assert name_for(shown.panel(TablePanel), shown.scene()) == "a-b-c-flagged-frames"


def test_the_panel_under_the_mouse_is_offered_and_saved(
    shown: Window, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    panel = shown.panel(DriftPanel)
    monkeypatch.setattr(QtWidgets.QApplication, "widgetAt", lambda *_: panel.strips[0].plot.viewport())
    qtbot.keyClick(shown, QtCore.Qt.Key.Key_E, QtCore.Qt.KeyboardModifier.ControlModifier)
    entries = {action.text(): action for action in shown.exporter.menu.actions()}
    assert list(entries) == ["Export Drift", "picture (PNG) ...", "drawing (SVG) ...", "table (CSV) ...",
                             "copy picture"]
    assert entries["table (CSV) ..."].isEnabled()
    shown.exporter.menu.close()
    entries["table (CSV) ..."].trigger()
    dialog = shown.exporter.dialog
    assert dialog.isVisible()
    assert not dialog.isModal()
    assert dialog.selectedFiles()[0].endswith("session-1-drift-frame-59.csv")
    dialog.fileSelected.emit(str(tmp_path / "drift.csv"))
    dialog.close()
    assert shown.scene().message == f"{tmp_path / 'drift.csv'} written"
    assert len((tmp_path / "drift.csv").read_text().splitlines()) == 61
    assert [path.name for path in tmp_path.iterdir()] == ["drift.csv"]


def test_without_a_panel_under_the_mouse_all_are_offered(
    shown: Window, qtbot: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(QtWidgets.QApplication, "widgetAt", lambda *_: shown.menus)
    monkeypatch.setattr(QtWidgets.QApplication, "focusWidget", lambda *_: None)
    shown.exporter.offer()
    named = [action.text() for action in shown.exporter.menu.actions()]
    assert {"Sharpness", "Drift", "Frame", "Alerts"} < set(named)
    assert "Particles" not in named   # behind another tab
    shown.exporter.menu.close()
    button = next(button for button in shown.docks.docks[FramePanel].panel.head.findChildren(QtWidgets.QToolButton)
                  if "export" in button.toolTip())
    qtbot.mouseClick(button, QtCore.Qt.MouseButton.LeftButton)
    assert shown.exporter.menu.actions()[0].text() == "Export Frame"
    shown.exporter.menu.close()


def test_a_table_of_nothing_is_greyed(window: Window) -> None:
    window.exporter.offer_for(window.panel(SpectraPanel))
    entry = next(action for action in window.exporter.menu.actions() if "CSV" in action.text())
    assert not entry.isEnabled()
    assert entry.toolTip() == "there are no numbers behind it now"
    window.exporter.menu.close()


def test_what_hinders_writing_is_said(filled: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = filled.panel(DriftPanel)
    for name, words in (("missing/x.png", "No such file or directory"), ("x", "ends in nothing, expected one of"),
                        ("x.bmp", "its name ends in .bmp, expected one of .png, .svg, .csv")):
        filled.exporter.save(panel, tmp_path / name)
        assert words in filled.scene().message
    for name, code, words in (("x.png", errno.ENOSPC, "No space left on device"),
                              ("x.svg", errno.EACCES, "Permission denied"), ("x.csv", errno.EROFS, "Read-only")):
        def refuse(path: Path, data: bytes, code: int = code, words: str = words) -> int:
            path.touch()
            raise OSError(code, words)

        monkeypatch.setattr(Path, "write_bytes", refuse)
        filled.exporter.save(panel, tmp_path / name)
        assert filled.scene().message == f"{tmp_path / name} was not written: {words}"
    assert not list(tmp_path.iterdir())


def test_copying(window: Window) -> None:
    window.exporter.copy(window.panel(DriftPanel))
    assert QtWidgets.QApplication.clipboard().image().width() == 2 * window.panel(DriftPanel).width()


def test_the_list_of_keys_fits_a_small_screen(window: Window) -> None:
    window.toggle_keys()
    hint = window._keys.sizeHint()
    assert hint.width() <= 1366
    assert hint.height() <= 740
    window.toggle_keys()
