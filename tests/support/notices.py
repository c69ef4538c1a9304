"""Alerts to be told, and a web server that takes them, or does not."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from streamer.records import Alert, Notice


def alert(number: int = 1, **fields: Any) -> Alert:
    return Alert(**({"id": number, "raised_at": "2026-01-02T03:04:05.000000Z", "severity": "MAJOR",
                     "rule": "blurred_frame", "text": f"frame {number} is blurred", "view": "main",
                     "acquisition": "scan", "index": number} | fields))


def notice(number: int = 1, *, occasion: str = "new", channel: str = "test", sequence: int | None = None,
           **fields: Any) -> Notice:
    return Notice(channel=channel, occasion=occasion,   # type: ignore[arg-type]
                  sequence=number if sequence is None else sequence, alert=alert(number, **fields))


class Site:
    """What a web server was sent, and how it answers: a status, or a function that does it by itself."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.calls: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.behaviour: int | Callable[[http.server.BaseHTTPRequestHandler], None] = 200
        self.leave = threading.Event()
        """Ends whatever hangs."""
        self.url = ""

    def alerts(self) -> list[int]:
        """Return the numbers of all alerts that came, in order."""
        return [one["id"] for body in list(self.bodies) for one in body["alerts"]]


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """Serve on a free port of this machine."""
    state = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.calls.append(time.monotonic())
            if callable(state.behaviour):
                state.behaviour(self)
                return
            if state.behaviour < 300:
                state.headers.append(dict(self.headers))
                state.bodies.append(json.loads(body))
            self.send_response(state.behaviour)
            if 300 <= state.behaviour < 400:
                self.send_header("Location", state.url + "elsewhere")
            self.end_headers()
            self.wfile.write(b"so says\nthe server")

        do_GET = do_POST   # noqa: N815  (the library's name)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False   # waited for at the end
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/hooks/SECRET"
    try:
        yield state
    finally:
        state.leave.set()
        server.shutdown()
        server.server_close()
        thread.join()
