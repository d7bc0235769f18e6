"""Who learns what, when, and is judged on what.

    assignments = assign("dirichlet", tasks, agents=100, seed=7, alpha=0.5)
    assignments[i].pictures(tasks)    # a TaskPictures, to be learned from and judged by; `features` where there are none

An assignment holds names and indices into its origin's pictures, no pictures: it is the same in every process that has the same
tasks, so that (where the tasks lie, kind, seed, options, i) is all that need travel.

| kind | |
|---|---|
| `one_each` | task i to one agent, spread evenly round the fleet; the others learn nothing |
| `overlapping` | each agent a random subset of a task's classes, and of their pictures |
| `dirichlet` | a task's pictures divided over some agents, in unlike proportions of its classes |
| `viewpoints` | a task seen by some agents: each sees other classes, or all classes in another light |
| `drifting` | a task that grows or moves on while its agent learns it again and again |

Where several agents learn from one origin, each gives its task a name of its own: "birds-07" is what agent 7 learned of birds.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from edgecl.errors import ConfigError, DataError, UnknownName
from edgecl.learning import MIN_PER_CLASS, check_learnable
from edgecl.streams.base import TaskPictures
from edgecl.types import Floats, Ints, Task, task_name
from firmware_sim.synthetic import TEST, TRAIN, TaskFeatures
from firmware_sim.views import Selected, View, view_of

Rows = tuple[int, ...]


class Origin(Protocol):
    """What is divided: `TaskPictures`, or anything that has its names and labels."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def train_labels(self) -> tuple[int, ...]: ...
    @property
    def test_labels(self) -> tuple[int, ...]: ...


AnOrigin = TypeVar("AnOrigin", bound=Origin)


@dataclass(frozen=True)
class Assignment:
    """One learning of one agent.

    agent: 0..n-1.   name: of the task on that agent; the same again is its next generation.   task: name of its origin.
    train, test: indices of the origin's pictures; the labels beside them are into `classes`.   arrives_s: virtual seconds.
    view: through which the agent sees all of them, in training and in test; None shows them as they are.
    """

    agent: int
    name: str
    task: str
    classes: tuple[str, ...]
    train: Rows
    train_labels: Rows
    test: Rows
    test_labels: Rows
    arrives_s: float = 0.0
    view: View | None = None

    def pictures(self, tasks: Sequence[TaskPictures]) -> TaskPictures:
        """The assignment as a task of its own, named as on the agent; pictures are read, drawn or changed when they are taken.

        tasks: those that the assignment was made from. Raises DataError when they are not.
        """
        origin = _found(self, tasks)
        train, test = Selected(origin.train, self.train, self.view), Selected(origin.test, self.test, self.view)
        return TaskPictures(self.name, self.classes, train, self.train_labels, test, self.test_labels)

    def features(self, tasks: Sequence[TaskFeatures]) -> tuple[Task, Floats]:
        """The same of tasks without pictures: what to learn from, and the features (n, d) to be judged on.

        Raises DataError as `pictures` does, ConfigError for a view: there is nothing to be seen.
        """
        if self.view is not None:
            raise ConfigError(f"'{self.name}' is seen through a view, and its task has no pictures; use synthetic_tasks")
        origin = _found(self, tasks)
        train, test = origin.features(TRAIN)[list(self.train)], origin.features(TEST)[list(self.test)]
        return Task(self.name, self.classes, train, np.asarray(self.train_labels, np.int64)), test


def _found(assignment: Assignment, tasks: Sequence[AnOrigin]) -> AnOrigin:
    origin = next((task for task in tasks if task.name == assignment.task), None)
    if origin is not None:
        held = len(origin.train_labels), len(origin.test_labels)
        if max(assignment.train) < held[0] and max(assignment.test, default=-1) < held[1]:
            return origin
    raise DataError(
        f"agent {assignment.agent} is to learn '{assignment.name}' from pictures of '{assignment.task}' that are not among the "
        f"{len(tasks)} tasks given; give those that the assignments were made from"
    )


