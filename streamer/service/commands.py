"""What a user may ask of the running streamer; applied between two frames and written to the journal."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from streamer.errors import CommandError, TxmError
from streamer.export import export_session
from streamer.records import Command
from streamer.service.alert_commands import AlertCommands
from streamer.service.arguments import text
from streamer.service.frame_commands import FrameCommands
from streamer.settings import describe, to_toml, update
from streamer.wire import encode_reply

if TYPE_CHECKING:
    from streamer.service.live import Service

log = logging.getLogger(__name__)


class Request(NamedTuple):
    """A command and the way back for its answer."""

    command: Command
    reply: Callable[[bytes], None]


class Commands:
    """The commands of a service; one method each, found by name.

    Parameters
    ----------
    service : Service
        What they act on.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._known: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
            "set": self._set, "reference": self._reference, **AlertCommands(service).known,
            **FrameCommands(service).known}

    def answer(self, request: Request) -> None:
        """Carry a command out and answer it."""
        command = request.command
        if command.op == "snapshot":   # writing files takes a while; frames do not wait for it
            threading.Thread(target=self._snapshot, args=(request,), name="snapshot", daemon=True).start()
            return
        try:
            operation = self._known.get(command.op)
            if operation is None:
                raise CommandError(f"unknown op {command.op!r}; this streamer knows history, spectra, picture, "
                                   f"thumbnails, flow, snapshot, {', '.join(self._known)}")
            result = operation(command.arguments)
        except TxmError as error:
            request.reply(encode_reply(command.id, error=str(error)))
            self._service.recorder.command(_without_secrets(command), f"refused: {error}")
            return
        if command.op == "override":   # a streamer that goes on with the session keeps to it
            command = msgspec.structs.replace(command, arguments={**command.arguments, **result})
        self._service.recorder.command(command, "done")
        self._service.recorder.commit()   # the answer tells of nothing that is not in the journal
        request.reply(encode_reply(command.id, result=result))

    def _set(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        changes = arguments.get("settings", {arguments.get("key", ""): arguments.get("value")})
        if not isinstance(changes, dict) or not all(isinstance(key, str) and key for key in changes):
            raise CommandError('set: expected {"key": "blur.tolerance_px", "value": 2.5} or {"settings": {...}}')
        service, known = self._service, describe()
        settings = update(service.settings, changes)
        fixed = [key for key in changes if not known[key].live]
        if fixed:
            live = ", ".join(key for key, setting in known.items() if setting.live)
            raise CommandError(f"set: {', '.join(fixed)} cannot be changed while running; restart with --set. "
                               f"These can: {live}")
        revision = service.conveyor.settings_revision + 1
        service.recorder.settings(revision, to_toml(settings, masked=True), who=text("set", arguments, "who"))
        service.settings = settings
        service.conveyor.configure(settings, revision)
        return {"settings_revision": revision}

    def _reference(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        views = self._service.conveyor.views
        view = arguments.get("view", views[0] if len(views) == 1 else None)
        if view is None:
            raise CommandError(f"reference: say which view; known views: {', '.join(map(repr, views)) or 'none yet'}")
        return {"view": str(view), "reference_index": self._service.conveyor.set_reference(str(view))}

    def _snapshot(self, request: Request) -> None:
        try:
            files = [str(path) for path in export_session(self._service.folder)]
        except TxmError as error:
            request.reply(encode_reply(request.command.id, error=str(error)))
        else:
            request.reply(encode_reply(request.command.id, result={"files": files}))


def _without_secrets(command: Command) -> Command:
    """Take addresses that hold a password out of a command that is refused, as changing them always is."""
    secret = {key for key, setting in describe().items() if setting.secret}
    arguments = dict(command.arguments)
    if str(arguments.get("key")) in secret:
        arguments["value"] = "***"
    if isinstance(arguments.get("settings"), dict):
        arguments["settings"] = {key: "***" if key in secret else value
                                 for key, value in arguments["settings"].items()}
    return msgspec.structs.replace(command, arguments=arguments)
