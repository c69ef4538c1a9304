"""Which screen to draw on, found out before Qt is loaded: Qt aborts the process where it finds none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from streamer.errors import TxmError

NO_SCREEN = "no screen here (neither DISPLAY nor WAYLAND_DISPLAY is set)"
_PROBE = "import sys; from {binding} import QtGui; QtGui.QGuiApplication(sys.argv[:1])"
_PROBE_TIMEOUT_S = 30.0


def choose_binding() -> str:
    """Let pyqtgraph take the binding that is tested, unless the environment names another; return its name."""
    return os.environ.setdefault("PYQTGRAPH_QT_LIB", "PyQt5")


def drop_foreign_plugins() -> list[str]:
    """Forget where another package wants Qt to look for its plug-ins and fonts; return the names of what was dropped.

    OpenCV with windows (`opencv-python`) sets them to its own Qt whenever it is imported, also for child processes, and
    Qt aborts the process when it finds plug-ins of another build. The dashboard never imports it, but whoever
    starts the dashboard may have.
    """
    dropped = [name for name in ("QT_QPA_PLATFORM_PLUGIN_PATH", "QT_QPA_FONTDIR")
               if "cv2" in Path(os.environ.get(name, "")).parts]
    for name in dropped:
        del os.environ[name]
    return dropped


def has_screen() -> bool:
    """Tell whether the environment names a screen."""
    named = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.environ.get("QT_QPA_PLATFORM")
    return bool(named) or sys.platform in ("darwin", "win32")


def choose_offscreen() -> None:
    """Draw into memory; pictures have then the same size everywhere."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ.setdefault("QT_FONT_DPI", "96")


def check_screen(binding: str) -> None:
    """Try the screen in a child process.

    Raises
    ------
    TxmError
        With the reason of Qt, if there is no screen or it cannot be used.
    """
    picture = "for a picture without a screen add --snapshot FILE.png"
    if not has_screen():
        raise TxmError(f"{NO_SCREEN}; {picture}")
    command = [sys.executable, "-P", "-c", _PROBE.format(binding=binding)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise TxmError(f"the screen did not answer within {_PROBE_TIMEOUT_S:g} s; {picture}") from error
    if done.returncode != 0:
        reasons = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason was given"]
        raise TxmError(f"the screen cannot be used: {reasons[0].strip()}; {picture}")
