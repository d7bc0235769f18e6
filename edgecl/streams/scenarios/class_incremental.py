"""Class-incremental: new classes with each experience, and nobody says which experience a test sample is from.

Source: van de Ven and Tolias, Three scenarios for continual learning, 2019.
"""

from __future__ import annotations

import numpy as np

from edgecl.errors import ConfigError
from edgecl.streams.base import Dataset, Samples, Stream
from edgecl.streams.scenarios.parts import class_tasks, cut, shuffled
from edgecl.types import Ints


def class_incremental(dataset: Dataset, seed: int = 0, *, classes_per_task: int = 0, order: str = "shuffled") -> Stream:
    """Each experience has classes of its own: those of a group where groups split the classes, else classes by a drawn order.

    classes_per_task: so many classes an experience, drawn over all groups; 0: by groups, or a fifth of the classes where there
    are none.   order: of the samples in an experience: shuffled by seed, or class: one class after another.
    """
    tasks, name = class_tasks(dataset, seed, classes_per_task)
    arranged = {"shuffled": shuffled(seed), "class": _class_by_class}
    if order not in arranged:
        raise ConfigError(f"the order of a class-incremental stream is shuffled or class, got '{order[:60]}'")
    return cut(dataset, "class", lambda s: tasks[s.y], name, arrange=arranged[order])


def _class_by_class(samples: Samples, rows: Ints) -> Ints:
    ordered: Ints = rows[np.argsort(samples.y[rows], kind="stable")]
    return ordered
