"""Taking turns and percentiles, with a clock that moves only when told."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from edgecl.bench.latency import Turns, summarise, take_turns


class Machine:
    """A clock, and calls that take as long as they say and leave a trace."""

    def __init__(self) -> None:
        self.now, self.trace = 0, ""

    def clock(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)
        self.trace += "|"

    def call(self, name: str, nanoseconds: int) -> None:
        self.now += nanoseconds
        self.trace += name


def test_contenders_take_turns_and_the_order_is_reversed_every_other_round():
    machine = Machine()
    contenders = {name: lambda name=name, t=t: machine.call(name, t) for name, t in (("a", 3), ("b", 5))}
    times = take_turns(contenders, Turns(rounds=3, calls=2, warm=1, pause=0.5), machine.clock, machine.sleep)
    assert machine.trace == "|aaa|bbb" + "|bbb|aaa" + "|aaa|bbb"
    assert times == {"a": [3] * 6, "b": [5] * 6}  # neither the pause nor the untimed calls are in it


def test_a_machine_that_slows_down_does_not_change_the_ratio():
    machine, slow = Machine(), 1.0

    def work(nanoseconds: int) -> None:
        nonlocal slow
        slow *= 1.01
        machine.call("", int(nanoseconds * slow))

    times = take_turns(
        {"floor": lambda: work(10**6), "ours": lambda: work(2 * 10**6)}, Turns(40, 2, 0, 0), machine.clock, machine.sleep
    )
    assert summarise(times["ours"]).p50 / summarise(times["floor"]).p50 == pytest.approx(2, rel=0.02)


def test_percentiles_are_those_of_the_standard_library():
    times = [int(t) for t in np.random.default_rng(0).gamma(2, 3e6, 500)]
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    timing = summarise(times, items=8)
    assert (timing.p50, timing.p90, timing.p99) == pytest.approx((cuts[49] / 1e6, cuts[89] / 1e6, cuts[98] / 1e6))
    assert timing.throughput == pytest.approx(8 / (statistics.median(times) / 1e9))
    assert timing.calls == 500
