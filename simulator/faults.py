"""What networks and senders do wrong, on purpose: lost, repeated, swapped and broken messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from streamer.errors import SettingsError
from streamer.protocols import Buffer

Message = Sequence[Buffer]


class FaultShares(NamedTuple):
    """Share of the frames that each fault hits, 0 to 1 together."""

    gap: float = 0.0
    """The frame is lost."""
    duplicate: float = 0.0
    """The frame is sent twice."""
    swap: float = 0.0
    """The frame is sent after its successor."""
    malformed: float = 0.0
    """The header is not JSON, or promises more pixels than follow."""

    @classmethod
    def parse(cls, text: str) -> FaultShares:
        """Read ``gap=0.02,duplicate=0.01``; an empty text is no fault.

        Raises
        ------
        SettingsError
            If a fault does not exist or its share is not a number from 0 to 1.
        """
        shares: dict[str, float] = {}
        for item in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = item.partition("=")
            if name not in cls._fields:
                raise SettingsError(f"there is no fault {name!r}; known are {', '.join(cls._fields)}")
            try:
                shares[name] = float(value)
            except ValueError:
                raise SettingsError(f"fault {item!r} has no share, expected such as {name}=0.02") from None
        faults = cls(**shares)
        if not all(0 <= share <= 1 for share in faults) or sum(faults) > 1:
            raise SettingsError(f"faults {text!r} are not shares of the frames: expected 0 to 1, together at most 1")
        return faults


@dataclass(frozen=True)
class InjectedFault:
    """One fault that was made."""

    name: str
    acquisition: str
    index: int


class FaultInjector:
    """Spoil some messages on their way.

    Parameters
    ----------
    shares : FaultShares
        How often.
    seed : int
        Same seed, same faults.

    Attributes
    ----------
    made : list of InjectedFault
        Every fault so far.
    """

    def __init__(self, shares: FaultShares, *, seed: int) -> None:
        self.shares = shares
        self.made: list[InjectedFault] = []
        self._rng = np.random.default_rng([seed, 0xFA])
        self._held: Message | None = None

    def passed(self, message: Message, *, acquisition: str, index: int) -> list[Message]:
        """Return the messages that are sent now instead of this one."""
        if self._held is not None:
            held, self._held = self._held, None
            return [message, held]
        fault = self._draw()
        if fault:
            self.made.append(InjectedFault(fault, acquisition, index))
        if fault == "gap":
            return []
        if fault == "duplicate":
            return [message, message]
        if fault == "swap":
            self._held = message
            return []
        if fault == "malformed":
            return [self._broken(message)]
        return [message]

    def rest(self) -> list[Message]:
        """Return what is still held back."""
        held, self._held = self._held, None
        return [] if held is None else [held]

    def _draw(self) -> str:
        point, edge = self._rng.random(), 0.0
        for name, share in zip(FaultShares._fields, self.shares, strict=True):
            edge += share
            if point < edge:
                return name
        return ""

    def _broken(self, message: Message) -> Message:
        if self._rng.random() < 0.5:
            return [b"{this is not JSON", *message[1:]]
        payload = memoryview(message[-1]).cast("B")
        return [*message[:-1], payload[: payload.nbytes // 2]]
