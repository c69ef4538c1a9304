"""Take pictures of the dashboard: sizes of screens, themes, scenarios, recordings; off screen.

Usage: ``.venv/bin/python -P benchmarks/screenshots.py OUT [SCENARIO or RECORDING]... [--sizes 1920x1080,...]
[--themes dark,light] [--frames N] [--rate HZ]``.

Each scenario or recording runs once through a streamer, live; when its frames are there, a new window for each size
and theme is opened on what has come, as by somebody who comes late, and its picture is written to
``OUT/NAME-WIDTHxHEIGHT-THEME.png``.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("PYQTGRAPH_QT_LIB", "PyQt5")
os.environ |= {"QT_QPA_PLATFORM": "offscreen", "QT_FONT_DPI": "96"}
sys.path.insert(0, str(Path(__file__).parent))   # -P leaves it out

import pyqtgraph as pg
from dashboard import Desk

from monitor.demo import Demo
from monitor.feed import Feed, LinkState
from monitor.snapshot import save
from monitor.store import Store
from monitor.theme import THEMES, screen_scale
from monitor.window import Window

SCENARIOS = ("sun2025_txm", "sun2025_optical")
SIZES = "1366x768,1920x1080,3840x2160"
LONGEST_S = 400.0


class Recording(Demo):
    """A streamer that a recording is sent to."""

    def __init__(self, path: Path, *, rate_hz: float) -> None:
        super().__init__(rate_hz=rate_hz)
        self._commands["simulator"] = ["simulator.cli", "replay", str(path), "--bind", self.frames, "--rate",
                                       f"{rate_hz:g}"]


class Late(Desk):
    """A new window on what a feed has received."""

    def __init__(self, feed: Feed, *, size: tuple[int, int], theme: str) -> None:
        self.app, self.feed = pg.mkQApp(), feed
        self.window = Window(feed, theme=replace(THEMES[theme], scale=screen_scale(size[1])))
        self.window.resize(*size)
        self.window.show()
        self.window.commander.start()

    def close(self) -> None:
        self.window.close()
        self.window.commander.stop()
        self.window.deleteLater()


def take(name: str, source: Demo, asked: argparse.Namespace) -> None:
    """Run it, and write all its pictures."""
    with source:
        feed = Feed(Store(), source.results)
        feed.start()
        desk = Late(feed, size=(1366, 768), theme="dark")
        desk.spin(LONGEST_S, lambda: is_due(feed, asked.frames) or source.failure() is not None)
        if failure := source.failure():
            sys.exit(failure)
        desk.close()
        for size in asked.sizes.split(","):
            for theme in asked.themes.split(","):
                width, height = map(int, size.split("x"))
                desk = Late(feed, size=(width, height), theme=theme)
                desk.spin(3.0)   # what it asks the streamer for has come
                save(desk.window, asked.out / f"{name}-{size}-{theme}.png")
                desk.close()
        feed.stop()


def is_due(feed: Feed, frames: int) -> bool:
    """Tell whether so many projections have come, or all that there are."""
    return len(feed.store.charts().order) >= frames or feed.link().state is LinkState.ENDED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("sources", nargs="*", default=SCENARIOS)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--themes", default="dark,light")
    parser.add_argument("--frames", type=int, default=50, help="projections to wait for")
    parser.add_argument("--rate", type=float, default=2.0)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for source in asked.sources:
        path = Path(source)
        child = Recording(path, rate_hz=asked.rate) if path.exists() else Demo(source, rate_hz=asked.rate)
        take(path.stem, child, asked)


if __name__ == "__main__":
    main()
