"""A fleet to which things happen: bad sectors, clocks that jump, hostile devices, and an owner who takes trust back."""

from __future__ import annotations

import math

from firmware_sim.fleet import Fleet
from firmware_sim.ledger import Agent


class TroubledFleet(Fleet):
    """One run; `start`, then `run`."""

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
            self._at(order.at_s, 0, lambda t, n=number: self._order(n, t))  # type: ignore[misc]

    def _corrupt(self, agent: Agent, t: float) -> None:
        """A sector goes bad. What it held is seen to be damaged at the next start, which is now."""
        self._settle(agent)
        if agent.off or agent.free > t:
            if not agent.off and agent.free < math.inf:
                self._at(agent.free, agent.index, lambda now: self._corrupt(agent, now))
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

    def _attack(self, foe: Agent, t: float, number: int) -> None:
        plan = self.world.attacks(foe.index)[number]
        victim = self.agents[plan.victim]
        self._settle(victim)
        if not victim.off and t < victim.free < math.inf:
            self._at(victim.free, foe.index, lambda now: self._attack(foe, now, number))  # it waits its turn
        elif not victim.off:
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

    def _order(self, number: int, t: float) -> None:
        """Somebody types it in at one device."""
        order = self.scenario.orders[number]
        self._outcast.add(self.world.index(order.who))
        self._obey(self.agents[self.world.index(order.at)], number, t)

    def _obey(self, agent: Agent, number: int, t: float) -> None:
        self._settle(agent)
        order = self.scenario.orders[number]
        if number in agent.orders:
            return
        if agent.index in self._gone:
            return
        if agent.off or agent.free > t:
            self._at(
                t + 1.0 if agent.off or agent.free == math.inf else agent.free,
                agent.index,
                lambda now: self._obey(agent, number, now),
            )
            return
        agent.orders.add(number)
        reached = {one.index for one in self.honest() if number in one.orders}
        everybody = {one.index for one in self.honest()} - self._outcast - self._gone
        if not order.spreads or everybody <= reached:
            self._orders_due.discard(number)
        found = self._do("revoke", self.on(agent) | {"who": order.who}, agent)
        agent.version += 1
        if found["known"]:
            self._emit(t, agent, "revoked", peer=order.who, tasks=found["tasks"])
            if gone := [task for task in found["tasks"] if self._authors.pop(task, None)]:
                for one in self.honest():
                    self._set_knows(one, one.knows)
                self._emit(t, agent, "given_up", tasks=gone)  # nobody is waited for to know them any more
        self._set_knows(agent, {task: digest for task, digest in agent.knows.items() if task not in found["tasks"]})
        self._watch(agent)

    def _also(self, a: Agent, b: Agent, t: float) -> None:
        """The fleet's owner has the orders that spread travel with the contacts of the devices."""
        for one, other in ((a, b), (b, a)):
            for number in sorted(one.orders - other.orders):
                if self.scenario.orders[number].spreads and other.index not in self._outcast:
                    self._at(t, other.index, lambda now, o=other, n=number: self._obey(o, n, now))  # type: ignore[misc]
