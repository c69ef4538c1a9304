"""What a listener may ask of the session beside the analysis: pictures, thumbnails, displacement fields."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from streamer.errors import CommandError
from streamer.journal import Journal
from streamer.records import STRAIN_PLANES, STRAIN_UNITS, FlowResult, FrameRow
from streamer.service.gallery import FILE_NAME, Gallery, Thumbnail
from streamer.tracking.material import regions_of, strain_planes, volume_of
from streamer.wire import encode_array

_KINDS = ("corrected", "raw")
_MOST_THUMBNAILS = 1000
_LARGEST = 2**63


def picture(journal: Journal, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a request for the picture of a frame; without an acquisition, of the newest frame of that number.

    Raises
    ------
    CommandError
        If the arguments are wrong, there is no such frame, or its picture is not kept, and why.
    """
    kind = arguments.get("kind", "corrected")
    if kind not in _KINDS:
        raise CommandError(f"picture: kind is {kind!r}, expected one of {', '.join(map(repr, _KINDS))}")
    row = _asked_for("picture", journal, arguments)
    if not (journal.folder / FILE_NAME).is_file():
        raise CommandError(f"picture: {_name(row)} has none, the session keeps no pictures (pictures.kept_mb is 0, "
                           "it was made of a recording, or nothing was measured yet)")
    with Gallery(journal.folder) as gallery:
        found = gallery.picture(row.acquisition, row.index, kind)
        small = gallery.thumbnail(row.acquisition, row.index)
        if found is None and small is not None and not small.corrected:
            found = gallery.picture(row.acquisition, row.index, "corrected")   # nothing was corrected: it is the same
    if found is None:
        raise CommandError(_why_none(row, small))
    return {**msgspec.structs.asdict(found), "encoding": "jpeg", "data": _text(found.data)}


def _why_none(row: FrameRow, small: Thumbnail | None) -> str:
    """Say why there is no picture of a frame."""
    if row.kind != "projection":
        return f"picture: {_name(row)} is a {row.kind}, only projections have pictures"
    if row.verdict is None:
        return f"picture: {_name(row)} was not measured and has none ({row.problems})"
    if small is None:
        return (f"picture: {_name(row)} has none yet, or it was removed to make room, or its frame came while "
                "pictures.kept_mb was 0")
    if small.complete:
        return (f"picture: that of {_name(row)} was removed to make room for others; pictures.kept_mb sets how much "
                "is kept")
    return (f"picture: {_name(row)} has a thumbnail alone: frames came faster than pictures could be made, or the "
            "session was made of a recording, and the recording has it")


def thumbnails(journal: Journal, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a request for the thumbnails after a number, page by page.

    Raises
    ------
    CommandError
        If the arguments are wrong.
    """
    since, limit = arguments.get("since", 0), arguments.get("limit", _MOST_THUMBNAILS)
    if not _whole(since) or since < 0:
        raise CommandError(f"thumbnails since {since!r}: expected a number from 0, such as 'next' of the page before")
    if not _whole(limit) or not 1 <= limit <= _MOST_THUMBNAILS:
        raise CommandError(f"thumbnails limit {limit!r}: expected a number from 1 to {_MOST_THUMBNAILS}")
    if not (journal.folder / FILE_NAME).is_file():
        return {"thumbnails": [], "next": since, "more": False}
    with Gallery(journal.folder) as gallery:
        found = gallery.thumbnails(since=since, limit=limit + 1)
    page = found[:limit]
    return {"thumbnails": [{"index": small.index, "acquisition": small.acquisition, "view": small.view,
                            "data": _text(small.data)} for _, small in page],
            "next": page[-1][0] if page else since, "more": len(found) > limit}


def flow(journal: Journal, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a request for the displacement field of a frame; without an acquisition, of the newest of that number.

    Strain and regions come with it, the particles only of the newest frame that was analysed while its image was
    there; without an index, that one is sent.

    Raises
    ------
    CommandError
        If the arguments are wrong, or there is no such frame or field.
    """
    if "index" not in arguments:
        return _newest_analysed(journal, arguments.get("view"))
    row = _asked_for("flow", journal, arguments)
    found = next(journal.flows(acquisition=row.acquisition, index=row.index), None)
    if found is None:
        reason = ("flow: only projections have a field" if row.kind != "projection" else
                  "blurred and bad frames, frames whose drift is not known, and frames that were skipped because a "
                  "newer one came have none")
        raise CommandError(f"flow: {_name(row)} has no displacement field; {reason}")
    newest = next(journal.analysed(view=found.view), None)
    if newest is not None and (newest.acquisition, newest.index) == (found.acquisition, found.index):
        return _sent(newest)
    labels, groups, reason = regions_of(found, None if newest is None else newest.regions)
    analysis = {"regions": groups, "regions_reason": reason, "representative_volume": volume_of(found)}
    return _sent(msgspec.structs.replace(found, regions=labels, analysis=analysis))


def _newest_analysed(journal: Journal, view: object) -> dict[str, Any]:
    """Answer with the newest field whose particles were looked at, of a view or of any."""
    if view is not None and not isinstance(view, str):
        raise CommandError(f"flow: view is {view!r}, expected its name")
    known = list(journal.analysed(view=view))
    if not known:
        where = "" if view is None else f" of view {view!r}"
        raise CommandError(f"flow: no field{where} has been analysed yet; give the index of a frame")
    return _sent(known[-1])


def _sent(field: FlowResult) -> dict[str, Any]:
    """Write a field as it is sent, with its strain."""
    fields = msgspec.structs.asdict(msgspec.structs.replace(field, strain=strain_planes(field)))
    planes = [{"name": name, "unit": unit} for name, unit in zip(STRAIN_PLANES, STRAIN_UNITS, strict=True)]
    return {name: encode_array(value) if isinstance(value, np.ndarray) else value
            for name, value in fields.items()} | {"strain_planes": planes}


def _asked_for(op: str, journal: Journal, arguments: Mapping[str, Any]) -> FrameRow:
    """Return the row of the frame that is meant."""
    index, acquisition = arguments.get("index"), arguments.get("acquisition")
    if not isinstance(index, int) or not _whole(index):
        raise CommandError(f"{op}: index is {index!r}, expected the number of a frame")
    if acquisition is not None and not isinstance(acquisition, str):
        raise CommandError(f"{op}: acquisition is {acquisition!r}, expected its name")
    row = journal.row(index, acquisition=acquisition)
    if row is None:
        where = "" if acquisition is None else f" of {acquisition!r}"
        raise CommandError(f"{op}: the session holds no frame {index}{where}")
    return row


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -_LARGEST <= value < _LARGEST


def _name(row: FrameRow) -> str:
    return f"frame {row.index} of {row.acquisition!r}"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
