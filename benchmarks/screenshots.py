"""Take pictures of the dashboard: sizes of screens, themes, scenarios, recordings; off screen.

Usage: ``.venv/bin/python -P benchmarks/screenshots.py OUT [SCENARIO or RECORDING]... [--sizes 1920x1080,...]
[--themes dark,light] [--frames N] [--rate HZ]``.

Each scenario or recording runs once through a streamer, live; when its frames are there, a new window for each size
and theme is opened on what has come, as by somebody who comes late, and its picture is written to
``OUT/NAME-WIDTHxHEIGHT-THEME.png``, in 256 colours.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("PYQTGRAPH_QT_LIB", "PyQt5")
os.environ |= {"QT_QPA_PLATFORM": "offscreen", "QT_FONT_DPI": "96"}
sys.path.insert(0, str(Path(__file__).parent))   # -P leaves it out

import numpy as np
import pyqtgraph as pg
from dashboard import Desk
from PIL import Image

from monitor.demo import Demo
from monitor.feed import Feed, LinkState
from monitor.panels.filmstrip import FilmstripPanel
from monitor.rows import Key
from monitor.snapshot import save
from monitor.store import Store
from monitor.theme import THEMES, screen_scale
from monitor.window import Window

SCENARIOS = ("sun2025_txm", "sun2025_optical")
SIZES = "1366x768,1920x1080,3840x2160"
LONGEST_S = 400.0
GREYS = 64
"""Of the 256 colours, for what detectors see."""
COMMONEST = 100
"""Colours that are kept as they are: those of letters, lines and grounds."""


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
                desk.spin(12.0, functools.partial(has_thumbnails, desk.window))
                picture = asked.out / f"{name}-{size}-{theme}.png"
                save(desk.window, picture)
                shrink(picture, half=asked.half)
                desk.close()
        feed.stop()


def shrink(path: Path, *, half: bool) -> None:
    """Write the picture with 256 colours, and at half of its size if wanted, so that it takes a third of the bytes.

    Common colours stay as they are, greys are many: a palette chosen by frequency alone turns red letters brown.
    """
    picture = Image.open(path).convert("RGB")
    if half:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)
    codes, where, counts = np.unique(np.asarray(picture).astype(np.uint32) @ [65536, 256, 1], return_inverse=True,
                                     return_counts=True)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1).astype(np.int16)
    colourful = colours[np.argsort(-counts * (np.ptp(colours, axis=1) > 0))].astype(np.uint8)   # each once, rare or not
    rest = Image.fromarray(colourful[None]).quantize(256 - GREYS - COMMONEST, Image.Quantize.MAXCOVERAGE)
    palette = np.zeros((256, 3), np.int16)
    for begin, some in ((0, colourful[:COMMONEST]), (COMMONEST, np.linspace(0, 255, GREYS)[:, None].astype(int)),
                        (COMMONEST + GREYS, np.reshape(rest.getpalette(), (-1, 3)))):
        palette[begin:begin + len(some)] = some[:256 - begin]
    nearest = np.concatenate([np.abs(some[:, None] - palette).sum(axis=2).argmin(axis=1)
                              for some in np.array_split(colours, len(colours) // 4096 + 1)])
    image = Image.fromarray(nearest[where].reshape(picture.height, picture.width).astype(np.uint8), "P")
    image.putpalette(palette.astype(np.uint8).tobytes())
    image.save(path, optimize=True)


def has_thumbnails(window: Window) -> bool:
    """Tell whether all small pictures in sight are here."""
    strip = window.panel(FilmstripPanel).strip
    rows = [row for number in strip.seen() if (row := strip.row_of(number)) is not None]
    return all(window.thumbnails.get(Key(row.acquisition, row.index)) is not None for row in rows)


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
    parser.add_argument("--half", action="store_true", help="write the pictures at half of their size")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for source in asked.sources:
        path = Path(source)
        child = Recording(path, rate_hz=asked.rate) if path.exists() else Demo(source, rate_hz=asked.rate)
        take(path.stem, child, asked)


if __name__ == "__main__":
    main()
