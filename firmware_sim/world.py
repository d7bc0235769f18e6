"""What a scenario settles before anything happens: names, keys, boards, who learns what, who meets whom, what goes wrong when.

Pure and seeded: every process of a run makes the same world.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from edgecl.device import EdgeDevice
from edgecl.errors import ConfigError
from edgecl.judging import read_task
from edgecl.learning import LearnReport
from edgecl.sharing.signing import Signer
from edgecl.streams.base import TaskPictures
from edgecl.streams.folders import find_tasks
from edgecl.text import printable
from edgecl.types import Task
from firmware_sim import agents, rates, topology
from firmware_sim.assignment import Assignment, assign
from firmware_sim.board import Profile, profile, profile_from
from firmware_sim.contacts import Cut, DutyCycle, Partitions, Topology, phases
from firmware_sim.foes.attacks import ATTACKS
from firmware_sim.line import Quality
from firmware_sim.scenario import Scenario
from firmware_sim.synthetic import TaskFeatures, feature_tasks, synthetic_tasks
from firmware_sim.views import Selected

_KEPT = 150_000  # bytes of a bundle, about, while nobody knows how large it becomes


@dataclass(frozen=True)
class Planned:
    """An attack. at: virtual second.   victim: its index."""

    at: float
    victim: int
    name: str
    seed: int


class World:
    """scenario: of the run.   width: of the ROM's features."""

    def __init__(self, scenario: Scenario, width: int) -> None:
        self.scenario, self._width = scenario, width
        self.honest = scenario.agents
        self.total = scenario.agents + scenario.foes.count
        self.names = [agents.name_of(i, self.total) for i in range(self.total)]
        self.topology = self._topology()
        for order in scenario.orders:
            self.index(order.who)
            if self.index(order.at) >= self.honest:
                raise ConfigError(f"an order is typed in at an agent of the fleet's owner; {order.at} is a foe")
        self._boards = self._assigned_boards()

    def _bare_topology(self) -> Topology:
        n = self.scenario.network
        known: dict[str, dict[str, object]] = {
            "random": {"degree": n.degree},
            "moving": {"side_m": n.side_m, "range_m": n.range_m, "slowest_m_s": n.speed_m_s / 3, "fastest_m_s": n.speed_m_s},
            "late_joiner": {"at_s": n.joins_at_s},
        }
        return topology.make(n.topology, self.honest, self.seed("topology"), **known.get(n.topology, {}))

    def _topology(self) -> Topology:
        n, made = self.scenario.network, self._bare_topology()
        if n.awake_s:
            made = DutyCycle(made, n.duty_s, n.awake_s, phases(self.honest, n.awake_s / 2, self.seed("phases")))
        if n.partitions:
            made = Partitions(made, [Cut(p.from_s, p.until_s, p.groups) for p in n.partitions])
        return made

    def seed(self, *of: object) -> int:
        """A seed for one thing, told by words and numbers."""
        text = "\0".join(map(repr, (self.scenario.seed, *of)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")

    # -- who

    @lru_cache(maxsize=4096)  # noqa: B019  one world lives as long as its process
    def signer(self, agent: int) -> Signer:
        """The key pair of an agent."""
        return agents.seeded_signer(self.scenario.seed, self.names[agent])

    def trusts(self, agent: int) -> tuple[dict[str, str], dict[str, str]]:
        """Name -> key of those that an agent's owner has made it trust, and of those that were revoked."""
        s = self.scenario
        if s.network.trust == "all" or s.network.topology in ("moving", "mesh", "late_joiner"):
            known = set(range(self.honest))
        else:
            near = self._bare_topology().neighbours(agent, 0.0) if agent < self.honest else range(self.honest)
            known = {*near, *self._learners}
        foes = range(self.honest, self.total)
        known |= set(foes) if s.foes.standing == "trusted" else set()
        trusted = {self.names[i]: self.signer(i).key for i in sorted(known - {agent})}
        revoked = {self.names[i]: self.signer(i).key for i in foes} if s.foes.standing == "revoked" else {}
        return trusted, revoked

    def joins(self, agent: int) -> float:
        """Virtual second from which an agent is there."""
        n = self.scenario.network
        return n.joins_at_s if n.topology == "late_joiner" and agent == self.honest - 1 else 0.0

    # -- boards

    def _assigned_boards(self) -> list[Profile]:
        s = self.scenario
        own = {name: profile_from(name, table) for name, table in s.own_boards.items()}
        found = [own.get(s.board) or profile(s.board)] * self.total
        last = self.honest
        for name, count in s.boards.items():
            for i in range(max(0, last - count), last):
                found[i] = own.get(name) or profile(name)
            last = max(0, last - count)
        return found

    def profile(self, agent: int) -> Profile:
        """The kind of board."""
        return self._boards[agent]

    def flash_bytes(self, agent: int) -> int | None:
        """Room for the bank; None: all that this machine has."""
        faults = self.scenario.faults
        if agent < self.honest and agent >= self.honest - faults.full_flash_agents:
            return faults.full_flash_kb * 1000
        return None

    @lru_cache(maxsize=65536)  # noqa: B019
    def quality(self, a: int, b: int) -> Quality:
        """The line between two agents."""
        n = self.scenario.network
        rate = n.mbit_s or min(self._boards[i].link_mbit_s for i in (a, b))
        return Quality(n.latency_ms / 1000, rate * 1e6, n.loss)

    # -- lessons

    @cached_property
    def tasks(self) -> list[TaskPictures] | list[TaskFeatures]:
        """All there is to learn."""
        t = self.scenario.tasks
        if t.source == "folder":
            found = find_tasks(Path(t.folder))
            return [_fewer(task, t.most) for task in found[: t.count or len(found)]]
        count = t.count or self.honest
        if t.source == "features":
            return feature_tasks(count, self._width, t.classes, t.per_class, seed=self.seed("tasks"))
        drawn = synthetic_tasks(count, t.classes, t.per_class, seed=self.seed("tasks"))
        return [_fewer(task, t.most) for task in drawn]

    @cached_property
    def lessons(self) -> list[Assignment]:
        """Who learns what, and when."""
        t = self.scenario.tasks
        options: dict[str, dict[str, object]] = {
            "one_each": {},
            "overlapping": {},
            "dirichlet": {"alpha": t.alpha, "parts": t.agents_per_task},
            "viewpoints": {"by": t.by, "parts": t.agents_per_task},
            "drifting": {"stages": t.steps, "every_s": t.step_s},
        }
        found = assign(t.generator, self.tasks, self.honest, self.seed("lessons"), **options[t.generator])
        if t.arrival_s:
            late = np.random.default_rng(self.seed("arrival")).uniform(0, t.arrival_s, len(found))
            found = [replace(one, arrives_s=one.arrives_s + float(s)) for one, s in zip(found, late, strict=True)]
        return found

    @cached_property
    def _learners(self) -> set[int]:
        return {lesson.agent for lesson in self.lessons}

    @cached_property
    def poisoners(self) -> set[int]:
        """Authors whose heads are poisoned."""
        count = self.scenario.foes.poisoned
        return set(sorted(self._learners)[-count:]) if count else set()

    def teach(self, device: EdgeDevice, number: int) -> LearnReport:
        """Have a device learn lesson `number`. Raises EdgeclError."""
        t, lesson = self.scenario.tasks, self.lessons[number]
        if t.source == "features":
            return device.learn_features(lesson.features(self.tasks)[0], method=t.method, recipe=t.recipe)  # type: ignore[arg-type]
        one = lesson.pictures(self.tasks)  # type: ignore[arg-type]
        return device.learn_pictures(one.name, one.train, one.train_labels, one.classes, method=t.method, recipe=t.recipe)

    @cached_property
    def last_lessons(self) -> dict[str, Assignment]:
        """Task -> the lesson that it was learned from last, which says what it is judged on; by name."""
        return dict(sorted((lesson.name, lesson) for lesson in self.lessons))

    def tests(self, device: EdgeDevice) -> list[Task]:
        """What devices are judged on, for each task."""
        found = []
        for lesson in self.last_lessons.values():
            if self.scenario.tasks.source == "features":
                x = lesson.features(self.tasks)[1]  # type: ignore[arg-type]
                found.append(Task(lesson.name, lesson.classes, x, np.asarray(lesson.test_labels, np.int64)))
            else:
                one = lesson.pictures(self.tasks)  # type: ignore[arg-type]
                found.append(read_task(device, one.name, one.classes, one.test, one.test_labels))
        return found

    def pictures(self) -> list[Any]:
        """All that any device will look at."""
        if self.scenario.tasks.source == "features":
            return []
        found: list[Any] = []
        for lesson in self.lessons:
            one = lesson.pictures(self.tasks)  # type: ignore[arg-type]
            found += [*one.train, *one.test]
        return found

    def learn_seconds(self, agent: int, lesson: Assignment) -> float:
        """Virtual seconds that an agent's board learns."""
        method = self.scenario.tasks.method
        seconds = rates.learn_seconds(self._boards[agent], method, len(lesson.train), len(lesson.classes))
        return seconds + self.keep_seconds(agent)

    def keep_seconds(self, agent: int) -> float:
        """The last part of it, in which the head is put into the bank."""
        return rates.take_seconds(self._boards[agent], _KEPT, 1)

    def boot_seconds(self, agent: int) -> float:
        """From power to the first question."""
        return rates.boot_seconds(self._boards[agent])

    @lru_cache(maxsize=65536)  # noqa: B019
    def names_of(self, agent: int) -> frozenset[str]:
        """What an agent's lessons are named."""
        return frozenset(lesson.name for lesson in self.lessons if lesson.agent == agent)

    def number(self, agent: int, name: str) -> int:
        """Of the last lesson of that name of an agent."""
        return max(n for n, lesson in enumerate(self.lessons) if lesson.agent == agent and lesson.name == name)

    def index(self, name: str) -> int:
        """Of an agent by its name. Raises ConfigError."""
        if name not in self.names:
            raise ConfigError(f"there is no agent '{printable(name, 60)}'; they are {self.names[0]} to {self.names[-1]}")
        return self.names.index(name)

    # -- foes

    @lru_cache(maxsize=256)  # noqa: B019
    def attacks(self, foe: int) -> list[Planned]:
        """What a foe will do: every attack there is, or that the scenario names, in turn, on devices at random."""
        f, rng = self.scenario.foes, random.Random(self.seed("foe", foe))
        names = list(f.attacks or ATTACKS)
        found: list[Planned] = []
        t = f.period_s * rng.random()
        while t < self.scenario.until_s and (not f.rounds or len(found) < f.rounds * len(names)):
            if not len(found) % len(names):
                rng.shuffle(names)
            name = names[len(found) % len(names)]
            found.append(Planned(t, rng.randrange(self.honest), name, rng.getrandbits(48)))
            t += f.period_s * (0.5 + rng.random())
        return found

    # -- faults

    def power_cuts(self, agent: int) -> list[tuple[float, float]]:
        """(virtual second, seconds without power), in order."""
        faults = self.scenario.faults
        rng, found = random.Random(self.seed("power", agent)), []
        t = self.joins(agent)
        while agent < self.honest and faults.power_cuts_per_hour:
            t += rng.expovariate(faults.power_cuts_per_hour / 3600)
            if t >= min(faults.until_s, self.scenario.until_s):
                break
            down = faults.down_s * (0.5 + rng.random())
            found.append((t, down))
            t += down + self.boot_seconds(agent)
        return found

    def other_faults(self, agent: int) -> list[tuple[str, float]]:
        """(kind, virtual second)."""
        faults, found = self.scenario.faults, []
        for kind, rate in (("corrupt", faults.corrupt_sectors_per_hour), ("clock_jump", faults.clock_jumps_per_hour)):
            rng, t = random.Random(self.seed(kind, agent)), 0.0
            while agent < self.honest and rate:
                t += rng.expovariate(rate / 3600)
                if t >= min(faults.until_s, self.scenario.until_s):
                    break
                found.append((kind, t))
        return found


def _fewer(task: TaskPictures, most: int) -> TaskPictures:
    """At most so many training pictures, as many of each class as can be; 0: all."""
    if not most or len(task.train) <= most:
        return task
    turn: dict[int, int] = {}
    rounds = []
    for row, label in enumerate(task.train_labels):
        turn[label] = turn.get(label, 0) + 1
        rounds.append((turn[label], row))
    rows = sorted(row for _, row in sorted(rounds)[:most])
    return replace(task, train=Selected(task.train, tuple(rows)), train_labels=tuple(task.train_labels[row] for row in rows))
