"""``txm-streamer``: watch a live acquisition, or analyse a recorded one."""

from __future__ import annotations

import datetime
import logging
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streamer import console

if TYPE_CHECKING:
    from rich.progress import Progress

    from streamer.formats import Recording
    from streamer.settings import Settings

app = console.new_app(
    "Score the sharpness, follow the drift and the deformation of TXM frames, live or from a recording.")

_SettingsFile = Annotated[Path | None, typer.Option("--settings", metavar="FILE.toml", help="Settings to start from.")]
_Assignments = Annotated[list[str] | None, typer.Option(
    "--set", metavar="KEY=VALUE", help="Change one setting, such as blur.tolerance_px=2.5; may be repeated.")]
_Session = Annotated[Path, typer.Argument(metavar="SESSION", help="Folder of a session, running or ended.")]
_Recording = Annotated[Path | None, typer.Option(
    "--recording", metavar="PATH", help="Where the frames are; by default what analyse has read.")]
_Acquisition = Annotated[str | None, typer.Option(
    "--acquisition", metavar="A", help="Acquisition in the session, if not named like the recording.")]
_Flat = Annotated[Path | None, typer.Option("--flat", metavar="PATH", help="Flats: a file or a folder.")]
_Dark = Annotated[Path | None, typer.Option("--dark", metavar="PATH", help="Darks: a file or a folder.")]
_Dataset = Annotated[str | None, typer.Option("--dataset", metavar="NAME", help="Frames inside an HDF5 file.")]
_Verbose = Annotated[bool, typer.Option("--verbose", help="Log more.")]


@app.command()
def run(
    connect: Annotated[str | None, typer.Option(
        metavar="ENDPOINT", help="Address of the sender of frames (setting frames.endpoint).")] = None,
    session: Annotated[Path | None, typer.Option(
        metavar="DIR", help="Where the session goes; sessions/<UTC time> by default.")] = None,
    settings: _SettingsFile = None,
    assignments: _Assignments = None,
    once: Annotated[bool, typer.Option(
        "--once", help="End when the sender closes its acquisition, instead of waiting for the next.")] = False,
    verbose: _Verbose = False,
) -> None:
    """Watch a live acquisition until Ctrl-C or SIGTERM.

    Frames are taken from a ZeroMQ sender (tcp://), an EPICS process variable (pva://NAME), a folder that fills
    (folder://PATH) or a file that grows (file://PATH), analysed as they come, written to the session's journal and
    published for dashboards. At the end everything received is finished and the tables are written.

    A --session that is there already is gone on with, whether its streamer ended or was killed: same reference,
    drift, alerts, accounting and settings. --set and --connect still win; --settings only tells addresses that
    are not kept in a session, such as that of a webhook.
    """
    from streamer.service.continuity import settings_left  # noqa: PLC0415  (heavy; --help stays quick)
    from streamer.service.known import known_frames  # noqa: PLC0415
    from streamer.service.live import Service  # noqa: PLC0415
    from streamer.settings import assigned  # noqa: PLC0415
    from streamer.sources import open_source  # noqa: PLC0415

    console.start_log(verbose=verbose)
    extra = {} if connect is None else {"frames.endpoint": connect}
    chosen, changes = _load(settings, assignments, extra), assigned(assignments or ()) | extra
    folder = session or Path("sessions") / datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    chosen = settings_left(folder, chosen, changes)
    source = open_source(chosen.frames, known=known_frames(folder))
    try:
        service = Service(chosen, folder, source)
    except BaseException:
        source.close()
        raise

    def stop(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)   # a second one ends at once; the journal is safe
        service.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    pattern = f" ({chosen.frames.pattern})" if source.endpoint.startswith("tcp://") else ""
    if pattern == " (pull)" and not chosen.frames.bind:
        typer.echo("WARNING: pull takes frames away from every other puller of this sender, such as a file writer: "
                   "what arrives here is not written there. Use a monitor or PUB stream of the detector instead, "
                   "unless this streamer is alone", err=True)
    typer.echo(f"frames from {source.endpoint}{pattern}; results on "
               f"{service.outbox.results_endpoint}, control on {service.outbox.control_endpoint}; "
               f"session {folder}{service.resumed}", err=True)
    service.run(until_end=once)
    _report(folder)


