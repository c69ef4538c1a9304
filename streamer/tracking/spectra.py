"""The spectra of a frame beside those of the frames that it was compared with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from streamer.imaging.resolution import Resolution
from streamer.imaging.spectrum import NoiseShape, Spectrum
from streamer.packing import grey_levels
from streamer.records import FloatArray, SpectraResult

Key = tuple[str, int]
"""Acquisition and index of a frame."""

_NEWEST = 32       # frames that may still be taken into the baseline, beside those that are in it
_MOST_VIEWS = 512  # least recently seen views are forgotten

Cuts = tuple[FloatArray, FloatArray]


class Spectra:
    """Keep the directional spectra of the frames of the blur baseline, per view."""

    def __init__(self) -> None:
        self._views: OrderedDict[str, OrderedDict[Key, Cuts]] = OrderedDict()

    def update(
        self, view: str, key: Key, spectrum: Spectrum, *, baseline: Sequence[Key], noise: NoiseShape | None = None,
        resolution: Resolution | None = None, usable: bool = True,
    ) -> SpectraResult:
        """Put the spectra of a frame together with those of its reference.

        Parameters
        ----------
        view : str
        key : (str, int)
            Acquisition and index.
        spectrum : Spectrum
        baseline : sequence of (str, int)
            Frames that this one is compared with; the reference is their mean.
        noise : NoiseShape, optional
            How the noise falls with frequency, where it was measured.
        resolution : Resolution, optional
        usable : bool
            False for frames without a usable image, which never are in a baseline.

        Returns
        -------
        SpectraResult
        """
        known = self._views.setdefault(view, OrderedDict())
        self._views.move_to_end(view)
        while len(self._views) > _MOST_VIEWS:
            self._views.popitem(last=False)
        members = [known[member] for member in baseline if member in known]
        horizontal, vertical = _mean(members) if members else (None, None)
        if usable:
            self._remember(known, key, (spectrum.horizontal, spectrum.vertical), set(baseline))
        picture, low, high = grey_levels(spectrum.picture)
        floor = np.float32(spectrum.power.floor)
        found = resolution or Resolution()
        return SpectraResult(
            index=key[1], acquisition=key[0], view=view, horizontal=spectrum.horizontal, vertical=spectrum.vertical,
            floor=float(floor), picture=picture, picture_low=low, picture_high=high,
            reference_horizontal=horizontal, reference_vertical=vertical,
            noise_horizontal=None if noise is None else floor * noise.horizontal,
            noise_vertical=None if noise is None else floor * noise.vertical,
            resolution_x_px=found.x_px, resolution_x_sigma_px=found.x_sigma_px,
            resolution_y_px=found.y_px, resolution_y_sigma_px=found.y_sigma_px)

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to go on later, as builtins and arrays."""
        return {view: [[list(key), *cuts] for key, cuts in known.items()] for view, known in self._views.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `snapshot`."""
        self._views = OrderedDict(
            (view, OrderedDict(((str(acquisition), int(index)), (horizontal, vertical))
                               for (acquisition, index), horizontal, vertical in packed))
            for view, packed in state.items())

    @staticmethod
    def _remember(known: OrderedDict[Key, Cuts], key: Key, cuts: Cuts, baseline: set[Key]) -> None:
        known[key] = cuts
        known.move_to_end(key)
        for old in list(known)[:-_NEWEST]:
            if old not in baseline:
                del known[old]


def _mean(members: list[Cuts]) -> Cuts:
    horizontal = np.stack([cuts[0] for cuts in members]).mean(axis=0)
    vertical = np.stack([cuts[1] for cuts in members]).mean(axis=0)
    return horizontal, vertical
