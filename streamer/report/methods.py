"""The methods paragraph of a paper, in words that the settings and the session fill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Facts(NamedTuple):
    """What is told of a session; None: not known."""

    frames: int
    blurred: int
    taken_again: int
    flats: int
    darks: int
    pattern: str
    """Where the correction comes from, as `records.CalibrationState.pattern`."""
    photons_per_px: float | None
    reference: int | None
    drift_sigma_px: float | None
    """Median of the predicted error per axis."""
    flow_sigma_px: float | None
    """Median over the points of the field that is shown."""
    pixel_size_nm: float | None
    settings: Mapping[str, Any]
    """As in summary.json."""
    settings_revision: int
    versions: Mapping[str, Any]


def paragraph(facts: Facts) -> str:
    """Write it."""
    blur, flow = facts.settings["blur"], facts.settings["flow"]
    smoothing, step = flow["smoothing_px"], flow["step_px"]
    texts = [_correction(facts)]
    again = (f", and {facts.taken_again} of the frames shown were taken again in the place of others"
             if facts.taken_again else "")
    texts.append(
        "Each frame was screened for blur by comparing its power spectrum with that of the sharp frames around it; the "
        "additional point-spread function was described by a 2 x 2 covariance, whose largest eigenvalue v gives the "
        "length sqrt(12 v). A frame was called blurred when its blur was longer than "
        f"{blur['shortest_px']:g} px at a significance of {blur['score_threshold']:g} sigma; of {facts.frames} frames "
        f"{facts.blurred} were{again}.")
    error = "" if facts.drift_sigma_px is None else (
        f" (predicted error per axis, median: {facts.drift_sigma_px:.2g} px)")
    start = "the first usable frame" if facts.reference is None else f"frame {facts.reference}"
    texts.append(f"Frames were registered rigidly, to a fraction of a pixel, against {start} by way of a graph of key "
                 f"frames{error}; the drift was split into a smooth trend and the jitter that is left.")
    if flow["enabled"]:
        error = "" if facts.flow_sigma_px is None else f"; median predicted error per axis {facts.flow_sigma_px:.2g} px"
        texts.append(
            "What is displaced beyond the drift was measured by dense inverse search (Kroeger et al., 2016) on minus "
            f"the logarithm of the frames, smoothed with a Gaussian of {smoothing:g} px, refined by inverse-"
            "compositional Gauss-Newton steps (Baker & Matthews, 2004) in Gaussian windows from 24 to 5 px, and read "
            f"every {step} px{error}. Strain is the slope of planes fitted in windows of 40 px; regions that move as "
            "one were found by Ward's method on the graph of neighbours.")
    if facts.pixel_size_nm:
        texts.append(f"A pixel is {facts.pixel_size_nm:.4g} nm on the sample.")
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items() if version)
    texts.append(f"Software: {versions}; settings revision {facts.settings_revision}.")
    return " ".join(texts)


def _correction(facts: Facts) -> str:
    light = "" if not facts.photons_per_px else f" ({facts.photons_per_px:.3g} photons per pixel in the open beam)"
    if facts.pattern == "flats":
        darks = f" and {facts.darks} darks" if facts.darks else ""
        return f"Frames were corrected by the running mean of {facts.flats} flats{darks}{light}."
    if facts.pattern == "estimated":
        return ("No flats were recorded; the pattern that stays on the detector was estimated from the frames "
                f"themselves and divided out{light}.")
    return f"No flats were recorded; frames were analysed as they came{light}."


def changed_settings(settings: Mapping[str, Any], usual: Mapping[str, Any], *, prefix: str = "") -> list[list[str]]:
    """List the settings that differ: name, value, usual value."""
    found = []
    for name in dict.fromkeys((*settings, *usual)):
        own, other = settings.get(name), usual.get(name)
        if isinstance(own, Mapping) and isinstance(other, Mapping):
            found += changed_settings(own, other, prefix=f"{prefix}{name}.")
        elif own != other and not isinstance(own, Mapping) and not isinstance(other, Mapping):
            found.append([prefix + name, _told(own), _told(other)])
    return found


def _told(value: Any) -> str:
    return "not set" if value is None else str(value)
