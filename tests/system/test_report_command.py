"""``txm-streamer report``: the page, its figures and numbers, and what it says when something is missing."""

from __future__ import annotations

import csv
import errno
import html.parser
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tifffile

import simulator.cli
import streamer.cli
from streamer import console
from streamer.formats import open_recording
from streamer.journal import FILE_NAME, Batch, Journal
from streamer.records import FrameRow
from streamer.report import drawing, page
from streamer.service import report_figures
from streamer.service.report_data import read_subject
from streamer.service.report_pictures import Album
from streamer.service.report_truth import beside, read_truth

FRAMES = 12
SECTIONS = ("facts", "timeline", "blur", "drift", "pairs", "deformation", "strain", "errors", "restored", "particles",
            "truth", "quality", "methods")
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Structure(html.parser.HTMLParser):
    """Every tag that is opened is closed; what the page refers to is in it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if found.get("id"):
            self.ids.append(found["id"] or "")
        self.references += [found[name] or "" for name in ("src", "href") if name in found]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data + " "


def read(page: Path) -> Structure:
    found = Structure()
    found.feed(page.read_text(encoding="utf-8"))
    found.close()
    assert not found.open
    assert len(set(found.ids)) == len(found.ids)
    for reference in found.references:   # no other file, no network
        assert reference.startswith("data:image/") or reference.removeprefix("#") in found.ids
    return found


def streamer_run(*arguments: object) -> int:
    return console.run(streamer.cli.app, "txm-streamer", [str(one) for one in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short simulated run whose truth is known, and its session."""
    folder = tmp_path_factory.mktemp("report")
    assert console.run(simulator.cli.app, "txm-simulator", [
        "run", "sun2025_txm", "--frames", str(FRAMES), "--size", "160x176", "--rate", "0", "--save",
        str(folder / "run.h5")]) == 0
    assert streamer_run("analyse", folder / "run.h5", "--out", folder / "session") == 0
    return folder


