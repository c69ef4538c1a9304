from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.records import EndOfAcquisition, Frame, FrameRow, Refusal, Tally
from streamer.sources.sequence import REMEMBERED, Ledger, checksum


def frame(index, content=None, acquisition="", **fields):
    """A frame whose pixels depend on its number, or on `content`."""
    seed = index if content is None else content
    pixels = np.random.default_rng(abs(seed)).integers(0, 4000, (8, 8)).astype(np.uint16)
    return Frame(pixels=pixels, index=index, acquisition=acquisition, received_at=5.0, **fields)


class Feed:
    """A ledger and what came out of it."""

    def __init__(self):
        self.ledger = Ledger()
        self.names = []
        self.events = []

    def __call__(self, *frames):
        """Admit and measure; return the (acquisition, index) of each, None for duplicates."""
        found = []
        for item in frames:
            admitted, events = self.ledger.admit(frame(item) if isinstance(item, int) else item)
            self.events += [event.kind for event in events]
            if admitted is not None:
                self.ledger.count(admitted)
            found.append(None if admitted is None else (admitted.acquisition, admitted.index))
        self.names += found
        return found

    def refuse(self, **fields):
        refusal = self.ledger.admit_refusal(Refusal(reason="why", **fields))
        self.ledger.count(refusal)
        return refusal

    @property
    def total(self):
        return self.ledger.accounting()


@pytest.fixture
def feed():
    return Feed()


def again(*indices, run=1):
    """Frames with numbers as before and other content."""
    return [frame(index, content=1000 * run + index) for index in indices]


def tally(*indices):
    count = sum(1 if isinstance(entry, int) else entry[1] - entry[0] + 1 for entry in indices)
    return Tally(count=count, indices=list(indices))


def test_an_undisturbed_acquisition(feed):
    assert feed(*range(100)) == [("acquisition-1", index) for index in range(100)]
    assert feed.events == []
    assert (feed.total.received, feed.total.measured) == (100, 100)
    assert feed.total.missing == Tally()


def test_gaps_are_missing(feed):
    feed(0, 1, 2, 5, 9)
    assert feed.total.missing == tally((3, 4), (6, 8))
    assert feed.events == ["gap", "gap"]


def test_late_frames_fill_gaps(feed):
    feed(0, 1, 4, 2, 5, 3)
    assert feed.total.missing == Tally()
    assert feed.total.out_of_order == tally((2, 3))
    assert feed.total.measured == 6


def test_exact_repeats_are_duplicates_however_late(feed):
    assert feed(*range(200), 199, 150, 3, 0)[200:] == [None] * 4
    assert feed.total.duplicate == tally(0, 3, 150, 199)
    assert feed.total.measured == 200
    assert feed.total.restarts == Tally()


def test_the_time_of_exposure_goes_before_the_pixels(feed):
    feed(*(frame(index, content=7, exposed_at=float(index)) for index in range(100)))
    assert feed(frame(50, content=8, exposed_at=50.0)) == [None]           # the same exposure, packed otherwise
    assert feed(frame(0, content=7, exposed_at=200.0)) == [("acquisition-2", 0)]   # a new exposure that looks alike


def test_a_number_that_comes_again_nearby_is_a_duplicate(feed):
    feed(*range(20))
    assert feed(*again(15)) == [None]
    assert feed.total.duplicate == tally(15)
    assert feed(20) == [("acquisition-1", 20)]


def test_a_restart_from_the_first_number(feed):
    feed(*range(5))
    assert feed(*again(0, 1, 2)) == [("acquisition-2", 0), ("acquisition-2", 1), ("acquisition-2", 2)]
    assert feed.events == ["restart"]
    assert feed.total.restarts == tally(0)
    feed(*again(0, run=2))
    assert feed.names[-1] == ("acquisition-3", 0)


def test_a_named_restart_gets_a_number_behind_its_name(feed):
    feed(frame(0, acquisition="scan"), frame(1, acquisition="scan"), frame(0, 99, acquisition="scan"),
         frame(1, 98, acquisition="scan"), frame(0, 97, acquisition="scan"))
    assert [name for name, _ in feed.names] == ["scan", "scan", "scan#2", "scan#2", "scan#3"]
    assert list(feed.ledger.accounting_by_acquisition()) == ["scan", "scan#2", "scan#3"]


def test_an_acquisition_is_over_when_its_sender_says_so_or_starts_anew(feed):
    feed(frame(0, acquisition="scan"), frame(0, acquisition="other"))
    assert not any(feed.ledger.is_over(name) for name in ("scan", "other", "not known"))
    feed(frame(0, 99, acquisition="scan"))
    feed.ledger.close(EndOfAcquisition(acquisition="other"))
    assert {name: feed.ledger.is_over(name) for name in ("scan", "scan#2", "other")} == {
        "scan": True, "scan#2": False, "other": True}


