from __future__ import annotations

import http.server
import socket
from collections.abc import Callable, Iterator

import pytest
from support.notices import Site, notice, site

from streamer.errors import ChannelError
from streamer.notify.webhook import Webhook, masked


@pytest.fixture
def hook() -> Iterator[Site]:
    with site() as running:
        yield running


def webhook(url: str, *, timeout_s: float = 5.0) -> Webhook:
    return Webhook(url, timeout_s=timeout_s, severity="MAJOR", interval_s=0.0)


def test_alerts_arrive_as_json_with_a_text_for_chat_rooms(hook: Site) -> None:
    messenger = webhook(hook.url)
    messenger.check()
    messenger.deliver([notice(1, severity="MINOR"), notice(2, severity="INVALID", text="beam ä"),
                       notice(3, occasion="closed")], session="day1")
    (body,), (headers,) = hook.bodies, hook.headers
    assert body["text"] == "INVALID blurred_frame (main): beam ä (and 2 more)"
    assert (body["severity"], body["session"]) == ("INVALID", "day1")
    assert [(one["id"], one["occasion"], one["severity"]) for one in body["alerts"]] == [
        (1, "new", "MINOR"), (2, "new", "INVALID"), (3, "closed", "MAJOR")]
    assert headers["Content-Type"] == "application/json"


def test_looking_sends_nothing(hook: Site) -> None:
    webhook(hook.url).check()
    assert not hook.calls


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503, 302, 307])
def test_a_refusal_is_told_with_what_the_server_says(hook: Site, status: int) -> None:
    hook.behaviour = status
    with pytest.raises(ChannelError, match=f"answered {status} .*so says the server") as caught:
        webhook(hook.url).deliver([notice()], session="s")
    assert "SECRET" not in str(caught.value)
    assert len(hook.calls) == 1   # a redirected POST would arrive as a GET without the alerts


def hang(site_: Site) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    return lambda _: void(site_.leave.wait(20.0))


def void(_: object) -> None:
    """Make a function that returns nothing of one that does."""


def close_early(_: Site) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    return lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)


def babble(_: Site) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    return lambda handler: void(handler.wfile.write(b"no protocol at all\r\n\r\n"))


def stop_in_the_head(_: Site) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    return lambda handler: void(handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-"))


@pytest.mark.parametrize(("behaviour", "reason"), [
    (hang, "did not answer in time"), (close_early, "closed the connection"), (babble, "gave no answer of HTTP")])
def test_a_broken_server_is_named(hook: Site, behaviour: Callable[[Site], Callable[..., None]], reason: str) -> None:
    hook.behaviour = behaviour(hook)
    with pytest.raises(ChannelError, match=reason) as caught:
        webhook(hook.url, timeout_s=0.2).deliver([notice()], session="s")
    assert "http://127.0.0.1" in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_a_server_that_takes_the_alerts_and_breaks_off_afterwards_has_taken_them(hook: Site) -> None:
    hook.behaviour = stop_in_the_head(hook)
    webhook(hook.url).deliver([notice()], session="s")
    assert len(hook.calls) == 1


@pytest.mark.parametrize("url", [
    "nonsense", "ftp://host/file", "file:///etc/passwd", "http://", "https:///path", "http://host:0/", "http://[::1/",
    "http://host:port/", "http://ho st/\n", "http://host/\x00", "", "http://user:word@host/"])
def test_what_is_no_address_is_said_without_showing_it(url: str) -> None:
    messenger = webhook(url, timeout_s=0.2)
    with pytest.raises(ChannelError, match=r"notify\.webhook_url") as caught:
        messenger.deliver([notice()], session="s")
    assert "word" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/KEY", "http://no-such-host.invalid/KEY"])
def test_an_address_that_nobody_answers_on_is_named(url: str) -> None:
    with pytest.raises(ChannelError, match="is not to be reached") as caught:
        webhook(url, timeout_s=0.5).deliver([notice()], session="s")
    assert "KEY" not in str(caught.value)


@pytest.mark.parametrize(("url", "shown"), [
    ("https://user:word@hooks.example.org/services/KEY?token=KEY", "https://hooks.example.org/***"),
    ("http://[::1]:80/KEY", "http://[::1]:80/***"), ("slack://KEY/KEY", "***"), ("http://h:KEY/", "***"), ("", "***")])
def test_only_the_host_of_an_address_is_shown(url: str, shown: str) -> None:
    assert masked(url) == shown