@app.command()
def analyse(  # noqa: PLR0913, PLR0917  (a line of the help page each)
    inputs: Annotated[list[Path], typer.Argument(
        metavar="INPUT", help="TIFF, folder of images, HDF5, Xradia or NumPy file; a session; or a folder of those "
        "files and folders.")],
    out: Annotated[Path, typer.Option(
        "--out", metavar="DIR", help="Where the session goes; of several, each into a folder in there.")],
    recording: Annotated[Path | None, typer.Option(
        metavar="PATH", help="Where the frames of a session are; by default what it was made of.")] = None,
    flat: _Flat = None,
    dark: _Dark = None,
    dataset: _Dataset = None,
    pixel_size_nm: Annotated[float | None, typer.Option(metavar="F", help="Pixel on the sample in nm.")] = None,
    settings: _SettingsFile = None,
    assignments: _Assignments = None,
    verbose: _Verbose = False,
) -> None:
    """Run recordings through the pipeline of the live service and leave a session of each.

    A session holds session.sqlite (the journal), frames.csv, alerts.csv, flow.h5 and summary.json.

    A session as INPUT is made again from its recording, with its settings, flats and darks unless others are given, and
    what comes out differently is said.

    Several inputs, or a folder that holds recordings, here or further down, give a session each, at --out under the
    name of the recording. The same command goes on after an end in between: what is done is skipped, what was broken
    off is begun anew, and what cannot be analysed is named at the end.
    """
    from streamer import cli_analyse  # noqa: PLC0415  (heavy; --help stays quick)
    from streamer.service.campaign import Wanted  # noqa: PLC0415
    from streamer.settings import changes_of  # noqa: PLC0415

    console.start_log(verbose=verbose, level=logging.ERROR)   # alerts are in the session; the bar needs the line
    changes = changes_of(settings, assignments or ()) | ({} if pixel_size_nm is None else
                                                         {"pixel_size_nm": pixel_size_nm})
    wanted = Wanted(changes, recording, flat, dark, dataset)
    cli_analyse.check(inputs, out, wanted)
    if cli_analyse.is_single(inputs, wanted):
        cli_analyse.analyse_one(inputs[0], out, wanted, bar=_progress(), report=_report)
    elif not cli_analyse.analyse_many(inputs, out, wanted, bar=_progress()):
        raise typer.Exit(console.FAILED)


@app.command()
def flow(  # noqa: PLR0913, PLR0917  (a line of the help page each)
    session: _Session,
    first: Annotated[int, typer.Option("--from", metavar="I", min=0, help="Number of the frame to start from.")],
    second: Annotated[int, typer.Option("--to", metavar="J", min=0, help="Number of the frame to look in.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.h5", help="Where the field goes: .h5 or .hdf5.")],
    step_px: Annotated[int | None, typer.Option(
        metavar="N", min=1, max=64, help="Spacing of the points; by default that of the session.")] = None,
    check: Annotated[bool, typer.Option(
        "--check/--no-check", help="Measure from J to I, too, and keep the points where the two agree.")] = False,
    recording: _Recording = None,
    acquisition: _Acquisition = None,
    flat: _Flat = None,
    dark: _Dark = None,
    dataset: _Dataset = None,
) -> None:
    """Measure the displacement between any two frames of a session.

    It is what is left after the drift between them: material at (y, x) of frame I is found at
    (y + D_y + u_y, x + D_x + u_x) of frame J. D is the drift of J relative to I as the session has measured it, u the
    displacement, which is written. J may be the earlier one. Both are read again from the recording and corrected as
    they were for the session.

    The file has the layout of flow.h5: frames/<J>/displacement_px, valid and sigma_px with the attributes
    reference_index (I), drift_y_px and drift_x_px, and grid_y_px and grid_x_px, positions in frame I. Only points with
    valid carry a measurement. Blurred frames are taken, with a remark; bad ones and those without a drift are not.
    """
    from streamer.export import export_field  # noqa: PLC0415
    from streamer.service.displacement import measure_pair  # noqa: PLC0415

    if out.suffix.lower() not in {".h5", ".hdf5"}:
        raise typer.BadParameter(f"{out}: a displacement field is written as .h5 or .hdf5", param_hint="--out")
    if out.absolute() == (session / "flow.h5").absolute():
        raise typer.BadParameter(f"{out} holds the fields of the session; give another file", param_hint="--out")
    with _pictures(session, recording, flat=flat, dark=dark, dataset=dataset, out=out, option="--out") as source:
        report = measure_pair(source, session, first, second, acquisition=acquisition, step_px=step_px, check=check)
    about = {"session": session.absolute().name, "recording": str(source.path), "remarks": "; ".join(report.remarks)}
    export_field(report.field, out, about=about)
    typer.echo(f"{out}: {report.text}")


