"""Fields computed in a process of their own, where their many small steps do not hold up the frames.

All steps of Python share one lock, and whoever measures a frame has to wait for it. The process is started again when
it ends or does not answer; what it has learned of earlier frames is lost then, as after a restart of the streamer.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from streamer.records import AnyArray
from streamer.service.flow_errand import Answer, Packer, Ready, unpack_field
from streamer.service.flow_link import Link
from streamer.tracking.deformation import FlowTask, Outcome

PATIENCE_S, PATIENCE_S_PER_MPX = 30.0, 15.0
"""How long a field may take; the analysis of its particles included, on a machine that has much else to do."""
START_S = 120.0
"""How long the process may take until it is ready."""
_AT_ONCE = 2
"""How often in a row it is started again without a pause, ..."""
_LONGEST_PAUSE_S = 60.0
"""...and the longest of the pauses, each of which is twice the one before."""
_TOLD_S = 30.0
"""How long a restart is told in `problem`."""
_MODULE = (sys.executable, "-P", "-m", "streamer.service.flow_child")

_Message = TypeVar("_Message", bound=msgspec.Struct)

log = logging.getLogger(__name__)


class FlowProcess:
    """Give one task after the other to a process of its own; for one thread, which must live as long as it does.

    Parameters
    ----------
    patience_s : float
        How long a field may take, apart from its size.
    command : sequence of str
        Starts the process; the numbers of its socket and of this process are added.
    """

    def __init__(self, *, patience_s: float = PATIENCE_S, command: Sequence[str] = _MODULE) -> None:
        self.restarts = 0
        """How often the process ended and was, or will be, started again."""
        self._patience_s = patience_s
        self._command = command
        self._child: subprocess.Popen[bytes] | None = None
        self._link: Link | None = None
        self._ready = False
        self._packer = Packer()
        self._failures = 0   # in a row
        self._not_before = 0.0
        self._reason, self._told_until = "", 0.0

    @property
    def problem(self) -> str:
        """Why fields may be missing; empty when all is well."""
        if not self._failures and time.monotonic() >= self._told_until:
            return ""
        return f"flow: {self._reason}; started again, {self.restarts} time{'s' * (self.restarts != 1)} so far"

    def start(self) -> None:
        """Start the process, if it does not run; it loads what it needs while others go on.

        Raises
        ------
        OSError
            If it cannot be started.
        """
        if self._child is not None:
            return
        ours, theirs = socket.socketpair()
        try:
            self._child = subprocess.Popen(
                [*self._command, str(theirs.fileno()), str(os.getpid())], pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, process_group=0)   # Ctrl-C is for us
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._link, self._packer, self._ready = Link(ours), Packer(), False

    def solve(self, task: FlowTask) -> Outcome:
        """Have a field computed; never raises.

        Returns
        -------
        Outcome
            As in this process, or without a field when the process ended or did not answer.
        """
        if time.monotonic() < self._not_before:
            return Outcome(None, (f"flow: not computed: {self._reason}; tried again in a while",))
        patience_s = START_S
        try:
            self.start()
            if self._link is None:   # of a process that is started
                raise EOFError
            if not self._ready:
                self._link.limit(START_S)
                _receive(self._link, Ready)
                self._ready = True
            patience_s = self._patience_s + PATIENCE_S_PER_MPX * task.image.size / 1e6
            self._link.limit(patience_s)
            self._link.send(*self._packer.pack(task))
            answer, arrays = _receive(self._link, Answer)
            result = unpack_field(answer, arrays)
        except BlockingIOError:
            return self._lost(f"its process did not answer for {patience_s:.0f} s and was ended")
        except (EOFError, OSError, ValueError, TypeError) as error:
            return self._lost(self._last_word(error))
        self._failures = 0
        return Outcome(result, answer.problems)

    def close(self) -> None:
        """End the process; there is nothing in it that must be kept."""
        if self._link is not None:
            self._link.close()
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self._link = self._child = None

    def _lost(self, reason: str) -> Outcome:
        """Tell what became of the process, and start it again, not too often."""
        self.close()
        self.restarts += 1
        self._failures += 1
        pause_s = 0.0 if self._failures <= _AT_ONCE else min(2.0 ** (self._failures - _AT_ONCE), _LONGEST_PAUSE_S)
        now = time.monotonic()
        self._not_before, self._reason, self._told_until = now + pause_s, reason, now + _TOLD_S
        log.error("flow: %s; it is started again%s", reason, f" in {pause_s:.0f} s" if pause_s else "")
        if not pause_s:
            try:
                self.start()
            except OSError as error:   # the next task tries again and says so
                log.error("flow: its process cannot be started: %s", error)
        return Outcome(None, (f"flow: not computed: {reason}",))

    def _last_word(self, error: Exception) -> str:
        if self._child is None:
            return f"its process cannot be started: {error}"
        try:
            status = self._child.wait(1.0)   # a closed socket comes before the end
        except subprocess.TimeoutExpired:
            return f"its process answered what cannot be read ({type(error).__name__}: {error}) and was ended"
        if status >= 0:
            return f"its process ended with status {status}"
        hint = ", which the kernel sends when memory runs out" if -status == signal.SIGKILL else ""
        return f"its process was ended by {signal.Signals(-status).name}{hint}"


def _receive(link: Link, kind: type[_Message]) -> tuple[_Message, dict[str, AnyArray]]:
    body, arrays = link.receive()
    return msgspec.msgpack.decode(body, type=kind), arrays
