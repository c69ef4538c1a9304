from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from support.fake_streamer import PIXEL_SIZE_NM, make_flow, make_picture, make_spectra

from monitor.modes import MODES, Composition, Material
from monitor.shelf import Found
from monitor.store import Picture
from streamer.records import STRAIN_PLANES

NUMBER = {mode.name: number for number, mode in enumerate(MODES)}


def picture(index: int = 12, image: np.ndarray | None = None, **fields: Any) -> Picture:
    return Picture(**{"index": index, "acquisition": "scan-1", "view": "A", "kind": "projection", "offset": 0.0,
                      "scale": 1 / 65_535, "image": make_picture(index) if image is None else image} | fields)


def show(name: str, **fields: Any) -> Composition:
    return MODES[NUMBER[name]].compose(Material(**{"picture": picture(), "pixel_size_nm": PIXEL_SIZE_NM} | fields))


def test_keys_one_to_nine_have_a_mode_each() -> None:
    assert [mode.name for mode in MODES] == ["raw", "corrected", "difference", "overlay", "displacement", "strain",
                                             "regions", "deblurred", "spectrum"]


@pytest.mark.parametrize(("name", "words"), [
    ("raw", "shown corrected; the raw picture is not here"),
    ("difference", "the reference's picture is not here yet"), ("overlay", "the reference's picture is not here yet"),
    ("displacement", "no displacement field of this frame yet"), ("strain", "no displacement field of this frame yet"),
    ("regions", "no displacement field of this frame yet"), ("deblurred", "no deblurred preview: it comes with"),
    ("spectrum", "no spectrum of frame 12"),
])
def test_what_is_missing_is_said_and_the_picture_is_shown(name: str, words: str) -> None:
    shown = show(name)
    assert shown.missing
    assert shown.words.startswith(words)
    np.testing.assert_array_equal(shown.ground.pixels, make_picture(12))
    assert shown.top is None


@pytest.mark.parametrize(("name", "need"), [("raw", "raw"), ("difference", "reference"), ("strain", "flow")])
def test_the_reason_of_the_streamer_is_passed_on(name: str, need: str) -> None:
    assert "not kept any more" in show(name, **{need: Found(why="not kept any more")}).words


def test_raw_is_the_raw_picture() -> None:
    raw = picture(image=np.full((4, 5), 7, np.uint8), offset=100.0, scale=2.0)
    shown = show("raw", raw=Found(raw))
    assert not shown.missing
    assert shown.read(1.5, 2.5) == "y 1, x 2: 114 counts"


def test_the_difference_is_that_of_the_values_where_the_drift_is_taken_out() -> None:
    still = picture(0, np.random.default_rng(1).integers(0, 60_000, (60, 80)).astype(np.uint16))
    frame = picture(12, np.roll(still.image, (3, -2), (0, 1)))   # type: ignore[arg-type]
    shown = show("difference", picture=frame, reference=Found(still), drift=(3.0, -2.0))
    assert shown.top is not None
    assert shown.top.colours == "CET-D1A"
    assert shown.top.levels[0] == -shown.top.levels[1]
    known = np.isfinite(shown.top.pixels)
    assert known.sum() == 57 * 78
    np.testing.assert_allclose(shown.top.pixels[known], 0.0, atol=1e-6)
    assert "drift y +3.0, x -2.0 px" in shown.words
    plain = show("difference", picture=frame, reference=Found(still), drift=(3.0, -2.0), other=True)
    expected = (frame.image.astype(float) - still.image) / 65_535   # type: ignore[union-attr]
    np.testing.assert_allclose(plain.top.pixels, expected, atol=1e-6)   # type: ignore[union-attr]
    assert "as they lie" in plain.words


def test_pictures_coded_and_binned_differently_can_be_compared() -> None:
    still = picture(0, np.full((40, 40), 100, np.uint8), offset=1.0, scale=0.01)                # 2.0 everywhere
    frame = picture(12, np.full((20, 20), 500, np.uint16), offset=0.0, scale=0.005, binning=2)   # 2.5 everywhere
    shown = show("difference", picture=frame, reference=Found(still), drift=(4.0, 0.0))
    assert shown.top is not None
    assert shown.top.pixels.shape == (20, 20)
    assert shown.top.box == (0.0, 0.0, 40.0, 40.0)
    assert np.isnan(shown.top.pixels[:2]).all()
    np.testing.assert_allclose(shown.top.pixels[2:], 0.5, atol=1e-6)


def test_the_overlay_is_grey_where_both_are_alike() -> None:
    still = picture(0)
    same = show("overlay", picture=picture(12, make_picture(0)), reference=Found(still), drift=(0.0, 0.0))
    np.testing.assert_array_equal(same.ground.pixels[..., 0], same.ground.pixels[..., 2])
    other = show("overlay", reference=Found(still), drift=(0.0, 0.0)).ground.pixels.astype(int)
    assert np.abs(other[..., 0] - other[..., 2]).max() > 100
    assert "red: dark in frame 0" in show("overlay", reference=Found(still), drift=(0.0, 0.0)).words


