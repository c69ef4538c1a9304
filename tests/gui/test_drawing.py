"""The arithmetic of charts and overlays; it needs pyqtgraph, but no window."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyqtgraph.Qt import QtGui
from support.fake_streamer import make_flow

from monitor.panels.base import ElidedLabel
from monitor.panels.overlays import Arrows, arrow_segments, choose_gain, scale_bar, visible_arrows
from monitor.panels.parts import Combo
from monitor.panels.timeline import settle, thin
from monitor.theme import DARK, GLYPHS, LIGHT, SYMBOLS, screen_scale

pytestmark = [pytest.mark.gui, pytest.mark.qt_log_ignore("propagateSizeHints", "XDG_RUNTIME_DIR")]


@given(st.integers(0, 5000), st.integers(10, 600), st.integers(0, 99))
def test_thinning_keeps_extremes_and_stays_below_the_limit(count: int, most: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = np.arange(float(count)), random.normal(size=count)
    y[random.random(count) < 0.2] = np.nan
    low, high = 0.1 * count, 0.9 * count
    some = thin(x, y, low, high, most=most)
    inside = np.flatnonzero((x >= low) & (x <= high))
    assert some.size <= most
    assert np.all(np.diff(some) > 0)
    assert np.isin(some, inside).all()
    if inside.size <= most:
        assert some.tolist() == inside.tolist()


def test_thinning_finds_the_one_tall_point_among_many() -> None:
    y = np.zeros(100_000)
    y[43_210] = 9.0
    assert 43_210 in thin(np.arange(100_000.0), y, 0, 1e6)


def test_ranges_move_only_when_they_must() -> None:
    start = settle((0.0, -1.0), 2.0, 12.0, least=1.0)
    assert start[0] < 2.0
    assert start[1] > 12.0
    assert settle(start, 2.5, 12.5, least=1.0) == start
    assert settle(start, 2.0, 40.0, least=1.0) != start
    assert settle(start, 6.0, 6.1, least=1.0) != start


def test_arrows_leave_out_noise_and_invalid_points() -> None:
    flow = make_flow(0)
    base, vector = visible_arrows(flow, (3.0, -2.0), spacing_px=8.0)
    y, x = np.meshgrid(flow.grid_y_px, flow.grid_x_px, indexing="ij")
    size = np.hypot(*flow.displacement_px)
    expected = flow.valid & (size > np.where(np.isfinite(flow.sigma_px), 0.2, 0.1))
    assert len(base) == expected.sum()
    np.testing.assert_allclose(base[:, 0], y[expected] + 3.0)
    np.testing.assert_allclose(base[:, 1], x[expected] - 2.0)
    np.testing.assert_allclose(vector, flow.displacement_px[:, expected].T)


def test_arrows_get_sparse_with_the_spacing() -> None:
    flow = msgspec.structs.replace(make_flow(0), valid=np.ones_like(make_flow(0).valid))
    counts = [len(visible_arrows(flow, (0, 0), spacing_px=spacing)[0]) for spacing in (8.0, 16.0, 40.0)]
    assert counts[0] > 3 * counts[1] > 9 * counts[2] > 0


@pytest.mark.parametrize(("longest", "gain"), [(0.01, 50), (0.5, 20), (1.0, 10), (3.0, 5), (11.0, 1), (50.0, 1)])
def test_the_gain_is_round_and_fills_the_room(longest: float, gain: int) -> None:
    vector = np.array([[0.0, longest]], np.float32)
    assert choose_gain(1, vector, 15.0) == gain or (longest == 11.0 and gain == 1)


def test_the_gain_stays_while_it_fits() -> None:
    assert choose_gain(10, np.array([[0.0, 0.6]], np.float32), 15.0) == 10
    assert choose_gain(10, np.array([[0.0, 0.2]], np.float32), 15.0) == 50


def test_an_arrow_points_where_the_material_went() -> None:
    base, vector = np.array([[10.0, 20.0]], np.float32), np.array([[0.0, 8.0]], np.float32)
    shaft, *barbs = arrow_segments(base, vector, head=3.0)
    assert shaft.tolist() == [20.0, 10.0, 28.0, 10.0]
    for barb in barbs:
        assert barb[:2].tolist() == [28.0, 10.0]
        assert barb[2] == pytest.approx(25.0)


@pytest.mark.parametrize(("width", "size", "text"), [
    (678, 33.22, "2 µm"), (678, None, "100 px"), (2048, 20.0, "5 µm"), (320, 5.0, "200 nm"), (100, 1e4, "200 µm"),
])
def test_scale_bar_is_round_and_about_a_fifth(width: int, size: float | None, text: str) -> None:
    length, words = scale_bar(width, size)
    assert words == text
    assert 0.08 * width <= length <= 0.2 * width


@pytest.mark.parametrize("theme", [DARK, LIGHT])
def test_states_differ_in_colour_shape_and_word(theme: object) -> None:
    words = ("sharp", "blurred", "undecided", "bad", "refused")
    assert len({theme.verdict_colour(word) for word in words}) == 5  # type: ignore[attr-defined]
    assert len({SYMBOLS[word] for word in words}) == len({GLYPHS[word] for word in words}) == 5


def luminance(colour: str) -> float:
    parts = np.array([int(colour[at:at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("theme", [DARK, LIGHT])
def test_text_has_contrast(theme: object) -> None:
    def contrast(one: str, other: str) -> float:
        bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
        return (bright + 0.05) / (dark + 0.05)

    for ground in (theme.background, theme.surface):  # type: ignore[attr-defined]
        for name in ("text", "dim", "ok", "minor", "major", "invalid"):
            assert contrast(getattr(theme, name), ground) >= 4.5, name
    for state in ("ok", "minor", "major", "invalid"):
        assert contrast(theme.on_state, getattr(theme, state)) >= 4.5, state  # type: ignore[attr-defined]


def test_large_screens_get_large_letters() -> None:
    assert [screen_scale(height) for height in (768, 1080, 1440, 2160)] == [1.0, 1.0, 1.0, 1.8]


def test_legends_leave_out_what_does_not_fit_and_cut_no_word(qtbot: object) -> None:
    runs = [("   y -153.6 px", None), ("   leaves the view", None), (" in 32 frames", None)]
    label = ElidedLabel(whole=True)
    qtbot.addWidget(label)  # type: ignore[attr-defined]
    label.set_runs(runs)
    width = label.fontMetrics().horizontalAdvance("".join(text for text, _ in runs[:2]))
    assert label.fitting(width + 40) == [*runs[:2], (" …", None)]
    assert label.fitting(2000) == runs
    label.set_runs(runs[:1])
    assert label.fitting(40)[0][0].endswith("…")
    assert label.toolTip() == "   y -153.6 px"


def test_the_arrow_of_a_list_grows_with_its_letters(qtbot: object) -> None:
    sizes = []
    for points in (10, 18):
        combo = Combo()
        qtbot.addWidget(combo)  # type: ignore[attr-defined]
        combo.addItem("")
        combo.setStyleSheet(f"QComboBox {{ background: #ffffff; color: #000000; border: none; font-size: {points}pt; }}"
                            "QComboBox::drop-down { border: none; } QComboBox::down-arrow { image: none; }")
        combo.resize(120, 60)
        image = combo.grab().toImage()
        sizes.append(sum(QtGui.QColor(image.pixel(x, y)).lightness() < 100 for x in range(60, 120) for y in range(60)))
    assert sizes[0] > 15
    assert sizes[1] > 2.2 * sizes[0]


def test_arrows_end_at_the_edge_of_the_picture(qapp: object) -> None:
    del qapp
    arrows = Arrows()
    arrows.set_flow(make_flow(0), (0.0, 0.0), shape=(240, 320), spacing_px=26.0, gain=50)
    image = QtGui.QImage(400, 300, QtGui.QImage.Format.Format_RGB32)
    image.fill(QtGui.QColor("black"))
    painter = QtGui.QPainter(image)
    arrows.paint(painter)
    painter.end()
    drawn = np.array([[QtGui.QColor(image.pixel(x, y)).lightness() > 100 for x in range(400)] for y in range(300)])
    assert drawn[:240, :320].sum() > 500
    assert not drawn[240:].any()
    assert not drawn[:, 320:].any()
