"""Numbers in words, the same everywhere on the screen. No Qt."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from streamer.records import Accounting, FrameRow

DASH = "–"
MOST_DECIMALS = 4
"""What is compared with itself has errors of nearly nothing."""


def verdict_word(row: FrameRow) -> str:
    """Return the verdict; a row without one is ``refused`` if it has problems, else its kind."""
    if row.verdict is not None:
        return row.verdict
    return "refused" if row.problems else row.kind


def value(number: float | None, *, digits: int = 1, unit: str = "", signed: bool = False) -> str:
    """Write a number with its unit, a dash where there is none."""
    if number is None or not math.isfinite(number):
        return DASH
    rounded = round(number, digits) + 0.0   # no "-0"
    return f"{rounded:{'+' if signed else ''}.{digits}f}{' ' + unit if unit else ''}"


def decimals(sigma: float | None, *, otherwise: int = 2) -> int:
    """Return how many decimals a number with this error deserves: the error keeps one, two if it begins with 1.

    >>> decimals(0.034), decimals(0.13), decimals(7.0), decimals(None)
    (2, 2, 0, 2)
    """
    if sigma is None or not math.isfinite(sigma) or sigma <= 0:
        return otherwise
    power = math.floor(math.log10(sigma))
    leading = round(sigma / 10.0**power, 1)
    return min(max((1 if leading < 2 else 0) - power, 0), MOST_DECIMALS)


def measured(number: float | None, sigma: float | None, unit: str = "", *, signed: bool = False) -> str:
    """Write a number and its error, both to the digits that the error leaves.

    >>> measured(1.23456, 0.034, "px"), measured(12.3, 2.6, "nm"), measured(1.0, None, "px")
    ('1.23 ± 0.03 px', '12 ± 3 nm', '1.00 px')
    """
    if number is None or not math.isfinite(number):
        return DASH
    digits = decimals(sigma)
    if sigma is None or not math.isfinite(sigma):
        return value(number, digits=digits, unit=unit, signed=signed)
    return f"{value(number, digits=digits, signed=signed)} ± {value(sigma, digits=digits, unit=unit)}"


def both_units(number_px: float, pixel_size_nm: float | None, *, sigma_px: float | None = None,
               signed: bool = False) -> str:
    """Write a length in pixels and, if their size is known, in nm or um, with the digits that its error leaves.

    >>> both_units(1.234, 21.0, sigma_px=0.05), both_units(120.0, 21.0, sigma_px=1.3), both_units(3.0, None)
    ('1.23 px (25.9 nm)', '120.0 px (2.52 µm)', '3.00 px')
    """
    text = value(number_px, digits=decimals(sigma_px), unit="px", signed=signed)
    if not pixel_size_nm or not math.isfinite(number_px):
        return text
    nm = number_px * pixel_size_nm
    error = (max(0.01, 0.005 * abs(number_px)) if sigma_px is None else sigma_px) * pixel_size_nm
    scale, unit = (1e-3, "µm") if abs(nm) >= 1000 else (1.0, "nm")
    return f"{text} ({value(nm * scale, digits=decimals(abs(error) * scale), unit=unit, signed=signed)})"


def blur(row: FrameRow, pixel_size_nm: float | None) -> str:
    """Write length and error of the blur, in pixels and, if it is known how, in nm."""
    length, sigma = row.blur_length_px, row.blur_length_sigma_px
    if length is None:
        return DASH
    text = value(length, unit="px") if sigma is None else measured(length, sigma, "px")
    if pixel_size_nm:
        digits = decimals(sigma * pixel_size_nm if sigma is not None else None, otherwise=0)
        text += f" ({value(length * pixel_size_nm, digits=digits, unit='nm')})"
    return text


def half_period(length_px: float | None, sigma_px: float | None, pixel_size_nm: float | None) -> str:
    """Write a resolution in nm, in px where the size of a pixel is not known; one without an error is a limit."""
    if length_px is None:
        return DASH
    unit, scale, digits = ("nm", pixel_size_nm, 0) if pixel_size_nm else ("px", 1.0, 2)
    if sigma_px is None:
        return f"< {value(length_px * scale, digits=digits, unit=unit)}"
    return f"{value(length_px * scale, digits=digits)} ± {value(sigma_px * scale, digits=digits, unit=unit)}"


def length_um(length_px: float | None, pixel_size_nm: float | None, *, sigma_px: float | None = None) -> str:
    """Write a signed length in micrometres with the digits that its error leaves, empty if there is no pixel size.

    >>> length_um(-153.6, 33.24, sigma_px=0.3), length_um(1.0, 20.0), length_um(1.0, None)
    ('-5.106 µm', '+0.02 µm', '')
    """
    if length_px is None or not pixel_size_nm:
        return ""
    digits = decimals(sigma_px * pixel_size_nm / 1000 if sigma_px is not None else None)
    digits = min(digits, 3)   # no fractions of a nm
    return value(length_px * pixel_size_nm / 1000, digits=digits, unit="µm", signed=True)


def duration(seconds: float) -> str:
    """Write how long something lasted, in the largest unit that fits.

    >>> duration(40.0), duration(5400.0), duration(86400.0 * 600)
    ('40 s', '1.5 h', '600 days')
    """
    for length, unit in ((2 * 86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= length:
            size = 86400.0 if unit == "days" else length
            return f"{value(seconds / size, digits=1 if unit == 'h' else 0)} {unit}"
    return f"{seconds:.0f} s"


def came_late_s(row: FrameRow | None) -> float | None:
    """Return how long after its exposure a frame came; None where that is not known."""
    if row is None:
        return None
    try:
        exposed, received = (datetime.fromisoformat(at or "") for at in (row.exposed_at, row.received_at))
        return (received - exposed).total_seconds()
    except (ValueError, TypeError):
        return None


def clock(at: str | None) -> str:
    """Write the local time of day of a moment in ISO 8601."""
    try:
        return datetime.fromisoformat(at or "").astimezone().strftime("%H:%M:%S.%f")[:-5]
    except ValueError:
        return DASH


def indices(numbers: Iterable[Any], *, most: int = 12) -> str:
    """Write frame numbers and ranges of them, the first ones only.

    >>> indices([5, [9, 10]])
    '5, 9-10'
    """
    written = [f"{item[0]}-{item[1]}" if isinstance(item, Sequence) else str(item) for item in numbers]
    return ", ".join(written[:most]) + (f" and {len(written) - most} more" if len(written) > most else "")


def detail(row: FrameRow, pixel_size_nm: float | None, *, replaced_by: int | None = None) -> str:
    """Write all that is known of a frame in one line."""
    name = f"Frame {row.index}"
    about = ", ".join(word for word in (row.acquisition, f"view {row.view}" if row.view else "") if word)
    parts = [f"{name} ({about})" if about else name, clock(row.exposed_at or row.received_at), verdict_word(row)]
    if row.provisional and row.verdict is not None:
        parts[-1] += " (provisional)"
    if row.blur_length_px is not None:
        angle = f" at {round(row.blur_angle_deg)}°" if row.blur_angle_deg is not None else ""
        parts.append(f"blur {blur(row, pixel_size_nm)}{angle}")
    if row.blur_limit_px is not None:
        parts.append(f"limit {value(row.blur_limit_px, unit='px')}")
    if row.drift_y_px is not None:
        digits = decimals(row.drift_sigma_px)
        y, x = (value(drift, digits=digits, signed=True) for drift in (row.drift_y_px, row.drift_x_px))
        sigma = value(row.drift_sigma_px, digits=digits, unit="px")
        parts.append(f"drift y {y}, x {x} ± {sigma} against frame {row.reference_index}")
    if row.flow_median_px is not None:
        parts.append(f"flow {value(row.flow_median_px, digits=2)} px (95 %: {value(row.flow_p95_px, digits=2)})")
    if row.recollects is not None:
        parts.append(f"replaces frame {row.recollects}")
    if replaced_by is not None:
        parts.append(f"taken again as frame {replaced_by}")
    if row.problems:
        parts.append(row.problems)
    return " · ".join(parts)


def accounting(counts: Accounting) -> str:
    """Write every bucket that is not empty, a line each, with the first frame numbers."""
    lines = [f"received {counts.received}, measured {counts.measured}"]
    for name in ("missing", "dropped", "duplicate", "out_of_order", "malformed", "refused", "restarts"):
        tally = getattr(counts, name)
        if tally.count:
            named = indices(tally.indices)
            lines.append(f"{name.replace('_', ' ')}: {tally.count}" + (f" (frames {named})" if named else ""))
    return "\n".join(lines)
