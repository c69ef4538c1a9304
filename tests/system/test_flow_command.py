"""``txm-streamer flow`` and ``export --nonrigid``: what the material did between two frames, and its undoing."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import msgspec
import numpy as np
import pytest
import tifffile
from scipy import ndimage
from support.flow_scenes import particles, photons, smooth_field, warp

import streamer.cli
from streamer import console
from streamer.clock import utc_text
from streamer.journal import Batch, Journal
from streamer.records import Command, FlowResult, FrameRow

SHAPE = (180, 200)
MARGIN = 32
DOSE = 1500.0
DRIFT = np.array([(0.0, 0.0), (2.3, -1.6), (4.1, -2.2), (5.5, -4.9), (6.2, -3.1), (8.4, -6.7), (9.1, -8.8),
                  (110.0, 80.0)])
GROWTH = np.array([0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 2.4])
"""Of the displacement, from frame to frame."""
BLURRED, BAD, LOST, FAR = 2, 3, 4, 7
GOOD = [0, 1, 5, 6, 7]


def field() -> np.ndarray:
    return smooth_field((SHAPE[0] + 2 * MARGIN, SHAPE[1] + 2 * MARGIN), 12, amplitude_px=1.0, scale_px=28.0)


def rows(**changes: object) -> list[FrameRow]:
    made = []
    for index, (dy, dx) in enumerate(DRIFT):
        verdict = {BLURRED: "blurred", BAD: "bad"}.get(index, "sharp")
        drift = {} if index in {BAD, LOST} else {"drift_y_px": float(dy), "drift_x_px": float(dx)}
        blur = {"blur_length_px": 4.2} if verdict == "blurred" else {}
        problems = "beam dump" if index == BAD else ""
        made.append(FrameRow(index=index, acquisition="scan", view="main", kind="projection", verdict=verdict,
                             problems=problems, **drift, **blur))
    return [msgspec.structs.replace(row, **changes) for row in made]


def write_session(folder: Path, made: list[FrameRow], *, commands: tuple[Command, ...] = (), **facts: object) -> Path:
    with Journal(folder, create=True) as journal:
        journal.write(Batch(rows=list(enumerate(made, start=1)), facts=facts,
                            commands=[(command, "done") for command in commands]))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of a sample that drifts and deforms, and its session, which has no fields of its own."""
    folder, inner = tmp_path_factory.mktemp("flow"), np.s_[MARGIN:-MARGIN, MARGIN:-MARGIN]
    u = field()
    absorbance = particles(u.shape[1:], 11)
    frames = [DOSE * photons(warp(absorbance, drift[:, None, None] + growth * u)[inner], DOSE, 20 + index)
              for index, (drift, growth) in enumerate(zip(DRIFT, GROWTH, strict=True))]
    tifffile.imwrite(folder / "scan.tif", np.stack(frames).astype(np.uint16), photometric="minisblack")
    tifffile.imwrite(folder / "flats.tif", np.full((4, *SHAPE), DOSE, np.uint16), photometric="minisblack")
    write_session(folder / "session", rows(), recording={
        "path": str(folder / "scan.tif"), "flat": str(folder / "flats.tif")})
    return folder


def run(folder: Path, command: str, *options: str, session: str = "session") -> int:
    return console.run(streamer.cli.app, "txm-streamer", [command, str(folder / session), *options])


def flow(folder: Path, first: int, second: int, *options: str, name: str = "f.h5", session: str = "session") -> Path:
    assert run(folder, "flow", "--from", str(first), "--to", str(second), "--out", str(folder / name), *options,
               session=session) == 0
    return folder / name


def read(path: Path, index: int) -> tuple[np.ndarray, np.ndarray, dict[str, object], np.ndarray, np.ndarray]:
    """Give displacement, validity, attributes and grid, as a reader of flow.h5 finds them."""
    with h5py.File(path) as file:
        assert list(file["frames"]) == [f"{index:06d}"]
        group = file[f"frames/{index:06d}"]
        assert group["sigma_px"].dtype == np.float32
        return (group["displacement_px"][()], group["valid"][()], dict(group.attrs), file["grid_y_px"][()],
                file["grid_x_px"][()])


