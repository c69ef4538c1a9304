from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from support.notices import alert
from support.waiting import wait_until

from streamer.errors import ChannelError, SettingsError
from streamer.notify import open_all
from streamer.notify.epics import VARIABLES, Variables
from streamer.records import FrameRow, Recollection, Status
from streamer.settings import Settings, update

thread = pytest.importorskip("p4p.client.thread")
util = pytest.importorskip("p4p.util")


def row(index: int, **columns: Any) -> FrameRow:
    return FrameRow(**({"index": index, "acquisition": "scan", "view": "main", "kind": "projection",
                        "verdict": "sharp", "blur_length_px": 0.5, "drift_y_px": 1.5, "drift_x_px": -2.25} | columns))


def request(number: int, **fields: Any) -> Recollection:
    return Recollection(**({"id": number, "requested_at": "2026-01-02T03:04:05.000000Z", "acquisition": "scan",
                            "index": 10 * number, "view": "main", "reason": "blurred"} | fields))


def status(**fields: Any) -> Status:
    return Status(**({"at": 1000.5, "state": "receiving", "version": "1", "uptime_s": 2.0, "session_dir": "s",
                      "frames_endpoint": "", "results_endpoint": "", "control_endpoint": ""} | fields))


@pytest.fixture
def variables() -> Iterator[Variables]:
    served = Variables("TXM:", network="isolated")
    served.start()
    yield served
    served.close()


class Reader:
    """A client that reads what is served."""

    def __init__(self, served: Variables) -> None:
        self.context = thread.Context("pva", conf=served.conf, useenv=False)

    def __call__(self, name: str) -> tuple[Any, int, str]:
        """Return value, severity and message of one moment."""
        read = self.context.get("TXM:" + name, timeout=10.0)
        return read.raw.value, read.severity, read.raw.alarm.message

    def close(self) -> None:
        self.context.close()


@pytest.fixture
def read(variables: Variables) -> Iterator[Reader]:
    reader = Reader(variables)
    yield reader
    reader.close()


def test_before_the_first_frame_nothing_looks_valid(read: Reader) -> None:
    assert read("Blurred") == (False, 3, "no frame yet")
    assert read("Verdict") == ("", 3, "no frame yet")
    assert math.isnan(read("DriftX")[0])
    assert read("Frame") == (-1, 3, "no frame yet")
    assert read("AlarmText") == ("", 0, "")
    assert read("RecollectRequest") == ("[]", 0, "")
    for variable in VARIABLES:
        raw = read.context.get("TXM:" + variable.name, timeout=10.0).raw
        assert (raw.display.units, raw.display.description) == (variable.unit, variable.text)


@pytest.mark.parametrize(("verdict", "severity"), [
    ("sharp", 0), ("undecided", 1), ("blurred", 2), ("bad", 3), (None, 3)])
def test_a_frame_shows_with_its_severity(
    variables: Variables, read: Reader, verdict: Any, severity: int
) -> None:
    variables.show(row(7, verdict=verdict, blur_length_px=6.5, problems="why"))
    assert read("Blurred") == (verdict == "blurred", severity, "why")
    assert read("Verdict") == (verdict or "", severity, "why")
    assert read("BlurLength") == (6.5, severity, "why")
    assert read("DriftX") == (-2.25, 0, "")
    assert read("DriftY") == (1.5, 0, "")
    assert read("Frame") == (7, severity, "why")
    assert read("Acquisition")[0] == "scan"
    assert msgspec.json.decode(read("Row")[0], type=FrameRow).index == 7
    raw = read.context.get("TXM:BlurLength", timeout=10.0).raw
    assert raw.display.units == "px"


def test_what_is_not_known_is_invalid_and_no_number(variables: Variables, read: Reader) -> None:
    variables.show(row(1, blur_length_px=None, drift_x_px=None, drift_y_px=None))
    for name in ("BlurLength", "DriftX", "DriftY"):
        value, severity, message = read(name)
        assert math.isnan(value)
        assert (severity, message) == (3, "not known")


def test_the_newest_frame_stays_when_earlier_ones_are_judged_again(variables: Variables, read: Reader) -> None:
    variables.show(row(1))
    variables.show(row(2))
    variables.show(row(1, verdict="blurred", revision=1))
    variables.show(row(0, kind="flat", verdict=None))
    assert read("Frame") == (2, 0, "")
    assert read("Blurred")[0] is False
    variables.show(row(2, verdict="blurred", revision=1, provisional=True))
    assert read("Blurred") == (True, 2, "provisional")


