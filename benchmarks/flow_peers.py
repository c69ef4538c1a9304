"""What a user would pick instead: dense flow from the libraries at hand, each after its best blur."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.registration import optical_flow_ilk, optical_flow_tvl1

from streamer.records import FloatArray

Dense = Callable[[FloatArray, FloatArray], FloatArray]
"""Takes two absorbances, gives (2, M, N) as (y, x): where the material of the first is in the second."""


class Peer(NamedTuple):
    """A method with its settings."""

    name: str
    dense: Dense
    blur_px: float
    """Sigma before the logarithm; the best of 1, 1.5 and 2 on seeds 301 and 302, at 500 and 2000 photons together."""
    every: int = 1
    """Only every so many frames of a sequence: the slow ones."""


def prepare(image: FloatArray, blur_px: float) -> FloatArray:
    """Smooth, take minus the logarithm, subtract the median: what the flow of the streamer does to a frame."""
    smooth = cv2.GaussianBlur(image, (0, 0), blur_px)
    absorbance = -np.log(np.maximum(smooth, 1e-3 * np.median(smooth)))
    return np.asarray(absorbance - np.median(absorbance[::4, ::4]), np.float32)


def flow(peer: Peer, first: FloatArray, second: FloatArray) -> FloatArray:
    """Run a peer on two frames."""
    return peer.dense(prepare(first, peer.blur_px), prepare(second, peer.blur_px))


def chained(step: FloatArray, before: FloatArray) -> FloatArray:
    """Go on from where the frame before left the material: ``before(x) + step(x + before(x))``."""
    y, x = np.indices(before.shape[1:], dtype=np.float32)
    moved = [cv2.remap(part, x + before[1], y + before[0], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
             for part in step]
    return np.asarray(before + np.stack(moved))


def _bytes(first: FloatArray, second: FloatArray) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    low, high = np.percentile(first[::2, ::2], [0.5, 99.5])
    scaled = [np.clip((plane - low) * (255 / (high - low)), 0, 255).astype(np.uint8) for plane in (first, second)]
    return scaled[0], scaled[1]


def _swapped(found: FloatArray) -> FloatArray:
    return np.stack([found[..., 1], found[..., 0]])


def _dis(first: FloatArray, second: FloatArray, *, preset: int, finest: int | None = None) -> FloatArray:
    search = cv2.DISOpticalFlow.create(preset)
    if finest is not None:
        search.setFinestScale(finest)
        search.setPatchStride(3)
        search.setGradientDescentIterations(25)
        search.setVariationalRefinementIterations(10)
    return _swapped(search.calc(*_bytes(first, second), None))


def _farneback(first: FloatArray, second: FloatArray, *, window: int) -> FloatArray:
    return _swapped(cv2.calcOpticalFlowFarneback(*_bytes(first, second), None, 0.5, 4, window, 3, 7, 1.5, 0))


def _unit(first: FloatArray, second: FloatArray) -> tuple[FloatArray, FloatArray]:
    low, high = np.percentile(first[::2, ::2], [0.5, 99.5])
    return (first - low) / (high - low), (second - low) / (high - low)


def _ilk(first: FloatArray, second: FloatArray, *, radius: int) -> FloatArray:
    return np.asarray(optical_flow_ilk(*_unit(first, second), radius=radius, num_warp=5), np.float32)


def _tvl1(first: FloatArray, second: FloatArray) -> FloatArray:
    return np.asarray(optical_flow_tvl1(*_unit(first, second), attachment=10), np.float32)


def _openpiv(first: FloatArray, second: FloatArray) -> FloatArray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")   # about its own deprecations
        from openpiv import pyprocess  # noqa: PLC0415  (an extra)

        u, v, _ratio = pyprocess.extended_search_area_piv(
            *(_bytes(first, second)), window_size=32, overlap=24, dt=1.0, search_area_size=48,
            sig2noise_method="peak2peak")
        x, y = pyprocess.get_coordinates(first.shape, 48, 24)
    rows, columns = np.indices(first.shape, dtype=np.float32)
    map_y, map_x = (rows - y[0, 0]) / (y[1, 0] - y[0, 0]), (columns - x[0, 0]) / (x[0, 1] - x[0, 0])
    planes = [cv2.medianBlur(np.nan_to_num(part).astype(np.float32), 5) for part in (v, u)]   # spurious vectors
    return np.stack([cv2.remap(part, map_x.astype(np.float32), map_y.astype(np.float32), cv2.INTER_LINEAR,
                               borderMode=cv2.BORDER_REPLICATE) for part in planes])


DIS_MEDIUM = "DIS medium"
MEDIUM = partial(_dis, preset=cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


def peers() -> Mapping[str, Peer]:
    """Return those that are installed, by name."""
    listed = [
        Peer(DIS_MEDIUM, MEDIUM, 1.0),
        Peer("DIS fast", partial(_dis, preset=cv2.DISOPTICAL_FLOW_PRESET_FAST), 1.0),
        Peer("DIS ultrafast", partial(_dis, preset=cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST), 1.0),
        Peer("DIS, finest scale 0", partial(_dis, preset=cv2.DISOPTICAL_FLOW_PRESET_MEDIUM, finest=0), 1.0, every=9),
        Peer("Farneback, window 31", partial(_farneback, window=31), 1.0, every=3),
        Peer("skimage ILK, radius 12", partial(_ilk, radius=12), 1.0, every=18),
        Peer("skimage TV-L1", _tvl1, 1.0, every=18),
    ]
    if importlib.util.find_spec("openpiv"):
        listed.append(Peer("OpenPIV, 32 px", _openpiv, 1.0, every=9))
    return {peer.name: peer for peer in listed}