def test_the_reference_itself_and_one_of_another_size_are_not_compared() -> None:
    assert "is the reference itself" in show("overlay", reference=Found(picture(12))).words
    unknown = show("difference", reference=Found(picture(0)))
    assert "the drift of this frame is not known" in unknown.words
    assert not unknown.missing
    small = show("difference", reference=Found(picture(0, np.zeros((3, 3), np.uint8), binning=7)))
    assert small.missing
    assert "another size" in small.words


def test_the_magnitude_lies_where_the_grid_is() -> None:
    flow = make_flow(12)
    shown = show("displacement", flow=Found(flow), flow_drift=(3.0, -2.0))
    assert shown.top is not None
    assert shown.top.box == (3.5, -1.5, 240.0, 320.0)
    length = np.hypot(*flow.displacement_px)
    np.testing.assert_allclose(shown.top.pixels[flow.valid], length[flow.valid], rtol=1e-5)
    assert np.isnan(shown.top.pixels[~flow.valid]).all()
    y, x = flow.grid_y_px[10] + 3.5, flow.grid_x_px[20] - 1.5
    assert shown.read(y, x) == f"y {int(y)}, x {int(x)}: {length[10, 20]:.4g} px"
    assert shown.top.nm_per_unit == PIXEL_SIZE_NM


def test_strain_has_two_variants_in_per_cent() -> None:
    flow = make_flow(12)
    planes = np.stack([np.full(flow.valid.shape, 0.01 * number, np.float32) for number in range(len(STRAIN_PLANES))])
    flow = msgspec.structs.replace(flow, strain=planes)
    for other, value, word in ((False, 0.0, "divergence"), (True, 1.0, "shear")):
        shown = show("strain", flow=Found(flow), other=other)
        assert shown.top is not None
        np.testing.assert_allclose(shown.top.pixels, value)
        assert f"; {word} against frame 0" in shown.words
        assert shown.top.unit == "%"
    assert "did not work it out" in show("strain", flow=Found(make_flow(12))).words


def test_regions_are_coloured_outlined_and_named() -> None:
    flow = make_flow(12)
    labels = np.full(flow.valid.shape, -1, np.int16)
    labels[5:10, 5:10], labels[5:10, 10:15] = 3, 8
    shown = show("regions", flow=Found(msgspec.structs.replace(flow, regions=labels)))
    assert shown.words.startswith("2 regions")
    assert shown.outlines is not None
    assert shown.outlines[:, ::2].min() == 5 * 8 + 0.5
    assert shown.outlines[:, ::2].max() == 15 * 8 + 0.5
    assert shown.read(60.0, 60.0) == "y 60, x 60: region 3"
    assert shown.read(60.0, 100.0) == "y 60, x 100: region 8"
    assert shown.read(200.0, 200.0) == "y 200, x 200"
    none = show("regions", flow=Found(msgspec.structs.replace(flow, regions=np.full_like(labels, -1))))
    assert none.missing
    assert "no region moves on its own" in none.words


def test_the_spectrum_is_whole_and_read_in_frequencies() -> None:
    spectra = make_spectra(12)
    shown = show("spectrum", spectra=spectra)
    assert shown.spectrum
    height, width = spectra.picture.shape
    assert shown.ground.pixels.shape == (height, 2 * width)
    np.testing.assert_array_equal(shown.ground.pixels[:, width:], spectra.picture)
    assert shown.read(0.1, -0.2).startswith("fy +0.100, fx -0.200 px⁻¹: ")
    assert shown.read(0.7, 0.0) == ""


ODD = {
    "tiny": np.zeros((10, 10), np.uint16), "one pixel": np.zeros((1, 1), np.uint8),
    "NaN": np.full((10, 10), np.nan, np.float32), "huge": np.zeros((8000, 8000), np.uint8),
}


@pytest.mark.parametrize("name", NUMBER)
@pytest.mark.parametrize("odd", ODD)
def test_odd_pictures_can_be_looked_at_in_every_mode(name: str, odd: str) -> None:
    frame = picture(12, ODD[odd])
    shown = show(name, picture=frame, raw=Found(frame), reference=Found(picture(0, ODD[odd])), drift=(1.5, -0.5),
                 flow=Found(make_flow(12)), spectra=make_spectra(12))
    layer = shown.measured
    assert layer is None or np.isfinite(layer.levels).all()
    assert max(shown.ground.pixels.shape) <= 2048
    shown.read(5.0, 5.0)


def test_a_field_without_points_is_said() -> None:
    flow = msgspec.structs.replace(
        make_flow(12), grid_y_px=np.empty(0, np.float32), displacement_px=np.empty((2, 0, 40), np.float32),
        valid=np.empty((0, 40), bool), sigma_px=np.empty((0, 40), np.float32))
    assert "has no points" in show("displacement", flow=Found(flow)).words
