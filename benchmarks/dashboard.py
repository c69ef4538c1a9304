"""Measure the dashboard: cost of an update, message to painted, overload, and a long history.

Usage: ``.venv/bin/python -P benchmarks/dashboard.py [update] [latency] [overload] [history] [--xcb]``

The window is drawn off screen, or with ``--xcb`` on the X server of ``DISPLAY`` (``xvfb-run -s "-dpi 96"``). What
streams is a process of its own that publishes made-up results through the outbox of the streamer. Times of the
window are CPU times of its process, but for the latencies.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamer.journal import Batch, Journal
from streamer.records import Accounting, Alert, FlowResult, FrameRow, SpectraResult, Status
from streamer.service.outbox import Outbox
from streamer.service.spectra import with_picture
from streamer.wire import decode_result, encode_result

SHAPE = (654, 678)
ARROWS = 39
"""On a side: 1521 of them."""
HISTORY = 100_000
KEYS = ("next_flagged", "deselect", "toggle_whole", "toggle_whole", "fit")
"""What the keys N, Esc, W, W and F do: the newest picture is shown four fifths of the time."""
FLOW_ARRAYS = ("displacement_px", "valid", "sigma_px", "grid_y_px", "grid_x_px")


def make_row(index: int) -> FrameRow:
    random = np.random.default_rng(index)
    jitter, blurred = random.normal(0, 0.6, 2).tolist(), index % 13 == 8
    trend = 0.05 * (index % 2000), -0.12 * (index % 2000)
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(1_790_000_000 + index)) + ".000000+00:00"
    return FrameRow(
        index=index, acquisition="scan", view="A", kind="projection", exposed_at=at, received_at=at,
        verdict="blurred" if blurred else "sharp", blur_length_px=0.8 + 6.0 * blurred, blur_length_sigma_px=0.2,
        blur_angle_deg=37.0, blur_score=9.0 if blurred else 0.7, blur_limit_px=1.4, drift_y_px=trend[0] + jitter[0],
        drift_x_px=trend[1] + jitter[1], drift_sigma_px=0.08, trend_y_px=trend[0], trend_x_px=trend[1],
        jitter_y_px=jitter[0], jitter_x_px=jitter[1], registration_quality=0.93, reference_index=0,
        flow_median_px=0.3, flow_p95_px=1.1, latency_ms=31.0)


class Maker:
    """Pictures, spectra and fields like those of the TXM."""

    def __init__(self) -> None:
        y, x = np.mgrid[:SHAPE[0], :SHAPE[1]].astype(np.float32)
        random = np.random.default_rng(1)
        image = np.full(SHAPE, 42_000, np.float32)
        for _ in range(120):
            centre, radius = random.uniform(0, 1, 2) * SHAPE, random.uniform(6, 22)
            image *= 1 - 0.35 * np.clip(radius - np.hypot(y - centre[0], x - centre[1]) + 1, 0, 1)
        self.images = [(image * random.normal(1, 0.03, SHAPE)).astype(np.uint16) for _ in range(8)]
        self.grid_y, self.grid_x = (np.linspace(10, size - 10, ARROWS, dtype=np.float32) for size in SHAPE)
        self.where = np.meshgrid(np.linspace(-1, 1, ARROWS), np.linspace(-1, 1, ARROWS), indexing="ij")

    def image(self, index: int) -> tuple[dict[str, Any], dict[str, Any]]:
        curve = (1e-6 * ((np.arange(128) + 0.5) / 256) ** -4 + 0.005).astype(np.float32)
        spectra = SpectraResult(index=index, acquisition="scan", view="A", horizontal=curve, vertical=curve,
                                floor=0.005, picture=np.zeros((128, 64), np.uint8), picture_low=-3.0, picture_high=2.0,
                                reference_horizontal=curve, reference_vertical=curve)
        about, more = with_picture(spectra)
        return ({"index": index, "acquisition": "scan", "view": "A", "kind": "projection", "offset": 0.0,
                 "scale": 1 / 65_535, "binning": 1, "pixel_size_nm": 21.0, **about},
                {"image": self.images[index % 8], **more})

    def flow(self, index: int) -> tuple[dict[str, Any], dict[str, Any]]:
        field = np.stack(self.where).astype(np.float32) * np.float32(1.5 + 0.2 * np.sin(index / 9))
        flow = FlowResult(
            index=index, acquisition="scan", view="A", reference_index=0, drift_y_px=0.0, drift_x_px=0.0,
            grid_y_px=self.grid_y, grid_x_px=self.grid_x, displacement_px=field,
            valid=np.ones((ARROWS, ARROWS), np.bool_), sigma_px=np.full((ARROWS, ARROWS), 0.05, np.float32),
            flow_median_px=0.7, flow_p95_px=1.3)
        fields = {name: value for name, value in msgspec.structs.asdict(flow).items() if value is not None}
        return fields, {name: fields.pop(name) for name in FLOW_ARRAYS}


def make_status(frames: int, outbox: Outbox | None = None) -> Status:
    return Status(
        at=time.time(), state="receiving", version="benchmark", uptime_s=time.monotonic(), session_dir="benchmark",
        frames_endpoint="tcp://127.0.0.1:5555", results_endpoint=outbox.results_endpoint if outbox else "",
        control_endpoint=outbox.control_endpoint if outbox else "", acquisition="scan", views=["A"],
        accounting=Accounting(received=frames, measured=frames), pixel_size_nm=21.0, blur_tolerance_px=3.0,
        blur_score_threshold=3.5, latency_median_ms=30.0, latency_p95_ms=40.0, last_frame_age_s=0.1)


def stream(folder: Path, *, hz: float, frames: int) -> None:
    """Be the streamer: wait for a word on standard input, then publish; end when it is closed."""
    journal = Journal(folder, create=True, resume=True)
    outbox = Outbox("tcp://127.0.0.1:*", "tcp://127.0.0.1:*", folder=folder, handler=lambda *_: None)
    outbox.update_status(make_status(0, outbox))
    print(outbox.results_endpoint, flush=True)
    sys.stdin.readline()
    maker, began = Maker(), time.monotonic()
    for index in range(frames):
        time.sleep(max(0.0, began + index / hz - time.monotonic()))
        journal.write(Batch(rows=[(index + 1, make_row(index))]))
        outbox.publish("frame", index + 1, make_row(index), {})
        outbox.publish("image", index + 1, *maker.image(index))
        outbox.publish("flow", index + 1, *maker.flow(index))
        outbox.update_status(make_status(index + 1, outbox))
    sys.stdin.readline()
    outbox.close()
    journal.close()


@contextmanager
def streaming(folder: Path, *, hz: float = 20.0, frames: int = 0) -> Iterator[tuple[str, Callable[[], None]]]:
    """Start the streamer; yield its address and what makes it begin."""
    child = subprocess.Popen([sys.executable, "-P", __file__, "--stream", str(folder), "--hz", str(hz), "--frames",
                              str(frames)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None

    def begin() -> None:
        child.stdin.write("go\n")
        child.stdin.flush()

    try:
        yield child.stdout.readline().strip(), begin
    finally:
        child.communicate()


class Desk:
    """A window of a size, on an address or without."""

    def __init__(self, results: str = "tcp://127.0.0.1:1", *, size: tuple[int, int] = (1920, 1080)) -> None:
        import pyqtgraph as pg  # noqa: PLC0415  (after the platform was chosen, likewise the next ones)
        from pyqtgraph.Qt import QtCore  # noqa: PLC0415

        from monitor.application import TIDY_MS, give_memory_back  # noqa: PLC0415
        from monitor.feed import Feed  # noqa: PLC0415
        from monitor.store import Store  # noqa: PLC0415
        from monitor.window import Window  # noqa: PLC0415

        self.app = pg.mkQApp()
        self.tidy = QtCore.QTimer()
        self.tidy.timeout.connect(give_memory_back)
        self.tidy.start(TIDY_MS)
        self.feed = Feed(Store(), results)
        self.window = Window(self.feed)
        self.window.resize(*size)
        self.window.show()
        self.spin(0.3)

    def spin(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Run the loop of Qt as an application does: it sleeps when there is nothing to do."""
        from pyqtgraph.Qt import QtCore  # noqa: PLC0415

        end, loop, timer = time.monotonic() + seconds, QtCore.QEventLoop(), QtCore.QTimer()
        timer.timeout.connect(lambda: loop.quit() if until() or time.monotonic() > end else None)
        timer.start(5)
        loop.exec()
        timer.stop()

    def close(self) -> None:
        self.feed.stop()
        self.window.close()


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def update(_: Path) -> None:
    """All panels of the default layout, with everything new each time."""
    desk, maker = Desk(), Maker()
    store = desk.window.store
    store.reset("benchmark")

    def feed(index: int) -> None:
        for topic, fields, arrays in (("frame", make_row(index), {}), ("image", *maker.image(index)),
                                      ("flow", *maker.flow(index)), ("status", make_status(index + 1), {})):
            parts = encode_result(topic, fields, session="benchmark", sequence=index + 1, arrays=arrays)
            store.accept(decode_result([bytes(part) for part in parts]))

    for index in range(500):
        feed(index)
    store.accept(decode_result([bytes(part) for part in encode_result(
        "alert", Alert(id=1, raised_at="", severity="MAJOR", rule="blurred_frame", text="taken again, please"),
        session="benchmark", sequence=1)]))
    desk.window._clock.stop()
    desk.window.refresh_now()
    desk.spin(0.5)
    costs: dict[str, list[float]] = {"all": [], "picture": [], "charts": [], "labels": []}
    for index in range(500, 580):
        feed(index)
        for pacer in desk.window._pacers.values():
            pacer._timer.stop()
        kind = list(costs)[index % 4]
        began = time.process_time()
        for name, call in (("picture", desk.window._refresh_picture), ("charts", desk.window._refresh_charts),
                           ("labels", desk.window._refresh_labels)):
            if kind in ("all", name):
                call()
        desk.app.processEvents()
        costs[kind].append(1000 * (time.process_time() - began))
    for name, spent in costs.items():
        print(f"update of {name} panels, painted: median {np.median(spent):.1f} ms, 95 % "
              f"{np.percentile(spent, 95):.1f} ms CPU ({len(spent)} updates)")
    desk.close()