def test_a_restart_whose_first_frames_were_lost(feed):
    feed(*range(200))
    assert feed(*again(100)) == [("acquisition-2", 100)]   # more than 64 behind


def test_a_restart_nearby_shows_at_its_second_frame(feed):
    feed(*range(20))
    assert feed(*again(3, 4, 5)) == [None, ("acquisition-2", 4), ("acquisition-2", 5)]
    assert feed.total.duplicate == tally(3)


def test_two_contradictions_with_a_good_frame_between_are_duplicates(feed):
    feed(*range(20))
    assert feed(*again(3), 20, *again(4)) == [None, ("acquisition-1", 20), None]


def test_numbers_before_the_first_one(feed):
    feed(5, 6, 7, 3)
    assert feed.total.out_of_order == tally(3)
    assert feed.total.missing == tally(4)
    assert feed(4) == [("acquisition-1", 4)]
    assert feed.total.missing == Tally()
    feed(*range(8, 300))
    assert feed(0) == [("acquisition-2", 0)]   # too far behind to be late


def test_a_listener_that_came_late_owes_nothing_without_an_expected_number(feed):
    feed(40, 41)
    assert feed.total.missing == Tally()


def test_expected_numbers_are_owed_from_the_first_to_the_last(feed):
    feed(frame(3, expected=10), frame(4, expected=10))
    assert feed.total.missing == tally((0, 2))           # proved by frame 3
    feed.ledger.close(EndOfAcquisition())
    assert feed.total.missing == tally((0, 2), (5, 9))   # proved by the end
    assert feed.ledger.close(EndOfAcquisition()) == []
    assert feed(7) == [("acquisition-1", 7)]
    assert feed.total.missing == tally((0, 2), (5, 6), (8, 9))
    assert feed(7) == [None]


def test_an_acquisition_after_the_end_is_new_and_no_restart(feed):
    feed(*range(5))
    feed.ledger.close(EndOfAcquisition())
    assert feed(*again(0, 1)) == [("acquisition-2", 0), ("acquisition-2", 1)]
    feed.ledger.close(EndOfAcquisition())
    assert feed(frame(2, 77), frame(3, 78)) == [("acquisition-3", 2), ("acquisition-3", 3)]
    assert feed.total.restarts == Tally()


def test_after_the_end_a_new_run_does_not_fill_what_went_by_before(feed):
    feed(*(frame(index, expected=40) for index in range(20, 40)))
    feed.ledger.close(EndOfAcquisition())
    assert feed(*again(0, 1)) == [("acquisition-2", 0), ("acquisition-2", 1)]
    assert feed.total.missing == tally((0, 19))


def test_ends_that_name_nothing_known(feed):
    assert feed.ledger.close(EndOfAcquisition(acquisition="never seen")) == []
    assert feed.ledger.close(EndOfAcquisition()) == []
    feed(frame(0, acquisition="scan", expected=3))
    assert [event.kind for event in feed.ledger.close(EndOfAcquisition())] == ["gap"]   # closes what runs


@pytest.mark.parametrize("modulus", [2**16, 2**31, 2**32])
def test_counters_that_run_over(feed, modulus):
    names = feed(*(frame(number % modulus, content=number) for number in range(modulus - 5, modulus + 5)))
    assert names == [("acquisition-1", number) for number in range(modulus - 5, modulus + 5)]
    assert feed.events == ["wrap"]
    assert feed.total.missing == Tally()


def test_losses_and_changed_places_around_a_wrap(feed):
    feed(frame(65530), frame(65533), frame(1, 70001), frame(65535), frame(2, 70002))
    assert [index for _, index in feed.names] == [65530, 65533, 65537, 65535, 65538]
    assert feed.total.missing == tally((65531, 65532), 65534, 65536)
    assert feed.total.out_of_order == tally(65535)


