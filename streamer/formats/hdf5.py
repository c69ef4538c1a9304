"""HDF5: Data Exchange, NeXus NXtomo, areaDetector, NSLS-II FXI, our own recordings, any other file by dataset name.

Data Exchange: De Carlo et al., J. Synchrotron Rad. 21, 1224 (2014), :doi:`10.1107/S160057751401604X`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamer.errors import RecordingError
from streamer.formats._hdf5_layouts import IMAGE_KEYS, LAYOUTS, Facts, Layout, all_datasets, find_nxtomo, read_facts
from streamer.formats._hdf5_layouts import dataset as find_dataset
from streamer.formats._recording import Contents, Pictures
from streamer.formats._views import name_views
from streamer.records import KINDS, AnyArray, Kind

NAME = "hdf5"
SUMMARY = "HDF5 files (Data Exchange exchange/data, NXtomo, areaDetector, or a dataset you name)"

OURS = "txm_live"
"""Group of our own recordings: the order of the frames, their times, views and the pixel size."""


class _Stack:
    """A dataset (count, M, N), or (M, N) as one picture; `places` chooses some of its pictures."""

    def __init__(self, dataset: Any, places: NDArray[np.int64] | None = None) -> None:
        self._dataset, self._places = dataset, places
        self._count = _written(dataset) if places is None else int(places.size)

    def __len__(self) -> int:
        return self._count

    def read(self, position: int) -> AnyArray:
        if not 0 <= position < len(self):
            raise RecordingError(f"the stack has only {len(self)} pictures")
        if self._places is not None:
            position = int(self._places[position])
        picture: AnyArray = self._dataset[position] if self._dataset.ndim == 3 else self._dataset[()]
        return picture


def _written(dataset: Any) -> int:
    """Count the pictures of a dataset; one that was made for all of a scan holds chunks of those taken alone."""
    if dataset.ndim != 3:
        return 1
    count = int(dataset.shape[0])
    if dataset.chunks is None or dataset.chunks != (1, *dataset.shape[1:]):
        return count
    chunks = int(dataset.id.get_num_chunks())
    return count if chunks == 0 else min(count, chunks)


def matches(path: Path) -> bool:
    """Tell whether the file has the signature of HDF5."""
    return path.is_file() and bool(h5py.is_hdf5(path))


def open_(path: Path, *, dataset: str | None = None) -> Contents:
    """Open an HDF5 file; see `streamer.formats.Format.open_`."""
    import hdf5plugin  # noqa: F401, PLC0415  (registers the compression filters, wanted only when HDF5 is read)

    try:
        file = _open_file(path)
    except OSError as error:
        raise RecordingError(f"{path}: HDF5 file cannot be opened ({' '.join(str(error).split())}); it may be cut, or "
                             "still open in the program that writes it") from error
    try:
        return _contents(path, file, dataset)
    except BaseException:
        file.close()
        raise


def _open_file(path: Path) -> Any:
    """Open a file that is whole, or one that its writer lets others read meanwhile (SWMR)."""
    try:
        return h5py.File(path, "r")
    except OSError:
        try:
            return h5py.File(path, "r", swmr=True)
        except (OSError, ValueError, RuntimeError):   # h5py raises any of them
            pass
        raise


def _contents(path: Path, file: Any, dataset: str | None) -> Contents:
    layout = _choose(path, file, dataset)
    stacks, sequence = _stacks(file, layout)
    ours = file.get(OURS)
    if not isinstance(ours, h5py.Group) or dataset is not None:
        ours = None
    pictures = find_dataset(file, layout.projection)
    facts = Facts() if pictures is None else read_facts(file, layout, pictures.shape[0] if pictures.ndim == 3 else 1)
    if ours is not None:
        return _our_contents(path, file, ours, stacks, facts)
    if layout.key:   # facts are of all pictures; those of projections are told with them
        shots = file[layout.key][()] == 0
        chosen = facts._replace(**{name: None if value is None else value[shots] for name, value in (
            ("angles_deg", facts.angles_deg), ("energies_ev", facts.energies_ev), ("exposures_s", facts.exposures_s))})
    else:
        chosen = facts
    count = len(stacks.get("projection", ()))
    views = name_views(count, angles_deg=chosen.angles_deg, energies_ev=chosen.energies_ev)
    if sequence is None and (any(views) or facts.exposed_at is not None):
        sequence = [(kind, place) for kind in reversed(KINDS) for place in range(len(stacks.get(kind, ())))]
    return Contents(
        name=path.stem, stacks=stacks, close=file.close, pixel_size_nm=facts.pixel_size_nm,
        angles_deg=chosen.angles_deg, energies_ev=chosen.energies_ev, exposures_s=chosen.exposures_s,
        sequence=sequence, views=None if sequence is None else [
            views[place] if kind == "projection" else "" for kind, place in sequence],
        exposed_at=None if sequence is None or facts.exposed_at is None else np.array([
            facts.exposed_at[place] if kind == "projection" else np.nan for kind, place in sequence]))


def _stacks(file: Any, layout: Layout) -> tuple[dict[Kind, Pictures], list[tuple[Kind, int]] | None]:
    """Collect the pictures of each kind, and their order where a key tells it."""
    stacks: dict[Kind, Pictures] = {}
    if not layout.key:
        for kind in KINDS:
            found = find_dataset(file, getattr(layout, kind))
            if found is not None and _is_stack(found):
                stacks[kind] = _Stack(found)
        return stacks, None
    pictures, keys = file[layout.projection], file[layout.key][()]
    sequence: list[tuple[Kind, int]] = []
    counts: dict[Kind, int] = dict.fromkeys(KINDS, 0)
    for kind in (IMAGE_KEYS[key] for key in keys.tolist() if key in IMAGE_KEYS):   # others are invalid pictures
        sequence.append((kind, counts[kind]))
        counts[kind] += 1
    for number, kind in IMAGE_KEYS.items():
        if counts[kind]:
            stacks[kind] = _Stack(pictures, np.flatnonzero(keys == number))
    return stacks, sequence


def _our_contents(path: Path, file: Any, ours: Any, stacks: dict[Kind, Pictures], facts: Facts) -> Contents:
    sequence = _sequence(path, ours, stacks)
    lines = 0 if sequence is None else len(sequence)
    return Contents(
        name=_text(ours.attrs.get("acquisition")) or path.stem,
        stacks=stacks, close=file.close,
        pixel_size_nm=_positive(ours.attrs.get("pixel_size_nm")),
        exposure_s=_positive(ours.attrs.get("exposure_s")),
        angles_deg=facts.angles_deg, energies_ev=facts.energies_ev, exposures_s=facts.exposures_s, sequence=sequence,
        exposed_at=_times(find_dataset(ours, "exposed_at_s"), lines),
        views=_texts(find_dataset(ours, "view"), lines),
        recollects=_replaced(find_dataset(ours, "recollects"), lines),
    )


def _choose(path: Path, file: Any, dataset: str | None) -> Layout:
    """Find where the projections are."""
    if dataset is not None:
        found = find_dataset(file, dataset)
        if found is None or not _is_stack(found):
            what = "no such dataset" if found is None else f"it has shape {found.shape} and type {found.dtype}"
            raise RecordingError(f"{path}: dataset {dataset!r} is not a stack of pictures: {what}; {_listing(file)}")
        return Layout(dataset, f"{dataset}_white", f"{dataset}_dark", "exchange/theta")
    layout = find_nxtomo(file)
    if layout is not None:
        return layout
    for layout in LAYOUTS:
        found = find_dataset(file, layout.projection)
        if found is not None and _is_stack(found):
            return layout
    if any(find_dataset(file, name) is not None for name in (LAYOUTS[0].flat, LAYOUTS[0].dark)):
        return LAYOUTS[0]   # a file of flats or darks alone
    stacks = [found.name for found in all_datasets(file) if found.ndim == 3 and _is_stack(found)]
    if len(stacks) != 1:
        raise RecordingError(f"{path}: no exchange/data, and {len(stacks)} datasets could hold the pictures; name one "
                             f"as the dataset; {_listing(file)}")
    return Layout(stacks[0])


def _is_stack(dataset: Any) -> bool:
    return (dataset.dtype.kind in "buif" and dataset.ndim in (2, 3) and dataset.size > 0
            and dataset.dtype.subdtype is None)


def _listing(file: Any, *, most: int = 12) -> str:
    datasets = [f"{found.name.lstrip('/')} {found.shape} {found.dtype}" for found in all_datasets(file)]
    more = f" and {len(datasets) - most} more" if len(datasets) > most else ""
    return "datasets found: " + (", ".join(datasets[:most]) + more if datasets else "none")


def _sequence(path: Path, ours: Any, stacks: dict[Kind, Pictures]) -> Sequence[tuple[Kind, int]] | None:
    """Read the order in which the frames were taken: (total, 2) of kind and position in its stack."""
    found = find_dataset(ours, "sequence")
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


def _times(dataset: Any | None, count: int) -> NDArray[np.float64] | None:
    """Read Unix seconds, one per frame, NaN where it is not known; None when there is not one each."""
    if dataset is None or dataset.shape != (count,) or dataset.dtype.kind not in "uif":
        return None
    values: NDArray[np.float64] = dataset[()].astype(np.float64)
    return values


def _replaced(dataset: Any | None, count: int) -> list[int] | None:
    """Read which projection each line replaces; None when it is not told."""
    if dataset is None or dataset.shape != (count,) or dataset.dtype.kind not in "iu":
        return None
    return [int(index) for index in dataset[()]]


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
