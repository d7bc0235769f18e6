"""The run itself: a heap of what is due in virtual time, and the agents as the simulator knows them.

What devices do is done by hosts, as operations; how long it takes is settled by boards and lines. An operation may still be on
its way in another process while later events are handled, but never such as it could have a part in: a meeting takes at least
`Line.shortest`, so nothing that comes of it is due before. So the order of events, and the trace, do not depend on processes.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from edgecl.workers.pool import Pool
from firmware_sim.board import Board, BrownOut, FlashWornOut, OutOfMemory
from firmware_sim.line import Broken, Line
from firmware_sim.trace import Trace
from firmware_sim.world import World

_RETRY = 0.05  # seconds until an agent that found all its neighbours at work looks again, at first


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
    backoff: float = _RETRY
    knows: dict[str, str] = field(default_factory=dict)
    learning: int | None = None
    lessons: list[int] = field(default_factory=list)
    cuts: list[tuple[float, float]] = field(default_factory=list)
    orders: set[int] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)  # tasks that a bad sector took
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


class Fleet:
    """One run of a world on a pool of hosts."""

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
        self._same: dict[tuple[int, int], tuple[tuple[int, int], list[list[Any]]]] = {}
        self._authors: dict[str, tuple[int, str]] = {}  # task -> agent, digest
        self._behind: set[int] = set()  # agents that lack a head of those
        self._orders_due = len(world.scenario.orders)
        self._outcast: set[int] = set()  # agents whose trust was taken back
        self._gone: set[int] = set()  # agents that never come back
        self._unlearned = len(world.lessons)
        self._down = 0
        self._probes = world.scenario.probes if world.scenario.evaluate else 0
        self.now = self._latest = 0.0
        self._stop = math.inf  # virtual second at which all is to be left as it is then
        self.steps = 0
        self.carried = 0  # messages
        self.known_at: float | None = None

    # -- the heap

    def _at(self, t: float, agent: int, do: Callable[[float], None], first: bool = False) -> None:
        """first: before all else that is due at that moment, as power goes: whoever has lost it is not spoken to any more."""
        self._pushed += 1
        heapq.heappush(self._heap, (t, not first, agent, self._pushed, do))

    def run(self, until: float = math.inf) -> None:
        """Go on until virtual second `until`, or until the scenario ends."""
        self._stop = until
        until = min(until, self.scenario.until_s)
        heap, meetings = self._heap, self._meetings
        while heap or meetings:
            due = heap[0][0] if heap else math.inf
            if meetings:
                first = min(meetings.values(), key=lambda m: (m.least, m.a))
                if first.least <= due:
                    self._met(first)
                    continue
            if due > until or due >= self._stop:
                break
            if self.scenario.ends == "known" and self._all_known():
                break
            t, _, _, _, do = heapq.heappop(heap)
            self.now = t
            self._latest = max(self._latest, t)
            self.steps += 1
            do(t)
            if not self.steps & 15:
                self._trace.flush(min([self.now, *(m.start for m in meetings.values())]))
        while meetings:
            self._met(min(meetings.values(), key=lambda m: (m.least, m.a)))
        self.now = max(self.now, self._latest) if self.known_at is not None or not heap else until

    def start(self) -> None:
        """Switch the agents on, and put down all that is settled from the beginning."""
        for agent in self.honest():
            self._at(self.world.joins(agent.index), agent.index, lambda t, a=agent: self._boot(a, t, None))  # type: ignore[misc]
            agent.cuts = self.world.power_cuts(agent.index)
            for at, down in agent.cuts:
                self._at(at, agent.index, lambda t, a=agent, d=down: self._power_cut(a, t, d), first=True)  # type: ignore[misc]
            for kind, at in self.world.other_faults(agent.index):
                self._at(at, agent.index, lambda t, a=agent, k=kind: getattr(self, f"_{k}")(a, t))  # type: ignore[misc]
        for number, lesson in enumerate(self.world.lessons):
            self._at(lesson.arrives_s, lesson.agent, lambda t, n=number: self._lesson(n, t))  # type: ignore[misc]
        for foe in self.agents[self.scenario.agents :]:
            for number, plan in enumerate(self.world.attacks(foe.index)):
                self._at(plan.at, foe.index, lambda t, f=foe, n=number: self._attack(f, t, n))  # type: ignore[misc]
        for number, order in enumerate(self.scenario.orders):
            self._at(float(order["at_s"]), 0, lambda t, n=number: self._order(n, t))  # type: ignore[misc]

    def _emit(self, t: float, agent: Agent, event: str, **more: Any) -> None:
        self._trace.emit(t, agent.index, agent.name, event, **more)

    # -- power

    def _boot(self, agent: Agent, t: float, since: float | None) -> None:
        agent.off = False
        agent.free = t + self.world.boot_seconds(agent.index) if since is not None else t
        if since is not None:
            self._down -= 1
            agent.board.restart()
            self._emit(t, agent, "boot", down_s=round(t - since, 3))
        if agent.lessons and agent.learning is None:
            self._at(agent.free, agent.index, lambda t: self._next_lesson(agent, t))
        gap = self.scenario.network.gossip_s
        self._at(agent.free + agent.rng.random() * gap, agent.index, lambda t, e=agent.epoch: self._gossip(agent, t, e))  # type: ignore[misc]
        self._wake(agent, agent.free)

    def _power_cut(self, agent: Agent, t: float, down: float, kind: str = "power_cut") -> None:
        self._settle(agent)
        if agent.off:
            return
        agent.off, agent.waiting = True, False
        agent.epoch += 1
        agent.faults += 1
        agent.free = math.inf
        if agent.learning is not None:
            agent.lessons.insert(0, agent.learning)
            agent.learning = None
        if agent.struck:
            agent.struck = False
            self._close_everywhere(agent)
            left = self._do("restore", self.on(agent), agent)["knows"]
            for task in self.world.names_of(agent.index) & left.keys():
                self._made.setdefault(task, []).append(left[task])  # kept just before the power went; nobody was told
            self._require_kept(agent, t, left)
            self._set_knows(agent, left)
            agent.version += 1
        self._watch(agent)
        agent.board.on = False
        self._emit(t, agent, "fault", kind=kind, down_s=round(down, 3) if down < math.inf else None)
        if down < math.inf:
            self._down += 1
            self._at(t + down, agent.index, lambda now: self._boot(agent, now, t))
        else:
            self._gone.add(agent.index)

    def _brown_out(self, agent: Agent, off: float, t: float) -> None:
        self._power_cut(agent, t, off, "brown_out")

    # -- learning

    def _lesson(self, number: int, t: float) -> None:
        agent = self.agents[self.world.lessons[number].agent]
        agent.lessons.append(number)
        if not agent.off and agent.learning is None:
            self._next_lesson(agent, t)

    def _next_lesson(self, agent: Agent, t: float) -> None:
        if agent.off or agent.learning is not None or not agent.lessons:
            return
        self._settle(agent)
        if agent.free > t:
            if agent.free < math.inf:
                self._at(agent.free, agent.index, lambda now: self._next_lesson(agent, now))
            return
        number = agent.lessons.pop(0)
        lesson = self.world.lessons[number]
        seconds = self.world.learn_seconds(agent.index, lesson)
        self._emit(t, agent, "learn_start", task=lesson.name, method=self.scenario.tasks.method, pictures=len(lesson.train))
        try:
            agent.board.require_ram(self.scenario.tasks.method, len(lesson.train), len(lesson.classes))
            agent.board.spend(seconds, "busy")
        except OutOfMemory as error:
            agent.faults += 1
            self._unlearned -= 1
            self._emit(t, agent, "fault", kind="out_of_memory")
            self._emit(t, agent, "learn_failed", task=lesson.name, why=str(error))
            self._at(t, agent.index, lambda now: self._next_lesson(agent, now))
            return
        except BrownOut as gone:
            agent.learning, agent.free = number, t + seconds
            self._at(t + gone.after, agent.index, partial(self._brown_out, agent, gone.off), first=True)
            return
        agent.learning, agent.free, epoch = number, t + seconds, agent.epoch
        going = next((at for at, _ in agent.cuts if t <= at < t + seconds), None)
        keeping = self.world.keep_seconds(agent.index)
        if going is not None and going < t + seconds - keeping:
            return  # nothing of it reaches the flash; it is learned again after the cut
        if t + seconds > self._stop:
            return  # it is still at it when the run is stopped
        cut = None if going is None else self.world.seed("cut", agent.index, going)
        arguments = self.on(agent) | {"now": t + seconds, "offset": agent.offset, "lesson": number, "cut": cut}
        future = self._pool.submit("learn", arguments, agent.index, [self._home(agent)])
        if cut is None:
            self._at(t + seconds, agent.index, lambda now: self._learned(agent, now, number, epoch, future, seconds))
        else:
            kept = future.result()
            agent.struck = agent.index in kept.get("struck", ())
            self._made.setdefault(lesson.name, []).extend(kept.get("made", ()))
            if "digest" in kept:  # it lies in the bank, though nobody was told: the power goes just then
                self._set_knows(agent, {**agent.knows, lesson.name: kept["digest"]})
                agent.version += 1

    def _learned(self, agent: Agent, t: float, number: int, epoch: int, future: Future[Any], seconds: float) -> None:
        if agent.epoch != epoch or agent.learning != number:
            return
        agent.learning = None
        self._unlearned -= 1
        found, lesson = future.result(), self.world.lessons[number]
        if "why" in found:
            self._emit(t, agent, "learn_failed", task=lesson.name, why=found["why"])
        else:
            self._emit(
                t,
                agent,
                "learned",
                task=lesson.name,
                digest=found["digest"],
                bytes=found["bytes"],
                accuracy=found["accuracy"],
                seconds=round(seconds, 3),
            )
            self._wear(agent, t, found["written"])
            self._made.setdefault(lesson.name, []).extend(found["made"])
            self._authors[lesson.name] = agent.index, found["digest"]
            agent.knows[lesson.name] = found["digest"]
            self._behind |= {a.index for a in self.honest() if a.knows.get(lesson.name) != found["digest"]}
            self._news(agent, t, -1)
            if agent.index < self._probes:
                self._probe(agent, t)
            self._watch(agent)
        self._next_lesson(agent, t)
        self._wake(agent, t)

    # -- meeting

    def _news(self, agent: Agent, t: float, source: int) -> None:
        """Its device has changed: it tells others."""
        agent.version += 1
        agent.hot, agent.told = self.scenario.network.eager, source

    def _wake(self, agent: Agent, t: float) -> None:
        """It tells somebody as soon as it has time."""
        if agent.hot and not agent.waiting and not agent.off and agent.free < math.inf:
            agent.waiting = True
            self._at(max(t, agent.free), agent.index, lambda now, e=agent.epoch: self._tell(agent, now, e))  # type: ignore[misc]

    def _tell(self, agent: Agent, t: float, epoch: int) -> None:
        if agent.epoch != epoch:
            return
        agent.waiting = False
        self._settle(agent)
        if not agent.hot or agent.off:
            return
        if agent.free > t:
            self._wake(agent, agent.free)
            return
        near = self.world.topology.neighbours(agent.index, t)
        others = [i for i in near if i != agent.told] or list(near)
        for index in agent.rng.sample(others, len(others)) if len(others) < 9 else agent.rng.sample(others, 8):
            if self._contact(agent, self.agents[index], t):
                agent.backoff = _RETRY
                return
        agent.waiting = True  # all are at work, or out of reach
        agent.backoff = min(2 * agent.backoff, self.scenario.network.gossip_s)
        later = t + agent.backoff * (0.5 + agent.rng.random())
        self._at(later, agent.index, lambda now: self._tell(agent, now, epoch))

    def _gossip(self, agent: Agent, t: float, epoch: int) -> None:
        """In turn it greets a neighbour, news or none: what a fault has taken comes back so."""
        if agent.epoch != epoch or agent.off:
            return
        self._settle(agent)
        near = self.world.topology.neighbours(agent.index, t)
        if near and agent.free <= t:
            self._contact(agent, self.agents[near[agent.rng.randrange(len(near))]], t)
        gap = self.scenario.network.gossip_s * (0.75 + 0.5 * agent.rng.random())
        self._at(t + gap, agent.index, lambda now: self._gossip(agent, now, epoch))

    def _contact(self, a: Agent, b: Agent, t: float) -> bool:
        """Let the two meet now; False where the other has no time, or is out of reach."""
        self._settle(b)
        if b.off or b.free > t or b.learning is not None:
            return False
        until = self.world.topology.open_until(a.index, b.index, t)
        if until <= t:
            return False
        quality = self.world.quality(a.index, b.index)
        ends = [(at, "") for at in (until, self._stop) if at < math.inf]
        ends += [(at, agent.name) for agent in (a, b) for at, _ in agent.cuts if at > t]
        seed = self.world.seed("line", a.index, b.index, t)
        pair = (a.index, b.index)
        same = self._same.get(pair)
        if same is not None and same[0] == (a.version, b.version):
            self._repeat(a, b, t, Line(quality, t, seed, ends), same[1])
            return True
        arguments = {
            "a": a.index,
            "b": b.index,
            "epochs": [a.epoch, b.epoch],
            "offsets": [a.offset, b.offset],
            "start": t,
            "quality": [quality.latency, quality.rate, quality.loss],
            "seed": seed,
            "ends": [list(end) for end in ends if end[0] < t + 3600],
        }
        future = self._pool.submit("meet", arguments, min(pair), [self._home(a), self._home(b)])
        least = t + Line(quality, t, 0, []).shortest
        pending = Pending(min([least, *(at for at, _ in ends)]), t, a.index, b.index, future)
        self._meetings[a.index] = self._meetings[b.index] = pending
        a.free = b.free = math.inf
        return True

    def _settle(self, agent: Agent) -> None:
        """Know how its meeting ended."""
        pending = self._meetings.get(agent.index)
        if pending is not None:
            self._met(pending)

    def _met(self, pending: Pending) -> None:
        del self._meetings[pending.a], self._meetings[pending.b]
        a, b, found = self.agents[pending.a], self.agents[pending.b], pending.future.result()
        t = found["end"]
        self._latest = max(self._latest, t)
        gone = found["broken"][1] if found["broken"] else ""
        if "knows" in found:
            for agent, other, knows in ((a, b, found["knows"][0]), (b, a, found["knows"][1])):
                if agent.index in found["struck"]:
                    agent.struck = True
                else:
                    self._now_knows(agent, t, knows, other)
        elif found["again"] is not None:
            self._same[a.index, b.index] = (a.version, b.version), found["again"]
        for name, task, reason in found["refused"]:
            who, other = (a, b) if name == a.name else (b, a)
            self._emit(t, who, "refused", task=task, reason=reason, **{"from": other.name})
        self._account(a, b, pending.start, t, found["out"], found["in"], found, gone)
        self.carried += found["messages"]
        for agent, written in zip((a, b), found["written"], strict=True):
            self._wear(agent, t, written)
        if not found["broken"] and (a.orders or b.orders):
            self._pass_on(a, b, t)
        if not found["broken"]:
            useful = bool(found["given"] or found["taken"])
            a.hot = a.hot if useful else max(0, a.hot - 1)
        self._wake(a, t)
        self._wake(b, t)
        self._watch(a, b)

    def _wear(self, agent: Agent, t: float, written: int) -> None:
        """Its flash has taken so many bytes."""
        try:
            agent.board.write(written)
        except FlashWornOut:
            self._at(t, agent.index, lambda now: self._power_cut(agent, now, math.inf, "flash_worn_out"), first=True)

    def _repeat(self, a: Agent, b: Agent, t: float, line: Line, log: list[list[Any]]) -> None:
        """They met before and nothing has changed on either side: the same bytes go over the line as when they last met."""
        gone, broken = "", None
        try:
            for way, size in log:
                if way == "connect":
                    line.connect()
                else:
                    line.carry(way, size)
        except Broken as end:
            broken, gone = [end.at, end.who], end.who
        found = {"given": [], "taken": [], "known": len(a.knows), "broken": broken}
        self._account(a, b, t, line.now, line.bytes["out"], line.bytes["in"], found, gone)
        self.carried += len(log)
        if broken is None and (a.orders or b.orders):
            self._pass_on(a, b, line.now)
        a.hot = max(0, a.hot - 1)
        self._wake(a, line.now)
        self._wake(b, line.now)

    def _account(
        self, a: Agent, b: Agent, start: float, end: float, out: int, back: int, found: dict[str, Any], gone: str
    ) -> None:
        a.out, a.back, b.out, b.back = a.out + out, a.back + back, b.out + back, b.back + out
        for agent in (a, b):
            agent.sessions += 1
            agent.free = end
            self._latest = max(self._latest, end)
            if agent.board.on:
                try:
                    agent.board.spend(end - start, "radio")
                except BrownOut as empty:
                    self._at(end, agent.index, partial(self._brown_out, agent, empty.off), first=True)
        if found["broken"]:
            self._emit(end, a, "broken", peer=b.name, why=f"power of {gone}" if gone else "line", seconds=round(end - start, 6))
            return
        self._emit(
            end,
            a,
            "session",
            peer=b.name,
            seconds=round(end - start, 6),
            out=out,
            **{"in": back},
            given=found["given"],
            taken=found["taken"],
            known=found["known"],
        )

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
        self._emit(t, agent, "evaluated", **found)

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

    def on(self, agent: Agent) -> dict[str, Any]:
        """What an operation is told of an agent."""
        return {"agent": agent.index, "epoch": agent.epoch}

    def _all_known(self) -> bool:
        """Whether every honest agent is on and knows every head that was learned, and nothing is to be learned or ordered."""
        if self.now < self.scenario.at_least_s:
            return False
        if self._unlearned or self._down or self._meetings or self._orders_due or self._behind - self._outcast - self._gone:
            return False
        self.known_at = self._latest
        return True

    # -- faults

    def _corrupt(self, agent: Agent, t: float) -> None:
        """A sector goes bad. What it held is seen to be damaged at the next start, which is now."""
        self._settle(agent)
        if agent.off or agent.free > t:
            return
        arguments = self.on(agent) | {"seed": self.world.seed("sector", agent.index, t)}
        self._close_everywhere(agent)
        found = self._do("corrupt", arguments, agent)
        lost = sorted(set(agent.knows) - set(found["knows"]))
        agent.lost.update(lost)
        agent.faults += 1
        agent.epoch += 1
        agent.version += 1
        agent.waiting = False
        self._emit(t, agent, "fault", kind="corrupt_sector", lost=lost, rebuilt=found["lost"])
        (self._damaged.discard if found["lost"] else self._damaged.add)(agent.index)
        self._set_knows(agent, found["knows"])
        for task in lost:
            self._relearn(task, t)
        self._set_knows(agent, found["knows"])
        self._watch(agent)
        self._next_lesson(agent, t)
        gap = self.scenario.network.gossip_s
        self._at(t + agent.rng.random() * gap, agent.index, lambda now, e=agent.epoch: self._gossip(agent, now, e))  # type: ignore[misc]
        self._wake(agent, t)

    def _relearn(self, task: str, t: float) -> None:
        """Where nobody has a head any more, its author's owner sees that, and has it learned again."""
        author, digest = self._authors.get(task, (-1, ""))
        if author < 0 or any(agent.knows.get(task) == digest for agent in self.honest()):
            return
        del self._authors[task]
        self._unlearned += 1
        owner = self.agents[author]
        owner.lessons.append(self.world.number(author, task))
        self._at(t, author, lambda now: self._next_lesson(owner, now))

    def _clock_jump(self, agent: Agent, t: float) -> None:
        agent.offset = agent.rng.choice([-1.7e9, -86_400.0, 3_600.0, 3.2e8])
        agent.faults += 1
        self._emit(t, agent, "fault", kind="clock_jump", seconds=agent.offset)

    # -- foes

    def _attack(self, foe: Agent, t: float, number: int) -> None:
        plan = self.world.attacks(foe.index)[number]
        victim = self.agents[plan.victim]
        self._settle(victim)
        if not victim.off and victim.free <= t:
            arguments = {
                "foe": foe.index,
                "agent": victim.index,
                "epoch": victim.epoch,
                "name": plan.name,
                "seed": plan.seed,
            }
            found = self._do("attack", arguments, victim)
            if not found["made"]:
                return  # there is nothing yet that it could have overheard, or no key to steal
            foe.out += found["bytes"]
            for task, digest in found["took"]:
                self._made.setdefault(task, []).append(digest)  # its own; whom one trusts, one takes heads from
            for problem in found["problems"]:
                self._violation(victim, t, f"{plan.name} of {foe.name}: {problem}")
            more = {"took": found["took"], "broke": found["problems"], "bytes": found["bytes"]}
            self._emit(t, foe, "attack", kind=plan.name, victim=victim.name, refused=found["refused"], **more)
            if found["knows"] != victim.knows:
                victim.version += 1
                self._set_knows(victim, found["knows"])
            self._watch(victim)

    # -- orders

    def _order(self, number: int, t: float) -> None:
        """Somebody types it in at one device."""
        order = self.scenario.orders[number]
        self._orders_due -= 1
        self._outcast.add(self.world.index(order["who"]))
        self._obey(self.agents[self.world.index(order["at"])], number, t)

    def _obey(self, agent: Agent, number: int, t: float) -> None:
        self._settle(agent)
        order = self.scenario.orders[number]
        if number in agent.orders:
            return
        if agent.off or agent.free > t:
            self._at(
                t + 1.0 if agent.off or agent.free == math.inf else agent.free,
                agent.index,
                lambda now: self._obey(agent, number, now),
            )
            return
        agent.orders.add(number)
        found = self._do("revoke", self.on(agent) | {"who": order["who"]}, agent)
        agent.version += 1
        if found["known"]:
            self._emit(t, agent, "revoked", peer=order["who"], tasks=found["tasks"])
            if gone := [task for task in found["tasks"] if self._authors.pop(task, None)]:
                for one in self.honest():
                    self._set_knows(one, one.knows)
                self._emit(t, agent, "given_up", tasks=gone)  # nobody is waited for to know them any more
        self._set_knows(agent, {task: digest for task, digest in agent.knows.items() if task not in found["tasks"]})
        self._watch(agent)

    def _pass_on(self, a: Agent, b: Agent, t: float) -> None:
        """The fleet's owner has the orders that spread travel with the contacts of the devices."""
        for one, other in ((a, b), (b, a)):
            for number in sorted(one.orders - other.orders):
                if self.scenario.orders[number].get("spreads", True) and other.index not in self._outcast:
                    self._at(t, other.index, lambda now, o=other, n=number: self._obey(o, n, now))  # type: ignore[misc]

    def do(self, op: str, arguments: dict[str, Any], agent: Agent) -> Future[Any]:
        """An operation on one agent."""
        return self._pool.submit(op, arguments, agent.index, [self._home(agent)])

    def _do(self, op: str, arguments: dict[str, Any], agent: Agent) -> Any:
        """One that takes no virtual time."""
        return self.do(op, arguments, agent).result()

    def _home(self, agent: Agent) -> str:
        return str(self._homes / agent.name)

    def _close_everywhere(self, agent: Agent) -> None:
        homes = [self._home(agent)]
        for future in [self._pool.submit("forget", {"homes": homes}, k, homes) for k in range(self._pool.workers)]:
            future.result()
