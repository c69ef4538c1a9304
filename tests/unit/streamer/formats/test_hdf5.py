from __future__ import annotations

import h5py
import hdf5plugin
import numpy as np
import pytest

from streamer.errors import RecordingError
from streamer.formats import open_recording
from streamer.records import Frame

RNG = np.random.default_rng(17)
DATA = RNG.integers(0, 60000, (8, 11, 13)).astype(np.uint16)
WHITE = RNG.integers(0, 60000, (3, 11, 13)).astype(np.uint16)
DARK = RNG.integers(0, 200, (2, 11, 13)).astype(np.uint16)


@pytest.fixture
def write(tmp_path):
    def write_(tree, attributes=None, name="run 7.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            for key, value in tree.items():
                file[key] = value
            for (owner, key), value in (attributes or {}).items():
                file[owner].attrs[key] = value
        return tmp_path / name

    return write_


def frames_of(path, **options):
    with open_recording(path, **options) as recording:
        return list(recording.frames())


def order(frames):
    return [(frame.kind[0], frame.index) for frame in frames]


EXCHANGE = {"exchange/data": DATA, "exchange/data_white": WHITE, "exchange/data_dark": DARK}


def test_data_exchange_gives_darks_flats_and_projections(write):
    frames = frames_of(write(EXCHANGE))
    assert order(frames) == [("d", 0), ("d", 1), ("f", 0), ("f", 1), ("f", 2), *(("p", index) for index in range(8))]
    assert [frame.acquisition for frame in frames[::4]] == ["run 7/dark", "run 7/flat", "run 7", "run 7"]
    for frame in frames:
        assert np.array_equal(frame.pixels, {"d": DARK, "f": WHITE, "p": DATA}[frame.kind[0]][frame.index])


@pytest.mark.parametrize("dtype", ["uint8", "int16", ">u2", "uint32", "int64", "float16", "float32", ">f8", "bool"])
def test_any_real_type_comes_in_the_order_of_this_machine(write, dtype):
    frames = frames_of(write({"exchange/data": DATA.astype(dtype)}))
    assert frames[0].pixels.dtype.isnative
    assert np.array_equal(frames[3].pixels, DATA.astype(dtype)[3])


@pytest.mark.parametrize("options", [
    {"compression": "gzip"}, {"compression": "lzf", "shuffle": True}, hdf5plugin.Bitshuffle(), hdf5plugin.LZ4(),
    hdf5plugin.Blosc(), hdf5plugin.Zstd(),
], ids=["gzip", "lzf", "bitshuffle", "lz4", "blosc", "zstd"])
def test_compressed_files(tmp_path, options):
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        file.create_dataset("exchange/data", data=DATA, chunks=(1, 11, 13), **options)
    assert np.array_equal(frames_of(tmp_path / "packed.h5")[5].pixels, DATA[5])


def test_frames_of_one_angle_are_one_view(write):
    theta = np.array([0, 45, 90, 0.01, 45, 90, 0, 45])
    frames = frames_of(write(EXCHANGE | {"exchange/theta": theta}))
    assert [frame.angle_deg for frame in frames[-8:]] == list(theta)
    assert {frame.angle_deg for frame in frames[:-8]} == {None}
    assert [frame.view for frame in frames[-8:]] == [f"{angle:.2f} deg" for angle in np.round(theta)]
    assert {frame.view for frame in frames[:-8]} == {""}
    still = frames_of(write(EXCHANGE | {"exchange/theta": np.full(8, 30.0)}, name="still.h5"))
    assert {frame.view for frame in still} == {""}


def test_angles_in_radians(write):
    theta = np.linspace(0, 180, 8)
    radians = frames_of(write(EXCHANGE | {"exchange/theta": np.radians(theta)},
                              {("exchange/theta", "units"): "radians"}, "radians.h5"))
    assert [frame.angle_deg for frame in radians[-8:]] == pytest.approx(theta)


@pytest.mark.parametrize("theta", [np.zeros(7), np.full(8, np.nan), np.array([b"a"] * 8), np.zeros((8, 1))])
def test_angles_that_do_not_fit_are_left_away(write, theta):
    assert {frame.angle_deg for frame in frames_of(write(EXCHANGE | {"exchange/theta": theta}))} == {None}


SEQUENCE = np.array([(2, 0), (1, 0), (0, 0), (0, 1), (1, 1), (0, 2), (2, 1), (0, 3)], np.int32)


def test_our_own_recordings_come_in_the_order_they_were_taken(write):
    times = 1.7e9 + np.arange(8.0)
    path = write(
        EXCHANGE | {"txm_live/sequence": SEQUENCE, "txm_live/exposed_at_s": times,
                    "txm_live/view": np.array(["left", "left", "left", "right"] * 2, h5py.string_dtype())},
        {("txm_live", "acquisition"): "charge 3", ("txm_live", "pixel_size_nm"): 40.0, ("txm_live", "exposure_s"): 0.5})
    with open_recording(path) as recording:
        assert (recording.name, recording.count, recording.total) == ("charge 3", 4, 8)
        assert recording.pixel_size_nm == 40.0
        frames = list(recording.frames())
        part = list(recording.frames(1, 3))
    assert order(frames) == [("pfd"[kind], index) for kind, index in SEQUENCE]
    assert [frame.exposed_at for frame in frames] == list(times)
    assert [frame.view for frame in frames] == ["left", "left", "left", "right"] * 2
    assert {frame.exposure_s for frame in frames} == {0.5}
    assert {frame.acquisition for frame in frames} == {"charge 3", "charge 3/flat", "charge 3/dark"}
    # flats and darks up to the last projection asked for; projections keep their numbers
    assert order(part) == [("d", 0), ("f", 0), ("p", 1), ("f", 1), ("p", 2), ("d", 1)]


def test_a_line_of_the_sequence_beyond_its_stack_is_a_refusal(write):
    lines = np.array([(0, 0), (0, 8), (0, 1)], np.int32)
    items = frames_of(write({"exchange/data": DATA, "txm_live/sequence": lines}))
    assert [isinstance(item, Frame) for item in items] == [True, False, True]
    assert items[1].index == 8
    assert "only 8 pictures" in items[1].reason


@pytest.mark.parametrize("lines", [np.zeros((3, 3), np.int32), np.zeros((3, 2)), np.array([(3, 0)]), np.array([(1, 0)]),
                                   np.array([(0, -1)])])
def test_sequences_that_make_no_sense(write, lines):
    path = write({"exchange/data": DATA, "txm_live/sequence": lines})
    with pytest.raises(RecordingError, match="txm_live/sequence"):
        open_recording(path)
    assert len(frames_of(path, dataset="exchange/data")) == 8   # the way out that the text names


def test_a_dataset_by_name(write):
    path = write({"entry/one": DATA, "entry/two": DATA[:4], "entry/picture": DATA[0], "note": "x"})
    assert len(frames_of(path, dataset="entry/two")) == 4
    assert len(frames_of(path, dataset="/entry/one")) == 8
    assert np.array_equal(frames_of(path, dataset="entry/picture")[0].pixels, DATA[0])


def test_the_only_stack_is_taken(write):
    path = write({"entry/detector/data": DATA, "entry/mask": DATA[0], "times": np.arange(8.0)})
    assert len(frames_of(path)) == 8


@pytest.mark.parametrize(("tree", "texts"), [
    ({"a/one": DATA, "b/two": DATA[:3]}, ["2 datasets", "a/one (8, 11, 13) uint16", "b/two"]),
    ({"times": np.arange(3.0)}, ["0 datasets", "times (3,) float64"]),
    ({}, ["datasets found: none"]),
    ({f"a/{number}": np.zeros(2) for number in range(20)}, ["and 8 more"]),
])
def test_files_that_leave_a_choice_list_their_datasets(write, tree, texts):
    with pytest.raises(RecordingError) as caught:
        open_recording(write(tree))
    for text in [*texts, "run 7.h5"]:
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["entry/nothing", "entry", "times", "names", "waves", "cube"])
def test_datasets_that_are_no_pictures(write, name):
    path = write({"entry/data": DATA, "times": np.arange(3.0), "names": np.array([["a", "b"]], h5py.string_dtype()),
                  "waves": np.zeros((4, 4), complex), "cube": np.zeros((2, 2, 2, 2))})
    with pytest.raises(RecordingError, match=f"dataset '{name}' is not a stack of pictures") as caught:
        open_recording(path, dataset=name)
    assert "datasets found: cube (2, 2, 2, 2) float64, entry/data" in str(caught.value)


