"""The simulator's channel carries the real conversation; where it breaks, either end meets what it would meet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgecl.device import EdgeDevice
from edgecl.errors import TransferError
from edgecl.peering import Station, fetch, give, inbox
from edgecl.sharing.peer import Responder
from edgecl.sharing.trust import Peer
from firmware_sim.line import Line, Quality
from firmware_sim.link import Link, PowerLost


@pytest.fixture
def pair(device: Callable[..., EdgeDevice], tmp_path: Path, pictures_task) -> tuple[EdgeDevice, EdgeDevice]:
    """Two that trust each other; the first has learned something."""
    a, b = (device(tmp_path / name, threads=1) for name in "ab")
    a.learn("shapes", pictures_task["shapes"])
    a.trust.trust(Peer("b", b.trust.signer.key))
    b.trust.trust(Peer("a", a.trust.signer.key))
    return a, b


def link(near: EdgeDevice, far: EdgeDevice, ends: list[tuple[float, str]] | None = None, seconds: float = 0.001) -> Link:
    line = Line(Quality(seconds, 1e6), 0.0, 0, ends or [])
    responder = Responder(Station(far), inbox(far), near.trust.own_key)
    return Link(line, "near", responder, far.trust.own_key, "far", [])


def test_what_is_given_and_fetched_over_it_is_there(pair: tuple[EdgeDevice, EdgeDevice]) -> None:
    a, b = pair
    assert [one.state for one in give(a, link(a, b))] == ["shared"]
    assert b.export("shapes") == a.export("shapes")
    b.bank.remove("shapes")
    b.bank.gc(0)
    assert [one.state for one in fetch(b, link(b, a))] in (["taken"], ["known"])


@pytest.mark.parametrize("at", [0.0005, 0.01, 0.03, 0.06, 0.1])
def test_a_line_that_breaks_is_an_error_that_the_next_attempt_gets_over(pair: tuple[EdgeDevice, EdgeDevice], at: float) -> None:
    a, b = pair
    with pytest.raises(TransferError, match="broke"):
        give(a, link(a, b, [(at, "")]))
    assert [one.state for one in give(a, link(a, b))] in (["shared"], ["known"])
    assert b.export("shapes") == a.export("shapes")


def test_who_has_lost_power_runs_no_more_code_and_the_other_end_hears_nothing(pair: tuple[EdgeDevice, EdgeDevice]) -> None:
    a, b = pair
    with pytest.raises(PowerLost):
        give(a, link(a, b, [(0.05, "near")]))
    with pytest.raises(TransferError):
        give(a, link(a, b, [(0.05, "far")]))
    assert "shapes" not in b.bank.current() and not issubclass(PowerLost, Exception)
