"""Pictures and fields of earlier frames: asked for when they are looked at, and kept within a bound. No Qt.

Who draws asks at each redraw for what it needs and gets it, or the reason why it is not here. One question is under
way at a time; of several for the same place on screen the newest wins, so that a key held down asks for a few of the
frames it passes and not for all.
"""

from __future__ import annotations

import base64
import binascii
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitor.commander import Answer
from monitor.rows import Key
from monitor.store import Picture, flow_of, picture_of, spectra_of
from streamer.errors import ProtocolError, TxmError
from streamer.records import AnyArray, FlowResult, SpectraResult
from streamer.wire import Result

LIMIT_BYTES = 40_000_000
RETRY_S = 5.0
"""What could not be had is asked for again after so long, if it is still looked at."""
_FAILURES = 200
_DTYPES = frozenset({"|b1", "|u1", "<i2", "<u2", "<i4", "<f4", "<f8"})

Decode = Callable[[bytes], NDArray[np.uint8]]


class Ask(Protocol):
    """How a question is asked; `done` is called with the answer, maybe in another thread, maybe at once."""

    def __call__(self, op: str, *, done: Callable[[Answer], None], **arguments: Any) -> None:
        """Ask."""


class Found(NamedTuple):
    """Something, or in words why it is not here."""

    thing: Any = None
    why: str = ""


NOTHING = Found()


class _Item(NamedTuple):
    """Name of a thing: a command and what it is asked with."""

    op: str
    key: Key
    kind: str = ""

    @property
    def words(self) -> str:
        what = {"picture": f"{'raw ' if self.kind == 'raw' else ''}picture", "flow": "displacement field",
                "spectra": "spectra"}[self.op]
        return f"the {what} of frame {self.key.index}"


