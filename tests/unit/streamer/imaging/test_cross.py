from __future__ import annotations

import numpy as np
import pytest
from support.scenes import Scene

from streamer.imaging.blur import baseline_of, estimate_blur
from streamer.imaging.correction import correct
from streamer.imaging.cross import CrossEstimate, register_modes
from streamer.imaging.spectrum import Spectrum, measure_spectrum, polar_bins
from streamer.tracking.average import Comparison, RegisteredAverage

SHAPE = (340, 360)


class Stream:
    """A drifting scene at low dose, its sharp frames averaged."""

    def __init__(self, seed: int, photons: float) -> None:
        self.scene, self.photons = Scene(seed, SHAPE), photons
        self.rng = np.random.default_rng(seed + 1)
        self.y = -40.0
        self.average = RegisteredAverage()
        self.taken = [self.take() for _ in range(12)]
        self.baseline = baseline_of([spectrum.power for spectrum, _ in self.taken[-8:]])
        for spectrum, drift in self.taken:
            self.average.accept(self.compare(spectrum, drift))

    def take(self, **blur: float) -> tuple[Spectrum, tuple[float, float]]:
        self.y = min(self.y + 1.0, 40.0)
        drift = (self.y, float(self.rng.normal(0, 5)))
        pixels = self.scene.frame(self.rng, photons=self.photons, drift=drift, **blur)
        return measure_spectrum(correct(pixels)), drift

    def compare(self, spectrum: Spectrum, drift: tuple[float, float]) -> Comparison:
        return self.average.compare(spectrum.power, spectrum.modes, drift, self.baseline.power)


@pytest.fixture(scope="module")
def stream() -> Stream:
    return Stream(311, 30.0)


def found(estimate: CrossEstimate | None) -> tuple[np.ndarray, np.ndarray]:
    assert estimate is not None
    return estimate.covariance, np.sqrt(np.diag(estimate.errors))


def test_sharp_frames_correlate_as_usual_within_the_errors(stream):
    pulls, gains = [], []
    for _ in range(20):
        estimate = stream.compare(*stream.take()).estimate
        covariance, sigma = found(estimate)
        pulls.append(covariance / sigma)
        gains.append(estimate.gain)
    assert 0.6 < np.std(pulls) < 1.5
    assert np.median(gains) == pytest.approx(1, abs=0.03)


def test_blur_is_recovered(stream):
    covariance, _ = found(stream.compare(*stream.take(length_px=4, angle_deg=90)).estimate)
    assert covariance[0] == pytest.approx(16 / 12, rel=0.45)
    assert abs(covariance[2]) < 0.6


def test_both_routes_together_see_more_at_low_dose(stream):
    power_only, both = [], []
    for _ in range(20):
        spectrum, drift = stream.take()
        cross = stream.compare(spectrum, drift).estimate
        power_only.append(estimate_blur(spectrum.power, stream.baseline))
        both.append(estimate_blur(spectrum.power, stream.baseline, cross))
    scatter = [np.std([estimate.covariance[0, 0] for estimate in each]) for each in (power_only, both)]
    assert scatter[1] < 0.85 * scatter[0]
    assert np.median([e.limit_px for e in both]) < 0.92 * np.median([e.limit_px for e in power_only])
    assert max(estimate.score for estimate in both) < 3.5
    gauge = np.median([estimate.gauge_px2 for estimate in both])   # all share the noise of one baseline
    assert abs(gauge) < 3 * scatter[0] * np.sqrt(2 / 8)


def test_bad_registration_is_no_blur(stream):
    for _ in range(5):
        spectrum, (dy, dx) = stream.take()
        estimate = estimate_blur(spectrum.power, stream.baseline, stream.compare(spectrum, (dy + 2.5, dx)).estimate)
        assert estimate.score < 3.5
        assert estimate.gauge_px2 is None or estimate.gauge_px2 > 1


def test_another_place_says_nothing_and_begins_anew(stream):
    other, own = Stream(312, 30.0), Stream(311, 30.0)
    assert own.compare(*other.take()).estimate is None
    for _ in range(3):
        own.average.accept(own.compare(*other.take()))
    assert own.compare(*other.take()).cross is None


def test_shifting_back_is_exact():
    rng = np.random.default_rng(5)
    image = rng.normal(1, 0.1, (96, 120)).astype(np.float32)
    one, other = (measure_spectrum(each) for each in (image, np.roll(image, (7, -4), (0, 1))))
    # the window does not move with the content, so only what is well inside agrees
    shape = one.power.shape
    again, first = register_modes(other.modes, shape, (7, -4)), register_modes(one.modes, shape, (0.0, 0.0))
    assert np.abs(np.vdot(again, first)) > 0.8 * np.vdot(first, first).real
    np.testing.assert_allclose(first, one.modes.take(polar_bins(*shape).kept.modes))


def test_large_frames_keep_no_more_modes():
    large = measure_spectrum(np.random.default_rng(6).normal(1, 0.1, (1600, 1600)).astype(np.float32))
    assert large.modes.size < 1.2 * measure_spectrum(np.ones((1024, 1024), np.float32)).modes.size


def test_restored_it_goes_on_the_same(stream):
    again = RegisteredAverage.restored(stream.average.snapshot())
    spectrum, drift = stream.take()
    one, other = (average.compare(spectrum.power, spectrum.modes, drift, stream.baseline.power).estimate
                  for average in (stream.average, again))
    np.testing.assert_array_equal(found(one)[0], found(other)[0])