def test_value_and_severity_come_together_and_the_number_last(variables: Variables, read: Reader) -> None:
    seen: list[tuple[str, Any, int]] = []

    def note(name: str) -> Any:
        return lambda value: seen.append((name, value.raw.value, value.severity))

    queue = util.ThreadedWorkQueue(maxsize=0, workers=1).start()
    watched = [read.context.monitor("TXM:" + name, note(name), queue=queue) for name in ("Blurred", "Frame")]
    wait_until(lambda: len(seen) == 2)
    seen.clear()
    for index in range(1, 21):
        variables.show(row(index, verdict="blurred" if index % 2 else "sharp"))
        wait_until(lambda index=index: ("Frame", index, 2 * (index % 2)) in seen)   # type: ignore[misc]
        assert read("Blurred")[0] == bool(index % 2)   # whoever has seen the number finds the rest
    wait_until(lambda: len(seen) == 40)
    for one in watched:
        one.close()
    queue.stop()
    assert all(severity == 2 * (value % 2) for _, value, severity in seen)


def test_the_worst_open_alert_is_told(variables: Variables, read: Reader) -> None:
    variables.show(alert(1, severity="MINOR", text="small", rule="jump"))
    variables.show(alert(2, severity="MAJOR", text="large"))
    variables.show(alert(3, severity="MINOR", text="small again"))
    assert read("AlarmText") == ("large", 2, "blurred_frame")
    assert read("OpenAlerts") == (3, 2, "")
    variables.show(alert(2, severity="MAJOR", state="acknowledged", who="me"))
    assert read("AlarmText") == ("small again", 1, "blurred_frame")
    variables.show(alert(3, shelved_until="2999-01-01T00:00:00.000000Z"))
    assert read("AlarmText") == ("small", 1, "jump")
    variables.show(alert(1, state="closed"))
    assert read("AlarmText") == ("", 0, "")
    assert read("OpenAlerts") == (0, 0, "")


def test_requests_show_the_most_urgent_first_until_they_are_served(variables: Variables, read: Reader) -> None:
    variables.show(request(1))
    variables.show(request(2, priority=3))
    text, severity, message = read("RecollectRequest")
    assert [(one["id"], one["index"]) for one in json.loads(text)] == [(2, 20), (1, 10)]
    assert (severity, message) == (1, "2 to be taken again")
    assert read("RecollectFrame")[0] == 20
    variables.show(request(2, state="served", served_by=99))
    assert read("RecollectFrame")[0] == 10
    variables.show(status(recollections=[]))   # the heartbeat lists the most urgent ones only
    assert read("RecollectFrame") == (10, 1, "1 to be taken again")
    variables.show(request(1, state="withdrawn"))
    assert read("RecollectRequest") == ("[]", 0, "")


def test_the_heartbeat_tells_of_problems(variables: Variables, read: Reader) -> None:
    variables.show(status())
    assert read("Heartbeat") == (1000, 0, "")
    assert read("State")[0] == "receiving"
    variables.show(status(at=1002.0, problems=["disk full"]))
    assert read("Heartbeat") == (1002, 2, "disk full")


def test_nobody_may_write(read: Reader) -> None:
    with pytest.raises(Exception, match="Put not supported"):
        read.context.put("TXM:Blurred", True, timeout=10.0)


@pytest.mark.parametrize("prefix", ["with blank:", " :", "line\n:"])
def test_a_prefix_that_no_name_can_have_is_named(prefix: str) -> None:
    with pytest.raises(ChannelError, match=r"notify\.epics_prefix"):
        Variables(prefix, network="isolated").start()


def test_an_address_that_this_machine_has_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPICS_PVAS_INTF_ADDR_LIST", "192.0.2.1")
    served = Variables("TXM:", network="environment")
    with pytest.raises(ChannelError, match=r"TXM:\* cannot be served"):
        served.start()


def test_by_default_only_this_machine_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EPICS_PVAS_SERVER_PORT", "EPICS_PVAS_BROADCAST_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("EPICS_PVAS_INTF_ADDR_LIST", "0.0.0.0")  # noqa: S104  (what the setting overrules)
    _, (served,) = open_all(update(Settings(), {"notify.epics_prefix": "TXM:"}))
    assert isinstance(served, Variables)
    served.start()
    conf = served.conf
    served.close()
    assert conf["EPICS_PVAS_INTF_ADDR_LIST"].startswith("127.0.0.1")
    assert conf["EPICS_PVAS_AUTO_BEACON_ADDR_LIST"] == "NO"


def test_without_the_extra_the_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "p4p.nt", None)
    with pytest.raises(SettingsError, match=r"notify\.epics_prefix needs p4p.*txm-live\[epics\]"):
        open_all(update(Settings(), {"notify.epics_prefix": "TXM:"}))