def test_the_layout_of_nsls2_fxi(write):
    path = write({"img_tomo": DATA, "img_bkg": WHITE, "img_dark": DARK, "angle": np.arange(8.0), "X_eng": 8.333,
                  "Magnification": 325.0})
    with open_recording(path) as recording:
        assert recording.pixel_size_nm == 20.0
        frames = list(recording.frames())
    assert len(frames) == 13
    assert (frames[-1].angle_deg, frames[-1].view) == (7.0, "7.00 deg")
    assert {frame.energy_ev for frame in frames[5:]} == {8333.0}


def test_a_spectroscopy_scan_of_nsls2_fxi(write):
    energies = np.array([8.33, 8.34, 8.35, 8.36] * 2)
    frames = frames_of(write({"img_xanes": DATA, "img_bkg": WHITE, "X_eng": energies, "Pixel Size": "21 nm"}))
    assert [frame.energy_ev for frame in frames[3:]] == pytest.approx(1e3 * energies)
    assert [frame.view for frame in frames[3:7]] == ["8330.0 eV", "8340.0 eV", "8350.0 eV", "8360.0 eV"]
    assert frames[0].pixel_size_nm == 21.0


NXTOMO = {"entry/instrument/detector/data": DATA,
          "entry/instrument/detector/image_key": np.array([2, 1, 0, 0, 3, 1, 0, 2]),
          "entry/instrument/detector/x_pixel_size": 3.25e-8,
          "entry/instrument/detector/count_time": np.arange(1.0, 9.0),
          "entry/sample/rotation_angle": np.array([0, 0, 10, 20, 30, 0, 10, 0.0]),
          "entry/instrument/beam/incident_energy": 8.562}


