"""The beamline's side of recollection: hear which frames the streamer wants again, and take them."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from simulator.reexposure import Reexposures
from simulator.run import Run, Shot
from streamer.client import DEFAULT_RESULTS, Client
from streamer.errors import ProtocolError
from streamer.records import Frame, Recollection

log = logging.getLogger(__name__)

SETTLED_S = 1.0
"""A heartbeat this long after the last frame knows what the streamer thinks of it."""
LOST_S = 5.0
"""A frame that a streamer does not answer for so long, though it is heard all the time, was lost; it is taken again."""
SILENT_S = 3.0
"""A streamer that misses heartbeats for so long was away."""
MOST_TRIES = 10
"""Exposures for one request, whatever the streamer says."""
_POLL_S = 0.02

Key = tuple[str, int]
"""Session of the streamer, number of the request."""


class _Given(NamedTuple):
    """The newest exposure that was made for a request."""

    frame: int
    tries: int
    """Of the request, when the exposure was made."""
    exposures: int
    sent_at: float | None = None
    """Monotonic s."""


class Wishes:
    """What a streamer wants, and what was done about it; shared by the thread that hears and the one that exposes.

    Parameters
    ----------
    now : callable
        Gives monotonic seconds.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._open: dict[Key, Recollection] = {}
        self._given: dict[Key, _Given] = {}
        self._refused: set[Key] = set()
        self._heard_at = self._back_at = self._sent_at = -math.inf
        self._queue = 0

    @property
    def heard(self) -> bool:
        """Whether a streamer has been heard at all."""
        return self._heard_at > -math.inf

    def begin(self) -> None:
        """Leave alone what is open now: it belongs to earlier acquisitions."""
        with self._lock:
            self._refused.update(self._open)

    def hear(self, topic: str, header: Mapping[str, Any]) -> None:
        """Take in a message of the topic ``recollect`` or ``status``.

        Raises
        ------
        ProtocolError
            If it is not as it should be; what is known stays as it was.
        """
        session = str(header.get("session", ""))
        try:
            if topic == "recollect":
                changed = msgspec.convert(header, Recollection)
                with self._lock:
                    self._note(session, changed)
            elif topic == "status":
                wanted = msgspec.convert(header.get("recollections", []), list[Recollection])
                queue = msgspec.convert(header.get("queue", 0), int)
                with self._lock:
                    self._open = {(session, one.id): one for one in wanted if one.state == "open"}
                    self._beat(queue)
        except msgspec.ValidationError as error:
            raise ProtocolError(f"{topic!r} message is not understood: {error}") from error

    def next(self) -> tuple[Key, Recollection] | None:
        """Return the most urgent wish for which an exposure is due now, or None."""
        with self._lock:
            due = [(key, wish) for key, wish in self._open.items() if self._is_due(key, wish)]
        return min(due, key=_urgency, default=None)

    def refuse(self, key: Key) -> None:
        """Leave a request alone from now on."""
        with self._lock:
            self._refused.add(key)

    def exposed(self, key: Key, wish: Recollection, index: int) -> None:
        """Note that a frame was taken for a wish, though it has not left yet."""
        with self._lock:
            before = self._given.get(key)
            self._given[key] = _Given(index, wish.tries, 1 + (before.exposures if before else 0))

    def sent(self, index: int, *, recollects: bool) -> None:
        """Note that a frame has left."""
        with self._lock:
            self._sent_at = self._now()
            for key, given in self._given.items() if recollects else ():
                if given.frame == index:
                    self._given[key] = given._replace(sent_at=self._sent_at)

    def pending(self) -> list[Recollection]:
        """Return the wishes that are still open, the most urgent first."""
        with self._lock:
            return [wish for _, wish in sorted(self._ours().items(), key=_urgency)]

    def is_settled(self) -> bool:
        """Tell whether the streamer has judged everything that left and wants nothing."""
        with self._lock:
            return self._heard_at > self._sent_at + SETTLED_S and not self._queue and not self._ours()

    def is_late(self, patience_s: float) -> bool:
        """Tell whether nothing has left for so long."""
        return self._now() - self._sent_at > patience_s

    def _beat(self, queue: int) -> None:
        now = self._now()
        if now - self._heard_at > SILENT_S:
            self._back_at = now
        self._heard_at, self._queue = now, queue

    def _note(self, session: str, wish: Recollection) -> None:
        if wish.state == "open":
            self._open[session, wish.id] = wish
        else:
            self._open.pop((session, wish.id), None)

    def _ours(self) -> dict[Key, Recollection]:
        return {key: wish for key, wish in self._open.items() if key not in self._refused}

    def _is_due(self, key: Key, wish: Recollection) -> bool:
        given = self._given.get(key)
        if key in self._refused:
            return False
        if given is None:
            return True
        if given.exposures >= MOST_TRIES:
            return False
        if wish.tries > given.tries:
            return True
        heard_s = -math.inf if given.sent_at is None else self._heard_at - max(given.sent_at, self._back_at)
        return heard_s > LOST_S and not self._queue


