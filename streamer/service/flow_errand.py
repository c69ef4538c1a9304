"""What the process that computes the fields is sent, and what it answers.

A reference is sent once, and so is the light on the pixels as long as it stays the same array; both ends remember.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from streamer.records import AnyArray, FlowResult
from streamer.settings import FlowSettings
from streamer.tracking.deformation import VIEWS, FlowTask, FrameKey, Reference, make_reference

_FIELD_ARRAYS = ("grid_y_px", "grid_x_px", "displacement_px", "valid", "sigma_px", "strain", "regions")


class Ready(msgspec.Struct):
    """The other end has loaded everything: errands may come."""

    pid: int


class NewReference(msgspec.Struct):
    """A reference that the other end lacks; its arrays are ``reference`` and, if known, ``reference_weight``."""

    key: FrameKey
    drift_px: tuple[float, float]


class Errand(msgspec.Struct):
    """A `FlowTask` without its arrays: ``image`` and, if new, ``weight``."""

    view: str
    key: FrameKey
    drift_px: tuple[float, float]
    settings: FlowSettings
    problems: tuple[str, ...]
    place: int
    weight: Literal["none", "same", "new"]
    reference: NewReference | None
    """None: the one of the view, which is there."""


class Answer(msgspec.Struct):
    """What became of an errand; the arrays of the field go beside it."""

    key: FrameKey
    problems: tuple[str, ...]
    field: dict[str, Any] | None
    """The fields of `FlowResult` that are no arrays; None without a result."""


class Packer:
    """Make errands of tasks, for one other end."""

    def __init__(self) -> None:
        self._references: OrderedDict[str, Reference] = OrderedDict()
        self._weight: AnyArray | None = None

    def pack(self, task: FlowTask) -> tuple[Errand, dict[str, AnyArray]]:
        """Return the errand and the arrays that the other end lacks."""
        arrays: dict[str, AnyArray] = {"image": task.image}
        weight: Literal["none", "same", "new"] = "none"
        if task.weight is not None:
            weight = "same" if task.weight is self._weight else "new"
            if weight == "new":
                arrays["weight"] = self._weight = task.weight
        reference = task.reference
        new = None
        if self._references.get(task.view) is not reference:
            new = NewReference(reference.key, _pair(reference.drift_px))
            arrays["reference"] = reference.image
            if reference.weight is not None:
                arrays["reference_weight"] = reference.weight
        _keep(self._references, task.view, reference)
        drift_px = _pair(task.drift_px)
        return Errand(task.view, task.key, drift_px, task.settings, task.problems, task.place, weight, new), arrays


class Unpacker:
    """Make tasks of errands again, in the order in which they were packed."""

    def __init__(self) -> None:
        self._references: OrderedDict[str, Reference] = OrderedDict()
        self._weight: AnyArray | None = None

    def unpack(self, errand: Errand, arrays: Mapping[str, AnyArray]) -> FlowTask:
        """Return the task; KeyError if something is missing that was never sent."""
        if errand.weight == "new":
            self._weight = arrays["weight"]
        if errand.reference is None:
            reference = self._references[errand.view]
        else:
            reference = make_reference(errand.reference.key, arrays["reference"], arrays.get("reference_weight"),
                                       errand.reference.drift_px, errand.settings)
        _keep(self._references, errand.view, reference)
        weight = None if errand.weight == "none" else self._weight
        return FlowTask(errand.view, errand.key, arrays["image"], weight, errand.drift_px, reference, errand.settings,
                        errand.problems, errand.place)


def pack_answer(key: FrameKey, result: FlowResult | None, problems: tuple[str, ...]
                ) -> tuple[Answer, dict[str, AnyArray]]:
    """Return the answer and the arrays of the field."""
    if result is None:
        return Answer(key, problems, None), {}
    arrays = {name: array for name in _FIELD_ARRAYS if (array := getattr(result, name)) is not None}
    fields = {name: getattr(result, name) for name in result.__struct_fields__ if name not in _FIELD_ARRAYS}
    for name in ("drift_y_px", "drift_x_px"):   # numpy's own numbers are not packed
        fields[name] = float(fields[name])
    return Answer(key, problems, fields), arrays


def unpack_field(answer: Answer, arrays: Mapping[str, AnyArray]) -> FlowResult | None:
    """Return the field of an answer; None without one."""
    return None if answer.field is None else FlowResult(**(answer.field | dict(arrays)))


def _keep(references: OrderedDict[str, Reference], view: str, reference: Reference) -> None:
    """Remember the references of the views seen last; both ends forget the same ones."""
    references[view] = reference
    references.move_to_end(view)
    while len(references) > VIEWS:
        references.popitem(last=False)


def _pair(drift_px: tuple[float, float]) -> tuple[float, float]:
    return float(drift_px[0]), float(drift_px[1])
