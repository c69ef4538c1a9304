"""Messages between the streamer and the process that computes its fields: a header and raw arrays, no pickle."""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Mapping

import msgspec
import numpy as np

from streamer.records import AnyArray

_LENGTH = struct.Struct("<Q")
_TIMEVAL = struct.Struct("@ll")
_LONGEST_HEADER = 1 << 28
_PARTS_AT_ONCE = 16


class _Head(msgspec.Struct):
    body: msgspec.Raw
    arrays: list[tuple[str, str, list[int]]]
    """Name, type and shape of each."""


class Link:
    """One end of a pair of connected sockets.

    Parameters
    ----------
    end : socket
        Blocking; closed with `close`.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def limit(self, seconds: float) -> None:
        """Let every later wait for the other end fail after so many seconds.

        The kernel counts, and the interpreter is asked once per message: it is free for others in between.
        """
        value = _TIMEVAL.pack(math.ceil(seconds), 0)
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            self._end.setsockopt(socket.SOL_SOCKET, option, value)

    def send(self, body: msgspec.Struct, arrays: Mapping[str, AnyArray]) -> None:
        """Send a message.

        Raises
        ------
        OSError
            If the other end is closed, or (BlockingIOError) does not take it in time.
        """
        planes = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        described = [(name, plane.dtype.str, list(plane.shape)) for name, plane in planes.items()]
        head = msgspec.msgpack.encode(_Head(msgspec.Raw(msgspec.msgpack.encode(body)), described))
        parts = [memoryview(_LENGTH.pack(len(head))), memoryview(head)]
        parts += [plane.reshape(-1).view(np.uint8).data for plane in planes.values() if plane.nbytes]
        while parts:
            written = self._end.sendmsg(parts[:_PARTS_AT_ONCE])
            while parts and written >= parts[0].nbytes:
                written -= parts.pop(0).nbytes
            if written:
                parts[0] = parts[0][written:]

    def receive(self) -> tuple[msgspec.Raw, dict[str, AnyArray]]:
        """Wait for a message.

        Returns
        -------
        body : Raw
            Encoded.
        arrays : dict of str to ndarray

        Raises
        ------
        EOFError
            If the other end is closed.
        OSError
            If it is broken, or (BlockingIOError) nothing comes in time.
        ValueError
            If what comes is no message.
        """
        raw = bytearray(_LENGTH.size)
        self._fill(memoryview(raw))
        (size,) = _LENGTH.unpack(raw)
        if size > _LONGEST_HEADER:
            raise ValueError(f"a header of {size} bytes")
        raw = bytearray(size)
        self._fill(memoryview(raw))
        head = msgspec.msgpack.decode(raw, type=_Head)   # a DecodeError is a ValueError
        arrays: dict[str, AnyArray] = {}
        for name, dtype, shape in head.arrays:
            plane = np.empty(shape, np.dtype(dtype))
            if plane.nbytes:
                self._fill(plane.reshape(-1).view(np.uint8).data)
            arrays[name] = plane
        return head.body, arrays

    def close(self) -> None:
        """Close this end."""
        self._end.close()

    def _fill(self, view: memoryview) -> None:
        while view.nbytes:
            count = self._end.recv_into(view, 0, socket.MSG_WAITALL)
            if not count:
                raise EOFError("the other end is closed")
            view = view[count:]