class Listener:
    """Hear a streamer in a thread of its own; use it as a context manager.

    Parameters
    ----------
    endpoint : str
        Results endpoint of the streamer; it may come later.
    wishes : Wishes
        Who is told.

    Raises
    ------
    LinkError
        If the endpoint is not an address.
    """

    def __init__(self, endpoint: str, wishes: Wishes) -> None:
        self._client = Client(endpoint, topics=("recollect", "status"))
        self._wishes = wishes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="recollect", daemon=True)

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
                if result is not None:
                    self._wishes.hear(result.topic, result.header)
            except ProtocolError as error:
                log.warning("%s: %s", self._client.results, error)


class Beamline:
    """Make the frames of a run, and in between take again those that a streamer asks for.

    Parameters
    ----------
    run : Run
        What is planned; what is taken again is added to it.
    wishes : Wishes
        What the streamer asks for.
    wait_s : float
        How long a sign of life of the streamer is waited for before the first frame.
    late_s : float
        How long late requests are waited for after the last frame, unless the streamer says before that it has none.
    source : str
        What the streamer is called in messages.

    Attributes
    ----------
    taken : list of Shot
        What was taken again, in order.
    """

    def __init__(
        self, run: Run, wishes: Wishes, *, wait_s: float, late_s: float, source: str = DEFAULT_RESULTS
    ) -> None:
        self.taken: list[Shot] = []
        self._run = run
        self._plan = tuple(run.shots)
        self._wishes = wishes
        self._wait_s, self._late_s = wait_s, late_s
        self._source = source
        self._again = Reexposures(run)
        self._shots = {shot.index: shot for shot in self._plan if shot.kind == "projection"}
        self._handed = self._left = 0
        self._stop = threading.Event()

    def frames(self) -> Iterator[Frame]:
        """Yield everything that is planned, what is asked for in between, and what is asked for late."""
        self._await_first_word()
        self._wishes.begin()
        now_s = 0.0
        for position, shot in enumerate(self._plan):
            while (retaken := self._retake((now_s + shot.at_s) / 2)) is not None:
                now_s = self._run.shots[retaken].at_s
                yield self._frame(retaken)
            now_s = shot.at_s
            yield self._frame(position)
        yield from self._late(now_s)

    def sent(self, frame: Frame) -> None:
        """See `simulator.publisher.Course`."""
        self._left += 1
        self._wishes.sent(frame.index, recollects=frame.recollects is not None)

    def stop(self) -> None:
        """See `simulator.publisher.Course`."""
        self._stop.set()

    def _await_first_word(self) -> None:
        end = time.monotonic() + self._wait_s
        while not self._wishes.heard and time.monotonic() < end and not self._stop.wait(_POLL_S):
            pass
        if not self._wishes.heard:
            log.warning("no streamer is heard on %s yet; going on", self._source)

    def _late(self, now_s: float) -> Iterator[Frame]:
        while not self._stop.is_set():
            retaken = self._retake(now_s + self._again.interval_s / 2)
            if retaken is not None:
                now_s = self._run.shots[retaken].at_s
                yield self._frame(retaken)
            elif self._left == self._handed and self._is_over():
                return
            else:
                self._stop.wait(_POLL_S)

    def _is_over(self) -> bool:
        if not self._wishes.heard:
            log.warning("no streamer was heard on %s, so nothing was taken again", self._source)
            return True
        if self._wishes.is_settled():
            return True
        if self._wishes.is_late(self._late_s):
            log.warning("the streamer did not come to an end within %g s after the last frame%s; ending without it",
                        self._late_s, _named(self._wishes.pending()))
            return True
        return False

    def _frame(self, position: int) -> Frame:
        self._handed += 1
        return self._run.frame(position)

    def _retake(self, at_s: float) -> int | None:
        """Plan the exposure that is most urgent, if any; return its position in the run."""
        while (found := self._wishes.next()) is not None:
            key, wish = found
            asked = self._find(wish)
            if asked is None:
                log.warning("request %d asks for frame %d of %r, which is no projection of this run; not taken again",
                            wish.id, wish.index, wish.acquisition)
                self._wishes.refuse(key)
                continue
            trial = 1 + sum(shot.recollects == asked.index for shot in self.taken)
            shot = self._again.shot(asked, at_s=at_s, trial=trial)
            self._wishes.exposed(key, wish, shot.index)
            self.taken.append(shot)
            self._shots[shot.index] = shot
            return self._run.add(shot)
        return None

    def _find(self, wish: Recollection) -> Shot | None:
        """Find the projection; the streamer calls later acquisitions of one name ``name#2``, ``name#3``, ..."""
        shot = self._shots.get(wish.index)
        if shot is None or wish.acquisition.partition("#")[0] != shot.acquisition:
            return None
        return shot


def _urgency(entry: tuple[Key, Recollection]) -> tuple[float, ...]:
    key, wish = entry
    frames = math.inf if wish.deadline_frames is None else wish.deadline_frames
    return -wish.priority, frames, key[1]


def _named(wishes: list[Recollection]) -> str:
    if not wishes:
        return ""
    return f" and still wants {', '.join(f'frame {wish.index}' for wish in wishes)}"
