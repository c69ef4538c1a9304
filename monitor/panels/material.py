"""What is to be seen of the selected frame, or of the newest: picked from the scene and from the shelf."""

from __future__ import annotations

from typing import NamedTuple

from monitor.modes import Material, Mode
from monitor.panels.base import Scene
from monitor.rows import Key
from monitor.shelf import NOTHING, Found
from monitor.store import Picture
from streamer.records import FlowResult, FrameRow

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


def look(scene: Scene, *, with_flow: bool) -> Look | None:
    """Find the frame to be shown; None before there is any."""
    live = scene.picture if scene.picture is not None and scene.picture.image is not None else None
    if scene.selected is None and live is None:
        return None
    key = scene.selected or key_of(live)   # type: ignore[arg-type]
    if live is not None and key_of(live) == key:
        picture = Found(live)
    else:
        picture = scene.shelf.picture(key, place="frame") if scene.shelf is not None else _ALONE
    row = scene.store.row(key)
    flow = _flow(scene, key, picture.thing) if with_flow else NOTHING
    return Look(key, picture, row, flow, _place(flow.thing, row), scene.selected is not None)


def material(scene: Scene, seen: Look, mode: Mode, *, other: bool) -> Material:
    """Collect what a mode needs to show a frame whose picture is here."""
    picture, row, shelf = seen.picture.thing, seen.row, scene.shelf
    raw = reference = NOTHING
    if "raw" in mode.needs:
        raw = shelf.picture(seen.key, place="raw", kind="raw") if shelf is not None else _ALONE
    if "reference" in mode.needs:
        reference = _reference(scene, seen)
    drift = None
    if row is not None and row.drift_y_px is not None and row.drift_x_px is not None:
        drift = row.drift_y_px, row.drift_x_px
    flows = "flow" in mode.needs
    return Material(
        picture=picture, raw=raw, reference=reference, drift=drift if "reference" in mode.needs else None,
        flow=seen.flow if flows else NOTHING, flow_drift=seen.drift if flows else (0.0, 0.0),
        spectra=picture.spectra if "spectra" in mode.needs else None, other=other,
        pixel_size_nm=picture.pixel_size_nm or scene.pixel_size_nm)


def _reference(scene: Scene, seen: Look) -> Found:
    """Return the picture of the frame that this one's drift was measured against."""
    if seen.row is None or seen.row.reference_index is None:
        return Found(why=f"frame {seen.key.index} has no reference: its drift could not be measured"
                     if seen.row is not None else "what was measured of this frame is not here yet")
    key = Key(seen.key.acquisition, seen.row.reference_index)
    if key == seen.key:
        return seen.picture
    if scene.shelf is None:
        return _ALONE
    found = scene.shelf.picture(key, place="reference")
    return found if found.thing is not None else Found(why=f"the reference's picture is not here yet: {found.why}")


def _flow(scene: Scene, key: Key, picture: Picture | None) -> Found:
    """Return the field of a frame; while live the newest of its view, which may be a few frames old."""
    live = scene.flow
    if live is not None and key_of(live) == key:
        return Found(live)
    if scene.selected is not None and scene.shelf is not None:
        return scene.shelf.flow(key, place="frame's field")
    if live is not None and picture is not None and (live.view, live.acquisition) == (picture.view,
                                                                                      picture.acquisition):
        return Found(live)
    return Found(why="no displacement field of this view yet")


def _place(flow: FlowResult | None, row: FrameRow | None) -> tuple[float, float]:
    if flow is None:
        return 0.0, 0.0
    if (row is not None and row.reference_index == flow.reference_index
            and row.drift_y_px is not None and row.drift_x_px is not None):
        return row.drift_y_px, row.drift_x_px
    return flow.drift_y_px, flow.drift_x_px
