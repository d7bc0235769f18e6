"""What the simulator knows of a fleet, and what must hold of it: agents, who has made what, who lacks something."""

from __future__ import annotations

import contextlib
import heapq
import math
import random
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecl.workers.pool import Pool
from firmware_sim.board import Board, BrownOut
from firmware_sim.flash import set_aside
from firmware_sim.trace import Trace
from firmware_sim.world import World

RETRY = 0.05  # seconds until an agent that found all its neighbours at work looks again, at first


@dataclass
class Agent:
    """What the simulator knows of one.

    version: counts the changes of what its device has or believes.   epoch: counts the times that its files were changed under
    it, or its power went.   free: virtual second from which it has time; infinite while that is not known yet.   hot: contacts
    without news until it stops telling.
    """

    index: int
    name: str
    board: Board
    rng: random.Random
    version: int = 0
    epoch: int = 0
    free: float = 0.0
    off: bool = True
    offset: float = 0.0
    hot: int = 0
    struck: bool = False  # its power went inside its bank; what it left lies aside
    told: int = -1
    waiting: bool = False
    backoff: float = RETRY
    knows: dict[str, str] = field(default_factory=dict)
    learning: int | None = None
    lessons: list[int] = field(default_factory=list)
    cuts: list[tuple[float, float]] = field(default_factory=list)
    orders: set[int] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)  # tasks that a bad sector took
    charged: float = 0.0  # virtual second up to which its board has drawn energy
    out: int = 0
    back: int = 0
    sessions: int = 0
    faults: int = 0


@dataclass
class Pending:
    """A meeting on its way. least: virtual second before which nothing comes of it."""

    least: float
    start: float
    a: int
    b: int
    future: Future[Any]


