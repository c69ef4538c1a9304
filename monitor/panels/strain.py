"""Where the sample stretches, shears and turns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from monitor.panels.base import Action, Scene
from monitor.panels.field import NOT_WORKED_OUT
from monitor.panels.maps import MapPanel
from monitor.panels.parts import Choice
from monitor.panels.timeline import Timeline
from monitor.tables import Table, field_table
from monitor.words import decimals, value
from streamer.records import STRAIN_PLANES, STRAIN_UNITS, FlowResult

COLOURS = "CET-D1A"


class Quantity(NamedTuple):
    """A plane of the strain that can be shown."""

    plane: str
    scale: float
    unit: str
    about: str
    """What red and blue mean."""


QUANTITIES = {
    "divergence": Quantity("divergence", 100.0, "%", "red: the area grows, blue: it shrinks"),
    "shear": Quantity("shear", 100.0, "%", "red: the angle between +x and +y (down) closes, blue: it opens"),
    "largest stretch": Quantity("principal_largest", 100.0, "%", "in the direction in which it is largest; "
                                                                 "red: stretch, blue: compression"),
    "smallest stretch": Quantity("principal_smallest", 100.0, "%", "in the direction in which it is smallest; "
                                                                   "red: stretch, blue: compression"),
    "rotation": Quantity("rotation_deg", 1.0, "°", "red: clockwise on the screen, blue: counter-clockwise"),
}


class StrainPanel(MapPanel):
    """A map on the grid of the field, in diverging colours about zero."""

    title = "Strain"
    extra = "strain"
    actions_by_key = (Action("Y", "next_quantity", "next quantity of the strain map"),)

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.choice = Choice(list(QUANTITIES), "which quantity the map shows")
        self.choice.currentIndexChanged.connect(lambda _: self.redraw())
        self._head.addWidget(self.choice)

    def next_quantity(self) -> None:
        """Show the next quantity."""
        self.choice.next()

    def draw(self, flow: FlowResult, pixel_size_nm: float | None) -> str:
        """Draw the chosen quantity."""
        if flow.strain is None:
            return f"no strain of frame {flow.index}: {NOT_WORKED_OUT}"
        quantity = QUANTITIES[self.choice.currentText()]
        plane = quantity.scale * flow.strain[STRAIN_PLANES.index(quantity.plane)]
        known = plane[np.isfinite(plane)]
        if not known.size:
            return f"strain of frame {flow.index}: no window of the field holds enough valid points"
        top = max(float(np.quantile(np.abs(known), 0.99)), 1e-3)
        self.map.show_values(flow, plane, COLOURS, (-top, top), unit=quantity.unit,
                             pixel_size_nm=pixel_size_nm)
        self.map.setToolTip(f"{self.choice.currentText()}: {quantity.about}")
        name = f"{quantity.plane}_sigma"
        error, digits = "", 3
        if name in STRAIN_PLANES:
            sigma = float(np.nanmedian(flow.strain[STRAIN_PLANES.index(name)])) * quantity.scale
            digits = decimals(sigma)
            error = f"   error of a point {value(sigma, digits=digits, unit=quantity.unit)}"
        median = float(np.median(known))
        self._legend.set_runs([
            (self.whose(flow), self.theme.dim),
            (f"   median {value(median, digits=digits, unit=quantity.unit, signed=True)}", self.theme.text),
            (error, self.theme.dim), (f"   {quantity.about}", self.theme.dim)])
        return ""

    def as_table(self, scene: Scene) -> Table:
        """Return all planes of the strain, a line for each point of the field."""
        del scene
        if self.flow is None or self.flow.strain is None:
            return {}
        names = (name if unit == "1" or name.endswith(unit) else f"{name}_{unit}"
                 for name, unit in zip(STRAIN_PLANES, STRAIN_UNITS, strict=True))
        return field_table(self.flow, **dict(zip(names, self.flow.strain, strict=True)))
