"""The documentation says what is so: links lead somewhere, settings, programs and command lines are as shown."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import zmq
from support.live import FREE_PORTS, Live, live
from support.waiting import wait_until

import monitor.cli
import simulator.cli
import streamer.cli
from simulator.plan import Request
from simulator.scenarios import catalogue
from streamer.records import EndOfAcquisition, Frame
from streamer.settings import FramesSettings, describe, load
from streamer.settings_table import to_markdown
from streamer.sources.zeromq import ZeroMQSource

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BESIDE = [ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md"]
COMMANDS: dict[str, typer.Typer] = {
    "txm-streamer": streamer.cli.app, "txm-simulator": simulator.cli.app, "txm-monitor": monitor.cli.app}

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
INLINE = re.compile(r"`([^`\n]+)`")
PROTOCOL = (DOCS / "protocol.md").read_text(encoding="utf-8")
RUNNABLE = [block for language, block in FENCE.findall(PROTOCOL) if language == "python"]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return [block for found, block in FENCE.findall(page.read_text(encoding="utf-8")) if found == language]


def anchors(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *BESIDE], ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{name_of(page)} links to {link}, which does not exist"
        assert path.is_relative_to(ROOT), f"{name_of(page)} links out of the project: {link}"
        if anchor:
            assert anchor in anchors(path), f"{name_of(page)} links to {link}, which is no heading there"


def test_every_page_is_linked_from_somewhere() -> None:
    linked = {(page.parent / link.partition("#")[0]).resolve() for page in PAGES
              for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link}
    assert {page for page in PAGES if page.parent != ROOT} <= linked


def test_settings_page_equals_the_code() -> None:
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    tables = page.partition("(`txm-streamer settings --table`).\n\n")[2]
    assert tables == to_markdown(), "docs/settings.md is old; end it with the output of 'txm-streamer settings --table'"


def test_every_setting_has_one_line_in_the_tables() -> None:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]]
             for line in to_markdown().splitlines() if line.startswith("| `")]
    assert [(line[0], line[1], line[3], line[4] == "yes", line[5]) for line in lines] == [
        (f"`{key}`", f"`{setting.default_text}`", setting.unit, setting.live, setting.text)
        for key, setting in describe().items()]


def test_columns_are_all_described_in_order() -> None:
    from streamer.records import FrameRow

    text = (DOCS / "conventions.md").read_text(encoding="utf-8").split("## Columns", 1)[1].split("\n## ", 1)[0]
    lines = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")][2:]
    assert [name for line in lines for name in re.findall(r"\w+", line)] == list(FrameRow.__struct_fields__)


def test_settings_named_in_the_text_exist() -> None:
    known = set(describe())
    sections = {key.partition(".")[0] for key in known if "." in key}
    for page in PAGES:
        for word in INLINE.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
            key = word.removeprefix("--set ").partition("=")[0].strip()
            if key.endswith((".csv", ".py", ".sqlite")):
                continue
            if re.fullmatch(r"[a-z]+\.[a-z_]+", key) and key.partition(".")[0] in sections:
                assert key in known, f"{name_of(page)} names the setting {key}, which does not exist"


def shown_command_lines() -> list[tuple[str, str]]:
    return [(name_of(page), line) for page in PAGES for block in blocks(page, "sh")
            for line in block.replace("\\\n", " ").splitlines() if line.startswith("txm-")]


@pytest.mark.parametrize(("page", "line"), shown_command_lines())
def test_shown_command_lines_parse(page: str, line: str) -> None:
    del page   # part of the name of the test
    parse(line)


def parse(line: str) -> None:
    """Read a command line as its program would, and run nothing."""
    program, *arguments = shlex.split(line.partition(" > ")[0], comments=True)
    command: Any = typer.main.get_command(COMMANDS[program])
    if hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    given = command.make_context(program, arguments).params
    load(assignments=given.get("assignments") or ())   # the values of --set


@pytest.mark.parametrize(("line", "reason"), [
    ("txm-streamer run --no-such-option", "No such option"),
    ("txm-streamer run --set blur.no_such=1", "unknown setting"),
    ("txm-streamer analyse scan.tif", "out"),
])
def test_wrong_command_lines_would_be_found(line: str, reason: str) -> None:
    with pytest.raises(Exception, match=reason):
        parse(line)


def test_scenarios_are_all_listed_with_their_length() -> None:
    table = re.findall(r"^\| `(\w+)` \| (\d+) \|", (DOCS / "simulator.md").read_text(encoding="utf-8"), re.MULTILINE)
    lengths = {name: scenario.build(Request(shape=(96, 96))).projections for name, scenario in catalogue().items()}
    assert {name: int(length) for name, length in table} == {name: len(found) for name, found in lengths.items()}


def test_keys_of_the_dashboard_exist() -> None:
    pytest.importorskip("pyqtgraph.Qt", reason="Qt does not load here")
    from monitor.bell import Bell
    from monitor.control import Control
    from monitor.export import Exporter
    from monitor.keys import KEYS
    from monitor.window import PANELS

    table = (DOCS / "dashboard.md").read_text(encoding="utf-8").split("| key | does |\n| --- | --- |\n", 1)[1]
    named = [key.strip() for line in table.split("\n\n", 1)[0].splitlines()
             for key in line.split("|")[1].replace("1 to 9", ", ".join("123456789")).split(",")]
    actors = [Bell, Control, Exporter, *(panel for group in PANELS.values() for panel in group)]
    known = {action.key for actions in (*KEYS.values(), *(one.actions_by_key for one in actors)) for action in actions}
    assert set(named) <= known
    assert len(named) == len(set(named))


def run_block(number: int, replace: dict[str, str]) -> dict[str, Any]:
    program = RUNNABLE[number]
    for default, address in replace.items():
        program = program.replace(default, address)
    assert "tcp://127.0.0.1:555" not in program
    names: dict[str, Any] = {}
    exec(compile(program, f"docs/protocol.md, python block {number}", "exec"), names)  # noqa: S102  (our own page)
    return names


SENDERS: dict[int, tuple[str, Callable[[list[Any]], bool]]] = {
    0: ("sub", lambda items: [item.index for item in items[:3]] == [0, 1, 2] and items[0].acquisition == "scan"),
    1: ("pull", lambda items: [item.kind for item in items[:4]] == ["dark", "flat", "projection", "projection"]
        and items[0].pixel_size_nm == 33.24 and items[0].expected == 4),
    2: ("pull", lambda items: [item.index for item in items] == [-1, -1, -1]),
}


@pytest.mark.parametrize("number", SENDERS)
def test_senders_are_understood(number: int) -> None:
    pattern, is_right = SENDERS[number]
    address = f"inproc://docs-{number}"
    settings = FramesSettings(endpoint=address, pattern=pattern, bind=pattern == "pull")   # type: ignore[arg-type]
    with ZeroMQSource(settings, context=zmq.Context.instance()) as source:
        run_block(number, {"tcp://127.0.0.1:5555": address})
        items: list[Any] = []
        while (item := source.receive(2.0 if not items else 0.2)) is not None:
            items.append(item)
    frames = [item for item in items if isinstance(item, Frame)]
    assert all(frame.pixels.shape == (160, 200) and frame.pixels.dtype == "uint16" for frame in frames)
    assert frames
    assert is_right(items)
    assert len(items) - len(frames) == sum(isinstance(item, EndOfAcquisition) for item in items) == (number < 2)


def addresses(run: Live) -> dict[str, str]:
    outbox = run.service.outbox
    return {"tcp://127.0.0.1:5556": outbox.results_endpoint, "tcp://127.0.0.1:5557": outbox.control_endpoint}


def test_listeners_and_commands_work_on_a_live_streamer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with live(tmp_path / "session", "engine.kind=inline", "flow.enabled=false") as run:
        run_block(1, {"tcp://127.0.0.1:5555": run.service.status().frames_endpoint})
        run.collect("frame", 4)
        assert list(run_block(6, addresses(run))["table"]) == [("scan", number) for number in range(4)]
        assert run_block(5, addresses(run))["answer"]["ok"] is True
        pictures = run_block(4, addresses(run))
        wait_until(lambda: len(pictures["film"](run.client)[0]) == 2, what="both thumbnails")
        assert pictures["brightness"](run.client, 3).shape == (160, 200)
        run_block(3, addresses(run))
        assert "status" in capsys.readouterr().out


def test_every_python_block_of_the_protocol_is_run() -> None:
    assert len(RUNNABLE) == len(SENDERS) + 4


def test_default_addresses_are_those_of_the_settings() -> None:
    assert set(re.findall(r"tcp://127\.0\.0\.1:\d+", PROTOCOL)) == {
        describe()[key].default for key in FREE_PORTS if str(describe()[key].default).startswith("tcp://")}


def test_ops_of_the_table_are_those_of_the_streamer(tmp_path: Path) -> None:
    table = PROTOCOL.split("| op | arguments |", 1)[1].split("\n\n", 1)[0]
    told = set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
    with live(tmp_path / "session", "engine.kind=inline") as run, pytest.raises(ValueError, match="knows") as refusal:
        run.client.request("no such op")
    known = set(str(refusal.value).partition("knows ")[2].split(", "))
    assert told == known
