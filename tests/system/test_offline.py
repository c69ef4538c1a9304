"""Recordings through the whole pipeline, without sockets."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import msgspec
import numpy as np
import pytest
from support.acquisitions import acquisition, received

from streamer.errors import RecordingError
from streamer.journal import Journal
from streamer.records import EndOfAcquisition, Frame, FrameRow, Refusal
from streamer.service.offline import analyse
from streamer.settings import load

CLOCK_COLUMNS = {"received_at", "latency_ms"}


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "frames.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name not in CLOCK_COLUMNS}
                for row in csv.DictReader(file)]


def projections(folder: Path) -> list[dict[str, str]]:
    return [row for row in table(folder) if row["kind"] == "projection"]


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return acquisition(14, seed=11, blurred=(6, 9))


@pytest.fixture(scope="module")
def session(frames: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("offline") / "session"
    analyse([*received(frames), EndOfAcquisition(acquisition="scan")], load(), folder, name="test")
    return folder


def test_the_session_is_complete(session: Path) -> None:
    assert {path.name for path in session.iterdir()} >= {
        "session.sqlite", "frames.csv", "alerts.csv", "recollections.csv", "flow.h5", "summary.json"}
    summary = json.loads((session / "summary.json").read_text())
    assert summary["accounting"]["received"] == summary["accounting"]["measured"] == 16
    assert summary["counts"]["kinds"] == {"flat": 2, "projection": 14}
    assert summary["reference"] == {"main": 0}
    assert summary["settings"]["blur"]["tolerance_px"] == 3.0
    assert {"latency", "correct", "spectrum", "register", "flow"} <= set(summary["timing"]["stages"])
    assert summary["timing"]["frames_per_s"] > 0
    assert summary["versions"]["numpy"]


def test_the_table_has_the_promised_columns_in_order(session: Path) -> None:
    header = (session / "frames.csv").read_text().splitlines()[0].split(",")
    promised = [
        "index", "acquisition", "view", "kind", "exposed_at", "received_at", "verdict", "provisional", "blur_length_px",
        "blur_length_sigma_px", "blur_angle_deg", "blur_score", "blur_limit_px", "psf_group", "drift_y_px",
        "drift_x_px", "drift_sigma_px", "rotation_deg", "trend_y_px", "trend_x_px", "jitter_y_px", "jitter_x_px",
        "registration_quality", "reference_index", "flow_median_px", "flow_p95_px", "recollects", "problems",
        "revision", "latency_ms",
    ]
    assert header[:len(promised)] == promised


def test_drift_and_blur_are_found(session: Path) -> None:
    rows = projections(session)
    drift = np.array([[float(row["drift_y_px"]), float(row["drift_x_px"])] for row in rows])
    truth = np.arange(14)[:, None] * [0.7, -0.4]
    assert drift[0] == pytest.approx([0, 0])
    assert np.abs(drift - truth).max() < 0.25
    assert {int(row["index"]) for row in rows if row["verdict"] == "blurred"} == {6, 9}
    assert all(row["exposed_at"].endswith("Z") and "T" in row["exposed_at"] for row in rows)


def test_flats_and_darks_have_rows_without_verdict(session: Path) -> None:
    flats = [row for row in table(session) if row["kind"] == "flat"]
    assert [(row["index"], row["acquisition"], row["verdict"]) for row in flats] == [
        ("0", "scan/flat", ""), ("1", "scan/flat", "")]


def test_displacement_fields_are_written(session: Path) -> None:
    with h5py.File(session / "flow.h5") as file:
        rows, columns = file["grid_y_px"].size, file["grid_x_px"].size
        field = file["frames/000003"]
        assert field["displacement_px"].shape == (2, rows, columns)
        assert field["displacement_px"].dtype == np.float32
        assert field["valid"].dtype == bool
        assert field["sigma_px"].shape == (rows, columns)
        assert field.attrs["reference_index"] == 0
        assert field.attrs["drift_y_px"] == pytest.approx(2.1, abs=0.2)
        assert "000006" not in file["frames"]   # blurred: no made-up field


def test_alerts_are_written(session: Path) -> None:
    with (session / "alerts.csv").open(newline="") as file:
        alerts = list(csv.DictReader(file))
    assert {alert["rule"] for alert in alerts} == {"blurred_frame"}


@pytest.mark.parametrize("engine", [["engine.kind=inline"], ["engine.workers=1"], ["engine.workers=5"]])
def test_engine_and_workers_do_not_change_a_bit(
    frames: list[Frame], session: Path, tmp_path: Path, engine: list[str]
) -> None:
    analyse([*received(frames), EndOfAcquisition(acquisition="scan")], load(assignments=engine), tmp_path / "s")
    assert table(tmp_path / "s") == table(session)
    with h5py.File(tmp_path / "s" / "flow.h5") as one, h5py.File(session / "flow.h5") as other:
        assert list(one["frames"]) == list(other["frames"])
        for name in one["frames"]:
            np.testing.assert_array_equal(one[f"frames/{name}/displacement_px"],
                                          other[f"frames/{name}/displacement_px"])


def _damaged(frames: list[Frame]) -> list[Frame | Refusal]:
    """Replace projections 3, 4, 5 by another shape, another type, NaN; 7 by a page that cannot be read."""
    items: list[Frame | Refusal] = list(frames)
    change = {
        3: lambda frame: msgspec.structs.replace(frame, pixels=frame.pixels[:100]),
        4: lambda frame: msgspec.structs.replace(frame, pixels=frame.pixels.astype(np.float64)),
        7: lambda frame: Refusal(reason="page 7 is cut off", bucket="malformed", index=7, acquisition="scan"),
    }
    for position, frame in enumerate(frames):
        if frame.kind == "projection" and frame.index in change:
            items[position] = change[frame.index](frame)
    return items


def test_broken_frames_end_as_rows_with_a_reason_and_the_rest_is_as_without_them(
    frames: list[Frame], tmp_path: Path
) -> None:
    analyse([*received(_damaged(frames))], load(assignments=["flow.enabled=false"]), tmp_path / "damaged")
    rows = {int(row["index"]): row for row in projections(tmp_path / "damaged")}
    assert len(rows) == 14
    assert "100 x 328" in rows[3]["problems"]
    assert "float64" in rows[4]["problems"]
    assert rows[7]["problems"] == "page 7 is cut off"
    assert all(rows[index]["verdict"] == "" for index in (3, 4, 7))
    accounting = json.loads((tmp_path / "damaged" / "summary.json").read_text())["accounting"]
    assert accounting["refused"] == {"count": 2, "indices": [[3, 4]]}
    assert accounting["malformed"] == {"count": 1, "indices": [7]}
    assert accounting["missing"]["count"] == 0

    kept = [frame for frame in frames if frame.kind == "flat" or frame.index not in {3, 4, 7}]
    analyse([*received(kept)], load(assignments=["flow.enabled=false"]), tmp_path / "kept")
    undamaged = {int(row["index"]): row for row in projections(tmp_path / "kept")}
    assert all(rows[index] == row for index, row in undamaged.items())


def test_frames_with_nan_are_repaired_or_refused(frames: list[Frame], tmp_path: Path) -> None:
    few, many = (np.array(frames[2].pixels, np.float32) for _ in range(2))
    few[3, 4] = np.nan
    many[:50] = np.inf
    items = [msgspec.structs.replace(frames[2], pixels=pixels, index=index) for index, pixels in enumerate((few, many))]
    analyse([*received(items)], load(), tmp_path / "s")
    good, bad = projections(tmp_path / "s")
    assert good["drift_y_px"] == "0.0"
    assert "%" in bad["problems"]


def test_a_recording_that_breaks_off_leaves_what_was_measured(frames: list[Frame], tmp_path: Path) -> None:
    def broken() -> Iterator[Frame]:
        yield from received(frames[:8])
        raise RecordingError("the file ends here")

    with pytest.raises(RecordingError, match="ends here"):
        analyse(broken(), load(), tmp_path / "s")
    with Journal(tmp_path / "s") as journal:
        rows: list[FrameRow] = [row for _, row in journal.rows()]
    assert len(rows) == 8
    assert all(row.drift_y_px is not None for row in rows if row.kind == "projection")


def test_another_format_in_a_new_acquisition_gets_a_view_of_its_own(frames: list[Frame], tmp_path: Path) -> None:
    projection = [frame for frame in frames if frame.kind == "projection"][:3]
    cropped = [msgspec.structs.replace(frame, acquisition="crop", pixels=frame.pixels[:150]) for frame in projection]
    analyse([*received([*projection, *cropped])], load(assignments=["flow.enabled=false"]), tmp_path / "s")
    views = {row["acquisition"]: row["view"] for row in projections(tmp_path / "s")}
    assert views == {"scan": "main", "crop": "main 150 x 328 uint16"}
