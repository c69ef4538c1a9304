"""Previews of blurred frames in the image messages: when they come, and that nothing waits for them."""

from __future__ import annotations

import threading

import msgspec
import numpy as np
import pytest
from support.scenes import Scene

from streamer.imaging.correction import correct
from streamer.pipeline import Outcome
from streamer.records import FloatArray, FrameRow
from streamer.service.preview import Preview, Previewer, preview
from streamer.service.screen import picture

BLURRED = FrameRow(index=7, acquisition="a", view="main", kind="projection", verdict="blurred", blur_length_px=10.0,
                   blur_angle_deg=20.0, blur_shape="motion")


@pytest.fixture(scope="module")
def frame() -> FloatArray:
    return correct(Scene(33, (300, 320)).frame(np.random.default_rng(4), photons=500, length_px=10, angle_deg=20))


def message(frame: FloatArray) -> tuple[dict, np.ndarray]:
    fields, image = picture(frame)
    return fields | {"index": 7, "acquisition": "a", "pixel_size_nm": 20.0}, image


def test_a_preview_is_coded_like_its_picture(frame: FloatArray) -> None:
    fields, image = message(frame)
    done = preview(BLURRED, frame, fields, image)
    restored = done.arrays["deblurred"]
    assert done.arrays["image"] is image
    assert (restored.dtype, restored.shape) == (image.dtype, image.shape)
    assert restored.mean() == pytest.approx(image.mean(), rel=0.01)
    assert restored.std() < image.std()   # less noise
    said = done.fields["deblur"]
    assert said["method"] == "wiener"
    assert "nm) along 20 deg" in said["text"]
    assert said["half_period_nm"] == pytest.approx(20 * said["half_period_px"])
    assert msgspec.json.encode(done.fields)


def test_large_frames_are_binned_alike() -> None:
    frame = np.tile(correct(Scene(34, (300, 320)).frame(np.random.default_rng(4), photons=900, length_px=12)), (5, 4))
    fields, image = message(frame)
    assert fields["binning"] == 2
    assert preview(BLURRED, frame, fields, image).arrays["deblurred"].shape == image.shape == (750, 640)


def test_where_nothing_is_gained_the_text_says_so(frame: FloatArray) -> None:
    fields, image = message(frame)
    done = preview(msgspec.structs.replace(BLURRED, blur_length_px=1.0), frame, fields, image)
    assert "deblurred" not in done.arrays
    assert "nothing to gain" in done.fields["deblur"]["text"]


@pytest.mark.parametrize("row", [msgspec.structs.replace(BLURRED, blur_length_px=float("nan")),
                                 msgspec.structs.replace(BLURRED, blur_shape="swirl")])
def test_a_preview_that_fails_leaves_the_picture(frame: FloatArray, row: FrameRow) -> None:
    fields, image = message(frame)
    done = preview(row, frame, fields, image)
    assert list(done.arrays) == ["image"]
    assert done.fields["deblur"]["text"].startswith("no preview: ")


@pytest.mark.parametrize("changed", [{"verdict": "sharp"}, {"verdict": "undecided"}, {"verdict": "bad"},
                                     {"blur_length_px": None}])
def test_only_blurred_frames_are_taken(frame: FloatArray, changed: dict) -> None:
    done: list[Preview] = []
    previewer = Previewer(done.append)
    row = msgspec.structs.replace(BLURRED, **changed)
    assert not previewer.offer(Outcome(row, image=frame), *message(frame))
    previewer.close()
    assert not done


def test_who_comes_while_another_is_restored_is_sent_as_it_is(frame: FloatArray) -> None:
    done: list[Preview] = []
    go = threading.Event()

    def slow(made: Preview) -> None:
        assert go.wait(10)
        done.append(made)

    previewer = Previewer(slow)
    outcome = Outcome(BLURRED, image=frame)
    assert previewer.offer(outcome, *message(frame))
    assert not previewer.offer(outcome, *message(frame))
    go.set()
    previewer.close()
    assert len(done) == 1
    assert "deblurred" in done[0].arrays
