from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from streamer.imaging.correction import IDENTITY, correct
from streamer.records import Frame
from streamer.settings import CalibrationSettings
from streamer.tracking.calibration import Calibration

SHAPE = (80, 100)


def frame(pixels: np.ndarray, kind: str = "flat", index: int = 0) -> Frame:
    return Frame(pixels=pixels, index=index, kind=kind)


def light(level: float = 1000.0) -> np.ndarray:
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]]
    return level * (0.6 + 0.4 * np.cos((y - 40) / 60) * np.cos((x - 50) / 70))


def taken(rng: np.random.Generator, beam: np.ndarray, offset: float = 100.0) -> np.ndarray:
    return (rng.poisson(beam) + rng.normal(offset, 2, SHAPE)).round().astype(np.uint16)


def calibrated(flats: int = 10, darks: int = 5, seed: int = 1) -> Calibration:
    rng = np.random.default_rng(seed)
    calibration = Calibration(CalibrationSettings())
    for index in range(darks):
        assert calibration.add(frame(taken(rng, np.zeros(SHAPE)), "dark", index)) == ""
    for index in range(flats):
        assert calibration.add(frame(taken(rng, light()), "flat", index)) == ""
    return calibration


def test_transmission_comes_out():
    calibration = calibrated()
    sample = np.where(np.mgrid[:80, :100][1] < 50, 1.0, 0.4)
    image = correct(taken(np.random.default_rng(2), light() * sample), calibration.correction(SHAPE))
    assert image[:, :48].mean() == pytest.approx(1.0, abs=0.01)
    assert image[:, 52:].mean() == pytest.approx(0.4, abs=0.01)
    assert np.abs(image[:, :48].mean(1) - 1).max() < 0.03   # the illumination is gone
    correction = calibration.correction(SHAPE)
    assert (correction.flats, correction.darks) == (10, 5)
    assert correction.gain.dtype == correction.dark.dtype == correction.weight.dtype == np.float32
    assert correction.bad is None
    assert correction.weight.max() == 1


def test_without_calibration_nothing_is_corrected():
    assert Calibration(CalibrationSettings()).correction(SHAPE) is IDENTITY
    assert calibrated().correction((5, 5)) is IDENTITY


def test_only_darks_or_only_flats_are_used_as_far_as_they_go():
    dark_only = calibrated(flats=0).correction(SHAPE)
    assert dark_only.gain is None
    assert dark_only.dark.mean() == pytest.approx(100, abs=1)
    flat_only = calibrated(darks=0).correction(SHAPE)
    assert flat_only.dark is None
    assert flat_only.gain is not None


def test_a_decaying_beam_does_not_change_the_open_beam():
    rng = np.random.default_rng(3)
    calibration = Calibration(CalibrationSettings())
    for index in range(8):
        beam = light(1000 * 0.9**index)
        calibration.add(frame(taken(rng, beam, 0.0), "flat", index))
        image = correct(taken(rng, beam, 0.0), calibration.correction(SHAPE))
        assert image.mean() == pytest.approx(1, abs=0.01)


def test_the_mean_looks_back_on_the_last_frames():
    calibration = Calibration(CalibrationSettings(flats=4))
    for index in range(40):
        calibration.add(frame(np.full(SHAPE, 1000.0 if index < 20 else 2000.0), "flat", index))
    assert calibration.correction(SHAPE).flats == 4
    assert correct(np.full(SHAPE, 2000.0), calibration.correction(SHAPE)).mean() == pytest.approx(1, abs=0.01)


def test_the_correction_is_kept_until_it_changes():
    calibration = calibrated()
    version, first = calibration.version, calibration.correction(SHAPE)
    assert calibration.correction(SHAPE) is first
    calibration.add(frame(np.zeros(SHAPE), "projection"))
    assert calibration.version == version
    calibration.add(frame(taken(np.random.default_rng(9), light())))
    assert calibration.version == version + 1
    assert calibration.correction(SHAPE) is not first


def test_dead_and_hot_pixels_are_found():
    rng = np.random.default_rng(4)
    calibration = Calibration(CalibrationSettings())
    for _ in range(4):
        dark, flat = taken(rng, np.zeros(SHAPE)), taken(rng, light())
        dark[7, 8] = flat[7, 8] = 5000
        flat[20, 30] = 100
        calibration.add(frame(dark, "dark"))
        calibration.add(frame(flat, "flat"))
    bad = calibration.correction(SHAPE).bad
    assert bad[7, 8]
    assert bad[20, 30]
    assert bad.sum() == 2


def test_a_dark_corner_is_not_amplified():
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]]
    beam = 1000 * np.clip((y + x - 30) / 60, 0, 1)
    calibration = Calibration(CalibrationSettings())
    for _ in range(5):
        calibration.add(frame(taken(rng, np.zeros(SHAPE)), "dark"))
        calibration.add(frame(taken(rng, beam), "flat"))
    correction = calibration.correction(SHAPE)
    image = correct(taken(rng, beam), correction)
    assert correction.weight[5, 5] == 0
    assert image[:10, :10].std() == 0
    assert np.abs(image - 1).max() < 1.5
    assert image[60:, 60:].mean() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("pixels", "kind", "reason"), [
    (np.full(SHAPE, 65535, np.uint16), "flat", "saturated"),
    (np.full(SHAPE, 90, np.uint16), "flat", "no more than the dark"),
    (np.full(SHAPE, np.nan), "flat", "NaN"),
    (np.full(SHAPE, 900, np.uint16), "dark", "shutter"),
])
def test_what_would_spoil_the_calibration_is_refused(pixels, kind, reason):
    calibration = calibrated()
    before = calibration.correction(SHAPE)
    assert reason in calibration.add(frame(pixels, kind, 77))
    assert calibration.correction(SHAPE) is before


