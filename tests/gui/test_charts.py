"""The chart panels one by one: what they draw of a scene, and what they say when there is nothing to draw."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from pyqtgraph.Qt import QtCore, QtWidgets
from support.fake_streamer import FakeStreamer, make_analysed_flow, make_flow, make_row

from monitor.fields import BANDS, SECTORS, moved
from monitor.panels.base import Panel, Scene
from monitor.panels.compass import CompassPanel
from monitor.panels.deformation import DeformationPanel
from monitor.panels.displacements import DisplacementsPanel
from monitor.panels.drift import DriftPanel
from monitor.panels.flow_histograms import FlowHistogramsPanel
from monitor.panels.frame import FramePanel
from monitor.panels.jitter import JitterPanel
from monitor.panels.particles import COLUMNS, ParticlesPanel, Place
from monitor.panels.path import PathPanel, outlines
from monitor.panels.regions import RegionsPanel, colour_name, painted
from monitor.panels.sharpness import SharpnessPanel
from monitor.panels.spectra import SpectraPanel
from monitor.panels.strain import QUANTITIES, StrainPanel
from monitor.panels.timeline import Timeline
from monitor.panels.volume import VolumePanel
from monitor.rows import Charts, Key, RowTable
from monitor.shelf import Found
from monitor.store import Store
from monitor.theme import DARK, LIGHT
from monitor.window import Window
from streamer.records import FlowResult, FrameRow, JitterAxis, Leaving, Status, ViewMotion

pytestmark = [pytest.mark.gui, pytest.mark.qt_log_ignore("propagateSizeHints", "XDG_RUNTIME_DIR")]

OF_ROWS = (SharpnessPanel, DriftPanel, JitterPanel, PathPanel, DisplacementsPanel, DeformationPanel)
OF_FIELDS = (FlowHistogramsPanel, CompassPanel, StrainPanel, RegionsPanel, ParticlesPanel, VolumePanel)


def status(**fields: Any) -> Status:
    return Status(**({
        "at": 0.0, "state": "receiving", "version": "0", "uptime_s": 1.0, "session_dir": "", "frames_endpoint": "",
        "results_endpoint": "", "control_endpoint": "", "pixel_size_nm": 21.0, "blur_tolerance_px": 3.0,
        "blur_score_threshold": 3.5, "blur_shortest_px": 1.2} | fields))


def charts_of(rows: list[FrameRow]) -> Charts:
    table = RowTable()
    for number, row in enumerate(rows):
        table.put(row, number + 1)
    return table.charts(1)


def scene_of(count: int = 60, **fields: Any) -> Scene:
    return Scene(**({"charts": charts_of([make_row(index) for index in range(count)]), "status": status()} | fields))


@pytest.fixture
def shown(qtbot: Any) -> Callable[..., Any]:
    def show(kind: type[Panel], scene: Scene, size: tuple[int, int] = (600, 260)) -> Any:
        timeline = Timeline()
        panel = kind(timeline)
        timeline.setParent(panel)
        qtbot.addWidget(panel)
        panel.resize(*size)
        panel.setStyleSheet(DARK.stylesheet())
        panel.restyle(DARK)
        with qtbot.waitExposed(panel):
            panel.show()
        timeline.follow(scene.charts)
        panel.refresh(scene)
        return panel
    return show


@pytest.mark.parametrize("kind", [*OF_ROWS, *OF_FIELDS, SpectraPanel])
def test_every_panel_says_why_it_is_empty(kind: type[Panel], shown: Callable[..., Any]) -> None:
    panel = shown(kind, Scene())
    assert panel.empty.isVisible()
    assert "no" in panel.empty.text()
    panel.restyle(LIGHT)
    panel.refresh(Scene())
    panel.fit()
    assert not panel.grab().isNull()


@pytest.mark.parametrize("kind", OF_ROWS)
@pytest.mark.parametrize("rows", [
    [make_row(0)],
    [make_row(0, verdict="undecided", blur_length_px=None, blur_length_sigma_px=None, blur_angle_deg=None,
              blur_score=None, blur_limit_px=None, drift_y_px=None, drift_x_px=None, drift_sigma_px=None,
              trend_y_px=None, trend_x_px=None, jitter_y_px=None, jitter_x_px=None, flow_median_px=None,
              flow_p95_px=None)] * 2,
    [make_row(index, verdict=None, problems="refused") for index in range(3)],
])
def test_one_frame_and_rows_without_numbers_are_drawn(
    kind: type[Panel], rows: list[FrameRow], shown: Callable[..., Any],
) -> None:
    panel = shown(kind, Scene(charts=charts_of(rows), status=status()))
    assert not panel.grab().isNull()
    if rows[0].drift_y_px is None and kind in (DriftPanel, PathPanel, JitterPanel, DisplacementsPanel):
        assert panel.empty.text()


@pytest.mark.parametrize("kind", OF_ROWS)
def test_a_hundred_thousand_frames_are_drawn_with_few_points(kind: type[Panel], shown: Callable[..., Any]) -> None:
    random = np.random.default_rng(2)
    small = charts_of([make_row(index) for index in range(64)])
    repeats = 100_000 // 64 + 1
    charts = Charts(
        version=1, views=small.views, starts=small.starts, order=np.arange(64.0 * repeats),
        position=np.arange(64 * repeats), view=np.tile(small.view, repeats), verdict=np.tile(small.verdict, repeats),
        shape=np.tile(small.shape, repeats), flagged=np.tile(small.flagged, repeats),
        numbers={name: np.tile(column, repeats) + random.normal(0, 0.1, 64 * repeats)
                 for name, column in small.numbers.items()})
    panel = shown(kind, Scene(charts=charts, status=status()))
    panel.timeline.whole = True
    panel.timeline.resume()
    panel.timeline.follow(charts)
    began = time.process_time()
    panel.refresh(Scene(charts=charts, status=status()))
    panel.grab()
    assert time.process_time() - began < 0.6   # tens of ms on a quiet machine; seconds with an item for each point
    drawn = [dots.x.size for dots in getattr(panel, "dots", {}).values()] if isinstance(
        getattr(panel, "dots", None), dict) else []
    assert sum(drawn) <= 4000


def test_drift_goes_on_with_a_widening_band_and_tells_when_the_view_is_left(shown: Callable[..., Any]) -> None:
    axis = JitterAxis(sigma_px=0.6, first_px=-3.0, bin_px=0.3, counts=[1] * 20)
    motion = ViewMotion(view="A", frames=59, trend_y_px=12.0, trend_x_px=-4.0, speed_y_px=0.2, speed_x_px=-0.1,
                        jitter_y=axis, jitter_x=axis, leaving=Leaving(frames=30.0, frames_low=20.0, frames_high=45.0,
                                                                      seconds=90.0))
    panel = shown(DriftPanel, scene_of(status=status(motion=[motion])), (900, 260))
    for strip, level, speed in zip(panel.strips, (12.0, -4.0), (0.2, -0.1), strict=True):
        x, y = strip.ahead.getData()
        assert x[0] == 59
        assert x[-1] > 65
        np.testing.assert_allclose(y, level + speed * (x - 59))
        width = strip.ahead_band.high - strip.ahead_band.low
        assert width[0] == pytest.approx(1.2)
        assert np.all(np.diff(width) >= 0)
        assert strip.leaving.isVisible()
        assert strip.leaving.getRegion() == (79.0, 104.0)
    assert "leaves the view in 30 frames (20 to 45, 90 %), 90 s" in panel._legend.text()
    assert panel.timeline.ahead > 5
    panel.refresh(scene_of(status=status(motion=[motion]), behind=3))   # paused: the forecast is about later frames
    assert not panel.strips[0].ahead.isVisible()


def test_jitter_and_its_size(shown: Callable[..., Any]) -> None:
    panel = shown(JitterPanel, scene_of())
    known = [index for index in range(60) if index != 30]
    expected = {axis: np.array([getattr(make_row(index), f"jitter_{axis}_px") for index in known]) for axis in "yx"}
    for axis, curve in panel.curves.items():
        np.testing.assert_allclose(curve.getData()[1], expected[axis])
        rms = np.sqrt(np.mean(expected[axis]**2))
        assert f"{axis} {rms:.2f} px ({rms * 21:.0f}" in panel._legend.text() or f"{axis} {rms:.2f} px" in (
            panel._legend.text())


def test_displacements_count_every_frame_once(shown: Callable[..., Any], qtbot: Any) -> None:
    panel = shown(DisplacementsPanel, scene_of())
    for item in panel.steps.values():
        edges, counts = item.getData()
        assert counts.sum() == 59
        assert len(edges) == len(counts) + 1
    jitter_edge = panel.steps["y"].getData()[0][-1]
    assert panel.plot.getAxis("bottom").labelText == "jitter / px"
    panel.toggle_choice()
    assert panel.plot.getAxis("bottom").labelText == "drift / px"
    assert panel.steps["y"].getData()[0][-1] > 3 * jitter_edge
    assert "59 frames" in panel._legend.text()


def test_blur_ellipses_lie_where_the_frames_are(shown: Callable[..., Any]) -> None:
    panel = shown(PathPanel, scene_of())
    assert panel.ellipses.count == 4
    assert "ellipses: blur" in panel._legend.text()
    row = make_row(8)
    one = outlines(*(np.array([number]) for number in (row.drift_x_px, row.drift_y_px, 6.0, 0.5, 90.0)))[0]
    middle, size = (one.max(axis=0) + one.min(axis=0)) / 2, np.ptp(one, axis=0)
    np.testing.assert_allclose(middle, (row.drift_x_px, row.drift_y_px), atol=1e-9)
    np.testing.assert_allclose(size, (3.0, 6.0), rtol=1e-6)   # along y: 90 degrees
    up = outlines(*(np.array([number]) for number in (0.0, 0.0, 6.0, 0.01, 45.0)))[0]
    assert up[0, 0] > 0 > up[0, 1]   # to the right and up, where y is smaller


def test_amplitudes_and_directions_are_counted(shown: Callable[..., Any]) -> None:
    flow = make_flow(59)
    panel = shown(FlowHistogramsPanel, scene_of(flow=flow))
    found = moved(flow)
    assert panel.all.getData()[1].sum() == flow.valid.sum()
    assert panel.above.getData()[1].sum() == panel.ways.getData()[1].sum() == found.above.sum()
    assert "59 against 0" in panel._legend.text()
    assert f"{found.above.sum()} of {flow.valid.sum()} points" in panel._legend.text()


def test_the_area_of_a_wedge_is_its_number_of_points(shown: Callable[..., Any]) -> None:
    flow = make_flow(59)
    panel = shown(CompassPanel, scene_of(flow=flow))
    radii = panel.dial.radii()
    assert radii.shape == (BANDS, SECTORS)
    counts = panel.dial.rose.counts.sum(axis=0)
    np.testing.assert_allclose(radii[-1]**2 * counts.max(), counts)
    assert radii.max() == 1.0
    assert "below the noise" in panel._legend.text()
    still = msgspec.structs.replace(flow, displacement_px=np.zeros_like(flow.displacement_px))
    panel.refresh(scene_of(flow=still))
    assert "moved further than its error" in panel.empty.text()


def test_strain_in_diverging_colours_about_zero(shown: Callable[..., Any]) -> None:
    flow = make_analysed_flow(59)
    panel = shown(StrainPanel, scene_of(flow=flow))
    image = panel.map.image.image
    assert image.shape == (*flow.valid.shape, 4)
    assert (image[..., 3] > 0).tolist() == flow.valid.tolist()
    inside = image[flow.valid][0]
    assert inside[0] > inside[2] + 50   # it swells: red
    assert "median +2.50 %" in panel._legend.text() or "median +2.5 %" in panel._legend.text()
    for name in [*list(QUANTITIES)[1:], "divergence"]:
        panel.next_quantity()
        assert panel.choice.currentText() == name
        assert name in panel.map.toolTip()
    panel.choice.setCurrentText("shear")
    inside = panel.map.image.image[flow.valid][0]
    assert inside[2] > inside[0] + 50   # the angle opens: blue


def test_regions_keep_their_colours(shown: Callable[..., Any]) -> None:
    flow = make_analysed_flow(59)
    panel = shown(RegionsPanel, scene_of(flow=flow), (900, 260))
    text = panel._legend.text()
    assert "2 regions" in text
    assert "0.80 px (16.8 nm) at 180°" in text
    assert "0.60 px (12.6 nm) at 0°" in text
    image = panel.map.image.image
    assert (image[..., 3] > 0).tolist() == flow.valid.tolist()
    colours = {number: painted(np.array([[number]], np.int16))[0, 0, :3].tolist() for number in (1, 3)}
    assert image[flow.regions == 3][0, :3].tolist() == colours[3]
    assert colour_name(3) == "#{:02x}{:02x}{:02x}".format(*colours[3])
    alone = msgspec.structs.replace(flow, regions=np.where(flow.regions == 3, 3, -1).astype(np.int16), analysis=None)
    panel.refresh(scene_of(flow=alone))
    assert panel.map.image.image[flow.regions == 3][0, :3].tolist() == colours[3]
    assert "one region" in panel._legend.text()


def cell(panel: Any, line: int, column: str) -> str:
    names = [each.name for each in COLUMNS]
    return str(panel.model.data(panel.model.index(line, names.index(column))))


def test_particles_are_listed_sorted_and_marked(shown: Callable[..., Any], qtbot: Any) -> None:
    panel = shown(ParticlesPanel, scene_of(flow=make_analysed_flow(59)), (900, 260))
    assert [cell(panel, line, "No.") for line in range(3)] == ["2", "5", "7"]
    assert cell(panel, 0, "Δy / px") == "+0.30 ± 0.03"
    assert cell(panel, 0, "Δx / px") == "-0.40 ± 0.12"
    assert cell(panel, 0, "turned / °") == "+1.2 ± 0.2"
    assert cell(panel, 2, "moved / px") == "–"
    assert "1 not measured" in panel._legend.text()
    column = [each.name for each in COLUMNS].index("moved / px")
    panel.table.sortByColumn(column, QtCore.Qt.SortOrder.DescendingOrder)
    assert [cell(panel, line, "No.") for line in range(3)] == ["5", "2", "7"]   # what was not measured comes last
    panel.table.sortByColumn(column, QtCore.Qt.SortOrder.AscendingOrder)
    assert [cell(panel, line, "No.") for line in range(3)] == ["2", "5", "7"]
    spot = panel.table.visualRect(panel.model.index(1, 0)).center()
    with qtbot.waitSignal(panel.marked) as signal:
        qtbot.mouseClick(panel.table.viewport(), QtCore.Qt.MouseButton.LeftButton, pos=spot)
    assert signal.args[0] == Place(100.0, 150.0, pytest.approx(6.18, abs=0.01), "particle 5")
    with qtbot.waitSignal(panel.marked) as signal:
        panel.refresh(scene_of(flow=make_analysed_flow(60)))
    assert signal.args[0].text == "particle 5"
    with qtbot.waitSignal(panel.marked) as signal:
        qtbot.mouseClick(panel.table.viewport(), QtCore.Qt.MouseButton.LeftButton, pos=spot)
    assert signal.args[0] is None


def test_the_smallest_volume_that_stands_for_the_whole(shown: Callable[..., Any]) -> None:
    flow = make_analysed_flow(59)
    panel = shown(VolumePanel, scene_of(flow=flow), (900, 260))
    np.testing.assert_allclose(panel.curves[0].getData()[1][:3], np.array([0.35, 0.14, 0.05]) / 0.7, rtol=1e-6)
    np.testing.assert_allclose(panel.curves[1].getData()[1], np.radians([40.0, 12.0, 4.0, 2.0]))
    assert panel.minimum.isVisible()
    assert panel.minimum.value() == 110.0
    assert "110 px (2.3 µm)" in panel._legend.text()
    never = dict(flow.analysis["representative_volume"], direction_settled_px=None)
    panel.refresh(scene_of(flow=msgspec.structs.replace(flow, analysis={"representative_volume": never})))
    assert not panel.minimum.isVisible()
    assert "none: too small a view" in panel._legend.text()


@pytest.mark.parametrize("analysis", [
    {}, {"particles": 3, "regions": "none", "representative_volume": []}, {"representative_volume": None},
    {"particles": [{"number": "x"}, 3, None], "regions": [{}], "representative_volume": {"size_px": [1.0]}},
    {"representative_volume": {"size_px": [1.0, 2.0], "amplitude_deviation_px": [0.1],
                               "direction_deviation_deg": [3.0, 2.0]}},
    {"particles": [], "particles_reason": "contrast too low", "regions": []},
])
@pytest.mark.parametrize("kind", OF_FIELDS)
def test_what_cannot_be_read_of_an_analysis_is_not_there(
    kind: type[Panel], analysis: dict[str, Any], shown: Callable[..., Any],
) -> None:
    panel = shown(kind, scene_of(5, flow=msgspec.structs.replace(make_flow(4), analysis=analysis)))
    if kind in (ParticlesPanel, VolumePanel, StrainPanel, RegionsPanel):
        assert panel.empty.text()
    if kind is ParticlesPanel and "particles_reason" in analysis:
        assert "contrast too low" in panel.empty.text()


def test_a_field_without_a_valid_point_is_named(shown: Callable[..., Any]) -> None:
    nothing = make_flow(4)
    nothing = msgspec.structs.replace(
        make_analysed_flow(4), valid=np.zeros_like(nothing.valid), regions=np.full(nothing.valid.shape, -1, np.int16),
        strain=np.full((8, *nothing.valid.shape), np.nan, np.float32))
    for kind in (FlowHistogramsPanel, CompassPanel, StrainPanel, RegionsPanel):
        assert "valid" in shown(kind, scene_of(5, flow=nothing)).empty.text()


def test_the_reference_itself_is_not_shown_as_a_sample_at_rest(shown: Callable[..., Any]) -> None:
    itself = make_analysed_flow(0)
    itself = msgspec.structs.replace(itself, displacement_px=np.zeros_like(itself.displacement_px))
    for kind in OF_FIELDS:
        assert "frame 0 is the reference itself" in shown(kind, scene_of(5, flow=itself)).empty.text()


def test_the_newest_analysis_stays_while_fields_come_without(shown: Callable[..., Any]) -> None:
    store, plain = Store(), make_flow(61)
    kept = make_analysed_flow(59)
    for extra in ("strain", "regions", "analysis"):
        store._analysed["A", extra] = kept   # type: ignore[index]
    for kind in (StrainPanel, RegionsPanel, ParticlesPanel, VolumePanel):
        panel = shown(kind, scene_of(5, store=store, flow=plain))
        assert "59 against 0" in panel._legend.text()
        other = shown(kind, scene_of(5, store=store, flow=plain, view="B"))
        assert "frame 61" in other.empty.text()


def test_a_selected_frame_has_its_own_field(shown: Callable[..., Any]) -> None:
    from monitor.shelf import Found

    class Shelf:
        def flow(self, key: Any, *, place: str) -> Found:
            return Found(make_analysed_flow(key.index)) if key.index < 10 else Found(why="on its way")

    for kind in OF_FIELDS:
        panel = shown(kind, scene_of(flow=make_analysed_flow(59), selected=Key("scan-1", 7), shelf=Shelf()))
        assert panel.flow.index == 7
        panel.refresh(scene_of(flow=make_analysed_flow(59), selected=Key("scan-1", 12), shelf=Shelf()))
        assert panel.empty.text() == "on its way"
        panel.refresh(scene_of(flow=make_analysed_flow(59)))
        assert not panel.empty.isVisible()


def test_all_charts_fit_where_they_are_small(shown: Callable[..., Any]) -> None:
    flow: FlowResult = make_analysed_flow(59)
    for kind in (*OF_ROWS, *OF_FIELDS):
        panel = shown(kind, scene_of(flow=flow), (320, 140))
        assert panel.minimumSizeHint().width() <= 330, kind
        assert not panel.grab().isNull()
        assert isinstance(panel, QtWidgets.QFrame)


def test_a_particle_is_ringed_on_the_picture(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    streamer.flow(make_analysed_flow(59, drift_y_px=4.0, drift_x_px=-2.0))
    qtbot.waitUntil(lambda: filled.store.analysed("analysis", "A") is not None)
    filled.refresh_now()
    filled.docks.show(ParticlesPanel)
    table, spot = filled.panel(ParticlesPanel).table, filled.panel(FramePanel).spot
    filled.refresh_now()
    qtbot.mouseClick(table.viewport(), QtCore.Qt.MouseButton.LeftButton,
                     pos=table.visualRect(table.model().index(1, 0)).center())
    seen = filled.panel(FramePanel)._seen
    (x,), (y,) = spot.getData()
    assert (y, x) == pytest.approx((100.0 + seen.drift[0], 150.0 + seen.drift[1]))
    assert spot.isVisible()
    filled.panel(FramePanel).mark(None)
    assert not spot.isVisible()


def test_a_band_that_is_wider_than_the_drift_can_be_seen(shown: Callable[..., Any]) -> None:
    rows = [make_row(index, drift_sigma_px=9.0) for index in range(60)]
    strip = shown(DriftPanel, scene_of(charts=charts_of(rows))).strips[1]
    low, high = strip.plot.getViewBox().viewRange()[1]
    band = strip.bands[0]
    assert low <= band.low.min() < band.high.max() <= high


def test_displacements_of_two_views_are_two_lines(shown: Callable[..., Any]) -> None:
    rows = [make_row(index, view="AB"[index % 2], flow_median_px=0.1 if index % 2 else 2.0) for index in range(20)]
    panel = shown(DeformationPanel, scene_of(charts=charts_of(rows)))
    x, y = panel.curves["flow_median_px"].getData()
    gap = int(np.flatnonzero(np.isnan(y))[0])
    np.testing.assert_allclose(y[:gap], 2.0)
    np.testing.assert_allclose(y[gap + 1:], 0.1)
    assert x[:gap].tolist() == list(range(0, 20, 2))
    assert panel.dots["flow_median_px"].ids.tolist() == [*range(0, 20, 2), *range(1, 20, 2)]


def test_a_single_jitter_can_be_seen(shown: Callable[..., Any]) -> None:
    rows = [make_row(index, jitter_y_px=0.3 if index == 7 else None) for index in range(20)]
    panel = shown(JitterPanel, scene_of(charts=charts_of(rows)))
    assert panel.dots["y"].getData()[0].tolist() == [7]
    assert shown(JitterPanel, scene_of(400)).dots["y"].x.size == 0   # lines are enough
