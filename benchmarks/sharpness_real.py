"""The blur screening on real frames: with a known order of sharpness, with blur added, and with a fixed background."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.special
import scipy.stats
import tifffile
from numpy.typing import NDArray
from PIL import Image

from simulator.optics import Blur
from streamer.records import FloatArray, Frame, FrameRow

Row = tuple[str, str, str]
Watch = Callable[[Iterable[Frame]], Sequence[FrameRow]]
"""Runs frames through the pipeline and returns their final rows."""

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
DEFOCUS_PX = (3.0, 5.0, 8.0, 12.0, 16.0, 22.0, 30.0, 40.0)
"""Diameters of a disc, the point-spread function of a defocused lens."""

_REFERENCES = 4    # sharp exposures before the one in question
_MARGIN_PX = 48    # cut off after blur was added: beyond the frame nothing is known


def real_rows(watch: Watch) -> list[Row]:
    """Compare with what was asked for; one line where there is no data."""
    if not DATA.is_dir():
        return [("real frames", "", "none: they are expected beside the project, in shared/data")]
    return [*_ladder_rows(watch), *_photo_rows(watch), *_tile_rows(watch), *_added_rows(watch)]


def grey(path: Path) -> FloatArray:
    """Read a picture and average its colours."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), np.float32).mean(-1)