def truth(first: int, second: int, grid_y: np.ndarray, grid_x: np.ndarray) -> np.ndarray:
    """Give the displacement (2, K, L) at points of the first frame: back to the specimen, and on to the second."""
    u, points = field(), np.stack(np.meshgrid(grid_y, grid_x, indexing="ij")) + MARGIN

    def at(places: np.ndarray) -> np.ndarray:
        return np.stack([ndimage.map_coordinates(plane, places, order=3) for plane in u])

    places = points - DRIFT[first][:, None, None]
    for _ in range(10):
        places = points - DRIFT[first][:, None, None] - GROWTH[first] * at(places)
    return (GROWTH[second] - GROWTH[first]) * at(places)


@pytest.mark.parametrize(("first", "second"), [(0, 6), (1, 5), (6, 1)])
def test_any_two_frames_may_be_compared_in_either_direction(folder: Path, capsys, first: int, second: int) -> None:
    u, valid, facts, grid_y, grid_x = read(flow(folder, first, second), second)
    assert facts["reference_index"] == first
    np.testing.assert_allclose((facts["drift_y_px"], facts["drift_x_px"]), DRIFT[second] - DRIFT[first])
    assert u.shape == (2, len(grid_y), len(grid_x))
    want = truth(first, second, grid_y, grid_x)
    error, size = np.hypot(*(u - want))[valid], np.hypot(*want)[valid]
    assert valid.mean() > 0.6
    assert np.median(error) < 0.25 * np.median(size)
    told = capsys.readouterr().out
    assert told.count("\n") == 1
    median, most = np.percentile(np.hypot(*u)[valid], [50, 95])
    assert f"frame {first} -> {second}:" in told
    assert f"displacement median {median:.2f} px, 95 % {most:.2f} px; {100 * valid.mean():.0f} % of " in told


def test_a_frame_against_itself_is_exactly_zero(folder: Path) -> None:
    u, valid, facts, *_ = read(flow(folder, 5, 5), 5)
    assert not u.any()
    assert valid.mean() > 0.8
    assert (facts["drift_y_px"], facts["drift_x_px"]) == (0.0, 0.0)


def test_the_spacing_may_be_chosen(folder: Path) -> None:
    *_, grid_y, grid_x = read(flow(folder, 0, 6, "--step-px", "5"), 6)
    assert set(np.diff(grid_y)) == set(np.diff(grid_x)) == {5.0}


def test_a_blurred_frame_is_taken_with_a_remark(folder: Path, capsys) -> None:
    path = flow(folder, 0, BLURRED)
    assert "; frame 2 is blurred (4.2 px)" in capsys.readouterr().out
    with h5py.File(path) as file:
        assert "blurred" in file.attrs["remarks"]


def test_the_other_direction_may_be_asked_too(folder: Path, capsys) -> None:
    plain, was_valid, *_ = read(flow(folder, 0, 6), 6)
    assert "the check" not in capsys.readouterr().out
    path = flow(folder, 0, 6, "--check", name="checked.h5")
    u, valid, *_ = read(path, 6)
    assert not (valid & ~was_valid).any()
    assert valid.sum() > 0.8 * was_valid.sum()
    np.testing.assert_array_equal(u, np.where(valid, plain, 0))
    remark = f"the check took away {was_valid.sum() - valid.sum()} of {was_valid.sum()} valid points"
    told = capsys.readouterr().out
    assert remark in told
    assert f"{100 * valid.mean():.0f} % of {valid.size} points valid" in told
    with h5py.File(path) as file:
        assert remark in file.attrs["remarks"]


@pytest.fixture(scope="module")
def analysed(folder: Path) -> Path:
    """A session of the same frames, but the one far away, that the pipeline has made."""
    tifffile.imwrite(folder / "near.tif", tifffile.imread(folder / "scan.tif")[:FAR], photometric="minisblack")
    assert run(folder, "analyse", "--flat", str(folder / "flats.tif"), "--out", str(folder / "analysed"),
               session="near.tif") == 0
    return folder / "analysed"


