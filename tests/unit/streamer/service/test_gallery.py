"""Pictures for the screen: bounded, oldest first, the ones that matter last; losing the file loses nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.errors import SessionError
from streamer.journal import Batch, Journal
from streamer.records import FrameRow
from streamer.service.gallery import FILE_NAME, Gallery, KeptPicture, Thumbnail

KB = 1000


def _picture(index: int, *, size: int = 100 * KB, kind: str = "corrected") -> KeptPicture:
    return KeptPicture("a", index, kind, "main", 2, -0.5, 0.25, 33.0, bytes([index % 256]) * size)


def _thumbnail(index: int, *, size: int = KB) -> Thumbnail:
    return Thumbnail("a", index, "main", complete=True, corrected=True, data=b"t" * size)


def _journal(folder: Path, *rows: FrameRow) -> None:
    with Journal(folder, create=True) as journal:
        journal.write(Batch(rows=list(enumerate(rows, 1))))


def _row(index: int, **columns: object) -> FrameRow:
    return FrameRow(**({"index": index, "acquisition": "a", "view": "main", "kind": "projection", "verdict": "sharp"}
                       | columns))   # type: ignore[arg-type]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    with Gallery(tmp_path, create=True) as gallery:
        gallery.write([_picture(1), _picture(1, kind="raw", size=5)], [_thumbnail(1)])
    with Gallery(tmp_path) as gallery:
        assert gallery.picture("a", 1, "corrected") == _picture(1)
        assert gallery.picture("a", 1, "raw") == _picture(1, kind="raw", size=5)
        assert gallery.picture("a", 2, "raw") is gallery.picture("b", 1, "raw") is gallery.thumbnail("a", 2) is None
        assert gallery.thumbnail("a", 1) == _thumbnail(1)
        assert gallery.sizes() == (100 * KB + 5, KB)


def test_thumbnails_come_in_pages(tmp_path: Path) -> None:
    with Gallery(tmp_path, create=True) as gallery:
        gallery.write([], [_thumbnail(index) for index in range(5)])
        first = gallery.thumbnails(since=0, limit=3)
        rest = gallery.thumbnails(since=first[-1][0], limit=3)
        assert [small.index for _, small in first + rest] == [0, 1, 2, 3, 4]
        gallery.write([], [_thumbnail(0, size=7)])   # made anew: it comes again
        assert [small.index for _, small in gallery.thumbnails(since=rest[-1][0], limit=3)] == [0]


def test_the_oldest_unremarkable_pictures_go_first(tmp_path: Path) -> None:
    _journal(tmp_path, _row(0), _row(1, verdict="blurred"), _row(2, reference_index=0), _row(3, reference_index=0),
             _row(4, recollects=2), _row(5), _row(6, verdict="bad"), _row(7))
    with Gallery(tmp_path, create=True) as gallery:
        gallery.write([_picture(index) for index in range(8)], [_thumbnail(index) for index in range(8)])
        kept = {}
        for limit_kb in (850, 600, 300):   # nine tenths of it for pictures
            gallery.make_room(limit_kb * KB)
            kept[limit_kb] = [index for index in range(8) if gallery.picture("a", index, "corrected")]
            assert gallery.sizes()[0] <= 0.9 * limit_kb * KB
        assert kept[850] == [0, 1, 2, 4, 5, 6, 7]   # 3 was the oldest that nobody will ask for
        assert kept[600] == [0, 1, 2, 4, 6]   # the reference, two flagged ones, and a frame with the one it replaces
        assert kept[300] == [4, 6]
        assert len(gallery.thumbnails(since=0, limit=10)) == 8   # they have room of their own


def test_thumbnails_are_bounded_too(tmp_path: Path) -> None:
    _journal(tmp_path, *(_row(index, verdict="blurred" if index == 0 else "sharp") for index in range(50)))
    with Gallery(tmp_path, create=True) as gallery:
        gallery.write([], [_thumbnail(index) for index in range(50)])
        assert gallery.make_room(100 * KB) == 0
        left = [small.index for _, small in gallery.thumbnails(since=0, limit=100)]
    assert left == [0, *range(42, 50)]


def test_the_file_does_not_grow_beyond_its_bound(tmp_path: Path) -> None:
    with Gallery(tmp_path, create=True) as gallery:
        for index in range(60):
            gallery.write([_picture(index)], [_thumbnail(index)])
            gallery.make_room(1000 * KB)
    assert (tmp_path / FILE_NAME).stat().st_size < 1300 * KB


def test_without_a_journal_the_oldest_go(tmp_path: Path) -> None:
    with Gallery(tmp_path, create=True) as gallery:
        gallery.write([_picture(index) for index in range(4)], [])
        assert gallery.make_room(300 * KB) == 2
        assert [index for index in range(4) if gallery.picture("a", index, "corrected")] == [2, 3]


def test_a_broken_file_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database, but long enough to be taken for a header of one" * 20)
    with Gallery(tmp_path, create=True) as gallery:
        gallery.write([_picture(1)], [])
        assert gallery.picture("a", 1, "corrected") == _picture(1)


def test_a_file_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(SessionError, match=FILE_NAME):
        Gallery(tmp_path, create=True)
    with pytest.raises(SessionError, match=r"cannot be read"):
        Gallery(tmp_path / "nowhere")


def test_a_session_that_goes_on_keeps_its_pictures(tmp_path: Path) -> None:
    for index in range(2):
        with Gallery(tmp_path, create=True) as gallery:
            gallery.write([_picture(index)], [_thumbnail(index)])
    with Gallery(tmp_path) as gallery:
        assert [small.index for _, small in gallery.thumbnails(since=0, limit=9)] == [0, 1]
