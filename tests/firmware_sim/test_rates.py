"""Scaled costs agree with what was measured, and grow as the work and the board say."""

from dataclasses import replace

import pytest

from edgecl.errors import UnknownName
from firmware_sim import rates
from firmware_sim.profiles import names, profile

HOST = profile("host")


def test_the_reference_machine_costs_what_it_was_measured_to():
    assert rates.learn_seconds(HOST, "linear", 400, 20) == pytest.approx(4.33, rel=0.15)  # birds, one thread
    assert rates.learn_seconds(replace(HOST, cores=2), "clr", 400, 10) == pytest.approx(78, rel=0.1)  # docs/benchmarks.md
    assert rates.take_seconds(HOST, 1_452_912, 14) == pytest.approx(0.0263 + 14 * rates.MAPPER_S, rel=0.15)
    assert rates.written_bytes(1_452_912, 14) == pytest.approx(2.97 * 1_452_912, rel=0.02)
    assert rates.written_bytes(1_452_912) == pytest.approx(2.09 * 1_452_912, rel=0.02)
    assert rates.peak_ram_mb("clr", 400, 10) == pytest.approx(1430, rel=0.01)


def test_a_slower_board_takes_longer_for_everything():
    def costs(board):
        return (
            *(rates.learn_seconds(board, method, 400, 10) for method in ("linear", "bb", "clr", "auto")),
            rates.take_seconds(board, 100_000, 1),
            rates.answer_seconds(board, 1),
            rates.boot_seconds(board),
        )

    for name in set(names()) - {"host"}:
        board = profile(name)
        slower = replace(board, cpu_mips=board.cpu_mips / 2, pictures_s=board.pictures_s / 2)
        assert all(a < b for a, b in zip(costs(board), costs(slower), strict=True)), name


def test_a_quicker_network_does_not_quicken_the_rest():
    """A GPU reads the pictures; the head and the training stay with the cores."""
    quick = replace(HOST, pictures_s=1e9)
    saved = rates.learn_seconds(HOST, "bb", 400, 10) - rates.learn_seconds(quick, "bb", 400, 10)
    assert saved == pytest.approx(400 / HOST.pictures_s, rel=1e-3)


def test_nothing_taken_costs_nothing_and_one_by_one_more_than_at_once():
    assert rates.take_seconds(HOST, 0, 0) == 0
    assert 14 * rates.take_seconds(HOST, 100_000, 1) > rates.take_seconds(HOST, 1_400_000, 14)


def test_a_method_that_there_is_not_is_refused():
    for call in (rates.peak_ram_mb, lambda *work: rates.learn_seconds(HOST, *work)):
        with pytest.raises(UnknownName, match="did you mean 'linear'"):
            call("liner", 400, 10)
