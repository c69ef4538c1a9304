"""What every format gives, and how it becomes frames: one picture in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.errors import RecordingError
from streamer.records import KINDS, AnyArray, Frame, Kind, Refusal

LUMA = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601 weights of red, green and blue."""


class Pictures(Protocol):
    """Pictures of one kind, read one at a time."""

    def __len__(self) -> int:
        """Count the pictures, unreadable ones included."""
        ...

    def read(self, position: int) -> AnyArray:
        """Read one picture, (M, N); raises whatever the decoder raises when it is damaged."""
        ...


class Contents(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a format module found in a file or folder."""

    name: str
    """Becomes the name of the acquisition."""
    stacks: Mapping[Kind, Pictures]
    close: Callable[[], None]
    pixel_size_nm: float | None = None
    exposure_s: float | None = None
    """Of every frame."""
    angles_deg: NDArray[np.float64] | None = None
    """One per projection, likewise what follows."""
    energies_ev: NDArray[np.float64] | None = None
    exposures_s: NDArray[np.float64] | None = None
    """Go before `exposure_s`."""
    sequence: Sequence[tuple[Kind, int]] | None = None
    """In which order the frames were taken: (kind, position in its stack); None: darks, flats, projections."""
    exposed_at: NDArray[np.float64] | None = None
    """Unix seconds, one per line of `sequence`; NaN: not known."""
    views: Sequence[str] | None = None
    """One per line of `sequence`."""
    planned: int | None = None
    """Projections that there will be when the scan is complete; None: not known."""
    recollects: Sequence[int] | None = None
    """Numbers of the projections that others replace, one per line of `sequence`; negative: none."""


class _Step(NamedTuple):
    """One frame to be delivered."""

    kind: Kind
    position: int
    pictures: Pictures
    line: int | None
    """Line of the stored sequence."""


class Recording:
    """A recording on disk; use it as a context manager.

    Attributes
    ----------
    name : str
        Acquisition of the projections; flats and darks are in ``<name>/flat`` and ``<name>/dark``, numbered from 0.
    format : str
        Name of the format, such as ``tiff``.
    path : Path
    shape : tuple of int
        (M, N) of the first readable projection.
    dtype : numpy.dtype
        Of the first readable projection.
    count : int
        Projections, unreadable ones included.
    total : int
        Everything that `frames` yields.
    pixel_size_nm : float or None
    planned : int or None
        Projections that there will be when the scan is complete, where the file tells.
    """

    def __init__(
        self, path: Path, format_name: str, contents: Contents, *,
        references: Mapping[Kind, Pictures] | None = None, pixel_size_nm: float | None = None,
        also_close: Sequence[Callable[[], None]] = (),
    ) -> None:
        self.path = path
        self.format = format_name
        self.name = contents.name
        self.pixel_size_nm = pixel_size_nm if pixel_size_nm is not None else contents.pixel_size_nm
        self.planned = contents.planned
        self._contents = contents
        self._references = references or {}
        self._also_close = also_close
        self._steps = list(self._plan())
        self.count = sum(step.kind == "projection" for step in self._steps)
        self.total = len(self._steps)
        first = self._first_readable()
        self.shape: tuple[int, int] = (first.shape[0], first.shape[1])
        self.dtype: np.dtype[Any] = first.dtype

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame | Refusal]:
        """Yield the frames one at a time, in the order they were taken if the file tells it.

        Parameters
        ----------
        start, stop : int, optional
            First projection and the one after the last, counted in the order of delivery; numbers stay those of the
            recording. Flats and darks that were taken before `stop` are always delivered.

        Yields
        ------
        Frame or Refusal
            A picture that cannot be read is a refusal that names it. ``received_at`` is left 0.

        Raises
        ------
        RecordingError
            If the range holds no projection.
        """
        stop = self.count if stop is None else min(stop, self.count)
        if not 0 <= start < stop:
            raise RecordingError(f"{self.path}: projections {start} to {stop} asked, the recording has "
                                 f"{self.count}, counted from 0")
        return self._deliver(start, stop)

    def close(self) -> None:
        """Close the files."""
        self._contents.close()
        for close in self._also_close:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _plan(self) -> Iterator[_Step]:
        contents, references = self._contents, self._references
        for kind in ("dark", "flat"):
            for position in range(len(references.get(kind, ()))):
                yield _Step(kind, position, references[kind], None)
        if contents.sequence is None:
            for kind in reversed(KINDS):
                if kind in contents.stacks and kind not in references:
                    pictures = contents.stacks[kind]
                    yield from (_Step(kind, position, pictures, None) for position in range(len(pictures)))
            return
        for line, (kind, position) in enumerate(contents.sequence):
            if kind not in references:   # what the user names replaces what is stored
                yield _Step(kind, position, contents.stacks[kind], line)

    def _deliver(self, start: int, stop: int) -> Iterator[Frame | Refusal]:
        projections = 0
        for step in self._steps:
            if step.kind == "projection":
                projections += 1
                if projections > stop:
                    return
                if projections <= start:
                    continue
            yield self._frame(step)

    def _frame(self, step: _Step) -> Frame | Refusal:
        acquisition = self.name if step.kind == "projection" else f"{self.name}/{step.kind}"
        contents, line = self._contents, step.line
        view = contents.views[line] if contents.views is not None and line is not None else ""
        exposed_at = None if line is None else _at(contents.exposed_at, line)
        recollects = -1 if contents.recollects is None or line is None else contents.recollects[line]
        pixels = _read(step.pictures, step.position)
        if isinstance(pixels, str):
            reason = f"{step.kind} {step.position} of {self.path.name} cannot be read: {pixels}"
            return Refusal(reason=reason, bucket="malformed", index=step.position, acquisition=acquisition, view=view,
                           kind=step.kind, exposed_at=exposed_at)
        angle_deg, energy_ev, exposure_s = (
            _at(values, step.position) if step.kind == "projection" else None
            for values in (contents.angles_deg, contents.energies_ev, contents.exposures_s))
        return Frame(
            pixels=pixels, index=step.position, acquisition=acquisition, view=view, kind=step.kind,
            exposed_at=exposed_at, exposure_s=exposure_s or contents.exposure_s, pixel_size_nm=self.pixel_size_nm,
            angle_deg=angle_deg, energy_ev=energy_ev, expected=self.count if step.kind == "projection" else None,
            recollects=recollects if recollects >= 0 and recollects != step.position else None,
        )

    def _first_readable(self) -> AnyArray:
        reason = "it holds no projections"
        for step in self._steps:
            if step.kind == "projection":
                pixels = _read(step.pictures, step.position)
                if not isinstance(pixels, str):
                    return pixels
                reason = f"none of its {self.count} picture(s) can be read; the last said: {pixels}"
        raise RecordingError(f"{self.path}: {reason}")


def _at(values: NDArray[np.float64] | None, position: int) -> float | None:
    """Return one of some numbers; None where there is none or it is not finite."""
    if values is None or not np.isfinite(values[position]):
        return None
    return float(values[position])


def _read(pictures: Pictures, position: int) -> AnyArray | str:
    """Read one picture, or say in one line why not."""
    try:
        return as_frame(pictures.read(position))
    except Exception as error:  # noqa: BLE001  (decoders raise anything on damaged data; the next picture may be fine)
        return " ".join(str(error).split()) or type(error).__name__


def as_frame(picture: AnyArray) -> AnyArray:
    """Make a picture (M, N) of a real type in this machine's byte order, contiguous and read-only.

    Colour (M, N, 3 or 4) becomes grey with the weights of ITU-R BT.601, rounded for integer types; an alpha channel
    is dropped; bilevel becomes 0 and 1.

    Raises
    ------
    RecordingError
        If it is no such picture.
    """
    picture = np.asarray(picture)
    if picture.dtype.kind not in "buif":
        raise RecordingError(f"pixels are {picture.dtype}, expected real numbers")
    if picture.ndim == 3 and picture.shape[2] in (2, 3, 4):
        picture = _grey(picture)
    while picture.ndim > 2 and picture.shape[0] == 1:
        picture = picture[0]
    if picture.ndim != 2 or picture.size == 0:
        raise RecordingError(f"picture has shape {picture.shape}, expected (rows, columns)")
    dtype = picture.dtype.newbyteorder("=")
    if dtype.kind == "b":
        dtype = np.dtype(np.uint8)
    elif dtype.kind == "f" and dtype.itemsize > 8:
        dtype = np.dtype(np.float64)
    result = np.ascontiguousarray(picture, dtype).view()
    result.flags.writeable = False
    return result


def _grey(picture: AnyArray) -> AnyArray:
    if picture.shape[2] == 2:   # grey and alpha
        plain: AnyArray = picture[..., 0]
        return plain
    grey: AnyArray = picture[..., :3] @ LUMA
    if picture.dtype.kind in "bui":
        grey = np.rint(grey)
    return grey.astype(picture.dtype)
