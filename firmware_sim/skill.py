"""The SKILL experiment: what every agent of a fleet can do, and the figures that its trace gives.

Agents learn different tasks at the same time, share them, and all can do all (Ge et al., Lightweight Learner for Shared
Knowledge Lifelong Learning, TMLR 2023). `examine` asks one agent's device; all else is a pure function of the trace's events.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from edgecl.device import EdgeDevice
from edgecl.judging import HeadScores, Plugged, judge, score_digest
from edgecl.metrics.accuracy import forgetting as most_forgotten
from edgecl.metrics.accuracy import macro
from edgecl.types import Ints, Task

Event = Mapping[str, Any]
Arrivals = dict[str, dict[str, float]]  # agent -> task -> virtual seconds at which it came, to stay
_KEPT = ("oracle", "mapper", "joint", "answered")


def examine(
    device: EdgeDevice, tests: Sequence[Task], author_scores: Mapping[str, str], plugged: Plugged | None = None
) -> dict[str, Any]:
    """Ask an agent's device about the test pictures of all tasks: the fields of its `evaluated` event.

    tests: from `edgecl.judging.read_task`, once per process.   author_scores: as for `same_as_author`.
    plugged: one for all agents of the process, so that a head with plugs looks at each picture once.
    known: tasks known.   oracle, mapper, joint, answered: means over the known tasks, 0..1.   everywhere: joint over all tasks,
    those not known being wrong.   differs: known tasks whose scores are not their author's.   confusion: [true task, found
    task, pictures] where there are any.
    """
    scores = HeadScores(device, plugged)
    judged = judge(device, tests, scores)
    known = set(device.tasks)
    same = same_as_author(device, author_scores, tests, scores)
    rows = {name: {key: round(row[key], 6) for key in _KEPT} for name, row in judged.tasks.items() if name in known}
    names = list(judged.tasks)
    return {
        "known": len(rows),
        **{key: round(macro([judged.tasks[name][key] for name in rows]), 6) for key in _KEPT},
        "everywhere": round(judged.summary["joint"], 6),
        "differs": [name for name, equal in same.items() if name in known and not equal],
        "tasks": rows,
        "confusion": [[names[i], names[j], int(judged.confusion[i, j])] for i, j in np.argwhere(judged.confusion).tolist()],
    }


def score_digests(device: EdgeDevice, tests: Iterable[Task], scores: HeadScores | None = None) -> dict[str, str]:
    """Task -> digest of its head's scores on its own test pictures, for those of `tests` that the device knows."""
    asked, known = scores or HeadScores(device), set(device.tasks)
    return {test.name: score_digest(asked.scores(test.name, test)) for test in tests if test.name in known}


def same_as_author(
    device: EdgeDevice, author_scores: Mapping[str, str], tests: Sequence[Task], scores: HeadScores | None = None
) -> dict[str, bool]:
    """Task -> whether the device scores its test pictures as its author does, to the bit; False where it does not know it.

    author_scores: task -> digest, from `score_digests` on the author's device.
    """
    mine = score_digests(device, [test for test in tests if test.name in author_scores], scores)
    return {task: mine.get(task) == digest for task, digest in author_scores.items()}


def figures(
    events: Sequence[Event], agents: Sequence[str], tasks: Sequence[str], sequential: float | None = None
) -> dict[str, Any]:
    """All figures of the experiment from a run's events. agents: those that shall know all of `tasks` in the end.

    sequential: virtual seconds one learner of the same board needs for all tasks; None: the sum of the tasks' own, as learned.
    """
    single = task_seconds(events)
    begun = min((event["t"] for event in events if event["event"] == "learn_start"), default=0.0)
    known = arrivals(events, agents)
    done = time_to_knowledge(known, tasks)
    alone = sum(single.get(task, 0.0) for task in tasks) if sequential is None else sequential
    longest = max((single.get(task, 0.0) for task in tasks), default=0.0)
    return {
        "curve": curve(events, agents),
        "time_to_knowledge": None if done is None else round(done - begun, 6),
        "sequential": round(alone, 6),
        **speed_up(alone, longest, None if done is None else done - begun, len(tasks)),
        "traffic": traffic(events, agents),
        "confusion": confusion(events, agents, tasks).tolist(),
        "forgetting": {key: forgetting(events, agents, key) for key in ("oracle", "joint")},
    }


def task_seconds(events: Iterable[Event]) -> dict[str, float]:
    """Task -> virtual seconds of learning it, the mean where several agents did."""
    found: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event["event"] == "learned":
            found[event["task"]].append(event["seconds"])
    return {task: macro(seconds) for task, seconds in found.items()}


