"""Who knew which task when, as a run's trace tells it.

An agent is down from a fault in `STOPS` until it boots. One that attacks is a foe: neither it nor what it alone teaches
counts as the fleet's. A fault may name the tasks it cost under `lost`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecl.errors import DataError
from edgecl.text import printable

STOPS = frozenset({"power_cut", "brown_out"})
MOMENTS = 400  # points of a curve at most; more than any screen shows
FIELDS: Mapping[str, Mapping[str, type]] = {  # what is read below; anything else in an event is nobody's business here
    "learned": {"task": str, "digest": str},
    "taken": {"task": str, "digest": str},
    "healed": {"task": str},
    "session": {"peer": str, "out": float, "in": float},
    "fault": {"kind": str},
    "attack": {"kind": str, "victim": str},
    "revoked": {"peer": str, "tasks": list},
    "given_up": {"tasks": list},
    "evaluated": {"joint": float},
    "end": {"knows": dict},
}


def number(values: Mapping[str, Any], key: str) -> float | None:
    """The finite number under a key of something read from a file, None where there is none."""
    value = values.get(key)
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e18
    return float(value) if fits and value is not None else None


def check(event: Mapping[str, Any]) -> None:
    """Raises DataError where an event lacks what is read of it."""
    name = event["event"]
    if name == "scenario":
        return
    t = number(event, "t")
    if t is None or t < 0 or not isinstance(event.get("agent"), str):
        raise DataError(f"the trace has a '{printable(name, 40)}' event without its second or its agent; simulate again")
    for key, kind in FIELDS.get(name, {}).items():
        fits = number(event, key) is not None if kind is float else isinstance(event.get(key), kind)
        if not fits:
            raise DataError(f"the trace has a '{name}' event at {t} s whose '{key}' is no {kind.__name__}; simulate again")


@dataclass(frozen=True)
class Knowledge:
    """Who knew what when. a honest agents, by name; t tasks that one of them learned, in that order; times in virtual seconds.

    times, everywhere, mean, least (m,): at each moment, the tasks that every live agent knows, their mean count, the lowest.
    """

    agents: list[str]
    tasks: list[str]
    authors: dict[str, list[str]]  # task -> who learned it
    learned: NDArray[np.float64]  # (t,) first time
    arrived: NDArray[np.float64]  # (a, t) first time that the agent knew it; inf: never
    settled: NDArray[np.float64]  # (a, t) since when it has an author's latest head, as it does at the end; inf: it does not
    live: NDArray[np.bool_]  # (a,) at the end
    foreign: list[tuple[str, str]]  # (agent, task) at the end: a head that no author made
    times: NDArray[np.float64]
    everywhere: NDArray[np.float64]
    mean: NDArray[np.float64]
    least: NDArray[np.float64]

    @property
    def complete(self) -> int:
        """Live agents that end with an author's latest head for each task."""
        return int(np.isfinite(self.settled[self.live]).all(1).sum())

    @property
    def after(self) -> float:
        """Virtual second since when all of them do; inf: they do not."""
        held = self.settled[self.live]
        return float(held.max()) if held.size else math.inf

    @property
    def lost(self) -> NDArray[np.bool_]:
        """(t,) tasks that were learned, but no live agent ends with."""
        return np.asarray(np.isinf(self.settled[self.live]).all(0))

    def spread(self) -> NDArray[np.float64]:
        """(t, 3) seconds from a task's first learning until half, nine tenths, and all of the live agents knew it."""
        waits = np.sort(self.arrived[self.live] - self.learned, axis=0)
        n = len(waits)
        rows = [math.ceil(share * n) - 1 for share in (0.5, 0.9, 1)]
        return waits[rows].T if n else np.full((len(self.tasks), 3), math.inf)