def test_nxtomo_tells_its_pictures_apart_by_a_key(write):
    with open_recording(write(NXTOMO)) as recording:
        assert recording.pixel_size_nm == pytest.approx(32.5)
        frames = list(recording.frames())
    assert order(frames) == [("d", 0), ("f", 0), ("p", 0), ("p", 1), ("f", 1), ("p", 2), ("d", 1)]   # 4 is invalid
    assert all(np.array_equal(frame.pixels, DATA[place])
               for frame, place in zip(frames, (0, 1, 2, 3, 5, 6, 7), strict=True))
    shots = [frame for frame in frames if frame.kind == "projection"]
    assert [(frame.angle_deg, frame.exposure_s, frame.view) for frame in shots] == [
        (10, 3, "10.00 deg"), (20, 4, "20.00 deg"), (10, 7, "10.00 deg")]
    assert shots[0].energy_ev == pytest.approx(8562)


def test_nxtomo_with_units_of_its_own(write):
    path = write(NXTOMO | {"entry/instrument/beam/incident_energy": 8562.0},
                 {("entry/instrument/beam/incident_energy", "units"): "eV",
                  ("entry/sample/rotation_angle", "units"): "rad"})
    shot = next(frame for frame in frames_of(path) if frame.kind == "projection")
    assert (shot.energy_ev, shot.angle_deg) == (8562.0, pytest.approx(np.degrees(10.0)))


