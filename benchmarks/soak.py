"""Leave the dashboard on for half an hour, and watch its memory, what it shows, and how soon it answers keys.

Usage: ``.venv/bin/python -P benchmarks/soak.py [--minutes 30] [--hz 50] [--rows N] [--json FILE]``.

What streams is a process of its own: rows at the given rate, ten pictures of 654 x 678 a second with spectra and 1521
arrows, strain and regions now and then, an alert every 20 s that is over 10 s later, thumbnails and earlier pictures
for who asks. The window is drawn off screen at 1920 x 1080 with all panels of the default layout; a key is pressed
every 2 s. All rows are kept, by design: what they take in a bare store is measured apart, in another process. With
``--rows 2000`` the same rows come again and again, as revisions: then nothing may grow once the caches are full.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))   # -P leaves it out
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from dashboard import ARROWS, Desk, Maker, make_row, make_status, resident_mb
from support.fake_streamer import FakeStreamer, jpeg, make_picture, packed_picture

from monitor.store import Store
from streamer.records import STRAIN_PLANES, Alert
from streamer.wire import decode_result, encode_result

PICTURES_HZ = 10
SETTLED_S = 300.0
SAMPLE_S = 10.0
KEYS = ("N", "End", "Left", "End", "Space", "Space", "W", "W", "D", "D", "F", "2", "1", "Home", "End")
"""It shows the newest frame three quarters of the time."""


def publish(hz: float, minutes: float, rows: int) -> None:
    """Be the streamer: wait for a word on standard input, then publish; end when it is closed."""
    fake, maker = FakeStreamer(session="soak"), Maker()
    fake.answers["picture"] = lambda index, acquisition, kind="corrected": (
        packed_picture(index % 8, acquisition, kind) | {"index": index})
    fake.answers["thumbnails"] = lambda since=0, limit=50: thumbnails(len(fake.rows), since, limit)
    print(fake.results, flush=True)
    sys.stdin.readline()
    began, frames, every = time.monotonic(), int(60 * minutes * hz), max(1, round(hz / PICTURES_HZ))
    for index in range(frames):
        time.sleep(max(0.0, began + index / hz - time.monotonic()))
        fake.frame(make_row(index % rows))
        if index % every == 0:
            fake.send("image", *maker.image(index % rows))
            fields, arrays = maker.flow(index % rows)
            more, analysis = analysed() if index % (10 * every) == 0 else ({}, {})
            fake.send("flow", fields | analysis, arrays | more)
        if index % round(hz) == 0:
            fake.send("status", make_status(index + 1))
        number, since = divmod(index, round(20 * hz))
        number %= max(1, rows // round(20 * hz))
        if since in (0, round(10 * hz)):
            fake.alert(Alert(id=number + 1, raised_at=make_row(index).received_at or "", severity="MINOR",
                             rule="blurred_frame", text="blurred by 6.8 px, longer than 3 px", acquisition="scan",
                             view="A", index=index % rows, active=since == 0, state="new" if since == 0 else "closed"))
    print("done", flush=True)
    while sys.stdin.readline():
        pass
    fake.close()


def thumbnails(rows: int, since: int, limit: int) -> dict[str, Any]:
    last = min(since + limit, rows)
    return {"thumbnails": [{"index": index, "acquisition": "scan", "view": "A",
                            "data": jpeg(make_picture(index % 8, (48, 64)))} for index in range(since, last)],
            "next": last, "more": last < rows}


def analysed() -> tuple[dict[str, Any], dict[str, Any]]:
    strain = np.full((len(STRAIN_PLANES), ARROWS, ARROWS), 0.02, np.float32)
    regions = np.zeros((ARROWS, ARROWS), np.int16)
    regions[:, ARROWS // 2:] = 1
    groups = [{"number": number, "points": ARROWS * ARROWS // 2, "displacement_y_px": 0.0,
               "displacement_x_px": number - 0.5, "rotation_deg": 0.1} for number in (0, 1)]
    return {"strain": strain, "regions": regions}, {"analysis": {"regions": groups}}


def bare_rows(frames: int) -> None:
    """Print what these rows take in a store without a window, in MB."""
    store, before = Store(), 0.0
    store.reset("soak")
    for index in range(frames):
        if index == frames // 10:   # what is imported and grows once is not counted
            before = resident_mb()
        parts = encode_result("frame", make_row(index), session="soak", sequence=index + 1)
        store.accept(decode_result([bytes(part) for part in parts]))
    print((resident_mb() - before) / 0.9)


class Watch:
    """Presses keys and takes notes while the loop of Qt runs."""

    def __init__(self, desk: Desk) -> None:
        from pyqtgraph.Qt import QtCore, QtTest  # noqa: PLC0415  (after the platform was chosen)

        self.desk, self.began = desk, time.monotonic()
        self.samples: list[list[float]] = []
        """Seconds, MB, rows, skipped, lost, load of the machine."""
        self.keys_ms: list[float] = []
        self.paint_ms: list[float] = []
        self._stop = threading.Event()
        self._sampled_at = self.began
        window = desk.window

        class Presser(QtCore.QObject):
            due = QtCore.Signal(str, float)

        def press(name: str, at: float) -> None:
            QtTest.QTest.keyClick(window, getattr(QtCore.Qt.Key, f"Key_{name}"))
            self.keys_ms.append(1000 * (time.monotonic() - at))

        self._presser = Presser()
        self._presser.due.connect(press)
        self._thread = threading.Thread(target=self._press)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def look(self) -> bool:
        """Take a note every ten seconds; False, so that the loop goes on."""
        now = time.monotonic()
        if now - self._sampled_at >= SAMPLE_S:
            self._sampled_at = now
            scene = self.desk.window.scene()
            self.paint_ms += [1000 * delay for delay in self.desk.window._gauge._delays]
            self.desk.window._gauge._delays.clear()
            self.samples.append([round(now - self.began, 1), round(resident_mb(), 2), len(scene.store), scene.skipped,
                                 sum(scene.store.lost.values()), round(os.getloadavg()[0], 1)])
            print(json.dumps(self.samples[-1]), flush=True)
        return False

    def _press(self) -> None:
        number = 0
        while not self._stop.wait(2.0):
            self._presser.due.emit(KEYS[number % len(KEYS)], time.monotonic())
            number += 1


def soak(minutes: float, hz: float, rows: int) -> dict[str, Any]:
    """Run the window; return all that was noted."""
    command = [sys.executable, "-P", __file__, "--publish", "--minutes", str(minutes), "--hz", str(hz), "--rows",
               str(rows)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    desk = Desk(child.stdout.readline().strip())
    desk.feed.start()
    desk.window.commander.start()
    desk.window.activateWindow()
    desk.spin(5.0, lambda: desk.feed.link().has_history)
    child.stdin.write("go\n")
    child.stdin.flush()
    watch, frames = Watch(desk), int(60 * minutes * hz)
    watch.start()
    cpu = time.process_time()
    desk.spin(60 * minutes + 120, _either(watch.look, lambda: desk.window.store.heard("frame") >= frames))
    cpu = time.process_time() - cpu
    watch.stop()
    desk.spin(1.0)
    store, scene = desk.window.store, desk.window.scene()
    found = {"minutes": minutes, "hz": hz, "kept": min(rows, frames), "samples": watch.samples, "frames": frames,
             "rows": len(store), "lost": store.lost, "pictures": store.pictures, "skipped": scene.skipped,
             "keys_ms": watch.keys_ms, "paint_ms": watch.paint_ms, "cpu_s": cpu}
    desk.window.commander.stop()
    desk.close()
    child.communicate()
    return found


def _either(*conditions: Callable[[], bool]) -> Callable[[], bool]:
    return lambda: any(condition() for condition in conditions)


def report(found: dict[str, Any]) -> None:
    samples = np.array(found["samples"])
    for minute in sorted({0, found["minutes"] / 3, found["minutes"] * 2 / 3, found["minutes"]}):
        at = samples[np.argmin(np.abs(samples[:, 0] - 60 * minute))]
        print(f"{at[0] / 60:5.1f} min: {at[1]:.0f} MB, {at[2]:.0f} rows")
    settled = samples[samples[:, 0] >= min(SETTLED_S, 10 * found["minutes"])]
    slope = 3600 * np.polyfit(settled[:, 0], settled[:, 1], 1)[0]
    print(f"after settling {slope:.1f} MB/h; {1e6 * found['bare_rows_mb'] / found['kept']:.0f} bytes a row in a store "
          "without a window")
    print(f"{found['rows']} of {found['kept']} rows, lost {found['lost'] or 0}; {found['skipped']} of "
          f"{found['pictures']} pictures skipped; {100 * found['cpu_s'] / 60 / found['minutes']:.0f} % of a core")
    for name in ("paint_ms", "keys_ms"):
        median, most = np.percentile(found[name], [50, 95])
        print(f"{ {'paint_ms': 'received to painted', 'keys_ms': 'keys answered'}[name] }: median {median:.1f} ms, "
              f"95 % {most:.1f} ms, longest {max(found[name]):.0f} ms ({len(found[name])})")
    print(f"load of the machine: {np.median(samples[:, 5]):.1f}, nice {os.nice(0)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--hz", type=float, default=50.0)
    parser.add_argument("--rows", type=int, default=10**9, help="so many, then these again")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--publish", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--bare-rows", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.publish:
        publish(asked.hz, asked.minutes, asked.rows)
        return
    if asked.bare_rows:
        bare_rows(asked.bare_rows)
        return
    os.environ.setdefault("PYQTGRAPH_QT_LIB", "PyQt5")
    os.environ |= {"QT_QPA_PLATFORM": "offscreen", "QT_FONT_DPI": "96"}
    found = soak(asked.minutes, asked.hz, asked.rows)
    alone = subprocess.run([sys.executable, "-P", __file__, "--bare-rows", str(found["kept"])], check=True,
                           capture_output=True, text=True)
    found["bare_rows_mb"] = float(alone.stdout)
    if asked.json is not None:
        asked.json.write_text(json.dumps(found))
    report(found)


if __name__ == "__main__":
    main()
