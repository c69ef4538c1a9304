"""``txm-streamer export --registered``: from a session and its recording to a stack in one place."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import h5py
import msgspec
import numpy as np
import pytest
import tifffile
from support.motion_scenes import Scene, specimen

import streamer.cli
from streamer import console
from streamer.errors import CommandError, SessionError
from streamer.formats import open_recording
from streamer.imaging.registration import prepare_reference, register
from streamer.journal import Batch, Journal
from streamer.records import FrameRow
from streamer.service.registered import write_registered
from streamer.service.stack_files import open_stack

SHAPE = (240, 256)
FRAMES = 14
BLURRED, BAD, LOST = 3, 5, 7
DRIFT = np.cumsum(np.random.default_rng(400).normal((0.9, -0.4), 0.8, (FRAMES, 2)), axis=0)
DRIFT -= DRIFT[0]


def rows(**changes: object) -> list[FrameRow]:
    made = []
    for index, (dy, dx) in enumerate(DRIFT):
        verdict = {BLURRED: "blurred", BAD: "bad"}.get(index, "sharp")
        drift = {} if index in {BAD, LOST} else {"drift_y_px": float(dy), "drift_x_px": float(dx)}
        made.append(FrameRow(index=index, acquisition="scan", view="main", kind="projection", verdict=verdict, **drift))
    return [msgspec.structs.replace(row, **changes) for row in made]


def write_session(folder: Path, made: list[FrameRow], **facts: object) -> Path:
    with Journal(folder, create=True) as journal:
        journal.write(Batch(rows=list(enumerate(made, start=1)), facts={"pixel_size_nm": 25.0, **facts}))
    return folder


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(specimen(401, size=512, grains=140), shape=SHAPE, photons=3000.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, scene: Scene) -> Path:
    """A recording with flats, and its session."""
    folder, rng = tmp_path_factory.mktemp("registered"), np.random.default_rng(402)
    tifffile.imwrite(folder / "scan.tif", np.stack([scene.counts(tuple(drift), rng) for drift in DRIFT])
                     .astype(np.uint16), photometric="minisblack")
    tifffile.imwrite(folder / "flats.tif", rng.poisson(scene.flat, (16, *SHAPE)).astype(np.uint16),
                     photometric="minisblack")
    write_session(folder / "session", rows(), recording={
        "path": str(folder / "scan.tif"), "flat": str(folder / "flats.tif")})
    return folder


def run(folder: Path, *options: str, session: str = "session") -> int:
    return console.run(streamer.cli.app, "txm-streamer", ["export", str(folder / session), *options])


def descriptions(path: Path) -> list[dict[str, object]]:
    with tifffile.TiffFile(path) as file:
        return [json.loads(page.description) for page in file.pages]


def test_good_frames_are_written_where_the_reference_sees_them(folder: Path, capsys, scene: Scene) -> None:
    assert run(folder, "--registered", str(folder / "good.tif")) == 0
    assert "11 pages; left out: 1 blurred, 1 bad, 1 not registered" in capsys.readouterr().out
    pages, told = tifffile.imread(folder / "good.tif"), descriptions(folder / "good.tif")
    assert (pages.shape, pages.dtype) == ((11, *SHAPE), np.float32)
    assert [page["index"] for page in told] == [index for index in range(FRAMES) if index not in {BLURRED, BAD, LOST}]
    assert told[1]["drift_y_px"] == DRIFT[1, 0]
    assert (told[0]["session"], told[0]["pixel_size_nm"]) == ("session", 25.0)
    assert (folder / "session" / "frames.csv").exists()
    known = np.isfinite(pages).all(axis=0)
    top, left = (np.flatnonzero(known.any(axis=axis))[[0, -1]] for axis in (1, 0))
    common = pages[:, top[0] + 1:top[1], left[0] + 1:left[1]]
    assert np.isfinite(common).all()
    assert common.shape[1] * common.shape[2] > 0.85 * SHAPE[0] * SHAPE[1]
    reference = prepare_reference(common[0], id=0)
    for page in common[1:]:
        found = register(reference, page)
        assert np.hypot(found.dy, found.dx) < 0.05


def test_a_recording_that_was_moved_keeps_the_flats_of_its_session(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "scan.tif").symlink_to(folder / "scan.tif")
    for name, options in (("one", ()), ("other", ("--recording", str(tmp_path / "scan.tif")))):
        assert run(folder, "--registered", str(tmp_path / f"{name}.tif"), *options) == 0
    one, other = (tifffile.imread(tmp_path / f"{name}.tif") for name in ("one", "other"))
    np.testing.assert_array_equal(one, other)


def test_the_mean_of_the_stack_is_as_sharp_as_the_specimen(folder: Path, tmp_path: Path, scene: Scene) -> None:
    with open_recording(folder / "scan.tif", flat=folder / "flats.tif") as recording:
        write_registered(recording, folder / "session", tmp_path / "a.tif")
    mean = np.nanmean(tifffile.imread(tmp_path / "a.tif"), axis=0)
    rng = np.random.default_rng(403)
    clean = np.mean([scene.counts((0.0, 0.0), rng) for _ in range(60)], axis=0) / scene.flat
    inner = np.s_[20:-20, 20:-20]
    spectra = [np.abs(np.fft.rfft2(np.hanning(200)[:, None] * np.hanning(216) * (image - image.mean())))**2
               for image in (mean[inner], clean[inner])]
    frequency = np.hypot(np.fft.fftfreq(200)[:, None], np.fft.rfftfreq(216))
    for low, high, bar in ((0.02, 0.1, 0.03), (0.1, 0.2, 0.05)):
        band = (frequency >= low) & (frequency < high)
        assert spectra[0][band].sum() / spectra[1][band].sum() == pytest.approx(1.0, abs=bar)


def test_blurred_frames_are_kept_and_marked_in_hdf5(folder: Path) -> None:
    assert run(folder, "--registered", str(folder / "all.h5"), "--keep-blurred") == 0
    with h5py.File(folder / "all.h5") as file:
        assert file["exchange/data"].shape == (12, *SHAPE)
        assert file["exchange/data"].chunks == (1, *SHAPE)
        frames = {name: file["frames"][name][()] for name in file["frames"]}
        assert np.isnan(file["exchange/data"][-1]).any()
    assert frames["index"].tolist() == [index for index in range(FRAMES) if index not in {BAD, LOST}]
    assert frames["verdict"][BLURRED] == b"blurred"
    np.testing.assert_allclose(frames["drift_y_px"], [DRIFT[index, 0] for index in frames["index"]])
    assert np.isnan(frames["rotation_deg"]).all()
    with open_recording(folder / "all.h5") as again:   # other programs and our own read it as a recording
        assert again.count == 12


def test_where_no_light_falls_nothing_is_shown(folder: Path, tmp_path: Path) -> None:
    for name in ("scan", "flats"):
        pictures = tifffile.imread(folder / f"{name}.tif")
        pictures[:, :60, :80] = 0
        tifffile.imwrite(tmp_path / f"{name}.tif", pictures, photometric="minisblack")
    write_session(tmp_path / "s", rows(), recording={
        "path": str(tmp_path / "scan.tif"), "flat": str(tmp_path / "flats.tif")})
    assert run(tmp_path, "--registered", str(tmp_path / "x.tif"), session="s") == 0
    pages = tifffile.imread(tmp_path / "x.tif")
    assert np.isnan(pages[0, :50, :70]).all()
    assert np.isfinite(pages[0, 70:, 90:]).all()
    dy, dx = np.round(DRIFT[-1]).astype(int)   # the dark corner stays with the detector
    assert np.isnan(pages[-1, :50 - dy, :70 - dx]).all()
    assert np.isfinite(pages[-1, 70 - dy:200 - dy, 90 - dx:200]).all()


def test_tiff_and_hdf5_hold_the_same(folder: Path, tmp_path: Path) -> None:
    with open_recording(folder / "scan.tif") as recording:
        for name in ("a.tiff", "a.hdf5"):
            write_registered(recording, folder / "session", tmp_path / name)
    with h5py.File(tmp_path / "a.hdf5") as file:
        np.testing.assert_array_equal(file["exchange/data"], tifffile.imread(tmp_path / "a.tiff"))


def test_what_analyse_has_read_is_found_again(folder: Path, tmp_path: Path) -> None:
    assert console.run(streamer.cli.app, "txm-streamer", [
        "analyse", str(folder / "scan.tif"), "--flat", str(folder / "flats.tif"), "--out", str(tmp_path / "s"),
        "--set", "flow.enabled=false"]) == 0
    assert run(tmp_path, "--registered", str(tmp_path / "x.tif"), session="s") == 0
    pages, told = tifffile.imread(tmp_path / "x.tif"), descriptions(tmp_path / "x.tif")
    errors = [np.hypot(page["drift_y_px"] - DRIFT[page["index"], 0], page["drift_x_px"] - DRIFT[page["index"], 1])
              for page in told]
    assert len(pages) >= 12
    assert max(errors) < 0.05
    assert np.nanmedian(pages) < 1.0   # corrected by the flats that analyse was given


@pytest.mark.parametrize(("options", "status", "reason"), [
    (["--registered", "x.png"], 2, "x.png: a registered stack is written as .tif, .tiff, .h5, .hdf5"),
    (["--registered", "{0}/x.tif", "--view", "nix"], 1, "no view 'nix'; it has 'main'"),
    (["--registered", "{0}/x.tif", "--acquisition", "nix"], 1, "acquisition 'nix', it has those of 'scan'"),
    (["--registered", "{0}/x.tif", "--recording", "{0}/flats.tif"], 1, "acquisition 'flats'"),
    (["--registered", "{0}/x.tif", "--recording", "{0}/nix.tif"], 1, "no such file"),
    (["--registered", "{0}/scan.tif"], 2, "is what is to be read"),
    (["--keep-blurred"], 2, "with --registered"),
    (["--view", "main"], 2, "with --registered"),
])
def test_bad_requests_are_refused_in_a_line(folder: Path, capsys, options: list[str], status: int, reason: str) -> None:
    assert run(folder, *(option.format(folder) for option in options)) == status
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1
    assert not list(folder.glob("x.*"))


@pytest.mark.parametrize(("made", "facts", "reason"), [
    (rows(), {"input": "tcp://127.0.0.1:5555"}, "was taken live and keeps no pictures"),
    (rows(), {"input": "/nowhere/scan.tif"}, "which is not there any more"),
    (rows(verdict="bad"), {}, "no frame to register: 14 bad"),
    ([*rows()[:4], msgspec.structs.replace(rows()[4], index=99)], {}, "has 14 projections, counted from 0"),
    (rows()[:6] + [msgspec.structs.replace(row, view="b") for row in rows()[6:]], {}, "the views 'main', 'b'; choose"),
])
def test_sessions_that_do_not_fit_are_refused(folder: Path, tmp_path: Path, capsys, made: list[FrameRow],
                                              facts: dict[str, str], reason: str) -> None:
    known = facts or {"recording": {"path": str(folder / "scan.tif")}}
    write_session(tmp_path / "s", made, **known)
    assert run(tmp_path, "--registered", str(tmp_path / "x.tif"), session="s") == 1
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.glob("x.*"))


def test_one_view_of_several_is_written(folder: Path, tmp_path: Path) -> None:
    made = [msgspec.structs.replace(row, view="ab"[row.index % 2]) for row in rows()]
    write_session(tmp_path / "s", made, recording={"path": str(folder / "scan.tif")})
    assert run(tmp_path, "--registered", str(tmp_path / "x.tif"), "--view", "a", session="s") == 0
    assert [page["index"] for page in descriptions(tmp_path / "x.tif")] == [0, 2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize("name", ["x.tif", "x.h5"])
def test_a_broken_export_leaves_the_stack_of_before(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"before")

    def write_until(error: Exception) -> None:
        with open_stack(tmp_path / name, shape=SHAPE, pages=3, about={"session": "s"}) as stack:
            stack.write(np.zeros(SHAPE, np.float32), {"index": 0})
            raise error

    with pytest.raises(CommandError, match="another shape"):
        write_until(CommandError("frame 3 has another shape"))
    with pytest.raises(SessionError, match=r"No space left.*before is untouched"):
        write_until(OSError(28, "No space left on device"))
    with pytest.raises(KeyboardInterrupt):
        write_until(KeyboardInterrupt())   # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"before"


def test_a_place_that_cannot_be_written_is_named(folder: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    assert run(folder, "--registered", str(tmp_path / "file" / "x.tif")) == 1
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("name", ["x.tif", "x.h5"])
def test_a_full_disk_is_told_in_a_line(folder: Path, tmp_path: Path, capsys, name: str) -> None:
    (tmp_path / (name + ".part")).symlink_to("/dev/full")
    assert run(folder, "--registered", str(tmp_path / name)) == 1
    error = capsys.readouterr().err
    assert "cannot write" in error
    assert error.count("\n") == 1
    assert not (tmp_path / name).exists()


def test_memory_does_not_grow_with_the_recording(folder: Path, tmp_path: Path) -> None:
    with open_recording(folder / "scan.tif") as recording:
        tracemalloc.start()
        write_registered(recording, folder / "session", tmp_path / "x.tif")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 * 11 * SHAPE[0] * SHAPE[1]   # two float32 stacks would not fit


def test_large_stacks_are_bigtiff(tmp_path: Path) -> None:
    with open_stack(tmp_path / "x.tif", shape=(2048, 2048), pages=300, about={}) as stack:
        stack.write(np.zeros((64, 64), np.float32), {"index": 0})
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        assert file.is_bigtiff
