"""The drift on real frames, some of known motion, and the trap: different places on one fixed background."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from drift_figures import Row
from numpy.typing import NDArray
from PIL import Image

from streamer.records import Frame, FrameRow

Watch = Callable[[Iterable[Frame]], Sequence[FrameRow]]
"""Runs frames through the pipeline and returns their final rows."""

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
_ZERO_PX = 2.0


def real_rows(watch: Watch) -> list[Row]:
    """Say what comes out; one line where there is no data."""
    if not DATA.is_dir():
        return [("real frames", "", "none: they are expected beside the project, in shared/data")]
    return [_beads(watch), _tensile(watch), _speckle(watch), *_tiles(watch)]


def _frames(images: Iterable[NDArray[Any]]) -> Iterator[Frame]:
    for number, pixels in enumerate(images):
        yield Frame(pixels=np.ascontiguousarray(pixels), index=number, acquisition="real", view="main")


def _grey(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"))


def _place(row: FrameRow) -> str:
    if row.drift_y_px is None or row.drift_x_px is None:
        return f"not registered ({row.problems or 'no reason'})"
    return (f"({row.drift_y_px:+.3f}, {row.drift_x_px:+.3f}) px, sigma {row.drift_sigma_px or 0:.3f}, quality "
            f"{row.registration_quality or 0:.2f}")


def _registered(rows: Sequence[FrameRow]) -> str:
    return f"{sum(row.drift_y_px is not None for row in rows)} of {len(rows)} registered"


def _beads(watch: Watch) -> Row:
    rows = watch(_frames(_grey(path) for path in sorted((DATA / "trackpy_brightfield").glob("bf_*.png"))))
    return ("trackpy, 50 bright-field frames of beads", "last at about (+2.3, +5.8) px",
            f"{_registered(rows)}; last {_place(rows[-1])}")


def _tensile(watch: Watch) -> Row:
    rows = watch(_frames(tifffile.imread(DATA / "mudic_tensile" / "mudic_ut_every5_crop.tif")))
    return ("muDIC, tensile test under large strain", "last at about (-111, +1) px",
            f"{_registered(rows)}; last {_place(rows[-1])}")


def _speckle(watch: Watch) -> Row:
    names = ("Sample5 Reference.tif", "Sample5-000 X0.00 Y0.00 N2 C75 R10.tif",
             "Sample5-001 X0.10 Y0.10 N2 C100 R20.tif")
    rows = watch(_frames(tifffile.imread(DATA / "dic_challenge" / name) for name in names))
    return ("DIC Challenge sample 5", "(0, 0) px, then (+0.1, +0.1) px exactly",
            "; ".join(_place(row) for row in rows[1:]))


def _tiles(watch: Watch) -> Iterator[Row]:
    for name, pattern in (("16 places of one sample", "*Lm*.tif"), ("4 places of another", "*Sb*.tif")):
        files = sorted((DATA / "nsrrc_bl01b_txm").glob(pattern))
        rows = watch(_frames(tifffile.imread(file) for file in files))
        trapped = [row for row in rows[1:] if row.drift_y_px is not None and row.drift_x_px is not None
                   and np.hypot(row.drift_y_px, row.drift_x_px) < _ZERO_PX]
        others = [row for row in rows[1:] if row.drift_y_px is not None and row not in trapped]
        told = "; ".join(f"frame {row.index} at {_place(row)}" for row in [*trapped, *others])
        yield (f"NSRRC BL01B, {name}, fixed background", "none registered to zero",
               f"{len(trapped)} of {len(rows) - 1} to zero, {len(others)} elsewhere{': ' if told else ''}{told}")
