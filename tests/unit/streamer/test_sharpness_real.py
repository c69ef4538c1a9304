"""The blur verdicts of the whole pipeline on real frames with a known order, and under changes that are no blur."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
import scipy.fft
import scipy.special
import scipy.stats
import tifffile
from numpy.typing import NDArray
from PIL import Image

from simulator.optics import Blur, Canvas
from simulator.specimen import cathode
from streamer.imaging.blur import baseline_of, estimate_blur
from streamer.imaging.correction import correct
from streamer.imaging.spectrum import polar_power
from streamer.pipeline import Pipeline, measure
from streamer.records import Frame, FrameRow
from streamer.settings import Settings, update

Picture = NDArray[np.float32]

MARGIN_PX = 40
DISCS_PX = (4.0, 8.0, 14.0, 20.0, 30.0)


def grey(path: Path) -> Picture:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), np.float32).mean(-1)


def ladder_picture(data: Path, ladder: str, step: int) -> Picture:
    """Read a step of a focus ladder; of the large pictures the middle is enough."""
    picture = grey(data / "sharpness_ladders" / ladder / f"{step}.png")
    rows, columns = (max((size - 400) // 2, 0) for size in picture.shape)
    return picture[rows:rows + 400, columns:columns + 400]


def centred(pictures: Sequence[Picture]) -> list[Picture]:
    rows, columns = np.min([picture.shape for picture in pictures], axis=0)
    return [picture[(picture.shape[0] - rows) // 2:, (picture.shape[1] - columns) // 2:][:rows, :columns]
            for picture in pictures]


def exposed(picture: Picture, rng: np.random.Generator, *, photons: float) -> NDArray[np.uint16]:
    light = np.maximum(picture, 0) * (photons / float(picture.mean()))
    return np.minimum(rng.poisson(light) * (8000 / photons), 65535).astype(np.uint16)


def screened(images: Iterable[NDArray[np.uint16]]) -> list[FrameRow]:
    """Run images through the pipeline; return the rows after all revisions."""
    pipeline = Pipeline(update(Settings(), {"flow.enabled": False}))
    rows: dict[tuple[str, int], FrameRow] = {}
    for number, image in enumerate(images):
        job = pipeline.begin(Frame(pixels=image, index=number, acquisition="real", view="main"))
        outcome = pipeline.finish(job, measure(job))
        rows[outcome.row.acquisition, outcome.row.index] = outcome.row
        for key, columns in outcome.revisions:
            rows[key] = msgspec.structs.replace(rows[key], **columns)
    return list(rows.values())


def judged(sharp: Picture, picture: Picture, *, photons: float = 1000.0, seed: int = 61) -> FrameRow:
    """Screen one picture after three exposures of a sharp one."""
    expose = partial(exposed, rng=np.random.default_rng(seed), photons=photons)
    return screened([*(expose(sharp) for _ in range(3)), expose(picture)])[-1]


def out_of_focus(picture: Picture, disc_px: float) -> Picture:
    """Blur by a disc of this diameter; the margin, beyond which nothing is known, is cut off."""
    if disc_px:
        padded = np.pad(picture, MARGIN_PX, mode="symmetric")
        fy, fx = scipy.fft.fftfreq(padded.shape[0])[:, None], scipy.fft.rfftfreq(padded.shape[1])
        turn = np.maximum(np.pi * disc_px * np.hypot(fy, fx), 1e-9)
        spectrum = scipy.fft.rfft2(padded) * 2 * scipy.special.j1(turn) / turn
        picture = scipy.fft.irfft2(spectrum, padded.shape)[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    return np.asarray(picture[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX], np.float32)


@pytest.mark.parametrize(("ladder", "steps"), [("smear", range(10)), ("smear", range(0, -10, -1)), ("chart", range(6))])
def test_every_step_of_a_focus_ladder_is_more_blurred(real_data, ladder, steps):
    pictures = centred([ladder_picture(real_data, ladder, step) for step in steps])
    rows = [judged(pictures[0], picture) for picture in pictures]
    scores = [row.blur_score for row in rows]
    lengths = np.array([row.blur_length_px for row in rows], float)
    assert scipy.stats.spearmanr(range(len(rows)), scores).statistic >= 0.95
    assert (np.diff(lengths[1:]) > 0).all(), "the length must not saturate"
    assert rows[0].verdict != "blurred"
    assert all(row.verdict == "blurred" for row in rows[2:])


def test_both_blurred_photos_are_worse_than_the_sharp_one(real_data):
    sharp, defocused, moved = (
        polar_power(correct(grey(real_data / "motion_blur_photo" / f"176_HONOR-7X_{kind}.jpg"))) for kind in "SFM")
    baseline = baseline_of([sharp])
    reference, focus, motion = (estimate_blur(power, baseline) for power in (sharp, defocused, moved))
    assert focus.score > reference.score + 3.5
    assert motion.score > reference.score
    small, large = np.linalg.eigvalsh(motion.covariance)
    assert large > 4 * abs(small), "the camera moved along x"
    assert abs(motion.angle_deg) < 10
    small, large = np.linalg.eigvalsh(focus.covariance)
    assert large < 4 * small


def test_real_tiles_with_a_fixed_background_raise_no_alarm(real_data):
    files = sorted((real_data / "nsrrc_bl01b_txm").glob("*.tif"))
    rows = screened(tifffile.imread(file) for file in files)
    assert [row.index for row in rows if row.verdict == "blurred"] == []


@pytest.mark.parametrize("picture", ["smear", "chart"])
def test_defocus_of_a_real_picture_never_saturates_whatever_the_exposure(real_data, picture):
    whole = ladder_picture(real_data, picture, 0)
    true = np.sqrt(12) / 4 * np.array(DISCS_PX)
    found = []
    for photons in (300.0, 3000.0):
        rows = [judged(out_of_focus(whole, 0), out_of_focus(whole, disc), photons=photons) for disc in DISCS_PX]
        lengths = np.array([row.blur_length_px for row in rows], float)
        assert (np.diff(lengths) > 0).all()
        assert (np.diff(np.array([row.blur_score for row in rows], float)) > 0).all()
        np.testing.assert_allclose(lengths, true, rtol=0.25, atol=0.8)
        assert all(row.verdict == "blurred" for row in rows[1:])
        found.append(lengths)
    np.testing.assert_allclose(found[0], found[1], rtol=0.15, atol=0.5)


class Moving:
    """A cathode that drifts by 2 px a frame."""

    def __init__(self, seed: int) -> None:
        self.shape = (320, 336)
        self.rng = np.random.default_rng(seed)
        self.absorbance = cathode((960, 960), rng=self.rng)

    def stream(self, contrasts: Sequence[float], blurs: dict[int, Blur], *, light: Sequence[float] | None = None,
               photons: float = 600.0) -> list[NDArray[np.uint16]]:
        seen = {contrast: Canvas.photograph(np.exp(np.float32(-contrast) * self.absorbance), zoom=2)
                for contrast in set(contrasts)}
        images = []
        for number, contrast in enumerate(contrasts):
            clean = seen[contrast].window(self.shape, (2.0 * number, -0.7 * number), blurs.get(number))
            dose = photons * (1.0 if light is None else light[number])
            images.append(np.minimum(self.rng.poisson(np.maximum(clean, 0) * dose) * 10, 65535).astype(np.uint16))
        return images


@pytest.mark.parametrize("seed", [71, 72])
def test_a_change_of_contrast_is_no_blur_and_blur_is_found_after_it(seed):
    # At the lower contrast, raw and on so small a frame, nothing shorter than about 6 px can show.
    blurs = {8: Blur("motion", 8.0, 10.0), 24: Blur("motion", 6.0, 10.0), 26: Blur("motion", 8.0, -40.0)}
    rows = screened(Moving(seed).stream([0.45] * 14 + [0.45 * 2.6] * 14, blurs))
    assert [row.index for row in rows if row.verdict == "blurred"] == sorted(blurs)


def test_the_length_does_not_depend_on_the_brightness():
    light = [*np.linspace(1, 0.65, 12), *[1.04] * 10]
    blurs = {9: Blur("motion", 5.0, 0.0), 11: Blur("motion", 5.0, 0.0), 15: Blur("motion", 5.0, 0.0)}
    rows = screened(Moving(73).stream([1.0] * len(light), blurs, light=light))
    assert [row.index for row in rows if row.verdict == "blurred"] == sorted(blurs)
    for number in blurs:
        length, sigma = rows[number].blur_length_px, rows[number].blur_length_sigma_px
        assert length is not None
        assert sigma is not None
        assert abs(length - 5.0) < max(0.3, 3.5 * sigma)
