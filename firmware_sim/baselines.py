"""What the fleet is held against, on the same pictures: one device alone, one shared head in three ways, and no sharing.

sequential   one EdgeDevice learns all tasks, one after another
finetuned    one linear head over all classes, trained on one task after another, without memory: it forgets
federated    the same head, averaged over agents round by round (McMahan et al., Communication-Efficient Learning of Deep
             Networks from Decentralized Data, AISTATS 2017)
isolated     every agent knows its own tasks and nothing else
together     the same head, trained on the pictures of all tasks at once: what that kind of head can reach

Each gives a dict: joint, oracle, mapper (means over tasks, 0..1, as in `edgecl.judging`), tasks (the same by task), confusion
(T, T) of tasks, seconds (virtual), bytes (sent and received by an agent, mean), curve (one dict a step: `tasks` or `round`,
joint over the tasks so far, seconds, bytes), and what was chosen. A shared head finds the task by naming a class of it.

Step lengths are chosen on a fifth of the training pictures; what that costs is not counted, in the baselines' favour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgecl.device import EdgeDevice
from edgecl.errors import ConfigError
from edgecl.judging import HeadScores, judge
from edgecl.metrics.accuracy import confusion, macro
from edgecl.streams.base import TaskPictures
from edgecl.types import Ints, Task
from firmware_sim.softmax import Pooled, SharedHead, accuracy, average, descend, first_class, held_out, pool

RATES = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


@dataclass(frozen=True)
class Work:
    """What a board does, for its costs to be known by.

    kind: learn (a task by the device's own `method`, reading included), read (pictures through the ROM), train (`epochs` passes
    of gradient descent over stored features of the pictures, a linear head of `classes`), or radio (`bytes` sent or received).
    """

    kind: str
    pictures: int = 0
    classes: int = 0
    epochs: int = 0
    bytes: int = 0
    method: str = ""


Cost = Callable[[Work], float]  # virtual seconds


def sequential(
    device: EdgeDevice, tasks: Sequence[TaskPictures], tests: Sequence[Task], cost: Cost, method: str = "linear", seed: int = 0
) -> dict[str, Any]:
    """One device learns `tasks` in their order; device: an empty one.   tests: their test pictures, in the same order."""
    asked, seconds, curve = HeadScores(device), 0.0, []
    for n, task in enumerate(tasks, 1):
        seconds += _learn(device, task, cost, method, seed)
        judged = judge(device, tests[:n], asked)
        curve.append({"tasks": n, "joint": judged.summary["joint"], "seconds": seconds, "bytes": 0})
    judged = judge(device, tests, asked)
    found = {name: dict(row) for name, row in judged.tasks.items()}
    return _result(found, judged.confusion, seconds, 0, curve, {"method": method})


def isolated(
    agents: Iterable[tuple[EdgeDevice, Sequence[TaskPictures]]],
    tests: Sequence[Task],
    cost: Cost,
    method: str = "linear",
    seed: int = 0,
) -> dict[str, Any]:
    """Each agent learns its own tasks and is asked about all: an empty device and its tasks; taken one at a time.

    The figures are means over agents, seconds those of the slowest.
    """
    slowest, counts, judged = 0.0, np.zeros((len(tests), len(tests)), np.int64), []
    for device, own in agents:
        slowest = max(slowest, sum(_learn(device, task, cost, method, seed) for task in own))
        judged.append(judge(device, tests))
        counts += judged[-1].confusion
    if not judged:
        raise ConfigError("isolated agents: there is none; give one device or more, each with its tasks")
    found = {
        test.name: {key: macro([one.tasks[test.name][key] for one in judged]) for key in judged[0].tasks[test.name]}
        for test in tests
    }
    joint = macro([row["joint"] for row in found.values()])
    curve = [{"tasks": len(tests), "joint": joint, "seconds": slowest, "bytes": 0}]
    return _result(found, counts, slowest, 0, curve, {"method": method, "agents": len(judged)})


def finetuned(
    trains: Sequence[Task], tests: Sequence[Task], cost: Cost, epochs: int = 20, seed: int = 0, rates: Sequence[float] = RATES
) -> dict[str, Any]:
    """One head over all classes, trained on one task after another; `epochs` passes over each, the pictures then gone."""
    data = pool(trains)

    def states(part: Pooled, rate: float) -> Iterable[SharedHead]:
        head = _empty(data)
        for t in range(len(trains)):
            head = descend(head, part.of(part.t == t), rate, epochs, np.random.default_rng([seed, 1, t]))
            yield head

    rate, tried = _choose(data, rates, seed, states)
    seconds, curve, head = 0.0, [], _empty(data)
    for n, (head, task) in enumerate(zip(states(data, rate), trains, strict=True), 1):
        seconds += cost(Work("read", len(task))) + cost(Work("train", len(task), len(head.b), epochs))
        joint = macro([row["joint"] for row in list(_judged(head, tests)[0].values())[:n]])
        curve.append({"tasks": n, "joint": joint, "seconds": seconds, "bytes": 0})
    rows, confused = _judged(head, tests)
    return _result(rows, confused, seconds, 0, curve, {"rate": rate, "tried": tried, "epochs": epochs})


def federated(
    trains: Sequence[Task],
    tests: Sequence[Task],
    cost: Cost,
    rounds: int = 100,
    epochs: int = 5,
    seed: int = 0,
    rates: Sequence[float] = RATES,
    owners: Ints | None = None,
) -> dict[str, Any]:
    """One head, trained by every agent on its own pictures and averaged by their numbers, round by round.

    owners: (n,) number of the agent that has each training picture, the pictures in the order of the tasks; None: an agent a
    task. Every agent takes part in every round, and the server has time and radio for all at once.
    """
    data = pool(trains)
    if owners is not None:
        if owners.shape != data.t.shape:
            raise ConfigError(
                f"owners names agents for {owners.shape} training pictures, there are {len(data)}; name one for each"
            )
        data = replace(data, t=owners)  # pictures are grouped by agent in place of task

    def states(part: Pooled, rate: float) -> Iterable[SharedHead]:
        head = _empty(data)
        own = {int(agent): part.of(part.t == agent) for agent in np.unique(part.t)}
        for number in range(rounds):
            drawn = {agent: np.random.default_rng([seed, 2, number, agent]) for agent in own}
            head = average([(descend(head, x, rate, epochs, drawn[agent]), len(x)) for agent, x in own.items()])
            yield head

    rate, tried = _choose(data, rates, seed, states)
    counts = np.unique(data.t, return_counts=True)[1].tolist()
    seconds, sent, curve, head = max(cost(Work("read", n)) for n in counts), 0, [], _empty(data)
    for number, head in enumerate(states(data, rate), 1):
        each = 2 * head.nbytes  # down and up
        seconds += cost(Work("radio", bytes=each)) + max(cost(Work("train", n, len(head.b), epochs)) for n in counts)
        sent += each
        joint = macro([row["joint"] for row in _judged(head, tests)[0].values()])
        curve.append({"round": number, "joint": joint, "seconds": seconds, "bytes": sent})
    rows, confused = _judged(head, tests)
    chosen = {"rate": rate, "tried": tried, "epochs": epochs, "rounds": rounds, "agents": len(counts)}
    return _result(rows, confused, seconds, sent, curve, chosen)


def together(
    trains: Sequence[Task], tests: Sequence[Task], cost: Cost, epochs: int = 40, seed: int = 0, rates: Sequence[float] = RATES
) -> dict[str, Any]:
    """One head, trained on the pictures of all tasks at once, on one board that has them all."""
    data = pool(trains)

    def states(part: Pooled, rate: float) -> Iterable[SharedHead]:
        yield descend(_empty(data), part, rate, epochs, np.random.default_rng([seed, 3]))

    rate, tried = _choose(data, rates, seed, states)
    head = _last(states(data, rate))
    seconds = cost(Work("read", len(data))) + cost(Work("train", len(data), len(head.b), epochs))
    rows, confused = _judged(head, tests)
    joint = macro([row["joint"] for row in rows.values()])
    curve = [{"tasks": len(tests), "joint": joint, "seconds": seconds, "bytes": 0}]
    return _result(rows, confused, seconds, 0, curve, {"rate": rate, "tried": tried, "epochs": epochs})


def _learn(device: EdgeDevice, task: TaskPictures, cost: Cost, method: str, seed: int) -> float:
    device.learn_pictures(task.name, task.train, task.train_labels, task.classes, method=method, seed=seed)
    return cost(Work("learn", len(task.train), len(task.classes), method=method))


def _empty(data: Pooled) -> SharedHead:
    return SharedHead.zeros(data.k, data.x.shape[1])


def _last(states: Iterable[SharedHead]) -> SharedHead:
    *_, head = states
    return head


def _choose(
    data: Pooled, rates: Sequence[float], seed: int, states: Callable[[Pooled, float], Iterable[SharedHead]]
) -> tuple[float, dict[float, float]]:
    """The rate whose last head is best on held-out training pictures of all tasks, and how good each was."""
    left, aside = held_out(data.y, np.random.default_rng([seed, 0]))
    tried = {rate: accuracy(_last(states(data.of(left), rate)), data.of(aside)) for rate in rates}
    return max(tried, key=lambda rate: tried[rate]), tried


def _judged(head: SharedHead, tests: Sequence[Task]) -> tuple[dict[str, dict[str, float]], Ints]:
    """The figures of a shared head by task, and its confusion of tasks. oracle: the best among the task's own classes."""
    data, first = pool(tests), first_class(tests)
    scores = head.scores(data.x)
    best = scores.argmax(1)
    named = np.searchsorted(first, best, side="right") - 1
    rows = {}
    for t, test in enumerate(tests):
        own = data.t == t
        given = scores[own, first[t] : first[t + 1]].argmax(1) == test.labels
        rows[test.name] = {
            "oracle": float(given.mean()),
            "mapper": float((named[own] == t).mean()),
            "joint": float((best[own] == data.y[own]).mean()),
        }
    return rows, confusion(data.t, named, len(tests))


def _result(
    tasks: dict[str, dict[str, float]],
    counts: Ints,
    seconds: float,
    sent: int,
    curve: list[dict[str, Any]],
    chosen: dict[str, Any],
) -> dict[str, Any]:
    summary = {key: macro([row[key] for row in tasks.values()]) for key in ("joint", "oracle", "mapper")}
    found = {"tasks": tasks, "confusion": counts.tolist(), "seconds": seconds, "bytes": sent, "curve": curve}
    return {**summary, **found, **chosen}
