"""CDI: all classes of one domain after another, then those of the next. A class comes back looking different.

Source: Tiezzi et al., Continual Neural Computation, ECML-PKDD 2024.
"""

from __future__ import annotations

from collections.abc import Callable

from edgecl.streams.base import Dataset, Samples, Stream
from edgecl.streams.scenarios.parts import cut
from edgecl.types import Ints


def cdi(dataset: Dataset, seed: int = 0) -> Stream:
    """An experience a class and group, its samples as they lie; validation samples for the first half of the experiences.

    seed: nothing is drawn.
    """
    return by_group_and_class(dataset, "cdi")


def by_group_and_class(dataset: Dataset, scenario: str, arrange: Callable[[Samples, Ints], Ints] | None = None) -> Stream:
    """Group by group, and inside a group class by class."""
    k = len(dataset.classes)

    def name(number: int) -> str:
        group, c = divmod(number, k)
        return f"{dataset.classes[c]}, {dataset.groups[group]}"

    return cut(dataset, scenario, lambda s: s.group * k + s.y, name, arrange=arrange, early_val=True)
