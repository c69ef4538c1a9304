"""Rows of frames as columns that grow by halves, so that charts of a long run are drawn from arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.errors import ProtocolError
from streamer.records import FRAME_TEXTS, KINDS, AnyArray, FrameRow

Columns = Mapping[str, AnyArray | list[str | None]]
"""As `wire.decode_columns` returns them."""
FloatColumn = NDArray[np.float64]
IntColumn = NDArray[np.int64]
BoolColumn = NDArray[np.bool_]

VERDICTS = ("", "sharp", "blurred", "undecided", "bad")
SHAPES = ("", "motion", "defocus", "mixed")
"""Of the blur."""

_ISO = len("2026-01-31T12:00:00.000000+00:00")
_ACQUISITION_BITS = 20
_WHOLE = frozenset({"index", "psf_group", "reference_index", "recollects", "revision", "settings_revision"})
_NUMBERS = tuple(name for name in FrameRow.__struct_fields__ if name not in FRAME_TEXTS)
_CHARTED = ("index", "provisional", "blur_length_px", "blur_length_sigma_px", "blur_angle_deg", "blur_limit_px",
            "blur_score", "drift_y_px", "drift_x_px", "drift_sigma_px", "trend_y_px", "trend_x_px", "jitter_y_px",
            "jitter_x_px", "flow_median_px", "flow_p95_px")
_DEFAULTS = {"provisional": 0.0, "revision": 0.0, "settings_revision": 0.0}
_PLACE = {name: number for number, name in enumerate(_NUMBERS)}
_VERDICT_CODES = {word: code for code, word in enumerate(VERDICTS)}
_FLAGGED = frozenset({VERDICTS.index("blurred"), VERDICTS.index("undecided"), VERDICTS.index("bad")})


@dataclass(frozen=True, order=True)
class Key:
    """What names a frame in a session."""

    acquisition: str
    index: int


@dataclass(frozen=True, order=True)
class Start:
    """Where an acquisition begins on the frame axis."""

    order: float
    index: int
    """Lowest frame number of the acquisition."""
    acquisition: str


@dataclass(frozen=True, eq=False)
class Charts:
    """Columns of projections and flagged frames, sorted by `order`; ``numbers`` holds NaN where there is no value."""

    version: int = -1
    views: tuple[str, ...] = ()
    """Names; `view` holds numbers of this tuple."""
    starts: tuple[Start, ...] = ()
    """Sorted by order."""
    order: FloatColumn = field(default_factory=lambda: np.empty(0))
    """(n,) frame number, continued from one acquisition to the next."""
    position: IntColumn = field(default_factory=lambda: np.empty(0, np.int64))
    """(n,) place in the store, for `Store.row`."""
    view: IntColumn = field(default_factory=lambda: np.empty(0, np.int64))
    verdict: IntColumn = field(default_factory=lambda: np.empty(0, np.int64))
    """(n,) numbers of `VERDICTS`."""
    shape: IntColumn = field(default_factory=lambda: np.empty(0, np.int64))
    """(n,) numbers of `SHAPES`."""
    flagged: BoolColumn = field(default_factory=lambda: np.empty(0, np.bool_))
    """(n,) blurred, undecided, bad or refused."""
    numbers: Mapping[str, FloatColumn] = field(default_factory=lambda: {name: np.empty(0) for name in _CHARTED})

    def only(self, view: str | None) -> Charts:
        """Return the rows of one view, or all for None."""
        if view is None:
            return self
        mine = self.view == (self.views.index(view) if view in self.views else -1)
        return replace(
            self, order=self.order[mine], position=self.position[mine], view=self.view[mine],
            verdict=self.verdict[mine], shape=self.shape[mine], flagged=self.flagged[mine],
            numbers={name: column[mine] for name, column in self.numbers.items()})


class _Words:
    """Texts that repeat, kept once and known by number."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, word: str) -> int:
        if word not in self._numbers:
            self._numbers[word] = len(self.words)
            self.words.append(word)
        return self._numbers[word]

    def all(self, words: Sequence[str]) -> IntColumn:
        """Return the numbers of many words."""
        for word in dict.fromkeys(words):
            self.number(word)
        return _codes(self._numbers, words)

    def find(self, word: str) -> int:
        """Return the number of a word, -1 if it never came."""
        return self._numbers.get(word, -1)


