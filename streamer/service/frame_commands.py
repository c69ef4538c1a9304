"""What a person says about a frame, and wants of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, get_args

from streamer.errors import CommandError
from streamer.records import FrameRow, Verdict
from streamer.service.arguments import Arguments, acquisition, person, text, whole
from streamer.tracking.recollections import PRIORITIES

if TYPE_CHECKING:
    from streamer.service.live import Service

_VERDICTS: tuple[str, ...] = get_args(Verdict)
_USUAL_PRIORITY = 2


class FrameCommands:
    """The commands about frames, by name in `known`.

    Parameters
    ----------
    service : Service
        What they act on.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self.known: Mapping[str, Callable[[Arguments], Any]] = {
            "override": self._override, "recollect": self._recollect, "withdraw": self._withdraw, "note": self._note}

    def _override(self, arguments: Arguments) -> dict[str, Any]:
        row = self._projection("override", arguments)
        verdict: Any = arguments.get("verdict")
        if verdict not in _VERDICTS:
            raise CommandError(f"override: verdict is {verdict!r}, expected one of {', '.join(_VERDICTS)}")
        if row.verdict is None:
            raise CommandError(f"override: frame {row.index} was not measured and has no verdict: {row.problems}")
        who, why = person("override", arguments), text("override", arguments, "why")
        what = (f"verdict confirmed by {who}: {verdict}" if verdict == row.verdict
                else f"verdict overridden by {who}: was {row.verdict}, now {verdict}")
        remark = (f"{what}: {why}" if why else what).replace(";", ",")   # which separates problems
        revised = self._service.recorder.override(row, verdict, remark)
        self._service.conveyor.revised(row, revised, at=time.time(), who=who)
        return {"index": row.index, "acquisition": row.acquisition, "verdict": verdict, "remark": remark}

    def _recollect(self, arguments: Arguments) -> dict[str, Any]:
        row = self._projection("recollect", arguments)
        priority = arguments.get("priority")
        priority = _USUAL_PRIORITY if priority is None else priority
        if isinstance(priority, bool) or priority not in PRIORITIES:
            raise CommandError(f"recollect: priority is {priority!r}, expected 1, 2 or 3, the most urgent")
        reason, who = text("recollect", arguments, "reason"), person("recollect", arguments)
        change = self._service.conveyor.recollections.ask(
            row, at=time.time(), who=who, reason=reason or f"asked for by {who}", priority=int(priority))
        self._service.conveyor.request([change])
        return {"recollection": change.request.id, "index": row.index, "acquisition": row.acquisition}

    def _withdraw(self, arguments: Arguments) -> dict[str, Any]:
        number = whole("withdraw", arguments, "recollection", "the id of a request to take a frame again")
        who, why = person("withdraw", arguments), text("withdraw", arguments, "why")
        recollections = self._service.conveyor.recollections
        change = recollections.withdraw(number, at=time.time(), who=who, why=why)
        if change is None:
            raise CommandError(f"withdraw: request {number} is no longer open" if recollections.existed(number)
                               else f"withdraw: there is no request {number}")
        self._service.conveyor.request([change])
        return {"recollection": number, "state": change.request.state}

    def _note(self, arguments: Arguments) -> dict[str, Any]:
        noted = text("note", arguments, "text")
        if not noted:
            raise CommandError(f"note: text is {arguments.get('text')!r}, expected what is to be written down")
        person("note", arguments)   # which is in the journal with the command
        if arguments.get("index") is None:
            return {"noted": noted}
        row = self._row("note", arguments)
        return {"noted": noted, "index": row.index, "acquisition": row.acquisition}

    def _projection(self, op: str, arguments: Arguments) -> FrameRow:
        row = self._row(op, arguments)
        if row.kind != "projection":
            raise CommandError(f"{op}: frame {row.index} is a {row.kind}; this is for projections")
        return row

    def _row(self, op: str, arguments: Arguments) -> FrameRow:
        index, name = whole(op, arguments, "index", "the number of a frame"), acquisition(op, arguments)
        row = self._service.recorder.find(index, name)
        if row is None:
            where = "the session" if name is None else f"acquisition {name!r}"
            raise CommandError(f"{op}: there is no frame {index} in {where}")
        return row