@app.command()
def export(  # noqa: PLR0913, PLR0917  (a line of the help page each)
    session: _Session,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where to; the session by default.")] = None,
    registered: Annotated[Path | None, typer.Option(
        metavar="FILE", help="Write the frames with their drift undone, too: .tif, .tiff, .h5 or .hdf5.")] = None,
    nonrigid: Annotated[bool, typer.Option(
        "--nonrigid", help="Undo the displacement against the reference, too; pages tell whether it was.")] = False,
    recording: _Recording = None,
    view: Annotated[str | None, typer.Option(metavar="V", help="View to register, if there are several.")] = None,
    acquisition: _Acquisition = None,
    keep_blurred: Annotated[bool, typer.Option(
        "--keep-blurred", help="Keep blurred frames; each page tells its verdict.")] = False,
    flat: _Flat = None,
    dark: _Dark = None,
    dataset: _Dataset = None,
) -> None:
    """Write what a session holds as CSV, HDF5, NeXus and, where pyarrow is installed, Parquet.

    With --registered, also a stack of the corrected frames in the coordinates of the reference frame, float32, NaN
    where a frame shows nothing; bad and unregistered frames are left out, blurred ones unless kept.

    With --nonrigid, every frame of that stack shows its material where the reference has it: drift and displacement
    are undone in one resampling. The displacement is that of flow.h5, or measured now where the session has none; where
    it is not valid it is continued from the neighbours. Blurred frames that are kept have none: only their drift is
    undone.
    """
    from streamer.export import export_session  # noqa: PLC0415

    if registered is None:
        _need_registered(nonrigid=nonrigid or None, recording=recording, view=view, acquisition=acquisition, flat=flat,
                         dark=dark, dataset=dataset, keep_blurred=keep_blurred or None)
    else:
        from streamer.service.registered import write_registered  # noqa: PLC0415

        _check_stack(registered)
        with _pictures(session, recording, flat=flat, dark=dark, dataset=dataset, out=registered,
                       option="--registered") as source:
            report = write_registered(source, session, registered, view=view, acquisition=acquisition,
                                      keep_blurred=keep_blurred, nonrigid=nonrigid)
        typer.echo(report.text)
    for path in export_session(session, out, complete=True):
        typer.echo(path)


@app.command()
def report(  # noqa: PLR0913, PLR0917  (a line of the help page each)
    session: _Session,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.html", help="Where the page goes.")],
    figures: Annotated[Path | None, typer.Option(
        metavar="DIR", help="Write every figure as PDF and PNG, and the numbers behind it as CSV, too.")] = None,
    compare: Annotated[Path | None, typer.Option(
        metavar="OTHER", help="Session to compare with: amplitudes, verdicts, settings.")] = None,
    pair: Annotated[list[str] | None, typer.Option(
        metavar="I,J", help="Show the displacement from frame I to J; may be given twice.")] = None,
    region: Annotated[list[str] | None, typer.Option(
        metavar="TOP,LEFT,BOTTOM,RIGHT", help="Part of the first pair to enlarge, in px; may be given twice.")] = None,
    recording: _Recording = None,
    view: Annotated[str | None, typer.Option(metavar="V", help="View to show; the one with most frames.")] = None,
    acquisition: _Acquisition = None,
    flat: _Flat = None,
    dark: _Dark = None,
    dataset: _Dataset = None,
    verbose: _Verbose = False,
) -> None:
    """Write what a session found as one page of HTML: facts, figures as in papers, tables, a methods paragraph.

    The page needs no other file and no network. Pictures are read again from what the session was made of; those of a
    live session are the ones that its streamer has kept, unless --recording names the file they were written to. What
    cannot be shown says why. A session that is still being written is reported so far.
    """
    from streamer import cli_report  # noqa: PLC0415  (heavy; --help stays quick)
    from streamer.service.reporting import Wishes  # noqa: PLC0415

    console.start_log(verbose=verbose, level=logging.ERROR)
    if recording is None and (flat or dark or dataset):
        raise typer.BadParameter("flats, darks and dataset belong to a recording; name it", param_hint="--recording")
    wishes = Wishes(figures, compare, cli_report.pairs(pair), cli_report.regions(region), acquisition, view)

    def pictures() -> Recording:
        return _pictures(session, recording, flat=flat, dark=dark, dataset=dataset, out=out, option="--out")

    cli_report.report(session, out, wishes, open_pictures=pictures, is_named=recording is not None, bar=_progress())


