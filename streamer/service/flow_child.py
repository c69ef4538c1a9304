"""The process that computes the fields of a live run: ``python -m streamer.service.flow_child SOCKET PARENT``.

It is started by `flow_process` and never outlives the streamer: it ends when its socket is closed, and the kernel ends
it when it is busy at that time.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys

import cv2
import msgspec

from streamer import console
from streamer.service.flow_errand import Errand, Ready, Unpacker, pack_answer
from streamer.service.flow_link import Link
from streamer.service.lane import NICE, compute
from streamer.tracking.deformation import Follower
from streamer.tracking.material import Analyst

_PR_SET_PDEATHSIG = 1


def serve(link: Link) -> None:
    """Compute the field of every errand that comes, until the other end is closed."""
    unpacker, follower, analyst = Unpacker(), Follower(), Analyst()
    with contextlib.suppress(EOFError, ConnectionError):
        link.send(Ready(os.getpid()), {})
        while True:
            body, arrays = link.receive()
            task = unpacker.unpack(msgspec.msgpack.decode(body, type=Errand), arrays)
            link.send(*pack_answer(*compute(task, follower, analyst)))


def main(arguments: list[str]) -> None:
    """Serve at the socket of the given number until the streamer, whose process number is given, is done with it."""
    number, parent = map(int, arguments)
    _end_with(parent)
    for one in (signal.SIGINT, signal.SIGTERM):   # meant for the streamer, which still has frames to finish
        signal.signal(one, signal.SIG_IGN)
    with contextlib.suppress(OSError):   # every frame must be scored in time; the flow may skip
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    cv2.setNumThreads(1)
    console.keep_memory()
    console.start_log(level=logging.WARNING)
    link = Link(socket.socket(fileno=number))
    try:
        serve(link)
    finally:
        link.close()


def _end_with(parent: int) -> None:
    """Ask the kernel to end this process when the streamer is killed, which leaves it no time for it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:   # it is gone already
        sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
