"""Small pictures of the frames on screen: asked for in pages, kept within a bound. No Qt.

The streamer numbers thumbnails as it makes them, about in the order of the rows. Which number a frame has is not
known: it is estimated from the pages that came before, so that any part of a long run is found in a few questions.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.commander import Answer
from monitor.pixels import rebinned, robust
from monitor.rows import Key
from monitor.shelf import Ask, Decode, unpacked
from monitor.store import Picture
from streamer.errors import ProtocolError, TxmError

PAGE = 48
SIDE_PX = 96
LIMIT_BYTES = 8_000_000
RETRY_S = 3.0
_ABSENT = 5000
_TRIES = 40

Small = NDArray[np.uint8]


class Wish(NamedTuple):
    """A frame whose thumbnail is looked at, and the place of its row in the store."""

    key: Key
    place: int


class _Page(NamedTuple):
    since: int
    target: Wish
    is_all: bool
    """Whether the target must be in it, if there is a thumbnail at all."""


class Thumbnails:
    """Safe to be used from several threads.

    Parameters
    ----------
    ask, decode, notify
        As those of `shelf.Shelf`.
    place_of : callable
        Tells the place of a row in the store; None of a frame that is not known.
    """

    def __init__(self, ask: Ask, *, decode: Decode, place_of: Callable[[Key], int | None],
                 notify: Callable[[], None] = lambda: None, limit_bytes: int = LIMIT_BYTES,
                 now: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._decode, self._place_of, self.notify, self._now = ask, decode, place_of, notify, now
        self.limit_bytes = limit_bytes
        self.why = ""
        """Why none come; empty when all is well."""
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._kept: OrderedDict[Key, Small] = OrderedDict()
        self._bytes = 0
        self._absent: OrderedDict[Key, float] = OrderedDict()
        self._numbers: list[int] = [0]
        self._places: list[int] = [-1]
        """Of the row whose thumbnail has that number; both grow together."""
        self._end = 1 << 62
        """No thumbnail has a larger number, as far as is known."""
        self._tries = 0
        self._wishes: Sequence[Wish] = ()
        self._asked: _Page | None = None
        self._rest_until = 0.0

    def clear(self) -> None:
        """Forget everything: another session begins."""
        with self._lock:
            self._forget()
            self.why = ""

    def keep_picture(self, picture: Picture) -> None:
        """Make a thumbnail of a picture that came by itself."""
        key = Key(picture.acquisition, picture.index)
        if picture.image is not None and key not in self._kept:
            self._keep(key, reduced(picture.image))

    def get(self, key: Key) -> Small | None:
        """Return a thumbnail that is here, (M, N); it is asked for by `want`."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def want(self, wishes: Sequence[Wish]) -> None:
        """Ask for what is missing of these, and for nothing that was wanted before."""
        with self._lock:
            self._wishes = wishes
        self._ask_next()

    def _ask_next(self) -> None:
        with self._lock:
            page = self._next_page() if self._asked is None and self._now() >= self._rest_until else None
            if page is None:
                return
            self._asked = page
        self._ask("thumbnails", done=lambda answer: self._take(page, answer), since=page.since, limit=PAGE)

    def _next_page(self) -> _Page | None:
        recent = self._now() - RETRY_S
        missing = [wish for wish in self._wishes
                   if wish.key not in self._kept and self._absent.get(wish.key, -np.inf) < recent]
        if not missing:
            self._tries = 0
            return None
        target = missing[len(missing) // 2]
        after = bisect.bisect_left(self._places, target.place)
        low, low_place = self._numbers[after - 1], self._places[after - 1]
        if after < len(self._numbers):
            high, high_place = self._numbers[after], self._places[after]
        else:   # numbers are about as dense as places, and end somewhere
            high = min(self._end, low + target.place - low_place + PAGE)
            high_place = low_place + max(high - low, target.place - low_place)
        if high - low <= PAGE:
            return _Page(low, target, is_all=True)
        self._tries += 1
        share = 0.5 if self._tries % 3 == 0 else (target.place - low_place) / (high_place - low_place)
        since = low + round(share * (high - low)) - PAGE // 2   # halving now and then: gaps mislead
        return _Page(max(low, min(since, high - PAGE)), target, is_all=False)

    def _take(self, page: _Page, answer: Answer) -> None:
        small: list[tuple[Key, Small]] = []
        error, last, more = answer.error, 0, False
        if not error:
            try:
                small, last, more = self._read(answer.result)
            except TxmError as problem:
                error = str(problem)
        with self._lock:
            if self._asked is not page:   # forgotten meanwhile
                return
            self._asked, self.why = None, error
            if error:
                self._rest_until = self._now() + RETRY_S
        for key, image in small:
            self._keep(key, image)
        if not error:
            self._learn(page, [key for key, _ in small], last, more=more)
            self.notify()
            self._ask_next()

    def _learn(self, page: _Page, keys: list[Key], last: int, *, more: bool) -> None:
        """Remember which numbers belong to which places, where they end, and what is not there."""
        known = [(last - len(keys) + 1 + number, place) for number, key in enumerate(keys)
                 if (place := self._place_of(key)) is not None]
        with self._lock:
            for number, place in (known[0], known[-1]) if known else ():
                self._anchor(number, place)
            if not more:
                self._end = max(last, page.since) if keys else page.since
            places = [place for _, place in known]
            spanned = bool(places) and min(places) <= page.target.place <= max(places)
            hopeless = page.is_all or spanned or self._tries > _TRIES
            if page.target.key not in self._kept and hopeless:
                self._tries = 0
                self._end = max(self._end, last + PAGE)   # more may have come by the next time
                self._absent[page.target.key] = self._now()
                self._absent.move_to_end(page.target.key)
                if len(self._absent) > _ABSENT:
                    self._absent.popitem(last=False)

    def _anchor(self, number: int, place: int) -> None:
        at = bisect.bisect_left(self._numbers, number)
        fits = (at == 0 or self._places[at - 1] < place) and (at == len(self._places) or place < self._places[at])
        if fits and (at == len(self._numbers) or self._numbers[at] != number):
            self._numbers.insert(at, number)
            self._places.insert(at, place)

    def _keep(self, key: Key, image: Small) -> None:
        with self._lock:
            self._bytes += image.nbytes - (self._kept.pop(key).nbytes if key in self._kept else 0)
            self._kept[key] = image
            self._absent.pop(key, None)
            while self._bytes > self.limit_bytes and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes

    def _read(self, result: Any) -> tuple[list[tuple[Key, Small]], int, bool]:
        try:
            every = [(Key(item["acquisition"], item["index"]), unpacked(item["data"])) for item in
                     result["thumbnails"]]
            last, more = result["next"], bool(result["more"])
        except (TypeError, KeyError) as error:
            raise ProtocolError(f"thumbnails of the streamer cannot be read: {error!r}") from error
        if not isinstance(last, int):
            raise ProtocolError(f"thumbnails of the streamer end at {last!r}, expected a number")
        small = []
        for key, data in every:
            try:
                small.append((key, reduced(self._decode(data))))
            except ProtocolError:   # one that is damaged stays a tile without a picture
                small.append((key, np.zeros((1, 1), np.uint8)))
        return small, last, more


def reduced(image: Any) -> Small:
    """Return a picture of at most about `SIDE_PX` a side, in grey levels that span 0 to 255."""
    factor = max(1, max(image.shape) // SIDE_PX)
    step = max(1, factor // 4)   # of large ones, not every pixel counts
    small = rebinned(image[::step, ::step], max(1, factor // step))
    if not small.size:
        return np.zeros((1, 1), np.uint8)
    low, high = robust(small)
    grey = (small.astype(np.float32) - np.float32(low)) * np.float32(255 / max(high - low, 1e-12))
    levels: Small = np.clip(np.nan_to_num(grey), 0, 255).astype(np.uint8)
    return levels