def test_a_second_wrap(feed):
    for first in range(65500, 4 * 65536, 30):
        feed(frame(first % 65536, content=first))
    assert feed.names[-1][1] == 65500 + 30 * ((4 * 65536 - 65500 - 1) // 30)
    assert feed.events.count("wrap") == 3


def test_the_frame_to_be_replaced_is_unwrapped_too(feed):
    feed(*(frame(number % 65536, content=number) for number in range(65520, 65540)))
    for raw, truth in ((65530, 65530), (1, 65537)):
        admitted, _ = feed.ledger.admit(frame(feed.names[-1][1] - 65536 + 1, content=raw + 9, recollects=raw))
        assert admitted.recollects == truth
        feed.names.append((admitted.acquisition, admitted.index))


def test_a_complete_acquisition_restarts_rather_than_wraps(feed):
    feed(*(frame(index, expected=65530) for index in range(65500, 65530)))
    assert feed(frame(0, 1)) == [("acquisition-2", 0)]


def test_unnumbered_frames_are_numbered_by_arrival(feed):
    assert feed(*(frame(-1, content=7) for _ in range(3))) == [("acquisition-1", index) for index in range(3)]
    assert feed.refuse(bucket="dropped", index=-1).index == 3
    assert feed(frame(-1)) == [("acquisition-1", 4)]
    feed.ledger.close(EndOfAcquisition())
    assert feed(frame(-1)) == [("acquisition-2", 0)]
    assert feed.total.missing == Tally()


def test_repeats_by_request_have_numbers_of_their_own(feed):
    feed(*range(5), frame(5, recollects=2), 6)
    assert feed.events == []
    assert feed.total.measured == 7


def test_repeats_numbered_behind_the_plan_open_no_gap(feed):
    planned = [frame(index, expected=10) for index in range(10)]
    feed(*planned[:4], frame(10, recollects=2, expected=10), *planned[4:6], frame(11, recollects=3, expected=10))
    assert feed(frame(11, recollects=3, expected=10)) == [None]   # the same one again
    feed(*planned[6:9])
    assert feed.events == ["duplicate"]
    feed.ledger.close(EndOfAcquisition())
    assert feed.total.missing == tally(9)
    assert feed.total.out_of_order == Tally()
    assert feed(frame(12, recollects=4)) == [("acquisition-1", 12)]   # after the end; it belongs to what it replaces


def test_a_repeat_that_runs_ahead_of_a_lost_frame_does_not_hide_the_loss(feed):
    feed(0, 1, frame(3, recollects=0), 4)
    assert feed.total.missing == tally(2)


def test_a_listener_that_came_late_and_sees_a_repeat_first(feed):
    feed(frame(10, recollects=2, expected=10), frame(5, expected=10), frame(6, expected=10))
    assert feed.total.missing == tally((0, 4))
    assert feed.events == ["gap"]


def test_spoilt_numbers_are_not_missing_and_may_come_again(feed):
    feed(0, 1)
    assert feed.refuse(bucket="malformed", index=2).index == 2
    feed(3)
    assert feed.total.missing == Tally()
    assert feed(2) == [("acquisition-1", 2)]
    assert feed(2) == [None]
    assert feed.total.out_of_order == Tally()
    assert (feed.total.received, feed.total.measured) == (6, 4)
    assert feed.total.malformed == tally(2)


def test_refused_frames_may_come_again(feed):
    admitted, _ = feed.ledger.admit(frame(0))
    feed.ledger.count(Refusal(reason="shape", bucket="refused", index=0, acquisition=admitted.acquisition))
    assert feed(frame(0, 5)) == [("acquisition-1", 0)]
    assert (feed.total.received, feed.total.measured, feed.total.refused) == (2, 1, tally(0))


def test_a_spoilt_number_opens_no_gap_and_does_not_hide_a_good_frame(feed):
    feed(*range(5))
    feed.refuse(bucket="malformed", index=1 << 40)   # a damaged header
    assert feed.total.missing == Tally()
    refusal = feed.refuse(bucket="malformed", index=3)
    assert refusal.index is None                     # frame 3 was received well: its row stays
    assert feed(frame(3)) == [None]
    assert feed(5) == [("acquisition-1", 5)]
    assert feed.total.malformed.count == 2


def test_a_late_spoilt_frame_is_no_longer_missing(feed):
    feed(0, 3)
    feed.refuse(bucket="dropped", index=1)
    assert feed.total.missing == tally(2)
    assert feed.total.dropped == tally(1)


def test_messages_that_tell_nothing(feed):
    assert feed.refuse(bucket="malformed").acquisition == ""
    feed(0)
    assert feed.refuse(bucket="malformed").acquisition == "acquisition-1"
    feed(frame(0, acquisition="scan"))
    assert feed.refuse(bucket="malformed", acquisition="scan").acquisition == "scan"
    assert feed.total.malformed == Tally(count=3, indices=[])
    assert feed.total.received == 5


def test_names_of_senders_and_names_of_ours_stay_apart(feed):
    feed(0, frame(0, 5, acquisition="acquisition-1"), 1, frame(1, 6, acquisition="acquisition-1"))
    assert feed.names == [("acquisition-1", 0), ("acquisition-1#2", 0), ("acquisition-1", 1), ("acquisition-1#2", 1)]


def test_rows_count_as_measured(feed):
    admitted, _ = feed.ledger.admit(frame(0))
    feed.ledger.count(FrameRow(index=0, acquisition=admitted.acquisition, view="", kind="flat"))
    assert feed.total.measured == 1


def test_events_name_frames_acquisition_and_time(feed):
    feed(0)
    _, events = feed.ledger.admit(frame(3))
    assert [(event.kind, event.text, event.acquisition, event.index, event.at) for event in events] == [
        ("gap", "frames 1 to 2 are missing", "acquisition-1", 1, 5.0)]


def test_accounting_goes_into_json_as_documented(feed):
    feed(0, 4, 6)
    import msgspec
    tree = json.loads(msgspec.json.encode(feed.total))
    assert tree["missing"] == {"count": 4, "indices": [[1, 3], 5]}


def test_a_signature_costs_little_and_sees_a_change():
    rng = np.random.default_rng(3)
    pixels = rng.poisson(100, (654, 678)).astype(np.uint16)
    best = min(_seconds(checksum, pixels) for _ in range(20))
    assert best < 1e-4
    assert checksum(pixels) != checksum(rng.poisson(100, (654, 678)).astype(np.uint16))


def _seconds(function, *arguments):
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


def test_state_stays_small_over_many_frames(feed):
    for index in range(5 * REMEMBERED):
        feed(frame(index, content=1))
    assert len(json.dumps(feed.ledger.snapshot())) < 100 * REMEMBERED


STEP = st.one_of(
    st.tuples(st.just("frame"), st.integers(0, 300), st.integers(0, 2)),
    st.tuples(st.just("again"), st.integers(0, 300), st.integers(0, 2)),
    st.tuples(st.just("refused"), st.integers(0, 300), st.integers(0, 2)),
    st.tuples(st.just("malformed"), st.none() | st.integers(0, 300), st.just(0)),
    st.tuples(st.just("dropped"), st.integers(-1, 300), st.just(0)),
    st.tuples(st.just("end"), st.just(0), st.just(0)),
)


def follow(ledger, steps, names):
    accepted = []
    for kind, index, content in steps:
        name = names[(index or 0) % len(names)]
        if kind in ("frame", "again", "refused"):
            admitted, _ = ledger.admit(frame(index, content, acquisition=name, expected=None if content else 250,
                                             recollects=index // 2 + 1 if kind == "again" else None))
            if admitted is not None and kind != "refused":
                ledger.count(admitted)
                accepted.append((admitted.acquisition, admitted.index, kind))
            elif admitted is not None:
                ledger.count(Refusal(reason="why", index=admitted.index, acquisition=admitted.acquisition))
        elif kind == "end":
            ledger.close(EndOfAcquisition(acquisition=name))
        else:
            ledger.count(ledger.admit_refusal(Refusal(reason="why", bucket=kind, index=index, acquisition=name)))
    return accepted


@given(steps=st.lists(STEP, max_size=60), names=st.sampled_from([("",), ("scan",), ("", "scan", "b")]))
@settings(max_examples=300, deadline=None)
def test_every_frame_ends_somewhere(steps, names):
    ledger = Ledger()
    accepted = follow(ledger, steps, names)
    assert len({key[:2] for key in accepted}) == len(accepted)   # (acquisition, index) is unique among measured frames
    for total in (ledger.accounting(), *ledger.accounting_by_acquisition().values()):
        buckets = (total.duplicate, total.malformed, total.refused, total.dropped)
        assert total.received == total.measured + sum(tally.count for tally in buckets)
    for name, total in ledger.accounting_by_acquisition().items():
        measured = {index for owner, index, _ in accepted if owner == name}
        came = measured | numbers(total.refused) | numbers(total.malformed) | numbers(total.dropped)
        missing = numbers(total.missing)
        assert total.missing.count == len(missing)
        assert not missing & measured
        good = {index for owner, index, kind in accepted if owner == name and kind == "frame"} | numbers(total.refused)
        if good:
            assert set(range(min(good), max(good) + 1)) <= came | missing


@given(steps=st.lists(STEP, max_size=40), cut=st.integers(0, 40))
@settings(max_examples=100, deadline=None)
def test_a_restored_ledger_goes_on_as_if_nothing_had_happened(steps, cut):
    whole, first = Ledger(), Ledger()
    follow(whole, steps, ("", "scan"))
    follow(first, steps[:cut], ("", "scan"))
    second = Ledger.restore(json.loads(json.dumps(first.snapshot())))
    follow(second, steps[cut:], ("", "scan"))
    assert second.accounting_by_acquisition() == whole.accounting_by_acquisition()
    assert second.snapshot() == json.loads(json.dumps(whole.snapshot()))


def numbers(found):
    return {number for entry in found.indices
            for number in ([entry] if isinstance(entry, int) else range(entry[0], entry[1] + 1))}
