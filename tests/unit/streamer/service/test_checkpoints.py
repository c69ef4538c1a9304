from __future__ import annotations

import time
from pathlib import Path

import pytest

from streamer.journal import FILE_NAME, Batch, Journal
from streamer.service import checkpoints
from streamer.service.checkpoints import Checkpoints


def test_what_was_committed_reaches_the_journal_without_another_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_EVERY_S", 0.02)
    path = tmp_path / FILE_NAME
    with Journal(tmp_path, create=True) as journal:
        thread = Checkpoints(journal)
        journal.write(Batch(state={"much": bytes(1 << 20)}))
        end = time.monotonic() + 10.0
        while path.stat().st_size < 1 << 20 and time.monotonic() < end:
            time.sleep(0.02)
        assert path.stat().st_size >= 1 << 20
        thread.close()
