from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np
import pytest
from support.acquisitions import acquisition, received
from support.live import live
from support.waiting import wait_until

from streamer.errors import CommandError
from streamer.export import export_session
from streamer.journal import Journal
from streamer.records import SpectraResult
from streamer.service.offline import analyse
from streamer.service.spectra import with_picture
from streamer.settings import load


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("session") / "s"
    frames = acquisition(7, seed=23, blurred=(5,))
    frames[-1] = msgspec.structs.replace(frames[-1], pixels=np.zeros_like(frames[-1].pixels))
    analyse(received(frames), load(assignments=["flow.enabled=false", "engine.kind=inline"]), folder)
    return folder


def test_every_measured_projection_has_its_spectra_also_a_bad_one(session: Path) -> None:
    with Journal(session) as journal:
        spectra = {found.index: found for found in journal.spectra()}
        rows = {row.index: row for _, row in journal.rows() if row.kind == "projection"}
    assert list(spectra) == list(range(7))
    assert rows[6].verdict == "bad"
    assert rows[6].resolution_x_nm is None
    assert spectra[0].reference_horizontal is None
    blurred, sharp = spectra[5], spectra[4]
    assert rows[5].verdict == "blurred"
    signal = {name: getattr(blurred, name)[4:10].mean() - blurred.floor for name in ("horizontal", "vertical")}
    usual = blurred.reference_horizontal[4:10].mean() - blurred.floor
    assert signal["horizontal"] < 0.7 * usual   # the blur is along x
    np.testing.assert_allclose(blurred.vertical[:6], sharp.vertical[:6], rtol=0.5)
    for index, row in rows.items():
        found = spectra[index]
        if row.verdict != "bad":
            assert row.resolution_x_nm == pytest.approx(33.24 * found.resolution_x_px)
            assert row.resolution_y_sigma_nm == pytest.approx(33.24 * found.resolution_y_sigma_px)
    assert rows[5].resolution_x_nm > 1.2 * rows[4].resolution_x_nm
    assert rows[5].resolution_y_nm == pytest.approx(rows[4].resolution_y_nm, rel=0.15)


def test_without_a_pixel_size_the_columns_are_empty_and_a_setting_goes_before_the_frame(tmp_path: Path) -> None:
    frames = [msgspec.structs.replace(frame, pixel_size_nm=size) for frame, size in
              zip(acquisition(2, seed=24, flats=0), (None, 10.0), strict=True)]
    found = []
    for name, assignments in (("none", []), ("set", ["pixel_size_nm=5"])):
        analyse(received(frames), load(assignments=["engine.kind=inline", *assignments]), tmp_path / name)
        with Journal(tmp_path / name) as journal:
            found += [row.resolution_x_nm for _, row in journal.rows()]
    assert found[0] is None
    assert found[2] is not None
    assert found[1] == pytest.approx(2 * found[3])


def test_a_file_of_spectra_is_written_on_request(session: Path, tmp_path: Path) -> None:
    assert not (session / "spectra.h5").exists()
    files = export_session(session, tmp_path, complete=True)
    assert tmp_path / "spectra.h5" in files
    with h5py.File(tmp_path / "spectra.h5") as file:
        group = file["frames/000005"]
        assert group["horizontal"].shape == group["reference_vertical"].shape
        assert group["picture"].shape == (64, 32)
        assert group.attrs["acquisition"] == "scan"
        assert group.attrs["floor"] > 0
        assert "reference_horizontal" not in file["frames/000000"]
        assert "cycles/px" in file.attrs["frequency"]


def test_spectra_are_answered_and_come_with_the_picture(tmp_path: Path) -> None:
    frames = acquisition(3, seed=25)
    with live(tmp_path / "s", "flow.enabled=false", "results.image_rate_hz=50") as running:
        running.sender.send(frames)
        pictures: list[Any] = []
        wait_until(lambda: bool(pictures) or _is_picture_with_reference(running.client.receive(0.1), pictures),
                   timeout_s=20.0)
        wait_until(lambda: len(running.client.history()["frames"]) == len(frames))
        answer = running.client.spectra(2)
        assert running.client.spectra(2, "scan") == answer
        for arguments, words in (({}, "index is None"), ({"index": 99}, "none of frame 99"), ({"index": True}, "True"),
                                 ({"index": 2**63}, "index"), ({"index": 0, "acquisition": 3}, "acquisition is 3")):
            with pytest.raises(CommandError, match=words):
                running.client.request("spectra", **arguments)
    assert set(answer) == set(SpectraResult.__struct_fields__)
    assert (answer["index"], answer["acquisition"]) == (2, "scan")
    assert len(answer["horizontal"]) == len(answer["reference_vertical"]) > 30
    assert len(answer["picture"]) == 2 * len(answer["picture"][0]) == 64
    header, arrays = pictures[0].header, pictures[0].arrays
    assert {"floor", "picture_low", "picture_high", "resolution_x_px"} <= set(header["spectra"])
    assert arrays["spectrum"].shape == (64, 32)
    assert arrays["spectrum_x"].dtype == arrays["reference_y"].dtype == np.float32


def _is_picture_with_reference(result: Any, pictures: list[Any]) -> bool:
    if result is not None and result.topic == "image" and "reference_x" in result.arrays:
        pictures.append(result)
    return bool(pictures)


def test_without_spectra_the_picture_says_nothing_of_them() -> None:
    assert with_picture(None) == ({}, {})