def arrivals(events: Iterable[Event], agents: Sequence[str]) -> Arrivals:
    """When each agent came to know each task as it is known last, by learning or sharing.

    A revocation takes a task away again, and so does a fault that has cost it.
    """
    known: Arrivals = {agent: {} for agent in agents}
    which: dict[tuple[str, str], str] = {}
    for event in events:
        agent = event.get("agent", "")
        mine = known.get(agent)
        if mine is None:
            continue
        if event["event"] in ("learned", "taken"):
            task = event["task"]
            if task not in mine or which.get((agent, task)) != event.get("digest", ""):
                mine[task], which[agent, task] = event["t"], event.get("digest", "")
        elif event["event"] in ("revoked", "fault"):
            for task in event.get("tasks", event.get("lost", ())):
                mine.pop(task, None)
    return known


def time_to_knowledge(known: Arrivals, tasks: Sequence[str]) -> float | None:
    """The moment from which every agent knows every task; None where one does not in the end."""
    if any(task not in mine for mine in known.values() for task in tasks):
        return None
    return max((mine[task] for mine in known.values() for task in tasks), default=0.0)


def speed_up(alone: float, longest: float, together: float | None, tasks: int) -> dict[str, float | None]:
    """How many times faster the fleet is, sharing included, than one learner of the same board.

    alone: virtual seconds of that learner for all tasks.   longest: for the longest task.   together: until every agent knows
    all, None when that never came.   bound: sum over longest, which no fleet of one task each can beat; it equals the number of
    tasks only where all take equally long. of_bound, of_tasks: the speed-up as a share of either.
    """
    bound = alone / longest if longest else None
    gained = alone / together if together else None
    return {
        "speed_up": gained,
        "bound": bound,
        "of_bound": gained / bound if gained is not None and bound else None,
        "of_tasks": gained / tasks if gained is not None and tasks else None,
    }


def curve(events: Iterable[Event], agents: Sequence[str]) -> list[dict[str, float]]:
    """Accuracy against number of tasks: joint over the tasks known by then, the mean over agents; everywhere: over all tasks.

    An agent that was evaluated several times with as many tasks counts by the last.
    """
    last: dict[int, dict[str, Event]] = defaultdict(dict)
    for event in _evaluated(events, agents):
        if event["known"]:
            last[event["known"]][event["agent"]] = event
    return [
        {"tasks": n, "agents": len(rows), **{k: macro([row[k] for row in rows.values()]) for k in ("joint", "everywhere")}}
        for n, rows in sorted(last.items())
    ]


def traffic(events: Iterable[Event], agents: Sequence[str]) -> dict[str, Any]:
    """Bytes that each agent sent and received, from `session` events: one a session, told by the agent that began it.

    What a session that broke off had sent is in no event, and not here.
    """
    moved = {agent: {"out": 0, "in": 0} for agent in agents}
    for event in events:
        if event["event"] == "session":
            for agent, out, back in ((event["agent"], event["out"], event["in"]), (event["peer"], event["in"], event["out"])):
                if agent in moved:
                    moved[agent]["out"] += out
                    moved[agent]["in"] += back
    total = [row["out"] + row["in"] for row in moved.values()]
    return {"agents": moved, "mean": macro(total), "most": max(total, default=0)}


def confusion(events: Iterable[Event], agents: Sequence[str], tasks: Sequence[str]) -> Ints:
    """(T, T) true task against found task: counts of all agents' last evaluations together."""
    place = {task: i for i, task in enumerate(tasks)}
    counts = np.zeros((len(tasks), len(tasks)), np.int64)
    last = {event["agent"]: event for event in _evaluated(events, agents)}
    for event in last.values():
        for true, found, n in event["confusion"]:
            if true in place and found in place:
                counts[place[true], place[found]] += n
    return counts


def forgetting(events: Iterable[Event], agents: Sequence[str], figure: str = "joint") -> float:
    """The largest loss of any agent in any task, from its first evaluation with that task known to the last.

    figure: "oracle" can only be lost by a head that changed; "joint" also by tasks that took pictures from it.
    """
    first: dict[tuple[str, str], float] = {}
    last: dict[tuple[str, str], float] = {}
    for event in _evaluated(events, agents):
        for task, row in event["tasks"].items():
            first.setdefault((event["agent"], task), row[figure])
            last[event["agent"], task] = row[figure]
    return most_forgotten(list(first.values()), [last[key] for key in first])


def _evaluated(events: Iterable[Event], agents: Sequence[str]) -> list[Event]:
    asked = set(agents)
    return [event for event in events if event["event"] == "evaluated" and event["agent"] in asked]
