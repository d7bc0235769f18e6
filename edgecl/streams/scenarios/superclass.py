"""Superclasses as tasks: on CIFAR-100 twenty tasks of five like classes each, the task given.

Used with tasks in alphabetical order by Hung et al., Compacting, Picking and Growing for Unforgetting Continual Learning,
NeurIPS 2019; other papers draw the order.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgecl.errors import ConfigError, DataError
from edgecl.streams.base import Dataset, Samples, Stream
from edgecl.streams.scenarios.parts import cut, groups_split_classes, shuffled


def superclass(dataset: Dataset, seed: int = 0, *, order: str = "given", folds: bool = False) -> Stream:
    """A task for each group of a data set whose groups split its classes, shuffled inside by seed.

    order: of the tasks: given, as the groups stand, or drawn by seed.   folds: groups whose names differ in a last digit only,
    such as age0 to age4, are folds of one task: the seed says which one comes, seed 0 the first.
    """
    if not groups_split_classes(dataset):
        raise DataError(f"{dataset.name} has no superclasses that split its classes, as cifar100 has; use the scenario task")
    if order not in ("given", "drawn"):
        raise ConfigError(f"the order of superclasses is given or drawn, got '{order[:60]}'")
    if folds:
        dataset = _one_fold(dataset, seed)
    at = np.arange(len(dataset.groups))
    place = np.random.default_rng([seed, 1]).permutation(at) if order == "drawn" else at
    names = {int(place[group]): name for group, name in enumerate(dataset.groups)}
    arrange = shuffled(seed)
    return cut(dataset, "superclass", lambda s: place[s.group], names.__getitem__, arrange=arrange, task_given=True)


def _one_fold(dataset: Dataset, seed: int) -> Dataset:
    """Without the samples of other folds; groups and classes keep their numbers."""
    alike: dict[str, list[int]] = {}
    for group, name in enumerate(dataset.groups):
        alike.setdefault(name.rstrip("0123456789"), []).append(group)
    chosen = [groups[seed % len(groups)] for groups in alike.values()]

    def kept(part: Samples) -> Samples:
        return part[np.flatnonzero(np.isin(part.group, chosen))]

    return replace(dataset, train=kept(dataset.train), val=kept(dataset.val), test=kept(dataset.test))
