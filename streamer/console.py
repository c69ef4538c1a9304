"""What the three commands share: one-line reasons, exit status, a log that people can read."""

from __future__ import annotations

import ctypes
import logging
import sys
from typing import Any

import typer

from streamer.errors import SettingsError, TxmError

OK, FAILED, BAD_USAGE = 0, 1, 2
_INTERRUPTED = 130
"""What typer makes of Ctrl-C."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Options of mallopt(3)."""
_LARGEST_KEPT, _MOST_KEPT = 64 << 20, 256 << 20
"""Bytes: of an array whose memory is kept, and of all that is kept and free."""

log = logging.getLogger(__name__)


def new_app(text: str) -> typer.Typer:
    """Return an empty command group with plain help and no decorated tracebacks."""
    return typer.Typer(help=text, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
                       context_settings={"help_option_names": ["-h", "--help"]})


def run(app: typer.Typer, name: str, arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit status.

    0 when the command did its job, 2 for bad usage, 1 for any other failure, with one line on standard error.
    """
    try:
        status: Any = app(args=arguments, prog_name=name, standalone_mode=False)
        if status != _INTERRUPTED:
            return status if isinstance(status, int) else OK
        text, failure = "interrupted", FAILED
    except BaseException as error:  # the last resort: a reason, not a traceback
        log.debug("the command failed", exc_info=True)
        text, failure = explain(error)
    print(f"{name}: {' '.join(text.split())}", file=sys.stderr)  # noqa: T201
    return failure


def explain(error: BaseException) -> tuple[str, int]:
    """Turn any failure into a reason and an exit status."""
    if hasattr(error, "format_message"):   # the command line itself, in every version of typer
        context = getattr(error, "ctx", None)
        see = f" (see '{context.command_path} --help')" if context is not None else ""
        return f"{error.format_message()}{see}", BAD_USAGE
    if isinstance(error, TxmError | OSError):
        return str(error), BAD_USAGE if isinstance(error, SettingsError) else FAILED
    if isinstance(error, SystemExit):
        return "stopped", error.code if isinstance(error.code, int) else FAILED
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "interrupted", FAILED
    if isinstance(error, MemoryError):
        return "not enough memory for this; ask for less at a time", FAILED
    return f"internal error: {type(error).__name__}: {error}; run again with --verbose and report it", FAILED


def keep_memory() -> None:
    """Have the C library keep the memory of a frame for the next one.

    Otherwise arrays of a megabyte go back to the system and are asked for again, a thousand times a second, and each
    page of them is cleared anew when it is first touched: a quarter of the time that a frame is measured in.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)


def start_log(*, verbose: bool = False, level: int = logging.INFO) -> None:
    """Write the log to standard error, one line an entry, from `level` on; everything if `verbose`."""
    logging.basicConfig(level=logging.DEBUG if verbose else level, stream=sys.stderr,
                        format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
