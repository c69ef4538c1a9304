"""Figures from made-up arrays: the data and the labels are in them, at the size of a journal."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.imaging.flow import Field
from streamer.records import Alert
from streamer.report import drawing, figure_drift, figure_field, figure_pairs, figure_timeline, methods
from streamer.report.drawing import Scale

GRID_Y, GRID_X = (np.arange(4, end, 8, dtype=np.float32) for end in (120, 160))
NM = Scale(33.24)


def field(down: float, right: float, *, sigma: float = 0.05) -> Field:
    shape = GRID_Y.size, GRID_X.size
    way = np.stack([np.full(shape, down, np.float32), np.full(shape, right, np.float32)])
    return Field(GRID_Y, GRID_X, way, np.ones(shape, bool), np.full(shape, sigma, np.float32))


def path(count: int = 20) -> figure_drift.Path:
    time = np.arange(count, dtype=float)
    drift = np.stack([-3.0 * time, time])
    jitter = np.stack([np.sin(time), np.cos(time)])
    jitter[:, 0] = np.nan
    return figure_drift.Path(index=np.arange(count), time=time, time_unit="h", drift_px=drift,
                             sigma_px=np.full(count, 0.1), trend_px=drift - jitter, jitter_px=jitter,
                             verdict=["blurred" if place == 4 else "sharp" for place in range(count)])


def labels(drawn: drawing.Drawn) -> set[str]:
    found = set()
    for axis in drawn.figure.get_axes():
        found |= {axis.get_xlabel(), axis.get_ylabel(), axis.get_title(loc="left")}
    return found


def test_the_drift_is_drawn_as_it_is() -> None:
    drawn = figure_drift.draw(path(), None, NM)
    assert {"time (h)", "y drift (px)", "x drift (px)", "jitter (px)", "frames"} <= labels(drawn)
    lines = {line.get_label(): line for axis in drawn.figure.get_axes() for line in axis.get_lines()}
    assert lines["blurred frame"].get_xdata().tolist() == [4.0]
    assert drawn.numbers["path"]["drift_y_px"].tolist() == (-3.0 * np.arange(20)).tolist()
    assert list(drawn.numbers["path"])[:3] == ["index", "time_h", "verdict"]
    assert round(drawn.figure.get_size_inches()[0] * 25.4) == 180


def test_an_overlay_is_red_and_blue_where_frames_differ_and_grey_where_not() -> None:
    first, second = np.zeros((20, 20)), np.zeros((20, 20))
    first[:10], second[:, :10] = 1.0, 1.0
    second[0, 0] = np.nan
    painted = figure_drift.overlay(first, second)
    assert painted[5, 15].tolist() == [1.0, 0.0, 0.0]
    assert painted[15, 5].tolist() == [0.0, 0.0, 1.0]
    assert painted[5, 5].tolist() == [1.0, 1.0, 1.0]
    assert painted[15, 15].tolist() == [0.0, 0.0, 0.0]
    assert painted[0, 0].tolist() == [1.0, 1.0, 1.0]


def test_fields_of_two_pairs_meet_at_the_same_material() -> None:
    second = field(0.0, 1.0)
    second.displacement_px[1] = GRID_X + 16.0   # tells where a point of the second frame was
    pairs = [figure_pairs.Pair(3, 13, (0.0, 0.0), field(0.0, 0.0), (5.0, 2.0)),
             figure_pairs.Pair(13, 35, (0.0, 0.0), second, (5.0, 18.0))]
    both = figure_pairs.on_first(pairs)
    np.testing.assert_allclose(both.second_px[1][both.valid],
                               (np.broadcast_to(GRID_X, both.valid.shape) + 32.0)[both.valid], atol=1e-3)


def test_regions_are_where_fields_disagree() -> None:
    one, other = field(0.0, 0.0), field(0.0, 0.0)
    other.displacement_px[0, 2:6, 3:7] = 2.0
    other.displacement_px[1, 9:13, 13:17] = 1.0
    pairs = [figure_pairs.Pair(number, number + 1, (0.0, 0.0), one_field, (0.0, 0.0))
             for number, one_field in enumerate((one, other))]
    first, second = figure_pairs.disagreeing(figure_pairs.on_first(pairs))
    assert first.top_px <= GRID_Y[4] <= first.bottom_px
    assert first.left_px <= GRID_X[5] <= first.right_px
    assert second.top_px <= GRID_Y[11] <= second.bottom_px
    assert second.left_px <= GRID_X[15] <= second.right_px


def test_directions_are_those_of_the_conventions() -> None:
    for down, right, expected in ((0, 1, 0), (-1, 0, 90), (0, -1, 180), (1, 0, 270)):
        assert figure_field.angles(field(down, right)) == pytest.approx(expected)
    assert np.isnan(figure_field.angles(field(0.05, 0.0))).all()   # one error is no direction


@pytest.mark.parametrize(("scale", "unit"), [(NM, "nm"), (Scale(560.0), "µm"), (Scale(None), None)])
def test_lengths_are_in_px_and_on_the_sample_where_that_is_known(scale: Scale, unit: str | None) -> None:
    found = scale.unit(3.0)
    assert (found and found[0]) == unit
    assert ("px =" in scale.label("|u|")) == (unit is not None)
    assert scale.text(2.0).startswith("2.00 px")
    figure = drawing.new_figure(drawing.ONE_COLUMN_MM, 40)
    scale.also(figure.subplots(), "y", 3.0)
    children = figure.get_axes()[0].child_axes
    assert [child.get_ylabel() for child in children] == ([unit] if unit else [])


def test_the_timeline_marks_verdicts_and_alerts() -> None:
    verdicts = figure_timeline.Verdicts(
        np.arange(4), ["sharp", "blurred", "bad", "sharp"], np.array([0.2, 5.0, np.nan, 0.1]), np.full(4, 0.1),
        np.full(4, 1.2), np.arange(4.0), np.array([False, False, False, True]))
    alert = Alert(id=1, raised_at="2026-01-01T00:00:00Z", severity="MAJOR", rule="blurred_frame", text="a, \"b\"",
                  index=1)
    drawn = figure_timeline.draw(verdicts, [alert], NM, tolerance_px=3.0)
    shown = {text.get_text() for axis in drawn.figure.get_axes() for text in axis.get_legend().get_texts()}
    assert {"sharp (2)", "blurred (1)", "bad (1)", "taken again", "MAJOR"} <= shown
    assert drawing.as_csv(drawn.numbers["alerts"]).splitlines()[1] == '1,blurred_frame,MAJOR,1,"a, ""b"""'
    assert figure_timeline.draw(verdicts, [], NM, tolerance_px=3.0).numbers["alerts"]["index"] == []


def test_a_figure_is_the_same_every_time() -> None:
    drawn = figure_drift.draw(path(6), None, Scale(None))
    first = drawn.picture("png", dpi=40)
    assert first == drawn.picture("png", dpi=40)
    assert first.startswith(b"\x89PNG")
    assert drawn.picture("svg").lstrip().startswith(b"<?xml")


def test_numbers_are_written_in_full_and_what_is_not_available_is_empty() -> None:
    text = drawing.as_csv({"a_px": np.array([0.1, np.nan], np.float32), "valid": np.array([True, False]),
                           "name": [None, "x"]})
    assert text == "a_px,valid,name\n0.1,1,\n,0,x\n"


@pytest.mark.parametrize(("length", "expected"), [(7.3, 5.0), (0.21, 0.2), (1.0, 1.0), (999.0, 500.0)])
def test_round_lengths(length: float, expected: float) -> None:
    assert drawing.round_length(length) == pytest.approx(expected)


def test_settings_that_differ_are_listed_by_name() -> None:
    one, other = {"a": {"b": 1, "c": 2}, "d": None}, {"a": {"b": 1, "c": 3}, "d": 5.0}
    assert methods.changed_settings(one, other) == [["a.c", "2", "3"], ["d", "not set", "5.0"]]