def exposure(picture: FloatArray, photons: float, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Expose a picture with so many photons per pixel on average."""
    light = np.maximum(picture, 0) * (photons / float(picture.mean()))
    return np.minimum(rng.poisson(light) * (8000 / photons), 65535).astype(np.uint16)


def blurred(picture: FloatArray, blur: Blur | float | None) -> FloatArray:
    """Blur a picture, by a disc where only its diameter is given, and cut its margin off."""
    if blur is not None:
        padded = np.pad(picture, _MARGIN_PX, mode="symmetric")
        size = [scipy.fft.next_fast_len(side, real=True) for side in padded.shape]
        fy, fx = scipy.fft.fftfreq(size[0])[:, None], scipy.fft.rfftfreq(size[1])[None]
        if isinstance(blur, Blur):
            transfer = blur.transfer(fy.astype(np.float32), fx.astype(np.float32))
        else:
            turn = np.maximum(np.pi * blur * np.hypot(fy, fx), 1e-9)
            transfer = 2 * scipy.special.j1(turn) / turn
        picture = scipy.fft.irfft2(scipy.fft.rfft2(padded, size) * transfer, size)[
            _MARGIN_PX:-_MARGIN_PX, _MARGIN_PX:-_MARGIN_PX][:picture.shape[0], :picture.shape[1]]
    return np.asarray(picture[_MARGIN_PX:-_MARGIN_PX, _MARGIN_PX:-_MARGIN_PX], np.float32)


def judge(watch: Watch, sharp: FloatArray, picture: FloatArray, *, photons: float, seed: int) -> FrameRow:
    """Screen one picture after a few exposures of a sharp one."""
    rng = np.random.default_rng(seed)
    pixels = [exposure(sharp, photons, rng) for _ in range(_REFERENCES)] + [exposure(picture, photons, rng)]
    rows = watch(Frame(pixels=image, index=number, acquisition="real", view="main")
                 for number, image in enumerate(pixels))
    return rows[-1]


def _centred(pictures: Sequence[FloatArray]) -> list[FloatArray]:
    rows, columns = np.min([picture.shape for picture in pictures], axis=0)
    return [picture[(picture.shape[0] - rows) // 2:, (picture.shape[1] - columns) // 2:][:rows, :columns]
            for picture in pictures]


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _rising(values: Sequence[float]) -> str:
    falls = sum(not late > early for early, late in pairwise(values))
    return "rises all along" if not falls else f"falls {falls} times"


def _list(values: Iterable[float]) -> str:
    return " ".join(f"{value:.1f}" for value in values)


def _ladder_rows(watch: Watch) -> list[Row]:
    rows = []
    for name, steps in (("smear", range(10)), ("smear", range(0, -10, -1)), ("chart", range(6))):
        pictures = _centred([grey(DATA / "sharpness_ladders" / name / f"{step}.png") for step in steps])
        found = [judge(watch, pictures[0], picture, photons=1000, seed=17) for picture in pictures]
        scores, lengths = ([_number(value) for value in column] for column in zip(
            *((row.blur_score, row.blur_length_px) for row in found), strict=True))
        rank = scipy.stats.spearmanr(range(len(scores)), scores).statistic
        rows.append((f"ladder {name}, steps 0 to {steps[-1]}: Spearman of step and score", ">= 0.95, no saturation",
                     (f"{rank:.3f}; length {_list(lengths)} px {_rising(lengths)}; called blurred "
                     f"{sum(row.verdict == 'blurred' for row in found[1:])} of {len(found) - 1}")))
    return rows


def _photo_rows(watch: Watch) -> list[Row]:
    sharp, defocused, moved = (grey(DATA / "motion_blur_photo" / f"176_HONOR-7X_{kind}.jpg") for kind in "SFM")
    same, out, motion = (judge(watch, sharp, picture, photons=1000, seed=18) for picture in (sharp, defocused, moved))
    return [("photos: sharp, defocused, moved along x", "both blurred; moved: angle near 0", "; ".join(
        f"{row.verdict} (score {_number(row.blur_score):.1f}, {_number(row.blur_length_px):.1f} px, "
        f"{_number(row.blur_angle_deg):.0f} deg, {row.blur_shape or 'no shape'})" for row in (same, out, motion)))]


def _tile_rows(watch: Watch) -> list[Row]:
    files = sorted((DATA / "nsrrc_bl01b_txm").glob("*.tif"), key=lambda path: ("Lm" not in path.name, path.name))
    rows = watch(Frame(pixels=tifffile.imread(file), index=number, acquisition="tiles", view="main")
                 for number, file in enumerate(files))
    alarms = [file.name for file, row in zip(files, rows, strict=True) if row.verdict == "blurred"]
    counts = ", ".join(f"{sum(row.verdict == verdict for row in rows)} {verdict}"
                       for verdict in ("sharp", "undecided", "blurred", "bad"))
    return [(f"{len(files)} TXM tiles of different places, fixed background", "no false alarm",
             f"{counts} {' '.join(alarms)}")]


def _added_rows(watch: Watch) -> list[Row]:
    pictures = {"smear": grey(DATA / "sharpness_ladders" / "smear" / "0.png"),
                "chart": grey(DATA / "sharpness_ladders" / "chart" / "0.png"),
                "photo": grey(DATA / "motion_blur_photo" / "176_HONOR-7X_S.jpg")[:768, :1024]}
    rows = []
    for name, picture in pictures.items():
        sharp = blurred(picture, None)
        for photons in (200.0, 1000.0):
            moved = [judge(watch, sharp, blurred(picture, Blur("motion", length, 20.0)), photons=photons, seed=19)
                     for length in (2.0, 3.0, 5.0)]
            rows.append((f"{name}, motion of 2, 3, 5 px at {photons:g} photons/px", "found", "; ".join(
                f"{row.verdict}, {_number(row.blur_length_px):.2f} px, {_number(row.blur_angle_deg):.0f} deg, limit "
                f"{_number(row.blur_limit_px):.1f} px" for row in moved)))
        by_dose = [[judge(watch, sharp, blurred(picture, disc), photons=photons, seed=20) for disc in DEFOCUS_PX]
                   for photons in (200.0, 1000.0, 5000.0)]
        lengths, scores = (np.array([[_number(getattr(row, column)) for row in some] for some in by_dose])
                           for column in ("blur_length_px", "blur_score"))
        true = np.sqrt(12) / 4 * np.array(DEFOCUS_PX)
        rows.append((f"{name}, discs of {DEFOCUS_PX[0]:g} to {DEFOCUS_PX[-1]:g} px ({_list(true)} px long)",
                     "length and score rise, whatever the exposure", "; ".join(
            f"{photons} photons: {_list(each)} px {_rising(each)}, score {_rising(score)}"
            for photons, each, score in zip((200, 1000, 5000), lengths, scores, strict=True))))
    return rows
