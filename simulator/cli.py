"""The command ``txm-simulator``: simulated runs and replayed recordings, over ZeroMQ or into a file.

Everything heavy is imported inside the commands, so that the help comes at once.
"""

from __future__ import annotations

import logging
import math
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from simulator.cli_files import convert, inspect
from streamer import console
from streamer.errors import RecordingError, SettingsError

if TYPE_CHECKING:
    from simulator.faults import FaultInjector
    from simulator.publisher import Course, Item, Pace, Pattern, Sender
    from simulator.recollect import Beamline
    from simulator.run import Run
    from streamer.protocols import Dialect
    from streamer.records import Frame

_ENDPOINT = "tcp://127.0.0.1:5555"
_RESULTS = "tcp://127.0.0.1:5556"
_RATE_HZ = 5.0
_SMALLEST_PX, _LARGEST_PX = 32, 4096
_LARGEST_SEED = 2**63 - 1
_MOST_FRAMES = 100_000

app = console.new_app(
    "Send transmission X-ray microscopy frames as a beamline would: simulated ones with known truth, or a "
    "recording. Without a beamline, start here: 'txm-simulator run sun2025_txm', and 'txm-streamer run' beside it.")

Bind = Annotated[str | None, typer.Option(
    metavar="ENDPOINT", help=f"Listen here; port 0 takes a free one and says which. [default: {_ENDPOINT}]")]
Connect = Annotated[str | None, typer.Option(
    metavar="ENDPOINT", help="Connect to a streamer that binds, instead of listening.")]
ProtocolName = Annotated[str, typer.Option(metavar="NAME", help="Dialect of the messages.")]
PatternName = Annotated[str, typer.Option(
    help="'pub': everybody listens, slow ones lose frames. 'push': one receiver, nothing is lost, the sender waits.")]
Wait = Annotated[float, typer.Option(
    metavar="S", min=0, max=86_400, help="Seconds to wait for a receiver before the first frame, and with --recollect "
    "for a sign of life of the streamer; 0 = not.")]
FaultText = Annotated[str, typer.Option(
    "--faults", metavar="SHARES",
    help="Make mistakes on purpose, such as gap=0.02,duplicate=0.01,swap=0.01,malformed=0.01 (shares of the frames).")]
Seed = Annotated[int, typer.Option(min=0, max=_LARGEST_SEED, help="Same seed, same run.")]
Rate = Annotated[float | None, typer.Option(
    metavar="HZ", min=0, help=f"Frames per second, flats and darks included; 0 = as fast as it goes. "
    f"[default: {_RATE_HZ:g}]")]

app.command()(inspect)
app.command()(convert)


@app.command("list")
def list_() -> None:
    """Name the scenarios, a line each."""
    from simulator.scenarios import catalogue  # noqa: PLC0415

    known = catalogue()
    width = max(map(len, known))
    for name, scenario in known.items():
        typer.echo(f"{name:<{width}}  {scenario.SUMMARY}")


class _Recollecting(TyperCommand):
    """Let ``--recollect`` stand without an endpoint, which the library of the command line cannot."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default endpoint where none is given."""
        complete: list[str] = []
        for argument, following in zip(args, [*args[1:], ""], strict=False):
            complete.append(argument)
            if argument == "--recollect" and "://" not in following:
                complete.append(_RESULTS)
        return super().parse_args(ctx, complete)


