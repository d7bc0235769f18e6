"""Superclasses as tasks: on CIFAR-100 twenty tasks of five like classes each, the task given.

Used with tasks in alphabetical order by Hung et al., Compacting, Picking and Growing for Unforgetting Continual Learning,
NeurIPS 2019; other papers draw the order.
"""

from __future__ import annotations

import numpy as np

from edgecl.errors import ConfigError, DataError
from edgecl.streams.base import Dataset, Stream
from edgecl.streams.scenarios.parts import cut, groups_split_classes, shuffled


def superclass(dataset: Dataset, seed: int = 0, *, order: str = "given") -> Stream:
    """A task for each group of a data set whose groups split its classes, shuffled inside by seed.

    order: of the tasks: given, as the groups stand, or drawn by seed.
    """
    if not groups_split_classes(dataset):
        raise DataError(f"{dataset.name} has no superclasses that split its classes, as cifar100 has; use the scenario task")
    if order not in ("given", "drawn"):
        raise ConfigError(f"the order of superclasses is given or drawn, got '{order[:60]}'")
    at = np.arange(len(dataset.groups))
    place = np.random.default_rng([seed, 1]).permutation(at) if order == "drawn" else at
    names = {int(place[group]): name for group, name in enumerate(dataset.groups)}
    arrange = shuffled(seed)
    return cut(dataset, "superclass", lambda s: place[s.group], names.__getitem__, arrange=arrange, task_given=True)
