"""Every particle of the newest field: where it is, how far it moved, and how surely."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from pyqtgraph.Qt import QtCore, QtWidgets

from monitor.analysis import Particle, particles_of, reason_of
from monitor.panels.base import Scene
from monitor.panels.field import NOT_WORKED_OUT, FieldPanel
from monitor.panels.parts import Empty
from monitor.panels.timeline import Timeline
from monitor.tables import Table
from monitor.words import DASH, measured, value
from streamer.records import FlowResult


class Place(NamedTuple):
    """Something to be marked on the picture."""

    y_px: float
    x_px: float
    """In the reference frame of the field."""
    radius_px: float
    text: str


class Column(NamedTuple):
    """One column of the table."""

    name: str
    about: str
    text: Callable[[Particle], str]
    number: Callable[[Particle], float | None]
    """By which it is sorted."""


def amplitude(particle: Particle) -> float | None:
    """Return how far a particle moved; None if that could not be measured."""
    y, x = particle.displacement_y_px, particle.displacement_x_px
    return None if not particle.valid or y is None or x is None else math.hypot(y, x)


def _moved(particle: Particle, name: str) -> str:
    number, sigma = getattr(particle, f"displacement_{name}_px"), getattr(particle, f"sigma_{name}_px")
    return measured(number, sigma, signed=True) if particle.valid else DASH


COLUMNS = (
    Column("No.", "number of the particle", lambda one: str(one.number), lambda one: float(one.number)),
    Column("moved / px", "length of the displacement",
           lambda one: value(amplitude(one), digits=2), amplitude),
    Column("Δy / px", "displacement down, ± 1 sigma", lambda one: _moved(one, "y"),
           lambda one: one.displacement_y_px if one.valid else None),
    Column("Δx / px", "displacement to the right, ± 1 sigma", lambda one: _moved(one, "x"),
           lambda one: one.displacement_x_px if one.valid else None),
    Column("turned / °", "rotation from +x towards +y, clockwise on the screen, ± 1 sigma",
           lambda one: measured(one.rotation_deg, one.rotation_sigma_deg, signed=True) if one.valid else DASH,
           lambda one: one.rotation_deg if one.valid else None),
    Column("y / px", "centre in the reference frame", lambda one: value(one.centre_y_px), lambda one: one.centre_y_px),
    Column("x / px", "centre in the reference frame", lambda one: value(one.centre_x_px), lambda one: one.centre_x_px),
    Column("area / px²", "area of the particle", lambda one: value(one.area_px2, digits=0), lambda one: one.area_px2),
)


class ParticleModel(QtCore.QAbstractTableModel):
    """Particles in any order; those that could not be measured always come last."""

    def __init__(self) -> None:
        super().__init__()
        self.particles: list[Particle] = []
        self._sorted = (0, False)

    def set_particles(self, particles: list[Particle]) -> None:
        """Show others, in the same order."""
        self.beginResetModel()
        self.particles = particles
        self._arrange()
        self.endResetModel()

    def sort(self, column: int, order: Any = QtCore.Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column."""
        self.beginResetModel()
        self._sorted = column, order == QtCore.Qt.SortOrder.DescendingOrder
        self._arrange()
        self.endResetModel()

    def rowCount(self, parent: Any = None) -> int:
        """Return the number of particles."""
        del parent
        return len(self.particles)

    def columnCount(self, parent: Any = None) -> int:
        """Return the number of columns."""
        del parent
        return len(COLUMNS)

    def data(self, index: Any, role: int = QtCore.Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the text of a cell."""
        if role == QtCore.Qt.ItemDataRole.DisplayRole:
            return COLUMNS[index.column()].text(self.particles[index.row()])
        if role == QtCore.Qt.ItemDataRole.TextAlignmentRole:
            return int(QtCore.Qt.AlignmentFlag.AlignRight | QtCore.Qt.AlignmentFlag.AlignVCenter)
        return None

    def headerData(self, section: int, orientation: Any, role: int = QtCore.Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the name of a column."""
        if orientation == QtCore.Qt.Orientation.Horizontal:
            if role == QtCore.Qt.ItemDataRole.DisplayRole:
                return COLUMNS[section].name
            if role == QtCore.Qt.ItemDataRole.ToolTipRole:
                return COLUMNS[section].about
        return None

    def _arrange(self) -> None:
        column, falling = self._sorted

        def rank(particle: Particle) -> float:
            number = COLUMNS[column].number(particle)
            if number is None or not math.isfinite(number):
                return math.inf
            return -number if falling else number

        self.particles = sorted(self.particles, key=rank)


class ParticlesPanel(FieldPanel):
    """A table; a click on a line marks its particle on the picture."""

    title = "Particles"
    extra = "analysis"
    marked = QtCore.Signal(object)
    """A `Place`, or None when nothing is to be marked any more."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.model = ParticleModel()
        self.table = QtWidgets.QTableView()
        self.table.setModel(self.model)
        self.table.setSortingEnabled(True)
        self.table.sortByColumn(0, QtCore.Qt.SortOrder.AscendingOrder)
        self.table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)   # arrow keys belong to the window
        self.table.setAlternatingRowColors(True)
        self.table.verticalHeader().hide()
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QtWidgets.QHeaderView.ResizeMode.ResizeToContents)
        header.setResizeContentsPrecision(0)   # the lines in sight are enough, all of them would be slow
        header.setStretchLastSection(True)
        self.table.clicked.connect(self._clicked)
        self.table.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Ignored)
        self._body.addWidget(self.table, 1)
        self.empty = Empty(self.table.viewport())
        self._number: int | None = None

    def draw(self, flow: FlowResult, pixel_size_nm: float | None) -> str:
        """List the particles and keep the one that is marked."""
        del pixel_size_nm
        particles = particles_of(flow)
        if not particles:
            found_none = reason_of(flow, "particles") or "the streamer found none"
            return f"no particles of frame {flow.index}: {NOT_WORKED_OUT if flow.analysis is None else found_none}"
        self.model.set_particles(particles)
        lengths = [length for length in map(amplitude, particles) if length is not None]
        lost = len(particles) - len(lengths)
        median = f"   median {value(float(np.median(lengths)), digits=2, unit='px')}" if lengths else ""
        self._legend.set_runs([
            (self.whose(flow), self.theme.dim), (f"   {len(particles)} particles{median}", self.theme.text),
            (f"   {lost} not measured" if lost else "", self.theme.minor),
            (f"   {reason_of(flow, 'particles')}", self.theme.dim)])
        self._select_again()
        return ""

    def as_table(self, scene: Scene) -> Table:
        """Return the particles as they are listed."""
        del scene
        names = Particle.__struct_fields__
        return {name: [getattr(one, name) for one in self.model.particles] for name in names}

    def clear(self) -> None:
        """Show nothing."""
        self.model.set_particles([])
        self._mark(None)

    def _select_again(self) -> None:
        """Mark the same particle in the new field."""
        for line, particle in enumerate(self.model.particles):
            if particle.number == self._number:
                self.table.selectRow(line)
                self._mark(particle)
                return
        self._mark(None)

    def _clicked(self, index: Any) -> None:
        particle = self.model.particles[index.row()]
        if particle.number == self._number:   # a second click takes the mark away
            self.table.clearSelection()
            self._mark(None)
        else:
            self._mark(particle)

    def _mark(self, particle: Particle | None) -> None:
        number = particle.number if particle is not None else None
        if particle is None and self._number is None:
            return
        self._number = number
        if particle is None:
            self.marked.emit(None)
            return
        radius = math.sqrt(max(particle.area_px2 or 0.0, 30.0) / math.pi)
        self.marked.emit(Place(particle.centre_y_px, particle.centre_x_px, radius, f"particle {particle.number}"))
