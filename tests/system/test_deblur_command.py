"""``txm-streamer deblur``: from a recording and its session to a restored frame, or one line that says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from support.scenes import Scene

import streamer.cli
from streamer import console
from streamer.formats import open_recording
from streamer.journal import Batch, Journal
from streamer.records import FrameRow
from streamer.service.restoration import restore_frame

SHAPE = (200, 220)
PHOTONS = 900.0
LENGTH = 9.0


def row(index: int, **fields: object) -> FrameRow:
    blur = {"verdict": "blurred", "blur_length_px": LENGTH, "blur_angle_deg": 30.0, "blur_shape": "motion"}
    return FrameRow(**({"index": index, "acquisition": "scan", "view": "main", "kind": "projection"} | blur | fields))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of four frames with flats, and a session that has judged them."""
    folder = tmp_path_factory.mktemp("deblur")
    scene, rng = Scene(71, SHAPE), np.random.default_rng(72)
    lamp = np.linspace(0.6, 1.0, SHAPE[1])
    frames = [rng.poisson(PHOTONS * lamp * scene.clean(length_px=LENGTH * (index < 3), angle_deg=30.0))
              for index in range(4)]
    tifffile.imwrite(folder / "scan.tif", np.stack(frames).astype(np.uint16), photometric="minisblack")
    tifffile.imwrite(folder / "flats.tif", rng.poisson(PHOTONS * lamp, (8, *SHAPE)).astype(np.uint16),
                     photometric="minisblack")
    rows = [row(0, psf_group=0), row(1, psf_group=0, blur_length_px=LENGTH + 1), row(2),
            row(3, verdict="sharp", blur_length_px=0.2), row(9), row(0, acquisition="flats", kind="flat")]
    with Journal(folder / "session", create=True) as journal:
        journal.write(Batch(rows=list(enumerate(rows, start=1)), facts={"pixel_size_nm": 25.0}))
    np.save(folder / "truth.npy", scene.clean())
    return folder


def run(folder: Path, *options: str) -> int:
    return console.run(streamer.cli.app, "txm-streamer", [
        "deblur", str(folder / "scan.tif"), "--session", str(folder / "session"), "--flat", str(folder / "flats.tif"),
        "--out", str(folder / "out.tif"), *options])


@pytest.mark.parametrize(("method", "name"), [("wiener", "Wiener"), ("richardson_lucy", "Richardson-Lucy")])
def test_a_frame_is_corrected_restored_and_written(folder: Path, capsys, method: str, name: str) -> None:
    assert run(folder, "--frame", "0", "--method", method) == 0
    said = capsys.readouterr().out.strip()
    assert said.startswith(f"{name} restores up to")
    assert "along 30 deg" in said
    assert " nm)" in said
    with tifffile.TiffFile(folder / "out.tif") as file:
        assert file.pages[0].description == said
        restored = file.asarray()
    assert restored.dtype == np.float32
    truth = np.load(folder / "truth.npy")
    with open_recording(folder / "scan.tif") as recording:
        raw = next(iter(recording.frames())).pixels
    flat = np.linspace(0.6, 1.0, SHAPE[1])

    def error(image: np.ndarray) -> float:   # whatever the brightness of the open beam
        return float(np.std(image / image.mean() - truth / truth.mean()))

    assert error(restored) < 0.8 * error(raw / flat)


def test_the_group_gives_its_mean(folder: Path) -> None:
    with open_recording(folder / "scan.tif", flat=folder / "flats.tif") as recording:
        own, _ = restore_frame(recording, folder / "session", 0)
        grouped, _ = restore_frame(recording, folder / "session", 0, group=True)
    assert not np.array_equal(own, grouped)


@pytest.mark.parametrize(("options", "status", "reason"), [
    (["--frame", "3"], 1, "frame 3 of 'scan' is sharp; only frames that were found blurred can be restored"),
    (["--frame", "8"], 1, "holds no projection 8"),
    (["--frame", "9"], 1, "has 4 projections, counted from 0; there is no frame 9"),
    (["--frame", "0", "--acquisition", "other"], 1, "in acquisition 'other'"),
    (["--frame", "2", "--group"], 1, "belongs to no group"),
    (["--frame", "0", "--method", "magic"], 2, "magic"),
    (["--frame", "-1"], 2, "--frame"),
    ([], 2, "--frame"),
    (["--frame", "0", "--out", "{folder}/scan.tif"], 2, "is what is to be read"),
    (["--frame", "0", "--out", "{folder}/none/out.tif"], 1, "cannot be written"),
    (["--frame", "0", "--session", "{folder}/none"], 1, "holds no session"),
])
def test_bad_input_has_one_clear_line(folder: Path, capsys, options: list[str], status: int, reason: str) -> None:
    assert run(folder, *(option.format(folder=folder) for option in options)) == status
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1


def test_another_recording_is_not_taken_for_the_one_of_the_session(folder: Path, capsys) -> None:
    tifffile.imwrite(folder / "other.tif", np.ones((4, *SHAPE), np.uint16), photometric="minisblack")
    arguments = ["deblur", str(folder / "other.tif"), "--session", str(folder / "session"), "--frame", "0",
                 "--out", str(folder / "out2.tif")]
    assert console.run(streamer.cli.app, "txm-streamer", arguments) == 1
    assert "the recording is called 'other', the session has frame 0 in 'scan'" in capsys.readouterr().err
