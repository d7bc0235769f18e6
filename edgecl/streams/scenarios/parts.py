"""What scenarios share: cutting a data set into experiences by a number of each sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgecl.errors import ConfigError, DataError
from edgecl.streams.base import Dataset, Experience, Samples, Stream
from edgecl.types import Ints

Key = Callable[[Samples], Ints]  # (n,) number of the experience that each sample belongs to


def cut(
    dataset: Dataset,
    scenario: str,
    key: Key,
    name: Callable[[int], str],
    *,
    arrange: Callable[[Samples, Ints], Ints] | None = None,
    early_val: bool = False,
    task_given: bool = False,
) -> Stream:
    """One experience for each number that `key` gives training samples, ascending; samples as they lie in the data set, or as
    it was published for this scenario.

    name: of the experience with that number.   arrange: (training samples, rows of one experience) -> its rows in their order.
    early_val: only the first half of the experiences have validation samples, so that settings are chosen by what an early
    part of the stream shows; of one experience, the first half of the samples.
    """
    numbers = np.unique(key(dataset.train))
    each = (key(part) for part in (dataset.train, dataset.val, dataset.test))
    train, val, test = ([np.flatnonzero(of == i) for i in numbers] for of in each)
    if (order := dataset.published.get(scenario)) is not None:
        of = key(dataset.train)[order]
        train = [order[of == i] for i in numbers]
    if early_val and len(numbers) == 1:
        val = [val[0][: len(val[0]) // 2]]
    elif early_val:
        val = [rows if i < len(numbers) // 2 else rows[:0] for i, rows in enumerate(val)]
    if arrange:
        train = [arrange(dataset.train, rows) for rows in train]
    return lay(dataset, scenario, [name(int(i)) for i in numbers], train, val, test, task_given=task_given)


def lay(
    dataset: Dataset,
    scenario: str,
    names: Sequence[str],
    train: Sequence[Ints],
    val: Sequence[Ints],
    test: Sequence[Ints],
    *,
    task_given: bool = False,
) -> Stream:
    """The stream of these rows of the data set's three parts, one lot an experience.

    Raises DataError where an experience has nothing to learn from or to be judged on.
    """
    for what, lots in (("training", train), ("test", test)):
        if bare := [name for name, rows in zip(names, lots, strict=True) if not len(rows)]:
            raise DataError(f"{dataset.name}: the experience '{bare[0]}' of the scenario {scenario} has no {what} sample")
    parts = (_pieces(dataset.train, train), _pieces(dataset.val, val), _pieces(dataset.test, test))
    experiences = [
        Experience(name, i, one_train, one_val, one_test, _are_pairs(dataset, name, one_test))
        for i, (name, one_train, one_val, one_test) in enumerate(zip(names, *parts, strict=True))
    ]
    return Stream(dataset.name, scenario, dataset.classes, tuple(experiences), task_given)


def _are_pairs(dataset: Dataset, name: str, test: Samples) -> bool:
    paired = np.isin(test.group, sorted(dataset.pairs))
    if paired.any() and not paired.all():
        raise DataError(f"{dataset.name}: the experience '{name}' mixes pairs with single samples; use the scenario superclass")
    return bool(paired.any())


def shuffled(seed: int) -> Callable[[Samples, Ints], Ints]:
    """For `cut`: rows in random order, one generator for all experiences."""
    rng = np.random.default_rng(seed)
    return lambda samples, rows: rng.permutation(rows)


def several_groups(dataset: Dataset) -> bool:
    """Whether the data set is made of more than one group."""
    return len(np.unique(dataset.train.group)) > 1


def groups_split_classes(dataset: Dataset) -> bool:
    """Whether there are several groups and none shares a class with another."""
    pairs = np.unique(np.stack([dataset.train.y, dataset.train.group]), axis=1)
    return several_groups(dataset) and len(np.unique(pairs[0])) == pairs.shape[1]


def class_tasks(dataset: Dataset, seed: int, classes_per_task: int) -> tuple[Ints, Callable[[int], str]]:
    """Task of each class (k,), and the name of a task.

    classes_per_task: so many classes a task, in an order that is drawn; 0: a task is a group, where groups split the classes,
    and otherwise a fifth of the classes.
    """
    k = len(dataset.classes)
    if not 0 <= classes_per_task <= k:
        raise ConfigError(f"classes_per_task must lie between 1 and the {k} classes of {dataset.name}, got {classes_per_task}")
    if not classes_per_task and groups_split_classes(dataset):
        owner = np.zeros(k, np.int64)
        owner[dataset.train.y] = dataset.train.group
        return owner, lambda i: dataset.groups[i]
    # The legacy generator: with it, seed 1993 gives the class order that the field's tables are made with.
    order = np.random.RandomState(seed).permutation(k)
    tasks = np.zeros(k, np.int64)
    tasks[order] = np.arange(k) // (classes_per_task or -(-k // 5))
    return tasks, lambda i: _some([dataset.classes[c] for c in order if tasks[c] == i])


def _pieces(samples: Samples, lots: Sequence[Ints]) -> list[Samples]:
    """The rows of each lot, as views of one array that holds them in a row."""
    gathered = samples[np.concatenate(lots)]
    ends = np.cumsum([len(rows) for rows in lots])
    return [gathered[int(end) - len(rows) : int(end)] for end, rows in zip(ends, lots, strict=True)]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