@app.command()
def deblur(  # noqa: PLR0913, PLR0917  (a line of the help page each)
    recording: Annotated[Path, typer.Argument(metavar="RECORDING", help="What the session was made of.")],
    session: Annotated[Path, typer.Option("--session", metavar="DIR", help="Session that has found the blur.")],
    index: Annotated[int, typer.Option("--frame", metavar="I", min=0, help="Number of the blurred frame.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.tif", help="Where the restored frame goes.")],
    acquisition: Annotated[str | None, typer.Option(
        metavar="A", help="Acquisition of the frame in the session, if there are several.")] = None,
    method: Annotated[Literal["wiener", "richardson_lucy"], typer.Option(help="How to restore.")] = "wiener",
    group: Annotated[bool, typer.Option(
        "--group", help="Use the mean point-spread function of the frame's group.")] = False,
    flat: _Flat = None,
    dark: _Dark = None,
    dataset: _Dataset = None,
    verbose: _Verbose = False,
) -> None:
    """Restore a blurred frame of a recording as far as its noise allows, and say how far that is.

    The blur is the one that the session has measured. The frame is corrected by flats and darks, restored, and written
    as float32 TIFF; give the flats and darks that were given to analyse. It is a preview, not data.
    """
    from streamer.formats import open_recording  # noqa: PLC0415
    from streamer.service.restoration import restore_frame, write_tiff  # noqa: PLC0415

    console.start_log(verbose=verbose, level=logging.WARNING)
    with open_recording(recording, flat=flat, dark=dark, dataset=dataset) as source:
        _check_target(out, (recording, flat, dark), "--out")
        image, recovery = restore_frame(source, session, index, acquisition=acquisition, method=method, group=group)
    write_tiff(out, image, recovery)
    typer.echo(recovery.text)


@app.command(name="settings")
def show_settings(
    settings: _SettingsFile = None, assignments: _Assignments = None,
    table: Annotated[bool, typer.Option("--table", help="Print the defaults as tables in Markdown instead.")] = False,
) -> None:
    """Print every setting with unit, default and meaning, as a valid TOML file."""
    from streamer.settings import to_toml  # noqa: PLC0415
    from streamer.settings_table import to_markdown  # noqa: PLC0415

    if table:
        typer.echo(to_markdown(), nl=False)
        return
    typer.echo(to_toml(_load(settings, assignments, {})), nl=False)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script."""
    # frames beside each other use the cores better than threads within one, which wait for each other on few cores
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    console.keep_memory()
    sys.exit(console.run(app, "txm-streamer", arguments))


def _load(path: Path | None, assignments: list[str] | None, extra: dict[str, Any]) -> Settings:
    from streamer.settings import load, update  # noqa: PLC0415

    return update(load(path, assignments or ()), extra)


def _need_registered(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise typer.BadParameter("is about the registered stack; say with --registered where that goes",
                                     param_hint="--" + name.replace("_", "-"))


def _check_stack(out: Path) -> None:
    from streamer.errors import CommandError  # noqa: PLC0415
    from streamer.service.stack_files import check_name  # noqa: PLC0415

    try:
        check_name(out)
    except CommandError as error:
        raise typer.BadParameter(str(error), param_hint="--registered") from error


def _pictures(session: Path, recording: Path | None, *, flat: Path | None, dark: Path | None, dataset: str | None,
              out: Path, option: str) -> Recording:
    """Open what a session was made of, each part of it unless another is named, if it would not be overwritten."""
    from streamer.formats import open_recording  # noqa: PLC0415
    from streamer.service.pictures import origin_of  # noqa: PLC0415

    origin = origin_of(session, recording=recording, flat=flat, dark=dark, dataset=dataset)
    _check_target(out, origin[:3], option)
    return open_recording(origin.path, flat=origin.flat, dark=origin.dark, dataset=origin.dataset)


def _check_target(out: Path, sources: Iterable[Path | None], option: str) -> None:
    if out.exists() and any(path is not None and path.exists() and out.samefile(path) for path in sources):
        raise typer.BadParameter(f"{out} is what is to be read; give another file", param_hint=option)


def _progress() -> Progress:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                    console=Console(stderr=True), disable=not sys.stderr.isatty())


def _report(folder: Path) -> None:
    """Say in four lines what came out."""
    from streamer.export import summary  # noqa: PLC0415
    from streamer.journal import Journal  # noqa: PLC0415

    with Journal(folder) as journal:
        facts = summary(journal)
    accounting, counts, timing = facts["accounting"], facts["counts"], facts["timing"]
    verdicts = ", ".join(f"{count} {name}" for name, count in counts["verdicts"].items()) or "no verdicts"
    trouble = ", ".join(f"{accounting[name]['count']} {name.replace('_', ' ')}" for name in (
        "missing", "duplicate", "out_of_order", "malformed", "refused", "dropped", "restarts")
        if accounting[name]["count"])
    typer.echo(f"{accounting['received']} frames received, {accounting['measured']} measured: {verdicts}"
               + (f"; {trouble}" if trouble else ""))
    light = facts["calibration"]
    photons = light["photons_per_px"]
    typer.echo(f"corrected by {light['flats']} flats and {light['darks']} darks"
               + (f"; open beam: {photons:.3g} photons per pixel" if photons else ""))
    if timing.get("frames_per_s"):
        typer.echo(f"{timing['frames_per_s']:.1f} frames/s over {timing['elapsed_s']:.1f} s")
    typer.echo(f"session: {folder}")


if __name__ == "__main__":
    main()
