"""A corner of the window whose panels share the room there is."""

from __future__ import annotations

from pyqtgraph.Qt import QtCore, QtWidgets

from monitor.panels.base import Panel


class Corner(QtWidgets.QSplitter):
    """Panels side by side in as many columns as there is room for; the last column has tabs for the rest.

    Parameters
    ----------
    panels : list of Panel
        In the order in which they get a column of their own.
    """

    turned = QtCore.Signal()
    """Another tab is in front; what it shows may be old."""

    def __init__(self, panels: list[Panel]) -> None:
        super().__init__(QtCore.Qt.Orientation.Horizontal)
        self.setChildrenCollapsible(False)
        self._all = panels
        self._columns = 0
        self._tabs = QtWidgets.QTabWidget()
        self._tabs.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        self._tabs.tabBar().setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        self.addWidget(self._tabs)
        self.set_columns(1)
        self._tabs.currentChanged.connect(lambda _: self.turned.emit())

    def set_columns(self, columns: int) -> None:
        """Spread the panels over so many columns, at least one."""
        columns = min(max(columns, 1), len(self._all))
        if columns == self._columns:
            return
        self._columns = columns
        for place, panel in enumerate(self._all):
            if place < columns - 1:
                self.insertWidget(place, panel)
                panel.show()
            else:
                self._tabs.insertTab(place - columns + 1, panel, panel.title)
        self._tabs.tabBar().setVisible(self._tabs.count() > 1)
        self.setSizes([1000] * self.count())

    def next_tab(self) -> None:
        """Bring the next tab to the front, after the last the first."""
        self._tabs.setCurrentIndex((self._tabs.currentIndex() + 1) % self._tabs.count())
