"""The command ``txm-monitor`` as a process of its own."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.fake_streamer import FakeStreamer, make_flow, make_row
from support.waiting import wait_until

from monitor import cli, screen
from streamer.errors import LinkError, TxmError

pytestmark = pytest.mark.gui

_SCREEN = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM", "QT_FONT_DPI", "XAUTHORITY")


def command_lines() -> Iterator[bytes]:
    """Yield the command line of every process (Linux)."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):   # ended in between
            yield entry.read_bytes()


def environment(**extra: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _SCREEN} | extra


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "monitor.cli", *arguments]


def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, check=False,
                          env=environment(**extra))


@pytest.mark.parametrize(("arguments", "status", "words"), [
    (("--help",), 0, ""),
    (("--colour", "red"), 2, "--colour"),
    (("--rate", "3"), 2, "--rate goes with --demo"),
    (("--frames", "3"), 2, "--frames goes with"),
    (("--demo", "--connect", "tcp://127.0.0.1:1"), 2, "leave --connect away"),
    (("--snapshot", "/nowhere/at/all.png"), 2, "not writable"),
    (("--snapshot", "x.png", "--size", "large"), 2, "expected WIDTHxHEIGHT"),
    ((), 1, "no screen here"),
    (("--demo",), 1, "--snapshot FILE.png"),
])
def test_exit_status_and_one_line_of_reason(
    arguments: tuple[str, ...], status: int, words: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in _SCREEN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["txm-monitor", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == status
    lines = capsys.readouterr().err.splitlines()
    assert words in "".join(lines)
    assert len(lines) == (status != 0)


@pytest.mark.parametrize(("error", "status", "words"), [
    (LinkError("cannot connect to 'somewhere'"), 1, "cannot connect"),
    (TxmError("two\nlines"), 1, "two lines"),
    (PermissionError(13, "Permission denied", "/x.png"), 1, "Permission denied"),
    (ZeroDivisionError("oops"), 1, "internal error: ZeroDivisionError: oops"),
])
def test_failures_end_in_one_line(
    error: Exception, status: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == status
    err = capsys.readouterr().err
    assert words in err
    assert len(err.splitlines()) == 1


def test_a_screen_that_cannot_be_used_is_named_with_its_reason() -> None:
    done = run(DISPLAY=":9999")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert ":9999" in done.stderr


def test_nobody_there(tmp_path: Path) -> None:
    picture = tmp_path / "x.png"
    done = run("--connect", "tcp://127.0.0.1:1", "--snapshot", str(picture), "--wait", "0.5")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("txm-monitor: no frame within 0.5 s")
    assert not picture.exists()


@contextmanager
def fed() -> Iterator[FakeStreamer]:
    """A streamer with 40 frames in its history; the rest comes from `feed`."""
    streamer = FakeStreamer()
    for index in range(40):
        streamer.frame(make_row(index))
    try:
        yield streamer
    finally:
        streamer.close()


def feed(streamer: FakeStreamer) -> None:
    streamer.wait_for_subscriber(30)
    streamer.image(39)
    streamer.flow(make_flow(39))
    streamer.status()


def test_snapshot_without_a_screen(tmp_path: Path) -> None:
    picture = tmp_path / "dashboard.png"
    with fed() as streamer:
        child = subprocess.Popen(command("--connect", streamer.results, "--snapshot", str(picture), "--frames", "40"),
                                 stderr=subprocess.PIPE, text=True, env=environment())
        feed(streamer)
        _, words = child.communicate(timeout=60)
    assert child.returncode == 0, words
    assert words.splitlines() == [
        "txm-monitor: no screen here (neither DISPLAY nor WAYLAND_DISPLAY is set); the picture is drawn off screen",
        f"txm-monitor: {picture} written: 40 frames were received"]
    with Image.open(picture) as image:
        assert image.size == (1920, 1080)
        assert len(image.convert("RGB").getcolors(1 << 22) or []) > 500   # a dashboard, not an empty sheet


@pytest.fixture
def display() -> Iterator[str]:
    """A real X server without a window manager."""
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("Xvfb is not installed; apt-get install xvfb")
    reading, writing = os.pipe()
    server = subprocess.Popen(
        [program, "-displayfd", str(writing), "-screen", "0", "1366x768x24", "-dpi", "96", "-nolisten", "tcp"],
        pass_fds=(writing,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(writing)
    try:
        assert select.select([reading], [], [], 20)[0], "Xvfb did not start"
        yield f":{os.read(reading, 32).decode().strip()}"
    finally:
        os.close(reading)
        server.terminate()
        server.wait(10)


@pytest.mark.xserver
def test_the_window_opens_on_a_real_screen_and_ends_on_request(display: str, tmp_path: Path) -> None:
    with fed() as streamer:
        child = subprocess.Popen(command("--connect", streamer.results, "--verbose"), stderr=subprocess.PIPE, text=True,
                                 env=environment(DISPLAY=display, XDG_CONFIG_HOME=str(tmp_path)))
        feed(streamer)
        wait_until(lambda: streamer.histories or child.poll() is not None)
        assert child.poll() is None
        child.terminate()
        _, words = child.communicate(timeout=30)
    assert child.returncode == 0, words
    assert "Traceback" not in words
    assert "internal error" not in words


@pytest.mark.slow
def test_the_demo_runs_and_leaves_nothing_behind(tmp_path: Path) -> None:
    picture, session = tmp_path / "demo.png", tmp_path / "session"
    done = run("--demo", "--snapshot", str(picture), "--frames", "12", "--rate", "20", "--session", str(session))
    assert done.returncode == 0, done.stderr
    assert "frames were received" in done.stderr.splitlines()[-1]
    assert picture.stat().st_size > 50_000
    assert (session / "frames.csv").exists()   # the streamer was allowed to finish
    assert not [line for line in command_lines() if str(session).encode() in line]


def test_a_layout_is_remembered_from_run_to_run(tmp_path: Path) -> None:
    script = (
        "import sys; from monitor import application, cli; from monitor.panels.table import TablePanel\n"
        "desk = application.Application('tcp://127.0.0.1:1', child=None, theme='dark', size_px=(1500, 800), "
        "stop=cli.Stop(), layout=sys.argv[1])\n"
        "with desk:\n"
        "    dock = desk.window.docks.docks[TablePanel]\n"
        "    print(dock.isVisible(), desk.window.width())\n"
        "    dock.close()\n")
    home = environment(QT_QPA_PLATFORM="offscreen", XDG_CONFIG_HOME=str(tmp_path))
    seen = [subprocess.run([sys.executable, "-P", "-c", script, layout], capture_output=True, text=True, timeout=60,
                           check=True, env=home).stdout.split() for layout in ("remembered", "remembered", "default",
                                                                               "reset")]
    assert [visible for visible, _ in seen] == ["True", "False", "True", "True"]
    assert {width for _, width in seen} == {"1500"}


@pytest.mark.parametrize(("path", "dropped"), [
    ("/venv/lib/python3.11/site-packages/cv2/qt/plugins", True), ("/usr/lib/qt5/plugins", False), ("", False)])
def test_plugins_of_opencv_are_not_taken(path: str, dropped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QT_QPA_PLATFORM_PLUGIN_PATH", "QT_QPA_FONTDIR"):
        monkeypatch.setenv(name, path)
    assert screen.drop_foreign_plugins() == (["QT_QPA_PLATFORM_PLUGIN_PATH", "QT_QPA_FONTDIR"] if dropped else [])
    assert os.environ.get("QT_QPA_FONTDIR") == (None if dropped else path)


@pytest.mark.xserver
def test_the_window_opens_where_opencv_has_been_before(display: str, tmp_path: Path) -> None:
    foreign = tmp_path / "cv2" / "qt" / "plugins"   # what opencv-python leaves behind for its children
    (foreign / "platforms").mkdir(parents=True)
    (foreign / "platforms" / "libqxcb.so").write_bytes(b"of another build")
    with fed() as streamer:
        child = subprocess.Popen(
            command("--connect", streamer.results, "--read-only"), stderr=subprocess.PIPE, text=True,
            env=environment(DISPLAY=display, XDG_CONFIG_HOME=str(tmp_path),
                            QT_QPA_PLATFORM_PLUGIN_PATH=str(foreign / "platforms"), QT_QPA_FONTDIR=str(foreign)))
        feed(streamer)
        wait_until(lambda: streamer.histories or child.poll() is not None)
        assert child.poll() is None
        child.terminate()
        _, words = child.communicate(timeout=30)
    assert child.returncode == 0, words


FAILING_SLOT = """
from monitor import application, cli
from monitor.panels.banner import BannerPanel
from pyqtgraph.Qt import QtCore
desk = application.Application("tcp://127.0.0.1:1", child=None, theme="dark", size_px=(800, 600), stop=cli.Stop())
with desk:
    QtCore.QTimer.singleShot(0, lambda: 1 / 0)
    QtCore.QTimer.singleShot(500, desk.window.close)
    desk.run()
    desk.window.refresh_now()
    print(desk.window.panel(BannerPanel).note.text())
"""


def test_a_failing_slot_is_shown_and_the_window_lives() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", FAILING_SLOT], capture_output=True, text=True, timeout=60,
                          check=False, env=environment(QT_QPA_PLATFORM="offscreen"))
    assert done.returncode == 0, done.stderr
    assert "internal error in the display: ZeroDivisionError" in done.stdout


def test_the_dashboard_loads_no_analysis() -> None:
    script = "import sys, monitor.application; print(sorted({'cv2', 'scipy', 'skimage'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=60, check=False,
                          env=environment(QT_QPA_PLATFORM="offscreen"))
    assert done.stdout.strip() == "[]", done.stderr