def test_another_size_starts_again_and_says_so():
    calibration = calibrated()
    problem = calibration.add(frame(np.full((40, 50), 500, np.uint16)))
    assert "(40, 50)" in problem
    assert "(80, 100)" in problem
    assert calibration.correction(SHAPE) is IDENTITY
    assert calibration.correction((40, 50)).flats == 1


def test_restored_it_goes_on_the_same():
    calibration, other = calibrated(), Calibration(CalibrationSettings())
    other.restore(calibration.snapshot())
    flat = frame(taken(np.random.default_rng(6), light()))
    for one in (calibration, other):
        one.add(flat)
    assert other.version == calibration.version
    np.testing.assert_array_equal(other.correction(SHAPE).gain, calibration.correction(SHAPE).gain)


@pytest.mark.parametrize("spread_px", [0.0, 0.7])
def test_counts_per_photon_are_measured(spread_px):
    rng = np.random.default_rng(11)
    shape = (256, 300)
    y, x = np.mgrid[:shape[0], :shape[1]]
    beam = 0.5 + 0.5 * np.exp(-((y - 128) / 150) ** 2 - ((x - 150) / 150) ** 2)

    def exposed(photons):
        light = 20.0 * gaussian_filter(rng.poisson(photons * beam).astype(float), spread_px)
        return (light + rng.normal(500, 15, shape)).round().astype(np.uint16)

    calibration = Calibration(CalibrationSettings())
    for index in range(4):
        calibration.add(frame(exposed(0.0), "dark", index))
    assert calibration.correction(shape).counts_per_photon is None
    for index in range(8):   # the ring current decays
        calibration.add(frame(exposed(300 * 0.97**index), "flat", index))
        known = calibration.correction(shape).counts_per_photon
        assert (known is None) == (index == 0)
    assert known == pytest.approx(20, rel=0.05)
    correction = calibration.correction(shape)
    assert correction.open_beam / known == pytest.approx(300 * 0.97**7 * beam.mean(), rel=0.05)
    low = correction.noise_shape(correction.open_beam).bins[0].mean()
    assert low == pytest.approx(1.0, abs=0.05) if spread_px == 0 else low > 3
    other = Calibration(CalibrationSettings())
    other.restore(calibration.snapshot())
    assert other.correction(shape).counts_per_photon == known


def test_stray_x_rays_in_darks_are_no_read_noise():
    rng = np.random.default_rng(12)
    calibration = Calibration(CalibrationSettings())
    for index in range(2):
        dark = rng.normal(100, 5, SHAPE)
        dark[rng.integers(0, 80, 8), rng.integers(0, 100, 8)] += 20_000
        calibration.add(frame(dark.astype(np.uint16), "dark", index))
    assert calibration.snapshot()["noise"]["_read_variance"] == pytest.approx(25, rel=0.1)


def flats_after_two(count: int) -> tuple[Calibration, list[Frame]]:
    rng = np.random.default_rng(21)
    flats = [frame(taken(rng, light()), index=index) for index in range(count)]
    calibration = Calibration(CalibrationSettings())
    calibration.add(frame(light().astype(np.uint16), "projection"))
    for one in flats[:2]:
        calibration.add(one)
    assert calibration.errand is None   # nothing was known of the noise before: compared at once
    assert calibration.correction(SHAPE).noise is not None
    return calibration, flats[2:]


def test_projections_do_not_wait_for_the_comparison_of_flats():
    calibration, (third, fourth, fifth) = flats_after_two(5)
    projection = frame(light().astype(np.uint16), "projection")
    other = Calibration(CalibrationSettings())
    other.restore(calibration.snapshot())
    known = calibration.correction(SHAPE).counts_per_photon
    for one in (calibration, other):
        one.add(third)
        one.add(fourth)
    calibration.add(projection)
    beside = calibration.correction(SHAPE)
    assert beside.flats == 4
    assert beside.counts_per_photon == known   # as the first two flats tell
    assert calibration.errand is not None
    calibration.errand()   # whether or not somebody had the time makes no difference
    assert calibration.correction(SHAPE) is beside
    calibration.add(projection)
    after = calibration.correction(SHAPE)
    assert after.counts_per_photon != known
    assert calibration.errand is None
    assert after.gain is beside.gain
    other.add(fifth)   # a flat that comes before them has the same effect
    assert other.correction(SHAPE).counts_per_photon == pytest.approx(after.counts_per_photon, rel=1e-3)
    assert other.correction(SHAPE).noise.flat.bins.tolist() == after.noise.flat.bins.tolist()


def test_restored_while_flats_are_being_compared():
    calibration, (third, fourth) = flats_after_two(4)
    calibration.add(third)
    calibration.add(fourth)
    other = Calibration(CalibrationSettings())
    other.restore(calibration.snapshot())
    projection = frame(light().astype(np.uint16), "projection")
    for one in (calibration, other):
        one.add(projection)
        one.add(projection)
    ours, theirs = calibration.correction(SHAPE), other.correction(SHAPE)
    assert ours.counts_per_photon == theirs.counts_per_photon
    np.testing.assert_array_equal(ours.noise.flat.bins, theirs.noise.flat.bins)
