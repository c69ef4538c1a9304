"""What is to be seen of the selected frame, or of the newest: picked from the scene and from the shelf."""

from __future__ import annotations

from typing import NamedTuple

from monitor.modes import Material, Mode
from monitor.panels.base import Scene
from monitor.rows import Key
from monitor.shelf import NOTHING, Found
from monitor.store import Extra, Picture
from streamer.records import CalibrationState, FlowResult, FrameRow

_ALONE = Found(why="pictures of earlier frames cannot be asked for here")


class Look(NamedTuple):
    """A frame to be shown."""

    key: Key
    picture: Found
    row: FrameRow | None
    flow: Found
    drift: tuple[float, float]
    """Where the grid of the field lies on the picture."""
    chosen: bool
    """Somebody selected it; otherwise it is the newest one."""


def key_of(thing: Picture | FlowResult) -> Key:
    """Return what names the frame of a picture or field."""
    return Key(thing.acquisition, thing.index)


def look(scene: Scene, *, with_flow: bool, extra: Extra | None = None) -> Look | None:
    """Find the frame to be shown, with a field that has an extra if possible; None before there is any."""
    live = scene.picture if scene.picture is not None and scene.picture.image is not None else None
    if scene.selected is None and live is None:
        return None
    key = scene.selected or key_of(live)   # type: ignore[arg-type]
    if live is not None and key_of(live) == key:
        picture = Found(live)
    else:
        picture = scene.shelf.picture(key, place="frame") if scene.shelf is not None else _ALONE
    row = scene.store.row(key)
    flow = _flow(scene, key, picture.thing, extra) if with_flow else NOTHING
    return Look(key, picture, row, flow, _place(scene, flow.thing, row), scene.selected is not None)


def material(scene: Scene, seen: Look, mode: Mode, *, other: bool) -> Material:
    """Collect what a mode needs to show a frame whose picture is here."""
    picture, shelf = seen.picture.thing, scene.shelf
    raw = reference = NOTHING
    if "raw" in mode.needs:
        raw = shelf.picture(seen.key, place="raw", kind="raw") if shelf is not None else _ALONE
    if "reference" in mode.needs:
        reference = _reference(scene, seen)
    drift = None
    if "reference" in mode.needs:
        drift = drift_between(scene, seen.row, _reference_index(scene, seen))
    flows = "flow" in mode.needs
    return Material(
        picture=picture, raw=raw, reference=reference, drift=drift,
        flow=seen.flow if flows else NOTHING, flow_drift=seen.drift if flows else (0.0, 0.0),
        spectra=picture.spectra if "spectra" in mode.needs else None, other=other,
        pixel_size_nm=picture.pixel_size_nm or scene.pixel_size_nm,
        corrected=correction_words(scene.status.calibration) if scene.status is not None else "corrected")


def correction_words(by: CalibrationState) -> str:
    """Say what is taken out of the pictures.

    >>> [correction_words(CalibrationState(**fields)) for fields in ({"pattern": "flats", "flats": 8, "darks": 1}, {})]
    ['corrected by 8 flats and 1 dark', 'not corrected: no flats yet']
    """
    counts = [f"{count} {name}{'s' * (count != 1)}" for name, count in (("flat", by.flats), ("dark", by.darks))
              if count]
    if by.pattern == "estimated":
        return " and ".join(["corrected by what stays on the detector while the sample moves", *counts])
    if by.flats:
        return f"corrected by {' and '.join(counts)}"
    return f"corrected by {counts[0]} alone: no flats yet" if counts else "not corrected: no flats yet"


def _reference_index(scene: Scene, seen: Look) -> int | None:
    """Return the frame to compare with: that of the displacement fields of the view, else of the drift.

    The drift is measured against newer and newer frames while the sample moves on; the fields keep theirs.
    """
    flow = scene.flow
    if flow is not None and seen.row is not None and (flow.acquisition, flow.view) == (seen.key.acquisition,
                                                                                       seen.row.view):
        return flow.reference_index
    return seen.row.reference_index if seen.row is not None else None


def _reference(scene: Scene, seen: Look) -> Found:
    """Return the picture of the frame that this one is compared with."""
    index = _reference_index(scene, seen)
    if seen.row is None or index is None:
        return Found(why=f"frame {seen.key.index} has no reference: its drift could not be measured"
                     if seen.row is not None else "what was measured of this frame is not here yet")
    key = Key(seen.key.acquisition, index)
    if key == seen.key:
        return seen.picture
    if scene.shelf is None:
        return _ALONE
    found = scene.shelf.picture(key, place="reference")
    return found if found.thing is not None else Found(why=f"the reference's picture is not here yet: {found.why}")


def drift_between(scene: Scene, row: FrameRow | None, index: int | None) -> tuple[float, float] | None:
    """Return where the sample went from a frame of the same acquisition to that of the row; None if not known."""
    if row is None or index is None or row.drift_y_px is None or row.drift_x_px is None:
        return None
    first = row if row.index == index else scene.store.row(Key(row.acquisition, index))
    if first is None or first.drift_y_px is None or first.drift_x_px is None:
        return None
    return row.drift_y_px - first.drift_y_px, row.drift_x_px - first.drift_x_px


def _flow(scene: Scene, key: Key, picture: Picture | None, extra: Extra | None) -> Found:
    """Return the field of a frame; while live the newest of its view, which may be a few frames old."""
    live = scene.flow
    if extra is not None and scene.selected is None and live is not None and getattr(live, extra) is None:
        live = scene.store.analysed(extra, live.view) or live   # not every field is analysed
    if live is not None and key_of(live) == key:
        return Found(live)
    if scene.selected is not None and scene.shelf is not None:
        return scene.shelf.flow(key, place="frame's field")
    if live is not None and picture is not None and (live.view, live.acquisition) == (picture.view,
                                                                                      picture.acquisition):
        return Found(live)
    return Found(why="no displacement field of this view yet")


def _place(scene: Scene, flow: FlowResult | None, row: FrameRow | None) -> tuple[float, float]:
    if flow is None:
        return 0.0, 0.0
    return drift_between(scene, row, flow.reference_index) or (flow.drift_y_px, flow.drift_x_px)