def test_a_frame_that_was_taken_again_is_compared_and_the_better_one_named(folder: Path, capsys) -> None:
    made = [msgspec.structs.replace(row, recollects=BLURRED if row.index == 6 else None) for row in rows()]
    write_session(folder / "again", made, recording={"path": str(folder / "scan.tif"),
                                                     "flat": str(folder / "flats.tif")})
    flow(folder, 0, BLURRED, session="again")
    said = capsys.readouterr().out
    assert "frame 2 is blurred (4.2 px): errors may exceed sigma; frame 6 stands in the place of frame 2" in said


def test_it_is_the_field_of_the_pipeline(folder: Path, analysed: Path) -> None:
    with h5py.File(analysed / "flow.h5") as file:
        stored, last = file["frames/000006/displacement_px"][()], dict(file["frames/000006"].attrs)
    u, _, facts, *_ = read(flow(folder, 0, 6, session="analysed"), 6)
    assert facts == last
    # the pipeline averages in time what the command sees of two frames alone
    assert np.median(np.abs(u - stored)) < 0.05


BAD_REQUESTS = [
    (["--from", "0", "--to", "9"], 1, "the session holds no projection 9"),
    (["--from", "0", "--to", "3"], 1, "frame 3 is bad (beam dump); choose another"),
    (["--from", "4", "--to", "0"], 1, "the drift of frame 4 is not known; choose another"),
    (["--from", "0", "--to", "7"], 1, "only 23 % of frame 0 is still in view"),
    (["--from", "0", "--to", "6", "--acquisition", "nix"], 1, "no projection 0 in acquisition 'nix'"),
    (["--from", "0", "--to", "6", "--recording", "{0}/flats.tif"], 1, "the recording is called 'flats'"),
    (["--from", "0", "--to", "6", "--recording", "{0}/nix.tif"], 1, "no such file"),
    (["--from", "-1", "--to", "6"], 2, "--from"),
    (["--from", "0"], 2, "--to"),
    (["--from", "0", "--to", "6", "--step-px", "0"], 2, "--step-px"),
    (["--from", "0", "--to", "6", "--out", "{0}/x.txt"], 2, "is written as .h5 or .hdf5"),
    (["--from", "0", "--to", "6", "--out", "{0}/session/flow.h5"], 2, "holds the fields of the session"),
    (["--from", "0", "--to", "6", "--out", "{0}/scan.tif/x.h5"], 1, "cannot write"),
]


@pytest.mark.parametrize(("options", "status", "reason"), BAD_REQUESTS)
def test_bad_requests_are_refused_in_a_line(folder: Path, capsys, options: list[str], status: int, reason: str) -> None:
    assert run(folder, "flow", "--out", str(folder / "x.h5"), *(option.format(folder) for option in options)) == status
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1
    assert not list(folder.glob("x.*"))


def later(index: int, view: str) -> FrameRow:
    return msgspec.structs.replace(rows()[index], view=view, received_at=utc_text(4e9 if index else 1e9))


@pytest.mark.parametrize(("made", "commands", "facts", "reason"), [
    (rows(), (), {"input": "tcp://127.0.0.1:5555"}, "was taken live and keeps no pictures"),
    (rows(), (), {"input": "/nowhere/scan.tif"}, "which is not there any more"),
    ([later(0, "left"), later(6, "right")], (), {}, "frame 0 is of view 'left', frame 6 of 'right'"),
    ([later(0, "main"), later(6, "main")], (Command(op="reference"),), {}, "a new reference was set between"),
    (rows(exposed_at="2024-05-14T09:15:00.000000Z"), (), {}, ""),   # a TIFF says no times: nothing to compare
])
def test_sessions_that_do_not_fit_are_refused(
    folder: Path, tmp_path: Path, capsys, made: list[FrameRow], commands: tuple[Command, ...], facts: dict[str, str],
    reason: str,
) -> None:
    known = facts or {"recording": {"path": str(folder / "scan.tif")}}
    write_session(tmp_path / "s", made, commands=commands, **known)
    options = ["--from", "0", "--to", "6", "--out", str(tmp_path / "x.h5")]
    assert run(tmp_path, "flow", *options, session="s") == (1 if reason else 0)
    assert reason in capsys.readouterr().err
    assert (tmp_path / "x.h5").exists() == (not reason)


