"""A simulator and a streamer of our own, as child processes that never outlive the dashboard."""

from __future__ import annotations

import ctypes
import logging
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

DEFAULT_SCENARIO = "sun2025_txm"
DEFAULT_RATE_HZ = 4.0
SIMULATOR_GRACE_S = 5.0
STREAMER_GRACE_S = 30.0
"""It finishes the frames it has and writes its tables."""

_PR_SET_PDEATHSIG = 1
_log = logging.getLogger(__name__)


class Demo:
    """Run a scenario through a streamer on free loopback ports; what is blurred is taken again, as the streamer asks.

    Parameters
    ----------
    scenario : str
        As ``txm-simulator list`` names it.
    rate_hz : float
        Frames per second.
    session : Path, optional
        Where the session goes; a temporary folder that is removed at the end, by default.
    frames : int, optional
        Projections to simulate; those of the scenario by default.
    """

    def __init__(self, scenario: str = DEFAULT_SCENARIO, *, rate_hz: float = DEFAULT_RATE_HZ,
                 session: Path | None = None, frames: int | None = None) -> None:
        self.frames, self.results, self.control = free_endpoints(3)
        self._folder = tempfile.TemporaryDirectory(prefix="txm-demo-", ignore_cleanup_errors=True)
        self.session = session or Path(self._folder.name) / "session"
        limit = [] if frames is None else ["--frames", str(frames)]
        self._commands = {
            "streamer": ["streamer.cli", "run", "--connect", self.frames, "--session", str(self.session),
                         "--set", f"results.endpoint={self.results}", "--set", f"control.endpoint={self.control}"],
            "simulator": ["simulator.cli", "run", scenario, "--bind", self.frames, "--rate", f"{rate_hz:g}", *limit,
                          "--recollect", self.results],
        }
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start the streamer, which waits, then the simulator."""
        for name, (module, *arguments) in self._commands.items():
            with self._log_of(name).open("wb") as log:
                self._children[name] = subprocess.Popen(
                    [sys.executable, "-P", "-m", module, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,   # Ctrl-C reaches us alone; we end them in order
                    preexec_fn=_end_with_parent if sys.platform == "linux" else None)  # noqa: PLW1509  (no threads yet)

    def failure(self) -> str | None:
        """Say which child ended before its time, with its last words; None while all is well.

        The simulator may end: its run is over then.
        """
        for name, child in self._children.items():
            status = child.poll()
            if status is None or (name == "simulator" and status == 0):
                continue
            return f"the {name} ended with status {status}: {last_line(self._log_of(name))}"
        return None

    def stop(self) -> None:
        """End both, the simulator first; let the streamer finish its session."""
        for name, grace_s in (("simulator", SIMULATOR_GRACE_S), ("streamer", STREAMER_GRACE_S)):
            child = self._children.pop(name, None)
            if child is not None:
                _end(name, child, grace_s)
        self._folder.cleanup()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _log_of(self, name: str) -> Path:
        return Path(self._folder.name) / f"{name}.log"


def _end_with_parent() -> None:
    """Ask the kernel to end this child when its parent is killed, which leaves the parent no time for it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def free_endpoints(count: int) -> list[str]:
    """Return loopback endpoints on ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"tcp://127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    finally:
        for one in sockets:
            one.close()


def last_line(log: Path) -> str:
    """Return the last line with words in it."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "it said nothing")


def _end(name: str, child: subprocess.Popen[bytes], grace_s: float) -> None:
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(grace_s)
    except subprocess.TimeoutExpired:
        _log.warning("the %s did not end within %g s and is killed", name, grace_s)
        child.kill()
        child.wait()
