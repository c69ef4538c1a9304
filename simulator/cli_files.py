"""The commands of ``txm-simulator`` about files: what one is, and writing it as another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from streamer.errors import RecordingError

_Recording = Annotated[Path, typer.Argument(
    help="TIFF, folder of images, HDF5 (Data Exchange, NXtomo, areaDetector, FXI), Xradia .xrm or .txrm, or .npy.")]
_Flat = Annotated[Path | None, typer.Option(metavar="PATH", help="Flats, in any of these formats.")]
_Dark = Annotated[Path | None, typer.Option(metavar="PATH", help="Darks, likewise.")]
_Dataset = Annotated[str | None, typer.Option(metavar="NAME", help="Dataset of an HDF5 file with the projections.")]
_PixelSize = Annotated[float | None, typer.Option(
    "--pixel-size-nm", metavar="F", min=1e-3, max=1e6, help="Goes before what is stored.")]


def inspect(
    path: _Recording, *, flat: _Flat = None, dark: _Dark = None, dataset: _Dataset = None,
    pixel_size_nm: _PixelSize = None,
) -> None:
    """Tell what a recording is and what would be streamed of it.

    Reads every picture once, so a long recording takes a while. Example: 'inspect scan.txrm'.
    """
    from simulator.inspection import describe  # noqa: PLC0415
    from streamer.formats import open_recording  # noqa: PLC0415

    with open_recording(path, flat=flat, dark=dark, dataset=dataset, pixel_size_nm=pixel_size_nm) as recording:
        for line in describe(recording):
            typer.echo(line)


def convert(
    path: _Recording,
    out: Annotated[Path, typer.Argument(help="FILE.h5 for Data Exchange HDF5, FILE.tif for a stack.")],
    *, flat: _Flat = None, dark: _Dark = None, dataset: _Dataset = None, pixel_size_nm: _PixelSize = None,
) -> int:
    """Write a recording as Data Exchange HDF5 (with all that is known of its frames) or as TIFF.

    Examples: 'convert scan.txrm scan.h5', 'convert tiles/ tiles.tif --pixel-size-nm 33.24'. The exit status is 1 when
    a picture could not be read; the others are written all the same.
    """
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    from simulator.conversion import convert as write  # noqa: PLC0415
    from streamer.formats import open_recording  # noqa: PLC0415

    if out.exists() and any(given is not None and given.exists() and out.samefile(given)
                            for given in (path, flat, dark)):
        raise typer.BadParameter(f"{out} is what is to be read; give another file")
    screen = Console(stderr=True)
    with (open_recording(path, flat=flat, dark=dark, dataset=dataset, pixel_size_nm=pixel_size_nm) as recording,
          Progress(console=screen, disable=not sys.stderr.isatty()) as progress):
        task = progress.add_task("converting", total=recording.total)
        try:
            done = write(recording, out, on_frame=lambda: progress.advance(task))
        except KeyboardInterrupt:
            raise RecordingError("interrupted; nothing was written") from None
    typer.echo(f"{done.frames} frames written: {', '.join(map(str, done.files))}")
    for reason in done.unreadable:
        typer.echo(f"missing: {reason}", err=True)
    return 1 if done.unreadable else 0