@pytest.fixture(scope="module")
def written(folder: Path) -> Structure:
    """The page with everything that can be asked for; one figure is painted, which is most of the time."""
    paint = drawing.Drawn.picture

    def one(drawn: drawing.Drawn, kind: str, **_: object) -> bytes:
        if drawn.name == "fig0_timeline":
            return paint(drawn, kind, dpi=50)
        return {"png": b"\x89PNG", "pdf": b"%PDF-"}[kind]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing.Drawn, "picture", one)
        assert streamer_run("report", folder / "session", "--out", folder / "page.html", "--figures",
                            folder / "figures", "--compare", folder / "session", "--pair", "0,8", "--pair", "8,11",
                            "--region", "8,8,72,80") == 0
    return read(folder / "page.html")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the painting, which is most of the time; the figures are composed all the same."""
    monkeypatch.setattr(drawing.Drawn, "picture", lambda _self, _kind, **_: b"picture")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_page_has_every_section_and_needs_nothing_else(folder: Path, written: Structure) -> None:
    assert set(SECTIONS) | {"comparison"} <= set(written.ids)
    assert (folder / "page.html").stat().st_size < 15_000_000
    assert {f"#{name}" for name in SECTIONS} <= set(written.references)   # the table of contents
    for words in (f"{FRAMES} of this view", "33.24 nm on the sample", "Results beside the truth",
                  "Frames were corrected by the running mean", "Software: txm-live", "No setting differs"):
        assert words in written.text
    assert written.text.count("Not shown") == 1   # so small a part of the sample shows no outlines of particles


def test_figures_come_as_pdf_and_png_with_their_numbers(folder: Path, written: Structure) -> None:
    names = {path.name for path in (folder / "figures").iterdir()}
    for figure in ("fig0_timeline", "fig1_blur", "fig2_drift", "fig3_pairs", "fig4_deformation", "fig5_strain",
                   "fig6_errors", "fig7_restored"):
        assert {f"{figure}.pdf", f"{figure}.png"} <= names
        assert any(name.startswith(f"{figure}_") and name.endswith(".csv") for name in names)
        assert figure in written.ids
        assert (folder / f"figures/{figure}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / f"figures/{figure}.pdf").read_bytes().startswith(b"%PDF-")
    assert not [name for name in names if name.endswith(".part")]


@pytest.mark.parametrize("draw", [report_figures.pairs_figure, report_figures.field_figure,
                                  report_figures.restored_figure])
def test_figures_with_pictures_can_be_painted(folder: Path, draw: Callable[..., drawing.Drawn | str]) -> None:
    subject = read_subject(folder / "session")
    with open_recording(folder / "run.h5") as recording:
        drawn = draw(subject, Album(subject, recording), drawing.Scale(subject.pixel_size_nm))
    assert isinstance(drawn, drawing.Drawn)
    assert drawn.picture("png", dpi=40).startswith(b"\x89PNG")


def test_numbers_behind_the_figures_are_those_of_the_journal(folder: Path, written: Structure) -> None:
    assert written.ids
    with Journal(folder / "session") as journal:
        rows = {row.index: row for _, row in journal.rows() if row.kind == "projection"}
        flows = {flow.index: flow for flow in journal.flows()}
        spectra = {one.index: one for one in journal.spectra()}
    path = table(folder / "figures/fig2_drift_path.csv")
    assert [int(line["index"]) for line in path] == sorted(rows)
    for line in path:
        row = rows[int(line["index"])]
        for name in ("drift_y_px", "drift_x_px", "drift_sigma_px", "trend_y_px", "jitter_x_px"):
            value = getattr(row, name)
            assert line[name] == ("" if value is None else str(value))
        assert float(line["time_min"]) == pytest.approx(15 * row.index)
    frames = table(folder / "figures/fig0_timeline_frames.csv")
    assert [line["verdict"] for line in frames] == [rows[index].verdict for index in sorted(rows)]
    last = max(index for index, flow in flows.items() if index != flow.reference_index)
    points = table(folder / "figures/fig4_deformation_field.csv")
    np.testing.assert_array_equal(np.array([line["displacement_y_px"] for line in points], np.float32),
                                  flows[last].displacement_px[0].ravel())
    curves = table(folder / "figures/fig1_blur_spectra.csv")
    blurred = max((row for row in rows.values() if row.verdict == "blurred"), key=lambda row: row.blur_length_px or 0.0)
    np.testing.assert_allclose(np.array([line["blurred_horizontal_relative_power"] for line in curves], np.float32),
                               spectra[blurred.index].horizontal)
    pair = table(folder / "figures/fig3_pairs_field_0_to_8.csv")
    np.testing.assert_array_equal(np.array([line["valid"] for line in pair], int), flows[8].valid.ravel())
    assert table(folder / "figures/fig3_pairs_regions.csv") == [
        {"top_px": "8", "left_px": "8", "bottom_px": "72", "right_px": "80"}]


def test_numbers_agree_with_the_truth_within_the_stated_error(folder: Path) -> None:
    truth = read_truth(folder / "run.h5")
    assert truth is not None
    lines = {line[0]: line for line in beside(read_subject(folder / "session"), truth).rows}
    assert "0 false, 0 missed" in lines["blurred frames"][2]
    for name, line in lines.items():
        if line[5]:
            assert float(line[3]) < 1.5 * float(line[4]), name
            assert float(line[5].rstrip(" %")) >= 75, name


def test_the_truth_moves_what_it_should(folder: Path) -> None:
    truth = read_truth(folder / "run.h5")
    assert truth is not None
    y, x = np.array([40.0, 80.0]), np.array([50.0, 90.0])
    np.testing.assert_allclose(truth.between(3, 3, y, x), 0, atol=1e-9)
    there = truth.between(0, 9, y, x)
    np.testing.assert_allclose(truth.between(9, 0, y + there[0], x + there[1]), -there, atol=5e-3)
    assert read_truth(folder) is None


def changed(folder: Path, target: Path, change: Callable[[list[FrameRow]], list[FrameRow]], **facts: object) -> Path:
    """Copy a session with other rows and facts."""
    shutil.copytree(folder / "session", target)
    with Journal(folder / "session") as journal:
        rows = list(journal.rows())
    new = change([row for _, row in rows])
    db = sqlite3.connect(target / FILE_NAME)
    db.execute("DELETE FROM frames")
    if "settings" not in facts:
        kept = [row.index for row in new if row.kind == "projection"]
        db.execute(f'DELETE FROM flows WHERE "index" NOT IN ({", ".join(map(str, kept))})')  # noqa: S608
    db.executemany("UPDATE meta SET value = ? WHERE key = ?",
                   [(json.dumps(value), key) for key, value in facts.items()])
    names = ", ".join(f'"{name}"' for name in FrameRow.__struct_fields__)
    marks = ", ".join("?" * len(FrameRow.__struct_fields__))
    db.executemany(f"INSERT INTO frames ({names}, sequence, arrival) VALUES ({marks}, ?, ?)",  # noqa: S608
                   [(*msgspec.structs.astuple(row), place, place) for place, row in enumerate(new, start=1)])
    db.commit()
    db.close()
    return target


def verdicts(rows: list[FrameRow], verdict: str) -> list[FrameRow]:
    return [msgspec.structs.replace(row, verdict=verdict, blur_length_px=4.0) if row.kind == "projection" else row
            for row in rows]


def first_frame(rows: list[FrameRow]) -> list[FrameRow]:
    return [row for row in rows if row.kind != "projection" or row.index == 0]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("change", "facts", "expected"), [
    (lambda rows: rows, {"ended_at": None}, ("so far",)),
    (lambda rows: rows, {"pixel_size_nm": None}, ("size not known: all lengths are in px",)),
    (first_frame, {}, ("1 frames", "no frame was found blurred", "there is no displacement field")),
    (lambda rows: verdicts(rows, "blurred"), {}, ("no frame is sharp", "no frame that stands is sharp",
                                                  "there is no displacement field")),
    (lambda rows: verdicts(rows, "bad"), {}, ("12 bad", "no frame was found blurred")),
    (lambda rows: rows, {"recording": None, "input": "tcp://127.0.0.1:1"}, (
        "was taken live and keeps no pictures", "restoring a frame needs the recording")),
    (lambda rows: rows, {"recording": {"path": "/nowhere/run.h5"}}, ("which is not there any more",)),
    (lambda rows: rows, {"calibration": {"pattern": "none", "flats": 0, "darks": 0, "photons_per_px": None}}, (
        "nothing: no flats", "No flats were recorded; frames were analysed as they came")),
])
def test_what_is_missing_is_said(
    folder: Path, tmp_path: Path, change: Callable[[list[FrameRow]], list[FrameRow]], facts: dict[str, object],
    expected: tuple[str, ...],
) -> None:
    session = changed(folder, tmp_path / "other", change, **facts)
    assert streamer_run("report", session, "--out", tmp_path / "page.html") == 0
    found = read(tmp_path / "page.html").text
    for words in expected:
        assert words in found


@pytest.mark.usefixtures("quick")
def test_frames_taken_again_take_the_place_of_bad_ones(folder: Path, tmp_path: Path) -> None:
    def again(rows: list[FrameRow]) -> list[FrameRow]:
        bad = next(row for row in rows if row.verdict == "blurred")
        good = next(row for row in rows if row.verdict == "sharp" and row.index == bad.index - 1)
        return [*rows, msgspec.structs.replace(good, index=FRAMES, recollects=bad.index)]

    session = changed(folder, tmp_path / "other", again)
    assert streamer_run("report", session, "--out", tmp_path / "page.html", "--figures", tmp_path / "figures") == 0
    with Journal(session) as journal:
        rows = [row for _, row in journal.rows() if row.kind == "projection"]
    path = [int(line["index"]) for line in table(tmp_path / "figures/fig2_drift_path.csv")]
    assert len(path) == FRAMES
    assert FRAMES in path
    assert rows[-1].recollects not in path
    assert f"{FRAMES} for {rows[-1].recollects}" in read(tmp_path / "page.html").text


@pytest.mark.usefixtures("quick")
def test_no_flow_is_said(folder: Path, tmp_path: Path) -> None:
    assert streamer_run("analyse", folder / "run.h5", "--out", tmp_path / "s", "--set", "flow.enabled=false") == 0
    assert streamer_run("report", tmp_path / "s", "--out", tmp_path / "page.html") == 0
    assert "there is no displacement field: flow was switched off" in read(tmp_path / "page.html").text
    assert streamer_run("report", folder / "session", "--out", tmp_path / "two.html", "--compare", tmp_path / "s") == 0
    found = read(tmp_path / "two.html").text
    assert "flow.enabled" in found
    assert "no field" in found


@pytest.mark.usefixtures("quick")
def test_what_a_name_says_is_not_taken_for_html(folder: Path, tmp_path: Path) -> None:
    session = changed(folder, tmp_path / "other", lambda rows: rows, session="<script>alert(1)</script>&")
    assert streamer_run("report", session, "--out", tmp_path / "page.html") == 0
    assert "<script" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert(1)</script>&" in read(tmp_path / "page.html").text


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("options", "status", "expected"), [
    (["--out", "{tmp}/missing/page.html"], 1, "does not exist; make it first"),
    (["--out", "{tmp}"], 1, "is a folder; give the name of a file"),
    (["--out", "{folder}/run.h5"], 2, "is what is to be read; give another file"),
    (["--out", "{tmp}/p.html", "--pair", "1"], 2, "is not 2 whole numbers"),
    (["--out", "{tmp}/p.html", "--pair", "4,4"], 2, "names one frame twice"),
    (["--out", "{tmp}/p.html", "--pair", "0,99"], 1, "holds no projection 99"),
    (["--out", "{tmp}/p.html", "--region", "9,9,3,20"], 2, "is empty"),
    (["--out", "{tmp}/p.html", *["--pair", "0,2"] * 3], 2, "the page shows two"),
    (["--out", "{tmp}/p.html", "--flat", "{tmp}"], 2, "belong to a recording; name it"),
    (["--out", "{tmp}/p.html", "--view", "side"], 1, "has no view 'side'"),
    (["--out", "{tmp}/p.html", "--compare", "{tmp}"], 1, "holds no session"),
    (["--out", "{tmp}/p.html", "--recording", "{tmp}/none.h5"], 1, "no such file or folder"),
])
def test_bad_usage_is_refused_in_a_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], status: int, expected: str
) -> None:
    given = [option.format(tmp=tmp_path, folder=folder) for option in options]
    assert streamer_run("report", folder / "session", *given) == status
    told = capsys.readouterr().err
    assert expected in told
    assert "Traceback" not in told
    assert not list(tmp_path.glob("*.html"))


@pytest.mark.usefixtures("quick")
def test_a_journal_of_a_newer_version_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
                                               ) -> None:
    session = changed(folder, tmp_path / "other", lambda rows: rows, schema=99)
    assert streamer_run("report", session, "--out", tmp_path / "page.html") == 1
    assert "use a newer txm-live" in capsys.readouterr().err


def test_a_session_without_frames_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Journal(tmp_path / "empty", create=True) as journal:
        journal.write(Batch())
    assert streamer_run("report", tmp_path / "empty", "--out", tmp_path / "page.html") == 1
    assert "holds no projection yet" in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_a_recording_of_another_size_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
                                                ) -> None:
    tifffile.imwrite(tmp_path / "small.tif", np.ones((FRAMES, 64, 64), np.uint16), photometric="minisblack")
    assert streamer_run("report", folder / "session", "--out", tmp_path / "page.html", "--recording",
                        tmp_path / "small.tif") == 1
    assert "give the recording that the session was made of" in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_a_full_disk_leaves_the_page_of_before(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.html").write_text("before")

    def full(_self: Path, _target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(page.Path, "replace", full)
    monkeypatch.setattr("streamer.service.reporting.render", lambda _: "new")
    monkeypatch.setattr("streamer.service.reporting._sections", lambda *_: ([], []))
    assert streamer_run("report", folder / "session", "--out", tmp_path / "page.html") == 1
    assert "No space left on device; a file of before is untouched" in capsys.readouterr().err
    assert (tmp_path / "page.html").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