def latency(folder: Path) -> None:
    """Message received to picture painted, at 20 frames/s."""
    frames = 300
    with streaming(folder / "latency", hz=20.0, frames=frames) as (results, begin):
        desk = Desk(results)
        desk.feed.start()
        desk.spin(5.0, lambda: desk.feed.link().has_history)
        begin()
        spent = time.process_time()
        desk.spin(60.0, lambda: len(desk.window.store) >= frames)
        desk.spin(0.3)
        scene = desk.window.scene()
        spent = time.process_time() - spent
        assert scene.paint_ms is not None
        print(f"20 frames/s: received to painted {scene.paint_ms[0]:.1f} ms median, {scene.paint_ms[1]:.1f} ms at "
              f"95 %; {scene.skipped} of {desk.window.store.pictures} pictures skipped; "
              f"{100 * spent / (frames / 20):.0f} % of a core")
        desk.close()


def overload(folder: Path) -> None:
    """200 frames/s while each painting takes 25 ms."""
    from pyqtgraph.Qt import QtCore  # noqa: PLC0415

    frames, held, delays = 4000, [], []

    class Presser(QtCore.QObject):
        pressed = QtCore.Signal(float)

    with streaming(folder / "overload", hz=200.0, frames=frames) as (results, begin):
        desk = Desk(results)
        canvas = next(panel.canvas for panel in desk.window.panels.values() if type(panel).__name__ == "FramePanel")
        paint = canvas.paintEvent

        def slow(event: Any) -> None:
            paint(event)
            time.sleep(0.025)

        canvas.paintEvent = slow
        presser, stop = Presser(), threading.Event()

        def answer(at: float) -> None:
            getattr(desk.window, KEYS[len(delays) % len(KEYS)])()
            delays.append(1000 * (time.monotonic() - at))

        def press() -> None:
            while not stop.wait(0.2):
                presser.pressed.emit(time.monotonic())
                held.append(resident_mb())

        presser.pressed.connect(answer)
        desk.feed.start()
        desk.spin(5.0, lambda: desk.feed.link().has_history)
        begin()
        desk.spin(2.0)
        thread = threading.Thread(target=press)
        thread.start()
        desk.spin(60.0, lambda: len(desk.window.store) >= frames)
        stop.set()
        thread.join()
        store, scene = desk.window.store, desk.window.scene()
        half = len(held) // 2
        print(f"200 frames/s, 25 ms a painting: {len(store)} of {frames} rows, lost {store.lost or 0}, "
              f"painted {store.pictures - scene.skipped}; memory {np.mean(held[:half]):.0f} -> "
              f"{np.mean(held[half:]):.0f} MB; keys answered within {np.median(delays):.0f} ms, "
              f"95 % {np.percentile(delays, 95):.0f} ms, longest {max(delays):.0f} ms")
        desk.close()