class _Texts:
    """The texts of rows as columns, checked; what is missing is empty."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._empty = [""] * len(columns["index"])
        try:
            self.verdicts = _codes(_VERDICT_CODES, self["verdict"])
        except KeyError as error:
            raise ProtocolError(f"a row has another verdict than {', '.join(VERDICTS[1:])}") from error
        if unknown := {*self["kind"]} - {*KINDS}:
            raise ProtocolError(f"rows are of the kind {', '.join(sorted(unknown))!r}; expected {', '.join(KINDS)}")

    def __getitem__(self, name: str) -> list[str]:
        texts = self._columns.get(name, self._empty)
        return [text or "" for text in texts] if None in texts else texts   # type: ignore[return-value]


class _Moments:
    """Moments in ISO 8601 as a column of bytes: two texts a row would take four times as much, in small pieces."""

    def __init__(self) -> None:
        self.column = np.zeros(256, f"S{_ISO}")
        self._others: dict[int, str] = {}
        """Texts that do not fit, by place."""

    def put(self, place: int, text: str | None) -> None:
        fits = text is None or (len(text) <= _ISO and text.isascii())
        self.column[place] = text if fits and text is not None else b""
        self._others.pop(place, None)
        if text is not None and not fits:
            self._others[place] = text

    def put_all(self, places: IntColumn, texts: list[str]) -> None:
        if self._others or not "".join(texts).isascii() or max(map(len, texts), default=0) > _ISO:
            for place, text in zip(places.tolist(), texts, strict=True):
                self.put(place, text)
        else:
            self.column[places] = np.array(texts, self.column.dtype)

    def at(self, place: int) -> str:
        """Return the moment of a row, empty if there is none."""
        return self._others.get(place) or self.column[place].decode()

    def all(self, places: IntColumn) -> list[str]:
        """Return those of many rows."""
        if self._others:
            return [self.at(place) for place in places.tolist()]
        found: list[str] = self.column[places].astype(f"U{_ISO}").tolist()
        return found


class RowTable:
    """Rows as growing columns."""

    def __init__(self) -> None:
        self.length = 0
        self.places: dict[int, int] = {}
        """By `_name`."""
        self.numbers = np.empty((len(_NUMBERS), 256))
        self.codes = np.empty((6, 256), np.int64)
        """acquisition, view, kind, verdict, sequence, shape of the blur."""
        self.flagged = np.empty(256, np.bool_)
        self.drawn = np.empty(256, np.bool_)
        """Projections and flagged frames; flats and darks would only take room in the charts."""
        self.problems: dict[int, str] = {}
        self.exposed, self.received = _Moments(), _Moments()
        self.arrived = np.empty(256)
        """Unix s of `received_at`; NaN where it is not known."""
        self.replaced: dict[tuple[int, int], int] = {}
        self.acquisitions, self.views, self.kinds, self.shapes = _Words(), _Words(), _Words(), _Words()
        self.spans: dict[int, tuple[int, int, str]] = {}
        """Per acquisition with drawn rows: lowest index, highest index, earliest time of arrival."""
        self.drawn_views: list[str] = []

    def put(self, row: FrameRow, sequence: int) -> bool:
        """Add or replace a row; False if a newer revision is already here."""
        acquisition = self.acquisitions.number(row.acquisition)
        key = _name(acquisition, row.index)
        place = self.places.get(key)
        if place is None:
            place = self._append(key)
        elif sequence < self.codes[4, place]:
            return False
        values = (getattr(row, name) for name in _NUMBERS)
        self.numbers[:, place] = [np.nan if value is None else value for value in values]
        verdict = VERDICTS.index(row.verdict or "")
        self.codes[:, place] = (
            acquisition, self.views.number(row.view), self.kinds.number(row.kind), verdict, sequence,
            self.shapes.number(row.blur_shape))
        self.exposed.put(place, row.exposed_at)
        self.received.put(place, row.received_at)
        self.arrived[place] = _unix_s(row.received_at)
        self.flagged[place] = verdict in _FLAGGED or (verdict == 0 and row.problems != "")
        if row.problems:
            self.problems[place] = row.problems
        else:
            self.problems.pop(place, None)
        if row.recollects is not None:
            self.replaced[acquisition, row.recollects] = row.index
        self.drawn[place] = row.kind == "projection" or self.flagged[place]
        if self.drawn[place] and row.recollects is None:   # those taken again stand between the others
            self._widen(acquisition, row)
        return True

    def put_all(self, columns: Columns, sequence: int) -> IntColumn:
        """Add or replace many rows at once; return the places of those that were taken in.

        Raises
        ------
        ProtocolError
            If a kind or a verdict is none.
        """
        table = _Texts(columns)
        index = np.nan_to_num(np.asarray(columns["index"], np.float64)).astype(np.int64)
        acquisition = self.acquisitions.all(table["acquisition"])
        places = self._find_all((index << _ACQUISITION_BITS | acquisition).tolist(), sequence)
        new = np.flatnonzero(self.codes[4, places] <= sequence)
        places = places[new]
        for line, name in enumerate(_NUMBERS):
            given = np.asarray(columns[name], np.float64)[new] if name in columns else _DEFAULTS.get(name, np.nan)
            self.numbers[line, places] = given
        self.codes[:, places] = np.stack([
            acquisition, self.views.all(table["view"]), self.kinds.all(table["kind"]), table.verdicts,
            np.full(index.size, sequence), self.shapes.all(table["blur_shape"])])[:, new]
        problems = np.array(table["problems"], object)[new]
        troubled = problems != ""
        verdict = self.codes[3, places]
        self.flagged[places] = np.isin(verdict, list(_FLAGGED)) | ((verdict == 0) & troubled)
        self.drawn[places] = (self.codes[2, places] == self.kinds.find("projection")) | self.flagged[places]
        exposed, received = (np.array(table[name], object)[new].tolist() for name in ("exposed_at", "received_at"))
        self.exposed.put_all(places, exposed)
        self.received.put_all(places, received)
        self.arrived[places] = np.fromiter(map(_unix_s, received), np.float64, len(received))
        for place in self.problems.keys() & set(places.tolist()):
            del self.problems[place]
        self.problems.update(zip(places[troubled].tolist(), problems[troubled].tolist(), strict=True))
        again = self.numbers[_PLACE["recollects"], places]
        for place in places[np.isfinite(again)].tolist():
            self._replace(place)
        self._widen_all(places)
        return places

    def _find_all(self, keys: list[int], sequence: int) -> IntColumn:
        """Return the places of rows by `_name`, new ones among them, which get this sequence number."""
        first = self.length
        for key in keys:
            if key not in self.places:
                self._append(key)
        self.codes[4, first:self.length] = sequence
        return _codes(self.places, keys)

    def _replace(self, place: int) -> None:
        replaced = int(self.numbers[_PLACE["recollects"], place])
        self.replaced[int(self.codes[0, place]), replaced] = int(self.numbers[_PLACE["index"], place])

    def _widen_all(self, places: IntColumn) -> None:
        drawn = places[self.drawn[places] & np.isnan(self.numbers[_PLACE["recollects"], places])]
        for code in dict.fromkeys(self.codes[1, drawn].tolist()):
            if self.views.words[code] not in self.drawn_views:
                self.drawn_views.append(self.views.words[code])
        for acquisition in np.unique(self.codes[0, drawn]).tolist():
            mine = drawn[self.codes[0, drawn] == acquisition]
            index = self.numbers[_PLACE["index"], mine]
            low, high = int(index.min()), int(index.max())
            at = min(self.received.all(mine))
            first, last, earliest = self.spans.get(acquisition, (low, high, at))
            self.spans[acquisition] = min(first, low), max(last, high), min(earliest, at)

    def _append(self, key: int) -> int:
        place = self.length
        if place == self.flagged.size:
            self.numbers, self.codes, self.flagged, self.drawn, self.arrived = map(
                _grown, (self.numbers, self.codes, self.flagged, self.drawn, self.arrived))
            for moments in (self.exposed, self.received):
                moments.column = _grown(moments.column)
        self.length += 1
        self.places[key] = place
        return place

    def _widen(self, acquisition: int, row: FrameRow) -> None:
        at = row.received_at or ""
        if row.view not in self.drawn_views:
            self.drawn_views.append(row.view)
        first, last, earliest = self.spans.get(acquisition, (row.index, row.index, at))
        self.spans[acquisition] = min(first, row.index), max(last, row.index), min(earliest, at)

    def newest(self, places: IntColumn) -> tuple[str, int | None]:
        """Return when the projection received last of these came, and its place; None without any."""
        projections = places[self.codes[2, places] == self.kinds.find("projection")]
        return max(zip(self.received.all(projections), projections.tolist(), strict=True), default=("", None))

    def offsets(self) -> FloatColumn:
        """Return what is added to the index in each acquisition so that acquisitions follow each other by time."""
        offsets = np.zeros(len(self.acquisitions.words))
        end: float | None = None
        for number in sorted(self.spans, key=lambda number: self.spans[number][2]):
            first, last, _ = self.spans[number]
            offsets[number] = 0.0 if end is None else end + 1 - first
            end = offsets[number] + last
        return offsets

    def _put_between(self, places: IntColumn, order: FloatColumn) -> None:
        """Let frames that were taken again stand where they were taken, whatever their numbers; changes `order`."""
        again = np.isfinite(self.numbers[_PLACE["recollects"], places])
        acquisition = self.codes[0, places]
        for one in np.unique(acquisition[again]).tolist():
            planned = np.flatnonzero(~again & (acquisition == one))
            planned = planned[np.argsort(self.arrived[places[planned]], kind="stable")]
            mine = np.flatnonzero(again & (acquisition == one))
            before = np.searchsorted(self.arrived[places[planned]], self.arrived[places[mine]])
            newest = np.maximum.accumulate(order[planned]) if planned.size else np.empty(0)
            for gap in np.unique(before).tolist():
                there = mine[before == gap]
                there = there[np.argsort(self.arrived[places[there]], kind="stable")]
                start = newest[gap - 1] if gap else (newest[0] - 1 if planned.size else 0.0)
                order[there] = start + np.arange(1, there.size + 1) / (there.size + 1)

    def row(self, place: int) -> FrameRow:
        """Make the record of a row."""
        acquisition, view, kind, verdict, _, shape = (int(code) for code in self.codes[:, place])
        numbers: dict[str, Any] = {}
        for name, value in zip(_NUMBERS, self.numbers[:, place].tolist(), strict=True):
            missing = value != value  # noqa: PLR0124  (NaN)
            numbers[name] = None if missing else int(value) if name in _WHOLE else value
        numbers["provisional"] = bool(numbers["provisional"])
        return FrameRow(
            acquisition=self.acquisitions.words[acquisition], view=self.views.words[view],
            kind=self.kinds.words[kind], verdict=VERDICTS[verdict] or None,  # type: ignore[arg-type]
            exposed_at=self.exposed.at(place) or None, received_at=self.received.at(place) or None,
            problems=self.problems.get(place, ""), blur_shape=self.shapes.words[shape], **numbers)

    def find(self, key: Key) -> int | None:
        """Return the place of a row, None if it never came."""
        acquisition = self.acquisitions.find(key.acquisition)
        return self.places.get(_name(acquisition, key.index)) if acquisition >= 0 else None

    def replacement(self, key: Key) -> int | None:
        """Return the index of the frame that was taken instead of this one."""
        return self.replaced.get((self.acquisitions.find(key.acquisition), key.index))

    def forget_sequences(self) -> None:
        """Let any sequence number replace the rows."""
        self.codes[4, :self.length] = 0

    def charts(self, version: int) -> Charts:
        """Copy the columns that are drawn, sorted by order."""
        offsets = self.offsets()
        places = np.flatnonzero(self.drawn[:self.length])
        order = self.numbers[_PLACE["index"], places] + offsets[self.codes[0, places]]
        self._put_between(places, order)
        if np.any(np.diff(order) < 0):
            rank = np.argsort(order, kind="stable")
            order, places = order[rank], places[rank]
        starts = sorted(Start(float(offsets[number]) + span[0], span[0], self.acquisitions.words[number])
                        for number, span in self.spans.items())
        shapes = np.array([SHAPES.index(word) if word in SHAPES else 0 for word in self.shapes.words], np.int64)
        return Charts(
            version=version, views=tuple(self.views.words), starts=tuple(starts), order=order,
            position=places, view=self.codes[1, places], verdict=self.codes[3, places],
            shape=shapes[self.codes[5, places]], flagged=self.flagged[places],
            numbers={name: self.numbers[_PLACE[name], places] for name in _CHARTED},
        )


def _name(acquisition: int, index: int) -> int:
    """Return one number for the two: a pair would take twice as much."""
    return index << _ACQUISITION_BITS | acquisition


def _codes(numbers: Mapping[Any, int], keys: Sequence[Any]) -> IntColumn:
    """Return the numbers of many keys; a KeyError if one has none."""
    return np.fromiter(map(numbers.__getitem__, keys), np.int64, len(keys))


def _grown(column: Any) -> Any:
    """Return a column with room for half as many rows more; in huge pages, what is not used yet takes memory, too."""
    larger = np.empty((*column.shape[:-1], column.shape[-1] * 3 // 2), column.dtype)
    larger[..., :column.shape[-1]] = column
    return larger


def _unix_s(at: str | None) -> float:
    """Return a moment in ISO 8601 in Unix seconds, NaN for none."""
    try:
        return datetime.fromisoformat(at).timestamp() if at else math.nan
    except ValueError:
        return math.nan