@app.command(cls=_Recollecting)
def run(  # noqa: PLR0913  (one parameter an option)
    scenario: Annotated[str, typer.Argument(help="One of 'txm-simulator list'.")],
    *,
    frames: Annotated[int | None, typer.Option(
        min=1, max=_MOST_FRAMES, help="Projections; by default those of the scenario.")] = None,
    rate: Rate = None,
    seed: Seed = 0,
    photons: Annotated[float | None, typer.Option(
        min=1, max=1e9, help="Mean photons per pixel of the open beam: less is noisier.")] = None,
    size: Annotated[str | None, typer.Option(
        metavar="ROWSxCOLUMNS", help="Size of the frames in pixels, such as 160x200.")] = None,
    save: Annotated[Path | None, typer.Option(
        metavar="FILE.h5", help="Write the run with its truth into a Data Exchange file. Sends nothing then, unless "
        "--bind or --connect is given too.")] = None,
    bind: Bind = None,
    connect: Connect = None,
    protocol: ProtocolName = "array-1.0",
    pattern: PatternName = "pub",
    wait: Wait = 30.0,
    faults: FaultText = "",
    recollect: Annotated[str | None, typer.Option(
        metavar="[ENDPOINT]", help="Listen to the results of a streamer here and take again the frames that it asks "
        f"for, as the sample is by then; the exposure may fail again. Without an endpoint: {_RESULTS}.")] = None,
    late: Annotated[float, typer.Option(
        metavar="S", min=0, max=86_400, help="With --recollect: seconds after the last frame in which late requests "
        "are waited for, unless the streamer says before that it has none.")] = 30.0,
) -> None:
    """Simulate an experiment whose truth is known, and send it or save it.

    Examples: 'run sun2025_txm --rate 2' sends the X-ray experiment of Sun et al. (2025); 'run still --frames 10
    --save still.h5' writes ten frames in which nothing happens; 'run sun2025_txm --recollect' takes blurred frames
    again when the streamer beside it asks for them.
    """
    from simulator.plan import Request  # noqa: PLC0415
    from simulator.scenarios import find  # noqa: PLC0415

    _refuse_nan(photons=photons, rate=rate, wait=wait, late=late)
    if recollect is not None and save is not None and bind is None and connect is None:
        raise SettingsError("--save alone sends nothing, so nobody can ask for a frame again; give --bind or --connect "
                            "too, or leave --recollect away")
    request = Request(frames=frames, seed=seed, photons=photons, shape=_size(size))
    outlet = _Outlet.asked(
        bind=bind, connect=connect, protocol=protocol, pattern=pattern, wait_s=wait, faults=faults, seed=seed)
    planned = find(scenario).build(request)
    with ExitStack() as stack:
        recorder = None
        beamline = None if recollect is None else stack.enter_context(
            _listening(recollect, planned, wait_s=wait, late_s=late))
        source: Iterable[Frame] = planned.frames() if beamline is None else beamline.frames()
        if save is not None:
            from simulator.recorder import Recorder, recorded  # noqa: PLC0415

            recorder = stack.enter_context(Recorder(save, planned))
            source = recorded(source, recorder)
        if save is not None and bind is None and connect is None:
            _save_only(source, total=len(planned))
        else:
            from simulator.publisher import Pace, with_ends  # noqa: PLC0415

            pace = Pace(rate_hz=_RATE_HZ if rate is None else rate)
            whole = outlet.publish(with_ends(source), pace=pace, restamp=True, course=beamline,
                                   left=None if recorder is None else recorder.left)
            if not whole and save is not None:
                raise RecordingError(f"{save}: interrupted; nothing was saved")
    if save is not None:
        typer.echo(f"saved {len(planned)} frames in {save}", err=True)