class Ledger:
    """The numbers of one run of a world on a pool of hosts, the heap of what is due, and operations on devices."""

    def __init__(self, world: World, pool: Pool, trace: Trace, homes: Path, watched: bool = False) -> None:
        """homes: folder of the agents' homes.   watched: look after each event whether all that must hold of a device does."""
        self._watched = watched
        self.violations: list[str] = []  # of what must always hold; any is a bug of edgecl
        self._made: dict[str, list[str]] = {}  # task -> digests of all heads that anybody has made of it
        self._damaged: set[int] = set()  # agents with a bad sector
        self.world, self._pool, self._trace, self._homes = world, pool, trace, homes
        self.scenario = world.scenario
        self.agents = [
            Agent(i, world.names[i], Board(world.profile(i), world.seed("board", i)), random.Random(world.seed("agent", i)))
            for i in range(world.total)
        ]
        self._heap: list[tuple[float, bool, int, int, Callable[[float], None]]] = []
        self._pushed = 0
        self._meetings: dict[int, Pending] = {}  # by either agent
        # Of pairs that met without news: their versions then, what goes over the line when they meet again, heads known.
        self._same: dict[tuple[int, int], tuple[tuple[int, int], list[list[Any]], int]] = {}
        self._authors: dict[str, tuple[int, str]] = {}  # task -> agent, digest
        self._behind: set[int] = set()  # agents that lack a head of those
        self._orders_due = set(range(len(world.scenario.orders)))  # that have not gone round yet
        self._outcast: set[int] = set()  # agents whose trust was taken back
        self._gone: set[int] = set()  # agents that never come back
        self._unlearned = len(world.lessons)
        self._down = 0
        self._probes = world.scenario.probes if world.scenario.evaluate else 0
        self.now = self._latest = 0.0
        self._stop = math.inf  # virtual second at which all is to be left as it is then
        self.steps = 0
        self.carried = 0  # messages
        self.known_at: float | None = None  # since when all know all, at the end

    def _at(self, t: float, agent: int, do: Callable[[float], None], first: bool = False) -> None:
        """first: before all else that is due at that moment, as power goes: whoever has lost it is not spoken to any more."""
        self._pushed += 1
        heapq.heappush(self._heap, (t, not first, agent, self._pushed, do))

    def _emit(self, t: float, agent: Agent, event: str, **more: Any) -> None:
        self._trace.emit(t, agent.index, agent.name, event, **more)

    def _news(self, agent: Agent, t: float, source: int) -> None:
        """Its device has changed: it tells others."""
        agent.version += 1
        agent.hot, agent.told = self.scenario.network.eager, source

    def _now_knows(self, agent: Agent, t: float, knows: dict[str, str], source: Agent) -> None:
        self._require_kept(agent, t, knows)
        fresh = [(task, digest) for task, digest in knows.items() if agent.knows.get(task) != digest]
        if fresh or len(knows) != len(agent.knows):
            self._news(agent, t, source.index)
        for task, digest in fresh:
            self._emit(t, agent, "taken", task=task, digest=digest, **{"from": source.name})
            if task in agent.lost:
                agent.lost.discard(task)
                self._emit(t, agent, "healed", task=task)
        self._set_knows(agent, knows)
        if fresh and agent.index < self._probes:
            self._probe(agent, t)

    def _require_kept(self, agent: Agent, t: float, knows: dict[str, str]) -> None:
        """What a device has told that it has, it still has, or a later one of the same task."""
        for task, digest in agent.knows.items():
            if knows.get(task) != digest and knows.get(task) not in self._made.get(task, ()):
                now = knows.get(task, "nothing")[:12]
                self._violation(agent, t, f"'{task}' was {digest[:12]} and is {now}, which nobody has made")

    def _violation(self, agent: Agent, t: float, what: str) -> None:
        self.violations.append(f"{t:.6f} s, {agent.name}: {what}")
        self._emit(t, agent, "violation", what=what)

    def _watch(self, *agents: Agent) -> None:
        """Look at these devices closely."""
        for agent in agents if self._watched else ():
            if agent.struck:
                continue
            arguments = self.on(agent) | {"made": self._made, "sound": agent.index not in self._damaged}
            found = self._do("look", arguments, agent)
            for problem in found["problems"]:
                self._violation(agent, self.now, problem)
            if found["knows"] != agent.knows:
                self._violation(agent, self.now, f"it knows {found['knows']}, and is believed to know {agent.knows}")

    def _probe(self, agent: Agent, t: float) -> None:
        """Let it answer all test pictures now: how a device gets on that learns of ever more tasks."""
        found = self._do("evaluate", self.on(agent) | {"prints": {}}, agent)
        self._emit(t, agent, "evaluated", last=False, **found)

    def _set_knows(self, agent: Agent, knows: dict[str, str]) -> None:
        agent.knows = dict(knows)
        lacks = any(knows.get(task) != digest for task, (_, digest) in self._authors.items())
        (self._behind.add if lacks else self._behind.discard)(agent.index)

    def honest(self) -> list[Agent]:
        """All but the foes."""
        return self.agents[: self.scenario.agents]

    def authors(self) -> dict[str, tuple[int, str]]:
        """Task -> index of the agent that learned it, and digest of what it made last."""
        return dict(sorted(self._authors.items()))

    def made(self) -> set[str]:
        """Tasks that somebody has learned at some time."""
        return {task for task, digests in self._made.items() if digests}

    def on(self, agent: Agent) -> dict[str, Any]:
        """What an operation is told of an agent."""
        return {"agent": agent.index, "epoch": agent.epoch}

    def _all_known(self) -> bool:
        """Whether every honest agent is on and knows every head that was learned, and nothing is to be learned or ordered."""
        lacking = self._unlearned or self._down or self._meetings or self._behind - self._outcast - self._gone
        if lacking:
            self.known_at = None
        elif self.known_at is None:
            self.known_at = self._latest
        return not lacking and not self._orders_due and self.now >= self.scenario.at_least_s

    def _idle(self, agent: Agent, t: float) -> None:
        """Its board has drawn what a board draws that does nothing, from when it was last at work until t."""
        if t > agent.charged:
            if agent.board.on:
                with contextlib.suppress(BrownOut):  # an empty battery is met when there is work for it
                    agent.board.spend(t - agent.charged, "idle")
            agent.charged = t

    def do(self, op: str, arguments: dict[str, Any], agent: Agent, aside: bool = False) -> Future[Any]:
        """An operation on one agent. aside: also on what a power cut has left of it."""
        homes = [self._home(agent), *([str(set_aside(self._homes / agent.name))] if aside else [])]
        return self._pool.submit(op, arguments, agent.index, homes)

    def _do(self, op: str, arguments: dict[str, Any], agent: Agent) -> Any:
        """One that takes no virtual time."""
        return self.do(op, arguments, agent).result()

    def _home(self, agent: Agent) -> str:
        return str(self._homes / agent.name)

    def _close_everywhere(self, agent: Agent) -> None:
        homes = [self._home(agent)]
        for future in [self._pool.submit("forget", {"homes": homes}, k, homes) for k in range(self._pool.workers)]:
            future.result()
