"""Where facilities keep pictures and facts in HDF5 files.

NXtomo: NeXus International Advisory Committee, definition NXtomo. FXI: Ge et al., Appl. Phys. Lett. 113, 083501 (2018),
:doi:`10.1063/1.5048378`; its files name no pixel size, but a magnification of a 6500 nm camera pixel.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from streamer.records import Kind

EPICS_EPOCH_S = 631_152_000.0
"""1990-01-01 in Unix seconds: areaDetector counts from there."""
FXI_CAMERA_NM = 6500.0
IMAGE_KEYS: dict[int, Kind] = {0: "projection", 1: "flat", 2: "dark"}
"""Of NXtomo; anything else is an invalid picture."""

_NM = {"nm": 1.0, "um": 1e3, "µm": 1e3, "μm": 1e3, "micron": 1e3, "microns": 1e3, "mm": 1e6, "m": 1e9, "meter": 1e9,
       "nanometer": 1.0, "micrometer": 1e3}
_EV = {"ev": 1.0, "kev": 1e3}
_S = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3}
_DEG = {"deg": 1.0, "degree": 1.0, "degrees": 1.0, "rad": 180 / np.pi, "radian": 180 / np.pi, "radians": 180 / np.pi}
_NUMBER = re.compile(r"\s*([0-9.eE+-]+)\s*([a-zA-Zµμ]*)")


class Layout(NamedTuple):
    """Names of datasets; empty where there is none."""

    projection: str
    flat: str = ""
    dark: str = ""
    angle: str = ""
    key: str = ""
    """One number per picture that says what it is; `projection` then holds all kinds."""
    detector: str = ""
    """Group of an NXdetector."""


LAYOUTS = (
    Layout("exchange/data", "exchange/data_white", "exchange/data_dark", "exchange/theta"),
    Layout("img_tomo", "img_bkg", "img_dark", "angle"),        # NSLS-II FXI, tomography
    Layout("img_xanes", "img_bkg", "img_dark", "angle"),       # NSLS-II FXI, spectroscopy
    Layout("entry/data/data"),                                 # areaDetector
    Layout("endata/data"),                                     # areaDetector as it is set up at FXI
)


class Facts(NamedTuple):
    """What a file says of its pictures; arrays have one number per picture of the projections' dataset."""

    angles_deg: NDArray[np.float64] | None = None
    energies_ev: NDArray[np.float64] | None = None
    exposures_s: NDArray[np.float64] | None = None
    exposed_at: NDArray[np.float64] | None = None
    pixel_size_nm: float | None = None


def dataset(group: Any, name: str) -> Any | None:
    """Return a dataset, or None when there is none or its link is broken."""
    if not name:
        return None
    try:
        found = group.get(name)
    except (KeyError, OSError, ValueError):
        return None
    return found if isinstance(found, h5py.Dataset) else None


def all_datasets(file: Any) -> list[Any]:
    """List every dataset of a file."""
    found: list[Any] = []
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found


def find_nxtomo(file: Any) -> Layout | None:
    """Find a detector with pictures and a key that tells projections, flats and darks apart."""
    for one in all_datasets(file):
        group, _, name = one.name.rpartition("/")
        pictures = dataset(file, f"{group}/data")
        if name == "image_key" and pictures is not None and pictures.ndim == 3 and one.shape == pictures.shape[:1]:
            entry = group.rpartition("/instrument/")[0]
            return Layout(f"{group}/data", angle=f"{entry}/sample/rotation_angle", key=one.name, detector=group)
    return None


def read_facts(file: Any, layout: Layout, count: int) -> Facts:
    """Read what is known of `count` pictures."""
    entry = layout.detector.rpartition("/instrument/")[0]
    energies = _per_picture(file, count, _EV, "keV", (
        "X_eng", "measurement/instrument/monochromator/energy", f"{entry}/instrument/beam/incident_energy",
        f"{entry}/beam/incident_energy"))
    exposures = _per_picture(file, count, _S, "s", (
        "measurement/instrument/detector/exposure_time", layout.detector and f"{layout.detector}/count_time"))
    return Facts(
        angles_deg=_per_picture(file, count, _DEG, "deg", (layout.angle,), spread=False),
        energies_ev=energies if energies is not None and (energies > 0).all() else None,
        exposures_s=exposures if exposures is not None and (exposures > 0).all() else None,
        exposed_at=_times(file, count), pixel_size_nm=_pixel_size(file, layout))


def _times(file: Any, count: int) -> NDArray[np.float64] | None:
    """Read the times that areaDetector stores with its pictures."""
    found = dataset(file, "entry/instrument/NDAttributes/NDArrayTimeStamp")
    if found is None or found.shape != (count,) or found.dtype.kind not in "uif":
        return None
    times: NDArray[np.float64] = found[()].astype(np.float64) + EPICS_EPOCH_S
    return times if np.isfinite(times).all() and (times > EPICS_EPOCH_S).all() else None


def _pixel_size(file: Any, layout: Layout) -> float | None:
    candidates = ((layout.detector and f"{layout.detector}/x_pixel_size", "m"), ("Pixel Size", "nm"),
                  ("measurement/instrument/detection_system/objective/resolution", "um"))
    for name, unit in candidates:
        size = _quantity(dataset(file, name), _NM, unit)
        if size is not None and size.size == 1 and 0 < size[0] < np.inf:
            return float(size[0])
    magnification = _quantity(dataset(file, "Magnification"), {"": 1.0}, "")
    if magnification is not None and magnification.size == 1 and 0 < magnification[0] < np.inf:
        return FXI_CAMERA_NM / float(magnification[0])
    return None


def _per_picture(
    file: Any, count: int, units: Mapping[str, float], unit: str, names: Iterable[str], *, spread: bool = True,
) -> NDArray[np.float64] | None:
    """Read finite numbers, one per picture; a single one holds for all if `spread`."""
    for name in names:
        values = _quantity(dataset(file, name), units, unit)
        if values is None:
            continue
        if values.size == 1 and spread:
            values = np.repeat(values, count)
        if values.shape == (count,) and np.isfinite(values).all():
            return values
    return None


def _quantity(found: Any | None, units: Mapping[str, float], unit: str) -> NDArray[np.float64] | None:
    """Read numbers in the unit of the table, from numbers with an attribute or from a text such as ``"21 nm"``."""
    if found is None:
        return None
    value = found[()]
    named = found.attrs.get("units", unit)
    if isinstance(value, bytes | str):
        match = _NUMBER.fullmatch(value.decode("utf-8", "replace") if isinstance(value, bytes) else value)
        if match is None:
            return None
        value, named = match[1], match[2] or named
    named = named.decode("utf-8", "replace") if isinstance(named, bytes) else str(named)
    scale = units.get(named.strip().lower(), units.get(unit.lower(), 1.0) if named.strip() == "" else None)
    try:
        numbers = np.atleast_1d(np.asarray(value, np.float64))
    except (TypeError, ValueError):
        return None
    if scale is None or numbers.ndim != 1:
        return None
    scaled: NDArray[np.float64] = numbers * scale
    return scaled
