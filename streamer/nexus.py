"""A session as one NeXus file: what was measured (``NXdata``), by what (``NXprocess``), with units.

NeXus: Könnecke et al., J. Appl. Cryst. 48, 301 (2015), :doi:`10.1107/S1600576714027575`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from streamer.clock import utc_text
from streamer.journal import Journal
from streamer.records import FlowResult, FrameRow
from streamer.replacement import in_force

UNITS = {"px": "pixel", "px2": "pixel^2", "nm": "nm", "um": "um", "deg": "degree", "ms": "ms", "s": "s", "ev": "eV"}
"""Last part of a column's name: its unit in NeXus."""

_TEXTS = frozenset({"acquisition", "view", "kind", "exposed_at", "received_at", "verdict", "problems", "blur_shape"})
_PLOTS: Mapping[str, tuple[str, ...]] = {
    "drift": ("drift_y_px", "drift_x_px", "drift_sigma_px", "trend_y_px", "trend_x_px", "jitter_y_px", "jitter_x_px"),
    "sharpness": ("blur_length_px", "blur_length_sigma_px", "blur_limit_px", "blur_angle_deg", "blur_score"),
}
"""Groups that a viewer can draw, of the frames in force; the first column is the signal."""


def write_nexus(journal: Journal, path: Path) -> None:
    """Write a session; what is not available is NaN, or an empty text."""
    meta = journal.meta()
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "entry"
        entry = _group(file, "entry", "NXentry", default="drift")
        entry["title"] = str(meta.get("session", journal.folder.name))
        for name, key in (("start_time", "started_at"), ("end_time", "ended_at")):
            text = utc_text(meta.get(key))
            if text is not None:
                entry[name] = text
        _write_process(entry, journal, meta)
        rows = [row for _, row in journal.rows()]
        _write_columns(_group(entry, "frames", "NXcollection"), rows)
        shots = in_force(row for row in rows if row.kind == "projection")
        for name, columns in _PLOTS.items():
            _write_plot(_group(entry, name, "NXdata", signal=columns[0], axes="index"), shots, columns)
        for number, flow in enumerate(journal.flows()):
            _write_field(_group(entry, f"displacement_{number:06d}", "NXdata", signal="displacement",
                                axes=["component", "y", "x"]), flow)


def unit_of(column: str) -> str:
    """Return the unit of a column by its name; empty where it has none.

    >>> unit_of("drift_y_px"), unit_of("verdict")
    ('pixel', '')
    """
    return UNITS.get(column.rpartition("_")[2], "")


def column_of(rows: Sequence[FrameRow], name: str) -> np.ndarray[Any, Any]:
    """Return one column of rows: float64 with NaN where nothing is available, or texts."""
    values = [getattr(row, name) for row in rows]
    if name in _TEXTS:
        return np.array(["" if value is None else str(value) for value in values], dtype=object)
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _group(parent: Any, name: str, kind: str, **attributes: Any) -> Any:
    group = parent.create_group(name)
    group.attrs["NX_class"] = kind
    group.attrs.update(attributes)
    return group


def _write_process(entry: Any, journal: Journal, meta: Mapping[str, Any]) -> None:
    process = _group(entry, "process", "NXprocess")
    process["program"] = "txm-live"
    process["version"] = str(meta.get("version", ""))
    process["sequence_index"] = 1
    parameters = _group(process, "settings", "NXparameters")
    revision, toml = journal.settings()
    parameters["toml"], parameters["revision"] = toml, revision
    if meta.get("pixel_size_nm"):
        parameters["pixel_size"] = float(meta["pixel_size_nm"])
        parameters["pixel_size"].attrs["units"] = "nm"


def _write_columns(group: Any, rows: Sequence[FrameRow]) -> None:
    for name in FrameRow.__struct_fields__:
        _write(group, name, column_of(rows, name))


def _write_plot(group: Any, rows: Sequence[FrameRow], columns: Sequence[str]) -> None:
    for name in ("index", *columns):
        _write(group, name, column_of(rows, name))


def _write_field(group: Any, flow: FlowResult) -> None:
    for name in ("index", "acquisition", "view", "reference_index", "drift_y_px", "drift_x_px"):
        group.attrs[name] = getattr(flow, name)
    group["component"] = np.array(["y", "x"], dtype=object)
    group["valid"] = flow.valid
    for name, values in (("displacement", flow.displacement_px), ("displacement_errors", flow.sigma_px),
                         ("y", flow.grid_y_px), ("x", flow.grid_x_px)):
        group[name] = values
        group[name].attrs["units"] = UNITS["px"]


def _write(group: Any, name: str, values: np.ndarray[Any, Any]) -> None:
    if values.dtype == object:
        group.create_dataset(name, data=values, dtype=h5py.string_dtype())
        return
    group[name] = values
    if unit_of(name):
        group[name].attrs["units"] = unit_of(name)