def history(folder: Path) -> None:
    """Open a session of 100,000 frames, then pan and zoom."""
    session = folder / "history"
    with Journal(session, create=True) as journal:
        journal.write(Batch(state={"benchmark": b""}))   # as a streamer leaves it, to go on with
        for first in range(0, HISTORY, 10_000):
            journal.write(Batch(rows=[(index + 1, make_row(index)) for index in range(first, first + 10_000)]))
    with streaming(session) as (results, begin):
        desk = Desk(results)
        began, spent = time.monotonic(), time.process_time()
        desk.feed.start()
        desk.spin(60.0, lambda: desk.feed.link().has_history and len(desk.window.store) == HISTORY
                  and desk.window._charts.order.size == HISTORY)
        opened_s, spent = time.monotonic() - began, time.process_time() - spent
        desk.window.toggle_whole()
        desk.spin(0.5)
        box = next(panel.plot.getViewBox() for panel in desk.window.panels.values()
                   if type(panel).__name__ == "SharpnessPanel")
        began_cpu, steps = time.process_time(), 60
        for step in range(steps):
            width = HISTORY * 0.93**step
            box.setXRange(200.0 * step, 200.0 * step + width, padding=0)
            box.sigRangeChangedManually.emit([True, False])   # as the mouse does; charts draw anew 5 times a second
            desk.app.processEvents()
        moves = steps / (time.process_time() - began_cpu)
        print(f"{HISTORY} frames: opened in {opened_s:.2f} s ({spent:.2f} s CPU here); pan and zoom {moves:.0f} per "
              f"second of CPU; {resident_mb():.0f} MB resident, at most "
              f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f} MB")
        desk.close()
        begin()


PARTS = {"update": update, "latency": latency, "overload": overload, "history": history}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[])
    parser.add_argument("--xcb", action="store_true")
    parser.add_argument("--stream", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--hz", type=float, default=20.0, help=argparse.SUPPRESS)
    parser.add_argument("--frames", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.stream is not None:
        stream(asked.stream, hz=asked.hz, frames=asked.frames)
        return
    os.environ.setdefault("PYQTGRAPH_QT_LIB", "PyQt5")
    os.environ["QT_FONT_DPI"] = "96"
    if not asked.xcb:
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
    for name in asked.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            if asked.parts == [name]:
                PARTS[name](Path(folder))
            else:   # each in a process of its own: memory and caches of one do not count for the other
                subprocess.run([sys.executable, "-P", __file__, name, *(["--xcb"] if asked.xcb else [])], check=True)


if __name__ == "__main__":
    main()
