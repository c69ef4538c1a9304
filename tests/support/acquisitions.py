"""Small acquisitions for tests of the whole: a drifting specimen, with flats, blurred and broken frames."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import numpy as np
from support.scenes import Scene

from streamer.records import Frame

SHAPE = (320, 328)


def acquisition(
    frames: int, *, seed: int = 1, shape: tuple[int, int] = SHAPE, blurred: tuple[int, ...] = (), flats: int = 2,
    name: str = "scan", photons: float = 400.0,
) -> list[Frame]:
    """Return flats and then projections that drift by (0.7, -0.4) px a frame."""
    rng = np.random.default_rng(seed)
    scene = Scene(seed, shape, margin=40)
    open_beam = [Frame(pixels=rng.poisson(photons, shape).astype(np.uint16), index=index, acquisition=f"{name}/flat",
                       kind="flat", exposed_at=1e9 + index, expected=flats) for index in range(flats)]
    return open_beam + [
        Frame(pixels=scene.frame(rng, photons=photons, drift=(0.7 * index, -0.4 * index),
                                 length_px=8.0 if index in blurred else 0.0),
              index=index, acquisition=name, view="main", exposed_at=1e9 + 100 + index, expected=frames,
              pixel_size_nm=33.24)
        for index in range(frames)]


def received(frames: list[Frame]) -> Iterator[Frame]:
    """Yield frames as a source would, received now."""
    for frame in frames:
        yield msgspec.structs.replace(frame, received_at=time.time())
