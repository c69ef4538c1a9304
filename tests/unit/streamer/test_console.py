from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from streamer.console import explain, new_app, run
from streamer.errors import FrameError, SettingsError


@pytest.mark.parametrize(("error", "status", "words"), [
    (SettingsError("unknown setting"), 2, "unknown setting"),
    (FrameError("bad frame"), 1, "bad frame"),
    (FileNotFoundError(2, "No such file", "x.tif"), 1, "x.tif"),
    (KeyboardInterrupt(), 1, "interrupted"),
    (typer.Abort(), 1, "interrupted"),
    (SystemExit(3), 3, "stopped"),
    (MemoryError(), 1, "not enough memory"),
    (ZeroDivisionError("division by zero"), 1, "internal error: ZeroDivisionError"),
])
def test_every_failure_has_a_reason_and_a_status(error: BaseException, status: int, words: str) -> None:
    text, found = explain(error)
    assert found == status
    assert words in text


def test_a_failing_command_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    app = new_app("Test.")

    @app.command()
    def fail(value: int = 0) -> None:
        raise FrameError(f"frame {value}\nis odd")

    assert run(app, "txm-test", ["--value", "3"]) == 1
    assert capsys.readouterr().err == "txm-test: frame 3 is odd\n"
    assert run(app, "txm-test", ["--value", "x"]) == 2
    assert run(app, "txm-test", ["--help"]) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="an option of the C library of Linux")
def test_the_memory_of_large_arrays_is_used_again() -> None:
    program = (
        "import resource, numpy as np\n"
        "from streamer import console\n"
        "console.keep_memory()\n"
        "np.ones(1 << 20, np.float32)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(20):\n"
        "    np.ones(1 << 20, np.float32)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n")
    faults = int(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout)
    assert faults < 1000   # one array has 1024 pages