def test_a_new_reference_of_another_view_is_none_of_theirs(folder: Path, tmp_path: Path) -> None:
    write_session(tmp_path / "s", [later(0, "main"), later(6, "main")], recording={"path": str(folder / "scan.tif")},
                  commands=(Command(op="reference", arguments={"view": "other"}),))
    assert flow(tmp_path, 0, 6, session="s").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_in_a_line(folder: Path, capsys) -> None:
    (folder / "full.h5.part").symlink_to("/dev/full")
    assert run(folder, "flow", "--from", "0", "--to", "6", "--out", str(folder / "full.h5")) == 1
    error = capsys.readouterr().err
    assert "cannot write" in error
    assert error.count("\n") == 1
    assert not (folder / "full.h5").exists()


def stack(folder: Path, name: str, *options: str, session: str = "session") -> Path:
    assert run(folder, "export", "--registered", str(folder / name), *options, session=session) == 0
    return folder / name


def likeness(page: np.ndarray, reference: np.ndarray) -> float:
    known = np.isfinite(page) & np.isfinite(reference)
    return float(np.corrcoef(page[known], reference[known])[0, 1])


@pytest.mark.parametrize("session", ["session", "analysed"])
def test_material_lies_where_the_reference_has_it(folder: Path, analysed: Path, capsys, session: str) -> None:
    """With fields measured now, and with those of the session."""
    capsys.readouterr()
    rigid = tifffile.imread(stack(folder, "rigid.tif", session=session))
    assert "alone" not in capsys.readouterr().out
    path = stack(folder, "nonrigid.tif", "--nonrigid", session=session)
    pages = tifffile.imread(path)
    with tifffile.TiffFile(path) as file:
        told = [json.loads(page.description) for page in file.pages]
    np.testing.assert_array_equal(pages[0], rigid[0])   # the reference itself
    gained = [likeness(page, pages[0]) - likeness(other, pages[0])
              for page, other, facts in zip(pages, rigid, told, strict=True) if 1 < facts["index"] < FAR]
    assert len(gained) >= 2
    assert min(gained) > 0.005
    assert all(facts["nonrigid"] for facts in told if facts["index"] < FAR)
    assert {facts["flow_reference_index"] for facts in told} == {0}
    assert told[0]["meaning"].startswith("page(y, x) = frame(y + drift_y_px + u_y")


def test_frames_without_a_field_are_moved_by_their_drift_and_say_so(folder: Path, capsys) -> None:
    capsys.readouterr()
    path = stack(folder, "kept.h5", "--nonrigid", "--keep-blurred")
    assert "6 pages, 2 of them by the drift alone; left out: 1 bad, 1 not registered" in capsys.readouterr().out
    rigid = stack(folder, "kept_rigid.h5", "--keep-blurred")
    with h5py.File(path) as file, h5py.File(rigid) as other:
        indices, undone = file["frames/index"][()].tolist(), file["frames/nonrigid"][()].tolist()
        assert indices == sorted([*GOOD, BLURRED])
        assert [index for index, done in zip(indices, undone, strict=True) if not done] == [BLURRED, FAR]
        for index in (BLURRED, FAR):   # the second has left too far for a field
            np.testing.assert_array_equal(file["exchange/data"][indices.index(index)],
                                          other["exchange/data"][indices.index(index)])
        assert np.isnan(file["frames/flow_reference_index"][indices.index(BLURRED)])
        assert file["frames/flow_valid_share"][indices.index(FAR)] == 0.0
        assert "nonrigid" not in other["frames"]


