"""Alerts and results to the world outside, from a live service."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from support.acquisitions import acquisition
from support.live import live
from support.notices import Site, site
from support.waiting import wait_until

from streamer.errors import CommandError, SettingsError
from streamer.journal import Journal
from streamer.records import Frame
from streamer.service.live import Service
from streamer.settings import load
from streamer.sources.zeromq import ZeroMQSource

QUICK = ("flow.enabled=false", "notify.retry_s=0.05", "notify.interval_s=0", "notify.timeout_s=0.5",
         "notify.webhook_severity=MINOR")


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return acquisition(8, seed=21, blurred=(5,))


def blurred(hook: Site) -> list[tuple[int, str]]:
    return [(one["index"], one["occasion"]) for body in list(hook.bodies) for one in body["alerts"]
            if one["rule"] == "blurred_frame"]


def test_a_blurred_frame_is_told_through_every_channel(frames: list[Frame], tmp_path: Path) -> None:
    lines, told = tmp_path / "alerts.jsonl", tmp_path / "told"
    program = json.dumps([sys.executable, "-c", "import sys; open(sys.argv[1], 'a').write(sys.argv[2] + '\\n')",
                          str(told), "{severity} {index}"])
    with site() as hook:
        with live(tmp_path / "s", *QUICK, f"notify.webhook_url={hook.url}", f"notify.jsonl_path={lines}",
                  f"notify.command={program}", "notify.command_severity=MINOR", "notify.jsonl_severity=MINOR") as run:
            run.sender.send(frames)
            wait_until(lambda: blurred(hook) and lines.exists() and "blurred" in lines.read_text() and told.exists())
        assert blurred(hook) == [(5, "new")]
        assert hook.bodies[0]["session"] == "s"
    assert [line["index"] for line in map(json.loads, lines.read_text().splitlines())
            if (line["rule"], line["occasion"]) == ("blurred_frame", "new")] == [5]
    assert told.read_text().splitlines()[0] == "MAJOR 5"
    with Journal(tmp_path / "s") as journal:
        for channel in ("webhook", "jsonl", "command"):
            assert list(journal.undelivered(channel, limit=10)) == []


def test_a_dead_channel_is_an_alert_slows_nothing_and_is_made_good(frames: list[Frame], tmp_path: Path) -> None:
    with site() as hook:
        hook.behaviour = lambda _: hook.leave.wait(30.0) and None
        with live(tmp_path / "s", *QUICK, f"notify.webhook_url={hook.url}") as run:
            run.sender.send(frames)
            run.collect("frame", len(frames), timeout_s=30.0)
            alerts: list[dict[str, object]] = []
            wait_until(lambda: alerts.extend(run.collect("alert", 1)) or alerts[-1]["rule"] == "channel")
            assert "did not answer in time" in str(alerts[-1]["text"])
            assert "SECRET" not in str(alerts[-1])
            wait_until(lambda: any("webhook" in text for text in run.collect("status", 1)[0]["problems"]))
            hook.behaviour = 200
            wait_until(lambda: blurred(hook) == [(5, "new")])
            wait_until(lambda: not run.collect("status", 1)[0]["problems"])
            wait_until(lambda: alerts.extend(run.collect("alert", 1)) or (
                alerts[-1]["rule"] == "channel" and (alerts[-1]["state"] == "closed" or not alerts[-1]["active"])))
    with Journal(tmp_path / "s") as journal:
        assert [row.index for _, row in journal.rows()] == [frame.index for frame in frames]
        assert list(journal.undelivered("webhook", limit=10)) == []


def test_everything_wrong_at_once_is_named_and_the_service_goes_on(
    frames: list[Frame], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with live(tmp_path / "s", *QUICK, f"metrics.endpoint=127.0.0.1:{port}", "notify.webhook_url=nonsense SECRET",
                  "notify.jsonl_path=/no/such/folder/a.jsonl", 'notify.command=["/no/such/program"]',
                  "notify.epics_prefix=two words") as run:
            run.sender.send(frames)
            run.collect("frame", len(frames))
            problems: list[str] = []
            wait_until(lambda: problems.extend(run.collect("status", 1)[0]["problems"]) or all(
                any(name in text for text in problems)
                for name in ("webhook_url", "jsonl_path", "notify.command", "metrics.endpoint", "epics_prefix")))
            for arguments in ({"key": "notify.webhook_url", "value": "http://h/SECRET"},
                              {"settings": {"notify.apprise_urls": ["json://SECRET"], "alerts.jump_px": 9}}):
                with pytest.raises(CommandError, match="cannot be changed while running"):
                    run.client.request("set", **arguments)
    said = caplog.text + str(problems) + (tmp_path / "s" / "summary.json").read_text()
    assert "SECRET" not in said
    assert b"SECRET" not in (tmp_path / "s" / "session.sqlite").read_bytes()
    with Journal(tmp_path / "s") as journal:
        assert [command.arguments for _, command, _ in journal.commands()] == [
            {"key": "notify.webhook_url", "value": "***"},
            {"settings": {"notify.apprise_urls": "***", "alerts.jump_px": 9}}]
        assert len(list(journal.rows())) == len(frames)
        assert 'webhook_url = "***"' in journal.settings()[1]


def test_epics_and_prometheus_see_a_run(frames: list[Frame], tmp_path: Path) -> None:
    client = pytest.importorskip("p4p.client.thread")
    pytest.importorskip("prometheus_client")
    with live(tmp_path / "s", *QUICK, "notify.epics_prefix=TXM:", "notify.epics_network=isolated",
              "metrics.endpoint=127.0.0.1:0") as run:
        shown = {display.name: display for display in run.service.herald.displays}
        context = client.Context("pva", conf=shown["epics"].conf, useenv=False)   # type: ignore[attr-defined]
        run.sender.send(frames[:-2])
        wait_until(lambda: context.get("TXM:Frame") == 5, what="frame 5 in EPICS")
        wait_until(lambda: "blurred" in context.get("TXM:AlarmText"))
        values = {name: context.get("TXM:" + name) for name in ("Blurred", "Verdict", "BlurLength", "AlarmText")}
        run.sender.send(frames[-2:])
        wait_until(lambda: context.get("TXM:Frame") == 7)
        assert context.get("TXM:Blurred").severity == 0
        assert context.get("TXM:Heartbeat") > 1e9
        context.close()

        def scraped() -> str:
            address = f"http://{shown['metrics'].endpoint}/metrics"   # type: ignore[attr-defined]
            with urllib.request.urlopen(address, timeout=10.0) as answer:
                return str(answer.read().decode())

        wait_until(lambda: f"txm_frames_measured_total {len(frames)}.0" in scraped())
        assert 'txm_frames{kind="projection",verdict="blurred"} 1.0' in scraped()
        assert 'txm_alerts_open{severity="MAJOR"} 1.0' in scraped()
    assert bool(values["Blurred"]) is True
    assert values["Verdict"] == "blurred"
    assert values["BlurLength"] > 3.0
    assert [value.severity for value in values.values()] == [2, 2, 2, 2]


def test_a_missing_extra_is_said_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    settings = load(assignments=["metrics.endpoint=127.0.0.1:0", "frames.endpoint=tcp://127.0.0.1:*",
                                 "frames.bind=true", "results.endpoint=tcp://127.0.0.1:*", "control.endpoint=tcp://127.0.0.1:*"])
    with ZeroMQSource(settings.frames) as source, pytest.raises(SettingsError, match=r"txm-live\[metrics\]"):
        Service(settings, tmp_path / "s", source)
    assert not (tmp_path / "s").exists()


def test_alerts_that_a_killed_streamer_had_not_told_are_told_by_the_next_one(tmp_path: Path) -> None:
    with site() as hook:
        hook.behaviour = 503
        arguments = [sys.executable, "-P", "-m", "streamer.cli", "run", "--session", str(tmp_path / "s")]
        for setting in (*QUICK, f"notify.webhook_url={hook.url}", "alerts.disk_free_gb=1000000",
                        "frames.endpoint=tcp://127.0.0.1:*", "frames.bind=true",
                        "results.endpoint=tcp://127.0.0.1:*", "control.endpoint=tcp://127.0.0.1:*"):
            arguments += ["--set", setting]
        first = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: len(hook.calls) >= 2, what="an attempt")
        finally:
            first.kill()
            first.wait()
        with Journal(tmp_path / "s") as journal:
            (notice, *_) = journal.undelivered("webhook", limit=10)
        assert notice.alert.rule == "disk_low"
        hook.behaviour = 200
        second = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: any(body["alerts"][0]["rule"] == "disk_low" for body in list(hook.bodies)))
            os.kill(second.pid, signal.SIGTERM)
            assert second.wait(30.0) == 0
        finally:
            second.kill()
            second.wait()
        told = [one for body in hook.bodies for one in body["alerts"] if one["rule"] == "disk_low"]
        assert (told[0]["raised_at"], told[0]["id"]) == (notice.alert.raised_at, notice.alert.id)
    with Journal(tmp_path / "s") as journal:
        assert list(journal.undelivered("webhook", limit=10)) == []
