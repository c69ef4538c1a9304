"""Pictures, thumbnails and fields of a running streamer, over real sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.acquisitions import acquisition
from support.live import Live, live
from support.waiting import wait_until

from streamer.records import Frame


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return acquisition(5, seed=31, blurred=(3,))


def _thumbnails(running: Live, count: int) -> list[dict[str, Any]]:
    wait_until(lambda: len(running.client.thumbnails()[0]) >= count, what=f"{count} thumbnails")
    return running.client.thumbnails()[0]


def test_every_frame_can_be_looked_at_again(frames: list[Frame], tmp_path: Path) -> None:
    projections = [frame for frame in frames if frame.kind == "projection"]
    with live(tmp_path, "flow.enabled=false") as running:
        for frame in frames:   # one by one, so that no picture is skipped
            running.sender.send([frame])
            running.collect("frame", 1)
        small = _thumbnails(running, len(projections))
        assert [one["index"] for one in small] == [frame.index for frame in projections]
        assert all(one["data"].startswith(b"\xff\xd8") for one in small)
        shown = running.client.picture(projections[1].index)
        raw = running.client.picture(projections[1].index, projections[1].acquisition, "raw")
    assert shown.view == "main"
    assert shown.pixels.shape == raw.pixels.shape == projections[1].pixels.shape
    pixels = projections[1].pixels.astype(float)
    inside = (pixels > raw.offset) & (pixels < raw.offset + 255 * raw.scale)
    error = raw.offset + raw.scale * raw.pixels - pixels
    assert np.sqrt(np.mean(error[inside] ** 2)) < 4 * raw.scale
    assert abs(float(np.median(shown.offset + shown.scale * shown.pixels)) - 1.0) < 0.5   # transmission, not counts
