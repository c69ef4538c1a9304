"""The numbers behind what is shown, as columns with names like those of the session's files. No Qt."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monitor.rows import VERDICTS, Charts
from streamer.records import FlowResult

Table = Mapping[str, Sequence[object]]


def frames_table(charts: Charts, names: Sequence[str], *, within: tuple[float, float] | None = None) -> Table:
    """Return columns of frames, all that are behind a chart and not only those that there is room to draw.

    Parameters
    ----------
    charts : Charts
    names : sequence of str
        Of ``charts.numbers``.
    within : (float, float), optional
        Part of the frame axis.
    """
    low, high = within or (-math.inf, math.inf)
    some = np.flatnonzero((charts.order >= low) & (charts.order <= high))
    begins = np.array([start.order for start in charts.starts])
    which = np.searchsorted(begins, charts.order[some], side="right") - 1
    return {
        "acquisition": [charts.starts[max(number, 0)].acquisition for number in which.tolist()],
        "index": charts.numbers["index"][some].astype(np.int64).tolist(),
        "view": [charts.views[number] for number in charts.view[some].tolist()],
        "verdict": [VERDICTS[number] for number in charts.verdict[some].tolist()],
        **{name: charts.numbers[name][some].tolist() for name in names},
    }


def field_table(flow: FlowResult | None, **more: Any) -> Table:
    """Return the points of a field, a line each, with further values on its grid; empty without a field."""
    if flow is None:
        return {}
    y, x = np.meshgrid(flow.grid_y_px, flow.grid_x_px, indexing="ij")
    columns = {"y_px": y, "x_px": x, **(more or {
        "displacement_y_px": flow.displacement_px[0], "displacement_x_px": flow.displacement_px[1],
        "sigma_px": flow.sigma_px, "valid": flow.valid.astype(int)})}
    return {name: values.ravel().tolist() for name, values in columns.items()}


def steps_table(name: str, edges: Any, **counts: Any) -> Table:
    """Return a histogram: lower and upper edge of each bin, and how many are in it."""
    edges = np.asarray(edges, float)
    return {f"{name}_from": edges[:-1].tolist(), f"{name}_to": edges[1:].tolist(),
            **{what: np.asarray(number).tolist() for what, number in counts.items()}}


def is_empty(table: Table) -> bool:
    """Tell whether there is no line in a table."""
    return not any(len(column) for column in table.values())


def as_csv(table: Table) -> bytes:
    r"""Write a table as text, UTF-8; what is missing is empty.

    >>> as_csv({"a_px": [1.5, math.nan], "b": ["x"]})
    b'a_px,b\r\n1.5,x\r\n,\r\n'
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table)
    for line in itertools.zip_longest(*table.values()):
        writer.writerow(["" if value is None or value != value else value for value in line])  # noqa: PLR0124  (NaN)
    return text.getvalue().encode()
