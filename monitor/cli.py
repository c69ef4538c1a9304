"""The command ``txm-monitor``: the dashboard of a running streamer, on the screen or as a picture."""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from monitor import demo as demonstration
from monitor import screen
from streamer import console
from streamer.client import DEFAULT_RESULTS

app = console.new_app("Watch a running txm-streamer.")


class ThemeName(StrEnum):
    """Names of the themes."""

    DARK = "dark"
    LIGHT = "light"


_Connect = Annotated[str | None, typer.Option(
    metavar="ENDPOINT", help=f"Results endpoint of the streamer. [default: {DEFAULT_RESULTS}]")]
_Demo = Annotated[bool, typer.Option(
    "--demo", help="Start a simulator and a streamer of our own and watch them; no beamline is needed.")]
_Snapshot = Annotated[Path | None, typer.Option(
    metavar="FILE.png", dir_okay=False,
    help="Write a picture of the dashboard and end; needs no screen. It is taken after --frames, or when the "
    "acquisition has ended and all of it was processed, or after --wait.")]
_Frames = Annotated[int | None, typer.Option(
    metavar="N", min=1, help="Frames to wait for (with --snapshot), else to simulate (with --demo).")]
_Wait = Annotated[float, typer.Option(
    metavar="S", min=0.1,
    help="Longest wait for a picture, in s; with --frames or --demo the longest pause between two frames.")]
_Theme = Annotated[ThemeName, typer.Option(help="Colours; T changes them.")]
_Size = Annotated[str, typer.Option(metavar="WIDTHxHEIGHT", help="Size of the picture.")]
_Session = Annotated[Path | None, typer.Option(
    metavar="DIR", help="Keep the session of the demo here. [default: a temporary folder]")]
_Scenario = Annotated[str | None, typer.Option(
    metavar="NAME", help=f"Scenario of the demo. [default: {demonstration.DEFAULT_SCENARIO}]")]
_Rate = Annotated[float | None, typer.Option(
    metavar="HZ", min=0.01, help=f"Frames per second of the demo. [default: {demonstration.DEFAULT_RATE_HZ:g}]")]
_ReadOnly = Annotated[bool, typer.Option(
    "--read-only", help="Only watch: nothing that changes something is sent to the streamer.")]
_Reset = Annotated[bool, typer.Option(
    "--reset-layout", help="Put all panels where they belong, as at the first start.")]
_Verbose = Annotated[bool, typer.Option("--verbose", help="Log more.")]


@app.command()
def show(  # noqa: PLR0913  (one parameter an option)
    *, connect: _Connect = None, demo: _Demo = False, snapshot: _Snapshot = None, frames: _Frames = None,
    wait: _Wait = 60.0, theme: _Theme = ThemeName.DARK, size: _Size = "1920x1080", session: _Session = None,
    scenario: _Scenario = None, rate: _Rate = None, read_only: _ReadOnly = False,
    reset_layout: _Reset = False, verbose: _Verbose = False,
) -> int:
    """Watch a running txm-streamer: frames, sharpness, drift, deformation, alerts.

    The dashboard can come and go: it loads what happened before, and nothing depends on it. Press ? for its keys.
    Without a beamline: 'txm-monitor --demo'. Without a screen: 'txm-monitor --demo --snapshot demo.png'.
    """
    console.start_log(verbose=verbose, level=logging.WARNING)
    if demo and connect is not None:
        raise typer.BadParameter("--demo watches a streamer of its own; leave --connect away")
    if not demo:
        _refuse_alone({"--session": session, "--scenario": scenario, "--rate": rate})
        if frames is not None and snapshot is None:
            raise typer.BadParameter("--frames goes with --snapshot or --demo")
    size_px = _size(size)
    _choose_screen(snapshot)
    from monitor.application import Application  # noqa: PLC0415  (loads Qt, which looks for its screen)

    stop = _stop_on_signals()
    with ExitStack() as stack:
        child = None
        if demo:
            child = stack.enter_context(demonstration.Demo(
                scenario or demonstration.DEFAULT_SCENARIO, rate_hz=rate or demonstration.DEFAULT_RATE_HZ,
                session=session, frames=None if snapshot is not None else frames))
        endpoint = connect or (child.results if child is not None else DEFAULT_RESULTS)
        desk = stack.enter_context(Application(
            endpoint, child=child, theme=theme.value, size_px=size_px if snapshot is not None else None, stop=stop,
            read_only=read_only,
            layout="default" if snapshot is not None else "reset" if reset_layout else "remembered"))
        if snapshot is None:
            return desk.run()
        _say(desk.photograph(snapshot, frames=frames, limit_s=wait))
        return console.OK


class Stop:
    """A request to end that came as a signal."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self, *_: Any) -> None:
        """Remember it; the event loop looks several times a second."""
        self.requested = True


def _stop_on_signals() -> Stop:
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    return stop


def _refuse_alone(options: dict[str, Any]) -> None:
    for name, value in options.items():
        if value is not None:
            raise typer.BadParameter(f"{name} goes with --demo only")


def _choose_screen(snapshot: Path | None) -> None:
    screen.drop_foreign_plugins()
    binding = screen.choose_binding()
    if snapshot is None:
        screen.check_screen(binding)
        return
    if not (snapshot.parent.is_dir() and os.access(snapshot.parent, os.W_OK)):
        raise typer.BadParameter(f"--snapshot {snapshot}: its folder is not there or not writable")
    if not screen.has_screen():
        _say(f"{screen.NO_SCREEN}; the picture is drawn off screen")
    screen.choose_offscreen()


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and 640 <= int(width) <= 8192
            and 480 <= int(height) <= 8192):
        raise typer.BadParameter(f"--size {text!r}: expected WIDTHxHEIGHT from 640x480 to 8192x8192")
    return int(width), int(height)


def _say(text: str) -> None:
    typer.echo(f"txm-monitor: {text}", err=True)


def main() -> NoReturn:
    """Entry point of the console script."""
    sys.exit(console.run(app, "txm-monitor"))


if __name__ == "__main__":
    main()
