"""For bluesky: measure a point again until the monitor calls its frame sharp; needs the ``bluesky`` extra.

A plan of bluesky (Allan et al. 2019, Synchrotron Radiat. News 32(3), 19, doi:10.1080/08940886.2019.1608121) is a
generator of messages. The one here stands where `bluesky.plan_stubs.trigger_and_read` would.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Generator, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from bluesky import plan_stubs as bps
from bluesky.utils import Msg, separate_devices, short_uid

from streamer.client import DEFAULT_RESULTS, Client
from streamer.errors import ProtocolError
from streamer.records import Verdict

log = logging.getLogger(__name__)

NOTHING = -1
"""Written to `replaces` when the next frame replaces none."""
_REMEMBERED = 10_000
_POLL_S = 0.02


class Verdicts:
    """What the monitor says of each frame, heard in a thread; use it as a context manager.

    Parameters
    ----------
    results : str
        Endpoint on which the streamer publishes.
    acquisition : str, optional
        Listen to this acquisition alone; by default to all.

    Raises
    ------
    LinkError
        If the endpoint is not an address.
    """

    def __init__(self, results: str = DEFAULT_RESULTS, *, acquisition: str | None = None) -> None:
        self._client = Client(results, topics=("frame", "status"))
        self._acquisition = acquisition
        self._lock = threading.Lock()
        self._verdicts: OrderedDict[int, Verdict | None] = OrderedDict()
        self._heard = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="verdicts", daemon=True)

    def wait_until_heard(self, timeout_s: float) -> bool:
        """Wait for a sign of life of the streamer; tell whether it came."""
        return self._heard.wait(timeout_s)

    def forget(self) -> None:
        """Forget all frames: numbers may come again in the next acquisition."""
        with self._lock:
            self._verdicts.clear()

    def knows(self, index: int) -> bool:
        """Tell whether the monitor has spoken about a frame."""
        with self._lock:
            return index in self._verdicts

    def of(self, index: int) -> Verdict | None:
        """Return the newest verdict; None if there is none, also where the frame was refused."""
        with self._lock:
            return self._verdicts.get(index)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                result = self._client.receive(0.1)
            except ProtocolError as error:
                log.warning("%s: %s", self._client.results, error)
                continue
            if result is None:
                continue
            self._heard.set()
            if result.topic == "frame" and result.header.get("kind") == "projection" and self._acquisition in (
                    None, result.header.get("acquisition")):
                self._take(result.header)

    def _take(self, header: dict[str, Any]) -> None:
        with self._lock:
            self._verdicts[int(header["index"])] = header.get("verdict")
            while len(self._verdicts) > _REMEMBERED:
                self._verdicts.popitem(last=False)


class Point(NamedTuple):
    """What became of a point of a scan."""

    frame: int
    """Number of the frame that was kept."""
    verdict: Verdict | None
    """None: the monitor did not say."""
    tries: int


def trigger_until_sharp(
    devices: Sequence[Any], *, verdicts: Verdicts, number: Any, replaces: Any = None, tries: int = 3,
    timeout_s: float = 10.0, accept: Collection[Verdict] = ("sharp", "undecided"), name: str = "primary",
    rejected: str = "rejected",
) -> Generator[Msg, Any, Point]:
    """Trigger and read, and do so again while the monitor calls the frame blurred.

    Parameters
    ----------
    devices : sequence of readable
        As for ``trigger_and_read``; one of them takes the frame.
    verdicts : Verdicts
        Where the monitor is heard.
    number : readable
        Signal with the number of the newest frame, as it is sent to the streamer, such as
        ``camera.cam.array_counter`` of areaDetector.
    replaces : movable, optional
        Set to the number of the frame that the next one replaces, `NOTHING` for none, before each trigger; for senders
        that can put it into the header (``recollects``). Without it the streamer sees frames of their own.
    tries : int
        The point is kept as it is after so many.
    timeout_s : float
        The monitor is waited for so long; then the point is kept as it is, for a monitor that is not there must not
        stop the experiment.
    accept : collection of str
        Verdicts that end the point. ``undecided`` is among them: the next frame could not tell any better.
    name, rejected : str
        Streams of the events: exactly one event a point in `name`, those that were taken again in `rejected`.

    Returns
    -------
    Point
        From ``point = yield from trigger_until_sharp(...)``.

    Raises
    ------
    ValueError
        If `tries` is not positive.
    """
    if tries < 1:
        raise ValueError(f"tries is {tries}, expected at least 1")
    first, trial = NOTHING, 0
    while True:
        trial += 1
        if replaces is not None:
            yield from bps.abs_set(replaces, first, wait=True)
        verdicts.forget()
        yield from _trigger(devices)
        frame = int((yield from bps.rd(number)))
        said = yield from _await_verdict(verdicts, frame, timeout_s)
        verdict = verdicts.of(frame)
        done = not said or verdict in accept or trial == tries
        yield from _save(devices, name if done else rejected)
        if done:
            if verdict not in accept:
                log.warning("frame %d is kept though %s", frame, _why(said=said, verdict=verdict, tries=tries,
                                                                      timeout_s=timeout_s))
            return Point(frame, verdict, trial)
        first = frame if first == NOTHING else first


def _trigger(devices: Sequence[Any]) -> Generator[Msg, Any, None]:
    group = short_uid("trigger")
    for device in separate_devices(devices):
        if hasattr(device, "trigger"):
            yield from bps.trigger(device, group=group)
    yield from bps.wait(group=group)


def _save(devices: Sequence[Any], stream: str) -> Generator[Msg, Any, None]:
    yield from bps.create(stream)
    for device in separate_devices(devices):
        yield from bps.read(device)
    yield from bps.save()


def _await_verdict(verdicts: Verdicts, frame: int, timeout_s: float) -> Generator[Msg, Any, bool]:
    """Wait in short steps, so that the scan can be paused and stopped meanwhile."""
    end = time.monotonic() + timeout_s
    while not verdicts.knows(frame):
        if time.monotonic() >= end:
            return False
        yield from bps.sleep(_POLL_S)
    return True


def _why(*, said: bool, verdict: Verdict | None, tries: int, timeout_s: float) -> str:
    if not said:
        return f"the monitor said nothing within {timeout_s:g} s; is the streamer running?"
    return f"it is {verdict or 'refused'}, after {tries} tries"
