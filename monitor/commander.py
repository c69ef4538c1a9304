"""The thread through which the dashboard asks a streamer for something: commands, pictures, fields. No Qt."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from streamer.client import Client
from streamer.errors import LinkError, TxmError

TIMEOUT_S = 10.0
_WAITING = 200
"""Questions that may wait; a streamer that answers nothing must not fill the memory."""

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What came of a question: a result, or the reason why there is none."""

    op: str
    arguments: dict[str, Any]
    result: Any = None
    error: str = ""


Done = Callable[[Answer], None]


class _Question(NamedTuple):
    op: str
    arguments: dict[str, Any]
    done: Done


class Commander:
    """Ask one question after another, beside the thread that listens.

    Parameters
    ----------
    results : str
        Endpoint on which the streamer publishes; only its host is needed.
    control : callable
        Returns the endpoint of the control socket, None as long as it is not known.
    read_only : bool
        Refuse what would change something; questions such as for pictures are asked all the same.
    """

    READS = frozenset({"history", "spectra", "picture", "thumbnails", "flow", "snapshot"})

    def __init__(self, results: str, control: Callable[[], str | None], *, read_only: bool = False) -> None:
        self.read_only = read_only
        self._results, self._control = results, control
        self._questions: queue.Queue[_Question | None] = queue.Queue(_WAITING)
        self._client: Client | None = None
        self._thread = threading.Thread(target=self._run, name="commander", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Give up what waits and end."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._questions.get_nowait()
        self._questions.put(None)
        if self._thread.ident is not None:
            self._thread.join(TIMEOUT_S + 2.0)

    def ask(self, op: str, *, done: Done = lambda _: None, **arguments: Any) -> None:
        """Ask a question; `done` is called with the answer, in the thread of the commander or at once."""
        question = _Question(op, arguments, done)
        if self.read_only and op not in self.READS:
            done(Answer(op, arguments, error=f"this dashboard is read-only: {op!r} was not sent"))
            return
        try:
            self._questions.put_nowait(question)
        except queue.Full:
            done(Answer(op, arguments, error=f"{_WAITING} questions wait already: {op!r} was not sent"))

    def _run(self) -> None:
        try:
            while (question := self._questions.get()) is not None:
                answer = self._answer(question)
                try:
                    question.done(answer)
                except Exception:  # what is done with one answer must not end the asking
                    log.exception("the answer to %r could not be used", question.op)
        finally:
            self._drop()

    def _answer(self, question: _Question) -> Answer:
        op, arguments, _ = question
        try:
            return Answer(op, arguments, result=self._connected().request(op, timeout_s=TIMEOUT_S, **arguments))
        except LinkError as error:
            self._drop()
            return Answer(op, arguments, error=str(error))
        except TxmError as error:
            return Answer(op, arguments, error=str(error))

    def _connected(self) -> Client:
        """Return a client of the control socket as it is known now: a restarted streamer may have another."""
        control = self._control()
        if control is None:
            raise LinkError(f"no status from {self._results} yet: the streamer cannot be asked")
        if self._client is None or self._client.control != control:
            self._drop()
            self._client = Client(self._results, control, topics=())
        return self._client

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
