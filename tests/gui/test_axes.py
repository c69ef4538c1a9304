"""Numbers beside charts: enough to read a scale, none over another."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyqtgraph.Qt import QtGui

from monitor.panels.base import ValueAxis

pytestmark = [pytest.mark.gui, pytest.mark.qt_log_ignore("propagateSizeHints", "XDG_RUNTIME_DIR")]


@pytest.mark.usefixtures("qapp")
@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.integers(36, 600))
@settings(max_examples=300, deadline=None)
def test_no_number_is_over_another_and_two_can_be_read(low: float, span: float, size: int) -> None:
    axis = ValueAxis("left")
    line = QtGui.QFontMetrics(axis.font()).height()
    values = sorted(value for _, some in axis.tickValues(low, low + span, size) for value in some)
    apart = [(after - before) * size / span for before, after in itertools.pairwise(values)]
    assert all(distance >= 0.8 * line for distance in apart)
    assert len(values) >= 2 or size < 2.5 * line


@pytest.mark.usefixtures("qapp")
def test_the_outermost_numbers_keep_their_digits() -> None:
    axis = ValueAxis("left")
    line = QtGui.QFontMetrics(axis.font()).height()
    (spacing, values), = axis.tickValues(-0.62, 1.1, 2.2 * line)
    written: list[Any] = axis.tickStrings(values, 1.0, spacing)
    assert [float(text) for text in written] == pytest.approx(list(values))
