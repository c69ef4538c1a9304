from __future__ import annotations

import numpy as np

from streamer.imaging.resolution import Resolution
from streamer.imaging.spectrum import NoiseShape, Spectrum, measure_spectrum
from streamer.tracking.spectra import Spectra


def seen(seed: int) -> Spectrum:
    return measure_spectrum(np.random.default_rng(seed).poisson(100, (160, 176)).astype(np.float32))


def test_the_reference_is_the_mean_of_the_baseline() -> None:
    spectra, frames = Spectra(), [seen(seed) for seed in range(4)]
    first = spectra.update("v", ("a", 0), frames[0], baseline=())
    assert first.reference_horizontal is first.reference_vertical is None
    np.testing.assert_array_equal(first.horizontal, frames[0].horizontal)
    for index in (1, 2):
        spectra.update("v", ("a", index), frames[index], baseline=[("a", 0)])
    last = spectra.update("v", ("a", 3), frames[3], baseline=[("a", 0), ("a", 2)])
    np.testing.assert_allclose(last.reference_horizontal, (frames[0].horizontal + frames[2].horizontal) / 2, rtol=1e-6)
    np.testing.assert_allclose(last.reference_vertical, (frames[0].vertical + frames[2].vertical) / 2, rtol=1e-6)
    assert last.picture.dtype == np.uint8
    assert last.floor == np.float32(frames[3].power.floor)


def test_views_do_not_mix_and_unusable_frames_are_not_kept() -> None:
    spectra = Spectra()
    spectra.update("v", ("a", 0), seen(0), baseline=())
    spectra.update("v", ("a", 1), seen(1), baseline=[("a", 0)], usable=False)
    assert spectra.update("w", ("a", 2), seen(2), baseline=[("a", 0)]).reference_horizontal is None
    assert spectra.update("v", ("a", 3), seen(2), baseline=[("a", 1)]).reference_horizontal is None


def test_a_baseline_frame_is_kept_however_old_and_others_are_not() -> None:
    spectra, frame = Spectra(), seen(0)
    for index in range(200):
        found = spectra.update("v", ("a", index), frame, baseline=[("a", 0)] if index else ())
    assert found.reference_horizontal is not None
    assert len(spectra.snapshot()["v"]) <= 34
    assert spectra.update("v", ("a", 200), frame, baseline=[("a", 50)]).reference_horizontal is None


def test_it_goes_on_from_a_snapshot() -> None:
    one, other = Spectra(), Spectra()
    for index in range(3):
        one.update("v", ("a", index), seen(index), baseline=())
    other.restore(one.snapshot())
    found = [spectra.update("v", ("a", 3), seen(3), baseline=[("a", 1), ("a", 2)]) for spectra in (one, other)]
    np.testing.assert_array_equal(found[0].reference_vertical, found[1].reference_vertical)
    assert found[1].reference_vertical is not None


def test_noise_and_resolution_travel_along() -> None:
    frame = seen(5)
    shape = NoiseShape(np.ones((24, 12), np.float32), np.full(20, 2, np.float32), np.full(20, 3, np.float32))
    found = Spectra().update("v", ("a", 0), frame, baseline=(), noise=shape, resolution=Resolution(2.0, 0.1, 1.0))
    np.testing.assert_allclose(found.noise_vertical, 3 * frame.power.floor, rtol=1e-6)
    assert (found.resolution_x_px, found.resolution_x_sigma_px, found.resolution_y_px) == (2.0, 0.1, 1.0)
    assert found.resolution_y_sigma_px is None
