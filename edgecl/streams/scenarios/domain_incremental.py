"""Domain-incremental: the same classes, one domain after another.

Source: van de Ven and Tolias, Three scenarios for continual learning, 2019.
"""

from __future__ import annotations

from edgecl.errors import DataError
from edgecl.streams.base import Dataset, Stream
from edgecl.streams.scenarios.parts import cut, groups_split_classes, several_groups, shuffled


def domain_incremental(dataset: Dataset, seed: int = 0) -> Stream:
    """An experience a group, shuffled by seed. Raises DataError where there is one group, or groups share no class."""
    if not several_groups(dataset):
        raise DataError(f"{dataset.name} has one domain only; the scenario domain needs several, as modes and ns:FOLDER have")
    if groups_split_classes(dataset):
        raise DataError(f"the groups of {dataset.name} have no class in common, they are tasks; use the scenario class or task")
    return cut(dataset, "domain", lambda s: s.group, lambda i: dataset.groups[i], arrange=shuffled(seed))
