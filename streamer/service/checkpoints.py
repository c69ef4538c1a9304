"""The thread that brings the write-ahead log of the journal into the journal."""

from __future__ import annotations

import threading

from streamer.journal import Journal

_EVERY_S = 1.0


class Checkpoints:
    """Flush the journal beside the commits, so that no row has to wait for the disk.

    Parameters
    ----------
    journal : Journal
        The one that is written; closed after this.
    """

    def __init__(self, journal: Journal) -> None:
        journal.leave_checkpoints()
        self._journal = journal
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(_EVERY_S):
            self._journal.checkpoint()
