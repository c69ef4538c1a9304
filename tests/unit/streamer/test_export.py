from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from streamer.errors import SessionError
from streamer.export import FRAME_COLUMNS, export_session
from streamer.journal import Batch, Journal
from streamer.records import FlowResult, FrameRow


def _session(folder: Path) -> Path:
    row = FrameRow(index=3, acquisition="a", view="main", kind="projection", provisional=True,
                   drift_y_px=0.1 + 0.2, problems='odd, "quoted"; text')
    flows = [FlowResult(index=3, acquisition=name, view="main", reference_index=0, drift_y_px=0.0, drift_x_px=0.0,
                        grid_y_px=np.arange(size, dtype=np.float32), grid_x_px=np.arange(2, dtype=np.float32),
                        displacement_px=np.ones((2, size, 2), np.float32), valid=np.ones((size, 2), bool),
                        sigma_px=np.ones((size, 2), np.float32)) for name, size in (("a", 2), ("b/c", 5))]
    with Journal(folder, create=True) as journal:
        journal.write(Batch(rows=[(1, row)], flows=flows, settings=[(0, "pixel_size_nm = 33.24", "x")]))
    return folder


def test_a_table_reads_back_to_the_last_bit(tmp_path: Path) -> None:
    export_session(_session(tmp_path))
    with (tmp_path / "frames.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["drift_y_px"]) == 0.1 + 0.2
    assert (row["provisional"], row["verdict"], row["problems"]) == ("1", "", 'odd, "quoted"; text')


def test_tables_and_plots_tell_which_frames_stand(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [FrameRow(index=index, acquisition=name, view="main", kind="projection", verdict=verdict, recollects=number,
                     drift_y_px=float(index), blur_length_px=0.5)
            for name, index, verdict, number in (("a", 0, "sharp", None), ("a", 1, "blurred", None),
                                                 ("b", 1, "blurred", None), ("a", 2, "sharp", 1))]
    with Journal(tmp_path, create=True) as journal:
        journal.write(Batch(rows=list(enumerate(rows, start=1)), settings=[(0, "", "x")]))
    export_session(tmp_path, complete=True)
    with (tmp_path / "frames.csv").open(newline="") as file:
        assert [line["replaced_by"] for line in csv.DictReader(file)] == ["", "2", "", ""]
    assert parquet.read_table(tmp_path / "frames.parquet").column("replaced_by").to_pylist() == [None, 2, None, None]
    with h5py.File(tmp_path / "session.nxs") as file:
        assert file["entry/frames/index"][()].tolist() == [0, 1, 1, 2]
        assert file["entry/drift/drift_y_px"][()].tolist() == [0, 2, 1]
        assert file["entry/sharpness/index"][()].tolist() == [0, 2, 1]


def test_fields_of_two_acquisitions_and_grids_live_in_one_file(tmp_path: Path) -> None:
    export_session(_session(tmp_path))
    with h5py.File(tmp_path / "flow.h5") as file:
        assert sorted(file["frames"]) == ["000003", "000003@b_c"]
        assert file["grid_y_px"].size == 2
        assert "grid_y_px" not in file["frames/000003"]
        assert file["frames/000003@b_c/grid_y_px"].size == 5


def test_the_summary_says_what_is_in_force(tmp_path: Path) -> None:
    export_session(_session(tmp_path))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["settings"] == {"pixel_size_nm": 33.24}
    assert summary["counts"]["with_problems"] == 1


def test_a_failing_write_leaves_the_file_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_session(_session(tmp_path))
    before = (tmp_path / "frames.csv").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("streamer.export.write_frames", full)
    with pytest.raises(SessionError, match=r"frames\.csv.*No space left"):
        export_session(tmp_path)
    assert (tmp_path / "frames.csv").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    _session(tmp_path / "s")
    (tmp_path / "file").write_text("")
    with pytest.raises(SessionError, match="file"):
        export_session(tmp_path / "s", tmp_path / "file" / "out")


def test_a_nexus_file_tells_classes_units_and_the_plot_to_draw(tmp_path: Path) -> None:
    files = export_session(_session(tmp_path), complete=True)
    assert {path.name for path in files} >= {"session.nxs", "spectra.h5", "frames.parquet", "alerts.parquet"}
    with h5py.File(tmp_path / "session.nxs") as file:
        entry = file[file.attrs["default"]]
        assert entry.attrs["NX_class"] == "NXentry"
        plot = entry[entry.attrs["default"]]
        assert plot.attrs["NX_class"] == "NXdata"
        assert plot[plot.attrs["signal"]][()].tolist() == [0.1 + 0.2]
        assert plot[plot.attrs["signal"]].attrs["units"] == "pixel"
        assert plot[plot.attrs["axes"]][()].tolist() == [3]
        assert entry["process"].attrs["NX_class"] == "NXprocess"
        assert entry["process/program"].asstr()[()] == "txm-live"
        assert entry["process/settings/toml"].asstr()[()] == "pixel_size_nm = 33.24"
        assert np.isnan(entry["frames/blur_length_px"][0])
        assert entry["frames/problems"].asstr()[0] == 'odd, "quoted"; text'
        assert set(entry["frames"]) == set(FrameRow.__struct_fields__)
        field = entry["displacement_000000"]
        assert field[field.attrs["signal"]].shape == (2, 2, 2)
        assert [field[name].shape[0] for name in field.attrs["axes"]] == [2, 2, 2]
        assert field.attrs["acquisition"] == "a"


def test_tables_as_parquet_keep_numbers_texts_and_units(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    export_session(_session(tmp_path), complete=True)
    table = parquet.read_table(tmp_path / "frames.parquet")
    assert table.column_names == list(FRAME_COLUMNS)
    assert table.column("drift_y_px").to_pylist() == [0.1 + 0.2]
    assert table.column("verdict").to_pylist() == [None]
    assert table.schema.field("drift_y_px").metadata == {b"unit": b"pixel"}
    assert parquet.read_table(tmp_path / "alerts.parquet").num_rows == 0


def test_without_pyarrow_the_other_files_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.export.importlib.util.find_spec", lambda _: None)
    names = {path.name for path in export_session(_session(tmp_path), complete=True)}
    assert "session.nxs" in names
    assert not {name for name in names if name.endswith(".parquet")}
