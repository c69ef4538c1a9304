"""The page about channels says what is so."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import pytest
from support.notices import notice

from streamer.notify._text import fields
from streamer.notify.epics import VARIABLES
from streamer.notify.metrics import Metrics
from streamer.records import FrameRow, JitterAxis, Leaving, Status, ViewMotion
from streamer.settings import load

PAGE = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")
TYPES = {"?": "bool", "s": "text", "d": "double", "l": "long"}


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_of_settings_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "channels.toml"
    path.write_text(block("toml"))
    settings = load(path)
    assert settings.notify.command[0] == "/usr/bin/logger"
    assert settings.metrics.endpoint


def test_the_line_of_json_has_all_fields_in_order() -> None:
    assert list(json.loads(block("json"))) == list(fields(notice(), session="s"))


def test_process_variables_are_all_listed_in_order() -> None:
    table = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \| (.*) \|$", PAGE, re.MULTILINE)
    listed = [line for line in table if line[1].split(",")[0] in TYPES.values()]
    assert listed == [(variable.name, ", ".join(filter(None, (TYPES[variable.type], variable.unit))), variable.text)
                      for variable in VARIABLES]


def test_figures_for_prometheus_are_all_listed() -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    axis = JitterAxis(sigma_px=1.0, first_px=0.0, bin_px=1.0, counts=[])
    motion = ViewMotion(view="main", frames=1, trend_y_px=0.0, trend_x_px=0.0, speed_y_px=0.0, speed_x_px=0.0,
                        jitter_y=axis, jitter_x=axis, leaving=Leaving())
    metrics = Metrics("127.0.0.1:0")
    metrics.start()
    metrics.show(FrameRow(index=0, acquisition="", view="", kind="flat"))
    metrics.show(Status(at=1.0, state="receiving", version="1", uptime_s=1.0, session_dir="", frames_endpoint="",
                        results_endpoint="", control_endpoint="", motion=[motion], last_frame_age_s=1.0,
                        disk_free_gb=1.0))
    with urllib.request.urlopen(f"http://{metrics.endpoint}/metrics", timeout=10.0) as answer:
        families = list(parser.text_string_to_metric_families(answer.read().decode()))
    metrics.close()
    served = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    listed = {name for line in PAGE.splitlines() if line.startswith("| `txm_")
              for name in re.findall(r"`(txm_\w+)`", line.split("|")[1])}
    assert listed == {name for name in served if not name.endswith("_created")}
