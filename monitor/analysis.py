"""What the streamer says of a field beside its arrays: regions, particles, representative volume. No Qt.

A streamer of another version may leave things out or send other ones: what cannot be read is not there.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import numpy as np

from streamer.records import FlowResult


class Region(msgspec.Struct, frozen=True, kw_only=True):
    """A part that moves as a whole."""

    number: int
    displacement_y_px: float
    displacement_x_px: float
    points: int = 0
    rotation_deg: float | None = None
    """From +x towards +y."""


class Particle(msgspec.Struct, frozen=True, kw_only=True):
    """One particle and its motion; errors are 1 sigma."""

    number: int
    centre_y_px: float
    centre_x_px: float
    """In the reference frame."""
    area_px2: float | None = None
    displacement_y_px: float | None = None
    displacement_x_px: float | None = None
    sigma_y_px: float | None = None
    sigma_x_px: float | None = None
    rotation_deg: float | None = None
    rotation_sigma_deg: float | None = None
    valid: bool = True


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """How much random boxes differ, against their size."""

    size_px: list[float]
    amplitude_deviation_px: list[float | None]
    direction_deviation_deg: list[float | None]
    amplitude_settled_px: float | None = None
    direction_settled_px: float | None = None
    mean_amplitude_px: float | None = None

    @property
    def minimum_px(self) -> float | None:
        """Smallest box that both amplitude and direction have settled in; None if one never does."""
        both = [size for size in (self.amplitude_settled_px, self.direction_settled_px)
                if size is not None and np.isfinite(size)]
        return max(both) if len(both) == 2 else None


_Record = TypeVar("_Record", bound=msgspec.Struct)


def regions_of(flow: FlowResult) -> list[Region]:
    """Return the regions of a field."""
    return _list(flow, "regions", Region)


def particles_of(flow: FlowResult) -> list[Particle]:
    """Return the particles of a field."""
    return _list(flow, "particles", Particle)


def reason_of(flow: FlowResult, name: str) -> str:
    """Return why there are none of ``regions`` or ``particles``, or not all; empty text if that is not said."""
    return str((flow.analysis or {}).get(f"{name}_reason") or "")


def volume_of(flow: FlowResult) -> Volume | None:
    """Return the representative volume of a field."""
    found = _read((flow.analysis or {}).get("representative_volume"), Volume)
    if found is None or not len(found.size_px) == len(found.amplitude_deviation_px) == len(
            found.direction_deviation_deg):
        return None
    return found


def _list(flow: FlowResult, name: str, kind: type[_Record]) -> list[_Record]:
    every = (flow.analysis or {}).get(name)
    found = [_read(each, kind) for each in every] if isinstance(every, list) else []
    return [each for each in found if each is not None]


def _read(value: Any, kind: type[_Record]) -> _Record | None:
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        return None
