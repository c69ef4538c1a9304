"""The programs of docs/recollect.md that listen to requests do what the page says; that of bluesky: tests/system."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.fake_streamer import FakeStreamer
from support.waiting import wait_until

from streamer.notify.epics import Variables
from streamer.records import Recollection, RecollectionState

PAGE = (Path(__file__).parents[2] / "docs" / "recollect.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ZMQ, EPICS = BLOCKS[0], BLOCKS[3]


def wish(number: int, index: int, *, tries: int = 0, state: RecollectionState = "open") -> Recollection:
    return Recollection(id=number, requested_at="2026-03-01T09:00:00.000000+00:00", acquisition="scan", index=index,
                        view="main", reason=f"frame {index} is blurred", tries=tries, state=state)


def test_every_field_of_a_request_is_described() -> None:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"\w+", row)}
    assert told == set(Recollection.__struct_fields__) - {"requested_at", "changed_at", "served_by", "verdict"}


def test_ten_lines_of_pyzmq_tell_each_exposure_once() -> None:
    fake = FakeStreamer()
    program = ZMQ.replace("tcp://127.0.0.1:5556", fake.results)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            fake.wait_for_subscriber(20)   # recollect
            fake.wait_for_subscriber(20)   # status
            for change in (wish(1, 12), wish(1, 12, tries=1), wish(2, 30)):
                fake.send("recollect", change)
            fake.status(recollections=[wish(1, 12, tries=1), wish(3, 31)])   # one was missed
            fake.send("recollect", wish(1, 12, tries=2, state="served"))
            fake.status(recollections=[wish(3, 31), wish(4, 32)])
            lines = [process.stdout.readline() for _ in range(5)]
        finally:
            process.kill()
            fake.close()
    assert [line.split(" again")[0] for line in lines] == [
        f"take frame {index}" for index in (12, 12, 30, 31, 32)]
    assert lines[0].endswith("view main, frame 12 is blurred\n")


def test_the_process_variable_tells_the_requests(capsys: pytest.CaptureFixture[str]) -> None:
    util = pytest.importorskip("p4p.util")
    served = Variables("TXM:", network="isolated")
    served.start()
    queue = util.ThreadedWorkQueue(maxsize=0, workers=1, daemon=True).start()   # that of p4p itself never ends
    names: dict[str, Any] = {"conf": served.conf, "queue": queue}
    program = EPICS.replace('("pva")', '("pva", conf=conf, useenv=False)').replace(", look)", ", look, queue=queue)")
    said = ""
    try:
        exec(compile(program, "docs/recollect.md, EPICS", "exec"), names)  # noqa: S102  (our own page)
        served.show(wish(1, 12))

        def told() -> bool:
            nonlocal said
            said += capsys.readouterr().out
            return "take frame 12 again: view main, frame 12 is blurred" in said

        wait_until(told)
    finally:
        names["subscription"].close()
        names["context"].close()
        queue.stop()
        served.close()
