from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.scenes import Scene

from streamer.errors import FrameError
from streamer.imaging.blur import Baseline, BlurEstimate, baseline_of, estimate_blur, shape_of
from streamer.imaging.correction import correct
from streamer.imaging.cross import CrossEstimate
from streamer.imaging.spectrum import PolarPower, polar_power

DATA = Path(__file__).parents[5] / "shared" / "data"


def measure(pixels: np.ndarray) -> PolarPower:
    return polar_power(correct(pixels))


class Stream:
    """Frames of one scene; the first eight form the baseline."""

    def __init__(self, seed: int, shape: tuple[int, int], photons: float = 200.0) -> None:
        self.scene = Scene(seed, shape)
        self.rng = np.random.default_rng(seed + 1)
        self.photons = photons
        self.baseline: Baseline = baseline_of([self.take() for _ in range(8)])

    def take(self, **blur: float) -> PolarPower:
        drift = (float(self.rng.normal(0, 6)), float(self.rng.normal(0, 6)))
        return measure(self.scene.frame(self.rng, photons=self.photons, drift=drift, **blur))

    def estimate(self, **blur: float) -> BlurEstimate:
        return estimate_blur(self.take(**blur), self.baseline)


@pytest.fixture(scope="module")
def stream() -> Stream:
    return Stream(107, (654, 678))


@pytest.fixture(scope="module")
def small() -> Stream:
    return Stream(108, (320, 344))


def angle_error(found: float, true: float) -> float:
    return abs((found - true + 90) % 180 - 90)


def test_sharp_frames_show_no_blur(small):
    estimates = [small.estimate() for _ in range(30)]
    scores = np.array([estimate.score for estimate in estimates])
    assert np.count_nonzero(scores > 3.5) == 0
    assert abs(np.median(scores)) < 1.5
    pulls = np.array([np.linalg.inv(np.linalg.cholesky(estimate.covariance_errors)) @ np.array(
        [estimate.covariance[0, 0], estimate.covariance[0, 1], estimate.covariance[1, 1]]) for estimate in estimates])
    assert 0.5 < pulls.std() < 1.4
    assert all(0.3 < estimate.texture + 0.2 < 0.8 for estimate in estimates)


@pytest.mark.parametrize(("length_px", "angle_deg"), [(3, 0), (3, 90), (5, 35), (5, -60), (8, 10), (8, -45), (12, 80)])
def test_motion_is_recovered(stream, length_px, angle_deg):
    estimate = stream.estimate(length_px=length_px, angle_deg=angle_deg)
    assert estimate.length_px == pytest.approx(length_px, abs=max(0.3, 4 * estimate.length_sigma_px))
    assert angle_error(estimate.angle_deg, angle_deg) < 6
    assert estimate.score > 7
    assert -90 < estimate.angle_deg <= 90
    assert estimate.gain == pytest.approx(1, abs=0.15)


def test_uncertainty_is_that_of_the_errors(small):
    pulls = []
    for k in range(28):
        length = (3.0, 4.0, 6.0, 8.0)[k % 4]
        estimate = small.estimate(length_px=length, angle_deg=25.0 * k)
        pulls.append((estimate.length_px - length) / estimate.length_sigma_px)
    assert abs(np.mean(pulls)) < 0.8
    assert 0.5 < np.std(pulls) < 1.4


@pytest.mark.parametrize("sigma_px", [1.0, 2.0])
def test_defocus_has_no_direction(stream, sigma_px):
    estimate = stream.estimate(defocus_px=sigma_px)
    values = np.linalg.eigvalsh(estimate.covariance)
    np.testing.assert_allclose(values, sigma_px**2, rtol=0.15)
    assert estimate.length_px == pytest.approx(np.sqrt(12) * sigma_px, rel=0.06)


def test_long_blur_is_out_of_no_reach(stream):
    assert stream.estimate(length_px=25, angle_deg=0).length_px == pytest.approx(25, rel=0.12)
    assert stream.estimate(length_px=40, angle_deg=45).length_px > 25


def test_score_grows_with_the_blur(small):
    scores = [small.estimate(length_px=length).score for length in (0, 2, 4, 6, 9, 14, 20)]
    assert (np.diff(scores) > 0).all()


def test_fewer_photons_hide_shorter_blur():
    limits = [Stream(109, (320, 344), photons).estimate().limit_px for photons in (1000, 100, 20)]
    assert limits == sorted(limits)
    assert limits[0] < 2.5
    assert limits[2] > 3


def test_frames_sharper_than_the_baseline_have_negative_variance(small):
    blurred = baseline_of([small.take(length_px=5, angle_deg=90) for _ in range(4)])
    estimate = estimate_blur(small.take(), blurred)
    assert estimate.least_px2 < -1
    assert estimate.least_score < -4
    assert estimate.length_px < 2


