"""Frames that a session has already."""

from __future__ import annotations

import numpy as np

from streamer.clock import utc_text
from streamer.journal import Batch, Journal
from streamer.records import Event, Frame, FrameRow, Refusal
from streamer.service.known import known_frames


def frame(index, *, acquisition="scan", exposed_at=None):
    return Frame(pixels=np.zeros((2, 2)), index=index, acquisition=acquisition, exposed_at=exposed_at)


def test_nothing_is_known_of_a_session_that_is_not_there(tmp_path):
    known = known_frames(tmp_path)
    assert not known(frame(0))
    assert not known(Refusal(reason="x"))


def test_frames_are_known_by_number_or_time_and_refusals_by_their_words(tmp_path):
    with Journal(tmp_path, create=True) as journal:
        journal.write(Batch(
            rows=[(1, FrameRow(index=4, acquisition="scan", view="main", kind="projection",
                               exposed_at=utc_text(1772355600.0)))],
            events=[Event(kind="malformed", text="scan_5.tif: is cut")]))
    known = known_frames(tmp_path)
    assert known(frame(4))
    assert not known(frame(5))
    assert not known(frame(4, acquisition="other"))
    assert known(frame(-1, exposed_at=1772355600.0))
    assert not known(frame(-1, exposed_at=1772355601.0))
    assert not known(frame(-1))
    assert known(Refusal(reason="scan_5.tif: is cut"))
    assert not known(Refusal(reason="scan_6.tif: is cut"))
    assert known(Refusal(reason="x", index=4, acquisition="scan"))
