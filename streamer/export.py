"""Files derived from the journal: tables (``frames.csv``, ...), ``flow.h5``, ``summary.json``, NeXus, Parquet.

Each is written beside its place and moved there when whole, so a full disk leaves the old file as it was.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import importlib.util
import platform
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np

from streamer.clock import utc_text
from streamer.errors import SessionError
from streamer.journal import Journal
from streamer.nexus import unit_of, write_nexus
from streamer.records import Accounting, Alert, CalibrationState, FlowResult, FrameRow, Recollection, SpectraResult
from streamer.replacement import in_force, replaced_by

FRAME_COLUMNS = (*FrameRow.__struct_fields__, "replaced_by")
"""Of the tables of frames."""
_LIBRARIES = ("numpy", "scipy", "scikit-image", "opencv-python-headless", "pyzmq", "h5py", "tifffile", "msgspec")


def export_session(folder: Path, out: Path | None = None, *, complete: bool = False) -> list[Path]:
    """Write every derived file of a session.

    Parameters
    ----------
    folder : Path
        The session; it may still be written to by a streamer.
    out : Path, optional
        Where to; the session's own folder by default.
    complete : bool
        Write ``spectra.h5`` (12 kB a frame) and ``session.nxs``, too, and the tables as Parquet where pyarrow is
        installed.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    SessionError
        If there is no session, or a file cannot be written.
    """
    out = out or folder
    writers: dict[str, Callable[[Journal, Path], None]] = {
        "frames.csv": write_frames, "alerts.csv": write_alerts, "recollections.csv": write_recollections,
        "flow.h5": write_flow, "summary.json": write_summary}
    if complete:
        writers |= {"spectra.h5": write_spectra, "session.nxs": write_nexus}
        if importlib.util.find_spec("pyarrow") is not None:
            writers |= {"frames.parquet": write_frames_parquet, "alerts.parquet": write_alerts_parquet}
    written = []
    with Journal(folder) as journal:
        journal.snapshot()
        for name, write in writers.items():
            _replace(out / name, lambda path, write=write: write(journal, path))   # type: ignore[misc]
            written.append(out / name)
        journal.release()
    return written


def write_frames(journal: Journal, path: Path) -> None:
    """Write one line per frame, in order of arrival."""
    _write_table(path, FRAME_COLUMNS, _frames(journal))


def write_alerts(journal: Journal, path: Path) -> None:
    """Write one line per alert."""
    _write_table(path, Alert.__struct_fields__, map(msgspec.structs.asdict, (alert for _, alert in journal.alerts())))


def write_recollections(journal: Journal, path: Path) -> None:
    """Write one line per request to take a frame again."""
    names = [name for field in Recollection.__struct_fields__
             for name in (("stage_y_um", "stage_x_um") if field == "stage" else (field,))]
    _write_table(path, names, (_flat(request) for _, request in journal.recollections()))


def write_frames_parquet(journal: Journal, path: Path) -> None:
    """Write the table of frames as Parquet; units are in the metadata of the columns."""
    _write_parquet(path, FRAME_COLUMNS, list(_frames(journal)))


def write_alerts_parquet(journal: Journal, path: Path) -> None:
    """Write the table of alerts as Parquet."""
    _write_parquet(path, Alert.__struct_fields__, [msgspec.structs.asdict(alert) for _, alert in journal.alerts()])


def _frames(journal: Journal) -> Iterator[dict[str, Any]]:
    """Yield the rows with the number of the frame that stands in the place of each, one by one: there may be many."""
    again = [row for _, row in journal.rows() if row.recollects is not None]
    concerned = {(row.acquisition, index) for row in again for index in (row.index, row.recollects)}
    replaced = replaced_by(row for _, row in journal.rows() if (row.acquisition, row.index) in concerned)
    for _, row in journal.rows():
        yield msgspec.structs.asdict(row) | {"replaced_by": replaced.get((row.acquisition, row.index))}


def _write_parquet(path: Path, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow  # noqa: PLC0415  (optional)
    import pyarrow.parquet  # noqa: PLC0415

    columns = {name: pyarrow.array([row[name] for row in rows]) for name in names}
    fields = [pyarrow.field(name, column.type, metadata={"unit": unit_of(name)} if unit_of(name) else None)
              for name, column in columns.items()]
    table = pyarrow.table(list(columns.values()), schema=pyarrow.schema(fields))
    pyarrow.parquet.write_table(table, path)


def _flat(request: Recollection) -> dict[str, Any]:
    stage = request.stage
    return msgspec.structs.asdict(request) | {"stage_y_um": stage and stage.y_um, "stage_x_um": stage and stage.x_um}


def write_flow(journal: Journal, path: Path) -> None:
    """Write the displacement fields; fields of an equal grid share it at the top of the file."""
    _write_fields(journal.flows(), path, {})


def export_field(flow: FlowResult, path: Path, *, about: Mapping[str, str]) -> None:
    """Write one displacement field as a file like ``flow.h5``, with facts about it as attributes of the file.

    Raises
    ------
    SessionError
        If it cannot be written; a file of before is untouched then.
    """
    _replace(path, lambda part: _write_fields([flow], part, about))


def _write_fields(flows: Iterable[FlowResult], path: Path, about: Mapping[str, str]) -> None:
    first_acquisition: str | None = None
    with h5py.File(path, "w") as file:
        file.attrs.update(about)
        frames = file.create_group("frames")
        for flow in flows:
            first_acquisition = flow.acquisition if first_acquisition is None else first_acquisition
            group = frames.create_group(_group_name(flow, first_acquisition))
            for name in ("displacement_px", "valid", "sigma_px"):
                group[name] = getattr(flow, name)
            for name in ("reference_index", "drift_y_px", "drift_x_px", "acquisition", "view"):
                group.attrs[name] = getattr(flow, name)
            for name in ("grid_y_px", "grid_x_px"):
                grid = getattr(flow, name)
                if name not in file:
                    file[name] = grid
                elif not np.array_equal(file[name][()], grid):
                    group[name] = grid


def write_spectra(journal: Journal, path: Path) -> None:
    """Write the power spectra of every frame and of its reference."""
    first_acquisition: str | None = None
    with h5py.File(path, "w") as file:
        file.attrs["unit"] = "power per Fourier mode, relative to the squared mean brightness"
        file.attrs["frequency"] = "value k of n: 0.5 (k + 0.5) / n cycles/px"
        file.attrs["picture"] = ("log10(power) = picture_low + (picture_high - picture_low) * picture / 255; "
                                 "rows fy = -0.5 to 0.5, columns fx = 0 to 0.5 cycles/px")
        frames = file.create_group("frames")
        for spectra in journal.spectra():
            first_acquisition = spectra.acquisition if first_acquisition is None else first_acquisition
            group = frames.create_group(_group_name(spectra, first_acquisition))
            for name, value in msgspec.structs.asdict(spectra).items():
                if isinstance(value, np.ndarray):
                    group[name] = value
                elif value is not None and name != "index":
                    group.attrs[name] = value


def _group_name(result: FlowResult | SpectraResult, first_acquisition: str) -> str:
    """Name a frame; those of a further acquisition carry its name."""
    suffix = "" if result.acquisition == first_acquisition else "@" + result.acquisition.replace("/", "_")
    return f"{result.index:06d}{suffix}"


def write_summary(journal: Journal, path: Path) -> None:
    """Write counts, reference, settings, versions, timing and accounting."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(summary(journal)), indent=2) + b"\n")


