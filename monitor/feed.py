"""The thread that listens to a streamer and fills the store. No Qt: news are announced through one callback.

Messages are never announced one by one: `notify` is called once, and not again before `taken` was called, so that
a screen that is slower than the stream is never queued up.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from monitor.store import Store
from streamer.client import DEFAULT_RESULTS, Client
from streamer.errors import CommandError, LinkError, ProtocolError
from streamer.records import Command
from streamer.wire import Result

STALE_AFTER_S = 3.0
"""The streamer's heartbeat comes at least once a second."""
DISCONNECTED_AFTER_S = 6.0
RETRY_S = 1.0
LONGEST_RETRY_S = 30.0
KEPT = ("frame", "alert", "recollect")
"""Topics whose messages the history brings back."""
PAGE = 10_000
"""Rows asked for at once: 4 MB, taken in within 100 ms. A streamer that knows no pages sends everything."""
HISTORY_TIMEOUT_S = 10.0
MOST_WAITING = 200
"""Messages that may wait for this reader, a quarter of them pictures: a machine too busy to read them all must not
fill its memory with them. What is lost is seen as a gap and comes from the history."""

_log = logging.getLogger(__name__)


class LinkState(enum.Enum):
    """Where the link to the streamer stands."""

    CONNECTING = "CONNECTING"
    LIVE = "LIVE"
    STALE = "STALE"
    DISCONNECTED = "DISCONNECTED"
    ENDED = "ENDED"


@dataclass(frozen=True)
class Link:
    """State of the link at one moment, in words for the screen."""

    state: LinkState
    endpoint: str
    age_s: float | None = None
    """Since the last status message."""
    text: str = ""
    """What a user should know about it; empty when all is well."""
    foreign: int = 0
    """Messages that were not of a streamer, or of another version."""
    has_history: bool = False

    @property
    def chip(self) -> str:
        """One word, with the age when it is stale."""
        if self.state is LinkState.STALE and self.age_s is not None:
            return f"STALE {self.age_s:.0f} s"
        return self.state.value


