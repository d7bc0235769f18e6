"""Devices that walk about a square and meet when they come near: random waypoints, exact contact windows.

Each agent walks straight to a random point at a random speed, rests, and goes on (Johnson and Maltz, Dynamic Source Routing
in Ad Hoc Wireless Networks, 1996). Between two turns a distance is a quadratic in time, so the moment at which a link opens
or closes is a root of it and not a sample. Walks are drawn as far as they are asked for, each agent's from its own generator:
the answer at t does not depend on what was asked before.
"""

from __future__ import annotations

import math
from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import ConfigError
from firmware_sim.contacts import Topology

Doubles = NDArray[np.float64]

# Of range squared: nearer to the edge than this, who comes is in and who goes is out. At a time that is itself a root, the
# rounded distance could say either. So a link changes some 1e-8 s before it is said to, and at that time it has changed.
_EDGE = 1e-9


class Moving(Topology):
    """Links between those who are within `range_m` of each other."""

    def __init__(
        self,
        n: int,
        seed: int = 0,
        side_m: float = 500.0,
        range_m: float = 60.0,
        slowest_m_s: float = 0.5,
        fastest_m_s: float = 2.0,
        rest_s: float = 60.0,
    ) -> None:
        """rest_s: at most, at a waypoint.   Raises ConfigError for numbers out of range."""
        if n < 2 or not 0 < range_m < side_m < math.inf or not 0 <= rest_s < math.inf:
            raise ConfigError(
                f"a moving topology needs 2 agents or more and 0 < range_m < side_m, rest_s >= 0; got {n} agents, a range of "
                f"{range_m} m, a side of {side_m} m and a rest of {rest_s} s. Where all are in range, use mesh"
            )
        if not 0 < slowest_m_s <= fastest_m_s < math.inf:
            raise ConfigError(f"speeds must be 0 < slowest <= fastest, got {slowest_m_s} and {fastest_m_s} m/s")
        self.n, self.side_m, self.range_m = n, side_m, range_m
        self._speeds, self._rest = (slowest_m_s, fastest_m_s), rest_s
        self._rngs = [np.random.default_rng([seed, 33, agent]) for agent in range(n)]
        # Per agent, its walk so far: legs as (x, y, vx, vy), and when each begins; the last time is when the last leg ends.
        self._legs: list[list[tuple[float, float, float, float]]] = [[] for _ in range(n)]
        self._times: list[list[float]] = [[0.0] for _ in range(n)]
        self._last = [tuple(rng.uniform(0, side_m, 2).tolist()) for rng in self._rngs]
        # The legs of all at the moment that was asked for last; rows are exchanged where they do not hold any more.
        self._begin, self._end = np.zeros(n), np.zeros(n)
        self._from, self._speed = np.zeros((n, 2)), np.zeros((n, 2))

    def positions(self, t: float) -> Doubles:
        """Where all are at t >= 0, in metres, (n, 2) float64."""
        self._go(t)
        out: Doubles = self._from + self._speed * (t - self._begin)[:, None]
        return out

    def neighbours(self, agent: int, t: float) -> tuple[int, ...]:
        up, _ = self._links(agent, t)
        return tuple(np.flatnonzero(up).tolist())

    def open_until(self, a: int, b: int, t: float) -> float:
        up, until = self._links(a, t)
        if not up[b]:
            return t
        while True:
            crossing, turn = float(until[b]), min(float(self._end[a]), float(self._end[b]))
            if crossing <= turn:
                return max(crossing, math.nextafter(t, math.inf))
            up, until = self._links(a, turn)
            if not up[b]:  # it left within rounding of the turn
                return turn

    def next_change(self, agent: int, t: float) -> float:
        up, crossing = self._links(agent, t)
        while True:
            turn, first = float(self._end.min()), float(crossing.min())
            if first <= turn:
                return max(first, math.nextafter(t, math.inf))
            then, crossing = self._links(agent, turn)
            if (then != up).any():
                return turn

    def _links(self, agent: int, t: float) -> tuple[NDArray[np.bool_], Doubles]:
        """Of the agent and each other one at t: whether they are in range, and when that changes if both walk straight on."""
        away = self.positions(t)
        away -= away[agent].copy()
        speed = self._speed - self._speed[agent]
        square = np.einsum("ij,ij->i", speed, speed)
        along = np.einsum("ij,ij->i", away, speed)
        beyond = np.einsum("ij,ij->i", away, away) - self.range_m**2
        edge = np.abs(beyond) <= _EDGE * self.range_m**2
        up = np.where(edge, along < 0, beyond < 0)
        up[agent] = False
        root = np.sqrt(np.maximum(along * along - square * beyond, 0))
        comes = ~up & (along < 0) & (along * along > square * beyond)
        with np.errstate(divide="ignore", invalid="ignore"):
            wait = np.where(up, (root - along) / square, np.where(comes, (-along - root) / square, np.inf))
        wait[(square == 0) | np.isnan(wait)] = np.inf
        wait[agent] = np.inf
        return up, t + np.maximum(wait, 0)

    def _go(self, t: float) -> None:
        """Bring the legs of all to t."""
        if not 0 <= t < math.inf:
            raise ConfigError(f"a moving topology is asked about times from 0 s on, not {t}")
        for agent in np.flatnonzero((t < self._begin) | (t >= self._end)).tolist():
            times, legs = self._times[agent], self._legs[agent]
            while times[-1] <= t:
                self._walk_on(agent)
            i = bisect_right(times, t) - 1
            self._begin[agent], self._end[agent] = times[i], times[i + 1]
            self._from[agent], self._speed[agent] = legs[i][:2], legs[i][2:]

    def _walk_on(self, agent: int) -> None:
        """Draw the next waypoint: a leg to it, and a rest there."""
        rng, times, (x, y) = self._rngs[agent], self._times[agent], self._last[agent]
        to_x, to_y = rng.uniform(0, self.side_m, 2).tolist()
        speed, rest = float(rng.uniform(*self._speeds)), float(rng.uniform(0, self._rest)) if self._rest else 0.0
        seconds = math.hypot(to_x - x, to_y - y) / speed
        for duration, leg in ((seconds, (x, y, (to_x - x) / seconds, (to_y - y) / seconds)), (rest, (to_x, to_y, 0.0, 0.0))):
            if duration > 0:
                self._legs[agent].append(leg)
                times.append(times[-1] + duration)
        self._last[agent] = (to_x, to_y)
