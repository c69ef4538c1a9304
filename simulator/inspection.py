"""What a recording is, and what would be streamed of it, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from streamer.formats import Recording
from streamer.records import KINDS, Frame, Refusal

MOST_VIEWS = 8


def describe(recording: Recording) -> Iterator[str]:
    """Read a recording through and yield what there is to say of it, a line each; one picture is in memory at a time.

    Parameters
    ----------
    recording : Recording
        Open.
    """
    frames: list[Frame] = []
    refusals: list[Refusal] = []
    shapes: Counter[str] = Counter()
    for item in recording.frames():
        if isinstance(item, Frame):
            rows, columns = item.pixels.shape
            shapes[f"{rows} x {columns} px, {item.pixels.dtype.name}"] += 1
            frames.append(msgspec.structs.replace(item, pixels=item.pixels[:0].copy()))
        else:
            refusals.append(item)
    shots = [frame for frame in frames if frame.kind == "projection"]
    yield f"{recording.path}: {recording.format}"
    yield f"frames: {', '.join(f'{count} of {what}' for what, count in shapes.most_common()) or 'none can be read'}"
    counts = Counter(frame.kind for frame in frames)
    yield "kinds: " + ", ".join(f"{counts[kind]} {kind}{'' if counts[kind] == 1 else 's'}" for kind in KINDS)
    yield f"acquisition: {recording.name}"
    yield f"pixel size: {'not known' if recording.pixel_size_nm is None else f'{recording.pixel_size_nm:.5g} nm'}"
    yield f"angles: {_span([frame.angle_deg for frame in shots], 'deg')}"
    yield f"energies: {_span([frame.energy_ev for frame in shots], 'eV')}"
    yield f"exposures: {_span([frame.exposure_s for frame in shots], 's')}"
    yield f"taken: {_times([frame.exposed_at for frame in shots])}"
    yield f"views: {_views(Counter(frame.view for frame in shots))}"
    yield f"order: {_order([frame.kind for frame in frames])}"
    for refusal in refusals:
        yield f"unreadable: {refusal.reason}"


def _span(values: Sequence[float | None], unit: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "not known"
    several = len({round(value, 6) for value in known})
    missing = f"; not known of {len(values) - len(known)} frames" if len(known) < len(values) else ""
    if several == 1:
        return f"{known[0]:.7g} {unit}{missing}"
    return f"{min(known):.7g} to {max(known):.7g} {unit}, {several} different{missing}"


def _times(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "not known; a replay at --speed has nothing to follow, use --rate"
    first, last = (datetime.fromtimestamp(value, UTC) for value in (min(known), max(known)))
    return f"{first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC"


def _views(counts: Counter[str]) -> str:
    if set(counts) <= {""}:
        return "one, without a name: all frames are tracked together"
    named = ", ".join(f"{name or 'no name'!r} ({count})" for name, count in list(counts.items())[:MOST_VIEWS])
    return f"{len(counts)}: {named}" + (f" and {len(counts) - MOST_VIEWS} more" if len(counts) > MOST_VIEWS else "")


def _order(kinds: Sequence[str]) -> str:
    """Write runs of equal kinds, such as ``2 darks, 5 flats, 56 projections``."""
    runs: list[tuple[str, int]] = []
    for kind in kinds:
        if runs and runs[-1][0] == kind:
            runs[-1] = kind, runs[-1][1] + 1
        else:
            runs.append((kind, 1))
    named = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in runs[:MOST_VIEWS])
    return named + (f" and {len(runs) - MOST_VIEWS} more changes" if len(runs) > MOST_VIEWS else "")