class Shelf:
    """Things of earlier frames, safe to be used from several threads.

    Parameters
    ----------
    ask : callable
        Asks the streamer, such as `Commander.ask`.
    decode : callable
        Makes pixels of a JPEG, or raises ProtocolError.
    notify : callable
        Called when something has come, in the thread of the answer; must return at once.
    limit_bytes : int
        What was looked at longest ago goes first.
    """

    def __init__(self, ask: Ask, *, decode: Decode, notify: Callable[[], None] = lambda: None,
                 limit_bytes: int = LIMIT_BYTES, now: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._decode, self.notify, self._now = ask, decode, notify, now
        self.limit_bytes = limit_bytes
        self.bytes = 0
        """Of all that is kept."""
        self._lock = threading.Lock()
        self._things: OrderedDict[_Item, tuple[Any, int]] = OrderedDict()
        self._failures: OrderedDict[_Item, tuple[str, float]] = OrderedDict()
        self._wanted: OrderedDict[str, _Item] = OrderedDict()
        """By place on screen, the newest last."""
        self._asked: _Item | None = None

    def clear(self) -> None:
        """Forget everything: another session begins."""
        with self._lock:
            self._things.clear()
            self._failures.clear()
            self._wanted.clear()
            self._asked, self.bytes = None, 0

    def keep_picture(self, picture: Picture) -> None:
        """Take a picture that came by itself; it is finer than one that is asked for."""
        self._keep(_Item("picture", Key(picture.acquisition, picture.index), "corrected"), picture)

    def keep_flow(self, flow: FlowResult) -> None:
        """Take a field that came by itself."""
        self._keep(_Item("flow", Key(flow.acquisition, flow.index)), flow)

    def picture(self, key: Key, *, place: str, kind: str = "corrected") -> Found:
        """Return the `Picture` of a frame, asking for it if need be.

        Parameters
        ----------
        place : str
            What it is wanted for, such as ``frame`` or ``reference``.
        kind : {"corrected", "raw"}
        """
        return self._find(_Item("picture", key, kind), place)

    def flow(self, key: Key, *, place: str) -> Found:
        """Return the `FlowResult` of a frame, asking for it if need be."""
        return self._find(_Item("flow", key), place)

    def spectra(self, key: Key, *, place: str) -> Found:
        """Return the `SpectraResult` of a frame, asking for it if need be."""
        return self._find(_Item("spectra", key), place)

    def _find(self, item: _Item, place: str) -> Found:
        with self._lock:
            found = self._things.get(item)
            if found is not None:
                self._things.move_to_end(item)
                self._wanted.pop(place, None)
                return Found(found[0])
            why, at = self._failures.get(item, ("", -math.inf))
            if self._now() - at < RETRY_S:
                return Found(why=why)
            if item != self._asked:
                self._wanted[place] = item
                self._wanted.move_to_end(place)
        self._ask_next()
        return Found(why=why or f"{item.words} is on its way")

    def _ask_next(self) -> None:
        with self._lock:
            if self._asked is not None or not self._wanted:
                return
            _, item = self._wanted.popitem()
            self._asked = item
        arguments = {"index": item.key.index, "acquisition": item.key.acquisition}
        if item.kind:
            arguments["kind"] = item.kind
        self._ask(item.op, done=lambda answer: self._take(item, answer), **arguments)

    def _take(self, item: _Item, answer: Answer) -> None:
        thing, error = None, answer.error
        if not error:
            try:
                thing = (self._read_picture(item, answer.result) if item.op == "picture"
                         else read_spectra(answer.result) if item.op == "spectra" else read_flow(answer.result))
            except TxmError as problem:
                error = str(problem)
        with self._lock:
            if self._asked is not item:   # forgotten meanwhile
                return
            self._asked = None
            if error:
                self._failures[item] = f"{item.words} cannot be had: {error}", self._now()
                self._failures.move_to_end(item)
                if len(self._failures) > _FAILURES:
                    self._failures.popitem(last=False)
        if thing is not None:
            self._keep(item, thing)
        self.notify()
        self._ask_next()

    def _keep(self, item: _Item, thing: Any) -> None:
        size = _bytes(thing)
        with self._lock:
            self._failures.pop(item, None)
            self.bytes += size - self._things.pop(item, (None, 0))[1]
            self._things[item] = thing, size
            while self.bytes > self.limit_bytes and len(self._things) > 1:
                self.bytes -= self._things.popitem(last=False)[1][1]

    def _read_picture(self, item: _Item, result: Any) -> Picture:
        if not isinstance(result, dict):
            raise ProtocolError(f"the answer is {type(result).__name__}, expected an object")
        header = {name: value for name, value in result.items() if name not in ("kind", "data", "encoding")}
        image = self._decode(unpacked(result.get("data")))
        picture = picture_of(Result("picture", header | {"kind": "projection", "sequence": 0}, {"image": image}))
        if Key(picture.acquisition, picture.index) != item.key:
            raise ProtocolError(f"the streamer sent frame {picture.index} of {picture.acquisition!r} instead")
        return picture


def read_flow(result: Any) -> FlowResult:
    """Make a record of the answer to ``flow``.

    Raises
    ------
    ProtocolError
        If it is not one.
    """
    if not isinstance(result, dict):
        raise ProtocolError(f"the answer is {type(result).__name__}, expected an object")
    arrays = {name: _array(name, value) for name, value in result.items()
              if isinstance(value, dict) and {"dtype", "shape", "data"} <= value.keys()}
    header = {name: value for name, value in result.items() if name not in arrays}
    return flow_of(Result("flow", header | {"sequence": 0}, arrays))


def read_spectra(result: Any) -> SpectraResult:
    """Make a record of the answer to ``spectra``, which comes as lists.

    Raises
    ------
    ProtocolError
        If it is not one.
    """
    if not isinstance(result, dict):
        raise ProtocolError(f"the answer is {type(result).__name__}, expected an object")
    try:
        arrays = {name: np.array(value, np.uint8 if name == "picture" else np.float32)
                  for name, value in result.items() if isinstance(value, list)}
    except (TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(f"the spectra are not numbers: {error}") from error
    header = {name: value for name, value in result.items() if name not in arrays}
    return spectra_of(Result("spectra", header | {"sequence": 0}, arrays))


def _array(name: str, packed: Mapping[str, Any]) -> AnyArray:
    shape, dtype = packed["shape"], packed["dtype"]
    sound = (dtype in _DTYPES if isinstance(dtype, str) else False) and isinstance(shape, list) and all(
        isinstance(side, int) and side >= 0 for side in shape)
    if not sound:
        raise ProtocolError(f"array {name!r} has dtype {dtype!r} and shape {shape!r}; not readable")
    data, kind = unpacked(packed["data"]), np.dtype(dtype)
    if len(data) != math.prod(shape) * kind.itemsize:
        raise ProtocolError(f"array {name!r} has {len(data)} bytes, expected {math.prod(shape) * kind.itemsize}")
    return np.frombuffer(data, kind).reshape(shape)


def unpacked(text: Any) -> bytes:
    """Return the bytes of a text in base64.

    Raises
    ------
    ProtocolError
        If it is none.
    """
    if not isinstance(text, str):
        raise ProtocolError(f"data is {type(text).__name__}, expected text in base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProtocolError(f"data is not base64: {error}") from error


def _bytes(thing: msgspec.Struct) -> int:
    return sum(getattr(thing, name).nbytes for name in thing.__struct_fields__
               if isinstance(getattr(thing, name), np.ndarray))
