"""Where every frame went: gaps, duplicates, restarts and wraps, told from frame numbers. No threads, no sockets."""

from __future__ import annotations

import collections
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from streamer.records import Accounting, AnyArray, EndOfAcquisition, Event, Frame, FrameRow, Refusal, Tally
from streamer.sources.ranges import Ranges
from streamer.sources.stream import BUCKETS, NEAR, Signature, Stream

REMEMBERED = 1024
"""Frames whose content is remembered, to tell a repeated frame from a new one with an old number."""
SAMPLE_PIXELS = 1 << 14


class Admission(NamedTuple):
    """What became of a frame that arrived."""

    frame: Frame | None
    """With its number unwrapped and its acquisition named; None if it is a duplicate."""
    events: list[Event]


class Ledger:
    """Sequence accounting of everything that arrives, per acquisition.

    Hand every frame that arrives to `admit`, every refusal that arrives (a message that could not be read, a frame
    that was given up unmeasured) to `admit_refusal`, every end to `close`; then every outcome to `count`. At rest
    ``received == measured + duplicate + malformed + refused + dropped``.

    Notes
    -----
    A frame that starts the numbers anew opens an acquisition of its own: ``acquisition-2`` after ``acquisition-1``
    when the sender gives no names, ``scan#2`` after ``scan``. A number that was seen is a duplicate when the frame
    is the same (its time of exposure, else its pixels). With other content it starts anew if it is the number that
    the acquisition began with, lies more than `NEAR` behind, follows the end of the acquisition, or if the number
    before it came again with other content, too; else it is a duplicate as well. Frames without a number (-1) are
    numbered by arrival.
    """

    def __init__(self) -> None:
        self._streams: dict[str, Stream] = {}
        self._current: dict[str, str] = {}
        """Name by the sender: name of the stream that goes on."""
        self._signatures: collections.OrderedDict[tuple[str, int], Signature] = collections.OrderedDict()
        self._signed = 0
        """Frames whose content was ever remembered."""
        self._changed: set[str] = set()
        """Streams, since `changes` was called."""
        self._fresh: list[tuple[str, int]] = []
        """Frames whose content was remembered since."""

    def admit(self, frame: Frame) -> Admission:
        """Account for a frame that arrived, and give it its final number and acquisition."""
        events: list[Event] = []
        stream = self._stream(frame.acquisition)
        signature = Signature(frame.exposed_at, checksum(frame.pixels))
        if frame.index < 0:
            stream = self._open(frame.acquisition) if stream.closed else stream
            index = stream.newest + 1
        else:
            index, modulus = stream.unwrap(frame.index)
            verdict = self._judge(stream, index, signature, recollects=frame.recollects)
            if verdict == "duplicate":
                return self._reject(stream, index, frame)
            if verdict == "anew":
                stream, index = self._start_anew(stream, frame, events), frame.index
            elif modulus:
                stream.offset, stream.modulus = stream.offset + modulus, modulus
                events.append(_event("wrap", stream, frame, index, f"the sender's counter ran over {modulus}: "
                                     f"its frame {frame.index} is frame {index}"))
        stream.received += 1
        if frame.expected is not None:
            stream.expected = frame.expected
        gaps, late = stream.place(index, taken_again=frame.recollects is not None)
        events += [_gap(stream, piece, frame.received_at) for piece in gaps]
        if late:
            stream.tally("out_of_order", index)
            last = "the end" if stream.closed else f"frame {stream.newest}"
            events.append(_event("out_of_order", stream, frame, index, f"frame {index} came after {last}"))
        self._remember(stream, index, signature)
        final = msgspec.structs.replace(frame, index=index, acquisition=stream.name,
                                        recollects=stream.unwrap_recollected(frame.recollects, index))
        return Admission(final, events)

    def admit_refusal(self, refusal: Refusal) -> Refusal:
        """Account for something that arrived and never was a frame to be measured, before it is counted.

        Returns
        -------
        Refusal
            With the number and acquisition under which it is kept. The number is None when it is not known, or
            belongs to a frame that was received well.
        """
        stream, index = self._find(refusal), refusal.index
        stream.received += 1
        if index is not None and index < 0:   # numbered by arrival, as the frame would have been
            index = stream.newest + 1
            stream.place(index)
        elif index is not None:
            index, _ = stream.unwrap(index)
            if stream.was_seen(index):
                index = None
        if index is not None:
            stream.spoil(index)
        return msgspec.structs.replace(refusal, index=index, acquisition=stream.name)

    def count(self, item: Frame | FrameRow | Refusal) -> None:
        """Count the outcome of what was admitted: a frame or row as measured, a refusal in its bucket.

        The acquisition is the one that `admit` or `admit_refusal` gave.
        """
        stream = self._streams[item.acquisition]
        self._changed.add(stream.name)
        if not isinstance(item, Refusal):
            stream.measured += 1
            return
        stream.tally(item.bucket, item.index)
        if item.index is not None:
            stream.spoil(item.index)

    def close(self, end: EndOfAcquisition, *, at: float = 0.0) -> list[Event]:
        """Close an acquisition; what was expected and has not come is missing from now on."""
        name = self._current.get(end.acquisition)
        if name is None and not end.acquisition:   # a nameless end closes what runs
            name = next((name for name in reversed(self._streams) if name), None)
        if name is None:
            return []
        stream = self._streams[name]
        self._changed.add(name)
        return [_gap(stream, piece, at) for piece in stream.finish()]

    def is_over(self, acquisition: str) -> bool:
        """Tell whether the sender has closed an acquisition or begun anew, by the name that `admit` gave it."""
        stream = self._streams.get(acquisition)
        return stream is not None and (stream.closed or acquisition not in self._current.values())

    def accounting(self) -> Accounting:
        """Account for everything; the numbers of several acquisitions are merged."""
        counts: dict[str, int] = dict.fromkeys(("received", "measured", "missing", *BUCKETS), 0)
        numbers: dict[str, Ranges] = {bucket: Ranges() for bucket in ("missing", *BUCKETS)}
        for stream in self._streams.values():
            counts["received"] += stream.received
            counts["measured"] += stream.measured
            for bucket, count, ranges in stream.non_empty():
                counts[bucket] += count
                for piece in ranges:
                    numbers[bucket].add(*piece)
        tallies = {bucket: Tally(count=counts[bucket], indices=ranges.to_list()) for bucket, ranges in numbers.items()}
        return Accounting(received=counts["received"], measured=counts["measured"], **tallies)

    def accounting_by_acquisition(self) -> dict[str, Accounting]:
        """Account for every acquisition; what cannot be assigned is under the empty name."""
        return {name: stream.accounting() for name, stream in self._streams.items()}

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain lists, dicts, numbers and texts."""
        return {
            "streams": [stream.snapshot() for stream in self._streams.values()],
            "current": dict(self._current),
            "signatures": [[name, index, *signature] for (name, index), signature in self._signatures.items()],
        }

    def changes(self) -> dict[str, Any]:
        """Return what changed since the last call as parts of the state by name, plain as in `snapshot`.

        A part takes the place of the one of that name; there are no more than streams and remembered frames.
        """
        parts: dict[str, Any] = {f"stream {name}": self._streams[name].snapshot() for name in self._changed}
        if parts:
            parts["current"] = dict(self._current)
        for key in self._fresh[-REMEMBERED:]:
            signature = self._signatures.get(key)
            if signature is not None:
                parts[f"frame {self._signed % REMEMBERED}"] = [self._signed, *key, *signature]
                self._signed += 1
        self._changed.clear()
        self._fresh.clear()
        return parts

    @classmethod
    def joined(cls, parts: Mapping[str, Any]) -> Ledger:
        """Make a ledger of all parts that `changes` gave, each as it was last, in the order in which they came."""
        streams = [part for name, part in parts.items() if name.startswith("stream ")]
        signed = sorted(part for name, part in parts.items() if name.startswith("frame "))
        ledger = cls.restore({"streams": streams, "current": parts.get("current", {}),
                              "signatures": [signature for _, *signature in signed]})
        ledger._signed = signed[-1][0] + 1 if signed else 0
        return ledger

    @classmethod
    def restore(cls, snapshot: Mapping[str, Any]) -> Ledger:
        """Make a ledger that goes on where `snapshot` was taken."""
        ledger = cls()
        ledger._streams = {tree["name"]: Stream.restore(tree) for tree in snapshot["streams"]}
        ledger._current = dict(snapshot["current"])
        for name, index, exposed_at, check in snapshot["signatures"]:
            ledger._signatures[name, index] = Signature(exposed_at, check)
        return ledger

    def _judge(
        self, stream: Stream, index: int, signature: Signature, *, recollects: int | None
    ) -> Literal["accept", "duplicate", "anew"]:
        if stream.first is None and index not in stream.apart:
            return "accept"
        behind = stream.newest - index
        if index in stream.missing:   # what went by before we listened does not come after all
            return "anew" if index < stream.origin and (stream.closed or behind > NEAR) else "accept"
        if not stream.is_inside(index):
            known = stream.unwrap_recollected(recollects, index)
            if known is not None and stream.was_seen(known):   # it belongs to where the frame that it replaces is
                return "accept"
            return "anew" if stream.closed or behind > NEAR else "accept"
        if index in stream.spoilt:   # only where an acquisition begins is a second start more likely than a repeat
            return "anew" if index == stream.first and behind > NEAR else "accept"
        return self._judge_seen(stream, index, signature)

    def _judge_seen(self, stream: Stream, index: int, signature: Signature) -> Literal["duplicate", "anew"]:
        known = self._signatures.get((stream.name, index))
        if known is None and index == stream.origin:
            known = stream.origin_signature
        if known is not None and known.same_as(signature):
            return "duplicate"
        is_run = stream.contradicted >= 0 and index == stream.contradicted + 1
        if stream.closed or index == stream.origin or stream.newest - index > NEAR or is_run:
            return "anew"
        stream.contradicted = index
        return "duplicate"

    def _reject(self, stream: Stream, index: int, frame: Frame) -> Admission:
        stream.received += 1
        stream.tally("duplicate", index)
        text = f"frame {index} came again" + (" with other content" if index == stream.contradicted else "")
        return Admission(None, [_event("duplicate", stream, frame, index, text)])

    def _find(self, refusal: Refusal) -> Stream:
        """Find the stream of a refusal; what tells neither name nor number goes to the unnamed acquisition, if any."""
        if refusal.acquisition or refusal.index is not None or "" in self._current:
            return self._stream(refusal.acquisition)
        self._changed.add("")
        return self._streams.setdefault("", Stream(""))

    def _stream(self, sender_name: str) -> Stream:
        name = self._current.get(sender_name)
        stream = self._open(sender_name) if name is None else self._streams[name]
        self._changed.add(stream.name)
        return stream

    def _open(self, sender_name: str) -> Stream:
        name = next(name for name in _names(sender_name) if name not in self._streams)
        self._current[sender_name] = name
        self._streams[name] = Stream(name)
        self._changed.add(name)
        return self._streams[name]

    def _start_anew(self, old: Stream, frame: Frame, events: list[Event]) -> Stream:
        stream = self._open(frame.acquisition)
        if not old.closed:   # after a proper end this is simply the next acquisition
            stream.tally("restarts", frame.index)
            events.append(_event("restart", stream, frame, frame.index, f"numbers start anew with frame {frame.index} "
                                 f"after frame {old.newest} of {old.name}; this is {stream.name}"))
        return stream

    def _remember(self, stream: Stream, index: int, signature: Signature) -> None:
        if index == stream.origin:
            stream.origin_signature = signature
        self._signatures[stream.name, index] = signature
        self._fresh.append((stream.name, index))
        while len(self._signatures) > REMEMBERED:
            self._signatures.popitem(last=False)


def checksum(pixels: AnyArray) -> int:
    """Checksum of an even sample of the pixels, of about `SAMPLE_PIXELS` at the most."""
    step = max(1, math.isqrt(pixels.size // SAMPLE_PIXELS))
    return zlib.crc32(np.ascontiguousarray(pixels[::step, ::step]).data)


def _names(sender_name: str) -> Iterator[str]:
    """Names for an acquisition and those that follow under the same name by the sender."""
    if sender_name:
        yield sender_name
        yield from (f"{sender_name}#{number}" for number in range(2, 1 << 62))
    else:
        yield from (f"acquisition-{number}" for number in range(1, 1 << 62))


def _event(
    kind: Literal["duplicate", "out_of_order", "restart", "wrap"], stream: Stream, frame: Frame, index: int, text: str
) -> Event:
    return Event(kind=kind, text=text, acquisition=stream.name, index=index, at=frame.received_at)


def _gap(stream: Stream, piece: tuple[int, int], at: float) -> Event:
    first, last = piece
    text = f"frame {first} is missing" if first == last else f"frames {first} to {last} are missing"
    return Event(kind="gap", text=text, acquisition=stream.name, index=first, at=at)
