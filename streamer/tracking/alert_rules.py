"""What a person is told of, and in which words: rules without memory.

Each returns the name of the rule, the severity and the text, or None while there is nothing to tell.
"""

from __future__ import annotations

from typing import NamedTuple

from streamer.records import Event, FrameRow, Leaving, Severity, StageMove

LONG_PX = 5.0
"""A single frame blurred by more than this is more than a nuisance."""
OVER = 1.5
"""A view is no longer being left when the forecast is this much longer than the limit."""
URGENT = 4
"""When the time until a view is left is down to this part of the limit, it is urgent."""
CALM = 0.8
"""The drift is calm again when it is slower than this share of the limit."""
ROOM = 1.1
"""There is room on the disk again when there is this much more than the limit."""

BAD_FRAMES = {"saturated": "saturated", "beam dump": "beam_dump", "no light": "beam_dump",
              "shutter half open": "beam_dump", "constant frame": "beam_dump", "empty beam": "empty_beam",
              "no structure": "empty_beam"}
"""How the reason for a frame without a usable image begins, and the rule that it belongs to."""
BAD_RULES = ("beam_dump", "empty_beam", "saturated", "bad_frame")
EVENT_SEVERITY: dict[str, Severity] = {
    "gap": "MAJOR", "dropped": "MAJOR", "lost": "MAJOR", "malformed": "MAJOR", "refused": "MAJOR",
    "duplicate": "MINOR", "out_of_order": "MINOR", "restart": "MINOR",
}
TAKEN = ("empty beam: taken as flat", "no light: taken as dark")
"""Of frames that show nothing of the sample because somebody took it out of the beam."""


class Found(NamedTuple):
    """What a rule has found."""

    rule: str
    severity: Severity
    text: str


def blurred_frame(row: FrameRow) -> Found | None:
    """Find a frame that is blurred, and surely so."""
    if row.verdict != "blurred" or row.provisional:
        return None
    angle_deg = round(row.blur_angle_deg or 0.0)
    where = "alike in all directions" if row.blur_shape == "defocus" else f"along {angle_deg} deg"
    text = f"frame {row.index} is blurred: {row.blur_length_px or 0.0:.1f} px {where}; take it again"
    return Found("blurred_frame", "MAJOR" if (row.blur_length_px or 0.0) > LONG_PX else "MINOR", text)


def bad_frame(row: FrameRow) -> Found | None:
    """Find a frame without a usable image, unless it was taken for a flat or a dark."""
    if row.verdict != "bad" or is_taken(row):
        return None
    rule = next((rule for start, rule in BAD_FRAMES.items() if row.problems.startswith(start)), "bad_frame")
    return Found(rule, "MAJOR", f"frame {row.index} has no usable image: {row.problems}")


def is_taken(row: FrameRow) -> bool:
    """Tell whether a projection was taken for a flat or a dark."""
    return any(text in row.problems for text in TAKEN)


def lost_registration(row: FrameRow, *, lost: bool) -> Found | None:
    """Find that the drift has been unknown for several frames."""
    text = f"frame {row.index} shares too little with the reference; its drift is not known"
    return Found("lost_registration", "MAJOR", text) if lost else None


def jump(row: FrameRow, jump_px: float | None, *, limit_px: float) -> Found | None:
    """Find that the sample moved far between two frames."""
    if jump_px is None or jump_px <= limit_px:
        return None
    return Found("jump", "MINOR", f"the sample jumped by {jump_px:.0f} px at frame {row.index}")


def event(happened: Event) -> Found | None:
    """Judge something that happened to the stream."""
    severity = EVENT_SEVERITY.get(happened.kind)
    return None if severity is None else Found(happened.kind, severity, happened.text)


def leaving_view(forecast: Leaving, stage: StageMove | None, *, index: int, limit: int) -> Found:
    """Say when the region of interest leaves the field of view, how surely, and what would help."""
    low, high = (None if value is None else round(value) for value in (forecast.frames_low, forecast.frames_high))
    surely = f" (90 %: {low} to {'far' if high is None else high})"
    left = forecast.frames or 0.0
    text = (f"the region of interest leaves the field of view in about {left:.0f} frames{surely}, "
            f"{100 * forecast.visible_share:.0f} % of it is visible at frame {index}")
    if stage is not None:
        text += f"; advice only: moving the stage by y {stage.y_um:+.2f} um, x {stage.x_um:+.2f} um brings it back"
    return Found("leaving_view", "MAJOR" if left <= limit / URGENT else "MINOR", text)
