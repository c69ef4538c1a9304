"""Records as the journal keeps them: fields and spectra as bytes, powers as logarithms of two bytes each."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.records import FloatArray, FlowResult, Recollection, SpectraResult

LOWEST = -14.0
HIGHEST = 6.0
"""Limits of log10(power); 0.04 % lie between one step and the next half."""

_STEPS = 65534
_POWERS = ("horizontal", "vertical", "reference_horizontal", "reference_vertical", "noise_horizontal", "noise_vertical")


def pack_power(power: FloatArray) -> bytes:
    """Write powers as little-endian uint16; 0 stands for 0 and less, others are good to 0.04 %."""
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = (np.log10(power) - LOWEST) * (_STEPS / (HIGHEST - LOWEST))
    codes = np.where(power > 0, 1.0 + np.clip(np.rint(steps), 0, _STEPS), 0.0)
    return codes.astype("<u2").tobytes()


def unpack_power(data: bytes) -> FloatArray:
    """Read what `pack_power` wrote, (n,) float32."""
    codes = np.frombuffer(data, "<u2").astype(np.float64)
    power = 10.0 ** (LOWEST + (codes - 1.0) * ((HIGHEST - LOWEST) / _STEPS))
    return np.where(codes > 0, power, 0.0).astype(np.float32)


def grey_levels(power: FloatArray) -> tuple[NDArray[np.uint8], float, float]:
    """Turn powers into grey levels.

    Parameters
    ----------
    power : (K, L) float32 array

    Returns
    -------
    levels : (K, L) uint8 array
        ``log10(power) = low + (high - low) * levels / 255``; 0 where there is no power.
    low, high : float
    """
    positive = power > 0
    if not positive.any():
        return np.zeros(power.shape, np.uint8), 0.0, 0.0
    decades = np.log10(power, out=np.full(power.shape, np.nan, np.float32), where=positive)
    low, high = float(np.nanmin(decades)), float(np.nanmax(decades))
    levels = np.where(positive, (decades - low) * (255 / ((high - low) or 1.0)), 0.0)
    return np.rint(levels).astype(np.uint8), low, high


def pack_recollection(request: Recollection) -> list[Any]:
    """Make the row of a request."""
    stage = None if request.stage is None else msgspec.json.encode(request.stage).decode()
    return [*(msgspec.structs.asdict(request) | {"stage": stage}).values()]


def pack_flow(flow: FlowResult) -> tuple[Any, ...]:
    """Make the row of a displacement field."""
    return (flow.acquisition, flow.index, flow.view, flow.reference_index, flow.drift_y_px, flow.drift_x_px,
            *flow.valid.shape, _bytes(flow.grid_y_px), _bytes(flow.grid_x_px), _bytes(flow.displacement_px),
            np.packbits(flow.valid).tobytes(), _bytes(flow.sigma_px), flow.flow_median_px, flow.flow_p95_px,
            flow.elapsed_ms)


def pack_analysis(flow: FlowResult) -> tuple[Any, ...]:
    """Make the row of what was found in a field."""
    return (flow.view, flow.acquisition, flow.index, np.ascontiguousarray(flow.regions, "<i2").tobytes(),
            msgspec.json.encode(flow.analysis).decode())


def _bytes(array: np.ndarray[Any, Any]) -> bytes:
    return np.ascontiguousarray(array, "<f4").tobytes()


def unpack_flow(values: Sequence[Any]) -> FlowResult:
    """Make a displacement field of its row."""
    (acquisition, index, view, reference, drift_y, drift_x, rows, columns, grid_y, grid_x, displacement, valid,
     sigma, median, p95, elapsed) = values
    bits = np.unpackbits(np.frombuffer(valid, np.uint8), count=rows * columns)
    return FlowResult(
        acquisition=acquisition, index=index, view=view, reference_index=reference, drift_y_px=drift_y,
        drift_x_px=drift_x, grid_y_px=np.frombuffer(grid_y, "<f4"), grid_x_px=np.frombuffer(grid_x, "<f4"),
        displacement_px=np.frombuffer(displacement, "<f4").reshape(2, rows, columns),
        valid=bits.astype(bool).reshape(rows, columns), sigma_px=np.frombuffer(sigma, "<f4").reshape(rows, columns),
        flow_median_px=median, flow_p95_px=p95, elapsed_ms=elapsed)


def pack_spectra(spectra: SpectraResult) -> list[Any]:
    """Make a row of little more than 2 kB: logarithmic powers, a compressed picture."""
    fields = msgspec.structs.asdict(spectra)
    for name in _POWERS:
        fields[name] = None if fields[name] is None else pack_power(fields[name])
    return [*(fields | {"picture": zlib.compress(spectra.picture.tobytes())}).values()]


def unpack_spectra(values: Sequence[Any]) -> SpectraResult:
    """Make spectra of their row."""
    fields = dict(zip(SpectraResult.__struct_fields__, values, strict=True))
    for name in _POWERS:
        fields[name] = None if fields[name] is None else unpack_power(fields[name])
    cells = np.frombuffer(zlib.decompress(fields["picture"]), np.uint8)
    side = math.isqrt(2 * cells.size)   # K rows of K / 2 cells
    return SpectraResult(**(fields | {"picture": cells.reshape(side, -1)}))
