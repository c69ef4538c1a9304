"""HDF5: Data Exchange files, those of NSLS-II FXI, our own recordings, and any other file by dataset name.

Data Exchange: De Carlo et al., J. Synchrotron Rad. 21, 1224 (2014), :doi:`10.1107/S160057751401604X`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from streamer.errors import RecordingError
from streamer.formats._recording import Contents, Pictures
from streamer.records import KINDS, AnyArray, Kind

NAME = "hdf5"
SUMMARY = "HDF5 files (Data Exchange exchange/data, or a dataset you name)"


class _Layout(NamedTuple):
    """Where a facility keeps its pictures."""

    projection: str
    flat: str
    dark: str
    angle: str


LAYOUTS = (
    _Layout("exchange/data", "exchange/data_white", "exchange/data_dark", "exchange/theta"),
    _Layout("img_tomo", "img_bkg", "img_dark", "angle"),        # NSLS-II FXI, tomography
    _Layout("img_xanes", "img_bkg", "img_dark", "angle"),       # NSLS-II FXI, spectroscopy
)
OURS = "txm_live"
"""Group of our own recordings: the order of the frames, their times, views and the pixel size."""


class _Stack:
    """A dataset (count, M, N), or (M, N) as one picture."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return int(self._dataset.shape[0]) if self._dataset.ndim == 3 else 1

    def read(self, position: int) -> AnyArray:
        if not 0 <= position < len(self):
            raise RecordingError(f"the stack has only {len(self)} pictures")
        picture: AnyArray = self._dataset[position] if self._dataset.ndim == 3 else self._dataset[()]
        return picture


def matches(path: Path) -> bool:
    """Tell whether the file has the signature of HDF5."""
    return path.is_file() and bool(h5py.is_hdf5(path))


def open_(path: Path, *, dataset: str | None = None) -> Contents:
    """Open an HDF5 file; see `streamer.formats.Format.open_`."""
    import hdf5plugin  # noqa: F401, PLC0415  (registers the compression filters, wanted only when HDF5 is read)

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise RecordingError(f"{path}: HDF5 file cannot be opened ({' '.join(str(error).split())}); it may be cut, or "
                             "still open in the program that writes it") from error
    try:
        return _contents(path, file, dataset)
    except BaseException:
        file.close()
        raise


def _contents(path: Path, file: Any, dataset: str | None) -> Contents:
    layout = _choose(path, file, dataset)
    stacks: dict[Kind, Pictures] = {}
    for kind in KINDS:
        found = _dataset(file, getattr(layout, kind))
        if found is not None and _is_stack(found):
            stacks[kind] = _Stack(found)
    ours = file.get(OURS)
    if not isinstance(ours, h5py.Group) or dataset is not None:
        ours = None
    attributes = {} if ours is None else ours.attrs
    sequence = None if ours is None else _sequence(path, ours, stacks)
    lines = 0 if sequence is None else len(sequence)
    return Contents(
        name=_text(attributes.get("acquisition")) or path.stem,
        stacks=stacks,
        close=file.close,
        pixel_size_nm=_positive(attributes.get("pixel_size_nm")),
        exposure_s=_positive(attributes.get("exposure_s")),
        angles_deg=_angles(file, layout.angle, len(stacks.get("projection", ()))),
        sequence=sequence,
        exposed_at=None if ours is None else _numbers(_dataset(ours, "exposed_at_s"), lines),
        views=None if ours is None else _texts(_dataset(ours, "view"), lines),
    )


def _choose(path: Path, file: Any, dataset: str | None) -> _Layout:
    """Find where the projections are."""
    if dataset is not None:
        found = _dataset(file, dataset)
        if found is None or not _is_stack(found):
            what = "no such dataset" if found is None else f"it has shape {found.shape} and type {found.dtype}"
            raise RecordingError(f"{path}: dataset {dataset!r} is not a stack of pictures: {what}; {_listing(file)}")
        return _Layout(dataset, f"{dataset}_white", f"{dataset}_dark", "exchange/theta")
    for layout in LAYOUTS:
        if _dataset(file, layout.projection) is not None:
            return layout
    if any(_dataset(file, name) is not None for name in (LAYOUTS[0].flat, LAYOUTS[0].dark)):
        return LAYOUTS[0]   # a file of flats or darks alone
    stacks = [found.name for found in _all_datasets(file) if found.ndim == 3 and _is_stack(found)]
    if len(stacks) != 1:
        raise RecordingError(f"{path}: no exchange/data, and {len(stacks)} datasets could hold the pictures; name one "
                             f"as the dataset; {_listing(file)}")
    return _Layout(stacks[0], "", "", "")


def _is_stack(dataset: Any) -> bool:
    return (dataset.dtype.kind in "buif" and dataset.ndim in (2, 3) and dataset.size > 0
            and dataset.dtype.subdtype is None)


def _dataset(group: Any, name: str) -> Any | None:
    """Return a dataset, or None when there is none or its link is broken."""
    if not name:
        return None
    try:
        found = group.get(name)
    except (KeyError, OSError, ValueError):
        return None
    return found if isinstance(found, h5py.Dataset) else None


def _all_datasets(file: Any) -> list[Any]:
    found: list[Any] = []
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found


def _listing(file: Any, *, most: int = 12) -> str:
    datasets = [f"{found.name.lstrip('/')} {found.shape} {found.dtype}" for found in _all_datasets(file)]
    more = f" and {len(datasets) - most} more" if len(datasets) > most else ""
    return "datasets found: " + (", ".join(datasets[:most]) + more if datasets else "none")


def _sequence(path: Path, ours: Any, stacks: dict[Kind, Pictures]) -> Sequence[tuple[Kind, int]] | None:
    """Read the order in which the frames were taken: (total, 2) of kind and position in its stack."""
    found = _dataset(ours, "sequence")
    if found is None:
        return None
    lines = found[()]
    if lines.ndim != 2 or lines.shape[1] != 2 or lines.dtype.kind not in "iu":
        raise RecordingError(f"{path}: {OURS}/sequence has shape {lines.shape} and type {lines.dtype}, expected "
                             "(frames, 2) whole numbers; name the dataset to ignore it")
    kinds = set(lines[:, 0].tolist())
    if not kinds <= {number for number, kind in enumerate(KINDS) if kind in stacks} or (lines[:, 1] < 0).any():
        raise RecordingError(f"{path}: {OURS}/sequence names kinds {sorted(kinds)} but the file holds "
                             f"{', '.join(stacks)}; name the dataset to ignore it")
    return [(KINDS[kind], position) for kind, position in lines.tolist()]


def _angles(file: Any, name: str, count: int) -> NDArray[np.float64] | None:
    found = _dataset(file, name)
    angles = _numbers(found, count)
    if angles is not None and found is not None and _text(found.attrs.get("units")).lower().startswith("rad"):
        angles = np.degrees(angles)
    return angles


def _numbers(dataset: Any | None, count: int) -> NDArray[np.float64] | None:
    """Read finite numbers, one per frame; None when there is not exactly one each."""
    if dataset is None or dataset.shape != (count,) or dataset.dtype.kind not in "uif":
        return None
    values: NDArray[np.float64] = dataset[()].astype(np.float64)
    return values if np.isfinite(values).all() else None


def _texts(dataset: Any | None, count: int) -> list[str] | None:
    if dataset is None or dataset.shape != (count,):
        return None
    return [_text(value) for value in dataset[()]]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


def _positive(value: Any) -> float | None:
    if isinstance(value, int | float | np.integer | np.floating) and 0 < value < np.inf:
        return float(value)
    return None
