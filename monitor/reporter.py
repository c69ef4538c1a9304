"""A report on the session, written by a process of its own while the display goes on."""

from __future__ import annotations

import sys
from pathlib import Path

from pyqtgraph.Qt import QtCore

JOURNAL = "session.sqlite"
"""What makes a folder a session."""


class Reporter(QtCore.QObject):
    """Runs ``txm-streamer report`` on a session that can be read from this machine."""

    told = QtCore.Signal(str)

    def __init__(self, parent: QtCore.QObject) -> None:
        super().__init__(parent)
        self._process: QtCore.QProcess | None = None
        self._out = Path()

    @staticmethod
    def can_read(folder: str) -> bool:
        """Tell whether a session is in that folder of this machine."""
        return (Path(folder) / JOURNAL).is_file()

    def write(self, folder: str) -> None:
        """Write ``report.html`` into the folder of the session, and say what came of it."""
        if self._process is not None:
            self.told.emit(f"a report is being written already: {self._out}")
            return
        self._out = Path(folder) / "report.html"
        self._process = process = QtCore.QProcess(self)
        process.setProcessChannelMode(QtCore.QProcess.ProcessChannelMode.MergedChannels)
        process.finished.connect(self._tell)
        process.errorOccurred.connect(self._fail)
        process.start(sys.executable, ["-P", "-m", "streamer.cli", "report", folder, "--out", str(self._out)])
        self.told.emit(f"the report is being written: {self._out} ...")

    def stop(self) -> None:
        """Give up a report that is not ready yet."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.waitForFinished(5000)

    def _tell(self, status: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        said = bytes(process.readAll().data()).decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(said) if line.strip()), "it said nothing")
        self.told.emit(f"the report is ready: {self._out}" if status == 0 else f"no report: {last}")
        process.deleteLater()

    def _fail(self, error: object) -> None:
        if error == QtCore.QProcess.ProcessError.FailedToStart:
            self._process = None
            self.told.emit(f"no report: {sys.executable} could not be started")