def knowledge(trace: Iterable[Mapping[str, Any]], agents: Iterable[str] = ()) -> Knowledge:
    """Who knew which task when. agents: those known besides, as one that never did anything is in no trace."""
    names, foes = set(agents), set()
    given_up: set[str] = set()  # tasks of an author whose trust was taken back: nobody is to know them
    authors: dict[str, dict[str, str]] = defaultdict(dict)  # task -> author -> its latest digest
    made: set[str] = set()  # every digest that somebody learned
    learned: dict[str, float] = {}
    first: dict[tuple[str, str], float] = {}
    held: dict[str, dict[str, tuple[str, float]]] = defaultdict(dict)  # agent -> task -> digest, since when
    changes: list[tuple[float, str, str, bool]] = []  # second, agent, task ("": the agent itself), there or gone

    def take(t: float, agent: str, task: str, digest: str) -> None:
        if held[agent].get(task, ("",))[0] != digest:
            held[agent][task] = digest, t
            first.setdefault((agent, task), t)
            changes.append((t, agent, task, True))

    def lose(t: float, agent: str, tasks: Iterable[Any]) -> None:
        for task in tasks:
            if isinstance(task, str) and task in held[agent]:
                del held[agent][task]
                changes.append((t, agent, task, False))

    for event in trace:
        check(event)
        name = event["event"]
        if name == "scenario":
            continue
        t, agent = event["t"], event["agent"]
        names.add(agent)
        if name == "taken":
            take(t, agent, event["task"], event["digest"])
        elif name == "learned":
            learned.setdefault(event["task"], t)
            authors[event["task"]][agent] = event["digest"]
            made.add(event["digest"])
            take(t, agent, event["task"], event["digest"])
        elif name == "fault":
            lost = event.get("lost")
            lose(t, agent, lost if isinstance(lost, list) else ())
            if event["kind"] in STOPS:
                changes.append((t, agent, "", False))
        elif name == "boot":
            changes.append((t, agent, "", True))
        elif name == "revoked":
            lose(t, agent, event["tasks"])
        elif name == "given_up":
            given_up.update(task for task in event["tasks"] if isinstance(task, str))
        elif name == "attack":
            foes.add(agent)
        elif name == "end":
            lose(t, agent, [task for task in held[agent] if task not in event["knows"]])
            for task, digest in event["knows"].items():
                take(t, agent, task, str(digest))

    honest = sorted(names - foes)
    makers = {task: by.keys() - foes for task, by in authors.items()}
    tasks = sorted((task for task in learned if makers[task] and task not in given_up), key=lambda task: (learned[task], task))
    latest = {task: {authors[task][maker] for maker in makers[task]} for task in tasks}
    shape = len(honest), len(tasks)
    arrived, settled = np.full(shape, math.inf), np.full(shape, math.inf)
    foreign = []
    for i, agent in enumerate(honest):
        for j, task in enumerate(tasks):
            arrived[i, j] = first.get((agent, task), math.inf)
            digest, since = held[agent].get(task, ("", math.inf))
            if digest in latest[task]:
                settled[i, j] = since
        foreign += [(agent, task) for task, (digest, _) in held[agent].items() if digest not in made]
    live, curves = _curves(changes, {a: i for i, a in enumerate(honest)}, {k: j for j, k in enumerate(tasks)})
    by_task = {task: sorted(makers[task]) for task in tasks}
    return Knowledge(honest, tasks, by_task, np.asarray([learned[k] for k in tasks]), arrived, settled, live, foreign, *curves)


def _curves(
    changes: list[tuple[float, str, str, bool]], agents: Mapping[str, int], tasks: Mapping[str, int]
) -> tuple[NDArray[np.bool_], tuple[NDArray[np.float64], ...]]:
    changes = sorted((change for change in changes if change[1] in agents), key=lambda change: change[0])
    knows = np.zeros((len(agents), len(tasks)), bool)
    live = np.ones(len(agents), bool)
    for _, agent, _, there in reversed([change for change in changes if not change[2]]):
        live[agents[agent]] = not there  # one that boots before anything else was not there yet
    points = moments(np.asarray([change[0] for change in changes]))
    rows, at = [], 0
    for moment in points:
        while at < len(changes) and changes[at][0] <= moment:
            _, agent, task, there = changes[at]
            at += 1
            if not task:
                live[agents[agent]] = there
            elif task in tasks:
                knows[agents[agent], tasks[task]] = there
        seen = knows[live]
        per_agent = seen.sum(1)
        rows.append((seen.all(0).sum(), per_agent.mean(), per_agent.min()) if len(seen) else (0, 0, 0))
    return live, (points, *np.asarray(rows, float).reshape(-1, 3).T)


def moments(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where to read a step curve that changes at `times`: at each of them, or at `MOMENTS` evenly apart."""
    exact = np.unique(times)
    return exact if len(exact) <= MOMENTS else np.linspace(exact[0], exact[-1], MOMENTS)
