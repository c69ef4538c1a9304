"""The second lane: optical flow of the newest frame, beside the frames; it may skip some and says so."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from typing import NamedTuple

from streamer.errors import TxmError
from streamer.pipeline import Key
from streamer.records import FlowResult
from streamer.service.flow_process import FlowProcess
from streamer.tracking.deformation import FlowTask, Follower
from streamer.tracking.material import Analyst

NICE = 10

log = logging.getLogger(__name__)


class FlowDone(NamedTuple):
    """A frame whose displacement field was computed, or could not be."""

    key: Key
    result: FlowResult | None
    problems: tuple[str, ...]


def compute(task: FlowTask, follower: Follower, analyst: Analyst | None = None) -> FlowDone:
    """Compute the field of one frame, and what the analyst finds it is time for; never raises."""
    try:
        result, problems = follower.solve(task)
    except TxmError as error:
        return FlowDone(task.key, None, (f"flow: {error}",))
    except Exception as error:  # one broken field must not end a beamtime
        log.exception("flow of frame %d of %r failed", task.key[1], task.key[0])
        return FlowDone(task.key, None, (f"flow: internal error: {error}; please report it",))
    if result is None or analyst is None:
        return FlowDone(task.key, result, problems)
    examined = examine(task, result, analyst.look)
    return examined._replace(problems=(*problems, *examined.problems))


def examine(task: FlowTask, field: FlowResult, look: Callable[[FlowTask, FlowResult], FlowResult]) -> FlowDone:
    """Add to a field what an analyst finds; never raises."""
    try:
        return FlowDone(task.key, look(task, field), ())
    except Exception as error:  # the field itself is good
        log.exception("field of frame %d of %r could not be analysed", task.key[1], task.key[0])
        return FlowDone(task.key, field, (f"analysis of the field: internal error: {error}; please report it",))


class FlowLane:
    """One slot, one thread: whatever waits when a newer frame comes is skipped and counted.

    Parameters
    ----------
    on_done : callable
        Called in the lane's thread with every result.
    process : FlowProcess, optional
        Where fields are computed, started and closed by the lane; in the lane's thread by default.
    """

    def __init__(self, on_done: Callable[[FlowDone], None], *, process: FlowProcess | None = None) -> None:
        self.done = 0
        self.skipped = 0
        self._on_done = on_done
        self._process = process
        self._follower = Follower()
        self._analyst = Analyst()
        self._slot: FlowTask | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="flow", daemon=True)
        self._thread.start()

    @property
    def restarts(self) -> int:
        """How often the process of the fields was started again."""
        return 0 if self._process is None else self._process.restarts

    @property
    def problem(self) -> str:
        """Why fields may be missing; empty when all is well."""
        return "" if self._process is None else self._process.problem

    def put(self, task: FlowTask) -> None:
        """Offer the newest frame."""
        with self._changed:
            self.skipped += self._slot is not None
            self._slot = task
            self._changed.notify()

    def skip(self) -> None:
        """Count a frame that there is no time for."""
        with self._changed:
            self.skipped += 1

    def close(self) -> None:
        """Finish what waits, then end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(OSError):   # every frame must be scored in time; the flow may skip
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        if self._process is None:
            self._work()
            return
        try:
            with contextlib.suppress(OSError):   # the first task says so
                self._process.start()   # in this thread: the kernel ends the process with the thread that started it
            self._work()
        finally:
            self._process.close()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._slot is not None or self._closed)
                task, self._slot = self._slot, None
            if task is None:
                return
            finished = self._compute(task)
            self.done += finished.result is not None
            self._on_done(finished)

    def _compute(self, task: FlowTask) -> FlowDone:
        if self._process is None:
            return compute(task, self._follower, self._analyst)
        return FlowDone(task.key, *self._process.solve(task))
