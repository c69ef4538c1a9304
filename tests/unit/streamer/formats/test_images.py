from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from streamer.errors import RecordingError
from streamer.formats import open_recording
from streamer.formats.images import natural_key
from streamer.records import Frame

RNG = np.random.default_rng(29)
GREY16 = RNG.integers(0, 60000, (21, 34)).astype(np.uint16)
GREY = (GREY16 >> 8).astype(np.uint8)
COLOUR = RNG.integers(0, 255, (21, 34, 3)).astype(np.uint8)


def frames_of(path, **options):
    with open_recording(path, **options) as recording:
        return list(recording.frames())


def test_natural_order():
    names = ["img10.png", "img2.png", "IMG3.png", "img1b.png", "img1a.png", "7.png", "a7b10.png", "a7b9.png", "007.png"]
    assert sorted(names, key=natural_key) == [
        "007.png", "7.png", "a7b9.png", "a7b10.png", "img1a.png", "img1b.png", "img2.png", "IMG3.png", "img10.png"]


def test_a_mixed_folder(tmp_path):
    folder = tmp_path / "scan 4"
    folder.mkdir()
    tifffile.imwrite(folder / "img2.tif", GREY + 2)
    Image.fromarray(GREY + 10).save(folder / "img10.PNG")
    Image.fromarray(GREY + 1).save(folder / "img1.bmp")
    Image.fromarray(GREY).save(folder / "img11.jpeg", quality=100)
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.txt").write_text("x")
    (folder / "folder.tif").mkdir()
    frames = frames_of(folder)
    assert [frame.acquisition for frame in frames] == ["scan 4"] * 4
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    for frame, added in zip(frames, (1, 2, 10), strict=False):
        assert np.array_equal(frame.pixels, GREY + added)
    assert np.abs(frames[3].pixels.astype(int) - GREY).max() <= 4


@pytest.mark.parametrize(("name", "picture", "dtype"), [
    ("a.png", GREY, "uint8"), ("a.png", GREY16, "uint16"), ("a.bmp", GREY, "uint8"), ("a.tif", GREY16, "uint16"),
])
def test_values_are_kept(tmp_path, name, picture, dtype):
    if name.endswith("tif"):
        tifffile.imwrite(tmp_path / name, picture)
    else:
        Image.fromarray(picture).save(tmp_path / name)
    frame, = frames_of(tmp_path / name)
    assert np.array_equal(frame.pixels, picture)
    assert frame.pixels.dtype == dtype
    assert frame.acquisition == "a"


def luma(colours):
    return colours[..., :3] @ [0.299, 0.587, 0.114]


@pytest.mark.parametrize(("mode", "suffix"), [
    ("RGB", "png"), ("RGBA", "png"), ("LA", "png"), ("P", "png"), ("1", "png"),
    ("RGB", "bmp"), ("RGBA", "bmp"), ("P", "bmp"), ("1", "bmp"),
])
def test_every_mode_becomes_grey(tmp_path, mode, suffix):
    image = Image.fromarray(COLOUR).convert(mode)
    image.save(tmp_path / f"a.{suffix}")
    frame, = frames_of(tmp_path / f"a.{suffix}")
    assert frame.pixels.dtype == np.uint8
    assert frame.pixels.shape == (21, 34)
    assert np.abs(frame.pixels - luma(np.asarray(image.convert("RGB")))).max() <= 1.0


def test_colour_with_16_bit_stays_16_bit(tmp_path):
    colours = RNG.integers(0, 65535, (21, 34, 3)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(colours))
    frame, = frames_of(tmp_path / "a.png")
    assert frame.pixels.dtype == np.uint16
    assert np.abs(frame.pixels - luma(colours)).max() <= 0.5


def test_all_pages_of_a_tiff_in_a_folder(tmp_path):
    tifffile.imwrite(tmp_path / "1.tif", np.stack([GREY16 + page for page in range(5)]), compression="zlib")
    tifffile.imwrite(tmp_path / "2.tif", GREY16 + 5)
    frames = frames_of(tmp_path)
    assert [int(frame.pixels[0, 0]) - int(GREY16[0, 0]) for frame in frames] == [0, 1, 2, 3, 4, 5]
    assert {frame.expected for frame in frames} == {6}


def test_pictures_of_another_shape_are_still_delivered(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "1.png")
    Image.fromarray(GREY[:9]).save(tmp_path / "2.png")
    assert [frame.pixels.shape for frame in frames_of(tmp_path)] == [(21, 34), (9, 34)]


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
@pytest.mark.parametrize(("spoil", "reason"), [
    (lambda data: b"", "empty"), (lambda data: data[: len(data) // 2], ""), (lambda data: b"hello there", "no TIFF"),
], ids=["empty", "cut", "foreign"])
def test_unreadable_files_are_refusals_that_name_them(tmp_path, suffix, spoil, reason):
    for position in (1, 2, 3):
        Image.fromarray(GREY).save(tmp_path / f"img{position}.{suffix}")
    spoilt = tmp_path / f"img1.{suffix}"
    spoilt.write_bytes(spoil(spoilt.read_bytes()))
    with open_recording(tmp_path) as recording:
        assert (recording.count, recording.shape) == (3, (21, 34))
        items = list(recording.frames())
    assert [isinstance(item, Frame) for item in items] == [False, True, True]
    assert (items[0].bucket, items[0].index) == ("malformed", 0)
    assert spoilt.name in items[0].reason
    assert reason in items[0].reason
    assert "\n" not in items[0].reason


def test_a_file_that_vanishes_meanwhile_is_a_refusal(tmp_path):
    for position in range(3):
        Image.fromarray(GREY).save(tmp_path / f"{position}.png")
    with open_recording(tmp_path) as recording:
        (tmp_path / "1.png").unlink()
        assert [isinstance(item, Frame) for item in recording.frames()] == [True, False, True]


def test_the_pixel_size_of_the_first_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "1.tif", GREY, imagej=True, resolution=(20.0, 20.0), metadata={"unit": "um"})
    with open_recording(tmp_path) as recording:
        assert recording.pixel_size_nm == pytest.approx(50.0)


def test_folders_without_images_say_what_they_hold(tmp_path):
    with pytest.raises(RecordingError, match=r"folder without images.*it holds nothing"):
        open_recording(tmp_path)
    for position in range(7):
        (tmp_path / f"run{position}.h5").write_bytes(b"x")
    with pytest.raises(RecordingError, match=r"it holds run0\.h5, .* and 2 more; give a folder with images"):
        open_recording(tmp_path)


def test_folders_whose_images_are_all_unreadable(tmp_path):
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(RecordingError, match=r"none of its 1 picture\(s\) can be read.*empty"):
        open_recording(tmp_path)


@pytest.mark.parametrize(("name", "content", "text"), [
    ("notes.txt", b"hello there", "no known format; can read: "), ("empty.tif", b"", r"the file is empty \(0 bytes\)"),
    ("x.png", b"\x89PNG\r\n\x1a\nrubbish", "none of its"), ("x", b"a", "no known format"),
])
def test_single_files_that_are_no_images(tmp_path, name, content, text):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordingError, match=text) as caught:
        open_recording(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_datasets_make_no_sense(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "1.png")
    with pytest.raises(RecordingError, match="no datasets"):
        open_recording(tmp_path, dataset="exchange/data")


def test_no_permission_is_explained(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "1.png")

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("streamer.formats.images._decoder", deny)
    with pytest.raises(RecordingError, match=r"1\.png: permission denied"):
        open_recording(tmp_path / "1.png")