def test_area_detector_files_tell_their_times(write):
    stamps = 1.1e9 + np.arange(8.0)
    frames = frames_of(write({"entry/data/data": DATA, "entry/data/other": WHITE,
                              "entry/instrument/NDAttributes/NDArrayTimeStamp": stamps}))
    assert [frame.exposed_at for frame in frames] == list(stamps + 631_152_000)
    assert [frame.index for frame in frames] == list(range(8))


@pytest.mark.parametrize(("name", "value"), [
    ("X_eng", "bright"), ("X_eng", np.zeros((2, 2))), ("X_eng", -1.0), ("Pixel Size", "fine"), ("Magnification", 0.0),
    ("Pixel Size", np.array([b"x"]))])
def test_facts_that_make_no_sense_are_left_out(write, name, value):
    frames = frames_of(write({"img_tomo": DATA, name: value}))
    assert {(frame.energy_ev, frame.pixel_size_nm) for frame in frames} == {(None, None)}


def test_flats_and_darks_of_another_scan(write):
    other = write(EXCHANGE, name="other.h5")
    frames = frames_of(write({"exchange/data": DATA}), flat=other, dark=other)
    assert order(frames)[:5] == [("d", 0), ("d", 1), ("f", 0), ("f", 1), ("f", 2)]
    assert np.array_equal(frames[2].pixels, WHITE[0])


def test_flats_given_replace_those_stored(write):
    flats = write({"entry/flats": DATA[:2]}, name="flats.h5")
    frames = frames_of(write(EXCHANGE), flat=flats)
    assert order(frames)[:4] == [("f", 0), ("f", 1), ("d", 0), ("d", 1)]
    assert np.array_equal(frames[0].pixels, DATA[0])


def test_files_with_references_alone(write):
    path = write({"exchange/data_dark": DARK})
    with pytest.raises(RecordingError, match="found dark pictures but no projections"):
        open_recording(path)
    with pytest.raises(RecordingError, match="given as flat, holds only dark pictures"):
        open_recording(write(EXCHANGE, name="scan.h5"), flat=path)
    assert len(frames_of(write({"exchange/data": DATA}, name="data.h5"), dark=path)) == 10


def test_a_damaged_chunk_is_a_refusal(tmp_path):
    path = tmp_path / "damaged.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("exchange/data", data=DATA, chunks=(1, 11, 13), compression="gzip")
        place = file["exchange/data"].id.get_chunk_info(3).byte_offset
    data = bytearray(path.read_bytes())
    data[place:place + 30] = bytes(30)
    path.write_bytes(data)
    items = frames_of(path)
    assert [isinstance(item, Frame) for item in items] == [index != 3 for index in range(8)]
    assert items[3].bucket == "malformed"
    assert "projection 3 of damaged.h5 cannot be read" in items[3].reason


def test_cut_and_foreign_files(tmp_path, write):
    path = write(EXCHANGE)
    data = path.read_bytes()
    (tmp_path / "cut.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(RecordingError, match=r"cut\.h5: HDF5 file cannot be opened"):
        open_recording(tmp_path / "cut.h5")
    (tmp_path / "text.h5").write_text("no HDF5 at all")
    with pytest.raises(RecordingError, match=r"text\.h5.*no known format; can read: .*HDF5"):
        open_recording(tmp_path / "text.h5")


def test_broken_links_are_passed_over(write, tmp_path):
    path = write({"entry/data": DATA})
    with h5py.File(path, "a") as file:
        file["exchange/data"] = h5py.ExternalLink("gone.h5", "/data")
        file["soft"] = h5py.SoftLink("/nowhere")
    assert len(frames_of(path)) == 8


def test_one_picture_in_memory_at_a_time(tmp_path):
    import tracemalloc
    with h5py.File(tmp_path / "long.h5", "w") as file:
        file.create_dataset("exchange/data", (400, 100, 100), np.uint16, chunks=(1, 100, 100))
    with open_recording(tmp_path / "long.h5") as recording:
        frames = recording.frames()
        next(frames)
        tracemalloc.start()
        try:
            assert sum(1 for _ in frames) == 399
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 10 * 20_000
