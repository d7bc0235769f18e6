"""How long bytes take from one agent to another, and where they stop: pure arithmetic over virtual time."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

PACKET = 1400  # bytes that travel together
HANDSHAKE = 1500  # bytes of a TLS handshake between two known devices, both ways (docs/benchmarks.md)
TURNS = 2  # round trips before the first message: TCP's and TLS 1.3's
_WAIT = 0.2  # seconds until the sender of the last packet takes it for lost (RFC 6298, as Linux has it)


class Broken(BaseException):
    """The line went down, or an end of it: no error that a device could handle.

    at: virtual second.   who: name of the agent whose power went, "" for the line.
    """

    def __init__(self, at: float, who: str = "") -> None:
        super().__init__(f"at {at}")
        self.at, self.who = at, who


@dataclass(frozen=True)
class Quality:
    """latency: seconds one way.   rate: bits a second.   loss: share of packets."""

    latency: float
    rate: float
    loss: float = 0.0


class Line:
    """One connection from virtual second `start`; `now` moves as bytes are carried.

    ends: when it breaks, the earliest first: (virtual second, name of the agent that loses power, "" for the line itself).
    """

    def __init__(self, quality: Quality, start: float, seed: int, ends: list[tuple[float, str]]) -> None:
        self.quality, self.start, self.now = quality, start, start
        self._rng = random.Random(seed)
        self._until, self._who = min(ends, default=(math.inf, ""))
        self._way = ""
        self.bytes = {"out": 0, "in": 0}

    @property
    def shortest(self) -> float:
        """Seconds that any connection takes at least."""
        return 2 * TURNS * self.quality.latency

    def connect(self) -> None:
        """The handshake. Raises Broken."""
        self.now += 2 * (TURNS - 1) * self.quality.latency
        self.carry("out", HANDSHAKE // 2)
        self.carry("in", HANDSHAKE - HANDSHAKE // 2)

    def carry(self, way: str, size: int) -> None:
        """Bytes "out" or "in"; a turn of the conversation costs the latency, a lost packet a round trip. Raises Broken."""
        quality = self.quality
        self.bytes[way] += size
        if way != self._way:
            self._way = way
            self.now += quality.latency
        self.now += 8 * size / quality.rate
        if quality.loss:
            packets = -(-size // PACKET)
            lost = sum(self._rng.random() < quality.loss for _ in range(packets))
            self.now += lost * 2 * quality.latency
            if lost and self._rng.random() < lost / packets:  # the last one is missed only by its silence
                self.now += _WAIT
        self.spend(0.0)

    def spend(self, seconds: float) -> None:
        """Time that an end takes to do something. Raises Broken."""
        self.now += seconds
        if self.now >= self._until:
            self.now = self._until
            raise Broken(self._until, self._who)
