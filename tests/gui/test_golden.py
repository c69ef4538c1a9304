"""The whole window against pictures of it: a made-up session without clocks, addresses or chance.

When the dashboard is to look different: ``pytest tests/gui/test_golden.py --renew-golden``, look at what is in
tests/data/golden, and commit it. A picture that differs leaves the new one and the difference beside the test's report.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets
from skimage.metrics import structural_similarity
from support.fake_streamer import FakeStreamer, make_analysed_flow, make_picture, make_row, make_spectra, moment

from monitor.commander import Answer
from monitor.feed import Feed, Link, LinkState
from monitor.store import Store
from monitor.theme import THEMES
from monitor.window import Window
from streamer.records import Accounting, Alert, CalibrationState, Recollection, Status, Tally
from streamer.service.spectra import with_picture
from streamer.wire import Topic, decode_result, encode_result

pytestmark = [pytest.mark.gui, pytest.mark.qt_log_ignore("propagateSizeHints", "XDG_RUNTIME_DIR", "raise()")]

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
SIZE = 1366, 768
FRAMES = 60
FAMILY = "DejaVu Sans"
LEAST_SSIM = 0.98
LEAST_TILE_SSIM = 0.65
"""Of the worst square of `TILE_PX`: a word that is gone, or a mark that moved by 2 px, is not seen in the mean."""
TILE_PX = 24


class Known:
    """Answers at once what the streamer would answer."""

    read_only = False

    def ask(self, op: str, *, done: Any, **arguments: Any) -> None:
        result: Any = None
        if op == "thumbnails":
            result = FakeStreamer._thumbnails(_Rows(), **arguments)   # type: ignore[arg-type]
        done(Answer(op, arguments, result, "" if result is not None else f"{op} is not kept"))


class _Rows:
    def __init__(self) -> None:
        self.rows = {index: (index + 1, make_row(index)) for index in range(FRAMES)}


def made_up() -> Store:
    """Return what a streamer would have told of 60 frames."""
    store, sequence = Store(), 0
    store.reset("made-up")

    def tell(topic: Topic, fields: Any, arrays: dict[str, Any] | None = None) -> None:
        nonlocal sequence
        sequence += 1
        parts = encode_result(topic, fields, session="made-up", sequence=sequence, arrays=arrays)
        store.accept(decode_result([bytes(part) for part in parts]))

    for index in range(FRAMES):
        tell("frame", make_row(index))
    tell("frame", make_row(FRAMES, verdict="sharp", blur_length_px=0.9, recollects=47))
    about, more = with_picture(make_spectra(FRAMES))
    tell("image", {"index": FRAMES, "acquisition": "scan-1", "view": "A", "kind": "projection", "offset": 0.0,
                   "scale": 1 / 65_535, "binning": 1, "pixel_size_nm": 21.0, **about},
         {"image": make_picture(0), **more})
    flow = make_analysed_flow(FRAMES)
    fields = {name: getattr(flow, name) for name in flow.__struct_fields__ if getattr(flow, name) is not None}
    arrays = {name: fields.pop(name) for name in list(fields) if isinstance(fields[name], np.ndarray)}
    tell("flow", fields, arrays)
    for alert in (
        Alert(id=1, raised_at=moment(8), severity="MINOR", rule="blurred_frame", index=8, view="A",
              acquisition="scan-1", text="blurred by 8.3 px, tolerance 3 px", state="closed", active=False, who="ANNA"),
        Alert(id=2, raised_at=moment(30), severity="MAJOR", rule="bad_frame", acquisition="scan-1", view="A", index=30,
              text="no usable image: brightness 3 % of the usual", state="new"),
        Alert(id=3, raised_at=moment(47), severity="MINOR", rule="blurred_frame", acquisition="scan-1", view="A",
              text="blurred by 6.1 px, tolerance 3 px", index=47, state="recollected", active=False,
              recollected_as=FRAMES, recollected_verdict="sharp")):
        tell("alert", alert)
    tell("recollect", Recollection(id=1, requested_at=moment(30), acquisition="scan-1", index=30, view="A",
                                   reason="bad frame"))
    tell("status", Status(
        at=0.0, state="receiving", version="1.0", uptime_s=60.0, session_dir="made-up", frames_endpoint="", acquisition=
        "scan-1", results_endpoint="", control_endpoint="", views=["A"], queue=0, queue_limit=64, received_hz=4.0,
        measured_hz=4.0, accounting=Accounting(received=61, measured=60, missing=Tally(count=2, indices=[[11, 12]])),
        latency_median_ms=31.0, latency_p95_ms=44.0, last_frame_age_s=0.2, disk_free_gb=412.0, pixel_size_nm=21.0,
        calibration=CalibrationState(pattern="flats", flats=20, darks=10),
        blur_tolerance_px=3.0, blur_score_threshold=3.5))
    return store


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch, qapp: Any) -> Iterator[None]:
    """One font, one time zone."""
    if FAMILY not in QtGui.QFontDatabase().families():
        pytest.skip(f"the font {FAMILY} is not on this machine (Debian: fonts-dejavu-core)")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    before = qapp.font()
    qapp.setFont(QtGui.QFont(FAMILY, 9))
    yield
    qapp.setFont(before)
    monkeypatch.undo()
    time.tzset()


def grab(theme: str, qtbot: Any) -> np.ndarray:
    """Return the window as (M, N, 3) uint8."""
    feed = Feed(made_up(), "tcp://127.0.0.1:5556")   # never started
    link = Link(LinkState.LIVE, feed.endpoint, age_s=0.2, has_history=True)
    feed.link = lambda: link   # type: ignore[method-assign]
    window = Window(feed, theme=THEMES[theme], commander=Known())   # type: ignore[arg-type]
    window._gauge = Still()   # type: ignore[assignment]
    qtbot.addWidget(window)
    window.resize(*SIZE)
    with qtbot.waitExposed(window):
        window.show()
    window.refresh_now()
    for _ in range(3):   # layouts settle, then what they gave room to is drawn
        QtWidgets.QApplication.processEvents()
        window.refresh_now()
    picture = window.grab().toImage().convertToFormat(QtGui.QImage.Format.Format_RGB888)
    assert (picture.width(), picture.height()) == SIZE
    buffer = QtCore.QBuffer()
    buffer.open(QtCore.QIODevice.OpenModeFlag.WriteOnly)
    picture.save(buffer, "PNG")
    window.close()
    feed.stop()
    return np.asarray(Image.open(io.BytesIO(bytes(buffer.data()))).convert("RGB"))


class Still:
    """A gauge that always says the same."""

    hz, skipped, delay_ms = 4.0, 0, (8.0, 21.0)

    def __getattr__(self, _name: str) -> Any:
        return lambda *_: None


def compare(picture: np.ndarray, golden: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Return the similarity, that of the worst square, and the map of it."""
    mean, each = structural_similarity(picture, golden, channel_axis=2, full=True)
    every = each.mean(axis=2)
    rows, columns = (side // TILE_PX for side in every.shape)
    tiles = every[:rows * TILE_PX, :columns * TILE_PX].reshape(rows, TILE_PX, columns, TILE_PX).mean(axis=(1, 3))
    return float(mean), float(tiles.min()), every


@pytest.mark.usefixtures("fixed")
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_window_looks_as_it_did(theme: str, qtbot: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    picture, path = grab(theme, qtbot), GOLDEN / f"{SIZE[0]}x{SIZE[1]}-{theme}.png"
    if request.config.getoption("--renew-golden"):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path, optimize=True)
        return
    golden = np.asarray(Image.open(path).convert("RGB"))
    mean, worst, every = compare(picture, golden)
    if mean < LEAST_SSIM or worst < LEAST_TILE_SSIM:
        difference = (255 * np.clip(1 - every, 0, 1)).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / "now.png")
        Image.fromarray(difference).save(tmp_path / "difference.png")
        pytest.fail(f"the {theme} window differs from {path}: SSIM {mean:.4f} (least {LEAST_SSIM}), worst square "
                    f"{worst:.2f} (least {LEAST_TILE_SSIM}); see now.png and difference.png in {tmp_path}. If it is to "
                    "look like this now: pytest tests/gui/test_golden.py --renew-golden")
