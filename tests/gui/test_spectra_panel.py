from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from support.fake_streamer import PIXEL_SIZE_NM, FakeStreamer, make_spectra

from monitor.panels.spectra import SpectraPanel, whole
from monitor.rows import Key
from monitor.window import Window

pytestmark = [pytest.mark.gui, pytest.mark.qt_log_ignore("propagateSizeHints", "XDG_RUNTIME_DIR")]


def show(window: Window, streamer: FakeStreamer, qtbot: Any, index: int, **fields: Any) -> SpectraPanel:
    streamer.image(index, spectra=make_spectra(index, **fields))
    qtbot.waitUntil(lambda: window.store.picture is not None and window.store.picture.index == index)
    window.refresh_now()
    panel: SpectraPanel = window.panel(SpectraPanel)
    window.docks.show(SpectraPanel)
    qtbot.waitUntil(lambda: window.docks.is_seen(panel))
    return panel


def test_frame_reference_noise_and_resolution_are_drawn(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    panel = show(filled, streamer, qtbot, 61)
    expected = make_spectra(61)
    for axis, name, length in (("x", "horizontal", 3.5), ("y", "vertical", 4.5)):
        chart = panel.directions[axis]
        x, y = chart.frame.getData()
        assert x[0] == pytest.approx(0.5 / 128)
        np.testing.assert_allclose(10.0**y, getattr(expected, name), rtol=1e-4)
        np.testing.assert_allclose(10.0 ** chart.reference.getData()[1], getattr(expected, f"reference_{name}"),
                                   rtol=1e-4)
        np.testing.assert_allclose(10.0 ** chart.noise.getData()[1], 0.005, rtol=1e-4)
        assert chart.mark.isVisible()
        assert chart.mark.value() == pytest.approx(0.5 / length)
        low, high = chart.plot.getViewBox().viewRange()[1]
        assert low < np.log10(0.005) < y.max() < high
    assert f"x: {3.5 * PIXEL_SIZE_NM:.0f} ± 1 nm" in panel._legend.text()
    assert panel.image.image.shape == (64, 64)


def test_half_periods_stand_above_the_frequencies(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    panel = show(filled, streamer, qtbot, 61)
    axis = panel.directions["x"].axis
    assert axis.tickStrings([0.1, 0.5], 1.0, 0.1) == [f"{5 * PIXEL_SIZE_NM:.0f}", f"{PIXEL_SIZE_NM:.0f}"]
    axis.pixel_size_nm = None
    assert axis.tickStrings([0.1, 0.5], 1.0, 0.1) == ["5", "1"]


def test_what_is_not_known_is_not_drawn(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    panel = show(filled, streamer, qtbot, 61)
    show(filled, streamer, qtbot, 62, reference_horizontal=None, reference_vertical=None, resolution_x_px=None,
         resolution_x_sigma_px=None, resolution_y_px=1.0, resolution_y_sigma_px=None)
    assert panel.directions["x"].reference.getData()[0].size == 0
    assert not panel.directions["x"].mark.isVisible()
    assert f"y: < {PIXEL_SIZE_NM:.0f} nm" in panel._legend.text()
    streamer.image(63)
    qtbot.waitUntil(lambda: filled.store.picture is not None and filled.store.picture.index == 63)
    filled.refresh_now()
    assert panel.image.image is None
    assert "no spectra yet" in panel.empty.text()


def test_the_picture_of_a_spectrum_is_completed_by_symmetry() -> None:
    half = np.arange(8).reshape(4, 2)
    full = whole(half)
    assert full.shape == (4, 4)
    np.testing.assert_array_equal(full, full[::-1, ::-1])
    np.testing.assert_array_equal(full[:, 2:], half)


def test_the_spectra_of_a_selected_frame_are_asked_for(filled: Window, streamer: FakeStreamer, qtbot: Any) -> None:
    streamer.answers["spectra"] = lambda index, acquisition: {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in msgspec.structs.asdict(make_spectra(index, acquisition=acquisition)).items()}
    panel = show(filled, streamer, qtbot, 59, reference_horizontal=None, reference_vertical=None)
    assert all(not curve.getData()[0].size for curve in panel.directions["x"].lost.curves)
    filled.commander.start()
    try:
        filled.select(Key("scan-1", 21))
        qtbot.waitUntil(lambda: panel.shown is not None and panel.shown.index == 21)
        assert panel._legend.text().startswith(" 21")
        for axis in "xy":   # the frame lost power against the reference: the ground between the two tells
            reference, frame = (curve.getData()[1] for curve in panel.directions[axis].lost.curves)
            assert np.all(frame <= reference)
            assert (reference - frame).max() > 0.1
        streamer.answers["spectra"] = lambda index, acquisition: {"index": "x"}
        filled.select(Key("scan-1", 34))
        qtbot.waitUntil(lambda: "the spectra of frame 34 cannot be had" in panel.empty.text())
        filled.select(None)
        qtbot.waitUntil(lambda: panel.shown is not None and panel.shown.index == 59)
    finally:
        filled.commander.stop()
