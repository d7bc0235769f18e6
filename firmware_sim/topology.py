"""Who can meet whom, and when: pure functions of virtual time.

    network = DutyCycle(make("ring", 100, seed=7), period_s=600, awake_s=60, phases=phases(100, 600, seed=7))
    for other in network.neighbours(0, t): ...

A link is up in half-open spans [from, until). Times are virtual seconds and are to be handed on as they come: one that is
rounded may lie on the other side of a change. What cuts links (`Partitions`, `DutyCycle`) wraps a topology and is one.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping

import numpy as np

from edgecl.errors import ConfigError, UnknownName
from firmware_sim.contacts import Cut, DutyCycle, Partitions, Static, Topology, phases, require_agents
from firmware_sim.moving import Moving

__all__ = ["TOPOLOGIES", "Cut", "DutyCycle", "Moving", "Partitions", "Static", "Topology", "make", "phases"]


def ring(n: int, seed: int = 0) -> Topology:
    """Each agent and the next; nothing is random."""
    require_agents(n, 2)
    return Static(n, [(i, (i + 1) % n) for i in range(n)])


def star(n: int, seed: int = 0, hub: int = 0) -> Topology:
    """All and the hub."""
    require_agents(n, 2)
    return Static(n, [(hub, i) for i in range(n) if i != hub])


def mesh(n: int, seed: int = 0) -> Topology:
    """Everyone and everyone."""
    require_agents(n, 2)
    return Static(n, [(a, b) for a in range(n) for b in range(a)])


def random(n: int, seed: int = 0, degree: int = 4) -> Topology:
    """A connected random graph of at most `degree` links an agent, and hardly fewer where n is much larger.

    The union of random rings (and, for an odd degree, random pairs): connected by construction, and as well mixed as a
    random regular graph.
    """
    require_agents(n, 3)
    if not 2 <= degree < n:
        raise ConfigError(f"a random topology of {n} agents has a degree of 2 to {n - 1}, not {degree}")
    rng = np.random.default_rng([seed, 31])
    links: list[tuple[int, int]] = []
    for _ in range(degree // 2):
        order = rng.permutation(n).tolist()
        links += zip(order, order[1:] + order[:1], strict=True)
    if degree % 2:
        order = rng.permutation(n).tolist()
        links += zip(order[: n // 2], order[n // 2 : n // 2 * 2], strict=True)
    return Static(n, links)


def late_joiner(n: int, seed: int = 0, agent: int = -1, at_s: float = 3600.0, inner: str = "ring") -> Topology:
    """Another kind in which one agent, by default the last, cannot be met before `at_s`."""
    if inner == "late_joiner":
        raise ConfigError("a late joiner joins a topology of another kind; name that one as `inner`")
    return Partitions(make(inner, n, seed), [Cut(-math.inf, at_s, ((range(n)[agent],),))])


TOPOLOGIES: Mapping[str, Callable[..., Topology]] = {
    "ring": ring,
    "star": star,
    "mesh": mesh,
    "random": random,
    "moving": Moving,
    "late_joiner": late_joiner,
}


def make(kind: str, n: int, seed: int = 0, **options: object) -> Topology:
    """The topology of that kind. Raises UnknownName, or ConfigError for an option that it does not have."""
    if kind not in TOPOLOGIES:
        raise UnknownName(f"no topology '{kind}'; known are {', '.join(TOPOLOGIES)}")
    try:
        inspect.signature(TOPOLOGIES[kind]).bind(n, seed, **options)
    except TypeError as error:
        known = [name for name in inspect.signature(TOPOLOGIES[kind]).parameters if name not in ("n", "seed")]
        raise ConfigError(f"topology '{kind}': {error}; its options are {', '.join(known) or 'none'}") from None
    return TOPOLOGIES[kind](n, seed, **options)
