"""The pages about connecting detectors: settings are read, the example is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streamer.protocols import names
from streamer.records import EndOfAcquisition, Frame
from streamer.settings import FramesSettings, load
from streamer.sources.ntndarray import read_rules
from streamer.sources.zeromq import ZeroMQSource

CONNECT = Path(__file__).parents[2] / "docs" / "connect"


@pytest.mark.parametrize("path", sorted(CONNECT.glob("*.toml")), ids=lambda path: path.stem)
def test_settings_files_are_read(path):
    frames = load(path).frames
    assert frames.protocol in {"auto", *names()}
    assert frames.endpoint.partition("://")[0] in {"tcp", "pva", "folder", "file"}
    read_rules(frames.attributes)
    pages = [page.read_text() for page in CONNECT.glob("*.md")]
    assert sum(f"({path.name})" in page for page in pages) >= 2, f"{path.name} is shown by no page"


def test_the_ten_lines_send_frames():
    code, = re.findall(r"```python\n(.*?)```", (CONNECT / "pyzmq.md").read_text(), re.DOTALL)
    with ZeroMQSource(FramesSettings(endpoint="tcp://127.0.0.1:*", pattern="pull", bind=True)) as source:
        exec(code.replace("tcp://127.0.0.1:5555", source.endpoint), {})  # noqa: S102
        items = [source.receive(5.0) for _ in range(4)]
    assert all(isinstance(item, Frame) and item.pixels.shape == (654, 678) for item in items[:3])
    assert items[3] == EndOfAcquisition(acquisition="test")