def summary(journal: Journal) -> dict[str, Any]:
    """Summarise a session as plain data."""
    kinds: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    references: dict[str, int] = {}
    with_problems = 0
    taken_again = False
    for _, row in journal.rows():   # a long session has more of them than should be in memory at once
        kinds[row.kind] += 1
        taken_again = taken_again or row.recollects is not None
        with_problems += bool(row.problems)
        if row.verdict is not None:
            verdicts[row.verdict] += 1
        if row.reference_index is not None:
            references.setdefault(row.view, row.reference_index)
    meta = journal.meta()
    revision, toml = journal.settings()
    return {
        "session": meta.get("session", journal.folder.name),
        "input": meta.get("input"),
        "reanalysis_of": meta.get("reanalysis_of"),
        "started_at": utc_text(meta.get("started_at")),
        "ended_at": utc_text(meta.get("ended_at")),
        "counts": {"rows": sum(kinds.values()), "kinds": dict(kinds), "verdicts": dict(verdicts),
                   "with_problems": with_problems, "alerts": sum(1 for _ in journal.alerts()),
                   "in_force": (_counts_in_force(journal) if taken_again else
                                {"rows": sum(kinds.values()), "left_out": 0, "verdicts": dict(verdicts)}),
                   "recollections": dict(Counter(request.state for _, request in journal.recollections()))},
        "reference": references,
        "pixel_size_nm": meta.get("pixel_size_nm"),
        "calibration": meta.get("calibration", msgspec.to_builtins(CalibrationState())),
        "motion": meta.get("motion", []),
        "accounting": meta.get("accounting", msgspec.to_builtins(Accounting())),
        "accounting_by_acquisition": meta.get("accounting_by_acquisition", {}),
        "restarts": meta.get("restarts", []),
        "lost_rows": meta.get("lost_rows", []),
        "timing": meta.get("timing", {}),
        "settings": tomllib.loads(toml),
        "settings_revision": revision,
        "versions": {"txm-live": meta.get("version"), "python": platform.python_version(),
                     **{name: _version(name) for name in _LIBRARIES}},
    }


def _counts_in_force(journal: Journal) -> dict[str, Any]:
    """Count the frames that stand for the acquisition, where frames were taken again."""
    rows = [row for _, row in journal.rows()]
    standing = in_force(rows)
    return {"rows": len(standing), "left_out": len(rows) - len(standing),
            "verdicts": dict(Counter(row.verdict for row in standing if row.verdict is not None))}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:   # such as opencv-python in place of the headless build
        return "not installed"


def _write_table(path: Path, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([_cell(row[name]) for name in names] for row in rows)


def _cell(value: Any) -> Any:
    """Return a cell: empty for "not available", 1 or 0 for a bool."""
    if value is None:
        return ""
    return int(value) if isinstance(value, bool) else value


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    """Write `path` through a neighbour that takes its place when it is whole."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        part.replace(path)
    except (OSError, RuntimeError) as error:   # h5py raises either
        with contextlib.suppress(OSError):
            part.unlink()
        reason = getattr(error, "strerror", None) or error
        raise SessionError(f"cannot write {path}: {reason}; the file of before is untouched") from error
