"""Times of calls that take turns, and what is said about them.

One machine is not equally fast from one second to the next, so two things are compared by their times in one run: a few
calls of A, a few of B, again and again, in the other order every other round. The first calls of each turn are thrown
away, and each turn begins after a pause: the worker threads of A's runtime keep spinning for a while after its last call,
and would be charged to B.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

Clock = Callable[[], int]  # nanoseconds that only go forward


@dataclass(frozen=True)
class Timing:
    """Times of one call, in milliseconds. throughput: items a second at the median.   calls: how many were timed."""

    p50: float
    p90: float
    p99: float
    throughput: float
    calls: int

    def to_dict(self) -> dict[str, float]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Turns:
    """How often, and how: every round gives each contender one turn of `warm` untimed and `calls` timed calls."""

    rounds: int = 30
    calls: int = 4
    warm: int = 1
    pause: float = 0.01  # seconds before each turn


def take_turns(
    contenders: Mapping[str, Callable[[], object]],
    turns: Turns,
    clock: Clock = time.perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, list[int]]:
    """Nanoseconds of every timed call, by contender, in the order in which they were made."""
    times: dict[str, list[int]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(turns.rounds):
        for name in names if number % 2 == 0 else reversed(names):
            call = contenders[name]
            sleep(turns.pause)
            for _ in range(turns.warm):
                call()
            for _ in range(turns.calls):
                start = clock()
                call()
                times[name].append(clock() - start)
    return times


def summarise(times: Sequence[int], items: int = 1) -> Timing:
    """Percentiles of `times` (nanoseconds, linear between neighbours); items: pictures or queries in one call."""
    p50, p90, p99 = (float(value) / 1e6 for value in np.percentile(np.asarray(times, np.float64), (50, 90, 99)))
    return Timing(p50, p90, p99, items * 1e3 / p50 if p50 else 0.0, len(times))