@app.command(cls=_Recollecting)
def replay(  # noqa: PLR0913  (one parameter an option)
    path: Annotated[Path, typer.Argument(help="TIFF, folder of images, or HDF5.")],
    *,
    rate: Rate = None,
    speed: Annotated[float | None, typer.Option(
        metavar="X", min=1e-6, help="Follow the recorded times, this many times faster.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Again and again; later rounds are called NAME#2, NAME#3, ...")]
    = False,
    start: Annotated[int, typer.Option(metavar="I", min=0, help="First projection.")] = 0,
    stop: Annotated[int | None, typer.Option(metavar="J", min=1, help="The projection after the last.")] = None,
    bind: Bind = None,
    connect: Connect = None,
    protocol: ProtocolName = "array-1.0",
    pattern: PatternName = "pub",
    wait: Wait = 30.0,
    faults: FaultText = "",
    seed: Annotated[int, typer.Option(min=0, max=_LARGEST_SEED, help="Of --faults: same seed, same faults.")] = 0,
    recollect: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Send a recording as if it were being taken now.

    Examples: 'replay run.h5 --rate 10', 'replay tiles/ --loop', 'replay run.h5 --speed 3600 --start 10 --stop 20'.
    """
    _refuse_nan(rate=rate, speed=speed, wait=wait)
    if recollect is not None:
        raise SettingsError("a recording cannot be exposed again, so 'replay' takes no --recollect; 'run SCENARIO "
                            "--recollect' simulates a sample that can")
    if rate is not None and speed is not None:
        raise SettingsError("give --rate or --speed, not both")
    from simulator.publisher import Pace  # noqa: PLC0415
    from simulator.replay import replayed  # noqa: PLC0415
    from streamer.formats import open_recording  # noqa: PLC0415

    outlet = _Outlet.asked(
        bind=bind, connect=connect, protocol=protocol, pattern=pattern, wait_s=wait, faults=faults, seed=seed)
    with open_recording(path) as recording:
        if speed is not None and next(iter(recording.frames(start, stop))).exposed_at is None:
            typer.echo(f"{path} has no times of exposure, so --speed has nothing to follow; sending {_RATE_HZ:g} "
                       "frames per second", err=True)
        pace = Pace(rate_hz=_RATE_HZ if rate is None else rate, speed=speed)
        outlet.publish(replayed(recording, start=start, stop=stop, loop=loop), pace=pace, restamp=False)


@dataclass(frozen=True, kw_only=True)
class _Outlet:
    """Where frames go, as asked on the command line."""

    endpoint: str
    connect: bool
    dialect: Dialect
    pattern: Pattern
    wait_s: float
    injector: FaultInjector | None

    @classmethod
    def asked(
        cls, *, bind: str | None, connect: str | None, protocol: str, pattern: str, wait_s: float, faults: str,
        seed: int,
    ) -> _Outlet:
        """Check the options before anything expensive begins."""
        from simulator.faults import FaultInjector, FaultShares  # noqa: PLC0415
        from streamer.protocols import get  # noqa: PLC0415

        if bind is not None and connect is not None:
            raise SettingsError("give --bind or --connect, not both")
        if pattern not in ("pub", "push"):
            raise SettingsError(f"pattern is {pattern!r}, expected 'pub' or 'push'")
        shares = FaultShares.parse(faults)
        return cls(
            endpoint=next(given for given in (connect, bind, _ENDPOINT) if given is not None),
            connect=connect is not None, dialect=get(protocol), pattern="pub" if pattern == "pub" else "push",
            wait_s=wait_s,
            injector=FaultInjector(shares, seed=seed) if any(shares) else None,
        )

    def publish(
        self, items: Iterable[Item], *, pace: Pace, restamp: bool, course: Course | None = None,
        left: Callable[[Frame], None] | None = None,
    ) -> bool:
        """Send everything, telling where and how much; False when it was interrupted."""
        from simulator.publisher import Sender, publish  # noqa: PLC0415

        try:
            with Sender(self.endpoint, connect=self.connect, pattern=self.pattern) as sender:
                typer.echo(f"sending frames on {sender.endpoint} ({self.pattern}, {self.dialect.NAME})")
                sys.stdout.flush()
                self._await_receiver(sender)
                # Who makes the frames as things go wants to know how they go before making many more.
                sent = publish(items, sender, self.dialect, pace=pace, faults=self.injector, restamp=restamp,
                               ahead=4 if course is None else 1, course=course, left=left)
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
            return False
        finally:
            if self.injector is not None:
                _tell_faults(self.injector)
        typer.echo(f"sent {sent.frames} frames in {sent.seconds:.1f} s", err=True)
        return True

    def _await_receiver(self, sender: Sender) -> None:
        if self.wait_s > 0:
            typer.echo(f"waiting up to {self.wait_s:g} s for a receiver", err=True)
            if not sender.wait_for_receiver(self.wait_s):
                typer.echo("nobody is listening; going on", err=True)


@contextmanager
def _listening(endpoint: str, planned: Run, *, wait_s: float, late_s: float) -> Iterator[Beamline]:
    """Listen to a streamer as long as its wishes can be met; tell in the end what was taken again."""
    from simulator.recollect import Beamline, Listener, Wishes  # noqa: PLC0415

    wishes = Wishes()
    beamline = Beamline(planned, wishes, wait_s=wait_s, late_s=late_s, source=endpoint)
    with Listener(endpoint, wishes):
        yield beamline
    taken = [f"{shot.recollects} as {shot.index}{' (blurred)' if shot.blur is not None else ''}"
             for shot in beamline.taken]
    typer.echo(f"taken again: {len(taken)} frames{': ' if taken else ''}{', '.join(taken)}", err=True)


def _tell_faults(injector: FaultInjector) -> None:
    for name in injector.shares._fields:
        hit = [str(fault.index) for fault in injector.made if fault.name == name]
        if hit:
            typer.echo(f"faults: {len(hit)} {name}: frames {', '.join(hit)}", err=True)


def _save_only(frames: Iterable[Frame], *, total: int) -> None:
    """Draw all frames through the recorder, with a progress bar where somebody can see it."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import track  # noqa: PLC0415

    screen = Console(stderr=True)
    try:
        for _ in track(frames, "saving", total=total, console=screen, disable=not screen.is_terminal):
            pass
    except KeyboardInterrupt:
        raise RecordingError("interrupted; nothing was saved") from None


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    rows, cross, columns = text.lower().partition("x")
    if not (cross and rows.isdecimal() and columns.isdecimal() and all(
            _SMALLEST_PX <= int(side) <= _LARGEST_PX for side in (rows, columns))):
        raise SettingsError(f"size is {text!r}, expected ROWSxCOLUMNS, each {_SMALLEST_PX} to {_LARGEST_PX}, "
                            "such as 160x200")
    return int(rows), int(columns)


def _refuse_nan(**options: float | None) -> None:
    """Refuse what passes every comparison."""
    for name, value in options.items():
        if value is not None and not math.isfinite(value):
            raise SettingsError(f"--{name} is {value}, expected a number")


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Treat SIGTERM like Ctrl-C."""
    raise KeyboardInterrupt


def main() -> NoReturn:
    """Entry point of the console script."""
    console.start_log(level=logging.WARNING)
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(console.run(app, "txm-simulator"))


if __name__ == "__main__":
    main()
