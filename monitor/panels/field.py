"""What panels of a displacement field share: which field they show, and saying why there is none."""

from __future__ import annotations

from typing import ClassVar

from monitor.panels.base import Panel, Scene
from monitor.panels.parts import Empty
from monitor.panels.timeline import Timeline
from monitor.rows import Key
from monitor.store import Extra
from streamer.records import FlowResult

NONE_YET = ("no displacement field yet: the first comes when a frame can be compared with its reference; "
            "flow.enabled switches them on")

STILL_PX = 1e-3
NOT_WORKED_OUT = "the streamer did not work it out (flow.analysis_s says how often it does)"


class FieldPanel(Panel):
    """Shows the field of the selected frame, or the newest one; drawn anew only when it is another."""

    extra: ClassVar[Extra | None] = None
    """What the field has to come with; live, the newest one that has it is shown."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.flow: FlowResult | None = None
        """On screen."""
        self.empty: Empty
        """To be made by the panel over its chart."""
        self._drawn: tuple[object, ...] | None = None
        self._scene = Scene()

    def refresh(self, scene: Scene) -> None:
        """Draw the field if it is another one, or looks otherwise now."""
        self._scene = scene
        if scene.behind is not None and scene.selected is None and self._drawn is not None:
            return   # the display is paused
        flow, why = field_of(scene, self.extra)
        what = (flow, scene.pixel_size_nm, self.theme, why)
        if self._drawn is not None and all(old is new or old == new
                                           for old, new in zip(self._drawn, what, strict=True)):
            return
        self._drawn, self.flow = what, flow
        if flow is not None and _is_reference(flow):
            why = f"frame {flow.index} is the reference itself: nothing has moved against it"
        reason = why if flow is None or why else self.draw(flow, scene.pixel_size_nm)
        if reason:
            self.clear()
            self._legend.set_runs([])
        self.empty.say(reason)

    def draw(self, flow: FlowResult, pixel_size_nm: float | None) -> str:
        """Draw a field; return why there is nothing to be seen, or an empty text."""
        raise NotImplementedError

    def clear(self) -> None:
        """Show nothing."""

    def redraw(self) -> None:
        """Draw the same field in another way."""
        self._drawn = None
        self.refresh(self._scene)

    def whose(self, flow: FlowResult) -> str:
        """Name the frames of a field."""
        return f" {flow.index} against {flow.reference_index}"


def _is_reference(flow: FlowResult) -> bool:
    """Tell a frame that was compared with itself; there is nothing but rounding errors to be seen of it."""
    return flow.index == flow.reference_index and not (abs(flow.displacement_px[:, flow.valid]) > STILL_PX).any()


def field_of(scene: Scene, extra: Extra | None = None) -> tuple[FlowResult | None, str]:
    """Return the field of the selected frame, else the newest one, if possible with an extra; None with the reason."""
    live = scene.flow
    if extra is not None and scene.selected is None and live is not None and getattr(live, extra) is None:
        live = scene.store.analysed(extra, scene.view) or live
    if scene.selected is None or (live is not None and Key(live.acquisition, live.index) == scene.selected):
        return live, "" if live is not None else NONE_YET
    if scene.shelf is None:
        return None, "fields of earlier frames cannot be asked for here"
    return scene.shelf.flow(scene.selected, place="charts of the field")
