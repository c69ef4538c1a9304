"""Faults are as many as asked, the same for the same seed, and nothing else is touched."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.faults import FaultInjector, FaultShares, Message
from streamer.errors import SettingsError


def messages(count: int) -> list[list[bytes]]:
    return [[b'{"frame": %d}' % number, b"\1\2\3\4"] for number in range(count)]


def run(shares: FaultShares, count: int, seed: int = 61) -> tuple[list[Message], FaultInjector]:
    injector = FaultInjector(shares, seed=seed)
    sent: list[Message] = []
    for index, message in enumerate(messages(count)):
        sent += injector.passed(message, acquisition="a", index=index)
    return sent + injector.rest(), injector


def test_no_fault_changes_nothing() -> None:
    sent, injector = run(FaultShares(), 50)
    assert sent == messages(50)
    assert injector.made == []


def test_gap_loses_exactly_the_named_frames() -> None:
    sent, injector = run(FaultShares(gap=0.1), 400)
    lost = {fault.index for fault in injector.made}
    assert 20 < len(lost) < 65
    assert sent == [message for index, message in enumerate(messages(400)) if index not in lost]


def test_duplicate_sends_twice() -> None:
    sent, injector = run(FaultShares(duplicate=0.1), 200)
    counts = Counter(bytes(message[0]) for message in sent)
    twice = {fault.index for fault in injector.made}
    assert {index for index in range(200) if counts[b'{"frame": %d}' % index] == 2} == twice
    assert len(sent) == 200 + len(twice)


def test_swap_exchanges_neighbours() -> None:
    sent, injector = run(FaultShares(swap=0.2), 100)
    order = list(range(100))
    for fault in injector.made:
        if fault.index < 99:
            order[fault.index], order[fault.index + 1] = fault.index + 1, fault.index
    assert sent == [messages(100)[index] for index in order]


def test_malformed_is_not_json_or_lies_about_its_payload() -> None:
    sent, injector = run(FaultShares(malformed=0.5), 100)
    assert len(sent) == 100
    broken = {fault.index for fault in injector.made}
    kinds = set()
    for index, message in enumerate(sent):
        if index in broken:
            kinds.add("header" if not bytes(message[0]).endswith(b"}") else "payload")
            assert message != messages(100)[index]
        else:
            assert message == messages(100)[index]
    assert kinds == {"header", "payload"}


@given(seed=st.integers(0, 2**32))
def test_same_seed_same_faults(seed: int) -> None:
    shares = FaultShares(0.1, 0.1, 0.1, 0.1)
    assert run(shares, 30, seed)[1].made == run(shares, 30, seed)[1].made


def test_shares_are_read() -> None:
    assert FaultShares.parse("") == FaultShares()
    assert FaultShares.parse("gap=0.02, swap=0.01") == FaultShares(gap=0.02, swap=0.01)


@pytest.mark.parametrize(("text", "reason"), [
    ("hole=0.1", "no fault 'hole'"), ("gap", "has no share"), ("gap=x", "has no share"),
    ("gap=2", "not shares"), ("gap=-1", "not shares"), ("gap=0.7,swap=0.7", "not shares"), ("gap=nan", "not shares"),
])
def test_bad_shares_are_refused(text: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        FaultShares.parse(text)
