"""Which parts of the sample move as a whole."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.analysis import Region, reason_of, regions_of
from monitor.fields import way
from monitor.panels.base import Scene
from monitor.panels.field import NOT_WORKED_OUT
from monitor.panels.maps import MapPanel
from monitor.pixels import CATEGORIES
from monitor.tables import Table, field_table
from monitor.words import both_units, value
from streamer.records import AnyArray, FlowResult

COLOURS = (*CATEGORIES, (143, 209, 184), (136, 34, 85), (153, 153, 51), (170, 170, 180), (85, 60, 190))
"""By the number of the region, so that it keeps its colour from frame to frame."""
MOST_NAMED = 12


class RegionsPanel(MapPanel):
    """A map in one colour per region, and how each of them moves."""

    title = "Regions"
    extra = "regions"

    def draw(self, flow: FlowResult, pixel_size_nm: float | None) -> str:
        """Colour the regions and name their motion."""
        if flow.regions is None:
            return f"no regions of frame {flow.index}: {NOT_WORKED_OUT}"
        numbers = np.unique(flow.regions[flow.regions >= 0]).tolist()
        if not numbers:
            return f"no regions of frame {flow.index}: {reason_of(flow, 'regions') or 'no point of the field is valid'}"
        self.map.show_colours(flow, painted(flow.regions), pixel_size_nm=pixel_size_nm)
        about = {region.number: region for region in regions_of(flow)}
        what = "one region: all moves as a whole" if len(numbers) == 1 else f"{len(numbers)} regions"
        runs: list[tuple[str, str | None]] = [(self.whose(flow), self.theme.dim), (f"   {what}", self.theme.text)]
        lines = []
        for number in numbers[:MOST_NAMED]:
            words = motion_words(about.get(number), pixel_size_nm)
            runs += [("   ■", colour_name(number)), (f" {words or number}", self.theme.text)]
            lines.append(f"region {number}: {words}")
        self._legend.set_runs(runs)
        self.map.setToolTip("\n".join(lines))
        return ""

    def as_table(self, scene: Scene) -> Table:
        """Return the region of each point of the field, -1 outside."""
        del scene
        if self.flow is None or self.flow.regions is None:
            return {}
        return field_table(self.flow, region=self.flow.regions)


def painted(labels: AnyArray) -> NDArray[np.uint8]:
    """Give every point the colour of its region, (K, L, 4); nothing outside."""
    colours = np.array([(*colour, 255) for colour in COLOURS], np.uint8)
    shown: NDArray[Any] = colours[labels % len(COLOURS)]
    shown[labels < 0] = 0
    return shown


def colour_name(number: int) -> str:
    """Return the colour of a region as text."""
    red, green, blue = COLOURS[number % len(COLOURS)]
    return f"#{red:02x}{green:02x}{blue:02x}"


def motion_words(region: Region | None, pixel_size_nm: float | None) -> str:
    """Say how a region moves; empty if that is not known."""
    if region is None:
        return ""
    y, x = region.displacement_y_px, region.displacement_x_px
    turn = "" if region.rotation_deg is None else f", turned {value(region.rotation_deg, digits=2, signed=True)}°"
    return f"{both_units(math.hypot(y, x), pixel_size_nm)} at {way(y, x)}{turn}"
