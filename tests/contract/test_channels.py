"""What every channel must do; a new module in streamer/notify is picked up by itself."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.notices import Site, alert, notice, site

from streamer import notify
from streamer.errors import ChannelError
from streamer.notify import Display, Messenger
from streamer.records import FrameRow, Recollection, Status
from streamer.settings import Settings, describe, update

NAMES = notify.names()

WORKING: dict[str, Callable[[Path, Site], dict[str, Any]]] = {
    "apprise": lambda _, hook: {"notify.apprise_urls": [hook.url.replace("http:", "json:")]},
    "command": lambda _, __: {"notify.command": [sys.executable, "-c", "import sys; sys.stdin.read()", "{text}"]},
    "epics": lambda _, __: {"notify.epics_prefix": "TXM:", "notify.epics_network": "isolated"},
    "jsonl": lambda folder, _: {"notify.jsonl_path": str(folder / "alerts.jsonl")},
    "metrics": lambda _, __: {"metrics.endpoint": "127.0.0.1:0"},
    "webhook": lambda _, hook: {"notify.webhook_url": hook.url},
}
BROKEN: dict[str, dict[str, Any]] = {
    "apprise": {"notify.apprise_urls": ["nosuch://SECRET"]},
    "command": {"notify.command": ["/no/such/program"]},
    "epics": {"notify.epics_prefix": "two words:"},
    "jsonl": {"notify.jsonl_path": "/no/such/folder/alerts.jsonl"},
    "metrics": {"metrics.endpoint": "192.0.2.1:9108"},
    "webhook": {"notify.webhook_url": "gopher://SECRET"},
}


@pytest.fixture(autouse=True, scope="module")
def _apprise_is_loaded() -> None:
    with warnings.catch_warnings():   # of its own modules, and a thread that lives as long as the program
        warnings.simplefilter("ignore")
        sender = pytest.importorskip("apprise").Apprise()
        sender.add("json://127.0.0.1:9")
        sender.notify(body="nobody listens")


def opened(changes: dict[str, Any]) -> Messenger | Display:
    messengers, displays = notify.open_all(update(Settings(), changes))
    (one,) = [*messengers, *displays]
    return one


@pytest.mark.parametrize("name", NAMES)
def test_a_channel_says_what_it_is_and_is_off_by_default(name: str) -> None:
    channel = notify.get(name)
    assert name == channel.NAME
    assert channel.SUMMARY
    assert channel.open_(Settings()) == []
    assert name in WORKING, f"say in {Path(__file__).name} how the channel {name} is tried"
    assert name in BROKEN
    assert all(key in describe() for key in [*BROKEN[name]])


@pytest.mark.parametrize("name", NAMES)
def test_a_working_channel_takes_everything(name: str, tmp_path: Path) -> None:
    row = FrameRow(index=1, acquisition="scan", view="main", kind="projection", verdict="sharp", latency_ms=1.0)
    status = Status(at=time.time(), state="receiving", version="1", uptime_s=1.0, session_dir="", frames_endpoint="",
                    results_endpoint="", control_endpoint="")
    request = Recollection(id=1, requested_at="", acquisition="scan", index=1, view="main", reason="blurred")
    with site() as hook:
        one = opened(WORKING[name](tmp_path, hook))
        if isinstance(one, Messenger):
            one.check()
            one.deliver([notice(1)], session="s")
            one.deliver([notice(number, text="ä\0\n{text}" * 50) for number in range(500)], session="ü")
            assert one.severity in {"MINOR", "MAJOR"}
            assert one.interval_s >= 1.0
        else:
            one.start()
            for matter in (row, alert(), request, status, row, alert(state="closed")):
                one.show(matter)
        one.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_channel_says_so_in_one_line_and_keeps_secrets(name: str) -> None:
    one = opened(BROKEN[name])
    with pytest.raises(ChannelError) as caught:
        (one.check if isinstance(one, Messenger) else one.start)()
    one.close()
    assert "\n" not in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert any(key in str(caught.value) for key in BROKEN[name])


def test_nothing_of_an_extra_is_loaded_before_it_is_asked_for() -> None:
    code = ("import sys; from streamer import notify; from streamer.settings import Settings; "
            "notify.open_all(Settings()); "
            "print([name for name in ('p4p', 'apprise', 'prometheus_client', 'cv2') if name in sys.modules])")
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
