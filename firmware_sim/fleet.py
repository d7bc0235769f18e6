"""The run itself: a heap of what is due in virtual time, and the agents as the simulator knows them.

What devices do is done by hosts, as operations; how long it takes is settled by boards and lines. An operation may still be on
its way in another process while later events are handled, but never such as it could have a part in: a meeting takes at least
`Line.shortest`, so nothing that comes of it is due before. So the order of events, and the trace, do not depend on processes.
"""

from __future__ import annotations

import heapq
import math
from concurrent.futures import Future
from functools import partial
from typing import Any

from firmware_sim.board import Activity, BrownOut, FlashWornOut, OutOfMemory
from firmware_sim.ledger import RETRY, Agent, Ledger, Pending
from firmware_sim.line import Broken, Line


class Fleet(Ledger):
    """Agents with power, that learn and meet."""

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
            if self._all_known() and self.scenario.ends == "known":
                until = self._latest
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
        self._all_known()
        self.now = max(self.now, self._latest, until if heap else 0.0)

    def _boot(self, agent: Agent, t: float, since: float | None) -> None:
        agent.off = False
        agent.free = t + self.world.boot_seconds(agent.index) if since is not None else t
        agent.charged = t
        if since is not None:
            self._down -= 1
            agent.board.restart()
            self._work(agent, t, self.world.boot_seconds(agent.index))
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
            left = self.do("restore", self.on(agent), agent, aside=True).result()["knows"]
            for task in self.world.names_of(agent.index) & left.keys():
                self._made.setdefault(task, []).append(left[task])  # kept just before the power went; nobody was told
            self._require_kept(agent, t, left)
            self._set_knows(agent, left)
            agent.version += 1
        self._watch(agent)
        self._idle(agent, t)
        agent.board.on = False
        self._emit(t, agent, "fault", kind=kind, down_s=round(down, 3) if down < math.inf else None)
        if down < math.inf:
            self._down += 1
            self._at(t + down, agent.index, lambda now: self._boot(agent, now, t))
        else:
            self._gone.add(agent.index)
            self._unlearned -= len(agent.lessons)

    def _work(self, agent: Agent, t: float, seconds: float, how: Activity = "busy") -> bool:
        """Its board draws what that takes; False where it gives in meanwhile, and power goes."""
        agent.charged = max(agent.charged, t + seconds)
        if not agent.board.on:
            return False
        try:
            agent.board.spend(seconds, how)
        except BrownOut as gone:
            self._at(t + gone.after, agent.index, partial(self._brown_out, agent, gone.off, agent.epoch), first=True)
            return False
        return True

    def _brown_out(self, agent: Agent, off: float, epoch: int, t: float) -> None:
        if agent.epoch == epoch:
            self._power_cut(agent, t, off, "brown_out")

    def _wear(self, agent: Agent, t: float, written: int) -> None:
        """Its flash has taken so many bytes."""
        try:
            agent.board.write(written)
        except FlashWornOut:
            self._at(t, agent.index, lambda now: self._power_cut(agent, now, math.inf, "flash_worn_out"), first=True)

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
        except OutOfMemory as error:
            agent.faults += 1
            self._unlearned -= 1
            self._emit(t, agent, "fault", kind="out_of_memory")
            self._emit(t, agent, "learn_failed", task=lesson.name, why=str(error))
            self._at(t, agent.index, lambda now: self._next_lesson(agent, now))
            return
        agent.learning, agent.free, epoch = number, t + seconds, agent.epoch
        going = next((at for at, _ in agent.cuts if t <= at < t + seconds), None)
        self._idle(agent, t)
        if not self._work(agent, t, min(seconds, (going or math.inf) - t)):
            return
        keeping = self.world.keep_seconds(agent.index)
        if going is not None and going < t + seconds - keeping:
            return  # nothing of it reaches the flash; it is learned again after the cut
        if t + seconds > min(self._stop, self.scenario.until_s):
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
                agent.backoff = RETRY
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
            self._repeat(a, b, t, Line(quality, t, seed, ends), same[1], same[2])
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
            self._same[a.index, b.index] = (a.version, b.version), found["again"], found["known"]
        for name, task, reason in found["refused"]:
            who, other = (a, b) if name == a.name else (b, a)
            self._emit(t, who, "refused", task=task, reason=reason, **{"from": other.name})
        self._account(a, b, pending.start, t, found["out"], found["in"], found, gone)
        self.carried += found["messages"]
        for agent, written in zip((a, b), found["written"], strict=True):
            self._wear(agent, t, written)
        if not found["broken"] and (a.orders or b.orders):
            self._also(a, b, t)
        if not found["broken"]:
            useful = bool(found["given"] or found["taken"])
            a.hot = a.hot if useful else max(0, a.hot - 1)
        self._wake(a, t)
        self._wake(b, t)
        self._watch(a, b)

    def _repeat(self, a: Agent, b: Agent, t: float, line: Line, log: list[list[Any]], known: int) -> None:
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
        found = {"given": [], "taken": [], "known": known, "broken": broken}
        self._account(a, b, t, line.now, line.bytes["out"], line.bytes["in"], found, gone)
        self.carried += len(log)
        if broken is None and (a.orders or b.orders):
            self._also(a, b, line.now)
        if broken is None:
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
            self._idle(agent, start)
            self._work(agent, start, end - start, "radio")
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

    def _also(self, a: Agent, b: Agent, t: float) -> None:
        """What else goes with a contact of two, one of whom has orders."""
