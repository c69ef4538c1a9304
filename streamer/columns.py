"""Which columns of a row the results of the trackers fill."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamer.imaging.resolution import Resolution
from streamer.tracking.drift import DriftResult
from streamer.tracking.sharpness import SharpnessResult


def _taken(result: object, names: tuple[str, ...]) -> dict[str, Any]:
    """Take columns of a row from a tracker's result, as plain numbers."""
    values = {name: getattr(result, name) for name in names}
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}


def blur_columns(result: SharpnessResult) -> dict[str, Any]:
    """Columns of the verdict and of the blur."""
    return _taken(result, ("verdict", "provisional", "blur_length_px", "blur_length_sigma_px", "blur_angle_deg",
                             "blur_score", "blur_limit_px", "psf_group", "blur_shape", "blur_gauge_px2"))


def drift_columns(result: DriftResult) -> dict[str, Any]:
    """Columns of the drift."""
    return _taken(result, ("drift_y_px", "drift_x_px", "drift_sigma_px", "rotation_deg", "trend_y_px", "trend_x_px",
                             "jitter_y_px", "jitter_x_px", "registration_quality", "reference_index"))


def resolution_columns(found: Resolution, pixel_size_nm: float | None) -> dict[str, Any]:
    """Lengths on the sample; nothing without the size of a pixel."""
    if not pixel_size_nm:
        return {}
    return {f"resolution_{name.removesuffix('_px')}_nm": None if value is None else value * pixel_size_nm
            for name, value in found._asdict().items()}
