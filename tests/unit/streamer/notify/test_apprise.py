from __future__ import annotations

import json
import sys
import warnings

import pytest
from support.notices import Site, notice, site

from streamer.errors import ChannelError, SettingsError
from streamer.notify import Messenger, open_all
from streamer.settings import Settings, update

apprise = pytest.importorskip("apprise")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")   # of its own modules


@pytest.fixture(scope="module", autouse=True)
def _its_own_thread_lives_as_long_as_the_program() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sender = apprise.Apprise()
        sender.add("json://127.0.0.1:9")
        assert not sender.notify(title="nobody", body="listens")


def services(*urls: str) -> list[Messenger]:
    return open_all(update(Settings(), {"notify.apprise_urls": list(urls), "notify.apprise_severity": "MINOR"}))[0]


def address(hook: Site) -> str:
    return hook.url.replace("http://", "json://")


def raw(hook: Site) -> list[dict[str, str]]:
    return [body for body in hook.bodies if isinstance(body, dict)]


def test_a_service_gets_one_message_about_all() -> None:
    with site() as hook:
        (service,) = services(address(hook))
        service.check()
        assert not hook.calls
        service.deliver([notice(number) for number in range(1, 26)], session="day1")
    (message,) = raw(hook)
    assert message["title"] == "day1: MAJOR blurred_frame (main): frame 25 is blurred (and 24 more)"
    assert message["message"].splitlines()[::20] == [
        "MAJOR blurred_frame (main): frame 1 is blurred", "and 5 more, see the dashboard"]
    assert message["type"] == "failure"


def test_what_is_over_looks_like_good_news_and_long_titles_are_cut() -> None:
    with site() as hook:
        (service,) = services(address(hook))
        service.deliver([notice(occasion="closed", text="x" * 500, count=3)], session="day1")
    (message,) = raw(hook)
    assert message["type"] == "success"
    assert len(message["title"]) == 120
    assert message["message"] == f"over: MAJOR blurred_frame (main): {'x' * 500} [3 times]"


def test_each_address_is_a_channel_of_its_own_without_its_secrets() -> None:
    names = [one.name for one in services("json://user:word@host/KEY", "slack://KEYA/KEYB/KEYC", "nonsense KEY")]
    assert names == ["apprise 1 (json)", "apprise 2 (slack)", "apprise 3 (?)"]


@pytest.mark.parametrize("url", ["nonsense KEY", "nosuch://KEY", "slack://KEY", ""])
def test_an_address_that_apprise_does_not_know_is_named_without_its_secrets(url: str) -> None:
    (service,) = services(url)
    with pytest.raises(ChannelError, match=r"notify\.apprise_urls") as caught:
        service.check()
    assert "KEY" not in str(caught.value)


@pytest.mark.parametrize("status", [500, 404])
def test_a_service_that_refuses_is_named(status: int) -> None:
    with site() as hook:
        hook.behaviour = status
        (service,) = services(address(hook))
        with pytest.raises(ChannelError, match=r"json://\*\*\* .* did not take the message"):
            service.deliver([notice()], session="s")


def test_without_the_extra_the_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(SettingsError, match=r"notify\.apprise_urls needs apprise.*txm-live\[notify\]"):
        services("json://host/")


def test_messages_are_plain_json() -> None:
    with site() as hook:
        (service,) = services(address(hook))
        service.deliver([notice(text='<b>"ä"</b>')], session="s")
    assert json.dumps(raw(hook)[0])
    assert '<b>"ä"</b>' in raw(hook)[0]["message"]