def one_each(tasks: Sequence[Origin], agents: int, seed: int = 0) -> list[Assignment]:
    """Which task falls to which place is by seed. With more tasks than agents, some have several."""
    _check(tasks, agents)
    order = np.random.default_rng([seed, 51]).permutation(len(tasks)).tolist()
    places = [at * agents // len(tasks) for at in range(len(tasks))]
    found = [_of(tasks[i], place, tasks[i].name) for i, place in zip(order, places, strict=True)]
    return _ordered(found)


def overlapping(tasks: Sequence[Origin], agents: int, seed: int = 0, share: float = 0.5) -> list[Assignment]:
    """Every agent learns; tasks go round. share: of a class's pictures that an agent sees, or what it can learn from."""
    _check(tasks, agents)
    if not 0 < share <= 1:
        raise ConfigError(f"an agent sees a share of a class's pictures above 0 and up to 1, not {share}")
    found = []
    for agent in range(agents):
        rng = np.random.default_rng([seed, 52, agent])
        origin = tasks[agent % len(tasks)]
        k = len(origin.classes)
        classes = rng.permutation(k)[: int(rng.integers(2, k + 1))]
        rows = []
        for c in classes:
            own = _rows(origin.train_labels, c)
            rows += rng.permutation(own)[: max(MIN_PER_CLASS, round(share * len(own)))].tolist()
        found.append(_of(origin, agent, _own_name(origin, agent, agents), classes.tolist(), rows))
    return _ordered(found)


def dirichlet(tasks: Sequence[Origin], agents: int, seed: int = 0, alpha: float = 0.5, parts: int = 4) -> list[Assignment]:
    """Each task over `parts` agents; of each class, they get shares drawn from Dirichlet(alpha): the smaller, the more unlike.

    An agent keeps the classes of which it got enough to learn from, and learns nothing of a task where fewer than two remain.
    (Hsu, Qi and Brown, Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification, 2019.)
    """
    _check(tasks, agents, parts)
    if not 0 < alpha < 1e6:
        raise ConfigError(f"alpha lies above 0 and below a million, where all shares are alike; got {alpha}")
    found = []
    for number, origin in enumerate(tasks):
        rng = np.random.default_rng([seed, 53, number])
        got: list[dict[int, list[int]]] = [{} for _ in range(parts)]
        for c in range(len(origin.classes)):
            own = rng.permutation(_rows(origin.train_labels, c))
            ends = np.rint(np.cumsum(rng.dirichlet([alpha] * parts)) * len(own)).astype(int)
            for part, piece in enumerate(np.split(own, ends[:-1])):
                if len(piece) >= MIN_PER_CLASS:
                    got[part][c] = piece.tolist()
        for agent, classes in zip(_some(number, agents, parts), got, strict=True):
            if len(classes) >= 2:
                rows = [row for piece in classes.values() for row in piece]
                found.append(_of(origin, agent, _own_name(origin, agent, agents), list(classes), rows))
    return _ordered(found)


def viewpoints(tasks: Sequence[Origin], agents: int, seed: int = 0, by: str = "domain", parts: int = 4) -> list[Assignment]:
    """Each task by `parts` agents. by: "classes" deals the classes out, two or more to each of as many as that serves;
    "domain" shows all of them to each agent, through a view of its own.
    """
    _check(tasks, agents, parts)
    if by not in ("classes", "domain"):
        raise ConfigError(f"viewpoints differ by classes or by domain, not by '{by}'")
    found = []
    for number, origin in enumerate(tasks):
        rng = np.random.default_rng([seed, 54, number])
        order = rng.permutation(len(origin.classes))
        dealt = np.array_split(order, max(1, min(parts, len(order) // 2)))
        for part, agent in enumerate(_some(number, agents, parts)):
            name = _own_name(origin, agent, agents)
            if by == "domain":
                found.append(_of(origin, agent, name, view=view_of(agent, seed)))
            elif part < len(dealt):
                found.append(_of(origin, agent, name, sorted(dealt[part].tolist())))
    return _ordered(found)


def drifting(
    tasks: Sequence[Origin], agents: int, seed: int = 0, by: str = "pictures", stages: int = 3, every_s: float = 3600.0
) -> list[Assignment]:
    """Tasks as in `one_each`, each in `stages` learnings `every_s` apart, under one name.

    by: "pictures" adds some of every class at each stage; "classes" adds classes, two at first; "other" brings other pictures
    of the same classes, and takes the former away. A task with too few of them for so many stages has fewer.
    """
    if by not in ("pictures", "classes", "other"):
        raise ConfigError(f"a task drifts by pictures, classes or other (pictures), not by '{by}'")
    if stages < 1 or not 0 <= every_s < float("inf"):
        raise ConfigError(f"a drifting task needs 1 stage or more and a finite time between them, got {stages} and {every_s} s")
    found = []
    for whole in one_each(tasks, agents, seed):
        number, origin = next((i, task) for i, task in enumerate(tasks) if task.name == whole.task)
        rng = np.random.default_rng([seed, 55, number])
        rows = [rng.permutation(_rows(origin.train_labels, c)) for c in range(len(origin.classes))]
        classes = rng.permutation(len(origin.classes)).tolist()
        most = len(classes) - 1 if by == "classes" else min(map(len, rows)) // MIN_PER_CLASS
        n = max(1, min(stages, most))
        for stage in range(n):
            seen = sorted(classes[: 2 + stage * (len(classes) - 2) // max(1, n - 1)]) if by == "classes" and n > 1 else None
            pieces = rows
            if by != "classes":
                first = stage if by == "other" else 0
                pieces = [own[len(own) * first // n : len(own) * (stage + 1) // n] for own in rows]
            shown = [row for c in (range(len(rows)) if seen is None else seen) for row in pieces[c].tolist()]
            found.append(_of(origin, whole.agent, whole.name, seen, shown, arrives_s=stage * every_s))
    return _ordered(found)


GENERATORS: Mapping[str, Callable[..., list[Assignment]]] = {
    generator.__name__: generator for generator in (one_each, overlapping, dirichlet, viewpoints, drifting)
}


def assign(kind: str, tasks: Sequence[Origin], agents: int, seed: int = 0, **options: object) -> list[Assignment]:
    """The assignments of that kind, by time and agent. Raises UnknownName, or ConfigError for an option it does not have."""
    if kind not in GENERATORS:
        raise UnknownName(f"no assignment '{kind}'; known are {', '.join(GENERATORS)}")
    known = list(inspect.signature(GENERATORS[kind]).parameters)[3:]
    if wrong := [option for option in options if option not in known]:
        raise ConfigError(f"assignment '{kind}' has no option '{wrong[0]}'; it takes {', '.join(known) or 'none'}")
    return GENERATORS[kind](tasks, agents, seed, **options)


def _of(
    origin: Origin,
    agent: int,
    name: str,
    classes: Sequence[int] | None = None,
    train: Sequence[int] | None = None,
    arrives_s: float = 0.0,
    view: View | None = None,
) -> Assignment:
    """Those classes of the origin (None: all) with those pictures of them (None: all), and all test pictures of them."""
    kept = list(range(len(origin.classes))) if classes is None else sorted(classes)
    label = {c: i for i, c in enumerate(kept)}
    rows = [i for i, c in enumerate(origin.train_labels) if c in label] if train is None else sorted(train)
    tests = [i for i, c in enumerate(origin.test_labels) if c in label]
    return Assignment(
        agent,
        name,
        origin.name,
        tuple(origin.classes[c] for c in kept),
        tuple(rows),
        tuple(label[origin.train_labels[i]] for i in rows),
        tuple(tests),
        tuple(label[origin.test_labels[i]] for i in tests),
        arrives_s,
        view,
    )


def _check(tasks: Sequence[Origin], agents: int, parts: int = 1) -> None:
    if not tasks or agents < 1 or not 1 <= parts <= agents:
        raise ConfigError(
            f"assignments need a task, an agent, and no more parts of a task than agents; got {len(tasks)} tasks, {agents} "
            f"agents and {parts} parts"
        )
    for task in tasks:
        check_learnable(task.name, task.classes, np.asarray(task.train_labels, np.int64))
    if len({task.name for task in tasks}) != len(tasks):
        raise ConfigError("two tasks have the same name; which one an assignment means could not be told")


def _rows(labels: Sequence[int], c: int) -> Ints:
    found: Ints = np.flatnonzero(np.asarray(labels, np.int64) == c).astype(np.int64)
    return found


def _some(number: int, agents: int, parts: int) -> list[int]:
    """`parts` agents for task `number`: the next ones round the fleet, so that all have about as much to learn."""
    return [(number * parts + part) % agents for part in range(parts)]


def _own_name(origin: Origin, agent: int, agents: int) -> str:
    """Raises ConfigError when it gets too long for a task's name."""
    return task_name(f"{origin.name}-{agent:0{max(2, len(str(agents - 1)))}}")


def _ordered(found: Sequence[Assignment]) -> list[Assignment]:
    return sorted(found, key=lambda assignment: (assignment.arrives_s, assignment.agent, assignment.name))
