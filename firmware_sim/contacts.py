"""What a topology answers, and what is laid over one: partitions, and radios that sleep."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from edgecl.errors import ConfigError


class Topology(ABC):
    """Links between agents 0..n-1; both ends of a link see it alike."""

    n: int

    @abstractmethod
    def neighbours(self, agent: int, t: float) -> tuple[int, ...]:
        """The agents that it can meet at t, in ascending order."""

    @abstractmethod
    def open_until(self, a: int, b: int, t: float) -> float:
        """When the link that is up at t goes down; t itself when it is down at t, inf when it never goes."""

    @abstractmethod
    def next_change(self, agent: int, t: float) -> float:
        """A time after t up to which the agent's neighbours stay the same; inf when they do for ever.

        At that time they change, or the overlay that governs them does.
        """


class Static(Topology):
    """Links that are always up."""

    def __init__(self, n: int, links: Iterable[tuple[int, int]]) -> None:
        """Raises ConfigError for a link that leads nowhere, or to its own beginning."""
        require_agents(n, 1)
        near: list[set[int]] = [set() for _ in range(n)]
        for a, b in links:
            if a == b or not 0 <= a < n or not 0 <= b < n:
                raise ConfigError(f"agent {a} cannot be linked to agent {b}; agents are 0..{n - 1}, and links join two")
            near[a].add(b)
            near[b].add(a)
        self.n = n
        self._near = near
        self._sorted = [tuple(sorted(others)) for others in near]

    def neighbours(self, agent: int, t: float) -> tuple[int, ...]:
        return self._sorted[agent]

    def open_until(self, a: int, b: int, t: float) -> float:
        return math.inf if b in self._near[a] else t

    def next_change(self, agent: int, t: float) -> float:
        return math.inf


# -- overlays


@dataclass(frozen=True)
class Cut:
    """From `start` until `end` (s) nobody can meet anybody of another group. Agents in no group are one group together."""

    start: float
    end: float
    groups: tuple[tuple[int, ...], ...]


class Partitions(Topology):
    """A topology whose links between groups are down for a while."""

    def __init__(self, inner: Topology, cuts: Sequence[Cut]) -> None:
        """Raises ConfigError for a cut that ends before it starts, or an agent that is in two of its groups or in none."""
        self.n, self._inner = inner.n, inner
        self._cuts: list[tuple[float, float, list[int]]] = []
        for cut in sorted(cuts, key=lambda cut: (cut.start, cut.end)):
            named = [agent for group in cut.groups for agent in group]
            if not cut.start < cut.end or len(set(named)) != len(named) or not set(named) <= set(range(inner.n)):
                raise ConfigError(
                    f"a partition from {cut.start} s until {cut.end} s of {inner.n} agents must end after it starts, and "
                    f"name each agent once, by a number of 0..{inner.n - 1}"
                )
            group_of = [0] * inner.n
            for number, group in enumerate(cut.groups, 1):
                for agent in group:
                    group_of[agent] = number
            self._cuts.append((cut.start, cut.end, group_of))
        self._edges = sorted({edge for start, end, _ in self._cuts for edge in (start, end)})

    def neighbours(self, agent: int, t: float) -> tuple[int, ...]:
        found = self._inner.neighbours(agent, t)
        for start, end, group in self._cuts:
            if start <= t < end:
                found = tuple(other for other in found if group[other] == group[agent])
        return found

    def open_until(self, a: int, b: int, t: float) -> float:
        until = self._inner.open_until(a, b, t)
        for start, end, group in self._cuts:
            if group[a] != group[b] and t < end:
                until = min(until, max(start, t))
        return until

    def next_change(self, agent: int, t: float) -> float:
        at = bisect_right(self._edges, t)
        return min(self._inner.next_change(agent, t), self._edges[at] if at < len(self._edges) else math.inf)


class DutyCycle(Topology):
    """A topology whose radios sleep: a link is up while both ends are awake, `awake_s` out of every `period_s` seconds.

    phases: (n,) seconds, when each agent wakes first. Two whose waking times do not overlap never meet.
    """

    def __init__(self, inner: Topology, period_s: float, awake_s: float, phases: Sequence[float] | None = None) -> None:
        """Without `phases` all wake together. Raises ConfigError for times that make no cycle."""
        if not 0 < awake_s <= period_s < math.inf:
            raise ConfigError(f"a radio awake for {awake_s} s of every {period_s} s makes no cycle; 0 < awake_s <= period_s")
        self._phases = [0.0] * inner.n if phases is None else [float(phase) % period_s for phase in phases]
        if len(self._phases) != inner.n or not all(map(math.isfinite, self._phases)):
            raise ConfigError(f"{inner.n} agents need as many finite phases, got {len(self._phases)}")
        self.n, self._inner, self._period, self._awake = inner.n, inner, period_s, awake_s

    def neighbours(self, agent: int, t: float) -> tuple[int, ...]:
        if not self._state(agent, t)[0]:
            return ()
        return tuple(other for other in self._inner.neighbours(agent, t) if self._state(other, t)[0])

    def open_until(self, a: int, b: int, t: float) -> float:
        (a_awake, a_until), (b_awake, b_until) = self._state(a, t), self._state(b, t)
        return min(self._inner.open_until(a, b, t), a_until, b_until) if a_awake and b_awake else t

    def next_change(self, agent: int, t: float) -> float:
        inner = self._inner.next_change(agent, t)
        awake, until = self._state(agent, t)
        if awake:
            until = min([until, *(self._state(other, t)[1] for other in self._inner.neighbours(agent, t))])
        return min(inner, until)

    def _state(self, agent: int, t: float) -> tuple[bool, float]:
        """Whether it is awake at t, and until when it stays so."""
        if self._awake == self._period:
            return True, math.inf
        phase, period = self._phases[agent], self._period
        k = math.floor((t - phase) / period)
        # The quotient may round to the next whole number: what counts is where k * period + phase lies, as it is told.
        k += (k + 1) * period + phase <= t
        k -= k * period + phase > t
        start = k * period + phase
        if t < start + self._awake:
            return True, start + self._awake
        return False, (k + 1) * period + phase


def phases(n: int, spread_s: float, seed: int = 0) -> tuple[float, ...]:
    """A phase (s) for each of n agents, at random in 0..spread_s."""
    return tuple(np.random.default_rng([seed, 32]).uniform(0, spread_s, n).tolist())


def require_agents(n: int, least: int) -> None:
    """Raise ConfigError for fewer agents than `least`."""
    if n < least:
        raise ConfigError(f"this topology needs {least} agents or more, not {n}")
