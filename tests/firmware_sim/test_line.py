"""Seconds on a line, and where it breaks: arithmetic that is checked by hand."""

from __future__ import annotations

import math

import pytest

from firmware_sim.line import HANDSHAKE, Broken, Line, Quality


def test_a_turn_costs_the_latency_and_bytes_their_share_of_the_rate() -> None:
    line = Line(Quality(latency=0.01, rate=8_000.0), 100.0, 0, [])
    line.carry("out", 1_000)
    assert line.now == pytest.approx(100.0 + 0.01 + 1.0)
    line.carry("out", 1_000)  # goes on: no turn
    assert line.now == pytest.approx(100.0 + 0.01 + 2.0)
    line.carry("in", 500)
    assert line.now == pytest.approx(100.0 + 0.02 + 2.5)
    assert line.bytes == {"out": 2_000, "in": 500}


def test_a_connection_takes_its_handshake_and_no_less_than_it_says() -> None:
    line = Line(Quality(0.05, 1e9), 0.0, 0, [])
    line.connect()
    assert sum(line.bytes.values()) == HANDSHAKE and line.now >= line.shortest


@pytest.mark.parametrize("who", ["", "agent-003"])
def test_it_breaks_when_it_is_told_to_and_at_the_first_of_several(who: str) -> None:
    line = Line(Quality(0.0, 8_000.0), 0.0, 0, [(9.0, "agent-001"), (1.5, who)])
    line.carry("out", 1_000)
    with pytest.raises(Broken) as broken:
        line.carry("out", 1_000)
    assert (broken.value.at, broken.value.who, line.now) == (1.5, who, 1.5)


def test_no_code_of_a_device_catches_a_break() -> None:
    assert not issubclass(Broken, Exception)


def test_loss_costs_time_and_the_same_seed_costs_the_same() -> None:
    def seconds(loss: float, seed: int) -> float:
        line = Line(Quality(0.02, 1e6, loss), 0.0, seed, [])
        for _ in range(20):
            line.carry("out", 100_000)
        return line.now

    assert seconds(0.0, 1) == seconds(0.0, 2) < seconds(0.05, 1) < seconds(0.3, 1)
    assert seconds(0.05, 1) == seconds(0.05, 1) != seconds(0.05, 2)


def test_time_can_be_spent_at_an_end() -> None:
    line = Line(Quality(0.0, math.inf), 3.0, 0, [(5.0, "")])
    line.spend(1.0)
    assert line.now == 4.0
    with pytest.raises(Broken):
        line.spend(1.0)
