"""Pictures are made beside the analysis: what they show, how exactly, and what happens when they come too fast."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from support.waiting import wait_until

from streamer.pipeline import Outcome
from streamer.records import Frame, FrameRow
from streamer.service import keeper as keeping
from streamer.service.gallery import FILE_NAME, Gallery
from streamer.service.keeper import Keeper
from streamer.service.screen import eight_bit, uncorrected

SHAPE = (192, 240)


def _offer(keeper: Keeper, index: int, *, corrected: bool = True, image: NDArray[Any] | None = None,
           hurry: bool = False) -> NDArray[Any]:
    raw = np.random.default_rng(index).poisson(400.0, SHAPE).astype(np.uint16) if image is None else image
    row = FrameRow(index=index, acquisition="a", view="main", kind="projection", verdict="sharp")
    outcome = Outcome(row, image=(raw / 500.0).astype(np.float32), corrected=corrected)
    keeper.offer(Frame(pixels=raw, index=index, acquisition="a"), outcome, pixel_size_nm=33.0,
                 hurry=hurry)
    return raw


def test_both_pictures_and_a_thumbnail_are_kept(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, kept_mb=10.0)
    raw = _offer(keeper, 1)
    keeper.close()
    with Gallery(tmp_path) as gallery:
        small = gallery.thumbnail("a", 1)
        assert small is not None
        assert small.complete
        assert imagecodecs.jpeg8_decode(small.data).shape == (96, 120)
        for kind, image in (("corrected", raw / 500.0), ("raw", raw)):
            kept = gallery.picture("a", 1, kind)
            assert kept is not None
            assert (kept.binning, kept.pixel_size_nm) == (1, 33.0)
            error = kept.offset + kept.scale * imagecodecs.jpeg8_decode(kept.data) - image
            assert np.sqrt(np.mean(error**2)) < 6 * kept.scale   # pure noise is the worst that JPEG can meet
            assert abs(error.mean()) < 0.5 * kept.scale


def test_structure_is_kept_within_two_levels(tmp_path: Path) -> None:
    y, x = np.indices(SHAPE)
    image = (1000 + 400 * np.sin(y / 9) * np.cos(x / 13)).astype(np.uint16)
    keeper = Keeper(tmp_path, kept_mb=10.0)
    _offer(keeper, 1, image=image)
    keeper.close()
    with Gallery(tmp_path) as gallery:
        kept = gallery.picture("a", 1, "raw")
    assert kept is not None
    assert np.abs(kept.offset + kept.scale * imagecodecs.jpeg8_decode(kept.data) - image).max() < 3 * kept.scale


def test_a_frame_that_nothing_was_corrected_in_has_one_picture(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, kept_mb=10.0)
    _offer(keeper, 1, corrected=False)
    keeper.close()
    with Gallery(tmp_path) as gallery:
        assert gallery.picture("a", 1, "corrected") is not None
        assert gallery.picture("a", 1, "raw") is None


def test_a_large_frame_is_binned(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, kept_mb=10.0)
    _offer(keeper, 1, image=np.random.default_rng(0).poisson(9.0, (1100, 2100)).astype(np.uint16))
    keeper.close()
    with Gallery(tmp_path) as gallery:
        kept, small = gallery.picture("a", 1, "raw"), gallery.thumbnail("a", 1)
    assert kept is not None
    assert small is not None
    assert kept.binning == 3
    assert imagecodecs.jpeg8_decode(kept.data).shape == (366, 700)
    assert imagecodecs.jpeg8_decode(small.data).shape == (91, 175)


def test_too_fast_frames_keep_their_thumbnails_and_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, render = threading.Event(), keeping.render
    monkeypatch.setattr(keeping, "render", lambda task: held.wait(20.0) and render(task))
    keeper = Keeper(tmp_path, kept_mb=10.0)
    for index in range(20):
        _offer(keeper, index)
    held.set()
    keeper.close()
    assert keeper.skipped >= 15   # four wait, one is at work
    with Gallery(tmp_path) as gallery:
        small = [one for _, one in gallery.thumbnails(since=0, limit=100)]
        assert sorted(one.index for one in small) == list(range(20))
        assert sum(not one.complete for one in small) == keeper.skipped
        assert gallery.picture("a", 19, "corrected") is not None


def test_in_a_hurry_the_thumbnail_alone_is_kept_and_counted(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, kept_mb=10.0)
    for index, hurry in enumerate((False, True, True)):
        _offer(keeper, index, hurry=hurry)
    keeper.close()
    assert keeper.skipped == 2
    with Gallery(tmp_path) as gallery:
        assert {one.index: one.complete for _, one in gallery.thumbnails(since=0, limit=9)} == {
            0: True, 1: False, 2: False}
        assert gallery.picture("a", 2, "corrected") is None


def test_a_patient_keeper_skips_nothing(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, kept_mb=10.0, patient=True, thumbnails_only=True)
    for index in range(20):
        _offer(keeper, index)
    keeper.close()
    assert keeper.skipped == 0
    with Gallery(tmp_path) as gallery:
        assert len(gallery.thumbnails(since=0, limit=100)) == 20
        assert gallery.sizes()[0] == 0


def test_nothing_is_kept_where_nothing_may_be(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, kept_mb=0.0)
    _offer(keeper, 1)
    keeper.close()
    assert not (tmp_path / FILE_NAME).exists()


def test_the_bound_holds(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, kept_mb=0.3, patient=True)
    for index in range(30):
        _offer(keeper, index)
    keeper.close()
    with Gallery(tmp_path) as gallery:
        assert 0 < gallery.sizes()[0] <= 0.27e6
        assert gallery.picture("a", 29, "corrected") is not None


def test_a_folder_that_is_gone_is_said_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keeper = Keeper(tmp_path / "gone", kept_mb=10.0)
    _offer(keeper, 1)
    wait_until(lambda: keeper.problem, what="the problem")
    assert "pictures.sqlite" in keeper.problem
    assert "results are not concerned" in keeper.problem
    (tmp_path / "gone").mkdir()
    _offer(keeper, 2)
    keeper.close()
    assert keeper.problem == ""
    assert "pictures.sqlite" in caplog.text
    with Gallery(tmp_path / "gone") as gallery:
        assert gallery.thumbnail("a", 2) is not None


@pytest.mark.parametrize("image", [
    np.full((70, 80), 3.0, np.float32), np.zeros((70, 80), np.uint16), np.full((70, 80), np.nan, np.float32),
    np.full((70, 80), 255, np.uint8)])
def test_an_image_of_one_level_has_a_picture(image: NDArray[Any]) -> None:
    pixels, offset, scale = eight_bit(image)
    assert scale > 0
    np.testing.assert_allclose(offset + scale * pixels.astype(float), np.nan_to_num(image), atol=scale / 2)


def test_single_pixels_do_not_move_the_levels() -> None:
    image = np.random.default_rng(1).normal(1.0, 0.1, (300, 300)).astype(np.float32)
    image[5, 5:9] = np.nan, np.inf, 1e12, -1e12
    pixels, offset, scale = eight_bit(image)
    assert pixels[5, 5:9].tolist() == [0, 255, 255, 0]
    assert 255 * scale < 1.0
    inside = np.isfinite(image) & (np.abs(image - 1.0) < 0.25)
    assert np.abs(offset + scale * pixels - image)[inside].max() <= 0.51 * scale


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64])
def test_a_raw_frame_can_be_told_from_its_code(dtype: type) -> None:
    image = np.random.default_rng(2).integers(0, 200, (80, 90)).astype(dtype)
    fields, raw = uncorrected(image)
    assert raw.dtype in (np.uint8, np.uint16)
    np.testing.assert_allclose(fields["raw_offset"] + fields["raw_scale"] * raw, image, atol=0.01)
