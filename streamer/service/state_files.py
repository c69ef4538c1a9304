"""A state of builtins and arrays on disk: a small tree, and beside it every large array once, named by its content.

Taking the state again writes only the arrays that are new. Each file is written beside its place and moved there
when whole, the tree last, so that killing the process at any moment leaves the state of before or this one.
"""

from __future__ import annotations

import contextlib
import hashlib
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamer.errors import SessionError
from streamer.records import AnyArray

_LARGE = 1 << 16   # bytes; smaller arrays are in the tree itself
_ARRAY, _SCALAR = 1, 2
_DIGEST_BYTES = 16


class StateFiles:
    """The newest state of one session in a folder of its own.

    Parameters
    ----------
    folder : Path
        Made when the first state is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: dict[int, tuple[weakref.ref[AnyArray], str]] = {}
        """Of the arrays of the newest state: by the identity of the array, which nobody changes."""

    def positions(self) -> list[int]:
        """Return the positions of the states that are there, ascending."""
        return sorted(int(path.stem) for path in self.folder.glob("*.state"))

    def write(self, position: int, tree: Any) -> int:
        """Write a state, then remove those of before; return the bytes written.

        Raises
        ------
        OSError
            If the disk is full or gone; the state of before is untouched then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        body, arrays = _encode(tree)
        written, names = 0, {}
        table: list[tuple[str, list[int], str, str, bytes]] = []
        for array in arrays:
            order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
            name, data = "", b""
            if array.nbytes < _LARGE:
                data = array.tobytes(order)   # type: ignore[arg-type]
            else:
                known = self._names.get(id(array))
                if known is not None and known[0]() is array:
                    name = known[1]
                else:
                    name, size = self._write_array(array, order)
                    written += size
                names[id(array)] = weakref.ref(array), name
            table.append((array.dtype.str, list(array.shape), order, name, data))
        content = msgspec.msgpack.encode([table, body])
        _replace(self.folder / f"{position}.state", [content, _digest([content])])
        self._names = names
        self._clean(position, {name for _, name in names.values()})
        return written + len(content)

    def read(self, position: int) -> Any:
        """Read a state.

        Raises
        ------
        SessionError
            If it cannot be read or is not what was written.
        """
        path = self.folder / f"{position}.state"
        try:
            raw = path.read_bytes()
            content, digest = raw[:-_DIGEST_BYTES], raw[-_DIGEST_BYTES:]
            if _digest([content]) != digest:
                raise ValueError("it is damaged")
            table, body = msgspec.msgpack.decode(content)
            return _decode(body, [self._read_array(*entry) for entry in table])
        except (OSError, ValueError, TypeError, msgspec.DecodeError) as error:
            raise SessionError(f"state {path} cannot be read: {error}; begin a new session, the tables of this one "
                               "can be exported") from error

    def _write_array(self, array: AnyArray, order: str) -> tuple[str, int]:
        data = np.ascontiguousarray(array if order == "C" else array.T).data.cast("B")
        name = _digest([data]).hex()
        path = self.folder / f"{name}.array"
        if path.exists():
            return name, 0
        _replace(path, [data])
        return name, data.nbytes

    def _read_array(self, dtype: str, shape: list[int], order: str, name: str, data: bytes) -> AnyArray:
        if name:
            path = self.folder / f"{name}.array"
            data = path.read_bytes()
            if _digest([data]).hex() != name:
                raise ValueError(f"{path.name} is damaged")
        flat = np.frombuffer(bytearray(data), dtype)
        array = flat.reshape(shape) if order == "C" else flat.reshape(shape[::-1]).T
        if name:
            self._names[id(array)] = weakref.ref(array), name
        return array

    def _clean(self, position: int, names: set[str]) -> None:
        for path in self.folder.iterdir():
            keep = {".state": path.stem == str(position), ".array": path.stem in names, ".part": False}
            if not keep.get(path.suffix, True):
                with contextlib.suppress(OSError):
                    path.unlink()


def _digest(parts: Iterable[bytes | memoryview]) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _replace(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        for data in parts:
            file.write(data)
    part.replace(path)


def _encode(tree: Any) -> tuple[bytes, list[AnyArray]]:
    """Encode a tree; arrays become numbers of a list, in which each is once however often it occurs."""
    arrays: list[AnyArray] = []
    numbers: dict[int, int] = {}

    def hook(value: Any) -> msgspec.msgpack.Ext:
        if isinstance(value, np.generic):   # float32 stays float32: what is computed from it stays the same
            return msgspec.msgpack.Ext(_SCALAR, value.dtype.str.encode() + b" " + value.tobytes())
        if not isinstance(value, np.ndarray):
            raise NotImplementedError(f"a {type(value).__name__} in the state")
        number = numbers.setdefault(id(value), len(arrays))
        if number == len(arrays):
            arrays.append(value)
        return msgspec.msgpack.Ext(_ARRAY, str(number).encode())

    return msgspec.msgpack.encode(tree, enc_hook=hook), arrays


def _decode(body: bytes, arrays: list[AnyArray]) -> Any:
    def hook(code: int, data: memoryview) -> Any:
        if code == _ARRAY:
            return arrays[int(bytes(data))]
        dtype, _, raw = bytes(data).partition(b" ")
        return np.frombuffer(raw, dtype.decode())[0]

    return msgspec.msgpack.decode(body, ext_hook=hook)