def test_structure_in_one_direction_only_leaves_the_other_open():
    rng = np.random.default_rng(3)
    x = np.arange(400)
    profile = 1 + 0.3 * np.convolve(rng.standard_normal(400), np.hanning(7), "same")
    stripes = np.broadcast_to(np.clip(profile, 0.1, None), (360, 400))
    tilted = np.stack([np.interp(x + 0.1 * row, x, stripes[row]) for row in range(360)])
    powers = [measure(rng.poisson(300 * tilted).astype(np.uint16)) for _ in range(9)]
    estimate = estimate_blur(powers[8], baseline_of(powers[:8]))
    assert estimate.limit_px > 10
    assert estimate.score < 3.5


def test_noise_alone_tells_nothing():
    rng = np.random.default_rng(4)
    powers = [measure(rng.poisson(100, (300, 300))) for _ in range(6)]
    estimate = estimate_blur(powers[5], baseline_of(powers[:5]))
    assert estimate.limit_px > 10
    assert estimate.score < 3.5
    assert np.isfinite([estimate.length_px, estimate.length_sigma_px, estimate.angle_deg, estimate.gain]).all()


def test_no_change_gives_zero(small):
    power = small.take()
    estimate = estimate_blur(power, baseline_of([power]))
    assert estimate.length_px == pytest.approx(0, abs=0.05)
    assert estimate.gain == pytest.approx(1, abs=1e-3)
    constant = measure(np.full((100, 100), 7))
    assert estimate_blur(constant, baseline_of([constant])).score == pytest.approx(0)


def test_another_specimen_is_not_called_blurred(small):
    other = Stream(110, (320, 344))
    estimate = estimate_blur(other.take(), small.baseline)
    assert estimate.score < 3.5
    assert estimate.limit_px > small.estimate().limit_px


def test_an_empty_baseline_is_refused():
    with pytest.raises(FrameError):
        baseline_of([])


def grey(path: Path) -> np.ndarray:
    image = pytest.importorskip("PIL.Image")
    with image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), np.float32).mean(-1)


@pytest.mark.parametrize(("ladder", "steps"), [("smear", range(10)), ("smear", range(0, -10, -1)), ("chart", range(6))])
def test_real_defocus_ladders_rise(ladder, steps):
    folder = DATA / "sharpness_ladders" / ladder
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    powers = [measure(grey(folder / f"{step}.png")) for step in steps]
    estimates = [estimate_blur(power, baseline_of(powers[:1])) for power in powers]
    assert (np.diff([estimate.score for estimate in estimates]) > 0).all()
    assert (np.diff([estimate.length_px for estimate in estimates]) > 0).all()


def test_real_frames_of_different_places_are_not_called_blurred():
    tifffile = pytest.importorskip("tifffile")
    files = sorted((DATA / "nsrrc_bl01b_txm").glob("*Lm*.tif"))
    if not files:
        pytest.skip(f"no tiles in {DATA / 'nsrrc_bl01b_txm'}")
    powers = [measure(tifffile.imread(file)) for file in files]
    for k in range(3, len(powers)):
        assert estimate_blur(powers[k], baseline_of(powers[:k])).score < 3.5


@pytest.mark.parametrize(("blur", "shape"), [
    ({"length_px": 6, "angle_deg": 20}, "motion"), ({"length_px": 25, "angle_deg": -70}, "motion"),
    ({"defocus_px": 1.5}, "defocus"), ({"defocus_px": 5.0}, "defocus"),
    ({"length_px": 9, "angle_deg": 0, "defocus_px": 1.8}, "mixed")])
def test_shapes_are_told_apart(stream, blur, shape):
    assert shape_of(stream.estimate(**blur)) == shape


def test_no_shape_is_claimed_without_blur(small):
    assert shape_of(small.estimate()) in {"", "motion"}   # the name counts for blurred frames only


@pytest.mark.parametrize("length_px", [30, 45, 60])
def test_length_and_score_do_not_saturate(stream, length_px):
    for angle in (0, 50):
        estimate = stream.estimate(length_px=length_px, angle_deg=angle)
        assert estimate.length_px == pytest.approx(length_px, rel=0.12)
        assert estimate.score > 500


def test_strong_defocus_is_measured(stream):
    for sigma_px in (4.5, 7.0):
        estimate = stream.estimate(defocus_px=sigma_px)
        assert estimate.length_px == pytest.approx(np.sqrt(12) * sigma_px, rel=0.1)


def test_routes_that_disagree_leave_it_open(small):
    power = small.take()
    cross = CrossEstimate(np.array([3.0, 0.0, 0.0]), np.eye(3) * 0.01, np.eye(3) * 0.01, 1.0, 1.0)
    estimate = estimate_blur(power, small.baseline, cross)
    assert estimate.limit_px > 10 > 2 * estimate_blur(power, small.baseline).limit_px
    assert estimate.score < 3.5
    assert estimate.gauge_px2 == pytest.approx(3, abs=0.6)
    blurred = small.take(length_px=6)
    assert estimate_blur(blurred, small.baseline, cross).score == estimate_blur(blurred, small.baseline).score