def test_a_field_against_a_frame_that_was_blurred_is_measured_again(folder: Path, analysed: Path, tmp_path: Path
                                                                    ) -> None:
    with Journal(analysed) as journal:
        found = {row.index: row for _, row in journal.rows() if row.kind == "projection"}
        fields = list(journal.flows())
    assert {one.reference_index for one in fields} == {0}
    found[0] = msgspec.structs.replace(found[0], verdict="blurred")
    with Journal(tmp_path / "s", create=True) as journal:
        journal.write(Batch(rows=list(enumerate(found.values(), start=1)), flows=fields, facts={
            "recording": {"path": str(folder / "near.tif"), "flat": str(folder / "flats.tif")}}))
    with h5py.File(stack(tmp_path, "x.h5", "--nonrigid", session="s")) as file:
        first = file["frames/index"][0]
        assert set(file["frames/flow_reference_index"][()]) == {first} != {0}


def test_some_fields_of_the_session_and_some_measured_now(folder: Path, analysed: Path, tmp_path: Path) -> None:
    """As after a live session, whose flow lane skips frames."""
    with Journal(analysed) as journal:
        found, fields = [row for _, row in journal.rows()], [one for one in journal.flows() if one.index in {0, 4}]
    with Journal(tmp_path / "s", create=True) as journal:
        journal.write(Batch(rows=list(enumerate(found, start=1)), flows=fields, facts={
            "recording": {"path": str(folder / "near.tif"), "flat": str(folder / "flats.tif")}}))
    whole = tifffile.imread(stack(folder, "whole.tif", "--nonrigid", session="analysed"))
    mixed = tifffile.imread(stack(tmp_path, "x.tif", "--nonrigid", session="s"))
    both = np.isfinite(mixed) & np.isfinite(whole)
    assert np.mean(np.isfinite(mixed) == np.isfinite(whole)) > 0.97
    assert np.abs(mixed - whole)[both].mean() < 0.02   # stored fields are averaged in time, those measured now are not


def test_after_a_new_reference_the_pages_lie_as_in_that(folder: Path, tmp_path: Path) -> None:
    """The row of the new reference keeps its drift from the old one; what comes after it counts from the new."""
    with h5py.File(flow(folder, 5, 6)) as file:
        measured = {name: file[f"frames/000006/{name}"][()] for name in ("displacement_px", "valid", "sigma_px")}
        grids = {name: file[name][()] for name in ("grid_y_px", "grid_x_px")}
    dy, dx = DRIFT[6] - DRIFT[5]
    made = [rows()[5], msgspec.structs.replace(rows()[6], drift_y_px=dy, drift_x_px=dx)]
    field_6 = FlowResult(index=6, acquisition="scan", view="main", reference_index=5, drift_y_px=dy, drift_x_px=dx,
                         **measured, **grids)
    with Journal(tmp_path / "s", create=True) as journal:
        journal.write(Batch(rows=list(enumerate(made, start=1)), flows=[field_6], facts={
            "recording": {"path": str(folder / "scan.tif"), "flat": str(folder / "flats.tif")}}))
    page = tifffile.imread(stack(tmp_path, "x.tif", "--nonrigid", session="s"))[1]
    reference = tifffile.imread(folder / "scan.tif")[5] / DOSE
    rigid = tifffile.imread(stack(tmp_path, "y.tif", session="s"))[1]
    assert likeness(page, reference) > likeness(rigid, reference)


@pytest.mark.parametrize("command", [["flow", "--from", "0", "--to", "6", "--out", "{0}/x.h5"],
                                     ["export", "--registered", "{0}/x.h5"]])
def test_a_recording_of_smaller_frames_is_another(folder: Path, analysed: Path, tmp_path: Path, capsys,
                                                  command: list[str]) -> None:
    small = tifffile.imread(folder / "near.tif")[:, :100]
    tifffile.imwrite(tmp_path / "near.tif", small, photometric="minisblack")
    options = [option.format(tmp_path) for option in command[1:]]
    assert run(folder, command[0], *options, "--recording", str(tmp_path / "near.tif"), session="analysed") == 1
    error = capsys.readouterr().err
    assert "have 100 x 200 px, those of session" in error
    assert error.count("\n") == 1


def test_nonrigid_is_about_the_stack(folder: Path, capsys) -> None:
    assert run(folder, "export", "--nonrigid") == 2
    assert "--nonrigid" in capsys.readouterr().err
