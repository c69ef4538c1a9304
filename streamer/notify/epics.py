"""EPICS process variables over pvAccess, value and severity together; needs the ``epics`` extra."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from streamer.errors import ChannelError
from streamer.notify import Display, Matter, Messenger
from streamer.notify._extra import extra
from streamer.notify._open import OpenAlerts, OpenRequests
from streamer.notify._recent import Recent
from streamer.notify._text import rank
from streamer.records import Alert, FrameRow, Recollection, Severity, Status, Verdict
from streamer.settings import Settings

NAME = "epics"
SUMMARY = "EPICS process variables over pvAccess"

_LOOPBACK = {"EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1", "EPICS_PVAS_BEACON_ADDR_LIST": "127.0.0.1",
             "EPICS_PVAS_AUTO_BEACON_ADDR_LIST": "NO"}
_PORTS = ("EPICS_PVA_SERVER_PORT", "EPICS_PVA_BROADCAST_PORT", "EPICS_PVAS_SERVER_PORT", "EPICS_PVAS_BROADCAST_PORT")
_SEVERITY: Mapping[Verdict | None, Severity] = {
    "sharp": "NO_ALARM", "undecided": "MINOR", "blurred": "MAJOR", "bad": "INVALID", None: "INVALID"}
_BEFORE_THE_FIRST = "no frame yet"


class Variable(NamedTuple):
    """A process variable: its type in the letters of p4p, its unit and what it says."""

    name: str
    type: str
    initial: Any
    unit: str
    text: str


VARIABLES = (
    Variable("Blurred", "?", False, "", "the newest projection is blurred"),
    Variable("Verdict", "s", "", "", "sharp, blurred, undecided, bad; empty: refused"),
    Variable("BlurLength", "d", math.nan, "px", "length of its blur"),
    Variable("DriftX", "d", math.nan, "px", "where its sample is, to the right"),
    Variable("DriftY", "d", math.nan, "px", "where its sample is, down"),
    Variable("Acquisition", "s", "", "", "its acquisition"),
    Variable("View", "s", "", "", "its view"),
    Variable("Row", "s", "{}", "", "all its columns, JSON"),
    Variable("Frame", "l", -1, "", "its number; posted after all of the above"),
    Variable("AlarmText", "s", "", "", "worst alert that waits for somebody"),
    Variable("OpenAlerts", "l", 0, "", "alerts that wait for somebody"),
    Variable("RecollectRequest", "s", "[]", "", "open requests to take frames again, the most urgent first, JSON"),
    Variable("RecollectFrame", "l", -1, "", "frame of the most urgent request; -1: none"),
    Variable("State", "s", "waiting", "", "waiting, receiving, idle, stopping"),
    Variable("Heartbeat", "l", 0, "s", "Unix time of the analysis, every second"),
)


class Variables:
    """Process variables that others may read and nobody write.

    Parameters
    ----------
    prefix : str
        Of all names.
    network : str
        As in the setting ``notify.epics_network``.
    """

    def __init__(self, prefix: str, *, network: str) -> None:
        self._nt = extra("p4p.nt", setting="notify.epics_prefix", name="epics")
        self._thread = extra("p4p.server.thread", setting="notify.epics_prefix", name="epics")
        self._server_module = extra("p4p.server", setting="notify.epics_prefix", name="epics")
        self._util = extra("p4p.util", setting="notify.epics_prefix", name="epics")
        self.name = NAME
        self._prefix = prefix
        self._network = network
        self._server: Any = None
        self._queue: Any = None
        self._variables: dict[str, Any] = {}
        self._recent = Recent()
        self._shown: tuple[str, int] | None = None
        self._alerts = OpenAlerts()
        self._requests = OpenRequests()
        self._beat = 0

    @property
    def conf(self) -> dict[str, str]:
        """Addresses as EPICS wants them, for a client of an isolated server."""
        return dict(self._server.conf())

    def start(self) -> None:
        """Serve the variables, all of them invalid or empty as yet."""
        if len(self._prefix.split()) != 1 or self._prefix != self._prefix.strip():
            raise ChannelError(f"notify.epics_prefix {self._prefix!r}: names of process variables hold no blanks")
        self._queue = self._util.ThreadedWorkQueue(name="epics", workers=1, daemon=True, maxsize=0).start()
        provider = self._server_module.StaticProvider(self._prefix)
        for variable in VARIABLES:
            self._variables[variable.name] = served = self._make(variable)
            provider.add(self._prefix + variable.name, served)
        try:
            self._server = self._server_module.Server(providers=[provider], **self._where())
        except RuntimeError as error:
            self.close()
            raise ChannelError(f"process variables {self._prefix}* cannot be served: {error}; look at "
                               "notify.epics_network and EPICS_PVAS_INTF_ADDR_LIST") from error

    def show(self, matter: Matter) -> None:
        """Post what changes, value and severity in one."""
        if isinstance(matter, FrameRow):
            if matter.kind == "projection":
                self._show_row(matter)
        elif isinstance(matter, Alert):
            self._alerts.update(matter)
            self._show_alerts()
        elif isinstance(matter, Recollection):
            self._requests.update(matter)
            self._show_requests()
        else:
            self._show_status(matter)

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._queue is not None:
            self._queue.stop()
            self._queue = None

    def _make(self, variable: Variable) -> Any:
        initial = {"value": variable.initial, "display.description": variable.text}
        if variable.unit:
            initial["display.units"] = variable.unit
        if variable.type == "d" or variable.name in {"Blurred", "Verdict", "Frame"}:
            initial |= {"alarm.severity": rank("INVALID"), "alarm.message": _BEFORE_THE_FIRST}
        return self._thread.SharedPV(nt=self._nt.NTScalar(variable.type, display=True), queue=self._queue,
                                     initial=initial)

    def _where(self) -> dict[str, Any]:
        if self._network == "isolated":
            return {"isolate": True}
        if self._network == "environment":
            return {}
        # the environment would go before what is given here, and open the variables to the network
        ports = {name: os.environ[name] for name in _PORTS if name in os.environ}
        return {"conf": _LOOPBACK | ports, "useenv": False}

    def _post(self, name: str, value: Any, severity: Severity = "NO_ALARM", message: str = "") -> None:
        fields = {"value": value, "alarm.severity": rank(severity), "alarm.message": message}
        self._variables[name].post(fields, timestamp=time.time())

    def _show_row(self, row: FrameRow) -> None:
        key = row.acquisition, row.index
        if self._recent.exchange(row) is not None and key != self._shown:
            return   # an earlier frame, judged again
        self._shown = key
        severity = _SEVERITY[row.verdict]
        message = row.problems or ("provisional" if row.provisional else "")
        self._post("Blurred", row.verdict == "blurred", severity, message)
        self._post("Verdict", row.verdict or "", severity, message)
        self._post_number("BlurLength", row.blur_length_px, severity, message)
        self._post_number("DriftX", row.drift_x_px, "NO_ALARM", "")
        self._post_number("DriftY", row.drift_y_px, "NO_ALARM", "")
        self._post("Acquisition", row.acquisition)
        self._post("View", row.view)
        self._post("Row", msgspec.json.encode(row).decode())
        self._post("Frame", row.index, severity, message)

    def _post_number(self, name: str, value: float | None, severity: Severity, message: str) -> None:
        if value is None:
            self._post(name, math.nan, "INVALID", message or "not known")
        else:
            self._post(name, value, severity, message)

    def _show_alerts(self) -> None:
        worst = self._alerts.worst
        if worst is None:
            self._post("AlarmText", "")
        else:
            self._post("AlarmText", worst.text, worst.severity, worst.rule)
        self._post("OpenAlerts", len(self._alerts), "NO_ALARM" if worst is None else worst.severity)

    def _show_requests(self) -> None:
        requests = self._requests.sorted()
        severity: Severity = "MINOR" if requests else "NO_ALARM"
        message = f"{len(requests)} to be taken again" if requests else ""
        self._post("RecollectRequest", msgspec.json.encode(requests).decode(), severity, message)
        self._post("RecollectFrame", requests[0].index if requests else -1, severity, message)

    def _show_status(self, status: Status) -> None:
        if int(status.at) != self._beat:
            self._beat = int(status.at)
            problems = "; ".join(status.problems)
            self._post("State", status.state)
            self._post("Heartbeat", self._beat, "MAJOR" if problems else "NO_ALARM", problems)


def open_(settings: Settings) -> list[Messenger | Display]:
    """Make the variables that are asked for."""
    notify = settings.notify
    return [Variables(notify.epics_prefix, network=notify.epics_network)] if notify.epics_prefix else []