class Feed:
    """Listen to the results of a streamer in a thread of its own.

    Parameters
    ----------
    store : Store
        Filled by the thread.
    results, control : str
        Endpoints; `control` is learnt from the streamer when not given.
    notify : callable
        Called in the thread when there is something new; must return at once.

    Raises
    ------
    LinkError
        If an endpoint is not an address.
    """

    def __init__(self, store: Store, results: str = DEFAULT_RESULTS, *, control: str | None = None,
                 notify: Callable[[], None] = lambda: None) -> None:
        self.store = store
        self.endpoint = results
        self.notify = notify
        # every topic: a foreign program on this address shall be named, not ignored
        self._client = Client(results, control, topics=("",), high_water_mark=MOST_WAITING)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._pending = False
        self._status_at: float | None = None
        self._started_at = time.monotonic()
        self._connected_at: float | None = None
        self._foreign, self._foreign_text, self._foreign_at = 0, "", -1e9
        self._wanted: int | None = 0
        self._ask_at, self._asking = 0.0, False
        self._history_text, self._retry_s = "", RETRY_S / 2
        self._notices: list[str] = []
        self._promised: dict[str, int] = {}
        self._ahead: dict[int, Command] = {}
        """Pages of the history asked for already, by their `since`."""
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._started_at = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the sockets."""
        self._stop.set()
        if self._thread.ident is None:
            self._client.close()
            return
        self._thread.join(HISTORY_TIMEOUT_S + 2.0)
        if self._thread.is_alive():
            _log.warning("the reader of %s did not end in time", self.endpoint)

    def control(self) -> str | None:
        """Return the endpoint on which the streamer takes commands; None before it was announced."""
        return self._client.control

    def taken(self) -> list[str]:
        """Allow the next announcement; return notices that came up since, in words for the screen."""
        with self._lock:
            self._pending = False
            notices, self._notices = self._notices, []
            return notices

    @property
    def is_loading(self) -> bool:
        """Whether rows of before are on their way."""
        return self._asking or bool(self._ahead)

    def link(self) -> Link:
        """Judge the link by the age of the last heartbeat, which a connection alone does not give."""
        now = time.monotonic()
        age_s = None if self._status_at is None else now - self._status_at
        state, text = self._judge(age_s, now)
        if self._foreign and now - self._foreign_at < 10.0:
            text = self._foreign_text
        return Link(state=state, endpoint=self.endpoint, age_s=age_s, text=text or self._history_text,
                    foreign=self._foreign, has_history=self._wanted is None)

    def _judge(self, age_s: float | None, now: float) -> tuple[LinkState, str]:
        if not self._thread.is_alive() and self._thread.ident is not None:
            return LinkState.DISCONNECTED, "the reader has stopped; the log says why"
        if age_s is None:
            return LinkState.CONNECTING, self._silence() if now - self._started_at > STALE_AFTER_S else ""
        ending = self.store.status.state if self.store.status is not None else ""
        if ending == "stopping":
            return LinkState.ENDED, "the streamer has stopped"
        if age_s > STALE_AFTER_S and not self._asking:
            if age_s > DISCONNECTED_AFTER_S and not self._client.connected:
                return LinkState.DISCONNECTED, f"no connection to {self.endpoint} for {age_s:.0f} s; waiting for it"
            return LinkState.STALE, f"no status for {age_s:.0f} s: what you see is old"
        return (LinkState.ENDED if ending == "idle" else LinkState.LIVE), ""

    def _silence(self) -> str:
        if self._connected_at is not None:
            if time.monotonic() - self._connected_at < STALE_AFTER_S:
                return ""
            return f"{self.endpoint} answers, but sends no status: is it the results endpoint of a txm-streamer?"
        return f"nobody answers at {self.endpoint}: is txm-streamer running?"

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._step()
        finally:
            self._client.close()

    def _step(self) -> None:
        try:
            result = self._client.receive(0.0 if self._ahead else 0.1)   # with a page on its way, there is more to do
            if result is not None:
                self._take(result)
        except ProtocolError as error:
            self._refuse(error)
        if not self._client.connected:
            self._connected_at = None
        elif self._connected_at is None:
            self._connected_at = time.monotonic()
        if self._wanted is not None and self._client.control is not None and time.monotonic() >= self._ask_at:
            self._ask_history(self._wanted)

    def _take(self, result: Result) -> None:
        session = result.header.get("session")
        if not isinstance(session, str):
            raise ProtocolError(f"{result.topic!r} message names session {session!r}, expected a text")
        if session != self.store.session:
            known = self.store.session != ""
            self.store.reset(session)
            self._promised = {}
            self._want(0)
            if known:
                self._note(f"the streamer began session {session}: charts start anew, history is loaded")
        before = self.store.heard(result.topic)
        sequel = self.store.accept(result)
        if sequel == "restart":
            self._want(0)
            self._note("the streamer was restarted: history is loaded again")
        elif sequel == "gap" and result.topic in KEPT:
            _log.info("%s messages %d to %d were lost; asking for the history", result.topic, before + 1,
                      result.sequence - 1)
            self._want(before if result.topic == "frame" else self.store.heard("frame"))
        if result.topic == "status":
            self._status_at = time.monotonic()
            self._compare(result.header.get("published"), anew=sequel == "restart")
        self._announce()

    def _compare(self, published: Any, *, anew: bool) -> None:
        """Ask for the history when less was heard than the heartbeat before told: the last message may be lost, too."""
        if not anew and any(self.store.heard(topic) < number for topic, number in self._promised.items()):
            _log.info("the newest messages were lost; asking for the history")
            self._want(self.store.heard("frame"))
        numbers = published if isinstance(published, dict) else {}
        self._promised = {topic: numbers[topic] for topic in KEPT if isinstance(numbers.get(topic), int)}

    def _want(self, since: int) -> None:
        self._wanted, self._ahead = since if self._wanted is None else min(since, self._wanted), {}

    def _ask_history(self, since: int) -> None:
        """Ask for a page; the next one is asked for after what has come meanwhile."""
        began, self._asking = time.monotonic(), True
        try:
            question = self._ahead.pop(since) if since in self._ahead else self._ask_page(since)
            page = self._client.answer(question, timeout_s=HISTORY_TIMEOUT_S)
            self._ahead = self._look_ahead(page, since)
            self.store.merge(page)
            last = int(page["sequence"].get("frame", since))
            if page.get("more") and last <= since:
                raise ProtocolError(f"history after {since} says that there is more and brings nothing")
        except (LinkError, CommandError, ProtocolError) as error:
            self._ahead = {}
            self._history_text = f"history is not here yet: {error}"
            self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)
            self._ask_at = time.monotonic() + self._retry_s
            _log.info("%s", self._history_text)
        else:
            self._wanted = last if page.get("more") else None
            self._retry_s = RETRY_S / 2
            self._history_text = "loading what happened before" if page.get("more") else ""
        finally:
            if self._status_at is not None:   # heartbeats wait in the socket meanwhile
                self._status_at += time.monotonic() - began
            self._asking = False
        self._announce()

    def _ask_page(self, since: int, *, alerts: bool = True) -> Command:
        return self._client.ask("history", since=since, limit=PAGE, columns=True, alerts=alerts)

    def _look_ahead(self, page: Any, since: int) -> dict[int, Command]:
        """Ask for the page after this one before it is taken in: the streamer reads it meanwhile.

        Alerts have come with this one, or one before; how they change since then is heard.
        """
        sequence = page.get("sequence") if isinstance(page, dict) else None
        last = sequence.get("frame") if isinstance(sequence, dict) else None
        if not isinstance(last, int) or last <= since or not page.get("more"):
            return {}
        return {last: self._ask_page(last, alerts=False)}

    def _refuse(self, error: ProtocolError) -> None:
        self._foreign_at = time.monotonic()
        text = f"{self.endpoint} sends something else than results: {error}"
        if text != self._foreign_text:   # the same one again and again would fill the log
            _log.warning("%s", text)
        self._foreign_text = text
        self._foreign += 1   # last: who sees the count finds the words
        self._announce()

    def _note(self, text: str) -> None:
        _log.info("%s", text)
        with self._lock:
            self._notices.append(text)

    def _announce(self) -> None:
        with self._lock:
            if self._pending:
                return
            self._pending = True
        self.notify()
